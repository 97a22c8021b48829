//! The ways on which heartbeats go: UDP sockets on this node's addresses.

use crate::load::{Setup, Way};
use crate::status::PathStatus;
use crate::wire::{self, Bad, Message};
use daemon::poll::{self, Poller};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

/// Most datagrams taken from one socket before the clock is looked at again: a flood must not keep
/// heartbeats from being sent.
const AT_ONCE: usize = 64;
/// Room for datagrams that wait, in bytes; each takes about 800 of them.
const RECEIVE_BUFFER: usize = 256 * 1024;
/// How often outsiders can cause a line of the log, per path.
const LOG_AGAIN: Duration = Duration::from_secs(10);

/// The heartbeat's sockets and what has happened on them.
#[derive(Debug)]
pub struct Paths {
    sockets: Vec<Bound>,
    paths: Vec<Path>,
    port: u16,
    keepalive: Duration,
    /// The partner's addresses.
    partner: Vec<Ipv4Addr>,
}

/// One of this node's addresses.
#[derive(Debug)]
struct Bound {
    local: Ipv4Addr,
    token: u64,
    socket: Result<UdpSocket, String>,
}

#[derive(Debug)]
struct Path {
    way: Way,
    counters: Counters,
    heard: Option<Instant>,
    /// Why the last heartbeat could not be sent.
    unsent: Option<String>,
    strangers: Quiet,
    nonsense: Quiet,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counters {
    sent: u64,
    unsent: u64,
    received: u64,
    late: u64,
    foreign: u64,
    bad: u64,
}

/// Something that outsiders can bring about, and that is logged only so often.
#[derive(Debug, Default)]
struct Quiet {
    logged: Option<Instant>,
    untold: u64,
}

impl Quiet {
    /// Logs it, unless that was done just now.
    fn tell(&mut self, level: log::Level, now: Instant, text: &dyn std::fmt::Display) {
        if self.logged.is_some_and(|at| now.saturating_duration_since(at) < LOG_AGAIN) {
            self.untold += 1;
            return;
        }
        self.logged = Some(now);
        match std::mem::take(&mut self.untold) {
            0 => log::log!(level, "{text}"),
            untold => log::log!(level, "{text} ({untold} more like it since the last line)"),
        }
    }
}

impl Path {
    fn new(way: Way) -> Path {
        Path {
            way,
            counters: Counters::default(),
            heard: None,
            unsent: None,
            strangers: Quiet::default(),
            nonsense: Quiet::default(),
        }
    }

    /// Takes a datagram of the partner in.
    fn take(&mut self, datagram: &[u8], keepalive: Duration, now: Instant) -> Option<Message> {
        match wire::decode(datagram) {
            Ok(message) => {
                let due = keepalive + keepalive / 2;
                let late = |at: Instant| now.saturating_duration_since(at) > due;
                self.counters.late += u64::from(self.heard.is_some_and(late));
                self.counters.received += 1;
                self.heard = Some(now);
                Some(message)
            }
            Err(bad) => {
                self.counters.bad += 1;
                let level = match bad {
                    Bad::Short => log::Level::Warn,
                    Bad::Unknown(_) => log::Level::Error,
                };
                self.nonsense.tell(level, now, &bad);
                None
            }
        }
    }

    fn sent(&mut self, result: Result<(), String>) {
        match result {
            Ok(()) => {
                self.counters.sent += 1;
                if self.unsent.take().is_some() {
                    log::info!("heartbeats go out on the {} path again", self.way.name);
                }
            }
            Err(error) => {
                self.counters.unsent += 1;
                if self.unsent.as_ref() != Some(&error) {
                    log::error!("cannot send heartbeats on the {} path: {error}", self.way.name);
                }
                self.unsent = Some(error);
            }
        }
    }
}

impl Paths {
    /// Binds the sockets. `base` and the tokens above are theirs.
    ///
    /// # Errors
    /// When one of them cannot be bound; the text names it.
    pub fn open(setup: &Setup, poller: &Poller, base: u64) -> io::Result<Paths> {
        let mut paths = Paths {
            sockets: Vec::new(),
            paths: Vec::new(),
            port: setup.port,
            keepalive: Duration::ZERO,
            partner: Vec::new(),
        };
        paths.follow(setup, poller, base);
        for bound in &paths.sockets {
            if let Err(error) = &bound.socket {
                return Err(io::Error::other(error.clone()));
            }
        }
        Ok(paths)
    }

