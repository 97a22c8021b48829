//! One node fails or gives up, the other serves: everything that can happen to the active node, for
//! NAT and direct routing, and what becomes of established connections. Each test prints what a client
//! saw.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod director;
mod pair;

use director::{wait_empty, wait_logged};
use lab::{Method, Node, PATIENCE};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pair::{
    Pair, WEB, ask, assert_clean, child, kill_pulse, signal, start, state, status, stop,
    wait_clean, wait_state, wait_status,
};

/// Everything, one after the other: whichever node is active has the trouble, the other takes over, and
/// what comes back does not take back.
fn every_trouble(method: Method) {
    let pair = Pair::new(method);
    let vip = pair.site.vip;
    pair.start(&pair.config(&["monitor_links = 1", "syncdaemon = 1", "syncd_iface = eth1"]));
    for (node, role) in [(0, "master"), (1, "backup")] {
        let daemons = pair.node(node).run("ipvsadm -L --daemon");
        assert!(daemons.contains(role), "{daemons}");
    }
    let mut active = 0;
    let mut trouble = |what: &str, event: &dyn Fn(&Node), after: &dyn Fn(&Node)| {
        let (old, new) = (active, 1 - active);
        pair.takeover_with_flow(what, new, || event(pair.node(old)));
        after(pair.node(old));
        pair.wait_settled(new);
        active = new;
    };
    trouble("SIGTERM", &|node| signal(node, Signal::SIGTERM), &|node| {
        wait_empty(node);
        assert_clean(node, vip);
        start(node);
    });
    trouble("SIGKILL of pulse", &kill_pulse, &|node| {
        wait_empty(node);
        assert_clean(node, vip);
        start(node);
    });
    trouble(
        "SIGKILL of lvsd",
        &|node| kill(Pid::from_raw(child(node)), Signal::SIGKILL).unwrap(),
        &|node| {
            wait_logged(node, &["Child process", "terminated with signal 9"], 1);
            wait_clean(node, vip);
        },
    );
    trouble("public link down", &|node| node.unplug("eth0"), &|node| {
        wait_logged(node, &["Primary NIC: link down"], 1);
        wait_clean(node, vip);
        node.plug("eth0");
        wait_logged(node, &["Local NIC link(s) restored: Pulse enabled"], 1);
    });
    trouble("private link down", &|node| node.unplug("eth1"), &|node| {
        wait_logged(node, &["Private NIC: link down"], 1);
        wait_clean(node, vip);
        node.plug("eth1");
        wait_logged(node, &["Local NIC link(s) restored: Pulse enabled"], 1);
    });
    let hand_over = |node: &Node| {
        let answer = ask(node, "handover").unwrap();
        assert!(answer["ok"].is_string(), "{answer}");
    };
    trouble("handover", &hand_over, &|node| wait_clean(node, vip));
    trouble("handover back", &hand_over, &|node| wait_clean(node, vip));
    // In all that, nobody has had the address while the other had it.
    pair.assert_never_both();

    // What is stopped cannot give up its address: that is the guard's task, after deadtime.
    trouble("SIGSTOP of pulse", &|node| signal(node, Signal::SIGSTOP), &|node| {
        wait_clean(node, vip);
        signal(node, Signal::SIGCONT);
    });
    pair.stop();
    for node in &pair.site.directors {
        assert_eq!(node.run("ipvsadm -L --daemon").trim(), "", "{}", node.name());
    }
}

#[test]
fn nat_fails_over() {
    every_trouble(Method::Nat);
}

#[test]
fn direct_routing_fails_over() {
    every_trouble(Method::Direct);
}

#[test]
fn a_node_that_checks_while_it_stands_by() {
    let pair = Pair::new(Method::Nat);
    pair.start(&pair.config(&["standby_checks = 1"]));
    let name = format!("tcp {}:{WEB}", pair.site.vip);
    let stands_by = |index: usize| {
        let prepared = |status: &serde_json::Value| status["child"]["state"] == "prepared";
        wait_status(pair.node(index), "its lvsd is prepared", prepared);
        pair.node(index).wait_table(|table| table.count(&name) == 2, PATIENCE).unwrap();
        assert!(!pair.node(index).has_address("eth0", pair.site.vip));
        assert_eq!(state(pair.node(index)), "inactive");
        child(pair.node(index))
    };
    stands_by(1);
    pair.takeover("standby_checks, SIGKILL of pulse", 1, || kill_pulse(pair.node(0)));
    wait_empty(pair.node(0));
    assert_clean(pair.node(0), pair.site.vip);
    start(pair.node(0));
    pair.wait_settled(1);
    let lvsd = stands_by(0);
    pair.takeover("standby_checks, handover", 0, || drop(ask(pair.node(1), "handover").unwrap()));
    pair.wait_settled(0);
    // It is the same process, and so it is on the other node.
    assert_eq!(child(pair.node(0)), lvsd);
    stands_by(1);
    // An lvsd that dies while it stands by is no reason for anything but another one.
    kill(Pid::from_raw(child(pair.node(1))), Signal::SIGKILL).unwrap();
    wait_logged(pair.node(1), &["Child process", "terminated with signal 9"], 1);
    stands_by(1);
    pair.takeover("standby_checks, SIGTERM", 1, || signal(pair.node(0), Signal::SIGTERM));
    wait_state(pair.node(1), "active");
    wait_empty(pair.node(0));
    pair.assert_never_both();
    stop(pair.node(1));
    assert_clean(pair.node(1), pair.site.vip);
}

#[test]
fn handovers_that_cannot_be() {
    let pair = Pair::new(Method::Direct);
    let refused = |node: &Node| {
        let answer = ask(node, "handover").unwrap();
        assert!(answer["error"].is_string(), "{answer}");
        answer["error"].as_str().unwrap().to_owned()
    };
    // Alone.
    pair.write(&pair.config(&["monitor_links = 1"]));
    start(pair.node(0));
    wait_state(pair.node(0), "active");
    println!("alone: {}", refused(pair.node(0)));
    start(pair.node(1));
    pair.wait_settled(0);
    // Inactive.
    println!("inactive: {}", refused(pair.node(1)));
    // The other one is not able to.
    pair.node(1).unplug("eth1");
    wait_status(pair.node(0), "the partner is not able", |s| s["partner"]["able"] == false);
    println!("not able: {}", refused(pair.node(0)));
    assert_eq!(status(pair.node(0)).unwrap()["node"]["state"], "active");
    pair.node(1).plug("eth1");
    pair.wait_settled(0);
    pair.assert_never_both();
    pair.stop();
}
