//! A virtual server as it is now, and what its part of the table should therefore hold.

use super::index;
use crate::site::{Block, Member};
use health::state::Force;
use ipvs::{Destination, Service, VirtualService};
use std::collections::{HashMap, HashSet};
use std::mem;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long a sorry server waits for the first checks of a block's servers.
const FIRST_CHECKS: Duration = Duration::from_secs(1);

/// A virtual server as it is now.
#[derive(Debug)]
pub struct LiveBlock {
    /// What lvs.cf says.
    pub block: Block,
    /// Its members' states.
    pub servers: Vec<LiveServer>,
    /// What the kernel refused last, while it is not mended.
    pub problem: Option<String>,
    /// It is, or is to be, in the table.
    pub(super) held: bool,
    pub(super) began: Instant,
    pub(super) up: usize,
    pub(super) known: usize,
    pub(super) sorry_wanted: bool,
    /// What the table holds, as far as is known.
    pub(super) service: Option<Service>,
    pub(super) sorry: Option<Destination>,
    /// Entries of the service that nobody wants.
    pub(super) strangers: Vec<Destination>,
    /// Servers whose entry may have to change.
    pub(super) dirty: Vec<u32>,
    /// Anything else of the block may have to change.
    pub(super) touched: bool,
}

/// A real server as it is now.
#[derive(Debug)]
pub struct LiveServer {
    /// What lvs.cf says.
    pub member: Member,
    /// Its number, for monitors.
    pub id: u32,
    /// Whether it is to serve: `None` while nothing is known.
    pub up: Option<bool>,
    /// The weight it should have in the table; `None`: not in the table.
    pub weight: Option<u32>,
    /// What an operator has ordered.
    pub force: Force,
    /// What the table holds, as far as is known.
    pub entry: Option<Destination>,
}

impl LiveBlock {
    pub(super) fn new(mut block: Block, group: u32, now: Instant) -> LiveBlock {
        block.group.id = group;
        LiveBlock {
            block,
            servers: Vec::new(),
            problem: None,
            held: false,
            began: now,
            up: 0,
            known: 0,
            sorry_wanted: false,
            service: None,
            sorry: None,
            strangers: Vec::new(),
            dirty: Vec::new(),
            touched: true,
        }
    }

    /// Whether its servers have a classic monitor each; `all`: those of all blocks have.
    pub(super) fn is_classic(&self, all: bool) -> bool {
        all || self.block.client_monitor.is_some()
    }

    /// Number of servers that are up.
    #[must_use]
    pub fn up(&self) -> usize {
        self.up
    }

    /// Whether the sorry server stands in.
    #[must_use]
    pub fn sorry_active(&self) -> bool {
        self.sorry_wanted
    }

    /// When the block stops waiting for its servers' first checks.
    pub(super) fn sorry_at(&self) -> Option<Instant> {
        let waiting = self.held
            && self.block.sorry.is_some()
            && !self.sorry_wanted
            && self.up == 0
            && self.known < self.servers.len();
        waiting.then(|| self.began + FIRST_CHECKS)
    }

    /// Decides whether the sorry server stands in, and logs when that changes.
    pub(super) fn decide_sorry(&mut self, now: Instant) {
        let Some(sorry) = self.block.sorry else {
            self.sorry_wanted = false;
            return;
        };
        let all_known = self.known == self.servers.len();
        let wanted =
            self.up == 0 && (self.sorry_wanted || all_known || now >= self.began + FIRST_CHECKS);
        let (name, addr) = (&self.block.name, sorry.addr);
        match (self.sorry_wanted, wanted) {
            (false, true) => {
                log::info!("Virtual Server {name}: No real servers; activate sorry_server {addr}");
            }
            (true, false) => {
                let up = self.up;
                log::info!(
                    "Virtual Server {name}: {up} real servers; deactivate sorry_server {addr}"
                );
            }
            _ => return,
        }
        self.sorry_wanted = wanted;
        self.touched = true;
    }

    pub(super) fn wanted_sorry(&self) -> Option<Destination> {
        if self.sorry_wanted { self.block.sorry } else { None }
    }

    /// A server's entry as it should be.
    pub(super) fn wanted(&self, server: &LiveServer) -> Option<Destination> {
        server.weight.map(|weight| self.block.destination(&server.member, weight))
    }

    /// The part of the table that may have to change, as it is and as it should be.
    pub(super) fn parts(&self) -> (Option<VirtualService>, VirtualService) {
        let mut is = Vec::new();
        let mut should = Vec::new();
        for server in self.dirty.iter().filter_map(|i| self.servers.get(*i as usize)) {
            is.extend(server.entry);
            should.extend(self.wanted(server));
        }
        is.extend(self.sorry);
        should.extend(self.wanted_sorry());
        is.extend(&self.strangers);
        let current = self.service.map(|service| VirtualService { service, destinations: is });
        (current, VirtualService { service: self.block.service, destinations: should })
    }

    /// Takes it that the changes were made, but for those of the entries in `failed`.
    pub(super) fn settle(&mut self, service_failed: bool, failed: &HashSet<SocketAddr>) {
        self.touched = false;
        if service_failed {
            // Nothing is known until the table is read again, and nothing is tried until then.
            self.dirty.clear();
            return;
        }
        self.service = Some(self.block.service);
        let fine = |d: &Option<Destination>| d.is_none_or(|d| !failed.contains(&d.key()));
        for at in mem::take(&mut self.dirty) {
            let Some(server) = self.servers.get(at as usize) else { continue };
            let wanted = self.wanted(server);
            if fine(&wanted) && fine(&server.entry) {
                self.servers[at as usize].entry = wanted;
            }
        }
        let wanted = self.wanted_sorry();
        if fine(&wanted) && fine(&self.sorry) {
            self.sorry = wanted;
        }
        self.strangers.retain(|d| failed.contains(&d.key()));
    }

    /// Takes in what the table holds of this service; true when the service was there and is gone.
    pub(super) fn observe(&mut self, found: Option<&VirtualService>, classic: bool) -> bool {
        let lost = self.service.is_some() && found.is_none();
        self.service = found.map(|f| f.service);
        let mut entries: HashMap<SocketAddr, Destination> =
            found.iter().flat_map(|f| &f.destinations).map(|d| (d.key(), *d)).collect();
        self.dirty.clear();
        self.touched = self.service != Some(self.block.service);
        for at in 0..self.servers.len() {
            let key = self.block.destination(&self.servers[at].member, 0).key();
            let entry = entries.remove(&key);
            self.servers[at].entry = entry;
            let wanted = self.wanted(&self.servers[at]);
            if entry != wanted && !classic {
                self.dirty.push(index(at));
            }
        }
        self.sorry = self.block.sorry.and_then(|sorry| entries.remove(&sorry.key()));
        self.touched |= self.sorry != self.wanted_sorry();
        self.strangers.clear();
        if !classic {
            self.strangers.extend(entries.into_values());
        }
        self.touched |= !self.strangers.is_empty() || !self.dirty.is_empty();
        if !self.touched {
            self.problem = None;
        }
        lost
    }
}
