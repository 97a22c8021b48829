//! Children of a daemon: who has ended, and how.

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, waitpid};
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
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    loop {
        match wait_any(flags) {
            Ok(found) => return found,
            Err(Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
}

/// Collects an ended child (see [`next_ended`]).
pub fn collect(pid: i32) {
    while waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)) == Err(Errno::EINTR) {}
}

/// The name of a process by proc(5), whose pid is a number or `self`. Of `stat`, not of `comm`, which is
/// younger (Linux 2.6.33).
#[must_use]
pub fn name(pid: impl fmt::Display) -> Option<String> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    name_in(&String::from_utf8_lossy(&stat)).map(str::to_owned)
}

/// It stands in parentheses and may have any in it; behind the last there are numbers only.
fn name_in(stat: &str) -> Option<&str> {
    let (_, rest) = stat.split_once('(')?;
    rest.rsplit_once(')').map(|(name, _)| name)
}

/// waitid(2) for any child. Signal numbers are taken as they come: nix knows only the named ones, and
/// a child ended by a real-time signal would be an error that hides all children behind it.
#[allow(unsafe_code)]
fn wait_any(flags: libc::c_int) -> Result<Option<(i32, Ended)>, Errno> {
    // SAFETY: siginfo_t is plain C data for which zeroes are valid; waitid fills it in. After success
    // si_pid and si_status are the members that hold for SIGCHLD, and zero where no child has ended.
    let (pid, code, status) = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        Errno::result(libc::waitid(libc::P_ALL, 0, &raw mut info, flags))?;
        (info.si_pid(), info.si_code, info.si_status())
    };
    let how =
        if code == libc::CLD_EXITED { Ended::Exited(status) } else { Ended::Signaled(status) };
    Ok((pid != 0).then_some((pid, how)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Waits for the end of a shell that runs `script`, the only child while it runs.
    fn end_of(script: &str) -> Ended {
        #[allow(clippy::zombie_processes)]
        let child = Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let ended = loop {
            if let Some((ended, how)) = next_ended() {
                assert_eq!(ended, pid);
                break how;
            }
            std::thread::yield_now();
        };
        assert_eq!(next_ended(), Some((pid, ended)), "still there until it is collected");
        collect(pid);
        assert_eq!(next_ended(), None);
        ended
    }

    // One test: two would collect each other's children.
    #[test]
    fn ends_are_seen_before_the_pid_is_given_back() {
        assert_eq!(end_of("exit 3"), Ended::Exited(3));
        assert_eq!(end_of("kill -9 $$"), Ended::Signaled(9));
        assert_eq!(end_of("kill -40 $$"), Ended::Signaled(40), "a signal without a name");
        assert_eq!(Ended::Exited(3).to_string(), "exited with status 3");
        assert_eq!(Ended::Signaled(9).to_string(), "terminated with signal 9");
    }

    #[test]
    fn names_may_have_anything_in_them() {
        assert_eq!(name_in("12 (pulse) S 1 12 12 0 -1 4202816"), Some("pulse"));
        assert_eq!(name_in("12 (a) S 1 (b) c) R 1 12 12 0 -1 4202816"), Some("a) S 1 (b) c"));
        assert_eq!(name_in("12 pulse S"), None);
        assert!(name("self").is_some_and(|own| Some(own) == name(std::process::id())));
        assert_eq!(name(i32::MAX), None);
    }
}
