//! The guard: a small process that gives up what an active node holds when pulse cannot do it any
//! more, because it was killed, or stands still. Without it, both nodes would bear the virtual
//! addresses as soon as the partner has taken over.
//!
//! pulse tells it over a socket pair what it holds before it takes it, and gives signs of life while
//! it holds anything. The end of the socket, or silence, is what the guard waits for. It has a name of
//! its own (`pulse-guard`), so that what is done to pulse by name spares it, and a session of its own.

use crate::holdings::{Holdings, Process, STATE_FILE};
use daemon::lines::{Lines, Reading};
use daemon::logging;
use daemon::poll::{self, Poller};
use daemon::signals::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, Signals};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// The guard's name, as ps shows it.
pub const NAME: &str = "pulse-guard";
/// Locked as long as a guard lives.
const LOCK: &str = "/run/piranha/pulse-guard.lock";
/// Longest order: all addresses of a large site.
const LONGEST: usize = 16 * 1024 * 1024;
/// More than this much untaken means that the guard does not take anything.
const UNTAKEN: usize = 4 * 1024 * 1024;
/// How long lvsd may take to end.
const LVSD_GRACE: Duration = Duration::from_millis(700);
/// How often it is looked whether they have.
const LOOK: Duration = Duration::from_millis(10);
/// Tries to take addresses down, and the time between them.
const TRIES: u32 = 20;
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// What pulse says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Order {
    /// This is held from now on.
    Hold {
        /// What is to be given up if need be.
        holdings: Holdings,
        /// Milliseconds of silence after which it is; `None`: only when pulse is gone.
        silence_ms: Option<u64>,
    },
    /// pulse lives.
    Alive,
    /// pulse ends in order, and holds nothing.
    Bye,
}

/// What the guard says: why it has acted.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Acted {
    why: String,
}

// ---------------------------------------------------------------------- pulse's side

/// The guard, as pulse sees it.
#[derive(Debug)]
pub struct Guard {
    pid: i32,
    lines: Lines,
    token: u64,
}

/// What the guard's socket says.
#[derive(Debug, PartialEq, Eq)]
pub enum Report {
    /// Nothing new.
    Nothing,
    /// It has given up what this node held, and ends; why.
    Acted(String),
    /// It is gone.
    Gone,
}

impl Guard {
    /// Starts it.
    ///
    /// # Errors
    /// When there is no process or socket pair to be had.
    pub fn start(verbose: bool, nodaemon: bool, poller: &Poller, token: u64) -> io::Result<Guard> {
        let (ours, theirs) = UnixStream::pair()?;
        // This very program, even where its file has been replaced meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command.arg0(NAME).stdin(Stdio::from(OwnedFd::from(theirs)));
        command.args(verbose.then_some("-v")).args(nodaemon.then_some("-n"));
        command.env_remove("NOTIFY_SOCKET");
        // Unlike other children: no signal is sent to it when this process ends.
        let started = command.spawn();
        let child =
            started.map_err(|e| io::Error::new(e.kind(), format!("cannot start {NAME}: {e}")))?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        let lines = Lines::new(ours, LONGEST)?;
        poller.add(&lines, token, poll::READ)?;
        Ok(Guard { pid, lines, token })
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Says what is held, and how long pulse may be silent meanwhile.
    pub fn hold(&mut self, holdings: &Holdings, silence: Option<Duration>, poller: &Poller) {
        let silence_ms = silence.map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        self.say(&Order::Hold { holdings: holdings.clone(), silence_ms }, poller);
    }

    /// Gives a sign of life.
    pub fn alive(&mut self, poller: &Poller) {
        self.say(&Order::Alive, poller);
    }

    /// Lets it go.
    pub fn bye(mut self, poller: &Poller) {
        self.say(&Order::Bye, poller);
    }

    fn say(&mut self, order: &Order, poller: &Poller) {
        if self.lines.unsent() > UNTAKEN {
            // It stands still itself. Another one takes its place when it is gone.
            let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
            return;
        }
        if let Ok(line) = serde_json::to_vec(order) {
            self.lines.push(&line);
        }
        self.flush(poller);
    }

    /// Sends what waits.
    pub fn flush(&mut self, poller: &Poller) {
        // Its end is seen by the end of the socket.
        let _ = self.lines.flush_in(poller, self.token);
    }

    /// Reads what it says.
    pub fn read(&mut self) -> Report {
        let reading = self.lines.fill();
        while let Some(line) = self.lines.next_line() {
            if let Ok(Acted { why }) = serde_json::from_slice(&line) {
                return Report::Acted(why);
            }
        }
        if matches!(reading, Ok(Reading::Open)) { Report::Nothing } else { Report::Gone }
    }
}

/// How long a guard lets pulse be silent, and how often pulse gives a sign of life: so that an active
/// node which stands still has given up its addresses just before its partner raises them.
#[must_use]
pub fn silence(deadtime: Duration) -> (Duration, Duration) {
    let limit = (deadtime - deadtime / 8).max(Duration::from_millis(500));
    (limit, limit / 8)
}

/// Waits until the guard of an earlier pulse has done its work, `limit` at most; false: it has not.
/// (Before pulse's loop; the guard's own limits are short.)
#[must_use]
pub fn await_earlier(limit: Duration) -> bool {
    let until = Instant::now() + limit;
    loop {
        if lock().is_ok_and(|lock| lock.is_some()) {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(LOOK);
    }
}

/// The lock, if nobody else has it.
fn lock() -> io::Result<Option<Flock<fs::File>>> {
    let path = Path::new(LOCK);
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let file = fs::File::create(path)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno.into()),
    }
}

