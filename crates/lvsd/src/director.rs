//! The loop: signals, monitors, the control socket and the clock in; changes of the table out.

use crate::live::{Live, Turnover};
use crate::load::{Loaded, load};
use crate::monitors::{Classics, Pooled, Spawning, nanny_program, signal};
use crate::report::{self, Context};
use crate::site::{MonitorRun, Site};
use crate::status::{Answer, Request};
use daemon::control::{self, Server as ControlServer};
use daemon::poll::{self, Event, Poller};
use daemon::process::{self, Ended};
use daemon::signals::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, Signals};
use health::state::Force;
use health::wire::{Detail, News, Order};
use ipvs::{Change, ErrorKind, Failure, Ipvsadm, Netlink, Table, Timeouts};
use nix::sys::signal::Signal;
use std::collections::HashMap;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

const SIGNALS: u64 = 0;
const POOLED: u64 = 1;
const RELOADED: u64 = 2;
/// Classic monitors' outputs: the server's number is added.
const CLASSIC: u64 = 1 << 32;
const CONTROL: u64 = 1 << 40;

/// With more servers than this, not every one gets a line at the start.
const LARGE: usize = 256;
/// How often the table is read to see whether somebody else has changed it.
const AUDIT: Duration = Duration::from_secs(3);
/// A table whose reading takes long is read less often: this many times what a reading takes.
const AUDIT_COST: u32 = 50;
/// How soon the table is read after a change whose effect is not known.
const AUDIT_SOON: Duration = Duration::from_millis(200);
/// How long a monitor that died waits for its successor.
const RESTART: Duration = Duration::from_secs(1);
/// How long monitors may take to end.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long a status waits for the monitor's part of it.
const DETAILS: Duration = Duration::from_secs(2);

/// How lvsd was started.
#[derive(Debug, Clone)]
pub struct Options {
    /// lvs.cf.
    pub file: PathBuf,
    /// `-v`.
    pub verbose: bool,
    /// `-n`: stay on the terminal.
    pub nodaemon: bool,
    /// The control socket's path.
    pub socket: PathBuf,
}

/// Opens the table in the way the configuration asks for, and makes sure that there is one.
///
/// # Errors
/// No IPVS in the kernel, no permission, no such program.
pub fn open_table(ipvsadm: Option<&str>) -> Result<Box<dyn Table>, ipvs::Error> {
    let mut table: Box<dyn Table> = match ipvsadm {
        Some(program) => Box::new(Ipvsadm::new(program)),
        None => Box::new(Netlink::open()?),
    };
    table.info()?;
    Ok(table)
}

/// A status that waits for the monitor's details.
#[derive(Debug)]
struct Query {
    tag: u64,
    clients: Vec<u64>,
    details: HashMap<u32, Detail>,
    until: Instant,
}

/// lvsd at work.
pub struct Director {
    options: Options,
    poller: Poller,
    signals: Signals,
    control: Option<ControlServer>,
    table: Box<dyn Table>,
    live: Live,
    /// The configuration less its blocks, which [`Live`] has once lvsd has started.
    site: Site,
    serial_no: i64,
    pooled: Option<Pooled>,
    classics: Classics,
    /// Servers whose classic monitor is to be started again, and when.
    restarts: Vec<(Instant, u32)>,
    restart_pool: Option<Instant>,
    reloading: Option<Reloading>,
    reload_again: bool,
    reload_error: Option<String>,
    table_error: Option<String>,
    audit_at: Instant,
    query: Option<Query>,
    last_tag: u64,
    began: Instant,
    /// Set while lvsd ends: its exit status, and when it waits no longer.
    ending: Option<(i32, Instant)>,
}

/// A configuration that is being read by a thread of its own, since names in it may have to be
/// looked up.
struct Reloading {
    result: mpsc::Receiver<Result<Loaded, String>>,
    /// Readable, then closed, when the result is there.
    done: UnixStream,
}

