//! Programs on a node: started, watched line by line, and ended.

use std::{
    ffi::OsString,
    fmt,
    io::{BufRead, BufReader, Read, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, OnceLock, PoisonError, RwLock},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

use crate::{
    board::{Board, TimedOut},
    namespace::Namespace,
};

/// A program and its arguments: a line that is split at blanks, as in
/// `node.run("ipvsadm -L -n")`, or a [`Command`] where that is not enough.
///
/// Programs of this suite are found by their bare names: the directory named by the environment
/// variable `PIRANHA_BIN` (`scripts/test` sets it) comes first in the `PATH`.
#[derive(Debug)]
pub struct Program(Command);

impl From<&str> for Program {
    fn from(line: &str) -> Self {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        Self(command)
    }
}

impl From<String> for Program {
    fn from(line: String) -> Self {
        line.as_str().into()
    }
}

impl From<&String> for Program {
    fn from(line: &String) -> Self {
        line.as_str().into()
    }
}

impl From<Command> for Program {
    fn from(command: Command) -> Self {
        Self(command)
    }
}

impl Program {
    /// Ready to be started there, in a process group of its own, with nothing on its stdin.
    pub(crate) fn in_namespace(self, namespace: &Namespace) -> Command {
        let mut command = self.on_its_own();
        namespace.confine(&mut command);
        command
    }

    fn on_its_own(self) -> Command {
        let mut command = self.0;
        if !command.get_envs().any(|(key, _)| key == "PATH") {
            command.env("PATH", search_path());
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        command
    }
}

/// See [`programs_first_in`].
static FIRST: OnceLock<PathBuf> = OnceLock::new();

/// Has programs looked for in `dir` first of all, before `PIRANHA_BIN`, in all of this process. It stays
/// with the first directory ever given.
pub fn programs_first_in(dir: PathBuf) {
    // That there is one already is no failure.
    let _ = FIRST.set(dir);
}

/// `PIRANHA_BIN`, the caller's `PATH`, and where an ordinary user's `PATH` does not lead.
fn search_path() -> OsString {
    let mut path = OsString::new();
    if let Some(first) = FIRST.get() {
        path.push(first);
        path.push(":");
    }
    if let Some(own) = std::env::var_os("PIRANHA_BIN") {
        // Programs start in "/": a relative directory would mean another one there.
        path.push(std::path::absolute(PathBuf::from(&own)).map_or(own, PathBuf::into_os_string));
        path.push(":");
    }
    path.push(std::env::var_os("PATH").unwrap_or_default());
    path.push(":/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin");
    path
}

/// Runs a command to its end with `input` on its stdin.
#[track_caller]
pub(crate) fn run_with_input(mut command: Command, input: &str) -> Output {
    command.stdin(Stdio::piped());
    let mut child = start(&mut command);
    if let Some(mut stdin) = child.stdin.take() {
        // It may end without reading: its status and its stderr tell.
        let _ = stdin.write_all(input.as_bytes());
    }
    child.wait_with_output().unwrap_or_else(|e| panic!("waiting for {command:?}: {e}"))
}

/// Runs lines of `ip` in a namespace, all by one process. Panics at the first that fails.
#[track_caller]
pub(crate) fn run_ip(namespace: &Namespace, batch: &str) {
    let output = run_with_input(Program::from("ip -batch -").in_namespace(namespace), batch);
    let (status, stderr) = (output.status, String::from_utf8_lossy(&output.stderr));
    assert!(status.success(), "ip -batch: {status}: {stderr}\nthe batch was:\n{batch}");
}

/// A child has copies of all our descriptors between its fork and its exec, so that a socket closed
/// at that time stays open, and a port stays open with it, for some milliseconds. Starting takes
/// this lock as a reader, closing a socket that must be closed takes it as a writer.
static STARTING: RwLock<()> = RwLock::new(());

/// Runs `close` while no child is between fork and exec. (`Command::spawn` returns after the exec.)
pub(crate) fn closing<T>(close: impl FnOnce() -> T) -> T {
    let _nobody_starts = STARTING.write().unwrap_or_else(PoisonError::into_inner);
    close()
}

#[track_caller]
pub(crate) fn start(command: &mut Command) -> Child {
    let starting = STARTING.read().unwrap_or_else(PoisonError::into_inner);
    let started = command.spawn();
    drop(starting);
    started.unwrap_or_else(|e| {
        let hint = match std::env::var("PIRANHA_BIN") {
            Ok(dir) => format!("PIRANHA_BIN is {dir}"),
            Err(_) => {
                "PIRANHA_BIN is not set: it names the directory of the suite's programs".to_owned()
            }
        };
        panic!("cannot start {command:?}: {e} ({hint})")
    })
}

/// Which of its outputs a program wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Its standard output.
    Stdout,
    /// Its standard error.
    Stderr,
}

/// A line that a program wrote.
#[derive(Clone, Debug)]
pub struct Line {
    /// When it was read.
    pub at: Instant,
    /// Where it was written to.
    pub stream: Stream,
    /// Without the newline; bytes that are not UTF-8 are replaced.
    pub text: String,
}

#[derive(Debug, Default)]
struct Progress {
    lines: Vec<Line>,
    /// Outputs that are still open, by it or by what it started.
    open: usize,
    status: Option<ExitStatus>,
}

/// A program that runs on a node. Dropping it kills it with its process group, and shows its output
/// when the test panics. What has left the group (a daemon) or outlived the program ends with the
/// [`Lab`](crate::Lab), or by [`Node::kill_all`](crate::Node::kill_all).
pub struct Running {
    name: String,
    pid: Pid,
    started: Instant,
    progress: Arc<Board<Progress>>,
    waiter: Option<thread::JoinHandle<()>>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.name, self.pid)
    }
}

