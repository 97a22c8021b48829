//! The loop: runs commands, watches monitors, and ends when one of them does.

use crate::sequence::{Action, Command, Mode, Sequence};
use crate::site::{MonitorRun, Service, Site, quoted};
use daemon::child::{self, Asked, Child, Overdue};
use daemon::pidfile::{self, PidFile};
use daemon::poll::{self, Poller};
use daemon::process::{self, Ended};
use daemon::signals::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, Signals};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// How long a start_cmd or stop_cmd may take: what systemd gives a service too.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(90);
/// How long a child that has been asked to end may take for it.
const GRACE: Duration = Duration::from_secs(5);
/// A fos that has not ended so long after it was told to hangs. It limits each service's commands itself
/// ([`COMMAND_LIMIT`]): who kills it earlier leaves services running, or half stopped.
pub const END_LIMIT: Duration = Duration::from_secs(15 * 60);

/// How long after a monitor that could not be started it is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// How often is looked whether another fos has ended.
const LOOK: Duration = Duration::from_millis(100);

const SIGNALS: u64 = 0;

/// How fos is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// What it is for.
    pub mode: Mode,
    /// Monitors log more too.
    pub verbose: bool,
    /// It stays on the terminal, and so does what it starts.
    pub nodaemon: bool,
    /// Where its pid is written.
    pub pidfile: PathBuf,
}

/// A start_cmd or stop_cmd that runs.
#[derive(Debug)]
struct Running {
    service: usize,
    command: Command,
    child: Child,
    began: Instant,
}

/// fos at work.
#[derive(Debug)]
pub struct Supervisor {
    options: Options,
    nanny: String,
    services: Vec<Service>,
    sequence: Sequence,
    poller: Poller,
    signals: Signals,
    command: Option<Running>,
    /// Monitors by their pid, with the number of their service.
    monitors: HashMap<i32, (usize, Child)>,
    /// Services whose monitor could not be started, and when to try again.
    retries: Vec<(Instant, usize)>,
    pidfile: Option<PidFile>,
    over: bool,
}

impl Supervisor {
    /// Takes over the signals of this process, which must be a daemon by now if it is to be one.
    ///
    /// # Errors
    /// When the kernel has no descriptors left.
    pub fn new(options: Options, site: Site, nanny: String) -> io::Result<Supervisor> {
        let poller = Poller::new()?;
        let signals = Signals::new(&[SIGTERM, SIGINT, SIGHUP, SIGCHLD])?;
        poller.add(&signals, SIGNALS, poll::READ)?;
        Ok(Supervisor {
            sequence: Sequence::new(options.mode, site.services.len()),
            options,
            nanny,
            services: site.services,
            poller,
            signals,
            command: None,
            monitors: HashMap::new(),
            retries: Vec::new(),
            pidfile: None,
            over: false,
        })
    }

