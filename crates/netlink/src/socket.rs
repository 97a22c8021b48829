//! A netlink socket: requests out, answers in, each within a time.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use neli::consts::nl::{NlmF, Nlmsg};
use neli::consts::socket::{Msg, NlFamily};
use neli::socket::NlSocket;
use neli::utils::Groups;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{NetlinkAddr, connect, getsockopt, setsockopt, sockopt};

use crate::wire::{Head, Malformed, Message, Messages, Writer};

/// The kernel puts up to 32 KiB of a dump into one datagram, if the reader has room.
const DATAGRAM: usize = 64 << 10;

/// Why there is no (whole) answer.
#[derive(Debug)]
pub enum Trouble {
    /// The kernel refused.
    Refused(Errno),
    /// Answers were dropped for want of space.
    Overrun,
    /// An answer was longer than what we have room for.
    Truncated,
    /// What is dumped changed meanwhile.
    Interrupted,
    /// No answer in time.
    TimedOut,
    /// An answer that makes no sense.
    Malformed(Malformed),
    /// The socket does not work.
    Io(io::Error),
}

impl From<Malformed> for Trouble {
    fn from(malformed: Malformed) -> Self {
        Trouble::Malformed(malformed)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble::Io(error)
    }
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        Trouble::Io(errno.into())
    }
}

/// What came of a batch of requests.
#[derive(Debug)]
pub struct Outcome {
    /// The refused ones: place in the batch, and why.
    pub refused: Vec<(usize, Errno)>,
    /// If not `Ok`, what became of those not refused is not known.
    pub settled: Result<(), Trouble>,
}

/// A socket, close-on-exec, connected to the kernel and nobody else.
pub struct Socket {
    socket: NlSocket,
    sequence: u32,
    buffer: Vec<u8>,
    limit: Duration,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket")
            .field("fd", &self.socket.as_raw_fd())
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

impl Socket {
    /// Opens a socket in the network namespace of this thread. `limit` is how long the kernel may
    /// take for an answer.
    ///
    /// # Errors
    /// As socket(2), bind(2) and connect(2).
    pub fn open(family: NlFamily, limit: Duration) -> Result<Self, Trouble> {
        let socket = NlSocket::connect(family, None, Groups::empty())?;
        // Only who is connected to the kernel does not get messages from other processes.
        connect(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Socket { socket, sequence: 0, buffer: vec![0; DATAGRAM], limit })
    }

    /// Asks for the notices of these groups (`RTNLGRP_*`, counted from 1; at most 32).
    ///
    /// # Errors
    /// As setsockopt(2).
    pub fn subscribe(&self, groups: &[u32]) -> Result<(), Trouble> {
        for group in groups {
            let bit = 1_u32.checked_shl(group.wrapping_sub(1)).unwrap_or(0);
            self.socket.add_mcast_membership(Groups::new_bitmask(bit))?;
        }
        Ok(())
    }

    /// Asks for room for answers, in bytes. Beyond net.core.rmem_max it takes privileges, and is
    /// quietly reduced without.
    ///
    /// # Errors
    /// As setsockopt(2).
    pub fn set_receive_buffer(&self, bytes: usize) -> Result<(), Trouble> {
        // Beyond net.core.rmem_max only with CAP_NET_ADMIN in the first user namespace.
        if setsockopt(self, sockopt::RcvBufForce, &bytes).is_err() {
            setsockopt(self, sockopt::RcvBuf, &bytes)?;
        }
        Ok(())
    }

    /// The room there really is for answers, in bytes as the kernel counts them: at least half a
    /// kilobyte for each.
    ///
    /// # Errors
    /// As getsockopt(2).
    pub fn receive_buffer(&self) -> Result<usize, Trouble> {
        Ok(getsockopt(self, sockopt::RcvBuf)?)
    }

    /// The room there is for requests, likewise.
    ///
    /// # Errors
    /// As getsockopt(2).
    pub fn send_buffer(&self) -> Result<usize, Trouble> {
        Ok(getsockopt(self, sockopt::SndBuf)?)
    }

