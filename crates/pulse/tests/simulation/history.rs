//! What a history consists of: a pair, and what happens to it.

use crate::random::Random;
use lvs_config::ServiceKind;
use pulse::decision::Millis;
use std::fmt;

/// Something happens to the pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The node starts: at the beginning, after a crash or an end.
    Start(usize),
    /// The machine loses its power.
    Crash(usize),
    /// A machine that stands still with all that is on it; what comes in is kept.
    Freeze(usize),
    /// pulse is stopped (SIGSTOP); its guard is not.
    Suspend(usize),
    /// The end of one of both.
    Resume(usize),
    /// Datagrams of this sender are lost on this path.
    Cut(usize, usize),
    Mend(usize, usize),
    /// Part of all datagrams is lost, percent.
    Loss(u64),
    /// Delays grow up to this; datagrams overtake each other.
    Slow(Millis),
    /// The last datagrams of a slow time have come.
    Calm,
    /// A network card of a node without carrier: nothing in and out on this path.
    LinkDown(usize, usize),
    LinkUp(usize, usize),
    /// lvsd, or the services of fos, end by themselves.
    ServiceDies(usize),
    /// The next lvsd of this node does not come up.
    NeverReady(usize),
    /// The next deactivation of this node takes its time.
    SlowStop(usize),
    /// An operator hands over from whoever is active.
    Handover,
    /// A signal to whoever is active, or to the other one.
    Terminate {
        active: bool,
    },
    /// The file changes on a node.
    Timing(usize, Millis, Millis),
    /// The nodes change their roles.
    Swap(usize),
    /// The file says that there is no partner, or that there is one again.
    Partner(usize, bool),
}

/// What the second node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Two nodes of this suite, lvs.
    Lvs,
    /// Two nodes of this suite, fos.
    Fos,
    /// One node of this suite and an original one; the number says which is the original.
    Mixed(usize),
}

/// One history: all that does not follow from the seed alone.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) kind: Kind,
    pub(crate) keepalive: Millis,
    pub(crate) deadtime: Millis,
    /// The slowest timing that the file has in this history.
    pub(crate) pace: (Millis, Millis),
    /// Longest way of a datagram while the network is in order.
    pub(crate) delay: Millis,
    pub(crate) paths: usize,
    pub(crate) monitor_links: bool,
    /// An lvsd on standby runs on each inactive node.
    pub(crate) standby_checks: bool,
    /// Addresses are up from the activation on, before anything is loaded: the worst of daemons.
    pub(crate) hasty: bool,
    /// `--forceactive` at the first start.
    pub(crate) forced: Option<usize>,
    /// Each heartbeat is encoded and decoded.
    pub(crate) on_the_wire: bool,
    pub(crate) faults: Vec<(Millis, Fault)>,
    /// From when on all is in order again.
    pub(crate) healed: Millis,
    /// How many activations the faults may cause.
    pub(crate) allowance: u32,
    /// Nothing but starts, shortly after one another, has happened up to this time.
    pub(crate) started_together: Option<Millis>,
}

/// All but the faults, which are told as they happen.
impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let History { kind, keepalive, deadtime, delay, paths, .. } = self;
        write!(f, "{kind:?}, keepalive {keepalive}, deadtime {deadtime}, ")?;
        write!(f, "delay up to {delay}, {paths} path(s)")?;
        let flags = [
            (self.monitor_links, "links monitored"),
            (self.standby_checks, "standby checks"),
            (self.hasty, "addresses up before lvsd"),
            (self.on_the_wire, "encoded"),
        ];
        flags.iter().filter(|(set, _)| *set).try_for_each(|(_, words)| write!(f, ", {words}"))
    }
}

impl History {
    pub(crate) fn service(&self) -> ServiceKind {
        if self.kind == Kind::Fos { ServiceKind::Fos } else { ServiceKind::Lvs }
    }

    pub(crate) fn new(chance: &mut Random) -> History {
        let kind = match chance.range(0, 15) {
            0 => Kind::Fos,
            1..3 => Kind::Mixed(chance.node()),
            _ => Kind::Lvs,
        };
        let keepalive = match kind {
            Kind::Mixed(_) => chance.pick(&[1000, 2000]),
            _ => chance.pick(&[250, 500, 1000, 2000]),
        };
        let deadtime = keepalive * chance.range(3, 5);
        let mut history = History {
            kind,
            keepalive,
            deadtime,
            pace: (keepalive, deadtime),
            delay: chance.range(1, keepalive / 8),
            paths: if chance.chance(50) { 2 } else { 1 },
            monitor_links: chance.chance(50),
            standby_checks: chance.chance(30),
            hasty: chance.chance(50),
            forced: (kind == Kind::Lvs && chance.chance(3)).then(|| chance.node()),
            on_the_wire: chance.chance(2),
            faults: Vec::with_capacity(16),
            healed: 0,
            allowance: 0,
            started_together: None,
        };
        history.plan(chance);
        history
    }

    fn plan(&mut self, chance: &mut Random) {
        let mut now = self.starts(chance);
        for _ in 0..chance.range(0, 6) {
            now += match chance.range(0, 3) {
                0 => chance.range(0, self.pace.0),
                1 => chance.range(0, self.pace.1),
                _ => chance.range(self.pace.1, 3 * self.pace.1),
            };
            self.something(now, chance);
        }
        let last = self.faults.iter().map(|&(at, _)| at).max().unwrap_or(0);
        self.healed = last + chance.range(0, self.pace.1);
        self.faults.sort_by_key(|&(at, _)| at);
    }

