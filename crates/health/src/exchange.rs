//! One check over a socket: connect, send, look at the answer. Never blocks; driven by events.

use crate::failure::Failure;
use crate::program::errno;
use crate::recipe::{Action, Expect, Recipe, Target};
use crate::regex::Regex;
use daemon::poll::Flags;
use nix::errno::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::OnceLock;

/// Most bytes of an answer that are looked at.
pub(crate) const MOST_ANSWER: usize = 16 * 1024;

/// A recipe with what can be prepared once for all its checks.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) recipe: Rc<Recipe>,
    /// The compiled expression where one is expected; an error is found out at the first answer.
    regex: Option<Result<Regex, Box<str>>>,
}

impl Prepared {
    pub(crate) fn new(recipe: Rc<Recipe>) -> Prepared {
        let regex = match &recipe.action {
            Action::Exchange { expect: Some(Expect::Regex(text)), .. } => {
                Some(Regex::new(text).map_err(String::into_boxed_str))
            }
            _ => None,
        };
        Prepared { recipe, regex }
    }

    /// The words of the program to run.
    pub(crate) fn words(&self) -> &[Vec<u8>] {
        match &self.recipe.action {
            Action::Program { words, .. } | Action::Load { words } => words,
            Action::Exchange { .. } => &[],
        }
    }

    /// Only the program's end counts, not what it prints.
    pub(crate) fn output_is_ignored(&self) -> bool {
        matches!(self.recipe.action, Action::Program { expect: None, .. })
    }

    fn send(&self) -> &[u8] {
        match &self.recipe.action {
            Action::Exchange { send: Some(bytes), .. } => bytes,
            _ => b"",
        }
    }

    fn expect(&self) -> Option<&Expect> {
        match &self.recipe.action {
            Action::Exchange { expect, .. } => expect.as_ref(),
            _ => None,
        }
    }

    /// Looks at what has come of an answer; `whole` when nothing will follow. `None`: more is needed.
    fn judge(&self, answer: &[u8], whole: bool) -> Option<Result<(), Failure>> {
        let short = |wanted: usize| {
            let number = |n| u32::try_from(n).unwrap_or(u32::MAX);
            Some(Err(Failure::Short { got: number(answer.len()), wanted: number(wanted) }))
        };
        match self.expect()? {
            Expect::Any if !answer.is_empty() => Some(Ok(())),
            Expect::Any if whole => short(1),
            Expect::Any => None,
            Expect::Prefix(prefix) if answer.starts_with(prefix) => Some(Ok(())),
            Expect::Prefix(prefix) if !prefix.starts_with(answer) => {
                Some(Err(Failure::mismatch(answer)))
            }
            Expect::Prefix(prefix) if whole => short(prefix.len()),
            Expect::Prefix(_) => None,
            Expect::Regex(_) => match self.regex.as_ref()? {
                Err(error) => Some(Err(Failure::Regex(error.clone()))),
                Ok(regex) if regex.found_in(answer) => Some(Ok(())),
                Ok(_) if whole && answer.is_empty() => short(1),
                Ok(_) if whole => Some(Err(Failure::mismatch(answer))),
                Ok(_) => None,
            },
        }
    }
}

/// How far a check over a socket is.
#[derive(Debug)]
pub(crate) struct Exchange {
    socket: Socket,
    udp: bool,
    connected: bool,
    sent: Option<usize>,
    answer: Vec<u8>,
}

/// The ports that this machine gives to sockets which name none (ip(7), ip_local_port_range), as they
/// were at the first call; all where that cannot be read.
fn ephemeral_ports() -> &'static RangeInclusive<u16> {
    static PORTS: OnceLock<RangeInclusive<u16>> = OnceLock::new();
    PORTS.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
        let text = text.unwrap_or_default();
        let mut ends = text.split_whitespace().map_while(|word| word.parse().ok());
        ends.next().zip(ends.next()).map_or(0..=u16::MAX, |(first, last)| first..=last)
    })
}

/// Why a check could not begin.
#[derive(Debug)]
pub(crate) enum NotBegun {
    /// This machine is short of something (descriptors, memory): the server is not to blame.
    Shortage(Errno),
    /// The check has failed.
    Failed(Failure),
}

