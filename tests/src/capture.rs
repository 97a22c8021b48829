//! Frames on the wire, seen through a packet socket (packet(7)).

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    net::if_::if_nametoindex,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        eventfd::{EfdFlags, EventFd},
        socket::{AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, socket},
    },
};

use socket2::{SockFilter, SockRef};

use crate::board::{Board, TimedOut};

/// An Ethernet frame, sent or received.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// When it was read.
    pub at: Instant,
    /// From the destination's hardware address on, without the checksum.
    pub bytes: Vec<u8>,
}

/// An ARP packet for IPv4 over Ethernet (RFC 826).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// 1: request, 2: reply.
    pub operation: u16,
    /// Hardware address of the sender.
    pub sender_mac: [u8; 6],
    /// Address of the sender.
    pub sender: Ipv4Addr,
    /// Hardware address of the target.
    pub target_mac: [u8; 6],
    /// Address of the target; the sender's own in a gratuitous ARP.
    pub target: Ipv4Addr,
}

/// A UDP datagram over IPv4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Udp {
    /// Where it comes from.
    pub source: SocketAddrV4,
    /// Where it goes.
    pub destination: SocketAddrV4,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// EtherTypes, from the IANA registry "IEEE 802 Numbers".
const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;

impl Frame {
    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.bytes.get(at..)?.first_chunk().copied()
    }

    fn number(&self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_be_bytes)
    }

    fn address(&self, at: usize) -> Option<Ipv4Addr> {
        self.array::<4>(at).map(Ipv4Addr::from)
    }

    /// Hardware address of the destination; `ff:ff:ff:ff:ff:ff` is everybody.
    #[must_use]
    pub fn destination(&self) -> [u8; 6] {
        self.array(0).unwrap_or_default()
    }

    /// Hardware address of the source.
    #[must_use]
    pub fn source(&self) -> [u8; 6] {
        self.array(6).unwrap_or_default()
    }

    /// 0x0800 IPv4, 0x0806 ARP, 0x86dd IPv6; 0 for a frame too short to have one.
    #[must_use]
    pub fn ethertype(&self) -> u16 {
        self.number(12).unwrap_or_default()
    }

    /// The ARP packet in it.
    #[must_use]
    pub fn arp(&self) -> Option<Arp> {
        // Ethernet, IPv4, lengths 6 and 4.
        let known = [0, 1, 8, 0, 6, 4];
        (self.ethertype() == ARP && self.array(14)? == known).then_some(())?;
        Some(Arp {
            operation: self.number(20)?,
            sender_mac: self.array(22)?,
            sender: self.address(28)?,
            target_mac: self.array(32)?,
            target: self.address(38)?,
        })
    }

    /// Source, destination and protocol number (1 ICMP, 4 IP in IP, 6 TCP, 17 UDP) of the IPv4
    /// packet in it.
    #[must_use]
    pub fn ipv4(&self) -> Option<(Ipv4Addr, Ipv4Addr, u8)> {
        (self.ethertype() == IPV4).then_some(())?;
        let [protocol] = self.array(23)?;
        Some((self.address(26)?, self.address(30)?, protocol))
    }

    /// The UDP datagram over IPv4 in it.
    #[must_use]
    pub fn udp(&self) -> Option<Udp> {
        let (from, to, protocol) = self.ipv4()?;
        (protocol == 17).then_some(())?;
        let [first] = self.array(14)?;
        let header = 14 + usize::from(first & 15) * 4;
        let length = usize::from(self.number(header + 4)?);
        Some(Udp {
            source: SocketAddrV4::new(from, self.number(header)?),
            destination: SocketAddrV4::new(to, self.number(header + 2)?),
            payload: self.bytes.get(header + 8..header.checked_add(length)?)?.to_vec(),
        })
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.arp() {
            Some(arp) => write!(f, "{arp:?}"),
            None => write!(
                f,
                "ethertype {:04x}, {} bytes, IPv4 {:?}",
                self.ethertype(),
                self.bytes.len(),
                self.ipv4()
            ),
        }
    }
}

/// Which frames to collect. What else passes by costs nothing: the kernel sorts it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All.
    Any,
    /// ARP packets.
    Arp,
    /// UDP datagrams over IPv4 to this port.
    Udp(u16),
    /// IPv4 packets of this protocol: 112 VRRP.
    Ipv4(u8),
}

impl Kind {
    /// The filter as a classic BPF program (linux/filter.h).
    fn program(self) -> Vec<SockFilter> {
        const LOAD_HALF: u16 = 0x28;
        const LOAD_BYTE: u16 = 0x30;
        const LOAD_HALF_INDEXED: u16 = 0x48;
        /// X becomes the length of the IPv4 header at this place.
        const LOAD_HEADER_LENGTH: u16 = 0xb1;
        const JUMP_EQUAL: u16 = 0x15;
        const RETURN: u16 = 0x06;
        let is_ipv4 = [(LOAD_HALF, 12), (JUMP_EQUAL, u32::from(IPV4))];
        let mut lines = match self {
            Self::Any => return Vec::new(),
            Self::Arp => vec![(LOAD_HALF, 12), (JUMP_EQUAL, u32::from(ARP))],
            Self::Ipv4(protocol) => {
                [&is_ipv4[..], &[(LOAD_BYTE, 23), (JUMP_EQUAL, protocol.into())]].concat()
            }
            Self::Udp(port) => {
                let is_udp = [(LOAD_BYTE, 23), (JUMP_EQUAL, 17)];
                let port = [(LOAD_HALF_INDEXED, 14 + 2), (JUMP_EQUAL, port.into())];
                [&is_ipv4[..], &is_udp, &[(LOAD_HEADER_LENGTH, 14)], &port].concat()
            }
        };
        lines.extend([(RETURN, u32::MAX), (RETURN, 0)]);
        // Any difference leads to the last line, which drops.
        let last = lines.len() - 1;
        let line = |(at, (code, value)): (usize, &(u16, u32))| match *code {
            JUMP_EQUAL => {
                let skipped = u8::try_from(last - at - 1).unwrap_or(u8::MAX);
                SockFilter::new(JUMP_EQUAL, 0, skipped, *value)
            }
            code => SockFilter::new(code, 0, 0, *value),
        };
        lines.iter().enumerate().map(line).collect()
    }
}

