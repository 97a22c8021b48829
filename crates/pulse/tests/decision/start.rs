//! The start.

use crate::rig::{DEADTIME, KEEPALIVE, Rig, assert_does, settings};
use pulse::decision::{Activity, Event, PartnerState, Settings};
use pulse::wire::Role::{Backup, Master};
use pulse::wire::Word;

const NOTHING: &str = "";

#[test]
fn the_first_heartbeat_goes_out_at_once() {
    for role in [Master, Backup] {
        let mut rig = Rig::new(settings(role));
        assert_eq!(rig.state().deadline(), None);
        assert_does(&rig.does(Event::Start), "send Inactive");
        assert_eq!(rig.state().partner_state(rig.now), PartnerState::Unknown);
    }
}

#[test]
fn the_deadtime_clock_starts_with_the_node() {
    let mut rig = Rig::started(settings(Backup));
    assert_does(&rig.passes(DEADTIME - 1), NOTHING);
    assert_does(
        &rig.passes(1),
        "\"partner dead: activating lvs\"
         send Active
         Activate",
    );
}

#[test]
fn a_master_without_partner_serves_at_once_and_sends_nothing() {
    let mut rig = Rig::new(Settings { partner: false, ..settings(Master) });
    assert_does(
        &rig.does(Event::Start),
        "\"no partner configured: activating lvs\"
         Activate",
    );
    rig.does(Event::Loaded);
    assert_eq!(rig.state().deadline(), None);
}

#[test]
fn a_backup_without_partner_never_serves() {
    let mut rig = Rig::new(Settings { partner: false, ..settings(Backup) });
    assert_does(&rig.does(Event::Start), NOTHING);
    assert_eq!(rig.state().deadline(), None);
    assert!(!rig.state().able());
}

#[test]
fn forceactive_does_not_ask_anybody() {
    let mut rig = Rig::new(Settings { forced: true, ..settings(Backup) });
    assert_does(
        &rig.does(Event::Start),
        "\"Forced active on startup: activating lvs\"
         send Active
         Activate",
    );
}

#[test]
fn forceactive_does_not_overrule_a_dead_link() {
    let mut rig = Rig::new(Settings { forced: true, ..settings(Master) });
    rig.does(Event::LinkDown);
    assert_does(&rig.does(Event::Start), "send Inactive unable");
}

#[test]
fn of_two_that_start_the_master_serves_at_the_first_word() {
    let mut rig = Rig::started(settings(Master));
    let done = rig.hears(Word::Inactive, |_| {});
    assert_does(
        &done,
        "\"backup inactive: activating lvs\"
         send Active
         Activate",
    );
}

#[test]
fn of_two_that_start_the_backup_waits_for_the_master() {
    let mut rig = Rig::started(settings(Backup));
    assert_does(&rig.hears(Word::Inactive, |_| {}), "send Inactive");
    assert_does(&rig.passes_hearing(DEADTIME, Word::Inactive), NOTHING);
    let done = rig.passes_hearing(KEEPALIVE, Word::Inactive);
    assert!(done.starts_with("\"primary inactive: activating lvs\""), "{done}");
}

#[test]
fn the_backups_wait_begins_anew_when_the_master_was_silent() {
    let mut rig = Rig::started(settings(Backup));
    rig.does(Event::LinkDown);
    rig.hears(Word::Inactive, |_| {});
    rig.passes_hearing(DEADTIME, Word::Inactive);
    rig.does(Event::LinksUp);
    assert_does(&rig.passes_hearing(DEADTIME, Word::Inactive), NOTHING);
}

#[test]
fn who_is_not_able_leaving_or_hands_over_is_not_waited_for() {
    type Change = fn(&mut pulse::wire::Extra);
    let changes: [(&str, Change); 3] = [
        ("not able", |e| e.able = false),
        ("leaving", |e| e.leaving = true),
        ("handing over", |e| e.handing_over = true),
    ];
    for (what, change) in changes {
        let mut rig = Rig::started(settings(Backup));
        assert!(rig.hears(Word::Inactive, change).contains("Activate"), "{what}");
    }
}

#[test]
fn a_master_that_crashed_and_is_back_within_deadtime_is_waited_for() {
    let mut rig = Rig::inactive(Backup);
    let done = rig.hears(Word::Inactive, |e| (e.start, e.seq) = (2, 1));
    assert_does(&done, "send Inactive");
    assert_eq!(rig.activity(), Activity::Inactive);
}

#[test]
fn a_primary_that_returns_does_not_take_back() {
    let mut rig = Rig::started(settings(Master));
    rig.hears(Word::Active, |_| {});
    assert_does(&rig.passes_hearing(10 * DEADTIME, Word::Active), NOTHING);
    assert_eq!(rig.activity(), Activity::Inactive);
}
