//! Runs thousands of checks in one process: one epoll instance, a heap of timers, no threads.
//!
//! Checks with the same target and recipe are one job, whoever asks for them. The first run of a
//! job begins at once; its later ones are spread over the interval by its number, so that jobs that
//! were added together do not stay together.

use crate::exchange::{Exchange, NotBegun, Prepared};
use crate::failure::Failure;
use crate::program::{self, Judged, Running, ShellChoice};
use crate::recipe::{Action, Recipe, Target};
use crate::recipes::{RecipeId, Recipes};
use daemon::poll::{self, Event, Flags, Poller};
use daemon::process::Ended;
use daemon::timers::Timers;
use nix::errno::Errno;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

pub use crate::limits::Limits;

/// Checks begun before finished ones are looked at again.
const BEGIN_AT_ONCE: usize = 64;
/// How much later than its time a timer may be handled, as a part of the shortest interval there has
/// been, so that one awakening serves several: jobs that begin together once are due together from
/// then on.
const SLACK_PART: u32 = 100;
/// The most of that; well below [`LATE`].
const MOST_SLACK: Duration = Duration::from_millis(50);
/// How long a shortage of descriptors or memory is waited out.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(50);
/// How often a shortage is logged.
const SHORTAGE_REMIND: Duration = Duration::from_secs(60);
/// A loop that comes later than this after a time limit has been held up itself (a machine that was
/// stopped, a long change of the table): what it missed is not held against the servers.
const LATE: Duration = Duration::from_millis(100);

/// A job's number.
pub type JobId = u32;

/// The end of a check.
#[derive(Debug)]
pub struct Outcome {
    /// Whose.
    pub job: JobId,
    /// Passed, or why not.
    pub result: Result<(), Failure>,
    /// From its begin to its end.
    pub took: Duration,
    /// What a load program printed.
    pub output: Option<Vec<u8>>,
}

/// What is known of a job's last check.
#[derive(Debug, Clone)]
pub struct Last {
    /// Passed, or why not.
    pub result: Result<(), Failure>,
    /// From its begin to its end, in microseconds, at most 71 minutes.
    pub took_us: u32,
}

#[derive(Debug)]
struct Job {
    target: Target,
    recipe: RecipeId,
    users: u32,
    /// Counts the job's timers and sockets, so that an old one's event is known as such.
    generation: u32,
    begun: Instant,
    phase: Phase,
    /// The next run is to be put in the job's place in the interval.
    spread: bool,
    /// The run has been given more time, because the loop came late.
    extended: bool,
    last: Option<Last>,
}

#[derive(Debug)]
enum Phase {
    /// Waits for its next time.
    Idle,
    /// Its time has come; waits for a descriptor or a place among the programs.
    Queued,
    Socket(Box<Exchange>),
    Program(Box<Running>),
}

/// Due at the time limit of a job's run, which is also the time of its next one, or earlier where the
/// next run is to come earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct TimerKey {
    job: JobId,
    generation: u32,
}

/// Jobs whose time has come, and what keeps them from beginning.
#[derive(Debug)]
struct Lane {
    queue: VecDeque<JobId>,
    running: usize,
    limit: usize,
    /// None begins before this while there is a shortage.
    resume: Option<Instant>,
}

impl Lane {
    fn new(limit: usize) -> Lane {
        Lane { queue: VecDeque::new(), running: 0, limit: limit.max(1), resume: None }
    }

    /// Whether a job could begin, and from when on.
    fn ready(&self) -> Option<Option<Instant>> {
        (self.running < self.limit && !self.queue.is_empty()).then_some(self.resume)
    }

    /// Takes out the next job that may begin at `now`.
    fn next(&mut self, now: Instant) -> Option<JobId> {
        if self.running >= self.limit || self.resume.is_some_and(|at| at > now) {
            return None;
        }
        self.queue.pop_front()
    }
}

