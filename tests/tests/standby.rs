//! An lvsd in standby: it checks and leaves the table alone, takes it over with what it knows, and
//! leaves it again; and what it reports while it does.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod director;

use std::{
    collections::VecDeque,
    fs,
    os::unix::net::UnixDatagram,
    time::{Duration, Instant},
};

use director::{
    CONFIG, Lvsd, Virtual, lives, logged, lvs_cf, part, programs, replace, script, server, status,
    virtual_server, wait, wait_empty, wait_logged, wait_shown,
};
use lab::{Behaviour, Node, PATIENCE, Site, TcpServer, nat_site};
use nix::sys::signal::{SigSet, Signal};

const FOREIGN: &str = "tcp 192.0.2.1:80 rr\n";
const STANDBY: &str = "X_PIRANHA_STANDBY=1";
const READY: &str = "READY=1";
/// Another virtual address, which no node bears.
const OTHER: &str = "172.16.0.101";

/// Where lvsd reports, as a node sees it.
const NOTIFY: &str = "/run/notify";
const COMMAND: &str = "env NOTIFY_SOCKET=/run/notify lvsd -n -v --standby";

/// What a node's lvsd reports, line by line.
struct Reports {
    socket: UnixDatagram,
    lines: VecDeque<String>,
}

impl Reports {
    #[track_caller]
    fn of(node: &Node) -> Self {
        let socket = UnixDatagram::bind(node.path(NOTIFY)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, lines: VecDeque::new() }
    }

    #[track_caller]
    fn next(&mut self) -> String {
        let mut datagram = [0; 8192];
        while self.lines.is_empty() {
            let length = self.socket.recv(&mut datagram).unwrap();
            let text = String::from_utf8(datagram[..length].to_vec()).unwrap();
            self.lines.extend(text.lines().map(str::to_owned));
        }
        self.lines.pop_front().unwrap()
    }

    /// Waits for exactly these lines.
    #[track_caller]
    fn expect(&mut self, lines: &[&str]) {
        for line in lines {
            assert_eq!(self.next(), *line);
        }
        self.expect_nothing();
    }

    /// Nothing has come that was not expected.
    #[track_caller]
    fn expect_nothing(&mut self) {
        self.socket.set_nonblocking(true).unwrap();
        let mut datagram = [0; 8192];
        let more = self.socket.recv(&mut datagram).map(|n| datagram[..n].to_vec());
        assert!(self.lines.is_empty() && more.is_err(), "{:?} {more:?}", self.lines);
        self.socket.set_nonblocking(false).unwrap();
    }
}

fn address(address: &str) -> String {
    format!("X_PIRANHA_ADDRESS={address}")
}

fn add_foreign(node: &Node) {
    node.run("ipvsadm -A -t 192.0.2.1:80 -s rr");
}

fn web() -> Virtual {
    virtual_server("web", 80).real_servers([1, 2], 80)
}

fn small_site() -> (Site, Vec<TcpServer>) {
    let site = nat_site(2);
    let web = site.web(80);
    (site, web)
}

/// How many changes an lvsd with `-v` has made.
fn changes(lvsd: &Lvsd) -> usize {
    lvsd.process.text().matches("running command ").count()
}

