//! What a client notices of a failover: a new connection every millisecond, and one that lasts.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, poll},
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
};
use socket2::{Domain, SockRef, Socket, Type};

use crate::{
    board::{Board, TimedOut},
    node::Node,
    process::closing,
};

/// A probe is lost when nothing has come of it for so long.
const LOST: Duration = Duration::from_secs(3);

/// A server that tells its name to whoever connects, and closes: three system calls a connection, so
/// that a [`Prober`] measures the director and not the server. Dropping it stops it.
#[derive(Debug)]
pub struct NameServer {
    listener: Arc<TcpListener>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    /// Starts a server that tells the node's name.
    #[track_caller]
    #[must_use = "the server stops when it is dropped"]
    pub fn name_server(&self, address: &str) -> NameServer {
        let parsed = address.parse::<SocketAddr>();
        let address = parsed.unwrap_or_else(|e| panic!("{}: {address}: {e}", self.name()));
        let name = format!("{}\n", self.name());
        let started = self.enter(|| listen(address)).and_then(|listener| {
            let listener = Arc::new(listener);
            let accepting = Arc::clone(&listener);
            let serve = move || {
                // Fails when the listener is shut down, and for a client that has gone meanwhile.
                loop {
                    match accepting.accept() {
                        // One that does not want to know is its own affair.
                        Ok((mut stream, _)) => drop(stream.write(name.as_bytes())),
                        Err(e) if e.kind() == ErrorKind::ConnectionAborted => {}
                        Err(_) => return,
                    }
                }
            };
            let thread = thread::Builder::new().name("names".to_owned()).spawn(serve)?;
            Ok(NameServer { listener, thread: Some(thread) })
        });
        started.unwrap_or_else(|e| panic!("{}: no server on {address}: {e}", self.name()))
    }

    /// Begins to probe: a connection about every millisecond, without waiting for earlier ones. With
    /// several addresses, each has its turn.
    #[track_caller]
    #[must_use = "it probes until it is dropped"]
    pub fn prober(&self, targets: &[&str]) -> Prober {
        self.prober_every(Duration::from_millis(1), targets)
    }

    /// The same with another interval.
    #[track_caller]
    #[must_use = "it probes until it is dropped"]
    pub fn prober_every(&self, interval: Duration, targets: &[&str]) -> Prober {
        self.probe(interval, targets, None)
    }

    /// The same for HTTP servers that tell their names: a request is sent, and the name is the
    /// answer's body.
    #[track_caller]
    #[must_use = "it probes until it is dropped"]
    pub fn http_prober(&self, interval: Duration, targets: &[&str]) -> Prober {
        self.probe(interval, targets, Some(b"GET / HTTP/1.0\r\n\r\n"))
    }

    #[track_caller]
    fn probe(
        &self,
        interval: Duration,
        targets: &[&str],
        request: Option<&'static [u8]>,
    ) -> Prober {
        let addresses: Result<Vec<SocketAddr>, _> = targets.iter().map(|t| t.parse()).collect();
        let addresses = addresses.unwrap_or_else(|e| panic!("{}: {targets:?}: {e}", self.name()));
        let shared = Arc::new(Board::new(Record::new(addresses.len())));
        let (node, board) = (self.clone(), Arc::clone(&shared));
        let probe = move || {
            if let Err(e) = node.enter(|| Probing::new(addresses, interval, request)?.run(&board)) {
                eprintln!("a prober of the laboratory failed: {e}");
            }
        };
        let thread = thread::Builder::new().name("prober".to_owned()).spawn(probe);
        let thread = thread.unwrap_or_else(|e| panic!("{}: no prober: {e}", self.name()));
        Prober { shared, thread: Some(thread) }
    }

