//! Giving the service to the partner: at an operator's word, and before the end.
//!
//! The active node says so in its heartbeats. The partner makes ready (an lvsd on standby that knows
//! its servers), says that it is prepared, and waits. Then the active node takes its addresses down
//! and says "inactive"; the partner raises them.

use super::partner::PartnerState;
use super::state::{Phase, Standby};
use super::{Action, Leave, Millis, Text, Turn};
use log::Level;

/// An operator's handover waits so long for the partner: the first checks of an lvsd on standby take
/// five seconds at most.
const PATIENCE: Millis = 6_000;
/// Who is told to end has less time.
const LAST_PATIENCE: Millis = 1_500;

/// The service was left to the partner: this node does not take it back before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Left {
    pub until: Millis,
    /// The operator that waits to hear what becomes of it.
    pub asker: Option<u64>,
}

impl Turn {
    /// An operator wants the partner to take over.
    pub(super) fn handover(&mut self, asker: u64) {
        match self.refusal() {
            Some(words) => self.actions.push(Action::Answer(asker, Err(words))),
            None => {
                self.log(Level::Info, "handing over to the partner");
                self.begin_handover(PATIENCE, Some(asker));
            }
        }
    }

    fn refusal(&self) -> Option<Text> {
        let state = &self.state;
        match state.phase {
            Phase::Active => {}
            _ if state.leaving => return Some("this node is about to exit".into()),
            Phase::Activating { .. } => {
                return Some("this node is still becoming active: try again".into());
            }
            Phase::HandingOver { .. } => return Some("a handover is under way already".into()),
            Phase::New | Phase::Inactive | Phase::Stopping { .. } | Phase::Gone => {
                return Some("this node is not active".into());
            }
        }
        match state.partner_state(self.now) {
            PartnerState::None => Some("no partner is configured: backup_active is 0".into()),
            PartnerState::Unknown | PartnerState::Dead => Some("the partner is not heard".into()),
            PartnerState::Active => Some("the partner is active as well".into()),
            PartnerState::Inactive if state.partner.is_unable() => Some(self.inability()),
            PartnerState::Inactive => None,
        }
    }

    fn inability(&self) -> Text {
        let reason = self.state.partner.extra.as_ref().map_or("", |extra| &*extra.reason);
        format!("the partner cannot take over: {reason}").into()
    }

    /// A signal asks for the end.
    pub(super) fn terminate(&mut self, signal: i32) {
        let again = std::mem::replace(&mut self.state.leaving, true);
        self.log(Level::Info, format!("Terminating due to signal {signal}"));
        match self.state.phase {
            Phase::New => self.exit(0),
            Phase::Active if self.partner_can_prepare() => {
                self.begin_handover(LAST_PATIENCE, None);
            }
            Phase::HandingOver { began, limit, asker } if !again => {
                let limit = limit.min(self.now + LAST_PATIENCE);
                self.state.phase = Phase::HandingOver { began, limit, asker };
            }
            Phase::Stopping { .. } => self.send(),
            _ => self.stop(format!("terminated by signal {signal}").into(), Leave::Unsaid),
        }
    }

    /// It is there, waits, and knows what a handover is.
    fn partner_can_prepare(&self) -> bool {
        let state = &self.state;
        state.partner_state(self.now) == PartnerState::Inactive
            && state.partner.extra.is_some()
            && !state.partner.is_unable()
            && !state.is_fos()
    }

    fn begin_handover(&mut self, patience: Millis, asker: Option<u64>) {
        let limit = self.now + patience;
        self.state.phase = Phase::HandingOver { began: self.now, limit, asker };
        if self.partner_can_prepare() {
            self.send();
        }
    }

