//! The loop: heartbeats, signals, children, links and the clock in; what the decision asks for out.

mod act;
mod reload;
mod report;

use crate::addresses::Addresses;
use crate::arps::Announcer;
use crate::commands::Commands;
use crate::decision::{Event, Millis, Settings, State};
use crate::guard::{self, Guard};
use crate::holdings::Holdings;
use crate::links::Links;
use crate::load::Setup;
use crate::net::Net;
use crate::paths::Paths;
use crate::probe::Probe;
use crate::service::{INBOX, News, Programs, Service};
use crate::sync::Synchronisation;
use daemon::control::Server as ControlServer;
use daemon::poll::{self, Poller};
use daemon::process;
use daemon::signals::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, Signals};
use daemon::waiting::Inbox;
use reload::{Reloading, Stamp};
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

// Events are taken in by the order of their tokens: what the guard has done comes first.
const GUARD: u64 = 0;
const SIGNALS: u64 = 1;
const NET: u64 = 2;
const NOTIFY: u64 = 3;
const PROBE: u64 = 4;
const RELOADED: u64 = 5;
/// The heartbeat's sockets.
pub const PATHS: u64 = 16;
/// The outputs of children.
const OUTPUT: u64 = 1 << 32;
const CONTROL: u64 = 1 << 40;

/// How long the guard of an earlier pulse may take at the start: its child's time to end, and a bit.
const EARLIER_GUARD: Duration = Duration::from_secs(3);
/// How soon a guard that has ended gets a successor.
const GUARD_AGAIN: Duration = Duration::from_secs(1);
/// How often a socket that could not be bound is tried again, besides when an address is new.
const BIND_AGAIN: Duration = Duration::from_secs(5);

/// How pulse was started.
#[derive(Debug, Clone)]
pub struct Options {
    /// How children are started, and the configuration file.
    pub programs: Programs,
    /// The control socket's path.
    pub socket: PathBuf,
    /// Activate at the start.
    pub forced: bool,
}

/// What the service is going through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Nothing of it is here.
    Idle,
    /// The decision waits for [`Event::Loaded`].
    Activating,
    Active,
    /// The decision waits for [`Event::Stopped`].
    Deactivating,
}

/// A node of the pair at work.
pub struct Node {
    options: Options,
    setup: Setup,
    poller: Poller,
    signals: Signals,
    control: Option<ControlServer>,
    net: Net,
    paths: Paths,
    links: Links,
    addresses: Addresses,
    announcer: Announcer,
    service: Service,
    commands: Commands,
    sync: Synchronisation,
    probe: Option<Probe>,
    guard: Option<Guard>,
    guard_at: Option<Instant>,
    /// The next sign of life for the guard.
    alive_at: Option<Instant>,
    /// What guard and state file know, and how long the guard lets pulse stand still.
    told: (Holdings, Option<Duration>),
    mode: Mode,
    /// The addresses may not be as they should.
    unsettled: bool,
    /// The sync daemon is to be told its role.
    sync_due: bool,
    state: Option<State>,
    events: VecDeque<Event>,
    reloading: Option<Reloading>,
    reload_again: bool,
    reload_error: Option<String>,
    stamp: Option<Stamp>,
    look_at: Instant,
    bind_at: Instant,
    next_output: u64,
    began: Instant,
    exit: Option<i32>,
}

impl Node {
    /// Prepares everything; nothing is raised, started or sent yet.
    ///
    /// # Errors
    /// When another pulse runs, or the process cannot have what a loop needs.
    pub fn new(options: Options, setup: Setup, poller: Poller, paths: Paths) -> io::Result<Node> {
        let signals = Signals::new(&[SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD])?;
        poller.add(&signals, SIGNALS, poll::READ)?;
        let control = match ControlServer::bind(&options.socket, &poller, CONTROL) {
            Ok(control) => Some(control),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => {
                log::error!("{error}: piranhactl cannot ask this pulse");
                None
            }
        };
        let net = Net::open().map_err(io::Error::other)?;
        poller.add(&net, NET, poll::READ)?;
        let inbox = Inbox::bind(INBOX.as_ref())?;
        poller.add(&inbox, NOTIFY, poll::READ)?;
        let now = Instant::now();
        let random = RandomState::new().build_hasher().finish();
        let start = u32::try_from(random >> 32).unwrap_or(0);
        let state = State::new(settings(&setup, options.forced), start, 0);
        let mut addresses = Addresses::default();
        addresses.follow(&setup.claims, &setup.own());
        let stamp = Stamp::of(&options.programs.file);
        Ok(Node {
            service: Service::new(options.programs.clone(), inbox),
            options,
            setup,
            poller,
            signals,
            control,
            net,
            paths,
            links: Links::default(),
            addresses,
            announcer: Announcer::default(),
            commands: Commands::default(),
            sync: Synchronisation::default(),
            probe: None,
            guard: None,
            guard_at: None,
            alive_at: None,
            told: Default::default(),
            mode: Mode::Idle,
            unsettled: false,
            sync_due: true,
            state: Some(state),
            events: VecDeque::new(),
            reloading: None,
            reload_again: false,
            reload_error: None,
            stamp,
            look_at: now,
            bind_at: now + BIND_AGAIN,
            next_output: OUTPUT,
            began: now,
            exit: None,
        })
    }

