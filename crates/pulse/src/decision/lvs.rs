//! What heartbeats, silence, links and failures do.

use super::partner::Says;
use super::state::{Failure, News, Phase, Standby, State};
use super::{ACTIVATION_LIMIT, Action, Leave, Millis, STOP_LIMIT, Text, Turn};
use crate::wire::{INCOMPATIBLE, Message, Role, Word};
use log::Level;
use lvs_config::ServiceKind;

/// The "active" of a partner that takes over at once is not taken for good health of the pair: a
/// failure stands for this long at least. So two nodes that both fail do not play ball.
const FAILURE_STANDS: Millis = 1_000;

/// What a node does about what it learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reaction {
    Nothing,
    /// Become active; the words say why.
    Activate(&'static str),
    /// Stay active, and tell the network again where the addresses are.
    ResendArps,
    /// Leave the service to the partner.
    GiveWay,
}

/// The table of the heartbeat. A tie is won by the master; nobody takes back. When the partner's
/// "inactive" and its silence become news that count, `State::takes_over_at` says.
fn reaction(role: Role, serves: bool, news: News) -> Reaction {
    use Reaction::{Activate, GiveWay, Nothing, ResendArps};
    use Role::{Backup, Master};
    match (role, serves, news) {
        (Master, true, News::Active) => ResendArps,
        (Master, true, News::Inactive) => Nothing,
        (Master, true, News::Silent) => Nothing,

        (Master, false, News::Active) => Nothing,
        (Master, false, News::Inactive) => Activate("backup inactive"),
        (Master, false, News::Silent) => Activate("partner dead"),

        (Backup, true, News::Active) => GiveWay,
        (Backup, true, News::Inactive) => Nothing,
        (Backup, true, News::Silent) => Nothing,

        (Backup, false, News::Active) => Nothing,
        (Backup, false, News::Inactive) => Activate("primary inactive"),
        (Backup, false, News::Silent) => Activate("partner dead"),

        (Master, false, News::Alone) => Activate("no partner configured"),
        (Master, true, News::Alone) => Nothing,
        (Backup, _, News::Alone) => Nothing,
    }
}

impl State {
    fn role_in_a_tie(&self) -> Role {
        if self.leads() { Role::Master } else { Role::Backup }
    }

    /// Words for the log where the nodes' files cannot be the same.
    fn files_differ(&self) -> Option<&'static str> {
        let theirs = self.partner.extra.as_ref()?;
        if theirs.role == self.settings.role {
            return Some("both nodes have the same role: their lvs.cf differ");
        }
        let ours = u32::try_from(self.settings.keepalive).ok()?;
        (theirs.keepalive_ms != ours).then_some("the nodes' keepalive differs: their lvs.cf differ")
    }

    /// What a word means; the outer none: it is of another service, the inner: a mere sign of life.
    #[allow(clippy::option_option, reason = "both are told apart by the only caller")]
    fn meaning(&self, word: Word) -> Option<Option<Says>> {
        match (word, self.settings.service) {
            (Word::Active, ServiceKind::Lvs) | (Word::FosActive, ServiceKind::Fos) => {
                Some(Some(Says::Active))
            }
            (Word::Inactive, ServiceKind::Lvs) | (Word::FosInactive, ServiceKind::Fos) => {
                Some(Some(Says::Inactive))
            }
            (Word::TakeControl, ServiceKind::Fos) => Some(Some(Says::TakesControl)),
            (Word::Hold | Word::Held, _) => Some(None),
            _ => None,
        }
    }
}

impl Turn {
    /// A heartbeat of the partner.
    pub(super) fn heard(&mut self, message: Message) {
        let expected = self.state.settings.partner && self.state.phase != Phase::New;
        if !expected || self.state.partner.is_stale(&message) {
            return;
        }
        let Some(says) = self.state.meaning(message.word) else {
            if !std::mem::replace(&mut self.state.mismatch, true) {
                self.log(Level::Warn, INCOMPATIBLE);
            }
            return;
        };
        self.note(message, says);
        self.heard_while_isolated();
        match says {
            Some(Says::Active) => self.heard_active(),
            Some(Says::TakesControl) => self.told_to_go_inactive(),
            Some(Says::Inactive) | None => {}
        }
    }

