//! The monitors: started, told of changes, heard, and replaced.

use super::{CLASSIC, Director, POOLED};
use crate::live::Turnover;
use crate::monitors::{Pooled, Spawning, nanny_program};
use crate::site::MonitorRun;
use daemon::process::{self, Ended};
use health::wire::{News, Order};
use std::time::{Duration, Instant};

/// With more servers than this, not every one gets a line at the start.
const LARGE: usize = 256;
/// How long a monitor that died waits for its successor.
const RESTART: Duration = Duration::from_secs(1);
impl Director {
    fn spawning(&self) -> Spawning {
        Spawning { verbose: self.options.verbose, nodaemon: self.options.nodaemon }
    }

    /// Does what a new configuration means for the monitors.
    pub(super) fn carry_out(&mut self, turnover: Turnover) {
        let now = Instant::now();
        for id in turnover.stop {
            self.restarts.retain(|(_, other)| *other != id);
            self.classics.end(id, false);
        }
        self.name_the_unchecked(&turnover.start);
        self.restart_classics(turnover.start, now);
        match &mut self.pooled {
            Some(pooled) => {
                for order in &turnover.orders {
                    pooled.order(order);
                }
                pooled.flush(&self.poller);
                let pid = pooled.pid;
                self.log_new_monitors(&turnover.orders, pid);
            }
            None if self.restart_pool.is_none() && !turnover.orders.is_empty() => {
                self.start_pool(now);
            }
            None => {}
        }
    }

    /// Names the virtual servers that nobody checks in standby.
    fn name_the_unchecked(&self, ids: &[u32]) {
        if !self.live.is_standby() {
            return;
        }
        let blocks = ids.iter().filter_map(|id| self.live.server(*id)).map(|(block, _)| block);
        let mut names: Vec<&str> = blocks.map(|block| block.block.name.as_str()).collect();
        names.dedup();
        for name in names {
            log::warn!(
                "virtual server {name} is not checked in standby: each of its monitors changes the \
                 table itself, so that they start at the take-over"
            );
        }
    }

    /// Starts the monitors of one server each, when the table has been taken over.
    pub(super) fn start_classics(&mut self, now: Instant) {
        let blocks = self.live.blocks().iter().filter(|b| self.live.is_classic(b));
        let ids = blocks.flat_map(|b| b.servers.iter().map(|s| s.id)).collect();
        self.restart_classics(ids, now);
    }

    /// Starts monitors of one server each; one that runs is ended first.
    pub(super) fn restart_classics(&mut self, ids: Vec<u32>, now: Instant) {
        for id in ids {
            if !self.classics.end(id, true) {
                self.start_classic(id, now);
            }
        }
    }

    /// Starts the monitor of all servers and tells it of them.
    pub(super) fn start_pool(&mut self, now: Instant) {
        let program = nanny_program();
        match Pooled::start(&program, self.spawning(), &self.poller, POOLED) {
            Ok(mut pooled) => {
                for order in self.live.all_orders() {
                    pooled.order(&order);
                }
                pooled.flush(&self.poller);
                let pid = pooled.pid;
                self.pooled = Some(pooled);
                self.log_monitors(pid);
            }
            Err(error) => {
                log::error!("{error}");
                self.pool_died(None, now);
            }
        }
    }

    /// A line for each server, as when each had a process; on a site larger than that was good for,
    /// where syslog daemons would drop most of them, a line for each virtual server.
    fn log_monitors(&self, pid: i32) {
        let blocks = || self.live.blocks().iter().filter(|b| !self.live.is_classic(b));
        let large = blocks().map(|b| b.servers.len()).sum::<usize>() > LARGE;
        for block in blocks() {
            let name = &block.block.name;
            if large {
                let count = block.servers.len();
                log::info!("create_monitor for {name}/* ({count} servers) running as pid {pid}");
                continue;
            }
            for server in &block.servers {
                log::info!("create_monitor for {name}/{} running as pid {pid}", server.member.name);
            }
        }
    }

    /// The same for servers that have joined.
    fn log_new_monitors(&self, orders: &[Order], pid: i32) {
        let new = || {
            orders.iter().filter_map(|order| match order {
                Order::Server(server) if server.known.is_none() => Some(server.id),
                _ => None,
            })
        };
        match new().count() {
            0..=LARGE => {
                for id in new() {
                    log::info!("create_monitor for {} running as pid {pid}", self.live.label(id));
                }
            }
            count => log::info!("create_monitor for {count} new servers running as pid {pid}"),
        }
    }

