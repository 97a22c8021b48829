//! The world of a pair: virtual time, a network, and faults.

use crate::checker::{Checker, Clean};
use crate::history::{Fault, History, Kind};
use crate::node::{Brain, News, Node, Pause, Service, What};
use crate::original::{Deed, Original};
use crate::random::Random;
use pulse::decision::{Event, Millis, Settings, State};
use pulse::wire::{Message, Role, Word};
use std::collections::BTreeMap;
use std::ops::Range;

/// A node that is in order settles within this time after the faults, limits and retries included.
const PATIENCE: Millis = 150_000;

struct Entry {
    at: Millis,
    order: u32,
    node: usize,
    what: What,
}

pub(crate) struct Network {
    /// By sender and path.
    pub(crate) cut: [[bool; 2]; 2],
    /// Percent of all datagrams.
    pub(crate) loss: u64,
    /// Delays up to this.
    pub(crate) slow: Millis,
    /// All that was slow has come.
    calm: bool,
}

/// A history as it happens.
pub(crate) struct World {
    pub(crate) history: History,
    pub(crate) chance: Random,
    pub(crate) now: Millis,
    pub(crate) nodes: [Node; 2],
    pub(crate) network: Network,
    queue: Vec<Entry>,
    order: u32,
    /// Index of the next fault.
    next_fault: usize,
    pub(crate) healed: bool,
    edits: u32,
    pub(crate) checker: Checker,
    pub(crate) trace: Option<String>,
    pub(crate) survey: Option<BTreeMap<&'static str, u32>>,
}

impl World {
    /// Whether the history of this seed breaks a rule, and how.
    pub(crate) fn run(seed: u64) -> Option<String> {
        World::new(seed).live()
    }

    /// The same, with all that happens.
    pub(crate) fn tell(seed: u64) -> (Option<String>, String) {
        let mut world = World::new(seed);
        world.trace = Some(format!("seed {seed}: {}\n", world.history));
        let broken = world.live();
        (broken, world.trace.unwrap_or_default())
    }

