//! Two nodes that lose sight of each other, start together, or are busy: who serves, and that never two
//! do unless they cannot know better.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod director;
mod pair;

use std::time::Instant;

use director::{logged, lvs_cf, server, virtual_server, wait, wait_empty, wait_logged};
use lab::{Behaviour, Lab, Method, Node, PATIENCE, Table};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pair::{Pair, assert_clean, child, signal, start, state, status, wait_state, wait_status};

/// Heartbeats from the partner are dropped, all else passes.
fn deafen(node: &Node) {
    node.run("iptables -A INPUT -p udp --dport 539 -j DROP");
}

fn undeafen(node: &Node) {
    node.run("iptables -F INPUT");
}

/// The path of this name in a status.
fn path<'a>(status: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    let mut paths = status["paths"].as_array().into_iter().flatten();
    paths.find(|path| path["name"] == name).unwrap_or(&serde_json::Value::Null)
}

#[test]
fn nodes_that_start_together_never_both_serve() {
    for method in [Method::Nat, Method::Direct] {
        let pair = Pair::new(method);
        pair.write(&pair.config(&[]));
        for (round, order) in [[0, 1], [1, 0], [0, 1], [1, 0]].into_iter().enumerate() {
            std::thread::scope(|scope| {
                for index in order {
                    let node = pair.node(index);
                    scope.spawn(move || start(node));
                }
            });
            let active = pair.active();
            pair.wait_settled(active);
            println!("{method:?}, both at once: {} serves", pair.node(active).name());
            pair.assert_never_both();
            if round == 3 {
                pair.stop();
                break;
            }
            // The next round begins after a power failure: nothing is told to anybody.
            for node in &pair.site.directors {
                node.kill_all();
                for (nic, address) in [("eth0", pair.site.vip), ("eth1", "10.0.0.254")] {
                    if node.has_address(nic, address) {
                        node.ip(&format!("addr del {address}/24 dev {nic}"));
                    }
                }
                node.run("ipvsadm -C");
            }
        }
    }
}

#[test]
fn one_heartbeat_path_is_enough() {
    let pair = Pair::new(Method::Direct);
    pair.start(&pair.config(&[]));
    let silent = |status: &serde_json::Value, name: &str| {
        path(status, name)["heard_ms"].as_u64().is_some_and(|heard| heard > 1500)
    };
    // The private path, then the public one with the whole service behind it, on which nobody can
    // serve then: no reason to change anything.
    for (nic, name) in [("eth1", "private"), ("eth0", "public")] {
        pair.node(0).isolate(nic);
        for node in &pair.site.directors {
            wait_status(node, "nothing comes on one path", |status| silent(status, name));
        }
        assert_eq!(
            (state(pair.node(0)), state(pair.node(1))),
            ("active".into(), "inactive".into())
        );
        pair.node(0).rejoin(nic);
        let heard = |status: &serde_json::Value| !silent(status, name);
        wait_status(pair.node(1), "heard again", heard);
    }
    let prober = pair.prober();
    prober.wait_served(Instant::now(), PATIENCE).unwrap();
    // The first one was alone when it started.
    assert_eq!(logged(pair.node(0), &["partner dead"]), 1);
    assert_eq!(logged(pair.node(1), &["partner dead"]), 0);
    pair.assert_never_both();
    pair.stop();
}

#[test]
fn a_partition_ends_with_the_master() {
    let pair = Pair::new(Method::Nat);
    pair.start(&pair.config(&[]));
    // All heartbeats are lost, everything else passes: both serve, which neither can know.
    pair.site.directors.iter().for_each(deafen);
    wait_logged(pair.node(1), &["partner dead: activating lvs"], 1);
    wait_state(pair.node(1), "active");
    assert_eq!(state(pair.node(0)), "active");
    pair.takeover("heartbeats are back after both served", 0, || {
        pair.site.directors.iter().for_each(undeafen);
        wait_logged(pair.node(1), &["partner active: deactivating LVS"], 1);
        pair.watch.wait(pair.node(1), pair.site.vip, false, PATIENCE).unwrap();
    });
    wait_logged(pair.node(0), &["partner active: resending arps"], 1);
    pair.wait_settled(0);
    assert_clean(pair.node(1), pair.site.vip);

    // The master is cut off from everybody.
    pair.takeover("the master is cut off", 1, || {
        pair.node(0).cut_off();
    });
    assert_eq!(state(pair.node(0)), "active", "it has no way to know");
    pair.takeover("the master is back", 0, || {
        pair.node(0).reconnect();
        wait_logged(pair.node(1), &["partner active: deactivating LVS"], 2);
        pair.watch.wait(pair.node(1), pair.site.vip, false, PATIENCE).unwrap();
    });
    pair.wait_settled(0);

    // The backup is cut off, and believes its partner dead. Both are active when it is back.
    pair.node(1).cut_off();
    wait_state(pair.node(1), "active");
    pair.node(1).reconnect();
    pair.wait_settled(0);
    pair.stop();
}