/// Collects the frames of an interface until it is dropped.
#[derive(Debug)]
pub struct Capture {
    frames: Arc<Board<Vec<Frame>>>,
    end: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// To be called on the node.
    pub(crate) fn start(nic: &str, kind: Kind) -> io::Result<Self> {
        let index = if_nametoindex(nic)?;
        // Not bound to the interface, as nix has no way to name one; the others are sorted out.
        let packets = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::EthAll,
        )?;
        let filter = kind.program();
        if !filter.is_empty() {
            SockRef::from(&packets).attach_filter(&filter)?;
            // What came before the filter was there.
            while recvfrom::<LinkAddr>(packets.as_raw_fd(), &mut [0; 1]).is_ok() {}
        }
        let frames = Arc::new(Board::default());
        let end = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?);
        let (board, ended) = (Arc::clone(&frames), Arc::clone(&end));
        let thread = thread::Builder::new()
            .name("capture".to_owned())
            .spawn(move || collect(&packets, index, &ended, &board))?;
        Ok(Self { frames, end, thread: Some(thread) })
    }

    /// All frames so far.
    #[must_use]
    pub fn frames(&self) -> Vec<Frame> {
        self.frames.look().clone()
    }

    /// Waits for the first frame for which `wanted` holds; one that came already counts.
    ///
    /// # Errors
    /// None came within `limit`.
    pub fn wait(
        &self,
        wanted: impl Fn(&Frame) -> bool,
        limit: Duration,
    ) -> Result<Frame, TimedOut> {
        self.wait_count(wanted, 1, limit)
    }

    /// Waits for the `count`th frame (from 1) for which `wanted` holds, and returns it.
    ///
    /// # Errors
    /// There were not so many within `limit`.
    pub fn wait_count(
        &self,
        wanted: impl Fn(&Frame) -> bool,
        count: usize,
        limit: Duration,
    ) -> Result<Frame, TimedOut> {
        let nth = count.saturating_sub(1);
        self.frames
            .wait(limit, |frames| frames.iter().filter(|frame| wanted(frame)).nth(nth).cloned())
            .ok_or_else(|| {
                let seen = self.frames();
                TimedOut(format!("not the frame awaited within {limit:?}, but: {seen:#?}"))
            })
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // A counter that is read once cannot be full; a panic has been shown already.
        let _ = self.end.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn collect(packets: &OwnedFd, index: u32, end: &EventFd, board: &Board<Vec<Frame>>) {
    let mut buffer = vec![0; 65_536];
    loop {
        let mut fds = [
            PollFd::new(packets.as_fd(), PollFlags::POLLIN),
            PollFd::new(end.as_fd(), PollFlags::POLLIN),
        ];
        // Interrupted: then nothing is ready, and we come back here.
        let _ = poll(&mut fds, PollTimeout::NONE);
        if fds[1].any() == Some(true) {
            return;
        }
        // Would block; or the interface went down, and then there is nothing to read either.
        while let Ok((length, from)) = recvfrom::<LinkAddr>(packets.as_raw_fd(), &mut buffer) {
            if from.is_some_and(|from| from.ifindex() == usize::try_from(index).unwrap_or(0)) {
                let bytes = buffer.get(..length).unwrap_or_default().to_vec();
                board.change(|frames| frames.push(Frame { at: Instant::now(), bytes }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: &[u8]) -> Frame {
        Frame { at: Instant::now(), bytes: bytes.to_vec() }
    }

    #[test]
    fn reads_arp_and_udp() {
        let mut arp = vec![0xff; 6];
        arp.extend([2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
        arp.extend([2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1]);
        let packet = frame(&arp).arp().unwrap();
        assert_eq!((packet.operation, packet.sender), (2, Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!((packet.sender_mac, packet.target), ([2, 0, 0, 0, 0, 1], packet.sender));

        let mut udp = vec![0; 12];
        udp.extend([8, 0, 0x45, 0, 0, 31, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        udp.extend([2, 27, 2, 28, 0, 11, 0, 0, b'a', b'b', b'c', 0, 0]);
        let datagram = frame(&udp).udp().unwrap();
        assert_eq!(datagram.source.to_string(), "10.0.0.1:539");
        assert_eq!(datagram.destination.to_string(), "10.0.0.2:540");
        assert_eq!(datagram.payload, b"abc");

        // Cut off anywhere, it is read as nothing at all, and without a panic.
        for length in 0..arp.len() {
            assert_eq!(frame(&arp[..length]).arp(), None, "{length}");
        }
        for length in 0..udp.len() - 2 {
            assert_eq!(frame(&udp[..length]).udp(), None, "{length}");
        }
    }
}