    /// Takes a new configuration over. What is the same in it goes on; an address that cannot be
    /// bound is logged and tried again by [`Paths::bind_again`].
    pub fn follow(&mut self, setup: &Setup, poller: &Poller, base: u64) {
        let moved = setup.port != self.port;
        self.port = setup.port;
        self.keepalive = Duration::from_millis(setup.keepalive);
        self.partner = setup.paths.iter().filter_map(|way| way.partner).collect();
        let mut old = std::mem::take(&mut self.paths);
        self.paths = setup
            .paths
            .iter()
            .map(|way| match old.iter().position(|path| path.way == *way) {
                Some(at) => old.swap_remove(at),
                None => Path::new(*way),
            })
            .collect();
        let locals: Vec<Ipv4Addr> = setup.paths.iter().map(|way| way.local).collect();
        // A socket that is dropped is closed, and so leaves the poller.
        self.sockets.retain(|bound| !moved && locals.contains(&bound.local));
        for local in locals {
            if self.sockets.iter().all(|bound| bound.local != local) {
                let token = (base..).find(|t| self.sockets.iter().all(|b| b.token != *t));
                let token = token.unwrap_or(base);
                let socket = bind(local, self.port, poller, token);
                self.sockets.push(Bound { local, token, socket });
            }
        }
        for bound in &self.sockets {
            if let Err(error) = &bound.socket {
                log::error!("{error}");
            }
        }
    }

    /// Tries again to bind what could not be bound.
    pub fn bind_again(&mut self, poller: &Poller) {
        for bound in self.sockets.iter_mut().filter(|bound| bound.socket.is_err()) {
            bound.socket = bind(bound.local, self.port, poller, bound.token);
            if bound.socket.is_ok() {
                log::info!("heartbeat socket on {}:{} again", bound.local, self.port);
            }
        }
    }

    /// Sends a heartbeat on all paths.
    pub fn send(&mut self, message: &Message) {
        let datagram = wire::encode(message);
        for path in &mut self.paths {
            let Some(partner) = path.way.partner else { continue };
            let Some(bound) = self.sockets.iter().find(|b| b.local == path.way.local) else {
                continue;
            };
            let result = match &bound.socket {
                Ok(socket) => transmit(socket, &datagram, SocketAddrV4::new(partner, self.port)),
                Err(error) => Err(error.clone()),
            };
            path.sent(result);
        }
    }

    /// Reads what has come on the socket with this token.
    pub fn read(&mut self, token: u64, now: Instant) -> Vec<Message> {
        let Some(bound) = self.sockets.iter().find(|bound| bound.token == token) else {
            return Vec::new();
        };
        let Ok(socket) = &bound.socket else { return Vec::new() };
        let mut messages = Vec::new();
        let mut buffer = [0; 2048];
        for _ in 0..AT_ONCE {
            let (length, from) = match socket.recv_from(&mut buffer) {
                Ok((length, SocketAddr::V4(from))) => (length, *from.ip()),
                Ok((_, SocketAddr::V6(_))) => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // What the network said about a heartbeat that was sent (ICMP): the next one goes
                // out all the same.
                Err(_) => continue,
            };
            let datagram = &buffer[..length];
            if self.partner.contains(&from) {
                let path = path_of(&mut self.paths, bound.local, from);
                messages.extend(path.and_then(|p| p.take(datagram, self.keepalive, now)));
            } else if let Some(path) = path_of(&mut self.paths, bound.local, from) {
                path.counters.foreign += 1;
                let text = format_args!("Unexpected heartbeat from {from}");
                path.strangers.tell(log::Level::Debug, now, &text);
            }
        }
        messages
    }

