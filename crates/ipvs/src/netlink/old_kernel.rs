//! Old kernels: what they answer, byte by byte, and what they make of what they do not know.

use std::net::{IpAddr, SocketAddr};

use super::Batch;
use super::abi::{daemon, dest, forward, svc, top};
use super::decode;
use super::newer::{Kernel, Newer, Seen};
use super::tests::{attributes, request};
use crate::change::Change;
use crate::error::{Error, ErrorKind};
use crate::memory::Memory;
use crate::stats::{Counters, DestinationStats};
use crate::table::{Failure, Info, Table};
use crate::types::{
    Checksum, Destination, Family, Forwarding, Granularity, Persistence, Protocol, Role, Service,
    ServiceKey, SyncDaemon, Timeouts, Tunnel,
};
use ::netlink::wire::{Attributes, Messages, Writer};
use ::netlink::{Outcome, Trouble};

fn service(addr: &str, port: u16, protocol: Protocol) -> Service {
    let key = ServiceKey::Address { protocol, addr: addr.parse().unwrap(), port };
    Service::new(key, "wlc".parse().unwrap())
}

fn web() -> Service {
    service("10.0.0.100", 80, Protocol::Tcp)
}

fn tunnelled(addr: &str, weight: u32) -> Destination {
    Destination::new(addr.parse().unwrap(), 80, Forwarding::Tunnel, weight)
}

/// A kernel of some age: it has the attributes up to a number, and passes over those behind it, as
/// `nla_parse()` does. What is left of a request is what it does; its answers have no more.
struct OldKernel {
    table: Memory,
    service: u16,
    dest: u16,
    daemon: u16,
    release: &'static str,
    reads: usize,
    sent: Vec<String>,
}

impl OldKernel {
    /// `IPVS_SVC_ATTR_MAX`, `IPVS_DEST_ATTR_MAX` and `IPVS_DAEMON_ATTR_MAX` of its `ip_vs.h`.
    fn new(release: &'static str, service: u16, dest: u16, daemon: u16) -> Self {
        let (table, reads, sent) = (Memory::new(), 0, Vec::new());
        Self { table, service, dest, daemon, release, reads, sent }
    }

    fn linux_2_6_32() -> Self {
        Self::new("2.6.32-754.el6.x86_64", svc::STATS, dest::STATS, daemon::SYNC_ID)
    }

    /// 2.6.37 with engines, 3.18 with families, 4.3 with the sync daemon's settings.
    fn linux_4_19() -> Self {
        Self::new("4.19.0-27-amd64", svc::STATS64, dest::STATS64, daemon::MCAST_TTL)
    }

    fn linux_6_1() -> Self {
        Self::new("6.1.0-9-amd64", svc::STATS64, dest::TUN_FLAGS, daemon::MCAST_TTL)
    }

    /// The attributes that it knows, of those that are nested in one.
    fn known(&self, attributes: Attributes<'_>) -> Vec<u8> {
        let mut writer = Writer::default();
        for attribute in attributes {
            let (kind, payload) = attribute.unwrap();
            let most = match kind {
                top::SERVICE => self.service,
                top::DEST => self.dest,
                top::DAEMON => self.daemon,
                _ => continue,
            };
            let known = |(kind, _): &(u16, &[u8])| *kind <= most;
            writer.nested(kind, |w| {
                let inner = Attributes(payload).map(|attribute| attribute.unwrap());
                inner.filter(known).for_each(|(kind, payload)| w.attribute(kind, payload));
            });
        }
        writer.bytes().to_vec()
    }

