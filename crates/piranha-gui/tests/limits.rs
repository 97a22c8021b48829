//! Those who take their time: the limits that keep them from keeping the page from others. They are
//! minutes long, so here the page runs in the test itself, with shorter ones.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail so")]

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gui_lab::{Ask, Conversation, Fake, Files, PASSWORD, Reply, USER};
use piranha_gui::app::{App, router};
use piranha_gui::options::{OPTIONS, Options};
use piranha_gui::server::{self, Limits};
use piranha_gui::tls;
use tokio::sync::watch;

const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(600);

/// A page in this process.
struct Here {
    files: Files,
    address: SocketAddr,
    end: Option<watch::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Here {
    fn with(limits: Limits) -> Self {
        Self::started(limits, &[])
    }

    fn started(limits: Limits, arguments: &[&str]) -> Self {
        let files = Files::new();
        let command = files.command("piranha_gui", arguments);
        let words: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let parsed = daemon::args::parse(&OPTIONS, words).unwrap();
        let options = Options { limits, ..Options::new(&parsed).unwrap() };
        let tls = options.tls.as_ref();
        let tls = tls.map(|files| tls::acceptor(files, &options.state, "lvs1").unwrap());
        let listener = TcpListener::bind(options.listen).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (end, ended) = watch::channel(());
        let thread = thread::spawn(move || {
            let app = Arc::new(App::new(options).unwrap());
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                server::serve(listener, tls, router(&app), limits, ended).await;
            });
        });
        Self { files, address, end: Some(end), thread: Some(thread) }
    }

    fn assert_serves(&self) {
        let answer = Ask::get("/secure/control").user(USER, PASSWORD).of(self.address);
        assert_eq!(answer.status, 200);
    }

    /// Ends it, and waits until it has.
    fn stop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Every limit far away.
fn patient() -> Limits {
    Limits { greeting: LONG, request: LONG, life: LONG, farewell: LONG, ..Limits::default() }
}

#[test]
fn headers_that_come_byte_by_byte_end_the_connection() {
    let here = Here::with(Limits { greeting: SHORT, ..patient() });
    let mut slow = Conversation::with(here.address);
    let bytes = Ask::get("/").header("X", &"y".repeat(8000)).bytes(here.address);
    // One byte at a time, faster than the limit: what counts is the whole head.
    let ended = bytes.chunks(1).any(|byte| {
        thread::sleep(Duration::from_millis(10));
        slow.send(byte).is_err()
    });
    assert!(ended, "80 s of headers were waited for");
    here.assert_serves();
}

#[test]
fn a_connection_that_says_nothing_ends() {
    let here = Here::with(Limits { greeting: SHORT, ..patient() });
    let mut silent = Conversation::with(here.address);
    let _ = silent.rest().expect("an end");
    // Nor does one that has had an answer keep its place for ever.
    let mut idle = Conversation::with(here.address);
    idle.send(&Ask::get("/").bytes(here.address)).unwrap();
    assert_eq!(idle.answer("GET").unwrap().unwrap().status, 200);
    assert_eq!(idle.rest().expect("an end"), b"");
    here.assert_serves();
}

#[test]
fn a_greeting_by_tls_that_does_not_come_ends_the_connection() {
    let here = Here::started(Limits { greeting: SHORT, ..patient() }, &["--tls"]);
    let mut silent = Conversation::with(here.address);
    assert_eq!(silent.rest().expect("an end"), b"");
    // The head of a record of 16 KiB with a ClientHello (RFC 8446, 5.1 and 4), then a byte at a time.
    let mut slow = Conversation::with(here.address);
    slow.send(b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03").unwrap();
    let ended = (0..16_000).any(|_| {
        thread::sleep(Duration::from_millis(10));
        slow.send(b"\0").is_err()
    });
    assert!(ended, "160 s of greeting were waited for");
}

#[test]
fn a_body_that_does_not_come_ends_the_request() {
    let here = Here::with(Limits { request: SHORT, ..patient() });
    let mut slow = Conversation::with(here.address);
    let head = Ask::new("POST", "/secure/server")
        .user(USER, PASSWORD)
        .header("Content-Type", "application/x-www-form-urlencoded")
        .header("Content-Length", "1000")
        .bytes(here.address);
    slow.send(&head).unwrap();
    slow.send(b"token=").unwrap();
    let answer = slow.answer("POST").unwrap().unwrap();
    assert_eq!(answer.status, 503);
    assert!(answer.header("content-security-policy").is_some());
    // What would be left of the body is not taken for the next request.
    assert_eq!(slow.rest().expect("an end"), b"");
    here.assert_serves();
}

#[test]
fn a_connection_has_an_end_however_busy_it_is() {
    let here = Here::with(Limits { life: SHORT, ..patient() });
    let mut busy = Conversation::with(here.address);
    let begin = Instant::now();
    let bytes = Ask::get("/").bytes(here.address);
    let mut answers = 0;
    while busy.send(&bytes).is_ok() {
        match busy.answer("GET") {
            Ok(Some(answer)) => assert_eq!(answer.status, 200, "no answer is cut off"),
            Ok(None) => break,
            Err(error) => assert_eq!(error.kind(), ErrorKind::BrokenPipe),
        }
        answers += 1;
        assert!(begin.elapsed() < Duration::from_secs(60), "it goes on and on");
    }
    assert!(answers > 0);
    here.assert_serves();
}

#[test]
fn all_connections_together_are_bounded() {
    let here = Here::with(Limits { connections: 4, ..patient() });
    let mut crowd: Vec<_> = (0..5).map(|_| Conversation::with(here.address)).collect();
    let mut fifth = crowd.pop().unwrap();
    assert_eq!(fifth.rest().expect("an end"), b"");
    drop(crowd.pop());
    let served = (0..500).any(|_| {
        let mut next = Conversation::with(here.address);
        let _ = next.send(&Ask::get("/").bytes(here.address));
        matches!(next.answer("GET"), Ok(Some(_)))
    });
    assert!(served);
}

#[test]
fn an_end_waits_for_the_answer_under_way() {
    let mut here = Here::with(patient());
    let pulse = Fake::on(&here.files.path("pulse.sock"), Reply::Hang);
    std::fs::set_permissions(here.files.path("pulse.sock"), PermissionsExt::from_mode(0o666))
        .unwrap();
    let page = Ask::get("/secure/control").user(USER, PASSWORD).of(here.address);
    let token = page.attributes("input[name=token]", "value")[0].clone();
    let ask = Ask::post("/secure/handover", &[("token", &token)]).user(USER, PASSWORD);
    let mut conversation = Conversation::with(here.address);
    conversation.send(&ask.bytes(here.address)).unwrap();
    while pulse.orders().is_empty() {
        thread::sleep(Duration::from_millis(5));
    }
    let mut idle = Conversation::with(here.address);
    drop(here.end.take());
    assert_eq!(idle.rest().expect("an end"), b"", "who waits for nothing is not waited for");
    assert_eq!(conversation.answer("POST").unwrap().unwrap().status, 303);
    here.stop();
    assert!(std::net::TcpStream::connect(here.address).is_err());
}
