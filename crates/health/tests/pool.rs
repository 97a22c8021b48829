//! From checks to news: what a director is told, and when.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{
    EVERY, LIMITS, LONG, Monitor, Scripted, connect, exchange, group, prefix, server, state, tcp,
};
use health::recipe::Recipe;
use health::state::{Force, Health};
use health::wire::{Group, Known, Server, State};
use std::time::Instant;

fn ok() -> Recipe {
    exchange(b"", prefix(b"OK"), LONG)
}

/// For servers whose checks are to come one after the other.
fn often() -> Recipe {
    exchange(b"", prefix(b"OK"), EVERY)
}

fn up() -> State {
    state(7, Some(1))
}

fn down() -> State {
    state(7, None)
}

/// The news about one server while it answers as the script says.
fn history(script: &'static str, of: impl Fn(Group) -> Group) -> Vec<State> {
    let real = Scripted::new(script);
    let mut monitor = Monitor::new(LIMITS);
    monitor.group(of(group(1, often())));
    monitor.server(&server(7, 1, real.target()));
    // Some more than in the script, which must change nothing.
    (0..script.len() + 3).flat_map(|_| monitor.next_check(&real)).collect()
}

#[test]
fn each_change_is_told_once() {
    let tell = |script| history(script, |g| g);
    assert_eq!(tell("+++++"), [up()]);
    assert_eq!(tell("-----"), [down()]);
    assert_eq!(tell("++--++"), [up(), down(), up()]);
    assert_eq!(tell("--++--"), [down(), up(), down()]);
    assert_eq!(tell("+-+-"), [up(), down(), up(), down()]);
}

#[test]
fn a_return_takes_as_many_checks_in_a_row_as_the_group_says() {
    let three = |g| Group { reentry: 3, ..g };
    assert_eq!(history("-+++", three), [down(), up()], "the first success is enough");
    assert_eq!(history("+-++-++-++--", three), [up(), down()], "never three");
    assert_eq!(history("+-++-+++", three), [up(), down(), up()]);
}

#[test]
fn a_quiesced_server_stays_with_weight_0_once_it_was_in() {
    let quiesce = |g| Group { quiesce: true, ..g };
    assert_eq!(history("-", quiesce), [state(7, None)]);
    let zero = State { id: 7, up: false, weight: Some(0) };
    assert_eq!(history("+-+", quiesce), [state(7, Some(1)), zero, state(7, Some(1))]);
}

#[test]
fn a_shared_check_tells_both_and_a_late_comer_at_once() {
    let real = Scripted::new("+-");
    let mut monitor = Monitor::new(LIMITS);
    for id in [1, 2, 3] {
        monitor.group(Group { reentry: id, ..group(id, ok()) });
    }
    let target = real.target();
    monitor.server(&server(10, 1, target));
    monitor.server(&server(20, 2, target));
    let mut news = monitor.news(2);
    news.sort_by_key(|s| s.id);
    assert_eq!(news, [state(10, Some(1)), state(20, Some(1))]);
    // No check is due for long, but its last result is known.
    monitor.server(&server(30, 3, target));
    assert!(monitor.pool.has_news());
    assert_eq!(monitor.news(1), [state(30, Some(1))]);
    assert_eq!(real.seen(), 1, "one check for three");
    // One goes: the others' check stays.
    monitor.pool.remove_server(10);
    assert_eq!(monitor.pool.standing(10), None);
    assert_eq!(monitor.pool.health(20), Some(Health::Up));
    assert!(monitor.pool.deadline().is_some());
    monitor.pool.remove_server(20);
    monitor.pool.remove_server(30);
    assert_eq!(monitor.pool.details(Instant::now()), []);
}