    /// What it takes a request for.
    fn takes(&self, change: &Change) -> Change {
        let message = request(change);
        let known = self.known(attributes(&message));
        let read = || Attributes(&known);
        let server = |key: &ServiceKey| decode::destination(read(), key.family()).unwrap().0;
        match change {
            Change::AddService(_) => {
                Change::AddService(decode::service(read()).unwrap().unwrap().0)
            }
            Change::EditService(_) => {
                Change::EditService(decode::service(read()).unwrap().unwrap().0)
            }
            Change::AddDestination(key, _) => Change::AddDestination(*key, server(key)),
            Change::EditDestination(key, _) => Change::EditDestination(*key, server(key)),
            Change::DeleteDestination(key, server) => {
                // Its key is all that such a request has.
                let whole = Destination::new(server.ip(), server.port(), Forwarding::Tunnel, 0);
                let Change::EditDestination(key, taken) =
                    self.takes(&Change::EditDestination(*key, whole))
                else {
                    unreachable!()
                };
                Change::DeleteDestination(key, SocketAddr::new(taken.addr, server.port()))
            }
            Change::StartDaemon(_) => {
                Change::StartDaemon(decode::sync_daemon(read()).unwrap().unwrap())
            }
            other => other.clone(),
        }
    }

    fn shown(&mut self) -> Vec<String> {
        let table = self.table.read().unwrap();
        let servers = table.iter().flat_map(|virtual_service| {
            let key = virtual_service.service.key;
            virtual_service
                .destinations
                .iter()
                .map(move |server| Change::AddDestination(key, *server).ipvsadm_args().join(" "))
        });
        servers.collect()
    }
}

impl Kernel for OldKernel {
    fn send(&mut self, changes: &[(usize, &Change)]) -> (usize, Vec<Failure>) {
        let mut failures = Vec::new();
        for (index, change) in changes {
            self.sent.push(change.to_string());
            let taken = self.takes(change);
            let failed = self.table.apply(&[taken]).into_iter();
            failures.extend(failed.map(|failure| Failure { index: *index, ..failure }));
        }
        (changes.len(), failures)
    }

    fn services(&mut self) -> Result<Vec<Service>, Error> {
        self.reads += 1;
        Ok(self.table.read()?.into_iter().map(|v| v.service).collect())
    }

    fn servers(&mut self, key: &ServiceKey) -> Result<Vec<Seen>, Error> {
        self.reads += 1;
        let table = self.table.read()?;
        let found = table.into_iter().find(|v| v.service.key == *key);
        let tells_family = self.dest >= dest::ADDR_FAMILY;
        let seen = |server| Seen { server, tells_family };
        Ok(found.into_iter().flat_map(|v| v.destinations).map(seen).collect())
    }

    fn daemons(&mut self) -> Result<Vec<SyncDaemon>, Error> {
        self.reads += 1;
        let mut all = self.table.daemons()?;
        // A kernel that has settings tells them, given or not.
        for running in all.iter_mut().filter(|_| self.daemon >= daemon::MCAST_TTL) {
            running.max_len.get_or_insert(1472);
            running.group.get_or_insert(IpAddr::from([224, 0, 0, 81]));
            running.port.get_or_insert(8848);
            running.ttl.get_or_insert(1);
        }
        Ok(all)
    }

    fn release(&mut self) -> String {
        self.release.to_owned()
    }
}

fn apply(kernel: &mut OldKernel, newer: &mut Newer, changes: &[Change]) -> Vec<Failure> {
    newer.apply(kernel, &changes.iter().enumerate().collect::<Vec<_>>())
}

/// The failures of changes after which only `left` is in the table.
#[track_caller]
fn expect(
    mut kernel: OldKernel,
    changes: &[Change],
    failing: &[usize],
    reason: &str,
    left: &[&str],
) {
    let failures = apply(&mut kernel, &mut Newer::default(), changes);
    let places: Vec<usize> = failures.iter().map(|failure| failure.index).collect();
    assert_eq!(places, failing, "{failures:?}");
    for failure in &failures {
        assert_eq!(failure.error.kind(), ErrorKind::NotSupported);
        assert!(failure.error.reason().contains(reason), "{}", failure.error);
    }
    assert_eq!(kernel.shown(), left, "{}", kernel.release);
}

