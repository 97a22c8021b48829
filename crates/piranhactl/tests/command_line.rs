//! What piranhactl prints and how it ends, without a running lvsd.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use common::{Dir, command, finish, piranhactl};
use std::{
    fs,
    io::pipe,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    process::Command,
};

const GOOD: &str = "\
primary = 10.0.0.11
virtual web {
    active = 1
    address = 10.0.0.100 eth0:1
    server rs1 {
        address = 10.0.0.21
        active = 1
    }
}
";

/// The help text.
fn help() -> String {
    let run = piranhactl(&["--help"]);
    assert_eq!((run.status, run.stderr.as_str()), (0, ""));
    run.stdout
}

#[test]
fn a_clean_file() {
    let dir = Dir::new("clean");
    let file = dir.write("lvs.cf", GOOD);
    let check = piranhactl(&["check", "-c", &file]);
    assert_eq!((check.status, check.stderr.as_str()), (0, ""));
    assert_eq!(check.stdout, format!("{file}: no errors, no warnings\n"));
    // The options may stand anywhere.
    assert_eq!(piranhactl(&["--configfile", &file, "check"]).stdout, check.stdout);

    let config = piranhactl(&["config", "-c", &file]);
    assert_eq!((config.status, config.stderr.as_str()), (0, ""));
    for line in [
        "primary = 10.0.0.11",
        "keepalive = 2",
        "virtual web",
        "    address = 10.0.0.100",
        "    device = eth0:1",
        "    port = 80",
        "    scheduler = wlc",
        "    server rs1",
        "        address = 10.0.0.21",
        "        weight = 1",
    ] {
        assert!(config.stdout.lines().any(|found| found == line), "{line}: {}", config.stdout);
    }
    for absent in ["name =", "backup =", "null", "sorry_server"] {
        assert!(!config.stdout.contains(absent), "{absent}: {}", config.stdout);
    }
}

#[test]
fn a_warning_is_no_error() {
    let dir = Dir::new("warning");
    let file = dir.write("lvs.cf", format!("keepalive = 4\nkeepalive = 6\n{GOOD}"));
    let check = piranhactl(&["check", "-c", &file]);
    assert_eq!(check.status, 0, "{}", check.stdout);
    assert!(check.stdout.starts_with(&format!("{file}:2:1: warning: ")), "{}", check.stdout);
    assert!(check.stdout.ends_with(&format!("{file}: no errors, 1 warning\n")), "{}", check.stdout);
}

#[test]
fn an_error_is_shown_at_its_place() {
    let dir = Dir::new("error");
    let file = dir.write("lvs.cf", "primary = 10.0.0.11\nkeepalve = 6\n");
    let shown = format!(
        "{file}:2:1: error: unknown command: `keepalve` [unknown-command]\n    \
             2 | keepalve = 6\n      | ^^^^^^^^\n      = did you mean `keepalive`?\n"
    );
    let check = piranhactl(&["check", "-c", &file]);
    assert_eq!((check.status, check.stderr.as_str()), (1, ""));
    assert_eq!(check.stdout, format!("{shown}{file}: 1 error, no warnings\n"));

    let config = piranhactl(&["config", "-c", &file]);
    assert_eq!((config.status, config.stdout.as_str()), (1, ""));
    assert_eq!(config.stderr, format!("piranhactl: the file cannot be used\n{shown}"));
}

#[test]
fn findings_for_programs() {
    let dir = Dir::new("json");
    let bad = dir.write("bad.cf", "primary = 10.0.0.1\nkeepalve = 6\n");
    let check = piranhactl(&["check", "--json", "-c", &bad]);
    assert_eq!(check.status, 1);
    let findings: serde_json::Value = serde_json::from_str(&check.stdout).unwrap();
    let first = &findings[0];
    assert_eq!(
        (&first["severity"], &first["code"], &first["line"], &first["column"], &first["length"]),
        (&"error".into(), &"unknown-command".into(), &2.into(), &1.into(), &8.into())
    );
    assert!(first["hint"].as_str().unwrap().contains("keepalive"), "{first}");
}

#[test]
fn a_file_that_cannot_be_read() {
    let dir = Dir::new("unreadable");
    let secret = dir.write("secret.cf", GOOD);
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    let missing = dir.path().join("missing.cf").to_str().unwrap().to_owned();
    let folder = dir.path().to_str().unwrap().to_owned();
    let cases = [
        (&missing, "No such file or directory (os error 2)"),
        (&folder, "Is a directory (os error 21)"),
        (&secret, "Permission denied (os error 13)"),
    ];
    for (file, why) in cases {
        for words in [&["check"][..], &["config"], &["config", "--json"]] {
            let run = finish(as_nobody(&dir, command(&[])).args(words).args(["-c", file]));
            assert_eq!((run.status, run.stdout.as_str()), (1, ""), "{words:?} {file}");
            assert_eq!(run.stderr, format!("piranhactl: failed to open {file}: {why}\n"));
        }
    }
}

