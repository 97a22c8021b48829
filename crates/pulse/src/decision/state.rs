//! The state of a node, and what may be asked of it.

use super::fos::Watch;
use super::handover::Left;
use super::partner::{Partner, PartnerState, Says};
use super::{Millis, QUICK, RETRY, Settings, Text};
use crate::wire::{Extra, Message, Role, Word};
use lvs_config::ServiceKind;
use std::borrow::Cow;

/// What this node does, as shown to operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Serves nothing.
    Inactive,
    /// Serves nothing; makes ready to take over from a partner that hands over.
    Preparing,
    /// Serves nothing; ready to take over from a partner that hands over.
    Prepared,
    /// fos: asks the partner to go inactive.
    TakingControl,
    /// fos: the service over there and the gateway are out of reach.
    Isolated,
    /// Brings the service up.
    Activating,
    /// Serves.
    Active,
    /// Serves; the partner is asked to make ready.
    HandingOver,
    /// The addresses are down, the rest is being stopped.
    Deactivating,
    /// About to exit, or gone.
    Leaving,
}

impl Activity {
    /// One word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Activity::Inactive => "inactive",
            Activity::Preparing => "preparing",
            Activity::Prepared => "prepared",
            Activity::TakingControl => "taking-control",
            Activity::Isolated => "isolated",
            Activity::Activating => "activating",
            Activity::Active => "active",
            Activity::HandingOver => "handing-over",
            Activity::Deactivating => "deactivating",
            Activity::Leaving => "leaving",
        }
    }
}

/// What this node does. Every wait has its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not started.
    New,
    Inactive,
    /// Waits for `Loaded`.
    Activating {
        limit: Millis,
    },
    Active,
    /// Active, waits for the partner to be prepared.
    HandingOver {
        began: Millis,
        limit: Millis,
        asker: Option<u64>,
    },
    /// Waits for `Stopped`.
    Stopping {
        limit: Millis,
        stuck: bool,
    },
    Gone,
}

impl Phase {
    /// Whether the partner is told "active".
    pub(super) fn serves(self) -> bool {
        matches!(self, Phase::Activating { .. } | Phase::Active | Phase::HandingOver { .. })
    }

    /// The same, with more time.
    pub(super) fn extended(mut self, time: Millis) -> Phase {
        if let Phase::Activating { limit }
        | Phase::HandingOver { limit, .. }
        | Phase::Stopping { limit, .. } = &mut self
        {
            *limit += time;
        }
        self
    }

    fn limit(self) -> Option<Millis> {
        match self {
            Phase::Activating { limit }
            | Phase::HandingOver { limit, .. }
            | Phase::Stopping { limit, .. } => Some(limit),
            Phase::New | Phase::Inactive | Phase::Active | Phase::Gone => None,
        }
    }
}

/// The lvsd of an inactive node that was asked to make ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standby {
    Off,
    Preparing,
    Ready,
}

/// A failure of lvsd or fos.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub words: Text,
    pub at: Millis,
}

/// A node of the pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    pub(super) settings: Settings,
    start: u32,
    pub(super) seq: u32,
    pub(super) phase: Phase,
    pub(super) standby: Standby,
    /// When it became active or inactive, and why.
    pub(super) since: Millis,
    pub(super) reason: Text,
    pub(super) failure: Option<Failure>,
    pub(super) links_up: bool,
    /// Asked to end.
    pub(super) leaving: bool,
    /// The service was left to the partner.
    pub(super) left: Option<Left>,
    /// From when on this node could have taken over.
    pub(super) free_since: Millis,
    pub(super) send_at: Millis,
    /// Where the deadtime clock began.
    pub(super) silence_from: Millis,
    /// A late loop has been taken into account; once in a silence.
    pub(super) forgiven: bool,
    /// The loop has come late, and has not asked for the time since.
    pub(super) held_up: bool,
    pub(super) arps_resent: Option<Millis>,
    /// A heartbeat of another service has been logged.
    pub(super) mismatch: bool,
    pub(super) partner: Partner,
    pub(super) watch: Watch,
}

impl State {
    /// A node that has not started. `start` is a random number, new for each start of the program:
    /// the partner takes no heartbeat twice, and knows a new start by it.
    #[must_use]
    pub fn new(settings: Settings, start: u32, now: Millis) -> State {
        State {
            settings: settings.bounded(),
            start,
            seq: 0,
            phase: Phase::New,
            standby: Standby::Off,
            since: now,
            reason: Cow::Borrowed("started"),
            failure: None,
            links_up: true,
            leaving: false,
            left: None,
            free_since: now,
            send_at: now,
            silence_from: now,
            forgiven: false,
            held_up: false,
            arps_resent: None,
            mismatch: false,
            partner: Partner::default(),
            watch: Watch::Off { from: now },
        }
    }

