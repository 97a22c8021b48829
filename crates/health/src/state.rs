//! The state of one monitored server: verdicts go in, up or down and a weight come out. No clock
//! and no I/O: times are given.

use crate::load;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// From one step of a growing weight to the next.
pub const STEP: Duration = Duration::from_secs(20);
/// A server enters with this part of its weight.
const ENTRY_PART: u32 = 32;

/// What a block says about its servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Checks in a row that a server which was up must pass to come back; at least 1.
    pub reentry: u32,
    /// A failed server stays in the table with weight 0.
    pub quiesce: bool,
    /// Most that load monitoring makes of a weight, as a factor.
    pub scale: u32,
}

impl Policy {
    /// The number of checks that make up the re-entry time: `reentry` and `interval` in seconds.
    #[must_use]
    pub fn reentry_checks(reentry: u32, interval: u32) -> u32 {
        (reentry / interval.max(1)).max(1)
    }
}

/// What an operator has ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Force {
    /// The checks decide.
    #[default]
    Auto,
    /// Up whatever the checks find.
    Up,
    /// Down whatever the checks find.
    Down,
    /// No new connections whatever the checks find: weight 0, so that those there are can end.
    Drain,
}

/// What the checks have found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// No check has ended yet.
    Unknown,
    /// The server answers.
    Up,
    /// It does not, or not for long enough.
    Down,
}

/// One server's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    health: Health,
    force: Force,
    /// Whether a check has ever succeeded: from then on a return takes `reentry` checks.
    succeeded: bool,
    /// Whether the server has been in the table.
    entered: bool,
    /// Successes in a row while down.
    streak: u32,
    /// Configured weight.
    weight: u32,
    /// Weight in force while up.
    current: u32,
    /// When the weight takes its next step; `None` when it is at its end.
    step_at: Option<Instant>,
}

impl Server {
    /// A server that nothing is known of.
    #[must_use]
    pub fn new(weight: u32) -> Server {
        Server {
            health: Health::Unknown,
            force: Force::Auto,
            succeeded: false,
            entered: false,
            streak: 0,
            weight,
            current: 0,
            step_at: None,
        }
    }

    /// A server whose state before this process is known: up or down, and the weight it had in the
    /// table, from which it goes on growing.
    #[must_use]
    pub fn known(weight: u32, up: bool, standing: Option<u32>, now: Instant) -> Server {
        let current = standing.filter(|_| up).unwrap_or(weight).min(weight);
        Server {
            health: if up { Health::Up } else { Health::Down },
            succeeded: up,
            entered: standing.is_some(),
            current,
            step_at: (up && current < weight).then(|| now + STEP),
            ..Server::new(weight)
        }
    }

