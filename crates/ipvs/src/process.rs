//! Running a program to its end, in bounded time and with bounded output.

use std::ffi::OsStr;
use std::fmt;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// The most a program may say: a table of some 500,000 servers.
const MAX_OUTPUT: usize = 64 << 20;
/// How often a program is looked after that lives on although it has closed its outputs, or has
/// ended but left them to somebody else.
const SLICE: Duration = Duration::from_millis(50);

/// What a program said.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// Why a program did not come to its end.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It could not be started or followed.
    Io(io::Error),
    /// It was killed because it took longer than this.
    TimedOut(Duration),
    /// It was killed because it said too much.
    TooMuch,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Io(error) => error.fmt(f),
            Trouble::TimedOut(limit) => {
                write!(f, "killed, it had not ended after {} s", limit.as_secs_f32())
            }
            Trouble::TooMuch => write!(f, "killed, it wrote more than {MAX_OUTPUT} bytes"),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble::Io(error)
    }
}

/// Runs a program, without a shell, with nothing to read, in the C locale and a process group of
/// its own. Unless it ends in time the whole group is killed.
pub(crate) fn run<A: AsRef<OsStr>>(
    program: &Path,
    args: impl IntoIterator<Item = A>,
    limit: Duration,
) -> Result<Output, Trouble> {
    let mut child = Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let result = follow(&mut child, limit);
    if result.is_err() {
        end(&mut child);
    }
    result
}

/// Kills the program and what it has started.
fn end(child: &mut Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        // It may have ended by now: then there is nobody to kill.
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let _ = child.wait();
}

/// Reads both outputs until they end, then waits for the program.
fn follow(child: &mut Child, limit: Duration) -> Result<Output, Trouble> {
    let deadline = Instant::now() + limit;
    let remaining = || {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(Trouble::TimedOut(limit)) } else { Ok(left.min(SLICE)) }
    };
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    while out.is_some() || err.is_some() {
        let left = remaining()?;
        let out_ready = out.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN));
        let err_ready = err.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN));
        let mut waiting: Vec<PollFd<'_>> = out_ready.into_iter().chain(err_ready).collect();
        let ready = wait_for(&mut waiting, left)?;
        if ready == 0 {
            if child.try_wait()?.is_some() {
                break; // Somebody else holds the pipes open.
            }
            continue;
        }
        let mut ready = waiting.iter().map(|fd| fd.any().unwrap_or(true)).collect::<Vec<_>>();
        let err_ready = err.is_some() && ready.pop().unwrap_or(false);
        let out_ready = out.is_some() && ready.pop().unwrap_or(false);
        if out_ready {
            drain(&mut out, &mut stdout)?;
        }
        if err_ready {
            drain(&mut err, &mut stderr)?;
        }
    }
    let mut pause = Duration::from_millis(1);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        wait_for(&mut [], remaining()?.min(pause))?;
        pause = (pause * 2).min(SLICE);
    };
    Ok(Output { status, stdout, stderr })
}

/// Polls, rounding up to whole milliseconds. Returns how many are ready.
fn wait_for(fds: &mut [PollFd<'_>], time: Duration) -> Result<libc::c_int, io::Error> {
    let milliseconds = u16::try_from(time.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
    match poll(fds, PollTimeout::from(milliseconds)) {
        Err(nix::errno::Errno::EINTR) => Ok(0),
        other => Ok(other?),
    }
}

/// Takes what a pipe has, and closes it at its end.
fn drain(pipe: &mut Option<impl Read>, into: &mut Vec<u8>) -> Result<(), Trouble> {
    let Some(reader) = pipe else { return Ok(()) };
    let mut chunk = [0; 16384];
    match reader.read(&mut chunk) {
        Ok(0) => *pipe = None,
        Ok(n) => into.extend_from_slice(chunk.get(..n).unwrap_or_default()),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
        Err(error) => return Err(error.into()),
    }
    if into.len() > MAX_OUTPUT { Err(Trouble::TooMuch) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> Result<Output, Trouble> {
        run(Path::new("/bin/sh"), ["-c", script], limit)
    }

    const PLENTY: Duration = Duration::from_secs(60);

    #[test]
    fn both_outputs_and_the_status_come_back() {
        let output = shell("echo out; echo err >&2; exit 3", PLENTY).unwrap();
        assert_eq!(
            (output.stdout.as_slice(), output.stderr.as_slice(), output.status.code()),
            (&b"out\n"[..], &b"err\n"[..], Some(3))
        );
        let much = shell("head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2", PLENTY).unwrap();
        assert_eq!((much.stdout.len(), much.stderr.len()), (300_000, 300_000));
    }

    #[test]
    fn a_program_that_does_not_end_is_killed_with_its_children() {
        let result = shell("echo $$; sleep 1000 & sleep 1000", Duration::from_millis(300));
        assert!(matches!(result, Err(Trouble::TimedOut(_))), "{result:?}");
        let silent = shell("exec >&- 2>&-; sleep 1000", Duration::from_millis(300));
        assert!(matches!(silent, Err(Trouble::TimedOut(_))), "{silent:?}");
    }

    #[test]
    fn what_a_program_leaves_behind_holds_nobody_up() {
        // The limit is long: the test would take a minute if the pipe's end were awaited.
        let before = Instant::now();
        let output = shell("sleep 45 & echo $!", PLENTY).unwrap();
        assert!(before.elapsed() < Duration::from_secs(40));
        let pid: i32 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }

    #[test]
    fn what_is_not_there_cannot_be_run() {
        let result = run(Path::new("/nonexistent/ipvsadm"), ["-C"], PLENTY);
        assert!(matches!(result, Err(Trouble::Io(e)) if e.kind() == io::ErrorKind::NotFound));
    }
}