/// The command, but for root: who may read everything becomes somebody who may not, by a copy of
/// the program where that one reaches it.
fn as_nobody(dir: &Dir, command: Command) -> Command {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return command;
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = dir.path().join("piranhactl");
    if !copy.exists() {
        // By cp: a program that this process had open to write to is busy while another test forks.
        let copied = Command::new("cp").arg(command.get_program()).arg(&copy).status().unwrap();
        assert!(copied.success());
    }
    let mut command = Command::new(copy);
    command.uid(65_534).gid(65_534);
    command
}

#[test]
fn command_lines_that_are_refused() {
    let cases: [(&[&str], &str); 12] = [
        (&[], "no command given; try piranhactl --help"),
        (&["frob"], "frob: no such command; try piranhactl --help"),
        (&["frob", "x"], "frob: no such command; try piranhactl --help"),
        (&["up"], "up takes one server: BLOCK/SERVER"),
        (&["down", "a/b", "c/d"], "down takes one server: BLOCK/SERVER"),
        (&["auto"], "auto takes one server: BLOCK/SERVER"),
        (&["check", "x"], "check takes no operand: x"),
        (&["reload", "x", "y"], "reload takes no operand: x y"),
        (&["--frob", "check"], "bad argument --frob: unknown option"),
        (&["-x"], "bad argument -x: unknown option"),
        (&["check", "-c"], "bad argument -c: missing argument"),
        (&["status", "--control"], "bad argument --control: missing argument"),
    ];
    for (words, message) in cases {
        let run = piranhactl(words);
        assert_eq!((run.status, run.stdout.as_str()), (1, ""), "{words:?}");
        assert_eq!(run.stderr, format!("piranhactl: {message}\n"), "{words:?}");
    }
}

#[test]
fn without_lvsd() {
    let dir = Dir::new("without");
    let socket = dir.path().join("lvsd.sock").to_str().unwrap().to_owned();
    // One that a killed lvsd has left behind.
    let stale = dir.path().join("stale.sock").to_str().unwrap().to_owned();
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    for socket in [socket, stale] {
        for words in [
            &["status"][..],
            &["status", "--json"],
            &["up", "web/rs1"],
            &["down", "web/rs1"],
            &["auto", "web/rs1"],
            &["reload"],
        ] {
            let run = finish(command(words).args(["--control", &socket]));
            assert_eq!((run.status, run.stdout.as_str()), (1, ""), "{words:?}");
            let why = "lvsd is not running, or listens elsewhere (--control)";
            assert_eq!(run.stderr, format!("piranhactl: {socket}: {why}\n"), "{words:?}");
        }
    }
}

#[test]
fn help_names_every_command_and_option() {
    let help = help();
    assert!(help.starts_with("Usage: piranhactl COMMAND [OPTION...]\n"), "{help}");
    let first_words: Vec<&str> =
        help.lines().filter_map(|line| line.split_whitespace().next()).collect();
    for command in ["check", "config", "status", "up", "down", "auto", "reload"] {
        assert!(first_words.contains(&command), "{command}: {help}");
        // It is a command indeed: whatever it lacks, it is not unknown.
        let run = piranhactl(&[command, "-c", "/nonexistent", "--control", "/nonexistent"]);
        assert_eq!(run.status, 1, "{command}");
        assert!(!run.stderr.contains("no such command"), "{}", run.stderr);
    }
    let options = ["-c, --configfile=FILE", "--json", "--control=PATH", "--version", "-?, --help"];
    for option in options.into_iter().chain(["--usage"]) {
        assert!(help.contains(&format!(" {option} ")), "{option}: {help}");
    }
    assert_eq!(piranhactl(&["-?"]).stdout, help);
    let usage = piranhactl(&["--usage"]).stdout;
    assert!(usage.starts_with("Usage: piranhactl COMMAND [-c|--configfile=FILE]"), "{usage}");
}

#[test]
fn version_is_three_lines() {
    let run = piranhactl(&["--version"]);
    let version = env!("CARGO_PKG_VERSION");
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!((run.status, lines.len()), (0, 3), "{}", run.stdout);
    assert_eq!(lines[0], format!("Program Version:\t{version}"));
    assert!(lines[1].starts_with("Built:\t\t\t"), "{}", lines[1]);
    assert_eq!(lines[2], format!("A component of:\t\tpiranha-{version}"));
}

#[test]
fn a_reader_that_has_gone_is_no_disaster() {
    let dir = Dir::new("pipe");
    let good = dir.write("good.cf", GOOD);
    let bad = dir.write("bad.cf", "x\n");
    for (words, status) in [
        (&["config", "--json", "-c", &good][..], 0),
        (&["config", "-c", &good], 0),
        (&["check", "-c", &good], 0),
        (&["check", "-c", &bad], 1),
        (&["config", "-c", &bad], 1),
        (&["frob"], 1),
        (&["--help"], 0),
        (&["--version"], 0),
    ] {
        let mut command = command(words);
        for to_stdout in [true, false] {
            let (reader, writer) = pipe().unwrap();
            drop(reader);
            match to_stdout {
                true => command.stdout(writer),
                false => command.stderr(writer),
            };
            // Killed by no signal, and not by the 101 of a panic.
            assert_eq!(command.status().unwrap().code(), Some(status), "{words:?}");
        }
    }
}
