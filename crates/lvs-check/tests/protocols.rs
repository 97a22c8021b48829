//! smtp, ftp, mysql, dns and tcp, against servers that play their part.
#![allow(clippy::unwrap_used)]

mod common;

use common::{LONG, Server, check};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::Arc;

/// A port that nobody is given and nobody uses (tcpmux).
const CLOSED: &str = "1";

/// A server that greets, and then answers each line by the first entry whose word the line begins with;
/// no entry: hangs up.
fn talker(greeting: &'static str, replies: &'static [(&'static str, &'static str)]) -> Server {
    Server::tcp(move |mut stream| {
        let _ = stream.write_all(greeting.as_bytes());
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        while let Some(Ok(line)) = lines.next() {
            let Some((_, reply)) = replies.iter().find(|(word, _)| line.starts_with(word)) else {
                return;
            };
            let _ = stream.write_all(reply.as_bytes());
        }
    })
}

#[test]
fn smtp() {
    let ask = |server: &Server, options: &[&str]| {
        check("smtp", &[options, &["127.0.0.1", &server.port()]].concat())
    };
    let good = talker(
        "220-mx.example.com\r\n220 ESMTP Postfix\r\n",
        &[
            ("EHLO [127.0.0.1]", "250-mx.example.com\r\n250-PIPELINING\r\n250 8BITMIME\r\n"),
            ("EHLO probe", "250 mx.example.com\r\n"),
            ("QUIT", "221 2.0.0 Bye\r\n"),
        ],
    );
    ask(&good, &[]).ok();
    ask(&good, &["--helo=probe"]).ok();
    ask(&good, &["-e", "Postfix"]).ok();
    ask(&good, &["-re", "ESMTP (Postfix|Exim)$"]).ok();
    ask(&good, &["-e", "Exim"])
        .fails("the text \"Exim\" is not in the greeting \"220-mx.example.com\\n220");
    let old =
        talker("220 x\r\n", &[("EHLO", "502 no\r\n"), ("HELO", "250 x\r\n"), ("QUIT", "221\r\n")]);
    ask(&old, &[]).ok();
    let curt = talker("220 x\r\n", &[("EHLO", "250 x\r\n")]);
    ask(&curt, &[]).ok();
    let cases = [
        (talker("421 too busy\r\n", &[]), "greeting: the reply is \"421 too busy\", not 220"),
        (talker("554 no\r\n", &[]), "greeting: the reply is \"554 no\", not 220"),
        (
            talker("220 x\r\n", &[("EHLO", "550 go away\r\n")]),
            "EHLO [127.0.0.1]: the reply is \"550 go away\", not 250",
        ),
        (
            talker("220 x\r\n", &[("EHLO", "500 ?\r\n"), ("HELO", "501 ?\r\n")]),
            "HELO [127.0.0.1]: the reply is \"501 ?\", not 250",
        ),
        (
            talker("220 x\r\n", &[("EHLO", "250 x\r\n"), ("QUIT", "451 no\r\n")]),
            "QUIT: the reply is \"451 no\", not 221",
        ),
        (talker("SSH-2.0-x\r\n", &[]), "greeting: no reply with a number: \"SSH-2.0-x\""),
        (talker("220 x\r\n", &[]), "closed before the answer was complete"),
    ];
    for (server, reason) in cases {
        ask(&server, &[LONG]).fails(reason);
    }
}

#[test]
fn ftp() {
    let good = talker("220-Welcome\r\n anybody\r\n220 ready\r\n", &[("QUIT", "221 Bye\r\n")]);
    check("ftp", &[LONG, "127.0.0.1", &good.port()]).ok();
    check("ftp", &[LONG, "-e", "anybody", "127.0.0.1", &good.port()]).ok();
    let later = talker("120 ready in 5 minutes\r\n", &[]);
    check("ftp", &[LONG, "127.0.0.1", &later.port()])
        .fails("the reply is \"120 ready in 5 minutes\", not 220");
}