#[test]
fn what_2_6_32_has_is_sent_and_not_looked_at() {
    let mut kernel = OldKernel::linux_2_6_32();
    let mut persistent = service("10.0.0.100", 443, Protocol::Tcp);
    persistent.persistence = Some(Persistence::new(60, Family::Inet));
    let mut limited = tunnelled("10.0.0.3", 5);
    (limited.upper_threshold, limited.lower_threshold) = (100, 50);
    let six = service("fd00::100", 80, Protocol::Tcp);
    let changes = [
        Change::AddService(web()),
        Change::AddDestination(web().key, limited),
        Change::AddService(persistent),
        Change::AddService(six),
        Change::AddDestination(six.key, tunnelled("fd00::3", 1)),
        Change::StartDaemon(SyncDaemon::new(Role::Master, "eth1", 1)),
        Change::DeleteDestination(web().key, limited.key()),
    ];
    assert_eq!(apply(&mut kernel, &mut Newer::default(), &changes), []);
    assert_eq!(kernel.shown(), ["-a -t [fd00::100]:80 -r [fd00::3]:80 -i -w 1"]);
    let sent: Vec<String> = changes.iter().map(ToString::to_string).collect();
    assert_eq!((kernel.reads, kernel.sent), (0, sent));
}

/// 2001:db8::3 is 32.1.13.184 to it, and 10.0.0.3 is a00:3::.
#[test]
fn no_connection_goes_to_an_address_that_was_misread() {
    let six = service("fd00::100", 80, Protocol::Tcp);
    let reason = "no servers of another address family";
    let changes = [
        Change::AddService(web()),
        Change::AddDestination(web().key, tunnelled("2001:db8::3", 5)),
        Change::AddDestination(web().key, tunnelled("10.0.0.3", 1)),
        Change::AddDestination(web().key, tunnelled("2001:db8::4", 5)),
        Change::AddService(six),
        Change::AddDestination(six.key, tunnelled("10.0.0.3", 1)),
        Change::AddDestination(six.key, tunnelled("fd00::3", 1)),
        Change::EditDestination(web().key, tunnelled("2001:db8::3", 1)),
        Change::DeleteDestination(web().key, "[2001:db8::3]:80".parse().unwrap()),
    ];
    let left = [
        "-a -t 10.0.0.100:80 -r 10.0.0.3:80 -i -w 1",
        "-a -t [fd00::100]:80 -r [fd00::3]:80 -i -w 1",
    ];
    expect(OldKernel::linux_2_6_32(), &changes, &[1, 3, 5, 7, 8], reason, &left);

    // Where there is a server to see it by, no trial is made.
    let mut kernel = OldKernel::linux_2_6_32();
    let mut newer = Newer::default();
    let first = [changes[0].clone(), changes[2].clone()];
    assert_eq!(apply(&mut kernel, &mut newer, &first), []);
    kernel.sent.clear();
    let failures = apply(&mut kernel, &mut newer, &changes[1..2]);
    assert_eq!((failures.len(), kernel.sent.len(), kernel.reads), (1, 0, 1));

    // A younger kernel gets what was meant, and is asked once.
    let mut kernel = OldKernel::linux_4_19();
    assert_eq!(apply(&mut kernel, &mut Newer::default(), &changes[..6]), []);
    assert_eq!(
        kernel.shown(),
        [
            "-a -t 10.0.0.100:80 -r 10.0.0.3:80 -i -w 1",
            "-a -t 10.0.0.100:80 -r [2001:db8::3]:80 -i -w 5",
            "-a -t 10.0.0.100:80 -r [2001:db8::4]:80 -i -w 5",
            "-a -t [fd00::100]:80 -r 10.0.0.3:80 -i -w 1",
        ]
    );
    assert_eq!((kernel.reads, kernel.sent.len()), (2, 7));
}

