//! Programmable TCP servers: one thread serves all the listeners of one [`TcpServer`].

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    eventfd::{EfdFlags, EventFd},
};
use socket2::{Domain, SockFilter, Socket, Type};

use crate::{
    board::{Board, TimedOut},
    node::Node,
    process::closing,
};

/// What a server does with those who connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Awaits a request (any bytes), sends this, closes.
    Answer(Vec<u8>),
    /// Sends this to whoever connects, without awaiting anything, closes.
    Banner(Vec<u8>),
    /// Like [`Behaviour::Answer`], but one byte at a time, with this pause before each.
    Trickle(Vec<u8>, Duration),
    /// Sends back what comes, until the client closes.
    Echo,
    /// Reads, and never says a word.
    Hang,
    /// Closes at once.
    CloseEarly,
    /// Breaks the connection off at once (RST), so soon that even connecting may fail with it.
    Reset,
    /// Does not even answer a SYN, like a host that is off: connecting times out. Connections that
    /// exist live on. (For a port that refuses, see [`TcpServer::stop`].)
    Deaf,
}

impl Behaviour {
    /// An HTTP server that answers `200 OK` with this body.
    #[must_use]
    pub fn http(body: &str) -> Self {
        Self::http_status("200 OK", body)
    }

    /// An HTTP server that answers with this status, such as `503 Service Unavailable`.
    #[must_use]
    pub fn http_status(status: &str, body: &str) -> Self {
        let length = body.len();
        Self::Answer(
            format!(
                "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
                 Connection: close\r\n\r\n{body}"
            )
            .into_bytes(),
        )
    }

    /// An HTTP server whose body is `name` and a newline: for tests that ask who answered.
    pub(crate) fn named(name: &str) -> Self {
        Self::http(&format!("{name}\n"))
    }
}

/// What reached one address.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    connections: usize,
    requests: usize,
}

#[derive(Debug)]
struct Listener {
    /// `None`: stopped.
    socket: Option<TcpListener>,
    address: SocketAddr,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    behaviour: Behaviour,
    /// The address the client connected to.
    local: IpAddr,
    /// All it has sent.
    request: Vec<u8>,
    /// What is still to be sent, and how much of it may be by now.
    reply: Vec<u8>,
    sent: usize,
    allowed: usize,
    /// When the next byte of a trickle is due.
    due: Option<Instant>,
    /// Nothing more is to be sent than `reply`.
    last: bool,
    finished: bool,
    /// The client has closed its half.
    heard_all: bool,
}

#[derive(Debug)]
struct State {
    behaviour: Behaviour,
    exceptions: BTreeMap<IpAddr, Behaviour>,
    listeners: Vec<Listener>,
    connections: HashMap<u64, Connection>,
    next_token: u64,
    counts: BTreeMap<IpAddr, Counts>,
    last_request: Vec<u8>,
    ended: bool,
}

#[derive(Debug)]
struct Shared {
    state: Board<State>,
    epoll: Epoll,
    wake: EventFd,
}

/// A TCP server of a node, in the test's own process. Dropping it stops it.
#[derive(Debug)]
pub struct TcpServer {
    node: Node,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// The token of the eventfd; listeners have theirs from 1 on, connections from `CONNECTIONS` on.
const WAKE: u64 = 0;
const CONNECTIONS: u64 = 1 << 32;

impl Node {
    /// Starts a TCP server on this node. With the address `0.0.0.0:80` it serves every address of
    /// the node, virtual ones included.
    #[track_caller]
    #[must_use = "the server stops when it is dropped"]
    pub fn tcp_server(&self, address: &str, behaviour: Behaviour) -> TcpServer {
        let parsed = address.parse();
        let parsed = parsed.unwrap_or_else(|e| panic!("{}: {address}: {e}", self.name()));
        self.tcp_servers(&[parsed], behaviour)
    }

