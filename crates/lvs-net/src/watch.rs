//! News from the kernel.

use std::os::fd::{AsFd, BorrowedFd};

use log::debug;
use neli::consts::rtnl::Rtm;
use neli::consts::socket::NlFamily;
use netlink::wire::{Malformed, Message};
use netlink::{Socket, Trouble};

use crate::address::Address;
use crate::error::Error;
use crate::link::Link;
use crate::message;
use crate::rtnetlink::{LIMIT, name_unlabelled};

/// `RTNLGRP_LINK` and `RTNLGRP_IPV4_IFADDR` of `include/uapi/linux/rtnetlink.h`.
const GROUPS: [u32; 2] = [1, 5];
/// Room for notices, in bytes: some thousand of them.
const ROOM: usize = 1 << 20;
/// How many datagrams are read at a time, so that a storm of notices does not keep the caller from
/// everything else.
const BATCH: usize = 256;
/// More datagrams than there can be waiting.
const ALL: usize = 1 << 14;

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// An interface is new, or something about it has changed; sometimes nothing that is shown here.
    Link(Link),
    /// An interface is gone.
    LinkGone {
        /// The number it had.
        index: u32,
        /// The name it had.
        name: String,
    },
    /// An interface has a new address.
    AddressAdded(Address),
    /// An interface has lost an address.
    AddressRemoved(Address),
    /// Notices were lost, or not understood. Read everything again.
    Lost,
}

/// Tells of changes of interfaces and IPv4 addresses, whoever makes them. Never blocks; its
/// descriptor is readable when there is something to [`Watch::read`].
///
/// To miss nothing, open it before the first reading. What is then told twice does no harm: the last
/// notice of an interface or address is how it is.
///
/// The kernel may tell of a lost carrier up to a second late, if that of another or the same
/// interface has changed in the second before.
#[derive(Debug)]
pub struct Watch {
    socket: Socket,
}

impl Watch {
    /// Begins to collect notices, in the network namespace of this thread.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when the process or the system is out of descriptors
    /// or memory.
    pub fn open() -> Result<Watch, Error> {
        let open = || -> Result<Watch, Trouble> {
            let socket = Socket::open(NlFamily::Route, LIMIT)?;
            socket.set_receive_buffer(ROOM)?;
            socket.subscribe(&GROUPS)?;
            Ok(Watch { socket })
        };
        open().map_err(|trouble| Error::unread(&"watch interfaces and addresses", &trouble))
    }

    /// What has happened since. After very much of it there may be more: the descriptor is still
    /// readable then.
    pub fn read(&mut self) -> Vec<Notice> {
        let mut notices = match self.take() {
            Ok(notices) => notices,
            Err(trouble) => {
                debug!("notices of rtnetlink: {trouble:?}");
                self.discard();
                return vec![Notice::Lost];
            }
        };
        for notice in &mut notices {
            if let Notice::AddressAdded(address) | Notice::AddressRemoved(address) = notice {
                name_unlabelled(address);
            }
        }
        notices
    }

    fn take(&mut self) -> Result<Vec<Notice>, Trouble> {
        let mut notices = Vec::new();
        for _ in 0..BATCH {
            let Some(messages) = self.socket.try_receive()? else { break };
            for message in messages {
                notices.extend(notice(&message?)?);
            }
        }
        Ok(notices)
    }

    /// Forgets what is waiting. After a loss it is older than what the caller reads next, and would
    /// overwrite that with the past.
    fn discard(&mut self) {
        for _ in 0..ALL {
            if let Ok(None) = self.socket.try_receive() {
                break;
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What a message tells, if it is about what is watched.
fn notice(message: &Message<'_>) -> Result<Option<Notice>, Malformed> {
    Ok(if message.kind == u16::from(Rtm::Newlink) {
        message::link(message)?.map(Notice::Link)
    } else if message.kind == u16::from(Rtm::Dellink) {
        let link = message::link(message)?;
        link.map(|link| Notice::LinkGone { index: link.index, name: link.name })
    } else if message.kind == u16::from(Rtm::Newaddr) {
        message::address(message)?.map(Notice::AddressAdded)
    } else if message.kind == u16::from(Rtm::Deladdr) {
        message::address(message)?.map(Notice::AddressRemoved)
    } else {
        None
    })
}
