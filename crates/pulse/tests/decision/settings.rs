//! Settings that change while pulse runs.

use crate::rig::{DEADTIME, KEEPALIVE, Rig, assert_does, settings};
use pulse::decision::{Activity, Event, Settings};
use pulse::wire::Role::{Backup, Master};
use pulse::wire::Word;

const NOTHING: &str = "";

#[test]
fn the_same_settings_change_nothing() {
    let mut rig = Rig::active(Master);
    let before = rig.state().clone();
    assert_does(&rig.does(Event::Reconfigured(settings(Master))), NOTHING);
    assert_eq!(rig.state(), &before);
}

#[test]
fn a_shorter_deadtime_does_not_kill_a_partner_that_was_silent_before() {
    let mut rig = Rig::inactive(Backup);
    rig.passes(DEADTIME - 1);
    let short = Settings { keepalive: 500, deadtime: 2_000, ..settings(Backup) };
    assert_does(&rig.does(Event::Reconfigured(short)), "send Inactive");
    assert_does(&rig.passes(500), NOTHING);
}

#[test]
fn a_partner_with_a_longer_keepalive_is_given_three_of_it() {
    let short = Settings { keepalive: 100, deadtime: 300, ..settings(Backup) };
    let mut rig = Rig::started(short);
    let done = rig.hears(Word::Active, |_| {});
    assert!(done.starts_with("\"the nodes' keepalive differs: their lvs.cf differ\""), "{done}");
    assert_does(&rig.passes(3 * KEEPALIVE - 1), NOTHING);
    assert!(rig.passes(1).contains("partner dead"));
}

#[test]
fn no_partner_can_stretch_the_deadtime_beyond_reason() {
    let mut rig = Rig::inactive(Backup);
    rig.hears(Word::Active, |e| e.keepalive_ms = u32::MAX);
    assert!(rig.passes(200_000).contains("partner dead"));
}

#[test]
fn a_master_whose_partner_is_taken_out_serves_at_once() {
    let mut rig = Rig::inactive(Master);
    let alone = Settings { partner: false, ..settings(Master) };
    assert_does(
        &rig.does(Event::Reconfigured(alone)),
        "\"no partner configured: activating lvs\"
         Activate",
    );
}

#[test]
fn an_active_backup_that_is_taken_out_says_goodbye() {
    let mut rig = Rig::active(Backup);
    let out = Settings { partner: false, ..settings(Backup) };
    assert_does(
        &rig.does(Event::Reconfigured(out)),
        "\"We are backup node and backup is marked inactive\"
         Deactivate
         send Inactive",
    );
    rig.does(Event::Stopped);
    assert_eq!(rig.state().deadline(), None);
    // ... and comes back.
    let done = rig.does(Event::Reconfigured(settings(Backup)));
    assert_does(&done, "send Inactive");
    assert!(rig.passes(DEADTIME).contains("partner dead"));
}

#[test]
fn a_master_alone_that_becomes_a_backup_alone_stops() {
    let mut rig = Rig::started(Settings { partner: false, ..settings(Master) });
    rig.does(Event::Loaded);
    let done = rig.does(Event::Reconfigured(Settings { partner: false, ..settings(Backup) }));
    assert!(done.contains("Deactivate"), "{done}");
}

#[test]
fn a_handover_is_cancelled_when_the_partner_is_taken_out() {
    let mut rig = Rig::active(Master);
    rig.does(Event::Handover(3));
    let alone = Settings { partner: false, ..settings(Master) };
    let done = rig.does(Event::Reconfigured(alone));
    assert!(done.contains("refuse 3: no partner is configured"), "{done}");
    assert_eq!(rig.activity(), Activity::Active);
}

#[test]
fn a_change_of_roles_moves_nothing() {
    for (role, other) in [(Master, Backup), (Backup, Master)] {
        for mut rig in [Rig::active(role), Rig::inactive(role)] {
            let before = rig.activity();
            rig.does(Event::Reconfigured(settings(other)));
            assert_eq!(rig.activity(), before);
        }
    }
}

#[test]
fn absurd_times_are_bounded() {
    for time in [0, u64::MAX] {
        let absurd = Settings { keepalive: time, deadtime: time, ..settings(Master) };
        let mut rig = Rig::started(absurd);
        rig.hears(Word::Active, |e| (e.since_ms, e.keepalive_ms) = (u64::MAX, u32::MAX));
        assert!(rig.state().deadline().unwrap() > rig.now);
    }
}
