//! A scripted partner: a node of a pair as the original pulse is, in so far as its partner can tell.
//!
//! It speaks four bytes in this machine's order from port 539 to port 539, knows no additions, reacts to
//! each word by the original's table, and looks at its clock once a second. It raises the virtual
//! address when it becomes active, and has nothing behind it.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::fd::AsFd,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, poll};

use crate::{
    board::{Board, TimedOut},
    node::Node,
};

/// The words of the protocol that load balancing uses.
const ACTIVE: u32 = 0xbdad_dbda;
const INACTIVE: u32 = 0xadbd_dabd;

/// Which of the two nodes it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// `primary` is its address.
    Master,
    /// `backup` is.
    Backup,
}

/// A datagram that it received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// When.
    pub at: Instant,
    /// From where.
    pub from: SocketAddrV4,
    /// All of it; the original itself reads four bytes.
    pub bytes: Vec<u8>,
}

impl Heard {
    /// Whether it says "active" (`Some(true)`), "inactive", or something else.
    #[must_use]
    pub fn active(&self) -> Option<bool> {
        match u32::from_ne_bytes(*self.bytes.first_chunk()?) {
            ACTIVE => Some(true),
            INACTIVE => Some(false),
            _ => None,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    active: bool,
    heard: Vec<Heard>,
    changes: Vec<(Instant, bool)>,
    silent: bool,
    ended: bool,
}

/// Its configuration.
#[derive(Clone, Debug)]
struct Settings {
    rank: Rank,
    /// Its own address and its partner's, for each path.
    paths: Vec<(Ipv4Addr, Ipv4Addr)>,
    keepalive: u64,
    deadtime: u64,
    vip: String,
    device: String,
}

/// An original node that runs. Dropping it stops it.
#[derive(Debug)]
pub struct Original {
    state: Arc<Board<State>>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    /// Starts an original node: its own address and its partner's for each path, and what it raises
    /// when it becomes active, `10.0.0.100/24` on `eth0`. It says something every second and believes
    /// its partner dead after three.
    #[track_caller]
    #[must_use = "it ends when it is dropped"]
    pub fn original(
        &self,
        rank: Rank,
        paths: &[(&str, &str)],
        vip: &str,
        device: &str,
    ) -> Original {
        let parse = |text: &str| {
            let parsed = text.parse::<Ipv4Addr>();
            parsed.unwrap_or_else(|e| panic!("{}: {text}: {e}", self.name()))
        };
        let settings = Settings {
            rank,
            paths: paths.iter().map(|(own, partner)| (parse(own), parse(partner))).collect(),
            keepalive: 1,
            deadtime: 3,
            vip: vip.to_owned(),
            device: device.to_owned(),
        };
        let bound = self.enter(|| {
            let bind = |(own, _): &(Ipv4Addr, Ipv4Addr)| {
                let socket = UdpSocket::bind((*own, 539))?;
                socket.set_nonblocking(true)?;
                Ok(socket)
            };
            settings.paths.iter().map(bind).collect::<io::Result<Vec<UdpSocket>>>()
        });
        let sockets = bound.unwrap_or_else(|e| panic!("{}: port 539: {e}", self.name()));
        let state = Arc::new(Board::<State>::default());
        let mut running =
            Running { node: self.clone(), settings, sockets, state: Arc::clone(&state) };
        let thread =
            thread::Builder::new().name("original".to_owned()).spawn(move || running.run());
        let thread = thread.unwrap_or_else(|e| panic!("{}: no thread: {e}", self.name()));
        Original { state, thread: Some(thread) }
    }
}

impl Original {
    /// All it has received.
    #[must_use]
    pub fn heard(&self) -> Vec<Heard> {
        self.state.look().heard.clone()
    }

    /// Whether it is active now.
    #[must_use]
    pub fn active(&self) -> bool {
        self.state.look().active
    }

    /// When it became active (`true`) or inactive.
    #[must_use]
    pub fn changes(&self) -> Vec<(Instant, bool)> {
        self.state.look().changes.clone()
    }

    /// Waits until it is active, or inactive.
    ///
    /// # Errors
    /// It is not within `limit`.
    pub fn wait(&self, active: bool, limit: Duration) -> Result<(), TimedOut> {
        let found = self.state.wait(limit, |state| (state.active == active).then_some(()));
        found.ok_or_else(|| {
            TimedOut(format!("the original is not {} after {limit:?}", word(active)))
        })
    }

    /// Waits until it has received a datagram for which `wanted` holds.
    ///
    /// # Errors
    /// None came within `limit`.
    pub fn wait_heard(
        &self,
        wanted: impl Fn(&Heard) -> bool,
        limit: Duration,
    ) -> Result<Heard, TimedOut> {
        let found =
            self.state.wait(limit, |state| state.heard.iter().find(|heard| wanted(heard)).cloned());
        found.ok_or_else(|| {
            TimedOut(format!("the original has not heard it in {limit:?}: {:?}", self.heard()))
        })
    }

    /// Has it say nothing and hear nothing from now on, as behind a cut cable; or again.
    pub fn silence(&self, silent: bool) {
        self.state.change(|state| state.silent = silent);
    }

    /// Ends it as a signal does: it takes its address down, and says nothing more.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.state.change(|state| state.ended = true);
        if let Some(thread) = self.thread.take() {
            // Its panic has been shown already.
            let _ = thread.join();
        }
    }
}

impl Drop for Original {
    fn drop(&mut self) {
        self.end();
    }
}

fn word(active: bool) -> &'static str {
    if active { "active" } else { "inactive" }
}

