//! From a server's behaviour to the table and the log: every kind of failure and of check, by the
//! pooled monitor, by one process a server, and by nanny alone.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod director;

use std::{path::Path, process::Command, time::Duration};

use director::{
    CONFIG, Lvsd, Virtual, logged, lvs_cf, part, programs, replace, script, server, virtual_server,
    wait_empty, wait_logged, wait_shown,
};
use lab::{Behaviour, Node, PATIENCE, Running, TcpServer, UdpBehaviour, nat_site};
use nix::sys::signal::Signal;

const WEB: &str = "tcp 172.16.0.100:80";

fn answer(text: &str) -> Behaviour {
    Behaviour::Answer(text.as_bytes().to_vec())
}

/// A table of services with the servers of these numbers, all of weight 1.
fn shown(services: &[(&str, u16, &[usize])]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for (service, port, servers) in services {
        let servers = servers.iter().map(|n| format!("  10.0.0.{}:{port} masq 1\n", 20 + n));
        lines.push(format!("{service} wlc\n{}", servers.collect::<String>()));
    }
    lines.concat()
}

/// Waits until a server has been checked so many times more.
fn wait_checks(server: &TcpServer, count: usize) {
    server.wait_connections(server.connections() + count, PATIENCE).unwrap();
}

/// What is to be found once in the log for each of seven servers, the way each of them fails.
const FAILURES: [(usize, &[&str]); 7] = [
    (1, &["CONNECT to 10.0.0.21:80", "Connection refused"]),
    (2, &["READ to 10.0.0.22:80 timed out"]),
    (3, &["10.0.0.23:80", "Connection reset by peer"]),
    (4, &["Trouble. Received results are not what we expected from (10.0.0.24:80)"]),
    (5, &["READ from 10.0.0.25:80 was too short[0>=4]"]),
    (6, &["CONNECT to 10.0.0.26:80 timed out"]),
    (7, &["READ from 10.0.0.27:80 was too short[3>=4]"]),
];

/// Servers 1 to 7 fail, each in its way. An eighth answers byte by byte, and is well.
fn fail_all(web: &[TcpServer]) {
    web[0].stop();
    web[1].set(Behaviour::Hang);
    web[2].set(Behaviour::Reset);
    web[3].set(answer("SSH-2.0-OpenSSH_9.9\r\n"));
    web[4].set(Behaviour::CloseEarly);
    web[5].set(Behaviour::Deaf);
    web[6].set(answer("HTT"));
}

fn mend_all(web: &[TcpServer]) {
    web[0].start();
    web.iter().take(7).for_each(|server| server.set(Behaviour::http("well\n")));
}

