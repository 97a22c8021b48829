//! Check programs: what they print, how they end, and what they find themselves in.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Checks, LIMITS, LONG, Scripts, await_end, lives, number_in, program, resident};
use daemon::process::Ended;
use health::engine::Limits;
use health::failure::Failure;
use health::recipe::{Action, Recipe, Target, split_words};
use nix::errno::Errno;
use std::os::fd::AsFd;
use std::time::Instant;

/// A time limit that is reached, in milliseconds.
const SHORT: u32 = 60;

fn target() -> Target {
    Target { addr: "10.0.0.3".parse().unwrap(), port: 8080, udp: false }
}

/// What a program that runs in the engine prints.
fn printed(checks: &mut Checks, command: &str) -> String {
    let words = split_words(command.as_bytes());
    let recipe = Recipe { action: Action::Load { words }, interval_ms: LONG };
    let outcome = checks.one(target(), &recipe);
    assert_eq!(outcome.result, Ok(()), "{command}");
    String::from_utf8(outcome.output.unwrap()).unwrap()
}

/// Asks for a check with longer and longer limits until `enough`, for what a slow machine does not
/// get done within a short one.
fn with_enough_time(
    checks: &mut Checks,
    command: &str,
    expect: &[u8],
    enough: impl Fn(&Result<(), Failure>) -> bool,
) -> Result<(), Failure> {
    let mut limit = 250;
    loop {
        let got = checks.one(target(), &program(command, Some(expect), limit)).result;
        if enough(&got) || limit > 60_000 {
            return got;
        }
        limit *= 2;
    }
}

#[test]
fn what_they_print_and_how_they_end() {
    let mut checks = Checks::with_programs(LIMITS);
    let scripts = Scripts::new("verdicts");
    let ended = |how| Err(Failure::ProgramEnded(how));
    let answer = |text: &[u8]| Err(Failure::program_answer(text));
    let cases = [
        ("echo OK", Some("OK"), Ok(())),
        ("printf OK", Some("OK"), Ok(())),
        ("printf 'OK\\n\\n'", Some("OK"), answer(b"OK\n")),
        ("printf 'OK\\n\\n'", Some("OK\n"), Ok(())),
        ("echo FAIL", Some("OK"), answer(b"FAIL")),
        ("echo OKAY", Some("OK"), answer(b"OKAY")),
        ("echo OK; exit 3", Some("OK"), Ok(())),
        ("echo OK; kill -9 $$", Some("OK"), Ok(())),
        ("echo FAIL; exit 3", Some("OK"), answer(b"FAIL")),
        ("exit 0", Some("OK"), Err(Failure::ProgramSilent)),
        ("echo", Some("OK"), Err(Failure::ProgramSilent)),
        ("echo OK >&2", Some("OK"), Err(Failure::ProgramSilent)),
        ("exit 3", Some("OK"), ended(Ended::Exited(3))),
        ("kill -9 $$", Some("OK"), ended(Ended::Signaled(9))),
        ("kill -40 $$", Some("OK"), ended(Ended::Signaled(40))),
        ("exec >&-; echo OK", Some("OK"), ended(Ended::Exited(1))),
        ("exec >&-; sleep 0.05", Some("OK"), Err(Failure::ProgramSilent)),
        ("exit 0", None, Ok(())),
        ("echo whatever", None, Ok(())),
        ("head -c 1000000 /dev/zero", None, Ok(())),
        ("echo OK; exit 1", None, ended(Ended::Exited(1))),
    ];
    let mut jobs = Vec::new();
    for (at, (text, expect, _)) in cases.iter().enumerate() {
        let path = scripts.sh(&format!("case{at}"), text);
        jobs.push(checks.add(target(), &program(&path, expect.map(str::as_bytes), LONG)));
    }
    for ((text, expect, want), got) in cases.into_iter().zip(checks.first(&jobs)) {
        assert_eq!(got, want, "{text} for {expect:?}");
    }
}