    /// Goes on with a handover, if there is one.
    pub(super) fn pursue_handover(&mut self) {
        let Phase::HandingOver { began, limit, asker } = self.state.phase else { return };
        let state = &self.state;
        let heard = state.partner.heard.is_some_and(|heard| heard > began);
        match state.partner_state(self.now) {
            // It has taken over already.
            PartnerState::Active => self.hand_over(asker),
            PartnerState::Inactive if state.partner.is_unable() => {
                let words = self.inability();
                self.cancel_handover(asker, words);
            }
            PartnerState::Inactive if !self.partner_can_prepare() => self.hand_over(asker),
            PartnerState::Inactive if heard && state.partner.is_prepared() => self.hand_over(asker),
            PartnerState::Inactive if heard && self.now >= limit => {
                self.log(Level::Warn, "the partner is not prepared: handing over all the same");
                self.hand_over(asker);
            }
            PartnerState::Inactive if self.now < limit => {}
            PartnerState::Unknown if self.now < limit => {}
            PartnerState::None => self.cancel_handover(asker, "no partner is configured".into()),
            PartnerState::Inactive | PartnerState::Unknown | PartnerState::Dead => {
                self.cancel_handover(asker, "the partner is not heard any more".into());
            }
        }
    }

    fn hand_over(&mut self, asker: Option<u64>) {
        self.log_deactivation("handover");
        self.stop("handed over to the partner".into(), Leave::ToPartner(asker));
    }

    /// Who was told to end does so without the partner.
    fn cancel_handover(&mut self, asker: Option<u64>, words: Text) {
        self.log(Level::Warn, format!("handover cancelled: {words}"));
        if self.state.leaving {
            self.stop("terminated".into(), Leave::Unsaid);
        } else {
            self.answer(asker, Err(words));
            self.state.phase = Phase::Active;
            self.send();
        }
    }

    /// This node does not take back before the partner has had its time.
    pub(super) fn leave_to_partner(&mut self, asker: Option<u64>) {
        let settings = &self.state.settings;
        if self.state.leaving || !settings.partner {
            return self.answer(asker, Ok("the partner is to take over; this node exits".into()));
        }
        let until = self.now + settings.deadtime + 2 * settings.keepalive;
        self.state.left = Some(Left { until, asker });
    }

    /// Tells who asked for the handover, if anybody did.
    pub(super) fn answer(&mut self, asker: Option<u64>, result: Result<Text, Text>) {
        if let Some(asker) = asker {
            self.actions.push(Action::Answer(asker, result));
        }
    }

    /// The service was left to the partner, and that is over.
    pub(super) fn end_leave(&mut self, result: Result<Text, Text>) {
        if let Some(left) = self.state.left.take() {
            self.answer(left.asker, result);
        }
    }

    /// The partner has not become active in time: that is told once.
    pub(super) fn notice_refused_leave(&mut self) {
        let now = self.now;
        let Some(left) = self.state.left.as_mut().filter(|left| now >= left.until) else { return };
        if let Some(asker) = left.asker.take() {
            let words = "the partner has not become active in time: taking back";
            self.log(Level::Warn, words);
            self.answer(Some(asker), Err(words.into()));
        }
    }

    /// The partner is active. `handing_over`: it wants this node to take over.
    pub(super) fn stand_by(&mut self, handing_over: bool) {
        let state = &mut self.state;
        if !handing_over {
            self.drop_standby();
        } else if state.standby == Standby::Off
            && state.phase == Phase::Inactive
            && state.able()
            && !state.is_fos()
        {
            state.standby = Standby::Preparing;
            self.actions.push(Action::Prepare);
            self.send();
        }
    }

    /// The lvsd on standby knows its servers.
    pub(super) fn prepared(&mut self) {
        if self.state.standby == Standby::Preparing {
            self.state.standby = Standby::Ready;
            self.send();
        }
    }

    /// What was made ready is not needed.
    pub(super) fn drop_standby(&mut self) {
        if self.state.standby != Standby::Off {
            self.state.standby = Standby::Off;
            self.actions.push(Action::Unprepare);
        }
    }
}