#[test]
fn the_table_is_left_alone_taken_and_left_again() {
    let (site, servers) = small_site();
    let d1 = &site.directors[0];
    let mut reports = Reports::of(d1);
    servers[1].stop();
    add_foreign(d1);
    // Three services on two addresses; those of an address are one, and the file's order counts.
    let blocks = [
        web(),
        virtual_server("other", 80)
            .with("address", format!("{OTHER} eth0:2"))
            .real_servers([1], 80),
        virtual_server("alt", 8080).real_servers([1], 80),
    ];
    let lvsd = Lvsd::start_as(d1, &lvs_cf(&["udp_timeout = 77"], &blocks), COMMAND);
    reports.expect(&[STANDBY]);
    let known = lvsd.status();
    assert_eq!(known["standby"], true);
    assert_eq!(part(&known, "web", "s1")["up"], true);
    assert_eq!(part(&known, "web", "s2")["up"], false);
    assert_eq!(known["virtual_servers"][0]["in_kernel"], false);
    let shown = d1.run("piranhactl status");
    assert!(shown.contains("\nIt stands by: ") && !shown.contains("NOT in"), "{shown}");
    let timeouts = d1.run("ipvsadm -L --timeout");
    assert!(!timeouts.contains("77"), "{timeouts}");
    assert_eq!((changes(&lvsd), d1.table().to_string().as_str()), (0, FOREIGN));

    // One that is up goes down unseen by the table.
    servers[1].start();
    lvsd.wait_status("s2 is up", |s| part(s, "web", "s2")["up"] == true);
    servers[1].stop();
    lvsd.wait_status("s2 is down", |s| part(s, "web", "s2")["up"] == false);
    assert_eq!((changes(&lvsd), d1.table().to_string().as_str()), (0, FOREIGN));

    let ready = [&address(lab_vip()), &address(OTHER), READY];
    let table = "tcp 172.16.0.100:80 wlc\n  10.0.0.21:80 masq 1\n\
                 tcp 172.16.0.100:8080 wlc\n  10.0.0.21:80 masq 1\n\
                 tcp 172.16.0.101:80 wlc\n  10.0.0.21:80 masq 1\n";
    lvsd.process.signal(Signal::SIGUSR1);
    reports.expect(&ready);
    assert_eq!(d1.table().to_string(), table, "when it says so it is so");
    assert!(d1.run("ipvsadm -L --timeout").contains("77"));
    assert_eq!(lvsd.status()["standby"], false);
    assert_eq!(
        lvsd.commands(),
        [
            "--set 0 0 77",
            "-C",
            "-A -t 172.16.0.100:80 -s wlc",
            "-a -t 172.16.0.100:80 -r 10.0.0.21:80 -m -w 1",
            "-A -t 172.16.0.101:80 -s wlc",
            "-a -t 172.16.0.101:80 -r 10.0.0.21:80 -m -w 1",
            "-A -t 172.16.0.100:8080 -s wlc",
            "-a -t 172.16.0.100:8080 -r 10.0.0.21:80 -m -w 1",
        ]
    );
    lvsd.process.signal(Signal::SIGUSR1);
    reports.expect(&ready);
    // From now on it is kept.
    d1.run("ipvsadm -D -t 172.16.0.101:80");
    lvsd.wait_shown(table);
    servers[1].start();
    lvsd.wait_shown(&table.replacen("masq 1\n", "masq 1\n  10.0.0.22:80 masq 1\n", 1));

    lvsd.process.signal(Signal::SIGUSR2);
    reports.expect(&[STANDBY]);
    assert_eq!(d1.table().to_string(), "");
    add_foreign(d1);
    let before = changes(&lvsd);
    servers[0].stop();
    lvsd.wait_status("s1 is down", |s| part(s, "web", "s1")["up"] == false);
    lvsd.process.signal(Signal::SIGUSR2);
    reports.expect(&[STANDBY]);
    assert_eq!((changes(&lvsd), d1.table().to_string().as_str()), (before, FOREIGN));

    lvsd.process.signal(Signal::SIGUSR1);
    reports.expect(&ready);
    assert_eq!(
        d1.table().to_string(),
        "tcp 172.16.0.100:80 wlc\n  10.0.0.22:80 masq 1\n\
         tcp 172.16.0.100:8080 wlc\ntcp 172.16.0.101:80 wlc\n"
    );
    lvsd.process.signal(Signal::SIGUSR2);
    reports.expect(&[STANDBY]);
    add_foreign(d1);
    // What is not ours is neither mended nor removed, however it ends.
    assert_eq!(logged(d1, &["somebody else has changed"]), 1);
    lvsd.stop(FOREIGN);
    reports.expect_nothing();
}

/// The virtual address of the site.
fn lab_vip() -> &'static str {
    director::VIP
}

