//! mysql: the server's greeting, and a login with an empty password if asked (the client/server protocol
//! of MySQL and MariaDB, version 10 of the handshake).

use crate::deadline::Deadline;
use crate::failure::{Failure, Shown, Verdict};
use crate::net::{self, Stream, unreceived};
use std::io::{self, Read};
use std::net::SocketAddr;

/// Longest packet that is taken for one, in bytes. Greetings and errors have a few hundred.
const LONGEST: usize = 16 * 1024;
/// Most changes of the way to log in.
const MOST_SWITCHES: usize = 4;

const OK: u8 = 0x00;
const ERROR: u8 = 0xff;
const SWITCH: u8 = 0xfe;
/// The version of the handshake.
const HANDSHAKE: u8 = 10;

/// CLIENT_LONG_PASSWORD, CLIENT_PROTOCOL_41, CLIENT_SECURE_CONNECTION, CLIENT_PLUGIN_AUTH.
const CAPABILITIES: u32 = 0x0000_0001 | 0x0000_0200 | 0x0000_8000 | 0x0008_0000;
/// utf8, which every version knows.
const CHARACTER_SET: u8 = 33;

/// What is asked.
#[derive(Debug)]
pub struct Order {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The user to log in as, with an empty password.
    pub user: Option<String>,
}

/// Awaits the greeting, and logs in and out if asked.
///
/// # Errors
/// Why the check failed.
pub fn check(order: &Order, deadline: Deadline) -> Verdict {
    let addresses = net::lookup(&order.host, order.port, deadline)?;
    let limit = deadline.left().unwrap_or_default();
    let mut talk = Talk::new(net::connect(&addresses, limit, deadline)?);
    let greeting = talk.receive()?;
    let version = greeting_version(&greeting).map_err(|reason| talk.wrong(reason))?;
    let mut found = format!("{}: version {}", talk.peer, Shown(&version));
    if let Some(user) = &order.user {
        talk.log_in(user)?;
        found = format!("{found}, user {user} logged in");
    }
    Ok(found)
}

/// A conversation in packets, which are numbered.
struct Talk {
    stream: Stream,
    peer: SocketAddr,
    number: u8,
}

impl Talk {
    fn new(stream: Stream) -> Talk {
        Talk { peer: stream.peer, stream, number: 0 }
    }

    fn wrong(&self, reason: impl Into<String>) -> Failure {
        Failure::answer(self.peer, reason)
    }

    fn receive(&mut self) -> Result<Vec<u8>, Failure> {
        let mut head = [0; 4];
        self.stream.read_exact(&mut head).map_err(|error| self.unreceived(error))?;
        let [a, b, c, number] = head;
        let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
        if number != self.number || length == 0 || length > LONGEST {
            return Err(self.wrong(format!("no packet of MySQL: {}", Shown(&head))));
        }
        self.number = number.wrapping_add(1);
        let mut packet = vec![0; length];
        self.stream.read_exact(&mut packet).map_err(|error| self.unreceived(error))?;
        Ok(packet)
    }

    fn unreceived(&self, error: io::Error) -> Failure {
        unreceived(self.peer, error)
    }

    fn send(&mut self, packet: &[u8]) -> Result<(), Failure> {
        let length = u32::try_from(packet.len()).unwrap_or(u32::MAX).to_le_bytes();
        let mut bytes = vec![length[0], length[1], length[2], self.number];
        self.number = self.number.wrapping_add(1);
        bytes.extend_from_slice(packet);
        net::send(&mut self.stream, self.peer, &bytes)
    }

    fn log_in(&mut self, user: &str) -> Result<(), Failure> {
        self.send(&login(user))?;
        for _ in 0..=MOST_SWITCHES {
            let answer = self.receive()?;
            match answer.first() {
                Some(&OK) => return self.log_out(),
                Some(&ERROR) => {
                    return Err(
                        self.wrong(format!("login as {user}: {}", error_text(&answer[1..])))
                    );
                }
                // Another way to log in: an empty password is an empty answer in each of them.
                Some(&SWITCH) => self.send(b"")?,
                _ => return Err(self.wrong(format!("login as {user}: {}", Shown(&answer)))),
            }
        }
        Err(self.wrong(format!("login as {user}: no end of other ways to log in")))
    }

    /// So that the server does not count an aborted connection.
    fn log_out(&mut self) -> Result<(), Failure> {
        self.number = 0;
        self.send(b"\x01")
    }
}

/// The version in a greeting; an error where it is none.
fn greeting_version(packet: &[u8]) -> Result<Vec<u8>, String> {
    match packet {
        [HANDSHAKE, rest @ ..] => match rest.iter().position(|byte| *byte == 0) {
            Some(end) => Ok(rest[..end].to_vec()),
            None => Err(format!("no end of the version in {}", Shown(packet))),
        },
        [ERROR, rest @ ..] => Err(format!("the server refuses: {}", error_text(rest))),
        _ => Err(format!("no greeting of MySQL: {}", Shown(packet))),
    }
}

/// An error's number and text; `#` and five characters between them are the state.
fn error_text(rest: &[u8]) -> String {
    let Some(([low, high], text)) = rest.split_first_chunk::<2>() else {
        return "an error".to_owned();
    };
    let text = if text.first() == Some(&b'#') { text.get(6..).unwrap_or_default() } else { text };
    format!("error {}, {}", u16::from_le_bytes([*low, *high]), Shown(text))
}

/// The answer to a greeting (HandshakeResponse41).
fn login(user: &str) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend_from_slice(&CAPABILITIES.to_le_bytes());
    packet.extend_from_slice(&u32::try_from(LONGEST).unwrap_or(0).to_le_bytes());
    packet.push(CHARACTER_SET);
    packet.extend_from_slice(&[0; 23]);
    packet.extend_from_slice(user.as_bytes());
    // The end of the name, and an answer of no bytes to the server's challenge.
    packet.extend_from_slice(b"\0\0mysql_native_password\0");
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greetings() {
        type Case = (&'static [u8], Result<&'static [u8], &'static str>);
        let cases: [Case; 7] = [
            (b"\x0a8.0.36\0rest", Ok(b"8.0.36")),
            (b"\x0a5.5.5-10.11.6-MariaDB\0", Ok(b"5.5.5-10.11.6-MariaDB")),
            (b"\x0a8.0", Err("no end of the version")),
            (b"\xff\x69\x04Host 'x' is blocked", Err("error 1129, \"Host \\'x\\' is blocked\"")),
            (
                b"\xff\x10\x04#08004Too many connections",
                Err("error 1040, \"Too many connections\""),
            ),
            (b"\xff", Err("the server refuses: an error")),
            (b"\x09old", Err("no greeting of MySQL")),
        ];
        for (packet, want) in cases {
            let got = greeting_version(packet);
            match want {
                Ok(version) => assert_eq!(got.as_deref(), Ok(version)),
                Err(why) => assert!(got.as_ref().is_err_and(|e| e.contains(why)), "{got:?}"),
            }
        }
    }
}