#[test]
fn what_cannot_be_run() {
    let mut checks = Checks::with_programs(LIMITS);
    let scripts = Scripts::new("cannot");
    let cases = [
        (scripts.file("plain", b"#!/bin/sh\necho OK\n", 0o644), Errno::EACCES),
        (scripts.path("missing"), Errno::ENOENT),
        (scripts.path("."), Errno::EACCES),
        (scripts.path("missing/program"), Errno::ENOENT),
        (scripts.file("interpreter", b"#!/no/such/shell\necho OK\n", 0o755), Errno::ENOENT),
        (scripts.file("windows", b"#!/bin/sh\r\necho OK\r\n", 0o755), Errno::ENOENT),
    ];
    for (command, errno) in cases {
        let got = checks.one(target(), &program(&command, Some(b"OK"), LONG)).result;
        assert_eq!(got, Err(Failure::ProgramStart(errno)), "{command}");
    }
    let empty =
        Recipe { action: Action::Program { words: vec![], expect: None }, interval_ms: LONG };
    let got = checks.one(target(), &empty).result;
    assert!(matches!(got, Err(Failure::ProgramStart(_))), "{got:?}");
    let nul = program("/bin/true\0", None, LONG);
    let got = checks.one(target(), &nul).result;
    assert!(matches!(got, Err(Failure::ProgramStart(_))), "{got:?}");
}

#[test]
fn what_they_are_given() {
    // As whoever starts a daemon may leave it.
    let mut blocked = nix::sys::signal::SigSet::empty();
    blocked.add(nix::sys::signal::Signal::SIGTERM);
    blocked.thread_block().unwrap();
    let mut checks = Checks::with_programs(LIMITS);
    let scripts = Scripts::new("given");
    let show = scripts.sh("show", "for word; do printf '(%s)' \"$word\"; done");
    let got = printed(&mut checks, &format!("{show} %h \t%p\t x%h %p%p 'a b'"));
    assert_eq!(got, "(10.0.0.3)(8080)(x%h)(%p%p)('a)(b')");
    let v6 = Target { addr: "2001:db8::3".parse().unwrap(), ..target() };
    let got = checks.one(v6, &program(&format!("{show} %h"), Some(b"(2001:db8::3)"), LONG)).result;
    assert_eq!(got, Ok(()));
    for fd in [0, 2] {
        let link = printed(&mut checks, &format!("readlink /proc/self/fd/{fd}"));
        assert_eq!(link, "/dev/null\n", "descriptor {fd}");
    }
    // The parent, as every Rust program, ignores SIGPIPE, number 13.
    let status = printed(&mut checks, "cat /proc/self/status");
    let mask = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    assert_eq!(mask("SigBlk:"), 0, "no signal is blocked");
    assert_eq!(mask("SigIgn:") & (1 << 12), 0, "SIGPIPE is not ignored");
}

#[test]
fn no_descriptor_of_ours_is_theirs() {
    let mut checks = Checks::with_programs(LIMITS);
    let listener = common::listen(std::net::Ipv4Addr::LOCALHOST, 16);
    let addr = listener.local_addr().unwrap();
    let target = Target { addr: addr.ip(), port: addr.port(), udp: false };
    // A check that goes on meanwhile has a socket.
    checks.add(target, &common::exchange(b"", common::prefix(b"x"), LONG));
    let held = checks.engine.as_fd().try_clone_to_owned().unwrap();
    checks.turn();
    let ours: Vec<String> = links("/proc/self/fd");
    assert!(
        ours.iter().any(|l| l.starts_with("socket:"))
            && ours.iter().any(|l| l.contains("eventpoll"))
    );
    let theirs = printed(&mut checks, "ls -l /proc/self/fd");
    for kind in ["socket:", "eventpoll"] {
        assert!(!theirs.contains(kind), "{theirs}");
    }
    drop(held);
}

fn links(dir: &str) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap().flatten();
    let link = |e: std::fs::DirEntry| std::fs::read_link(e.path()).ok();
    entries.filter_map(link).map(|l| l.to_string_lossy().into_owned()).collect()
}

