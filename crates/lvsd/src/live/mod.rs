//! The servers as they are now, and what the table should therefore hold. No I/O and no clock: the
//! director feeds it news and readings of the table, and carries out the changes it gives.

mod block;
mod holding;
mod turnover;

pub use block::{LiveBlock, LiveServer};
pub use turnover::Turnover;

use health::state::Force;
use health::wire::{Order, State};
use holding::Hold;
use ipvs::{Change, Service, ServiceKey, VirtualService};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Instant;
use turnover::server_order;

/// All virtual servers.
#[derive(Debug, Default)]
pub struct Live {
    blocks: Vec<LiveBlock>,
    places: HashMap<u32, (u32, u32)>,
    hold: Hold,
    /// Services of ours that the configuration no longer has.
    gone: Vec<Service>,
    last_id: u32,
    last_group: u32,
    /// One classic monitor a server for all blocks, not only those that name one.
    pub all_classic: bool,
}

fn index(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl Live {
    /// The virtual servers, in the file's order.
    #[must_use]
    pub fn blocks(&self) -> &[LiveBlock] {
        &self.blocks
    }

    /// A server and its block, by number.
    #[must_use]
    pub fn server(&self, id: u32) -> Option<(&LiveBlock, &LiveServer)> {
        let (block, server) = self.places.get(&id)?;
        let block = self.blocks.get(*block as usize)?;
        Some((block, block.servers.get(*server as usize)?))
    }

    /// `NAME/SERVER` of a server.
    #[must_use]
    pub fn label(&self, id: u32) -> String {
        self.server(id).map_or_else(String::new, |(block, server)| {
            format!("{}/{}", block.block.name, server.member.name)
        })
    }

    /// The number of the server named `BLOCK/SERVER`. Block names may contain a slash, and neither
    /// name need be unique: the first that fits.
    #[must_use]
    pub fn find(&self, label: &str) -> Option<u32> {
        self.blocks.iter().find_map(|block| {
            let rest = label.strip_prefix(&block.block.name)?.strip_prefix('/')?;
            block.servers.iter().find(|s| *s.member.name == *rest).map(|s| s.id)
        })
    }

    /// Whether a block's servers have a classic monitor each.
    #[must_use]
    pub fn is_classic(&self, block: &LiveBlock) -> bool {
        block.is_classic(self.all_classic)
    }

    /// When [`Live::changes`] should be asked without any news.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.blocks.iter().filter_map(LiveBlock::sorry_at).min()
    }

    /// The monitors' orders for everything, as a monitor that has just started needs them.
    #[must_use]
    pub fn all_orders(&self) -> Vec<Order> {
        let mut orders = Vec::new();
        for block in self.blocks.iter().filter(|b| !self.is_classic(b)) {
            orders.push(Order::Group(block.block.group.clone()));
            orders.extend(block.servers.iter().map(|s| server_order(&block.block, s)));
        }
        orders
    }

    fn index_servers(&mut self) {
        self.places.clear();
        for (b, block) in self.blocks.iter().enumerate() {
            for (s, server) in block.servers.iter().enumerate() {
                self.places.insert(server.id, (index(b), index(s)));
            }
        }
        self.places.shrink_to_fit();
    }

    /// Takes in a monitor's news of a server.
    pub fn news(&mut self, news: &State) {
        let Some((b, s)) = self.places.get(&news.id).copied() else { return };
        let Some(block) = self.blocks.get_mut(b as usize) else { return };
        let Some(server) = block.servers.get_mut(s as usize) else { return };
        block.known += usize::from(server.up.is_none());
        block.up -= usize::from(server.up == Some(true));
        block.up += usize::from(news.up);
        server.up = Some(news.up);
        server.weight = news.weight;
        if block.held {
            block.dirty.push(s);
            block.touched = true;
        }
    }

    /// Takes in what a classic monitor says of its server; the entry is the monitor's business.
    pub fn classic_news(&mut self, id: u32, up: bool) {
        self.news(&State { id, up, weight: None });
        if let Some((b, _)) = self.places.get(&id)
            && let Some(block) = self.blocks.get_mut(*b as usize)
        {
            block.dirty.clear();
        }
    }

    /// Remembers an operator's order.
    pub fn set_force(&mut self, id: u32, force: Force) {
        if let Some((b, s)) = self.places.get(&id)
            && let Some(block) = self.blocks.get_mut(*b as usize)
            && let Some(server) = block.servers.get_mut(*s as usize)
        {
            server.force = force;
        }
    }

    /// The changes that lead from the table as it is to the table as it should be.
    pub fn changes(&mut self, now: Instant) -> Vec<Change> {
        for block in self.blocks.iter_mut().filter(|b| b.held) {
            block.decide_sorry(now);
        }
        let gone = self.gone.iter().map(|s| VirtualService { service: *s, destinations: vec![] });
        let mut current: Vec<VirtualService> = gone.collect();
        let mut wanted = Vec::new();
        for block in self.blocks.iter().filter(|b| b.held && b.touched) {
            let (is, should) = block.parts();
            current.extend(is);
            wanted.push(should);
        }
        if current.is_empty() && wanted.is_empty() {
            return Vec::new();
        }
        ipvs::plan(&current, &wanted)
    }

    /// Takes it that `changes`, given by [`Live::changes`], were made, but for those that failed.
    /// After a failure the table must be read and given to [`Live::observe`].
    pub fn settle<'a>(&mut self, failed: impl Iterator<Item = (&'a Change, String)>) {
        let mut services = HashSet::new();
        let mut entries: HashMap<ServiceKey, HashSet<SocketAddr>> = HashMap::new();
        let mut problems: HashMap<ServiceKey, String> = HashMap::new();
        for (change, why) in failed {
            let Some(key) = service_of(change) else { continue };
            problems.entry(key).or_insert(why);
            match entry_of(change) {
                Some(entry) => {
                    entries.entry(key).or_default().insert(entry);
                }
                None => {
                    services.insert(key);
                }
            }
        }
        let none = HashSet::new();
        for block in self.blocks.iter_mut().filter(|b| b.held && b.touched) {
            let key = block.block.service.key;
            block.settle(services.contains(&key), entries.get(&key).unwrap_or(&none));
            let problem = problems.remove(&key);
            if let Some(why) = &problem
                && block.problem != problem
            {
                log::error!("ipvsadm failed for virtual server {}! {why}", block.block.name);
            }
            block.problem = problem;
        }
        self.gone.retain(|s| services.contains(&s.key));
    }

    /// Takes in the whole table. Gives back the servers whose monitors must be started again: those
    /// that change the table themselves and do not know that their service has been taken away.
    pub fn observe(&mut self, table: &[VirtualService]) -> Vec<u32> {
        let by_key: HashMap<ServiceKey, &VirtualService> =
            table.iter().map(|v| (v.service.key, v)).collect();
        let all_classic = self.all_classic;
        let mut lost = Vec::new();
        for block in self.blocks.iter_mut().filter(|b| b.held) {
            let classic = block.is_classic(all_classic);
            let found = by_key.get(&block.block.service.key).copied();
            if block.observe(found, classic) && classic {
                lost.extend(block.servers.iter().map(|s| s.id));
            }
        }
        self.gone.retain(|s| by_key.contains_key(&s.key));
        lost
    }

    /// Whether a change mends something whose failure is known already.
    #[must_use]
    pub fn is_known_problem(&self, change: &Change) -> bool {
        let key = service_of(change);
        self.blocks.iter().any(|b| b.problem.is_some() && Some(b.block.service.key) == key)
    }
}

fn service_of(change: &Change) -> Option<ServiceKey> {
    match change {
        Change::AddService(s) | Change::EditService(s) => Some(s.key),
        Change::DeleteService(key)
        | Change::AddDestination(key, _)
        | Change::EditDestination(key, _)
        | Change::DeleteDestination(key, _) => Some(*key),
        _ => None,
    }
}

fn entry_of(change: &Change) -> Option<SocketAddr> {
    match change {
        Change::AddDestination(_, d) | Change::EditDestination(_, d) => Some(d.key()),
        Change::DeleteDestination(_, key) => Some(*key),
        _ => None,
    }
}