#[test]
fn what_is_passed_over_is_noticed_and_taken_back() {
    let mut gue = tunnelled("10.0.0.3", 1);
    gue.tunnel = Some(Tunnel::Gue { port: 6080, checksum: Checksum::None });
    let mut gre = tunnelled("10.0.0.4", 1);
    gre.tunnel = Some(Tunnel::Gre { checksum: Checksum::Full });
    let plain = tunnelled("10.0.0.5", 1);
    let add = |server| Change::AddDestination(web().key, server);
    let tunnels = [
        Change::AddService(web()),
        add(gue),
        add(plain),
        add(gre),
        Change::EditDestination(web().key, {
            let mut wanted = plain;
            wanted.tunnel = gre.tunnel;
            wanted
        }),
    ];
    let reason = "no GUE and GRE tunnels";
    let left = ["-a -t 10.0.0.100:80 -r 10.0.0.5:80 -i -w 1"];
    expect(OldKernel::linux_2_6_32(), &tunnels, &[1, 3, 4], reason, &left);
    expect(OldKernel::linux_4_19(), &tunnels, &[1, 3, 4], reason, &left);
    let left = [
        "-a -t 10.0.0.100:80 -r 10.0.0.3:80 -i -w 1 --tun-type gue --tun-port 6080",
        "-a -t 10.0.0.100:80 -r 10.0.0.4:80 -i -w 1 --tun-type gre --tun-csum",
        "-a -t 10.0.0.100:80 -r 10.0.0.5:80 -i -w 1 --tun-type gre --tun-csum",
    ];
    expect(OldKernel::linux_6_1(), &tunnels, &[], "", &left);

    let mut sip = service("10.0.0.100", 5060, Protocol::Udp);
    sip.persistence = Some(Persistence::new(300, Family::Inet));
    sip.engine = Some("sip".parse().unwrap());
    let engine = [Change::AddService(sip), Change::AddService(web())];
    expect(OldKernel::linux_2_6_32(), &engine, &[0], "no persistence engines", &[]);
    expect(OldKernel::linux_4_19(), &engine, &[], "", &[]);

    let mut lan = SyncDaemon::new(Role::Master, "eth1", 1);
    lan.ttl = Some(2);
    let mut long = SyncDaemon::new(Role::Backup, "eth1", 1);
    long.max_len = Some(1400);
    let sync = [Change::StartDaemon(lan), Change::StartDaemon(long)];
    let mut kernel = OldKernel::linux_2_6_32();
    let failures = apply(&mut kernel, &mut Newer::default(), &sync);
    assert_eq!(failures.len(), 2);
    assert!(failures[0].error.reason().contains("no message length, group, port and TTL"));
    assert_eq!(kernel.table.daemons().unwrap(), []);
    expect(OldKernel::linux_4_19(), &sync, &[], "", &[]);
}

#[test]
fn what_cannot_be_seen_to_fail_is_spoken_of_once_by_the_release() {
    let warned = |service, mut kernel: OldKernel| {
        let mut newer = Newer::default();
        let changes = [Change::AddService(service), Change::EditService(service)];
        assert_eq!(apply(&mut kernel, &mut newer, &changes), []);
        assert_eq!(kernel.reads, 0);
        newer.has_warned()
    };
    let mut dns = service("10.0.0.100", 53, Protocol::Udp);
    dns.flags.one_packet = true;
    let mut hashed = web();
    hashed.flags.sched1 = true;
    let sctp = service("10.0.0.100", 9, Protocol::Sctp);
    for service in [dns, hashed, sctp] {
        assert!(warned(service, OldKernel::linux_2_6_32()));
        assert!(!warned(service, OldKernel::linux_4_19()));
        let nameless = OldKernel { release: "", ..OldKernel::linux_2_6_32() };
        assert!(!warned(service, nameless));
    }
    assert!(!warned(web(), OldKernel::linux_2_6_32()));
}

