//! What is known of the partner.

use super::Millis;
use crate::wire::{Extra, Message, Word};

/// What is known of the partner.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Partner {
    /// When it was heard last, copies and stragglers not counted.
    pub heard: Option<Millis>,
    /// Its last word.
    pub word: Option<Word>,
    /// The extension of its last heartbeat; none: an original node.
    pub extra: Option<Extra>,
    /// Since when it is what it says: as it has told, or else as it was heard.
    pub since: Option<Millis>,
    /// Since when it was heard to say nothing else.
    pub(super) heard_since: Millis,
    /// What it says of itself, as far as that still counts.
    pub(super) says: Option<Says>,
    /// It was heard active, then inactive: it has left the service to us.
    pub(super) gave_up: bool,
    /// Its silence has been noticed.
    pub(super) lost: bool,
    /// Another start of it, of which stragglers may come.
    former: Option<Mark>,
}

/// The last heartbeat of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    start: u32,
    seq: u32,
    leaving: bool,
}

impl Mark {
    fn of(extra: &Extra) -> Mark {
        Mark { start: extra.start, seq: extra.seq, leaving: extra.leaving }
    }
}

/// What the partner is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartnerState {
    /// None is configured.
    None,
    /// Nothing is known: not heard yet, but not long enough to call it dead.
    Unknown,
    /// It said that it is active.
    Active,
    /// It said that it is inactive.
    Inactive,
    /// Silent for deadtime.
    Dead,
}

/// What a heartbeat means to a node of the same service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Says {
    Active,
    Inactive,
    /// fos: inactive, and going to be active.
    TakesControl,
}

impl Partner {
    /// Whether this heartbeat has been taken in already, was overtaken by a later one, or comes from a
    /// start that has ended. A start that goes on counting lives, even if a straggler of another has
    /// come in between.
    pub(super) fn is_stale(&self, message: &Message) -> bool {
        let Some(extra) = &message.extra else { return false };
        let overtakes = |mark: Mark| extra.start != mark.start || is_later(extra.seq, mark.seq);
        let current = self.extra.as_ref().map(Mark::of);
        let ended = self.former.is_some_and(|mark| mark.leaving && mark.start == extra.start);
        ended || ![current, self.former].into_iter().flatten().all(overtakes)
    }

    /// Takes in a heartbeat that is not stale. `says` is none for a mere sign of life.
    pub(super) fn note(&mut self, message: Message, says: Option<Says>, now: Millis) {
        if self.restarted(&message) {
            self.former = self.extra.as_ref().map(Mark::of);
            self.forget();
        }
        if let Some(says) = says {
            if self.says != Some(says) {
                self.gave_up = self.says == Some(Says::Active);
                self.says = Some(says);
                self.heard_since = now;
            }
            let told = message.extra.as_ref().map(|e| now.saturating_sub(e.since_ms));
            self.since = Some(told.unwrap_or(self.heard_since));
            self.word = Some(message.word);
        }
        self.heard = Some(now);
        self.extra = message.extra;
        self.lost = false;
    }

    /// The first heartbeat of a start, as far as it can be told.
    pub(super) fn is_new(&self, message: &Message) -> bool {
        self.heard.is_none() || self.restarted(message)
    }

    fn restarted(&self, message: &Message) -> bool {
        let start = |extra: &Option<Extra>| extra.as_ref().map(|e| e.start);
        self.heard.is_some() && start(&self.extra) != start(&message.extra)
    }

    /// What it has said does not count any more: it must say it again.
    pub(super) fn forget(&mut self) {
        self.says = None;
        self.gave_up = false;
    }

    /// It says that it is not going to be active, whoever else is: nobody needs to wait for it.
    pub(super) fn stands_back(&self) -> bool {
        self.extra.as_ref().is_some_and(|e| !e.able || e.leaving || e.handing_over)
    }

    /// It has told that it cannot become active.
    pub(super) fn is_unable(&self) -> bool {
        self.extra.as_ref().is_some_and(|e| !e.able || e.leaving)
    }

    pub(super) fn is_prepared(&self) -> bool {
        self.extra.as_ref().is_some_and(|e| e.prepared)
    }

    pub(super) fn hands_over(&self) -> bool {
        self.extra.as_ref().is_some_and(|e| e.handing_over)
    }

    /// Its keepalive, as far as it has told and one can believe it.
    pub(super) fn keepalive(&self) -> Millis {
        const LONGEST: Millis = 60_000;
        self.extra.as_ref().map_or(0, |e| Millis::from(e.keepalive_ms).min(LONGEST))
    }
}

/// Half of the numbers are later, half are earlier: the count may go round.
fn is_later(seq: u32, than: u32) -> bool {
    let ahead = seq.wrapping_sub(than);
    ahead != 0 && ahead <= u32::MAX / 2
}
