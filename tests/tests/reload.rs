//! A changed lvs.cf: what is applied, what is left alone, and what a reload must not cost.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod director;

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use director::{
    CONFIG, Lvsd, Server, Virtual, lives, logged, lvs_cf, part, programs, replace, script, server,
    virtual_server, wait, wait_logged,
};
use lab::{Behaviour, Lab, Node, PATIENCE, UdpBehaviour, nat_site};
use nix::sys::signal::Signal;

const WEB: &str = "tcp 172.16.0.100:80 wlc\n  10.0.0.21:80 masq 1\n  10.0.0.22:80 masq 1\n";

/// `web` on two servers.
fn web() -> Virtual {
    virtual_server("web", 80).real_servers([1, 2], 80)
}

/// 10.1.0.1, 10.1.0.2, …, all of them on one node.
fn address(number: usize) -> String {
    format!("10.1.{}.{}", number / 250, number % 250 + 1)
}

#[test]
fn one_weight_among_a_thousand_servers_is_one_change() {
    let lab = Lab::new("thousand");
    let d1 = lab.node("d1").nic("eth0", "lan", &["10.0.0.11/24"]).private("/etc/sysconfig/ha");
    let d1 = d1.route("10.1.0.0/16 via 10.0.0.21").build();
    let servers = lab.node("servers").nic("eth0", "lan", &["10.0.0.21/24"]);
    let servers = servers.route("local 10.1.0.0/16 dev lo").build();
    let _web = servers.tcp_server("0.0.0.0:80", Behaviour::http("well\n"));
    let mut block = virtual_server("web", 80).with("timeout", 10);
    for number in 0..1000 {
        let real = server(&format!("s{number}"), &address(number));
        block = block.server(real.with("port", 80).with("weight", 10));
    }
    let config = lvs_cf(&[], std::slice::from_ref(&block));
    let lvsd = Lvsd::start_as(&d1, &config, "lvsd -n -v");
    d1.wait_table(|table| table.count("tcp 172.16.0.100:80") == 1000, PATIENCE).unwrap();
    let before = lvsd.commands();
    // The flush, the service, and its servers, each once.
    assert_eq!(before.len(), 1002, "{:?}", &before[..3]);

    lvsd.reload(&config);
    assert_eq!(lvsd.commands().len(), before.len());
    let changed = block.change("s617", |s| s.with("weight", 0));
    lvsd.reload(&lvs_cf(&[], &[changed]));
    let edit = format!("-e -t 172.16.0.100:80 -r {}:80 -m -w 0", address(617));
    wait("the change", || (lvsd.commands().len() > before.len()).then_some(()));
    assert_eq!(lvsd.commands()[before.len()..], [edit]);
    let table = d1.table();
    let service = &table.services["tcp 172.16.0.100:80"];
    assert_eq!(service.servers.len(), 1000);
    let name = format!("{}:80", address(617));
    for (server, entry) in &service.servers {
        // A thirty-second part of 10 at the start, and not yet more.
        assert!(entry.weight == i32::from(*server != name) || entry.weight == 2, "{server}");
    }
    lvsd.stop("");
}

