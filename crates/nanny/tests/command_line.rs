//! What nanny says and how it ends where it does not get as far as a check.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::{
    io::pipe,
    process::{Command, Stdio},
};

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nanny"));
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs it to its end: exit status, standard output, standard error.
fn nanny(args: &[&str]) -> (i32, String, String) {
    let output = command(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    let status = output.status.code();
    let status = status.unwrap_or_else(|| panic!("{args:?}: {}: {stderr}", output.status));
    (status, stdout, stderr)
}

#[test]
fn command_lines_that_are_refused() {
    let cases = [
        ("", "unknown service type"),
        ("--lvs", "No address supplied. Use '--help' for help."),
        ("--fos", "No address supplied. Use '--help' for help."),
        ("-h 10.0.0.21", "unknown service type"),
        ("-h 10.0.0.21 --fos --lvs", "unknown service type"),
        ("--lvs -h rs1", "bad IP address -- rs1"),
        ("--lvs -h 10.0.0.256", "bad IP address -- 10.0.0.256"),
        ("--lvs -h 0.0.0.0", "bad IP address -- 0.0.0.0"),
        ("--lvs -h 10.0.0.21 -V vip", "bad IP address -- vip"),
        ("--lvs -h 10.0.0.21 -t six", "bad argument -t: invalid numeric value"),
        ("--lvs -h 10.0.0.21 --weight=1x", "bad argument --weight: invalid numeric value"),
        ("--lvs -h 10.0.0.21 -p", "bad argument -p: missing argument"),
        ("--lvs --frob", "bad argument --frob: unknown option"),
        ("--lvs -cX", "bad argument -X: unknown option"),
        ("--lvs x", "unexpected arguments"),
    ];
    for (line, message) in cases {
        let (status, stdout, stderr) = nanny(&line.split_whitespace().collect::<Vec<_>>());
        assert_eq!((status, stdout.as_str()), (1, ""), "{line}");
        assert_eq!(stderr, format!("nanny: {message}\n"), "{line}");
    }
}

#[test]
fn refusals_of_our_own_name_the_remedy() {
    let cases = [
        ("--lvs -h 10.0.0.21", "No virtual address supplied (-V, or -f for a mark)"),
        ("--lvs -h 10.0.0.21 -V 10.0.0.100 -M x", "unknown forwarding method x: m, g or i (-M)"),
        ("--lvs -h 10.0.0.21 -V 10.0.0.100 -p 65536", "bad argument --port: 65536 is not between"),
        ("--lvs -h 10.0.0.21 -V 10.0.0.100 -w -1", "bad argument --weight: -1 is not between"),
        ("--pool", "--pool is for lvsd, which gives a socket as standard input"),
    ];
    for (line, message) in cases {
        let (status, stdout, stderr) = nanny(&line.split_whitespace().collect::<Vec<_>>());
        assert_eq!((status, stdout.as_str()), (1, ""), "{line}");
        assert!(stderr.starts_with(&format!("nanny: {message}")), "{line}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}

#[test]
fn version_and_help() {
    let (status, stdout, stderr) = nanny(&["--version"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    let heads: Vec<&str> = stdout.lines().filter_map(|line| line.split('\t').next()).collect();
    assert_eq!(heads, ["Program Version:", "Built:", "A component of:"]);

    let (status, help, _) = nanny(&["--help"]);
    assert_eq!(status, 0);
    assert_eq!(nanny(&["-?"]).1, help);
    let options = "-t, --interval=N|-I, --ipvsadm=PATH|-U, --loadcmd=CMD|-M, --method=m|\
                   -n, --nodaemon|-c, --nofork|-p, --port=N|-r, --rport=N|-a, --reentrytime=N|\
                   -S, --scale=N|-h, --server=ADDR|-e, --send_program=CMD|-s, --send_string=TEXT|\
                   -x, --expect_string=TEXT|--regex|-T, --suppress|-q, --quiesce_server|-u, --udp|\
                   -v, --verbose|-V, --virtaddress=ADDR|-f, --fwmark=N|-w, --weight=N|\
                   --test-start|--norun|--fos|--lvs|--pool|--version|-?, --help|--usage";
    for option in options.split('|') {
        assert!(help.contains(&format!(" {option}")), "{option}: {help}");
    }
    assert!(nanny(&["--usage"]).1.starts_with("Usage: nanny [-t|--interval=N]"));
}

#[test]
fn a_reader_that_has_gone_is_no_disaster() {
    for (words, status) in
        [(&["--help"][..], 0), (&["--version"], 0), (&["--lvs"], 1), (&["--pool"], 1)]
    {
        let (reader, stdout) = pipe().unwrap();
        drop(reader);
        let mut command = command(words);
        command.stderr(stdout.try_clone().unwrap()).stdout(stdout);
        // Killed by no signal, and not by the 101 of a panic.
        assert_eq!(command.status().unwrap().code(), Some(status), "{words:?}");
    }
}
