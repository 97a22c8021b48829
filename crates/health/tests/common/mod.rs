//! Servers whose behaviour the tests choose, and the loop that a daemon would run.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc)]

use daemon::poll::{self, Poller};
use daemon::process;
use daemon::signals::{SIGCHLD, Signals};
use health::engine::{Engine, JobId, Limits, Outcome};
use health::failure::Failure;
use health::pool::{Pool, SCALE};
use health::recipe::{Action, Expect, Recipe, Target};
use health::state::Force;
use health::wire::{Group, Server, State};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Nothing in these tests takes as long: what does is stuck.
const STUCK: Duration = Duration::from_secs(120);
/// A time limit that is never reached.
pub(crate) const LONG: u32 = 600_000;
/// The interval of checks whose time [`Monitor::next_check`] lets come, in milliseconds: too long to
/// be reached by itself.
pub(crate) const EVERY: u32 = 20_000;
pub(crate) const LIMITS: Limits = Limits { sockets: 500, programs: 16 };

/// A server on a thread of its own.
pub(crate) struct Spawned {
    pub(crate) addr: SocketAddr,
    /// Connections or datagrams so far.
    pub(crate) seen: Arc<AtomicUsize>,
}

impl Spawned {
    pub(crate) fn seen(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }

    pub(crate) fn target(&self) -> Target {
        Target { addr: self.addr.ip(), port: self.addr.port(), udp: false }
    }

    pub(crate) fn udp_target(&self) -> Target {
        Target { udp: true, ..self.target() }
    }
}

/// A TCP server that does `each` with every connection, one after the other.
pub(crate) fn tcp(mut each: impl FnMut(TcpStream) + Send + 'static) -> Spawned {
    let listener = listen(Ipv4Addr::LOCALHOST, 4096);
    let spawned = spawned(listener.local_addr().unwrap());
    let seen = Arc::clone(&spawned.seen);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            seen.fetch_add(1, Ordering::SeqCst);
            each(stream);
        }
    });
    spawned
}

/// A TCP server whose answers are those of a script, one a check, and stay as the last one is: `OK`
/// for `+`, `no` for `-`.
pub(crate) struct Scripted {
    spawned: Spawned,
    ended: Arc<AtomicUsize>,
}

impl Scripted {
    pub(crate) fn new(script: &'static str) -> Scripted {
        let ended = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&ended);
        let spawned = tcp(move |mut stream| {
            let at = count.load(Ordering::SeqCst).min(script.len() - 1);
            let good = script.as_bytes()[at] == b'+';
            // A client that was removed meanwhile is gone.
            let _ = stream.write_all(if good { b"OK" } else { b"no" });
            // It closes once it has made up its mind.
            while stream.read(&mut [0; 64]).is_ok_and(|n| n > 0) {}
            count.fetch_add(1, Ordering::SeqCst);
        });
        Scripted { spawned, ended }
    }

    pub(crate) fn target(&self) -> Target {
        self.spawned.target()
    }

    /// Connections so far. A check that has its answer is among them.
    pub(crate) fn seen(&self) -> usize {
        self.spawned.seen()
    }

    /// Checks whose ends the server has seen.
    pub(crate) fn ended(&self) -> usize {
        self.ended.load(Ordering::SeqCst)
    }
}

/// A UDP server that answers every datagram with those of `answer`.
pub(crate) fn udp(answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> Spawned {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let spawned = spawned(socket.local_addr().unwrap());
    let seen = Arc::clone(&spawned.seen);
    std::thread::spawn(move || {
        let mut buffer = [0; 65536];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            seen.fetch_add(1, Ordering::SeqCst);
            for datagram in answer(&buffer[..length]) {
                socket.send_to(&datagram, from).unwrap();
            }
        }
    });
    spawned
}

fn spawned(addr: SocketAddr) -> Spawned {
    Spawned { addr, seen: Arc::new(AtomicUsize::new(0)) }
}

