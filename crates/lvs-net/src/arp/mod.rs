//! ARP for IPv4 over Ethernet (RFC 826): frames, and a socket to send and receive them.

mod socket;

use std::net::Ipv4Addr;

pub use socket::{PROBES, Socket, conflict};

/// Bytes of a frame: the least that Ethernet carries, without its checksum. 42 of them mean
/// something, the rest is zero.
pub const FRAME: usize = 60;
/// Everybody on the segment.
pub const BROADCAST: [u8; 6] = [0xff; 6];
/// The operation of a [`Packet`] that asks for the target's Ethernet address.
pub const REQUEST: u16 = 1;
/// The operation of a [`Packet`] that tells the sender's Ethernet address.
pub const REPLY: u16 = 2;

/// EtherType of ARP.
const ETHERTYPE: [u8; 2] = [0x08, 0x06];
/// Hardware type Ethernet, protocol type IPv4, and the lengths of their addresses.
const TYPES: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// An ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Packet {
    /// [`REQUEST`] or [`REPLY`], or something else that is not for hosts.
    pub operation: u16,
    /// Ethernet address of the sender.
    pub sender_mac: [u8; 6],
    /// Address of the sender; 0.0.0.0 in a probe.
    pub sender: Ipv4Addr,
    /// Ethernet address of the target; means nothing in a request.
    pub target_mac: [u8; 6],
    /// Address of the target; the sender's own where it only announces itself.
    pub target: Ipv4Addr,
}

impl Packet {
    /// Whether it shows that somebody else has `address`, or is about to take it (RFC 5227, section
    /// 2.1.1): it comes from that address, or probes for it. `own` is the Ethernet address of
    /// whoever asks, whose own packets prove nothing.
    #[must_use]
    pub fn contends_for(&self, address: Ipv4Addr, own: [u8; 6]) -> bool {
        let probe =
            self.operation == REQUEST && self.sender.is_unspecified() && self.target == address;
        self.sender_mac != own && (self.sender == address || probe)
    }

    /// The packet in a frame from `source` to `destination`.
    fn frame(&self, destination: [u8; 6], source: [u8; 6]) -> [u8; FRAME] {
        let operation = self.operation.to_be_bytes();
        let (sender, target) = (self.sender.octets(), self.target.octets());
        let parts: [&[u8]; 9] = [
            &destination,
            &source,
            &ETHERTYPE,
            &TYPES,
            &operation,
            &self.sender_mac,
            &sender,
            &self.target_mac,
            &target,
        ];
        let mut frame = [0; FRAME];
        let bytes = parts.into_iter().flatten();
        frame.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
        frame
    }
}

/// The frame that tells everybody, or only `to`, that `address` is at `mac` from now on: a reply
/// that nobody has asked for, whose target is its sender. Of the kinds of announcement this is the
/// one that routers and hosts of every age take in.
#[must_use]
pub fn gratuitous(address: Ipv4Addr, mac: [u8; 6], to: [u8; 6]) -> [u8; FRAME] {
    let packet = Packet {
        operation: REPLY,
        sender_mac: mac,
        sender: address,
        target_mac: mac,
        target: address,
    };
    packet.frame(to, mac)
}

/// The frame that asks everybody who has `target`. With 0.0.0.0 as `sender` it is a probe (RFC 5227,
/// section 2.1.1), which nobody's ARP table takes anything from.
#[must_use]
pub fn request(sender: Ipv4Addr, mac: [u8; 6], target: Ipv4Addr) -> [u8; FRAME] {
    let packet = Packet { operation: REQUEST, sender_mac: mac, sender, target_mac: [0; 6], target };
    packet.frame(BROADCAST, mac)
}