    /// What the checks have found.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health
    }

    /// What an operator has ordered.
    #[must_use]
    pub fn forced(&self) -> Force {
        self.force
    }

    /// Whether the server is to serve.
    #[must_use]
    pub fn is_up(&self) -> bool {
        match self.force {
            Force::Auto => self.health == Health::Up,
            Force::Up => true,
            Force::Down | Force::Drain => false,
        }
    }

    /// The weight to stand in the table, `None`: not in the table.
    #[must_use]
    pub fn standing(&self, policy: &Policy) -> Option<u32> {
        if self.is_up() {
            Some(self.current)
        } else {
            let stays = policy.quiesce || self.force == Force::Drain;
            (stays && self.entered).then_some(0)
        }
    }

    /// When [`Server::step`] is due.
    #[must_use]
    pub fn step_at(&self) -> Option<Instant> {
        self.step_at
    }

    /// Takes in the end of a check.
    pub fn verdict(&mut self, policy: &Policy, passed: bool, now: Instant) {
        let was_up = self.is_up();
        match (passed, self.health) {
            (false, _) => (self.health, self.streak) = (Health::Down, 0),
            (true, Health::Up) => {}
            (true, _) => {
                self.streak += 1;
                if !self.succeeded || self.streak >= policy.reentry {
                    self.health = Health::Up;
                }
                self.succeeded = true;
            }
        }
        self.after(was_up, now);
    }

    /// Takes in an operator's order.
    pub fn force(&mut self, force: Force, now: Instant) {
        let was_up = self.is_up();
        self.force = force;
        self.after(was_up, now);
    }

    /// Takes in a change of the configured weight: a weight at its end follows at once, a growing
    /// one goes on towards the new end.
    pub fn set_weight(&mut self, weight: u32) {
        let settled = self.step_at.is_none();
        self.weight = weight;
        self.current = if settled { weight } else { self.current.min(weight) };
        if self.current == weight {
            self.step_at = None;
        }
    }

    /// The next step of the weight, due every [`STEP`] while the server is up: doubled until it is
    /// the configured one.
    pub fn step(&mut self, now: Instant) {
        if !self.is_up() || self.current >= self.weight {
            self.step_at = None;
            return;
        }
        self.current = self.current.saturating_mul(2).clamp(1, self.weight);
        self.step_at = (self.current < self.weight).then(|| now + STEP);
    }

    /// Takes in a load, at the pace of [`STEP`]: once the weight has grown to the configured one, it
    /// follows the load.
    pub fn load(&mut self, policy: &Policy, load: f64) {
        if self.is_up() && self.step_at.is_none() {
            self.current = load::adjust(self.weight, self.current, policy.scale, load);
        }
    }

    fn after(&mut self, was_up: bool, now: Instant) {
        match (was_up, self.is_up()) {
            (false, true) => {
                self.entered = true;
                self.current = (self.weight / ENTRY_PART).max(1).min(self.weight);
                self.step_at = (self.current < self.weight).then(|| now + STEP);
            }
            (true, false) => self.step_at = None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POLICY: Policy = Policy { reentry: 3, quiesce: false, scale: 10 };

    /// Feeds verdicts (`+` passed, `-` failed) and returns what stood in the table after each:
    /// `.` nothing, a digit the weight.
    fn history(policy: &Policy, weight: u32, verdicts: &str) -> String {
        let now = Instant::now();
        let mut server = Server::new(weight);
        verdicts
            .chars()
            .map(|c| {
                server.verdict(policy, c == '+', now);
                server.standing(policy).map_or(".".to_owned(), |w| w.to_string())
            })
            .collect()
    }

    #[test]
    fn in_and_out_of_the_table() {
        let quiesce = Policy { quiesce: true, ..POLICY };
        let once = Policy { reentry: Policy::reentry_checks(5, 10), ..POLICY };
        let cases = [
            (&POLICY, "+", "1", "the first success is enough"),
            (&POLICY, "---+", "...1", "also after failures"),
            (&POLICY, "+-", "1.", "one failure is enough"),
            (&POLICY, "+-+++", "1...1", "a return takes three"),
            (&POLICY, "+-++-+++", "1......1", "in a row"),
            (&quiesce, "-+-+++", ".10001", "quiesced: stays with weight 0, once it was in"),
            (&once, "+-+", "1.1", "a re-entry time shorter than the interval is one check"),
        ];
        for (policy, verdicts, want, why) in cases {
            assert_eq!(history(policy, 1, verdicts), want, "{why}");
        }
        assert_eq!(Policy::reentry_checks(180, 10), 18);
        assert_eq!(Policy::reentry_checks(15, 10), 1);
        assert_eq!(Policy::reentry_checks(180, 0), 180);
    }

    #[test]
    fn weights_grow_by_doubling() {
        let start = Instant::now();
        let mut server = Server::new(100);
        server.verdict(&POLICY, true, start);
        let mut seen = vec![server.standing(&POLICY).unwrap()];
        let mut now = start;
        while let Some(at) = server.step_at() {
            assert_eq!(at, now + STEP);
            now = at;
            server.step(now);
            seen.push(server.standing(&POLICY).unwrap());
        }
        assert_eq!(seen, [3, 6, 12, 24, 48, 96, 100]);
        for (weight, entry) in [(0, 0), (1, 1), (31, 1), (64, 2)] {
            let mut server = Server::new(weight);
            server.verdict(&POLICY, true, start);
            assert_eq!(server.standing(&POLICY), Some(entry));
        }
    }

    #[test]
    fn a_new_weight_counts_at_once_or_as_the_new_end() {
        let now = Instant::now();
        let mut settled = Server::known(10, true, Some(10), now);
        settled.set_weight(4);
        assert_eq!(settled.standing(&POLICY), Some(4));
        let mut growing = Server::new(100);
        growing.verdict(&POLICY, true, now);
        growing.set_weight(200);
        assert_eq!(growing.standing(&POLICY), Some(3));
        growing.set_weight(2);
        assert_eq!((growing.standing(&POLICY), growing.step_at()), (Some(2), None));
        let mut down = Server::known(10, false, None, now);
        down.set_weight(20);
        assert_eq!(down.standing(&POLICY), None);
    }

    #[test]
    fn a_state_is_taken_over() {
        let now = Instant::now();
        let growing = Server::known(100, true, Some(12), now);
        assert_eq!((growing.standing(&POLICY), growing.step_at()), (Some(12), Some(now + STEP)));
        let quiesce = Policy { quiesce: true, ..POLICY };
        assert_eq!(Server::known(100, false, Some(0), now).standing(&quiesce), Some(0));
        assert_eq!(Server::known(100, false, None, now).standing(&quiesce), None);
    }

    #[test]
    fn an_operator_overrules_the_checks_and_lets_go() {
        let now = Instant::now();
        let mut server = Server::known(1, true, Some(1), now);
        server.force(Force::Down, now);
        server.verdict(&POLICY, true, now);
        assert_eq!(server.standing(&POLICY), None);
        server.force(Force::Auto, now);
        assert_eq!(server.standing(&POLICY), Some(1));
        server.verdict(&POLICY, false, now);
        server.force(Force::Up, now);
        server.verdict(&POLICY, false, now);
        assert_eq!(server.standing(&POLICY), Some(1));
        server.force(Force::Auto, now);
        assert_eq!(server.standing(&POLICY), None);
    }

    #[test]
    fn a_drained_server_keeps_its_connections() {
        let now = Instant::now();
        let mut server = Server::known(4, true, Some(4), now);
        server.force(Force::Drain, now);
        server.verdict(&POLICY, true, now);
        assert_eq!((server.is_up(), server.standing(&POLICY)), (false, Some(0)));
        let mut never_in = Server::new(4);
        never_in.force(Force::Drain, now);
        assert_eq!(never_in.standing(&POLICY), None);
    }

    #[test]
    fn a_load_counts_once_the_weight_has_grown() {
        let now = Instant::now();
        let mut server = Server::new(64);
        server.verdict(&POLICY, true, now);
        server.load(&POLICY, 0.0);
        assert_eq!(server.standing(&POLICY), Some(2));
        let mut server = Server::known(64, true, Some(64), now);
        server.load(&POLICY, 0.0);
        assert_eq!(server.standing(&POLICY), Some(96));
        server.load(&POLICY, 100.0);
        assert_eq!(server.standing(&POLICY), Some(64));
    }

    proptest! {
        #[test]
        fn whatever_happens_weight_and_presence_stay_in_bounds(
            weight in 0u32..70_000,
            quiesce: bool,
            reentry in 1u32..5,
            events in proptest::collection::vec(0u8..9, 0..60),
        ) {
            let policy = Policy { reentry, quiesce, scale: 10 };
            let now = Instant::now();
            let mut server = Server::new(weight);
            for event in events {
                match event {
                    0 | 1 => server.verdict(&policy, true, now),
                    2 => server.verdict(&policy, false, now),
                    3 => server.step(now),
                    4 => server.load(&policy, 0.1),
                    5 => server.force(Force::Auto, now),
                    6 => server.force(Force::Up, now),
                    7 => server.force(Force::Drain, now),
                    _ => server.force(Force::Down, now),
                }
                match server.standing(&policy) {
                    Some(w) if server.is_up() => prop_assert!(w <= weight * 10 && (w > 0) == (weight > 0)),
                    Some(w) => prop_assert!(w == 0 && (quiesce || server.forced() == Force::Drain)),
                    None => prop_assert!(!server.is_up()),
                }
                prop_assert!(server.step_at().is_none() || server.is_up());
            }
        }
    }
}
