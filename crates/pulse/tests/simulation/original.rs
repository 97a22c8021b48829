//! An original node, as far as its partner can see: four bytes, whole seconds, and an activation
//! during which it neither sends nor listens.

use pulse::decision::{Millis, Settings};
use pulse::wire::{Role, Word};

#[derive(Debug)]
pub(crate) struct Original {
    settings: Settings,
    pub(crate) active: bool,
    pub(crate) failed: bool,
    heard_at: Millis,
    pub(crate) tick_at: Millis,
}

/// What it does, besides what it is then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    Nothing,
    Send(Word),
    Activate,
    /// A last heartbeat, then the end of the service.
    GiveWay,
}

impl Original {
    pub(crate) fn new(settings: Settings, now: Millis) -> Original {
        Original { settings, active: false, failed: false, heard_at: now, tick_at: now }
    }

    pub(crate) fn word(&self) -> Word {
        if self.active { Word::Active } else { Word::Inactive }
    }

    pub(crate) fn hear(&mut self, word: Word, now: Millis) -> Deed {
        self.heard_at = now;
        match word {
            Word::Active => {
                self.failed = false;
                if self.active && self.settings.role == Role::Backup {
                    self.active = false;
                    return Deed::GiveWay;
                }
                Deed::Nothing
            }
            Word::Inactive => self.take_over(),
            _ => Deed::Nothing,
        }
    }

    /// Every keepalive.
    pub(crate) fn tick(&mut self, now: Millis) -> [Deed; 2] {
        self.tick_at = now + self.settings.keepalive;
        let silent = now / 1000 - self.heard_at / 1000 >= self.settings.deadtime / 1000;
        let deed = if silent { self.take_over() } else { Deed::Nothing };
        [deed, Deed::Send(self.word())]
    }

    fn take_over(&mut self) -> Deed {
        if self.active || self.failed {
            return Deed::Nothing;
        }
        self.active = true;
        Deed::Activate
    }

    pub(crate) fn service_died(&mut self) {
        self.failed |= self.active;
        self.active = false;
    }
}