    /// For operators.
    #[must_use]
    pub fn status(&self, now: Instant) -> Vec<PathStatus> {
        let millis = |at: Instant| {
            u64::try_from(now.saturating_duration_since(at).as_millis()).unwrap_or(u64::MAX)
        };
        self.paths
            .iter()
            .map(|path| {
                let bound = self.sockets.iter().find(|b| b.local == path.way.local);
                let unbound = bound.and_then(|b| b.socket.as_ref().err());
                PathStatus {
                    name: path.way.name.to_owned(),
                    local: path.way.local.to_string(),
                    partner: path.way.partner.map(|addr| addr.to_string()),
                    port: self.port,
                    sent: path.counters.sent,
                    unsent: path.counters.unsent,
                    received: path.counters.received,
                    late: path.counters.late,
                    foreign: path.counters.foreign,
                    bad: path.counters.bad,
                    heard_ms: path.heard.map(millis),
                    error: unbound.or(path.unsent.as_ref()).cloned(),
                }
            })
            .collect()
    }
}

/// The path that a datagram from `from` to `local` belongs to: that of both, else one of `local`.
fn path_of(paths: &mut [Path], local: Ipv4Addr, from: Ipv4Addr) -> Option<&mut Path> {
    let exact = paths.iter().position(|p| p.way.local == local && p.way.partner == Some(from));
    let at = exact.or_else(|| paths.iter().position(|p| p.way.local == local))?;
    paths.get_mut(at)
}

fn bind(local: Ipv4Addr, port: u16, poller: &Poller, token: u64) -> Result<UdpSocket, String> {
    let address = SocketAddrV4::new(local, port);
    let bound = || -> io::Result<UdpSocket> {
        // Closed on exec, as all of socket2's.
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        socket.bind(&address.into())?;
        let socket = UdpSocket::from(socket);
        poller.add(&socket, token, poll::READ)?;
        Ok(socket)
    };
    bound().map_err(|error| format!("heartbeat socket {address}: {}{}", bare(&error), hint(&error)))
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => " (no interface of this machine has this address)",
        io::ErrorKind::AddrInUse => " (does another pulse run here?)",
        _ => "",
    }
}

fn transmit(socket: &UdpSocket, datagram: &[u8], to: SocketAddrV4) -> Result<(), String> {
    // An answer to an earlier heartbeat (port unreachable) may be reported here, once.
    let sent = socket.send_to(datagram, to).or_else(|_| socket.send_to(datagram, to));
    sent.map(drop).map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::PermissionDenied => " (a firewall of this node?)",
            _ => "",
        };
        format!("to {to}: {}{why}", bare(&error))
    })
}

/// The error without `(os error N)`.
fn bare(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.clone(), |(words, _)| words.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Word;

    fn path() -> Path {
        let local = Ipv4Addr::new(10, 0, 0, 1);
        let partner = Some(Ipv4Addr::new(10, 0, 0, 2));
        Path::new(Way { name: "public", local, partner })
    }

    #[test]
    fn heartbeats_that_come_late_are_counted() {
        let mut path = path();
        let keepalive = Duration::from_secs(2);
        let datagram = wire::encode(&Message { word: Word::Active, extra: None });
        let mut now = Instant::now();
        for gap_ms in [0, 2000, 2900, 3100, 2000, 60_000] {
            now += Duration::from_millis(gap_ms);
            assert!(path.take(&datagram, keepalive, now).is_some());
        }
        assert_eq!((path.counters.received, path.counters.late), (6, 2));
        assert!(path.take(&[1, 2, 3], keepalive, now).is_none());
        assert!(path.take(&[1, 2, 3, 4, 5], keepalive, now).is_none());
        assert_eq!(path.counters.bad, 2);
    }

    #[test]
    fn a_path_is_found_by_both_ends_then_by_ours() {
        let way = |name, local: [u8; 4], partner: [u8; 4]| Way {
            name,
            local: local.into(),
            partner: Some(partner.into()),
        };
        let mut paths = [
            Path::new(way("public", [10, 0, 0, 1], [10, 0, 0, 2])),
            Path::new(way("private", [10, 0, 0, 1], [10, 0, 1, 2])),
        ];
        let mut name = |local: [u8; 4], from: [u8; 4]| {
            path_of(&mut paths, local.into(), from.into()).map(|p| p.way.name)
        };
        assert_eq!(name([10, 0, 0, 1], [10, 0, 0, 2]), Some("public"));
        assert_eq!(name([10, 0, 0, 1], [10, 0, 1, 2]), Some("private"));
        assert_eq!(name([10, 0, 0, 1], [10, 0, 9, 9]), Some("public"));
        assert_eq!(name([10, 0, 5, 1], [10, 0, 0, 2]), None);
    }
}
