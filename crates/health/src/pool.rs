//! A set of servers that are monitored: the engine's verdicts drive each server's state, and what
//! changes is told. Both a nanny of one server and the pooled one of all are this.

use crate::engine::{Engine, JobId, Limits, Outcome};
use crate::load;
use crate::recipe::{Action, Recipe, Target};
use crate::state::{Force, Health, Policy, STEP, Server as Machine};
use crate::wire::{Detail, Group, Server, State};
use daemon::process::Ended;
use daemon::timers::Timers;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How often a failure that stays is logged again.
const REMIND: Duration = Duration::from_secs(600);
/// Most bytes of a load program's output that are logged.
const SHOWN: usize = 80;
/// Most that load monitoring makes of a weight, as a factor, unless said otherwise.
pub const SCALE: u32 = 10;

#[derive(Debug)]
struct Entry {
    group: Rc<Group>,
    job: JobId,
    load_job: Option<JobId>,
    machine: Machine,
    /// When the server went up or down.
    since: Instant,
    /// Failed checks in a row.
    failures: u32,
    /// When its failure was last logged.
    logged: Option<Instant>,
    /// Its load could not be read the last time.
    load_failed: bool,
    /// What was last told of it.
    told: Option<(bool, Option<u32>)>,
}

/// The servers that use a job: mostly one.
#[derive(Debug, Default)]
enum Users {
    #[default]
    None,
    One(u32),
    Many(Vec<u32>),
}

impl Users {
    fn add(&mut self, id: u32) {
        match self {
            Users::None => *self = Users::One(id),
            Users::One(other) => *self = Users::Many(vec![*other, id]),
            Users::Many(ids) => ids.push(id),
        }
    }

    /// Takes out one mention of a server.
    fn remove(&mut self, id: u32) {
        match self {
            Users::One(only) if *only == id => *self = Users::None,
            Users::Many(ids) => {
                if let Some(at) = ids.iter().position(|user| *user == id) {
                    ids.swap_remove(at);
                }
                if let [only] = ids.as_slice() {
                    *self = Users::One(*only);
                }
            }
            Users::None | Users::One(_) => {}
        }
    }

    fn as_slice(&self) -> &[u32] {
        match self {
            Users::None => &[],
            Users::One(id) => std::slice::from_ref(id),
            Users::Many(ids) => ids,
        }
    }
}

/// The monitored servers, by number.
#[derive(Debug)]
pub struct Pool {
    engine: Engine,
    groups: BTreeMap<u32, Rc<Group>>,
    servers: BTreeMap<u32, Box<Entry>>,
    /// The servers that use a job, by the job's number.
    users: Vec<Users>,
    steps: Timers<u32>,
    scale: u32,
    news: Vec<State>,
}

impl Pool {
    /// An empty pool.
    ///
    /// # Errors
    /// When the engine cannot be made.
    pub fn new(limits: Limits, scale: u32) -> io::Result<Pool> {
        Ok(Pool {
            engine: Engine::new(limits)?,
            groups: BTreeMap::new(),
            servers: BTreeMap::new(),
            users: Vec::new(),
            steps: Timers::default(),
            scale,
            news: Vec::new(),
        })
    }

    /// Adds or changes a group. Its servers keep their states; where the check is another one, it
    /// begins at once.
    pub fn set_group(&mut self, group: Group, now: Instant) {
        let id = group.id;
        if self.groups.get(&id).is_some_and(|old| **old == group) {
            return;
        }
        let group = Rc::new(group);
        if self.groups.insert(id, Rc::clone(&group)).is_none() {
            return;
        }
        let members: Vec<u32> =
            self.servers.iter().filter(|(_, e)| e.group.id == id).map(|(n, _)| *n).collect();
        for number in members {
            self.regroup(number, &group, now);
        }
    }

    /// Forgets a group.
    pub fn remove_group(&mut self, id: u32) {
        self.groups.remove(&id);
    }

    /// Adds or changes a server. One whose group is unknown is an error of the caller: logged. One
    /// that has moved to another address or port is another server and begins anew.
    pub fn set_server(&mut self, server: &Server, now: Instant) {
        let Some(group) = self.groups.get(&server.group).map(Rc::clone) else {
            log::error!("server {} names the unknown group {}", server.id, server.group);
            return;
        };
        let before = self.servers.get(&server.id).and_then(|e| self.engine.target(e.job));
        match before {
            Some(target) if (target.addr, target.port) == (server.addr, server.port) => {
                self.change_server(server, &group, now);
            }
            Some(_) => {
                self.remove_server(server.id);
                self.add_server(server, group, now);
            }
            None => self.add_server(server, group, now),
        }
    }

