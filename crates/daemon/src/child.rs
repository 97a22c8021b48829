//! Children that do not outlive their parent, have a process group of their own, can be given a time
//! limit, and are ended in two steps: asked by SIGTERM, and when that does not help by SIGKILL.
//! Nothing here waits: the owner's loop looks at [`Child::deadline`] and calls [`Child::on_time`];
//! that a child has ended comes from [`crate::process::next_ended`].

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpid, getppid};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Who is asked to end. SIGKILL, which nobody can pass on to their own children, always goes to the
/// whole process group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The child alone: a daemon, which ends its own children in its own order.
    Child,
    /// Its whole process group: a command, a shell script for instance, and what it runs.
    Group,
}

/// What a deadline that had come was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overdue {
    /// The time limit: it has been asked to end now.
    Limit,
    /// The time it had for ending when asked to: it has been killed now.
    Grace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Runs { limit: Option<(Instant, Duration)> },
    Ends { kill_at: Instant },
    Killed,
}

/// A child that has not been collected. Its owner forgets it when it is.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    asked: Asked,
    phase: Phase,
}

/// Starts a child in a process group of its own that gets SIGTERM when this process ends, however
/// that happens.
///
/// # Errors
/// When it cannot be started; the text names the program.
pub fn spawn(command: &mut Command, asked: Asked) -> io::Result<Child> {
    tie_to_this_process(command);
    spawn_untied(command, asked)
}

/// The same for a child that stays when this process ends: somebody else has to look after it then.
///
/// # Errors
/// As [`spawn`].
pub fn spawn_untied(command: &mut Command, asked: Asked) -> io::Result<Child> {
    let started = command.process_group(0).spawn().map_err(|e| {
        let program = command.get_program().to_string_lossy();
        io::Error::new(e.kind(), format!("cannot start {program}: {e}"))
    })?;
    let pid = i32::try_from(started.id()).map_err(io::Error::other)?;
    Ok(Child { pid: Pid::from_raw(pid), asked, phase: Phase::Runs { limit: None } })
}

/// Has the child get SIGTERM when this process ends (prctl(2), `PR_SET_PDEATHSIG`). Its own children
/// do not inherit that: a daemon which a start script leaves behind stays.
#[allow(unsafe_code)]
fn tie_to_this_process(command: &mut Command) {
    let parent = getpid();
    // SAFETY: between fork and exec only prctl(2) and getppid(2) are called, which are async-signal-safe
    // and take no memory. The standard library has no other way to set this.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
            // A parent that ended before the call above sends nothing any more.
            if getppid() == parent { Ok(()) } else { Err(io::ErrorKind::Interrupted.into()) }
        });
    }
}

impl Child {
    /// Its process id, which is its process group's too.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Whether it has been told to end, or has exceeded its limit.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        !matches!(self.phase, Phase::Runs { .. })
    }

    /// Gives it a time limit: when `at` has come it is asked to end, and killed after `grace`.
    pub fn limit(&mut self, at: Instant, grace: Duration) {
        if let Phase::Runs { limit } = &mut self.phase {
            *limit = Some((at, grace));
        }
    }

    /// Asks it to end, and has it killed if it still runs after `grace`. Once is enough.
    pub fn stop(&mut self, now: Instant, grace: Duration) {
        if self.is_ending() {
            return;
        }
        self.phase = Phase::Ends { kill_at: now + grace };
        // It may have ended already, which is what was wanted.
        let _ = match self.asked {
            Asked::Child => kill(self.pid, Signal::SIGTERM),
            Asked::Group => killpg(self.pid, Signal::SIGTERM),
        };
    }

    /// Ends it and all of its process group, without asking.
    pub fn kill(&mut self) {
        self.phase = Phase::Killed;
        let _ = killpg(self.pid, Signal::SIGKILL);
    }

    /// When [`Child::on_time`] wants to be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Runs { limit } => limit.map(|(at, _)| at),
            Phase::Ends { kill_at } => Some(kill_at),
            Phase::Killed => None,
        }
    }

    /// Does what is due at `now`; says what that was for.
    pub fn on_time(&mut self, now: Instant) -> Option<Overdue> {
        match self.phase {
            Phase::Runs { limit: Some((at, grace)) } if at <= now => {
                self.stop(now, grace);
                Some(Overdue::Limit)
            }
            Phase::Ends { kill_at } if kill_at <= now => {
                self.kill();
                Some(Overdue::Grace)
            }
            _ => None,
        }
    }
}

/// A program of the suite: the one beside this process's own, else `installed`.
#[must_use]
pub fn beside_us(name: &str, installed: &str) -> String {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(name)));
    match beside {
        Some(path) if path.is_file() => path.to_string_lossy().into_owned(),
        _ => installed.to_owned(),
    }
}

/// The words of a command line as lvs.cf has them: split at blanks, no quotes, no shell. `None` when
/// there is none.
#[must_use]
pub fn words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let blank = |b: &u8| *b == b' ' || *b == b'\t';
    let words = line.split(blank).filter(|word| !word.is_empty()).map(<[u8]>::to_vec);
    Some(words.collect::<Vec<_>>()).filter(|words| !words.is_empty())
}

/// A command from its words. Its directory is `/`, since that is a daemon's.
#[must_use]
pub fn command(words: &[Vec<u8>]) -> Command {
    let mut words = words.iter().map(|word| OsStr::from_bytes(word));
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).current_dir(Path::new("/"));
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_at_blanks() {
        let cases: [(&[u8], &[&[u8]]); 4] = [
            (b"/bin/x  start\t'a b' ", &[b"/bin/x", b"start", b"'a", b"b'"]),
            (b"x", &[b"x"]),
            (b" \t", &[]),
            (b"", &[]),
        ];
        for (line, want) in cases {
            let found = words(line).unwrap_or_default();
            assert_eq!(found, want, "{}", line.escape_ascii());
        }
    }
}
