//! Gratuitous ARP: telling the segment, five times, a second apart, that an address is here now.

use crate::net::Mirror;
use lvs_net::{Address, arp};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How often each address is announced.
const TIMES: u8 = 5;
/// The time between two announcements.
const PAUSE: Duration = Duration::from_secs(1);

/// The announcements under way.
#[derive(Debug, Default)]
pub struct Announcer {
    /// The addresses, and how often each is still to be announced.
    waiting: Vec<(Address, u8)>,
    next: Option<Instant>,
    sockets: BTreeMap<u32, arp::Socket>,
}

impl Announcer {
    /// Announces these addresses now, and four times more.
    pub fn announce(&mut self, addresses: &[Address], mirror: &Mirror, now: Instant) {
        if addresses.is_empty() {
            return;
        }
        self.waiting.retain(|(waiting, _)| addresses.iter().all(|new| new.addr != waiting.addr));
        self.send(addresses, mirror);
        self.waiting.extend(addresses.iter().map(|address| (address.clone(), TIMES - 1)));
        self.next.get_or_insert(now + PAUSE);
    }

    /// Announces none of them any more.
    pub fn stop(&mut self) {
        *self = Announcer::default();
    }

    /// When [`Announcer::on_time`] wants to be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Sends what is due; whether that was the end of it.
    #[must_use]
    pub fn on_time(&mut self, mirror: &Mirror, now: Instant) -> bool {
        if self.next.is_none_or(|at| at > now) {
            return false;
        }
        let due: Vec<Address> = self.waiting.iter().map(|(address, _)| address.clone()).collect();
        self.send(&due, mirror);
        for (_, left) in &mut self.waiting {
            *left -= 1;
        }
        self.waiting.retain(|(_, left)| *left > 0);
        if self.waiting.is_empty() {
            self.stop();
            return true;
        }
        self.next = Some(now + PAUSE);
        false
    }

    fn send(&mut self, addresses: &[Address], mirror: &Mirror) {
        let mut failed = addresses.iter().filter_map(|address| {
            let error = self.send_one(address, mirror).err()?;
            Some((address, error))
        });
        if let Some((address, error)) = failed.next() {
            let more = failed.count();
            match more {
                0 => log::warn!("gratuitous arp for {}: {error}", address.label),
                _ => log::warn!("gratuitous arp for {}: {error} ({more} more)", address.label),
            }
        }
    }

    fn send_one(&mut self, address: &Address, mirror: &Mirror) -> Result<(), lvs_net::Error> {
        let link = mirror.link(address.index).filter(|link| link.arp && mirror.has(address));
        let Some(link) = link else { return Ok(()) };
        let Some(mac) = link.mac else { return Ok(()) };
        let socket = match self.sockets.entry(link.index) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(arp::Socket::open(&link.name)?)
            }
        };
        socket.send(&arp::gratuitous(address.addr, mac, arp::BROADCAST))
    }
}
