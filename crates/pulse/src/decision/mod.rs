//! What a node of the pair does, decided without clock and I/O.
//!
//! [`step`] is a function of the node's state, an event and the time; it gives back the new state and
//! what is to be done. The daemon around it keeps the sockets, children and addresses, reports what
//! happens as [`Event`]s, and does the [`Action`]s in their order.
//!
//! The daemon must
//! - begin with [`Event::Start`], and report [`Event::Time`] when [`State::deadline`] has come;
//! - read its sockets before it looks at the deadline, so that a loop that was held up takes in what
//!   the partner said before it judges its silence;
//! - answer [`Action::Activate`] with [`Event::Loaded`] or [`Event::ServiceFailed`],
//!   [`Action::Deactivate`] with [`Event::Stopped`], [`Action::Prepare`] with [`Event::Prepared`] or
//!   [`Event::ServiceFailed`], [`Action::ProbeGateway`] with [`Event::Gateway`]; an answer that an
//!   opposite action has overtaken (a `Loaded` after `Deactivate`) must not be reported any more.

mod fos;
mod handover;
mod lvs;
mod partner;
mod state;

pub use partner::{Partner, PartnerState};
pub use state::{Activity, State};

use crate::wire::{Message, Role};
use log::Level;
use lvs_config::ServiceKind;
use state::Phase;
use std::borrow::Cow;

/// Monotonic milliseconds from any fixed point.
pub type Millis = u64;

/// Words for the log and for operators, most of them fixed.
pub type Text = Cow<'static, str>;

/// What lvs.cf and the command line say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// What this node is.
    pub role: Role,
    /// Whether a partner is configured (`backup_active`, and an address for it).
    pub partner: bool,
    /// From one heartbeat to the next.
    pub keepalive: Millis,
    /// Silence after which the partner is dead.
    pub deadtime: Millis,
    /// What the pair serves.
    pub service: ServiceKind,
    /// `--forceactive`: activate at the start, whatever the partner is.
    pub forced: bool,
}

impl Settings {
    /// A backup node that lvs.cf tells there is no backup: it must not serve beside the master.
    fn is_passive(&self) -> bool {
        self.role == Role::Backup && !self.partner
    }

    /// Values that a clock can be wound with: from a millisecond to a year.
    fn bounded(self) -> Settings {
        const YEAR: Millis = 366 * 24 * 3600 * 1000;
        let Settings { keepalive, deadtime, .. } = self;
        Settings { keepalive: keepalive.clamp(1, YEAR), deadtime: deadtime.clamp(1, YEAR), ..self }
    }
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The node begins to run. The first event.
    Start,
    /// A heartbeat has come from the partner, on any path. Copies and stragglers are recognised here.
    Heartbeat(Message),
    /// [`State::deadline`] has come.
    Time,
    /// A watched link has lost its carrier (`monitor_links`). May be repeated.
    LinkDown,
    /// All watched links have their carrier. May be repeated.
    LinksUp,
    /// The service is up: lvsd's table is loaded (fos: `fos --active` runs), the addresses are raised.
    Loaded,
    /// The lvsd on standby is ready to take over.
    Prepared,
    /// lvsd or fos ended by itself, or never reported: the words for the log. Not to be sent for a
    /// child that was told to end.
    ServiceFailed(String),
    /// The guard has taken the addresses down and ends the service, since this process stood still: the
    /// words for the log. This node is not active any more, whatever it serves.
    Deposed(String),
    /// All of a deactivation is done: nothing of the service runs any more.
    Stopped,
    /// An operator wants the partner to take over. The number comes back with the answer.
    Handover(u64),
    /// A signal asks for the end.
    Terminate(i32),
    /// lvs.cf was read again. The service does not change while pulse runs, nor does `forced` count.
    Reconfigured(Settings),
    /// fos: whether the default gateway answers.
    Gateway(bool),
}

/// What is to be done, in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send this heartbeat now, on all paths.
    Send(Message),
    /// Bring the service up. A monitor has been stopped by [`Action::StopMonitor`] before; an lvsd on
    /// standby becomes the active one.
    Activate,
    /// Addresses down before the next action is looked at; then stop all of the service, a standby too.
    /// Also the last action but for heartbeats before [`Action::Exit`], where nothing may be running.
    Deactivate,
    /// Make ready to take over: an lvsd on standby.
    Prepare,
    /// Not needed any more: back to how an inactive node is.
    Unprepare,
    /// Run `active_cmd` and send gratuitous ARP for all addresses.
    ResendArps,
    /// fos: run `fos --active` again; the addresses stay.
    Restart,
    /// fos: run `fos --monitor`.
    StartMonitor,
    /// fos: end `fos --monitor`.
    StopMonitor,
    /// fos: ask the default gateway for a sign of life, a few times.
    ProbeGateway,
    /// For the log.
    Log(Level, Text),
    /// What has become of the handover that was asked for with [`Event::Handover`] of this number.
    /// Comes once for each.
    Answer(u64, Result<Text, Text>),
    /// End the process with this status.
    Exit(i32),
}

/// A node that failed tries again after this time, or after deadtime if that is longer, when nobody
/// else has become active.
const RETRY: Millis = 10_000;
/// From heartbeat to heartbeat while one node waits for the other's answer, unless keepalive is shorter.
const QUICK: Millis = 200;
/// The daemon gives up sooner: `active_cmd` has 10 seconds, lvsd has 10 to report.
const ACTIVATION_LIMIT: Millis = 30_000;
/// The daemon is done sooner: `inactive_cmd` has 10 seconds, lvsd 5 until it is killed.
const STOP_LIMIT: Millis = 30_000;

