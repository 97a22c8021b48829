//! A node at a bench: its partner and its daemon are the test.

use lvs_config::ServiceKind;
use pulse::decision::{Action, Activity, Event, Millis, Settings, State, step};
use pulse::wire::{Extra, Message, Role, Word};

pub(crate) const KEEPALIVE: Millis = 1_000;
pub(crate) const DEADTIME: Millis = 5_000;

pub(crate) struct Rig {
    state: Option<State>,
    pub(crate) now: Millis,
    /// Of the partner's heartbeats.
    seq: u32,
    pub(crate) partner_start: u32,
}

/// What lvs.cf says to this role, with a partner.
pub(crate) fn settings(role: Role) -> Settings {
    Settings {
        role,
        partner: true,
        keepalive: KEEPALIVE,
        deadtime: DEADTIME,
        service: ServiceKind::Lvs,
        forced: false,
    }
}

/// The words of the service: active, inactive.
fn words(service: ServiceKind) -> (Word, Word) {
    match service {
        ServiceKind::Lvs => (Word::Active, Word::Inactive),
        ServiceKind::Fos => (Word::FosActive, Word::FosInactive),
    }
}

impl Rig {
    /// A node that has not started.
    pub(crate) fn new(settings: Settings) -> Rig {
        let now = 100_000;
        let state = State::new(settings, 77, now);
        Rig { state: Some(state), now, seq: 0, partner_start: 1 }
    }

    pub(crate) fn started(settings: Settings) -> Rig {
        let mut rig = Rig::new(settings);
        rig.does(Event::Start);
        rig
    }

    /// An inactive node, whose partner is active.
    pub(crate) fn inactive(role: Role) -> Rig {
        Rig::inactive_by(settings(role))
    }

    pub(crate) fn inactive_by(settings: Settings) -> Rig {
        let mut rig = Rig::started(settings);
        let (active, _) = words(settings.service);
        rig.hears(active, |_| {});
        assert_eq!(rig.activity(), Activity::Inactive);
        rig
    }

    /// An active node, whose partner is inactive and able.
    pub(crate) fn active(role: Role) -> Rig {
        Rig::active_by(settings(role))
    }

    pub(crate) fn active_by(settings: Settings) -> Rig {
        let mut rig = Rig::inactive_by(settings);
        let (_, inactive) = words(settings.service);
        rig.hears(inactive, |_| {});
        rig.does(Event::Loaded);
        assert_eq!(rig.activity(), Activity::Active);
        rig
    }

    pub(crate) fn state(&self) -> &State {
        self.state.as_ref().unwrap()
    }

    pub(crate) fn activity(&self) -> Activity {
        self.state().activity()
    }

    /// Takes in an event; returns what is done, a line each.
    pub(crate) fn does(&mut self, event: Event) -> String {
        let (state, actions) = step(self.state.take().unwrap(), event, self.now);
        self.state = Some(state);
        actions.iter().map(shown).collect::<Vec<_>>().join("\n")
    }

    /// A heartbeat of a partner of this suite, `change` made to its extension.
    pub(crate) fn hears(&mut self, word: Word, change: impl FnOnce(&mut Extra)) -> String {
        self.seq += 1;
        let role = match self.state().settings().role {
            Role::Master => Role::Backup,
            Role::Backup => Role::Master,
        };
        let mut extra = Extra {
            start: self.partner_start,
            seq: self.seq,
            role,
            able: true,
            handing_over: false,
            prepared: false,
            leaving: false,
            since_ms: 0,
            keepalive_ms: u32::try_from(KEEPALIVE).unwrap(),
            reason: "test".into(),
        };
        change(&mut extra);
        self.does(Event::Heartbeat(Message { word, extra: Some(extra) }))
    }

    /// A heartbeat of an original partner.
    pub(crate) fn hears_original(&mut self, word: Word) -> String {
        self.does(Event::Heartbeat(Message { word, extra: None }))
    }

    /// Lets the time pass, taking in deadlines as they come; returns what is done but for heartbeats
    /// that say nothing new.
    pub(crate) fn passes(&mut self, time: Millis) -> String {
        let end = self.now + time;
        let mut done = Vec::new();
        while let Some(at) = self.state().deadline().filter(|&at| at <= end) {
            self.now = self.now.max(at);
            let said = shown(&Action::Send(self.state().message(self.now)));
            let what = self.does(Event::Time);
            let next = self.state().deadline();
            assert!(next.is_none_or(|at| at > self.now), "the deadline does not move");
            done.extend(what.lines().filter(|&line| line != said).map(str::to_owned));
        }
        self.now = end;
        done.join("\n")
    }

    /// The same, while the partner goes on saying a word every keepalive.
    pub(crate) fn passes_hearing(&mut self, time: Millis, word: Word) -> String {
        let mut done = Vec::new();
        for _ in 0..time / KEEPALIVE {
            done.push(self.passes(KEEPALIVE));
            done.push(self.hears(word, |_| {}));
        }
        done.retain(|what| !what.is_empty());
        done.join("\n")
    }
}

fn shown(action: &Action) -> String {
    match action {
        Action::Send(message) => {
            let extra = message.extra.as_ref().unwrap();
            let flags = [
                (!extra.able, " unable"),
                (extra.handing_over, " handing-over"),
                (extra.prepared, " prepared"),
                (extra.leaving, " leaving"),
            ];
            let set: String = flags.iter().filter(|f| f.0).map(|f| f.1).collect();
            format!("send {:?}{set}", message.word)
        }
        Action::Log(_, words) => format!("\"{words}\""),
        Action::Answer(asker, Ok(words)) => format!("answer {asker}: {words}"),
        Action::Answer(asker, Err(words)) => format!("refuse {asker}: {words}"),
        other => format!("{other:?}"),
    }
}

/// Compares what is done, line by line; blanks around lines do not count.
#[track_caller]
pub(crate) fn assert_does(done: &str, expected: &str) {
    let expected: Vec<_> = expected.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    assert_eq!(done, expected.join("\n"));
}
