//! What every [`Table`] must do, as a suite of checks: one run of [`check`] on each
//! implementation.
//!
//! A real kernel needs IPv6, IPVS with its schedulers and, for the tunnels, Linux 5.3.

use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::change::Change;
use crate::error::ErrorKind;
use crate::plan::plan;
use crate::table::{Failure, Table};
use crate::types::{
    Checksum, Destination, Family, Forwarding, Granularity, KernelName, Persistence, Protocol,
    Service, ServiceFlags, ServiceKey, Timeouts, Tunnel, VirtualService,
};

/// The schedulers that are checked.
const SCHEDULERS: [&str; 13] =
    ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh"];

/// Runs all checks. The table is cleared, before and after; its timeouts change.
///
/// # Errors
/// What was expected and what was found, of the first check that fails.
pub fn check(table: &mut dyn Table) -> Result<(), String> {
    general(table)?;
    services(table)?;
    destinations(table)?;
    refusals(table)?;
    plans(table)?;
    statistics(table)?;
    timeouts(table)?;
    done(table, &[Change::Flush])?;
    stands(table, &[])
}

/// Requires equality.
fn same<T: PartialEq + Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: found {found:#?}, expected {expected:#?}"))
}

/// Makes changes, which must succeed.
fn done(table: &mut dyn Table, changes: &[Change]) -> Result<(), String> {
    same("failures", &table.apply(changes), &vec![])
}

/// Requires the table to have this content, in whatever order.
fn stands(table: &mut dyn Table, expected: &[VirtualService]) -> Result<(), String> {
    let found = table.read().map_err(|error| error.to_string())?;
    same("the table", &sorted(found), &sorted(expected.to_vec()))
}

fn sorted(mut table: Vec<VirtualService>) -> Vec<VirtualService> {
    table.sort_by_key(|v| v.service.key);
    for virtual_service in &mut table {
        virtual_service.destinations.sort_by_key(Destination::key);
    }
    table
}

fn name(name: &str) -> Result<KernelName, String> {
    KernelName::new(name).map_err(|error| error.to_string())
}

/// Documentation addresses (RFC 5737, RFC 3849): nothing answers there.
fn four(host: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, host).into()
}

fn six(host: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host).into()
}

const fn key(protocol: Protocol, addr: IpAddr, port: u16) -> ServiceKey {
    ServiceKey::Address { protocol, addr, port }
}

fn general(table: &mut dyn Table) -> Result<(), String> {
    let info = table.info().map_err(|error| error.to_string())?;
    let (major, minor, _) = info.version;
    same("the IPVS version", &(major, minor), &(1, 2))?;
    done(table, &[Change::Flush])?;
    stands(table, &[])
}