    /// Opens a connection on which a number goes to and fro every few milliseconds, as long as it
    /// lives. At the other end must be a server that sends back what comes
    /// ([`Behaviour::Echo`](crate::Behaviour::Echo)).
    #[track_caller]
    #[must_use = "it ends when it is dropped"]
    pub fn flow(&self, target: &str) -> Flow {
        let parsed = target.parse::<SocketAddr>();
        let address = parsed.unwrap_or_else(|e| panic!("{}: {target}: {e}", self.name()));
        let connected = self.enter(|| {
            let stream = TcpStream::connect_timeout(&address, LOST)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            Ok::<_, io::Error>((stream.local_addr()?, stream))
        });
        let (local, stream) =
            connected.unwrap_or_else(|e| panic!("{}: {target}: {e}", self.name()));
        let shared = Arc::new(Board::<FlowState>::default());
        let board = Arc::clone(&shared);
        let thread = thread::Builder::new().name("flow".to_owned()).spawn(move || {
            let reason = flow(stream, &board).map_or_else(|e| Some(e.to_string()), |()| None);
            board.change(|state| state.broken = reason);
        });
        let thread = thread.unwrap_or_else(|e| panic!("{}: no thread: {e}", self.name()));
        Flow { local, shared, thread: Some(thread) }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        // The thread returns from accept with an error: tcp(7) does not say so, but inet_shutdown of
        // the kernel does it.
        let _ = SockRef::from(&*self.listener).shutdown(Shutdown::Read);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let listener = Arc::clone(&self.listener);
        closing(|| drop(listener));
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// A probe that was answered.
#[derive(Clone, Copy, Debug)]
struct Success {
    began: Instant,
    done: Instant,
    target: usize,
    /// Which name it was told: an index.
    server: usize,
}

/// A probe that was not, and when that was known.
#[derive(Clone, Copy, Debug)]
struct Failure {
    done: Instant,
    kind: Option<ErrorKind>,
}

/// What became of probes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answered, by the name of who answered.
    pub answered: BTreeMap<String, usize>,
    /// Refused or reset.
    pub refused: usize,
    /// Ended by another error, such as "host unreachable".
    pub failed: usize,
    /// Not answered within 3 s.
    pub lost: usize,
}

#[derive(Debug)]
struct Record {
    successes: Vec<Success>,
    failures: Vec<Failure>,
    servers: Vec<String>,
    targets: usize,
    ended: bool,
}

impl Record {
    fn new(targets: usize) -> Self {
        let (successes, failures, servers) = (Vec::new(), Vec::new(), Vec::new());
        Self { successes, failures, servers, targets, ended: false }
    }

    fn server(&mut self, answer: &[u8]) -> usize {
        let answer = String::from_utf8_lossy(answer);
        let body = answer.split_once("\r\n\r\n").map_or(&*answer, |(_, body)| body);
        let name = body.trim_end().to_owned();
        self.servers.iter().position(|known| *known == name).unwrap_or_else(|| {
            self.servers.push(name);
            self.servers.len() - 1
        })
    }

    /// The longest time between two successes in a row, of which the later came after `from`; or since
    /// the last success, if that is longer. And when it was over.
    fn longest(&self, target: usize, from: Instant, now: Instant) -> (Duration, Instant) {
        let times = self.successes.iter().filter(|s| s.target == target).map(|s| s.done);
        let mut longest = (Duration::ZERO, from);
        let mut last = from;
        for done in times.chain([now]) {
            if done > from {
                longest = longest.max((done.saturating_duration_since(last), done));
            }
            last = done;
        }
        longest
    }

    fn gap(&self, target: usize, from: Instant, now: Instant) -> Duration {
        self.longest(target, from, now).0
    }
}

/// Opens connections without pause, and knows what became of them. Dropping it ends it.
///
/// What it calls the *gap* around an event is the longest time between the completion of one probe and
/// that of the next one that completes, where the later completion is after the event. A probe is
/// complete when the server's name has come over its connection. Since new probes begin all the time, the
/// retransmission of a lost SYN does not lengthen a gap.
#[derive(Debug)]
pub struct Prober {
    shared: Arc<Board<Record>>,
    thread: Option<JoinHandle<()>>,
}

impl Prober {
    /// Waits until a probe of every address that began after `after` was answered.
    ///
    /// # Errors
    /// None was within `limit`.
    pub fn wait_served(&self, after: Instant, limit: Duration) -> Result<(), TimedOut> {
        self.wait_answers(after, 1, limit)
    }

    /// Waits until so many probes of every address that began after `after` were answered.
    ///
    /// # Errors
    /// There were fewer within `limit`.
    pub fn wait_answers(
        &self,
        after: Instant,
        count: usize,
        limit: Duration,
    ) -> Result<(), TimedOut> {
        let found = self.shared.wait(limit, |record| {
            let mut answers = vec![0; record.targets];
            for success in record.successes.iter().rev() {
                // They are in the order of their ends, not of their beginnings.
                if success.done < after {
                    break;
                }
                answers[success.target] += usize::from(success.began >= after);
            }
            answers.iter().all(|n| *n >= count).then_some(())
        });
        found.ok_or_else(|| {
            TimedOut(format!("no answers to new connections for {limit:?}: {:?}", self.counts()))
        })
    }

    /// The gap after `from`, of the address that had the longest.
    #[must_use]
    pub fn gap(&self, from: Instant) -> Duration {
        let record = self.shared.look();
        let gaps = (0..record.targets).map(|target| record.gap(target, from, Instant::now()));
        gaps.max().unwrap_or_default()
    }

