//! Whatever happens, in whatever order: no panic, no busy loop, no action that cannot be.

use crate::rig::settings;
use lvs_config::ServiceKind;
use proptest::prelude::*;
use pulse::decision::{Action, Activity, Event, Settings, State, step};
use pulse::wire::{Extra, Message, Role, Word};

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Master), Just(Role::Backup)]
}

fn any_settings() -> impl Strategy<Value = Settings> {
    let time = || prop_oneof![Just(0), 1..20_000_u64, Just(u64::MAX)];
    (role(), any::<bool>(), time(), time(), any::<bool>(), any::<bool>()).prop_map(
        |(role, partner, keepalive, deadtime, fos, forced)| {
            let service = if fos { ServiceKind::Fos } else { ServiceKind::Lvs };
            Settings { partner, keepalive, deadtime, service, forced, ..settings(role) }
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    let flags = any::<[bool; 5]>();
    let number = || prop_oneof![0..4_u32, any::<u32>()];
    let extra = (role(), flags, number(), number(), any::<u64>(), any::<u32>()).prop_map(
        |(role, [able, handing_over, prepared, leaving, _], start, seq, since_ms, keepalive_ms)| {
            Extra {
                start,
                seq,
                role,
                able,
                handing_over,
                prepared,
                leaving,
                since_ms,
                keepalive_ms,
                reason: "any".into(),
            }
        },
    );
    (proptest::sample::select(&Word::ALL), proptest::option::weighted(0.8, extra))
        .prop_map(|(word, extra)| Message { word, extra })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => Just(Event::Start),
        20 => message().prop_map(Event::Heartbeat),
        20 => Just(Event::Time),
        2 => Just(Event::LinkDown),
        2 => Just(Event::LinksUp),
        5 => Just(Event::Loaded),
        5 => Just(Event::Prepared),
        3 => Just(Event::ServiceFailed("died".to_owned())),
        1 => Just(Event::Deposed("stood still".to_owned())),
        5 => Just(Event::Stopped),
        2 => any::<u64>().prop_map(Event::Handover),
        1 => Just(Event::Terminate(15)),
        2 => any_settings().prop_map(Event::Reconfigured),
        3 => any::<bool>().prop_map(Event::Gateway),
    ]
}

fn answers(actions: &[Action]) -> usize {
    actions.iter().filter(|action| matches!(action, Action::Answer(..))).count()
}

proptest! {
    #[test]
    fn nothing_breaks_a_node(
        settings in any_settings(),
        start in 0..4_u32,
        history in proptest::collection::vec((event(), 0..3_000_u64, any::<bool>()), 1..60),
    ) {
        let mut now = 5_000;
        let mut state = State::new(settings, start, now);
        let (mut asked, mut answered) = (0, 0);
        for (event, passed, in_time) in history {
            // Either the deadline is kept, or the loop is held up.
            now = match state.deadline().filter(|_| in_time && event == Event::Time) {
                Some(at) => now.max(at),
                None => now + passed,
            };
            asked += usize::from(matches!(event, Event::Handover(_)));
            let on_time = event == Event::Time;
            let (next, actions) = step(state, event, now);
            state = next;
            answered += answers(&actions);
            prop_assert!(answered <= asked);
            if on_time {
                prop_assert!(state.deadline().is_none_or(|at| at > now), "busy: {state:?}");
            }
            let serves = matches!(
                state.activity(),
                Activity::Activating | Activity::Active | Activity::HandingOver
            );
            let activates = actions.contains(&Action::Activate);
            prop_assert!(!activates || serves);
            // Who says that it cannot serve does not, but for the time of a graceful end.
            let leaving = state.message(now).extra.is_some_and(|e| e.leaving);
            prop_assert!(!serves || leaving || state.able(), "{state:?}");
        }
    }
}
