//! Runs thousands of checks in one process: one epoll instance, a heap of timers, no threads.
//!
//! Checks with the same target and recipe are one job, whoever asks for them. The first run of a
//! job begins at once; its later ones are spread over the interval by its number, so that jobs that
//! were added together do not stay together.

use crate::exchange::{Exchange, NotBegun, Prepared};
use crate::failure::Failure;
use crate::program::{self, Running, ShellChoice};
use crate::recipe::{Action, Recipe, Target};
use daemon::poll::{Event, Flags, Poller};
use daemon::process::Ended;
use daemon::timers::Timers;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Descriptors left to the rest of the process.
const RESERVED: usize = 64;
/// Checks begun before finished ones are looked at again.
const BEGIN_AT_ONCE: usize = 64;
/// How long a shortage of descriptors or memory is waited out.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(50);
/// Most programs at once unless said otherwise.
const PROGRAMS: usize = 64;

/// How much may go on at the same time.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Checks over sockets.
    pub sockets: usize,
    /// Check programs.
    pub programs: usize,
}

impl Limits {
    /// Raises this process's limit of descriptors as far as it goes and shares them out.
    #[must_use]
    pub fn of_this_process() -> Limits {
        let descriptors = raise_descriptors();
        let programs = PROGRAMS.min(descriptors / 4).max(1);
        Limits { sockets: descriptors.saturating_sub(RESERVED + programs).max(1), programs }
    }
}