#[test]
fn an_operator_overrules_checks_that_go_on() {
    let real = Scripted::new("+");
    let mut monitor = Monitor::new(LIMITS);
    monitor.group(group(1, often()));
    monitor.server(&server(7, 1, real.target()));
    assert_eq!(monitor.news(1), [state(7, Some(1))]);
    monitor.pool.force(7, Force::Down, Instant::now());
    assert!(monitor.pool.has_news(), "at once");
    assert_eq!(monitor.news(1), [state(7, None)]);
    for _ in 0..3 {
        assert_eq!(monitor.next_check(&real), [], "whatever the checks find");
    }
    assert_eq!(monitor.pool.health(7), Some(Health::Up));
    monitor.pool.force(7, Force::Auto, Instant::now());
    assert_eq!(monitor.news(1), [state(7, Some(1))]);

    // The other way round, and from the beginning.
    monitor.pool.remove_server(7);
    let bad = Scripted::new("-");
    let target = bad.target();
    monitor.server(&Server { force: Force::Up, ..server(8, 1, target) });
    assert_eq!(monitor.news(1), [state(8, Some(1))], "before any check");
    for _ in 0..3 {
        assert_eq!(monitor.next_check(&bad), []);
    }
    assert!(monitor.pool.failures(8) > 1);
    // An order for the server itself may say it, too.
    monitor.server(&server(8, 1, target));
    assert_eq!(monitor.news(1), [state(8, None)]);
    monitor.pool.force(99, Force::Up, Instant::now());
}

#[test]
fn another_check_begins_at_once_and_the_state_stays_until_it_ends() {
    let real = Scripted::new("+");
    let mut monitor = Monitor::new(LIMITS);
    monitor.group(group(1, ok()));
    monitor.server(&server(7, 1, real.target()));
    assert_eq!(monitor.news(1), [state(7, Some(1))]);
    // The same again changes nothing.
    monitor.group(group(1, ok()));
    monitor.group(group(1, exchange(b"", prefix(b"no"), LONG)));
    assert_eq!(monitor.pool.standing(7), Some((true, Some(1))), "not down before it is known");
    assert_eq!(monitor.news(1), [state(7, None)]);
    assert_eq!(real.seen(), 2);
    // Other settings need no other check.
    monitor.group(Group { quiesce: true, ..group(1, exchange(b"", prefix(b"no"), LONG)) });
    assert_eq!(monitor.news(1), [State { id: 7, up: false, weight: Some(0) }]);
    assert_eq!(real.seen(), 2);
}

#[test]
fn a_server_may_move_to_another_group_or_address() {
    let (real, other) = (Scripted::new("+"), Scripted::new("-"));
    let mut monitor = Monitor::new(LIMITS);
    monitor.group(group(1, ok()));
    monitor.group(group(2, exchange(b"", prefix(b"no"), LONG)));
    monitor.server(&server(7, 1, real.target()));
    assert_eq!(monitor.news(1), [state(7, Some(1))]);
    monitor.server(&server(7, 2, real.target()));
    assert_eq!(monitor.news(1), [state(7, None)], "checked as the other group says");
    monitor.server(&server(7, 2, other.target()));
    assert_eq!(monitor.pool.health(7), Some(Health::Unknown), "another server");
    assert_eq!(monitor.news(1), [state(7, Some(1))]);
    monitor.server(&server(9, 3, other.target()));
    assert_eq!(monitor.pool.health(9), None, "no such group");
}

#[test]
fn a_new_weight_is_told_at_once() {
    let real = Scripted::new("+");
    let mut monitor = Monitor::new(LIMITS);
    monitor.group(group(1, ok()));
    let known = Some(Known { up: true, weight: Some(5) });
    let weighing = |weight| Server { weight, known, ..server(7, 1, real.target()) };
    monitor.server(&weighing(5));
    assert_eq!(monitor.news(1), [state(7, Some(5))]);
    monitor.server(&weighing(9));
    assert_eq!(monitor.news(1), [state(7, Some(9))]);
    monitor.server(&weighing(9));
    assert!(!monitor.pool.has_news());
    monitor.server(&weighing(0));
    assert_eq!(monitor.news(1), [State { id: 7, up: true, weight: Some(0) }]);
}

#[test]
fn a_new_server_enters_with_a_part_of_its_weight_and_grows() {
    let real = Scripted::new("+");
    let mut monitor = Monitor::new(LIMITS);
    monitor.group(group(1, ok()));
    monitor.server(&Server { weight: 100, ..server(7, 1, real.target()) });
    assert_eq!(monitor.news(1), [state(7, Some(3))]);
    let mut weights = Vec::new();
    // The pool is told that it is later: every 20 s it doubles.
    for step in 1..=7 {
        let now = Instant::now() + health::state::STEP * step;
        weights.extend(monitor.pool.run(now).into_iter().filter_map(|s| s.weight));
    }
    assert_eq!(weights, [6, 12, 24, 48, 96, 100]);
}