#[test]
fn changes_are_sent_in_smaller_pieces_where_the_kernel_has_no_room() {
    let outcome = |errno: i32| Outcome {
        refused: Vec::new(),
        settled: Err(Trouble::Io(std::io::Error::from_raw_os_error(errno))),
    };
    let mut batch = Batch { changes: 100, bytes: 96 << 10 };
    assert!(!batch.shrinks_after(&Outcome { refused: Vec::new(), settled: Ok(()) }));
    assert!(!batch.shrinks_after(&outcome(libc::EPERM)));
    assert_eq!(batch.bytes, 96 << 10);
    let mut tries = 0;
    while batch.shrinks_after(&outcome(libc::ENOBUFS)) {
        tries += 1;
    }
    assert_eq!((tries, batch.bytes), (5, 3 << 10));
}

/// Answers as the source of Linux 2.6.32 builds them (`net/netfilter/ipvs/ip_vs_ctl.c`,
/// `ip_vs_genl_fill_service` and the others), byte by byte.
#[cfg(target_endian = "little")]
mod answers {
    use super::*;

    /// A message of family 30 with these attributes.
    fn message(command: u8, attributes: &[&[u8]]) -> Vec<u8> {
        let body = attributes.concat();
        let whole = u16::try_from(20 + body.len()).unwrap().to_le_bytes();
        let head =
            [whole[0], whole[1], 0, 0, 30, 0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, command, 1, 0, 0];
        [&head[..], &body].concat()
    }

