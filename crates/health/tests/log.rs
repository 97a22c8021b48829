//! The lines an operator reads. Alone in its program: a process has one logger.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{
    EVERY, LIMITS, LONG, Monitor, Scripted, Scripts, closed_port, connect, exchange, group, prefix,
    program, server, tcp,
};
use health::pool::load_words;
use health::state::{Force, STEP};
use health::wire::Group;
use log::{LevelFilter, Log, Metadata, Record};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Keeps every line from level info up.
struct Kept(Mutex<Vec<String>>);

static LINES: Kept = Kept(Mutex::new(Vec::new()));

impl Log for Kept {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        self.0.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

fn lines() -> Vec<String> {
    std::mem::take(&mut LINES.0.lock().unwrap())
}

// One test: two would read each other's lines.
#[test]
fn one_line_a_change() {
    log::set_logger(&LINES).unwrap();
    log::set_max_level(LevelFilter::Info);
    changes_of_a_server();
    a_flapping_return();
    a_failure_that_stays();
    an_operators_orders();
    every_kind_of_failure();
    loads_that_cannot_be_read();
}

fn changes_of_a_server() {
    let real = Scripted::new("++---++");
    let target = real.target();
    let mut monitor = Monitor::new(LIMITS);
    monitor.group(group(1, exchange(b"", prefix(b"OK"), EVERY)));
    monitor.server(&server(7, 1, target));
    for _ in 0..10 {
        monitor.next_check(&real);
    }
    let wrong = format!(
        "Trouble. Received results are not what we expected from ({target}): unexpected answer \"no\""
    );
    assert_eq!(
        lines(),
        [
            format!("[ active ] making {target} available"),
            wrong,
            format!("[inactive] shutting down {target} due to connection failure"),
            format!("[ active ] making {target} available"),
        ]
    );
}

/// Every other check fails while the server is on its way back: that is no news.
fn a_flapping_return() {
    let real = Scripted::new("+-+-+-+-+-+-");
    let mut monitor = Monitor::new(LIMITS);
    monitor.group(Group { reentry: 3, ..group(1, exchange(b"", prefix(b"OK"), EVERY)) });
    monitor.server(&server(7, 1, real.target()));
    // All within the ten minutes after which a failure is logged again.
    for _ in 0..12 {
        monitor.next_check(&real);
    }
    let lines = lines();
    assert_eq!(lines.len(), 3, "{lines:#?}");
}

fn a_failure_that_stays() {
    let (_held, target) = closed_port();
    let mut monitor = Monitor::new(LIMITS);
    monitor.group(group(1, connect(60_000)));
    monitor.server(&server(7, 1, target));
    let mut now = Instant::now();
    // Two hours, in which the pool looks around every minute.
    for _ in 0..120 {
        let until = now + Duration::from_secs(60);
        while monitor.pool.deadline().is_some_and(|at| at <= now) {
            monitor.pool.run(now);
        }
        now = until;
    }
    assert!(monitor.pool.failures(7) > 40, "{} checks", monitor.pool.failures(7));
    let lines = lines();
    assert!(lines.iter().all(|l| *l == format!("CONNECT to {target} failed: Connection refused")));
    assert!((10..=13).contains(&lines.len()), "{} lines in two hours", lines.len());
}

fn an_operators_orders() {
    let real = tcp(drop);
    let target = real.target();
    let mut monitor = Monitor::new(LIMITS);
    monitor.group(group(1, connect(LONG)));
    monitor.server(&server(7, 1, target));
    monitor.news(1);
    lines();
    for force in [Force::Down, Force::Up, Force::Auto] {
        monitor.pool.force(7, force, Instant::now());
    }
    assert_eq!(
        lines(),
        [
            format!("opaque glasses on: {target} is kept down"),
            format!("[inactive] shutting down {target} due to connection failure"),
            format!("rose-colored glasses on: {target} is kept up"),
            format!("[ active ] making {target} available"),
            format!("glasses off: the checks decide about {target}"),
        ]
    );
}

fn every_kind_of_failure() {
    let mut monitor = Monitor::with_programs(LIMITS);
    let scripts = Scripts::new("log");
    let real = tcp(std::mem::forget);
    let target = real.target();
    let silent = scripts.sh("silent", "exit 0");
    let bad = scripts.sh("bad", "exit 4");
    let hangs = scripts.sh("hangs", "exec sleep 1000");
    let missing = scripts.path("missing");
    let expecting = |command: &str| program(&format!("{command} %h"), Some(b"OK"), LONG);
    let recipes = [
        (exchange(b"", prefix(b"x"), 50), format!("READ to {target} timed out")),
        (
            expecting(&silent),
            format!("Ran the external sending program to ({target}) but didn't get anything back"),
        ),
        (
            expecting(&bad),
            format!("The following exited abnormally: {bad} 127.0.0.1 (exited with status 4)"),
        ),
        (program(&hangs, Some(b"OK"), 50), format!("timeout running the following: {hangs}")),
        (
            expecting(&missing),
            format!(
                "cannot run the check program: it, or the interpreter its first line names, does \
                 not exist: {missing} 127.0.0.1"
            ),
        ),
    ];
    let mut wanted = Vec::new();
    for (id, (recipe, line)) in (0..).zip(recipes) {
        monitor.group(group(id, recipe));
        monitor.server(&server(id, id, target));
        wanted.push(line);
    }
    monitor.until(|pool| (0..5).all(|id| pool.failures(id) > 0));
    let mut got = lines();
    got.sort();
    wanted.sort();
    assert_eq!(got, wanted);
}

fn loads_that_cannot_be_read() {
    let mut monitor = Monitor::with_programs(LIMITS);
    let scripts = Scripts::new("loadlog");
    let real = tcp(drop);
    let fails = scripts.sh("fails", "[ -e \"$0.good\" ] && exec echo load: 1; exit 2");
    let nonsense = scripts.sh("nonsense", "echo; echo load: lots; echo");
    for (id, command) in [(1, &fails), (2, &nonsense)] {
        monitor.group(Group { load: Some(load_words(command)), ..group(id, connect(LONG)) });
        monitor.server(&server(id, id, real.target()));
    }
    // Twice each, by a clock that is ahead.
    monitor.until_programs_end(2);
    monitor.world.ahead += 2 * STEP;
    monitor.until_programs_end(2);
    let service = format!("(10.0.0.100:80 -> {})", real.target());
    let failed = format!(
        "failed to read remote load {service}: The following exited abnormally: {fails} 127.0.0.1 \
         (exited with status 2)"
    );
    let is_of_load = |line: &String| line.contains("load");
    let mut got: Vec<String> = lines().into_iter().filter(is_of_load).collect();
    got.sort();
    assert_eq!(got, [format!("bad load average returned: load: lots {service}"), failed.clone()]);
    // Good once, then bad again.
    for _ in 0..2 {
        if !scripts.remove("fails.good") {
            scripts.file("fails.good", b"", 0o644);
        }
        monitor.world.ahead += 2 * STEP;
        monitor.until_programs_end(2);
    }
    assert_eq!(lines().into_iter().filter(is_of_load).collect::<Vec<_>>(), [failed]);
}
