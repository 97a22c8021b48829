//! IPv4 addresses of interfaces, as ifconfig and ip know them.

use std::fmt;
use std::net::Ipv4Addr;

/// The longest label, in bytes: `IFNAMSIZ` without the NUL (`include/uapi/linux/if.h`).
pub const LABEL_LIMIT: usize = 15;

/// An IPv4 address of an interface.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// The interface's number.
    pub index: u32,
    /// The address.
    pub addr: Ipv4Addr,
    /// Length of the network's prefix, 0 to 32.
    pub prefix: u8,
    /// The network's broadcast address, if the interface was given one.
    pub broadcast: Option<Ipv4Addr>,
    /// The name that ifconfig shows it under, at most [`LABEL_LIMIT`] bytes: `eth0:1`; the
    /// interface's own name where it has no other.
    pub label: String,
    /// Whether it came second in its network on this interface. The kernel decides that, so it is
    /// ignored in a change.
    pub secondary: bool,
}

impl Address {
    /// The interface that the label speaks of.
    #[must_use]
    pub fn interface(&self) -> &str {
        interface_of(&self.label)
    }
}

/// With its prefix: `10.0.0.100/24`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
    }
}

/// Something to do to an interface's addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AddressChange {
    /// Give it this address.
    Add(Address),
    /// Take this address from it: the one with this number, prefix and label. Without a label,
    /// whatever its label.
    ///
    /// If it is the first of its network on the interface, and others of that network are there,
    /// these become its heirs only where the sysctl `net.ipv4.conf.INTERFACE.promote_secondaries` is
    /// set. Else the kernel removes them as well, without a word in its answer. Read the addresses
    /// afterwards where that matters.
    Remove(Address),
}

impl AddressChange {
    /// The address in question.
    #[must_use]
    pub fn address(&self) -> &Address {
        match self {
            AddressChange::Add(address) | AddressChange::Remove(address) => address,
        }
    }
}

/// As a phrase: `add 10.0.0.100/24 to eth0 as eth0:1`.
impl fmt::Display for AddressChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address();
        let (verb, preposition, naming) = match self {
            AddressChange::Add(_) => ("add", "to", "as"),
            AddressChange::Remove(_) => ("remove", "from", "where it is"),
        };
        write!(f, "{verb} {address} {preposition} ")?;
        match address.interface() {
            "" => write!(f, "interface number {}", address.index)?,
            name => f.write_str(name)?,
        }
        if address.label != address.interface() {
            write!(f, " {naming} {}", address.label)?;
        }
        Ok(())
    }
}

/// The interface in a label: `eth0` of `eth0:1`, and of `eth0`.
#[must_use]
pub fn interface_of(label: &str) -> &str {
    label.split_once(':').map_or(label, |(interface, _)| interface)
}

/// The prefix length a netmask stands for; `None` if its ones are not all at its front.
#[must_use]
pub fn prefix_of(mask: Ipv4Addr) -> Option<u8> {
    let bits = mask.to_bits();
    let prefix = bits.leading_ones();
    (prefix == bits.count_ones()).then(|| u8::try_from(prefix).unwrap_or(32))
}

/// The netmask of a prefix length; a length above 32 counts as 32.
#[must_use]
pub fn mask_of(prefix: u8) -> Ipv4Addr {
    let zeros = 32_u32.saturating_sub(prefix.into());
    Ipv4Addr::from_bits(u32::MAX.checked_shl(zeros).unwrap_or(0))
}

/// The prefix length an address has by its class (RFC 791, section 2.3), which is what ifconfig
/// takes where no mask is given: 8, 16 or 24. Addresses of no network, 224.0.0.0 and above, stand
/// alone: 32.
#[must_use]
pub fn classful_prefix(addr: Ipv4Addr) -> u8 {
    match addr.octets()[0] {
        0..=127 => 8,
        128..=191 => 16,
        192..=223 => 24,
        224..=255 => 32,
    }
}