    /// When the longest gap after `from` was over, of the address where that was last.
    #[must_use]
    pub fn recovered(&self, from: Instant) -> Instant {
        let record = self.shared.look();
        let ends = (0..record.targets).map(|target| record.longest(target, from, Instant::now()).1);
        ends.max().unwrap_or(from)
    }

    /// What became of all probes that have ended.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts_since(None)
    }

    /// What became of the probes that ended after `from`.
    #[must_use]
    pub fn counts_after(&self, from: Instant) -> Counts {
        self.counts_since(Some(from))
    }

    fn counts_since(&self, from: Option<Instant>) -> Counts {
        let record = self.shared.look();
        let late = |done: Instant| from.is_none_or(|from| done > from);
        let mut counts = Counts::default();
        for success in record.successes.iter().filter(|s| late(s.done)) {
            *counts.answered.entry(record.servers[success.server].clone()).or_default() += 1;
        }
        for failure in record.failures.iter().filter(|f| late(f.done)) {
            match failure.kind {
                Some(ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset) => {
                    counts.refused += 1;
                }
                Some(_) => counts.failed += 1,
                None => counts.lost += 1,
            }
        }
        counts
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.shared.change(|record| record.ended = true);
        if let Some(thread) = self.thread.take() {
            // Its panic has been shown already.
            let _ = thread.join();
        }
    }
}

/// The prober's thread.
struct Probing {
    targets: Vec<SocketAddr>,
    interval: Duration,
    /// What is to be sent once connected.
    request: Option<&'static [u8]>,
    epoll: Epoll,
    /// Probes under way, by their number.
    pending: HashMap<u64, (Socket, Instant)>,
    /// The same, oldest first; some have ended.
    order: VecDeque<(u64, Instant)>,
    next: u64,
}

impl Probing {
    fn new(
        targets: Vec<SocketAddr>,
        interval: Duration,
        request: Option<&'static [u8]>,
    ) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let (pending, order) = (HashMap::new(), VecDeque::new());
        Ok(Self { targets, interval, request, epoll, pending, order, next: 0 })
    }

    fn run(mut self, board: &Board<Record>) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 64];
        let mut due = Instant::now();
        loop {
            let now = Instant::now();
            if now >= due {
                self.begin(now, board)?;
                // What was missed is not made up for.
                due = (due + self.interval).max(now);
            }
            let left = due.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
            let timeout = EpollTimeout::from(u16::try_from(left).unwrap_or(u16::MAX));
            let ready = match self.epoll.wait(&mut events, timeout) {
                Err(nix::Error::EINTR) => 0,
                result => result?,
            };
            let now = Instant::now();
            for event in events.iter().take(ready) {
                let connected = event.events() == EpollFlags::EPOLLOUT;
                if !(connected && self.ask(event.data())) {
                    self.end(event.data(), now, board);
                }
            }
            self.give_up(now, board);
            if board.look().ended {
                return Ok(());
            }
        }
    }

    fn target(&self, number: u64) -> usize {
        // A remainder fits where the divisor did.
        usize::try_from(number % (self.targets.len() as u64)).unwrap_or_default()
    }

    fn begin(&mut self, now: Instant, board: &Board<Record>) -> io::Result<()> {
        let number = self.next;
        self.next += 1;
        let target = self.targets[self.target(number)];
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = Socket::new_raw(Domain::for_address(target), kind, None)?;
        // Closed by RST: 60,000 connections in TIME_WAIT would leave no ports.
        socket.set_linger(Some(Duration::ZERO))?;
        if let Err(e) = socket.connect(&target.into())
            && e.raw_os_error() != Some(libc::EINPROGRESS)
        {
            let kind = Some(e.kind());
            board.change(|record| record.failures.push(Failure { done: now, kind }));
            return Ok(());
        }
        let awaited =
            if self.request.is_some() { EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN };
        self.epoll.add(&socket, EpollEvent::new(awaited, number))?;
        self.pending.insert(number, (socket, now));
        self.order.push_back((number, now));
        Ok(())
    }

    /// Sends the request. False: it cannot be sent, and the probe has ended.
    fn ask(&mut self, number: u64) -> bool {
        let Some((socket, _)) = self.pending.get_mut(&number) else { return false };
        let sent = socket.write(self.request.unwrap_or_default());
        let mut awaited = EpollEvent::new(EpollFlags::EPOLLIN, number);
        sent.is_ok() && self.epoll.modify(&*socket, &mut awaited).is_ok()
    }

    fn end(&mut self, number: u64, done: Instant, board: &Board<Record>) {
        let Some((mut socket, began)) = self.pending.remove(&number) else { return };
        let mut buffer = [0; 1024];
        let result = socket.read(&mut buffer);
        let target = self.target(number);
        board.change(|record| match result {
            Ok(length) if length > 0 => {
                let server = record.server(buffer.get(..length).unwrap_or_default());
                record.successes.push(Success { began, done, target, server });
            }
            Ok(_) => record.failures.push(Failure { done, kind: Some(ErrorKind::UnexpectedEof) }),
            Err(e) => record.failures.push(Failure { done, kind: Some(e.kind()) }),
        });
    }

    fn give_up(&mut self, now: Instant, board: &Board<Record>) {
        while let Some((number, began)) = self.order.front().copied() {
            if now.saturating_duration_since(began) < LOST {
                break;
            }
            self.order.pop_front();
            if self.pending.remove(&number).is_some() {
                board.change(|record| record.failures.push(Failure { done: now, kind: None }));
            }
        }
    }
}

