//! The loop: signals, monitors, the control socket and the clock in; changes of the table out.

mod monitoring;
mod reload;
mod requests;
mod standby;
mod table;

pub use table::{command_line, open_table, quoted};

use crate::live::Live;
use crate::load::Loaded;
use crate::monitors::{Classics, Pooled, signal};
use crate::site::Site;
use daemon::control::Server as ControlServer;
use daemon::poll::{self, Event, Poller};
use daemon::ready::Reports;
use daemon::signals::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, Signals};
use ipvs::Table;
use nix::sys::signal::Signal;
use reload::Reloading;
use requests::Query;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const SIGNALS: u64 = 0;
const POOLED: u64 = 1;
const RELOADED: u64 = 2;
const REPORTS: u64 = 3;
/// Classic monitors' outputs: the server's number is added.
const CLASSIC: u64 = 1 << 32;
const CONTROL: u64 = 1 << 40;

/// How long monitors may take to end.
const FAREWELL: Duration = Duration::from_secs(2);

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
    /// Leave the table alone until SIGUSR1 says to take it.
    pub standby: bool,
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
    /// When the table is read again, while it is this director's.
    audit_at: Instant,
    reports: Reports,
    /// In standby: when it is said at the latest that the servers' states are known.
    known_by: Option<Instant>,
    query: Option<Query>,
    last_tag: u64,
    began: Instant,
    /// Set while lvsd ends: its exit status, and when it waits no longer.
    ending: Option<(i32, Instant)>,
}

impl Director {
    /// Prepares everything; neither the table nor any other process is touched yet.
    ///
    /// # Errors
    /// When another lvsd runs, or the process cannot have what a loop needs.
    pub fn new(
        options: Options,
        table: Box<dyn Table>,
        loaded: Loaded,
        signals: Signals,
    ) -> io::Result<Director> {
        let poller = Poller::new()?;
        signals.add(&[SIGTERM, SIGINT, SIGCHLD])?;
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
            poller,
            signals,
            control,
            table,
            live: if options.standby { Live::standby() } else { Live::default() },
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
            audit_at: now,
            reports: Reports::from_environment(),
            known_by: None,
            query: None,
            last_tag: 0,
            began: now,
            ending: None,
            options,
        };
        for problem in &loaded.problems {
            log::error!("{problem}");
        }
        Ok(director)
    }

    /// Loads the table, starts the monitors, and says that it is ready; in standby without the table.
    fn start(&mut self, now: Instant) {
        let blocks = std::mem::take(&mut self.site.blocks);
        if self.live.is_standby() {
            log::info!("standby: the servers are checked, the IPVS table is left alone");
            self.await_first_checks();
        } else {
            self.clear();
        }
        let turnover = self.live.replace(blocks, now);
        self.settle(now);
        self.carry_out(turnover);
        if self.live.is_holding() {
            self.report_all();
            self.reports.flush_in(&self.poller, REPORTS);
        }
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
            if self.live.is_taking() && self.ending.is_none() {
                self.poller.take(&mut events)?;
            } else {
                self.poller.wait(self.deadline(), &mut events)?;
            }
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
                self.go_on(now);
            }
        }
    }

    /// Brings the table to what the news make of it, or goes on to take it over.
    fn go_on(&mut self, now: Instant) {
        if self.live.is_taking() {
            self.take_more(now);
        } else {
            self.settle(now);
        }
        if self.known_by.is_some_and(|at| at <= now || self.live.is_known()) {
            self.report_standby();
        }
        self.reports.flush_in(&self.poller, REPORTS);
    }

    fn deadline(&self) -> Option<Instant> {
        if let Some((_, until)) = self.ending {
            return Some(until);
        }
        let restarts = self.restarts.iter().map(|(at, _)| *at);
        restarts
            .chain(self.restart_pool)
            .chain(self.live.deadline())
            .chain(self.query.as_ref().map(|q| q.until))
            .chain(self.live.is_holding().then_some(self.audit_at))
            .chain(self.known_by)
            .min()
    }

    fn on_event(&mut self, event: Event, now: Instant) {
        match event.token {
            SIGNALS => self.on_signals(now),
            POOLED => self.on_pooled(now),
            RELOADED => self.on_reloaded(now),
            REPORTS => self.reports.flush_in(&self.poller, REPORTS),
            token if token >= CONTROL => self.on_control(event, now),
            token => {
                let id = u32::try_from(token - CLASSIC).unwrap_or(u32::MAX);
                if let Some(up) = self.classics.read(id, &self.poller) {
                    self.live.classic_news(id, up);
                }
            }
        }
    }

    fn on_signals(&mut self, now: Instant) {
        let numbers = self.signals.pending();
        let (take, leave) = (numbers.contains(&SIGUSR1), numbers.contains(&SIGUSR2));
        if take || leave {
            self.on_hold_signals(take, leave, now);
        }
        for number in numbers {
            match number {
                SIGUSR1 | SIGUSR2 => {}
                SIGCHLD => self.on_children(now),
                SIGHUP => self.reload(),
                number => {
                    log::info!("shutting down due to signal {number}");
                    self.end(0, now);
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
        if self.live.is_holding() && self.audit_at <= now {
            self.audit(now);
        }
    }

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
        self.remove_services();
    }
}