    /// How often what stands in [`SURVEY`] was logged.
    pub(crate) fn survey(seeds: Range<u64>) -> BTreeMap<&'static str, u32> {
        let mut seen = BTreeMap::new();
        for seed in seeds {
            let mut world = World::new(seed);
            world.survey = Some(seen);
            assert_eq!(world.live(), None, "seed {seed}");
            seen = world.survey.unwrap();
        }
        seen
    }

    fn new(seed: u64) -> World {
        let mut chance = Random::new(seed);
        let history = History::new(&mut chance);
        let nodes = [Role::Master, Role::Backup].map(|role| {
            let file = Settings {
                role,
                partner: true,
                keepalive: history.keepalive,
                deadtime: history.deadtime,
                service: history.service(),
                forced: false,
            };
            Node::new(file, chance.range(0, 2))
        });
        let checker = Checker::new(&history);
        World {
            history,
            chance,
            now: 1_000_000,
            nodes,
            network: Network { cut: [[false; 2]; 2], loss: 0, slow: 0, calm: true },
            queue: Vec::with_capacity(32),
            order: 0,
            next_fault: 0,
            healed: false,
            edits: 0,
            checker,
            trace: None,
            survey: None,
        }
    }

    fn live(&mut self) -> Option<String> {
        let begin = self.now;
        self.checker.begin(begin);
        loop {
            let next = self.next_time(begin);
            self.now = next.max(self.now);
            self.look();
            if self.checker.broken.is_some() {
                break;
            }
            if self.healed && self.checker.is_settled(&self.nodes, self.now) {
                break;
            }
            if self.now > begin + self.history.healed + PATIENCE {
                self.checker.break_rule("stuck: the pair does not settle");
                break;
            }
            self.happen(begin);
            self.look();
            for node in 0..2 {
                if self.healed {
                    self.apply(Fault::Start(node));
                }
            }
        }
        // What an original node does is its own affair.
        let ours = (0..2).filter(|&node| self.history.kind != Kind::Mixed(node));
        let activations = ours.map(|node| self.nodes[node].activations).sum();
        self.checker.end(activations, &self.history);
        let broken = self.checker.broken.take()?;
        Some(format!("{:>7} {broken}", self.now - begin))
    }

    /// The checker sees the world before and after each event.
    fn look(&mut self) {
        let net = &self.network;
        let whole = net.loss == 0 && net.calm && net.slow == 0;
        let paths = 0..self.history.paths;
        let joined = |from: usize| {
            let carries = |path: usize| {
                !net.cut[from][path] && self.nodes.iter().all(|node| node.carrier[path])
            };
            paths.clone().any(carries)
        };
        let clean =
            Clean { steady: whole, joined: whole && joined(0) && joined(1), edits: self.edits };
        self.checker.look(&self.nodes, clean, self.now);
    }

    // ---------------------------------------------------------------- what comes next

    fn fault_at(&self, begin: Millis) -> Millis {
        match self.history.faults.get(self.next_fault) {
            Some(&(at, _)) => begin + at,
            None if !self.healed => begin + self.history.healed,
            None => Millis::MAX,
        }
    }

    fn next_time(&self, begin: Millis) -> Millis {
        let queued = self.queue.iter().map(|entry| entry.at).min().unwrap_or(Millis::MAX);
        let wakes = self.nodes.iter().filter(|node| node.pause == Pause::No);
        let woken = wakes.filter_map(|node| node.wake).min().unwrap_or(Millis::MAX);
        queued.min(woken).min(self.fault_at(begin))
    }

    /// One event: a fault, something that arrives, or else a timer.
    fn happen(&mut self, begin: Millis) {
        if self.fault_at(begin) <= self.now {
            return self.next_of_faults();
        }
        let due = (0..self.queue.len()).filter(|&i| self.queue[i].at <= self.now);
        if let Some(i) = due.min_by_key(|&i| (self.queue[i].at, self.queue[i].order)) {
            let Entry { node, what, .. } = self.queue.swap_remove(i);
            return self.arrive(node, what);
        }
        for node in 0..2 {
            let it = &self.nodes[node];
            if it.pause == Pause::No && it.wake.is_some_and(|at| at <= self.now) {
                return self.tick(node);
            }
        }
    }

    pub(crate) fn schedule(&mut self, delay: Millis, node: usize, what: What) {
        self.order += 1;
        self.queue.push(Entry { at: self.now + delay, order: self.order, node, what });
    }

    // ---------------------------------------------------------------- faults

    fn next_of_faults(&mut self) {
        let Some(&(_, fault)) = self.history.faults.get(self.next_fault) else {
            return self.heal();
        };
        self.next_fault += 1;
        self.tell_of("", &fault);
        self.apply(fault);
    }

    /// Nothing is broken any more, and every node runs.
    fn heal(&mut self) {
        self.tell_of("", &"all is in order from here on");
        self.healed = true;
        for node in 0..2 {
            self.apply(Fault::Resume(node));
            for path in 0..2 {
                self.apply(Fault::Mend(node, path));
                self.apply(Fault::LinkUp(node, path));
            }
            self.nodes[node].never_ready = false;
            self.nodes[node].slow_stop = false;
            self.apply(Fault::Partner(node, true));
            self.apply(Fault::Start(node));
        }
        self.network.loss = 0;
        self.network.slow = 0;
        self.network.calm = true;
    }

    fn apply(&mut self, fault: Fault) {
        match fault {
            Fault::Start(node) if !self.nodes[node].runs() => self.start(node),
            Fault::Start(_) => {}
            Fault::Crash(node) => self.fall(node),
            Fault::Freeze(node) => self.pause(node, Pause::Frozen),
            Fault::Suspend(node) => self.pause(node, Pause::Suspended),
            Fault::Resume(node) if self.nodes[node].pause == Pause::Busy => {}
            Fault::Resume(node) => self.resume(node),
            Fault::Cut(sender, path) => self.network.cut[sender][path] = true,
            Fault::Mend(sender, path) => self.network.cut[sender][path] = false,
            Fault::Loss(percent) => self.network.loss = percent,
            Fault::Slow(longest) => {
                self.network.slow = longest;
                self.network.calm = false;
            }
            Fault::Calm => self.network.calm = self.network.slow == 0,
            Fault::LinkDown(node, nic) => self.carrier(node, nic, false),
            Fault::LinkUp(node, nic) => self.carrier(node, nic, true),
            Fault::ServiceDies(node) => self.service_dies(node),
            Fault::NeverReady(node) => self.nodes[node].never_ready = true,
            Fault::SlowStop(node) => self.nodes[node].slow_stop = true,
            Fault::Handover => {
                let node = self.active().unwrap_or(0);
                self.hand_over(node);
            }
            Fault::Terminate { active } => {
                let node = self.active().unwrap_or(0);
                self.terminate(if active { node } else { 1 - node });
            }
            Fault::Timing(node, keepalive, deadtime) => {
                self.edit(node, |file| Settings { keepalive, deadtime, ..file });
            }
            Fault::Swap(node) => self.edit(node, |file| {
                let role = if file.role == Role::Master { Role::Backup } else { Role::Master };
                Settings { role, ..file }
            }),
            Fault::Partner(node, partner) => self.edit(node, |file| Settings { partner, ..file }),
        }
    }

    fn active(&self) -> Option<usize> {
        self.nodes.iter().position(Node::claims)
    }

    fn start(&mut self, node: usize) {
        let number = self.chance.next();
        let first = self.history.forced == Some(node) && self.nodes[node].generation == 0;
        let it = &mut self.nodes[node];
        it.generation += 1;
        if self.history.kind == Kind::Mixed(node) {
            it.brain = Brain::Original(Original::new(it.file, self.now));
            it.wake = Some(self.now);
            return;
        }
        let settings = Settings { forced: first, ..it.file };
        let start = u32::try_from(number >> 32).unwrap();
        it.brain = Brain::Ours(State::new(settings, start, self.now));
        self.checker.started(node, first);
        let watched = self.watched();
        if watched.iter().any(|&nic| !self.nodes[node].carrier[nic]) {
            self.feed(node, Event::LinkDown);
        }
        self.feed(node, Event::Start);
    }

    fn pause(&mut self, node: usize, pause: Pause) {
        if !self.nodes[node].runs() || self.nodes[node].pause != Pause::No {
            return;
        }
        self.nodes[node].pause = pause;
        if pause == Pause::Suspended {
            let generation = self.nodes[node].generation;
            self.schedule(self.nodes[node].file.deadtime, node, What::Guard { generation });
        }
    }

    fn resume(&mut self, node: usize) {
        if self.nodes[node].pause == Pause::No {
            return;
        }
        self.nodes[node].pause = Pause::No;
        // Datagrams wait in the sockets, which are read before anything else.
        let mut waiting = std::mem::take(&mut self.nodes[node].inbox);
        waiting.make_contiguous().sort_by_key(|what| !matches!(what, What::Datagram { .. }));
        for what in waiting {
            self.arrive(node, what);
        }
        let file = self.nodes[node].file;
        self.feed(node, Event::Reconfigured(file));
    }

    /// The network cards that pulse watches.
    fn watched(&self) -> &'static [usize] {
        match (self.history.monitor_links, self.history.paths) {
            (false, _) => &[],
            (true, 1) => &[0],
            (true, _) => &[0, 1],
        }
    }

    fn carrier(&mut self, node: usize, nic: usize, up: bool) {
        self.nodes[node].carrier[nic] = up;
        if self.watched().contains(&nic) && self.nodes[node].runs() {
            let delay = self.chance.range(0, 20);
            self.schedule(delay, node, What::Links);
        }
    }

    fn service_dies(&mut self, node: usize) {
        let it = &mut self.nodes[node];
        match &mut it.brain {
            Brain::Original(original) => {
                original.service_died();
                it.addresses = false;
            }
            Brain::Ours(_) if it.service == Service::Off || it.service == Service::Stopping => {}
            Brain::Ours(_) => {
                let generation = it.generation;
                self.schedule(0, node, What::Service { generation, news: News::Failed });
            }
            Brain::None => {}
        }
    }

    pub(crate) fn fall(&mut self, node: usize) {
        self.nodes[node].fall();
        self.checker.fell(node);
    }

    fn hand_over(&mut self, node: usize) {
        let it = &self.nodes[node];
        if matches!(it.brain, Brain::Ours(_)) && it.pause == Pause::No {
            self.checker.asked(node);
            self.feed(node, Event::Handover(7));
        }
    }

    fn terminate(&mut self, node: usize) {
        if self.nodes[node].is_original() {
            self.fall(node);
        } else {
            self.feed(node, Event::Terminate(15));
        }
    }

    fn edit(&mut self, node: usize, change: impl Fn(Settings) -> Settings) {
        let old = self.nodes[node].file;
        let new = change(old);
        self.nodes[node].file = new;
        self.edits += u32::from(new != old);
        if new != old {
            self.feed(node, Event::Reconfigured(new));
        }
    }

    // ---------------------------------------------------------------- what comes to a node

    fn arrive(&mut self, node: usize, what: What) {
        let it = &mut self.nodes[node];
        if !it.runs() {
            return;
        }
        let outside = matches!(what, What::Guard { .. } | What::Awake);
        if it.pause != Pause::No && !outside {
            it.inbox.push_back(what);
            return;
        }
        match what {
            What::Datagram { path, message } if it.carrier[path] => self.hear(node, message),
            What::Datagram { .. } => {}
            What::Service { generation, news } if it.generation == generation => {
                self.report(node, news);
            }
            What::Links => self.report_links(node),
            What::Gateway { generation } if it.watch == generation => {
                let answers = it.carrier.iter().take(self.history.paths).all(|&up| up)
                    && !self.network.cut[node][0];
                self.feed(node, Event::Gateway(answers));
            }
            What::Guard { generation } => self.guard(node, generation),
            What::Monitor { generation, misses } if it.watch == generation => {
                self.monitor(node, misses);
            }
            What::Awake => {
                it.addresses = matches!(&it.brain, Brain::Original(original) if original.active);
                self.resume(node);
            }
            What::Service { .. } | What::Gateway { .. } | What::Monitor { .. } => {}
        }
    }

    fn hear(&mut self, node: usize, message: Message) {
        match &mut self.nodes[node].brain {
            Brain::Ours(_) => self.feed(node, Event::Heartbeat(message)),
            Brain::Original(original) => {
                let deed = original.hear(message.word, self.now);
                if deed != Deed::Nothing {
                    self.tell_of(["A", "B"][node], &(message.word, deed));
                }
                self.do_deed(node, deed);
            }
            Brain::None => {}
        }
    }

    fn report(&mut self, node: usize, news: News) {
        let it = &mut self.nodes[node];
        let event = match news {
            News::Loaded => {
                it.service = Service::Up;
                it.addresses = true;
                Event::Loaded
            }
            News::Prepared => Event::Prepared,
            News::Stopped => {
                it.service = Service::Off;
                Event::Stopped
            }
            News::Failed => {
                it.generation += 1;
                Event::ServiceFailed("Child process 4711 exited with status 1".to_owned())
            }
            News::Deposed => Event::Deposed("the guard has taken the addresses down".to_owned()),
        };
        self.feed(node, event);
    }

    fn report_links(&mut self, node: usize) {
        let down = self.watched().iter().any(|&nic| !self.nodes[node].carrier[nic]);
        self.nodes[node].disabled = down;
        self.feed(node, if down { Event::LinkDown } else { Event::LinksUp });
    }

    /// pulse has given no sign of life: the guard does what pulse cannot.
    fn guard(&mut self, node: usize, generation: u32) {
        let it = &mut self.nodes[node];
        let serves = matches!(it.service, Service::Starting | Service::Up);
        if it.pause == Pause::Suspended && it.generation == generation && serves {
            it.addresses = false;
            it.inbox.push_back(What::Service { generation, news: News::Deposed });
        }
    }

    /// fos --monitor looks whether the partner serves.
    fn monitor(&mut self, node: usize, misses: u32) {
        let other = &self.nodes[1 - node];
        let reached = self.history.paths > 0
            && other.addresses
            && other.service == Service::Up
            && other.pause != Pause::Frozen
            && !self.network.cut[0][0]
            && !self.network.cut[1][0]
            && self.nodes.iter().all(|node| node.carrier[0]);
        let misses = if reached { 0 } else { misses + 1 };
        if misses == 3 {
            self.nodes[node].watch += 1;
            self.nodes[node].monitoring = false;
            let words = "Child process 4712 exited with status 0".to_owned();
            return self.feed(node, Event::ServiceFailed(words));
        }
        let generation = self.nodes[node].watch;
        self.schedule(300, node, What::Monitor { generation, misses });
    }

    fn tick(&mut self, node: usize) {
        match &mut self.nodes[node].brain {
            Brain::Ours(_) => {
                self.feed(node, Event::Time);
                if let Brain::Ours(state) = &self.nodes[node].brain
                    && state.deadline().is_some_and(|due| due <= self.now)
                {
                    self.checker.break_rule("the deadline does not move: a busy loop");
                }
            }
            Brain::Original(original) => {
                let deeds = original.tick(self.now);
                let wake = original.tick_at;
                self.nodes[node].wake = Some(wake);
                if deeds[0] != Deed::Nothing {
                    self.tell_of(["A", "B"][node], &("silence", deeds[0]));
                }
                for deed in deeds {
                    self.do_deed(node, deed);
                }
            }
            Brain::None => {}
        }
    }

    fn do_deed(&mut self, node: usize, deed: Deed) {
        match deed {
            Deed::Nothing => {}
            Deed::Send(word) => self.send(node, &Message { word, extra: None }),
            Deed::Activate => {
                self.nodes[node].activations += 1;
                self.nodes[node].pause = Pause::Busy;
                let delay = self.chance.range(20, 1_000);
                self.schedule(delay, node, What::Awake);
            }
            Deed::GiveWay => {
                self.send(node, &Message { word: Word::Active, extra: None });
                self.nodes[node].addresses = false;
            }
        }
    }
}