#[test]
fn orders_and_reloads_in_standby_are_for_the_take_over() {
    let (site, _servers) = small_site();
    let d1 = &site.directors[0];
    let mut reports = Reports::of(d1);
    add_foreign(d1);
    let lvsd = Lvsd::start_as(d1, &lvs_cf(&[], &[web()]), COMMAND);
    reports.expect(&[STANDBY]);
    d1.run("piranhactl down web/s1");
    d1.run("piranhactl drain web/s2");
    lvsd.wait_status("the orders are known", |s| {
        part(s, "web", "s1")["up"] == false && part(s, "web", "s2")["weight_wanted"] == 0
    });
    let other = || virtual_server("other", 81).real_servers([1], 80);
    lvsd.reload(&lvs_cf(&["udp_timeout = 78"], &[web().with("scheduler", "rr"), other()]));
    lvsd.wait_status("the new one is checked", |s| part(s, "other", "s1")["up"] == true);
    assert_eq!((changes(&lvsd), d1.table().to_string().as_str()), (0, FOREIGN));
    d1.write(CONFIG, "bogus\n");
    d1.run("piranhactl reload");
    lvsd.wait_status("the reload has failed", |s| s["reload_error"].is_string());
    reports.expect_nothing();

    lvsd.process.signal(Signal::SIGUSR1);
    reports.expect(&[&address(lab_vip()), READY]);
    let table = "tcp 172.16.0.100:80 rr\n  10.0.0.22:80 masq 0\n\
                 tcp 172.16.0.100:81 wlc\n  10.0.0.21:80 masq 1\n";
    assert_eq!(d1.table().to_string(), table);
    assert!(d1.run("ipvsadm -L --timeout").contains("78"));
    d1.run("piranhactl auto web/s1");
    d1.run("piranhactl auto web/s2");
    lvsd.wait_shown(&table.replace("22:80 masq 0", "22:80 masq 1").replacen(
        "  10.0.0.22",
        "  10.0.0.21:80 masq 1\n  10.0.0.22",
        1,
    ));
    lvsd.process.signal(Signal::SIGUSR2);
    reports.expect(&[STANDBY]);
    // A service that goes in standby is no service of ours in the table that follows.
    lvsd.reload(&lvs_cf(&[], &[other()]));
    lvsd.process.signal(Signal::SIGUSR1);
    reports.expect(&[&address(lab_vip()), READY]);
    assert_eq!(d1.table().to_string(), "tcp 172.16.0.100:81 wlc\n  10.0.0.21:80 masq 1\n");
    lvsd.stop("");
}

#[test]
fn an_order_that_comes_before_lvsd_runs_is_not_lost() {
    let (site, _servers) = small_site();
    let d1 = &site.directors[0];
    let mut reports = Reports::of(d1);
    d1.write(CONFIG, lvs_cf(&[], &[web()]));
    // As a parent does it that does not want to wait: blocked, and so inherited as such, until lvsd
    // handles it.
    let mut orders = SigSet::empty();
    orders.add(Signal::SIGUSR1);
    orders.add(Signal::SIGUSR2);
    for round in 0..3 {
        orders.thread_block().unwrap();
        let lvsd = d1.spawn(COMMAND);
        lvsd.signal(Signal::SIGUSR1);
        orders.thread_unblock().unwrap();
        // Whatever is known by then is in the table.
        reports.expect(&[&address(lab_vip()), READY]);
        assert!(d1.table().to_string().starts_with("tcp 172.16.0.100:80 wlc\n"), "{round}");
        wait_shown(d1, "tcp 172.16.0.100:80 wlc\n  10.0.0.21:80 masq 1\n  10.0.0.22:80 masq 1\n");
        // Both at once are none.
        lvsd.signal(Signal::SIGSTOP);
        lvsd.signal(Signal::SIGUSR2);
        lvsd.signal(Signal::SIGUSR1);
        lvsd.signal(Signal::SIGCONT);
        reports.expect(&[&address(lab_vip()), READY]);
        lvsd.signal(Signal::SIGTERM);
        assert!(lvsd.wait_exit(PATIENCE).unwrap().success());
        assert_eq!(d1.table().to_string(), "");
        wait_empty(d1);
    }
}

#[test]
fn a_plain_start_reports_too_and_ignores_orders() {
    let (site, _servers) = small_site();
    let d1 = &site.directors[0];
    let mut reports = Reports::of(d1);
    add_foreign(d1);
    let other = virtual_server("other", 80).with("address", format!("{OTHER} eth0:2"));
    let blocks = [other.real_servers([1], 80), web()];
    let lvsd = Lvsd::start_as(
        d1,
        &lvs_cf(&[], &blocks),
        &COMMAND.replace("--standby", "--control=/run/piranha/lvsd.sock"),
    );
    reports.expect(&[&address(OTHER), &address(lab_vip()), READY]);
    assert!(!d1.table().to_string().contains("192.0.2.1"));
    let both = "tcp 172.16.0.100:80 wlc\n  10.0.0.21:80 masq 1\n  10.0.0.22:80 masq 1\n";
    let table = format!("{both}tcp 172.16.0.101:80 wlc\n  10.0.0.21:80 masq 1\n");
    lvsd.wait_shown(&table);
    let monitor = lvsd.monitor("web/s1", 0);
    let environment = fs::read(format!("/proc/{monitor}/environ")).unwrap();
    let environment = String::from_utf8_lossy(&environment);
    assert!(environment.contains("PATH=") && !environment.contains("NOTIFY"), "{environment}");
    lvsd.process.signal(Signal::SIGUSR2);
    wait_logged(d1, &["signals USR1 and USR2 ignored"], 1);
    assert_eq!((d1.table().to_string(), lvsd.status()["standby"].clone()), (table, false.into()));
    reports.expect_nothing();
    lvsd.stop("");
}

