//! Checks over UDP.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Checks, LIMITS, LONG, exchange, prefix, regex, udp};
use health::failure::Failure;
use health::recipe::{Expect, Target};
use nix::errno::Errno;
use std::net::{Ipv4Addr, UdpSocket};

/// Why, the datagrams of the answer, what is sent and expected, and what is to be found.
type Case = (&'static str, Vec<Vec<u8>>, &'static [u8], Option<Expect>, Result<(), Failure>);

#[test]
fn what_each_answer_is_taken_for() {
    let any = || Some(Expect::Any);
    let long = vec![b'x'; 9000];
    let cases: Vec<Case> = vec![
        ("any reply", vec![b"pong".to_vec()], b"ping", any(), Ok(())),
        ("any reply, unasked for", vec![b"pong".to_vec()], b"", any(), Ok(())),
        ("an empty reply is one", vec![Vec::new()], b"ping", any(), Ok(())),
        ("its beginning", vec![b"pong!".to_vec()], b"ping", prefix(b"pong"), Ok(())),
        (
            "another beginning",
            vec![b"gong".to_vec()],
            b"ping",
            prefix(b"pong"),
            Err(Failure::mismatch(b"gong")),
        ),
        (
            "a datagram is whole: nothing is waited for",
            vec![b"po".to_vec()],
            b"ping",
            prefix(b"pong"),
            Err(Failure::Short { got: 2, wanted: 4 }),
        ),
        ("an expression", vec![b"a\0b42".to_vec()], b"ping", regex(b"b[0-9]+$"), Ok(())),
        ("no match", vec![b"b".to_vec()], b"ping", regex(b"[0-9]"), Err(Failure::mismatch(b"b"))),
        (
            "the end of a long one",
            vec![[&long[..], b"end"].concat()],
            b"ping",
            regex(b"end$"),
            Ok(()),
        ),
        ("the first counts", vec![b"yes".to_vec(), b"no".to_vec()], b"?", prefix(b"yes"), Ok(())),
    ];
    let mut checks = Checks::new(LIMITS);
    for (why, answers, send, expect, want) in cases {
        let server = udp(move |_| answers.clone());
        let got = checks.one(server.udp_target(), &exchange(send, expect, LONG)).result;
        assert_eq!(got, want, "{why}");
        assert_eq!(server.seen(), 1, "{why}: one question");
    }
}

#[test]
fn the_question_arrives_as_it_is() {
    let server =
        udp(|question| vec![if question == b"ping\0" { b"y".to_vec() } else { b"n".to_vec() }]);
    let recipe = exchange(b"ping\0", prefix(b"y"), LONG);
    assert_eq!(Checks::new(LIMITS).one(server.udp_target(), &recipe).result, Ok(()));
    let server =
        udp(|question| vec![if question.is_empty() { b"y".to_vec() } else { b"n".to_vec() }]);
    let recipe = exchange(b"", prefix(b"y"), LONG);
    assert_eq!(Checks::new(LIMITS).one(server.udp_target(), &recipe).result, Ok(()));
}

#[test]
fn nobody_listens() {
    // Bound, then closed: the kernel answers with an ICMP port unreachable. Another process may be
    // given the port meanwhile, hence an address that nobody else uses.
    let socket = UdpSocket::bind((Ipv4Addr::new(127, 99, 98, 97), 0)).unwrap();
    let addr = socket.local_addr().unwrap();
    drop(socket);
    let target = Target { addr: addr.ip(), port: addr.port(), udp: true };
    let mut checks = Checks::new(LIMITS);
    let got = checks.one(target, &exchange(b"ping", Some(Expect::Any), LONG)).result;
    assert_eq!(got, Err(Failure::Read(Errno::ECONNREFUSED)), "long before the time limit");
    // Where no answer is expected there is nothing to learn.
    assert_eq!(checks.one(target, &exchange(b"", None, LONG)).result, Ok(()));
}

#[test]
fn no_answer() {
    let server = udp(|_| Vec::new());
    let recipe = exchange(b"ping", Some(Expect::Any), 60);
    let got = Checks::new(LIMITS).one(server.udp_target(), &recipe).result;
    assert_eq!(got, Err(Failure::ReadTimeout));
}
