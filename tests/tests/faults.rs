//! What must not happen, and what lvsd and nanny make of it: killed processes, hostile clients,
//! misbehaving check programs, a table that others change, a machine that lacks something.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod director;

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr},
    os::unix::{fs::PermissionsExt, net::UnixDatagram, net::UnixStream},
    path::Path,
    time::Duration,
};

use director::{
    CONFIG, Lvsd, SOCKET, Virtual, ask, command_lines, lives, logged, lvs_cf, part, programs,
    script, server, status, virtual_server, wait, wait_empty, wait_logged, wait_shown,
};
use lab::{Behaviour, Lab, Node, PATIENCE, Site, TcpServer, nat_site};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const FOREIGN: &str = "tcp 192.0.2.1:80 rr\n";
const PIDFILE: &str = "/run/lvs.pid";

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

/// A service of somebody else's.
fn add_foreign(node: &Node) {
    node.run("ipvsadm -A -t 192.0.2.1:80 -s rr");
}

/// `web` on two servers, and how the table shows it.
fn web() -> Virtual {
    virtual_server("web", 80).real_servers([1, 2], 80)
}

const WEB: &str = "tcp 172.16.0.100:80 wlc\n  10.0.0.21:80 masq 1\n  10.0.0.22:80 masq 1\n";

/// A site of two servers that answer.
fn small_site() -> (Site, Vec<TcpServer>) {
    let site = nat_site(2);
    let web = site.web(80);
    (site, web)
}

fn own_monitor(block: Virtual) -> Virtual {
    block.with("client_monitor", programs().join("nanny").display())
}

#[test]
fn a_monitor_that_dies_takes_lvsd_down_unless_told_otherwise() {
    let (site, _web) = small_site();
    let d1 = &site.directors[0];
    let cases = [
        (web(), "nanny for child web/s1 (and 1 more) died! shutting down lvs"),
        (own_monitor(web()), "nanny for child web/s1 died! shutting down lvs"),
    ];
    for (block, line) in cases {
        let lvsd = Lvsd::start(d1, &lvs_cf(&[], &[block]));
        lvsd.wait_shown(WEB);
        add_foreign(d1);
        signal(lvsd.monitor("web/s1", 0), Signal::SIGKILL);
        assert_eq!(lvsd.process.wait_exit(PATIENCE).unwrap().code(), Some(1));
        assert_eq!(d1.table().to_string(), FOREIGN);
        assert_eq!(logged(d1, &[line]), 1, "{line}");
        assert!(!d1.path(SOCKET).exists() && !d1.path(PIDFILE).exists());
        wait_empty(d1);
        d1.run("ipvsadm -C");
    }
    // Signal 9 is what lvsd saw.
    assert_eq!(logged(d1, &["nanny terminated with signal 9"]), 2);
}

