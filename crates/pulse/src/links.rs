//! monitor_links: whether the NICs that bear this node's own addresses have carrier.

use crate::load::Way;
use crate::net::Mirror;
use std::net::Ipv4Addr;

/// The watched NICs.
#[derive(Debug, Default)]
pub struct Links {
    watched: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    /// The name for the log: `Primary`, `Private`.
    name: &'static str,
    local: Ipv4Addr,
    /// The interface that bears the address, or did last.
    index: Option<u32>,
    down: bool,
}

impl Links {
    /// Watches the NICs of these ways, with what is known of them already; none: no NIC is watched.
    pub fn follow(&mut self, ways: &[Way]) {
        let old = std::mem::take(&mut self.watched);
        for way in ways {
            if self.watched.iter().any(|w| w.local == way.local) {
                continue;
            }
            let name = if way.name == "public" { "Primary" } else { "Private" };
            let known = old.iter().find(|w| w.local == way.local);
            let (index, down) = known.map_or((None, false), |w| (w.index, w.down));
            self.watched.push(Watched { name, local: way.local, index, down });
        }
    }

    /// Whether all of them have carrier. Changes are logged.
    pub fn are_up(&mut self, mirror: &Mirror) -> bool {
        let mut all = true;
        for watched in &mut self.watched {
            let bearer = mirror.places_of(watched.local).next();
            watched.index = bearer.map(|a| a.index).or(watched.index);
            // An address that has never been seen belongs to no NIC that could be judged.
            let up = watched.index.is_none_or(|i| mirror.link(i).is_some_and(|l| l.carrier));
            if watched.down == up {
                watched.down = !up;
                match up {
                    true => log::info!("{} NIC: link up", watched.name),
                    false => log::error!("{} NIC: link down", watched.name),
                }
            }
            all &= up;
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lvs_net::{Address, Link};

    fn link(index: u32, carrier: bool) -> Link {
        Link { index, name: format!("eth{index}"), mac: None, up: true, carrier, arp: true }
    }

    fn address(index: u32, last: u8) -> Address {
        Address {
            index,
            addr: [10, 0, 0, last].into(),
            prefix: 24,
            broadcast: None,
            label: String::new(),
            secondary: false,
        }
    }

    #[test]
    fn each_nic_with_an_address_of_ours_must_have_carrier() {
        let way = |name, last| Way { name, local: [10, 0, 0, last].into(), partner: None };
        let mut links = Links::default();
        let mirror = |a, b| {
            Mirror::new(
                vec![link(1, a), link(2, b), link(3, false)],
                vec![address(1, 1), address(2, 2), address(3, 3)],
            )
        };
        assert!(links.are_up(&mirror(false, false)), "none is watched");
        links.follow(&[way("public", 1), way("private", 2)]);
        for (a, b) in [(true, true), (false, true), (true, true), (true, false), (false, false)] {
            assert_eq!(links.are_up(&mirror(a, b)), a && b, "{a} {b}");
        }
        // The address, or the whole NIC, is gone: the NIC that had it counts.
        assert!(links.are_up(&mirror(true, true)));
        assert!(!links.are_up(&Mirror::new(vec![link(1, true), link(2, false)], vec![])));
        assert!(!links.are_up(&Mirror::new(vec![link(1, true)], vec![])));
        links.follow(&[way("public", 1)]);
        assert!(links.are_up(&Mirror::new(vec![link(1, true)], vec![])));
        links.follow(&[way("public", 9)]);
        assert!(links.are_up(&mirror(false, false)), "an address that no NIC bears");
    }
}