/// A packet of MySQL.
fn packet(number: u8, body: &[u8]) -> Vec<u8> {
    [&[u8::try_from(body.len()).unwrap(), 0, 0, number], body].concat()
}

/// Reads one, and gives its body.
fn read_packet(stream: &mut impl Read) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).ok()?;
    let mut body = vec![0; usize::from(head[0])];
    stream.read_exact(&mut body).ok()?;
    Some((head[3], body))
}

/// Greets, and answers what comes with these, one after the other. What comes is told.
fn database(greeting: &'static [u8], answers: &'static [&'static [u8]]) -> (Server, Heard) {
    let heard = Heard::default();
    let note = Arc::clone(&heard);
    let server = Server::tcp(move |mut stream| {
        let _ = stream.write_all(&packet(0, greeting));
        let mut answers = answers.iter();
        while let Some((number, body)) = read_packet(&mut stream) {
            note.lock().unwrap().push((number, body));
            let Some(answer) = answers.next() else { return };
            let _ = stream.write_all(&packet(number + 1, answer));
        }
    });
    (server, heard)
}

type Heard = Arc<std::sync::Mutex<Vec<(u8, Vec<u8>)>>>;

#[test]
fn mysql() {
    let greeting = b"\x0a8.0.36\0\x01\0\0\0challeng\0\xff\xff\xff\x02\0\xff\xdf";
    let ask = |server: &Server, options: &[&str]| {
        check("mysql", &[&[LONG], options, &["127.0.0.1", &server.port()]].concat())
    };
    let (good, heard) = database(greeting, &[]);
    ask(&good, &[]).ok();
    assert!(heard.lock().unwrap().is_empty());
    let told = ask(&good, &["-v"]).stderr;
    assert_eq!(told, format!("lvs-check-mysql: {}: version \"8.0.36\"\n", good.addr));

    let (good, heard) = database(greeting, &[b"\0\0\0\x02\0\0\0"]);
    ask(&good, &["--user=probe"]).ok();
    // The server reads the end after the check has gone.
    let both = |heard: &Heard| {
        while heard.lock().unwrap().len() < 2 {
            std::thread::yield_now();
        }
        heard.lock().unwrap().clone()
    };
    let packets = both(&heard);
    assert_eq!(packets[0].0, 1);
    assert_eq!(packets[0].1[32..], *b"probe\0\0mysql_native_password\0");
    assert_eq!(packets[1], (0, vec![1]));

    let (switching, heard) =
        database(greeting, &[b"\xfecaching_sha2_password\0challenge\0", b"\0\0\0"]);
    ask(&switching, &["-u", "probe"]).ok();
    assert_eq!(both(&heard)[1], (3, Vec::new()));

    let (denying, _) = database(greeting, &[b"\xff\x15\x04#28000Access denied"]);
    ask(&denying, &["-u", "probe"]).fails("login as probe: error 1045, \"Access denied\"");
    let (blocked, _) = database(b"\xff\x69\x04Host is blocked", &[]);
    ask(&blocked, &[]).fails("the server refuses: error 1129, \"Host is blocked\"");
    let mail = talker("220 mx.example.com ESMTP\r\n", &[]);
    ask(&mail, &[]).fails("no packet of MySQL: \"220 \"");
}

/// Answers a query with this code, truncated or not, and A records for these addresses.
fn reply(query: &[u8], code: u8, truncated: bool, addresses: &[Ipv4Addr]) -> Vec<u8> {
    let mut bytes = query.to_vec();
    bytes[2] = 0x81 | u8::from(truncated) << 1;
    bytes[3] = 0x80 | code;
    bytes[7] = u8::try_from(addresses.len()).unwrap();
    for address in addresses {
        bytes.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        bytes.extend_from_slice(&address.octets());
    }
    bytes
}

/// A name server; gives its port.
fn name_server(answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> String {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            for datagram in answer(&buffer[..length]) {
                socket.send_to(&datagram, from).unwrap();
            }
        }
    });
    port.to_string()
}