    fn note(&mut self, message: Message, says: Option<Says>) {
        if self.state.partner.lost {
            self.log(Level::Info, "partner heard again");
        }
        let state = &mut self.state;
        if state.partner.is_new(&message) {
            // Who has just started is to know at once what we are.
            state.send_at = self.now;
        }
        state.silence_from = self.now;
        state.forgiven = false;
        state.mismatch = false;
        let differed = state.files_differ();
        state.partner.note(message, says, self.now);
        if let Some(words) = self.state.files_differ().filter(|_| differed.is_none()) {
            self.log(Level::Warn, words);
        }
    }

    fn heard_active(&mut self) {
        self.clear_failure_by_active();
        self.end_leave(Ok("the partner is active".into()));
        if matches!(self.state.phase, Phase::HandingOver { .. }) {
            return; // it has what it is to have; see pursue_handover
        }
        let serves = self.state.phase.serves();
        match reaction(self.state.role_in_a_tie(), serves, News::Active) {
            Reaction::ResendArps => self.resend_arps(),
            Reaction::GiveWay => self.give_way(),
            Reaction::Nothing | Reaction::Activate(_) => {
                self.stand_by(self.state.partner.hands_over());
            }
        }
    }

    /// Once per heartbeat of the partner, however many copies of it come.
    fn resend_arps(&mut self) {
        let state = &mut self.state;
        let recent =
            state.arps_resent.is_some_and(|at| self.now < at + state.settings.keepalive / 2);
        if state.phase == Phase::Active && !recent {
            state.arps_resent = Some(self.now);
            self.log(Level::Warn, "partner active: resending arps");
            self.actions.push(Action::ResendArps);
        }
    }

    fn give_way(&mut self) {
        self.log_deactivation("partner active");
        // The partner, hearing this, tells the network that the addresses are there.
        self.send();
        self.stop("partner active".into(), Leave::Unsaid);
    }

    /// Takes over, if it is this node's turn.
    pub(super) fn decide(&mut self) {
        let Some((_, news)) = self.state.takes_over_at().filter(|&(at, _)| self.now >= at) else {
            return;
        };
        if let Reaction::Activate(words) = reaction(self.state.role_in_a_tie(), false, news) {
            self.activate(words);
        }
    }

    /// Brings the service up. The partner is told first.
    pub(super) fn activate(&mut self, words: &'static str) {
        self.log(Level::Warn, format!("{words}: activating {}", self.service()));
        self.end_leave(Err(format!("the partner has not taken over: {words}").into()));
        self.begin_service();
        self.state.standby = Standby::Off;
        self.state.phase = Phase::Activating { limit: self.now + ACTIVATION_LIMIT };
        self.state.since = self.now;
        self.state.reason = words.into();
        self.send();
        self.actions.push(Action::Activate);
    }

    /// The service is up.
    pub(super) fn loaded(&mut self) {
        if matches!(self.state.phase, Phase::Activating { .. }) {
            self.state.phase = Phase::Active;
        }
    }

    /// Takes the service down, whatever of it there is, and tells the partner at once.
    pub(super) fn stop(&mut self, reason: Text, leave: Leave) {
        let kept = if let Leave::ToPartner(asker) = leave { asker } else { None };
        if let Phase::HandingOver { asker, .. } = self.state.phase
            && asker != kept
        {
            self.answer(asker, Err(reason.clone()));
        }
        self.end_watch();
        if self.state.phase.serves() {
            self.state.since = self.now;
        }
        self.state.reason = reason;
        self.state.standby = Standby::Off;
        self.state.phase = Phase::Stopping { limit: self.now + STOP_LIMIT, stuck: false };
        if let Leave::ToPartner(asker) = leave {
            self.leave_to_partner(asker);
        }
        self.actions.push(Action::Deactivate);
        self.send();
    }

    /// Nothing runs any more.
    pub(super) fn stopped(&mut self) {
        if !matches!(self.state.phase, Phase::Stopping { .. }) {
            return;
        }
        if self.state.leaving {
            self.send();
            self.exit(0);
        } else {
            self.state.phase = Phase::Inactive;
            self.state.free_since = self.now;
        }
    }

    /// Words for the log about a deactivation, in capitals as ever.
    pub(super) fn log_deactivation(&mut self, cause: &str) {
        let service = if self.state.is_fos() { "FOS" } else { "LVS" };
        self.log(Level::Warn, format!("{cause}: deactivating {service}"));
    }

