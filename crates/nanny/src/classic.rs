//! A nanny for one server, as the original: it changes the table itself.

use crate::options::{Mode, Options};
use daemon::logging;
use daemon::poll::{self, Poller};
use daemon::signals::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, Signals};
use health::engine::Limits;
use health::pool::Pool;
use health::state::Force;
use ipvs::{Change, Destination, ErrorKind, Ipvsadm, Netlink, ServiceKey, Table};
use std::error::Error;
use std::time::Instant;

const SIGNALS: u64 = 0;
const CHECKS: u64 = 1;
/// The one server's number in the pool.
const SERVER: u32 = 1;
/// A failover service that was never seen is given up after this many checks.
const NEVER_SEEN: u32 = 2;

/// Watches until told to end, or for a failover service until it is gone; the exit status.
pub(crate) fn run(options: &Options) -> Result<u8, Box<dyn Error>> {
    let mut entry = match &options.mode {
        Mode::Lvs { service, entry } => Some(Entry::new(options, *service, *entry)?),
        Mode::Fos => None,
    };
    if options.nodaemon {
    } else if options.nofork {
        daemon::detach_in_place()?;
    } else {
        daemon::detach()?;
    }
    logging::init(&logging::Options {
        ident: "nanny",
        terminal: options.nodaemon.then_some("nanny"),
        verbose: options.verbose,
    });
    announce(options);
    let mut watch = Watch::new(options)?;
    let status = watch.run(options, entry.as_mut())?;
    if let Some(entry) = &mut entry {
        entry.leave();
    }
    Ok(status)
}

fn announce(options: &Options) {
    for note in &options.notes {
        log::info!("{note}");
    }
    let target = options.target;
    if options.is_fos() {
        log::info!("Failover service monitor for {target} started");
    } else {
        let of = &options.group.virtual_server;
        log::info!("starting LVS client monitor for {of} -> {target}");
    }
}

struct Watch {
    poller: Poller,
    signals: Signals,
    pool: Pool,
    seen: bool,
}

impl Watch {
    fn new(options: &Options) -> std::io::Result<Watch> {
        let poller = Poller::new()?;
        let signals = Signals::new(&[SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD])?;
        let mut pool = Pool::new(Limits::of_this_process(), options.scale)?;
        poller.add(&signals, SIGNALS, poll::READ)?;
        poller.add(&pool, CHECKS, poll::READ)?;
        let now = Instant::now();
        pool.set_group(options.group.clone(), now);
        pool.set_server(&options.server(), now);
        Ok(Watch { poller, signals, pool, seen: false })
    }

    fn run(&mut self, options: &Options, mut entry: Option<&mut Entry>) -> std::io::Result<u8> {
        let mut events = Vec::new();
        loop {
            let until =
                if self.pool.has_news() { Some(Instant::now()) } else { self.pool.deadline() };
            self.poller.wait(until, &mut events)?;
            let now = Instant::now();
            if let Some(signal) = self.on_signals(now) {
                log::info!("Terminating due to signal {signal}");
                return Ok(0);
            }
            let news = self.pool.run(now);
            match &mut entry {
                Some(entry) => {
                    for state in news {
                        entry.set(state.weight);
                    }
                }
                None => {
                    if let Some(status) = self.failover(options) {
                        return Ok(status);
                    }
                }
            }
        }
    }

    /// Handles signals; gives back the one that ends this process.
    fn on_signals(&mut self, now: Instant) -> Option<i32> {
        for signal in self.signals.pending() {
            match signal {
                SIGCHLD => crate::reap(&mut self.pool, now),
                SIGUSR1 => self.pool.force(SERVER, Force::Down, now),
                SIGUSR2 => self.pool.force(SERVER, Force::Up, now),
                SIGHUP => self.pool.force(SERVER, Force::Auto, now),
                end => return Some(end),
            }
        }
        None
    }

    /// Looks at a failover service; the exit status when there is nothing left to watch.
    fn failover(&mut self, options: &Options) -> Option<u8> {
        let target = options.target;
        let up = self.pool.standing(SERVER).is_some_and(|(up, _)| up);
        if up && !self.seen {
            self.seen = true;
            log::info!("Remote service {target} is available");
        } else if !up && self.seen {
            log::info!("Exiting due to connection failure of {target}");
            return Some(0);
        } else if !up && self.pool.failures(SERVER) >= NEVER_SEEN {
            log::info!("Timeout waiting for remote service -- triggering failover!");
            return Some(1);
        }
        None
    }
}

/// The server's entry in the table.
struct Entry {
    table: Box<dyn Table>,
    service: ServiceKey,
    full: Destination,
    /// What this process has made of the entry; `None`: nothing yet, and another may have left one.
    standing: Option<Option<u32>>,
    ipvsadm: String,
    dry: bool,
}

impl Entry {
    fn new(
        options: &Options,
        service: ServiceKey,
        full: Destination,
    ) -> Result<Entry, ipvs::Error> {
        let table: Box<dyn Table> = match &options.ipvsadm {
            _ if options.dry => Box::new(ipvs::Memory::new()),
            Some(program) => Box::new(Ipvsadm::new(program)),
            None => Box::new(Netlink::open()?),
        };
        let ipvsadm =
            options.ipvsadm.clone().unwrap_or_else(|| lvs_config::Config::IPVSADM.to_owned());
        Ok(Entry { table, service, full, standing: None, ipvsadm, dry: options.dry })
    }

    /// Gives the server this weight, or takes it out of the table.
    fn set(&mut self, weight: Option<u32>) {
        let entry = |weight| Destination { weight, ..self.full };
        let (first, second) = match (self.standing, weight) {
            (Some(None), None) => return,
            // Where the entry is not as this process left it, the other command is the right one.
            (None | Some(None), Some(w)) => (
                Change::AddDestination(self.service, entry(w)),
                Some((ErrorKind::Exists, Change::EditDestination(self.service, entry(w)))),
            ),
            (Some(Some(_)), Some(w)) => (
                Change::EditDestination(self.service, entry(w)),
                Some((
                    ErrorKind::NoSuchDestination,
                    Change::AddDestination(self.service, entry(w)),
                )),
            ),
            (None | Some(Some(_)), None) => {
                (Change::DeleteDestination(self.service, self.full.key()), None)
            }
        };
        self.standing = Some(weight);
        let Some(kind) = self.apply(&first) else { return };
        match second {
            Some((when, change)) if when == kind => {
                self.apply(&change);
            }
            _ => {}
        }
    }

    /// Makes a change; what kind of error it met, if one.
    fn apply(&mut self, change: &Change) -> Option<ErrorKind> {
        let words: Vec<String> = change.ipvsadm_args().iter().map(|w| format!("\"{w}\"")).collect();
        let command = format!("running command \"{}\" {}", self.ipvsadm, words.join(" "));
        if self.dry {
            log::info!("{command}");
            return None;
        }
        log::debug!("{command}");
        let failure = self.table.apply(std::slice::from_ref(change)).pop()?;
        match failure.error.kind() {
            // Seen when somebody else, lvsd for one, has been faster.
            ErrorKind::Exists | ErrorKind::NoSuchDestination | ErrorKind::NoSuchService => {
                log::debug!("{}", failure.error);
            }
            _ => log::error!("{}", failure.error),
        }
        Some(failure.error.kind())
    }

    /// Takes the server out of the table.
    fn leave(&mut self) {
        self.set(None);
    }
}
