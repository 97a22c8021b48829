//! This machine's interfaces and addresses as they are now: read once, kept up to date by the
//! kernel's notices.

use lvs_net::{
    Address, AddressChange, Error, ErrorKind, Failure, Gateway, Link, Netlink, Notice, Watch,
};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};

/// Most readings of notices at a time; what is left is reported again.
const READINGS: usize = 64;

/// What this machine has: the part without I/O.
#[derive(Debug, Default)]
pub struct Mirror {
    links: BTreeMap<u32, Link>,
    /// By address, interface and prefix.
    addresses: BTreeMap<(Ipv4Addr, u32, u8), Address>,
}

impl Mirror {
    /// A mirror of these.
    #[must_use]
    pub fn new(links: Vec<Link>, addresses: Vec<Address>) -> Mirror {
        Mirror {
            links: links.into_iter().map(|link| (link.index, link)).collect(),
            addresses: addresses.into_iter().map(|address| (key(&address), address)).collect(),
        }
    }

    /// All addresses.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.addresses.values()
    }

    /// Where an address is: on one interface, or on several.
    pub fn places_of(&self, addr: Ipv4Addr) -> impl Iterator<Item = &Address> {
        self.addresses.range((addr, 0, 0)..=(addr, u32::MAX, u8::MAX)).map(|(_, address)| address)
    }

    /// Whether this address still stands as it did.
    #[must_use]
    pub fn has(&self, address: &Address) -> bool {
        self.addresses.contains_key(&key(address))
    }

    /// The interface with this number.
    #[must_use]
    pub fn link(&self, index: u32) -> Option<&Link> {
        self.links.get(&index)
    }

    /// The interface with this name.
    #[must_use]
    pub fn link_named(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }

    /// Whether some interface bears this address.
    #[must_use]
    pub fn bears(&self, addr: Ipv4Addr) -> bool {
        self.places_of(addr).next().is_some()
    }

    /// Takes a notice in. False: notices were lost, and everything must be read again.
    fn take(&mut self, notice: Notice) -> bool {
        match notice {
            Notice::Link(link) => {
                self.links.insert(link.index, link);
            }
            Notice::LinkGone { index, .. } => {
                self.links.remove(&index);
                self.addresses.retain(|_, address| address.index != index);
            }
            Notice::AddressAdded(address) => {
                self.addresses.insert(key(&address), address);
            }
            Notice::AddressRemoved(address) => {
                self.addresses.remove(&key(&address));
            }
            Notice::Lost => return false,
        }
        true
    }
}

/// What the kernel tells addresses apart by.
fn key(address: &Address) -> (Ipv4Addr, u32, u8) {
    (address.addr, address.index, address.prefix)
}

/// The mirror and what keeps it up to date.
#[derive(Debug)]
pub struct Net {
    netlink: Netlink,
    watch: Watch,
    mirror: Mirror,
    changed: bool,
}

impl Net {
    /// Reads everything.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn open() -> Result<Net, Error> {
        // Watched before it is read, so that nothing is missed in between.
        let watch = Watch::open()?;
        let mut netlink = Netlink::open()?;
        let mirror = Mirror::new(netlink.links()?, netlink.addresses()?);
        Ok(Net { netlink, watch, mirror, changed: true })
    }

    /// What this machine has.
    #[must_use]
    pub fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// Whether anything has changed since the last call, whoever has taken it in.
    pub fn has_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Takes in what has changed.
    pub fn update(&mut self) {
        let mut complete = true;
        for _ in 0..READINGS {
            let notices = self.watch.read();
            if notices.is_empty() {
                break;
            }
            self.changed = true;
            for notice in notices {
                complete &= self.mirror.take(notice);
            }
        }
        if !complete {
            self.read_again();
        }
    }

    fn read_again(&mut self) {
        let read = self.netlink.links().and_then(|links| Ok((links, self.netlink.addresses()?)));
        match read {
            Ok((links, addresses)) => self.mirror = Mirror::new(links, addresses),
            Err(error) => log::error!("{error}"),
        }
    }

    /// Changes addresses; gives back what failed. That an address is there already, or gone
    /// already, is what was wanted.
    pub fn apply(&mut self, changes: &[AddressChange]) -> Vec<Failure> {
        let mut failures = self.netlink.apply(changes);
        failures.retain(|f| !matches!(f.error.kind(), ErrorKind::Exists | ErrorKind::Missing));
        if failures.iter().any(|f| f.error.is_uncertain()) {
            self.read_again();
        }
        // The kernel has queued its notices of what it has done by now.
        self.update();
        failures
    }

    /// The default gateway.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn default_gateway(&mut self) -> Result<Option<Gateway>, Error> {
        self.netlink.default_gateway()
    }
}

impl AsFd for Net {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, carrier: bool) -> Link {
        Link { index, name: format!("eth{index}"), mac: None, up: true, carrier, arp: true }
    }

    fn address(index: u32, last: u8, prefix: u8) -> Address {
        Address {
            index,
            addr: [10, 0, 0, last].into(),
            prefix,
            broadcast: None,
            label: format!("eth{index}"),
            secondary: false,
        }
    }

    #[test]
    fn notices_keep_it_as_the_machine_is() {
        let mut mirror = Mirror::new(vec![link(1, true)], vec![address(1, 1, 24)]);
        let notices = [
            Notice::Link(link(2, false)),
            Notice::AddressAdded(address(2, 1, 24)),
            Notice::AddressAdded(address(2, 1, 32)),
            Notice::AddressAdded(address(1, 9, 24)),
            // Told twice, as it may be after the first reading.
            Notice::AddressAdded(address(1, 9, 24)),
            Notice::Link(link(1, false)),
        ];
        assert!(notices.into_iter().all(|notice| mirror.take(notice)));
        let places = |mirror: &Mirror| {
            let places = mirror.places_of([10, 0, 0, 1].into());
            places.map(|a| (a.index, a.prefix)).collect::<Vec<_>>()
        };
        assert_eq!(places(&mirror), [(1, 24), (2, 24), (2, 32)]);
        assert!(mirror.bears([10, 0, 0, 9].into()) && mirror.has(&address(1, 9, 24)));
        assert!(!mirror.link(1).unwrap().carrier);
        assert_eq!(mirror.link_named("eth2").map(|link| link.index), Some(2));

        assert!(mirror.take(Notice::AddressRemoved(address(1, 9, 24))));
        assert!(!mirror.bears([10, 0, 0, 9].into()));
        // What an interface bore goes with it.
        assert!(mirror.take(Notice::LinkGone { index: 2, name: "eth2".to_owned() }));
        assert_eq!(places(&mirror), [(1, 24)]);
        assert!(mirror.link(2).is_none());
        assert!(!mirror.take(Notice::Lost));
    }
}