/// One service of each sort, and each scheduler.
fn services(table: &mut dyn Table) -> Result<(), String> {
    let mut wanted = vec![
        Service::new(key(Protocol::Tcp, four(1), 80), name("wlc")?),
        Service::new(key(Protocol::Udp, four(1), 80), name("rr")?),
        Service::new(key(Protocol::Sctp, four(1), 80), name("rr")?),
        Service::new(key(Protocol::Tcp, six(1), 80), name("wlc")?),
        Service::new(ServiceKey::Fwmark { mark: 7, family: Family::Inet }, name("wlc")?),
        Service::new(ServiceKey::Fwmark { mark: u32::MAX, family: Family::Inet6 }, name("wlc")?),
    ];
    let mut any_port = Service::new(key(Protocol::Tcp, four(2), 0), name("sh")?);
    any_port.persistence = Some(Persistence::new(2_678_400, Family::Inet));
    any_port.flags = ServiceFlags { sched1: true, sched2: true, ..ServiceFlags::default() };
    let mut masked = Service::new(key(Protocol::Tcp, four(3), 21), name("wlc")?);
    let netmask = Ipv4Addr::new(255, 255, 255, 0);
    masked.persistence =
        Some(Persistence { timeout: 1, granularity: Granularity::Netmask(netmask) });
    let mut prefix = Service::new(key(Protocol::Tcp, six(3), 21), name("wlc")?);
    prefix.persistence = Some(Persistence { timeout: 60, granularity: Granularity::Prefix(64) });
    let mut sip = Service::new(key(Protocol::Udp, four(3), 5060), name("rr")?);
    sip.persistence = Some(Persistence::new(60, Family::Inet));
    sip.engine = Some(name("sip")?);
    let mut one_packet = Service::new(key(Protocol::Udp, four(3), 53), name("rr")?);
    one_packet.flags = ServiceFlags { one_packet: true, sched3: true, ..ServiceFlags::default() };
    wanted.extend([any_port, masked, prefix, sip, one_packet]);
    for (port, scheduler) in (1000..).zip(SCHEDULERS) {
        wanted.push(Service::new(key(Protocol::Tcp, four(4), port), name(scheduler)?));
    }
    let expected = |services: &[Service]| -> Vec<VirtualService> {
        let bare = |service: &Service| VirtualService { service: *service, destinations: vec![] };
        services.iter().map(bare).collect()
    };
    let add: Vec<_> = wanted.iter().map(|service| Change::AddService(*service)).collect();
    done(table, &add)?;
    stands(table, &expected(&wanted))?;

    // Everything but the key can be edited, in both directions.
    let plain: Vec<_> = wanted.iter().map(|s| Service::new(s.key, s.scheduler)).collect();
    let mut plain: Vec<_> = plain.into_iter().filter(|s| s.key != any_port.key).collect();
    for service in &mut plain {
        service.scheduler = name("lc")?;
    }
    plain.push(any_port);
    for services in [&plain, &wanted] {
        let edit: Vec<_> = services.iter().map(|service| Change::EditService(*service)).collect();
        done(table, &edit)?;
        stands(table, &expected(services))?;
    }
    let delete: Vec<_> = wanted.iter().map(|s| Change::DeleteService(s.key)).collect();
    done(table, &delete)?;
    stands(table, &[])
}

/// One server of each sort.
fn destinations(table: &mut dyn Table) -> Result<(), String> {
    let web = key(Protocol::Tcp, four(1), 80);
    let web6 = key(Protocol::Tcp, six(1), 80);
    let mark = ServiceKey::Fwmark { mark: 7, family: Family::Inet };
    let masq = |addr, port, weight| Destination::new(addr, port, Forwarding::Masquerade, weight);
    let routed = |addr, port| Destination::new(addr, port, Forwarding::DirectRoute, 1);
    let tunnelled =
        |addr, tunnel| Destination { tunnel, ..Destination::new(addr, 80, Forwarding::Tunnel, 1) };
    let limited =
        Destination { upper_threshold: 100, lower_threshold: 50, ..masq(four(11), 8080, 0) };
    let gue = Tunnel::Gue { port: 6080, checksum: Checksum::Full };
    let remote = Tunnel::Gue { port: 6081, checksum: Checksum::Remote };
    let gre = Tunnel::Gre { checksum: Checksum::Full };
    let servers = [
        (web, masq(four(10), 80, 65_535)),
        (web, limited),
        (web, masq(four(11), 8081, 1)),
        (web, routed(four(12), 80)),
        (web, tunnelled(four(13), None)),
        (web, tunnelled(four(14), Some(gue))),
        (web, tunnelled(four(15), Some(remote))),
        (web, tunnelled(four(16), Some(gre))),
        (web, tunnelled(six(16), None)),
        // Only masquerading changes ports: this one is stored with the service's.
        (web, routed(four(17), 8080)),
        (web6, masq(six(10), 8080, 1)),
        (web6, routed(six(11), 80)),
        (mark, masq(four(10), 0, 1)),
        (mark, routed(four(11), 8080)),
    ];
    let mut wanted: Vec<VirtualService> = Vec::new();
    for service in [web, web6, mark] {
        let service = Service::new(service, name("wrr")?);
        done(table, &[Change::AddService(service)])?;
        wanted.push(VirtualService { service, destinations: Vec::new() });
    }
    for (service, server) in &servers {
        for place in wanted.iter_mut().filter(|v| v.service.key == *service) {
            place.destinations.push(server.as_stored(service));
        }
    }
    let add: Vec<_> = servers.iter().map(|(k, d)| Change::AddDestination(*k, *d)).collect();
    done(table, &add)?;
    stands(table, &wanted)?;

    // Weight, thresholds and the way to the server can be edited.
    for virtual_service in &mut wanted {
        for server in &mut virtual_service.destinations {
            server.weight = server.weight.wrapping_add(7) % 60_000;
            server.upper_threshold = if server.upper_threshold == 0 { 9 } else { 0 };
            server.lower_threshold = server.lower_threshold.min(server.upper_threshold);
            if server.tunnel.take().is_none() && server.port == 80 {
                let same_family = Family::of(&server.addr) == virtual_service.service.key.family();
                server.forwarding = match server.forwarding {
                    Forwarding::Masquerade => Forwarding::DirectRoute,
                    Forwarding::DirectRoute => Forwarding::Tunnel,
                    _ if same_family => Forwarding::Masquerade,
                    other => other,
                };
            }
        }
    }
    let pairs = wanted.iter().flat_map(|v| v.destinations.iter().map(|d| (v.service.key, *d)));
    let edit: Vec<_> = pairs.map(|(k, d)| Change::EditDestination(k, d)).collect();
    done(table, &edit)?;
    stands(table, &wanted)?;

    for virtual_service in &mut wanted {
        if let Some(server) = virtual_service.destinations.pop() {
            done(table, &[Change::DeleteDestination(virtual_service.service.key, server.key())])?;
        }
    }
    stands(table, &wanted)?;
    done(table, &[Change::Flush])?;
    stands(table, &[])
}