#[test]
fn an_external_program_is_run_for_the_one_change() {
    let site = nat_site(2);
    let d1 = &site.directors[0];
    let _web = site.web(80);
    let dir = site.lab.dir();
    let (wrapper, log) = (dir.join("wrapper"), dir.join("log"));
    script(
        d1,
        &wrapper,
        &format!("#!/bin/sh\necho \"$*\" >>{}\nexec ipvsadm \"$@\"", log.display()),
    );
    let global = format!("ipvsadm = {}", wrapper.display());
    let changes = || -> Vec<String> {
        let text = fs::read_to_string(&log).unwrap();
        let changes = text.lines().filter(|line| !matches!(line.get(..2), Some("-L" | "-S")));
        changes.map(str::to_owned).collect()
    };
    let lvsd = Lvsd::start(d1, &lvs_cf(&[&global], &[web()]));
    lvsd.wait_shown(WEB);
    let mut began = changes();
    began[2..].sort();
    assert_eq!(
        began,
        [
            "-C",
            "-A -t 172.16.0.100:80 -s wlc",
            "-a -t 172.16.0.100:80 -r 10.0.0.21:80 -m -w 1",
            "-a -t 172.16.0.100:80 -r 10.0.0.22:80 -m -w 1",
        ]
    );
    lvsd.reload(&lvs_cf(&[&global], &[web()]));
    lvsd.reload(&lvs_cf(&[&global], &[web().change("s2", |s| s.with("weight", 5))]));
    d1.wait_table(|t| t.weight("tcp 172.16.0.100:80", "10.0.0.22:80") == Some(5), PATIENCE)
        .unwrap();
    assert_eq!(changes()[4..], ["-e -t 172.16.0.100:80 -r 10.0.0.22:80 -m -w 5"]);
    // From the program to netlink, and to a program that is not there: refused.
    lvsd.reload(&lvs_cf(&[], &[web().change("s2", |s| s.with("weight", 5))]));
    lvsd.write(&lvs_cf(&["ipvsadm = /nonexistent"], &[web()]));
    lvsd.process.signal(Signal::SIGHUP);
    wait_logged(d1, &["/nonexistent", "the configuration stays as it was"], 1);
    assert_eq!(d1.table().weight("tcp 172.16.0.100:80", "10.0.0.22:80"), Some(5));
    lvsd.stop("");
    assert_eq!(changes().len(), 5);
}

/// The configurations of a site that is changed again and again, around the service `long`.
fn restless(round: usize) -> Vec<Virtual> {
    let schedulers = ["wlc", "rr", "wrr", "lc", "sh"];
    let long = virtual_server("long", 7000).real_servers([1], 7000);
    let long = long.with("scheduler", schedulers[round % schedulers.len()]);
    // A second server comes and goes.
    let long = if round.is_multiple_of(3) { long.real_servers([2], 7000) } else { long };
    let other = virtual_server("web", 80)
        .real_servers(1..=1 + round % 2, 80)
        .with("persistent", 60 * (round % 4))
        .change("s1", |s| s.with("weight", round % 7));
    let mut blocks = vec![other, long];
    if !round.is_multiple_of(4) {
        blocks.push(virtual_server(&format!("extra{round}"), 81).real_servers([2], 80));
    }
    if round.is_multiple_of(5) {
        blocks.reverse();
    }
    blocks
}

#[test]
fn a_long_transfer_survives_fifty_reloads() {
    let site = nat_site(2);
    site.activate(0);
    let d1 = &site.directors[0];
    let _web = site.web(80);
    let echo: Vec<_> =
        site.servers.iter().map(|node| node.tcp_server("0.0.0.0:7000", Behaviour::Echo)).collect();
    let lvsd = Lvsd::start(d1, &lvs_cf(&[], &restless(1)));
    let (service, entry) = ("tcp 172.16.0.100:7000", "10.0.0.21:7000");
    d1.wait_table(|table| table.weight(service, entry) == Some(1), PATIENCE).unwrap();
    let address = "172.16.0.100:7000".parse().unwrap();
    let mut stream = site.client.enter(|| TcpStream::connect_timeout(&address, PATIENCE)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut returned = vec![0; 100_000];
    for round in 1..=50_usize {
        lvsd.reload(&lvs_cf(&[], &restless(round)));
        let sent: Vec<u8> = (0..returned.len()).map(|n| (n * round).to_le_bytes()[0]).collect();
        stream.write_all(&sent).unwrap();
        stream.read_exact(&mut returned).unwrap();
        assert!(sent == returned, "round {round}: other bytes came back");
        if round.is_multiple_of(10) {
            let table = d1.table();
            assert_eq!(table.server(service, entry).map(|s| (s.weight, s.active)), Some((1, 1)));
        }
    }
    assert_eq!(logged(d1, &["shutting down 10.0.0.21:7000"]), 0);
    assert_eq!(echo[0].open_connections(), 1);
    drop(stream);
    lvsd.stop("");
}

/// Resident memory in KiB and open descriptors.
fn holdings(pid: u32) -> (u64, usize) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib = line.trim().trim_end_matches(" kB").parse().unwrap();
    (kib, fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count())
}