    fn add_server(&mut self, server: &Server, group: Rc<Group>, now: Instant) {
        let target = Target { addr: server.addr, port: server.port, udp: group.udp };
        let mut machine = match server.known {
            Some(known) => Machine::known(server.weight, known.up, known.weight, now),
            None => Machine::new(server.weight),
        };
        machine.force(server.force, now);
        let step_at = machine.step_at();
        let job = self.use_job(server.id, target, &group.recipe, now);
        let load = group.load.as_ref();
        let load_job = load.map(|words| self.use_job(server.id, target, &load_recipe(words), now));
        let entry = Entry {
            group,
            job,
            load_job,
            machine,
            since: now,
            failures: 0,
            logged: None,
            load_failed: false,
            told: None,
        };
        self.servers.insert(server.id, Box::new(entry));
        if let Some(at) = step_at {
            self.set_step(server.id, at);
        }
        self.catch_up(server.id, now);
        self.told(server.id);
    }

    fn change_server(&mut self, server: &Server, group: &Rc<Group>, now: Instant) {
        let Some(entry) = self.servers.get_mut(&server.id) else { return };
        entry.machine.set_weight(server.weight);
        let forced = entry.machine.forced();
        if !Rc::ptr_eq(&entry.group, group) {
            self.regroup(server.id, group, now);
        }
        if forced != server.force {
            self.force(server.id, server.force, now);
        }
        self.told(server.id);
    }

    /// Forgets a server. What is in the table of it is the caller's business.
    pub fn remove_server(&mut self, id: u32) {
        let Some(entry) = self.servers.remove(&id) else { return };
        self.news.retain(|state| state.id != id);
        self.drop_job(id, entry.job);
        if let Some(job) = entry.load_job {
            self.drop_job(id, job);
        }
    }

    /// Takes in an operator's order.
    pub fn force(&mut self, id: u32, force: Force, now: Instant) {
        let Some(entry) = self.servers.get_mut(&id) else { return };
        let was_up = entry.machine.is_up();
        entry.machine.force(force, now);
        let label = self.label(id);
        match force {
            Force::Down => log::info!("opaque glasses on: {label} is kept down"),
            Force::Drain => log::info!("{label} is drained: no new connections"),
            Force::Up => log::info!("rose-colored glasses on: {label} is kept up"),
            Force::Auto => log::info!("glasses off: the checks decide about {label}"),
        }
        self.changed(id, was_up, now);
    }

    /// What an operator wants to know of every server.
    #[must_use]
    pub fn details(&self, now: Instant) -> Vec<Detail> {
        self.servers.iter().map(|(id, entry)| self.detail(*id, entry, now)).collect()
    }

    fn detail(&self, id: u32, entry: &Entry, now: Instant) -> Detail {
        let last = self.engine.last(entry.job);
        let since = now.saturating_duration_since(entry.since).as_millis();
        Detail {
            id,
            health: entry.machine.health(),
            force: entry.machine.forced(),
            since_ms: u64::try_from(since).unwrap_or(u64::MAX),
            took_us: last.map(|l| l.took_us),
            error: last.and_then(|l| l.result.as_ref().err()).map(ToString::to_string),
        }
    }

    /// When [`Pool::run`] has something to do without any event.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match (self.engine.deadline(), self.steps.next()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Handles events and timers, and gives back the servers whose state has changed.
    pub fn run(&mut self, now: Instant) -> Vec<State> {
        self.engine.run(now);
        self.settle(now)
    }

    /// The same where the owner knows that no event has come: saves asking for them.
    pub fn tick(&mut self, now: Instant) -> Vec<State> {
        self.engine.tick(now);
        self.settle(now)
    }

    fn settle(&mut self, now: Instant) -> Vec<State> {
        self.take_outcomes(now);
        while let Some(id) = self.steps.pop(now) {
            self.step(id, now);
        }
        std::mem::take(&mut self.news)
    }

    /// Takes in the end of a child process; false when it is none of the pool's. Its effects come
    /// with the next [`Pool::run`].
    pub fn child_ended(&mut self, pid: i32, how: Ended, now: Instant) -> bool {
        let ours = self.engine.child_ended(pid, how, now);
        if ours {
            self.take_outcomes(now);
        }
        ours
    }

