//! Handovers, graceful ends, and the standby side of both.

use crate::rig::{DEADTIME, KEEPALIVE, Rig, assert_does, settings};
use pulse::decision::{Activity, Event, Settings};
use pulse::wire::Role::{Backup, Master};
use pulse::wire::Word;

const NOTHING: &str = "";

#[test]
fn an_operator_hands_over_to_a_partner_that_prepares() {
    for role in [Master, Backup] {
        let mut rig = Rig::active(role);
        assert_does(
            &rig.does(Event::Handover(3)),
            "\"handing over to the partner\"
             send Active handing-over",
        );
        rig.now += 10;
        assert_does(&rig.hears(Word::Inactive, |_| {}), NOTHING);
        assert_eq!(rig.activity(), Activity::HandingOver);
        assert_does(
            &rig.hears(Word::Inactive, |e| e.prepared = true),
            "\"handover: deactivating LVS\"
             Deactivate
             send Inactive handing-over",
        );
        rig.does(Event::Stopped);
        assert_does(&rig.hears(Word::Inactive, |e| e.prepared = true), NOTHING);
        let done = rig.hears(Word::Active, |_| {});
        assert_does(&done, "answer 3: the partner is active");
        assert_eq!(rig.activity(), Activity::Inactive);
    }
}

#[test]
fn heartbeats_hurry_while_a_handover_is_under_way() {
    let mut rig = Rig::active(Master);
    rig.does(Event::Handover(3));
    assert_eq!(rig.state().deadline(), Some(rig.now + 200));
}

#[test]
fn who_hands_over_takes_back_when_nobody_else_becomes_active() {
    for role in [Master, Backup] {
        let mut rig = Rig::active(role);
        rig.does(Event::Handover(3));
        rig.now += 10;
        rig.hears(Word::Inactive, |e| e.prepared = true);
        rig.does(Event::Stopped);
        let early = rig.passes_hearing(DEADTIME + KEEPALIVE, Word::Inactive);
        assert_does(&early, NOTHING);
        let done = rig.passes_hearing(KEEPALIVE, Word::Inactive);
        assert!(done.contains("refuse 3: the partner has not become active in time"), "{done}");
        assert!(done.contains("Activate"), "{done}");
    }
}

#[test]
fn who_hands_over_to_one_that_dies_takes_back() {
    let mut rig = Rig::active(Backup);
    rig.does(Event::Handover(3));
    rig.now += 10;
    rig.hears(Word::Inactive, |e| e.prepared = true);
    rig.does(Event::Stopped);
    let done = rig.passes(DEADTIME);
    assert!(done.contains("partner dead: activating lvs"), "{done}");
    assert!(done.contains("refuse 3: the partner has not taken over: partner dead"), "{done}");
}

#[test]
fn handovers_are_refused_with_words() {
    let active = || Rig::active(Master);
    let alone = || {
        let mut rig = Rig::started(Settings { partner: false, ..settings(Master) });
        rig.does(Event::Loaded);
        rig
    };
    let changed = |change: fn(&mut Rig)| {
        let mut rig = active();
        change(&mut rig);
        rig
    };
    let rigs = [
        (Rig::inactive(Master), "this node is not active"),
        (alone(), "no partner is configured: backup_active is 0"),
        (changed(|rig| drop(rig.passes(DEADTIME))), "the partner is not heard"),
        (changed(|rig| drop(rig.hears(Word::Active, |_| {}))), "the partner is active as well"),
        (
            changed(|rig| {
                rig.hears(Word::Inactive, |e| (e.able, e.reason) = (false, "link".into()));
            }),
            "the partner cannot take over: link",
        ),
        (changed(|rig| drop(rig.does(Event::Handover(1)))), "a handover is under way already"),
        (changed(|rig| drop(rig.does(Event::Terminate(15)))), "this node is about to exit"),
    ];
    for (mut rig, words) in rigs {
        let before = rig.activity();
        assert_does(&rig.does(Event::Handover(9)), &format!("refuse 9: {words}"));
        assert_eq!(rig.activity(), before);
    }
}

#[test]
fn a_handover_is_cancelled_when_the_partner_fails() {
    let mut rig = Rig::active(Master);
    rig.does(Event::Handover(3));
    rig.now += 10;
    let done = rig.hears(Word::Inactive, |e| (e.able, e.reason) = (false, "no lvsd".into()));
    assert_does(
        &done,
        "\"handover cancelled: the partner cannot take over: no lvsd\"
         refuse 3: the partner cannot take over: no lvsd
         send Active",
    );
    assert_eq!(rig.activity(), Activity::Active);
}

#[test]
fn a_handover_is_cancelled_when_the_partner_falls_silent() {
    let mut rig = Rig::active(Master);
    rig.does(Event::Handover(3));
    let done = rig.passes(6_000);
    assert!(done.contains("refuse 3: the partner is not heard any more"), "{done}");
    assert_eq!(rig.activity(), Activity::Active);
}

#[test]
fn a_handover_does_not_wait_for_ever_for_the_partner_to_prepare() {
    let mut rig = Rig::active(Master);
    rig.does(Event::Handover(3));
    let done = rig.passes_hearing(6_000, Word::Inactive);
    assert!(done.contains("the partner is not prepared: handing over all the same"), "{done}");
    assert_eq!(rig.activity(), Activity::Deactivating);
}