#[test]
fn a_thousand_reloads_cost_neither_memory_nor_descriptors() {
    let site = nat_site(2);
    let d1 = &site.directors[0];
    let _web = site.web(80);
    let lvsd = Lvsd::start(d1, &lvs_cf(&[], &restless(1)));
    d1.wait_table(|table| table.count("tcp 172.16.0.100:81") == 1, PATIENCE).unwrap();
    let pids = [lvsd.process.pid(), lvsd.monitor("web/s1", 0)];
    let reload = |rounds: usize| {
        for round in 1..=rounds {
            lvsd.reload(&lvs_cf(&[], &restless(round)));
        }
    };
    // All states at rest, the same each time.
    let rest = || {
        lvsd.reload(&lvs_cf(&[], &restless(0)));
        lvsd.reload(&lvs_cf(&[], &restless(1)));
        d1.wait_table(|table| table.count("tcp 172.16.0.100:81") == 1, PATIENCE).unwrap();
        pids.map(holdings)
    };
    reload(100);
    let before = rest();
    reload(1000);
    let descriptors = |all: [(u64, usize); 2]| all.map(|(_, count)| count);
    // A check that goes on just then has a descriptor of its own.
    let mut after = rest();
    wait("descriptors as before", || {
        after = pids.map(holdings);
        let (now, then) = (descriptors(after), descriptors(before));
        (now[0] <= then[0] && now[1] <= then[1]).then_some(())
    });
    println!("lvsd and nanny, KiB and descriptors: {before:?}, after 1000 reloads {after:?}");
    for ((kib_before, _), (kib, _)) in before.into_iter().zip(after) {
        assert!(kib <= kib_before + 512, "{before:?}, after 1000 reloads {after:?}");
    }
    lvsd.stop("");
}

#[test]
fn a_file_that_cannot_be_used_changes_nothing() {
    let site = nat_site(2);
    let d1 = &site.directors[0];
    let _web = site.web(80);
    let lvsd = Lvsd::start(d1, &lvs_cf(&[], &[web()]));
    lvsd.wait_shown(WEB);
    let serial = lvsd.status()["serial_no"].clone();
    let real = d1.path(CONFIG);
    let broken =
        "serial_no = 99\nvirtual other {\n     active = 1\n     adress = 10.0.0.1 eth0\n}\n";
    let remove = |path: &Path| match path.is_dir() {
        true => fs::remove_dir(path).unwrap(),
        false => fs::remove_file(path).unwrap(),
    };
    let cases: [(&str, &dyn Fn(), &str, &str); 5] = [
        (
            "broken",
            &|| replace(&real, broken),
            "error parsing /etc/sysconfig/ha/lvs.cf on line 4.",
            "unknown command",
        ),
        (
            "cut off",
            &|| replace(&real, "serial_no = 99\nvirtual \"web"),
            "on line 2.",
            "quotation mismatch",
        ),
        (
            "empty",
            &|| replace(&real, ""),
            "error parsing /etc/sysconfig/ha/lvs.cf on line 0.",
            "Empty configuration",
        ),
        ("missing", &|| remove(&real), "failed to open /etc/sysconfig/ha/lvs.cf", "No such file"),
        (
            "directory",
            &|| fs::create_dir(&real).unwrap(),
            "failed to open /etc/sysconfig/ha/lvs.cf",
            "Is a directory",
        ),
    ];
    for (count, (name, make, line, reason)) in (1..).zip(cases) {
        let lines = logged(d1, &[line]);
        make();
        lvsd.process.signal(Signal::SIGHUP);
        wait_logged(d1, &["the configuration stays as it was"], count);
        assert_eq!(logged(d1, &[line]), lines + 1, "{name}: {}", lvsd.process.text());
        let status = lvsd.status();
        let error = status["reload_error"].as_str().unwrap_or_default();
        assert!(error.contains(line) && error.contains(reason), "{name}: {error}");
        assert_eq!(status["serial_no"], serial, "{name}");
        assert_eq!(d1.table().to_string(), WEB, "{name}");
    }
    let shown = d1.run("piranhactl status");
    assert!(shown.contains("The last reload changed nothing: "), "{shown}");
    remove(&real);
    lvsd.reload(&lvs_cf(&[], &[web()]));
    assert_eq!(lvsd.status()["reload_error"], serde_json::Value::Null);
    lvsd.stop("");
}

