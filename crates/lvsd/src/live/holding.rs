//! Whether the table is this director's to keep: taking it over, and letting go of it.

use super::{Live, LiveBlock, index};
use ipvs::Change;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Instant;

/// Whether the table is this director's to keep.
#[derive(Debug, Default)]
pub(super) enum Hold {
    /// It is.
    #[default]
    Holding,
    /// It is being taken over; the blocks still to be put into it, the next one last. Those of one
    /// virtual address are together.
    Taking(Vec<Vec<u32>>),
    /// It is somebody else's: only the servers' states are kept.
    Standby,
}

impl Live {
    /// One that leaves the table alone until it is told to take it.
    #[must_use]
    pub fn standby() -> Live {
        Live { hold: Hold::Standby, ..Live::default() }
    }

    /// Whether the table is somebody else's.
    #[must_use]
    pub fn is_standby(&self) -> bool {
        matches!(self.hold, Hold::Standby)
    }

    /// Whether the table is being taken over, and [`Live::take_more`] is to be called.
    #[must_use]
    pub fn is_taking(&self) -> bool {
        matches!(self.hold, Hold::Taking(_))
    }

    /// Whether all of the table is this director's.
    #[must_use]
    pub fn is_holding(&self) -> bool {
        matches!(self.hold, Hold::Holding)
    }

    /// Whether every server that is checked in standby has had its first verdict.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.blocks.iter().all(|b| self.is_classic(b) || b.known == b.servers.len())
    }

    /// The virtual addresses, each once, in the file's order.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        let mut seen = HashSet::new();
        self.blocks.iter().filter_map(|b| b.block.vip).filter(|vip| seen.insert(*vip)).collect()
    }

    /// Begins to take over a table that has just been emptied. Changes nothing by itself: see
    /// [`Live::take_more`].
    pub fn take(&mut self, now: Instant) {
        let Hold::Standby = self.hold else { return };
        for block in self.blocks.iter_mut().filter(|b| b.is_classic(self.all_classic)) {
            // Nobody has looked at its servers: they get their time for a first check.
            block.began = now;
        }
        self.hold = Hold::Taking(Vec::new());
        self.queue_the_rest();
    }

    /// Goes on to take over: marks the blocks of one or more virtual addresses, with about `most`
    /// entries together, to be put into the table by the next [`Live::changes`], in the file's
    /// order of the addresses. Gives back the addresses that are complete when these changes are
    /// made. After the last ones the table is held.
    pub fn take_more(&mut self, most: usize) -> Vec<IpAddr> {
        let Hold::Taking(queue) = &mut self.hold else { return Vec::new() };
        let mut queue = std::mem::take(queue);
        let mut addresses = Vec::new();
        let mut entries = 0;
        while entries < most {
            let Some(group) = queue.pop() else { break };
            for at in group {
                let Some(block) = self.blocks.get_mut(at as usize) else { continue };
                block.enter(self.all_classic);
                entries += 1 + block.up();
                if let Some(vip) = block.block.vip
                    && addresses.last() != Some(&vip)
                {
                    addresses.push(vip);
                }
            }
        }
        self.hold = if queue.is_empty() { Hold::Holding } else { Hold::Taking(queue) };
        addresses
    }

    /// Lists the blocks that are still to be put into the table.
    pub(super) fn queue_the_rest(&mut self) {
        if self.is_taking() {
            self.hold = Hold::Taking(self.groups(|block| !block.held));
        }
    }

    /// The blocks by virtual address, in the reverse of the order in which the file has the addresses.
    fn groups(&self, wanted: impl Fn(&LiveBlock) -> bool) -> Vec<Vec<u32>> {
        let mut groups: Vec<Vec<u32>> = Vec::new();
        let mut by_address: HashMap<IpAddr, usize> = HashMap::new();
        for (at, block) in self.blocks.iter().enumerate().filter(|(_, b)| wanted(b)) {
            let group = match block.block.vip {
                Some(vip) => *by_address.entry(vip).or_insert(groups.len()),
                None => groups.len(),
            };
            match groups.get_mut(group) {
                Some(group) => group.push(index(at)),
                None => groups.push(vec![index(at)]),
            }
        }
        groups.reverse();
        groups
    }

    /// The changes that take all our services out of the table, in the reverse of the order in which
    /// they are put into it: the kernel keeps removed servers for two minutes, in case they come back,
    /// and looks for each new one among them, those removed last first. In any other order a table of
    /// ten thousand servers that is taken again soon costs a second instead of milliseconds.
    #[must_use]
    pub fn farewell(&self) -> Vec<Change> {
        let groups = self.groups(|_| true);
        let blocks = groups.iter().flat_map(|group| group.iter().rev());
        let services = blocks.filter_map(|at| self.blocks.get(*at as usize)?.service);
        self.gone.iter().copied().chain(services).map(|s| Change::DeleteService(s.key)).collect()
    }

    /// Lets go of the table: the changes that take all our services out of it. States stay.
    pub fn release(&mut self) -> Vec<Change> {
        let changes = self.farewell();
        self.hold = Hold::Standby;
        self.gone.clear();
        for block in &mut self.blocks {
            block.leave(self.all_classic);
        }
        changes
    }
}

impl LiveBlock {
    /// To be put into a table that does not have it.
    fn enter(&mut self, all_classic: bool) {
        log::info!("starting virtual service {} active: {}", self.block.name, self.block.port);
        self.held = true;
        self.touched = true;
        let dirty = if self.is_classic(all_classic) { 0 } else { index(self.servers.len()) };
        self.dirty = (0..dirty).collect();
    }

    /// Out of the table.
    fn leave(&mut self, all_classic: bool) {
        let classic = self.is_classic(all_classic);
        if std::mem::take(&mut self.held) {
            log::info!("shutting down virtual service {}", self.block.name);
        }
        self.service = None;
        self.sorry = None;
        self.sorry_wanted = false;
        self.strangers.clear();
        self.dirty = Vec::new();
        self.touched = false;
        self.problem = None;
        for server in &mut self.servers {
            server.entry = None;
            if classic {
                // What its monitor has said holds no longer than the monitor.
                (server.up, server.weight) = (None, None);
            }
        }
        if classic {
            (self.up, self.known) = (0, 0);
        }
    }
}
