//! Telling a parent that start-up is done: the original's named semaphore, and the datagrams of
//! sd_notify(3), which systemd and the suite's own pulse understand.

use crate::poll::{Flags, Poller};
use nix::errno::Errno;
use std::ffi::{CStr, OsStr};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The semaphore on which the original pulse waits for lvsd (sem_overview(7)).
pub const LVS_SEMAPHORE: &CStr = c"/lvs";
/// The environment variable that names the socket for reports. It is for the process that was given
/// it: take it from the environment of whatever that process starts.
pub const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";
/// Most bytes in a datagram: systemd reads no more (PIPE_BUF).
const LONGEST: usize = 4096;

/// A daemon's reports to whoever has started it: lines `NAME=VALUE`, many to a datagram, over the
/// socket that [`NOTIFY_SOCKET`] names. Nothing blocks: what the receiver has no room for waits, in
/// its order. Without such a socket, and when the receiver is gone, reports go nowhere.
#[derive(Debug, Default)]
pub struct Reports {
    socket: Option<UnixDatagram>,
    /// Lines, each with its end, that have not been sent.
    waiting: String,
    /// Whether a poller reports when more can be sent.
    watched: bool,
}

impl Reports {
    /// Reports to the socket that the environment names, if it does.
    #[must_use]
    pub fn from_environment() -> Reports {
        let Some(name) = std::env::var_os(NOTIFY_SOCKET) else { return Reports::default() };
        Reports::to(&name).unwrap_or_else(|error| {
            log::debug!("{NOTIFY_SOCKET} {}: {error}", name.display());
            Reports::default()
        })
    }

    /// Reports to this socket: a path, or `@` and an abstract name.
    ///
    /// # Errors
    /// When nobody listens there, or the name is too long for a socket.
    pub fn to(name: &OsStr) -> io::Result<Reports> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect_addr(&address(name)?)?;
        Ok(Reports { socket: Some(socket), ..Reports::default() })
    }

    /// Queues a line; [`Reports::flush_in`] sends it.
    pub fn tell(&mut self, line: &str) {
        if self.socket.is_some() {
            self.waiting.push_str(line);
            self.waiting.push('\n');
        }
    }

    /// Sends what is queued, as far as there is room. While something waits, `poller` reports under
    /// `token` when this is to be called again.
    pub fn flush_in(&mut self, poller: &Poller, token: u64) {
        let Some(socket) = &self.socket else { return };
        let mut sent = 0;
        let outcome = loop {
            match next_datagram(&self.waiting[sent..]) {
                "" => break Ok(()),
                datagram => match socket.send(datagram.as_bytes()) {
                    Ok(_) => sent += datagram.len(),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => break Err(error),
                },
            }
        };
        self.waiting.drain(..sent);
        match outcome {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                log::debug!("{NOTIFY_SOCKET}: {error}");
                // Closing it takes it from the poller too.
                *self = Reports::default();
            }
            Err(_) if !self.watched => {
                self.watched = poller.add(socket, token, Flags::EPOLLOUT).is_ok();
            }
            Ok(()) if self.watched => {
                poller.remove(socket);
                self.watched = false;
            }
            _ => {}
        }
    }
}

/// As many whole lines as fit in a datagram, but at least one.
fn next_datagram(lines: &str) -> &str {
    let room = lines.as_bytes().get(..LONGEST).unwrap_or(lines.as_bytes());
    let whole = room.iter().rposition(|byte| *byte == b'\n');
    let end = whole.or_else(|| lines.find('\n')).map_or(lines.len(), |at| at + 1);
    lines.get(..end).unwrap_or(lines)
}

fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes().strip_prefix(b"@") {
        Some(hidden) => SocketAddr::from_abstract_name(hidden),
        None => SocketAddr::from_pathname(name),
    }
}

