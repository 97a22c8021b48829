//! The servers as they are now, and what the table should therefore hold. No I/O and no clock: the
//! director feeds it news and readings of the table, and carries out the changes it gives.

use crate::site::{Block, Member};
use health::state::Force;
use health::wire::{Known, Order, Server as ServerOrder, State};
use ipvs::{Change, Destination, Service, ServiceKey, VirtualService};
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
    began: Instant,
    up: usize,
    known: usize,
    sorry_wanted: bool,
    /// What the table holds, as far as is known.
    service: Option<Service>,
    sorry: Option<Destination>,
    /// Entries of the service that nobody wants.
    strangers: Vec<Destination>,
    /// Servers whose entry may have to change.
    dirty: Vec<u32>,
    /// Anything else of the block may have to change.
    touched: bool,
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

/// What a change of the configuration means for the monitors.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Turnover {
    /// For the pooled monitor, in this order.
    pub orders: Vec<Order>,
    /// Classic monitors to end, by server.
    pub stop: Vec<u32>,
    /// Classic monitors to start, by server; those that run are ended first.
    pub start: Vec<u32>,
}

/// All virtual servers.
#[derive(Debug, Default)]
pub struct Live {
    blocks: Vec<LiveBlock>,
    places: HashMap<u32, (u32, u32)>,
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

impl LiveBlock {
    fn new(mut block: Block, group: u32, now: Instant) -> LiveBlock {
        block.group.id = group;
        LiveBlock {
            block,
            servers: Vec::new(),
            problem: None,
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
    fn sorry_at(&self) -> Option<Instant> {
        let waiting = self.block.sorry.is_some()
            && !self.sorry_wanted
            && self.up == 0
            && self.known < self.servers.len();
        waiting.then(|| self.began + FIRST_CHECKS)
    }

    /// Decides whether the sorry server stands in, and logs when that changes.
    fn decide_sorry(&mut self, now: Instant) {
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

    fn wanted_sorry(&self) -> Option<Destination> {
        if self.sorry_wanted { self.block.sorry } else { None }
    }

    /// A server's entry as it should be.
    fn wanted(&self, server: &LiveServer) -> Option<Destination> {
        server.weight.map(|weight| self.block.destination(&server.member, weight))
    }

    /// The part of the table that may have to change, as it is and as it should be.
    fn parts(&self) -> (Option<VirtualService>, VirtualService) {
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
    fn settle(&mut self, service_failed: bool, failed: &HashSet<SocketAddr>) {
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
    fn observe(&mut self, found: Option<&VirtualService>, classic: bool) -> bool {
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
        self.all_classic || block.block.client_monitor.is_some()
    }

    /// When [`Live::changes`] should be asked without any news.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.blocks.iter().filter_map(LiveBlock::sorry_at).min()
    }

    /// Takes over a configuration. Services and servers that stay keep their states.
    pub fn replace(&mut self, wanted: Vec<Block>, now: Instant) -> Turnover {
        let mut turnover = Turnover::default();
        let mut old: HashMap<ServiceKey, LiveBlock> =
            mem::take(&mut self.blocks).into_iter().map(|b| (b.block.service.key, b)).collect();
        let mut blocks = Vec::with_capacity(wanted.len());
        for block in wanted {
            let before = old.remove(&block.service.key);
            blocks.push(self.renew(block, before, now, &mut turnover));
        }
        let mut left: Vec<LiveBlock> = old.into_values().collect();
        left.sort_by_key(|b| b.block.group.id);
        for block in left {
            self.retire(&block, &mut turnover);
        }
        self.blocks = blocks;
        self.index_servers();
        turnover
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

    /// A block of the new configuration, with what is known of it from the old one.
    fn renew(
        &mut self,
        block: Block,
        before: Option<LiveBlock>,
        now: Instant,
        turnover: &mut Turnover,
    ) -> LiveBlock {
        let group = before.as_ref().map_or_else(
            || {
                self.last_group += 1;
                self.last_group
            },
            |b| b.block.group.id,
        );
        let mut fresh = LiveBlock::new(block, group, now);
        let notes_before = before.as_ref().map(|b| &b.block.notes);
        let news =
            if notes_before == Some(&fresh.block.notes) { &[][..] } else { &fresh.block.notes };
        if before.is_none() {
            log::info!(
                "starting virtual service {} active: {}",
                fresh.block.name,
                fresh.block.port
            );
        }
        if !self.is_classic(&fresh) {
            // A monitor of one server says this itself.
            for note in news {
                log::info!("{note} (virtual server {})", fresh.block.name);
            }
        }
        let Some(mut before) = before else {
            if !self.is_classic(&fresh) {
                turnover.orders.push(Order::Group(fresh.block.group.clone()));
            }
            self.take_members(&mut fresh, Vec::new(), false, turnover);
            return fresh;
        };
        let was_classic = self.is_classic(&before);
        let is_classic = self.is_classic(&fresh);
        fresh.began = before.began;
        fresh.service = before.service;
        fresh.sorry = before.sorry;
        fresh.sorry_wanted = before.sorry_wanted;
        fresh.strangers = mem::take(&mut before.strangers);
        if fresh.sorry.map(|d| d.key()) != fresh.block.sorry.map(|d| d.key()) {
            fresh.strangers.extend(fresh.sorry.take());
        }
        if was_classic != is_classic {
            // Other monitors, with their own idea of the servers: these begin anew.
            for server in mem::take(&mut before.servers) {
                Self::dismiss(&mut fresh, &server, was_classic, turnover);
            }
            if was_classic {
                turnover.orders.push(Order::Group(fresh.block.group.clone()));
            }
        } else if !is_classic && before.block.group != fresh.block.group {
            turnover.orders.push(Order::Group(fresh.block.group.clone()));
        }
        let restart = is_classic && classic_settings_differ(&before.block, &fresh.block);
        self.take_members(&mut fresh, mem::take(&mut before.servers), restart, turnover);
        fresh
    }

    /// Fills a block with its members, those of `before` with their states.
    fn take_members(
        &mut self,
        fresh: &mut LiveBlock,
        before: Vec<LiveServer>,
        restart: bool,
        turnover: &mut Turnover,
    ) {
        let classic = self.is_classic(fresh);
        let mut before: HashMap<SocketAddr, LiveServer> =
            before.into_iter().map(|s| (s.member.addr, s)).collect();
        let members = mem::take(&mut fresh.block.members);
        fresh.servers.reserve_exact(members.len());
        for member in members {
            let (server, is_new, changed) = match before.remove(&member.addr) {
                Some(old) => {
                    let changed = old.member.weight != member.weight;
                    (LiveServer { member, ..old }, false, changed)
                }
                None => (self.new_server(member), true, true),
            };
            fresh.known += usize::from(server.up.is_some());
            fresh.up += usize::from(server.up == Some(true));
            if classic && (changed || restart) {
                turnover.start.push(server.id);
            } else if !classic && (is_new || changed) {
                turnover.orders.push(server_order(&fresh.block, &server));
            }
            fresh.dirty.push(index(fresh.servers.len()));
            fresh.servers.push(server);
        }
        if classic {
            fresh.dirty = Vec::new();
        }
        let mut left: Vec<LiveServer> = before.into_values().collect();
        left.sort_by_key(|s| s.id);
        for server in left {
            Self::dismiss(fresh, &server, classic, turnover);
        }
    }

    fn new_server(&mut self, member: Member) -> LiveServer {
        self.last_id += 1;
        LiveServer {
            member,
            id: self.last_id,
            up: None,
            weight: None,
            force: Force::Auto,
            entry: None,
        }
    }

    /// Ends the monitoring of a server that is no longer wanted; its entry becomes a stranger.
    fn dismiss(block: &mut LiveBlock, server: &LiveServer, classic: bool, turnover: &mut Turnover) {
        if classic {
            turnover.stop.push(server.id);
        } else {
            turnover.orders.push(Order::Forget(server.id));
        }
        block.strangers.extend(server.entry);
    }

    /// Ends a virtual server.
    fn retire(&mut self, block: &LiveBlock, turnover: &mut Turnover) {
        log::info!("shutting down virtual service {}", block.block.name);
        let classic = self.is_classic(block);
        for server in &block.servers {
            if classic {
                turnover.stop.push(server.id);
            } else {
                turnover.orders.push(Order::Forget(server.id));
            }
        }
        if !classic {
            turnover.orders.push(Order::Ungroup(block.block.group.id));
        }
        self.gone.extend(block.service);
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
        block.dirty.push(s);
        block.touched = true;
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
        for block in &mut self.blocks {
            block.decide_sorry(now);
        }
        let gone = self.gone.iter().map(|s| VirtualService { service: *s, destinations: vec![] });
        let mut current: Vec<VirtualService> = gone.collect();
        let mut wanted = Vec::new();
        for block in self.blocks.iter().filter(|b| b.touched) {
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
        for block in self.blocks.iter_mut().filter(|b| b.touched) {
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
        for block in &mut self.blocks {
            let classic = all_classic || block.block.client_monitor.is_some();
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

    /// The changes that take all our services out of the table.
    #[must_use]
    pub fn farewell(&self) -> Vec<Change> {
        let blocks = self.blocks.iter().filter_map(|b| b.service);
        blocks.chain(self.gone.iter().copied()).map(|s| Change::DeleteService(s.key)).collect()
    }
}

fn server_order(block: &Block, server: &LiveServer) -> Order {
    Order::Server(ServerOrder {
        id: server.id,
        group: block.group.id,
        addr: server.member.addr.ip(),
        port: server.member.addr.port(),
        weight: server.member.weight,
        known: server.up.map(|up| Known { up, weight: server.weight }),
        force: server.force,
    })
}

/// Whether a classic monitor of the block must be started again.
fn classic_settings_differ(old: &Block, new: &Block) -> bool {
    let told = |b: &'_ Block| (b.service.key, b.vip, b.port, b.forwarding, b.sorry.is_some());
    told(old) != told(new)
        || (&old.client_monitor, &old.classic) != (&new.client_monitor, &new.classic)
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