#[test]
fn dns() {
    let ask = |port: &str, options: &[&str]| {
        check("dns", &[&[LONG, "--query=www.example.com"], options, &["127.0.0.1", port]].concat())
    };
    let one = Ipv4Addr::new(192, 0, 2, 1);
    let two = Ipv4Addr::new(192, 0, 2, 2);
    let good = name_server(move |query| vec![reply(query, 0, false, &[one, two])]);
    ask(&good, &[]).ok();
    ask(&good, &["-e", "192.0.2.2"]).ok();
    ask(&good, &["-e", "192.0.2.3"])
        .fails("www.example.com A: 192.0.2.3 is not among the records: 192.0.2.1, 192.0.2.2");
    ask(&name_server(|query| vec![reply(query, 3, false, &[])]), &[])
        .fails("the server answers NXDOMAIN");
    ask(&name_server(|query| vec![reply(query, 5, false, &[])]), &[])
        .fails("the server answers REFUSED");
    ask(&name_server(|query| vec![reply(query, 0, false, &[])]), &[]).fails("no such record");
    ask(&good, &["--type=TXT"]).fails("www.example.com TXT: no such record");
    // Somebody else's answers come first.
    let noisy = name_server(move |query| {
        let mut other = reply(query, 3, false, &[]);
        other[0] ^= 1;
        let other_name = [&query[..13], b"X", &query[14..]].concat();
        vec![other, Vec::new(), b"x".to_vec(), other_name, reply(query, 0, false, &[one])]
    });
    ask(&noisy, &[]).ok();
    // The first datagram is lost.
    let lost = std::sync::atomic::AtomicBool::new(true);
    let lossy = name_server(move |query| {
        let lost = lost.swap(false, std::sync::atomic::Ordering::SeqCst);
        if lost { Vec::new() } else { vec![reply(query, 0, false, &[one])] }
    });
    ask(&lossy, &[]).ok();
    ask(CLOSED, &[]).fails("Connection refused");
}

#[test]
fn dns_by_tcp_where_the_answer_is_cut_off() {
    // The same port for both, as name servers have it.
    let (udp, tcp) = std::iter::repeat_with(|| {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        UdpSocket::bind(tcp.local_addr().unwrap()).ok().map(|udp| (udp, tcp))
    })
    .flatten()
    .next()
    .unwrap();
    let port = tcp.local_addr().unwrap().port().to_string();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            udp.send_to(&reply(&buffer[..length], 0, true, &[]), from).unwrap();
        }
    });
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut query = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut query).unwrap();
            let answer = reply(&query, 0, false, &[Ipv4Addr::new(192, 0, 2, 1)]);
            let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
            stream.write_all(&[&length, answer.as_slice()].concat()).unwrap();
        }
    });
    check("dns", &[LONG, "-q", "www.example.com", "-e", "192.0.2.1", "127.0.0.1", &port]).ok();
}

#[test]
fn tcp() {
    let server = Server::tcp(|mut stream| {
        let mut request = [0; 6];
        if stream.read_exact(&mut request).is_ok() && request == *b"PING\r\n" {
            let _ = stream.write_all(b"+PONG\r\n");
        }
    });
    let ask = |options: &[&str]| {
        check("tcp", &[&[LONG], options, &["127.0.0.1", &server.port()]].concat())
    };
    ask(&[]).ok();
    ask(&["--send=PING\\r\\n"]).ok();
    ask(&["-s", "PING\\r\\n", "-e", "+PONG"]).ok();
    ask(&["-s", "PING\\r\\n", "-e", "*"]).ok();
    ask(&["-s", "PING\\r\\n", "-re", "P[AEIOU]NG"]).ok();
    ask(&["-s", "PING\\r\\n", "-e", "PONG"]).fails("unexpected answer \"+PON");
    check("tcp", &[&server.addr.to_string()]).ok();
    for kind in ["tcp", "http", "https", "smtp", "ftp", "mysql"] {
        check(kind, &["127.0.0.1", CLOSED]).fails("Connection refused");
    }
}
