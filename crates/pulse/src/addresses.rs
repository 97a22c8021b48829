//! The addresses that move with the active node: which are to be up, which are, and what leads there.
//! Without I/O: [`Addresses::plan`] says what to change, [`Addresses::settle`] takes in what came of it.

use crate::holdings::Held;
use crate::load::Claim;
use crate::net::Mirror;
use crate::status::AddressStatus;
use lvs_net::{Address, AddressChange, Failure};
use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// How soon an address is tried again that could not be raised, or that somebody keeps removing.
const AGAIN: Duration = Duration::from_secs(1);
/// With more addresses than this at a time, not each gets a line of the log.
const LARGE: usize = 64;

/// The addresses that move, in the file's order.
#[derive(Debug, Default)]
pub struct Addresses {
    entries: Vec<Entry>,
    /// This node's own, which must never be taken down.
    own: Vec<Ipv4Addr>,
}

#[derive(Debug)]
struct Entry {
    claim: Claim,
    /// In the configuration still.
    claimed: bool,
    /// As it stands on the interface, since pulse has raised it or found it there.
    up: Option<Address>,
    /// It is pulse that takes it down again.
    ours: bool,
    error: Option<String>,
    /// The prefix that it had when it was up: the network that it comes from may return later than
    /// its interface.
    prefix: Option<u8>,
    /// When it was tried last to raise it.
    tried: Option<Instant>,
    /// When it was tried last, in vain, to take it down.
    stuck: Option<Instant>,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The changes, with the place of the address each is about.
    changes: Vec<AddressChange>,
    places: Vec<usize>,
    /// Addresses that stand where they should already.
    taken_over: Vec<Address>,
}

impl Plan {
    /// The changes to make.
    #[must_use]
    pub fn changes(&self) -> &[AddressChange] {
        &self.changes
    }

    /// Whether there is nothing to do or to take in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.taken_over.is_empty()
    }

    fn push(&mut self, place: usize, change: AddressChange) {
        self.changes.push(change);
        self.places.push(place);
    }
}

impl Addresses {
    /// Takes a configuration over: what moves, and this node's own addresses. An address that is up
    /// and not among them is taken down by the next plan.
    pub fn follow(&mut self, claims: &[Claim], own: &[Ipv4Addr]) {
        self.own = own.to_vec();
        let old = std::mem::take(&mut self.entries);
        let mut old: HashMap<Claim, Entry> =
            old.into_iter().map(|entry| (entry.claim.clone(), entry)).collect();
        for claim in claims {
            self.entries.push(match old.remove(claim) {
                Some(entry) => Entry { claimed: true, ..entry },
                None => Entry {
                    claim: claim.clone(),
                    claimed: true,
                    up: None,
                    ours: false,
                    error: None,
                    prefix: None,
                    tried: None,
                    stuck: None,
                },
            });
        }
        let left = old.into_values().filter(|entry| entry.up.is_some() && entry.ours);
        self.entries.extend(left.map(|entry| Entry { claimed: false, ..entry }));
    }