/// Asks `http://172.16.0.100/` over and over while `during` runs; gives back the answers by text.
fn watched(client: &Node, during: impl FnOnce()) -> BTreeMap<String, usize> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut answers = BTreeMap::new();
            while !over.load(Ordering::SeqCst) {
                let answer = match client.get("http://172.16.0.100/") {
                    Ok(response) => response.body,
                    Err(error) => error.to_string(),
                };
                *answers.entry(answer).or_default() += 1;
            }
            answers
        });
        // It must end whether this panics or not.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(during));
        over.store(true, Ordering::SeqCst);
        let answers = asking.join().unwrap();
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        answers
    })
}

/// A change of the block on port 81, the table of it afterwards, and the changes that lead there,
/// in alphabetical order.
struct Step<'a> {
    about: &'a str,
    change: &'a dyn Fn(Virtual) -> Virtual,
    shown: &'a str,
    commands: &'a [&'a str],
}

fn real(change: impl Fn(Server) -> Server, name: &'static str) -> impl Fn(Virtual) -> Virtual {
    move |block| block.change(name, &change)
}

#[test]
fn every_kind_of_change_is_made_and_nothing_else() {
    let site = nat_site(2);
    site.activate(0);
    let d1 = &site.directors[0];
    let (_web, _other) = (site.web(80), site.web(8080));
    let udp = |address| {
        site.servers[if address == 1 { 0 } else { 1 }].udp_server(
            if address == 1 { "10.0.0.21:80" } else { "10.0.0.22:8080" },
            UdpBehaviour::Echo,
        )
    };
    let _udp = [udp(1), udp(2)];
    let both = "  10.0.0.21:80 masq 1\n  10.0.0.22:80 masq 1\n";
    let (s1, s2) = ("  10.0.0.21:80 masq 1\n", "  10.0.0.22:8080 masq 1\n");
    let steps = [
        Step {
            about: "scheduler",
            change: &|b| b.with("scheduler", "rr"),
            shown: &format!("tcp 172.16.0.100:81 rr\n{both}"),
            commands: &["-E -t 172.16.0.100:81 -s rr"],
        },
        Step {
            about: "weight",
            change: &real(|s| s.with("weight", 3), "s1"),
            shown: "tcp 172.16.0.100:81 rr\n  10.0.0.21:80 masq 3\n  10.0.0.22:80 masq 1\n",
            commands: &["-e -t 172.16.0.100:81 -r 10.0.0.21:80 -m -w 3"],
        },
        Step {
            about: "weight again",
            change: &real(|s| s.with("weight", 1), "s1"),
            shown: &format!("tcp 172.16.0.100:81 rr\n{both}"),
            commands: &["-e -t 172.16.0.100:81 -r 10.0.0.21:80 -m -w 1"],
        },
        Step {
            about: "persistence",
            change: &|b| b.with("persistent", 60),
            shown: &format!("tcp 172.16.0.100:81 rr persistent 60\n{both}"),
            commands: &["-E -t 172.16.0.100:81 -s rr -p 60"],
        },
        Step {
            about: "its mask",
            change: &|b| b.with("pmask", "255.255.255.0"),
            shown: &format!("tcp 172.16.0.100:81 rr persistent 60 mask 255.255.255.0\n{both}"),
            commands: &["-E -t 172.16.0.100:81 -s rr -p 60 -M 255.255.255.0"],
        },
        Step {
            about: "no persistence",
            change: &|b| b.with("persistent", 0),
            shown: &format!("tcp 172.16.0.100:81 rr\n{both}"),
            commands: &["-E -t 172.16.0.100:81 -s rr"],
        },
        Step {
            about: "interval and re-entry time",
            change: &|b| b.with("timeout", 2).with("reentry", 4),
            shown: &format!("tcp 172.16.0.100:81 rr\n{both}"),
            commands: &[],
        },
        Step {
            about: "another check",
            change: &|b| b.with("send", r#""HEAD / HTTP/1.0\r\n\r\n""#).with("expect", "H"),
            shown: &format!("tcp 172.16.0.100:81 rr\n{both}"),
            commands: &[],
        },
        Step {
            about: "quiescing",
            change: &|b| b.with("quiesce_server", 1),
            shown: &format!("tcp 172.16.0.100:81 rr\n{both}"),
            commands: &[],
        },
        Step {
            about: "a sorry server",
            change: &|b| b.with("sorry_server", "10.0.0.29"),
            shown: &format!("tcp 172.16.0.100:81 rr\n{both}"),
            commands: &[],
        },
        Step {
            about: "port of a server",
            change: &real(|s| s.with("port", 8080), "s2"),
            shown: &format!("tcp 172.16.0.100:81 rr\n{s1}{s2}"),
            commands: &[
                "-a -t 172.16.0.100:81 -r 10.0.0.22:8080 -m -w 1",
                "-d -t 172.16.0.100:81 -r 10.0.0.22:80",
            ],
        },
        Step {
            about: "a server out of service",
            change: &real(|s| s.with("active", 0), "s1"),
            shown: &format!("tcp 172.16.0.100:81 rr\n{s2}"),
            commands: &["-d -t 172.16.0.100:81 -r 10.0.0.21:80"],
        },
        Step {
            about: "all of them",
            change: &|b| {
                real(|s| s.with("active", 0), "s1")(real(|s| s.with("active", 0), "s2")(b))
            },
            shown: "tcp 172.16.0.100:81 rr\n  10.0.0.29:81 masq 1\n",
            commands: &[
                "-a -t 172.16.0.100:81 -r 10.0.0.29:81 -m -w 1",
                "-d -t 172.16.0.100:81 -r 10.0.0.22:8080",
            ],
        },
        Step {
            about: "another sorry server",
            change: &|b| b.with("sorry_server", "10.0.0.28"),
            shown: "tcp 172.16.0.100:81 rr\n  10.0.0.28:81 masq 1\n",
            commands: &[
                "-a -t 172.16.0.100:81 -r 10.0.0.28:81 -m -w 1",
                "-d -t 172.16.0.100:81 -r 10.0.0.29:81",
            ],
        },
        Step {
            about: "a server back in service",
            change: &real(|s| s.with("active", 1), "s2"),
            shown: &format!("tcp 172.16.0.100:81 rr\n{s2}"),
            commands: &[
                "-a -t 172.16.0.100:81 -r 10.0.0.22:8080 -m -w 1",
                "-d -t 172.16.0.100:81 -r 10.0.0.28:81",
            ],
        },
        Step {
            about: "and the other",
            change: &real(|s| s.with("active", 1), "s1"),
            shown: &format!("tcp 172.16.0.100:81 rr\n{s1}{s2}"),
            commands: &["-a -t 172.16.0.100:81 -r 10.0.0.21:80 -m -w 1"],
        },
        Step {
            about: "another name",
            change: &|mut b| {
                b.name = "renamed".to_owned();
                b
            },
            shown: &format!("tcp 172.16.0.100:81 rr\n{s1}{s2}"),
            commands: &[],
        },
        Step {
            about: "another port",
            change: &|b| b.with("port", 82),
            shown: &format!("tcp 172.16.0.100:82 rr\n{s1}{s2}"),
            commands: &[
                "-A -t 172.16.0.100:82 -s rr",
                "-D -t 172.16.0.100:81",
                "-a -t 172.16.0.100:82 -r 10.0.0.21:80 -m -w 1",
                "-a -t 172.16.0.100:82 -r 10.0.0.22:8080 -m -w 1",
            ],
        },
        Step {
            about: "UDP",
            change: &|b| b.with("protocol", "udp"),
            shown: &format!("udp 172.16.0.100:82 rr\n{s1}{s2}"),
            commands: &[
                "-A -u 172.16.0.100:82 -s rr",
                "-D -t 172.16.0.100:82",
                "-a -u 172.16.0.100:82 -r 10.0.0.21:80 -m -w 1",
                "-a -u 172.16.0.100:82 -r 10.0.0.22:8080 -m -w 1",
            ],
        },
        Step {
            about: "a firewall mark",
            change: &|b| b.with("fwmark", 5),
            shown: &format!("fwmark 5 rr\n{s1}{s2}"),
            commands: &[
                "-A -f 5 -s rr",
                "-D -u 172.16.0.100:82",
                "-a -f 5 -r 10.0.0.21:80 -m -w 1",
                "-a -f 5 -r 10.0.0.22:8080 -m -w 1",
            ],
        },
        Step {
            about: "out of service",
            change: &|b| b.with("active", 0),
            shown: "",
            commands: &["-D -f 5"],
        },
    ];
    let block = || virtual_server("changing", 81).real_servers([1, 2], 80);
    let start = block().with("send", r#""GET / HTTP/1.0\r\n\r\n""#).with("expect", "HTTP");
    let web = || web().with("reentry", 2);
    let lvsd = Lvsd::start_as(d1, &lvs_cf(&[], &[web(), start.clone()]), "lvsd -n -v");
    lvsd.wait_shown(&format!("{WEB}tcp 172.16.0.100:81 wlc\n{both}"));
    let answers = watched(&site.client, || {
        let mut now = start.clone();
        let mut known = lvsd.commands().len();
        for Step { about, change, shown, commands } in &steps {
            now = change(now);
            lvsd.reload(&lvs_cf(&[], &[web(), now.clone()]));
            let whole = match shown.starts_with("fwmark") {
                true => format!("{shown}{WEB}"),
                false => format!("{WEB}{shown}"),
            };
            lvsd.wait_shown(&whole);
            let all = lvsd.commands();
            let mut made = all[known..].to_vec();
            made.sort();
            assert_eq!(made, *commands, "{about}");
            known = all.len();
        }
        // A block more, and IPVS timeouts; then neither.
        let timeouts = ["tcp_timeout = 700", "tcpfin_timeout = 70", "udp_timeout = 7"];
        lvsd.reload(&lvs_cf(&timeouts, &[start.clone(), web()]));
        lvsd.wait_shown(&format!("{WEB}tcp 172.16.0.100:81 wlc\n{both}"));
        let set = d1.run("ipvsadm -L --timeout");
        assert_eq!(set.trim(), "Timeout (tcp tcpfin udp): 700 70 7");
        lvsd.reload(&lvs_cf(&timeouts, &[web()]));
        lvsd.wait_shown(WEB);
        let mut made = lvsd.commands()[known..].to_vec();
        made.sort();
        assert_eq!(
            made,
            [
                "--set 700 70 7",
                "-A -t 172.16.0.100:81 -s wlc",
                "-D -t 172.16.0.100:81",
                "-a -t 172.16.0.100:81 -r 10.0.0.21:80 -m -w 1",
                "-a -t 172.16.0.100:81 -r 10.0.0.22:80 -m -w 1",
            ]
        );
    });
    assert!(answers.keys().eq(["rs1\n", "rs2\n"]), "{answers:?}");
    assert_eq!(logged(d1, &["[inactive]"]), 0);
    assert_eq!(logged(d1, &["starting virtual service web active: 80"]), 1);
    assert_eq!(logged(d1, &["starting virtual service changing active: 81"]), 2);
    assert_eq!(logged(d1, &["starting virtual service renamed active: 82"]), 3);
    assert_eq!(logged(d1, &["create_monitor for changing/s1 running as pid "]), 3);
    assert_eq!(logged(d1, &["shutting down virtual service changing"]), 1);
    assert_eq!(logged(d1, &["shutting down virtual service renamed"]), 4);
    lvsd.stop("");
}

#[test]
fn the_forwarding_method_changes_in_place() {
    let site = nat_site(2);
    let d1 = &site.directors[0];
    let _web = site.web(80);
    let lvsd = Lvsd::start_as(d1, &lvs_cf(&[], &[web()]), "lvsd -n -v");
    lvsd.wait_shown(WEB);
    for (network, word, option) in
        [("direct", "route", "-g"), ("tunnel", "tunnel", "-i"), ("nat", "masq", "-m")]
    {
        let known = lvsd.commands().len();
        lvsd.reload(&lvs_cf(&[&format!("network = {network}")], &[web()]));
        lvsd.wait_shown(&WEB.replace("masq", word));
        assert_eq!(
            lvsd.commands()[known..],
            [21, 22].map(|n| { format!("-e -t 172.16.0.100:80 -r 10.0.0.{n}:80 {option} -w 1") })
        );
    }
    lvsd.stop("");
}

#[test]
fn what_is_known_of_the_servers_stays_known() {
    let site = nat_site(2);
    let d1 = &site.directors[0];
    let servers = site.web(80);
    let nanny = programs().join("nanny");
    let own = |weight: usize| {
        let block = virtual_server("own", 81).with("client_monitor", nanny.display());
        block.real_servers([1, 2], 80).change("s2", |s| s.with("weight", weight))
    };
    // Ten thousand checks would bring a server back: today none comes.
    let steady =
        |weight: usize| web().with("reentry", 10_000).change("s1", |s| s.with("weight", weight));
    let lvsd = Lvsd::start(d1, &lvs_cf(&[], &[steady(1), own(1)]));
    let both = "tcp 172.16.0.100:81 wlc\n  10.0.0.21:80 masq 1\n  10.0.0.22:80 masq 1\n";
    lvsd.wait_shown(&format!("{WEB}{both}"));
    servers[1].stop();
    let without =
        |weight: usize| format!("tcp 172.16.0.100:80 wlc\n  10.0.0.21:80 masq {weight}\n");
    let one = "tcp 172.16.0.100:81 wlc\n  10.0.0.21:80 masq 1\n";
    lvsd.wait_shown(&format!("{}{one}", without(1)));
    servers[1].start();
    lvsd.wait_shown(&format!("{}{both}", without(1)));
    let monitors = [lvsd.monitor("own/s1", 0), lvsd.monitor("own/s2", 0)];
    for weight in 2..=6 {
        lvsd.reload(&lvs_cf(&[], &[steady(weight), own(1)]));
        lvsd.wait_shown(&format!("{}{both}", without(weight)));
    }
    assert!(monitors.into_iter().all(lives));
    assert_eq!(part(&lvsd.status(), "web", "s2")["health"], "down");
    // Of the classic monitors only the one whose server has changed is started again.
    lvsd.reload(&lvs_cf(&[], &[steady(6), own(2)]));
    let fresh = lvsd.monitor("own/s2", 1);
    wait("the old one ends", || (!lives(monitors[1])).then_some(()));
    assert!(lives(monitors[0]) && lives(fresh));
    lvsd.wait_shown(&format!("{}{both}", without(6)));
    let seen = logged(d1, &["[ active ] making 10.0.0.22:80 available"]);
    assert_eq!(seen, 4, "web once, own at the start, at the return, and by the new monitor");
    lvsd.stop("");
}

#[test]
fn a_file_replaced_without_a_signal_changes_nothing() {
    let site = nat_site(2);
    let d1 = &site.directors[0];
    let servers = site.web(80);
    let lvsd = Lvsd::start_as(d1, &lvs_cf(&["serial_no = 5"], &[web()]), "lvsd -n -v");
    lvsd.wait_shown(WEB);
    let known = lvsd.commands();
    // As rsync does it, on the backup, underneath running daemons.
    replace(&d1.path(CONFIG), &lvs_cf(&["serial_no = 6"], &[web().with("scheduler", "rr")]));
    servers[0].wait_connections(servers[0].connections() + 4, PATIENCE).unwrap();
    assert_eq!(lvsd.status()["serial_no"], 5);
    assert_eq!(lvsd.commands(), known);
    assert_eq!(d1.table().to_string(), WEB);
    d1.run("piranhactl reload");
    lvsd.wait_shown(&WEB.replace("wlc", "rr"));
    lvsd.stop("");
}

#[test]
fn a_storm_of_signals_ends_with_the_last_file() {
    let site = nat_site(2);
    let d1 = &site.directors[0];
    let _web = site.web(80);
    let lvsd = Lvsd::start(d1, &lvs_cf(&[], &[web()]));
    lvsd.wait_shown(WEB);
    for round in 1..=100_usize {
        let weight = |s: Server| s.with("weight", round);
        let text = lvs_cf(&[&format!("serial_no = {round}")], &[web().change("s2", weight)]);
        replace(&d1.path(CONFIG), &text);
        lvsd.process.signal(Signal::SIGHUP);
    }
    lvsd.wait_status("the last file is in force", |status| status["serial_no"] == 100);
    lvsd.wait_shown(&WEB.replace("22:80 masq 1\n", "22:80 masq 100\n"));
    assert_eq!(lvsd.status()["reload_error"], serde_json::Value::Null);
    lvsd.stop("");
}

#[test]
fn a_file_that_is_slow_to_read_holds_nothing_up() {
    let site = nat_site(2);
    let d1 = &site.directors[0];
    let servers = site.web(80);
    let lvsd = Lvsd::start(d1, &lvs_cf(&[], &[web()]));
    lvsd.wait_shown(WEB);
    // Nobody has written to it yet. (A name server that does not answer has the same effect.)
    let (file, pipe) = (d1.path(CONFIG), site.lab.dir().join("pipe"));
    d1.run(format!("mkfifo {}", pipe.display()));
    fs::rename(&pipe, &file).unwrap();
    lvsd.process.signal(Signal::SIGHUP);
    lvsd.process.wait_for("rereading configuration file", PATIENCE).unwrap();
    servers[0].stop();
    let one = "tcp 172.16.0.100:80 wlc\n  10.0.0.22:80 masq 1\n";
    lvsd.wait_shown(one);
    assert_eq!(d1.run("piranhactl reload"), "rereading the configuration\n");
    assert_eq!(lvsd.status()["serial_no"], 0);
    // What is asked for meanwhile is done afterwards, with the file as it is by then.
    fs::rename(&file, &pipe).unwrap();
    replace(&file, &lvs_cf(&["serial_no = 2"], &[web().with("scheduler", "rr")]));
    fs::write(&pipe, lvs_cf(&["serial_no = 1"], &[web().with("scheduler", "lc")])).unwrap();
    lvsd.wait_status("the last file is in force", |status| status["serial_no"] == 2);
    lvsd.wait_shown(&one.replace("wlc", "rr"));
    lvsd.process.wait_count("rereading configuration file", 2, PATIENCE).unwrap();

    // One that is never read to its end does not keep lvsd from ending.
    fs::rename(&pipe, &file).unwrap();
    lvsd.process.signal(Signal::SIGHUP);
    lvsd.process.wait_count("rereading configuration file", 3, PATIENCE).unwrap();
    lvsd.stop("");
}
