//! A generic netlink socket: requests out, answers in, each within a time.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use neli::consts::genl::{CtrlAttr, CtrlCmd};
use neli::consts::nl::{GenlId, NlmF, Nlmsg};
use neli::consts::socket::{Msg, NlFamily};
use neli::socket::NlSocket;
use neli::utils::Groups;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{NetlinkAddr, connect, getsockopt, setsockopt, sockopt};

use super::abi::{FAMILY_NAME, VERSION};
use super::decode;
use super::wire::{Attributes, Head, Malformed, Message, Messages, Writer};

/// The kernel puts up to 32 KiB of a dump into one datagram, if the reader has room.
const DATAGRAM: usize = 64 << 10;

/// Why there is no (whole) answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The kernel refused.
    Refused(Errno),
    /// Answers were dropped for want of space.
    Overrun,
    /// An answer was longer than what we have room for.
    Truncated,
    /// The table changed while it was dumped.
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

/// What came of a batch of changes.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The refused ones: place in the batch, and why.
    pub(super) refused: Vec<(usize, Errno)>,
    /// If not `Ok`, what became of those not refused is not known.
    pub(super) settled: Result<(), Trouble>,
}

/// A socket, connected to the kernel and nobody else.
pub(super) struct Socket {
    socket: NlSocket,
    family: u16,
    sequence: u32,
    buffer: Vec<u8>,
    limit: Duration,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket")
            .field("fd", &self.socket.as_raw_fd())
            .field("family", &self.family)
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

impl Socket {
    /// Opens a socket, close-on-exec, with at least that much room for answers if the kernel
    /// grants it, and asks for IPVS's number. The kernel loads the module if it can.
    pub(super) fn open(receive_buffer: usize, limit: Duration) -> Result<Self, Trouble> {
        let socket = NlSocket::connect(NlFamily::Generic, None, Groups::empty())?;
        // Only who is connected to the kernel does not get messages from other processes.
        connect(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        let mut socket =
            Socket { socket, family: 0, sequence: 0, buffer: vec![0; DATAGRAM], limit };
        socket.set_receive_buffer(receive_buffer)?;
        socket.find_family()?;
        Ok(socket)
    }

    /// Asks again for IPVS's number, as the module may have been loaded anew. Returns whether it is
    /// another one.
    pub(super) fn find_family(&mut self) -> Result<bool, Trouble> {
        let head = Head {
            family: GenlId::Ctrl.into(),
            command: CtrlCmd::Getfamily.into(),
            version: 1,
            flags: NlmF::empty(),
            sequence: 0,
        };
        let name = |w: &mut Writer| w.attribute(CtrlAttr::FamilyName.into(), FAMILY_NAME);
        let family = self.request(head, name, decode::family_id)?;
        let changed = self.family != family;
        self.family = family;
        Ok(changed)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        borrow(&self.socket)
    }

    fn set_receive_buffer(&self, bytes: usize) -> Result<(), Trouble> {
        // Beyond net.core.rmem_max only with CAP_NET_ADMIN in the first user namespace.
        if setsockopt(&self.fd(), sockopt::RcvBufForce, &bytes).is_err() {
            setsockopt(&self.fd(), sockopt::RcvBuf, &bytes)?;
        }
        Ok(())
    }

    /// The room there really is for answers, in bytes as the kernel counts them.
    pub(super) fn receive_buffer(&self) -> Result<usize, Trouble> {
        Ok(getsockopt(&self.fd(), sockopt::RcvBuf)?)
    }

    /// The room there is for requests, likewise.
    pub(super) fn send_buffer(&self) -> Result<usize, Trouble> {
        Ok(getsockopt(&self.fd(), sockopt::SndBuf)?)
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// The headers of a request to IPVS.
    pub(super) fn head(&mut self, command: u8, flags: NlmF) -> Head {
        let sequence = self.next_sequence();
        Head { family: self.family, command, version: VERSION, flags, sequence }
    }

    /// One request, one answer.
    pub(super) fn request<T>(
        &mut self,
        head: Head,
        body: impl FnOnce(&mut Writer),
        decode: impl FnOnce(Attributes<'_>) -> Result<T, Malformed>,
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
                return Ok(decode(message.attributes()?)?);
            }
        }
    }

    /// One request, any number of answers. The socket is of no further use after an error other
    /// than [`Trouble::Refused`]: the dump may go on.
    pub(super) fn dump(
        &mut self,
        command: u8,
        body: impl FnOnce(&mut Writer),
        mut each: impl FnMut(Attributes<'_>) -> Result<(), Malformed>,
    ) -> Result<(), Trouble> {
        let head = self.head(command, NlmF::DUMP);
        let mut writer = Writer::default();
        writer.message(head, body);
        self.send(writer.bytes())?;
        let family = head.family;
        let mut interrupted = false;
        loop {
            // The limit is on silence, not on the whole: a large table may take its time.
            let deadline = Instant::now() + self.limit;
            for message in self.receive(deadline)? {
                let message = message?;
                if message.sequence != head.sequence {
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
                if message.kind == family {
                    each(message.attributes()?)?;
                }
            }
        }
    }

    /// Sends a batch of `count` changes with ascending sequence numbers from `first` on, of which
    /// the last asks for an acknowledgement, and gathers what was refused: the kernel works
    /// through a batch in order and answers unasked only to those.
    pub(super) fn batch(&mut self, writer: &Writer, first: u32, count: usize) -> Outcome {
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

    /// The messages of the next datagram.
    fn receive(&mut self, deadline: Instant) -> Result<Messages<'_>, Trouble> {
        let length = loop {
            // MSG_TRUNC: the real length, even if it is more than there is room for.
            match self.socket.recv(&mut self.buffer, Msg::DONTWAIT | Msg::TRUNC) {
                Ok((length, _)) => break length,
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EAGAIN) => wait(&self.socket, deadline)?,
                    Some(Errno::EINTR) => {}
                    Some(Errno::ENOBUFS) => return Err(Trouble::Overrun),
                    _ => return Err(error.into()),
                },
            }
        };
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
fn wait(socket: &NlSocket, deadline: Instant) -> Result<(), Trouble> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Trouble::TimedOut);
    }
    let milliseconds = u16::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
    let mut fds = [PollFd::new(borrow(socket), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::from(milliseconds)) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// The socket as a descriptor that poll and socket options take.
#[allow(unsafe_code)]
fn borrow(socket: &NlSocket) -> BorrowedFd<'_> {
    // SAFETY: neli's socket owns its descriptor, keeps it open as long as it lives, and is
    // borrowed as long as the result. Needed because neli gives out the bare number only.
    unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) }
}