/// What a job needs a place for.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Socket,
    Program,
}

/// What became of a job that was to begin.
enum Begun {
    Yes,
    /// This machine is short of something.
    Short(Errno),
}

/// The engine. Its owner waits on [`AsFd`] until [`Engine::deadline`], calls [`Engine::run`], hands
/// ended children to [`Engine::child_ended`], and takes [`Engine::outcomes`].
#[derive(Debug)]
pub struct Engine {
    poller: Poller,
    events: Vec<Event>,
    timers: Timers<TimerKey>,
    jobs: Vec<Option<Job>>,
    free: Vec<JobId>,
    by_check: HashMap<(Target, RecipeId), JobId>,
    recipes: Recipes,
    sockets: Lane,
    programs: Lane,
    by_pid: HashMap<i32, JobId>,
    generations: u32,
    /// How much later than its time a timer may be handled.
    slack: Duration,
    shells: ShellChoice,
    shortage: Option<Errno>,
    /// When a shortage was last logged.
    warned: Option<Instant>,
    outcomes: Vec<Outcome>,
}

impl Engine {
    /// An engine without jobs.
    ///
    /// # Errors
    /// When there is no descriptor for its epoll instance.
    pub fn new(limits: Limits) -> io::Result<Engine> {
        Ok(Engine {
            poller: Poller::new()?,
            events: Vec::new(),
            timers: Timers::default(),
            jobs: Vec::new(),
            free: Vec::new(),
            by_check: HashMap::new(),
            recipes: Recipes::default(),
            sockets: Lane::new(limits.sockets),
            programs: Lane::new(limits.programs),
            by_pid: HashMap::new(),
            generations: 0,
            slack: MOST_SLACK,
            shells: ShellChoice::of_this_system(),
            shortage: None,
            warned: None,
            outcomes: Vec::new(),
        })
    }

    /// Asks for a check; its first run begins with the next [`Engine::run`]. The number of a job
    /// that exists already is given again.
    pub fn add(&mut self, target: Target, recipe: &Recipe, now: Instant) -> JobId {
        self.slack = self.slack.min(recipe.interval() / SLACK_PART);
        let recipe = self.recipes.take(recipe);
        if let Some(id) = self.by_check.get(&(target, recipe)).copied() {
            self.recipes.release(recipe);
            if let Some(Some(job)) = self.jobs.get_mut(id as usize) {
                job.users += 1;
            }
            return id;
        }
        let id = self.place(Job {
            target,
            recipe,
            users: 1,
            generation: 0,
            begun: now,
            phase: Phase::Idle,
            spread: true,
            extended: false,
            last: None,
        });
        self.renew(id);
        self.by_check.insert((target, recipe), id);
        self.queue(id);
        id
    }

    /// Gives up one use of a job; with the last one its checks end.
    pub fn remove(&mut self, id: JobId) {
        let Some(Some(job)) = self.jobs.get_mut(id as usize) else { return };
        job.users -= 1;
        if job.users > 0 {
            return;
        }
        let Some(job) = self.jobs[id as usize].take() else { return };
        self.free.push(id);
        self.by_check.remove(&(job.target, job.recipe));
        self.recipes.release(job.recipe);
        // The number's next owner is not to hear of this one's checks.
        self.outcomes.retain(|outcome| outcome.job != id);
        match job.phase {
            Phase::Idle => {}
            Phase::Queued => {
                self.sockets.queue.retain(|q| *q != id);
                self.programs.queue.retain(|q| *q != id);
            }
            Phase::Socket(_) => self.sockets.running -= 1,
            Phase::Program(running) => {
                running.kill();
                self.programs.running -= 1;
                self.by_pid.remove(&running.pid());
            }
        }
        self.compact();
    }

    /// What is known of a job's last check.
    #[must_use]
    pub fn last(&self, id: JobId) -> Option<&Last> {
        self.job(id)?.last.as_ref()
    }