    /// Starts, and works until the decision is to exit; returns the exit status.
    ///
    /// # Errors
    /// When waiting for events fails. The guard then gives up what the node holds.
    pub fn run(mut self) -> io::Result<i32> {
        self.start();
        let mut events = Vec::new();
        loop {
            self.advance(Instant::now());
            if let Some(status) = self.exit {
                self.leave();
                return Ok(status);
            }
            self.poller.wait(self.deadline(), &mut events)?;
            let now = Instant::now();
            events.sort_unstable_by_key(|event| event.token);
            for event in &events {
                self.on_event(*event, now);
            }
            self.on_time(Instant::now());
        }
    }

    /// The monotonic time of the decision.
    fn millis(&self, now: Instant) -> Millis {
        let since = now.saturating_duration_since(self.began);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    // ------------------------------------------------------------------ the start

    fn start(&mut self) {
        log::info!("STARTING PULSE AS {}", self.setup.role.as_str().to_uppercase());
        for finding in &self.setup.findings {
            log::warn!("{finding}");
        }
        if !guard::await_earlier(EARLIER_GUARD) {
            log::error!("the guard of an earlier pulse is still at work");
        }
        guard::clean_up_after_earlier();
        self.clean_up_labelled();
        let now = Instant::now();
        self.start_guard(now);
        self.run_command(Key::Inactive);
        self.service.wish(self.wish_at_rest());
        self.feed(Event::Start);
        if let Err(error) = daemon::ready::notify("READY=1") {
            log::debug!("NOTIFY_SOCKET: {error}");
        }
        daemon::memory::trim();
    }

    /// Takes down what an earlier pulse, of whatever make, has left under the labels of lvs.cf.
    fn clean_up_labelled(&mut self) {
        self.net.update();
        let mirror = self.net.mirror();
        let own = self.setup.own();
        let left = self.setup.claims.iter().filter(|claim| claim.label.contains(':'));
        let left = left.filter(|claim| !own.contains(&claim.addr));
        let left = left.flat_map(|c| mirror.places_of(c.addr).filter(|a| a.label == c.label));
        let changes: Vec<_> = left.cloned().map(lvs_net::AddressChange::Remove).collect();
        if changes.is_empty() {
            return;
        }
        log::warn!("taking down {} addresses that an earlier pulse has left", changes.len());
        for failure in self.net.apply(&changes) {
            log::error!("{}", failure.error);
        }
    }

    fn start_guard(&mut self, now: Instant) {
        self.guard_at = None;
        let programs = &self.options.programs;
        match Guard::start(programs.verbose, programs.nodaemon, &self.poller, GUARD) {
            Ok(guard) => {
                self.guard = Some(guard);
                self.told = Default::default();
                self.alive_at = None;
            }
            Err(error) => {
                log::error!("{error}");
                self.guard_at = Some(now + GUARD_AGAIN);
            }
        }
    }

    // ------------------------------------------------------------------ events

    /// When something is to be done, whatever happens.
    fn deadline(&self) -> Option<Instant> {
        let now = Instant::now();
        let state = self.state.as_ref().and_then(State::deadline);
        let state = state.map(|at| self.began + Duration::from_millis(at));
        let addresses = match self.raising() {
            true => self.addresses.deadline(&|addr| self.is_wanted(addr)),
            false => self.addresses.deadline(&|_| false),
        };
        state
            .into_iter()
            .chain(addresses)
            .chain(self.service.deadline(now))
            .chain(self.commands.deadline())
            .chain(self.announcer.deadline())
            .chain(self.probe.as_ref().map(Probe::deadline))
            .chain(self.guard_at)
            .chain(self.alive_at)
            .chain([self.look_at, self.bind_at])
            .min()
    }

    fn on_event(&mut self, event: poll::Event, now: Instant) {
        match event.token {
            GUARD => self.on_guard(now),
            SIGNALS => self.on_signals(now),
            NET => self.net.update(),
            NOTIFY => {
                self.service.on_inbox();
                self.unsettled = true;
            }
            PROBE => {
                if let Some(answer) = self.probe.as_mut().and_then(Probe::read) {
                    self.probe = None;
                    self.feed(Event::Gateway(answer));
                }
            }
            RELOADED => self.on_reloaded(now),
            token if token >= CONTROL => self.on_control(event, now),
            token if token >= OUTPUT => {
                if !self.commands.on_output(token) {
                    self.service.on_output(token);
                }
            }
            token => {
                for message in self.paths.read(token, now) {
                    self.feed(Event::Heartbeat(message));
                }
            }
        }
    }

    fn on_time(&mut self, now: Instant) {
        self.commands.on_time(now);
        if self.announcer.on_time(self.net.mirror(), now) {
            log::info!("gratuitous {} arps finished", self.setup.service);
        }
        if let Some(answer) = self.probe.as_mut().and_then(|probe| probe.on_time(now)) {
            self.probe = None;
            self.feed(Event::Gateway(answer));
        }
        if self.guard_at.is_some_and(|at| at <= now) {
            self.start_guard(now);
        }
        if self.bind_at <= now {
            self.bind_at = now + BIND_AGAIN;
            self.paths.bind_again(&self.poller);
        }
        if self.look_at <= now {
            self.look_at = now + Duration::from_millis(self.setup.keepalive.max(500));
            self.look_at_file();
        }
        let due = self.state.as_ref().and_then(State::deadline);
        if due.is_some_and(|at| at <= self.millis(now)) {
            self.feed(Event::Time);
        }
    }

    /// Brings everything a step further.
    fn advance(&mut self, now: Instant) {
        self.handle_events();
        loop {
            self.follow_net();
            let token = self.next_output;
            self.commands.advance(&self.poller, token, now);
            self.service.advance(&self.poller, token + 1, now);
            self.follow_sync();
            self.next_output += 2;
            for news in self.service.news() {
                match news {
                    News::Loaded => {}
                    News::Prepared => self.feed(Event::Prepared),
                    News::Failed(words) => self.feed(Event::ServiceFailed(words)),
                }
            }
            self.settle_addresses(now);
            self.notice_progress();
            if self.events.is_empty() {
                break;
            }
            self.handle_events();
        }
        self.tell_holdings(now);
        self.give_sign_of_life(now);
    }

    fn on_signals(&mut self, now: Instant) {
        for number in self.signals.pending() {
            match number {
                SIGCHLD => self.on_children(now),
                SIGHUP => self.reload(),
                SIGUSR1 | SIGUSR2 => log::warn!("signal {number} ignored"),
                number => self.feed(Event::Terminate(number)),
            }
        }
    }

    fn on_children(&mut self, now: Instant) {
        while let Some((pid, how)) = process::next_ended() {
            process::collect(pid);
            if !self.commands.ended(pid, how) {
                // The guard's end is seen by the end of its socket.
                self.service.ended(pid, how, now);
            }
        }
    }

    /// Interfaces or addresses have changed, by our own doing or from outside.
    fn follow_net(&mut self) {
        if self.net.has_changed() {
            self.unsettled = true;
            self.paths.bind_again(&self.poller);
            self.follow_links();
        }
    }

    /// Looks at the watched NICs.
    fn follow_links(&mut self) {
        let watched = self.setup.monitor_links && self.setup.partner;
        self.links.follow(if watched { &self.setup.paths } else { &[] });
        let up = self.links.are_up(self.net.mirror());
        let known = self.state.as_ref().is_none_or(State::links_ok);
        if up != known {
            self.feed(if up { Event::LinksUp } else { Event::LinkDown });
        }
    }
}

/// The commands of lvs.cf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Active,
    Inactive,
}

fn settings(setup: &Setup, forced: bool) -> Settings {
    Settings {
        role: setup.role,
        partner: setup.partner,
        keepalive: setup.keepalive,
        deadtime: setup.deadtime,
        service: setup.service,
        forced,
    }
}
