//! rtnetlink's messages (rtnetlink(7), `include/uapi/linux/{rtnetlink,if_link,if_addr}.h`): the
//! kernel's as interfaces, addresses and gateways; changes as requests. Attributes that are not
//! known are passed over; those that are known must have the right size.
//!
//! All there is in here is in Linux 2.6.32 already, but `IFLA_CARRIER` (Linux 3.9), which old kernels
//! do not send and nothing depends on.

use std::net::Ipv4Addr;

use neli::consts::nl::NlmF;
use neli::consts::rtnl::{Ifa, Ifla, Rta, Rtm};
use netlink::wire::{Attributes, Head, Malformed, Message, Writer, exactly, u32};

use crate::address::{Address, AddressChange};
use crate::link::Link;
use crate::route::Gateway;

/// `struct ifinfomsg`: family, padding, type, number, flags, change.
pub(crate) const LINK_HEADER: usize = 16;
/// `struct ifaddrmsg`: family, prefix length, flags, scope, number of the interface.
pub(crate) const ADDRESS_HEADER: usize = 8;
/// `struct rtmsg`: family, lengths of destination and source prefix, TOS, table, protocol, scope,
/// type, flags.
pub(crate) const ROUTE_HEADER: usize = 12;

const AF_UNSPEC: u8 = 0;
pub(crate) const AF_INET: u8 = 2;
/// `ARPHRD_ETHER` of `include/uapi/linux/if_arp.h`.
const ETHERNET: u16 = 1;
/// `RT_TABLE_MAIN`.
const MAIN_TABLE: u32 = 254;
/// `RTN_UNICAST`.
const UNICAST: u8 = 1;
/// `RTNH_F_DEAD` and `RTNH_F_LINKDOWN`: the way is not usable.
const UNUSABLE: u32 = 0x11;

/// Interface flags (`IFF_*` of `include/uapi/linux/if.h`).
mod flag {
    pub(super) const UP: u32 = 1;
    pub(super) const BROADCAST: u32 = 1 << 1;
    pub(super) const LOOPBACK: u32 = 1 << 3;
    pub(super) const NOARP: u32 = 1 << 7;
    pub(super) const LOWER_UP: u32 = 1 << 16;
}

/// Address scopes (`RT_SCOPE_*`).
mod scope {
    pub(super) const UNIVERSE: u8 = 0;
    pub(super) const HOST: u8 = 254;
}

fn ipv4(payload: &[u8]) -> Result<Ipv4Addr, Malformed> {
    exactly::<4>(payload).map(Ipv4Addr::from)
}