#[derive(Debug, Default)]
struct FlowState {
    /// When something came back, in the order of the numbers.
    heard: Vec<Instant>,
    broken: Option<String>,
    ended: bool,
}

/// A connection that lasts, with numbered bytes both ways. Dropping it closes it.
#[derive(Debug)]
pub struct Flow {
    local: SocketAddr,
    shared: Arc<Board<FlowState>>,
    thread: Option<JoinHandle<()>>,
}

impl Flow {
    /// The client's address and port.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Waits until something sent after this call has begun has come back.
    ///
    /// # Errors
    /// Nothing has within `limit`, or the connection is broken.
    pub fn wait_alive(&self, limit: Duration) -> Result<(), TimedOut> {
        // At most one number is under way that was sent before.
        let wanted = self.shared.look().heard.len() + 2;
        let found = self.shared.wait(limit, |state| match &state.broken {
            Some(reason) => Some(Err(reason.clone())),
            None => (state.heard.len() >= wanted).then_some(Ok(())),
        });
        match found {
            Some(Ok(())) => Ok(()),
            Some(Err(reason)) => Err(TimedOut(format!("the connection is broken: {reason}"))),
            None => Err(TimedOut(format!("nothing came back on the connection for {limit:?}"))),
        }
    }

    /// Why it ended, if it did.
    #[must_use]
    pub fn broken(&self) -> Option<String> {
        self.shared.look().broken.clone()
    }

    /// The longest time after `from` in which nothing came back.
    #[must_use]
    pub fn stall(&self, from: Instant) -> Duration {
        let state = self.shared.look();
        let later = state.heard.iter().copied().filter(|at| *at > from);
        let mut last = from;
        let gaps = later.chain([Instant::now()]).map(|at| {
            let gap = at.saturating_duration_since(last);
            last = at;
            gap
        });
        gaps.max().unwrap_or_default()
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.shared.change(|state| state.ended = true);
        if let Some(thread) = self.thread.take() {
            // Its panic has been shown already.
            let _ = thread.join();
        }
    }
}

/// One number at a time: it is sent, it comes back, and after a pause the next one goes. An error says
/// how the connection broke.
fn flow(mut stream: TcpStream, board: &Board<FlowState>) -> io::Result<()> {
    const PAUSE: Duration = Duration::from_millis(5);
    for number in 0_u64.. {
        let sent = number.to_be_bytes();
        // Eight bytes fit into an empty buffer.
        stream.write_all(&sent)?;
        let (mut back, mut length) = ([0; 8], 0);
        while length < back.len() {
            if board.look().ended {
                return Ok(());
            }
            let mut fds = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
            // Interrupted: then the read below would block.
            let _ = poll(&mut fds, 100_u16);
            match stream.read(&mut back[length..]) {
                Ok(0) => return Err(io::Error::other("the other side has closed it")),
                Ok(more) => length += more,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(e) => return Err(e),
            }
        }
        if back != sent {
            return Err(io::Error::other(format!("{back:?} came back instead of {sent:?}")));
        }
        board.change(|state| state.heard.push(Instant::now()));
        thread::sleep(PAUSE);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_what_lies_between_two_answers() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut record = Record::new(2);
        for (done, target) in [(0, 0), (10, 0), (15, 1), (500, 0), (510, 0), (520, 1)] {
            let server = record.server(b"rs1\n");
            record.successes.push(Success { began: at(done), done: at(done), target, server });
        }
        let gap = |target, from, now| record.gap(target, at(from), at(now)).as_millis();
        let cases = [
            // The event is at 100 ms: the gap began at 10 and ended at 500.
            (0, 100, 530, 490),
            (1, 100, 530, 505),
            // After 505 ms there is only the time between 500 and 510.
            (0, 505, 520, 10),
            // Nobody has answered since 510.
            (0, 505, 900, 390),
        ];
        for (target, from, now, wanted) in cases {
            assert_eq!(gap(target, from, now), wanted, "{target} {from} {now}");
        }
    }
}