    /// lvsd has ended by itself, or did not come up.
    pub(super) fn lvsd_failed(&mut self, words: String) {
        match self.state.phase {
            Phase::New | Phase::Stopping { .. } | Phase::Gone => {}
            Phase::Inactive => {
                self.log(Level::Error, words.clone());
                self.fail(words);
                self.drop_standby();
                self.send();
            }
            Phase::Activating { .. } | Phase::Active | Phase::HandingOver { .. } => {
                self.log(Level::Error, words.clone());
                self.fail_active(words);
            }
        }
    }

    fn fail(&mut self, words: String) {
        self.state.failure = Some(Failure { words: words.into(), at: self.now });
    }

    fn fail_active(&mut self, words: String) {
        self.log_deactivation("child failure");
        self.fail(words.clone());
        self.stop(words.into(), Leave::Unsaid);
    }

    fn clear_failure_by_active(&mut self) {
        let stands = self.state.settings.keepalive.max(FAILURE_STANDS);
        if self.state.failure.as_ref().is_some_and(|failure| self.now >= failure.at + stands) {
            self.log(Level::Info, "partner active: this node can take over again");
            self.clear_failure();
        }
    }

    fn clear_failure(&mut self) {
        self.state.failure = None;
        self.state.partner.gave_up = false;
        self.state.free_since = self.now;
    }

    /// Nobody else has become active since the failure.
    pub(super) fn retry(&mut self) {
        let due = self.state.retry_at().is_some_and(|at| self.now >= at);
        if due && self.state.phase == Phase::Inactive {
            self.log(Level::Warn, "nobody is active: this node is going to try again");
            self.clear_failure();
        }
    }

    /// What was asked of the daemon and has not come.
    pub(super) fn limits(&mut self) {
        match self.state.phase {
            Phase::Activating { limit } if self.now >= limit => {
                let seconds = ACTIVATION_LIMIT / 1000;
                let words = format!("{} is not up after {seconds} seconds", self.service());
                self.log(Level::Error, words.clone());
                self.fail_active(words);
            }
            Phase::Stopping { limit, .. } if self.now >= limit => self.stuck(),
            _ => {}
        }
    }

    fn stuck(&mut self) {
        let seconds = STOP_LIMIT / 1000;
        let words = format!("{} is not stopped after {seconds} seconds", self.service());
        self.log(Level::Error, words);
        if self.state.leaving {
            self.send();
            self.exit(1);
        } else {
            self.state.phase = Phase::Stopping { limit: self.now + STOP_LIMIT, stuck: true };
            self.send();
        }
    }

    /// Notices, once, that the partner is silent.
    pub(super) fn notice_silence(&mut self) {
        let state = &mut self.state;
        if state.settings.partner && !state.partner.lost && self.now >= state.silent_at() {
            state.partner.lost = true;
            state.partner.forget();
            if state.takes_over_at().is_none() {
                self.log(Level::Warn, "partner not heard for deadtime");
            }
        }
    }

    /// A watched link has lost its carrier.
    pub(super) fn link_down(&mut self) {
        if !std::mem::replace(&mut self.state.links_up, false) || !self.state.settings.partner {
            return;
        }
        self.log(Level::Error, "Local NIC link failure: Pulse disabled");
        if !self.state.phase.serves() {
            self.drop_standby();
            self.send();
        }
    }

    /// A node that is cut off leaves the service to the partner.
    pub(super) fn obey_links(&mut self) {
        if !self.state.link_failed() {
            return;
        }
        if self.state.phase.serves() {
            self.log_deactivation("local link failure");
            self.stop("local link failure".into(), Leave::ToPartner(None));
        } else if self.state.phase == Phase::Inactive {
            self.end_watch();
        }
    }

    /// All watched links are back. What the partner said before may have changed unheard.
    pub(super) fn links_up(&mut self) {
        if !std::mem::replace(&mut self.state.links_up, true) && self.state.settings.partner {
            self.log(Level::Info, "Local NIC link(s) restored: Pulse enabled");
            self.hear_anew();
            self.send();
        }
    }

    /// Begins to listen to the partner as if just started.
    pub(super) fn hear_anew(&mut self) {
        self.state.silence_from = self.now;
        self.state.free_since = self.now;
        self.state.partner.lost = false;
        self.state.partner.forget();
    }
}