    /// What a job checks.
    #[must_use]
    pub fn target(&self, id: JobId) -> Option<Target> {
        Some(self.job(id)?.target)
    }

    /// The program a job runs, with the server's address and port in place, for messages.
    #[must_use]
    pub fn command(&self, id: JobId) -> String {
        let Some(job) = self.job(id) else { return String::new() };
        match self.recipes.get(job.recipe).map(|p| &p.recipe.action) {
            Some(Action::Program { words, .. } | Action::Load { words }) => {
                program::shown(&program::filled_in(words, &job.target))
            }
            _ => String::new(),
        }
    }

    /// Number of jobs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_check.len()
    }

    /// Whether there is no job.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_check.is_empty()
    }

    /// What this machine is short of, so that checks wait.
    #[must_use]
    pub fn shortage(&self) -> Option<Errno> {
        self.shortage
    }

    /// When [`Engine::run`] has something to do without any event.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let lanes = [&self.sockets, &self.programs].into_iter().filter_map(Lane::ready);
        let begin = lanes.map(|resume| resume.unwrap_or_else(Instant::now));
        begin.chain(self.timers.next().map(|at| at + self.slack)).min()
    }

    /// Handles the events and timers that have come, and begins checks. Does not block.
    pub fn run(&mut self, now: Instant) {
        self.take_events(now);
        self.tick(now);
    }

    /// The same where the owner knows that no event has come: saves asking for them.
    pub fn tick(&mut self, now: Instant) {
        while let Some(key) = self.timers.pop(now) {
            self.on_timer(key, now);
        }
        self.begin_some(now);
        self.compact();
    }

    /// Takes in the end of a child process; false when it is none of the engine's. Call before the
    /// child is collected.
    pub fn child_ended(&mut self, pid: i32, how: Ended, now: Instant) -> bool {
        let Some(id) = self.by_pid.get(&pid).copied() else { return false };
        let Some(prepared) = self.job(id).and_then(|job| self.prepared(job)) else { return true };
        let Some(Some(job)) = self.jobs.get_mut(id as usize) else { return true };
        let Phase::Program(running) = &mut job.phase else { return true };
        running.read(false);
        // What it left behind goes with it.
        running.kill();
        let judged = running.judge(&prepared.recipe.action, Some(how));
        self.finish(id, judged, now);
        true
    }

    /// The checks that have ended since the last call.
    pub fn outcomes(&mut self) -> Vec<Outcome> {
        std::mem::take(&mut self.outcomes)
    }

    fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(id as usize)?.as_ref()
    }

    fn prepared(&self, job: &Job) -> Option<Rc<Prepared>> {
        self.recipes.get(job.recipe).map(Rc::clone)
    }

    /// Puts a job into a free slot.
    fn place(&mut self, job: Job) -> JobId {
        if let Some(id) = self.free.pop() {
            self.jobs[id as usize] = Some(job);
            return id;
        }
        self.jobs.push(Some(job));
        u32::try_from(self.jobs.len() - 1).unwrap_or(u32::MAX)
    }

    /// A new generation for a job: whatever was set under the old one is void.
    fn renew(&mut self, id: JobId) -> u32 {
        self.generations = self.generations.wrapping_add(1);
        if let Some(Some(job)) = self.jobs.get_mut(id as usize) {
            job.generation = self.generations;
        }
        self.generations
    }

    /// The recipe of an event's or timer's job, unless the event or timer is outdated.
    fn prepared_for(&self, id: JobId, generation: u32) -> Option<Rc<Prepared>> {
        self.job(id).filter(|job| job.generation == generation).and_then(|job| self.prepared(job))
    }

    fn queue(&mut self, id: JobId) {
        let Some(Some(job)) = self.jobs.get_mut(id as usize) else { return };
        job.phase = Phase::Queued;
        match self.recipes.get(job.recipe).map(|p| &p.recipe.action) {
            Some(Action::Exchange { .. }) | None => self.sockets.queue.push_back(id),
            Some(_) => self.programs.queue.push_back(id),
        }
    }

    /// Begins queued checks, a few at a time so that the ends of others are seen in between. A
    /// shortage of one kind does not keep back the other.
    fn begin_some(&mut self, now: Instant) {
        let kinds = [Kind::Program, Kind::Socket];
        let short = kinds.into_iter().filter_map(|kind| self.begin_of_kind(kind, now)).last();
        self.note_shortage(short, now);
    }

    /// Begins queued checks of a kind; gives back what this machine turned out to be short of.
    fn begin_of_kind(&mut self, kind: Kind, now: Instant) -> Option<Errno> {
        let mut short = None;
        for _ in 0..self.lane(kind).queue.len().min(BEGIN_AT_ONCE) {
            let Some(id) = self.lane(kind).next(now) else { break };
            let begun = match kind {
                Kind::Socket => self.begin_exchange(id, now),
                Kind::Program => self.begin_program(id, now),
            };
            let Begun::Short(errno) = begun else { continue };
            short = Some(errno);
            let lane = self.lane(kind);
            // Behind the others, should the shortage concern this target only.
            lane.queue.push_back(id);
            lane.resume = Some(now + SHORTAGE_PAUSE);
        }
        short
    }

    fn lane(&mut self, kind: Kind) -> &mut Lane {
        match kind {
            Kind::Socket => &mut self.sockets,
            Kind::Program => &mut self.programs,
        }
    }

    fn note_shortage(&mut self, short: Option<Errno>, now: Instant) {
        let waits = |lane: &Lane| lane.ready().flatten().is_some_and(|at| at > now);
        let Some(errno) = short else {
            if !waits(&self.sockets) && !waits(&self.programs) {
                self.shortage = None;
            }
            return;
        };
        self.shortage = Some(errno);
        if self.warned.is_none_or(|at| now.saturating_duration_since(at) >= SHORTAGE_REMIND) {
            self.warned = Some(now);
            log::warn!("checks wait: {}", shortage_text(errno));
        }
    }

    /// Begins a check over a socket.
    fn begin_exchange(&mut self, id: JobId, now: Instant) -> Begun {
        let Some((key, target, prepared)) = self.start_run(id, now) else { return Begun::Yes };
        let flags = Flags::EPOLLIN | Flags::EPOLLOUT | Flags::EPOLLRDHUP | Flags::EPOLLET;
        let begun = Exchange::begin(&target).and_then(|exchange| {
            match self.poller.add(exchange.socket(), token(key), flags) {
                Ok(()) => Ok(exchange),
                Err(e) => Err(NotBegun::Shortage(program::errno(&e))),
            }
        });
        let begun = begun.map(|exchange| Phase::Socket(Box::new(exchange)));
        self.enter(key, begun, now + prepared.recipe.interval(), now)
    }

    /// Begins a check program.
    fn begin_program(&mut self, id: JobId, now: Instant) -> Begun {
        let Some((key, target, prepared)) = self.start_run(id, now) else { return Begun::Yes };
        let begun = self.shells.start(prepared.words(), &target).and_then(|running| {
            match self.poller.add(running.stdout(), token(key), Flags::EPOLLIN) {
                Ok(()) => Ok(running),
                Err(e) => {
                    running.kill();
                    Err(NotBegun::Shortage(program::errno(&e)))
                }
            }
        });
        let begun = begun.map(|running| Phase::Program(Box::new(running)));
        self.enter(key, begun, now + prepared.recipe.interval(), now)
    }

    /// Notes how a run has begun, and when it must have ended.
    fn enter(
        &mut self,
        key: TimerKey,
        begun: Result<Phase, NotBegun>,
        limit: Instant,
        now: Instant,
    ) -> Begun {
        match begun {
            Ok(phase) => {
                match &phase {
                    Phase::Program(running) => {
                        self.by_pid.insert(running.pid(), key.job);
                        self.programs.running += 1;
                    }
                    _ => self.sockets.running += 1,
                }
                self.set_phase(key.job, phase);
                self.timers.set(limit, key);
            }
            Err(NotBegun::Failed(failure)) => {
                self.timers.set(limit, key);
                self.finish(key.job, Judged::of(Err(failure)), now);
            }
            Err(NotBegun::Shortage(errno)) => return Begun::Short(errno),
        }
        Begun::Yes
    }

    /// Notes the begin of a job's run.
    fn start_run(&mut self, id: JobId, now: Instant) -> Option<(TimerKey, Target, Rc<Prepared>)> {
        let generation = self.renew(id);
        let job = self.jobs.get_mut(id as usize)?.as_mut()?;
        (job.begun, job.extended) = (now, false);
        let prepared = self.recipes.get(job.recipe).map(Rc::clone)?;
        Some((TimerKey { job: id, generation }, job.target, prepared))
    }

    fn set_phase(&mut self, id: JobId, phase: Phase) {
        if let Some(Some(job)) = self.jobs.get_mut(id as usize) {
            job.phase = phase;
        }
    }

    /// Takes in all events there are. Timers come after them: an answer that has come is not too
    /// late because this process is.
    fn take_events(&mut self, now: Instant) {
        let mut events = std::mem::take(&mut self.events);
        // A pipe that is never empty must not hold the loop.
        for _ in 0..=(self.sockets.running + self.programs.running) / poll::BATCH {
            if self.poller.take(&mut events).is_err() {
                break;
            }
            for event in &events {
                self.on_event(*event, now);
            }
            if events.len() < poll::BATCH {
                break;
            }
        }
        self.events = events;
    }

    fn on_event(&mut self, event: Event, now: Instant) {
        let (id, generation) = split_token(event.token);
        let Some(prepared) = self.prepared_for(id, generation) else { return };
        let Some(Some(job)) = self.jobs.get_mut(id as usize) else { return };
        let judged = match &mut job.phase {
            Phase::Socket(exchange) => {
                exchange.drive(&prepared, &job.target, event.flags).map(Judged::of)
            }
            Phase::Program(running) => {
                let too_much = running.read(prepared.output_is_ignored());
                if event.flags.contains(Flags::EPOLLHUP) && !event.flags.contains(Flags::EPOLLIN) {
                    // Closed: its end is awaited without the pipe reporting that for ever.
                    self.poller.remove(running.stdout());
                }
                too_much.then(|| {
                    running.kill();
                    running.judge(&prepared.recipe.action, None)
                })
            }
            Phase::Idle | Phase::Queued => None,
        };
        if let Some(judged) = judged {
            self.finish(id, judged, now);
        }
    }

    fn on_timer(&mut self, key: TimerKey, now: Instant) {
        let Some(prepared) = self.prepared_for(key.job, key.generation) else { return };
        let Some(Some(job)) = self.jobs.get_mut(key.job as usize) else { return };
        let interval = prepared.recipe.interval();
        let late = now.saturating_duration_since(job.begun + interval);
        // All that were due meanwhile begin together now, and are to part again.
        job.spread |= late > LATE;
        let running = matches!(job.phase, Phase::Socket(_) | Phase::Program(_));
        if running && late > LATE && !job.extended {
            job.extended = true;
            return self.timers.set(now + late.min(interval), key);
        }
        let judged = match &mut job.phase {
            Phase::Idle => return self.queue(key.job),
            Phase::Queued => return,
            Phase::Socket(exchange) => Judged::of(Err(exchange.timed_out(&prepared))),
            Phase::Program(running) => {
                running.read(false);
                running.kill();
                running.judge(&prepared.recipe.action, None)
            }
        };
        let spread = job.spread;
        self.finish(key.job, judged, now);
        if !spread {
            self.queue(key.job);
        }
    }

    /// Ends a run: gives out its outcome. The timer of its time limit begins the next one, unless
    /// that is to be put elsewhere.
    fn finish(&mut self, id: JobId, judged: Judged, now: Instant) {
        let Some(Some(job)) = self.jobs.get_mut(id as usize) else { return };
        match std::mem::replace(&mut job.phase, Phase::Idle) {
            Phase::Socket(_) => self.sockets.running -= 1,
            Phase::Program(running) => {
                self.programs.running -= 1;
                self.by_pid.remove(&running.pid());
            }
            Phase::Idle | Phase::Queued => {}
        }
        let took = now.saturating_duration_since(job.begun);
        let took_us = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        let first = job.last.is_none();
        let result = judged.result;
        job.last = Some(Last { result: result.clone(), took_us });
        self.outcomes.push(Outcome { job: id, result, took, output: judged.output });
        if std::mem::take(&mut job.spread) {
            self.put_in_place(id, first, now);
        }
    }

    /// Sets the time of a job's next run to its place in the interval, counted from the last begin:
    /// within one interval for the first time, later around one interval, so that jobs which come
    /// late again and again are not run more often for that.
    fn put_in_place(&mut self, id: JobId, first: bool, now: Instant) {
        let generation = self.renew(id);
        let Some(job) = self.job(id) else { return };
        let Some(prepared) = self.recipes.get(job.recipe) else { return };
        let part = phase_of(id) + if first { 0.0 } else { 0.5 };
        let at = job.begun + prepared.recipe.interval().mul_f64(part);
        self.timers.set(at.max(now), TimerKey { job: id, generation });
    }

    /// Drops outdated timers once they are a quarter of all, so that their number is bounded by that
    /// of the jobs whatever comes and goes.
    fn compact(&mut self) {
        let jobs = &self.jobs;
        if self.timers.len() > self.by_check.len() + self.by_check.len() / 4 + 64 {
            self.timers.retain(|key| {
                let job = jobs.get(key.job as usize).and_then(Option::as_ref);
                job.is_some_and(|job| job.generation == key.generation)
            });
        }
    }
}

