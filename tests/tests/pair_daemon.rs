//! What pulse does with its node: addresses and devices of every kind, reloads, commands, and programs
//! that do not do what they should.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod director;
mod pair;

use std::{fs, time::Instant};

use director::{CONFIG, logged, replace, script, virtual_server, wait, wait_empty, wait_logged};
use lab::{Kind, Method, Node, PATIENCE};
use nix::sys::signal::Signal;
use pair::{
    Pair, WEB, ask, assert_clean, child, kill_pulse, runs, signal, start, state, stop, wait_clean,
    wait_state, wait_status,
};

/// A virtual server without servers, which has its address raised.
fn bare(name: &str, address: &str) -> director::Virtual {
    virtual_server(name, 80).with("address", address).with("vip_nmask", "255.255.255.0")
}

/// The label that an address has on a node.
fn label(node: &Node, address: &str) -> Option<String> {
    let listed = node.run("ip -oneline -4 addr");
    let line = listed.lines().find(|line| line.contains(&format!(" {address}/")))?;
    // … scope global [secondary] LABEL\ valid_lft …
    let before = line.split('\\').next()?;
    before.split_whitespace().last().map(str::to_owned)
}

#[test]
fn addresses_on_devices_of_every_kind() {
    let pair = Pair::new(Method::Direct);
    let node = pair.node(0);
    node.ip("link add link eth0 name eth0.5 type vlan id 5\n\
             link set eth0.5 up\n\
             link add br0 type bridge\n\
             link add inner0 type dummy\n\
             link set inner0 master br0 up\n\
             link set br0 up\n\
             link add bond0 type bond mode active-backup\n\
             link add inner1 type dummy\n\
             link set inner1 master bond0\n\
             link set bond0 up");
    let devices = [
        ("10.5.0.100", "eth0.5:1"),
        ("10.6.0.100", "br0:1"),
        ("10.7.0.100", "bond0:1"),
        // Two on one interface, and one without a number.
        ("10.0.0.101", "eth0:2"),
        ("10.8.0.100", "lo"),
    ];
    let mut blocks = vec![pair.block("web", WEB), bare("missing", "10.9.0.100 eth9:1")];
    for (at, (address, device)) in devices.iter().enumerate() {
        blocks.push(bare(&format!("v{at}"), &format!("{address} {device}")));
    }
    // Its name is too long for a label: eth0:123456789012 does not fit into 15 bytes.
    blocks.push(bare("long", "10.0.0.102 eth0:123456789012"));
    let captures: Vec<_> =
        ["eth0.5", "br0", "bond0"].map(|nic| node.capture_only(nic, Kind::Arp)).into();
    node.write(CONFIG, pair.config_of(&[], &blocks));
    start(node);
    wait_state(node, "active");
    for (address, device) in devices {
        assert_eq!(label(node, address).as_deref(), Some(device), "{address}");
    }
    assert_eq!(label(node, pair.site.vip).as_deref(), Some("eth0:1"));
    // The others are there, and what is missing is told.
    wait_logged(node, &["eth9"], 1);
    let status = wait_status(node, "the failed ones are in the status", |status| {
        let addresses = status["addresses"].as_array().into_iter().flatten();
        addresses.filter(|address| address["error"].is_string()).count() == 2
    });
    println!("{}", status["addresses"]);
    for (capture, (address, _)) in captures.iter().zip(devices) {
        let told = |frame: &lab::Frame| {
            frame.arp().is_some_and(|arp| arp.operation == 2 && arp.sender.to_string() == address)
        };
        capture.wait(told, PATIENCE).unwrap();
    }
    // An interface that comes later gets its address.
    stop(node);
    for (address, _) in devices {
        assert_eq!(label(node, address), None, "{address}");
    }
    assert_clean(node, pair.site.vip);
}

#[test]
fn an_address_that_is_there_already() {
    let pair = Pair::new(Method::Direct);
    let node = pair.node(0);
    let blocks = [
        pair.block("web", WEB),
        bare("system", "10.0.0.101 eth0:2"),
        bare("old", "10.0.0.102 eth0:3"),
    ];
    let config = pair.config_of(&[], &blocks);
    // Left behind by a crash: with the label of lvs.cf. Configured by the system: without.
    node.ip("addr add 10.0.0.102/24 dev eth0 label eth0:3\naddr add 10.0.0.101/24 dev eth0");
    // The partner serves: what was left behind must not stay while this node is inactive.
    pair.write(&config);
    start(pair.node(1));
    wait_state(pair.node(1), "active");
    start(node);
    wait_state(node, "inactive");
    node.wait_address("eth0", "10.0.0.102", false, PATIENCE).unwrap();
    assert_eq!(label(node, "10.0.0.101").as_deref(), Some("eth0"));
    assert_eq!(label(pair.node(1), "10.0.0.102").as_deref(), Some("eth0:3"));

    stop(pair.node(1));
    wait_state(node, "active");
    assert_eq!(label(node, "10.0.0.102").as_deref(), Some("eth0:3"));
    assert_eq!(label(node, "10.0.0.101").as_deref(), Some("eth0"));
    // Somebody takes an address away from an active node.
    stop(node);
    assert_eq!(label(node, "10.0.0.102"), None);
    assert_eq!(label(node, "10.0.0.101").as_deref(), Some("eth0"), "it is not ours");
    assert_eq!(label(node, "10.0.0.11").as_deref(), Some("eth0"));
}