    /// A number for a request that no other has.
    pub fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// One request, one answer. `head` has a sequence number of [`Self::next_sequence`].
    ///
    /// # Errors
    /// What `decode` says, and everything in [`Trouble`].
    pub fn request<T>(
        &mut self,
        head: Head<'_>,
        body: impl FnOnce(&mut Writer),
        decode: impl FnOnce(&Message<'_>) -> Result<T, Malformed>,
    ) -> Result<T, Trouble> {
        let mut writer = Writer::default();
        writer.message(head, body);
        self.send(writer.bytes())?;
        let deadline = Instant::now() + self.limit;
        loop {
            for message in self.receive(deadline)? {
                let message = message?;
                if message.sequence != head.sequence {
                    continue;
                }
                if message.kind == u16::from(Nlmsg::Error) {
                    return Err(failure(&message)?.unwrap_or(MISSING));
                }
                return Ok(decode(&message)?);
            }
        }
    }

    /// One request, any number of answers, which `each` is given. The socket is of no further use
    /// after an error other than [`Trouble::Refused`]: the dump may go on.
    ///
    /// # Errors
    /// What `each` says, and everything in [`Trouble`].
    pub fn dump(
        &mut self,
        kind: u16,
        fixed: &[u8],
        body: impl FnOnce(&mut Writer),
        mut each: impl FnMut(&Message<'_>) -> Result<(), Malformed>,
    ) -> Result<(), Trouble> {
        let sequence = self.next_sequence();
        let mut writer = Writer::default();
        writer.message(Head { kind, flags: NlmF::DUMP, sequence, fixed }, body);
        self.send(writer.bytes())?;
        let mut interrupted = false;
        loop {
            // The limit is on silence, not on the whole: a long table may take its time.
            let deadline = Instant::now() + self.limit;
            for message in self.receive(deadline)? {
                let message = message?;
                if message.sequence != sequence {
                    continue;
                }
                interrupted |= message.flags.contains(NlmF::DUMP_INTR);
                if message.kind == u16::from(Nlmsg::Error) {
                    return Err(failure(&message)?.unwrap_or(MISSING));
                }
                if message.kind == u16::from(Nlmsg::Done) {
                    return match failure(&message)? {
                        Some(trouble) => Err(trouble),
                        None if interrupted => Err(Trouble::Interrupted),
                        None => Ok(()),
                    };
                }
                each(&message)?;
            }
        }
    }

    /// Sends a batch of `count` requests with ascending sequence numbers from `first` on, of which
    /// the last asks for an acknowledgement (`NLM_F_ACK`), and gathers what was refused: the kernel
    /// works through a batch in order and answers unasked only to those.
    pub fn batch(&mut self, writer: &Writer, first: u32, count: usize) -> Outcome {
        let mut refused = Vec::new();
        let settled =
            self.send(writer.bytes()).and_then(|()| self.gather(first, count, &mut refused));
        Outcome { refused, settled }
    }

    fn gather(
        &mut self,
        first: u32,
        count: usize,
        refused: &mut Vec<(usize, Errno)>,
    ) -> Result<(), Trouble> {
        let mut deadline = Instant::now() + self.limit;
        let mut overrun = false;
        loop {
            let messages = match self.receive(deadline) {
                Err(Trouble::Overrun) => {
                    // The last answer may be among the lost: all there are, are here by now.
                    overrun = true;
                    deadline = Instant::now();
                    continue;
                }
                Err(Trouble::TimedOut) if overrun => return Err(Trouble::Overrun),
                other => other?,
            };
            for message in messages {
                let message = message?;
                let place = usize::try_from(message.sequence.wrapping_sub(first));
                let place = place.unwrap_or(usize::MAX);
                if place >= count || message.kind != u16::from(Nlmsg::Error) {
                    continue;
                }
                match message.errno()? {
                    0 => {}
                    errno => refused.push((place, Errno::from_raw(errno))),
                }
                if place + 1 == count {
                    return if overrun { Err(Trouble::Overrun) } else { Ok(()) };
                }
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Trouble> {
        loop {
            match self.socket.send(bytes, Msg::empty()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
                Ok(_) => return Ok(()),
            }
        }
    }

    /// The messages of the next datagram, waiting for it.
    fn receive(&mut self, deadline: Instant) -> Result<Messages<'_>, Trouble> {
        let length = loop {
            match self.take()? {
                Some(length) => break length,
                None => wait(self.as_fd(), deadline)?,
            }
        };
        self.messages(length)
    }

    /// The messages of the next datagram; `None` if there is none at the moment.
    ///
    /// # Errors
    /// [`Trouble::Overrun`] once, after messages were dropped; [`Trouble::Truncated`];
    /// [`Trouble::Io`].
    pub fn try_receive(&mut self) -> Result<Option<Messages<'_>>, Trouble> {
        match self.take()? {
            Some(length) => self.messages(length).map(Some),
            None => Ok(None),
        }
    }

    /// Reads a datagram into the buffer; its real length, which may be more than there is room for.
    fn take(&mut self) -> Result<Option<usize>, Trouble> {
        loop {
            // MSG_TRUNC: the real length.
            match self.socket.recv(&mut self.buffer, Msg::DONTWAIT | Msg::TRUNC) {
                Ok((length, _)) => return Ok(Some(length)),
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EAGAIN) => return Ok(None),
                    Some(Errno::EINTR) => {}
                    Some(Errno::ENOBUFS) => return Err(Trouble::Overrun),
                    _ => return Err(error.into()),
                },
            }
        }
    }

    fn messages(&self, length: usize) -> Result<Messages<'_>, Trouble> {
        self.buffer.get(..length).map(Messages).ok_or(Trouble::Truncated)
    }
}

const MISSING: Trouble = Trouble::Malformed(Malformed("no content"));

/// What an `NLMSG_ERROR` or `NLMSG_DONE` message reports; `None` is success.
fn failure(message: &Message<'_>) -> Result<Option<Trouble>, Malformed> {
    Ok(match message.errno()? {
        0 => None,
        errno => Some(Trouble::Refused(Errno::from_raw(errno))),
    })
}

/// Waits for something to read.
fn wait(socket: BorrowedFd<'_>, deadline: Instant) -> Result<(), Trouble> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Trouble::TimedOut);
    }
    let milliseconds = u16::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
    let mut fds = [PollFd::new(socket, PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::from(milliseconds)) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

impl AsFd for Socket {
    #[allow(unsafe_code)]
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: neli's socket owns its descriptor, keeps it open as long as it lives, and is
        // borrowed as long as the result. Needed because neli gives out the bare number only.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }
}