#[test]
fn each_failure_shows_in_the_table_and_once_in_the_log() {
    let site = nat_site(8);
    let d1 = &site.directors[0];
    let web = site.web(80);
    web[7].set(Behaviour::Trickle(b"HTTP/1.0 200 OK\r\n\r\n".to_vec(), Duration::from_millis(5)));
    // Four virtual servers with the same servers: the same checks, other consequences.
    let blocks = [
        virtual_server("web", 80).real_servers(1..=8, 80),
        virtual_server("quiet", 81)
            .with("send", r#""GET / HTTP/1.0\r\n\r\n""#)
            .with("expect", "HTTP")
            .with("quiesce_server", 1)
            .real_servers(1..=7, 80)
            .server(server("never", "10.0.0.99").with("port", 80)),
        virtual_server("sorry", 82)
            .with("send", r#""GET / HTTP/1.0\r\n\r\n""#)
            .with("expect", "HTTP")
            .with("sorry_server", "10.0.0.28")
            .real_servers(1..=7, 80),
    ];
    let lvsd = Lvsd::start(d1, &lvs_cf(&[], &blocks));
    let seven = [1, 2, 3, 4, 5, 6, 7];
    let whole = shown(&[
        (WEB, 80, &[1, 2, 3, 4, 5, 6, 7, 8]),
        ("tcp 172.16.0.100:81", 80, &seven),
        ("tcp 172.16.0.100:82", 80, &seven),
    ]);
    lvsd.wait_shown(&whole);
    // On a busy machine the first checks may outlast the second that a sorry server waits for them.
    let early = logged(d1, &["No real servers"]);
    assert!(early <= 1);

    fail_all(&web);
    let quiesced: String = (1..=7).map(|n| format!("  10.0.0.{}:80 masq 0\n", 20 + n)).collect();
    lvsd.wait_shown(&format!(
        "{WEB} wlc\n  10.0.0.28:80 masq 1\n\
         tcp 172.16.0.100:81 wlc\n{quiesced}\
         tcp 172.16.0.100:82 wlc\n  10.0.0.28:82 masq 1\n"
    ));
    // The failures stay, and the log stays as it is: one line a server and block.
    wait_checks(&web[3], 2);
    for (number, words) in FAILURES {
        assert_eq!(logged(d1, words), 3, "{words:?}");
        let inactive =
            format!("[inactive] shutting down 10.0.0.{}:80 due to connection failure", 20 + number);
        assert_eq!(logged(d1, &[&inactive]), 3, "{inactive}");
    }
    assert_eq!(
        logged(d1, &["Virtual Server sorry: No real servers; activate sorry_server 10.0.0.28"]),
        early + 1
    );
    let status = lvsd.status();
    let refused = part(&status, "web", "s1");
    assert_eq!(refused["error"], "cannot connect: Connection refused");
    assert_eq!((&refused["up"], &refused["health"]), (&false.into(), &"down".into()));
    assert_eq!(part(&status, "quiet", "s2")["weight_kernel"], 0);
    assert_eq!(part(&status, "quiet", "never")["weight_kernel"], serde_json::Value::Null);
    assert_eq!(status["virtual_servers"][2]["sorry_active"], true);

    mend_all(&web);
    lvsd.wait_shown(&whole);
    for number in seven {
        let active = format!("[ active ] making 10.0.0.{}:80 available", 20 + number);
        assert_eq!(logged(d1, &[&active]), 6, "{active}");
    }
    assert_eq!(logged(d1, &["10.0.0.28:80 available"]), 1);
    assert_eq!(logged(d1, &["shutting down 10.0.0.28:80"]), 0);
    let back = ["Virtual Server sorry: ", " real servers; deactivate sorry_server 10.0.0.28"];
    assert_eq!(logged(d1, &back), early + 1);
    lvsd.stop("");
    for name in ["web", "quiet", "sorry"] {
        assert_eq!(logged(d1, &[&format!("shutting down virtual service {name}")]), 1);
    }
    assert_eq!(logged(d1, &["shutting down due to signal 15"]), 1);
}

/// A way to check, a server that passes it, and what happens when it does not.
struct Kind {
    block: Virtual,
    shown: &'static str,
    server: TcpServer,
    good: Behaviour,
    bad: Behaviour,
    /// In the log, once it has failed.
    complaint: &'static str,
    /// What the server hears.
    request: &'static [u8],
}

fn kinds(node: &Node) -> Vec<Kind> {
    let kind = |port: u16, keys: &[(&str, &str)], good: Behaviour, bad: Behaviour| {
        let mut block = virtual_server(&format!("v{port}"), port).real_servers([1], port);
        for (key, value) in keys {
            block = block.with(key, value);
        }
        let server = node.tcp_server(&format!("10.0.0.21:{port}"), good.clone());
        Kind { block, shown: "", server, good, bad, complaint: "", request: b"" }
    };
    let redirect = Behaviour::http_status("302 Found", "elsewhere");
    let broken = Behaviour::http_status("500 Internal Server Error", "broken");
    let regex = [
        ("send", r#""HEAD / HTTP/1.0\r\n\r\n""#),
        ("expect", r#""^HTTP/1\.[01] (200|302) ""#),
        ("use_regex", "1"),
    ];
    let odd = r#""a\tb\\c\'\"\r\n""#;
    vec![
        Kind {
            shown: "tcp 172.16.0.100:80 wlc\n  10.0.0.21:80 masq 1\n",
            complaint: "Trouble. Received results are not what we expected from (10.0.0.21:80)",
            request: b"GET / HTTP/1.0\r\n\r\n",
            ..kind(80, &[], broken.clone(), answer("220 no web\r\n"))
        },
        Kind {
            shown: "tcp 172.16.0.100:8001 wlc\n  10.0.0.21:8001 masq 1\n",
            complaint: "READ from 10.0.0.21:8001",
            request: b"HEAD / HTTP/1.0\r\n\r\n",
            ..kind(8001, &regex, redirect, Behaviour::CloseEarly)
        },
        Kind {
            shown: "tcp 172.16.0.100:8002 wlc\n  10.0.0.21:8002 masq 1\n",
            complaint: "(10.0.0.21:8002)",
            request: b"HEAD / HTTP/1.0\r\n\r\n",
            ..kind(8002, &regex, Behaviour::http("ok"), broken)
        },
        Kind {
            shown: "tcp 172.16.0.100:8003 wlc\n  10.0.0.21:8003 masq 1\n",
            complaint: "(10.0.0.21:8003)",
            request: b"a\tb\\c'\"\r\n",
            ..kind(8003, &[("send", odd), ("expect", odd)], Behaviour::Echo, answer("a\\tb"))
        },
        // The connection alone decides, on any port but 80.
        Kind {
            shown: "tcp 172.16.0.100:8004 wlc\n  10.0.0.21:8004 masq 1\n",
            complaint: "CONNECT to 10.0.0.21:8004 timed out",
            ..kind(8004, &[], Behaviour::Hang, Behaviour::Deaf)
        },
        Kind {
            shown: "tcp 172.16.0.100:8005 wlc\n  10.0.0.21:8005 masq 1\n",
            complaint: "(10.0.0.21:8005)",
            ..kind(
                8005,
                &[("expect", "220")],
                Behaviour::Banner(b"220 ready\r\n".to_vec()),
                Behaviour::Banner(b"421 too many\r\n".to_vec()),
            )
        },
        Kind {
            shown: "tcp 172.16.0.100:8006 wlc\n  10.0.0.21:8006 masq 1\n",
            complaint: "READ to 10.0.0.21:8006 timed out",
            request: b"any",
            ..kind(8006, &[("send", "any"), ("expect", "*")], answer("x"), Behaviour::Hang)
        },
    ]
}

#[test]
fn each_kind_of_check_sends_and_expects_what_it_should() {
    let site = nat_site(2);
    let (d1, rs1, rs2) = (&site.directors[0], &site.servers[0], &site.servers[1]);
    let kinds = kinds(rs1);
    let mut dns = rs2.udp_server("10.0.0.22:53", UdpBehaviour::Answer(b"\0\x01answer".to_vec()));
    let echo = rs2.udp_server("10.0.0.22:7", UdpBehaviour::Echo);
    let udp = |port: u16| {
        let block = virtual_server(&format!("u{port}"), port).with("protocol", "udp");
        block.with("send", "ask").real_servers([2], port)
    };
    // A check by a program: it prints what a file holds, and notes its arguments.
    let dir = site.lab.dir();
    let (verdict, program) = (dir.join("verdict"), dir.join("check"));
    replace(&verdict, "OK\n");
    let arguments = dir.join("arguments");
    let (cat, note) = (verdict.display(), arguments.display());
    script(d1, &program, &format!("#!/bin/sh\necho \"$#\" \"$@\" >{note}\ncat {cat}"));
    let program = format!("\"{} x%h %h %p  last\"", program.display());
    let by_program = virtual_server("program", 9000)
        .with("send_program", &program)
        .with("send", "ignored")
        .with("expect", "OK")
        .real_servers([2], 9);

    let mut blocks: Vec<Virtual> = kinds.iter().map(|kind| kind.block.clone()).collect();
    blocks.extend([by_program, udp(53), udp(7).with("expect", "ask")]);
    let lvsd = Lvsd::start(d1, &lvs_cf(&[], &blocks));
    let others = "tcp 172.16.0.100:9000 wlc\n  10.0.0.22:9 masq 1\n\
                  udp 172.16.0.100:53 wlc\n  10.0.0.22:53 masq 1\n\
                  udp 172.16.0.100:7 wlc\n  10.0.0.22:7 masq 1\n";
    let all: String = kinds.iter().map(|kind| kind.shown).chain([others]).collect();
    lvsd.wait_shown(&all);
    for kind in &kinds {
        assert_eq!(kind.server.last_request(), kind.request, "{}", kind.block.name);
    }
    assert_eq!(dns.last_request(), b"ask");
    let noted = std::fs::read_to_string(&arguments).unwrap();
    assert_eq!(noted, "4 x%h 10.0.0.22 9 last\n");
    assert_eq!(logged(d1, &["no monitor configured, assuming web service on port 80", "v80"]), 1);
    let ignored = format!("External program use requested: ({})", program.trim_matches('"'));
    assert_eq!(logged(d1, &[&ignored, "IGNORING send string option (ignored)"]), 1);

    for kind in &kinds {
        kind.server.set(kind.bad.clone());
    }
    dns.stop();
    echo.set(UdpBehaviour::Silent);
    replace(&verdict, "OKAY\n");
    let without = |text: &str| {
        let services = text.lines().filter(|line| !line.starts_with(' '));
        services.map(|line| format!("{line}\n")).collect::<String>()
    };
    lvsd.wait_shown(&without(&all));
    for kind in &kinds {
        assert_eq!(logged(d1, &[kind.complaint]), 1, "{}", kind.complaint);
    }
    assert_eq!(logged(d1, &["10.0.0.22:53", "Connection refused"]), 1);
    assert_eq!(logged(d1, &["READ to 10.0.0.22:7 timed out"]), 1);
    let trouble = "Trouble. Received results are not what we expected from (10.0.0.22:9)";
    assert_eq!(logged(d1, &[trouble, "OKAY"]), 1);

    for kind in &kinds {
        kind.server.set(kind.good.clone());
    }
    dns.set(UdpBehaviour::Answer(b"anything".to_vec()));
    dns.start();
    echo.set(UdpBehaviour::Echo);
    // Without the newline at its end it is the same answer.
    replace(&verdict, "OK");
    lvsd.wait_shown(&all);
    lvsd.stop("");
}

#[test]
fn a_check_that_two_blocks_share_reaches_the_server_once_an_interval() {
    let site = nat_site(2);
    let d1 = &site.directors[0];
    let web = site.web(80);
    let other = "172.16.0.101 eth0:2";
    let blocks = [
        virtual_server("one", 80).real_servers([1, 2], 80),
        virtual_server("two", 80).with("address", other).real_servers([2], 80),
        virtual_server("three", 8080)
            .with("send", r#""GET / HTTP/1.0\r\n\r\n""#)
            .with("expect", "HTTP")
            .real_servers([2], 80),
    ];
    let lvsd = Lvsd::start(d1, &lvs_cf(&[], &blocks));
    let whole = "tcp 172.16.0.100:80 wlc\n  10.0.0.21:80 masq 1\n  10.0.0.22:80 masq 1\n\
                 tcp 172.16.0.100:8080 wlc\n  10.0.0.22:80 masq 1\n\
                 tcp 172.16.0.101:80 wlc\n  10.0.0.22:80 masq 1\n";
    lvsd.wait_shown(whole);
    // Asked by one block and by three: as often. (Three times as often would be 18.)
    web[0].wait_connections(6, PATIENCE).unwrap();
    let shared = web[1].connections();
    assert!((4..=8).contains(&shared), "{shared} checks of the shared server, 6 of the other");
    web[1].stop();
    lvsd.wait_shown(&shown(&[
        (WEB, 80, &[1]),
        ("tcp 172.16.0.100:8080", 80, &[]),
        ("tcp 172.16.0.101:80", 80, &[]),
    ]));
    web[1].start();
    lvsd.wait_shown(whole);
    lvsd.stop("");
}

#[test]
fn a_return_takes_the_reentry_time_and_the_first_success_does_not() {
    let site = nat_site(1);
    let d1 = &site.directors[0];
    let web = site.web(80);
    let block = virtual_server("web", 80).real_servers([1], 80);
    // Had it to pass 10,000 checks first, it would not be there today.
    let slow = block.clone().with("reentry", 10_000);
    let lvsd = Lvsd::start(d1, &lvs_cf(&[], std::slice::from_ref(&slow)));
    let (whole, empty) = (shown(&[(WEB, 80, &[1])]), shown(&[(WEB, 80, &[])]));
    lvsd.wait_shown(&whole);
    lvsd.reload(&lvs_cf(&[], &[block.with("reentry", 3)]));
    web[0].set(Behaviour::CloseEarly);
    lvsd.wait_shown(&empty);
    let failed = web[0].connections();
    web[0].set(Behaviour::http("well\n"));
    lvsd.wait_shown(&whole);
    assert!(web[0].connections() >= failed + 3, "{failed}, {}", web[0].connections());
    // The same recipe with another re-entry time is the same check: it went on with its state.
    lvsd.reload(&lvs_cf(&[], &[slow]));
    web[0].stop();
    lvsd.wait_shown(&empty);
    web[0].start();
    wait_checks(&web[0], 5);
    assert_eq!(d1.table().to_string(), empty);
    lvsd.stop("");
}

#[test]
fn weights_grow_and_follow_the_load() {
    let site = nat_site(2);
    let d1 = &site.directors[0];
    let _web = site.web(80);
    let dir = site.lab.dir();
    let (load, rsh) = (dir.join("load"), dir.join("rsh"));
    let note = dir.join("asked");
    let text =
        |line: &str| format!("#!/bin/sh\necho \"$0 $@\" >>{}\necho '{line}'", note.display());
    script(d1, &load, &text("10.0.0.22 up 3 days, load average: 0.00, 0.01, 0.05"));
    script(d1, &rsh, &text(" 10:00:00 up 3 days, 1 user, load average: 0.00, 0.01, 0.05"));
    let blocks = [
        virtual_server("web", 80)
            .real_servers([1, 2], 80)
            .change("s1", |s| s.with("weight", 100))
            .change("s2", |s| s.with("weight", 0)),
        virtual_server("load", 81).with("load_monitor", load.display()).real_servers([2], 80),
        virtual_server("uptime", 82).with("load_monitor", "uptime").real_servers([2], 80),
    ];
    let lvsd = Lvsd::start(d1, &lvs_cf(&[&format!("rsh_command = {}", rsh.display())], &blocks));
    // A thirty-second part at first, and twice that at the next step.
    for weight in [3, 6] {
        d1.wait_table(|t| t.weight(WEB, "10.0.0.21:80") == Some(weight), PATIENCE).unwrap();
        assert_eq!(d1.table().weight(WEB, "10.0.0.22:80"), Some(0));
    }
    assert_eq!(part(&lvsd.status(), "web", "s1")["weight"], 100);
    // An idle server gets half of its weight more, as a whole number: 2.
    for service in ["tcp 172.16.0.100:81", "tcp 172.16.0.100:82"] {
        let more = |t: &lab::Table| t.weight(service, "10.0.0.22:80").is_some_and(|w| w >= 2);
        d1.wait_table(more, PATIENCE).unwrap();
    }
    let asked = std::fs::read_to_string(&note).unwrap();
    let line = |path: &Path, rest: &str| format!("{} 10.0.0.22{rest}", path.display());
    assert!(asked.lines().any(|l| l == line(&load, "")), "{asked}");
    assert!(asked.lines().any(|l| l == line(&rsh, " uptime")), "{asked}");
    lvsd.stop("");
}

#[test]
fn an_operator_overrules_the_checks() {
    let site = nat_site(2);
    let d1 = &site.directors[0];
    let web = site.web(80);
    let quiet = virtual_server("quiet", 81).with("quiesce_server", 1).with("send", "x");
    // A block with monitors of its own beside one of the pooled one.
    let own = virtual_server("own", 82).with("client_monitor", programs().join("nanny").display());
    let blocks = [
        virtual_server("web", 80).real_servers([1, 2], 80),
        quiet.real_servers([1, 2], 80),
        own.real_servers([1], 80),
    ];
    let lvsd = Lvsd::start(d1, &lvs_cf(&[], &blocks));
    let table = |web: &str, quiet: &str, own: &str| {
        format!("{WEB} wlc\n{web}tcp 172.16.0.100:81 wlc\n{quiet}tcp 172.16.0.100:82 wlc\n{own}")
    };
    let (one, both) = ("  10.0.0.21:80 masq 1\n", "  10.0.0.21:80 masq 1\n  10.0.0.22:80 masq 1\n");
    lvsd.wait_shown(&table(both, both, one));

    assert_eq!(d1.run("piranhactl down web/s2"), "web/s2: kept down\n");
    d1.run("piranhactl down quiet/s2");
    d1.run("piranhactl down own/s1");
    let drained = "  10.0.0.21:80 masq 1\n  10.0.0.22:80 masq 0\n";
    lvsd.wait_shown(&table(one, drained, ""));
    let status = lvsd.status();
    let held = part(&status, "web", "s2");
    assert_eq!((&held["forced"], &held["health"]), (&"down".into(), &"up".into()));
    assert_eq!(part(&status, "own", "s1")["forced"], "down");
    assert_eq!(logged(d1, &["operator: web/s2 kept down"]), 1);
    wait_logged(d1, &["opaque glasses on"], 3);
    // It holds whatever the checks find and the file says.
    wait_checks(&web[1], 2);
    lvsd.reload(&lvs_cf(&[], &blocks));
    lvsd.wait_shown(&table(one, drained, ""));

    d1.run("piranhactl up web/s2");
    d1.run("piranhactl auto quiet/s2");
    d1.run("piranhactl auto own/s1");
    lvsd.wait_shown(&table(both, both, one));
    web[1].stop();
    lvsd.wait_shown(&table(both, drained, one));
    lvsd.wait_status("the checks find it down", |s| part(s, "web", "s2")["health"] == "down");
    d1.run("piranhactl auto web/s2");
    lvsd.wait_shown(&table(one, drained, one));
    web[1].start();
    lvsd.wait_shown(&table(both, both, one));

    let output = d1.output("piranhactl down web/none");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("piranhactl: no active server web/none"), "{said}");
    let shown = d1.run("piranhactl status");
    assert!(shown.contains("web TCP 172.16.0.100:80, nat wlc: 2 of 2 up"), "{shown}");
    lvsd.stop("");
}

#[test]
fn one_process_a_server_where_the_block_names_a_monitor() {
    let site = nat_site(3);
    let d1 = &site.directors[0];
    let web = site.web(80);
    let nanny = programs().join("nanny").display().to_string();
    let own = |block: Virtual| block.with("client_monitor", &nanny);
    let blocks = [
        own(virtual_server("web", 80)).real_servers([1, 2], 80),
        own(virtual_server("quiet", 81)).with("quiesce_server", 1).real_servers([1], 80),
        own(virtual_server("sorry", 82)).with("sorry_server", "10.0.0.23").real_servers([1, 2], 80),
        own(virtual_server("mark", 83)).with("fwmark", 7).real_servers([2], 80),
    ];
    let lvsd = Lvsd::start(d1, &lvs_cf(&[], &blocks));
    let both = "  10.0.0.21:80 masq 1\n  10.0.0.22:80 masq 1\n";
    let table = |web: &str, quiet: &str, sorry: &str, mark: &str| {
        format!(
            "fwmark 7 wlc\n{mark}{WEB} wlc\n{web}tcp 172.16.0.100:81 wlc\n{quiet}\
             tcp 172.16.0.100:82 wlc\n{sorry}"
        )
    };
    let (one, two) = ("  10.0.0.21:80 masq 1\n", "  10.0.0.22:80 masq 1\n");
    let whole = table(both, one, both, two);
    lvsd.wait_shown(&whole);
    let nannies = director::command_lines(d1);
    assert_eq!(nannies.iter().filter(|line| line.contains(" --lvs")).count(), 6, "{nannies:?}");
    let pids: Vec<u32> = ["web/s1", "web/s2"].map(|label| lvsd.monitor(label, 0)).into();
    assert_eq!(logged(d1, &["starting LVS client monitor for 172.16.0.100:80 -> 10.0.0.21:80"]), 1);

    web[0].stop();
    web[1].stop();
    let stands_in = "  10.0.0.23:82 masq 1\n";
    lvsd.wait_shown(&table("", "  10.0.0.21:80 masq 0\n", stands_in, ""));
    assert_eq!(logged(d1, &["CONNECT to 10.0.0.21:80"]), 3);
    assert_eq!(logged(d1, &["CONNECT to 10.0.0.22:80"]), 3);
    assert_eq!(logged(d1, &["[inactive] shutting down 10.0.0.22:80 due to connection failure"]), 3);
    wait_logged(d1, &["Virtual Server sorry: No real servers; activate sorry_server 10.0.0.23"], 1);
    web[0].start();
    web[1].start();
    lvsd.wait_shown(&whole);
    wait_logged(d1, &["Virtual Server sorry: ", "deactivate sorry_server 10.0.0.23"], 1);

    // The original's way to overrule it.
    let signal = |pid: u32, signal: Signal| {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), signal).unwrap();
    };
    signal(pids[0], Signal::SIGUSR1);
    lvsd.wait_shown(&table(two, one, both, two));
    assert_eq!(logged(d1, &["opaque glasses on"]), 1);
    signal(pids[0], Signal::SIGHUP);
    lvsd.wait_shown(&whole);
    signal(pids[0], Signal::SIGUSR2);
    wait_logged(d1, &["rose-colored glasses on"], 1);
    web[0].stop();
    lvsd.wait_shown(&table(both, "  10.0.0.21:80 masq 0\n", two, two));
    signal(pids[0], Signal::SIGHUP);
    lvsd.wait_shown(&table(two, "  10.0.0.21:80 masq 0\n", two, two));
    web[0].start();
    lvsd.wait_shown(&whole);

    // A block without a monitor of its own joins; one loses it.
    let blocks = [
        virtual_server("web", 80).real_servers([1, 2], 80),
        blocks[1].clone(),
        blocks[2].clone(),
        blocks[3].clone(),
    ];
    lvsd.reload(&lvs_cf(&[], &blocks));
    lvsd.wait_shown(&whole);
    director::wait("the two end", || (!pids.iter().any(|pid| director::lives(*pid))).then_some(()));
    let nannies = director::command_lines(d1);
    assert_eq!(nannies.iter().filter(|line| line.contains(" --lvs")).count(), 4, "{nannies:?}");
    assert_eq!(nannies.iter().filter(|line| line.contains(" --pool")).count(), 1, "{nannies:?}");
    lvsd.wait_shown(&whole);
    lvsd.stop("");
}

#[test]
fn beside_a_nanny_of_old_there_is_one_process_a_server() {
    let site = nat_site(2);
    let d1 = &site.directors[0];
    let web = site.web(80);
    let dir = site.lab.dir();
    let new = programs();
    d1.run(format!("cp {} {}", new.join("lvsd").display(), dir.display()));
    let refusal = "nanny: bad argument --pool: unknown option";
    let text = format!(
        "#!/bin/sh\nfor word; do\n  if [ \"$word\" = --pool ]; then echo '{refusal}' >&2; exit 1; fi\n\
         done\nexec {} \"$@\"",
        new.join("nanny").display()
    );
    script(d1, &dir.join("nanny"), &text);
    let blocks = [
        virtual_server("web", 80).real_servers([1, 2], 80),
        virtual_server("sorry", 81).with("sorry_server", "10.0.0.29").real_servers([1], 80),
    ];
    let command = format!("{} -n", dir.join("lvsd").display());
    let lvsd = Lvsd::start_as(d1, &lvs_cf(&[], &blocks), &command);
    let sorry = "tcp 172.16.0.100:81";
    let whole = shown(&[(WEB, 80, &[1, 2]), (sorry, 80, &[1])]);
    lvsd.wait_shown(&whole);
    lvsd.process.wait_for(refusal, PATIENCE).unwrap();
    assert_eq!(logged(d1, &["ended before it took orders", "one process for each server"]), 1);
    // The first line is about the one that refused.
    let first = lvsd.monitor("web/s1", 1);
    web[0].stop();
    lvsd.wait_shown(&format!("{}{sorry} wlc\n  10.0.0.29:81 masq 1\n", shown(&[(WEB, 80, &[2])])));
    web[0].start();
    lvsd.wait_shown(&whole);
    // A reload ends, starts and leaves alone one process each.
    let blocks = [
        virtual_server("web", 80).real_servers([1], 80),
        virtual_server("sorry", 81).real_servers([1], 80),
        virtual_server("new", 82).real_servers([2], 80),
    ];
    lvsd.reload(&lvs_cf(&[], &blocks));
    lvsd.wait_shown(&shown(&[
        (WEB, 80, &[1]),
        (sorry, 80, &[1]),
        ("tcp 172.16.0.100:82", 80, &[2]),
    ]));
    assert!(director::lives(first));
    lvsd.stop("");
}

fn nanny(node: &Node, options: &str) -> Running {
    node.spawn(format!("nanny -c -n -h 10.0.0.21 -t 1 -a 1 {options}"))
}

#[test]
fn a_nanny_alone_keeps_its_entry() {
    let site = nat_site(1);
    let d1 = &site.directors[0];
    let web = site.web(80);
    d1.run(format!("ipvsadm -A -t {}:80 -s wlc", site.vip));
    d1.run("ipvsadm -A -f 5 -s rr");
    let empty = "fwmark 5 rr\ntcp 172.16.0.100:80 wlc\n";
    let lvs = nanny(d1, "-p 80 -V 172.16.0.100 -w 3 --lvs");
    let mark = nanny(d1, "-p 80 -f 5 -q -M g -w 1 --lvs");
    // Neither changes anything, nor says that it would.
    let dry = nanny(d1, "-p 80 -V 172.16.0.100 -w 9 --lvs --test-start");
    let full =
        "fwmark 5 rr\n  10.0.0.21:80 route 1\ntcp 172.16.0.100:80 wlc\n  10.0.0.21:80 masq 1\n";
    wait_shown(d1, full);
    for line in [
        "nanny: no monitor configured, assuming web service on port 80",
        "nanny: starting LVS client monitor for 172.16.0.100:80 -> 10.0.0.21:80",
        "nanny: [ active ] making 10.0.0.21:80 available",
    ] {
        lvs.wait_for(line, PATIENCE).unwrap();
        assert_eq!(lvs.text().lines().filter(|l| *l == line).count(), 1, "{}", lvs.text());
    }
    mark.wait_for("nanny: starting LVS client monitor for FWM 5 -> 10.0.0.21:80", PATIENCE)
        .unwrap();
    let add = "running command \"/sbin/ipvsadm\" \"-a\" \"-t\" \"172.16.0.100:80\" \"-r\" \"10.0.0.21:80\"";
    dry.wait_for(add, PATIENCE).unwrap();
    web[0].set(Behaviour::Reset);
    wait_shown(d1, "fwmark 5 rr\n  10.0.0.21:80 route 0\ntcp 172.16.0.100:80 wlc\n");
    dry.wait_for("\"-d\"", PATIENCE).unwrap();
    web[0].set(Behaviour::http("well\n"));
    wait_shown(d1, full);
    dry.wait_count(add, 2, PATIENCE).unwrap();
    // Somebody else takes the entry away, and puts one there.
    d1.run("ipvsadm -d -t 172.16.0.100:80 -r 10.0.0.21:80");
    web[0].stop();
    lvs.wait_count("[inactive]", 2, PATIENCE).unwrap();
    d1.run("ipvsadm -a -t 172.16.0.100:80 -r 10.0.0.21:80 -m -w 7");
    web[0].start();
    wait_shown(d1, full);
    for (process, signal, number) in
        [(dry, Signal::SIGTERM, 15), (lvs, Signal::SIGTERM, 15), (mark, Signal::SIGINT, 2)]
    {
        process.signal(signal);
        assert!(process.wait_exit(PATIENCE).unwrap().success());
        let line = format!("nanny: Terminating due to signal {number}\n");
        assert!(process.text().contains(&line), "{}", process.text());
    }
    assert_eq!(d1.table().to_string(), empty);
    wait_empty(d1);
}

#[test]
fn a_nanny_for_a_failover_service_ends_with_it() {
    let site = nat_site(1);
    let d1 = &site.directors[0];
    let ftp = site.servers[0].tcp_server("10.0.0.21:21", Behaviour::Banner(b"220 hi\r\n".to_vec()));
    let options = "-p 21 -x 220 --fos";
    let watching = nanny(d1, options);
    watching
        .wait_for("nanny: Failover service monitor for 10.0.0.21:21 started", PATIENCE)
        .unwrap();
    watching.wait_for("nanny: Remote service 10.0.0.21:21 is available", PATIENCE).unwrap();
    let told = nanny(d1, options);
    told.wait_for("is available", PATIENCE).unwrap();
    told.signal(Signal::SIGTERM);
    assert_eq!(told.wait_exit(PATIENCE).unwrap().code(), Some(0));
    ftp.set(Behaviour::Banner(b"421 full\r\n".to_vec()));
    assert_eq!(watching.wait_exit(PATIENCE).unwrap().code(), Some(0));
    let last = watching.lines().pop().unwrap().text;
    assert_eq!(last, "nanny: Exiting due to connection failure of 10.0.0.21:21");

    let never = nanny(d1, options);
    assert_eq!(never.wait_exit(PATIENCE).unwrap().code(), Some(1));
    let last = never.lines().pop().unwrap().text;
    assert_eq!(last, "nanny: Timeout waiting for remote service -- triggering failover!");
    assert_eq!(d1.table().to_string(), "");
}

#[test]
fn the_command_line_in_test_start_is_the_one_that_is_run() {
    let site = nat_site(1);
    let d1 = &site.directors[0];
    let _web = site.web(8080);
    let nanny = programs().join("nanny");
    let block = virtual_server("web", 81)
        .with("client_monitor", nanny.display())
        .with("send", r#""GET / HTTP/1.0\r\n\r\n""#)
        .with("expect", "HTTP")
        .with("quiesce_server", 1)
        .real_servers([1], 8080);
    d1.write(CONFIG, lvs_cf(&[], &[block]));
    let said = d1.run("lvsd -t");
    let start = format!("lvs: running command \"{}\" ", nanny.display());
    let line = said.lines().find_map(|line| line.strip_prefix(&start)).unwrap();
    let words = line.trim_matches('"').split("\" \"");
    let mut command = Command::new(&nanny);
    command.args(words).arg("--nodaemon");
    d1.run("ipvsadm -A -t 172.16.0.100:81 -s wlc");
    let running = d1.spawn(command);
    wait_shown(d1, "tcp 172.16.0.100:81 wlc\n  10.0.0.21:8080 masq 1\n");
    running.signal(Signal::SIGTERM);
    assert!(running.wait_exit(PATIENCE).unwrap().success());
}
