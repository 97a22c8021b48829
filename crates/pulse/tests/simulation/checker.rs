//! The rules of the pair, looked at before and after every event.
//!
//! Each rule has a premise: the network has been in order, the conditions of both nodes have not
//! changed, for long enough. What is asserted under which premise stands at each rule.

use crate::history::{History, Kind};
use crate::node::{Brain, Node, Pause};
use pulse::decision::{Activity, Millis, State};
use pulse::wire::Role;

/// How long the gateway may take to answer (fos).
pub(crate) const PROBE: Millis = 1_000;

/// The network at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clean {
    /// What gets through does so in time, and what does not never does: no loss, no disorder.
    pub(crate) steady: bool,
    /// ... and everything gets through in both directions, on one path at least.
    pub(crate) joined: bool,
    /// How often a file was changed.
    pub(crate) edits: u32,
}

pub(crate) struct Checker {
    /// The first rule that was broken, in words.
    pub(crate) broken: Option<String>,
    kind: Kind,
    delay: Millis,
    /// The longest keepalive that the files have in this history.
    slowest: Millis,
    started_together: Option<Millis>,
    forced: bool,
    begin: Millis,
    /// All conditions, and since when they are so.
    conditions: ([u32; 2], Clean),
    unchanged_since: Millis,
    joined_since: Millis,
    /// Since when each node is active, and both are.
    claims: [Option<Millis>; 2],
    both_since: Option<Millis>,
    /// Since when each node has not stood still, has run with its links, and has had a partner
    /// configured.
    awake_since: [Millis; 2],
    running_since: [Millis; 2],
    paired_since: [Millis; 2],
    /// A handover, or a graceful end, with nothing wrong: when the addresses went down, by whom.
    left: Option<(Millis, usize)>,
    settled_since: Option<Millis>,
    /// Operators that wait for an answer of each node.
    questions: [u32; 2],
}

impl Checker {
    pub(crate) fn new(history: &History) -> Checker {
        Checker {
            broken: None,
            kind: history.kind,
            delay: history.delay,
            slowest: history.pace.0,
            started_together: history.started_together,
            forced: history.forced.is_some(),
            begin: 0,
            conditions: ([0; 2], Clean { steady: true, joined: true, edits: 0 }),
            unchanged_since: 0,
            joined_since: 0,
            claims: [None; 2],
            both_since: None,
            awake_since: [0; 2],
            running_since: [0; 2],
            paired_since: [0; 2],
            left: None,
            settled_since: None,
            questions: [0; 2],
        }
    }

    pub(crate) fn begin(&mut self, now: Millis) {
        self.begin = now;
        self.unchanged_since = now;
        self.joined_since = now;
        self.awake_since = [now; 2];
    }

    pub(crate) fn break_rule(&mut self, words: &str) {
        if self.broken.is_none() {
            self.broken = Some(words.to_owned());
        }
    }

    /// A node of ours starts.
    pub(crate) fn started(&mut self, node: usize, forced: bool) {
        self.claims[node] = None;
        self.left = None;
        self.forced |= forced;
    }

    pub(crate) fn asked(&mut self, node: usize) {
        self.questions[node] += 1;
    }

    pub(crate) fn answered(&mut self, node: usize) {
        if self.questions[node] == 0 {
            self.break_rule("i: an answer to nobody");
        }
        self.questions[node] = self.questions[node].saturating_sub(1);
    }

    /// Whether somebody waits for an answer.
    pub(crate) fn asked_of(&self, node: usize) -> bool {
        self.questions[node] > 0
    }

    /// A node is gone, and who waited for it notices.
    pub(crate) fn fell(&mut self, node: usize) {
        self.questions[node] = 0;
    }

    /// What a message may take, and timers may be late.
    fn way(&self) -> Millis {
        self.delay + 5
    }

    /// The keepalive in force. After a change of the files, the slowest of all counts.
    fn keepalive(&self, nodes: &[Node; 2]) -> Millis {
        if self.conditions.1.edits > 0 { self.slowest } else { nodes[0].file.keepalive }
    }

    /// The deadtime in force. Of a partner whose file has changed, an old keepalive may be known.
    fn deadtime(&self, nodes: &[Node; 2]) -> Millis {
        let edited = self.conditions.1.edits > 0;
        let known = if edited { 3 * self.slowest } else { 0 };
        nodes[0].file.deadtime.max(nodes[1].file.deadtime).max(known)
    }

