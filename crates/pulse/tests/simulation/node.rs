//! A node: the decision, and a daemon around it that takes its time.

use crate::original::Original;
use pulse::decision::{Activity, Millis, Settings, State};
use std::collections::VecDeque;

/// What decides.
#[allow(clippy::large_enum_variant, reason = "moved at every step, there are two")]
pub(crate) enum Brain {
    Ours(State),
    Original(Original),
    /// Nothing: the node is down.
    None,
}

/// What comes to a node.
#[derive(Debug, Clone)]
pub(crate) enum What {
    Datagram {
        path: usize,
        message: pulse::wire::Message,
    },
    /// News of the service, if nothing has been asked for since.
    Service {
        generation: u32,
        news: News,
    },
    Links,
    Gateway {
        generation: u32,
    },
    /// The guard looks whether pulse lives.
    Guard {
        generation: u32,
    },
    /// fos --monitor looks at the partner.
    Monitor {
        generation: u32,
        misses: u32,
    },
    /// An original node has finished its activation.
    Awake,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    Loaded,
    Prepared,
    Stopped,
    Failed,
    /// The guard has done what pulse could not.
    Deposed,
}

/// What runs on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Off,
    Standby,
    Starting,
    Up,
    Stopping,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pause {
    No,
    /// The machine.
    Frozen,
    /// The program, not its guard.
    Suspended,
    /// An original node in its activation.
    Busy,
}

pub(crate) struct Node {
    pub(crate) brain: Brain,
    /// What lvs.cf says here.
    pub(crate) file: Settings,
    pub(crate) pause: Pause,
    /// What comes during a pause.
    pub(crate) inbox: VecDeque<What>,
    pub(crate) service: Service,
    /// Counts what was asked of the service: older news do not count.
    pub(crate) generation: u32,
    /// The same for the monitor of fos.
    pub(crate) watch: u32,
    pub(crate) monitoring: bool,
    pub(crate) addresses: bool,
    pub(crate) carrier: [bool; 2],
    /// pulse knows that a link is down.
    pub(crate) disabled: bool,
    pub(crate) never_ready: bool,
    pub(crate) slow_stop: bool,
    /// How late its timers are.
    pub(crate) lateness: Millis,
    pub(crate) wake: Option<Millis>,
    pub(crate) activations: u32,
}

impl Node {
    pub(crate) fn new(file: Settings, lateness: Millis) -> Node {
        Node {
            brain: Brain::None,
            file,
            pause: Pause::No,
            inbox: VecDeque::new(),
            service: Service::Off,
            generation: 0,
            watch: 0,
            monitoring: false,
            addresses: false,
            carrier: [true; 2],
            disabled: false,
            never_ready: false,
            slow_stop: false,
            lateness,
            wake: None,
            activations: 0,
        }
    }

    pub(crate) fn runs(&self) -> bool {
        !matches!(self.brain, Brain::None)
    }

    /// The machine, or the program, is gone with all that it did.
    pub(crate) fn fall(&mut self) {
        self.brain = Brain::None;
        self.pause = Pause::No;
        self.inbox.clear();
        self.service = Service::Off;
        self.generation += 1;
        self.watch += 1;
        self.monitoring = false;
        self.addresses = false;
        self.disabled = false;
        self.wake = None;
    }

    pub(crate) fn is_original(&self) -> bool {
        matches!(self.brain, Brain::Original(_))
    }

    pub(crate) fn activity(&self) -> Option<Activity> {
        match &self.brain {
            Brain::Ours(state) => Some(state.activity()),
            Brain::Original(original) if original.active => Some(Activity::Active),
            Brain::Original(_) => Some(Activity::Inactive),
            Brain::None => None,
        }
    }

    /// Tells its partner that it is active.
    pub(crate) fn claims(&self) -> bool {
        self.pause != Pause::Frozen
            && self.pause != Pause::Suspended
            && matches!(
                self.activity(),
                Some(Activity::Activating | Activity::Active | Activity::HandingOver)
            )
    }

    /// It runs, and nothing keeps it from being active.
    pub(crate) fn is_healthy(&self) -> bool {
        let free = match &self.brain {
            Brain::Ours(state) => {
                state.able()
                    && !matches!(
                        state.activity(),
                        Activity::Deactivating | Activity::Leaving | Activity::Isolated
                    )
            }
            Brain::Original(original) => !original.failed,
            Brain::None => false,
        };
        free && matches!(self.pause, Pause::No | Pause::Busy)
    }

    /// All that an outsider would call its condition, as a number: a change of it is an event.
    pub(crate) fn condition(&self) -> u32 {
        let activity = match self.activity() {
            None => 0,
            Some(Activity::HandingOver) => 1,
            Some(Activity::Deactivating) => 2,
            Some(Activity::Leaving) => 3,
            Some(Activity::TakingControl) => 4,
            Some(Activity::Isolated) => 5,
            Some(_) => 6,
        };
        let bits = [self.is_healthy(), self.disabled, self.carrier[0], self.carrier[1]];
        bits.iter().fold(activity, |n, &bit| n * 2 + u32::from(bit)) * 4 + self.pause as u32
    }
}