impl Running {
    /// Starts a program on this machine itself, outside of any node: what needs no kernel of its own.
    #[track_caller]
    pub fn here(program: impl Into<Program>) -> Self {
        Self::start("here", program.into().on_its_own())
    }

    #[track_caller]
    pub(crate) fn start(node: &str, mut command: Command) -> Self {
        let name = format!("{node}: {}", command.get_program().to_string_lossy());
        let mut child = start(&mut command);
        let pid = Pid::from_raw(child.id().cast_signed());
        let progress = Arc::new(Board::new(Progress { open: 2, ..Progress::default() }));
        if let Some(stdout) = child.stdout.take() {
            read_lines(stdout, Stream::Stdout, &progress);
        }
        if let Some(stderr) = child.stderr.take() {
            read_lines(stderr, Stream::Stderr, &progress);
        }
        let board = Arc::clone(&progress);
        let waiter = thread::spawn(move || {
            // An error means that the status is lost; the wait for it must end all the same.
            let status = child.wait().unwrap_or_else(|_| ExitStatus::from_raw(-1));
            board.change(|progress| progress.status = Some(status));
        });
        Self { name, pid, started: Instant::now(), progress, waiter: Some(waiter) }
    }

    /// Its process id, as this process sees it; its group has the same.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().cast_unsigned()
    }

    /// All it has written so far.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        self.progress.look().lines.clone()
    }

    /// All it has written so far, as one text.
    #[must_use]
    pub fn text(&self) -> String {
        self.lines().into_iter().map(|line| line.text + "\n").collect()
    }

    /// Waits for the first line that contains `text`; one already written counts.
    ///
    /// # Errors
    /// None came within `limit`, or the program ended without one.
    pub fn wait_for(&self, text: &str, limit: Duration) -> Result<Line, TimedOut> {
        self.wait_count(text, 1, limit)
    }

    /// Waits for the `count`th line (from 1) that contains `text`, counted from the start.
    ///
    /// # Errors
    /// As [`Running::wait_for`].
    pub fn wait_count(&self, text: &str, count: usize, limit: Duration) -> Result<Line, TimedOut> {
        let found = self.progress.wait(limit, |progress| {
            let mut matching = progress.lines.iter().filter(|line| line.text.contains(text));
            match matching.nth(count.saturating_sub(1)) {
                Some(line) => Some(Some(line.clone())),
                None if progress.open == 0 && progress.status.is_some() => Some(None),
                None => None,
            }
        });
        found.flatten().ok_or_else(|| {
            let status = match self.progress.look().status {
                Some(status) => format!("it ended, {status}"),
                None => "it still runs".to_owned(),
            };
            let seen = self.text();
            let name = &self.name;
            TimedOut(format!(
                "{name}: no {text:?} ({count}.) within {limit:?}; {status}; it wrote:\n{seen}"
            ))
        })
    }

    /// Sends it a signal; see [`Running::signal_group`] for its children too.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill(self.pid, signal).unwrap_or_else(|e| panic!("{self:?}: {signal}: {e}"));
    }

    /// Sends a signal to it and to what it started, but for what left its process group.
    #[track_caller]
    pub fn signal_group(&self, signal: Signal) {
        killpg(self.pid, signal).unwrap_or_else(|e| panic!("{self:?}: {signal}: {e}"));
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.progress.look().status.is_none()
    }

    /// Waits for its end; the last of its output is in [`Running::lines`] then.
    ///
    /// # Errors
    /// It still runs after `limit`.
    pub fn wait_exit(&self, limit: Duration) -> Result<ExitStatus, TimedOut> {
        let status = self.progress.wait(limit, |progress| progress.status).ok_or_else(|| {
            TimedOut(format!("{self:?} still runs after {limit:?}; it wrote:\n{}", self.text()))
        })?;
        // Its pipes are read by other threads. They close at once, unless a child holds them.
        self.progress.wait(Duration::from_secs(1), |progress| (progress.open == 0).then_some(()));
        Ok(status)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_running() {
            // They fail only when it ended meanwhile. The second is for one that changed its group.
            let _ = killpg(self.pid, Signal::SIGKILL);
            let _ = kill(self.pid, Signal::SIGKILL);
        }
        if let Some(waiter) = self.waiter.take() {
            // It panics never, and returns as soon as the kernel has ended the process.
            let _ = waiter.join();
        }
        if thread::panicking() {
            let status = self.progress.look().status;
            eprintln!("---- {self:?}, {}", status.map_or_else(String::new, |s| s.to_string()));
            for Line { at, stream, text } in self.lines() {
                let mark = if stream == Stream::Stderr { "!" } else { " " };
                let since = at.saturating_duration_since(self.started);
                eprintln!("{:8.3} {mark} {text}", since.as_secs_f64());
            }
        }
    }
}

/// Puts the lines of a pipe on the board until it is closed. The thread is left to itself: a
/// daemon may hold the pipe longer than the test cares.
fn read_lines(pipe: impl Read + Send + 'static, stream: Stream, progress: &Arc<Board<Progress>>) {
    let board = Arc::clone(progress);
    thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes).is_ok_and(|n| n > 0) {
            if bytes.last() == Some(&b'\n') {
                bytes.pop();
            }
            let text = String::from_utf8_lossy(&bytes).into_owned();
            board.change(|p| p.lines.push(Line { at: Instant::now(), stream, text }));
            bytes.clear();
        }
        board.change(|p| p.open -= 1);
    });
}
