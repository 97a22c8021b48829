//! What send_arp says and how it ends where it does not get as far as a frame.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::process::{Command, Stdio};

/// Runs it to its end: exit status, standard output, standard error.
fn send_arp(line: &str) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_send_arp"))
        .args(line.split_whitespace())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

const USAGE: &str = "Usage: send_arp [-i dev] src_ip src_mac targ_ip targ_mac\n";

#[test]
fn command_lines_that_are_refused() {
    let cases = [
        ("", USAGE),
        ("-i eth0 10.0.0.100 000c29a1b2c3 10.0.0.255", USAGE),
        ("10.0.0.100 000c29a1b2cx 10.0.0.255 ffffffffffff", "Invalid hardware address\n"),
        ("10.0.0.100 000c29a1b2c3 10.0.0.255 fff", "Invalid hardware address\n"),
        // No name server is asked for this.
        ("a..b 000c29a1b2c3 10.0.0.255 ffffffffffff", "send_arp: unknown host a..b\n"),
        ("::1 000c29a1b2c3 10.0.0.255 ffffffffffff", "send_arp: unknown host ::1\n"),
        (
            "-i no-such-nic0 10.0.0.100 000c29a1b2c3 10.0.0.255 ffffffffffff",
            "send_arp: open a socket for ARP on no-such-nic0: there is no such network interface\n",
        ),
    ];
    for (line, message) in cases {
        assert_eq!(send_arp(line), (Some(1), String::new(), message.to_owned()), "{line}");
    }
}

#[test]
fn version_and_help() {
    let (status, stdout, stderr) = send_arp("--version");
    assert_eq!((status, stderr.as_str()), (Some(0), ""));
    let heads: Vec<&str> = stdout.lines().filter_map(|line| line.split('\t').next()).collect();
    assert_eq!(heads, ["Program Version:", "Built:", "A component of:"]);
    assert_eq!(send_arp("--usage"), (Some(0), USAGE.to_owned(), String::new()));
    let (status, help, stderr) = send_arp("--help");
    assert_eq!((status, stderr.as_str()), (Some(0), ""));
    assert!(help.starts_with(USAGE) && help.contains("-i, --interface=dev"), "{help}");
}
