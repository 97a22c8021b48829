//! What piranhactl prints and how it ends, without daemons or with such as say what they are told.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use common::{Dir, Run, command, finish, piranhactl};
use std::{
    fs,
    io::{BufRead, BufReader, Write, pipe},
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
    let cases: [(&[&str], &str); 16] = [
        (&[], "no command given; try piranhactl --help"),
        (&["frob"], "frob: no such command; try piranhactl --help"),
        (&["frob", "x"], "frob: no such command; try piranhactl --help"),
        (&["up"], "up takes one server: BLOCK/SERVER"),
        (&["down", "a/b", "c/d"], "down takes one server: BLOCK/SERVER"),
        (&["auto"], "auto takes one server: BLOCK/SERVER"),
        (&["check", "x"], "check takes no operand: x"),
        (&["reload", "x", "y"], "reload takes no operand: x y"),
        (&["handover", "x"], "handover takes no operand: x"),
        (&["check", "--system", "x"], "--system goes with check"),
        (&["status", "--system"], "--system goes with check"),
        (&["--system"], "--system goes with check"),
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
fn without_daemons() {
    let dir = Dir::new("without");
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    // One that a killed daemon has left behind, and one that never was.
    let stale = path("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    let (none, lvsd) = (path("none.sock"), "lvsd is not running, or listens elsewhere (--control)");
    let pulse = "pulse is not running, or listens elsewhere (--pulse-control)";
    for socket in [none, stale] {
        let both = format!("{socket}: {lvsd}\npiranhactl: {socket}: {pulse}");
        let lvsd = format!("{socket}: {lvsd}");
        for (words, why) in [
            (&["status"][..], &both),
            (&["status", "--json"], &both),
            (&["up", "web/rs1"], &lvsd),
            (&["down", "web/rs1"], &lvsd),
            (&["auto", "web/rs1"], &lvsd),
            (&["reload"], &lvsd),
            (&["handover"], &format!("{socket}: {pulse}")),
        ] {
            let mut command = command(words);
            let run = finish(command.args(["--control", &socket, "--pulse-control", &socket]));
            assert_eq!((run.status, run.stdout.as_str()), (1, ""), "{words:?}");
            assert_eq!(run.stderr, format!("piranhactl: {why}\n"), "{words:?}");
        }
    }
}

/// Runs a command against daemons that give these answers; what it was, and what they were asked.
fn with_daemons(words: &[&str], lvsd: Option<&str>, pulse: Option<&str>) -> (Run, Vec<String>) {
    let dir =
        Dir::new(&format!("daemons-{}-{}", words.join("-").replace('/', "-"), lvsd.is_some()));
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (sender, asked) = std::sync::mpsc::channel();
    for (name, answer) in [("lvsd", lvsd), ("pulse", pulse)] {
        let Some(answer) = answer.map(str::to_owned) else { continue };
        let listener = std::os::unix::net::UnixListener::bind(path(name)).unwrap();
        let sender = sender.clone();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                sender.send(format!("{name} {}", line.trim_end())).unwrap();
                writeln!(stream, "{answer}").unwrap();
            }
        });
    }
    let mut command = command(words);
    let run = finish(command.args(["--control", &path("lvsd"), "--pulse-control", &path("pulse")]));
    (run, asked.try_iter().collect())
}

const LVSD: &str = r#"{"version":"1","pid":8,"file":"lvs.cf","serial_no":4,"uptime_s":5,"reload_error":null,"table_error":null,"standby":false,"virtual_servers":[]}"#;
const PULSE: &str = r#"{"version":"1","pid":7,"file":"lvs.cf","serial_no":4,"service":"lvs","node":{"role":"backup","state":"inactive","since_ms":1,"reason":"started","able":true,"failure":null,"links_ok":true},"partner":{"state":"active","since_ms":null,"reason":null,"role":null,"able":null,"original":true,"heard_ms":100},"paths":[],"addresses":[],"child":null,"syncdaemon":null,"reload_error":null,"keepalive_ms":2000,"deadtime_ms":5000,"uptime_ms":5}"#;

