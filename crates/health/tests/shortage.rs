//! When this machine is short of descriptors. Alone in its program: it changes the process's limit.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{
    Checks, LIMITS, LONG, Monitor, connect, group, listen, loopback, program, server, state,
};
use health::recipe::Target;
use health::state::Health;
use health::wire::{Known, Server};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fs::File;
use std::net::Ipv4Addr;
use std::time::Instant;

/// Takes all descriptors there are.
fn take_all() -> Vec<File> {
    let mut held = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        held.push(file);
    }
    held
}

#[test]
fn checks_wait_nobody_is_called_down_and_all_goes_on_later() {
    // Nobody accepts: connections need no descriptor on this side.
    let listener = listen(Ipv4Addr::UNSPECIFIED, 1024);
    let port = listener.local_addr().unwrap().port();
    let target = |n| Target { addr: loopback(n), port, udp: false };
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 200, hard).unwrap();
    what_an_engine_says(target);
    what_becomes_of_servers(target);
}

fn what_an_engine_says(target: impl Fn(u32) -> Target) {
    let mut checks = Checks::new(LIMITS);
    let held = take_all();
    let jobs: Vec<_> = (0..30).map(|n| checks.add(target(n), &connect(LONG))).collect();
    let before = checks.world.turns;
    for _ in 0..5 {
        assert!(checks.turn().is_empty());
        assert_eq!(checks.engine.shortage(), Some(Errno::EMFILE));
    }
    assert_eq!(checks.world.turns - before, 5);
    assert!(checks.engine.deadline().is_some_and(|at| at > Instant::now()), "it does not spin");
    drop(held);
    assert!(checks.first(&jobs).iter().all(Result::is_ok));
    assert_eq!(checks.engine.shortage(), None);
}

fn what_becomes_of_servers(target: impl Fn(u32) -> Target) {
    let mut monitor = Monitor::with_programs(LIMITS);
    monitor.group(group(1, connect(50)));
    monitor.group(group(2, program("echo OK", Some(b"OK"), LONG)));
    for id in 0..20 {
        monitor.server(&server(id, 1, target(id)));
    }
    let known = Some(Known { up: true, weight: Some(1) });
    monitor.server(&Server { known, ..server(100, 2, target(100)) });
    let news = monitor.news(21);
    assert!(news.iter().all(|s| s.up) && news.len() == 21);

    // Nothing is left: everything waits, for many intervals.
    let mut held = Vec::new();
    let mut turns_without = 0;
    while turns_without < 3 {
        // A check that was going on gives its descriptor back at its end.
        let more = take_all();
        turns_without = if more.is_empty() { turns_without + 1 } else { 0 };
        held.extend(more);
        assert_eq!(monitor.turn(), []);
    }
    for id in 20..40 {
        monitor.server(&server(id, 1, target(id)));
    }
    for _ in 0..20 {
        assert_eq!(monitor.turn(), [], "no server goes down, none comes up");
    }

    // One descriptor is enough for one socket at a time; a program takes more. It must not keep the
    // others waiting.
    held.pop();
    monitor.server(&server(101, 2, target(101)));
    let news = monitor.news(20);
    assert!(news.iter().all(|s| s.up && (20..40).contains(&s.id)), "{news:?}");
    assert_eq!(monitor.pool.health(101), Some(Health::Unknown), "not run yet");

    held.clear();
    assert_eq!(monitor.news(1), [state(101, Some(1))]);
}