impl Exchange {
    /// Opens a socket and starts to connect.
    pub(crate) fn begin(target: &Target) -> Result<Exchange, NotBegun> {
        let (kind, protocol) =
            if target.udp { (Type::DGRAM, Protocol::UDP) } else { (Type::STREAM, Protocol::TCP) };
        let address = SockAddr::from(target.socket());
        let begun =
            Socket::new(Domain::for_address(target.socket()), kind.nonblocking(), Some(protocol))
                .and_then(|socket| match socket.connect(&address) {
                    Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => Err(e),
                    _ => Ok(socket),
                });
        match begun {
            Ok(socket) => Ok(Exchange {
                socket,
                udp: target.udp,
                connected: false,
                sent: None,
                answer: Vec::new(),
            }),
            Err(e) => Err(match errno(&e) {
                e @ (Errno::EMFILE
                | Errno::ENFILE
                | Errno::ENOMEM
                | Errno::ENOBUFS
                | Errno::EAGAIN) => NotBegun::Shortage(e),
                e => NotBegun::Failed(Failure::Connect(e)),
            }),
        }
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// What has come, as far as it was looked at.
    pub(crate) fn into_answer(self) -> Vec<u8> {
        self.answer
    }

    /// What it means that the time is over now.
    pub(crate) fn timed_out(&self, prepared: &Prepared) -> Failure {
        if !self.connected {
            Failure::ConnectTimeout
        } else if self.sent.unwrap_or(0) < prepared.send().len() {
            Failure::WriteTimeout
        } else {
            Failure::ReadTimeout
        }
    }

    /// Goes on after an event. `None`: there is more to wait for.
    pub(crate) fn drive(
        &mut self,
        prepared: &Prepared,
        target: &Target,
        flags: Flags,
    ) -> Option<Result<(), Failure>> {
        if !self.connected {
            if flags.intersects(Flags::EPOLLERR | Flags::EPOLLHUP)
                && let Ok(Some(error)) = self.socket.take_error()
            {
                return Some(self.broken(prepared, errno(&error)));
            }
            if !flags.contains(Flags::EPOLLOUT) {
                return None;
            }
            if self.is_with_itself(target) {
                return Some(Err(Failure::Connect(Errno::ECONNREFUSED)));
            }
            self.connected = true;
        }
        match self.send(prepared) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(e) => return Some(Err(Failure::Write(e))),
        }
        if prepared.expect().is_none() {
            return Some(Ok(()));
        }
        self.receive(prepared)
    }

    /// What an error means that is found before the connection was seen. The reset of a connection
    /// that had come about means what it would have meant had it been seen before the reset.
    fn broken(&mut self, prepared: &Prepared, error: Errno) -> Result<(), Failure> {
        if self.udp || !matches!(error, Errno::ECONNRESET | Errno::EPIPE) {
            return Err(Failure::Connect(error));
        }
        self.connected = true;
        if prepared.expect().is_none() && prepared.send().is_empty() {
            return Ok(());
        }
        if !prepared.send().is_empty() {
            return Err(Failure::Write(error));
        }
        // What came before the reset can still be read.
        match self.receive(prepared) {
            Some(Err(Failure::Short { .. })) | None => Err(Failure::Read(error)),
            Some(verdict) => verdict,
        }
    }

    /// Whether this socket is connected to itself. A socket that is given the very port it connects
    /// to, on an address of this machine, meets itself where nobody listens (RFC 9293, 3.5:
    /// simultaneous open; for UDP it simply hears itself).
    fn is_with_itself(&self, target: &Target) -> bool {
        if !ephemeral_ports().contains(&target.port) {
            return false;
        }
        let local = self.socket.local_addr().ok().and_then(|address| address.as_socket());
        local == Some(target.socket())
    }

    /// Sends what is left to send; true when nothing is.
    fn send(&mut self, prepared: &Prepared) -> Result<bool, Errno> {
        let bytes = prepared.send();
        // A UDP server speaks only when spoken to, if it be with an empty datagram.
        let speak = self.sent.is_none() && self.udp && prepared.expect().is_some();
        let mut sent = self.sent.unwrap_or(0);
        while sent < bytes.len() || (speak && self.sent.is_none()) {
            match self.socket.send(&bytes[sent..]) {
                Ok(n) => sent += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(errno(&e)),
            }
            self.sent = Some(sent);
        }
        self.sent = Some(sent);
        Ok(sent >= bytes.len())
    }

