//! The floor: the same table by the least that can be done over netlink, one request a send, its
//! acknowledgement awaited. Messages are laid out by hand after linux/netlink.h, linux/genetlink.h
//! and linux/ip_vs.h.

use super::{PORT, Result, clear, entries, site};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    socket,
};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const NEW_SERVICE: u8 = 1;
const NEW_DEST: u8 = 5;
const CMD_SERVICE: u16 = 1;
const CMD_DEST: u16 = 2;
const NESTED: u16 = 1 << 15;

/// Fills the table and says how long that took, the socket's opening included.
pub(crate) fn fill(servers: u32) -> Result<Duration> {
    let began = Instant::now();
    let mut link = Link::open()?;
    for (vip, rips) in site(servers) {
        link.ask(NEW_SERVICE, &nested(CMD_SERVICE, &service(vip)))?;
        for rip in rips {
            let both =
                [nested(CMD_SERVICE, &key(vip)), nested(CMD_DEST, &destination(rip))].concat();
            link.ask(NEW_DEST, &both)?;
        }
    }
    let took = began.elapsed();
    if entries()? != (servers, servers) {
        return Err("the bare loop did not fill the table".into());
    }
    clear()?;
    Ok(took)
}

struct Link {
    fd: OwnedFd,
    family: u16,
    buffer: Vec<u8>,
}

impl Link {
    fn open() -> Result<Link> {
        let generic = SockProtocol::NetlinkGeneric;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, generic)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        let mut link = Link { fd, family: GENL_ID_CTRL, buffer: vec![0; 8192] };
        let answer = link.ask(CTRL_CMD_GETFAMILY, &attribute(CTRL_ATTR_FAMILY_NAME, b"IPVS\0"))?;
        link.family = find_u16(&answer, CTRL_ATTR_FAMILY_ID).ok_or("no IPVS in this kernel")?;
        Ok(link)
    }

    /// Sends a request and waits for its acknowledgement; gives back what came before that.
    fn ask(&mut self, command: u8, attributes: &[u8]) -> Result<Vec<u8>> {
        const REQUEST_ACK: u16 = 1 | 4;
        let length = u32::try_from(20 + attributes.len())?;
        let mut message = Vec::with_capacity(128);
        message.extend(length.to_ne_bytes());
        message.extend(self.family.to_ne_bytes());
        message.extend(REQUEST_ACK.to_ne_bytes());
        message.extend([0; 8]);
        message.extend([command, 1, 0, 0]);
        message.extend(attributes);
        send(self.fd.as_raw_fd(), &message, MsgFlags::empty())?;
        let mut answer = Vec::new();
        loop {
            let got = recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::empty())?;
            let data = &self.buffer[..got];
            if u16::from_ne_bytes([data[4], data[5]]) == 2 {
                let code = i32::from_ne_bytes([data[16], data[17], data[18], data[19]]);
                return if code == 0 { Ok(answer) } else { Err(format!("error {code}").into()) };
            }
            answer = data[20..].to_vec();
        }
    }
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn nested(kind: u16, attributes: &[u8]) -> Vec<u8> {
    attribute(kind | NESTED, attributes)
}

fn find_u16(mut attributes: &[u8], kind: u16) -> Option<u16> {
    while attributes.len() >= 6 {
        let length = usize::from(u16::from_ne_bytes([attributes[0], attributes[1]]));
        if u16::from_ne_bytes([attributes[2], attributes[3]]) == kind {
            return Some(u16::from_ne_bytes([attributes[4], attributes[5]]));
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
    None
}

/// IPVS_SVC_ATTR_AF, _PROTOCOL, _ADDR, _PORT.
fn key(vip: Ipv4Addr) -> Vec<u8> {
    let mut addr = [0; 16];
    addr[..4].copy_from_slice(&vip.octets());
    [
        attribute(1, &2u16.to_ne_bytes()),
        attribute(2, &6u16.to_ne_bytes()),
        attribute(3, &addr),
        attribute(4, &PORT.to_be_bytes()),
    ]
    .concat()
}

/// The key with IPVS_SVC_ATTR_SCHED_NAME, _FLAGS, _TIMEOUT, _NETMASK.
fn service(vip: Ipv4Addr) -> Vec<u8> {
    let flags = [0u32.to_ne_bytes(), u32::MAX.to_ne_bytes()].concat();
    [
        key(vip),
        attribute(6, b"wlc\0"),
        attribute(7, &flags),
        attribute(8, &0u32.to_ne_bytes()),
        attribute(9, &u32::MAX.to_ne_bytes()),
    ]
    .concat()
}

/// IPVS_DEST_ATTR_ADDR, _PORT, _FWD_METHOD (masquerading), _WEIGHT, _U_THRESH, _L_THRESH.
fn destination(rip: Ipv4Addr) -> Vec<u8> {
    let mut addr = [0; 16];
    addr[..4].copy_from_slice(&rip.octets());
    [
        attribute(1, &addr),
        attribute(2, &PORT.to_be_bytes()),
        attribute(3, &0u32.to_ne_bytes()),
        attribute(4, &1u32.to_ne_bytes()),
        attribute(5, &0u32.to_ne_bytes()),
        attribute(6, &0u32.to_ne_bytes()),
    ]
    .concat()
}
