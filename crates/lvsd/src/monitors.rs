//! The nannies: one for all servers over a socket pair, or one a server in the classic way.

use daemon::lines::{Lines, Reading};
use daemon::poll::{self, Poller};
use daemon::ready::NOTIFY_SOCKET;
use health::state::Force;
use health::wire::{self, News, Order};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{SigHandler, Signal, kill};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{ChildStdout, Command, Stdio};

/// The environment variable that tells a nanny for one server what an operator has ordered: `up` or
/// `down`. nanny reads it by this name.
const FORCE_VARIABLE: &str = "NANNY_FORCE";
/// Where nanny is installed.
const NANNY: &str = "/usr/sbin/nanny";
/// Most of a classic monitor's output that is kept while waiting for the end of a line.
const LONGEST_OUTPUT: usize = 64 * 1024;

/// The nanny to start: the one beside this program, else the installed one.
#[must_use]
pub fn nanny_program() -> String {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join("nanny")));
    match beside {
        Some(path) if path.is_file() => path.to_string_lossy().into_owned(),
        _ => NANNY.to_owned(),
    }
}

/// How children are started.
#[derive(Debug, Clone, Copy)]
pub struct Spawning {
    /// Pass `-v`.
    pub verbose: bool,
    /// lvsd stays on the terminal, and so do its monitors.
    pub nodaemon: bool,
}

impl Spawning {
    fn output(self) -> Stdio {
        if self.nodaemon { Stdio::inherit() } else { Stdio::null() }
    }
}

/// The nanny for all servers.
#[derive(Debug)]
pub struct Pooled {
    /// Its pid.
    pub pid: i32,
    /// Whether it has said that it understands orders.
    pub hello: bool,
    lines: Lines,
    token: u64,
}

impl Pooled {
    /// Starts it and registers with `poller`.
    ///
    /// # Errors
    /// When it cannot be started; the text names it.
    pub fn start(program: &str, how: Spawning, poller: &Poller, token: u64) -> io::Result<Pooled> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new(program);
        command.arg("--pool").args(how.verbose.then_some("-v"));
        command.args(how.nodaemon.then_some("--nodaemon"));
        command.env_remove(NOTIFY_SOCKET);
        command.stdin(Stdio::from(OwnedFd::from(theirs)));
        command.stdout(how.output()).stderr(how.output());
        let child = command.spawn().map_err(|e| named(program.as_bytes(), &e))?;
        let lines = Lines::new(ours, wire::LONGEST)?;
        poller.add(&lines, token, poll::READ)?;
        Ok(Pooled { pid: pid_of(child.id()), hello: false, lines, token })
    }

    /// Queues an order; [`Pooled::flush`] sends it.
    pub fn order(&mut self, order: &Order) {
        self.lines.push(&wire::line(order));
    }

    /// Sends what is queued, as far as it is taken.
    pub fn flush(&mut self, poller: &Poller) {
        // A nanny that is gone is seen by its end as a child.
        let _ = self.lines.flush_in(poller, self.token);
    }

    /// Reads what it has said. One that has hung up or talks nonsense is ended, which the caller
    /// sees by its end as a child.
    pub fn read(&mut self, poller: &Poller) -> Vec<News> {
        let reading = self.lines.fill();
        let mut news = Vec::new();
        while let Some(line) = self.lines.next_line() {
            match wire::message(&line) {
                Ok(News::Hello) => self.hello = true,
                Ok(item) => news.push(item),
                Err(error) => log::error!("nanny says what lvsd does not understand: {error}"),
            }
        }
        if !matches!(reading, Ok(Reading::Open)) {
            poller.remove(&self.lines);
            signal(self.pid, Signal::SIGKILL);
        }
        news
    }
}

/// A nanny for one server.
#[derive(Debug)]
pub struct Classic {
    /// Its pid.
    pub pid: i32,
    /// It was told to end.
    pub ending: bool,
    /// Another one is to be started when it has ended.
    pub again: bool,
    stdout: Option<ChildStdout>,
    output: Vec<u8>,
}

/// The nannies for one server each, by the server's number.
#[derive(Debug, Default)]
pub struct Classics {
    running: HashMap<u32, Classic>,
    by_pid: HashMap<i32, u32>,
}