#[test]
fn a_start_cleans_up_after_a_crash_of_everything() {
    let pair = Pair::new(Method::Nat);
    pair.start(&pair.config(&[]));
    // Power stays, all processes are gone at once, the guard too, which must not see the others go:
    // addresses and table stay behind.
    let is_guard = |pid: &u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim() == "pulse-guard"
    };
    let guard = pair.node(0).processes().into_iter().find(is_guard).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(guard.cast_signed()), Signal::SIGKILL)
        .unwrap();
    pair.node(0).kill_all();
    assert_eq!(label(pair.node(0), pair.site.vip).as_deref(), Some("eth0:1"));
    wait_state(pair.node(1), "active");
    start(pair.node(0));
    wait_clean(pair.node(0), pair.site.vip);
    pair.wait_settled(1);
    // Twice is once too often.
    let second = pair.node(0).output("pulse -n");
    let said = String::from_utf8_lossy(&second.stderr).into_owned()
        + &String::from_utf8_lossy(&second.stdout);
    println!("a second pulse: {said}");
    assert!(!second.status.success(), "{said}");
    assert_eq!((state(pair.node(0)), state(pair.node(1))), ("inactive".into(), "active".into()));
    pair.stop();
}

#[test]
fn a_file_replaced_under_running_daemons() {
    let pair = Pair::new(Method::Nat);
    let vip = pair.site.vip;
    let config = pair.config(&[]);
    pair.start(&config);
    // As rsync does it: by rename, on both, without a signal. Now the addresses are others.
    let other = config.replace(vip, "172.16.0.101");
    pair.write(&other);
    let prober = pair.prober();
    let begun = Instant::now();
    prober.wait_answers(begun, 300, PATIENCE).unwrap();
    assert!(pair.node(0).has_address("eth0", vip));
    // A file that does not parse changes nothing, with a signal and without.
    for node in &pair.site.directors {
        replace(&node.path(CONFIG), "virtual {");
    }
    signal(pair.node(0), Signal::SIGHUP);
    wait_status(pair.node(0), "the reload failed", |s| s["reload_error"].is_string());
    assert!(pair.node(0).has_address("eth0", vip));
    prober.wait_answers(Instant::now(), 100, PATIENCE).unwrap();
    assert_eq!(prober.counts_after(begun).refused, 0);

    // The new file is in force where it is asked for, and on the other node when that becomes active.
    pair.write(&other);
    let answer = ask(pair.node(0), "reload").unwrap();
    assert!(answer["ok"].is_string(), "{answer}");
    pair.watch.wait(pair.node(0), "172.16.0.101", true, PATIENCE).unwrap();
    pair.watch.wait(pair.node(0), vip, false, PATIENCE).unwrap();
    let web = format!("tcp 172.16.0.101:{WEB}");
    pair.node(0).wait_table(|table| table.count(&web) == 2, PATIENCE).unwrap();
    pair.site.client.flow("172.16.0.101:7").wait_alive(PATIENCE).unwrap();
    kill_pulse(pair.node(0));
    pair.watch.wait(pair.node(1), "172.16.0.101", true, PATIENCE).unwrap();
    pair.node(1).wait_table(|table| table.count(&web) == 2, PATIENCE).unwrap();
    assert!(!pair.node(1).has_address("eth0", vip));
    wait_empty(pair.node(0));
    // By a signal, on a node that serves: one address goes, one comes, one stays with its connections.
    let more = other.clone()
        + "virtual extra {\n active = 1\n address = 172.16.0.102 eth0:2\n port = 80\n}\n";
    replace(&pair.node(1).path(CONFIG), &more);
    signal(pair.node(1), Signal::SIGHUP);
    pair.watch.wait(pair.node(1), "172.16.0.102", true, PATIENCE).unwrap();
    replace(&pair.node(1).path(CONFIG), &other);
    signal(pair.node(1), Signal::SIGHUP);
    pair.watch.wait(pair.node(1), "172.16.0.102", false, PATIENCE).unwrap();
    let touched = pair
        .watch
        .events()
        .into_iter()
        .filter(|event| event.node == "d2" && event.address.to_string() == "172.16.0.101");
    assert_eq!(touched.count(), 1, "an address that stays is not touched: {}", pair.watch.shown());
    stop(pair.node(1));
    assert_clean(pair.node(1), "172.16.0.101");
}