#[test]
fn monitors_of_one_server_run_with_the_table() {
    let (site, servers) = small_site();
    let d1 = &site.directors[0];
    let mut reports = Reports::of(d1);
    add_foreign(d1);
    let own = web().with("client_monitor", programs().join("nanny").display());
    let pooled = virtual_server("pooled", 81).real_servers([1], 80);
    let lvsd = Lvsd::start_as(d1, &lvs_cf(&[], &[own, pooled]), COMMAND);
    reports.expect(&[STANDBY]);
    assert_eq!(logged(d1, &["virtual server web is not checked in standby"]), 1);
    let running = || {
        let lines = director::command_lines(d1);
        lines.iter().filter(|line| line.contains("nanny -c")).count()
    };
    assert_eq!(running(), 0);
    assert_eq!(d1.table().to_string(), FOREIGN);

    let pool = "tcp 172.16.0.100:81 wlc\n  10.0.0.21:80 masq 1\n";
    let whole =
        format!("tcp 172.16.0.100:80 wlc\n  10.0.0.21:80 masq 1\n  10.0.0.22:80 masq 1\n{pool}");
    lvsd.process.signal(Signal::SIGUSR1);
    reports.expect(&[&address(lab_vip()), READY]);
    lvsd.wait_shown(&whole);
    assert_eq!(running(), 2);
    let monitor = lvsd.monitor("web/s2", 0);

    lvsd.process.signal(Signal::SIGUSR2);
    reports.expect(&[STANDBY]);
    assert_eq!(d1.table().to_string(), "");
    wait("its monitors end", || (running() == 0).then_some(()));
    assert!(!lives(monitor));
    add_foreign(d1);
    servers[1].stop();
    // At once again: those that end are waited for.
    lvsd.process.signal(Signal::SIGUSR1);
    reports.expect(&[&address(lab_vip()), READY]);
    lvsd.wait_shown(&whole.replace("  10.0.0.22:80 masq 1\n", ""));
    lvsd.process.signal(Signal::SIGUSR2);
    reports.expect(&[STANDBY]);
    lvsd.process.signal(Signal::SIGUSR1);
    reports.expect(&[&address(lab_vip()), READY]);
    lvsd.wait_shown(&whole.replace("  10.0.0.22:80 masq 1\n", ""));
    assert_eq!(logged(d1, &["died!"]), 0);
    lvsd.stop("");
}

#[test]
fn a_standby_whose_servers_hang_does_not_wait_for_ever_and_needs_no_receiver() {
    let (site, servers) = small_site();
    let d1 = &site.directors[0];
    servers[0].set(Behaviour::Hang);
    let mut reports = Reports::of(d1);
    let slow = web().with("timeout", 60).with("sorry_server", "10.0.0.99");
    let lvsd = Lvsd::start_as(d1, &lvs_cf(&[], &[slow]), COMMAND);
    let began = Instant::now();
    reports.expect(&[STANDBY]);
    assert!(began.elapsed() < Duration::from_secs(30));
    assert!(part(&lvsd.status(), "web", "s1")["up"].is_null());
    drop(reports);
    lvsd.process.signal(Signal::SIGUSR1);
    lvsd.wait_shown("tcp 172.16.0.100:80 wlc\n  10.0.0.22:80 masq 1\n");
    lvsd.process.signal(Signal::SIGUSR2);
    lvsd.wait_shown("");
    lvsd.stop("");
}