    /// Starts a TCP server that listens on many addresses, each of which can be stopped and given
    /// a behaviour for itself. The addresses must be the node's: `.route("local 10.1.0.0/16 dev lo")`
    /// makes 65,536 of them so.
    #[track_caller]
    #[must_use = "the server stops when it is dropped"]
    pub fn tcp_servers(&self, addresses: &[SocketAddr], behaviour: Behaviour) -> TcpServer {
        TcpServer::start_on(self.clone(), addresses, behaviour)
            .unwrap_or_else(|e| panic!("{}: no TCP server: {e}", self.name()))
    }
}

impl TcpServer {
    fn start_on(node: Node, addresses: &[SocketAddr], behaviour: Behaviour) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        let listeners =
            addresses.iter().map(|address| Listener { socket: None, address: *address }).collect();
        let state = State {
            behaviour,
            exceptions: BTreeMap::new(),
            listeners,
            connections: HashMap::new(),
            next_token: CONNECTIONS,
            counts: BTreeMap::new(),
            last_request: Vec::new(),
            ended: false,
        };
        let shared = Arc::new(Shared { state: Board::new(state), epoll, wake });
        let mut server = Self { node, shared, thread: None };
        server.open(|_| true)?;
        let shared = Arc::clone(&server.shared);
        server.thread = Some(thread::Builder::new().name("tcp".to_owned()).spawn(move || {
            if let Err(e) = serve(&shared) {
                eprintln!("a TCP server of the laboratory failed: {e}");
            }
        })?);
        Ok(server)
    }

    /// Changes what it does with those who connect from now on, on every address.
    #[track_caller]
    pub fn set(&self, behaviour: Behaviour) {
        self.shared.state.change(|state| {
            state.behaviour = behaviour;
            state.exceptions.clear();
            self.filter(state);
        });
    }

    /// Changes what it does on one address alone. ([`Behaviour::Deaf`] needs a listener of that
    /// address: on `0.0.0.0` all are deaf or none.)
    #[track_caller]
    pub fn set_at(&self, address: IpAddr, behaviour: Behaviour) {
        self.shared.state.change(|state| {
            assert!(
                behaviour != Behaviour::Deaf
                    || state.listeners.iter().any(|listener| listener.address.ip() == address),
                "{}: no listener of {address} alone that could be deaf",
                self.node.name()
            );
            state.exceptions.insert(address, behaviour);
            self.filter(state);
        });
    }

    /// Stops it: connections are refused from now on, and those that exist are closed. What was
    /// counted stays.
    pub fn stop(&self) {
        self.close(|_| true);
    }

    /// Stops it on one address.
    pub fn stop_at(&self, address: IpAddr) {
        self.close(|candidate| candidate == address);
    }

    /// Starts it again.
    #[track_caller]
    pub fn start(&self) {
        self.open(|_| true).unwrap_or_else(|e| panic!("{}: {e}", self.node.name()));
    }

    /// Starts it again on one address.
    #[track_caller]
    pub fn start_at(&self, address: IpAddr) {
        self.open(|candidate| candidate == address)
            .unwrap_or_else(|e| panic!("{}: {e}", self.node.name()));
    }

