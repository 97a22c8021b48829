//! Checks over TCP against servers that behave well, badly, and not at all.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{
    Checks, LIMITS, LONG, closed_port, connect, exchange, listen, prefix, regex, reset, tcp,
};
use health::failure::Failure;
use health::recipe::{Expect, Recipe, Target};
use nix::errno::Errno;
use std::io::{Read, Write};
use std::mem::forget;
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// A time limit that is reached, in milliseconds.
const SHORT: u32 = 60;
const REQUEST: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

/// What a server does with a connection.
type Behaviour = Box<dyn FnMut(TcpStream) + Send>;

/// A server that does this, a check, and what it must find.
struct Case {
    why: &'static str,
    server: Behaviour,
    recipe: Recipe,
    want: Result<(), Failure>,
}

fn case(
    why: &'static str,
    server: impl FnMut(TcpStream) + Send + 'static,
    recipe: Recipe,
    want: Result<(), Failure>,
) -> Case {
    Case { why, server: Box::new(server), recipe, want }
}

/// Reads the request, then sends the pieces, each in a packet of its own, and closes.
fn answer(
    pieces: impl IntoIterator<Item = Vec<u8>> + Clone + Send,
) -> impl FnMut(TcpStream) + Send {
    move |mut stream| {
        let mut request = [0; REQUEST.len()];
        // A client that has seen enough goes.
        if stream.read_exact(&mut request).is_ok() {
            say(&mut stream, pieces.clone());
        }
    }
}

fn say(stream: &mut TcpStream, pieces: impl IntoIterator<Item = Vec<u8>>) {
    stream.set_nodelay(true).unwrap();
    for piece in pieces {
        if stream.write_all(&piece).is_err() {
            return;
        }
    }
}

fn bytewise(text: &[u8]) -> Vec<Vec<u8>> {
    text.iter().map(|b| vec![*b]).collect()
}

fn short(got: u32, wanted: u32) -> Result<(), Failure> {
    Err(Failure::Short { got, wanted })
}

fn mismatch(answer: &[u8]) -> Result<(), Failure> {
    Err(Failure::mismatch(answer))
}

fn well_behaved() -> Vec<Case> {
    let http = |expect| exchange(REQUEST, expect, LONG);
    let banner = |expect| exchange(b"", expect, LONG);
    let page = b"HTTP/1.1 200 OK\r\n\r\nhello";
    vec![
        case("the connect alone", drop, connect(LONG), Ok(())),
        case("a connection kept open", forget, connect(LONG), Ok(())),
        case("sent is enough where nothing is expected", drop, http(None), Ok(())),
        case("a page", answer([page.to_vec()]), http(prefix(b"HTTP")), Ok(())),
        case("a page in pieces", answer(bytewise(page)), http(prefix(b"HTTP/1.1 200")), Ok(())),
        case("any answer", answer([b"?".to_vec()]), http(Some(Expect::Any)), Ok(())),
        case(
            "an answer on a connection that stays open",
            |mut stream| {
                say(&mut stream, [b"220 ready\r\n".to_vec()]);
                forget(stream);
            },
            banner(prefix(b"220 ")),
            Ok(()),
        ),
        case(
            "a banner nobody asked for",
            |mut s| say(&mut s, [b"SSH-2.0-x".to_vec()]),
            banner(prefix(b"SSH-")),
            Ok(()),
        ),
        case(
            "an expression over many packets",
            answer(bytewise(b"HTTP/1.1 204 No Content")),
            http(regex(b"^HTTP/1\\.[01] 2[0-9]{2} ")),
            Ok(()),
        ),
        case(
            "an expression behind NUL bytes",
            answer([b"\0\0".to_vec(), b"\0rea".to_vec(), b"dy\0".to_vec()]),
            http(regex(b"ready")),
            Ok(()),
        ),
        case(
            "an answer that begins with a NUL byte",
            answer([b"\0\x01".to_vec()]),
            http(prefix(b"\0\x01")),
            Ok(()),
        ),
    ]
}

fn badly_behaved() -> Vec<Case> {
    let http = |expect| exchange(REQUEST, expect, LONG);
    let banner = |expect| exchange(b"", expect, LONG);
    let reset_after = |text: &'static [u8]| {
        move |mut stream: TcpStream| {
            let mut request = [0; REQUEST.len()];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(text).unwrap();
            reset(stream);
        }
    };
    vec![
        case(
            "another answer",
            answer([b"HTML".to_vec()]),
            http(prefix(b"HTTP")),
            mismatch(b"HTML"),
        ),
        case(
            "another answer, seen at its first wrong byte",
            |mut stream| {
                say(&mut stream, [b"X".to_vec()]);
                forget(stream);
            },
            banner(prefix(b"220")),
            mismatch(b"X"),
        ),
        case("half an answer", answer([b"HT".to_vec()]), http(prefix(b"HTTP")), short(2, 4)),
        case("no answer but an end", answer([]), http(prefix(b"HTTP")), short(0, 4)),
        case("no answer where any would do", answer([]), http(Some(Expect::Any)), short(0, 1)),
        case("no answer for an expression", answer([]), http(regex(b"x")), short(0, 1)),
        case("no match", answer([b"no".to_vec()]), http(regex(b"yes")), mismatch(b"no")),
        case(
            "an answer without end and without a match",
            |mut stream| while stream.write_all(&[b'x'; 4096]).is_ok() {},
            banner(regex(b"y")),
            mismatch(&[b'x'; 80]),
        ),
        case(
            "a reset instead of an answer",
            reset_after(b""),
            http(prefix(b"HTTP")),
            Err(Failure::Read(Errno::ECONNRESET)),
        ),
        case("hangs", forget, exchange(REQUEST, prefix(b"HTTP"), SHORT), Err(Failure::ReadTimeout)),
        case(
            "hangs in the middle of its answer",
            |mut stream| {
                say(&mut stream, [b"HT".to_vec()]);
                forget(stream);
            },
            exchange(b"", prefix(b"HTTP"), SHORT),
            Err(Failure::ReadTimeout),
        ),
        case(
            "takes only as much of a request as fits into its buffers",
            forget,
            exchange(&vec![b'x'; 64 << 20], prefix(b"HTTP"), 10 * SHORT),
            Err(Failure::WriteTimeout),
        ),
    ]
}

