//! The suite on a kernel as old as Linux 2.6.32, as far as a filter of system calls makes one: every
//! program at work, and a pair that fails over, hands over and balances. See src/bin/old-kernel.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod director;
mod pair;

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::PathBuf, sync::OnceLock};

use director::{
    CONFIG, Lvsd, VIP, Virtual, lvs_cf, programs, script, server, virtual_server, wait, wait_empty,
    wait_logged,
};
use gui_lab::{Files, Gui, PASSWORD, USER};
use lab::{Behaviour, Method, Node, PATIENCE, Site, nat_site};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pair::{Pair, ask, assert_clean, kill_pulse, signal, start, stop, wait_clean, wait_state};

/// What puts a program under the filter.
const LAUNCHER: &str = env!("CARGO_BIN_EXE_old-kernel");
/// The suite. `programs` says where they are; each is started by a script of the same name instead.
const SUITE: [&str; 10] = [
    "pulse",
    "lvsd",
    "nanny",
    "fos",
    "send_arp",
    "piranha_gui",
    "piranha-passwd",
    "piranhactl",
    "lvs-check",
    "old-kernel",
];

/// From here on all programs of the suite start under the filter, in this whole process.
fn old_kernel() {
    static LAUNCHERS: OnceLock<PathBuf> = OnceLock::new();
    let dir = LAUNCHERS.get_or_init(|| {
        let dir = std::env::temp_dir().join(format!("old-kernel-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        for name in SUITE {
            let program =
                if name == "old-kernel" { PathBuf::from(LAUNCHER) } else { programs().join(name) };
            assert!(program.is_file(), "{}", program.display());
            let path = dir.join(name);
            let text = format!("#!/bin/sh\nexec '{LAUNCHER}' '{}' \"$@\"\n", program.display());
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        }
        dir
    });
    lab::programs_first_in(dir.clone());
}

/// What is under the filter has this in its status (proc_pid_status(5)): 2 is a filter.
fn is_filtered(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line == "Seccomp:\t2")
}

/// The processes of these names on a node, which must all be under the filter: how many of each.
#[track_caller]
fn filtered(node: &Node) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for pid in node.processes() {
        let Ok(name) = fs::read_to_string(format!("/proc/{pid}/comm")) else { continue };
        assert!(is_filtered(pid), "{}: {name} [{pid}] is not under the filter", node.name());
        *found.entry(name.trim().to_owned()).or_default() += 1;
    }
    found
}

#[track_caller]
fn assert_filtered(node: &Node, names: &[(&str, usize)]) {
    let wanted = names.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    // One that is just starting another is there twice for a moment.
    wait(&format!("{}: {names:?}", node.name()), || (filtered(node) == wanted).then_some(()));
}

/// A check program that asks for the page by one of the suite.
const CHECK: &str = "/etc/sysconfig/ha/check.sh";

/// The block with that check, which has time for its processes to start.
fn checked(block: Virtual) -> Virtual {
    let program = format!("\"{CHECK} %h\"");
    block.with("send_program", program).with("expect", "OK").with("timeout", 4)
}

fn write_check(node: &Node) {
    let program = programs().join("lvs-check");
    let text = format!("#!/bin/sh\nexec '{}' http --status 200 \"$1\"", program.display());
    script(node, &node.path(CHECK), &text);
}