/// What cannot be done is refused, with the right kind of error, and nothing else is.
fn refusals(table: &mut dyn Table) -> Result<(), String> {
    let web = key(Protocol::Tcp, four(1), 80);
    let none = key(Protocol::Tcp, four(2), 80);
    let server = Destination::new(four(10), 8080, Forwarding::Masquerade, 1);
    let service =
        |key, scheduler| -> Result<Service, String> { Ok(Service::new(key, name(scheduler)?)) };
    let missing: SocketAddr = SocketAddr::new(four(11), 80);
    let unusable = Destination { addr: Ipv4Addr::new(224, 0, 0, 9).into(), ..server };
    let foreign = Destination { addr: six(10), ..server };
    let mut unknown_engine = service(none, "rr")?;
    unknown_engine.persistence = Some(Persistence::new(1, Family::Inet));
    unknown_engine.engine = Some(name("nosuch")?);
    let steps = [
        (Change::AddService(service(web, "wlc")?), None),
        (Change::AddService(service(web, "rr")?), Some(ErrorKind::Exists)),
        (Change::AddService(service(none, "nosuch")?), Some(ErrorKind::NoScheduler)),
        (Change::AddService(unknown_engine), Some(ErrorKind::NoScheduler)),
        (Change::EditService(service(none, "rr")?), Some(ErrorKind::NoSuchService)),
        (Change::EditService(service(web, "nosuch")?), Some(ErrorKind::NoScheduler)),
        (Change::DeleteService(none), Some(ErrorKind::NoSuchService)),
        (Change::AddDestination(web, server), None),
        (Change::AddDestination(web, server), Some(ErrorKind::Exists)),
        (Change::AddDestination(none, server), Some(ErrorKind::NoSuchService)),
        (Change::AddDestination(web, unusable), Some(ErrorKind::Invalid)),
        (Change::AddDestination(web, foreign), Some(ErrorKind::Invalid)),
        (Change::EditDestination(none, server), Some(ErrorKind::NoSuchService)),
        (
            Change::EditDestination(web, Destination { port: 80, ..server }),
            Some(ErrorKind::NoSuchDestination),
        ),
        (Change::DeleteDestination(web, missing), Some(ErrorKind::NoSuchDestination)),
        (Change::DeleteDestination(none, missing), Some(ErrorKind::NoSuchService)),
        (Change::Zero(Some(none)), Some(ErrorKind::NoSuchService)),
        (Change::Zero(Some(web)), None),
        (Change::Zero(None), None),
        (Change::EditDestination(web, Destination { weight: 3, ..server }), None),
    ];
    let (changes, expected): (Vec<_>, Vec<_>) = steps.into_iter().unzip();
    let expected: Vec<_> =
        expected.into_iter().enumerate().filter_map(|(i, kind)| Some((i, kind?))).collect();
    let found: Vec<Failure> = table.apply(&changes);
    let kinds = found.iter().map(|failure| (failure.index, failure.error.kind())).collect();
    same("what was refused", &kinds, &expected)?;
    for failure in &found {
        let change = changes.get(failure.index).map(ToString::to_string).unwrap_or_default();
        same("what was tried", &failure.error.action(), &change.as_str())?;
    }
    let destinations = vec![Destination { weight: 3, ..server }];
    stands(table, &[VirtualService { service: service(web, "wlc")?, destinations }])?;
    done(table, &[Change::DeleteService(web)])
}