/// The packet in a frame from the Ethernet header on. `None` if it is cut, or something else than
/// ARP for IPv4 over Ethernet.
#[must_use]
pub fn parse(frame: &[u8]) -> Option<Packet> {
    let rest = frame.get(12..)?.strip_prefix(&ETHERTYPE)?.strip_prefix(&TYPES)?;
    let (operation, rest) = rest.split_first_chunk::<2>()?;
    let (sender_mac, rest) = rest.split_first_chunk::<6>()?;
    let (sender, rest) = rest.split_first_chunk::<4>()?;
    let (target_mac, rest) = rest.split_first_chunk::<6>()?;
    let (target, _) = rest.split_first_chunk::<4>()?;
    Some(Packet {
        operation: u16::from_be_bytes(*operation),
        sender_mac: *sender_mac,
        sender: Ipv4Addr::from(*sender),
        target_mac: *target_mac,
        target: Ipv4Addr::from(*target),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];

    #[test]
    fn the_frames_byte_for_byte() {
        let mut announcement = vec![0xff; 6];
        announcement.extend([2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
        announcement.extend([2, 0, 0, 0, 0, 1, 10, 0, 0, 100, 2, 0, 0, 0, 0, 1, 10, 0, 0, 100]);
        announcement.resize(60, 0);
        assert_eq!(gratuitous(VIP, MAC, BROADCAST)[..], announcement);
        announcement[..6].copy_from_slice(&OTHER);
        assert_eq!(gratuitous(VIP, MAC, OTHER)[..], announcement);

        let mut probe = vec![0xff; 6];
        probe.extend([2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        probe.extend([2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 100]);
        probe.resize(60, 0);
        assert_eq!(request(Ipv4Addr::UNSPECIFIED, MAC, VIP)[..], probe);
    }

    #[test]
    fn only_whole_arp_for_ipv4_over_ethernet_is_read() {
        let frame = gratuitous(VIP, MAC, BROADCAST);
        for length in 0..42 {
            assert_eq!(parse(&frame[..length]), None, "{length}");
        }
        assert_eq!(parse(&frame[..42]), parse(&frame));
        // Another EtherType, hardware, protocol, address lengths.
        for place in 12..20 {
            let mut other = frame;
            other[place] ^= 1;
            assert_eq!(parse(&other), None, "{place}");
        }
    }

    #[test]
    fn what_shows_that_somebody_else_has_the_address() {
        let packet = |operation, sender_mac, sender: [u8; 4], target: [u8; 4]| Packet {
            operation,
            sender_mac,
            sender: sender.into(),
            target_mac: [0; 6],
            target: target.into(),
        };
        let (vip, peer, none) = (VIP.octets(), [10, 0, 0, 1], [0; 4]);
        let cases = [
            ("its answer", packet(REPLY, OTHER, vip, none), true),
            ("its announcement", packet(REPLY, OTHER, vip, vip), true),
            ("its question", packet(REQUEST, OTHER, vip, peer), true),
            ("its probe", packet(REQUEST, OTHER, none, vip), true),
            ("a question for it", packet(REQUEST, OTHER, peer, vip), false),
            ("somebody's answer", packet(REPLY, OTHER, peer, vip), false),
            ("a probe for another", packet(REQUEST, OTHER, none, peer), false),
            ("our probe", packet(REQUEST, MAC, none, vip), false),
            ("our announcement", packet(REPLY, MAC, vip, vip), false),
        ];
        for (what, packet, contends) in cases {
            assert_eq!(packet.contends_for(VIP, MAC), contends, "{what}");
        }
    }

    proptest! {
        #[test]
        fn frames_are_read_as_they_were_made(a: u32, b: u32, mac: [u8; 6], to: [u8; 6]) {
            let (a, b) = (Ipv4Addr::from(a), Ipv4Addr::from(b));
            let packet = parse(&gratuitous(a, mac, to)).unwrap();
            prop_assert_eq!((packet.operation, packet.sender, packet.target), (REPLY, a, a));
            prop_assert_eq!((packet.sender_mac, packet.target_mac), (mac, mac));
            let packet = parse(&request(a, mac, b)).unwrap();
            prop_assert_eq!((packet.operation, packet.sender, packet.target), (REQUEST, a, b));
            prop_assert_eq!((packet.sender_mac, packet.target_mac), (mac, [0; 6]));
        }

        #[test]
        fn any_bytes_are_survived(mut bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&bytes);
            // And such as get past the first look.
            let head = [&ETHERTYPE[..], &TYPES].concat();
            bytes.iter_mut().skip(12).zip(head).for_each(|(place, byte)| *place = byte);
            prop_assert_eq!(parse(&bytes).is_some(), bytes.len() >= 42);
        }
    }
}
