//! Weights that follow what a program says of a server's load.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{LIMITS, LONG, Monitor, Scripts, connect, group, server, state, tcp};
use health::pool::load_words;
use health::state::{Health, STEP};
use health::wire::{Group, Known, Server};
use std::time::Instant;

#[test]
fn a_load_moves_the_weight_within_its_bounds() {
    let mut monitor = Monitor::with_programs(LIMITS);
    let scripts = Scripts::new("load");
    let load = scripts.path("load");
    let uptime = scripts.sh(
        "uptime",
        &format!("[ $# = 1 ] && echo \" 10:02:11 up 3 days, load average: $(cat {load}), 9, 9\""),
    );
    let real = tcp(drop);
    monitor.group(Group { load: Some(load_words(&uptime)), ..group(1, connect(LONG)) });
    let known = Some(Known { up: true, weight: Some(100) });
    // last + weight/2 * cube root of (1 - load), and the other way round above a load of 1.
    let steps = [("0.0", 150), ("0.875", 175), ("1.0", 175), ("2.0", 125), ("9.0", 100)];
    scripts.file("load", steps[0].0.as_bytes(), 0o644);
    monitor.server(&Server { weight: 100, known, ..server(7, 1, real.target()) });
    let mut last = 100;
    assert_eq!(monitor.news(1), [state(7, Some(last))]);
    let mut later = Instant::now();
    for (number, (text, want)) in steps.into_iter().enumerate() {
        scripts.file("load", text.as_bytes(), 0o644);
        if number > 0 {
            // The pool is told that the time for the next look at the load has come.
            later += 2 * STEP;
            assert_eq!(monitor.pool.run(later), []);
        }
        let news = monitor.until_programs_end(1);
        let told = if want == last { vec![] } else { vec![state(7, Some(want))] };
        assert_eq!(news, told, "at a load of {text}");
        last = want;
    }
}

#[test]
fn a_load_that_cannot_be_read_is_not_held_against_the_server() {
    let mut monitor = Monitor::with_programs(LIMITS);
    let scripts = Scripts::new("noload");
    let real = tcp(drop);
    let commands = [
        scripts.path("missing"),
        scripts.file("plain", b"#!/bin/sh\n", 0o644),
        scripts.sh("fails", "echo connection refused; exit 1"),
        scripts.sh("dies", "kill -9 $$"),
        scripts.sh("silent", "exit 0"),
        scripts.sh("nonsense", "echo load average: lots"),
        scripts.sh("much", "exec head -c 1000000 /dev/zero"),
    ];
    let count = u32::try_from(commands.len()).unwrap();
    for (id, command) in (0..).zip(&commands) {
        monitor.group(Group { load: Some(load_words(command)), ..group(id, connect(LONG)) });
        monitor.server(&Server { weight: 32, ..server(id, id, real.target()) });
    }
    // All but the two that cannot be started and the one that is stopped.
    let mut news = monitor.until_programs_end(commands.len() - 3);
    news.extend(monitor.until(|pool| (0..count).all(|id| pool.health(id) == Some(Health::Up))));
    news.extend(monitor.pool.run(Instant::now()));
    news.sort_by_key(|s| s.id);
    let want: Vec<_> = (0..count).map(|id| state(id, Some(1))).collect();
    assert_eq!(news, want);
    for id in 0..count {
        assert_eq!(monitor.pool.health(id), Some(Health::Up), "{}", commands[id as usize]);
        assert_eq!(monitor.pool.failures(id), 0);
    }
}

#[test]
fn another_load_program_or_none() {
    let mut monitor = Monitor::with_programs(LIMITS);
    let scripts = Scripts::new("otherload");
    let idle = scripts.sh("idle", "echo load: 0");
    let real = tcp(drop);
    let with =
        |command: Option<&str>| Group { load: command.map(load_words), ..group(1, connect(LONG)) };
    monitor.group(with(None));
    let known = Some(Known { up: true, weight: Some(100) });
    monitor.server(&Server { weight: 100, known, ..server(7, 1, real.target()) });
    assert_eq!(monitor.news(1), [state(7, Some(100))]);
    monitor.group(with(Some(&idle)));
    assert_eq!(monitor.news(1), [state(7, Some(150))]);
    monitor.group(with(None));
    assert_eq!(monitor.pool.run(Instant::now() + 10 * STEP), []);
    assert_eq!(monitor.pool.standing(7), Some((true, Some(150))));
}

#[test]
fn the_words_of_a_load_program() {
    let cases = [
        ("rup", "rup %h"),
        ("ssh", "ssh %h uptime"),
        ("/usr/bin/rsh", "/usr/bin/rsh %h uptime"),
        ("/opt/sshload -q", "/opt/sshload -q %h"),
        ("ssh -l monitor", "ssh -l monitor %h uptime"),
    ];
    for (command, want) in cases {
        let words: Vec<String> =
            load_words(command).into_iter().map(|w| String::from_utf8(w).unwrap()).collect();
        assert_eq!(words.join(" "), want);
    }
}
