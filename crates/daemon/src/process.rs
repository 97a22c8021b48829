//! Children of a daemon: who has ended, and how.

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use std::fmt;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this status.
    Exited(i32),
    /// By a signal, with this number.
    Signaled(i32),
}

impl Ended {
    /// Status 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == Ended::Exited(0)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Exited(status) => write!(f, "exited with status {status}"),
            Ended::Signaled(signal) => write!(f, "terminated with signal {signal}"),
        }
    }
}

/// A child that has ended and is still to be collected, so that its pid is its own until
/// [`collect`] is called. `None` when there is none.
#[must_use]
pub fn next_ended() -> Option<(i32, Ended)> {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    loop {
        match waitid(Id::All, flags) {
            Ok(WaitStatus::Exited(pid, status)) => {
                return Some((pid.as_raw(), Ended::Exited(status)));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                return Some((pid.as_raw(), Ended::Signaled(signal as i32)));
            }
            Err(Errno::EINTR) => {}
            _ => return None,
        }
    }
}

/// Collects an ended child (see [`next_ended`]).
pub fn collect(pid: i32) {
    while waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)) == Err(Errno::EINTR) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn ends_are_seen_before_the_pid_is_given_back() {
        #[allow(clippy::zombie_processes)]
        let child = Command::new("/bin/sh").args(["-c", "exit 3"]).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let ended = loop {
            if let Some((ended, how)) = next_ended() {
                assert_eq!(ended, pid);
                break how;
            }
            std::thread::yield_now();
        };
        assert_eq!(ended, Ended::Exited(3));
        assert_eq!(ended.to_string(), "exited with status 3");
        assert_eq!(next_ended(), Some((pid, ended)));
        collect(pid);
        assert_eq!(next_ended(), None);
        assert_eq!(Ended::Signaled(9).to_string(), "terminated with signal 9");
    }
}