#[test]
fn one_that_hangs_is_ended_with_all_it_started() {
    let mut checks = Checks::with_programs(LIMITS);
    let scripts = Scripts::new("hangs");
    let pids = scripts.path("pid");
    let hangs = scripts.sh("hangs", "sleep 1000 & echo $! > \"$1\"; exec sleep 1000");
    let command = format!("{hangs} {pids}");
    let got = with_enough_time(&mut checks, &command, b"OK", |_| number_in(&pids).is_some());
    assert_eq!(got, Err(Failure::ProgramTimeout));
    await_end(number_in(&pids).unwrap());
    // What it printed until then counts, if it is what was expected.
    let late = scripts.sh("late", "echo OK; exec sleep 1000");
    assert_eq!(with_enough_time(&mut checks, &late, b"OK", Result::is_ok), Ok(()));
    let got = checks.one(target(), &program("sleep 1000", None, SHORT)).result;
    assert_eq!(got, Err(Failure::ProgramTimeout));
}

#[test]
fn an_end_is_not_waited_for_because_something_holds_the_output_open() {
    let mut checks = Checks::with_programs(LIMITS);
    let scripts = Scripts::new("holds");
    let pids = scripts.path("pid");
    let forks = scripts.sh("forks", "sleep 1000 & echo $! > \"$1\"; echo OK");
    let got = checks.one(target(), &program(&format!("{forks} {pids}"), Some(b"OK"), LONG)).result;
    assert_eq!(got, Ok(()));
    await_end(number_in(&pids).unwrap());
}

#[test]
fn a_removed_check_ends_its_program_and_so_does_the_end_of_the_engine() {
    let mut checks = Checks::with_programs(LIMITS);
    let scripts = Scripts::new("removed");
    let waits = scripts.sh("waits", "echo $$ > \"$1\"; exec sleep 1000");
    let run = |checks: &mut Checks, name: &str| {
        let pids = scripts.path(name);
        let job = checks.add(target(), &program(&format!("{waits} {pids}"), None, LONG));
        while number_in(&pids).is_none() {
            checks.engine.run(Instant::now());
        }
        (job, number_in(&pids).unwrap())
    };
    let (job, pid) = run(&mut checks, "first");
    checks.engine.add(
        target(),
        &program(&format!("{waits} {}", scripts.path("first")), None, LONG),
        Instant::now(),
    );
    checks.engine.remove(job);
    assert!(lives(pid), "somebody else still wants it");
    checks.engine.remove(job);
    await_end(pid);
    assert!(checks.engine.is_empty());
    let (_, pid) = run(&mut checks, "second");
    drop(checks);
    await_end(pid);
}

#[test]
fn endless_output_costs_little_memory_and_time() {
    let mut checks = Checks::with_programs(LIMITS);
    let scripts = Scripts::new("endless");
    let endless = scripts.sh("endless", "exec yes");
    let before = resident();
    let got = checks.one(target(), &program(&endless, Some(b"OK"), LONG)).result;
    assert_eq!(got, Err(Failure::program_answer("y\n".repeat(40).as_bytes())));
    let much = scripts.sh("much", "exec head -c 100000000 /dev/zero");
    assert_eq!(checks.one(target(), &program(&much, None, LONG)).result, Ok(()));
    let used = resident().saturating_sub(before);
    assert!(used < 8_000_000, "{used} bytes for 100 MB of output");
}

#[test]
fn a_program_that_hangs_with_a_closed_or_full_pipe_does_not_make_the_loop_spin() {
    let mut checks = Checks::with_programs(LIMITS);
    let scripts = Scripts::new("spin");
    let closed = scripts.sh("closed", "exec >&-; exec sleep 1000");
    let before = checks.world.turns;
    let got = checks.one(target(), &program(&closed, Some(b"OK"), 500)).result;
    assert_eq!(got, Err(Failure::ProgramTimeout));
    let turns = checks.world.turns - before;
    assert!(turns < 50, "{turns} turns of the loop for one program");
}