impl Director {
    /// Prepares everything; neither the table nor any other process is touched yet.
    ///
    /// # Errors
    /// When another lvsd runs, or the process cannot have what a loop needs.
    pub fn new(options: Options, table: Box<dyn Table>, loaded: Loaded) -> io::Result<Director> {
        let poller = Poller::new()?;
        let signals = Signals::new(&[SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD])?;
        poller.add(&signals, SIGNALS, poll::READ)?;
        let control = match ControlServer::bind(&options.socket, &poller, CONTROL) {
            Ok(control) => Some(control),
            // Two of them would undo each other's work.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => {
                // The table matters more than questions about it.
                log::error!("{error}: piranhactl cannot ask this lvsd");
                None
            }
        };
        let now = Instant::now();
        let director = Director {
            options,
            poller,
            signals,
            control,
            table,
            live: Live::default(),
            site: loaded.site,
            serial_no: loaded.serial_no,
            pooled: None,
            classics: Classics::default(),
            restarts: Vec::new(),
            restart_pool: None,
            reloading: None,
            reload_again: false,
            reload_error: None,
            table_error: None,
            audit_at: now + AUDIT,
            query: None,
            last_tag: 0,
            began: now,
            ending: None,
        };
        for problem in &loaded.problems {
            log::error!("{problem}");
        }
        Ok(director)
    }

    /// Loads the table, starts the monitors, and says that it is ready.
    fn start(&mut self, now: Instant) {
        let blocks = std::mem::take(&mut self.site.blocks);
        self.set_timeouts(Timeouts::default());
        for failure in self.make(&[Change::Flush]) {
            log::error!("{}", failure.error);
        }
        let turnover = self.live.replace(blocks, now);
        self.settle(now);
        self.carry_out(turnover);
        daemon::ready::announce();
        daemon::memory::trim();
    }

    /// Starts, and works until it is told to end; returns the exit status.
    ///
    /// # Errors
    /// When waiting for events fails.
    pub fn run(mut self) -> io::Result<i32> {
        self.start(Instant::now());
        let mut events = Vec::new();
        loop {
            self.poller.wait(Some(self.deadline()), &mut events)?;
            let now = Instant::now();
            for event in &events {
                self.on_event(*event, now);
            }
            self.on_time(now);
            if let Some((status, until)) = self.ending {
                if (self.pooled.is_none() && self.classics.is_empty()) || now >= until {
                    self.leave();
                    return Ok(status);
                }
            } else {
                self.settle(now);
            }
        }
    }

    fn deadline(&self) -> Instant {
        if let Some((_, until)) = self.ending {
            return until;
        }
        let restarts = self.restarts.iter().map(|(at, _)| *at);
        restarts
            .chain(self.restart_pool)
            .chain(self.live.deadline())
            .chain(self.query.as_ref().map(|q| q.until))
            .chain([self.audit_at])
            .min()
            .unwrap_or(self.audit_at)
    }

    fn on_event(&mut self, event: Event, now: Instant) {
        match event.token {
            SIGNALS => self.on_signals(now),
            POOLED => self.on_pooled(now),
            RELOADED => self.on_reloaded(now),
            token if token >= CONTROL => self.on_control(event, now),
            token => {
                let id = u32::try_from(token - CLASSIC).unwrap_or(u32::MAX);
                if let Some(up) = self.classics.read(id, &self.poller) {
                    self.live.classic_news(id, up);
                }
            }
        }
    }

    fn on_time(&mut self, now: Instant) {
        if self.ending.is_some() {
            return;
        }
        if self.restart_pool.is_some_and(|at| at <= now) {
            self.restart_pool = None;
            self.start_pool(now);
        }
        let due: Vec<u32> =
            self.restarts.iter().filter(|(at, _)| *at <= now).map(|(_, id)| *id).collect();
        self.restarts.retain(|(at, _)| *at > now);
        for id in due {
            self.start_classic(id, now);
        }
        if self.query.as_ref().is_some_and(|q| q.until <= now) {
            self.answer_query(now);
        }
        if self.audit_at <= now {
            self.audit(now);
        }
    }

    // ------------------------------------------------------------------ the table

    /// Brings the table to what it should be: the one way for a change to reach it.
    fn settle(&mut self, now: Instant) {
        let changes = self.live.changes(now);
        if !changes.is_empty() {
            self.apply(&changes, now);
        }
    }

    /// Makes changes, each with a line in a verbose log; gives back those that failed.
    fn make(&mut self, changes: &[Change]) -> Vec<Failure> {
        for change in changes {
            log::debug!("running command {}", command_line(&self.site.ipvsadm_path, change));
        }
        self.table.apply(changes)
    }

    fn apply(&mut self, changes: &[Change], now: Instant) {
        let failures = self.make(changes);
        if !failures.is_empty() && failures.iter().any(|f| is_surprise(f.error.kind())) {
            // The table is not what it was taken for.
            self.audit_at = self.audit_at.min(now + AUDIT_SOON);
        }
        self.live.settle(failures.iter().filter_map(|f| failed(changes, f)));
    }

    /// Reads the table and mends what somebody else has changed.
    fn audit(&mut self, now: Instant) {
        match self.table.read() {
            Ok(table) => {
                self.table_error = None;
                let lost = self.live.observe(&table);
                let repairs = self.live.changes(now);
                if !repairs.is_empty() {
                    let ours = repairs.iter().filter(|c| !self.live.is_known_problem(c)).count();
                    if let (true, Some(first)) = (ours > 0, repairs.first()) {
                        log::warn!(
                            "somebody else has changed the IPVS table; {ours} repairs, the first: {}",
                            command_line(&self.site.ipvsadm_path, first)
                        );
                    }
                    self.apply(&repairs, now);
                }
                self.restart_classics(lost, now);
            }
            Err(error) => {
                let text = error.to_string();
                if self.table_error.as_ref() != Some(&text) {
                    log::error!("{text}");
                }
                self.table_error = Some(text);
            }
        }
        let cost = now.elapsed() * AUDIT_COST;
        self.audit_at = Instant::now() + AUDIT.max(cost);
    }

    /// Sets the IPVS timeouts where they differ from what was set `before`.
    fn set_timeouts(&mut self, before: Timeouts) {
        let t = self.site.timeouts;
        if t == before || t == Timeouts::default() {
            return;
        }
        for failure in self.make(&[Change::SetTimeouts(t)]) {
            log::error!(
                "ipvsadm failed to set timeouts ({} {} {}): {}",
                t.tcp,
                t.tcp_fin,
                t.udp,
                failure.error
            );
        }
    }

    // ------------------------------------------------------------------ monitors

    fn spawning(&self) -> Spawning {
        Spawning { verbose: self.options.verbose, nodaemon: self.options.nodaemon }
    }

    /// Does what a new configuration means for the monitors.
    fn carry_out(&mut self, turnover: Turnover) {
        let now = Instant::now();
        for id in turnover.stop {
            self.restarts.retain(|(_, other)| *other != id);
            self.classics.end(id, false);
        }
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

    /// Starts monitors of one server each; one that runs is ended first.
    fn restart_classics(&mut self, ids: Vec<u32>, now: Instant) {
        for id in ids {
            if !self.classics.end(id, true) {
                self.start_classic(id, now);
            }
        }
    }

    /// Starts the monitor of all servers and tells it of them.
    fn start_pool(&mut self, now: Instant) {
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
        for id in ids {
            self.start_classic(id, now);
        }
    }

    fn start_classic(&mut self, id: u32, now: Instant) {
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

    fn on_pooled(&mut self, now: Instant) {
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

    fn on_children(&mut self, now: Instant) {
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

    // ------------------------------------------------------------------ signals and reload

    fn on_signals(&mut self, now: Instant) {
        for number in self.signals.pending() {
            match number {
                SIGCHLD => self.on_children(now),
                SIGHUP => self.reload(),
                SIGUSR1 | SIGUSR2 => {
                    log::warn!("signal {number} ignored: it is for a nanny of one server");
                }
                number => {
                    log::info!("shutting down due to signal {number}");
                    self.end(0, now);
                }
            }
        }
    }

    /// Begins to read the configuration again.
    fn reload(&mut self) {
        if self.reloading.is_some() {
            self.reload_again = true;
            return;
        }
        log::info!("rereading configuration file");
        match self.begin_reload() {
            Ok(reloading) => self.reloading = Some(reloading),
            Err(error) => log::error!("cannot read the configuration now: {error}"),
        }
    }

    fn begin_reload(&self) -> io::Result<Reloading> {
        let (done, tell) = UnixStream::pair()?;
        let (send, result) = mpsc::channel();
        let file = self.options.file.clone();
        self.poller.add(&done, RELOADED, poll::READ)?;
        std::thread::Builder::new().name("reload".to_owned()).spawn(move || {
            let _ = send.send(load(&file));
            drop(tell);
        })?;
        Ok(Reloading { result, done })
    }

    fn on_reloaded(&mut self, now: Instant) {
        let Some(reloading) = self.reloading.take() else { return };
        self.poller.remove(&reloading.done);
        match reloading.result.try_recv() {
            Ok(Ok(loaded)) => self.take_over(loaded, now),
            Ok(Err(error)) => {
                for line in error.lines() {
                    log::error!("{}", line.strip_prefix("lvs: ").unwrap_or(line));
                }
                log::error!("the configuration stays as it was");
                self.reload_error = Some(error);
            }
            Err(_) => log::error!("reading the configuration failed; it stays as it was"),
        }
        if std::mem::take(&mut self.reload_again) {
            self.reload();
        }
        daemon::memory::trim();
    }

    fn take_over(&mut self, loaded: Loaded, now: Instant) {
        if self.ending.is_some() {
            return;
        }
        for problem in &loaded.problems {
            log::error!("{problem}");
        }
        if loaded.site.ipvsadm != self.site.ipvsadm {
            match open_table(loaded.site.ipvsadm.as_deref()) {
                Ok(table) => self.table = table,
                Err(error) => {
                    log::error!("{error}; the configuration stays as it was");
                    self.reload_error = Some(error.to_string());
                    return;
                }
            }
        }
        self.reload_error = None;
        self.serial_no = loaded.serial_no;
        log::info!("configuration {} is in force", loaded.serial_no);
        let before = self.site.timeouts;
        let mut site = loaded.site;
        let blocks = std::mem::take(&mut site.blocks);
        self.site = site;
        self.set_timeouts(before);
        let turnover = self.live.replace(blocks, now);
        self.settle(now);
        self.carry_out(turnover);
    }

    // ------------------------------------------------------------------ control socket

    fn on_control(&mut self, event: Event, now: Instant) {
        let Some(control) = &mut self.control else { return };
        for request in control.handle(&self.poller, event) {
            self.on_request(&request, now);
        }
    }

    fn on_request(&mut self, request: &control::Request, now: Instant) {
        let answer = match serde_json::from_slice(&request.text) {
            Ok(Request::Status) => return self.ask_details(request.client, now),
            Ok(Request::Force { server, to }) => self.force(&server, to),
            Ok(Request::Reload) => {
                self.reload();
                Answer::Ok("rereading the configuration".to_owned())
            }
            Err(error) => Answer::Error(format!("not understood: {error}")),
        };
        self.reply(request.client, &health::wire::line(&answer));
    }

    fn reply(&mut self, client: u64, answer: &[u8]) {
        if let Some(control) = &mut self.control {
            control.reply(&self.poller, client, answer);
        }
    }

    fn force(&mut self, label: &str, force: Force) -> Answer {
        let Some(id) = self.live.find(label) else {
            return Answer::Error(format!(
                "no active server {label} (BLOCK/SERVER, as the names stand in the configuration)"
            ));
        };
        let classic = self.live.server(id).is_some_and(|(block, _)| self.live.is_classic(block));
        if classic && force == Force::Drain {
            return Answer::Error(format!(
                "{label} has a monitor of its own, which knows up and down only; with \
                 quiesce_server = 1 down drains it"
            ));
        }
        log::info!("operator: {label} {}", force_word(force));
        self.live.set_force(id, force);
        if classic {
            self.classics.force(id, force);
        } else if let Some(pooled) = &mut self.pooled {
            pooled.order(&Order::Force(id, force));
            pooled.flush(&self.poller);
        }
        Answer::Ok(format!("{label}: {}", force_word(force)))
    }

    /// Asks the monitor for what only it knows; the status follows its answer.
    fn ask_details(&mut self, client: u64, now: Instant) {
        if let Some(query) = &mut self.query {
            query.clients.push(client);
            return;
        }
        self.last_tag += 1;
        let mut query = Query {
            tag: self.last_tag,
            clients: vec![client],
            details: HashMap::new(),
            until: now + DETAILS,
        };
        match &mut self.pooled {
            Some(pooled) => {
                pooled.order(&Order::Query(query.tag));
                pooled.flush(&self.poller);
            }
            None => query.until = now,
        }
        self.query = Some(query);
    }

    fn answer_query(&mut self, now: Instant) {
        let Some(query) = self.query.take() else { return };
        let (kernel, table_error) = match self.table.read_stats() {
            Ok(kernel) => (kernel, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        let context = Context {
            file: self.options.file.display().to_string(),
            serial_no: self.serial_no,
            uptime: now.saturating_duration_since(self.began),
            reload_error: self.reload_error.clone(),
            table_error,
        };
        let status = report::status(&self.live, &kernel, &query.details, context);
        let answer = health::wire::line(&status);
        for client in query.clients {
            self.reply(client, &answer);
        }
    }

    // ------------------------------------------------------------------ the end

    /// Begins to end: the monitors first, then the table.
    fn end(&mut self, status: i32, now: Instant) {
        if self.ending.is_some() {
            return;
        }
        self.ending = Some((status, now + FAREWELL));
        if let Some(pooled) = &self.pooled {
            signal(pooled.pid, Signal::SIGTERM);
        }
        for id in self.classics.ids() {
            self.classics.end(id, false);
        }
    }

    /// Takes our services out of the table.
    fn leave(&mut self) {
        if let Some(pooled) = &self.pooled {
            signal(pooled.pid, Signal::SIGKILL);
        }
        self.classics.kill_all();
        for block in self.live.blocks() {
            log::info!("shutting down virtual service {}", block.block.name);
        }
        for failure in self.make(&self.live.farewell()) {
            if failure.error.kind() != ErrorKind::NoSuchService {
                log::error!("{}", failure.error);
            }
        }
    }
}

fn force_word(force: Force) -> &'static str {
    match force {
        Force::Auto => "back to the checks",
        Force::Up => "kept up",
        Force::Down => "kept down",
        Force::Drain => "drained, no new connections",
    }
}

/// A failure with the change it is about and its words.
fn failed<'a>(changes: &'a [Change], failure: &Failure) -> Option<(&'a Change, String)> {
    Some((changes.get(failure.index)?, failure.error.to_string()))
}

/// Whether an error says that the table is not what it was taken for.
fn is_surprise(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Exists
            | ErrorKind::NoSuchService
            | ErrorKind::NoSuchDestination
            | ErrorKind::Overrun
            | ErrorKind::TimedOut
            | ErrorKind::Malformed
    )
}

/// A change as the command it stands for, each word in quotes.
#[must_use]
pub fn command_line(ipvsadm: &str, change: &Change) -> String {
    quoted(std::iter::once(ipvsadm.to_owned()).chain(change.ipvsadm_args()))
}

/// Words in quotes, with blanks between them.
pub fn quoted(words: impl Iterator<Item = String>) -> String {
    words.map(|w| format!("\"{w}\"")).collect::<Vec<_>>().join(" ")
}
