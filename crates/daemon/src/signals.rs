//! Signals as a file descriptor, so that an event loop sees them like any other event.

use nix::sys::signal::SigSet;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

pub use signal_hook::consts::{SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

/// The signals of a process that are handled in its loop.
#[derive(Debug)]
pub struct Signals {
    delivery: SignalDelivery<UnixStream, SignalOnly>,
}

impl Signals {
    /// Takes over the given signals of this process, then unblocks all: a mask that whoever started
    /// this process has left behind would make it deaf, and its children too. A signal that came
    /// while it was blocked, before the program ran even, is therefore not lost. Call it before any
    /// thread is started.
    ///
    /// # Errors
    /// When no socket pair can be made or a signal cannot be caught.
    pub fn new(signals: &[i32]) -> io::Result<Signals> {
        let (read, write) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        let delivery = SignalDelivery::with_pipe(read, write, SignalOnly, signals)?;
        SigSet::empty().thread_set_mask()?;
        Ok(Signals { delivery })
    }

    /// Takes over more signals.
    ///
    /// # Errors
    /// When a signal cannot be caught.
    pub fn add(&self, signals: &[i32]) -> io::Result<()> {
        signals.iter().try_for_each(|signal| self.delivery.handle().add_signal(*signal))
    }

    /// The signals that have come since the last call, each once.
    pub fn pending(&mut self) -> Vec<i32> {
        self.delivery.pending().collect()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.delivery.get_read().as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    #[test]
    fn arrive_on_the_descriptor() {
        let mut left_behind = SigSet::empty();
        left_behind.add(nix::sys::signal::SIGUSR2);
        left_behind.thread_block().unwrap();
        nix::sys::signal::raise(nix::sys::signal::SIGUSR2).unwrap();
        let mut signals = Signals::new(&[SIGUSR2]).unwrap();
        assert_eq!(signals.pending(), [SIGUSR2], "it was pending already");
        signals.add(&[SIGUSR1]).unwrap();
        assert!(signals.pending().is_empty());
        nix::sys::signal::raise(nix::sys::signal::SIGUSR1).unwrap();
        assert_eq!(signals.pending(), [SIGUSR1]);
        nix::sys::signal::raise(nix::sys::signal::SIGUSR2).unwrap();
        let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, PollTimeout::from(5000u16)).unwrap(), 1);
        assert_eq!(signals.pending(), [SIGUSR2]);
        assert!(signals.pending().is_empty());
    }
}