/// Posts a named semaphore that somebody else has made. That nobody has made it means that nobody
/// waits: it is not created, since a value left in it would satisfy a later waiter at once.
///
/// # Errors
/// As sem_open(3) and sem_post(3), a missing semaphore excepted.
#[allow(unsafe_code)]
pub fn post(name: &CStr) -> io::Result<()> {
    // SAFETY: `name` is a C string; sem_open reads it and returns a pointer to a mapped semaphore
    // or SEM_FAILED, which is checked before use; the pointer is used only until sem_close. Neither
    // nix nor the standard library has named semaphores.
    unsafe {
        let semaphore = libc::sem_open(name.as_ptr(), 0);
        if semaphore == libc::SEM_FAILED {
            return match Errno::last() {
                Errno::ENOENT => Ok(()),
                errno => Err(errno.into()),
            };
        }
        let posted = libc::sem_post(semaphore);
        let errno = Errno::last();
        libc::sem_close(semaphore);
        if posted == 0 { Ok(()) } else { Err(errno.into()) }
    }
}

/// Sends a state to the socket named in [`NOTIFY_SOCKET`], if there is one.
///
/// # Errors
/// When the socket is named and cannot be written.
pub fn notify(state: &str) -> io::Result<()> {
    let Some(name) = std::env::var_os(NOTIFY_SOCKET) else { return Ok(()) };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(state.as_bytes(), &address(&name)?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::{CString, OsString};

    const TOKEN: u64 = 7;

    #[test]
    fn reports_wait_for_a_slow_receiver_and_keep_their_order() {
        let name = format!("@ready-test-{}", std::process::id());
        let receiver = UnixDatagram::bind_addr(&address(OsStr::new(&name)).unwrap()).unwrap();
        receiver.set_nonblocking(true).unwrap();
        let poller = Poller::new().unwrap();
        let mut reports = Reports::to(&OsString::from(name)).unwrap();
        let lines: Vec<String> = (0..50_000).map(|n| format!("X_LINE={n}")).collect();
        for line in &lines {
            reports.tell(line);
        }
        reports.flush_in(&poller, TOKEN);
        assert!(!reports.waiting.is_empty() && reports.watched, "a queue without end");
        let mut events = Vec::new();
        let mut got = String::new();
        let mut chunk = [0; 8192];
        while got.lines().count() < lines.len() {
            let n = receiver.recv(&mut chunk).unwrap();
            assert!(n <= LONGEST && chunk[n - 1] == b'\n');
            got += std::str::from_utf8(&chunk[..n]).unwrap();
            poller.take(&mut events).unwrap();
            if let [event] = events[..] {
                assert_eq!(event.token, TOKEN);
                reports.flush_in(&poller, TOKEN);
            }
        }
        assert!(got.lines().eq(lines.iter()));
        assert!(reports.waiting.is_empty() && !reports.watched);
        // One that is gone is not waited for.
        drop(receiver);
        reports.tell("X_LINE=last");
        reports.flush_in(&poller, TOKEN);
        assert!(reports.socket.is_none());
        assert!(Reports::to(OsStr::new("/nonexistent/notify")).is_err());
    }

    #[test]
    fn a_datagram_has_whole_lines() {
        let long = "x".repeat(LONGEST);
        let cases = [
            (String::new(), 0),
            ("a=1\nb=2\n".to_owned(), 8),
            (format!("a\n{long}\nb\n"), 2),
            (format!("{long}\nb\n"), LONGEST + 1),
        ];
        for (lines, length) in cases {
            assert_eq!(next_datagram(&lines).len(), length);
        }
    }

    #[test]
    #[allow(unsafe_code)]
    fn a_waiter_is_woken_and_no_semaphore_is_made() {
        let name = CString::new(format!("/ready-test-{}", std::process::id())).unwrap();
        post(&name).unwrap();
        // SAFETY: plain use of the semaphore calls on a name of our own.
        unsafe {
            assert_eq!(libc::sem_open(name.as_ptr(), 0), libc::SEM_FAILED, "made by post");
            let semaphore = libc::sem_open(name.as_ptr(), libc::O_CREAT, 0o600, 0);
            assert_ne!(semaphore, libc::SEM_FAILED);
            assert_ne!(libc::sem_trywait(semaphore), 0);
            post(&name).unwrap();
            assert_eq!(libc::sem_trywait(semaphore), 0);
            libc::sem_close(semaphore);
            libc::sem_unlink(name.as_ptr());
        }
    }
}