impl AsFd for Engine {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}

impl Drop for Engine {
    /// Ends the programs that run.
    fn drop(&mut self) {
        for job in self.jobs.iter().flatten() {
            if let Phase::Program(running) = &job.phase {
                running.kill();
            }
        }
    }
}

/// What this machine is short of, and the remedy.
fn shortage_text(errno: Errno) -> String {
    let remedy = match errno {
        Errno::EMFILE => "raise this process's limit of open files (LimitNOFILE=, ulimit -n)",
        Errno::ENFILE => "raise the machine's limit of open files (sysctl fs.file-max)",
        Errno::EAGAIN => "raise the limit of processes (TasksMax=, ulimit -u) or of local ports",
        Errno::ENOSPC => "raise fs.epoll.max_user_watches (sysctl)",
        Errno::ENOBUFS => {
            "no memory for sockets; if the kernel's log has \"neighbour table overflow\", raise \
             net.ipv4.neigh.default.gc_thresh3 (sysctl)"
        }
        _ => "give this machine more memory",
    };
    format!("{}: {remedy}", errno.desc())
}

/// Where in the interval a job has its place: a number in (0, 1], far from those of its neighbours
/// (multiples of the golden ratio, modulo 1).
fn phase_of(id: JobId) -> f64 {
    1.0 - (f64::from(id) * 0.618_033_988_749_895).fract()
}

fn token(key: TimerKey) -> u64 {
    u64::from(key.generation) << 32 | u64::from(key.job)
}

#[allow(clippy::cast_possible_truncation)]
fn split_token(token: u64) -> (JobId, u32) {
    (token as u32, (token >> 32) as u32)
}

#[cfg(test)]
mod tests;
