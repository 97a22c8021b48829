//! Whatever a director and the servers do in whatever order: no panic, nothing stuck, no news of
//! those it does not know, and in the end every state is the right one.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{
    Monitor, Scripts, Spawned, closed_port, exchange, group, prefix, program, reset, server, tcp,
    udp,
};
use health::engine::Limits;
use health::recipe::{Expect, Recipe, Target};
use health::state::{Force, Health};
use health::wire::{Group, Known, Server, State};
use proptest::prelude::*;
use std::io::Write;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// What a test does with a pool.
#[derive(Debug, Clone)]
enum Step {
    Group {
        id: u32,
        recipe: usize,
        quiesce: bool,
        reentry: u32,
    },
    Server {
        id: u32,
        group: u32,
        target: usize,
        weight: u32,
        known: Option<bool>,
    },
    Remove(u32),
    Ungroup(u32),
    Force(u32, Force),
    /// So many milliseconds go by at once.
    Later(u64),
    Look,
    Turn,
}

fn step() -> impl Strategy<Value = Step> {
    let force = prop_oneof![Just(Force::Auto), Just(Force::Up), Just(Force::Down)];
    prop_oneof![
        2 => (0u32..3, 0usize..6, any::<bool>(), 1u32..3).prop_map(|(id, recipe, quiesce, reentry)| {
            Step::Group { id, recipe, quiesce, reentry }
        }),
        4 => (0u32..8, 0u32..4, 0usize..7, 0u32..200, any::<Option<bool>>()).prop_map(
            |(id, group, target, weight, known)| Step::Server { id, group, target, weight, known }
        ),
        1 => (0u32..9).prop_map(Step::Remove),
        1 => (0u32..4).prop_map(Step::Ungroup),
        1 => (0u32..9, force).prop_map(|(id, force)| Step::Force(id, force)),
        1 => (0u64..100_000).prop_map(Step::Later),
        2 => Just(Step::Look),
        2 => Just(Step::Turn),
    ]
}

/// A mix of targets, for all cases of the test.
fn targets() -> &'static [Target; 7] {
    static TARGETS: OnceLock<[Target; 7]> = OnceLock::new();
    TARGETS.get_or_init(|| {
        let say = |text: &'static [u8]| {
            tcp(move |mut stream| {
                let _ = stream.write_all(text);
            })
        };
        let (held, closed) = closed_port();
        std::mem::forget(held);
        [
            say(b"OK"),
            say(b"no"),
            tcp(std::mem::forget),
            tcp(reset),
            tcp(drop),
            udp(|_| vec![b"OK".to_vec()]),
        ]
        .map(|s: Spawned| s.target())
        .into_iter()
        .chain([closed])
        .collect::<Vec<_>>()
        .try_into()
        .unwrap()
    })
}

fn recipe(number: usize, script: &str) -> Recipe {
    match number {
        0 => exchange(b"", None, 20),
        1 => exchange(b"", prefix(b"OK"), 20),
        2 => exchange(b"GET", Some(Expect::Any), 30),
        3 => exchange(b"", Some(Expect::Regex(b"n?o".to_vec())), 5000),
        4 => program(&format!("{script} %h %p"), Some(b"OK"), 50),
        _ => program("/no/such/program", None, 1),
    }
}

fn soon(monitor: &Monitor) -> Instant {
    monitor.world.now() + Duration::from_millis(100)
}

fn apply(monitor: &mut Monitor, step: &Step, script: &str) -> Vec<State> {
    match *step {
        Step::Group { id, recipe: number, quiesce, reentry } => monitor.group(Group {
            quiesce,
            reentry,
            udp: number == 3,
            ..group(id, recipe(number, script))
        }),
        Step::Server { id, group, target, weight, known } => {
            let known = known.map(|up| Known { up, weight: up.then_some(weight / 2) });
            let order = Server { weight, known, ..server(id, group, targets()[target]) };
            monitor.server(&order);
        }
        Step::Remove(id) => monitor.pool.remove_server(id),
        Step::Ungroup(id) => monitor.pool.remove_group(id),
        Step::Force(id, force) => monitor.pool.force(id, force, monitor.world.now()),
        Step::Later(ms) => monitor.world.ahead += Duration::from_millis(ms),
        Step::Look => return monitor.look(),
        // With nothing to do for long a turn would wait for long.
        Step::Turn if monitor.pool.deadline().is_some_and(|at| at < soon(monitor)) => {
            return monitor.turn();
        }
        Step::Turn => {}
    }
    Vec::new()
}

proptest! {
    #![proptest_config(ProptestConfig {
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::with_cases(200)
    })]

    #[test]
    fn nothing_breaks_it(steps in proptest::collection::vec(step(), 0..50)) {
        let mut monitor = Monitor::with_programs(Limits { sockets: 3, programs: 2 });
        let scripts = Scripts::new("random");
        let script = scripts.sh("check", "[ $(($2 % 2)) = 0 ] && echo OK");
        for step in steps {
            for state in apply(&mut monitor, &step, &script) {
                let standing = monitor.pool.standing(state.id);
                prop_assert!(standing.is_some(), "{} is unknown", state.id);
            }
        }
        // From here on good checks of a good server decide.
        for id in 0..3 {
            monitor.group(group(id, exchange(b"", prefix(b"OK"), 20)));
        }
        for id in 0..8 {
            monitor.server(&server(id, id % 3, targets()[0]));
        }
        monitor.until(|pool| (0..8).all(|id| pool.health(id) == Some(Health::Up)));
        for id in 0..9 {
            monitor.pool.remove_server(id);
        }
        prop_assert_eq!(monitor.pool.details(Instant::now()), vec![]);
    }
}