/// A plan leads to the wanted table, and from there nowhere else.
fn plans(table: &mut dyn Table) -> Result<(), String> {
    let service = |port, hosts: &[(u8, u32)]| -> Result<VirtualService, String> {
        let server =
            |(host, weight)| Destination::new(four(host), port, Forwarding::DirectRoute, weight);
        Ok(VirtualService {
            service: Service::new(key(Protocol::Tcp, four(1), port), name("wlc")?),
            destinations: hosts.iter().copied().map(server).collect(),
        })
    };
    let mut sticky = service(443, &[(10, 1), (11, 1)])?;
    sticky.service.persistence = Some(Persistence::new(300, Family::Inet));
    let first = [service(80, &[(10, 1), (11, 1), (12, 0)])?, service(443, &[(10, 1)])?];
    let second = [sticky, service(80, &[(11, 0), (12, 1), (13, 5)])?, service(8080, &[])?];
    for wanted in [&first[..], &second, &first, &[]] {
        let current = table.read().map_err(|error| error.to_string())?;
        done(table, &plan(&current, wanted))?;
        stands(table, wanted)?;
        let current = table.read().map_err(|error| error.to_string())?;
        same("the plan for what stands", &plan(&current, wanted), &vec![])?;
    }
    Ok(())
}

/// Statistics come with the same table.
fn statistics(table: &mut dyn Table) -> Result<(), String> {
    let web = key(Protocol::Tcp, four(1), 80);
    let mark = ServiceKey::Fwmark { mark: 9, family: Family::Inet6 };
    let server = Destination {
        upper_threshold: 5,
        ..Destination::new(four(10), 80, Forwarding::Masquerade, 1)
    };
    let changes = [
        Change::AddService(Service::new(web, name("rr")?)),
        Change::AddService(Service::new(mark, name("rr")?)),
        Change::AddDestination(web, server),
        Change::AddDestination(web, Destination { port: 81, ..server }),
    ];
    done(table, &changes)?;
    let status = table.read_stats().map_err(|error| error.to_string())?;
    for service in &status {
        same("statistics of an unused service", &service.stats, &Default::default())?;
        for server in &service.destinations {
            same("statistics of an unused server", &server.stats, &Default::default())?;
        }
    }
    let bare = status.into_iter().map(|s| VirtualService {
        service: s.service,
        destinations: s.destinations.into_iter().map(|d| d.destination).collect(),
    });
    stands(table, &bare.collect::<Vec<_>>())?;
    done(table, &[Change::Zero(None), Change::Flush])
}

/// Timeouts of 0 stay as they are.
fn timeouts(table: &mut dyn Table) -> Result<(), String> {
    let set = |tcp, tcp_fin, udp| Change::SetTimeouts(Timeouts { tcp, tcp_fin, udp });
    for (change, expected) in [
        (set(901, 121, 301), (901, 121, 301)),
        (set(0, 99, 0), (901, 99, 301)),
        (set(0, 0, 0), (901, 99, 301)),
        (set(900, 120, 300), (900, 120, 300)),
    ] {
        done(table, &[change])?;
        let Timeouts { tcp, tcp_fin, udp } = table.timeouts().map_err(|error| error.to_string())?;
        same("the timeouts", &(tcp, tcp_fin, udp), &expected)?;
    }
    Ok(())
}
