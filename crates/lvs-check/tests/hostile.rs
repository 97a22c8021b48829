//! Servers that never end, drip, or talk nonsense: every check ends within its limit and a bounded
//! memory.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Identity, LONG, Server, VALID, check};
use nix::sys::resource::{UsageWho, getrusage};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// A check of one second; what is bounded by time alone ends with it.
const SHORT: &str = "--timeout=1";
/// Most memory of a check, in KiB. The largest answer that is kept has 1 MiB.
const MEMORY: i64 = 48 * 1024;

/// Kind of check, options, and what the server begins with and repeats.
type Endless = (&'static str, &'static [&'static str], &'static [u8], &'static [u8]);

/// Sends `start`, then `again` for ever, with a pause between.
fn endless(start: &'static [u8], again: &'static [u8], pause: Duration) -> Server {
    Server::tcp(move |mut stream| {
        let _ = stream.set_nodelay(true);
        let mut ours = stream.try_clone().unwrap();
        std::thread::spawn(move || while ours.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {});
        // Until the client goes away.
        let _ = pour(&mut stream, start, again, pause);
    })
}

fn pour(
    stream: &mut impl Write,
    start: &[u8],
    again: &[u8],
    pause: Duration,
) -> std::io::Result<()> {
    stream.write_all(start)?;
    loop {
        stream.write_all(again)?;
        std::thread::sleep(pause);
    }
}

const AT_ONCE: Duration = Duration::ZERO;
const DRIP: Duration = Duration::from_millis(20);

fn memory_is_bounded() {
    let most = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss();
    assert!(most < MEMORY, "{most} KiB");
}

#[test]
fn endless_answers_are_cut_off() {
    let cases: [(Endless, &str); 11] = [
        (("http", &[], b"", b"xxxxxxxxxxxxxxxx"), "the answer is too long"),
        (("http", &[], b"HTTP/1.1 200 OK\r\n", b"A: bbbbbbbbbbbb\r\n"), "the answer is too long"),
        (("http", &[], b"HTTP/1.1 200 OK\r\nA: ", b"bbbbbbbbbbbbbbbb"), "the answer is too long"),
        (("http", &[], b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "the answer is too long"),
        (
            ("http", &["-e", "y"], b"HTTP/1.1 200 OK\r\n\r\n", b"xxxxxxxxxxxxxxxx"),
            "is not in the first 1048576 bytes",
        ),
        (
            (
                "http",
                &["-e", "y"],
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                b"4\r\nxxxx\r\n",
            ),
            "is not in the first 1048576 bytes",
        ),
        (
            (
                "http",
                &["-e", "y"],
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;",
                b"xxxxxxxxxxxxxxxx",
            ),
            "the answer is too long",
        ),
        (("smtp", &[], b"220 ", b"xxxxxxxxxxxxxxxx"), "the answer is too long"),
        (("ftp", &[], b"", b"220-xxxxxxxxxxxx\r\n"), "the answer is too long"),
        (("mysql", &[], b"\xff\xff\xff\0", b"xxxxxxxxxxxxxxxx"), "no packet of MySQL"),
        (("tcp", &["-e", "y"], b"", b"xxxxxxxxxxxxxxxx"), "unexpected answer \"xxxx"),
    ];
    for ((kind, options, start, again), reason) in cases {
        let server = endless(start, again, AT_ONCE);
        check(kind, &[&[LONG], options, &["127.0.0.1", &server.port()]].concat()).fails(reason);
    }
    memory_is_bounded();
}

#[test]
fn slow_answers_end_with_the_time() {
    let cases: [Endless; 8] = [
        ("http", &[], b"HTTP/1.1 200 OK\r\n", b"A: b\r\n"),
        ("http", &["-e", "y"], b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
        (
            "http",
            &["-e", "y"],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"1\r\nx\r\n",
        ),
        ("https", &[], b"\x16\x03\x03\x3f\xff\x02\0\x3f\xfb\x03\x03", b"x"),
        ("smtp", &[], b"220-", b"x"),
        ("ftp", &[], b"220-x\r\n", b"2"),
        ("mysql", &[], b"\xff\x0f\0\0\x0a", b"8"),
        ("tcp", &["-re", "y"], b"", b"x"),
    ];
    std::thread::scope(|scope| {
        for (kind, options, start, again) in cases {
            scope.spawn(move || {
                let server = endless(start, again, DRIP);
                let port = server.port();
                let words = [&[SHORT], options, &["127.0.0.1", &port]].concat();
                let ran = check(kind, &words);
                let words =
                    ["no answer within the time limit", "no (full) answer within the time limit"];
                assert!(
                    words.iter().any(|w| ran.stderr.contains(w)),
                    "{kind} {options:?}: {}",
                    ran.stderr
                );
                assert_eq!((ran.status, ran.stdout.as_str()), (Some(1), "FAIL\n"));
            });
        }
    });
}

#[test]
fn silence_ends_with_the_time() {
    let silent = || {
        Server::tcp(
            |mut stream: TcpStream| while stream.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {},
        )
    };
    std::thread::scope(|scope| {
        for kind in ["http", "https", "smtp", "ftp", "mysql"] {
            scope.spawn(move || {
                let server = silent();
                check(kind, &[SHORT, "127.0.0.1", &server.port()])
                    .fails("no answer within the time limit");
            });
        }
        scope.spawn(|| {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let port = socket.local_addr().unwrap().port().to_string();
            check("dns", &[SHORT, "-q", "a", "127.0.0.1", &port])
                .fails("no answer within the time limit");
        });
        // Redirects for ever, each a little late.
        scope.spawn(|| {
            let server = Server::http(|_| {
                std::thread::sleep(DRIP);
                common::head(&["HTTP/1.1 302 F", "Location: /", "Content-Length: 0"])
            });
            check("http", &[SHORT, "--redirects=1000", &server.page("/")])
                .fails("no answer within the time limit");
        });
    });
}

#[test]
fn a_full_backlog_ends_with_the_time() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    // The first fills the backlog of one.
    let _filling: Vec<_> =
        (0..4).map(|_| TcpStream::connect_timeout(&addr, Duration::from_millis(50))).collect();
    let port = addr.port().to_string();
    check("https", &[SHORT, "127.0.0.1", &port]).fails("connect to 127.0.0.1:");
    check("https", &[LONG, "--connect-timeout=1", "--tries=1", "127.0.0.1", &port])
        .fails("no answer within the time limit");
    check("tcp", &[SHORT, "127.0.0.1", &port]).fails("no connection within the time limit");
}

#[test]
fn endless_bodies_over_tls_as_well() {
    let server = Server::https(&Identity::new("x", VALID), |_| {
        let mut answer = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        answer.resize(4 * 1024 * 1024, b'x');
        answer
    });
    check("https", &[LONG, "-e", "y", &server.page("/")])
        .fails("is not in the first 1048576 bytes");
    // Nothing more is read than is needed.
    check("https", &[LONG, "-g", &server.page("/")]).ok();
    check("https", &[LONG, "-e", "xx", &server.page("/")]).ok();
    memory_is_bounded();
}