struct Running {
    node: Node,
    settings: Settings,
    sockets: Vec<UdpSocket>,
    state: Arc<Board<State>>,
}

impl Running {
    fn run(&mut self) {
        let started = Instant::now();
        let (mut sent, mut heard) = (None, started);
        loop {
            let (silent, ended) = {
                let state = self.state.look();
                (state.silent, state.ended)
            };
            if ended {
                if self.state.look().active {
                    self.become_active(false);
                }
                return;
            }
            let tick = started.elapsed().as_secs();
            if !silent && sent.is_none_or(|at| tick >= at + self.settings.keepalive) {
                self.say();
                sent = Some(tick);
            }
            let silence = heard.elapsed().as_secs();
            if silence >= self.settings.deadtime && !self.state.look().active {
                self.become_active(true);
            }
            for received in self.receive() {
                if silent {
                    continue;
                }
                heard = received.at;
                let said = received.active();
                self.state.change(|state| state.heard.push(received));
                if let Some(active) = said {
                    self.react(active);
                }
            }
        }
    }

    fn say(&self) {
        let active = self.state.look().active;
        let bytes = if active { ACTIVE } else { INACTIVE }.to_ne_bytes();
        for (socket, (_, partner)) in self.sockets.iter().zip(&self.settings.paths) {
            // A partner that is not there, or no way to it: the original does not mind.
            let _ = socket.send_to(&bytes, (*partner, 539));
        }
    }

    /// The original's table.
    fn react(&mut self, partner_active: bool) {
        let active = self.state.look().active;
        match (self.settings.rank, active, partner_active) {
            (Rank::Backup, true, true) => {
                self.say();
                self.become_active(false);
            }
            (_, false, false) => self.become_active(true),
            _ => {}
        }
    }

    fn become_active(&self, active: bool) {
        // "Active" is what it says from this moment on; its address is there before, and gone after.
        let Settings { vip, device, .. } = &self.settings;
        let action = if active { "replace" } else { "del" };
        self.node.ip(&format!("addr {action} {vip} dev {device} label {device}:1"));
        self.state.change(|state| {
            state.active = active;
            state.changes.push((Instant::now(), active));
        });
    }

    /// What has come from the partner, after waiting for a moment if there is nothing.
    fn receive(&self) -> Vec<Heard> {
        let mut fds: Vec<PollFd<'_>> =
            self.sockets.iter().map(|s| PollFd::new(s.as_fd(), PollFlags::POLLIN)).collect();
        // Interrupted: then nothing is ready.
        let _ = poll(&mut fds, 20_u16);
        let partners: Vec<Ipv4Addr> = self.settings.paths.iter().map(|(_, p)| *p).collect();
        let mut found = Vec::new();
        for socket in &self.sockets {
            let mut buffer = [0; 2048];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let bytes = buffer.get(..length).unwrap_or_default().to_vec();
                if let std::net::SocketAddr::V4(from) = from
                    && partners.contains(from.ip())
                {
                    found.push(Heard { at: Instant::now(), from, bytes });
                }
            }
        }
        found
    }
}