    /// The addresses of this machine that do not move.
    fn fixed<'a>(&self, mirror: &'a Mirror) -> Vec<&'a Address> {
        let moving: HashSet<Ipv4Addr> = self.entries.iter().map(|entry| entry.claim.addr).collect();
        mirror.addresses().filter(|address| !moving.contains(&address.addr)).collect()
    }

    /// The changes that lead from what is up to what should be: the addresses that are `wanted`.
    pub fn plan(
        &mut self,
        mirror: &Mirror,
        wanted: &dyn Fn(Ipv4Addr) -> bool,
        now: Instant,
    ) -> Plan {
        let fixed = self.fixed(mirror);
        let mut plan = Plan::default();
        for (place, entry) in self.entries.iter_mut().enumerate() {
            let raise = entry.claimed && wanted(entry.claim.addr);
            entry.look(mirror, raise);
            match (&entry.up, raise) {
                (Some(address), false) => {
                    if !entry.ours {
                        entry.up = None;
                    } else if is_due(entry.stuck, now) {
                        plan.push(place, AddressChange::Remove(address.clone()));
                    }
                }
                (None, true) if self.own.contains(&entry.claim.addr) => entry.fail(
                    "it is this node's own address: choose another virtual address".to_owned(),
                ),
                (None, true) => {
                    let Some(link) = mirror.link_named(entry.claim.interface()) else {
                        entry.fail(format!("no interface {}", entry.claim.interface()));
                        continue;
                    };
                    let mut there = mirror.places_of(entry.claim.addr);
                    if let Some(address) = there.find(|a| a.index == link.index) {
                        entry.take_over(address);
                        plan.taken_over.push(address.clone());
                    } else if is_due(entry.tried, now) {
                        entry.tried = Some(now);
                        let address = entry.claim.resolve(&fixed, link.index, entry.prefix);
                        plan.push(place, AddressChange::Add(address));
                    }
                }
                (Some(_), true) | (None, false) => {}
            }
        }
        plan
    }

    /// Takes in what was done. Gives back the addresses that are new here.
    pub fn settle(&mut self, plan: Plan, failures: &[Failure], now: Instant) -> Vec<Address> {
        let mut new = plan.taken_over;
        let lines = if plan.changes.len() > LARGE { log::Level::Debug } else { log::Level::Info };
        let (mut raised, mut taken_down) = (0, 0);
        for (at, (place, change)) in plan.places.into_iter().zip(plan.changes).enumerate() {
            let Some(entry) = self.entries.get_mut(place) else { continue };
            if let Some(failure) = failures.iter().find(|failure| failure.index == at) {
                if matches!(change, AddressChange::Remove(_)) {
                    entry.stuck = Some(now);
                }
                entry.fail(failure.error.to_string());
                continue;
            }
            entry.error = None;
            match change {
                AddressChange::Add(address) => {
                    log::log!(lines, "raised {address} on {}", address.label);
                    raised += 1;
                    entry.prefix = Some(address.prefix);
                    (entry.up, entry.ours) = (Some(address.clone()), true);
                    new.push(address);
                }
                AddressChange::Remove(address) => {
                    log::log!(lines, "took {address} down from {}", address.label);
                    taken_down += 1;
                    entry.up = None;
                    (entry.tried, entry.stuck) = (None, None);
                }
            }
        }
        if lines == log::Level::Debug {
            log::info!("{raised} addresses raised, {taken_down} taken down");
        }
        self.entries.retain(|entry| entry.claimed || entry.up.is_some());
        new
    }

    /// When to plan again.
    #[must_use]
    pub fn deadline(&self, wanted: &dyn Fn(Ipv4Addr) -> bool) -> Option<Instant> {
        let again = |entry: &Entry| {
            let raise = entry.claimed && wanted(entry.claim.addr);
            let since = match (&entry.up, raise) {
                (Some(_), false) if entry.ours => entry.stuck,
                (None, true) if !self.own.contains(&entry.claim.addr) => entry.tried,
                _ => None,
            };
            since.map(|at| at + AGAIN)
        };
        self.entries.iter().filter_map(again).min()
    }

    /// What pulse has to take down again, and what it would have to if everything were wanted.
    #[must_use]
    pub fn held(&self, wanted: bool) -> Vec<Held> {
        let mut held = Vec::new();
        for entry in &self.entries {
            let claim = &entry.claim;
            let own = self.own.contains(&claim.addr);
            if let Some(address) = &entry.up {
                if entry.ours {
                    held.push(Held { addr: address.addr, label: address.label.clone() });
                }
            } else if wanted && entry.claimed && !own {
                held.push(Held { addr: claim.addr, label: claim.label.clone() });
            }
        }
        held
    }

    /// The addresses that are up.
    pub fn up(&self) -> impl Iterator<Item = &Address> {
        self.entries.iter().filter_map(|entry| entry.up.as_ref())
    }

    /// Whether all that are `wanted` have been raised, or tried at least.
    #[must_use]
    pub fn all_tried(&self) -> bool {
        let tried = |e: &Entry| e.up.is_some() || e.tried.is_some() || e.error.is_some();
        self.entries.iter().filter(|entry| entry.claimed).all(tried)
    }

    /// Forgets past failures: what follows is a new attempt.
    pub fn forgive(&mut self) {
        for entry in &mut self.entries {
            entry.tried = None;
            entry.error = None;
        }
    }

    /// For operators.
    #[must_use]
    pub fn status(&self, mirror: &Mirror) -> Vec<AddressStatus> {
        let fixed = self.fixed(mirror);
        let status = |entry: &Entry| {
            let index = mirror.link_named(entry.claim.interface()).map_or(0, |link| link.index);
            let there = mirror.places_of(entry.claim.addr).next();
            let address =
                there.cloned().unwrap_or_else(|| entry.claim.resolve(&fixed, index, entry.prefix));
            AddressStatus {
                address: address.to_string(),
                label: entry.claim.label.clone(),
                up: there.is_some(),
                ours: entry.up.is_some() && entry.ours,
                error: entry.error.clone(),
            }
        };
        self.entries.iter().map(status).collect()
    }
}