#[test]
fn the_filter_is_in_force() {
    old_kernel();
    let site = Site::new(Method::Nat, 1, 0);
    let node = &site.directors[0];
    let probed = node.run("old-kernel --probe");
    let refused = "\
        recvmmsg ENOSYS\n\
        sendmmsg ENOSYS\n\
        prlimit64 ENOSYS\n\
        renameat2 ENOSYS\n\
        statx ENOSYS\n\
        clone3 ENOSYS\n\
        x32 ENOSYS\n\
        rt_tgsigqueueinfo EFAULT\n\
        SO_REUSEPORT ENOPROTOOPT\n\
        TCP_USER_TIMEOUT ENOPROTOOPT\n\
        SO_KEEPALIVE works\n\
        IP_FREEBIND works\n\
        AF_VSOCK EAFNOSUPPORT\n\
        O_TMPFILE EISDIR\n\
        PR_SET_CHILD_SUBREAPER ENOSYS\n\
        PR_SET_NAME works\n";
    assert_eq!(probed, refused);
    // And not without it: what is refused is refused by the filter.
    let free = node.run(format!("{LAUNCHER} --probe"));
    for line in ["SO_REUSEPORT works", "TCP_USER_TIMEOUT works", "PR_SET_CHILD_SUBREAPER works"] {
        assert!(free.contains(line), "{free}");
    }
    assert!(!free.contains("recvmmsg ENOSYS") && !free.contains("clone3 ENOSYS"), "{free}");
    // Whatever a program under it starts.
    let status = node.run("old-kernel grep Seccomp: /proc/self/status");
    assert_eq!(status, "Seccomp:\t2\n");
    let release = node.run("old-kernel uname -r");
    assert!(release.starts_with("2.6."), "{release}");
}

#[test]
fn a_pair_serves_fails_over_and_hands_over() {
    old_kernel();
    let pair = Pair::new(Method::Nat);
    let vip = pair.site.vip;
    let web = pair.site.web(80);
    let blocks = [
        pair.block("names", pair::WEB),
        pair.block("echo", pair::ECHO),
        checked(pair.block("web", 80)),
    ];
    for node in &pair.site.directors {
        write_check(node);
    }
    // Times for a machine that is slower than others: there is a filter before each system call.
    let globals = ["monitor_links = 1", "keepalive = 500ms", "deadtime = 3"];
    let synced = [&globals[..], &["syncdaemon = 1", "syncd_iface = eth1"]].concat();
    pair.start(&pair.config_of(&synced, &blocks));
    for (node, role) in [(0, "master"), (1, "backup")] {
        let daemons = pair.node(node).run("ipvsadm -L --daemon");
        assert!(daemons.contains(role), "{daemons}");
    }
    let balances = |node: usize| {
        let all = |table: &lab::Table| table.count(&format!("tcp {vip}:80")) == 2;
        pair.node(node).wait_table(all, PATIENCE).unwrap();
        let spread = pair.site.spread(80, 20);
        let even = BTreeMap::from([("rs1".to_owned(), 10), ("rs2".to_owned(), 10)]);
        assert_eq!(spread, even);
    };
    balances(0);
    let active = [("pulse", 1), ("pulse-guard", 1), ("lvsd", 1), ("nanny", 1)];
    let inactive = [("pulse", 1), ("pulse-guard", 1)];
    assert_filtered(pair.node(0), &active);
    assert_filtered(pair.node(1), &inactive);

    // The check script takes a server out, and back in.
    let weight = |node: usize, server: &str, wanted: Option<i32>| {
        let is = |table: &lab::Table| table.weight(&format!("tcp {vip}:80"), server) == wanted;
        pair.node(node).wait_table(is, PATIENCE).unwrap();
    };
    web[0].set(Behaviour::http_status("503 Service Unavailable", "no"));
    weight(0, "10.0.0.21:80", None);
    web[0].set(Behaviour::http("rs1\n"));
    weight(0, "10.0.0.21:80", Some(1));

    let status = pair.node(0).run("piranhactl status");
    assert!(status.contains("active") && status.contains("10.0.0.21"), "{status}");

    pair.takeover_with_flow("SIGKILL of pulse", 1, || kill_pulse(pair.node(0)));
    wait_empty(pair.node(0));
    assert_clean(pair.node(0), vip);
    start(pair.node(0));
    pair.wait_settled(1);
    balances(1);
    assert_filtered(pair.node(1), &active);

    pair.takeover_with_flow("handover", 0, || {
        let answer = ask(pair.node(1), "handover").unwrap();
        assert!(answer["ok"].is_string(), "{answer}");
    });
    wait_clean(pair.node(1), vip);
    pair.wait_settled(0);
    balances(0);

    // A new configuration; and lvsd's death.
    pair.write(&pair.config(&globals));
    signal(pair.node(0), Signal::SIGHUP);
    let gone = |table: &lab::Table| table.count(&format!("tcp {vip}:80")) == 0;
    pair.node(0).wait_table(gone, PATIENCE).unwrap();
    pair.takeover("SIGKILL of lvsd", 1, || {
        kill(Pid::from_raw(pair::child(pair.node(0))), Signal::SIGKILL).unwrap();
    });
    wait_logged(pair.node(0), &["Child process", "terminated with signal 9"], 1);
    pair.assert_never_both();
    pair.stop();
}