    /// The two starts, and when the first fault may come.
    fn starts(&mut self, chance: &mut Random) -> Millis {
        let first = chance.node();
        let apart = match chance.range(0, 3) {
            0 => 0,
            1 => chance.range(0, self.pace.0),
            2 => chance.range(0, self.pace.1),
            _ => chance.range(self.pace.1, 3 * self.pace.1),
        };
        self.push(0, Fault::Start(first), u32::from(self.forced == Some(first)));
        self.push(apart, Fault::Start(1 - first), 1 + u32::from(self.forced.is_some()));
        let settled = apart + chance.range(0, 2 * self.pace.1);
        let together = apart + self.pace.0 + 3 * self.delay + 10 < self.pace.1;
        self.started_together = (together && self.forced.is_none()).then_some(settled);
        settled
    }

    fn push(&mut self, at: Millis, fault: Fault, allowance: u32) {
        self.faults.push((at, fault));
        self.allowance += allowance;
    }

    fn something(&mut self, now: Millis, chance: &mut Random) {
        if matches!(self.kind, Kind::Mixed(_)) {
            return self.something_an_original_knows(now, chance);
        }
        let node = chance.node();
        let end = now + self.some_time(chance);
        match chance.range(0, 15) {
            0 | 1 => self.crash(now, end, node),
            2 => self.pause(Fault::Freeze(node), now, end, node),
            3 => self.pause(Fault::Suspend(node), now, end, node),
            4 => self.cut(now, end, chance),
            5 => self.partition(now, end),
            6 => {
                let percent = chance.range(5, 90);
                self.push(now, Fault::Loss(percent), self.disorder(now, end));
                self.push(end, Fault::Loss(0), 0);
            }
            7 => {
                let longest = chance.range(self.delay, self.pace.0 * 2);
                self.push(now, Fault::Slow(longest), self.disorder(now, end));
                self.push(end, Fault::Slow(0), 0);
                self.push(end + longest, Fault::Calm, 0);
            }
            8 => self.flap(now, end, chance),
            9 | 10 => self.push(now, Fault::ServiceDies(node), 2),
            11 => self.push(now, Fault::NeverReady(node), 2),
            12 => self.push(now, Fault::SlowStop(node), 0),
            13 => self.push(now, Fault::Handover, 2),
            14 => {
                self.push(now, Fault::Terminate { active: chance.chance(80) }, 2);
                if chance.chance(20) {
                    let again = now + chance.range(0, 1_000);
                    self.push(again, Fault::Terminate { active: true }, 2);
                }
            }
            _ => self.edit(now, end, chance),
        }
    }

    fn something_an_original_knows(&mut self, now: Millis, chance: &mut Random) {
        let node = chance.node();
        let end = now + self.some_time(chance);
        match chance.range(0, 5) {
            0 | 1 => self.crash(now, end, node),
            2 => self.partition(now, end),
            3 => self.push(now, Fault::ServiceDies(node), 3),
            4 => self.push(now, Fault::Handover, 2),
            _ => self.push(now, Fault::Terminate { active: chance.chance(80) }, 2),
        }
    }

    fn some_time(&self, chance: &mut Random) -> Millis {
        match chance.range(0, 2) {
            0 => chance.range(1, self.pace.0),
            1 => chance.range(self.pace.0, self.pace.1),
            _ => chance.range(self.pace.1, 3 * self.pace.1),
        }
    }

    /// In disorder each deadtime may bring a tie, and its end.
    fn disorder(&self, now: Millis, end: Millis) -> u32 {
        2 + 2 * u32::try_from((end - now) / self.pace.0).unwrap()
    }

    fn crash(&mut self, now: Millis, end: Millis, node: usize) {
        self.push(now, Fault::Crash(node), 1);
        self.push(end, Fault::Start(node), 1);
    }

    fn pause(&mut self, fault: Fault, now: Millis, end: Millis, node: usize) {
        self.push(now, fault, 2);
        self.push(end, Fault::Resume(node), 0);
    }

    fn cut(&mut self, now: Millis, end: Millis, chance: &mut Random) {
        let sender = chance.node();
        for path in 0..self.paths {
            if chance.chance(80) {
                self.push(now, Fault::Cut(sender, path), 1);
                self.push(end, Fault::Mend(sender, path), 0);
            }
        }
    }

    fn partition(&mut self, now: Millis, end: Millis) {
        for (sender, path) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
            if path < self.paths {
                self.push(now, Fault::Cut(sender, path), 0);
                self.push(end, Fault::Mend(sender, path), 0);
            }
        }
        self.allowance += 2;
    }

    fn flap(&mut self, now: Millis, end: Millis, chance: &mut Random) {
        let node = chance.node();
        let nic = chance.pick(&[0, self.paths - 1]);
        self.push(now, Fault::LinkDown(node, nic), 1);
        self.push(end, Fault::LinkUp(node, nic), 1);
    }

    /// Somebody edits lvs.cf; the other node gets it later.
    fn edit(&mut self, now: Millis, later: Millis, chance: &mut Random) {
        let first = chance.node();
        match chance.range(0, 2) {
            0 => {
                let keepalive = chance.pick(&[250, 500, 1000, 2000]);
                let deadtime = keepalive * chance.range(3, 5);
                self.push(now, Fault::Timing(first, keepalive, deadtime), 1);
                self.push(later, Fault::Timing(1 - first, keepalive, deadtime), 1);
                self.pace = (self.pace.0.max(keepalive), self.pace.1.max(deadtime));
            }
            1 => {
                self.push(now, Fault::Swap(first), 1);
                self.push(later, Fault::Swap(1 - first), 1);
            }
            _ => {
                self.push(now, Fault::Partner(first, false), 1);
                self.push(later, Fault::Partner(1 - first, false), 1);
                let back = later + self.some_time(chance);
                self.push(back, Fault::Partner(first, true), 1);
                self.push(back + self.some_time(chance), Fault::Partner(1 - first, true), 1);
            }
        }
    }
}