/// Takes in an event. Times never go back.
#[must_use]
pub fn step(state: State, event: Event, now: Millis) -> (State, Vec<Action>) {
    if state.phase == Phase::Gone {
        return (state, Vec::new());
    }
    let mut turn = Turn { state, now, actions: Vec::new() };
    turn.notice_lateness(event == Event::Time);
    turn.take(event);
    turn.settle();
    (turn.state, turn.actions)
}

/// One step under way.
struct Turn {
    state: State,
    now: Millis,
    actions: Vec<Action>,
}

/// What a deactivation says about who comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leave {
    /// Nothing: the partner is active, or this node says that it is not able.
    Unsaid,
    /// The partner is to take over; an operator may wait for it.
    ToPartner(Option<u64>),
}

impl Turn {
    fn take(&mut self, event: Event) {
        match event {
            Event::Start => self.start(),
            Event::Heartbeat(message) => self.heard(message),
            Event::Time => {}
            Event::LinkDown => self.link_down(),
            Event::LinksUp => self.links_up(),
            Event::Loaded => self.loaded(),
            Event::Prepared => self.prepared(),
            Event::ServiceFailed(words) if self.state.is_fos() => self.fos_ended(words),
            Event::ServiceFailed(words) | Event::Deposed(words) => self.lvsd_failed(words),
            Event::Stopped => self.stopped(),
            Event::Handover(asker) => self.handover(asker),
            Event::Terminate(signal) => self.terminate(signal),
            Event::Reconfigured(settings) => self.reconfigured(settings),
            Event::Gateway(answers) => self.gateway(answers),
        }
    }

    /// What follows from the state and the time, whatever the event was. A loop that was held up takes
    /// in all that was said meanwhile before it judges by the time.
    fn settle(&mut self) {
        if matches!(self.state.phase, Phase::New | Phase::Gone) {
            return;
        }
        self.obey_links();
        if !self.state.held_up {
            self.limits();
            self.watch_limits();
            self.notice_silence();
            self.retry();
            self.notice_refused_leave();
            self.pursue_handover();
            self.decide();
            self.watch_partner();
        }
        self.beat();
    }

    fn start(&mut self) {
        if self.state.phase != Phase::New {
            return;
        }
        self.state.phase = Phase::Inactive;
        self.state.since = self.now;
        self.state.send_at = self.now;
        self.hear_anew();
        self.end_watch();
        if self.state.settings.forced && self.state.able() {
            self.activate("Forced active on startup");
        }
    }

    /// A loop that comes late does not blame others: what they did meanwhile is still to be read. Until
    /// that is done, and `Event::Time` comes, nothing is judged by the time.
    fn notice_lateness(&mut self, is_time: bool) {
        let keepalive = self.state.settings.keepalive;
        let late = self.state.deadline().map_or(0, |due| self.now.saturating_sub(due));
        if late > keepalive && !self.state.held_up {
            self.state.held_up = true;
            self.forgive(late);
        }
        self.state.held_up &= !is_time;
    }

    /// The partner's silence is measured anew, once; the time that was lost does not count for what was
    /// asked of the daemon.
    fn forgive(&mut self, late: Millis) {
        let state = &mut self.state;
        state.phase = state.phase.extended(late);
        if !state.forgiven && !state.partner.lost {
            state.forgiven = true;
            state.silence_from = self.now;
        }
    }

    fn reconfigured(&mut self, settings: Settings) {
        let old = self.state.settings;
        let Settings { service, forced, .. } = old;
        let new = Settings { service, forced, ..settings.bounded() };
        if new == old {
            return;
        }
        if self.state.phase == Phase::New {
            self.state.settings = new;
            return;
        }
        // Goodbyes go out by the old settings.
        if new.is_passive() && !old.is_passive() {
            self.become_passive();
        }
        if old.partner && !new.partner {
            self.part();
        }
        self.state.settings = new;
        if new.role != old.role {
            self.log(Level::Info, format!("this node is now the {}", new.role.as_str()));
        }
        if (new.role, new.partner) != (old.role, old.partner) {
            self.hear_anew();
        }
        self.state.silence_from = self.now;
        self.send();
    }

    fn become_passive(&mut self) {
        self.log(Level::Warn, "We are backup node and backup is marked inactive");
        if self.state.phase.serves() {
            self.stop("backup is marked inactive".into(), Leave::Unsaid);
        }
    }

    /// No partner is configured any more.
    fn part(&mut self) {
        if self.state.leaving && self.state.phase.serves() {
            self.stop("terminated".into(), Leave::Unsaid);
        }
        self.drop_standby();
        if self.state.phase == Phase::Inactive {
            self.end_watch();
        }
        self.end_leave(Err("no partner is configured any more".into()));
        self.state.partner = Partner::default();
    }

    /// A heartbeat, now.
    fn send(&mut self) {
        let state = &mut self.state;
        if !state.settings.partner || matches!(state.phase, Phase::New | Phase::Gone) {
            return;
        }
        state.seq = state.seq.wrapping_add(1);
        state.send_at = self.now + state.interval(self.now);
        self.actions.push(Action::Send(state.message(self.now)));
    }

    /// A heartbeat, if one is due.
    fn beat(&mut self) {
        if self.now >= self.state.send_at {
            self.send();
        }
    }

    fn exit(&mut self, status: i32) {
        self.end_leave(Err("this node exits".into()));
        self.state.phase = Phase::Gone;
        self.actions.push(Action::Exit(status));
    }

    fn log(&mut self, level: Level, words: impl Into<Text>) {
        self.actions.push(Action::Log(level, words.into()));
    }

    fn service(&self) -> &'static str {
        if self.state.is_fos() { "fos" } else { "lvs" }
    }
}
