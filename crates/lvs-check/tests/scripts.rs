//! The sample scripts do what they say.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Ran, Server, fine, head};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs a script of scripts/checks by a shell; `None` where that or curl is missing.
fn script(shell: &str, name: &str, words: &[&str]) -> Option<Ran> {
    let there = |program: &str| {
        Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok()
    };
    if !there(shell) || !there("curl") {
        eprintln!("not tested: there is no {shell} or no curl here");
        return None;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/checks").join(name);
    let output = Command::new(shell).arg(path).args(words).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Some(Ran {
        status: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    })
}

#[test]
fn tcp_banner() {
    let greeting = |text: &'static [u8]| {
        Server::tcp(move |mut stream| {
            let _ = stream.write_all(text);
            // The client closes first.
            let _ = stream.read(&mut [0; 64]);
        })
    };
    let ask = |server: &Server, banner| {
        script("bash", "tcp-banner.sh", &["127.0.0.1", &server.port(), banner])
    };
    let ssh = greeting(b"SSH-2.0-OpenSSH_9.2\r\n");
    let Some(ran) = ask(&ssh, "SSH-2.0-") else { return };
    ran.ok();
    ask(&ssh, "220 ").unwrap().fails("greets with 'SSH-'");
    ask(&ssh, "SSH-*").unwrap().fails("greets with 'SSH-2'");
    ask(&greeting(b"SSH"), "SSH-2.0-").unwrap().fails("no connection, or no answer within 4 s");
    script("bash", "tcp-banner.sh", &["127.0.0.1", "1", "x"]).unwrap().fails("no connection");
    let usage = script("bash", "tcp-banner.sh", &["127.0.0.1"]).unwrap();
    assert_eq!((usage.status, usage.stdout.as_str()), (Some(2), ""));
}

#[test]
fn disk_space() {
    let server = Server::http(|request| match request.path.as_str() {
        "/disk.txt" => fine("free-percent 7\n"),
        _ => head(&["HTTP/1.1 404 Not Found", "Content-Length: 0"]),
    });
    let page = |text: &'static str| Server::http(move |_| fine(text)).addr.to_string();
    for shell in ["bash", "dash"] {
        let ask = |words: &[&str]| script(shell, "disk-space.sh", words);
        let address = server.addr.to_string();
        let Some(ran) = ask(&[&address]) else { continue };
        ran.ok();
        ask(&[&address, "7"]).unwrap().ok();
        ask(&[&address, "8"]).unwrap().fails("7 % free, fewer than 8");
        for text in [
            "",
            "free-percent",
            "free-percent x",
            "free-percent 1 2",
            "free-percent -1",
            "7",
            "free-percent 1000",
        ] {
            ask(&[&page(text)]).unwrap().fails("disk.txt says '");
        }
        let missing = Server::http(|_| head(&["HTTP/1.1 404 No", "Content-Length: 0"]));
        ask(&[&missing.addr.to_string()]).unwrap().fails("there is no page disk.txt");
        assert_eq!(ask(&[]).unwrap().status, Some(2));
    }
}