    /// An original node works in whole seconds, and stands still in its activation.
    fn slack(&self) -> Millis {
        if matches!(self.kind, Kind::Mixed(_)) { 3_000 } else { 0 }
    }

    pub(crate) fn look(&mut self, nodes: &[Node; 2], clean: Clean, now: Millis) {
        self.note_conditions(nodes, clean, now);
        self.somebody_is_active(nodes, now);
        self.note_claims(nodes, now);
        self.ties_end(nodes, now);
        self.dead_links_do_not_serve(nodes);
        self.handovers_leave_no_gap(nodes, now);
    }

    fn note_conditions(&mut self, nodes: &[Node; 2], clean: Clean, now: Millis) {
        let conditions = ([nodes[0].condition(), nodes[1].condition()], clean);
        if conditions != self.conditions {
            self.conditions = conditions;
            self.unchanged_since = now;
        }
        if !clean.joined {
            self.joined_since = now;
        }
        for (it, node) in nodes.iter().zip(0..) {
            if it.pause != Pause::No {
                self.awake_since[node] = now;
            }
            if !it.runs() || it.disabled {
                self.running_since[node] = now;
            }
            if !it.file.partner {
                self.paired_since[node] = now;
            }
        }
    }

    /// Rule a. Conditions unchanged for deadtime and two keepalives: if any node is in order, one is
    /// active; exactly one, where the nodes hear each other or only one of them is in order.
    fn somebody_is_active(&mut self, nodes: &[Node; 2], now: Millis) {
        let time = self.deadtime(nodes) + 2 * self.keepalive(nodes) + 2 * self.way() + self.slack();
        let probe = if self.kind == Kind::Fos { PROBE } else { 0 };
        let (_, clean) = self.conditions;
        if now <= self.unchanged_since + time + probe || !clean.steady {
            return;
        }
        let passive = nodes.iter().any(|node| !node.file.partner);
        let healthy = nodes.iter().filter(|node| node.is_healthy()).count();
        let claims = nodes.iter().filter(|node| node.claims()).count();
        let alone = nodes.iter().any(|node| !node.runs());
        if healthy > 0 && claims == 0 {
            self.break_rule("a: nobody is active");
        }
        if claims > 1 && !passive && (clean.joined || alone) {
            self.break_rule("a: two are active");
        }
    }

    /// Who has become active since the last look, and whether it may.
    fn note_claims(&mut self, nodes: &[Node; 2], now: Millis) {
        for node in 0..2 {
            let claims = nodes[node].claims();
            if claims && self.claims[node].is_none() {
                self.nobody_takes_back(nodes, node, now);
            }
            let since = self.claims[node].filter(|_| claims);
            self.claims[node] = claims.then(|| since.unwrap_or(now));
        }
        let both = self.claims[0].is_some() && self.claims[1].is_some();
        if both && self.both_since.is_none() {
            self.nobody_joins_in(nodes, now);
        } else if let (false, Some(since)) = (both, self.both_since) {
            self.master_stays(nodes, since, now);
        }
        self.both_since = both.then(|| self.both_since.unwrap_or(now));
    }

    /// Rule d. A node that could hear an active partner for a keepalive does not become active.
    fn nobody_takes_back(&mut self, nodes: &[Node; 2], node: usize, now: Millis) {
        let time = self.keepalive(nodes) + self.way() + self.slack();
        let past = |since: Millis| now > since + time;
        let told = self.claims[1 - node].is_some_and(past) && past(self.joined_since);
        let attentive = [self.awake_since, self.paired_since].concat().into_iter().all(past);
        let bound = !nodes[node].is_original() && !self.forced && self.kind != Kind::Fos;
        if told && attentive && bound {
            self.break_rule("d: becomes active though the partner is active");
        }
    }

    /// Rule e. While nodes hear each other, and know each other for long enough, both never become
    /// active, whatever happens to either of them; nor after two starts shortly after each other.
    fn nobody_joins_in(&mut self, nodes: &[Node; 2], now: Millis) {
        let time = self.deadtime(nodes) + 2 * self.keepalive(nodes) + 2 * self.way();
        let past = |since: Millis| now > since + time;
        let known = [self.awake_since, self.running_since, self.paired_since].concat();
        let quiet = past(self.joined_since) && known.into_iter().all(past);
        let together = self.started_together.is_some_and(|end| now <= self.begin + end);
        if (quiet || together) && self.kind == Kind::Lvs {
            self.break_rule("e: both become active");
        }
    }