    /// How many connections it has accepted.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.state.look().counts.values().map(|counts| counts.connections).sum()
    }

    /// How many connections to this address it has accepted.
    #[must_use]
    pub fn connections_at(&self, address: IpAddr) -> usize {
        self.shared.state.look().counts.get(&address).map_or(0, |counts| counts.connections)
    }

    /// On how many connections a request (any bytes) has come.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.shared.state.look().counts.values().map(|counts| counts.requests).sum()
    }

    /// How many connections are open now.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.shared.state.look().connections.len()
    }

    /// All bytes that came on the connection that sent something last.
    #[must_use]
    pub fn last_request(&self) -> Vec<u8> {
        self.shared.state.look().last_request.clone()
    }

    /// Waits until it has accepted `count` connections since it was made.
    ///
    /// # Errors
    /// There were fewer after `limit`.
    pub fn wait_connections(&self, count: usize, limit: Duration) -> Result<(), TimedOut> {
        self.wait_sum(count, "connections", limit, |counts| counts.connections)
    }

    /// Waits until `count` requests have come since it was made.
    ///
    /// # Errors
    /// There were fewer after `limit`.
    pub fn wait_requests(&self, count: usize, limit: Duration) -> Result<(), TimedOut> {
        self.wait_sum(count, "requests", limit, |counts| counts.requests)
    }

    fn wait_sum(
        &self,
        count: usize,
        what: &str,
        limit: Duration,
        of: impl Fn(&Counts) -> usize,
    ) -> Result<(), TimedOut> {
        let sum = |state: &State| state.counts.values().map(&of).sum::<usize>();
        self.shared.state.wait(limit, |state| (sum(state) >= count).then_some(())).ok_or_else(
            || {
                let seen = sum(&self.shared.state.look());
                let name = self.node.name();
                TimedOut(format!("{name}: {seen} {what} instead of {count} after {limit:?}"))
            },
        )
    }

    fn open(&self, which: impl Fn(IpAddr) -> bool + Sync) -> io::Result<()> {
        self.node.enter(|| {
            self.shared.state.change(|state| {
                for (token, listener) in (1..).zip(&mut state.listeners) {
                    if listener.socket.is_none() && which(listener.address.ip()) {
                        let socket = listen(listener.address)
                            .map_err(|e| io::Error::other(format!("{}: {e}", listener.address)))?;
                        self.shared
                            .epoll
                            .add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
                        listener.socket = Some(socket);
                    }
                }
                self.filter(state);
                Ok(())
            })
        })
    }

    fn close(&self, which: impl Fn(IpAddr) -> bool) {
        let close = |state: &mut State| {
            for listener in &mut state.listeners {
                if which(listener.address.ip()) {
                    // Closing takes it out of the epoll set too.
                    listener.socket = None;
                }
            }
            state.connections.retain(|_, connection| !which(connection.local));
        };
        closing(|| self.shared.state.change(close));
    }

    /// Makes the listeners deaf that are to be. A filter on a listening socket sees the SYN before
    /// TCP does, and one that accepts no byte drops it.
    #[track_caller]
    fn filter(&self, state: &State) {
        for Listener { socket, address } in &state.listeners {
            let Some(socket) = socket else { continue };
            let behaviour = state.exceptions.get(&address.ip()).unwrap_or(&state.behaviour);
            let socket = socket2::SockRef::from(socket);
            if *behaviour == Behaviour::Deaf {
                // BPF_RET | BPF_K: return the constant 0.
                let drop_all = [SockFilter::new(0x06, 0, 0, 0)];
                let filtered = socket.attach_filter(&drop_all);
                filtered.unwrap_or_else(|e| panic!("cannot make {address} deaf: {e}"));
            } else {
                // Fails where there is no filter.
                let _ = socket.detach_filter();
            }
        }
    }
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        self.shared.state.change(|state| state.ended = true);
        // A counter that is about to be read once cannot be full.
        let _ = self.shared.wake.write(1);
        if let Some(thread) = self.thread.take() {
            // Its panic has been shown already.
            let _ = thread.join();
        }
        self.close(|_| true);
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn serve(shared: &Shared) -> io::Result<()> {
    let mut events = [EpollEvent::empty(); 256];
    loop {
        let due = shared.state.look().connections.values().filter_map(|c| c.due).min();
        let ready = match shared.epoll.wait(&mut events, timeout_until(due)) {
            Err(nix::Error::EINTR) => 0,
            result => result?,
        };
        let ended = shared.state.change(|state| {
            for event in events.iter().take(ready) {
                match event.data() {
                    WAKE => {}
                    token @ 1..CONNECTIONS => state.accept(shared, token),
                    token => state.progress(token, event.events()),
                }
            }
            state.progress_trickles();
            state.ended
        });
        if ended {
            return Ok(());
        }
    }
}

fn timeout_until(due: Option<Instant>) -> EpollTimeout {
    let Some(due) = due else { return EpollTimeout::NONE };
    // Rounded up, so as not to spin through the last millisecond.
    let millis = due.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
    u16::try_from(millis).unwrap_or(u16::MAX).into()
}