    /// Whether there is news that [`Pool::run`] would give back.
    #[must_use]
    pub fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// Whether a server is to serve, and the weight to stand in the table for it.
    #[must_use]
    pub fn standing(&self, id: u32) -> Option<(bool, Option<u32>)> {
        let entry = self.servers.get(&id)?;
        Some((entry.machine.is_up(), entry.machine.standing(&policy(&entry.group, self.scale))))
    }

    /// How many checks of a server have failed in a row.
    #[must_use]
    pub fn failures(&self, id: u32) -> u32 {
        self.servers.get(&id).map_or(0, |e| e.failures)
    }

    /// What the checks have found of a server.
    #[must_use]
    pub fn health(&self, id: u32) -> Option<Health> {
        self.servers.get(&id).map(|e| e.machine.health())
    }

    fn use_job(&mut self, id: u32, target: Target, recipe: &Recipe, now: Instant) -> JobId {
        let job = self.engine.add(target, recipe, now);
        let slot = job as usize;
        if self.users.len() <= slot {
            self.users.resize_with(slot + 1, Users::default);
        }
        self.users[slot].add(id);
        job
    }

    fn drop_job(&mut self, id: u32, job: JobId) {
        if let Some(users) = self.users.get_mut(job as usize) {
            users.remove(id);
        }
        self.engine.remove(job);
    }

    /// Gives a server its group's new settings.
    fn regroup(&mut self, id: u32, group: &Rc<Group>, now: Instant) {
        let Some(entry) = self.servers.get(&id) else { return };
        let (old, job, old_load) = (Rc::clone(&entry.group), entry.job, entry.load_job);
        let Some(mut target) = self.engine.target(job) else { return };
        let mut new_job = job;
        if old.recipe != group.recipe || old.udp != group.udp {
            target.udp = group.udp;
            new_job = self.use_job(id, target, &group.recipe, now);
            self.drop_job(id, job);
        }
        let mut load_job = old_load;
        if old.load != group.load {
            load_job =
                group.load.as_ref().map(|words| self.use_job(id, target, &load_recipe(words), now));
            if let Some(job) = old_load {
                self.drop_job(id, job);
            }
        }
        if let Some(entry) = self.servers.get_mut(&id) {
            (entry.job, entry.load_job, entry.group) = (new_job, load_job, Rc::clone(group));
        }
        self.catch_up(id, now);
        self.told(id);
    }

    /// A server that joins a job in progress knows its last result.
    fn catch_up(&mut self, id: u32, now: Instant) {
        let Some(entry) = self.servers.get(&id) else { return };
        if entry.machine.health() == Health::Unknown
            && let Some(last) = self.engine.last(entry.job)
        {
            let result = last.result.clone();
            self.judge(id, &result, now);
        }
    }

    fn take_outcomes(&mut self, now: Instant) {
        for outcome in self.engine.outcomes() {
            let Some(users) = self.users.get_mut(outcome.job as usize) else { continue };
            let users_now = std::mem::take(users);
            for id in users_now.as_slice() {
                self.on_outcome(*id, &outcome, now);
            }
            self.users[outcome.job as usize] = users_now;
        }
    }

    fn on_outcome(&mut self, id: u32, outcome: &Outcome, now: Instant) {
        let Some(entry) = self.servers.get(&id) else { return };
        // Also where a load program could not even be started: the server is not to blame.
        if entry.load_job == Some(outcome.job) {
            let output = outcome.output.as_deref().unwrap_or_default();
            self.on_load(id, &outcome.result, output, now);
        } else {
            self.judge(id, &outcome.result, now);
        }
    }

    fn judge(&mut self, id: u32, result: &Result<(), crate::failure::Failure>, now: Instant) {
        let Some(entry) = self.servers.get_mut(&id) else { return };
        let policy = policy(&entry.group, self.scale);
        let was_up = entry.machine.is_up();
        entry.machine.verdict(&policy, result.is_ok(), now);
        match result {
            Ok(()) => {
                entry.failures = 0;
                // One that is on its way back and fails again is nothing new.
                if entry.machine.health() == Health::Up {
                    entry.logged = None;
                }
            }
            Err(failure) => {
                entry.failures = entry.failures.saturating_add(1);
                let due = entry.logged.is_none_or(|at| now.saturating_duration_since(at) >= REMIND);
                if due {
                    entry.logged = Some(now);
                    if let Some(target) = self.engine.target(entry.job) {
                        let command = self.engine.command(entry.job);
                        log::info!("{}", failure.log_line(&target, &command));
                    }
                }
            }
        }
        self.changed(id, was_up, now);
    }

