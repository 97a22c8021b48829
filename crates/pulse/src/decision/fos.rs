//! What is particular to fos: the services are the two nodes' own, and the inactive node watches
//! those of the partner by `fos --monitor`.

use super::partner::Says;
use super::state::{Phase, State};
use super::{Action, Leave, Millis, RETRY, Turn};
use log::Level;

/// Between two starts of a program that ends at once.
const PAUSE: Millis = 1_000;
/// A gateway that the daemon has not told of by then does not answer.
const PROBE_LIMIT: Millis = 15_000;

/// The programs of fos: the monitor of an inactive node, the services of an active one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Watch {
    /// No monitor; it may be started from this time on.
    Off { from: Millis },
    /// The monitor runs.
    Running,
    /// The monitor has found the service dead. Or is it our own network?
    Probing { limit: Millis },
    /// The partner is told to go inactive.
    Taking { until: Millis },
    /// Our own network is dead. A heartbeat ends that, or the gateway, which is asked again.
    Isolated { probe_at: Millis },
    /// Active: `fos --active` runs since.
    Serving { since: Millis },
    /// Active: `fos --active` has ended soon after its start, and is run again at this time.
    Restarting { at: Millis },
}

impl Watch {
    /// Whether it is not known that this node's own network works.
    pub(super) fn doubts_network(self) -> bool {
        matches!(self, Watch::Probing { .. } | Watch::Isolated { .. })
    }
}

impl State {
    pub(super) fn watch_deadline(&self) -> Option<Millis> {
        match self.watch {
            Watch::Off { from } => self.wants_monitor().then_some(from),
            Watch::Probing { limit: at }
            | Watch::Taking { until: at }
            | Watch::Isolated { probe_at: at }
            | Watch::Restarting { at } => Some(at),
            Watch::Running | Watch::Serving { .. } => None,
        }
    }

    /// An inactive node that can see somebody to watch.
    fn wants_monitor(&self) -> bool {
        self.is_fos()
            && self.phase == Phase::Inactive
            && self.settings.partner
            && !self.link_failed()
    }

    /// The partner has had time to start its services.
    fn partner_is_settled(&self, now: Millis) -> bool {
        let since = self.partner.since.unwrap_or(now);
        self.partner.says == Some(Says::Active) && now >= since + self.settings.deadtime
    }
}

impl Turn {
    /// fos has ended by itself.
    pub(super) fn fos_ended(&mut self, words: String) {
        match self.state.phase {
            Phase::Inactive => self.monitor_ended(words),
            Phase::Activating { .. } | Phase::Active => self.services_ended(words),
            _ => {}
        }
    }

    /// The services of an active node are started again, but not in a tight loop.
    fn services_ended(&mut self, words: String) {
        self.log(Level::Warn, words);
        self.log(Level::Warn, "fos process exited -- restarting it");
        let since = match self.state.watch {
            Watch::Serving { since } => since,
            _ => self.now,
        };
        let at = since + PAUSE;
        if self.now >= at {
            self.restart_services();
        } else {
            self.state.watch = Watch::Restarting { at };
        }
    }

    fn restart_services(&mut self) {
        self.state.watch = Watch::Serving { since: self.now };
        self.actions.push(Action::Restart);
    }

    fn monitor_ended(&mut self, words: String) {
        if self.state.watch != Watch::Running {
            return;
        }
        self.log(Level::Warn, words);
        if self.state.partner_is_settled(self.now) {
            self.state.watch = Watch::Probing { limit: self.now + PROBE_LIMIT };
            self.actions.push(Action::ProbeGateway);
        } else {
            // Nobody serves yet, or has only begun to: the heartbeat decides who is to.
            self.rest();
        }
    }

    /// Whether the default gateway answers.
    pub(super) fn gateway(&mut self, answers: bool) {
        match (self.state.watch, answers) {
            (Watch::Probing { .. }, true) => self.take_control(),
            (Watch::Probing { .. }, false) => {
                self.log(Level::Warn, "remote service unavailable; gateway unavailable");
                self.state.watch = Watch::Isolated { probe_at: self.now + self.probe_interval() };
            }
            (Watch::Isolated { .. }, true) => {
                self.network_is_back();
                self.hear_anew();
            }
            _ => {}
        }
    }

    fn probe_interval(&self) -> Millis {
        self.state.settings.deadtime.max(RETRY)
    }

    fn take_control(&mut self) {
        if !self.state.able() || self.state.partner.says != Some(Says::Active) {
            // There is nobody to take it from: the heartbeat decides.
            return self.rest();
        }
        self.log(Level::Warn, "remote service unavailable but we can see the gateway");
        self.log(Level::Warn, "seems like a remote network fault; performing service failover");
        let settings = &self.state.settings;
        let until = self.now + settings.deadtime + 2 * settings.keepalive;
        self.state.watch = Watch::Taking { until };
        self.send();
    }

    fn network_is_back(&mut self) {
        self.log(Level::Info, "Network fault seems to be fixed");
        self.rest();
    }

    /// The monitor is started again in a moment.
    fn rest(&mut self) {
        self.state.watch = Watch::Off { from: self.now + PAUSE };
    }

    /// Any heartbeat shows that the network works.
    pub(super) fn heard_while_isolated(&mut self) {
        if matches!(self.state.watch, Watch::Isolated { .. }) {
            self.network_is_back();
        }
    }

    /// The partner takes control.
    pub(super) fn told_to_go_inactive(&mut self) {
        if self.state.phase.serves() {
            self.log(Level::Warn, "PARTNER HAS TOLD US TO GO INACTIVE!");
            self.stop("told by the partner to go inactive".into(), Leave::ToPartner(None));
        } else if self.state.is_taking_control() && !self.state.leads() {
            self.log(Level::Info, "the partner takes control as well: leaving it to the partner");
            self.rest();
        }
    }

    /// What has waited long enough.
    pub(super) fn watch_limits(&mut self) {
        match self.state.watch {
            Watch::Probing { limit } if self.now >= limit => self.gateway(false),
            Watch::Taking { until } if self.now >= until => {
                self.log(Level::Warn, "the partner does not go inactive: back to monitoring");
                self.rest();
            }
            Watch::Isolated { probe_at } if self.now >= probe_at => {
                self.state.watch = Watch::Isolated { probe_at: self.now + self.probe_interval() };
                self.actions.push(Action::ProbeGateway);
            }
            Watch::Restarting { at } if self.now >= at => self.restart_services(),
            _ => {}
        }
    }

    /// Starts the monitor of an inactive node, when it is time.
    pub(super) fn watch_partner(&mut self) {
        match self.state.watch {
            Watch::Off { from } if self.now >= from && self.state.wants_monitor() => {
                self.state.watch = Watch::Running;
                self.actions.push(Action::StartMonitor);
            }
            _ => {}
        }
    }

    /// Ends what an inactive node does to watch the partner.
    pub(super) fn end_watch(&mut self) {
        if self.state.watch == Watch::Running {
            self.actions.push(Action::StopMonitor);
        }
        self.state.watch = Watch::Off { from: self.now };
    }

    /// The services of this node are started along with its addresses.
    pub(super) fn begin_service(&mut self) {
        self.end_watch();
        if self.state.is_fos() {
            self.state.watch = Watch::Serving { since: self.now };
        }
    }
}