/// The limit of descriptors, raised to the hard one (getrlimit(2)).
fn raise_descriptors() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    usize::try_from(if raised { hard } else { soft }).unwrap_or(usize::MAX)
}

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
    recipe: u32,
    users: u32,
    /// Counts the job's timers and sockets, so that an old one's event is known as such.
    generation: u32,
    begun: Instant,
    phase: Phase,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct TimerKey {
    job: JobId,
    generation: u32,
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
    by_check: HashMap<(Target, u32), JobId>,
    recipes: Vec<Option<(Rc<Prepared>, u32)>>,
    by_recipe: HashMap<Recipe, u32>,
    queued_sockets: VecDeque<JobId>,
    queued_programs: VecDeque<JobId>,
    sockets: usize,
    programs: HashMap<i32, JobId>,
    generations: u32,
    limits: Limits,
    shells: ShellChoice,
    shortage: Option<Errno>,
    /// No check begins before this while there is a shortage.
    resume: Option<Instant>,
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
            recipes: Vec::new(),
            by_recipe: HashMap::new(),
            queued_sockets: VecDeque::new(),
            queued_programs: VecDeque::new(),
            sockets: 0,
            programs: HashMap::new(),
            generations: 0,
            limits,
            shells: ShellChoice::of_this_system(),
            shortage: None,
            resume: None,
            outcomes: Vec::new(),
        })
    }

    /// Asks for a check; its first run begins with the next [`Engine::run`]. The number of a job
    /// that exists already is given again.
    pub fn add(&mut self, target: Target, recipe: &Recipe, now: Instant) -> JobId {
        let recipe = self.intern(recipe);
        if let Some(id) = self.by_check.get(&(target, recipe)).copied() {
            self.release_recipe(recipe);
            if let Some(Some(job)) = self.jobs.get_mut(id as usize) {
                job.users += 1;
            }
            return id;
        }
        let job = Job {
            target,
            recipe,
            users: 1,
            generation: 0,
            begun: now,
            phase: Phase::Queued,
            last: None,
        };
        let id = self.place(job);
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
        self.release_recipe(job.recipe);
        match job.phase {
            Phase::Idle => {}
            Phase::Queued => {
                self.queued_sockets.retain(|q| *q != id);
                self.queued_programs.retain(|q| *q != id);
            }
            Phase::Socket(_) => self.sockets -= 1,
            Phase::Program(running) => {
                running.kill();
                self.programs.remove(&running.pid());
            }
        }
    }

    /// What is known of a job's last check.
    #[must_use]
    pub fn last(&self, id: JobId) -> Option<&Last> {
        self.jobs.get(id as usize)?.as_ref()?.last.as_ref()
    }

    /// What a job checks.
    #[must_use]
    pub fn target(&self, id: JobId) -> Option<Target> {
        Some(self.jobs.get(id as usize)?.as_ref()?.target)
    }

    /// The program a job runs, with the server's address and port in place, for messages.
    #[must_use]
    pub fn command(&self, id: JobId) -> String {
        let Some(Some(job)) = self.jobs.get(id as usize) else { return String::new() };
        match self.prepared(job.recipe).as_deref().map(|p| &p.recipe.action) {
            Some(Action::Program { words, .. } | Action::Load { words }) => {
                program::shown(&filled_in(words, &job.target))
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
        let begin = self.may_begin().then(|| self.resume.unwrap_or_else(Instant::now));
        match (self.timers.next(), begin) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Handles the events and timers that have come, and begins checks. Does not block.
    pub fn run(&mut self, now: Instant) {
        let mut events = std::mem::take(&mut self.events);
        if self.poller.wait(Some(now), &mut events).is_ok() {
            for event in &events {
                self.on_event(*event, now);
            }
        }
        self.events = events;
        while let Some(key) = self.timers.pop(now) {
            self.on_timer(key, now);
        }
        self.begin_some(now);
    }

    /// Takes in the end of a child process; false when it is none of the engine's. Call before the
    /// child is collected.
    pub fn child_ended(&mut self, pid: i32, how: Ended, now: Instant) -> bool {
        let Some(id) = self.programs.get(&pid).copied() else { return false };
        let Some(Some(job)) = self.jobs.get(id as usize) else { return true };
        let recipe = job.recipe;
        let Some(prepared) = self.prepared(recipe) else { return true };
        let Some(Some(job)) = self.jobs.get_mut(id as usize) else { return true };
        let Phase::Program(running) = &mut job.phase else { return true };
        running.read(false);
        // What it left behind goes with it.
        running.kill();
        let verdict = judge_program(&prepared, running, Some(how));
        self.finish(id, verdict, now);
        true
    }

    /// The checks that have ended since the last call.
    pub fn outcomes(&mut self) -> Vec<Outcome> {
        std::mem::take(&mut self.outcomes)
    }

    fn prepared(&self, recipe: u32) -> Option<Rc<Prepared>> {
        self.recipes.get(recipe as usize)?.as_ref().map(|(prepared, _)| Rc::clone(prepared))
    }

    fn intern(&mut self, recipe: &Recipe) -> u32 {
        if let Some(id) = self.by_recipe.get(recipe).copied() {
            if let Some(Some((_, users))) = self.recipes.get_mut(id as usize) {
                *users += 1;
            }
            return id;
        }
        let entry = Some((Rc::new(Prepared::new(recipe.clone())), 1));
        let id = match self.recipes.iter().position(Option::is_none) {
            Some(free) => {
                self.recipes[free] = entry;
                free
            }
            None => {
                self.recipes.push(entry);
                self.recipes.len() - 1
            }
        };
        let id = u32::try_from(id).unwrap_or(u32::MAX);
        self.by_recipe.insert(recipe.clone(), id);
        id
    }

    fn release_recipe(&mut self, id: u32) {
        let Some(slot) = self.recipes.get_mut(id as usize) else { return };
        let Some((prepared, users)) = slot else { return };
        *users -= 1;
        if *users == 0 {
            self.by_recipe.remove(&prepared.recipe);
            *slot = None;
        }
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
        let job = self.jobs.get(id as usize)?.as_ref()?;
        if job.generation == generation { self.prepared(job.recipe) } else { None }
    }

    fn queue(&mut self, id: JobId) {
        let Some(Some(job)) = self.jobs.get_mut(id as usize) else { return };
        job.phase = Phase::Queued;
        let recipe = job.recipe;
        match self.prepared(recipe).as_deref().map(|p| &p.recipe.action) {
            Some(Action::Exchange { .. }) | None => self.queued_sockets.push_back(id),
            Some(_) => self.queued_programs.push_back(id),
        }
    }

    fn may_begin(&self) -> bool {
        (self.sockets < self.limits.sockets && !self.queued_sockets.is_empty())
            || (self.programs.len() < self.limits.programs && !self.queued_programs.is_empty())
    }

    /// Begins queued checks, a few at a time so that the ends of others are seen in between.
    fn begin_some(&mut self, now: Instant) {
        if self.resume.is_some_and(|at| at > now) {
            return;
        }
        self.resume = None;
        for _ in 0..BEGIN_AT_ONCE {
            if self.programs.len() >= self.limits.programs {
                break;
            }
            let Some(id) = self.queued_programs.pop_front() else { break };
            if !self.begin_program(id, now) {
                return;
            }
        }
        for _ in 0..BEGIN_AT_ONCE {
            if self.sockets >= self.limits.sockets {
                break;
            }
            let Some(id) = self.queued_sockets.pop_front() else { break };
            if !self.begin_exchange(id, now) {
                return;
            }
        }
        self.shortage = None;
    }

    /// Notes a shortage; the job keeps its place at the head of its queue.
    fn short_of(&mut self, what: Errno, now: Instant) -> bool {
        if self.shortage.is_none() {
            log::warn!("checks wait: {} (raise the limit or the memory of this machine)", what.desc());
        }
        self.shortage = Some(what);
        self.resume = Some(now + SHORTAGE_PAUSE);
        false
    }

    /// Begins a check over a socket; false when this machine is short of something.
    fn begin_exchange(&mut self, id: JobId, now: Instant) -> bool {
        let generation = self.renew(id);
        let Some(Some(job)) = self.jobs.get_mut(id as usize) else { return true };
        job.begun = now;
        let (target, recipe) = (job.target, job.recipe);
        let Some(prepared) = self.prepared(recipe) else { return true };
        let flags = Flags::EPOLLIN | Flags::EPOLLOUT | Flags::EPOLLRDHUP | Flags::EPOLLET;
        let begun = Exchange::begin(&target).and_then(|exchange| {
            match self.poller.add(exchange.socket(), token(id, generation), flags) {
                Ok(()) => Ok(exchange),
                Err(e) => Err(NotBegun::Shortage(program::errno(&e))),
            }
        });
        match begun {
            Ok(exchange) => {
                self.sockets += 1;
                self.set_phase(id, Phase::Socket(Box::new(exchange)));
                self.timers.set(now + prepared.recipe.interval(), TimerKey { job: id, generation });
            }
            Err(NotBegun::Failed(failure)) => {
                self.finish(id, Verdict { result: Err(failure), output: None }, now);
            }
            Err(NotBegun::Shortage(errno)) => {
                self.queued_sockets.push_front(id);
                return self.short_of(errno, now);
            }
        }
        true
    }

    /// Begins a check program; false when this machine is short of something.
    fn begin_program(&mut self, id: JobId, now: Instant) -> bool {
        let generation = self.renew(id);
        let Some(Some(job)) = self.jobs.get_mut(id as usize) else { return true };
        job.begun = now;
        let (target, recipe) = (job.target, job.recipe);
        let Some(prepared) = self.prepared(recipe) else { return true };
        let (Action::Program { words, .. } | Action::Load { words }) = &prepared.recipe.action else {
            return true;
        };
        let begun = Running::start(&filled_in(words, &target), self.shells).and_then(|running| {
            match self.poller.add(running.stdout(), token(id, generation), Flags::EPOLLIN) {
                Ok(()) => Ok(running),
                Err(e) => {
                    running.kill();
                    Err(program::errno(&e))
                }
            }
        });
        match begun {
            Ok(running) => {
                self.programs.insert(running.pid(), id);
                self.set_phase(id, Phase::Program(Box::new(running)));
                self.timers.set(now + prepared.recipe.interval(), TimerKey { job: id, generation });
            }
            Err(e @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EAGAIN)) => {
                self.queued_programs.push_front(id);
                return self.short_of(e, now);
            }
            Err(e) => {
                let result = Err(Failure::ProgramStart(e));
                self.finish(id, Verdict { result, output: None }, now);
            }
        }
        true
    }

    fn set_phase(&mut self, id: JobId, phase: Phase) {
        if let Some(Some(job)) = self.jobs.get_mut(id as usize) {
            job.phase = phase;
        }
    }

    fn on_event(&mut self, event: Event, now: Instant) {
        let (id, generation) = split_token(event.token);
        let Some(prepared) = self.prepared_for(id, generation) else { return };
        let Some(Some(job)) = self.jobs.get_mut(id as usize) else { return };
        let verdict = match &mut job.phase {
            Phase::Socket(exchange) => exchange
                .drive(&prepared, event.flags)
                .map(|result| Verdict { result, output: None }),
            Phase::Program(running) => {
                let discard =
                    matches!(prepared.recipe.action, Action::Program { expect: None, .. });
                let too_much = running.read(discard) && !discard;
                if event.flags.contains(Flags::EPOLLHUP) && !event.flags.contains(Flags::EPOLLIN) {
                    // Closed: its end is awaited without the pipe reporting that for ever.
                    self.poller.remove(running.stdout());
                }
                if too_much {
                    running.kill();
                }
                too_much.then(|| judge_program(&prepared, running, None))
            }
            Phase::Idle | Phase::Queued => None,
        };
        if let Some(verdict) = verdict {
            self.finish(id, verdict, now);
        }
    }

    fn on_timer(&mut self, key: TimerKey, now: Instant) {
        let Some(prepared) = self.prepared_for(key.job, key.generation) else { return };
        let Some(Some(job)) = self.jobs.get_mut(key.job as usize) else { return };
        let verdict = match &mut job.phase {
            Phase::Idle => return self.queue(key.job),
            Phase::Queued => return,
            Phase::Socket(exchange) => {
                Verdict { result: Err(exchange.timed_out(&prepared)), output: None }
            }
            Phase::Program(running) => {
                running.read(false);
                running.kill();
                judge_program(&prepared, running, None)
            }
        };
        self.finish(key.job, verdict, now);
    }

    /// Ends a check: gives out its outcome and sets the time of the next one.
    fn finish(&mut self, id: JobId, verdict: Verdict, now: Instant) {
        let generation = self.renew(id);
        let Some(Some(job)) = self.jobs.get_mut(id as usize) else { return };
        match std::mem::replace(&mut job.phase, Phase::Idle) {
            Phase::Socket(_) => self.sockets -= 1,
            Phase::Program(running) => {
                self.programs.remove(&running.pid());
            }
            Phase::Idle | Phase::Queued => {}
        }
        let took = now.saturating_duration_since(job.begun);
        let first = job.last.is_none();
        let took_us = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        job.last = Some(Last { result: verdict.result.clone(), took_us });
        let (begun, recipe) = (job.begun, job.recipe);
        let interval =
            self.prepared(recipe).map_or(Duration::from_secs(1), |p| p.recipe.interval());
        let pause = if first { interval.mul_f64(phase_of(id)) } else { interval };
        self.timers.set((begun + pause).max(now), TimerKey { job: id, generation });
        self.outcomes.push(Outcome { job: id, result: verdict.result, took, output: verdict.output });
    }
}

impl AsFd for Engine {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}

#[derive(Debug)]
struct Verdict {
    result: Result<(), Failure>,
    output: Option<Vec<u8>>,
}

/// What a program's output and end mean; `ended` is `None` when it was stopped.
fn judge_program(prepared: &Prepared, running: &mut Running, ended: Option<Ended>) -> Verdict {
    let answer = running.answer();
    let badly = |how: Option<Ended>| match how {
        Some(how) => Failure::ProgramEnded(how),
        None => Failure::ProgramTimeout,
    };
    let stopped_early = ended.is_none() && running.output.len() <= program::MOST_OUTPUT;
    let result = match &prepared.recipe.action {
        Action::Program { expect: Some(expect), .. } if answer == expect.as_slice() => Ok(()),
        Action::Program { expect: Some(_), .. } if stopped_early => Err(Failure::ProgramTimeout),
        Action::Program { expect: Some(_), .. } if answer.is_empty() => match ended {
            Some(how) if !how.success() => Err(Failure::ProgramEnded(how)),
            _ => Err(Failure::ProgramSilent),
        },
        Action::Program { expect: Some(_), .. } => Err(Failure::program_answer(answer)),
        _ if ended.is_some_and(Ended::success) => Ok(()),
        _ => Err(badly(ended)),
    };
    let is_load = matches!(prepared.recipe.action, Action::Load { .. });
    Verdict { result, output: is_load.then(|| std::mem::take(&mut running.output)) }
}

/// The words of a program with `%h` and `%p` in place.
fn filled_in(words: &[Vec<u8>], target: &Target) -> Vec<Vec<u8>> {
    let fill = |word: &Vec<u8>| match word.as_slice() {
        b"%h" => target.addr.to_string().into_bytes(),
        b"%p" => target.port.to_string().into_bytes(),
        _ => word.clone(),
    };
    words.iter().map(fill).collect()
}

/// Where in the interval a job has its place: a number in (0, 1], far from those of its neighbours
/// (multiples of the golden ratio, modulo 1).
fn phase_of(id: JobId) -> f64 {
    1.0 - (f64::from(id) * 0.618_033_988_749_895).fract()
}

fn token(id: JobId, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(id)
}

#[allow(clippy::cast_possible_truncation)]
fn split_token(token: u64) -> (JobId, u32) {
    (token as u32, (token >> 32) as u32)
}