#[test]
fn monitors_pooled_and_classic() {
    old_kernel();
    let site = nat_site(2);
    site.activate(0);
    let web = site.web(80);
    let d1 = &site.directors[0];
    let service = format!("tcp {VIP}:80");
    let weight = |server: &str| d1.table().weight(&service, server);
    let until = |server: &str, wanted: Option<i32>| {
        d1.wait_table(|table| table.weight(&service, server) == wanted, PATIENCE).unwrap();
    };
    write_check(d1);
    let block = || virtual_server("web", 80).real_servers([1, 2], 80);
    let scripted = checked(block());
    let nanny = programs().join("nanny").display().to_string();
    let classic = block().with("client_monitor", nanny);
    for (what, config, nannies) in
        [("pooled", lvs_cf(&[], &[scripted]), 1), ("classic", lvs_cf(&[], &[classic]), 2)]
    {
        let lvsd = Lvsd::start(d1, &config);
        until("10.0.0.21:80", Some(1));
        until("10.0.0.22:80", Some(1));
        wait(what, || (filtered(d1).get("nanny") == Some(&nannies)).then_some(()));
        web[0].stop();
        until("10.0.0.21:80", None);
        assert_eq!(weight("10.0.0.22:80"), Some(1), "{what}");
        web[0].start();
        until("10.0.0.21:80", Some(1));
        lvsd.stop("");
    }

    // One nanny alone, as the original's lvsd starts it.
    d1.run(format!("ipvsadm -A -t {VIP}:80 -s rr"));
    let nanny = d1.spawn(format!("nanny --lvs -c -h 10.0.0.21 -p 80 -V {VIP} -w 1 -t 1"));
    until("10.0.0.21:80", Some(1));
    assert!(is_filtered(nanny.pid()));
    nanny.signal(Signal::SIGTERM);
    nanny.wait_exit(PATIENCE).unwrap();
}

#[test]
fn failover_services() {
    old_kernel();
    let site = Site::new(Method::Nat, 1, 0);
    let d1 = &site.directors[0];
    let noted = d1.path("/run/journal");
    d1.write(
        CONFIG,
        format!(
            "service = fos\nprimary = 172.16.0.11\nbackup = 0.0.0.0\nheartbeat = 1\n\
             failover web {{\n active = 1\n address = {VIP} eth0:1\n vip_nmask = 255.255.255.0\n\
             port = 8080\n timeout = 1\n start_cmd = \"/usr/bin/tee -a /run/journal\"\n\
             stop_cmd = \"/bin/rm -f /run/journal\"\n}}\n"
        ),
    );
    start(d1);
    wait_state(d1, "active");
    d1.wait_address("eth0", VIP, true, PATIENCE).unwrap();
    wait("the service is started", || noted.exists().then_some(()));
    assert_filtered(d1, &[("pulse", 1), ("pulse-guard", 1), ("fos", 1)]);
    stop(d1);
    assert!(!noted.exists());
    assert_clean(d1, VIP);
}