/// A listening socket with this backlog, on a free port.
pub(crate) fn listen(addr: Ipv4Addr, backlog: i32) -> TcpListener {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((addr, 0)).into()).unwrap();
    socket.listen(backlog).unwrap();
    socket.into()
}

/// A port of the loopback address on which nobody listens, held as long as the socket lives: bound,
/// but not listening.
pub(crate) fn closed_port() -> (socket2::Socket, Target) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, Target { addr: addr.ip(), port: addr.port(), udp: false })
}

/// Closes with a reset instead of an orderly end.
pub(crate) fn reset(stream: TcpStream) {
    let socket = socket2::Socket::from(stream);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
}

/// An address of the loopback network.
pub(crate) fn loopback(number: u32) -> IpAddr {
    Ipv4Addr::from(0x7f01_0001 + number).into()
}

pub(crate) fn exchange(send: &[u8], expect: Option<Expect>, interval_ms: u32) -> Recipe {
    let send = (!send.is_empty()).then(|| send.to_vec());
    Recipe { action: Action::Exchange { send, expect }, interval_ms }
}

pub(crate) fn connect(interval_ms: u32) -> Recipe {
    exchange(b"", None, interval_ms)
}

pub(crate) fn prefix(text: &[u8]) -> Option<Expect> {
    Some(Expect::Prefix(text.to_vec()))
}

pub(crate) fn regex(text: &[u8]) -> Option<Expect> {
    Some(Expect::Regex(text.to_vec()))
}

/// Words separated by blanks, as a program's recipe.
pub(crate) fn program(command: &str, expect: Option<&[u8]>, interval_ms: u32) -> Recipe {
    let words = health::recipe::split_words(command.as_bytes());
    let expect = expect.map(<[u8]>::to_vec);
    Recipe { action: Action::Program { words, expect }, interval_ms }
}

/// Only one thread of a process may collect children.
static CHILDREN: Mutex<()> = Mutex::new(());

/// What a daemon's loop needs besides the engine or pool: epoll, and SIGCHLD where programs run.
pub(crate) struct World {
    poller: Poller,
    signals: Option<Signals>,
    _only: Option<std::sync::MutexGuard<'static, ()>>,
    began: Instant,
    /// How far the time that is told is ahead of the real one.
    pub(crate) ahead: Duration,
    /// Turns of the loop so far.
    pub(crate) turns: usize,
}

impl World {
    pub(crate) fn new() -> World {
        let (poller, began) = (Poller::new().unwrap(), Instant::now());
        World { poller, signals: None, _only: None, began, ahead: Duration::ZERO, turns: 0 }
    }

    /// The time to tell.
    pub(crate) fn now(&self) -> Instant {
        Instant::now() + self.ahead
    }

    /// One in which children end. Only one of these exists at a time.
    pub(crate) fn with_programs() -> World {
        let only = CHILDREN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut world = World { _only: Some(only), ..World::new() };
        let signals = Signals::new(&[SIGCHLD]).unwrap();
        world.poller.add(&signals, 1, poll::READ).unwrap();
        world.signals = Some(signals);
        world
    }

    /// Registers what is to be run.
    pub(crate) fn watch(&self, fd: impl std::os::fd::AsFd) {
        self.poller.add(fd, 0, poll::READ).unwrap();
    }

    /// Waits for something to do, and collects children.
    pub(crate) fn wait(
        &mut self,
        until: Option<Instant>,
        mut ended: impl FnMut(i32, process::Ended, Instant),
    ) {
        assert!(self.began.elapsed() < STUCK, "stuck");
        self.turns += 1;
        let soon = Instant::now() + Duration::from_secs(1);
        let until = until.and_then(|at| at.checked_sub(self.ahead));
        let mut events = Vec::new();
        self.poller.wait(Some(until.map_or(soon, |at| at.min(soon))), &mut events).unwrap();
        let now = self.now();
        let Some(signals) = &mut self.signals else { return };
        if !signals.pending().is_empty() {
            while let Some((pid, how)) = process::next_ended() {
                ended(pid, how, now);
                process::collect(pid);
            }
        }
    }
}