#[test]
fn a_monitor_that_dies_is_replaced_and_its_servers_stay() {
    let (site, servers) = small_site();
    let d1 = &site.directors[0];
    let own_block =
        || own_monitor(virtual_server("own", 81)).with("send", "x").real_servers([1], 80);
    let config = lvs_cf(&["hard_shutdown = 0"], &[web(), own_block()]);
    let whole = format!("{WEB}tcp 172.16.0.100:81 wlc\n  10.0.0.21:80 masq 1\n");
    let lvsd = Lvsd::start_as(d1, &config, "lvsd -n -v");
    lvsd.wait_shown(&whole);
    d1.run("piranhactl down web/s2");
    d1.run("piranhactl down own/s1");
    let held = "tcp 172.16.0.100:80 wlc\n  10.0.0.21:80 masq 1\ntcp 172.16.0.100:81 wlc\n";
    lvsd.wait_shown(held);
    // Of the pooled servers only the one that was told to.
    let removals = || lvsd.process.text().matches("\"-d\" \"-t\" \"172.16.0.100:80\"").count();
    assert_eq!(removals(), 1);

    let (pool, own) = (lvsd.monitor("web/s1", 0), lvsd.monitor("own/s1", 0));
    signal(pool, Signal::SIGKILL);
    signal(own, Signal::SIGKILL);
    let (new_pool, new_own) = (lvsd.monitor("web/s1", 1), lvsd.monitor("own/s1", 1));
    assert_eq!(logged(d1, &["nanny for child web/s1 (and 1 more) died! manual action needed!"]), 1);
    assert_eq!(logged(d1, &["nanny for child own/s1 died! manual action needed!"]), 1);
    // The new ones know what the operator has ordered, and what the old ones had found.
    servers[1].wait_connections(servers[1].connections() + 2, PATIENCE).unwrap();
    lvsd.wait_status("checked anew", |s| part(s, "web", "s1")["check_us"].is_number());
    assert_eq!(d1.table().to_string(), held);
    assert_eq!(part(&lvsd.status(), "web", "s2")["forced"], "down");
    assert_eq!(removals(), 1);
    d1.run("piranhactl auto web/s2");
    d1.run("piranhactl auto own/s1");
    lvsd.wait_shown(&whole);
    servers[0].stop();
    lvsd.wait_shown("tcp 172.16.0.100:80 wlc\n  10.0.0.22:80 masq 1\ntcp 172.16.0.100:81 wlc\n");
    // One that has its full weight does not begin anew, and one that was down may come back.
    let web = web().change("s2", |s| s.with("weight", 100));
    lvsd.reload(&lvs_cf(&["hard_shutdown = 0"], &[web, own_block()]));
    let heavy = "tcp 172.16.0.100:80 wlc\n  10.0.0.22:80 masq 100\n";
    lvsd.wait_shown(&format!("{heavy}tcp 172.16.0.100:81 wlc\n"));
    signal(new_pool, Signal::SIGKILL);
    lvsd.monitor("web/s1", 2);
    servers[0].start();
    lvsd.wait_shown(&whole.replace("22:80 masq 1\n", "22:80 masq 100\n"));
    assert_eq!(lvsd.process.text().matches("\"10.0.0.22:80\" \"-m\" \"-w\"").count(), 3);
    assert_eq!(removals(), 2);
    assert!(!lives(pool) && !lives(own) && lives(new_own));
    lvsd.stop("");
}

#[test]
fn a_monitor_that_hangs_holds_nothing_up() {
    let (site, _web) = small_site();
    let d1 = &site.directors[0];
    let lvsd = Lvsd::start(d1, &lvs_cf(&[], &[web()]));
    lvsd.wait_shown(WEB);
    signal(lvsd.monitor("web/s1", 0), Signal::SIGSTOP);
    // What only the monitor knows is missing; the rest is told.
    let status = lvsd.status();
    let known = part(&status, "web", "s1");
    assert_eq!((&known["up"], &known["weight_kernel"]), (&true.into(), &1.into()));
    assert!(known["health"].is_null(), "{known}");
    lvsd.reload(&lvs_cf(&[], &[web().with("scheduler", "rr")]));
    lvsd.wait_shown(&WEB.replace("wlc", "rr"));
    lvsd.stop("");
}