#[test]
fn a_program_for_the_table_is_not_run_before_it_is_time() {
    let (site, _servers) = small_site();
    let d1 = &site.directors[0];
    let mut reports = Reports::of(d1);
    let wrap = site.lab.dir().join("wrap");
    let calls = site.lab.dir().join("calls");
    let text = format!("#!/bin/sh\necho \"$@\" >>{}\nexec ipvsadm \"$@\"", calls.display());
    script(d1, &wrap, &text);
    replace(&calls, "");
    let ipvsadm = format!("ipvsadm = {}", wrap.display());
    let lvsd = Lvsd::start_as(d1, &lvs_cf(&[&ipvsadm], &[web()]), COMMAND);
    reports.expect(&[STANDBY]);
    lvsd.status();
    // Whether it can be run is found out at the start.
    assert_eq!(fs::read_to_string(&calls).unwrap(), "-L -n\n");
    lvsd.process.signal(Signal::SIGUSR1);
    reports.expect(&[&address(lab_vip()), READY]);
    let calls = fs::read_to_string(&calls).unwrap();
    let calls: Vec<&str> = calls.lines().skip(1).collect();
    assert_eq!(calls[..2], ["-C", "-A -t 172.16.0.100:80 -s wlc"]);
    wait_shown(d1, "tcp 172.16.0.100:80 wlc\n  10.0.0.21:80 masq 1\n  10.0.0.22:80 masq 1\n");
    lvsd.process.signal(Signal::SIGUSR2);
    reports.expect(&[STANDBY]);
    assert_eq!(d1.table().to_string(), "");
    lvsd.stop("");
}

/// Prints how long a large table takes: from the order to the first address and to the end, beside
/// the same changes made by nobody else than the library.
#[test]
#[ignore = "prints figures, asserts nothing about them"]
fn ten_thousand_servers() {
    const SERVICES: u32 = 256;
    const SERVERS: u32 = 10_000;
    let site = nat_site(1);
    let d1 = &site.directors[0];
    d1.shell("ip link set lo up; ip route add local 10.1.0.0/16 dev lo");
    let listener = d1.enter(|| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.bind(&std::net::SocketAddr::from(([0, 0, 0, 0], 8080)).into())?;
        socket.listen(65_535).map(|()| socket)
    });
    let listener = listener.unwrap();
    std::thread::spawn(move || while listener.accept().is_ok() {});
    let mut reports = Reports::of(d1);
    let mut number = 0;
    let blocks: Vec<Virtual> = (0..SERVICES)
        .map(|n| {
            let vip = format!("10.2.{n}.1 eth0:{n}");
            let mut block =
                virtual_server(&format!("v{n}"), 8080).with("address", vip).with("timeout", 60);
            while number < SERVERS * (n + 1) / SERVICES {
                number += 1;
                let rip = format!("10.1.{}.{}", number / 250, number % 250 + 1);
                block = block.server(server(&format!("s{number}"), &rip));
            }
            block
        })
        .collect();
    let mut site_table = Vec::new();
    let lvsd = Lvsd::start_as(d1, &lvs_cf(&[], &blocks), &COMMAND.replace("-n -v", "--nofork"));
    while reports.next() != STANDBY {}
    let known = lvsd.wait_status("all are up", |s| {
        let blocks = s["virtual_servers"].as_array().unwrap();
        blocks.iter().filter_map(|b| b["up"].as_u64()).sum::<u64>() == u64::from(SERVERS)
    });
    assert_eq!(known["standby"], true);
    for _ in 0..3 {
        let began = Instant::now();
        lvsd.process.signal(Signal::SIGUSR1);
        let first = (reports.next(), began.elapsed());
        while reports.next() != READY {}
        let took = began.elapsed();
        site_table = d1.enter(|| ipvs::Table::read(&mut ipvs::Netlink::open().unwrap()).unwrap());
        let servers: usize = site_table.iter().map(|v| v.destinations.len()).sum();
        assert_eq!((site_table.len(), servers), (SERVICES as usize, SERVERS as usize));
        let began = Instant::now();
        lvsd.process.signal(Signal::SIGUSR2);
        while reports.next() != STANDBY {}
        eprintln!("taken: {first:?}, READY {took:?}; left: {:?}", began.elapsed());
    }
    assert!(status(d1).is_some());
    lvsd.stop("");
    for _ in 0..3 {
        // The kernel keeps servers that were there before for a while: a table without a past.
        let site = nat_site(1);
        let (planned, made) = site.directors[0].enter(|| {
            let mut table = ipvs::Netlink::open().unwrap();
            let began = Instant::now();
            let changes = ipvs::plan(&[], &site_table);
            let planned = began.elapsed();
            assert!(ipvs::Table::apply(&mut table, &changes).is_empty());
            (planned, began.elapsed())
        });
        eprintln!("the library alone: planned after {planned:?}, made after {made:?}");
    }
}
