//! The daemon around a decision: it does what it is told, and takes its time.

use crate::checker::PROBE;
use crate::node::{Brain, News, Pause, Service, What};
use crate::telling::told;
use crate::world::World;
use pulse::decision::{Action, Event, step};
use pulse::wire::{self, Message};

impl World {
    pub(crate) fn feed(&mut self, node: usize, event: Event) {
        let it = &mut self.nodes[node];
        if it.pause != Pause::No || !matches!(it.brain, Brain::Ours(_)) {
            return;
        }
        let Brain::Ours(state) = std::mem::replace(&mut it.brain, Brain::None) else { return };
        let words = self.trace.is_some().then(|| told(&event));
        let (state, actions) = step(state, event, self.now);
        let it = &mut self.nodes[node];
        it.wake = state.deadline().map(|at| at + it.lateness);
        it.brain = Brain::Ours(state);
        if let Some(words) = words {
            self.tell_step(node, &words, &actions);
        }
        for action in actions {
            self.act(node, action);
        }
    }

    fn act(&mut self, node: usize, action: Action) {
        match action {
            Action::Send(message) => self.send(node, &message),
            Action::Activate => self.activate(node),
            Action::Deactivate => self.deactivate(node),
            Action::Prepare => self.prepare(node),
            Action::Unprepare => {
                self.nodes[node].generation += 1;
                self.nodes[node].service = Service::Off;
            }
            Action::Restart | Action::ResendArps => {}
            Action::StartMonitor => {
                self.nodes[node].watch += 1;
                self.nodes[node].monitoring = true;
                let generation = self.nodes[node].watch;
                self.schedule(300, node, What::Monitor { generation, misses: 0 });
            }
            Action::StopMonitor => {
                self.nodes[node].watch += 1;
                self.nodes[node].monitoring = false;
            }
            Action::ProbeGateway => {
                let (generation, delay) = (self.nodes[node].watch, self.chance.range(5, PROBE));
                self.schedule(delay, node, What::Gateway { generation });
            }
            Action::Log(_, words) => self.count(&words),
            Action::Answer(..) => self.checker.answered(node),
            Action::Exit(_) => {
                if self.nodes[node].service != Service::Off {
                    self.checker.break_rule("exits while something runs");
                }
                if self.checker.asked_of(node) {
                    self.checker.break_rule("i: exits without an answer");
                }
                self.fall(node);
            }
        }
    }

    fn activate(&mut self, node: usize) {
        let delay = match (self.nodes[node].service, self.history.standby_checks) {
            (Service::Standby, _) | (_, true) => self.chance.range(1, 30),
            _ => self.chance.range(20, 600),
        };
        let it = &mut self.nodes[node];
        if !matches!(it.service, Service::Off | Service::Standby) || it.monitoring {
            self.checker.break_rule("activates while something runs");
            return;
        }
        it.service = Service::Starting;
        it.addresses = self.history.hasty;
        it.activations += 1;
        it.generation += 1;
        let generation = it.generation;
        let never = std::mem::take(&mut it.never_ready);
        let (delay, news) = if never { (10_000, News::Failed) } else { (delay, News::Loaded) };
        self.schedule(delay, node, What::Service { generation, news });
    }

    fn deactivate(&mut self, node: usize) {
        let Brain::Ours(state) = &self.nodes[node].brain else { return };
        let reason = state.reason();
        if reason.starts_with("handed over") || reason.starts_with("terminated") {
            self.checker.leaves(node, &self.nodes, self.now);
        }
        let longest = match self.nodes[node].service {
            Service::Off => 3,
            _ if std::mem::take(&mut self.nodes[node].slow_stop) => 5_000,
            _ => 300,
        };
        let delay = self.chance.range(longest / 3, longest);
        let it = &mut self.nodes[node];
        it.addresses = false;
        it.service = Service::Stopping;
        it.generation += 1;
        let generation = it.generation;
        self.schedule(delay, node, What::Service { generation, news: News::Stopped });
    }

    fn prepare(&mut self, node: usize) {
        let longest = if self.history.standby_checks { 100 } else { 5_200 };
        let delay = self.chance.range(longest / 20, longest);
        let it = &mut self.nodes[node];
        it.service = Service::Standby;
        it.generation += 1;
        let generation = it.generation;
        if !std::mem::take(&mut it.never_ready) {
            self.schedule(delay, node, What::Service { generation, news: News::Prepared });
        } else if delay.is_multiple_of(2) {
            self.schedule(3_000, node, What::Service { generation, news: News::Failed });
        } // else nothing is heard of it
    }

    pub(crate) fn send(&mut self, node: usize, message: &Message) {
        let message = if self.history.on_the_wire {
            wire::decode(&wire::encode(message)).unwrap()
        } else {
            message.clone()
        };
        for path in 0..self.history.paths {
            let lost = self.network.cut[node][path]
                || !self.nodes[node].carrier[path]
                || (self.network.loss > 0 && self.chance.chance(self.network.loss));
            if lost {
                continue;
            }
            let longest = self.history.delay.max(self.network.slow);
            let delay = self.chance.range(1, longest);
            let copies = if self.network.slow > 0 && self.chance.chance(10) { 2 } else { 1 };
            for copy in 0..copies {
                let what = What::Datagram { path, message: message.clone() };
                self.schedule(delay * (copy + 1) / copies, 1 - node, what);
            }
        }
    }
}