#[test]
fn after_a_crash_nothing_runs_on_and_the_next_lvsd_starts_over_what_is_left() {
    let (site, _web) = small_site();
    let d1 = &site.directors[0];
    let hangs = site.lab.dir().join("hangs");
    script(d1, &hangs, "#!/bin/sh\ntrap '' TERM\nsleep 1000 &\nsleep 1000");
    let checked = virtual_server("hangs", 81).with("send_program", hangs.display());
    let own = own_monitor(virtual_server("own", 82)).real_servers([1], 80);
    let blocks = [web(), checked.with("timeout", 20).real_servers([1], 80), own];
    let config = lvs_cf(&[], &blocks);
    let whole =
        format!("{WEB}tcp 172.16.0.100:81 wlc\ntcp 172.16.0.100:82 wlc\n  10.0.0.21:80 masq 1\n");
    let old = Lvsd::start(d1, &config);
    old.wait_shown(&whole);
    wait("the check runs", || {
        (command_lines(d1).iter().filter(|line| line.starts_with("sleep")).count() == 2)
            .then_some(())
    });
    add_foreign(d1);
    d1.run("ipvsadm -a -t 172.16.0.100:80 -r 10.0.0.99:80 -m");
    old.process.signal(Signal::SIGKILL);
    old.process.wait_exit(PATIENCE).unwrap();
    wait_empty(d1);
    assert_eq!(logged(d1, &["lvsd is gone; ending"]), 1);
    assert!(d1.path(SOCKET).exists() && d1.path(PIDFILE).exists());
    // The table serves on as it was until somebody takes charge of it.
    let stale = whole.replacen("22:80 masq 1\n", "22:80 masq 1\n  10.0.0.99:80 masq 1\n", 1);
    assert_eq!(d1.table().to_string(), format!("{stale}{FOREIGN}"));
    let output = d1.output("piranhactl status");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("lvsd is not running"), "{said}");

    let new = Lvsd::start(d1, &config);
    new.wait_shown(&whole);
    let pid = fs::read_to_string(d1.path(PIDFILE)).unwrap();
    assert_eq!(pid, format!("{}\n", new.process.pid()));
    // A second one is refused, and leaves everything as it is.
    let second = d1.output("lvsd -n");
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stdout);
    assert!(said.contains("another process answers here"), "{said}");
    assert_eq!(d1.table().to_string(), whole);
    assert_eq!(fs::read_to_string(d1.path(PIDFILE)).unwrap(), pid);
    assert_eq!(new.status()["pid"], new.process.pid());
    new.stop("");
}

#[test]
fn a_daemon_leaves_with_all_that_is_its_own() {
    let (site, _web) = small_site();
    let d1 = &site.directors[0];
    d1.write(
        CONFIG,
        lvs_cf(&[], &[web(), own_monitor(virtual_server("own", 81)).real_servers([1], 80)]),
    );
    let whole = format!("{WEB}tcp 172.16.0.100:81 wlc\n  10.0.0.21:80 masq 1\n");
    for (command, number) in [("lvsd", Signal::SIGTERM), ("lvsd -v", Signal::SIGINT)] {
        assert_eq!(d1.run(command), "");
        wait_shown(d1, &whole);
        add_foreign(d1);
        let mode = fs::metadata(d1.path(SOCKET)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        let pid: u32 = fs::read_to_string(d1.path(PIDFILE)).unwrap().trim().parse().unwrap();
        assert_eq!(status(d1).unwrap()["pid"], pid);
        // No terminal, no descriptor of whoever started it, and `/` as its directory.
        for number in 0..3 {
            let target = fs::read_link(format!("/proc/{pid}/fd/{number}")).unwrap();
            assert_eq!(target, Path::new("/dev/null"));
        }
        assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), Path::new("/"));
        signal(pid, number);
        wait_empty(d1);
        assert_eq!(d1.table().to_string(), FOREIGN);
        assert!(!d1.path(SOCKET).exists() && !d1.path(PIDFILE).exists());
        let text = format!("shutting down due to signal {}", number as i32);
        assert_eq!(logged(d1, &[&text]), 1, "{text}");
    }
}

#[test]
fn without_forking_it_leaves_the_terminal_all_the_same() {
    let (site, _web) = small_site();
    let d1 = &site.directors[0];
    let lvsd = Lvsd::start_as(d1, &lvs_cf(&[], &[web()]), "lvsd --nofork");
    lvsd.wait_shown(WEB);
    let pid = fs::read_to_string(d1.path(PIDFILE)).unwrap();
    assert_eq!(pid, format!("{}\n", lvsd.process.pid()));
    let output = fs::read_link(format!("/proc/{}/fd/1", lvsd.process.pid())).unwrap();
    assert_eq!(output, Path::new("/dev/null"));
    assert_eq!(lvsd.process.text(), "");
    wait_logged(d1, &["starting virtual service web active: 80"], 1);
    lvsd.stop("");
}

