//! A history in words, for who has to find out what went wrong.

use crate::node::Brain;
use crate::world::World;
use pulse::decision::{Action, Event};
use pulse::wire::Message;
use std::fmt::Write as _;

/// What must have been met in 50000 histories, and how often.
pub(crate) const SURVEY: [(&str, u32); 16] = [
    ("backup inactive: activating", 10_000),
    ("primary inactive: activating", 5_000),
    ("partner dead: activating", 10_000),
    ("no partner configured: activating", 100),
    ("Forced active on startup", 500),
    ("partner active: resending arps", 1_000),
    ("partner active: deactivating", 1_000),
    ("local link failure: deactivating", 500),
    ("child failure: deactivating", 2_000),
    ("handover: deactivating", 2_000),
    ("handover cancelled", 200),
    ("the partner is not prepared", 500),
    ("nobody is active", 100),
    ("performing service failover", 100),
    ("PARTNER HAS TOLD US TO GO INACTIVE", 100),
    ("gateway unavailable", 100),
];

impl World {
    pub(crate) fn count(&mut self, words: &str) {
        let Some(survey) = &mut self.survey else { return };
        for (what, _) in SURVEY.iter().filter(|(what, _)| words.contains(what)) {
            *survey.entry(what).or_default() += 1;
        }
    }

    pub(crate) fn tell_of(&mut self, who: &str, what: &dyn std::fmt::Debug) {
        if let Some(trace) = &mut self.trace {
            let _ = writeln!(trace, "{:>7} {who:2} {what:?}", self.now - 1_000_000);
        }
    }

    /// Routine is left out: a heartbeat that changes nothing, and one that is due.
    pub(crate) fn tell_step(&mut self, node: usize, event: &str, actions: &[Action]) {
        let Some(trace) = &mut self.trace else { return };
        let Brain::Ours(state) = &self.nodes[node].brain else { return };
        let idle = matches!(actions, [] | [Action::Send(_)]);
        if idle && (event == "Time" || event.starts_with("hears")) {
            return;
        }
        let who = ["A", "B"][node];
        let activity = state.activity().as_str();
        let _ = writeln!(trace, "{:>7} {who}  {event} => {activity}", self.now - 1_000_000);
        for action in actions {
            let _ = match action {
                Action::Send(message) => writeln!(trace, "{:>14}says {}", "", shown(message)),
                Action::Log(_, words) => writeln!(trace, "{:>14}\"{words}\"", ""),
                other => writeln!(trace, "{:>14}{other:?}", ""),
            };
        }
    }
}

pub(crate) fn told(event: &Event) -> String {
    match event {
        Event::Heartbeat(message) => format!("hears {}", shown(message)),
        other => format!("{other:?}"),
    }
}

fn shown(message: &Message) -> String {
    let mut text = format!("{:?}", message.word);
    if let Some(extra) = &message.extra {
        let _ = write!(text, " #{} {:?}", extra.seq, extra.role);
        let flags = [
            (extra.able, "able"),
            (extra.handing_over, "hands over"),
            (extra.prepared, "prepared"),
            (extra.leaving, "leaving"),
        ];
        for (_, flag) in flags.into_iter().filter(|(set, _)| *set) {
            let _ = write!(text, ", {flag}");
        }
    }
    text
}
