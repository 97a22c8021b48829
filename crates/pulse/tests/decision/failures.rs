//! lvsd dies, or hangs.

use crate::rig::{DEADTIME, KEEPALIVE, Rig, assert_does, settings};
use lvs_config::ServiceKind;
use pulse::decision::{Activity, Event, Settings};
use pulse::wire::Role::{Backup, Master};
use pulse::wire::Word;

const NOTHING: &str = "";
/// A failed node tries again after this time, where deadtime is not longer.
const RETRY: u64 = 10_000;

fn died() -> Event {
    Event::ServiceFailed("Child process 7 exited with status 1".to_owned())
}

#[test]
fn a_node_whose_lvsd_dies_leaves_the_service_to_the_partner() {
    let mut rig = Rig::active(Master);
    assert_does(
        &rig.does(died()),
        "\"Child process 7 exited with status 1\"
         \"child failure: deactivating LVS\"
         Deactivate
         send Inactive unable",
    );
    assert_eq!(rig.state().failure(), Some("Child process 7 exited with status 1"));
    assert_does(&rig.does(Event::Stopped), NOTHING);
    assert_does(&rig.hears(Word::Inactive, |_| {}), NOTHING);
    assert_eq!(rig.activity(), Activity::Inactive);
}

#[test]
fn the_failure_is_cleared_by_the_partners_active() {
    let mut rig = Rig::active(Master);
    rig.does(died());
    rig.does(Event::Stopped);
    assert_does(&rig.hears(Word::Active, |_| {}), NOTHING);
    assert!(rig.state().failure().is_some(), "not by that of the same moment");
    rig.passes(KEEPALIVE);
    let done = rig.hears(Word::Active, |_| {});
    assert_does(&done, "\"partner active: this node can take over again\"");
    assert!(rig.hears(Word::Inactive, |_| {}).contains("Activate"));
}

#[test]
fn a_failed_node_tries_again_when_the_partner_cannot_serve_either() {
    for (role, wait) in [(Master, RETRY), (Backup, RETRY + DEADTIME)] {
        let mut rig = Rig::active(role);
        rig.does(died());
        rig.does(Event::Stopped);
        rig.hears(Word::Inactive, |e| e.able = false);
        let begin = rig.now;
        let mut done = String::new();
        while done.is_empty() && rig.now < begin + 10 * RETRY {
            done = rig.passes(KEEPALIVE / 4);
            rig.hears(Word::Inactive, |e| (e.able, e.since_ms) = (false, 60_000));
        }
        assert_eq!(rig.now - begin, wait, "{role:?}");
        assert!(
            done.starts_with("\"nobody is active: this node is going to try again\""),
            "{done}"
        );
        assert!(done.ends_with("Activate"), "{done}");
    }
}

#[test]
fn a_failed_node_tries_again_when_it_is_alone() {
    let alone = Settings { partner: false, ..settings(Master) };
    for mut rig in [Rig::started(alone), Rig::active(Master)] {
        rig.does(died());
        rig.does(Event::Stopped);
        let early = rig.passes(RETRY - 1);
        assert!(!early.contains("Activate"), "{early}");
        assert!(rig.passes(1).contains("Activate"));
    }
}

#[test]
fn two_nodes_that_cannot_serve_do_not_play_ball() {
    let mut rig = Rig::active(Master);
    rig.does(died());
    rig.does(Event::Stopped);
    // The partner tries, and fails at once.
    rig.hears(Word::Active, |_| {});
    let done = rig.hears(Word::Inactive, |e| e.able = false);
    assert_does(&done, NOTHING);
}

#[test]
fn an_lvsd_on_standby_that_dies_makes_the_node_unable() {
    let mut rig = Rig::inactive(Backup);
    rig.hears(Word::Active, |e| e.handing_over = true);
    assert_does(
        &rig.does(died()),
        "\"Child process 7 exited with status 1\"
         Unprepare
         send Inactive unable",
    );
}

#[test]
fn what_does_not_come_up_is_a_failure() {
    let mut rig = Rig::inactive(Master);
    rig.hears(Word::Inactive, |_| {});
    let done = rig.passes(30_000);
    assert!(done.contains("lvs is not up after 30 seconds"), "{done}");
    assert!(done.ends_with("Deactivate\nsend Inactive unable"), "{done}");
}

#[test]
fn what_does_not_stop_makes_the_node_unable_until_it_does() {
    let mut rig = Rig::active(Backup);
    rig.hears(Word::Active, |_| {});
    assert_eq!(rig.activity(), Activity::Deactivating);
    assert!(rig.state().able());
    let done = rig.passes_hearing(31_000, Word::Active);
    assert_does(
        &done,
        "\"lvs is not stopped after 30 seconds\"
         send Inactive unable",
    );
    rig.does(Event::Stopped);
    assert!(rig.state().able());
}

#[test]
fn nothing_is_activated_before_the_last_deactivation_is_done() {
    let mut rig = Rig::active(Backup);
    rig.hears(Word::Active, |_| {});
    assert_does(&rig.hears(Word::Inactive, |e| e.able = false), NOTHING);
    assert!(rig.does(Event::Stopped).contains("primary inactive: activating lvs"));
}

#[test]
fn a_node_that_its_guard_has_deposed_gives_up() {
    let fos = Settings { service: ServiceKind::Fos, ..settings(Master) };
    for mut rig in [Rig::active(Master), Rig::active_by(fos)] {
        let done = rig.does(Event::Deposed("stood still".to_owned()));
        assert!(done.starts_with("\"stood still\""), "{done}");
        assert!(done.contains("Deactivate"), "{done}");
        assert!(!rig.state().able());
    }
}
