//! Which node has had which address, and when: rtnetlink(7) notifications of all nodes in the one
//! order in which the kernel made the changes.
//!
//! One socket hears every network of the laboratory (`NETLINK_LISTEN_ALL_NSID`, netlink(7)), so that
//! "never at two nodes at once" can be told for certain, however late the messages are read.

use std::{
    collections::BTreeMap,
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd, OwnedFd},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        eventfd::{EfdFlags, EventFd},
        socket::{
            AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv,
            send, setsockopt, socket, sockopt::RcvBufForce,
        },
    },
};

use crate::{
    board::{Board, TimedOut},
    node::Node,
    world::Lab,
};

// linux/netlink.h, linux/rtnetlink.h, linux/if_addr.h, linux/net_namespace.h.
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWNSID: u16 = 88;
const RTM_GETNSID: u16 = 90;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;
const IFA_LOCAL: u16 = 2;
const IFA_LABEL: u16 = 3;
const RTNLGRP_IPV4_IFADDR: libc::c_int = 5;
const UNASSIGNED: i32 = -1;

/// An IPv4 address came to a node or left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressEvent {
    /// When the message was read. Their order is the kernel's.
    pub at: Instant,
    /// The node's name.
    pub node: String,
    /// It came, or (`false`) it left.
    pub added: bool,
    /// The address.
    pub address: Ipv4Addr,
    /// Its prefix length.
    pub prefix: u8,
    /// Its label: `eth0:1`, or the interface's name.
    pub label: String,
}

/// Records the addresses of nodes until it is dropped.
#[derive(Debug)]
pub struct AddressWatch {
    events: Arc<Board<Vec<AddressEvent>>>,
    end: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Lab {
    /// Begins to record which addresses come to these nodes and leave them. What they have already is
    /// not in it.
    #[track_caller]
    #[must_use = "addresses are recorded until it is dropped"]
    pub fn watch_addresses(&self, nodes: &[Node]) -> AddressWatch {
        AddressWatch::start(self, nodes).unwrap_or_else(|e| panic!("cannot watch addresses: {e}"))
    }
}

impl AddressWatch {
    fn start(lab: &Lab, nodes: &[Node]) -> io::Result<Self> {
        let (netlink, names) = lab.switch().enter(|| -> io::Result<_> {
            let netlink = open()?;
            let mut names = BTreeMap::new();
            for node in nodes {
                names.insert(number_of(&netlink, node)?, node.name().to_owned());
            }
            subscribe(&netlink)?;
            Ok((netlink, names))
        })?;
        let events = Arc::new(Board::default());
        let end = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?);
        let (board, ended) = (Arc::clone(&events), Arc::clone(&end));
        let thread = thread::Builder::new()
            .name("addresses".to_owned())
            .spawn(move || collect(&netlink, &names, &ended, &board))?;
        Ok(Self { events, end, thread: Some(thread) })
    }

    /// All that has happened so far.
    #[must_use]
    pub fn events(&self) -> Vec<AddressEvent> {
        self.events.look().clone()
    }

    /// Waits until, by the last event about it, a node has this address (`present`) or has not. What
    /// never came counts as not there.
    ///
    /// # Errors
    /// It was not so within `limit`.
    pub fn wait(
        &self,
        node: &Node,
        address: &str,
        present: bool,
        limit: Duration,
    ) -> Result<Instant, TimedOut> {
        let found = self.events.wait(limit, |events| {
            let mut about = events
                .iter()
                .rev()
                .filter(|event| event.node == node.name() && event.address.to_string() == address);
            match about.next() {
                Some(event) => (event.added == present).then_some(event.at),
                None => (!present).then(Instant::now),
            }
        });
        found.ok_or_else(|| {
            let (name, what) = (node.name(), if present { "not there" } else { "still there" });
            let seen = self.shown();
            TimedOut(format!("{name}: {address} {what} after {limit:?}; what happened:\n{seen}"))
        })
    }

    /// What has happened, a line each.
    #[must_use]
    pub fn shown(&self) -> String {
        let events = self.events();
        let Some(first) = events.first().map(|event| event.at) else { return String::new() };
        let line = |AddressEvent { at, node, added, address, prefix, label }: &AddressEvent| {
            let sign = if *added { '+' } else { '-' };
            let since = at.saturating_duration_since(first).as_secs_f64();
            format!("{since:8.3} {node} {sign} {address}/{prefix} {label}\n")
        };
        events.iter().map(line).collect()
    }

