//! active_cmd and inactive_cmd: run one after the other, in the order in which they were asked for,
//! each with a time limit.

use crate::output::{Output, Streams};
use daemon::child::{self, Asked, Child, Overdue};
use daemon::poll::Poller;
use daemon::process::Ended;
use std::collections::VecDeque;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// How long a command may take.
pub const LIMIT: Duration = Duration::from_secs(10);
/// How long it may take to end when it has exceeded that.
const GRACE: Duration = Duration::from_millis(500);

/// A command to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Its key in lvs.cf.
    pub key: &'static str,
    /// Program and arguments.
    pub words: Vec<Vec<u8>>,
}

/// The commands that run or wait.
#[derive(Debug, Default)]
pub struct Commands {
    waiting: VecDeque<Order>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    key: &'static str,
    child: Child,
    output: Option<Output>,
}

impl Commands {
    /// Whether nothing runs or waits.
    #[must_use]
    pub fn idle(&self) -> bool {
        self.running.is_none() && self.waiting.is_empty()
    }

    /// Asks for a command. One that waits already is not asked for twice in a row.
    pub fn push(&mut self, order: Order) {
        if self.waiting.back() != Some(&order) {
            self.waiting.push_back(order);
        }
    }

    /// Starts the next one, if it is its turn. `token` is for its output.
    pub fn advance(&mut self, poller: &Poller, token: u64, now: Instant) {
        while self.running.is_none() {
            let Some(order) = self.waiting.pop_front() else { return };
            match start(&order, poller, token, now) {
                Ok(running) => self.running = Some(running),
                Err(error) => log::error!("{}: {error}", order.key),
            }
        }
    }

    /// Takes a child's end in; whether it was one of these.
    pub fn ended(&mut self, pid: i32, how: Ended) -> bool {
        if self.running.as_ref().is_none_or(|r| r.child.pid() != pid) {
            return false;
        }
        if let Some(mut running) = self.running.take() {
            if let Some(output) = &mut running.output {
                output.read();
            }
            if !how.success() {
                log::error!("{} {how}", running.key);
            }
        }
        true
    }

    /// Reads a command's output; whether the event was for it.
    pub fn on_output(&mut self, token: u64) -> bool {
        let Some(running) = &mut self.running else { return false };
        let Some(output) = running.output.as_mut().filter(|o| o.token() == token) else {
            return false;
        };
        if !output.read() {
            running.output = None;
        }
        true
    }

    /// When [`Commands::on_time`] wants to be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.running.as_ref().and_then(|r| r.child.deadline())
    }

    /// Ends what takes too long.
    pub fn on_time(&mut self, now: Instant) {
        if let Some(running) = &mut self.running
            && running.child.on_time(now) == Some(Overdue::Limit)
        {
            log::error!("{} still runs after {} s: it is killed", running.key, LIMIT.as_secs());
        }
    }

    /// Ends everything without asking.
    pub fn kill(&mut self) {
        self.waiting.clear();
        if let Some(running) = &mut self.running {
            running.child.kill();
        }
    }
}

fn start(order: &Order, poller: &Poller, token: u64, now: Instant) -> std::io::Result<Running> {
    let mut command = child::command(&order.words);
    // It is no child of the service manager, and must not speak for us.
    command.stdin(Stdio::null()).env_remove("NOTIFY_SOCKET");
    let output = Output::of(&mut command, Streams::Both, order.key, poller, token)?;
    let words: Vec<_> = order.words.iter().map(|w| String::from_utf8_lossy(w)).collect();
    log::debug!("running command \"{}\"", words.join("\" \""));
    let mut child = child::spawn(&mut command, Asked::Group)?;
    child.limit(now + LIMIT, GRACE);
    Ok(Running { key: order.key, child, output: Some(output) })
}