    fn receive(&mut self, prepared: &Prepared) -> Option<Result<(), Failure>> {
        // As long as the longest answer: of a datagram, what does not fit is lost.
        let mut chunk = [0; MOST_ANSWER];
        loop {
            let whole = match (&self.socket).read(&mut chunk) {
                // An empty datagram is a reply, too.
                Ok(_) if self.udp && prepared.expect() == Some(&Expect::Any) => {
                    return Some(Ok(()));
                }
                Ok(n) => {
                    self.answer.extend_from_slice(&chunk[..n]);
                    self.udp || n == 0 || self.answer.len() >= MOST_ANSWER
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return None,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Some(Err(Failure::Read(errno(&e)))),
            };
            if let Some(verdict) = prepared.judge(&self.answer, whole) {
                return Some(verdict);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(expect: Expect) -> Prepared {
        let action = Action::Exchange { send: None, expect: Some(expect) };
        Prepared::new(Rc::new(Recipe { action, interval_ms: 1000 }))
    }

    /// Gives the answer byte by byte and says after how many bytes the verdict came, and which.
    fn bytewise(prepared: &Prepared, answer: &[u8]) -> (usize, Result<(), Failure>) {
        for n in 1..=answer.len() {
            if let Some(verdict) = prepared.judge(&answer[..n], false) {
                return (n, verdict);
            }
        }
        (answer.len(), prepared.judge(answer, true).unwrap())
    }

    #[test]
    fn answers_are_judged_as_soon_as_they_can_be() {
        let prefix = |p: &[u8]| prepared(Expect::Prefix(p.to_vec()));
        let regex = |p: &[u8]| prepared(Expect::Regex(p.to_vec()));
        assert_eq!(bytewise(&prefix(b"HTTP"), b"HTTP/1.1 200"), (4, Ok(())));
        assert_eq!(bytewise(&prefix(b"HTTP"), b"HTml"), (3, Err(Failure::mismatch(b"HTm"))));
        let short = Err(Failure::Short { got: 2, wanted: 4 });
        assert_eq!(bytewise(&prefix(b"HTTP"), b"HT"), (2, short));
        assert_eq!(bytewise(&prepared(Expect::Any), b"x"), (1, Ok(())));
        let short = Err(Failure::Short { got: 0, wanted: 1 });
        assert_eq!(bytewise(&prepared(Expect::Any), b""), (0, short.clone()));
        assert_eq!(bytewise(&regex(b"2[0-9]{2} "), b"HTTP/1.1 204 x"), (13, Ok(())));
        assert_eq!(bytewise(&regex(b"^OK$"), b"FAIL"), (4, Err(Failure::mismatch(b"FAIL"))));
        assert_eq!(bytewise(&regex(b"x"), b""), (0, short));
        assert!(matches!(bytewise(&regex(b"("), b"x"), (1, Err(Failure::Regex(_)))));
    }
    #[test]
    fn a_socket_that_meets_itself_has_met_nobody() {
        for udp in [false, true] {
            let kind = if udp { Type::DGRAM } else { Type::STREAM };
            let socket = Socket::new(Domain::IPV4, kind, None).unwrap();
            let any: std::net::SocketAddr = (std::net::Ipv4Addr::LOCALHOST, 0).into();
            socket.bind(&any.into()).unwrap();
            let itself = socket.local_addr().unwrap();
            socket.connect(&itself).unwrap();
            let addr = itself.as_socket().unwrap();
            let target = Target { addr: addr.ip(), port: addr.port(), udp };
            let mut exchange =
                Exchange { socket, udp, connected: false, sent: None, answer: Vec::new() };
            let verdict = exchange.drive(&prepared(Expect::Any), &target, Flags::EPOLLOUT);
            assert_eq!(verdict, Some(Err(Failure::Connect(Errno::ECONNREFUSED))), "udp: {udp}");
        }
    }
}