/// An engine in its loop.
pub(crate) struct Checks {
    pub(crate) engine: Engine,
    pub(crate) world: World,
}

impl Checks {
    pub(crate) fn new(limits: Limits) -> Checks {
        Checks::of(World::new(), limits)
    }

    pub(crate) fn with_programs(limits: Limits) -> Checks {
        Checks::of(World::with_programs(), limits)
    }

    fn of(world: World, limits: Limits) -> Checks {
        let engine = Engine::new(limits).unwrap();
        world.watch(&engine);
        Checks { engine, world }
    }

    pub(crate) fn add(&mut self, target: Target, recipe: &Recipe) -> JobId {
        self.engine.add(target, recipe, self.world.now())
    }

    /// One turn of the loop; what ended in it.
    pub(crate) fn turn(&mut self) -> Vec<Outcome> {
        let engine = &mut self.engine;
        self.world.wait(engine.deadline(), |pid, how, now| {
            engine.child_ended(pid, how, now);
        });
        self.engine.run(self.world.now());
        self.engine.outcomes()
    }

    /// The next `count` outcomes, and those that came with the last.
    pub(crate) fn next(&mut self, count: usize) -> Vec<Outcome> {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(self.turn());
        }
        all
    }

    /// Turns until `done`.
    pub(crate) fn until(&mut self, mut done: impl FnMut(&mut Engine) -> bool) {
        while !done(&mut self.engine) {
            self.turn();
        }
    }

    /// The result of each of these checks' first run, in their order.
    pub(crate) fn first(&mut self, jobs: &[JobId]) -> Vec<Result<(), Failure>> {
        let mut first = HashMap::new();
        while !jobs.iter().all(|job| first.contains_key(job)) {
            for outcome in self.turn() {
                first.entry(outcome.job).or_insert(outcome.result);
            }
        }
        jobs.iter().map(|job| first[job].clone()).collect()
    }

    /// The outcome of one check's first run.
    pub(crate) fn one(&mut self, target: Target, recipe: &Recipe) -> Outcome {
        let job = self.add(target, recipe);
        loop {
            let found = self.turn().into_iter().find(|o| o.job == job);
            if let Some(outcome) = found {
                self.engine.remove(job);
                return outcome;
            }
        }
    }
}

/// A pool in its loop.
pub(crate) struct Monitor {
    pub(crate) pool: Pool,
    pub(crate) world: World,
}

impl Monitor {
    pub(crate) fn new(limits: Limits) -> Monitor {
        Monitor::of(World::new(), limits)
    }

    pub(crate) fn with_programs(limits: Limits) -> Monitor {
        Monitor::of(World::with_programs(), limits)
    }

    fn of(world: World, limits: Limits) -> Monitor {
        let pool = Pool::new(limits, SCALE).unwrap();
        world.watch(&pool);
        Monitor { pool, world }
    }

    pub(crate) fn group(&mut self, group: Group) {
        self.pool.set_group(group, self.world.now());
    }

    pub(crate) fn server(&mut self, server: &Server) {
        self.pool.set_server(server, self.world.now());
    }

    pub(crate) fn turn(&mut self) -> Vec<State> {
        let until =
            if self.pool.has_news() { Some(self.world.now()) } else { self.pool.deadline() };
        self.turn_until(until)
    }

    /// A turn that does not wait.
    pub(crate) fn look(&mut self) -> Vec<State> {
        self.turn_until(Some(self.world.now()))
    }

    fn turn_until(&mut self, until: Option<Instant>) -> Vec<State> {
        let pool = &mut self.pool;
        self.world.wait(until, |pid, how, now| {
            pool.child_ended(pid, how, now);
        });
        self.pool.run(self.world.now())
    }