    /// The times in which more than one node had this address: when the second one got it, and how long
    /// that lasted (until now, if it still does).
    #[must_use]
    pub fn overlaps(&self, address: &str) -> Vec<(Instant, Duration)> {
        overlaps(&self.events(), address, Instant::now())
    }
}

impl Drop for AddressWatch {
    fn drop(&mut self) {
        // A counter that is read once cannot be full; a panic has been shown already.
        let _ = self.end.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if thread::panicking() {
            eprintln!("---- addresses\n{}", self.shown());
        }
    }
}

fn overlaps(events: &[AddressEvent], address: &str, now: Instant) -> Vec<(Instant, Duration)> {
    let mut found = Vec::new();
    let mut holders: Vec<&str> = Vec::new();
    let mut since = None;
    for event in events.iter().filter(|event| event.address.to_string() == address) {
        holders.retain(|name| *name != event.node);
        if event.added {
            holders.push(&event.node);
        }
        match (holders.len() > 1, since) {
            (true, None) => since = Some(event.at),
            (false, Some(start)) => {
                found.push((start, event.at.saturating_duration_since(start)));
                since = None;
            }
            _ => {}
        }
    }
    found.extend(since.map(|start| (start, now.saturating_duration_since(start))));
    found
}

fn open() -> io::Result<OwnedFd> {
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    bind(netlink.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    setsockopt(&netlink, RcvBufForce, &(16 << 20))?;
    Ok(netlink)
}

/// The number by which this network knows that of a node, which it is given if it has none.
fn number_of(netlink: &OwnedFd, node: &Node) -> io::Result<i32> {
    let fd = node.namespace().descriptor();
    let ask = |kind, more: &[(u16, i32)]| {
        let asked = [&[(NETNSA_FD, fd)], more].concat();
        exchange(netlink, kind, &asked)
    };
    let get = || -> io::Result<i32> {
        let answer = ask(RTM_GETNSID, &[])?;
        let found = attributes(answer.get(20..).unwrap_or_default());
        let bytes = found.get(&NETNSA_NSID).and_then(|bytes| bytes.first_chunk::<4>().copied());
        Ok(bytes.map_or(UNASSIGNED, i32::from_ne_bytes))
    };
    match get()? {
        UNASSIGNED => {
            ask(RTM_NEWNSID, &[(NETNSA_NSID, UNASSIGNED)])?;
            get()
        }
        number => Ok(number),
    }
}

/// Sends a request about namespaces and returns its first answer.
fn exchange(netlink: &OwnedFd, kind: u16, attributes: &[(u16, i32)]) -> io::Result<Vec<u8>> {
    let ack = if kind == RTM_NEWNSID { NLM_F_ACK } else { 0 };
    // struct rtgenmsg, padded.
    let mut body = vec![0; 4];
    for (name, value) in attributes {
        body.extend(8_u16.to_ne_bytes());
        body.extend(name.to_ne_bytes());
        body.extend(value.to_ne_bytes());
    }
    let length = u32::try_from(16 + body.len()).map_err(io::Error::other)?;
    let mut request = length.to_ne_bytes().to_vec();
    request.extend(kind.to_ne_bytes());
    request.extend((NLM_F_REQUEST | ack).to_ne_bytes());
    // Sequence number and port, of which neither matters to us.
    request.extend([0; 8]);
    request.extend(body);
    send(netlink.as_raw_fd(), &request, MsgFlags::empty())?;
    let mut answer = vec![0; 4096];
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    answer.truncate(length);
    let number = |at: usize| answer.get(at..).and_then(|b| b.first_chunk::<4>().copied());
    if answer.get(4..6) == Some(&NLMSG_ERROR.to_ne_bytes()) {
        let error = number(16).map_or(0, i32::from_ne_bytes);
        if error != 0 {
            return Err(io::Error::from_raw_os_error(-error));
        }
    }
    Ok(answer)
}

/// Has the socket hear of addresses in all networks that have a number here.
#[allow(unsafe_code)]
fn subscribe(netlink: &OwnedFd) -> io::Result<()> {
    for (option, value) in
        [(libc::NETLINK_LISTEN_ALL_NSID, 1), (libc::NETLINK_ADD_MEMBERSHIP, RTNLGRP_IPV4_IFADDR)]
    {
        let value: libc::c_int = value;
        // SAFETY: the kernel reads the given four bytes of an int that lives across the call. nix and
        // socket2 have no call for these options.
        let result = unsafe {
            libc::setsockopt(
                netlink.as_raw_fd(),
                libc::SOL_NETLINK,
                option,
                (&raw const value).cast(),
                4,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Reads what is there without waiting: its length, and the number of the network it is about.
#[allow(unsafe_code)]
fn receive(netlink: &OwnedFd, buffer: &mut [u8]) -> Option<(usize, i32)> {
    #[repr(C, align(8))]
    struct Control([u8; 128]);
    let mut control = Control([0; 128]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: `msghdr` is plain data, for which zeros are valid. The kernel writes into `buffer` and
    // `control`, which outlive the calls, no more than the lengths given. The macros walk control
    // messages within these lengths, and the one that is read holds an int, which is read unaligned.
    // nix does not give out control messages it does not know.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = control.0.len();
        let length = libc::recvmsg(netlink.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT);
        let length = usize::try_from(length).ok()?;
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while let Some(found) = header.as_ref() {
            if (found.cmsg_level, found.cmsg_type)
                == (libc::SOL_NETLINK, libc::NETLINK_LISTEN_ALL_NSID)
            {
                return Some((length, libc::CMSG_DATA(header).cast::<i32>().read_unaligned()));
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
        // It is about the network of the socket itself.
        Some((length, UNASSIGNED))
    }
}

fn collect(
    netlink: &OwnedFd,
    names: &BTreeMap<i32, String>,
    end: &EventFd,
    board: &Board<Vec<AddressEvent>>,
) {
    use std::os::fd::AsFd;
    let mut buffer = vec![0; 65_536];
    loop {
        let mut fds = [
            PollFd::new(netlink.as_fd(), PollFlags::POLLIN),
            PollFd::new(end.as_fd(), PollFlags::POLLIN),
        ];
        // Interrupted: then nothing is ready, and we come back here.
        let _ = poll(&mut fds, PollTimeout::NONE);
        if fds[1].any() == Some(true) {
            return;
        }
        while let Some((length, network)) = receive(netlink, &mut buffer) {
            let Some(node) = names.get(&network) else { continue };
            let found = parse(buffer.get(..length).unwrap_or_default());
            let at = Instant::now();
            board.change(|events| {
                events.extend(found.into_iter().map(|(added, prefix, address, label)| {
                    AddressEvent { at, node: node.clone(), added, address, prefix, label }
                }));
            });
        }
    }
}

/// The address messages in a datagram: added or removed, prefix length, address, label.
fn parse(mut datagram: &[u8]) -> Vec<(bool, u8, Ipv4Addr, String)> {
    let mut found = Vec::new();
    while let Some(length) = datagram.first_chunk::<4>().map(|b| u32::from_ne_bytes(*b)) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(message) = datagram.get(..length).filter(|message| message.len() >= 24) else {
            break;
        };
        let kind = u16::from_ne_bytes([message[4], message[5]]);
        let attributes = attributes(&message[24..]);
        let address = attributes.get(&IFA_LOCAL).and_then(|bytes| bytes.first_chunk::<4>());
        if let (RTM_NEWADDR | RTM_DELADDR, Some(address)) = (kind, address) {
            let label = attributes.get(&IFA_LABEL).copied().unwrap_or_default();
            let label = String::from_utf8_lossy(label).trim_end_matches('\0').to_owned();
            found.push((kind == RTM_NEWADDR, message[17], Ipv4Addr::from(*address), label));
        }
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn attributes(mut bytes: &[u8]) -> BTreeMap<u16, &[u8]> {
    let mut found = BTreeMap::new();
    while let Some([a, b, c, d]) = bytes.first_chunk::<4>().copied() {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let Some(value) = bytes.get(4..length) else { break };
        found.insert(u16::from_ne_bytes([c, d]), value);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps_are_found() {
        let start = Instant::now();
        let event = |millis: u64, node: &str, added: bool, address: &str| AddressEvent {
            at: start + Duration::from_millis(millis),
            node: node.to_owned(),
            added,
            address: address.parse().unwrap(),
            prefix: 24,
            label: "eth0:1".to_owned(),
        };
        let vip = "10.0.0.100";
        let events = [
            event(0, "d1", true, vip),
            event(5, "d2", true, "10.0.0.254"),
            event(10, "d1", false, vip),
            event(20, "d2", true, vip),
            event(30, "d1", true, vip),
            event(45, "d2", false, vip),
            event(50, "d2", true, vip),
        ];
        let millis = |n| Duration::from_millis(n);
        let now = start + millis(70);
        let found = overlaps(&events, vip, now);
        let wanted = [(start + millis(30), millis(15)), (start + millis(50), millis(20))];
        assert_eq!(found, wanted);
        assert_eq!(overlaps(&events[..4], vip, now), []);
    }
}
