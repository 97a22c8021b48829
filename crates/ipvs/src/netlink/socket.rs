//! Generic netlink for IPVS: its family's number, and its messages' headers.

use std::time::Duration;

use ::netlink::wire::{Attributes, Malformed, Message, Writer};
use ::netlink::{Outcome, Trouble, wire};
use neli::consts::genl::{CtrlAttr, CtrlCmd};
use neli::consts::nl::{GenlId, NlmF};
use neli::consts::socket::NlFamily;

use super::abi::{FAMILY_NAME, VERSION};
use super::decode;

/// A generic netlink request's headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    /// The family, or the controller.
    pub(super) family: u16,
    pub(super) command: u8,
    pub(super) version: u8,
    pub(super) flags: NlmF,
    pub(super) sequence: u32,
}

impl Head {
    /// `struct genlmsghdr`: command, version, reserved.
    fn fixed(self) -> [u8; 4] {
        [self.command, self.version, 0, 0]
    }

    fn on_wire(self, fixed: &[u8; 4]) -> wire::Head<'_> {
        wire::Head { kind: self.family, flags: self.flags, sequence: self.sequence, fixed }
    }

    /// Appends a request whose attributes `body` writes.
    pub(super) fn write(self, writer: &mut Writer, body: impl FnOnce(&mut Writer)) {
        writer.message(self.on_wire(&self.fixed()), body);
    }
}

/// The attributes of a generic netlink message.
pub(super) fn attributes<'a>(message: &Message<'a>) -> Result<Attributes<'a>, Malformed> {
    message.split::<4>().map(|(_, attributes)| attributes)
}

/// A socket that knows IPVS's number.
#[derive(Debug)]
pub(super) struct Socket {
    socket: ::netlink::Socket,
    family: u16,
}

impl Socket {
    /// Opens a socket, close-on-exec, with at least that much room for answers if the kernel
    /// grants it, and asks for IPVS's number. The kernel loads the module if it can.
    pub(super) fn open(receive_buffer: usize, limit: Duration) -> Result<Self, Trouble> {
        let socket = ::netlink::Socket::open(NlFamily::Generic, limit)?;
        socket.set_receive_buffer(receive_buffer)?;
        let mut socket = Socket { socket, family: 0 };
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
            sequence: self.socket.next_sequence(),
        };
        let name = |w: &mut Writer| w.attribute(CtrlAttr::FamilyName.into(), FAMILY_NAME);
        let family = self.request(head, name, decode::family_id)?;
        let changed = self.family != family;
        self.family = family;
        Ok(changed)
    }

    /// The room there really is for answers, in bytes as the kernel counts them.
    pub(super) fn receive_buffer(&self) -> Result<usize, Trouble> {
        self.socket.receive_buffer()
    }

    /// The room there is for requests, likewise.
    pub(super) fn send_buffer(&self) -> Result<usize, Trouble> {
        self.socket.send_buffer()
    }

    /// The headers of a request to IPVS.
    pub(super) fn head(&mut self, command: u8, flags: NlmF) -> Head {
        let sequence = self.socket.next_sequence();
        Head { family: self.family, command, version: VERSION, flags, sequence }
    }

    /// One request, one answer.
    pub(super) fn request<T>(
        &mut self,
        head: Head,
        body: impl FnOnce(&mut Writer),
        decode: impl FnOnce(Attributes<'_>) -> Result<T, Malformed>,
    ) -> Result<T, Trouble> {
        let fixed = head.fixed();
        self.socket.request(head.on_wire(&fixed), body, |message| decode(attributes(message)?))
    }

    /// One request, any number of answers. The socket is of no further use after an error other
    /// than [`Trouble::Refused`]: the dump may go on.
    pub(super) fn dump(
        &mut self,
        command: u8,
        body: impl FnOnce(&mut Writer),
        mut each: impl FnMut(Attributes<'_>) -> Result<(), Malformed>,
    ) -> Result<(), Trouble> {
        let family = self.family;
        self.socket.dump(family, &[command, VERSION, 0, 0], body, |message| {
            if message.kind == family { each(attributes(message)?) } else { Ok(()) }
        })
    }

    /// Sends a batch of `count` changes with ascending sequence numbers from `first` on, of which
    /// the last asks for an acknowledgement, and gathers what was refused.
    pub(super) fn batch(&mut self, writer: &Writer, first: u32, count: usize) -> Outcome {
        self.socket.batch(writer, first, count)
    }
}