    /// Runs until a service or a monitor ends, or until told to end; everything is stopped then.
    ///
    /// # Errors
    /// When the kernel refuses to wait, which it does not.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Vec::new();
        if !self.wait_for_another(&mut events)? {
            return Ok(());
        }
        self.pidfile =
            PidFile::create(&self.options.pidfile).inspect_err(|error| log::error!("{error}")).ok();
        let first = self.sequence.begin();
        self.carry_out(first, Instant::now());
        while !self.over {
            self.poller.wait(self.deadline(), &mut events)?;
            let now = Instant::now();
            self.on_signals(now);
            self.on_time(now);
        }
        log::info!("will now exit to notify pulse...");
        Ok(())
    }

    /// Waits until there is no other fos: one that is on its way out still stops what this one is
    /// about to start. False when told to end meanwhile.
    fn wait_for_another(&mut self, events: &mut Vec<poll::Event>) -> io::Result<bool> {
        let mut told = None;
        while let Some(pid) = pidfile::holder(&self.options.pidfile) {
            if told.replace(pid) != Some(pid) {
                let file = self.options.pidfile.display();
                log::warn!("waiting for the end of another fos, pid {pid} ({file})");
            }
            self.poller.wait(Some(Instant::now() + LOOK), events)?;
            if let Some(number) = self.signals.pending().into_iter().find(|n| *n != SIGCHLD) {
                log::info!("shutting down due to signal {number}");
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn deadline(&self) -> Option<Instant> {
        let command = self.command.as_ref().and_then(|running| running.child.deadline());
        let monitors = self.monitors.values().filter_map(|(_, child)| child.deadline());
        let retries = self.retries.iter().map(|(at, _)| *at);
        monitors.chain(retries).chain(command).min()
    }

    // ------------------------------------------------------------------ what happens

    fn on_signals(&mut self, now: Instant) {
        for number in self.signals.pending() {
            if number == SIGCHLD {
                self.on_children(now);
            } else if !self.sequence.is_ending() {
                log::info!("shutting down due to signal {number}");
                self.end(now);
            }
        }
    }

    fn on_children(&mut self, now: Instant) {
        while let Some((pid, how)) = process::next_ended() {
            process::collect(pid);
            if self.command.as_ref().is_some_and(|running| running.child.pid() == pid) {
                self.command_ended(how, now);
            } else if let Some((service, _)) = self.monitors.remove(&pid) {
                self.monitor_ended(service, how, now);
            }
        }
    }

    fn command_ended(&mut self, how: Ended, now: Instant) {
        let Some(Running { service, command, child, began }) = self.command.take() else { return };
        let (name, took) = (cmd(command), now.saturating_duration_since(began));
        let line = format!("{name} of {} {how} after {took:.1?}", self.services[service]);
        match (command, how.success()) {
            (_, true) => log::debug!("{line}"),
            // Aborted, or over its limit, which has been said.
            _ if child.is_ending() => log::info!("{line}"),
            (Command::Start, false) => log::error!("{line}"),
            (Command::Stop, false) if self.sequence.is_ending() => log::warn!("{line}"),
            (Command::Stop, false) => log::info!("{line} (perhaps it did not run)"),
        }
        let actions = self.after_command(service, how.success() && !child.is_ending());
        self.carry_out(actions, now);
    }

    /// What comes after a command.
    fn after_command(&mut self, service: usize, success: bool) -> Vec<Action> {
        let (died, actions) = self.sequence.command_ended(success);
        if died {
            log::error!("Service {} died. This is a restart condition!", self.services[service]);
        }
        actions
    }

    fn monitor_ended(&mut self, service: usize, how: Ended, now: Instant) {
        if self.sequence.is_ending() {
            let actions = self.count_monitors();
            return self.carry_out(actions, now);
        }
        let at = self.services[service].at;
        log::info!("nanny {how}");
        log::error!("Monitor for service {at} exited. This is a failover condition!");
        self.end(now);
    }

    fn on_time(&mut self, now: Instant) {
        if let Some(Running { service, command, child, .. }) = &mut self.command {
            let (name, service) = (cmd(*command), &self.services[*service]);
            match child.on_time(now) {
                Some(Overdue::Limit) => log::error!(
                    "{name} of {service} has not returned within {} s; it is ended (a service has to \
                     go into the background)",
                    COMMAND_LIMIT.as_secs()
                ),
                Some(Overdue::Grace) => log::error!("{name} of {service} does not end; killed"),
                None => {}
            }
        }
        for (service, child) in self.monitors.values_mut() {
            if child.on_time(now) == Some(Overdue::Grace) {
                log::warn!("monitor of {} does not end; killed", self.services[*service]);
            }
        }
        let due: Vec<usize> =
            self.retries.extract_if(.., |(at, _)| *at <= now).map(|r| r.1).collect();
        for service in due {
            self.start_monitor(service, now);
        }
    }

    fn end(&mut self, now: Instant) {
        let actions = self.sequence.end();
        self.carry_out(actions, now);
    }

    // ------------------------------------------------------------------ what is done about it

    fn carry_out(&mut self, actions: Vec<Action>, now: Instant) {
        let mut todo = VecDeque::from(actions);
        while let Some(action) = todo.pop_front() {
            match action {
                Action::Run(service, command) => {
                    todo.extend(self.run_command(service, command, now));
                }
                Action::Abort => {
                    if let Some(running) = &mut self.command {
                        running.child.stop(now, GRACE);
                    }
                }
                Action::Watch => {
                    for service in 0..self.services.len() {
                        self.start_monitor(service, now);
                    }
                }
                Action::EndMonitors => {
                    self.retries.clear();
                    self.monitors.values_mut().for_each(|(_, child)| child.stop(now, GRACE));
                    todo.extend(self.count_monitors());
                }
                Action::Exit => self.over = true,
            }
        }
    }

    /// What comes when no monitor is left.
    fn count_monitors(&mut self) -> Vec<Action> {
        if self.monitors.is_empty() { self.sequence.monitors_ended() } else { Vec::new() }
    }

    /// Starts a command; what comes next where there is none, or it cannot be started.
    fn run_command(&mut self, number: usize, command: Command, now: Instant) -> Vec<Action> {
        let service = &self.services[number];
        let words = match command {
            Command::Start => &service.start,
            Command::Stop => &service.stop,
        };
        let Some(words) = words else {
            return self.after_command(number, true);
        };
        let doing = if command == Command::Start { "starting" } else { "stopping" };
        log::info!("{doing} service {service}");
        log::debug!("running command {}", quoted(words));
        match self.spawn(words, Asked::Group) {
            Ok(mut child) => {
                child.limit(now + COMMAND_LIMIT, GRACE);
                self.command = Some(Running { service: number, command, child, began: now });
                Vec::new()
            }
            Err(error) => {
                log::error!("{} of {service}: {error}", cmd(command));
                self.after_command(number, false)
            }
        }
    }

    /// Starts a monitor. One that cannot be started says nothing about the service, so that it is no
    /// reason to take it from the partner.
    fn start_monitor(&mut self, number: usize, now: Instant) {
        let service = &self.services[number];
        let run = MonitorRun {
            nanny: &self.nanny,
            verbose: self.options.verbose,
            nodaemon: self.options.nodaemon,
        };
        let words = service.monitor_command(&run);
        log::debug!("running command {}", quoted(&words));
        match self.spawn(&words, Asked::Child) {
            Ok(child) => {
                log::info!("create_monitor for {service} running as pid {}", child.pid());
                self.monitors.insert(child.pid(), (number, child));
            }
            Err(error) => {
                log::error!("monitor of {service}: {error}; not watched, next try in {RETRY:?}");
                self.retries.push((now + RETRY, number));
            }
        }
    }

    fn spawn(&self, words: &[Vec<u8>], asked: Asked) -> io::Result<Child> {
        let output = || if self.options.nodaemon { Stdio::inherit() } else { Stdio::null() };
        let mut command = child::command(words);
        command.stdin(Stdio::null()).stdout(output()).stderr(output());
        child::spawn(&mut command, asked)
    }
}

/// A command's key in lvs.cf.
fn cmd(command: Command) -> &'static str {
    match command {
        Command::Start => "start_cmd",
        Command::Stop => "stop_cmd",
    }
}
