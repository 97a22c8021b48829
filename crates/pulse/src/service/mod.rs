//! The program that does the node's work: lvsd, loaded or on standby; fos, active or monitoring.
//! [`Service::wish`] says what is to run; what runs is brought there step by step, since an lvsd that
//! is to end takes its time.

mod programs;

pub use programs::Programs;

use crate::holdings::{Process, change_table};
use crate::output::Output;
use crate::status;
use daemon::child::{Child, Overdue};
use daemon::poll::Poller;
use daemon::process::Ended;
use daemon::ready::LVS_SEMAPHORE;
use daemon::waiting::{Inbox, Semaphore};
use ipvs::Change;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use programs::{Job, LVSD_GRACE, Started};
use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// Where lvsd reports.
pub const INBOX: &str = "/run/piranha/pulse-notify.sock";

/// How long lvsd may take to load its table.
const LOAD_LIMIT: Duration = Duration::from_secs(10);
/// How long lvsd may take to go back to standby: it reports when the servers are known, which it
/// waits for for 5 s at most.
const PARK_LIMIT: Duration = Duration::from_secs(10);
/// How often the semaphore is looked at while lvsd loads its table.
const SEMAPHORE_POLL: Duration = Duration::from_millis(50);
/// How soon a program that has failed is started again, first and at most.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_AT_MOST: Duration = Duration::from_secs(30);

/// What is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Nothing.
    Nothing,
    /// lvsd that checks the servers. Its table is loaded where `early` allows it, although no address
    /// leads to it yet; else it is left alone.
    Standby {
        /// The table may be loaded before the addresses are here.
        early: bool,
    },
    /// The same, and it is told when there is no more to prepare.
    Prepare {
        /// As for a standby.
        early: bool,
    },
    /// lvsd with its table loaded.
    Serve,
    /// `fos --active`.
    FosActive,
    /// `fos --monitor`.
    FosMonitor,
}

/// What has come of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// What serves is ready.
    Loaded,
    /// The lvsd on standby is as ready as it can be.
    Prepared,
    /// It has ended by itself, could not be started, or never reported.
    Failed(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// lvsd on standby; whether every server has had its verdict.
    Waiting { ready: bool },
    /// lvsd loads its table.
    Loading { until: Instant },
    /// lvsd has loaded its table; fos runs.
    Running,
    /// lvsd was told to go back to standby.
    Parking { until: Instant },
}

#[derive(Debug)]
struct Running {
    job: Job,
    stage: Stage,
    child: Child,
    process: Option<Process>,
    output: Option<Output>,
    /// It has reported in one way or another.
    spoke: bool,
}

/// The program that does the node's work.
#[derive(Debug)]
pub struct Service {
    programs: Programs,
    inbox: Inbox,
    wish: Wish,
    running: Option<Running>,
    semaphore: Option<Semaphore>,
    /// The virtual addresses whose services are in the table.
    loaded: HashSet<Ipv4Addr>,
    news: Vec<News>,
    /// That the wish has come true has been reported.
    reported: bool,
    /// An lvsd that failed has left its table behind.
    flush_due: bool,
    /// lvs.cf has changed while lvsd started.
    reload_later: bool,
    /// This lvsd does not know `--standby`.
    cold: bool,
    /// A standby that has failed is not started again before this time; and how long the next wait is.
    not_before: Option<Instant>,
    again: Duration,
}

impl Service {
    /// Nothing runs yet.
    #[must_use]
    pub fn new(programs: Programs, inbox: Inbox) -> Service {
        Service {
            programs,
            inbox,
            wish: Wish::Nothing,
            running: None,
            semaphore: None,
            loaded: HashSet::new(),
            news: Vec::new(),
            reported: false,
            flush_due: false,
            reload_later: false,
            cold: false,
            not_before: None,
            again: AGAIN,
        }
    }

    /// Where the programs report.
    #[must_use]
    pub fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Says what is to run from now on. After a failure: when the addresses are down.
    pub fn wish(&mut self, wish: Wish) {
        if std::mem::take(&mut self.flush_due) {
            change_table(&[Change::Flush]);
        }
        if self.wish != wish {
            self.wish = wish;
            self.news.clear();
            self.reported = false;
            if !matches!(wish, Wish::Standby { .. }) {
                self.not_before = None;
            }
        }
    }

    /// What has happened since the last call.
    pub fn news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// Whether the services of this address are in the table.
    #[must_use]
    pub fn has_loaded(&self, addr: Ipv4Addr) -> bool {
        self.is_loaded() || self.loaded.contains(&addr)
    }

