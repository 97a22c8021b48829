//! Another configuration: what stays keeps its state, and the monitors are told the difference.

use super::{Live, LiveBlock, LiveServer, index};
use crate::site::{Block, Member};
use health::state::Force;
use health::wire::{Known, Order, Server as ServerOrder};
use ipvs::ServiceKey;
use std::collections::HashMap;
use std::mem;
use std::net::SocketAddr;
use std::time::Instant;

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

impl Live {
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
        self.queue_the_rest();
        turnover
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
        fresh.held = match &before {
            _ if self.is_standby() => false,
            Some(before) => before.held,
            None => self.is_holding(),
        };
        let notes_before = before.as_ref().map(|b| &b.block.notes);
        let news =
            if notes_before == Some(&fresh.block.notes) { &[][..] } else { &fresh.block.notes };
        if before.is_none() && fresh.held {
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
        if block.held {
            log::info!("shutting down virtual service {}", block.block.name);
        }
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
}

pub(super) fn server_order(block: &Block, server: &LiveServer) -> Order {
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