// ---------------------------------------------------------------------- the guard's side

/// Whether this process was started as a guard.
#[must_use]
pub fn is_guard() -> bool {
    std::env::args_os().next().is_some_and(|name| name == NAME)
}

/// The guard's life.
#[must_use]
pub fn main() -> ExitCode {
    let has = |flag: &str| std::env::args_os().skip(1).any(|arg| arg == flag);
    let _ = nix::sys::prctl::set_name(c"pulse-guard");
    let _ = nix::unistd::setsid();
    logging::init(&logging::Options {
        ident: NAME,
        terminal: has("-n").then_some(NAME),
        verbose: has("-v"),
    });
    match watch() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn watch() -> io::Result<()> {
    // What ends others must not end it: it ends with its socket. (Its descriptor is not read.)
    let _deaf = Signals::new(&[SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2])?;
    let _lock = lock()?;
    let stream = UnixStream::from(std::os::fd::AsFd::as_fd(&io::stdin()).try_clone_to_owned()?);
    let lines = Lines::new(stream, LONGEST)?;
    let poller = Poller::new()?;
    poller.add(&lines, 0, poll::READ)?;
    let mut watcher = Watcher { lines, trust: Trust::default() };
    let mut events = Vec::new();
    loop {
        let asked = watcher.trust.deadline();
        poller.wait(asked, &mut events)?;
        let now = Instant::now();
        // What pulse has said before the limit is heard before it is judged.
        if !watcher.hear(now) {
            return Ok(());
        }
        if watcher.trust.is_lost(now) {
            watcher.give_up();
            return Ok(());
        }
    }
}

struct Watcher {
    lines: Lines,
    trust: Trust,
}

/// What pulse has said, and when.
#[derive(Debug, Default)]
struct Trust {
    holdings: Holdings,
    silence: Option<Duration>,
    heard: Option<Instant>,
    /// The guard itself was held up, and pulse has been given more time for that.
    forgiven: bool,
    gone: bool,
}

impl Trust {
    fn deadline(&self) -> Option<Instant> {
        Some(self.heard? + self.silence?)
    }

    fn take(&mut self, order: Order, now: Instant) {
        self.heard = Some(now);
        self.forgiven = false;
        if let Order::Hold { holdings, silence_ms } = order {
            self.holdings = holdings;
            self.silence = silence_ms.map(Duration::from_millis);
        }
    }

    /// Whether what is held must be given up.
    fn is_lost(&mut self, now: Instant) -> bool {
        if self.gone {
            return true;
        }
        let (Some(deadline), Some(silence)) = (self.deadline(), self.silence) else { return false };
        if deadline > now {
            return false;
        }
        // A machine that stood still as a whole (a virtual one, for instance) stops the guard as
        // well as pulse: pulse gets its turn first, once.
        if now - deadline > silence / 4 && !self.forgiven {
            self.forgiven = true;
            self.heard = Some(now);
            return false;
        }
        true
    }

    fn why(&self) -> String {
        match (self.gone, self.silence) {
            (false, Some(silence)) => {
                format!("pulse has given no sign of life for {} ms", silence.as_millis())
            }
            _ => "pulse is gone".to_owned(),
        }
    }
}

impl Watcher {
    /// Takes in what pulse says. False: there is nothing left to do.
    fn hear(&mut self, now: Instant) -> bool {
        let reading = self.lines.fill();
        while let Some(line) = self.lines.next_line() {
            match serde_json::from_slice(&line) {
                Ok(Order::Bye) => return false,
                Ok(order) => self.trust.take(order, now),
                Err(error) => log::error!("not understood: {error}"),
            }
        }
        self.trust.gone |= !matches!(reading, Ok(Reading::Open));
        !(self.trust.gone && self.trust.holdings.is_empty())
    }

    /// Gives up what is held: the addresses first, since the partner is about to raise them.
    fn give_up(&mut self) {
        let why = self.trust.why();
        if !self.trust.gone {
            // Before the deed: a pulse that goes on must not raise the addresses again.
            if let Ok(line) = serde_json::to_vec(&Acted { why: why.clone() }) {
                self.lines.push(&line);
                let _ = self.lines.flush();
            }
        }
        let held = &self.trust.holdings;
        let done = drop_addresses(held);
        log::error!("{why}: {}", described(held, &done));
        if let Some(process) = &held.child {
            end(process, if held.table { LVSD_GRACE } else { fos::supervisor::END_LIMIT });
        }
        held.drop_table();
        if done.is_ok() {
            let _ = fs::remove_file(STATE_FILE);
        }
    }
}

fn described(held: &Holdings, done: &Result<usize, lvs_net::Error>) -> String {
    let addresses = match done {
        Ok(0) => "no address was up".to_owned(),
        Ok(count) => format!("took {count} of its addresses down"),
        Err(error) => format!("its addresses are not all down: {error}"),
    };
    match &held.child {
        Some(process) => format!("{addresses}, ending its child {}", process.pid),
        None => addresses,
    }
}

fn drop_addresses(held: &Holdings) -> Result<usize, lvs_net::Error> {
    let mut tries = 1;
    loop {
        match held.drop_addresses() {
            Err(_) if tries < TRIES => {
                tries += 1;
                std::thread::sleep(TRY_AGAIN);
            }
            done => return done,
        }
    }
}

/// Ends a process that is not our child, and waits for that.
pub(crate) fn end(process: &Process, grace: Duration) {
    process.terminate();
    let until = Instant::now() + grace;
    while process.runs() {
        if Instant::now() >= until {
            log::error!("process {} does not end: it is killed", process.pid);
            process.kill();
            return;
        }
        std::thread::sleep(LOOK);
    }
}

/// Gives up what an earlier pulse has left behind, if anything.
pub fn clean_up_after_earlier() {
    let held = Holdings::read(Path::new(STATE_FILE));
    if !held.is_empty() {
        let done = drop_addresses(&held);
        log::warn!("an earlier pulse left without cleaning up: {}", described(&held, &done));
        if let Some(process) = &held.child {
            end(process, LVSD_GRACE);
        }
        held.drop_table();
    }
    let _ = fs::remove_file(STATE_FILE);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn orders_are_plain_lines() {
        let hold = Order::Hold { holdings: Holdings::default(), silence_ms: Some(4375) };
        let text = serde_json::to_string(&hold).unwrap();
        assert!(!text.contains('\n'));
        for (text, order) in
            [(text.as_str(), hold), ("\"alive\"", Order::Alive), ("\"bye\"", Order::Bye)]
        {
            assert_eq!(serde_json::from_str::<Order>(text).unwrap(), order);
            assert_eq!(serde_json::to_string(&order).unwrap(), text);
        }
    }

    #[test]
    fn a_silent_pulse_is_trusted_until_the_limit_and_a_held_up_guard_waits_once_more() {
        let start = Instant::now();
        let hold = || Order::Hold { holdings: Holdings::default(), silence_ms: Some(400) };
        let mut trust = Trust::default();
        assert!(!trust.is_lost(start + ms(1_000_000)), "nothing is held");
        trust.take(hold(), start);
        assert_eq!(trust.deadline(), Some(start + ms(400)));
        assert!(!trust.is_lost(start + ms(399)));
        trust.take(Order::Alive, start + ms(300));
        assert!(!trust.is_lost(start + ms(699)));
        assert!(trust.is_lost(start + ms(700)));
        // Woken far too late: everything stood still, pulse too.
        assert!(!trust.is_lost(start + ms(5000)));
        assert!(!trust.is_lost(start + ms(5399)));
        assert!(trust.is_lost(start + ms(9000)), "only once");
        trust.take(Order::Alive, start + ms(9000));
        assert!(!trust.is_lost(start + ms(20_000)), "once in every silence");
    }

    #[test]
    fn without_a_limit_only_the_end_counts() {
        let mut trust = Trust::default();
        trust.take(Order::Hold { holdings: Holdings::default(), silence_ms: None }, Instant::now());
        assert_eq!(trust.deadline(), None);
        assert!(!trust.is_lost(Instant::now() + ms(1_000_000)));
        trust.gone = true;
        assert!(trust.is_lost(Instant::now()));
        assert_eq!(trust.why(), "pulse is gone");
    }

    #[test]
    fn the_limit_is_just_below_deadtime() {
        assert_eq!(silence(ms(5000)), (ms(4375), ms(4375) / 8));
        assert_eq!(silence(ms(100)).0, ms(500));
    }
}