/// A name, up to its NUL. The kernel takes any bytes for one; a strange name must not hide all
/// others.
fn text(payload: &[u8]) -> String {
    let bytes = payload.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

/// An interface, out of an `RTM_NEWLINK` or `RTM_DELLINK`. `None` if the message is of something
/// else: bridges speak of their ports, and wireless interfaces of their events, in the same words.
pub(crate) fn link(message: &Message<'_>) -> Result<Option<Link>, Malformed> {
    let (header, attributes) = message.split::<LINK_HEADER>()?;
    let [family, _, t0, t1, i0, i1, i2, i3, f0, f1, f2, f3, ..] = *header;
    if family != AF_UNSPEC {
        return Ok(None);
    }
    let (mut name, mut mac, mut carrier) = (None, None, true);
    for attribute in attributes {
        let (kind, payload) = attribute?;
        if kind == u16::from(Ifla::Ifname) {
            name = Some(text(payload));
        } else if kind == u16::from(Ifla::Address) {
            mac = payload.try_into().ok();
        } else if kind == u16::from(Ifla::Carrier) {
            carrier = payload != [0];
        } else if kind == u16::from(Ifla::Wireless) {
            return Ok(None);
        }
    }
    let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
    let has = |flag| flags & flag != 0;
    let ethernet = u16::from_ne_bytes([t0, t1]) == ETHERNET && mac.is_some();
    Ok(name.map(|name| Link {
        index: u32::from_ne_bytes([i0, i1, i2, i3]),
        name,
        mac,
        up: has(flag::UP),
        carrier: carrier && has(flag::UP) && has(flag::LOWER_UP),
        arp: ethernet && has(flag::BROADCAST) && !has(flag::LOOPBACK | flag::NOARP),
    }))
}

/// An IPv4 address, out of an `RTM_NEWADDR` or `RTM_DELADDR`; `None` if it is another family's.
/// Where the kernel knows no label, there is none.
pub(crate) fn address(message: &Message<'_>) -> Result<Option<Address>, Malformed> {
    let (header, attributes) = message.split::<ADDRESS_HEADER>()?;
    let [family, prefix, flags, _, i0, i1, i2, i3] = *header;
    if family != AF_INET {
        return Ok(None);
    }
    let (mut local, mut peer, mut broadcast, mut label) = (None, None, None, String::new());
    for attribute in attributes {
        let (kind, payload) = attribute?;
        if kind == u16::from(Ifa::Local) {
            local = Some(ipv4(payload)?);
        } else if kind == u16::from(Ifa::Address) {
            // On a point-to-point interface the other end's, else the same as the local one.
            peer = Some(ipv4(payload)?);
        } else if kind == u16::from(Ifa::Broadcast) {
            broadcast = Some(ipv4(payload)?);
        } else if kind == u16::from(Ifa::Label) {
            label = text(payload);
        }
    }
    Ok(Some(Address {
        index: u32::from_ne_bytes([i0, i1, i2, i3]),
        addr: local.or(peer).ok_or(Malformed("no address where one must be"))?,
        prefix,
        broadcast,
        label,
        // IFA_F_SECONDARY.
        secondary: flags & 1 != 0,
    }))
}

/// The router of a default route of the main table, with the route's metric: less is better.
/// `None` for every other route, and for one that leads nowhere at present.
pub(crate) fn default_route(message: &Message<'_>) -> Result<Option<(u32, Gateway)>, Malformed> {
    let (header, attributes) = message.split::<ROUTE_HEADER>()?;
    let [family, length, _, _, table, _, _, kind, f0, f1, f2, f3] = *header;
    let unusable = u32::from_ne_bytes([f0, f1, f2, f3]) & UNUSABLE != 0;
    if family != AF_INET || length != 0 || kind != UNICAST || unusable {
        return Ok(None);
    }
    let mut metric = 0;
    // The table in the header is cut to 8 bits.
    let mut table = u32::from(table);
    let mut hop = Hop::default();
    let mut hops = None;
    for attribute in attributes {
        let (kind, payload) = attribute?;
        if kind == u16::from(Rta::Table) {
            table = u32(payload)?;
        } else if kind == u16::from(Rta::Priority) {
            metric = u32(payload)?;
        } else if kind == u16::from(Rta::Multipath) {
            hops = Some(payload);
        } else {
            hop.take(kind, payload)?;
        }
    }
    if table != MAIN_TABLE {
        return Ok(None);
    }
    let gateway = match (hop.gateway(), hops) {
        (None, Some(hops)) => first_hop(hops)?,
        (gateway, _) => gateway,
    };
    Ok(gateway.map(|gateway| (metric, gateway)))
}

/// A way to the next router, as far as read.
#[derive(Default)]
struct Hop {
    via: Option<Ipv4Addr>,
    index: Option<u32>,
}

impl Hop {
    fn take(&mut self, kind: u16, payload: &[u8]) -> Result<(), Malformed> {
        if kind == u16::from(Rta::Gateway) {
            self.via = Some(ipv4(payload)?);
        } else if kind == u16::from(Rta::Oif) {
            self.index = Some(u32(payload)?);
        }
        Ok(())
    }

    fn gateway(&self) -> Option<Gateway> {
        Some(Gateway { via: self.via?, index: self.index? })
    }
}

/// The first usable router of several (`struct rtnexthop`: length, flags, weight, number of the
/// interface; then attributes).
fn first_hop(mut hops: &[u8]) -> Result<Option<Gateway>, Malformed> {
    while let Some(([l0, l1, flags, _, i0, i1, i2, i3], _)) = hops.split_first_chunk::<8>() {
        let length = usize::from(u16::from_ne_bytes([*l0, *l1]));
        let attributes = hops.get(8..length).ok_or(Malformed("a next hop of impossible length"))?;
        let index = Some(u32::from_ne_bytes([*i0, *i1, *i2, *i3]));
        let mut hop = Hop { via: None, index };
        for attribute in Attributes(attributes) {
            let (kind, payload) = attribute?;
            hop.take(kind, payload)?;
        }
        let usable = u32::from(*flags) & UNUSABLE == 0;
        if let (true, Some(gateway)) = (usable, hop.gateway()) {
            return Ok(Some(gateway));
        }
        hops = hops.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(None)
}

/// Appends the request for a change.
///
/// The scope is what ip(8) gives: a loopback address is the host's own, others are for everybody.
/// Within a network of an interface it must be the same for all, or the kernel refuses.
pub(crate) fn change(writer: &mut Writer, change: &AddressChange, flags: NlmF, sequence: u32) {
    let address = change.address();
    let (kind, flags) = match change {
        AddressChange::Add(_) => (Rtm::Newaddr, flags | NlmF::CREATE | NlmF::EXCL),
        AddressChange::Remove(_) => (Rtm::Deladdr, flags),
    };
    let scope = if address.addr.is_loopback() { scope::HOST } else { scope::UNIVERSE };
    let [i0, i1, i2, i3] = address.index.to_ne_bytes();
    let fixed = [AF_INET, address.prefix, 0, scope, i0, i1, i2, i3];
    writer.message(Head { kind: kind.into(), flags, sequence, fixed: &fixed }, |w| {
        w.attribute(Ifa::Local.into(), &address.addr.octets());
        w.attribute(Ifa::Address.into(), &address.addr.octets());
        if let (AddressChange::Add(_), Some(broadcast)) = (change, address.broadcast) {
            w.attribute(Ifa::Broadcast.into(), &broadcast.octets());
        }
        if !address.label.is_empty() {
            w.string(Ifa::Label.into(), &address.label);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink::wire::Messages;
    use proptest::prelude::*;

    /// A message of the kernel's, as `read` reads it.
    fn read<T>(
        fixed: &[u8],
        body: impl FnOnce(&mut Writer),
        read: impl Fn(&Message<'_>) -> Result<Option<T>, Malformed>,
    ) -> Option<T> {
        let mut writer = Writer::default();
        writer.message(Head { kind: 16, flags: NlmF::empty(), sequence: 0, fixed }, body);
        let message = Messages(writer.bytes()).next().unwrap().unwrap();
        read(&message).unwrap()
    }

    fn link_header(family: u8, kind: u16, index: u32, flags: u32) -> Vec<u8> {
        let mut fixed = vec![family, 0];
        fixed.extend(kind.to_ne_bytes());
        fixed.extend(index.to_ne_bytes());
        fixed.extend(flags.to_ne_bytes());
        fixed.extend([0; 4]);
        fixed
    }

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const RUNNING: u32 = flag::UP | flag::BROADCAST | flag::LOWER_UP;

    fn a_link(kind: u16, flags: u32, mac: &[u8], carrier: Option<u8>) -> Link {
        let body = |w: &mut Writer| {
            w.string(Ifla::Ifname.into(), "eth0");
            w.attribute(Ifla::Address.into(), mac);
            if let Some(carrier) = carrier {
                w.attribute(Ifla::Carrier.into(), &[carrier]);
            }
        };
        read(&link_header(0, kind, 7, flags), body, link).unwrap()
    }

    #[test]
    fn links() {
        let nic = a_link(ETHERNET, RUNNING, &MAC, Some(1));
        let wanted = Link {
            index: 7,
            name: "eth0".to_owned(),
            mac: Some(MAC),
            up: true,
            carrier: true,
            arp: true,
        };
        assert_eq!(nic, wanted);
        // Linux 2.6.32 sends no IFLA_CARRIER.
        assert_eq!(a_link(ETHERNET, RUNNING, &MAC, None), wanted);
        let unplugged = a_link(ETHERNET, RUNNING & !flag::LOWER_UP, &MAC, Some(0));
        assert_eq!(unplugged, Link { carrier: false, ..wanted.clone() });
        assert_eq!(a_link(ETHERNET, RUNNING, &MAC, Some(0)), unplugged);
        // Switched off, whatever the driver says.
        let off = a_link(ETHERNET, RUNNING & !flag::UP, &MAC, Some(1));
        assert_eq!(off, Link { up: false, carrier: false, ..wanted });
    }

    #[test]
    fn what_arp_is_for() {
        let cases = [
            ("a NIC", ETHERNET, RUNNING, &MAC[..], true),
            ("a NIC that is down", ETHERNET, flag::BROADCAST, &MAC, true),
            ("ip link set arp off", ETHERNET, RUNNING | flag::NOARP, &MAC, false),
            ("lo", 772, flag::UP | flag::LOOPBACK | flag::LOWER_UP, &[0; 6], false),
            ("a tunnel", 768, flag::UP | flag::NOARP, &[10, 0, 0, 1], false),
            ("InfiniBand", 32, RUNNING, &[0; 20], false),
        ];
        for (what, kind, flags, mac, arp) in cases {
            assert_eq!(a_link(kind, flags, mac, None).arp, arp, "{what}");
        }
    }

    #[test]
    fn messages_of_something_else_are_no_links() {
        let name = |w: &mut Writer| w.string(Ifla::Ifname.into(), "eth0");
        // A port that leaves its bridge: AF_BRIDGE. It is still there.
        assert_eq!(read(&link_header(7, ETHERNET, 7, RUNNING), name, link), None);
        let event = |w: &mut Writer| {
            w.string(Ifla::Ifname.into(), "wlan0");
            w.attribute(Ifla::Wireless.into(), &[0; 8]);
        };
        assert_eq!(read(&link_header(0, ETHERNET, 7, RUNNING), event, link), None);
        assert_eq!(read(&link_header(0, ETHERNET, 7, RUNNING), |_| {}, link), None);
        assert_eq!(read(&[10, 64, 0, 0, 7, 0, 0, 0], |_| {}, address), None);
    }

    #[test]
    fn addresses() {
        let mut fixed = vec![AF_INET, 24, 1, 0];
        fixed.extend(7_u32.to_ne_bytes());
        let body = |w: &mut Writer| {
            w.attribute(Ifa::Address.into(), &[10, 0, 0, 1]);
            w.attribute(Ifa::Local.into(), &[10, 0, 0, 100]);
            w.attribute(Ifa::Broadcast.into(), &[10, 0, 0, 255]);
            w.string(Ifa::Label.into(), "eth0:1");
            // IFA_FLAGS, and one of the future.
            w.u32(8, 0x81);
            w.attribute(99, &[1]);
        };
        let wanted = Address {
            index: 7,
            addr: [10, 0, 0, 100].into(),
            prefix: 24,
            broadcast: Some([10, 0, 0, 255].into()),
            label: "eth0:1".to_owned(),
            secondary: true,
        };
        assert_eq!(read(&fixed, body, address), Some(wanted));
        // A request is read as it was meant.
        let lo = Address {
            index: 1,
            addr: [127, 0, 0, 2].into(),
            prefix: 8,
            broadcast: None,
            label: "lo:2".to_owned(),
            secondary: false,
        };
        for make in [AddressChange::Add, AddressChange::Remove] {
            let mut writer = Writer::default();
            change(&mut writer, &make(lo.clone()), NlmF::ACK, 5);
            let message = Messages(writer.bytes()).next().unwrap().unwrap();
            assert_eq!(address(&message).unwrap(), Some(lo.clone()));
            assert_eq!((message.sequence, message.payload[3]), (5, scope::HOST));
        }
    }

    fn route_header(length: u8, table: u8, kind: u8, flags: u32) -> Vec<u8> {
        let mut fixed = vec![AF_INET, length, 0, 0, table, 3, 0, kind];
        fixed.extend(flags.to_ne_bytes());
        fixed
    }

    /// A `struct rtnexthop` through that router of interface 3.
    fn next_hop(flags: u8, via: [u8; 4]) -> Vec<u8> {
        let mut hop = Vec::from(16_u16.to_ne_bytes());
        hop.extend([flags, 0]);
        hop.extend(3_u32.to_ne_bytes());
        hop.extend(8_u16.to_ne_bytes());
        hop.extend(u16::from(Rta::Gateway).to_ne_bytes());
        hop.extend(via);
        hop
    }

    #[test]
    fn default_routes() {
        let via = |w: &mut Writer| {
            w.attribute(Rta::Gateway.into(), &[10, 0, 0, 254]);
            w.u32(Rta::Oif.into(), 2);
            w.u32(Rta::Priority.into(), 100);
        };
        let gateway = Gateway { via: [10, 0, 0, 254].into(), index: 2 };
        let header = |length, table, kind, flags| route_header(length, table, kind, flags);
        let found = |fixed: Vec<u8>| read(&fixed, via, default_route);
        assert_eq!(found(header(0, 254, UNICAST, 0)), Some((100, gateway)));
        assert_eq!(found(header(24, 254, UNICAST, 0)), None, "a route to a network");
        assert_eq!(found(header(0, 100, UNICAST, 0)), None, "another table");
        assert_eq!(found(header(0, 254, 7, 0)), None, "unreachable");
        assert_eq!(found(header(0, 254, UNICAST, 0x10)), None, "its link is down");
        let table = |w: &mut Writer| {
            via(w);
            w.u32(Rta::Table.into(), 1000);
        };
        assert_eq!(read(&header(0, 252, UNICAST, 0), table, default_route), None);
        let point_to_point = |w: &mut Writer| w.u32(Rta::Oif.into(), 2);
        assert_eq!(read(&header(0, 254, UNICAST, 0), point_to_point, default_route), None);

        let hops = [next_hop(1, [10, 0, 0, 1]), next_hop(0, [10, 0, 0, 2])].concat();
        let several = |w: &mut Writer| w.attribute(Rta::Multipath.into(), &hops);
        let second = Gateway { via: [10, 0, 0, 2].into(), index: 3 };
        assert_eq!(read(&header(0, 254, UNICAST, 0), several, default_route), Some((0, second)));
    }

    /// Messages as the source of Linux 2.6.32 builds them (`rtnl_fill_ifinfo`, `inet_fill_ifaddr`,
    /// `fib_dump_info`), byte by byte.
    #[test]
    #[cfg(target_endian = "little")]
    fn messages_of_linux_2_6_32() {
        fn attr(kind: u8, payload: &[u8]) -> Vec<u8> {
            let mut bytes = vec![u8::try_from(4 + payload.len()).unwrap(), 0, kind, 0];
            bytes.extend(payload);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        }
        fn message(kind: u8, fixed: &[u8], attributes: &[Vec<u8>]) -> Vec<u8> {
            let body = [fixed, &attributes.concat()].concat();
            let length = u8::try_from(16 + body.len()).unwrap();
            let head = [length, 0, 0, 0, kind, 0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0];
            [&head[..], &body].concat()
        }
        let first = |bytes: &'static [u8]| Messages(bytes).next().unwrap().unwrap();
        // IFLA_IFNAME, TXQLEN, OPERSTATE, LINKMODE, MTU, QDISC, MAP, ADDRESS, BROADCAST, STATS; UP,
        // BROADCAST, RUNNING, MULTICAST, LOWER_UP.
        let nic = message(
            16,
            &[0, 0, 1, 0, 2, 0, 0, 0, 0x43, 0x10, 1, 0, 0, 0, 0, 0],
            &[
                attr(3, b"eth0\0"),
                attr(13, &[0xe8, 3, 0, 0]),
                attr(16, &[6]),
                attr(17, &[0]),
                attr(4, &[0xdc, 5, 0, 0]),
                attr(6, b"pfifo_fast\0"),
                attr(14, &[0; 28]),
                attr(1, &MAC),
                attr(2, &[0xff; 6]),
                attr(7, &[0; 92]),
            ],
        );
        let read = link(&first(nic.leak())).unwrap().unwrap();
        assert_eq!((read.index, read.name.as_str(), read.mac), (2, "eth0", Some(MAC)));
        assert!(read.up && read.carrier && read.arp);
        // IFA_ADDRESS, LOCAL, BROADCAST, LABEL; no IFA_FLAGS (3.14), no IFA_CACHEINFO for IPv4 (3.7).
        let vip = message(
            20,
            &[2, 24, 0x81, 0, 2, 0, 0, 0],
            &[
                attr(1, &[10, 0, 0, 100]),
                attr(2, &[10, 0, 0, 100]),
                attr(4, &[10, 0, 0, 255]),
                attr(3, b"eth0:1\0"),
            ],
        );
        let read = address(&first(vip.leak())).unwrap().unwrap();
        assert_eq!((read.to_string().as_str(), read.label.as_str()), ("10.0.0.100/24", "eth0:1"));
        assert!(read.secondary && read.broadcast == Some([10, 0, 0, 255].into()));
        // RTA_TABLE, OIF, GATEWAY.
        let route = message(
            24,
            &[2, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0],
            &[attr(15, &[254, 0, 0, 0]), attr(5, &[10, 0, 0, 1]), attr(4, &[2, 0, 0, 0])],
        );
        let gateway = Gateway { via: [10, 0, 0, 1].into(), index: 2 };
        assert_eq!(default_route(&first(route.leak())).unwrap(), Some((0, gateway)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(
            payload in prop::collection::vec(any::<u8>(), 0..200),
            attribute in prop::collection::vec(any::<u8>(), 0..40),
            kind in 0..40_u16,
        ) {
            let mut payloads = vec![payload];
            for length in [LINK_HEADER, ADDRESS_HEADER, ROUTE_HEADER] {
                // Past the first look, with an attribute that has anything in it.
                let mut fixed = vec![0; length];
                if length != LINK_HEADER {
                    fixed[0] = AF_INET;
                    fixed[7] = UNICAST;
                }
                let mut writer = Writer::default();
                let head = Head { kind: 0, flags: NlmF::empty(), sequence: 0, fixed: &fixed };
                writer.message(head, |w| w.attribute(kind, &attribute));
                payloads.push(writer.bytes()[16..].to_vec());
            }
            for payload in &payloads {
                let message = Message { kind: 16, flags: NlmF::empty(), sequence: 0, payload };
                let _ = (link(&message), address(&message), default_route(&message));
            }
            let _ = first_hop(&attribute);
        }
    }
}
