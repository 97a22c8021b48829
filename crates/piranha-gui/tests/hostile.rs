//! What no browser sends. Whatever it is, the page refuses it, ends the connection or leaves it alone,
//! and serves everybody else as before.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail so")]

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Shutdown};

use gui_lab::{Ask, Conversation, Gui, PASSWORD, USER, basic};

const PROGRAM: &str = env!("CARGO_BIN_EXE_piranha_gui");

fn assert_serves(gui: &Gui, after: &str) {
    assert_eq!(gui.get("/secure/control").status, 200, "after {after}");
    assert!(gui.running.is_running(), "after {after}");
}

#[test]
fn broken_requests_are_refused() {
    let gui = Gui::start(PROGRAM);
    let auth = basic(USER, PASSWORD);
    let long = "x".repeat(64 * 1024);
    let many = "A: b\r\n".repeat(1000);
    let cases: Vec<(&str, String)> = vec![
        ("nothing but line ends", "\r\n\r\n\r\n\r\n".to_owned()),
        ("no version", "GET /secure/control\r\n\r\n".to_owned()),
        ("HTTP/0.9", "GET /\r\n".to_owned()),
        ("HTTP/2 by prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        ("HTTP/3.0", "GET / HTTP/3.0\r\nHost: x\r\n\r\n".to_owned()),
        ("another protocol", "SSH-2.0-OpenSSH_9.2\r\n".to_owned()),
        (
            "TLS to the plain port",
            "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}\r\n\r\n".to_owned(),
        ),
        ("a NUL in the target", "GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
        ("a blank in the target", "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
        ("a method of none", " / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
        ("a header without a colon", "GET / HTTP/1.1\r\nHost x\r\n\r\n".to_owned()),
        ("a header's name with a blank", "GET / HTTP/1.1\r\nHo st: x\r\n\r\n".to_owned()),
        ("a folded header", "GET / HTTP/1.1\r\nHost: x\r\n y\r\n\r\n".to_owned()),
        ("a NUL in a header", "GET / HTTP/1.1\r\nHost: x\0y\r\n\r\n".to_owned()),
        ("a long target", format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n")),
        ("a long header", format!("GET / HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n")),
        ("many headers", format!("GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n")),
        ("headers without end", format!("GET / HTTP/1.1\r\nHost: x\r\nX: {long}")),
        (
            "a length that is none",
            format!(
                "POST /secure/apply HTTP/1.1\r\nHost: x\r\nAuthorization: {auth}\r\nContent-Length: -1\r\n\r\n"
            ),
        ),
        (
            "a length beyond numbers",
            format!(
                "POST /secure/apply HTTP/1.1\r\nHost: x\r\nAuthorization: {auth}\r\nContent-Length: 99999999999999999999999\r\n\r\n"
            ),
        ),
        (
            "two lengths",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"
                .to_owned(),
        ),
        (
            "chunks that are none",
            format!(
                "POST /secure/apply HTTP/1.1\r\nHost: x\r\nAuthorization: {auth}\r\nContent-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
            ),
        ),
        (
            "a chunk of 16 EiB",
            format!(
                "POST /secure/apply HTTP/1.1\r\nHost: x\r\nAuthorization: {auth}\r\nContent-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx"
            ),
        ),
        (
            "an encoding that is not known",
            format!(
                "POST /secure/apply HTTP/1.1\r\nHost: x\r\nAuthorization: {auth}\r\nTransfer-Encoding: gzip\r\n\r\nx"
            ),
        ),
    ];
    for (what, bytes) in cases {
        let mut conversation = Conversation::with(gui.address);
        // It may be hung up on in the middle.
        let _ = conversation.send(bytes.as_bytes());
        let _ = conversation.socket().shutdown(Shutdown::Write);
        match conversation.answer("POST") {
            Ok(None) => {}
            Ok(Some(answer)) => {
                assert!((400..500).contains(&answer.status), "{what}: {}", answer.status);
            }
            Err(error) => assert_ne!(error.kind(), ErrorKind::WouldBlock, "{what}: no end"),
        }
        assert_serves(&gui, what);
    }
}

#[test]
fn no_smuggled_request_is_carried_out() {
    let gui = Gui::start(PROGRAM);
    let auth = basic(USER, PASSWORD);
    // Both lengths: RFC 9112, 6.3. Whoever stands before the page may take the other one.
    let inner = format!("GET /secure/control HTTP/1.1\r\nHost: x\r\nAuthorization: {auth}\r\n\r\n");
    let outer = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}",
        inner.len() + 5
    );
    let mut conversation = Conversation::with(gui.address);
    let _ = conversation.send(outer.as_bytes());
    let _ = conversation.socket().shutdown(Shutdown::Write);
    let mut statuses = Vec::new();
    while let Ok(Some(answer)) = conversation.answer("POST") {
        statuses.push(answer.status);
    }
    assert!(!statuses.contains(&200), "{statuses:?}");
    assert_serves(&gui, "a request in a request");
}

#[test]
fn a_body_beyond_the_limit_is_refused_whatever_it_claims_to_be() {
    let gui = Gui::start(PROGRAM);
    let form = || gui.form("/secure/server", &[]);
    let mebibyte = "x".repeat(1 << 20);
    let answer = gui.post("/secure/server", &[("order", &mebibyte)]);
    assert_eq!(answer.status, 413);
    // Announced, and not sent.
    let mut conversation = Conversation::with(gui.address);
    let head = form().header("Content-Length", "4000000000").bytes(gui.address);
    let head = String::from_utf8(head).unwrap();
    let (head, _) = head.split_once("\r\n\r\n").unwrap();
    let head: String = head
        .lines()
        .filter(|line| !line.starts_with("Content-Length: ") || line.ends_with("4000000000"))
        .map(|line| format!("{line}\r\n"))
        .collect();
    conversation.send(format!("{head}\r\n").as_bytes()).unwrap();
    assert_eq!(conversation.answer("POST").unwrap().unwrap().status, 413);
    // In chunks without end.
    let mut conversation = Conversation::with(gui.address);
    let auth = basic(USER, PASSWORD);
    let head = format!(
        "POST /secure/server HTTP/1.1\r\nHost: {}\r\nAuthorization: {auth}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\n",
        gui.address
    );
    conversation.send(head.as_bytes()).unwrap();
    let chunk = format!("10000\r\n{}\r\n", "y".repeat(0x10000));
    let sent = (0..64).take_while(|_| conversation.send(chunk.as_bytes()).is_ok()).count();
    if let Ok(Some(answer)) = conversation.answer("POST") {
        assert_eq!(answer.status, 413);
    } else {
        assert!(sent < 64, "four mebibytes were taken");
    }
    // Without the password nobody reads it at all.
    let answer = gui.ask(&Ask::post("/secure/server", &[("order", &mebibyte)]));
    assert_eq!(answer.status, 401);
    assert_serves(&gui, "large bodies");
    assert!(gui.resident_kib() < 64 * 1024, "{} KiB", gui.resident_kib());
}

#[test]
fn a_form_of_many_fields_is_not_a_page_that_hangs() {
    let gui = Gui::start(PROGRAM);
    let fields: Vec<(String, &str)> =
        (0..20_000).map(|number| (format!("f{number}"), "")).collect();
    let fields: Vec<_> = fields.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    for path in ["/secure/server", "/secure/global", "/secure/virtual", "/secure/password"] {
        let answer = gui.post(path, &fields);
        assert!((200..500).contains(&answer.status), "{path}: {}", answer.status);
    }
    assert_serves(&gui, "many fields");
}

#[test]
fn requests_in_a_row_are_answered_in_their_order() {
    let gui = Gui::start(PROGRAM);
    let mut conversation = Conversation::with(gui.address);
    let ask = |path: &str| Ask::get(path).user(USER, PASSWORD).bytes(gui.address);
    let all =
        [ask("/secure/status.json"), ask("/"), ask("/secure/nothing"), ask("/secure/metrics")];
    conversation.send(&all.concat()).unwrap();
    let kinds: Vec<_> = (0..all.len())
        .map(|_| conversation.answer("GET").unwrap().unwrap())
        .map(|answer| (answer.status, answer.header("content-type").unwrap().to_owned()))
        .collect();
    let statuses: Vec<_> = kinds.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [200, 200, 404, 200]);
    assert_eq!(kinds[0].1, "application/json");
    assert!(kinds[3].1.starts_with("text/plain"));
    // The password of one is not the password of the next.
    conversation.send(&ask("/secure/control")).unwrap();
    assert_eq!(conversation.answer("GET").unwrap().unwrap().status, 200);
    conversation.send(&Ask::get("/secure/control").bytes(gui.address)).unwrap();
    assert_eq!(conversation.answer("GET").unwrap().unwrap().status, 401);
}

#[test]
fn a_client_that_says_100_continue_is_told_to() {
    let gui = Gui::start(PROGRAM);
    let ask = gui.form("/secure/control/rate", &[("rate", "7")]).header("Expect", "100-continue");
    let bytes = ask.bytes(gui.address);
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let mut conversation = Conversation::with(gui.address);
    conversation.send(&bytes[..end]).unwrap();
    assert_eq!(conversation.answer("POST").unwrap().unwrap().status, 100);
    conversation.send(&bytes[end..]).unwrap();
    let answer = conversation.answer("POST").unwrap().unwrap();
    assert_eq!(answer.status, 303);
    assert!(answer.header("set-cookie").unwrap().starts_with("rate=7;"));
}

#[test]
fn one_address_cannot_take_all_connections() {
    let gui = Gui::start(PROGRAM);
    let (greedy, other) = (Ipv4Addr::new(127, 3, 0, 1), Ipv4Addr::new(127, 3, 0, 2));
    let mut crowd: Vec<_> = (0..100).map(|_| Conversation::from(greedy, gui.address)).collect();
    // Those beyond the limit are hung up on.
    let last = crowd.last_mut().unwrap();
    assert_eq!(last.rest().unwrap(), b"");
    let ask = Ask::get("/secure/control").user(USER, PASSWORD);
    assert_eq!(ask.from(other, gui.address).status, 200);
    // The first ones have their places, and give them back.
    let first = &mut crowd[0];
    first.send(&ask.bytes(gui.address)).unwrap();
    assert_eq!(first.answer("GET").unwrap().unwrap().status, 200);
    drop(crowd);
    // Until the server has seen them go, it hangs up on new ones.
    let again = (0..500).any(|_| {
        let mut conversation = Conversation::from(greedy, gui.address);
        let sent = conversation.send(&ask.bytes(gui.address));
        let answered =
            matches!(conversation.answer("GET"), Ok(Some(answer)) if answer.status == 200);
        sent.is_ok() && answered
    });
    assert!(again, "a place that was given back is given again");
}