#[test]
fn a_stopped_standby_changes_nothing() {
    let pair = Pair::new(Method::Direct);
    pair.start(&pair.config(&[]));
    let prober = pair.prober();
    let begun = Instant::now();
    // The backup hangs for longer than the deadtime, and when it goes on it must not believe that the
    // partner was silent: it has not listened.
    signal(pair.node(1), Signal::SIGSTOP);
    wait_status(pair.node(0), "the partner is silent", |s| s["partner"]["state"] == "unreachable");
    signal(pair.node(1), Signal::SIGCONT);
    wait_status(pair.node(0), "the partner is back", |s| s["partner"]["state"] == "inactive");
    pair.wait_settled(0);
    prober.wait_served(Instant::now(), PATIENCE).unwrap();
    println!("standby stopped for deadtime: gap {} ms", prober.gap(begun).as_millis());
    assert_eq!(prober.counts_after(begun).refused, 0);
    assert_eq!(logged(pair.node(1), &["activating"]), 0);
    pair.assert_never_both();
    pair.stop();
}

#[test]
fn ten_thousand_servers_do_not_delay_the_heartbeat() {
    const SERVICES: u32 = 64;
    const SERVERS: u32 = 10_000;
    let lab = Lab::new("many");
    let directors: Vec<Node> = (1..=2)
        .map(|k| {
            let node = lab.node(&format!("d{k}")).private("/etc/sysconfig/ha").private("/dev/shm");
            node.nic("eth0", "lan", &[&format!("10.0.0.1{k}/24")])
                .route("10.1.0.0/16 via 10.0.0.21")
                .build()
        })
        .collect();
    let farm = lab
        .node("farm")
        .nic("eth0", "lan", &["10.0.0.21/24"])
        .route("local 10.1.0.0/16 dev lo")
        .build();
    let _names = farm.tcp_server("0.0.0.0:8080", Behaviour::CloseEarly);
    let globals = [
        "primary = 10.0.0.11",
        "backup = 10.0.0.12",
        "service = lvs",
        "backup_active = 1",
        "heartbeat = 1",
        "keepalive = 200ms",
        "deadtime = 600ms",
        "network = nat",
    ];
    let block = |service: u32| {
        let mut block = virtual_server(&format!("v{service}"), 8080)
            .with("address", format!("10.0.2.{} eth0:{}", service + 1, service + 1))
            .with("vip_nmask", "255.255.0.0")
            .with("timeout", 60)
            .with("scheduler", "rr");
        for at in (service..SERVERS).step_by(SERVICES as usize) {
            let address = format!("10.1.{}.{}", at / 250, at % 250 + 1);
            block = block.server(server(&format!("s{at}"), &address).with("port", 8080));
        }
        block
    };
    let config = lvs_cf(&globals, &(0..SERVICES).map(block).collect::<Vec<_>>());
    let watch = lab.watch_addresses(&directors);
    for node in &directors {
        node.write(director::CONFIG, &config);
    }
    let servers = |table: &Table| table.services.values().map(|s| s.servers.len()).sum::<usize>();
    let full = |node: &Node| {
        node.wait_table(|table| servers(table) == SERVERS as usize, PATIENCE).map(|_| ()).unwrap();
    };
    std::thread::scope(|scope| {
        for node in &directors {
            scope.spawn(move || start(node));
        }
    });
    let active = wait("a node is active", || (0..2).find(|k| state(&directors[*k]) == "active"));
    let (old, new) = (&directors[active], &directors[1 - active]);
    full(old);
    assert_eq!(state(new), "inactive");
    // The other one fills its table from nothing, while this one listens.
    let begun = Instant::now();
    kill(Pid::from_raw(child(old)), Signal::SIGKILL).unwrap();
    watch.wait(new, "10.0.2.64", true, PATIENCE).unwrap();
    println!("64 addresses are up on the other node after {:?}", begun.elapsed());
    full(new);
    println!("10,000 servers are in its table after {:?}", begun.elapsed());
    wait_status(old, "knows its partner", |status| status["partner"]["state"] == "active");
    for node in &directors {
        assert_eq!(logged(node, &["partner dead"]), 0, "{}", node.name());
    }
    for address in ["10.0.2.1", "10.0.2.64"] {
        assert_eq!(watch.overlaps(address), [], "{}", watch.shown());
    }
    assert_eq!(status(old).unwrap()["node"]["state"], "inactive");
    // The end: everything is taken down, on both.
    for node in [old, new] {
        pair::stop(node);
        wait_empty(node);
        assert_eq!(node.table().to_string(), "");
        assert!(!node.run("ip -oneline addr").contains(" 10.0.2."));
    }
}
