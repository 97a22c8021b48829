//! What is one check and what are two, and what becomes of those nobody wants any more.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Checks, LIMITS, LONG, connect, exchange, listen, prefix, tcp};
use health::failure::Failure;
use health::recipe::Target;
use std::io::Read;
use std::net::Ipv4Addr;
use std::time::Instant;

#[test]
fn equal_checks_are_run_once() {
    let server = tcp(drop);
    let mut checks = Checks::new(LIMITS);
    let target = server.target();
    let recipe = connect(LONG);
    let job = checks.add(target, &recipe);
    for _ in 0..5 {
        assert_eq!(checks.add(target, &recipe), job);
    }
    // Not equal: other bytes, another interval, another port or protocol.
    let others = [
        (target, exchange(b"x", None, LONG)),
        (target, exchange(b"", prefix(b"x"), LONG)),
        (target, connect(LONG - 1)),
        (Target { udp: true, ..target }, recipe),
    ];
    let mut jobs = vec![job];
    for (target, recipe) in &others {
        jobs.push(checks.add(*target, recipe));
    }
    jobs.sort_unstable();
    jobs.dedup();
    assert_eq!((jobs.len(), checks.engine.len()), (5, 5));
    checks.first(&jobs);
    checks.until(|_| server.seen() >= 4);
    assert_eq!(server.seen(), 4, "one connection for each that is TCP");
    assert_eq!(checks.engine.target(job), Some(target));
    assert!(checks.engine.last(job).is_some_and(|last| last.result.is_ok()));
}

#[test]
fn a_check_ends_with_its_last_user_and_its_connection_with_it() {
    let listener = listen(Ipv4Addr::LOCALHOST, 16);
    let addr = listener.local_addr().unwrap();
    let target = Target { addr: addr.ip(), port: addr.port(), udp: false };
    let recipe = exchange(b"hello", prefix(b"x"), LONG);
    let mut checks = Checks::new(LIMITS);
    let job = checks.add(target, &recipe);
    checks.add(target, &recipe);
    checks.engine.run(Instant::now());
    let mut stream = listener.accept().unwrap().0;
    let mut said = [0; 5];
    checks.until(|engine| {
        engine.run(Instant::now());
        stream.set_nonblocking(true).unwrap();
        stream.peek(&mut [0; 5]).is_ok_and(|n| n == 5)
    });
    stream.set_nonblocking(false).unwrap();
    stream.read_exact(&mut said).unwrap();
    checks.engine.remove(job);
    assert_eq!(checks.engine.len(), 1);
    stream.set_nonblocking(true).unwrap();
    assert!(stream.read(&mut [0]).is_err(), "open: somebody still wants it");
    checks.engine.remove(job);
    stream.set_nonblocking(false).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "closed");
    assert!(checks.engine.is_empty());
    // Once too often is nothing.
    checks.engine.remove(job);
    checks.engine.remove(12345);
}

#[test]
fn a_job_removed_while_it_waits_is_never_run() {
    let server = tcp(drop);
    let mut checks = Checks::new(LIMITS);
    let job = checks.add(server.target(), &connect(LONG));
    checks.engine.remove(job);
    let other = tcp(drop);
    checks.one(other.target(), &connect(LONG));
    assert_eq!((server.seen(), checks.engine.len()), (0, 0));
}

#[test]
fn nothing_keeps_a_waiting_engine_busy() {
    // One that hangs, one that has ended: nothing to do until a limit or the next time.
    let (silent, quick) = (tcp(std::mem::forget), tcp(drop));
    let mut checks = Checks::new(LIMITS);
    let hanging = checks.add(silent.target(), &exchange(b"", prefix(b"x"), 300));
    checks.one(quick.target(), &connect(LONG));
    let before = checks.world.turns;
    let got = checks.first(&[hanging]);
    assert_eq!(got, [Err(Failure::ReadTimeout)]);
    let turns = checks.world.turns - before;
    assert!(turns < 30, "{turns} turns of the loop for one event");
}