fn connect(node: &Node) -> UnixStream {
    let stream = UnixStream::connect(node.path(SOCKET)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn garbage_on_the_control_socket_is_answered_or_hung_up_on() {
    let (site, _web) = small_site();
    let d1 = &site.directors[0];
    let lvsd = Lvsd::start(d1, &lvs_cf(&[], &[web()]));
    lvsd.wait_shown(WEB);
    let deep = "[".repeat(60_000);
    let bomb = format!(r#"{{"command":{deep}"#);
    let wide = format!(r#"{{"command":"halt","x":[{}0]}}"#, "0,".repeat(30_000));
    for request in [
        "",
        "{}",
        "null",
        "nonsense",
        r#"{"command":"format"}"#,
        r#"{"command":"force"}"#,
        r#"{"command":"force","server":"web/s1","to":"sideways"}"#,
        r#"{"command":"force","server":7,"to":"up"}"#,
        "{\"command\":\"status\"\0}",
        &deep,
        &bomb,
        &wide,
    ] {
        let answer = ask(d1, request);
        let shown = &request[..request.len().min(60)];
        let error = answer.as_ref().and_then(|answer| answer["error"].as_str());
        assert!(error.is_some_and(|e| e.starts_with("not understood")), "{shown}: {answer:?}");
    }
    // Every byte there is, again and again, some of them line ends.
    let mut noise = connect(d1);
    let bytes: Vec<u8> =
        (0..64 * 1024_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
    noise.write_all(&bytes).unwrap();
    // A line without an end.
    let mut endless = connect(d1);
    let broken_off = loop {
        if let Err(error) = endless.write(&[b'x'; 65_536]) {
            break error;
        }
    };
    assert!(
        matches!(broken_off.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset),
        "{broken_off}"
    );
    // Who asks and never reads, who asks half a question, who leaves at once, and a crowd of them.
    let mut deaf = connect(d1);
    deaf.write_all(&b"{\"command\":\"status\"}\n".repeat(50)).unwrap();
    let mut half = connect(d1);
    half.write_all(b"{\"command\":").unwrap();
    drop(connect(d1));
    let mut crowd: Vec<UnixStream> = (0..1000).map(|_| connect(d1)).collect();
    assert_eq!(crowd[0].read(&mut [0]).unwrap(), 0, "the oldest of a crowd is hung up on");
    let shown = d1.run("piranhactl status");
    assert!(shown.contains("2 of 2 up"), "{shown}");
    crowd[999].write_all(b"{\"command\":\"status\"}\n").unwrap();
    assert_eq!(crowd[999].read(&mut [0]).unwrap(), 1);
    drop(crowd);
    let open = || fs::read_dir(format!("/proc/{}/fd", lvsd.process.pid())).unwrap().count();
    drop((noise, endless, deaf, half));
    wait("descriptors are closed", || (open() < 40).then_some(()));
    assert_eq!(d1.table().to_string(), WEB);
    lvsd.stop("");
}

/// A check program, its expect, whether its server is up by it, and what the log says of it once.
struct Program {
    name: &'static str,
    text: &'static str,
    expect: Option<&'static str>,
    up: bool,
    log: &'static [&'static str],
}

const PROGRAMS: [Program; 14] = [
    Program {
        name: "forks",
        text: "sleep 1000 &\nwait",
        expect: Some("OK"),
        up: false,
        log: &["timeout running the following: ", "/forks 10.0.0.21"],
    },
    Program {
        name: "hangs",
        text: "echo O\nexec sleep 1000",
        expect: Some("OK"),
        up: false,
        log: &["timeout running the following: ", "/hangs 10.0.0.21"],
    },
    Program {
        name: "stubborn",
        text: "trap '' TERM INT HUP QUIT\nsleep 1000\nsleep 1000",
        expect: None,
        up: false,
        log: &["timeout running the following: ", "/stubborn 10.0.0.21"],
    },
    Program {
        name: "floods",
        text: "exec head -c 100000000 /dev/zero",
        expect: Some("OK"),
        up: false,
        log: &["Trouble. Received results are not what we expected from (10.0.0.21:84)"],
    },
    Program {
        name: "verbose",
        text: "exec head -c 1000000 /dev/zero",
        expect: None,
        up: true,
        log: &[],
    },
    Program {
        name: "plain", // not executable
        text: "echo OK",
        expect: Some("OK"),
        up: false,
        log: &["cannot run the check program: Permission denied", "/plain 10.0.0.21"],
    },
    Program {
        name: "missing", // not there at all
        text: "",
        expect: Some("OK"),
        up: false,
        log: &["cannot run the check program: ", "does not exist", "/missing 10.0.0.21"],
    },
    Program {
        name: "backgrounds",
        text: "sleep 1000 &\necho OK",
        expect: Some("OK"),
        up: true,
        log: &[],
    },
    Program {
        name: "silent",
        text: "exit 0",
        expect: Some("OK"),
        up: false,
        log: &["Ran the external sending program to (10.0.0.21:89) but didn't get anything back"],
    },
    Program {
        name: "fails",
        text: "exit 3",
        expect: Some("OK"),
        up: false,
        log: &["The following exited abnormally: ", "/fails 10.0.0.21", "exited with status 3"],
    },
    Program {
        name: "signalled",
        text: "kill -9 $$",
        expect: None,
        up: false,
        log: &["The following exited abnormally: ", "/signalled 10.0.0.21", "signal 9"],
    },
    Program { name: "succeeds", text: "exit 0", expect: None, up: true, log: &[] },
    Program {
        name: "answers", // what it prints counts, not how it ends
        text: "echo OK\nexit 1",
        expect: Some("OK"),
        up: true,
        log: &[],
    },
    Program {
        name: "longer",
        text: "echo OK\necho",
        expect: Some("OK"),
        up: false,
        log: &["Trouble. Received results are not what we expected from (10.0.0.21:94)", "OK\\n"],
    },
];

#[test]
fn check_programs_cannot_do_harm() {
    let site = nat_site(1);
    let d1 = &site.directors[0];
    let dir = site.lab.dir();
    let mut blocks = Vec::new();
    let mut shown = String::new();
    for (port, program) in (81_u16..).zip(&PROGRAMS) {
        let path = dir.join(program.name);
        if program.name != "missing" {
            script(d1, &path, &format!("#!/bin/sh\n{}", program.text));
        }
        if program.name == "plain" {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        }
        let command = format!("\"{} %h\"", path.display());
        let block = virtual_server(program.name, port).with("send_program", command);
        // Time enough for those that end by themselves, on a machine with one slow processor.
        let block = block.with(
            "timeout",
            if program.text.contains("sleep 1000") && !program.up { 1 } else { 5 },
        );
        let block = match program.expect {
            Some(expect) => block.with("expect", expect),
            None => block,
        };
        blocks.push(block.real_servers([1], port));
        shown += &format!("tcp 172.16.0.100:{port} wlc\n");
        if program.up {
            shown += &format!("  10.0.0.21:{port} masq 1\n");
        }
    }
    let lvsd = Lvsd::start(d1, &lvs_cf(&[], &blocks));
    lvsd.wait_shown(&shown);
    for Program { name, log, .. } in PROGRAMS.iter().filter(|program| !program.up) {
        wait_logged(d1, log, 1);
        // Until it has been found so, nothing is known of it.
        lvsd.wait_status(name, |status| part(status, name, "s1")["health"] == "down");
    }
    assert_eq!(d1.table().to_string(), shown);
    for Program { log, .. } in PROGRAMS.iter().filter(|program| !program.up) {
        assert_eq!(logged(d1, log), 1, "{log:?}");
    }
    // What "backgrounds" leaves behind goes with it, and none of the many is a zombie for long.
    let monitor = lvsd.monitor("forks/s1", 0);
    wait("nothing is left behind", || {
        let lines = command_lines(d1);
        (lines.iter().filter(|line| line.starts_with("sleep")).count() <= 3).then_some(())
    });
    wait("no zombies", || d1.processes().into_iter().all(lives).then_some(()));
    assert!(lives(monitor));
    lvsd.stop("");
}

#[test]
fn a_table_that_somebody_changes_is_mended_and_foreign_services_are_not_touched() {
    let (site, _web) = small_site();
    let d1 = &site.directors[0];
    let sorry =
        virtual_server("sorry", 81).with("sorry_server", "10.0.0.22").with("persistent", 60);
    // Nobody answers there.
    let sorry = sorry.server(server("s1", "10.0.0.21").with("port", 9));
    let lvsd = Lvsd::start(d1, &lvs_cf(&[], &[web(), sorry]));
    let ours = format!("{WEB}tcp 172.16.0.100:81 wlc persistent 60\n  10.0.0.22:81 masq 1\n");
    lvsd.wait_shown(&ours);
    add_foreign(d1);
    d1.run("ipvsadm -a -t 192.0.2.1:80 -r 10.0.0.21:80 -m -w 9");
    let whole = format!("{ours}{FOREIGN}  10.0.0.21:80 masq 9\n");
    for (count, command) in (1..).zip([
        "-d -t 172.16.0.100:80 -r 10.0.0.21:80",
        "-e -t 172.16.0.100:80 -r 10.0.0.22:80 -m -w 7",
        "-e -t 172.16.0.100:80 -r 10.0.0.22:80 -g -w 1",
        "-a -t 172.16.0.100:80 -r 10.0.0.23:80 -m",
        "-d -t 172.16.0.100:81 -r 10.0.0.22:81",
        "-E -t 172.16.0.100:81 -s rr",
        "-D -t 172.16.0.100:80",
    ]) {
        d1.run(format!("ipvsadm {command}"));
        assert_ne!(d1.table().to_string(), whole, "{command}");
        lvsd.wait_shown(&whole);
        let repairs = "somebody else has changed the IPVS table; ";
        assert_eq!(logged(d1, &[repairs]), count, "{command}");
    }
    d1.run("ipvsadm -C");
    lvsd.wait_shown(&ours);
    add_foreign(d1);
    lvsd.stop(FOREIGN);

    // Monitors that change the table themselves learn of it too.
    let own = own_monitor(web());
    let lvsd = Lvsd::start(d1, &lvs_cf(&[], &[own.with("sorry_server", "10.0.0.29")]));
    lvsd.wait_shown(WEB);
    for _ in 0..2 {
        d1.run("ipvsadm -D -t 172.16.0.100:80");
        lvsd.wait_shown(WEB);
    }
    lvsd.stop("");
}

#[test]
fn a_signal_to_the_whole_group_is_a_plain_end() {
    let (site, _web) = small_site();
    let d1 = &site.directors[0];
    let own = own_monitor(virtual_server("own", 81)).real_servers([1, 2], 80);
    let config = lvs_cf(&[], &[web(), own]);
    let own = "tcp 172.16.0.100:81 wlc\n  10.0.0.21:80 masq 1\n  10.0.0.22:80 masq 1\n";
    // What a terminal does at Ctrl-C, and a service manager that ends a service.
    for number in [Signal::SIGINT, Signal::SIGTERM] {
        let lvsd = Lvsd::start(d1, &config);
        lvsd.wait_shown(&format!("{WEB}{own}"));
        lvsd.process.signal_group(number);
        assert!(lvsd.process.wait_exit(PATIENCE).unwrap().success(), "{}", lvsd.process.text());
        assert_eq!(d1.table().to_string(), "");
        wait_empty(d1);
    }
    assert_eq!(logged(d1, &["died!"]), 0);
}

/// Keeps modprobe from loading a scheduler, until it is dropped.
struct NoModule(&'static str);

impl NoModule {
    fn new(node: &Node, module: &'static str) -> Self {
        let no_module = Self(module);
        fs::create_dir_all("/etc/modprobe.d").unwrap();
        fs::write(no_module.path(), format!("install {module} /bin/false\n")).unwrap();
        // It fails where it is not loaded.
        let _ = node.output(format!("modprobe -r {module}"));
        no_module
    }

    fn path(&self) -> String {
        format!("/etc/modprobe.d/laboratory-{}.conf", self.0)
    }
}

impl Drop for NoModule {
    fn drop(&mut self) {
        // Where it fails, the file is in the way of nobody but later tests of the same name.
        let _ = fs::remove_file(self.path());
    }
}

#[test]
fn a_missing_scheduler_costs_its_block_alone_until_it_comes() {
    let (site, _web) = small_site();
    let d1 = &site.directors[0];
    let no_module = NoModule::new(d1, "ip_vs_dh");
    if site.client.output("ipvsadm -A -f 1 -s dh").status.success() {
        // The machine's own kernel, which looks for modules outside the view that tests have.
        eprintln!("this kernel has the scheduler dh whatever the test does: nothing to see here");
        return;
    }
    let hashed = virtual_server("hashed", 81).with("scheduler", "dh").real_servers([1], 80);
    let lvsd = Lvsd::start(d1, &lvs_cf(&[], &[hashed, web()]));
    lvsd.wait_shown(WEB);
    wait_logged(d1, &["ipvsadm failed for virtual server hashed!", "dh"], 1);
    let status = lvsd.status();
    let block = &status["virtual_servers"][0];
    assert!(block["problem"].as_str().is_some_and(|problem| problem.contains("dh")), "{block}");
    assert_eq!(block["in_kernel"], false);
    let shown = d1.run("piranhactl status");
    assert!(shown.contains("NOT in the kernel's table") && shown.contains("PROBLEM: "), "{shown}");
    drop(no_module);
    let whole = format!("{WEB}tcp 172.16.0.100:81 dh\n  10.0.0.21:80 masq 1\n");
    lvsd.wait_shown(&whole);
    lvsd.wait_status("no problem", |s| s["virtual_servers"][0]["problem"].is_null());
    assert_eq!(logged(d1, &["ipvsadm failed for virtual server hashed!"]), 1);
    lvsd.stop("");
}

#[test]
fn without_the_right_to_it_lvsd_says_so_and_ends() {
    let (site, _web) = small_site();
    let d1 = &site.directors[0];
    add_foreign(d1);
    d1.write(CONFIG, lvs_cf(&[], &[web()]));
    // Where the programs are need not be a place that everybody may enter.
    d1.shell(&format!(
        "cp {}/lvsd {}/nanny /run/ && chmod 755 /run",
        programs().display(),
        programs().display()
    ));
    for command in [
        "capsh --drop=cap_net_admin -- -c",
        "setpriv --reuid 65534 --regid 65534 --clear-groups sh -c",
    ] {
        let mut words = command.split(' ');
        let mut process = std::process::Command::new(words.next().unwrap());
        process.args(words).arg("exec /run/lvsd -n");
        let output = d1.output(process);
        assert_eq!(output.status.code(), Some(1), "{command}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.starts_with("lvs: ") && said.contains("CAP_NET_ADMIN"), "{command}: {said}");
    }
    assert_eq!(d1.table().to_string(), FOREIGN);
}

#[test]
fn without_room_in_run_the_table_is_kept_all_the_same() {
    let (site, servers) = small_site();
    let d1 = &site.directors[0];
    d1.write(CONFIG, lvs_cf(&[], &[web()]));
    // No room for anything, then not even the right to write.
    d1.run("mount -t tmpfs -o size=4k,nr_inodes=1 tmpfs /run");
    for reason in ["No space left on device", "Read-only file system"] {
        let lvsd = d1.spawn("lvsd -n");
        wait_shown(d1, WEB);
        lvsd.wait_for(&format!("lvs: pid file /var/run/lvs.pid: {reason}"), PATIENCE).unwrap();
        let line = lvsd.wait_for("lvs: control socket /run/piranha/lvsd.sock: ", PATIENCE).unwrap();
        assert!(line.text.contains(reason), "{}", line.text);
        servers[1].stop();
        wait_shown(d1, "tcp 172.16.0.100:80 wlc\n  10.0.0.21:80 masq 1\n");
        servers[1].start();
        wait_shown(d1, WEB);
        lvsd.signal(Signal::SIGTERM);
        assert!(lvsd.wait_exit(PATIENCE).unwrap().success());
        assert_eq!(d1.table().to_string(), "");
        wait_empty(d1);
        d1.run("mount -o remount,ro /run");
    }
}

#[test]
fn with_few_descriptors_every_server_is_checked_and_none_is_blamed() {
    let lab = Lab::new("few");
    let d1 = lab.node("d1").nic("eth0", "lan", &["10.0.0.11/24"]).private("/etc/sysconfig/ha");
    let d1 = d1.route("10.1.0.0/16 via 10.0.0.21").build();
    let servers = lab.node("servers").nic("eth0", "lan", &["10.0.0.21/24"]);
    let servers = servers.route("local 10.1.0.0/16 dev lo").build();
    let web = servers.tcp_server("0.0.0.0:80", Behaviour::http("all\n"));
    let address = |n: u8| Ipv4Addr::new(10, 1, 0, n);
    let numbers = 1..=200_u8;
    let mut block = virtual_server("web", 80).with("timeout", 5);
    for n in numbers.clone() {
        block = block.server(server(&format!("s{n}"), &address(n).to_string()).with("port", 80));
    }
    let command = "prlimit --nofile=64 lvsd -n";
    let lvsd = Lvsd::start_as(&d1, &lvs_cf(&[], &[block]), command);
    d1.wait_table(|table| table.count("tcp 172.16.0.100:80") == 200, PATIENCE).unwrap();
    for n in numbers {
        wait("a second check", || (web.connections_at(IpAddr::V4(address(n))) >= 2).then_some(()));
    }
    assert_eq!(logged(&d1, &["[inactive]"]), 0);
    assert_eq!(logged(&d1, &["CONNECT to"]), 0);
    assert_eq!(d1.table().count("tcp 172.16.0.100:80"), 200);
    lvsd.stop("");
}

#[test]
fn neither_a_closed_terminal_nor_a_stuck_syslog_stops_the_work() {
    let (site, servers) = small_site();
    let d1 = &site.directors[0];
    let dir = site.lab.dir();
    d1.write(CONFIG, lvs_cf(&[], &[web()]));
    let works = || {
        wait_shown(d1, WEB);
        servers[0].stop();
        wait_shown(d1, "tcp 172.16.0.100:80 wlc\n  10.0.0.22:80 masq 1\n");
        servers[0].start();
        wait_shown(d1, WEB);
    };
    for command in ["exec lvsd -n -v >&- 2>&- <&-", "lvsd -n -v 2>&1 | true"] {
        let path = dir.join("start");
        script(d1, &path, &format!("#!/bin/sh\n{command}"));
        let running = d1.spawn(path.display().to_string());
        works();
        let pid: u32 = fs::read_to_string(d1.path(PIDFILE)).unwrap().trim().parse().unwrap();
        signal(pid, Signal::SIGTERM);
        running.wait_exit(PATIENCE).unwrap();
        wait_empty(d1);
        assert_eq!(d1.table().to_string(), "");
    }

    // A syslogd that is there and reads nothing. Its queue takes a few lines.
    let path = dir.join("stuck");
    let syslogd = UnixDatagram::bind(&path).unwrap();
    d1.run(format!("mount --bind {} /dev/log", path.display()));
    let lvsd = Lvsd::start_as(d1, &lvs_cf(&[], &[web()]), "lvsd -n -v");
    for _ in 0..3 {
        works();
        lvsd.reload(&lvs_cf(&[], &[web()]));
    }
    lvsd.process.wait_count("[ active ] making 10.0.0.21:80 available", 4, PATIENCE).unwrap();
    // It wakes up: what was lost is counted.
    syslogd.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut buffer = [0; 4096];
    let mut lines = String::new();
    while let Ok(length) = syslogd.recv(&mut buffer) {
        lines += &String::from_utf8_lossy(&buffer[..length]);
        lines.push('\n');
    }
    assert!(lines.contains("starting virtual service web active: 80"), "{lines}");
    syslogd.set_read_timeout(Some(PATIENCE)).unwrap();
    lvsd.process.signal(Signal::SIGHUP);
    let found = wait("the lost are counted", || {
        let length = syslogd.recv(&mut buffer).unwrap();
        let line = String::from_utf8_lossy(&buffer[..length]).into_owned();
        line.ends_with(" messages lost").then_some(line)
    });
    assert!(found.contains("lvsd["), "{found}");
    lvsd.stop("");
}