#[test]
fn programs_that_run_once() {
    old_kernel();
    let site = nat_site(1);
    let d1 = &site.directors[0];
    let capture = site.client.capture("eth0");
    d1.run(format!("send_arp -i eth0 {VIP} 02:0c:29:a1:b2:c3 172.16.0.255 ffffffffffff"));
    let announced = |frame: &lab::Frame| {
        frame
            .arp()
            .is_some_and(|arp| arp.operation == 2 && arp.sender_mac == [2, 12, 41, 161, 178, 195])
    };
    capture.wait(announced, PATIENCE).unwrap();

    let web = site.web(80);
    let rs1 = &site.servers[0];
    let https = rs1.nginx("10.0.0.21:443", "hello");
    assert_eq!(d1.run("lvs-check http --status 200 10.0.0.21"), "OK\n");
    assert_eq!(d1.run("lvs-check https --expect hello 10.0.0.21"), "OK\n");
    assert_eq!(d1.run("lvs-check tcp 10.0.0.21 80"), "OK\n");
    drop(https);
    web[0].stop();
    for check in ["http", "https"] {
        let output = d1.output(format!("lvs-check {check} 10.0.0.21"));
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(1), &b"FAIL\n"[..]));
    }

    let block = virtual_server("web", 80).server(server("rs1", "10.0.0.21"));
    let globals = ["primary = 10.0.0.11", "backup = 10.0.0.12", "heartbeat = 1"];
    d1.write(CONFIG, lvs_cf(&globals, &[block]));
    let checked = d1.output("piranhactl check --json");
    let findings: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert!(findings.is_array() && checked.status.success(), "{findings}");
    // The firewall is read by iptables' own program.
    d1.shell("iptables-legacy -P INPUT DROP");
    let system = d1.output("piranhactl check --system --json");
    let system: serde_json::Value = serde_json::from_slice(&system.stdout).unwrap();
    let system = system.as_array().unwrap();
    let has = |code: &str| system.iter().any(|finding| finding["code"] == code);
    assert!(has("promote-secondaries") && has("firewall-service"), "{system:#?}");
    let status = d1.output("piranhactl status");
    assert!(!status.status.success(), "nothing runs");
    let said = String::from_utf8_lossy(&status.stderr);
    assert!(said.contains("pulse"), "{said}");
}

/// The page as root starts it: it becomes another user, and speaks TLS; with a password that
/// piranha-passwd has set.
#[test]
fn the_web_page() {
    old_kernel();
    let site = Site::new(Method::Nat, 1, 0);
    let d1 = &site.directors[0];
    let files = Files::new();
    let passwords = files.path("piranha.passwd");
    fs::remove_file(&passwords).unwrap();
    d1.run(format!("piranha-passwd --file {} {PASSWORD}", passwords.display()));
    let hashed = fs::read_to_string(&passwords).unwrap();
    assert!(hashed.starts_with(&format!("{USER}:$")), "{hashed}");
    files.write("piranha.passwd", &hashed);
    let running = d1.spawn(files.command("piranha_gui", &[]));
    let gui = Gui::running(files, running);
    assert!(is_filtered(gui.running.pid()));
    let page = d1.enter(|| gui.get("/secure/control"));
    assert_eq!(page.status, 200);
    let refused = d1.enter(|| gui.ask(&gui_lab::Ask::get("/secure/control").user(USER, "wrong")));
    assert_eq!(refused.status, 401);
    // The file is replaced without an exchange of names (renameat2, Linux 3.15).
    let saved = d1.enter(|| {
        let base = gui.get("/secure/virtual").attributes("input[name=base]", "value").remove(0);
        gui.post("/secure/virtual", &[("base", &base), ("do", "add")])
    });
    let file = gui.files.read("lvs.cf");
    assert!(file.contains("virtual "), "{}: {file}", saved.status);
    drop(gui);

    let files = Files::new();
    let running = d1.spawn(files.command("piranha_gui", &["--tls"]));
    let line = running.wait_for(" serves https", PATIENCE).unwrap();
    let url = line.text.rsplit(' ').next().unwrap();
    let text = d1.run(format!("curl -sk --user {USER}:{PASSWORD} {url}secure/control"));
    assert!(text.contains("<html"), "{text}");
    assert!(is_filtered(running.pid()));
}