#[test]
fn an_original_partner_is_handed_over_to_without_preparation() {
    let mut rig = Rig::inactive(Master);
    rig.hears_original(Word::Inactive);
    rig.does(Event::Loaded);
    rig.hears_original(Word::Inactive);
    let done = rig.does(Event::Handover(3));
    assert!(done.ends_with("Deactivate\nsend Inactive handing-over"), "{done}");
}

#[test]
fn the_standby_side_prepares_once_and_takes_over_fast() {
    for role in [Master, Backup] {
        let mut rig = Rig::inactive(role);
        let done = rig.hears(Word::Active, |e| e.handing_over = true);
        assert_does(
            &done,
            "Prepare
             send Inactive",
        );
        assert_does(&rig.hears(Word::Active, |e| e.handing_over = true), NOTHING);
        assert_eq!(rig.activity(), Activity::Preparing);
        assert_does(&rig.does(Event::Prepared), "send Inactive prepared");
        assert_eq!(rig.activity(), Activity::Prepared);
        assert!(rig.hears(Word::Inactive, |e| e.handing_over = true).ends_with("Activate"));
    }
}

#[test]
fn a_handover_called_off_ends_the_preparation() {
    let mut rig = Rig::inactive(Backup);
    rig.hears(Word::Active, |e| e.handing_over = true);
    assert_does(&rig.hears(Word::Active, |_| {}), "Unprepare");
    assert_does(&rig.does(Event::Prepared), NOTHING);
    assert_does(&rig.hears(Word::Active, |_| {}), NOTHING);
}

#[test]
fn a_node_that_is_not_able_does_not_prepare() {
    let mut rig = Rig::inactive(Backup);
    rig.does(Event::LinkDown);
    assert_does(&rig.hears(Word::Active, |e| e.handing_over = true), NOTHING);

    let mut rig = Rig::inactive(Backup);
    rig.hears(Word::Active, |e| e.handing_over = true);
    let done = rig.does(Event::LinkDown);
    assert!(done.contains("Unprepare\nsend Inactive unable"), "{done}");
}

#[test]
fn a_graceful_end_waits_for_the_partner_to_prepare() {
    let mut rig = Rig::active(Master);
    assert_does(
        &rig.does(Event::Terminate(15)),
        "\"Terminating due to signal 15\"
         send Active unable handing-over leaving",
    );
    rig.now += 100;
    assert_does(
        &rig.hears(Word::Inactive, |e| e.prepared = true),
        "\"handover: deactivating LVS\"
         Deactivate
         send Inactive unable leaving",
    );
    assert_does(&rig.hears(Word::Active, |_| {}), NOTHING);
    assert_does(
        &rig.does(Event::Stopped),
        "send Inactive unable leaving
         Exit(0)",
    );
    assert_eq!(rig.state().deadline(), None);
    assert_does(&rig.does(Event::Start), NOTHING);
}

#[test]
fn a_graceful_end_waits_at_most_one_and_a_half_seconds() {
    let mut rig = Rig::active(Master);
    rig.does(Event::Terminate(15));
    rig.now += 10;
    rig.hears(Word::Inactive, |_| {});
    assert_does(&rig.passes(1_489), NOTHING);
    assert!(rig.passes(1).contains("Deactivate"));
}

#[test]
fn a_second_signal_does_not_wait() {
    let mut rig = Rig::active(Master);
    rig.does(Event::Terminate(15));
    let done = rig.does(Event::Terminate(2));
    assert_does(
        &done,
        "\"Terminating due to signal 2\"
         Deactivate
         send Inactive unable leaving",
    );
}

#[test]
fn there_is_no_wait_where_nobody_could_take_over() {
    let silent = {
        let mut rig = Rig::active(Master);
        rig.passes(DEADTIME);
        rig
    };
    let unable = {
        let mut rig = Rig::active(Master);
        rig.hears(Word::Inactive, |e| e.able = false);
        rig
    };
    let activating = {
        let mut rig = Rig::inactive(Master);
        rig.hears(Word::Inactive, |_| {});
        rig
    };
    let original = {
        let mut rig = Rig::active(Master);
        rig.hears_original(Word::Inactive);
        rig
    };
    for mut rig in [silent, unable, activating, original, Rig::inactive(Backup)] {
        assert_does(
            &rig.does(Event::Terminate(15)),
            "\"Terminating due to signal 15\"
             Deactivate
             send Inactive unable leaving",
        );
    }
}

#[test]
fn a_signal_during_a_handover_shortens_it_and_answers_the_operator() {
    let mut rig = Rig::active(Master);
    rig.does(Event::Handover(3));
    rig.now += 10;
    rig.hears(Word::Inactive, |_| {});
    rig.does(Event::Terminate(15));
    let done = rig.passes(1_500);
    assert!(done.contains("answer 3: the partner is to take over; this node exits"), "{done}");
    assert!(done.contains("Deactivate\nsend Inactive unable leaving"), "{done}");
}

#[test]
fn an_end_that_hangs_comes_to_an_end() {
    let mut rig = Rig::active(Backup);
    rig.passes(DEADTIME);
    rig.does(Event::Terminate(15));
    let done = rig.passes(30_000);
    assert!(done.ends_with("Exit(1)"), "{done}");
}

#[test]
fn a_signal_before_the_start_ends_at_once() {
    let mut rig = Rig::new(settings(Master));
    assert!(rig.does(Event::Terminate(15)).ends_with("Exit(0)"));
}