    /// Whether what serves is ready.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.running.as_ref().is_some_and(|r| r.stage == Stage::Running)
    }

    /// Whether nothing runs but what an inactive node may have.
    #[must_use]
    pub fn at_rest(&self) -> bool {
        match &self.running {
            None => true,
            Some(running) => match self.wish {
                Wish::Standby { early } => match running.stage {
                    Stage::Waiting { .. } => true,
                    Stage::Loading { .. } | Stage::Running => {
                        early && running.job == Job::LvsdStandby && !running.child.is_ending()
                    }
                    Stage::Parking { .. } => false,
                },
                Wish::FosMonitor => running.job == Job::FosMonitor,
                _ => false,
            },
        }
    }

    /// The child, for who has to end it when this process is gone.
    #[must_use]
    pub fn process(&self) -> Option<Process> {
        self.running.as_ref().and_then(|r| r.process)
    }

    /// Whether the IPVS table is, or may be, lvsd's.
    #[must_use]
    pub fn has_table(&self) -> bool {
        self.running.as_ref().is_some_and(|r| {
            matches!(r.job, Job::Lvsd | Job::LvsdStandby)
                && !matches!(r.stage, Stage::Waiting { .. })
        })
    }

    /// For operators.
    #[must_use]
    pub fn status(&self) -> Option<status::Child> {
        let running = self.running.as_ref()?;
        let state = match (running.child.is_ending(), running.job, running.stage) {
            (true, ..) => "ending",
            (false, Job::FosMonitor, _) => "monitoring",
            (false, _, Stage::Waiting { .. } | Stage::Parking { .. }) => "standby",
            (false, _, Stage::Loading { .. }) => "loading",
            (false, _, Stage::Running) => match self.wish {
                Wish::Standby { .. } | Wish::Prepare { .. } => "prepared",
                _ => "running",
            },
        };
        Some(status::Child {
            program: self.programs.path(running.job).to_owned(),
            pid: running.child.pid(),
            state: state.to_owned(),
        })
    }

    /// Has lvsd read lvs.cf again: at once, or when it has come so far that it handles the signal.
    /// (fos would end by it.) What was held against a standby is forgotten: things have changed.
    pub fn reload(&mut self) {
        self.cold = false;
        self.not_before = None;
        self.again = AGAIN;
        let Some(running) = self.running.as_ref().filter(|r| !r.child.is_ending()) else { return };
        match (running.job, running.stage) {
            (Job::Lvsd, Stage::Loading { .. }) => self.reload_later = true,
            (Job::Lvsd | Job::LvsdStandby, _) => kill_one(&running.child, Signal::SIGHUP),
            (Job::FosActive | Job::FosMonitor, _) => {}
        }
    }

    /// When [`Service::advance`] wants to be called.
    #[must_use]
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let running = self.running.as_ref();
        let stage = running.and_then(|r| match r.stage {
            Stage::Loading { until } if self.semaphore.is_some() => {
                Some(until.min(now + SEMAPHORE_POLL))
            }
            Stage::Loading { until } | Stage::Parking { until } => Some(until),
            Stage::Waiting { .. } | Stage::Running => None,
        });
        let child = running.and_then(|r| r.child.deadline());
        let again = self.not_before.filter(|_| running.is_none());
        stage.into_iter().chain(child).chain(again).min()
    }

    // ------------------------------------------------------------------ reports

    /// Takes in what the child has reported to the notification socket.
    pub fn on_inbox(&mut self) {
        for (name, value) in self.inbox.read() {
            let Some(running) = &mut self.running else { continue };
            running.spoke = true;
            match name.as_str() {
                "X_PIRANHA_ADDRESS" => {
                    if let Ok(addr) = value.parse() {
                        self.loaded.insert(addr);
                    }
                }
                "READY" => self.on_ready(),
                "X_PIRANHA_STANDBY" => self.on_standby(),
                _ => {}
            }
        }
    }

    fn on_ready(&mut self) {
        let Some(running) = &mut self.running else { return };
        if !matches!(running.stage, Stage::Loading { .. }) || running.child.is_ending() {
            return;
        }
        running.stage = Stage::Running;
        if std::mem::take(&mut self.reload_later) {
            kill_one(&running.child, Signal::SIGHUP);
        }
        self.semaphore = None;
        self.again = AGAIN;
    }

    fn on_standby(&mut self) {
        let Some(running) = &mut self.running else { return };
        if matches!(running.stage, Stage::Waiting { .. } | Stage::Parking { .. }) {
            running.stage = Stage::Waiting { ready: true };
            self.again = AGAIN;
        }
    }

    /// Reports, once, that the wish has come true.
    fn report(&mut self) {
        let stage = self.running.as_ref().filter(|r| !r.child.is_ending()).map(|r| r.stage);
        let news = match (self.wish, stage) {
            (Wish::Serve | Wish::FosActive, Some(Stage::Running)) => News::Loaded,
            (Wish::Prepare { early: true }, Some(Stage::Running))
            | (Wish::Prepare { early: false }, Some(Stage::Waiting { ready: true })) => {
                News::Prepared
            }
            // There is nothing that could be prepared.
            (Wish::Prepare { .. }, None) if self.cold => News::Prepared,
            _ => return,
        };
        if !std::mem::replace(&mut self.reported, true) {
            self.news.push(news);
        }
    }

    /// Reads a child's output; whether the event was for it.
    pub fn on_output(&mut self, token: u64) -> bool {
        let Some(running) = &mut self.running else { return false };
        let Some(output) = running.output.as_mut().filter(|o| o.token() == token) else {
            return false;
        };
        if !output.read() {
            running.output = None;
        }
        true
    }

    /// Takes a child's end in; whether it was this one.
    pub fn ended(&mut self, pid: i32, how: Ended, now: Instant) -> bool {
        if self.running.as_ref().is_none_or(|r| r.child.pid() != pid) {
            return false;
        }
        // What it said last may not have been read yet.
        self.on_inbox();
        let flush = self.has_table();
        let Some(mut running) = self.running.take() else { return true };
        if let Some(output) = &mut running.output {
            output.read();
        }
        self.semaphore = None;
        self.loaded.clear();
        let told = running.child.is_ending();
        if flush && !(told && how.success()) {
            if !told && self.wish == Wish::Serve {
                // The addresses are still up: without its table, this node would refuse clients and
                // reset their connections, which the partner is about to serve.
                self.flush_due = true;
            } else {
                change_table(&[Change::Flush]);
            }
        }
        if told {
            log::debug!("Child process {pid} {how}");
            return true;
        }
        let words = format!("Child process {pid} {how}");
        match self.wish {
            Wish::Standby { .. } | Wish::Prepare { .. } | Wish::Serve
                if running.is_ignorant(how) =>
            {
                log::warn!(
                    "{words}, before it reported anything (an older lvsd, without --standby?): it \
                     is started at activation"
                );
                self.cold = true;
            }
            Wish::Standby { .. } => {
                log::error!("{words}");
                self.wait(now);
            }
            // It would have been told now.
            Wish::Nothing => log::debug!("{words}"),
            _ => self.fail(words),
        }
        true
    }

    fn fail(&mut self, words: String) {
        self.wish = Wish::Nothing;
        self.news.push(News::Failed(words));
    }

    /// Has the next standby wait.
    fn wait(&mut self, now: Instant) {
        self.not_before = Some(now + self.again);
        self.again = (self.again * 2).min(AGAIN_AT_MOST);
    }

    // ------------------------------------------------------------------ towards the wish

    /// Does what time and wish ask for. `token` is for the output of a child that is started.
    pub fn advance(&mut self, poller: &Poller, token: u64, now: Instant) {
        self.look_at_semaphore();
        self.on_time(now);
        match &self.running {
            None => self.start(poller, token, now),
            Some(running) if running.child.is_ending() => {}
            Some(_) => self.guide(now),
        }
        self.report();
    }

    /// Leads what runs to what is wished.
    fn guide(&mut self, now: Instant) {
        let Some(running) = &mut self.running else { return };
        match (running.job, running.stage, self.wish) {
            // To one that is just leaving the table as well: it then stays, or takes it again.
            (Job::LvsdStandby, Stage::Waiting { .. } | Stage::Parking { .. }, Wish::Serve) => {
                self.take_table(now);
            }
            (
                Job::LvsdStandby,
                Stage::Waiting { ready: true },
                Wish::Standby { early: true } | Wish::Prepare { early: true },
            ) => self.take_table(now),
            (
                Job::LvsdStandby,
                Stage::Waiting { .. } | Stage::Parking { .. },
                Wish::Standby { .. } | Wish::Prepare { .. },
            )
            | (
                Job::LvsdStandby,
                Stage::Loading { .. } | Stage::Running,
                Wish::Standby { early: true } | Wish::Prepare { .. },
            )
            | (Job::Lvsd | Job::LvsdStandby, Stage::Loading { .. } | Stage::Running, Wish::Serve)
            | (Job::FosActive, _, Wish::FosActive)
            | (Job::FosMonitor, _, Wish::FosMonitor) => {}
            (
                Job::LvsdStandby,
                Stage::Loading { .. } | Stage::Running,
                Wish::Standby { early: false },
            ) => {
                kill_one(&running.child, Signal::SIGUSR2);
                running.stage = Stage::Parking { until: now + PARK_LIMIT };
                self.loaded.clear();
                self.semaphore = None;
            }
            (job, ..) => running.child.stop(now, job.grace()),
        }
    }

    fn on_time(&mut self, now: Instant) {
        let Some(running) = &mut self.running else { return };
        if running.child.on_time(now) == Some(Overdue::Grace) {
            let program = self.programs.path(running.job);
            log::error!("{program} does not end: it is killed");
        }
        if running.child.is_ending() {
            return;
        }
        match running.stage {
            Stage::Loading { until } if until <= now => {
                let seconds = LOAD_LIMIT.as_secs();
                let words =
                    format!("lvsd did not report a loaded table within {seconds} s: it is killed");
                running.child.kill();
                self.semaphore = None;
                if matches!(self.wish, Wish::Standby { .. }) {
                    log::error!("{words}");
                    self.wait(now);
                } else {
                    self.fail(words);
                }
            }
            Stage::Parking { until } if until <= now => {
                log::error!("lvsd does not go back to standby: it is started again");
                running.child.stop(now, LVSD_GRACE);
            }
            _ => {}
        }
    }

    fn look_at_semaphore(&mut self) {
        if self.semaphore.as_ref().is_some_and(Semaphore::take) {
            self.on_ready();
        }
    }

    /// Has an lvsd on standby load its table.
    fn take_table(&mut self, now: Instant) {
        self.make_semaphore();
        let Some(running) = &mut self.running else { return };
        kill_one(&running.child, Signal::SIGUSR1);
        running.stage = Stage::Loading { until: now + LOAD_LIMIT };
    }

    fn make_semaphore(&mut self) {
        // The old one is gone before the new one is made under the same name.
        self.semaphore = None;
        match Semaphore::create(LVS_SEMAPHORE) {
            Ok(semaphore) => self.semaphore = Some(semaphore),
            // lvsd has the notification socket to report to.
            Err(error) => log::warn!("semaphore lvs: {error}"),
        }
    }

    fn start(&mut self, poller: &Poller, token: u64, now: Instant) {
        let job = match self.wish {
            Wish::Nothing => return,
            Wish::Standby { .. } | Wish::Prepare { .. } if self.cold => return,
            Wish::Standby { .. } | Wish::Prepare { .. } => Job::LvsdStandby,
            Wish::Serve => Job::Lvsd,
            Wish::FosActive => Job::FosActive,
            Wish::FosMonitor => Job::FosMonitor,
        };
        if self.not_before.is_some_and(|at| at > now) {
            return;
        }
        self.not_before = None;
        // Reports of an earlier one do not count.
        self.inbox.read();
        self.reload_later = false;
        self.loaded.clear();
        if job == Job::Lvsd {
            self.make_semaphore();
        }
        match self.programs.start(job, self.inbox.path(), poller, token) {
            Ok(started) => self.running = Some(Running::new(job, started, now)),
            Err(error) => {
                self.semaphore = None;
                if matches!(self.wish, Wish::Standby { .. }) {
                    log::error!("{error}");
                    self.wait(now);
                } else {
                    self.fail(error.to_string());
                }
            }
        }
    }

    /// Ends it without asking.
    pub fn kill(&mut self) {
        self.wish = Wish::Nothing;
        if let Some(running) = &mut self.running {
            running.child.kill();
        }
    }
}

impl Running {
    fn new(job: Job, started: Started, now: Instant) -> Running {
        let Started { child, process, output } = started;
        let stage = match job {
            Job::Lvsd => Stage::Loading { until: now + LOAD_LIMIT },
            Job::LvsdStandby => Stage::Waiting { ready: false },
            Job::FosActive | Job::FosMonitor => Stage::Running,
        };
        Running { job, stage, child, process, output, spoke: false }
    }

    /// Whether this lvsd has refused its command line: the one word that is new in it is --standby.
    fn is_ignorant(&self, how: Ended) -> bool {
        self.job == Job::LvsdStandby && !self.spoke && how == Ended::Exited(1)
    }
}

fn kill_one(child: &Child, signal: Signal) {
    let _ = kill(Pid::from_raw(child.pid()), signal);
}