#[test]
fn the_status_of_both_daemons() {
    let (run, asked) = with_daemons(&["status"], Some(LVSD), Some(PULSE));
    assert_eq!((run.status, run.stderr.as_str()), (0, ""));
    assert_eq!(asked, [r#"pulse {"command":"status"}"#, r#"lvsd {"command":"status"}"#]);
    for line in [
        "this node  backup  inactive  0.0 s  started",
        "lvsd 1, pid 8, lvs.cf (serial 4), up 5.0 s",
    ] {
        assert!(run.stdout.lines().any(|found| found == line), "{line}: {}", run.stdout);
    }
    assert!(!run.stdout.contains('\x1b'), "no terminal, no colour");

    // On an inactive node lvsd need not run.
    let (run, _) = with_daemons(&["status", "--json"], None, Some(PULSE));
    assert_eq!((run.status, run.stderr.as_str()), (0, ""));
    let json: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(json["pulse"]["partner"]["state"], "active");
    assert_eq!(json["virtual_servers"], serde_json::json!([]));
    assert!(json["lvsd_error"].as_str().unwrap().contains("not running"), "{json}");

    let active = PULSE.replace("inactive", "active");
    let (run, _) = with_daemons(&["status"], None, Some(&active));
    assert_eq!(run.status, 1);
    assert!(run.stdout.contains("this node") && run.stderr.contains("lvsd is not running"));

    // An lvsd that runs alone, and one that speaks another language.
    let (run, _) = with_daemons(&["status"], Some(LVSD), None);
    assert_eq!((run.status, run.stderr.as_str()), (0, ""));
    assert!(run.stdout.starts_with("pulse is not running"), "{}", run.stdout);
    let (run, _) = with_daemons(&["status"], Some("{}"), Some(PULSE));
    assert_eq!(run.status, 1);
    assert!(run.stderr.contains("lvsd's answer is not understood"), "{}", run.stderr);
}

#[test]
fn orders_go_where_they_belong() {
    let done = Some(r#"{"ok":"done"}"#);
    let refused = Some(r#"{"error":"not now"}"#);
    let reload = r#"{"command":"reload"}"#;
    let handover = r#"pulse {"command":"handover"}"#;
    let cases: [(&str, _, _, &str, i32); 6] = [
        ("reload", done, done, &format!("pulse {reload}"), 0),
        ("reload", done, None, &format!("lvsd {reload}"), 0),
        ("reload", done, refused, &format!("pulse {reload}"), 1),
        ("reload", refused, None, &format!("lvsd {reload}"), 1),
        ("handover", None, done, handover, 0),
        ("handover", None, refused, handover, 1),
    ];
    for (command, lvsd, pulse, want, status) in cases {
        let (run, asked) = with_daemons(&[command], lvsd, pulse);
        assert_eq!(asked, [want], "{command}");
        let said = match status {
            0 => ("done\n", ""),
            _ => ("", "piranhactl: not now\n"),
        };
        assert_eq!(
            (run.status, run.stdout.as_str(), run.stderr.as_str()),
            (status, said.0, said.1)
        );
    }
}

#[test]
fn the_machine_is_looked_at_too() {
    let dir = Dir::new("system");
    let text = GOOD.replace("10.0.0.11", "192.0.2.1").replace("eth0:1", "nodevice9:1");
    let file = dir.write("lvs.cf", &text);
    let none = dir.path().join("none").to_str().unwrap().to_owned();
    let run = finish(command(&["check", "--system", "-c", &file]).args(["--pulse-control", &none]));
    assert_eq!((run.status, run.stderr.as_str()), (1, ""), "{}", run.stdout);
    for words in
        ["system: error: web: there is no interface nodevice9 [no-device]\n", "[no-role]\n"]
    {
        assert!(run.stdout.contains(words), "{words}: {}", run.stdout);
    }
    let words = ["check", "--system", "--json", "-c", &file, "--pulse-control", &none];
    let run = piranhactl(&words);
    let findings: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let of = |code: &str| {
        let mut all = findings.as_array().unwrap().iter();
        all.find(|finding| finding["code"] == code).unwrap().clone()
    };
    assert_eq!(of("no-device")["severity"], "error");
    assert_eq!(of("no-device")["line"], serde_json::Value::Null);
    assert_eq!(of("no-device")["now"], serde_json::json!([]));

    // Without a configuration there is nothing to look for.
    let bad = dir.write("bad.cf", "primary = 192.0.2.1\nkeepalve = 6\n");
    let run = piranhactl(&["check", "--system", "-c", &bad]);
    assert_eq!(run.status, 1);
    assert!(!run.stdout.contains("system:"), "{}", run.stdout);
}

#[test]
fn help_names_every_command_and_option() {
    let help = help();
    assert!(help.starts_with("Usage: piranhactl COMMAND [OPTION...]\n"), "{help}");
    let first_words: Vec<&str> =
        help.lines().filter_map(|line| line.split_whitespace().next()).collect();
    for command in
        ["check", "config", "status", "handover", "up", "down", "drain", "auto", "reload"]
    {
        assert!(first_words.contains(&command), "{command}: {help}");
        // It is a command indeed: whatever it lacks, it is not unknown.
        let nowhere = ["-c", "/nonexistent", "--control", "/nonexistent"];
        let run = finish(crate::command(&[command, "--pulse-control=/nonexistent"]).args(nowhere));
        assert_eq!(run.status, 1, "{command}");
        assert!(!run.stderr.contains("no such command"), "{}", run.stderr);
    }
    for option in [
        "-c, --configfile=FILE",
        "--json",
        "--system",
        "--control=PATH",
        "--pulse-control=PATH",
        "--version",
        "-?, --help",
        "--usage",
    ] {
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