    fn on_load(
        &mut self,
        id: u32,
        result: &Result<(), crate::failure::Failure>,
        output: &[u8],
        now: Instant,
    ) {
        let Some(entry) = self.servers.get_mut(&id) else { return };
        let was_up = entry.machine.is_up();
        if let Some(load) = load::parse(output) {
            entry.load_failed = false;
            let policy = policy(&entry.group, self.scale);
            entry.machine.load(&policy, load);
            return self.changed(id, was_up, now);
        }
        if std::mem::replace(&mut entry.load_failed, true) {
            return;
        }
        let Some(entry) = self.servers.get(&id) else { return };
        let (of, label) = (&entry.group.virtual_server, self.label(id));
        match (result, self.engine.target(entry.job), entry.load_job) {
            (Err(failure), Some(target), Some(job)) => {
                let reason = failure.log_line(&target, &self.engine.command(job));
                log::info!("failed to read remote load ({of} -> {label}): {reason}");
            }
            _ => {
                let shown = output.trim_ascii();
                let shown = String::from_utf8_lossy(&shown[..shown.len().min(SHOWN)]);
                log::info!("bad load average returned: {shown} ({of} -> {label})");
            }
        }
    }

    fn step(&mut self, id: u32, now: Instant) {
        let Some(entry) = self.servers.get_mut(&id) else { return };
        if entry.machine.step_at().is_some_and(|at| at <= now) {
            entry.machine.step(now);
            if let Some(at) = entry.machine.step_at() {
                self.set_step(id, at);
            }
            self.told(id);
        }
    }

    /// Sets the timer of a server's next weight. Those that are outdated, of servers that went down
    /// in between, are dropped before they outnumber the servers.
    fn set_step(&mut self, id: u32, at: Instant) {
        if self.steps.len() <= 2 * self.servers.len() + 64 {
            return self.steps.set(at, id);
        }
        self.steps = Timers::default();
        for (id, entry) in &self.servers {
            if let Some(at) = entry.machine.step_at() {
                self.steps.set(at, *id);
            }
        }
    }

    /// After whatever may have changed a server's state: logs, sets the weight's timer, tells.
    fn changed(&mut self, id: u32, was_up: bool, now: Instant) {
        let Some(entry) = self.servers.get_mut(&id) else { return };
        let up = entry.machine.is_up();
        let first = entry.told.is_none();
        if up != was_up || first {
            entry.since = now;
        }
        if up
            && !was_up
            && let Some(at) = entry.machine.step_at()
        {
            self.set_step(id, at);
        }
        if up != was_up {
            let label = self.label(id);
            if up {
                log::info!("[ active ] making {label} available");
            } else {
                log::info!("[inactive] shutting down {label} due to connection failure");
            }
        }
        self.told(id);
    }

    /// `RIP:RPORT` of a server.
    fn label(&self, id: u32) -> String {
        let target = self.servers.get(&id).and_then(|e| self.engine.target(e.job));
        target.map_or_else(String::new, |t| t.to_string())
    }

    /// Tells what is not known yet. A server of which nothing is known is not spoken of.
    fn told(&mut self, id: u32) {
        let Some(entry) = self.servers.get_mut(&id) else { return };
        let policy = policy(&entry.group, self.scale);
        let unknown =
            entry.machine.health() == Health::Unknown && entry.machine.forced() == Force::Auto;
        let now = (entry.machine.is_up(), entry.machine.standing(&policy));
        if !unknown && entry.told != Some(now) {
            entry.told = Some(now);
            self.news.push(State { id, up: now.0, weight: now.1 });
        }
    }
}

impl AsFd for Pool {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.engine.as_fd()
    }
}

fn policy(group: &Group, scale: u32) -> Policy {
    Policy { reentry: group.reentry, quiesce: group.quiesce, scale }
}

fn load_recipe(words: &[Vec<u8>]) -> Recipe {
    let interval_ms = u32::try_from(STEP.as_millis()).unwrap_or(u32::MAX);
    Recipe { action: Action::Load { words: words.to_vec() }, interval_ms }
}

/// The words of a load program: `CMD ADDR`, and for rsh and ssh `CMD ADDR uptime`.
#[must_use]
pub fn load_words(command: &str) -> Vec<Vec<u8>> {
    let mut words = crate::recipe::split_words(command.as_bytes());
    let shell = words.first().is_some_and(|w| {
        let name = w.rsplit(|b| *b == b'/').next().unwrap_or_default();
        name == b"rsh" || name == b"ssh"
    });
    words.push(b"%h".to_vec());
    if shell {
        words.push(b"uptime".to_vec());
    }
    words
}