impl Classics {
    /// Starts one. With `listen` its standard output is read: `token` is the event's. An operator's
    /// order that holds already is in its environment: a signal would come too late, and too early for
    /// a process that does not handle it yet. (The original's nanny does not look there.)
    ///
    /// # Errors
    /// When it cannot be started; the text names it.
    pub fn start(
        &mut self,
        id: u32,
        words: &[Vec<u8>],
        how: Spawning,
        force: Force,
        listen: Option<(&Poller, u64)>,
    ) -> io::Result<i32> {
        let program = words.first().map_or(&b""[..], Vec::as_slice);
        let mut command = Command::new(OsStr::from_bytes(program));
        if force != Force::Auto {
            command.env(FORCE_VARIABLE, if force == Force::Up { "up" } else { "down" });
        }
        command.args(words.iter().skip(1).map(|w| OsStr::from_bytes(w)));
        command.env_remove(NOTIFY_SOCKET);
        command.stdin(Stdio::null()).stderr(how.output());
        command.stdout(if listen.is_some() { Stdio::piped() } else { how.output() });
        prepare_child(&mut command);
        let mut child = command.spawn().map_err(|e| named(program, &e))?;
        let stdout = child.stdout.take();
        if let (Some(stdout), Some((poller, token))) = (&stdout, listen) {
            fcntl(stdout, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            poller.add(stdout, token, poll::READ)?;
        }
        let pid = pid_of(child.id());
        self.by_pid.insert(pid, id);
        let output = Vec::new();
        self.running.insert(id, Classic { pid, ending: false, again: false, stdout, output });
        Ok(pid)
    }

    /// Tells a server's monitor to end; `again`: another is to be started then. False when there
    /// is none.
    pub fn end(&mut self, id: u32, again: bool) -> bool {
        let Some(classic) = self.running.get_mut(&id) else { return false };
        classic.again = again;
        if !classic.ending {
            classic.ending = true;
            signal(classic.pid, Signal::SIGTERM);
        }
        true
    }

    /// Takes in a child's end; gives back its server and what it was, if it was one of these.
    pub fn ended(&mut self, pid: i32) -> Option<(u32, Classic)> {
        let id = self.by_pid.remove(&pid)?;
        self.running.remove(&id).map(|classic| (id, classic))
    }

    /// Passes on an operator's order.
    pub fn force(&self, id: u32, force: Force) {
        if let Some(classic) = self.running.get(&id) {
            let number = match force {
                Force::Down | Force::Drain => Signal::SIGUSR1,
                Force::Up => Signal::SIGUSR2,
                Force::Auto => Signal::SIGHUP,
            };
            signal(classic.pid, number);
        }
    }

    /// Reads a monitor's output; gives back whether its server is up now, if it said so.
    pub fn read(&mut self, id: u32, poller: &Poller) -> Option<bool> {
        let classic = self.running.get_mut(&id)?;
        let stdout = classic.stdout.as_mut()?;
        let mut chunk = [0; 4096];
        let closed = loop {
            match stdout.read(&mut chunk) {
                Ok(0) => break true,
                Ok(n) => classic.output.extend_from_slice(&chunk[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => break e.kind() != io::ErrorKind::WouldBlock,
            }
            if classic.output.len() > LONGEST_OUTPUT {
                break false;
            }
        };
        if closed {
            poller.remove(&*stdout);
            classic.stdout = None;
        }
        last_state(&mut classic.output)
    }

    /// The servers with a monitor.
    pub fn ids(&self) -> Vec<u32> {
        self.running.keys().copied().collect()
    }

    /// Whether none runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Ends all, without asking.
    pub fn kill_all(&self) {
        for classic in self.running.values() {
            signal(classic.pid, Signal::SIGKILL);
        }
    }
}

/// Has a child ended when lvsd is, however that happens: monitors that outlived it would go on to
/// change the table beside those of its successor. Without a word, so that the table stays as it is
/// until somebody takes charge of it. (A pooled nanny sees the end of its socket.) And has it ignore
/// the signals of an operator's orders until it handles them: one that comes early must not end it.
#[allow(unsafe_code)]
fn prepare_child(command: &mut Command) {
    // SAFETY: between fork and exec only prctl(2) and sigaction(2) are called, which are
    // async-signal-safe and take no memory. The standard library has no other way to set these.
    unsafe {
        command.pre_exec(|| {
            for order in [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGHUP] {
                nix::sys::signal::signal(order, SigHandler::SigIgn)?;
            }
            Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?)
        });
    }
}

/// Takes whole lines off `output` and gives back the last state named in them.
fn last_state(output: &mut Vec<u8>) -> Option<bool> {
    let end = output.iter().rposition(|b| *b == b'\n').map(|at| at + 1);
    let Some(end) = end else {
        if output.len() > LONGEST_OUTPUT {
            output.clear();
        }
        return None;
    };
    let lines: Vec<u8> = output.drain(..end).collect();
    let text = String::from_utf8_lossy(&lines);
    text.lines().rev().find_map(|line| {
        if line.contains("[ active ]") {
            Some(true)
        } else {
            line.contains("[inactive]").then_some(false)
        }
    })
}

/// Sends a signal to a child that has not been collected.
pub fn signal(pid: i32, number: Signal) {
    let _ = kill(Pid::from_raw(pid), number);
}

fn pid_of(id: u32) -> i32 {
    i32::try_from(id).unwrap_or(i32::MAX)
}

fn named(program: &[u8], error: &io::Error) -> io::Error {
    let program = String::from_utf8_lossy(program);
    io::Error::new(error.kind(), format!("cannot run {program}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_state_in_a_monitors_output_counts() {
        let mut output =
            b"nanny: [inactive] shutting down a\nnanny: [ active ] making a\nnan".to_vec();
        assert_eq!(last_state(&mut output), Some(true));
        assert_eq!(output, b"nan");
        assert_eq!(last_state(&mut output), None);
        output.extend_from_slice(b"ny: [inactive] shutting\n");
        assert_eq!(last_state(&mut output), Some(false));
        let mut endless = vec![b'x'; LONGEST_OUTPUT + 1];
        assert_eq!(last_state(&mut endless), None);
        assert!(endless.is_empty());
    }
}
