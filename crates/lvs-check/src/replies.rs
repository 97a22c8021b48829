//! smtp and ftp: servers that greet, and whose replies are lines with a number of three digits
//! (RFC 5321, section 4.2; RFC 959, section 4.2).

use crate::deadline::Deadline;
use crate::expected::Expected;
use crate::failure::{Failure, Shown, Verdict};
use crate::net::{self, Stream, line, unreceived};
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};

/// Longest line, in bytes; RFC 5321 allows 512.
const LONGEST_LINE: usize = 4096;
/// Most lines of one reply.
const MOST_LINES: usize = 256;

/// Which of the two protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Greeting and QUIT.
    Ftp,
    /// Greeting, EHLO (else HELO) and QUIT.
    Smtp,
}

/// What is asked.
#[derive(Debug)]
pub struct Order {
    /// How to speak.
    pub protocol: Protocol,
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How to introduce ourselves to an SMTP server; else by our address, as those do that have
    /// no name (RFC 5321, section 4.1.4).
    pub helo: Option<String>,
    /// What must be in the greeting.
    pub expected: Option<Expected>,
}

/// A reply.
#[derive(Debug, PartialEq, Eq)]
struct Reply {
    code: u16,
    /// All lines with the LF between them.
    text: Vec<u8>,
}

/// Talks with the server.
///
/// # Errors
/// Why the check failed.
pub fn check(order: &Order, deadline: Deadline) -> Verdict {
    let addresses = net::lookup(&order.host, order.port, deadline)?;
    let limit = deadline.left().unwrap_or_default();
    let stream = net::connect(&addresses, limit, deadline)?;
    let mut talk = Talk { peer: stream.peer, stream: BufReader::new(stream) };
    let greeting = talk.reply("greeting")?;
    talk.want(&greeting, "greeting", 220)?;
    if let Some(expected) = &order.expected
        && !expected.found_in(&greeting.text)
    {
        let reason = format!("{expected} is not in the greeting {}", Shown(&greeting.text));
        return Err(Failure::answer(talk.peer, reason));
    }
    if order.protocol == Protocol::Smtp {
        talk.introduce(order.helo.as_deref())?;
    }
    talk.quit()?;
    Ok(format!("{}: {}", talk.peer, Shown(&greeting.text)))
}

struct Talk {
    peer: SocketAddr,
    stream: BufReader<Stream>,
}

impl Talk {
    fn reply(&mut self, to: &str) -> Result<Reply, Failure> {
        match reply(&mut self.stream) {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(line)) => Err(Failure::answer(
                self.peer,
                format!("{to}: no reply with a number: {}", Shown(&line)),
            )),
            Err(error) => Err(unreceived(self.peer, error)),
        }
    }

    fn command(&mut self, command: &str) -> Result<Reply, Failure> {
        net::send(self.stream.get_mut(), self.peer, format!("{command}\r\n").as_bytes())?;
        self.reply(command)
    }

    fn want(&self, reply: &Reply, to: &str, code: u16) -> Result<(), Failure> {
        if reply.code == code {
            return Ok(());
        }
        let reason = format!("{to}: the reply is {}, not {code}", Shown(&reply.text));
        Err(Failure::answer(self.peer, reason))
    }

    fn introduce(&mut self, name: Option<&str>) -> Result<(), Failure> {
        let name = match name {
            Some(name) => name.to_owned(),
            None => {
                let local = self.stream.get_ref().local();
                literal(local.map_err(|error| unreceived(self.peer, error))?.ip())
            }
        };
        let ehlo = format!("EHLO {name}");
        let reply = self.command(&ehlo)?;
        // A server from before EHLO (RFC 5321, section 4.1.4).
        if matches!(reply.code, 500 | 502) {
            let helo = format!("HELO {name}");
            let reply = self.command(&helo)?;
            return self.want(&reply, &helo, 250);
        }
        self.want(&reply, &ehlo, 250)
    }

    /// The end. A server that hangs up without a word has understood as well.
    fn quit(&mut self) -> Result<(), Failure> {
        match self.command("QUIT") {
            Ok(reply) => self.want(&reply, "QUIT", 221),
            Err(Failure::Broken { error, .. }) if hung_up(&error) => Ok(()),
            Err(failure) => Err(failure),
        }
    }
}

fn hung_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// An address as a name (RFC 5321, section 4.1.3).
fn literal(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("[{address}]"),
        IpAddr::V6(address) => format!("[IPv6:{address}]"),
    }
}

/// Reads a reply, which ends with a line whose number is followed by a blank or nothing. `Ok(Err(line))`
/// where the first line has no number.
fn reply(from: &mut impl BufRead) -> io::Result<Result<Reply, Vec<u8>>> {
    let first = line(from, LONGEST_LINE)?;
    let Some((code, mut more)) = number(&first) else { return Ok(Err(first)) };
    let mut text = first;
    for _ in 1..MOST_LINES {
        if !more {
            return Ok(Ok(Reply { code, text }));
        }
        let next = line(from, LONGEST_LINE)?;
        // Lines between the first and the last need no number (RFC 959).
        more = number(&next) != Some((code, false));
        text.push(b'\n');
        text.extend_from_slice(&next);
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is too long"))
}

/// The number of a line, and whether more lines follow.
fn number(line: &[u8]) -> Option<(u16, bool)> {
    let (digits, rest) = line.split_at_checked(3)?;
    let code =
        std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?;
    let more = match rest.first() {
        Some(b'-') => true,
        Some(b' ') | None => false,
        Some(_) => return None,
    };
    Some((code.parse().ok()?, more))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_of_one_and_many_lines() {
        let read = |text: &str| reply(&mut text.as_bytes()).map_err(|error| error.kind());
        let fine = |code, text: &str| Ok(Ok(Reply { code, text: text.into() }));
        let eof = Err(io::ErrorKind::UnexpectedEof);
        assert_eq!(read("220 mx ESMTP\r\n"), fine(220, "220 mx ESMTP"));
        assert_eq!(read("220\r\n"), fine(220, "220"));
        assert_eq!(read("220-a\r\n220-b\r\n220 c\r\nmore"), fine(220, "220-a\n220-b\n220 c"));
        assert_eq!(
            read("220-a\r\n  between\r\n550 x\r\n220 c\r\n"),
            fine(220, "220-a\n  between\n550 x\n220 c")
        );
        assert_eq!(read("SSH-2.0\r\n"), Ok(Err(b"SSH-2.0".to_vec())));
        assert_eq!(read("2200 x\r\n"), Ok(Err(b"2200 x".to_vec())));
        assert_eq!(read("\r\n"), Ok(Err(Vec::new())));
        assert_eq!(read(""), eof);
        assert_eq!(read("220-a\r\n"), eof);
        let endless = Err(io::ErrorKind::InvalidData);
        assert_eq!(read(&"220-a\r\n".repeat(MOST_LINES + 1)), endless);
        assert_eq!(read(&format!("220 {}\r\n", "x".repeat(LONGEST_LINE))), endless);
    }

    #[test]
    fn addresses_as_names() {
        assert_eq!(literal("10.0.0.1".parse().unwrap()), "[10.0.0.1]");
        assert_eq!(literal("2001:db8::1".parse().unwrap()), "[IPv6:2001:db8::1]");
    }
}