impl Entry {
    /// Sees whether an address that is up still is.
    fn look(&mut self, mirror: &Mirror, needed: bool) {
        let Some(address) = &self.up else { return };
        if !mirror.has(address) {
            if needed {
                log::warn!("{address} is gone from {}: it was removed from outside", address.label);
            }
            self.up = None;
        }
    }

    /// Takes an address that is there already for raised. Under the label of lvs.cf it was pulse that
    /// has put it there, some time. Else it was somebody else, and is left to them.
    fn take_over(&mut self, address: &Address) {
        self.ours = address.label == self.claim.label && address.label.contains(':');
        if !self.ours {
            log::warn!(
                "{address} is on {} already, and not as {}: it stays there when this node becomes \
                 inactive",
                address.label,
                self.claim.label
            );
        }
        self.up = Some(address.clone());
        self.error = None;
    }

    fn fail(&mut self, error: String) {
        if self.error.as_ref() != Some(&error) {
            log::error!("{} on {}: {error}", self.claim.addr, self.claim.label);
        }
        self.error = Some(error);
    }
}

/// Whether what was tried at that time may be tried again.
fn is_due(tried: Option<Instant>, now: Instant) -> bool {
    tried.is_none_or(|at| now.saturating_duration_since(at) >= AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lvs_net::Link;

    const OWN: [u8; 4] = [10, 0, 0, 1];

    fn claim(last: u8, label: &str) -> Claim {
        let mask = Some([255, 255, 255, 0].into());
        Claim { addr: [10, 0, 0, last].into(), label: label.to_owned(), mask }
    }

    fn address(addr: [u8; 4], label: &str) -> Address {
        Address {
            index: 2,
            addr: addr.into(),
            prefix: 24,
            broadcast: Some([10, 0, 0, 255].into()),
            label: label.to_owned(),
            secondary: false,
        }
    }

    /// A machine with eth0, its own address, and these.
    fn machine(more: &[Address]) -> Mirror {
        let link = Link {
            index: 2,
            name: "eth0".to_owned(),
            mac: Some([2; 6]),
            up: true,
            carrier: true,
            arp: true,
        };
        let addresses = more.iter().cloned().chain([address(OWN, "eth0")]).collect();
        Mirror::new(vec![link], addresses)
    }

    /// The addresses and the machine, brought to what is wanted as often as there is something to do.
    fn bring(addresses: &mut Addresses, present: &mut Vec<Address>, wanted: bool, now: Instant) {
        for _ in 0..3 {
            let plan = addresses.plan(&machine(present), &|_| wanted, now);
            for change in plan.changes() {
                match change {
                    AddressChange::Add(address) => present.push(address.clone()),
                    AddressChange::Remove(address) => present.retain(|a| a != address),
                }
            }
            addresses.settle(plan, &[], now);
        }
        assert!(addresses.plan(&machine(present), &|_| wanted, now).is_empty());
    }

    fn labels(present: &[Address]) -> Vec<&str> {
        present.iter().map(|a| a.label.as_str()).collect()
    }

    #[test]
    fn raised_in_order_and_taken_down_at_once() {
        let mut addresses = Addresses::default();
        addresses.follow(&[claim(100, "eth0:1"), claim(101, "eth0:2")], &[OWN.into()]);
        let now = Instant::now();
        let mut present = Vec::new();
        bring(&mut addresses, &mut present, true, now);
        assert_eq!(labels(&present), ["eth0:1", "eth0:2"]);
        assert_eq!(addresses.held(true).len(), 2);
        // The very moment later.
        bring(&mut addresses, &mut present, false, now);
        assert!(present.is_empty());
        assert!(addresses.held(false).is_empty());
    }

    #[test]
    fn what_is_there_is_taken_over_or_left_to_who_put_it_there() {
        let mut addresses = Addresses::default();
        let claims = [claim(100, "eth0:1"), claim(101, "eth0:2"), claim(1, "eth0:3")];
        addresses.follow(&claims, &[OWN.into()]);
        let ours = address([10, 0, 0, 100], "eth0:1");
        let theirs = address([10, 0, 0, 101], "eth0");
        let mut present = vec![ours.clone(), theirs.clone()];
        let now = Instant::now();
        let plan = addresses.plan(&machine(&present), &|_| true, now);
        assert!(plan.changes().is_empty());
        assert_eq!(addresses.settle(plan, &[], now), [ours, theirs.clone()], "both are announced");
        let status = addresses.status(&machine(&present));
        let flags: Vec<_> = status.iter().map(|s| (s.up, s.ours, s.error.is_some())).collect();
        assert_eq!(flags, [(true, true, false), (true, false, false), (true, false, true)]);
        assert!(addresses.all_tried());
        bring(&mut addresses, &mut present, false, now);
        assert_eq!(present, [theirs]);
    }

    #[test]
    fn what_somebody_removes_is_raised_again_but_not_without_pause() {
        let mut addresses = Addresses::default();
        addresses.follow(&[claim(100, "eth0:1")], &[OWN.into()]);
        let start = Instant::now();
        let mut present = Vec::new();
        bring(&mut addresses, &mut present, true, start);
        let plan = addresses.plan(&machine(&[]), &|_| true, start);
        assert!(plan.changes().is_empty());
        assert_eq!(addresses.deadline(&|_| true), Some(start + AGAIN));
        let plan = addresses.plan(&machine(&[]), &|_| true, start + AGAIN);
        assert_eq!(plan.changes().len(), 1);
    }

    #[test]
    fn a_missing_interface_is_waited_for_and_hinders_nobody() {
        let mut addresses = Addresses::default();
        addresses.follow(&[claim(100, "eth9:1"), claim(101, "eth0:1")], &[OWN.into()]);
        let now = Instant::now();
        let mut present = Vec::new();
        bring(&mut addresses, &mut present, true, now);
        assert_eq!(labels(&present), ["eth0:1"]);
        assert!(addresses.all_tried());
        assert_eq!(
            addresses.status(&machine(&present))[0].error.as_deref(),
            Some("no interface eth9")
        );
    }

    #[test]
    fn an_interface_that_comes_back_without_its_network_gets_the_address_as_before() {
        let mut addresses = Addresses::default();
        let claim = Claim { mask: None, ..claim(100, "eth0:1") };
        addresses.follow(&[claim], &[OWN.into()]);
        let start = Instant::now();
        let mut present = Vec::new();
        bring(&mut addresses, &mut present, true, start);
        assert_eq!(present[0].prefix, 24, "that of the node's own network");
        let link = machine(&[]).link_named("eth0").cloned();
        let bare = Mirror::new(link.into_iter().collect(), Vec::new());
        let plan = addresses.plan(&bare, &|_| true, start + AGAIN);
        assert_eq!(plan.changes()[0].address().prefix, 24);
    }

    #[test]
    fn a_new_configuration_changes_what_differs() {
        let mut addresses = Addresses::default();
        addresses.follow(&[claim(100, "eth0:1"), claim(101, "eth0:2")], &[OWN.into()]);
        let now = Instant::now();
        let mut present = Vec::new();
        bring(&mut addresses, &mut present, true, now);
        addresses.follow(&[claim(102, "eth0:3"), claim(101, "eth0:2")], &[OWN.into()]);
        assert_eq!(addresses.held(true).len(), 3, "the old one is held still");
        bring(&mut addresses, &mut present, true, now);
        assert_eq!(labels(&present), ["eth0:2", "eth0:3"]);
        assert_eq!(addresses.held(true).len(), 2);
        // The same address under another label.
        addresses.follow(&[claim(102, "eth0:4"), claim(101, "eth0:2")], &[OWN.into()]);
        bring(&mut addresses, &mut present, true, now + AGAIN);
        assert_eq!(labels(&present), ["eth0:2", "eth0:4"]);
    }
}
