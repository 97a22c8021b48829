//! A thin event queue over epoll(7): descriptors are registered under a token, level triggered.

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

pub use nix::sys::epoll::EpollFlags as Flags;

/// Readable (or closed).
pub const READ: EpollFlags = EpollFlags::EPOLLIN.union(EpollFlags::EPOLLRDHUP);
/// Readable or writable.
pub const READ_WRITE: EpollFlags = READ.union(EpollFlags::EPOLLOUT);

/// Most events taken at a time; more stay queued in the kernel.
pub const BATCH: usize = 256;

/// What happened to a descriptor.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    /// The token it was registered under.
    pub token: u64,
    /// What epoll reported.
    pub flags: EpollFlags,
}

/// An epoll instance.
#[derive(Debug)]
pub struct Poller {
    epoll: Epoll,
}

impl Poller {
    /// A new, close-on-exec instance.
    ///
    /// # Errors
    /// When the process or the system is out of descriptors.
    pub fn new() -> io::Result<Poller> {
        Ok(Poller { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)? })
    }

    /// Registers a descriptor.
    ///
    /// # Errors
    /// As epoll_ctl(2).
    pub fn add(&self, fd: impl AsFd, token: u64, flags: EpollFlags) -> io::Result<()> {
        Ok(self.epoll.add(fd, EpollEvent::new(flags, token))?)
    }

    /// Changes what is waited for.
    ///
    /// # Errors
    /// As epoll_ctl(2).
    pub fn modify(&self, fd: impl AsFd, token: u64, flags: EpollFlags) -> io::Result<()> {
        Ok(self.epoll.modify(fd, &mut EpollEvent::new(flags, token))?)
    }

    /// Forgets a descriptor. Closing the last copy of one does the same.
    pub fn remove(&self, fd: impl AsFd) {
        let _ = self.epoll.delete(fd);
    }

    /// Waits until something happens or `until` has come (`None`: for ever), and puts the events
    /// into `events`, replacing what was there. An interruption by a signal is an empty answer.
    ///
    /// # Errors
    /// As epoll_wait(2), interruption excepted.
    pub fn wait(&self, until: Option<Instant>, events: &mut Vec<Event>) -> io::Result<()> {
        self.wait_for(timeout(until), events)
    }

    /// The same without waiting: what has happened by now.
    ///
    /// # Errors
    /// As epoll_wait(2), interruption excepted.
    pub fn take(&self, events: &mut Vec<Event>) -> io::Result<()> {
        self.wait_for(EpollTimeout::ZERO, events)
    }

    fn wait_for(&self, timeout: EpollTimeout, events: &mut Vec<Event>) -> io::Result<()> {
        events.clear();
        let mut raw = [EpollEvent::empty(); BATCH];
        let count = match self.epoll.wait(&mut raw, timeout) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(e) => return Err(e.into()),
        };
        events.extend(raw.iter().take(count).map(|e| Event { token: e.data(), flags: e.events() }));
        Ok(())
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

/// Milliseconds until `until`, rounded up so that the time has come when the wait ends.
fn timeout(until: Option<Instant>) -> EpollTimeout {
    let Some(until) = until else { return EpollTimeout::NONE };
    let left = until.saturating_duration_since(Instant::now());
    let rounded = left + Duration::from_micros(999);
    EpollTimeout::try_from(rounded).unwrap_or(EpollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn reports_tokens_and_waits_until_a_time() {
        let poller = Poller::new().unwrap();
        let (mut a, b) = UnixStream::pair().unwrap();
        poller.add(&b, 7, READ).unwrap();
        let mut events = Vec::new();
        let until = Instant::now() + Duration::from_millis(5);
        poller.wait(Some(until), &mut events).unwrap();
        assert!(events.is_empty());
        assert!(Instant::now() >= until);
        a.write_all(b"x").unwrap();
        poller.wait(None, &mut events).unwrap();
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].token, 7);
    }
}