#[test]
fn what_was_known_holds_until_a_check_says_otherwise() {
    let (good, bad) = (Scripted::new("+"), Scripted::new("-"));
    let mut monitor = Monitor::new(LIMITS);
    monitor.group(Group { reentry: 2, ..group(1, often()) });
    let known = |up, weight, id, of: &Scripted| {
        let known = Some(Known { up, weight });
        Server { known, ..server(id, 1, of.target()) }
    };
    monitor.server(&known(true, Some(1), 1, &good));
    monitor.server(&known(true, Some(1), 2, &bad));
    monitor.server(&known(false, None, 3, &good));
    assert_eq!(monitor.pool.standing(1), Some((true, Some(1))));
    assert_eq!(monitor.pool.standing(3), Some((false, None)));
    let mut news = monitor.news(5);
    news.sort_by_key(|s| s.id);
    let want =
        [state(1, Some(1)), state(2, Some(1)), state(2, None), state(3, None), state(3, Some(1))];
    assert_eq!(news, want);
}

#[test]
fn a_server_removed_during_its_check_is_not_spoken_of() {
    let hanging = tcp(std::mem::forget);
    let mut monitor = Monitor::new(LIMITS);
    monitor.group(group(1, often()));
    monitor.server(&server(7, 1, hanging.target()));
    while hanging.seen() == 0 {
        assert_eq!(monitor.look(), []);
        std::thread::yield_now();
    }
    monitor.pool.remove_server(7);
    let real = Scripted::new("+");
    monitor.server(&server(8, 1, real.target()));
    // The time of its limit comes and goes.
    let news: Vec<State> = (0..4).flat_map(|_| monitor.next_check(&real)).collect();
    assert_eq!(news, [state(8, Some(1))]);
}

#[test]
fn news_of_a_server_go_with_it() {
    let real = Scripted::new("+");
    let mut monitor = Monitor::new(LIMITS);
    monitor.group(group(1, ok()));
    monitor.server(&server(7, 1, real.target()));
    monitor.pool.force(7, Force::Up, Instant::now());
    monitor.server(&Server { force: Force::Up, ..server(8, 1, real.target()) });
    monitor.pool.remove_server(7);
    let other = Scripted::new("-");
    monitor.server(&server(7, 1, other.target()));
    let mut news = monitor.news(2);
    news.sort_by_key(|s| s.id);
    assert_eq!(news, [state(7, None), state(8, Some(1))], "of the second 7 only");
}

#[test]
fn details_for_the_operator() {
    let (good, bad) = (Scripted::new("+"), Scripted::new("-"));
    let mut monitor = Monitor::new(LIMITS);
    monitor.group(group(1, ok()));
    monitor.server(&server(2, 1, bad.target()));
    monitor.server(&server(1, 1, good.target()));
    let [one, two] = &monitor.pool.details(Instant::now())[..] else { panic!() };
    assert_eq!((one.health, one.took_us, &one.error), (Health::Unknown, None, &None));
    assert_eq!((one.id, two.id), (1, 2));
    monitor.news(2);
    let later = Instant::now() + std::time::Duration::from_secs(5);
    let [one, two] = &monitor.pool.details(later)[..] else { panic!() };
    assert_eq!((one.health, &one.error), (Health::Up, &None));
    assert!(one.took_us.is_some() && one.since_ms >= 5000);
    assert_eq!(two.health, Health::Down);
    assert_eq!(two.error.as_deref(), Some("unexpected answer \"no\""));
    assert_eq!((monitor.pool.failures(1), monitor.pool.failures(2)), (0, 1));
}

#[test]
fn servers_without_a_check_worth_the_name_are_up() {
    let real = tcp(drop);
    let mut monitor = Monitor::new(LIMITS);
    monitor.group(Group { udp: true, ..group(1, connect(LONG)) });
    monitor.server(&server(7, 1, real.target()));
    assert_eq!(monitor.news(1), [state(7, Some(1))]);
    assert_eq!(real.seen(), 0, "no TCP for a UDP service");
}