    /// The monitor of all servers has ended, or could not be started.
    fn pool_died(&mut self, how: Option<Ended>, now: Instant) {
        let spoke = self.pooled.take().is_some_and(|p| p.hello);
        if self.ending.is_some() {
            return;
        }
        if matches!(how, Some(Ended::Exited(_))) && !spoke {
            log::warn!(
                "{} ended before it took orders (an older nanny?): one process for each server",
                nanny_program()
            );
            self.fall_back_to_classic(now);
            return;
        }
        let mut labels = self
            .live
            .blocks()
            .iter()
            .filter(|b| !self.live.is_classic(b))
            .flat_map(|b| b.servers.iter().map(|s| s.id));
        let Some(first) = labels.next() else { return };
        let label = match labels.count() {
            0 => self.live.label(first),
            more => format!("{} (and {more} more)", self.live.label(first)),
        };
        if let Some(how) = how {
            log::error!("nanny {how}");
        }
        if self.monitor_died(&label, now) {
            self.restart_pool = Some(now + RESTART);
        }
    }

    /// What the death of a monitor means; true when another is to be started.
    fn monitor_died(&mut self, label: &str, now: Instant) -> bool {
        if self.site.hard_shutdown {
            log::error!("nanny for child {label} died! shutting down lvs");
            self.end(1, now);
            return false;
        }
        log::error!("nanny for child {label} died! manual action needed!");
        true
    }

    /// The nanny beside us takes no orders: every server gets a process, as with the original.
    fn fall_back_to_classic(&mut self, now: Instant) {
        self.live.all_classic = true;
        let ids: Vec<u32> = self
            .live
            .blocks()
            .iter()
            .filter(|b| b.block.client_monitor.is_none())
            .flat_map(|b| b.servers.iter().map(|s| s.id))
            .collect();
        self.name_the_unchecked(&ids);
        for id in ids {
            self.start_classic(id, now);
        }
    }

    /// Starts the monitor of one server, but where the table is not (all) this director's: it would
    /// write to it. [`Director::start_classics`] is for later.
    pub(super) fn start_classic(&mut self, id: u32, now: Instant) {
        if !self.live.is_holding() {
            return;
        }
        let nanny = nanny_program();
        let Some((block, server)) = self.live.server(id) else { return };
        let program = block.block.client_monitor.as_deref().unwrap_or(&nanny);
        let run =
            MonitorRun { program, verbose: self.options.verbose, nodaemon: self.options.nodaemon };
        let words = block.block.monitor_command(&server.member, &run);
        let listen = block.block.sorry.is_some().then_some((&self.poller, CLASSIC + u64::from(id)));
        let (label, force) = (self.live.label(id), server.force);
        match self.classics.start(id, &words, self.spawning(), force, listen) {
            Ok(pid) => log::info!("create_monitor for {label} running as pid {pid}"),
            Err(error) => {
                log::error!("{error}");
                if self.monitor_died(&label, now) {
                    self.restarts.push((now + RESTART, id));
                }
            }
        }
    }

    pub(super) fn on_pooled(&mut self, now: Instant) {
        let Some(pooled) = &mut self.pooled else { return };
        let news = pooled.read(&self.poller);
        pooled.flush(&self.poller);
        for item in news {
            match item {
                News::State(state) => self.live.news(&state),
                News::Detail(detail) => {
                    if let Some(query) = &mut self.query {
                        query.details.insert(detail.id, detail);
                    }
                }
                News::End(tag) if self.query.as_ref().is_some_and(|q| q.tag == tag) => {
                    self.answer_query(now);
                }
                News::End(_) | News::Hello => {}
            }
        }
    }

    pub(super) fn on_children(&mut self, now: Instant) {
        while let Some((pid, how)) = process::next_ended() {
            process::collect(pid);
            if self.pooled.as_ref().is_some_and(|p| p.pid == pid) {
                // What it said last, its first word perhaps, may not have been read yet.
                self.on_pooled(now);
                self.pool_died(Some(how), now);
            } else if let Some((id, classic)) = self.classics.ended(pid) {
                if classic.again && self.ending.is_none() {
                    self.start_classic(id, now);
                } else if !classic.ending && self.ending.is_none() {
                    let label = self.live.label(id);
                    log::error!("nanny {how}");
                    if self.monitor_died(&label, now) {
                        self.restarts.push((now + RESTART, id));
                    }
                }
            }
        }
    }
}
