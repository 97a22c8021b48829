//! dns: one query by UDP, and by TCP where the answer does not fit (RFC 1035, section 4.2).

pub mod message;

use crate::deadline::Deadline;
use crate::failure::{Failure, RECEIVE, SEND, Verdict};
use crate::net::{self, timed_out, unreceived};
use message::{Answer, Question, answer, is_expected};
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// When a query is sent again: datagrams get lost.
const AGAIN: Duration = Duration::from_secs(1);

/// What is asked.
#[derive(Debug)]
pub struct Order {
    /// Name or address of the server.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The question.
    pub question: Question,
    /// What one of the records must be.
    pub expected: Option<String>,
}

/// Asks the first address the server's name has.
///
/// # Errors
/// Why the check failed.
pub fn check(order: &Order, deadline: Deadline) -> Verdict {
    let addresses = net::lookup(&order.host, order.port, deadline)?;
    let Some(peer) = addresses.first().copied() else {
        return Err(Failure::Here(format!("{}: no address", order.host)));
    };
    let id = chance();
    let mut answer = by_udp(peer, id, &order.question, deadline)?;
    if answer == Answer::Truncated {
        answer = by_tcp(peer, id, &order.question, deadline)?;
    }
    judge(order, peer, answer)
}

fn judge(order: &Order, peer: SocketAddr, answer: Answer) -> Verdict {
    let Order { question, expected, .. } = order;
    let wrong = |reason: String| Err(Failure::answer(peer, format!("{question}: {reason}")));
    let records = match answer {
        Answer::Records(records) => records,
        Answer::Error(code) => return wrong(format!("the server answers {code}")),
        Answer::Malformed => return wrong("the answer cannot be read".to_owned()),
        Answer::Foreign => return wrong("the answer is to another question".to_owned()),
        Answer::Truncated => return wrong("the answer is cut off, by TCP as well".to_owned()),
    };
    let shown = records.iter().take(8).cloned().collect::<Vec<_>>().join(", ");
    match expected {
        _ if records.is_empty() => wrong("no such record".to_owned()),
        Some(text) if !records.iter().any(|record| is_expected(record, text)) => {
            wrong(format!("{text} is not among the records: {shown}"))
        }
        _ => Ok(format!("{peer}: {question}: {shown}")),
    }
}

/// A number nobody can guess, so that nobody else can answer.
fn chance() -> u16 {
    // The keys of a RandomState are the system's random numbers.
    let [a, b, ..] = RandomState::new().build_hasher().finish().to_ne_bytes();
    u16::from_ne_bytes([a, b])
}

fn by_udp(
    peer: SocketAddr,
    id: u16,
    question: &Question,
    deadline: Deadline,
) -> Result<Answer, Failure> {
    let socket = udp_socket(peer).map_err(|error| Failure::Connect { peer, error })?;
    let query = question.query(id);
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        socket.send(&query).map_err(|error| Failure::Broken { what: SEND, peer, error })?;
        let turn = deadline.within(AGAIN);
        while let Ok(left) = turn.left() {
            let received =
                socket.set_read_timeout(Some(left)).and_then(|()| socket.recv(&mut buffer));
            match received.map_err(timed_out) {
                Ok(length) => match answer(&buffer[..length], id, question) {
                    Answer::Foreign => {}
                    answer => return Ok(answer),
                },
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
                Err(error) => return Err(Failure::Broken { what: RECEIVE, peer, error }),
            }
        }
        deadline.left().map_err(|error| unreceived(peer, error))?;
    }
}

/// A connected socket hears nobody but its peer, and the peer's refusals.
fn udp_socket(peer: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match peer {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(peer)?;
    Ok(socket)
}

/// The same, each message behind its length.
fn by_tcp(
    peer: SocketAddr,
    id: u16,
    question: &Question,
    deadline: Deadline,
) -> Result<Answer, Failure> {
    let limit = deadline.left().map_err(|error| unreceived(peer, error))?;
    let mut stream = net::connect(&[peer], limit, deadline)?;
    let query = question.query(id);
    let length = u16::try_from(query.len()).unwrap_or(u16::MAX);
    net::send(&mut stream, peer, &[&length.to_be_bytes(), query.as_slice()].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).map_err(|error| unreceived(peer, error))?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).map_err(|error| unreceived(peer, error))?;
    Ok(answer(&message, id, question))
}