#[test]
fn commands_at_every_change() {
    let pair = Pair::new(Method::Direct);
    let (node, vip) = (pair.node(0), pair.site.vip);
    let log = node.dir().join("commands");
    let path = log.display();
    let tell = node.dir().join("tell");
    script(
        node,
        &tell,
        &format!(
            "#!/bin/sh\nip -o addr show to {vip} >{path}.addr\necho \"$@\" $(wc -l <{path}.addr) >>{path}"
        ),
    );
    let lines = || fs::read_to_string(&log).unwrap_or_default();
    let hang = node.dir().join("hang");
    script(node, &hang, "#!/bin/sh\nsleep 1000 &\nwait");
    let command =
        |which: &str, path: &std::path::Path| format!("{which} = \"{} {which}\"", path.display());
    let (active, inactive) = (command("active_cmd", &tell), command("inactive_cmd", &tell));
    node.write(CONFIG, pair.config(&[&active, &inactive]));
    start(node);
    wait_state(node, "active");
    // At the start; then before the address comes, and when it has gone.
    wait("both have run", || (lines() == "inactive_cmd 0\nactive_cmd 0\n").then_some(()));
    stop(node);
    assert_eq!(lines(), "inactive_cmd 0\nactive_cmd 0\ninactive_cmd 0\n");

    // Those that hang are waited for, and ended. So are their children.
    node.write(CONFIG, pair.config(&[&command("active_cmd", &hang)]));
    start(node);
    wait_state(node, "active");
    wait_logged(node, &["active_cmd"], 1);
    wait("nothing is left of it", || {
        (!director::command_lines(node).iter().any(|line| line.contains("hang"))).then_some(())
    });
    assert!(node.has_address("eth0", vip));
    // One that does not exist is told, and no more.
    node.write(CONFIG, pair.config(&["active_cmd = \"/no/such/program\""]));
    stop(node);
    start(node);
    wait_state(node, "active");
    wait_logged(node, &["/no/such/program"], 1);
    stop(node);
    assert_clean(node, vip);
}

#[test]
fn an_lvsd_that_never_reports() {
    let pair = Pair::new(Method::Direct);
    let node = pair.node(0);
    let fake = node.dir().join("fake-lvsd");
    // It does not even listen to reason.
    script(node, &fake, "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1; done");
    pair.write(&pair.config(&[]));
    node.run(format!("pulse -v --lvsd {}", fake.display()));
    wait_state(node, "activating");
    start(pair.node(1));
    // 10 seconds later.
    wait_state(pair.node(1), "active");
    assert!(!node.has_address("eth0", pair.site.vip));
    let ended = || (!runs(node, "/bin/sh")).then_some(());
    wait("it is killed", ended);
    pair.assert_never_both();
    wait_state(node, "inactive");
    wait_logged(node, &["lvsd did not report a loaded table within 10 s: it is killed"], 1);
    // Its failure is forgiven since the other one serves, and it stays in reserve.
    wait_status(node, "it is able again", |status| status["node"]["able"] == true);
    stop(pair.node(1));
    stop(node);
}

/// Not a test of its own: with this variable it is what an original lvsd is to its parent. It says that
/// it is ready by the semaphore, and lives until it is told to end.
#[test]
fn an_original_lvsd() {
    if std::env::var_os("ORIGINAL_LVSD").is_some() {
        daemon::ready::post(daemon::ready::LVS_SEMAPHORE).unwrap();
        loop {
            std::thread::park();
        }
    }
}

#[test]
fn an_lvsd_that_reports_by_the_semaphore() {
    let pair = Pair::new(Method::Direct);
    let (node, vip) = (pair.node(0), pair.site.vip);
    let fake = node.dir().join("original-lvsd");
    let this = std::env::current_exe().unwrap();
    let text = format!(
        "#!/bin/sh\necho \"$@\" >{0}.args\nexport ORIGINAL_LVSD=1\n\
         exec {1} --exact an_original_lvsd --nocapture",
        fake.display(),
        this.display()
    );
    script(node, &fake, &text);
    node.write(CONFIG, pair.config(&[]));
    node.run(format!("pulse --lvsd {}", fake.display()));
    wait_state(node, "active");
    assert!(node.has_address("eth0", vip));
    let arguments = fs::read_to_string(fake.with_extension("args")).unwrap();
    assert_eq!(arguments.trim(), format!("--nofork -c {CONFIG}"));
    // It ends by itself.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child(node)), Signal::SIGTERM).unwrap();
    wait_logged(node, &["Child process", "terminated with signal 15"], 1);
    wait_clean(node, vip);
    // There is no partner that could serve: it is tried again.
    wait_state(node, "active");
    stop(node);
    assert_clean(node, vip);
    assert_eq!(logged(node, &["panicked"]), 0);
}