#[test]
fn what_each_behaviour_is_taken_for() {
    let mut checks = Checks::new(LIMITS);
    let mut cases = well_behaved();
    cases.extend(badly_behaved());
    let mut jobs = Vec::new();
    let mut wanted = Vec::new();
    // All at the same time, as in a daemon.
    for case in cases {
        let server = tcp(case.server);
        jobs.push(checks.add(server.target(), &case.recipe));
        wanted.push((case.why, case.want));
    }
    for ((why, want), got) in wanted.into_iter().zip(checks.first(&jobs)) {
        assert_eq!(got, want, "{why}");
    }
}

#[test]
fn nobody_listens() {
    let (_held, target) = closed_port();
    let got = Checks::new(LIMITS).one(target, &connect(LONG));
    assert_eq!(got.result, Err(Failure::Connect(Errno::ECONNREFUSED)));
}

#[test]
fn an_address_that_cannot_be_reached() {
    // A link-local address without its interface; the reason is another one where IPv6 is off.
    let target = Target { addr: "fe80::1".parse().unwrap(), port: 9, udp: false };
    let got = Checks::new(LIMITS).one(target, &connect(LONG)).result;
    assert!(matches!(got, Err(Failure::Connect(_))), "{got:?}");
}

#[test]
fn a_connect_that_nobody_answers() {
    // A full queue of connections: the kernel drops what comes.
    let listener = listen(Ipv4Addr::LOCALHOST, 0);
    let addr = listener.local_addr().unwrap();
    let _fills_it = TcpStream::connect(addr).unwrap();
    let target = Target { addr: addr.ip(), port: addr.port(), udp: false };
    let mut checks = Checks::new(LIMITS);
    let recipe = exchange(REQUEST, prefix(b"HTTP"), SHORT);
    assert_eq!(checks.one(target, &recipe).result, Err(Failure::ConnectTimeout));
}

#[test]
fn a_request_longer_than_the_buffers_arrives_whole() {
    let length = 16 << 20;
    let server = tcp(move |mut stream| {
        let mut request = vec![0; length];
        stream.read_exact(&mut request).unwrap();
        let good = request.iter().all(|b| *b == b'x');
        stream.write_all(if good { b"good" } else { b"bad" }).unwrap();
    });
    let recipe = exchange(&vec![b'x'; length], prefix(b"good"), LONG);
    assert_eq!(Checks::new(LIMITS).one(server.target(), &recipe).result, Ok(()));
}

#[test]
fn a_reset_counts_the_same_whenever_it_is_seen() {
    let silent = tcp(reset);
    let greeting = tcp(|mut stream| {
        stream.write_all(b"220 hello").unwrap();
        reset(stream);
    });
    let cut_off = tcp(|mut stream| {
        stream.write_all(b"22").unwrap();
        reset(stream);
    });
    let mut checks = Checks::new(LIMITS);
    let greeted = exchange(b"", prefix(b"220"), LONG);
    for round in 0..300 {
        let got = checks.one(silent.target(), &connect(LONG)).result;
        assert_eq!(got, Ok(()), "it was there, round {round}");
        let got = checks.one(greeting.target(), &greeted).result;
        assert_eq!(got, Ok(()), "the greeting came before the reset, round {round}");
        let got = checks.one(cut_off.target(), &greeted).result;
        assert_eq!(got, Err(Failure::Read(Errno::ECONNRESET)), "round {round}");
    }
}

#[test]
fn a_bad_expression_is_named() {
    let server = tcp(|mut stream| say(&mut stream, [b"hello".to_vec()]));
    let got =
        Checks::new(LIMITS).one(server.target(), &exchange(b"", regex(b"(hello"), LONG)).result;
    assert!(matches!(&got, Err(Failure::Regex(text)) if !text.is_empty()), "{got:?}");
}

#[test]
fn each_check_is_a_fresh_one() {
    let mut number = 0;
    let server = tcp(move |mut stream| {
        number += 1;
        say(&mut stream, [if number % 2 == 1 { b"OK".to_vec() } else { b"no".to_vec() }]);
    });
    let mut checks = Checks::new(LIMITS);
    checks.add(server.target(), &exchange(b"", prefix(b"OK"), LONG));
    for number in 1..=6 {
        let result = checks.next(1).remove(0).result;
        assert_eq!(result, if number % 2 == 1 { Ok(()) } else { mismatch(b"no") }, "{number}");
        checks.world.ahead += 2 * Duration::from_millis(u64::from(LONG));
    }
}