    /// `struct nlattr` with its padding.
    fn attr(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![u8::try_from(4 + payload.len()).unwrap(), 0, kind, 0];
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// `IPVS_*_ATTR_STATS`: numbers of 32 bits but for the bytes, which have 64 and are aligned to 4.
    fn statistics() -> Vec<u8> {
        let small = |kind: u8| attr(kind, &u32::from(kind).to_le_bytes());
        let large = |kind: u8| attr(kind, &(u64::from(kind) << 32).to_le_bytes());
        let all = [small(1), small(2), small(3), large(4), large(5)];
        let rates = (6..=10).map(small);
        attr(10, &all.into_iter().chain(rates).collect::<Vec<_>>().concat())
    }

    fn totals() -> Counters {
        Counters {
            connections: 1,
            packets_in: 2,
            packets_out: 3,
            bytes_in: 4 << 32,
            bytes_out: 5 << 32,
        }
    }

    fn rates() -> Counters {
        Counters { connections: 6, packets_in: 7, packets_out: 8, bytes_in: 9, bytes_out: 10 }
    }

    #[test]
    fn a_service() {
        let mut vip = vec![10, 0, 0, 100];
        vip.resize(16, 0);
        // IP_VS_SVC_F_PERSISTENT and IP_VS_SVC_F_HASHED, and a mask of all.
        let inside = [
            attr(1, &[2, 0]),
            attr(2, &[6, 0]),
            attr(3, &vip),
            attr(4, &[0, 80]),
            attr(6, b"wlc\0"),
            attr(7, &[3, 0, 0, 0, 255, 255, 255, 255]),
            attr(8, &[44, 1, 0, 0]),
            attr(9, &[255, 255, 255, 0]),
            statistics(),
        ];
        let answer = message(1, &[&attr(1, &inside.concat())]);
        let (read, found) = decode::service(attributes(&answer)).unwrap().unwrap();
        let mut wanted = web();
        wanted.persistence = Some(Persistence {
            timeout: 300,
            granularity: Granularity::Netmask([255, 255, 255, 0].into()),
        });
        assert_eq!(read, wanted);
        assert_eq!((found.totals, found.rates), (totals(), rates()));
    }

    #[test]
    fn a_service_by_mark() {
        let inside = [
            attr(1, &[10, 0]),
            attr(5, &[7, 0, 0, 0]),
            attr(6, b"rr\0"),
            attr(7, &[2, 0, 0, 0, 255, 255, 255, 255]),
            attr(8, &[0; 4]),
            attr(9, &[128, 0, 0, 0]),
            statistics(),
        ];
        let answer = message(1, &[&attr(1, &inside.concat())]);
        let (read, _) = decode::service(attributes(&answer)).unwrap().unwrap();
        let key = ServiceKey::Fwmark { mark: 7, family: Family::Inet6 };
        assert_eq!(read, Service::new(key, "rr".parse().unwrap()));
    }

    /// Without a family: it is the service's.
    #[test]
    fn servers() {
        let small = |kind: u8, value: u8| attr(kind, &[value, 0, 0, 0]);
        let answer = |addr: &[u8; 16], method: u8| {
            let inside = [
                attr(1, addr),
                attr(2, &[0x1f, 0x90]),
                small(3, method),
                small(4, 5),
                small(5, 100),
                small(6, 50),
                small(7, 11),
                small(8, 12),
                small(9, 13),
                statistics(),
            ];
            message(5, &[&attr(2, &inside.concat())])
        };
        let mut addr = [0; 16];
        addr[..4].copy_from_slice(&[10, 0, 0, 3]);
        let methods = [
            (forward::MASQ, Forwarding::Masquerade),
            (forward::LOCALNODE, Forwarding::LocalNode),
            (forward::TUNNEL, Forwarding::Tunnel),
            (forward::DROUTE, Forwarding::DirectRoute),
        ];
        for (method, forwarding) in methods {
            let answer = answer(&addr, u8::try_from(method).unwrap());
            let (server, found, tells_family) =
                decode::destination(attributes(&answer), Family::Inet).unwrap();
            let mut wanted = Destination::new([10, 0, 0, 3].into(), 8080, forwarding, 5);
            (wanted.upper_threshold, wanted.lower_threshold) = (100, 50);
            assert_eq!((server, tells_family), (wanted, false));
            let (totals, rates) = (totals(), rates());
            let stats =
                DestinationStats { totals, rates, active: 11, inactive: 12, persistent: 13 };
            assert_eq!(found, stats);
        }
        let six = answer(&"fd00::3".parse::<std::net::Ipv6Addr>().unwrap().octets(), 3);
        let (server, ..) = decode::destination(attributes(&six), Family::Inet6).unwrap();
        assert_eq!(server.addr, "fd00::3".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn the_rest() {
        let inside = [attr(1, &[1, 0, 0, 0]), attr(2, b"eth1\0"), attr(3, &[5, 0, 0, 0])];
        let answer = message(9, &[&attr(3, &inside.concat())]);
        let wanted = SyncDaemon::new(Role::Master, "eth1", 5);
        assert_eq!(decode::sync_daemon(attributes(&answer)), Ok(Some(wanted)));
        let answer = message(
            12,
            &[&attr(4, &[132, 3, 0, 0]), &attr(5, &[120, 0, 0, 0]), &attr(6, &[44, 1, 0, 0])],
        );
        let wanted = Timeouts { tcp: 900, tcp_fin: 120, udp: 300 };
        assert_eq!(decode::timeouts(attributes(&answer)), Ok(wanted));
        let answer = message(14, &[&attr(1, &[1, 2, 1, 0]), &attr(2, &[0, 16, 0, 0])]);
        let wanted = Info { version: (1, 2, 1), table_size: 4096 };
        assert_eq!(decode::info(attributes(&answer)), Ok(wanted));
        // The controller's, whose family has no other attributes there than its number and name.
        let answer = message(1, &[&attr(2, b"IPVS\0"), &attr(1, &[30, 0])]);
        assert_eq!(decode::family_id(attributes(&answer)), Ok(30));
        // The end of a dump.
        let done = [20, 0, 0, 0, 3, 0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(Messages(&done).next().unwrap().unwrap().errno(), Ok(0));
    }
}
