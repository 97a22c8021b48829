//! The table of a real kernel. These tests need root, a kernel with IPVS, iproute2 and ipvsadm;
//! without, they fail. Therefore `test = false` in Cargo.toml: they are built and run only when
//! asked for, under a kernel that has what they need:
//!
//! ```text
//! cargo test -p ipvs --test kernel --no-run
//! scripts/ipvs-vm -- target/debug/deps/kernel-HASH
//! ```
//!
//! Every test works in a network namespace of its own, so they run side by side and leave
//! nothing behind.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use ipvs::{
    Change, Counters, Destination, ErrorKind, Family, Forwarding, Granularity, Ipvsadm, Netlink,
    NetlinkOptions, Persistence, Protocol, Role, Service, ServiceFlags, ServiceKey, ServiceStatus,
    SyncDaemon, Table, Tunnel, VirtualService,
};
use nix::sched::{CloneFlags, unshare};

const PROGRAM: &str = "/usr/sbin/ipvsadm";

/// Moves this thread into a new network namespace, with `lo` and a dummy interface up.
fn namespace() {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace of our own: run as root");
    sh("ip link set lo up
        ip link add sync0 type dummy
        ip address add 198.51.100.1/24 dev sync0
        ip link set sync0 up multicast on");
}

/// Runs commands in this thread's namespace, and returns what they print.
fn sh(script: &str) -> String {
    let output = Command::new("/bin/sh").args(["-ec", script]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn netlink() -> Netlink {
    Netlink::open().expect("a kernel with IPVS")
}

fn web() -> ServiceKey {
    tcp("192.0.2.1", 80)
}

fn tcp(addr: &str, port: u16) -> ServiceKey {
    ServiceKey::Address { protocol: Protocol::Tcp, addr: addr.parse().unwrap(), port }
}

fn service(key: ServiceKey, scheduler: &str) -> Service {
    Service::new(key, scheduler.parse().unwrap())
}

fn masq(addr: &str, port: u16) -> Destination {
    Destination::new(addr.parse().unwrap(), port, Forwarding::Masquerade, 1)
}

#[test]
fn netlink_conforms() {
    namespace();
    ipvs::conformance::check(&mut netlink()).unwrap();
}

#[test]
fn ipvsadm_conforms() {
    namespace();
    ipvs::conformance::check(&mut Ipvsadm::new(PROGRAM)).unwrap();
}

/// The conformance suite again, with hardly any room for the kernel's answers: every batch is a
/// single change.
#[test]
fn netlink_conforms_without_room() {
    namespace();
    let options = NetlinkOptions { receive_buffer: 1, ..NetlinkOptions::default() };
    ipvs::conformance::check(&mut Netlink::open_with(options).unwrap()).unwrap();
}

/// One of everything, and how `ipvsadm -S -n` prints it.
fn everything() -> (Vec<VirtualService>, &'static str) {
    let with = |service, destinations: &[Destination]| VirtualService {
        service,
        destinations: destinations.to_vec(),
    };
    let mut shop = service(web(), "wlc");
    shop.persistence = Some(Persistence {
        timeout: 60,
        granularity: Granularity::Netmask(Ipv4Addr::new(255, 255, 255, 0)),
    });
    let mut any = service(tcp("192.0.2.2", 0), "sh");
    any.persistence = Some(Persistence::new(10, Family::Inet));
    any.flags = ServiceFlags { sched1: true, sched2: true, ..ServiceFlags::default() };
    let mut six = service(tcp("2001:db8::1", 80), "mh");
    six.persistence = Some(Persistence { timeout: 77, granularity: Granularity::Prefix(64) });
    six.flags.sched2 = true;
    let udp = |port| ServiceKey::Address {
        protocol: Protocol::Udp,
        addr: "192.0.2.1".parse().unwrap(),
        port,
    };
    let mut dns = service(udp(53), "rr");
    dns.flags.one_packet = true;
    let mut sip = service(udp(5060), "rr");
    sip.persistence = Some(Persistence::new(60, Family::Inet));
    sip.engine = Some("sip".parse().unwrap());
    let sctp = ServiceKey::Address {
        protocol: Protocol::Sctp,
        addr: "192.0.2.1".parse().unwrap(),
        port: 99,
    };
    let mark = |family| ServiceKey::Fwmark { mark: 7, family };
    let mut routed = masq("192.0.2.11", 80);
    (routed.forwarding, routed.weight) = (Forwarding::DirectRoute, 0);
    let mut tunnelled = masq("192.0.2.12", 80);
    tunnelled.forwarding = Forwarding::Tunnel;
    let checksum = ipvs::Checksum::Full;
    let mut gue = tunnelled;
    gue.addr = "192.0.2.13".parse().unwrap();
    gue.tunnel = Some(Tunnel::Gue { port: 6080, checksum });
    let mut gre = tunnelled;
    gre.addr = "192.0.2.14".parse().unwrap();
    gre.tunnel = Some(Tunnel::Gre { checksum });
    let mut mixed = tunnelled;
    mixed.addr = "2001:db8::14".parse().unwrap();
    let mut limited = masq("192.0.2.10", 8080);
    (limited.weight, limited.upper_threshold, limited.lower_threshold) = (3, 100, 50);
    let table = vec![
        with(shop, &[limited, routed, tunnelled, gue, gre, mixed]),
        with(any, &[masq("127.0.0.1", 0)]),
        with(six, &[masq("2001:db8::10", 8080)]),
        with(dns, &[]),
        with(sip, &[]),
        with(service(sctp, "rr"), &[]),
        with(service(mark(Family::Inet), "wrr"), &[masq("192.0.2.10", 0)]),
        with(service(mark(Family::Inet6), "lc"), &[masq("2001:db8::10", 80)]),
    ];
    let saved = "\
-A -t 192.0.2.1:80 -s wlc -p 60 -M 255.255.255.0
-a -t 192.0.2.1:80 -r [2001:db8::14]:80 -i -w 1 --tun-type ipip
-a -t 192.0.2.1:80 -r 192.0.2.10:8080 -m -w 3
-a -t 192.0.2.1:80 -r 192.0.2.11:80 -g -w 0
-a -t 192.0.2.1:80 -r 192.0.2.12:80 -i -w 1 --tun-type ipip
-a -t 192.0.2.1:80 -r 192.0.2.13:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-csum
-a -t 192.0.2.1:80 -r 192.0.2.14:80 -i -w 1 --tun-type gre --tun-csum
-A -t 192.0.2.2:0 -s sh -p 10 -b sh-fallback,sh-port
-a -t 192.0.2.2:0 -r 127.0.0.1:0 -m -w 1
-A -u 192.0.2.1:53 -s rr -o
-A -u 192.0.2.1:5060 -s rr -p 60 --pe sip
-A --sctp-service 192.0.2.1:99 -s rr
-A -t [2001:db8::1]:80 -s mh -p 77 -M 64 -b mh-port
-a -t [2001:db8::1]:80 -r [2001:db8::10]:8080 -m -w 1
-A -f 7 -s wrr
-a -f 7 -r 192.0.2.10:0 -m -w 1
-A -f 7 -6 -s lc
-a -f 7 -6 -r [2001:db8::10]:80 -m -w 1
";
    (table, saved)
}

fn sorted_lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn ipvsadm_prints_what_netlink_made_and_the_other_way_round() {
    namespace();
    let (wanted, saved) = everything();
    let changes = ipvs::plan(&[], &wanted);
    let mut kernel = netlink();
    assert_eq!(kernel.apply(&changes), []);
    assert_eq!(sorted_lines(&sh("ipvsadm -S -n")), sorted_lines(saved));
    let thresholds = sh("ipvsadm -L -n --thresholds");
    let words: Vec<_> = thresholds.split_whitespace().collect();
    let limits: Vec<_> = words.windows(3).filter(|w| w[0] == "192.0.2.10:8080").collect();
    assert_eq!(limits, [["192.0.2.10:8080", "100", "50"]]);
    let mut program = Ipvsadm::new(PROGRAM);
    assert_eq!(program.info(), kernel.info());
    assert_eq!(program.timeouts(), kernel.timeouts());
    assert_eq!(ipvs::plan(&program.read().unwrap(), &wanted), []);

    assert_eq!(program.apply(&[Change::Flush]), []);
    assert_eq!(kernel.read().unwrap(), []);
    assert_eq!(program.apply(&changes), []);
    let made = kernel.read().unwrap();
    assert_eq!(made.len(), wanted.len());
    assert_eq!(ipvs::plan(&made, &wanted), []);
}

#[test]
fn sync_daemons_start_and_stop_and_are_read() {
    namespace();
    let master = SyncDaemon::new(Role::Master, "sync0", 5);
    let mut backup = SyncDaemon::new(Role::Backup, "sync0", 255);
    backup.group = Some("224.0.0.99".parse().unwrap());
    (backup.port, backup.ttl, backup.max_len) = (Some(9999), Some(3), Some(1400));
    for table in [&mut netlink() as &mut dyn Table, &mut Ipvsadm::new(PROGRAM)] {
        assert_eq!(table.daemons().unwrap(), []);
        let start = [Change::StartDaemon(master.clone()), Change::StartDaemon(backup.clone())];
        assert_eq!(table.apply(&start), []);
        let running = table.daemons().unwrap();
        assert_eq!(running.len(), 2);
        assert!(running[0].serves(&master) && running[1].serves(&backup), "{running:?}");
        assert_eq!(netlink().daemons().unwrap(), Ipvsadm::new(PROGRAM).daemons().unwrap());
        assert_eq!(table.apply(&start[..1])[0].error.kind(), ErrorKind::Exists);
        // Sync messages have no room for servers of another family.
        let mut six = masq("2001:db8::9", 80);
        six.forwarding = Forwarding::Tunnel;
        let mixed = [Change::AddService(service(web(), "rr")), Change::AddDestination(web(), six)];
        assert_eq!(table.apply(&mixed)[0].error.kind(), ErrorKind::Invalid);
        let stop = [
            Change::StopDaemon(Role::Master),
            Change::StopDaemon(Role::Backup),
            Change::StopDaemon(Role::Backup),
            Change::StartDaemon(SyncDaemon::new(Role::Master, "nowhere", 5)),
            Change::Flush,
        ];
        let kinds: Vec<_> =
            table.apply(&stop).into_iter().map(|f| (f.index, f.error.kind())).collect();
        assert_eq!(kinds, [(2, ErrorKind::NoDaemon), (3, ErrorKind::Invalid)]);
        assert_eq!(table.daemons().unwrap(), []);
    }
}

#[test]
fn connections_are_counted_where_they_went() {
    namespace();
    sh("ip address add 192.0.2.1/32 dev lo; sysctl -q net.ipv4.vs.conntrack=0");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = masq("127.0.0.1", listener.local_addr().unwrap().port());
    let mut kernel = netlink();
    let changes = [
        Change::AddService(service(web(), "rr")),
        Change::AddDestination(web(), server),
        Change::AddDestination(web(), Destination { weight: 0, ..masq("192.0.2.77", 80) }),
    ];
    assert_eq!(kernel.apply(&changes), []);
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client =
            TcpStream::connect_timeout(&"192.0.2.1:80".parse().unwrap(), Duration::from_secs(20))
                .unwrap();
        let (mut served, _) = listener.accept().unwrap();
        client.write_all(b"hello").unwrap();
        served.read_exact(&mut [0; 5]).unwrap();
        served.write_all(b"hello back").unwrap();
        client.read_exact(&mut [0; 10]).unwrap();
        clients.push((client, served));
    }
    // The kernel sums up every two seconds.
    let give_up = Instant::now() + Duration::from_secs(60);
    let status = loop {
        let status = kernel.read_stats().unwrap();
        if status[0].stats.totals.connections == 3 || Instant::now() > give_up {
            break status;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let [ServiceStatus { stats, destinations, .. }] = &status[..] else { panic!("{status:?}") };
    let counted = destinations.iter().find(|d| d.destination == server).unwrap().stats;
    let idle = destinations.iter().find(|d| d.destination != server).unwrap().stats;
    assert_eq!((counted.totals.connections, counted.active, counted.inactive), (3, 3, 0));
    assert_eq!(counted.totals, stats.totals);
    assert!(stats.totals.packets_in >= 9 && stats.totals.bytes_in > 300, "{stats:?}");
    assert!(stats.totals.packets_out >= 6 && stats.totals.bytes_out > 200, "{stats:?}");
    assert_eq!((idle.totals, idle.active), (Counters::default(), 0));

    let mut program = Ipvsadm::new(PROGRAM);
    let printed = program.read_stats().unwrap();
    assert_eq!(printed[0].stats.totals, stats.totals);
    let printed = printed[0].destinations.iter().find(|d| d.destination == server).unwrap();
    assert_eq!((printed.stats.totals, printed.stats.active), (counted.totals, 3));

    assert_eq!(kernel.apply(&[Change::Zero(Some(web()))]), []);
    let zeroed = kernel.read_stats().unwrap();
    assert_eq!(zeroed[0].stats.totals.connections, 0);
    assert_eq!(zeroed[0].destinations.iter().map(|d| d.stats.active).sum::<u32>(), 3);
}

/// 10,000 servers of one service.
fn crowd() -> Vec<Destination> {
    let server = |n: u32| {
        let addr = Ipv4Addr::from(0x0a01_0000 + n).into();
        Destination::new(addr, 80, Forwarding::DirectRoute, 1)
    };
    (0..10_000).map(server).collect()
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let before = Instant::now();
    let result = work();
    println!("{what}: {:?}", before.elapsed());
    result
}

#[test]
fn ten_thousand_servers_are_added_read_changed_and_removed() {
    namespace();
    // Routable, or the kernel refuses the servers.
    sh("ip route add 10.0.0.0/8 dev sync0");
    let wanted = [VirtualService { service: service(web(), "wrr"), destinations: crowd() }];
    let changes = ipvs::plan(&[], &wanted);
    assert_eq!(changes.len(), 10_001);
    let mut single =
        Netlink::open_with(NetlinkOptions { batch: Some(1), ..NetlinkOptions::default() }).unwrap();
    let mut kernel = netlink();
    for round in 0..2 {
        assert_eq!(timed("add 10,000, one at a time", || single.apply(&changes)), [], "{round}");
        assert_eq!(kernel.apply(&[Change::Flush]), []);
        assert_eq!(timed("add 10,000, in batches", || kernel.apply(&changes)), [], "{round}");
        if round == 0 {
            assert_eq!(kernel.apply(&[Change::Flush]), []);
        }
    }
    let table = timed("read 10,000", || kernel.read().unwrap());
    assert_eq!(table[0].destinations.len(), 10_000);
    assert_eq!(timed("plan 10,000", || ipvs::plan(&table, &wanted)), []);
    timed("read 10,000 with statistics", || kernel.read_stats().unwrap());

    // All of them again: every one is refused, and every refusal is attributed.
    let refused = timed("10,000 refusals", || kernel.apply(&changes));
    assert_eq!(refused.len(), 10_001);
    for (index, failure) in refused.iter().enumerate() {
        assert_eq!((failure.index, failure.error.kind()), (index, ErrorKind::Exists));
    }
    let mut halved = wanted.clone();
    halved[0].destinations.truncate(5_000);
    halved[0].destinations.iter_mut().for_each(|d| d.weight = 2);
    let changes = ipvs::plan(&table, &halved);
    assert_eq!(changes.len(), 10_000);
    assert_eq!(timed("edit 5,000, remove 5,000", || kernel.apply(&changes)), []);
    assert_eq!(ipvs::plan(&kernel.read().unwrap(), &halved), []);
}

#[test]
fn a_thousand_services_of_three_servers_are_read() {
    namespace();
    let servers = [masq("192.0.2.10", 80), masq("192.0.2.11", 80), masq("192.0.2.12", 80)];
    let wanted: Vec<_> = (1..=1000)
        .map(|port| VirtualService {
            service: service(tcp("192.0.2.1", port), "wlc"),
            destinations: servers.to_vec(),
        })
        .collect();
    let one = NetlinkOptions { batch: Some(1), ..NetlinkOptions::default() };
    let mut single = Netlink::open_with(one).unwrap();
    let mut kernel = netlink();
    let changes = ipvs::plan(&[], &wanted);
    assert_eq!(timed("add 1,000 x 3, one at a time", || single.apply(&changes)), []);
    assert_eq!(kernel.apply(&[Change::Flush]), []);
    assert_eq!(timed("add 1,000 x 3, in batches", || kernel.apply(&changes)), []);
    let table = timed("read 1,000 x 3", || kernel.read().unwrap());
    assert_eq!(table.len(), 1000);
    assert_eq!(ipvs::plan(&table, &wanted), []);
}

/// With less room than the answers need, answers get lost; it is noticed, said, and the table can
/// be read and planned anew on the same socket.
#[test]
fn lost_answers_are_noticed_and_recovered_from() {
    namespace();
    let mut kernel = Netlink::open_with(NetlinkOptions {
        receive_buffer: 1,
        batch: Some(200),
        ..NetlinkOptions::default()
    })
    .unwrap();
    let servers: Vec<_> = (1..=99).map(|n| masq(&format!("192.0.2.{n}"), 8080)).collect();
    let wanted = [VirtualService { service: service(web(), "rr"), destinations: servers }];
    let changes = ipvs::plan(&[], &wanted);
    assert_eq!(kernel.apply(&changes), []);
    // All are refused now, and there is no room for all refusals.
    let failures = kernel.apply(&changes);
    assert_eq!(failures.len(), changes.len());
    let lost = failures.iter().filter(|f| f.error.kind() == ErrorKind::Overrun).count();
    let known = failures.iter().filter(|f| f.error.kind() == ErrorKind::Exists).count();
    println!("{known} refusals were told, {lost} lost");
    assert!(lost > 0 && known > 0 && lost + known == changes.len());
    assert!(
        failures.iter().all(|f| f.error.is_uncertain() == (f.error.kind() != ErrorKind::Exists))
    );
    assert_eq!(ipvs::plan(&kernel.read().unwrap(), &wanted), []);
    assert_eq!(kernel.apply(&[Change::Zero(None)]), []);
}

#[test]
fn what_others_do_to_the_table_meanwhile_does_not_break_a_read() {
    namespace();
    let servers: Vec<_> = (1..=200).map(|n| masq(&format!("192.0.2.{n}"), 8080)).collect();
    let wanted = [VirtualService { service: service(web(), "rr"), destinations: servers }];
    let changes = ipvs::plan(&[], &wanted);
    // Opened here: a socket stays in the namespace it was opened in.
    let (mut reader, mut writer) = (netlink(), netlink());
    let worker = std::thread::spawn(move || {
        for _ in 0..20 {
            assert_eq!(writer.apply(&changes), []);
            assert_eq!(writer.apply(&[Change::Flush]), []);
        }
    });
    while !worker.is_finished() {
        let table = reader.read().unwrap();
        assert!(table.iter().all(|v| v.service.key == web() && v.destinations.len() <= 200));
    }
    worker.join().unwrap();
    assert_eq!(reader.read().unwrap(), []);
}

#[test]
fn without_privileges_reading_and_changing_are_refused() {
    namespace();
    let output = Command::new("setpriv")
        .args(["--bounding-set=-net_admin", "--inh-caps=-net_admin"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "unprivileged", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// Run by [`without_privileges_reading_and_changing_are_refused`].
#[test]
#[ignore = "run without CAP_NET_ADMIN by another test"]
fn unprivileged() {
    let mut kernel = netlink();
    let failures = kernel.apply(&[Change::Flush, Change::AddService(service(web(), "rr"))]);
    assert_eq!(failures.len(), 2);
    for failure in failures {
        assert_eq!(failure.error.kind(), ErrorKind::NotPermitted);
        assert!(failure.error.to_string().contains("CAP_NET_ADMIN"), "{}", failure.error);
    }
    assert_eq!(kernel.read().unwrap_err().kind(), ErrorKind::NotPermitted);
    let mut program = Ipvsadm::new(PROGRAM);
    assert_eq!(program.read().unwrap_err().kind(), ErrorKind::NotPermitted);
}

#[test]
fn the_socket_is_closed_on_exec() {
    namespace();
    let _kernel = netlink();
    let open = sh("ls -l /proc/self/fd");
    assert!(!open.contains("socket:"), "{open}");
}

/// A module that was unloaded and loaded again has another netlink family number; and there may be
/// no module at all. Run alone, as `the_module_may_go_and_come_back --ignored`: the module is
/// everybody's.
#[test]
#[ignore = "unloads ip_vs: must run alone"]
fn the_module_may_go_and_come_back() {
    namespace();
    let mut kernel = netlink();
    let add = [Change::AddService(service(web(), "wlc"))];
    assert_eq!(kernel.apply(&add), []);
    assert_eq!(kernel.apply(&[Change::Flush]), []);
    sh("rmmod ip_vs_wlc ip_vs");
    assert_eq!(Netlink::open().unwrap().read().unwrap(), []); // which loads it
    assert_eq!(kernel.apply(&add), []);
    sh("ipvsadm -C; rmmod ip_vs_wlc ip_vs; modprobe ip_vs");
    assert_eq!(kernel.read().unwrap(), []);

    sh("rmmod ip_vs; mount -t tmpfs none /lib/modules");
    let errors = [
        Netlink::open().unwrap_err(),
        kernel.read().unwrap_err(),
        kernel.info().unwrap_err(),
        kernel.apply(&[Change::Flush]).remove(0).error,
        kernel.apply(&add).remove(0).error,
    ];
    sh("umount /lib/modules; modprobe ip_vs");
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::NoIpvs, "{error}");
        assert!(error.to_string().contains("modprobe ip_vs"), "{error}");
    }
    // A scheduler that is not there is another matter.
    sh("mount -t tmpfs none /lib/modules");
    let failures = kernel.apply(&add);
    sh("umount /lib/modules");
    assert_eq!(failures[0].error.kind(), ErrorKind::NoScheduler);
    assert!(failures[0].error.to_string().ends_with("modprobe ip_vs_wlc"), "{failures:?}");
}
