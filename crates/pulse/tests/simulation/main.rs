//! Histories of a pair: two nodes that decide by `pulse::decision`, each with a daemon around it that
//! takes its time, joined by a network that loses, copies, delays and reorders, on machines that
//! crash, stand still and start again. After every event the rules of the pair are looked at.
//!
//! Time is virtual, chance comes from a number: the seed. A history that breaks a rule is told with its
//! seed and everything that happened in it.
//!
//! | variable | meaning |
//! |---|---|
//! | `PULSE_SIM_HISTORIES` | how many histories, 1000000 |
//! | `PULSE_SIM_FIRST` | seed of the first one, 0; the others follow |
//! | `PULSE_SIM_SEED` | tell this one history, and nothing else |

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod checker;
mod daemon;
mod history;
mod node;
mod original;
mod random;
mod telling;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use world::World;

/// Seeds that a thread takes at a time.
const PORTION: u64 = 1000;

#[test]
fn every_history_keeps_the_rules() {
    if let Some(seed) = variable("PULSE_SIM_SEED") {
        let (broken, trace) = World::tell(seed);
        println!("{trace}");
        assert_eq!(broken, None, "seed {seed}");
        return;
    }
    let first = variable("PULSE_SIM_FIRST").unwrap_or(0);
    let end = first + variable("PULSE_SIM_HISTORIES").unwrap_or(1_000_000);
    let broken = search(first, end);
    if let Some(seed) = broken {
        let (broken, trace) = World::tell(seed);
        let broken = broken.unwrap_or_else(|| "told again, it keeps the rules".to_owned());
        panic!("{trace}\n{broken}\nPULSE_SIM_SEED={seed} tells this history again");
    }
}

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

/// The smallest seed of a history that breaks a rule, as far as it was found before all threads
/// stopped.
fn search(first: u64, end: u64) -> Option<u64> {
    let next = AtomicU64::new(first);
    let broken = AtomicU64::new(u64::MAX);
    let work = || {
        loop {
            let from = next.fetch_add(PORTION, Ordering::Relaxed);
            if from >= end || broken.load(Ordering::Relaxed) < u64::MAX {
                return;
            }
            for seed in from..end.min(from + PORTION) {
                if World::run(seed).is_some() {
                    broken.fetch_min(seed, Ordering::Relaxed);
                    return;
                }
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    Some(broken.into_inner()).filter(|&seed| seed < u64::MAX)
}

/// A check that the histories are what they are meant to be: each kind of fault, and each way of
/// becoming active, is met often.
#[test]
fn histories_go_everywhere() {
    let seen = World::survey(0..50_000);
    for (what, least) in telling::SURVEY {
        let count = seen.get(what).copied().unwrap_or(0);
        assert!(count >= least, "{what}: {count} times, not {least}; all: {seen:#?}");
    }
}