    /// When [`super::Event::Time`] is to be reported, at the latest. It may have passed already.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        if matches!(self.phase, Phase::New | Phase::Gone) {
            return None;
        }
        if self.held_up {
            return Some(0);
        }
        let partner = self.settings.partner;
        let inactive = self.phase == Phase::Inactive;
        [
            self.phase.limit(),
            partner.then_some(self.send_at),
            (partner && !self.partner.lost).then(|| self.silent_at()),
            self.takes_over_at().map(|(at, _)| at),
            self.retry_at().filter(|_| inactive),
            self.left.filter(|left| left.asker.is_some()).map(|left| left.until),
            self.watch_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What this node does.
    #[must_use]
    pub fn activity(&self) -> Activity {
        match self.phase {
            Phase::Gone => Activity::Leaving,
            Phase::Activating { .. } => Activity::Activating,
            Phase::Active => Activity::Active,
            Phase::HandingOver { .. } => Activity::HandingOver,
            Phase::Stopping { .. } if self.leaving => Activity::Leaving,
            Phase::Stopping { .. } => Activity::Deactivating,
            Phase::New | Phase::Inactive => self.inactivity(),
        }
    }

    fn inactivity(&self) -> Activity {
        match (self.watch, self.standby) {
            (Watch::Taking { .. }, _) => Activity::TakingControl,
            (Watch::Isolated { .. }, _) => Activity::Isolated,
            (_, Standby::Preparing) => Activity::Preparing,
            (_, Standby::Ready) => Activity::Prepared,
            (_, Standby::Off) => Activity::Inactive,
        }
    }

    /// When it became active or inactive.
    #[must_use]
    pub fn since(&self) -> Millis {
        self.since
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Nothing keeps this node from becoming or being active.
    #[must_use]
    pub fn able(&self) -> bool {
        self.failure.is_none()
            && !self.link_failed()
            && !self.leaving
            && !self.settings.is_passive()
            && !matches!(self.phase, Phase::Stopping { stuck: true, .. })
    }

    /// Words for the failure of lvsd or fos that keeps this node inactive.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_ref().map(|failure| &*failure.words)
    }

    /// Whether no watched link is known to be without carrier.
    #[must_use]
    pub fn links_ok(&self) -> bool {
        self.links_up
    }

    /// What is known of the partner.
    #[must_use]
    pub fn partner(&self) -> &Partner {
        &self.partner
    }

    /// What the partner is taken for.
    #[must_use]
    pub fn partner_state(&self, now: Millis) -> PartnerState {
        match self.partner.says {
            _ if !self.settings.partner => PartnerState::None,
            _ if now >= self.silent_at() => PartnerState::Dead,
            None => PartnerState::Unknown,
            Some(Says::Active) => PartnerState::Active,
            Some(Says::Inactive | Says::TakesControl) => PartnerState::Inactive,
        }
    }

    /// The heartbeat that would be sent now. What is sent, [`super::Action::Send`] carries.
    #[must_use]
    pub fn message(&self, now: Millis) -> Message {
        let left = self.left.is_some_and(|left| now < left.until);
        let extra = Extra {
            start: self.start,
            seq: self.seq,
            role: self.settings.role,
            able: self.able(),
            handing_over: left || matches!(self.phase, Phase::HandingOver { .. }),
            prepared: self.standby == Standby::Ready,
            leaving: self.leaving,
            since_ms: now.saturating_sub(self.since),
            keepalive_ms: u32::try_from(self.settings.keepalive).unwrap_or(u32::MAX),
            reason: self.told_reason(),
        };
        Message { word: self.word(), extra: Some(extra) }
    }

    /// What the partner, and who asks it, is to know: what keeps this node from serving, or else why
    /// it is what it is.
    fn told_reason(&self) -> Text {
        match &self.failure {
            _ if self.link_failed() => "local link failure".into(),
            Some(failure) => failure.words.clone(),
            None => self.reason.clone(),
        }
    }

    fn word(&self) -> Word {
        match (self.settings.service, self.phase.serves()) {
            (ServiceKind::Lvs, true) => Word::Active,
            (ServiceKind::Lvs, false) => Word::Inactive,
            (ServiceKind::Fos, true) => Word::FosActive,
            (ServiceKind::Fos, false) if self.is_taking_control() => Word::TakeControl,
            (ServiceKind::Fos, false) => Word::FosInactive,
        }
    }

    pub(super) fn is_taking_control(&self) -> bool {
        self.phase == Phase::Inactive && matches!(self.watch, Watch::Taking { .. })
    }

    pub(super) fn is_fos(&self) -> bool {
        self.settings.service == ServiceKind::Fos
    }

    /// Links count only where somebody else could serve.
    pub(super) fn link_failed(&self) -> bool {
        !self.links_up && self.settings.partner
    }

    /// Whether this node is the one that stays active in a tie. Where both nodes claim the same role
    /// (two files that differ), the numbers of their starts decide.
    pub(super) fn leads(&self) -> bool {
        match &self.partner.extra {
            Some(extra) if extra.role == self.settings.role => self.start > extra.start,
            _ => self.settings.role == Role::Master,
        }
    }

    /// From one heartbeat to the next: short while somebody waits for the partner's answer.
    pub(super) fn interval(&self, now: Millis) -> Millis {
        let hurry = matches!(self.phase, Phase::HandingOver { .. })
            || self.standby != Standby::Off
            || self.leaving
            || self.is_taking_control()
            || self.left.is_some_and(|left| now < left.until);
        if hurry { self.settings.keepalive.min(QUICK) } else { self.settings.keepalive }
    }

    /// Silence after which the partner is dead. Where it sends more rarely than this node, three of
    /// its keepalives at least: the files of the two nodes do not change at the same moment.
    pub(super) fn deadtime(&self) -> Millis {
        let theirs = self.partner.keepalive();
        let rarer = theirs > self.settings.keepalive;
        self.settings.deadtime.max(if rarer { 3 * theirs } else { 0 })
    }

    /// When the partner is dead, unless it is heard before.
    pub(super) fn silent_at(&self) -> Millis {
        self.silence_from + self.deadtime()
    }

    /// When a failed node tries again, since nobody has become active: the master first. Both nodes
    /// count from when the last of them has given up.
    pub(super) fn retry_at(&self) -> Option<Millis> {
        let failure = self.failure.as_ref()?;
        let inactive = self.partner.says == Some(Says::Inactive);
        let given_up = self.partner.since.filter(|_| inactive).unwrap_or(0);
        let turn = if self.leads() { 0 } else { self.settings.deadtime };
        Some(failure.at.max(given_up) + self.settings.deadtime.max(RETRY) + turn)
    }

    /// Nothing runs here, and nothing keeps this node from taking over.
    fn is_free(&self) -> bool {
        self.phase == Phase::Inactive && self.able()
    }

    /// When this node takes over unless the partner is heard to be active, and which news that will
    /// be.
    pub(super) fn takes_over_at(&self) -> Option<(Millis, News)> {
        if !self.is_free() {
            return None;
        }
        if !self.settings.partner {
            return Some((0, News::Alone));
        }
        // Silence may be our own network's, what the partner says is not.
        let silent = (!self.watch.doubts_network()).then(|| (self.silent_at(), News::Silent));
        let inactive = self.inactive_counts_at().map(|at| (at, News::Inactive));
        inactive.into_iter().chain(silent).min_by_key(|&(at, _)| at)
    }

    /// When "inactive" of the partner is taken for "nobody serves".
    fn inactive_counts_at(&self) -> Option<Millis> {
        let partner = &self.partner;
        match partner.says {
            Some(Says::Inactive) => {}
            // Both take control: the master does.
            Some(Says::TakesControl) if self.is_taking_control() && self.leads() => return Some(0),
            Some(Says::TakesControl | Says::Active) | None => return None,
        }
        if partner.stands_back() || self.is_taking_control() {
            return Some(0);
        }
        if let Some(left) = self.left {
            return Some(left.until);
        }
        if self.leads() || partner.gave_up {
            return Some(0);
        }
        // The master becomes active as soon as it hears us, or silent for deadtime: it goes first.
        let row = partner.heard_since.max(self.free_since);
        Some(row + self.settings.deadtime + self.settings.keepalive)
    }
}

/// What a node acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// The partner says that it is active.
    Active,
    /// The partner says that it is inactive, and it is our turn.
    Inactive,
    /// Nothing was heard of the partner for deadtime.
    Silent,
    /// No partner is configured.
    Alone,
}