    /// The next `count` news, and those that came with the last.
    pub(crate) fn news(&mut self, count: usize) -> Vec<State> {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(self.turn());
        }
        all
    }

    /// Lets the time for everybody's next check come, and a server's check end; the news meanwhile.
    pub(crate) fn next_check(&mut self, of: &Scripted) -> Vec<State> {
        let before = of.ended();
        self.world.ahead += 2 * Duration::from_millis(u64::from(EVERY));
        let mut news = Vec::new();
        while of.ended() == before {
            news.extend(self.look());
            std::thread::yield_now();
        }
        news
    }

    /// Turns until so many of the pool's programs have ended; the news meanwhile.
    pub(crate) fn until_programs_end(&mut self, count: usize) -> Vec<State> {
        let (mut ended, mut news) = (0, Vec::new());
        while ended < count {
            let pool = &mut self.pool;
            self.world.wait(pool.deadline(), |pid, how, now| {
                ended += usize::from(pool.child_ended(pid, how, now));
            });
            news.extend(self.pool.run(self.world.now()));
        }
        news
    }

    /// Turns until `done`; the news meanwhile.
    pub(crate) fn until(&mut self, mut done: impl FnMut(&Pool) -> bool) -> Vec<State> {
        let mut all = Vec::new();
        while !done(&self.pool) {
            all.extend(self.turn());
        }
        all
    }
}

pub(crate) fn group(id: u32, recipe: Recipe) -> Group {
    Group {
        id,
        name: format!("block{id}"),
        virtual_server: "10.0.0.100:80".to_owned(),
        recipe,
        udp: false,
        reentry: 1,
        quiesce: false,
        load: None,
    }
}

pub(crate) fn server(id: u32, group: u32, target: Target) -> Server {
    let (addr, port) = (target.addr, target.port);
    Server { id, group, addr, port, weight: 1, known: None, force: Force::Auto }
}

pub(crate) fn state(id: u32, weight: Option<u32>) -> State {
    State { id, up: weight.is_some_and(|w| w > 0), weight }
}

/// Resident memory of this process, in bytes (proc(5), statm).
pub(crate) fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Says something in the tests' output.
pub(crate) fn report(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Check programs of a test, in a directory that goes away with this.
pub(crate) struct Scripts(PathBuf);

impl Scripts {
    /// Make it after the [`World`] in which programs run: a file that is being written while another
    /// thread starts a program cannot be run itself (ETXTBSY of execve(2)).
    pub(crate) fn new(name: &str) -> Scripts {
        let dir = std::env::temp_dir().join(format!("health-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Scripts(dir)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn file(&self, name: &str, text: &[u8], mode: u32) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// Removes a file; whether there was one.
    pub(crate) fn remove(&self, name: &str) -> bool {
        std::fs::remove_file(self.path(name)).is_ok()
    }

    /// An executable script for `/bin/sh`; gives its path.
    pub(crate) fn sh(&self, name: &str, text: &str) -> String {
        self.file(name, format!("#!/bin/sh\n{text}\n").as_bytes(), 0o755)
    }
}

impl Drop for Scripts {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether a process lives. One that has ended and is still to be collected does not.
pub(crate) fn lives(pid: i32) -> bool {
    // The state stands behind the name, which is in parentheses (proc(5)).
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim().starts_with('Z'))
}

/// Waits until a process is gone.
pub(crate) fn await_end(pid: i32) {
    let began = Instant::now();
    while lives(pid) {
        assert!(began.elapsed() < STUCK, "process {pid} lives on");
        std::thread::yield_now();
    }
}

/// The number a script has written to a file, once it has.
pub(crate) fn number_in(path: &str) -> Option<i32> {
    std::fs::read_to_string(path).ok()?.strip_suffix('\n')?.parse().ok()
}