/// The broadcast address of an address's network. Networks of one or two addresses (/32, and /31
/// by RFC 3021) have none; nor does a prefix above 32.
#[must_use]
pub fn broadcast_of(addr: Ipv4Addr, prefix: u8) -> Option<Ipv4Addr> {
    (prefix < 31).then(|| addr | !mask_of(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    #[test]
    fn masks_and_their_prefixes() {
        let cases = [
            ("0.0.0.0", Some(0)),
            ("128.0.0.0", Some(1)),
            ("255.0.0.0", Some(8)),
            ("255.255.255.0", Some(24)),
            ("255.255.255.252", Some(30)),
            ("255.255.255.255", Some(32)),
            ("255.0.255.0", None),
            ("0.0.0.255", None),
            ("127.255.255.255", None),
            ("255.255.255.253", None),
        ];
        for (mask, prefix) in cases {
            assert_eq!(prefix_of(ip(mask)), prefix, "{mask}");
        }
        assert_eq!(mask_of(33), Ipv4Addr::BROADCAST);
    }

    #[test]
    fn classes() {
        let cases = [
            ("10.0.0.100", 8),
            ("127.0.0.1", 8),
            ("128.0.0.1", 16),
            ("172.16.0.100", 16),
            ("191.255.0.1", 16),
            ("192.168.26.1", 24),
            ("223.255.255.1", 24),
            ("224.0.0.81", 32),
            ("255.255.255.255", 32),
        ];
        for (addr, prefix) in cases {
            assert_eq!(classful_prefix(ip(addr)), prefix, "{addr}");
        }
    }

    #[test]
    fn broadcast_addresses() {
        let cases = [
            ("10.0.0.100", 24, Some("10.0.0.255")),
            ("10.0.0.100", 8, Some("10.255.255.255")),
            ("10.0.0.100", 30, Some("10.0.0.103")),
            ("10.0.0.100", 0, Some("255.255.255.255")),
            ("10.0.0.100", 31, None),
            ("10.0.0.100", 32, None),
            ("10.0.0.100", 99, None),
        ];
        for (addr, prefix, broadcast) in cases {
            assert_eq!(broadcast_of(ip(addr), prefix), broadcast.map(ip), "{addr}/{prefix}");
        }
    }

    #[test]
    fn interfaces_of_labels() {
        let cases = [
            ("eth0:1", "eth0"),
            ("eth0", "eth0"),
            ("bond0.100:vip", "bond0.100"),
            ("eth0:1:2", "eth0"),
            ("", ""),
            (":1", ""),
        ];
        for (label, interface) in cases {
            assert_eq!(interface_of(label), interface, "{label}");
        }
    }

    #[test]
    fn changes_read_like_sentences() {
        let change = |make: fn(Address) -> AddressChange, label: &str| {
            let address = Address {
                index: 3,
                addr: ip("10.0.0.100"),
                prefix: 24,
                broadcast: None,
                label: label.to_owned(),
                secondary: false,
            };
            make(address).to_string()
        };
        let (add, remove) = (AddressChange::Add, AddressChange::Remove);
        assert_eq!(change(add, "eth0:1"), "add 10.0.0.100/24 to eth0 as eth0:1");
        assert_eq!(change(add, "eth0"), "add 10.0.0.100/24 to eth0");
        assert_eq!(change(remove, "eth0:1"), "remove 10.0.0.100/24 from eth0 where it is eth0:1");
        assert_eq!(change(remove, ""), "remove 10.0.0.100/24 from interface number 3");
    }

    proptest! {
        #[test]
        fn a_prefix_is_that_of_its_mask(prefix in 0..=32_u8) {
            prop_assert_eq!(prefix_of(mask_of(prefix)), Some(prefix));
        }

        #[test]
        fn a_mask_with_a_prefix_is_that_prefixs(mask: u32) {
            let mask = Ipv4Addr::from_bits(mask);
            prop_assert!(prefix_of(mask).is_none_or(|prefix| mask_of(prefix) == mask));
        }

        #[test]
        fn the_broadcast_address_is_the_last_of_the_network(addr: u32, prefix in 0..=30_u8) {
            let (addr, mask) = (Ipv4Addr::from_bits(addr), mask_of(prefix));
            let broadcast = broadcast_of(addr, prefix).unwrap();
            prop_assert_eq!(broadcast & mask, addr & mask);
            prop_assert_eq!(broadcast | mask, Ipv4Addr::BROADCAST);
        }

        #[test]
        fn a_label_begins_with_its_interface(label: String) {
            let interface = interface_of(&label);
            prop_assert!(label.starts_with(interface) && !interface.contains(':'));
        }
    }
}