impl State {
    fn accept(&mut self, shared: &Shared, token: u64) {
        let index = usize::try_from(token - 1).unwrap_or(usize::MAX);
        // None: stopped since the event came.
        while let Some(socket) = self.listeners.get(index).and_then(|l| l.socket.as_ref()) {
            let stream = match socket.accept() {
                Ok((stream, _)) => stream,
                // The client went away while it waited to be accepted.
                Err(e) if e.kind() == ErrorKind::ConnectionAborted => continue,
                // No more; or no descriptors, and then the next event brings us back.
                Err(_) => return,
            };
            let Ok(local) = stream.local_addr().map(|address| address.ip()) else { continue };
            let behaviour = self.exceptions.get(&local).unwrap_or(&self.behaviour).clone();
            self.counts.entry(local).or_default().connections += 1;
            if behaviour == Behaviour::Reset {
                // Lingering for no time at all makes the close an RST.
                let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                continue;
            }
            if behaviour == Behaviour::CloseEarly {
                // Not a plain close: a request that comes later would be answered by RST.
                let _ = stream.shutdown(Shutdown::Write);
            }
            let token = self.next_token;
            self.next_token += 1;
            let flags = EpollFlags::EPOLLIN
                | EpollFlags::EPOLLOUT
                | EpollFlags::EPOLLRDHUP
                | EpollFlags::EPOLLET;
            let registered = shared.epoll.add(&stream, EpollEvent::new(flags, token));
            if stream.set_nonblocking(true).is_ok() && registered.is_ok() {
                let connection = Connection::new(stream, behaviour, local);
                self.connections.insert(token, connection);
                self.progress(token, EpollFlags::empty());
            }
        }
    }

    /// Does all that can be done on a connection; `events` are only of use to end it.
    fn progress(&mut self, token: u64, events: EpollFlags) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        let known = connection.request.len();
        let open = connection.read() && connection.write() && !connection.is_over();
        if connection.request.len() > known {
            self.last_request.clone_from(&connection.request);
            if known == 0 {
                self.counts.entry(connection.local).or_default().requests += 1;
            }
        }
        if !open || events.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            self.connections.remove(&token);
        }
    }

    fn progress_trickles(&mut self) {
        let now = Instant::now();
        let due: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.due.is_some_and(|due| due <= now))
            .map(|(token, _)| *token)
            .collect();
        for token in due {
            self.progress(token, EpollFlags::empty());
        }
    }
}

impl Connection {
    fn new(stream: TcpStream, behaviour: Behaviour, local: IpAddr) -> Self {
        let mut connection = Self {
            stream,
            behaviour,
            local,
            request: Vec::new(),
            reply: Vec::new(),
            sent: 0,
            allowed: 0,
            due: None,
            last: false,
            finished: false,
            heard_all: false,
        };
        if let Behaviour::Banner(banner) = &connection.behaviour {
            connection.reply.clone_from(banner);
            connection.allowed = banner.len();
            connection.last = true;
        }
        connection
    }

    /// Reads all there is. False: the client has broken off.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 16_384];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    self.heard_all = true;
                    return true;
                }
                Ok(length) => self.received(buffer.get(..length).unwrap_or_default()),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return true,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    fn received(&mut self, bytes: &[u8]) {
        let first = self.request.is_empty();
        self.request.extend_from_slice(bytes);
        match &self.behaviour {
            Behaviour::Answer(reply) if first => {
                self.reply.clone_from(reply);
                self.allowed = reply.len();
                self.last = true;
            }
            Behaviour::Trickle(reply, pause) if first => {
                self.reply.clone_from(reply);
                self.due = Some(Instant::now() + *pause);
                self.last = true;
            }
            Behaviour::Echo => {
                self.reply.extend_from_slice(bytes);
                self.allowed = self.reply.len();
            }
            _ => {}
        }
    }

    /// Sends what may be sent by now. False: the client has broken off.
    fn write(&mut self) -> bool {
        self.advance_trickle();
        while let Some(rest) = self.reply.get(self.sent..self.allowed).filter(|r| !r.is_empty()) {
            match self.stream.write(rest) {
                Ok(length) => self.sent += length,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return true,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        if self.last && self.sent == self.reply.len() && !self.finished {
            self.finished = true;
            // Half a close: what the client still sends must not make it an RST.
            return self.stream.shutdown(Shutdown::Write).is_ok();
        }
        true
    }

    /// The client has closed, and there is nothing left to send to it.
    fn is_over(&self) -> bool {
        self.heard_all && self.due.is_none() && self.sent == self.reply.len()
    }

    fn advance_trickle(&mut self) {
        let Behaviour::Trickle(_, pause) = self.behaviour else { return };
        if let Some(due) = self.due.filter(|due| *due <= Instant::now()) {
            self.allowed = (self.allowed + 1).min(self.reply.len());
            self.due = (self.allowed < self.reply.len()).then_some(due + pause);
        }
    }
}