#[test]
fn never_more_at_once_than_allowed() {
    let mut checks = Checks::with_programs(Limits { sockets: 10, programs: 2 });
    let scripts = Scripts::new("most");
    let crowd = scripts.path("crowd");
    std::fs::create_dir(&crowd).unwrap();
    let counts =
        scripts.sh("counts", "mkdir \"$1/$$\"; sleep 0.05; ls \"$1\" | wc -l; rmdir \"$1/$$\"");
    let words = |n: u8| split_words(format!("{counts} {crowd} {n}").as_bytes());
    for number in 0..6 {
        let recipe = Recipe { action: Action::Load { words: words(number) }, interval_ms: LONG };
        checks.add(target(), &recipe);
    }
    let outcomes = checks.next(6);
    let mut seen: Vec<_> = outcomes.iter().map(|o| o.job).collect();
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3, 4, 5], "each gets its turn");
    for outcome in outcomes {
        let output = String::from_utf8(outcome.output.unwrap()).unwrap();
        let alive: u32 = output.trim().parse().unwrap();
        assert!((1..=2).contains(&alive), "{alive} at once");
    }
}

/// Says what a shell makes of things that bash knows and some shells of that name do not.
const BASH_WAYS: &str = "x=1\n[ \"$x\" == \"1\" ] && echo -e \"a\\tb\" && printf '%s' $'c\\td'";
const BASH_VERDICT: &[u8] = b"a\tb\nc\td";

#[test]
fn scripts_for_sh_get_what_sh_was_where_they_were_written() {
    if !std::path::Path::new("/bin/bash").exists() {
        common::report("no /bin/bash here: nothing to test");
        return;
    }
    let mut checks = Checks::with_programs(LIMITS);
    let scripts = Scripts::new("sh");
    let with_option = format!("#!/bin/sh -e\n{BASH_WAYS}\nfalse\necho after\n");
    let for_bash = format!("#!/bin/bash\n{BASH_WAYS}\n");
    let cases = [
        ("plain", scripts.sh("plain", BASH_WAYS)),
        ("an option that ends it", scripts.file("option", with_option.as_bytes(), 0o755)),
        ("for bash itself", scripts.file("bash", for_bash.as_bytes(), 0o755)),
        ("without a first line", scripts.file("none", BASH_WAYS.as_bytes(), 0o755)),
    ];
    for (why, path) in cases {
        let got = checks.one(target(), &program(&path, Some(BASH_VERDICT), LONG)).result;
        assert_eq!(got, Ok(()), "{why}");
    }
    // The script of the field: OK or FAIL from a comparison with `==`, its name in $0.
    let field = scripts.sh(
        "lvs-check.sh",
        "if [ \"$1\" == \"10.0.0.3\" ]; then TEST=1; else TEST=0; fi\n\
         if [ $TEST == \"1\" ]; then\n echo \"OK\"\nelse\n echo \"FAIL\"\nfi\nexit 0",
    );
    let got = checks.one(target(), &program(&format!("{field} %h"), Some(b"OK"), LONG)).result;
    assert_eq!(got, Ok(()));
    let name = scripts.sh("name", "echo \"$0\"");
    assert_eq!(printed(&mut checks, &name), format!("{name}\n"));
}

#[test]
fn files_that_are_neither_programs_nor_scripts() {
    let mut checks = Checks::with_programs(LIMITS);
    let scripts = Scripts::new("enoexec");
    // As execvp(3): the shell reads what the kernel does not know.
    let plain = scripts.file("plain", b"echo \"$1\"\n", 0o755);
    let got = checks.one(target(), &program(&format!("{plain} %p"), Some(b"8080"), LONG)).result;
    assert_eq!(got, Ok(()));
    let empty = scripts.file("empty", b"", 0o755);
    let got = checks.one(target(), &program(&empty, Some(b"OK"), LONG)).result;
    assert_eq!(got, Err(Failure::ProgramSilent));
    let garbage = scripts.file("garbage", b"\x00\x01\x02\x7f\x00\n\x00", 0o755);
    let got = checks.one(target(), &program(&garbage, Some(b"OK"), LONG)).result;
    assert!(matches!(got, Err(Failure::ProgramEnded(Ended::Exited(_)))), "{got:?}");
}