    /// Rule b. A tie ends within a keepalive of hearing each other.
    fn ties_end(&mut self, nodes: &[Node; 2], now: Millis) {
        let Some(since) = self.both_since else { return };
        let heard = since.max(self.unchanged_since).max(self.joined_since);
        let time = self.keepalive(nodes) + self.way() + self.slack();
        let (_, clean) = self.conditions;
        let partners = nodes.iter().all(|node| node.file.partner);
        if clean.joined && partners && now > heard + time {
            self.break_rule("b: both stay active");
        }
    }

    /// Rule c. A tie that ends in quiet leaves the master active.
    fn master_stays(&mut self, nodes: &[Node; 2], since: Millis, now: Millis) {
        // The end of the service is a change of conditions itself, at this very time.
        let quiet = since.max(self.joined_since) + self.way() < now
            && nodes.iter().all(|node| node.runs() && node.pause == Pause::No)
            && !nodes.iter().any(|node| node.disabled || failed(node) || leaves(node));
        let stayed = nodes.iter().find(|node| node.claims());
        let roles_differ = nodes[0].file.role != nodes[1].file.role;
        let lvs = self.kind == Kind::Lvs && self.conditions.1.edits == 0;
        if quiet && lvs && roles_differ && stayed.is_some_and(|n| n.file.role == Role::Backup) {
            self.break_rule("c: the backup has won a tie");
        }
    }

    /// Rule f. Whoever the partner is.
    fn dead_links_do_not_serve(&mut self, nodes: &[Node; 2]) {
        let serves = |node: &Node| {
            node.disabled && node.file.partner && node.pause == Pause::No && node.claims()
        };
        if nodes.iter().any(serves) {
            self.break_rule("f: active with a dead link");
        }
    }

    /// A node begins to leave the service to the partner, in order.
    pub(crate) fn leaves(&mut self, node: usize, nodes: &[Node; 2], now: Millis) {
        let long = self.keepalive(nodes) + self.way() + self.slack();
        let other = &nodes[1 - node];
        let past = |since: Millis| now > since + long;
        let attentive = [self.awake_since, self.paired_since].concat();
        let quiet = past(self.joined_since)
            && attentive.into_iter().all(past)
            && other.is_healthy()
            && !other.claims()
            && matches!(
                other.activity(),
                Some(Activity::Inactive | Activity::Preparing | Activity::Prepared)
            );
        self.left = (quiet && self.claims[node].is_some()).then_some((now, node));
    }

    /// Rule h. Nothing but the way of a datagram lies between the end here and the begin there.
    fn handovers_leave_no_gap(&mut self, nodes: &[Node; 2], now: Millis) {
        let Some((at, node)) = self.left else { return };
        let other = &nodes[1 - node];
        let (_, clean) = self.conditions;
        let disturbed = !clean.joined || !other.is_healthy() || nodes[node].claims();
        if disturbed || other.claims() {
            self.left = None;
        } else if now > at + self.way() + self.slack() {
            self.break_rule("h: nobody takes over what was left");
        }
    }

    /// One node is active, the other waits, and so it stays.
    pub(crate) fn is_settled(&mut self, nodes: &[Node; 2], now: Millis) -> bool {
        let still = |activity| nodes.iter().any(|node| node.activity() == Some(activity));
        let settled = still(Activity::Active)
            && still(Activity::Inactive)
            && nodes.iter().all(Node::is_healthy)
            && nodes.iter().any(|node| node.claims() && node.addresses)
            && nodes.iter().any(|node| !node.claims() && !node.addresses);
        if !settled {
            self.settled_since = None;
            return false;
        }
        let since = *self.settled_since.get_or_insert(now);
        now > since + self.deadtime(nodes) + 3 * self.keepalive(nodes) + self.slack()
    }

    /// Rule g, and that every question was answered.
    pub(crate) fn end(&mut self, activations: u32, history: &History) {
        if self.questions != [0; 2] {
            self.break_rule("i: an operator was never answered");
        }
        if activations > 1 + history.allowance {
            let words = format!("g: {activations} activations, {} faults", history.allowance);
            self.break_rule(&words);
        }
    }
}

fn state(node: &Node) -> Option<&State> {
    if let Brain::Ours(state) = &node.brain { Some(state) } else { None }
}

fn failed(node: &Node) -> bool {
    state(node).is_some_and(|state| state.failure().is_some())
}

fn leaves(node: &Node) -> bool {
    state(node).is_some_and(|state| {
        state.activity() == Activity::Leaving
            || state.message(0).extra.is_some_and(|e| e.handing_over)
    })
}
