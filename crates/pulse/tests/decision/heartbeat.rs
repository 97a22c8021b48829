//! What a heartbeat does: the table of the specification, cell by cell.

use crate::rig::{DEADTIME, KEEPALIVE, Rig, assert_does, settings};
use lvs_config::ServiceKind;
use pulse::decision::{Activity, PartnerState, Settings};
use pulse::wire::Role::{Backup, Master};
use pulse::wire::{Role, Word};

/// What comes of the partner.
enum News {
    Says(Word),
    Silence,
}

/// The cell of the table: a node of this role and activity, and these news.
fn cell(settings: Settings, active: bool, news: &News, original: bool) -> String {
    let mut rig = if active { Rig::active_by(settings) } else { Rig::inactive_by(settings) };
    rig.passes(KEEPALIVE);
    match *news {
        News::Says(word) if original => rig.hears_original(word),
        News::Says(word) => rig.hears(word, |_| {}),
        News::Silence => rig.passes(DEADTIME),
    }
}

const NOTHING: &str = "";

#[test]
fn the_table_for_lvs() {
    use News::{Says, Silence};
    use Word::{Active, Inactive};
    let activate = |words: &str| format!("\"{words}: activating lvs\"\nsend Active\nActivate");
    let rows: [(Role, bool, News, String); 12] = [
        (Master, true, Says(Active), "\"partner active: resending arps\"\nResendArps".into()),
        (Master, true, Says(Inactive), NOTHING.into()),
        (Master, true, Silence, "\"partner not heard for deadtime\"".into()),
        (Master, false, Says(Active), NOTHING.into()),
        (Master, false, Says(Inactive), activate("backup inactive")),
        (Master, false, Silence, activate("partner dead")),
        (
            Backup,
            true,
            Says(Active),
            "\"partner active: deactivating LVS\"\nsend Active\nDeactivate\nsend Inactive".into(),
        ),
        (Backup, true, Says(Inactive), NOTHING.into()),
        (Backup, true, Silence, "\"partner not heard for deadtime\"".into()),
        (Backup, false, Says(Active), NOTHING.into()),
        (Backup, false, Says(Inactive), activate("primary inactive")),
        (Backup, false, Silence, activate("partner dead")),
    ];
    for (role, active, news, expected) in rows {
        let done = cell(settings(role), active, &news, false);
        assert_eq!(done, expected, "{role:?}, active: {active}");
    }
}

#[test]
fn the_table_for_fos() {
    use News::{Says, Silence};
    use Word::{FosActive, FosInactive, TakeControl};
    let activate =
        |words: &str| format!("\"{words}: activating fos\"\nStopMonitor\nsend FosActive\nActivate");
    let told = "\"PARTNER HAS TOLD US TO GO INACTIVE!\"\nDeactivate\nsend FosInactive handing-over";
    let rows: [(Role, bool, News, String); 16] = [
        (Master, true, Says(FosActive), "\"partner active: resending arps\"\nResendArps".into()),
        (Master, true, Says(FosInactive), NOTHING.into()),
        (Master, true, Silence, "\"partner not heard for deadtime\"".into()),
        (Master, true, Says(TakeControl), told.into()),
        (Master, false, Says(FosActive), NOTHING.into()),
        (Master, false, Says(FosInactive), activate("backup inactive")),
        (Master, false, Silence, activate("partner dead")),
        (Master, false, Says(TakeControl), NOTHING.into()),
        (
            Backup,
            true,
            Says(FosActive),
            "\"partner active: deactivating FOS\"\nsend FosActive\nDeactivate\nsend FosInactive"
                .into(),
        ),
        (Backup, true, Says(FosInactive), NOTHING.into()),
        (Backup, true, Silence, "\"partner not heard for deadtime\"".into()),
        (Backup, true, Says(TakeControl), told.into()),
        (Backup, false, Says(FosActive), NOTHING.into()),
        (Backup, false, Says(FosInactive), activate("primary inactive")),
        (Backup, false, Silence, activate("partner dead")),
        (Backup, false, Says(TakeControl), NOTHING.into()),
    ];
    for (role, active, news, expected) in rows {
        let settings = Settings { service: ServiceKind::Fos, ..settings(role) };
        let done = cell(settings, active, &news, false);
        assert_eq!(done, expected, "{role:?}, active: {active}");
    }
}

#[test]
fn an_original_partner_is_understood() {
    for role in [Master, Backup] {
        let mut rig = Rig::started(settings(role));
        rig.hears_original(Word::Active);
        assert_eq!(rig.state().partner_state(rig.now), PartnerState::Active);
        let done = rig.hears_original(Word::Inactive);
        assert!(done.ends_with("send Active\nActivate"), "{role:?}: {done}");
    }
}

#[test]
fn hold_and_held_are_signs_of_life_and_nothing_else() {
    for word in [Word::Hold, Word::Held] {
        let mut rig = Rig::inactive(Backup);
        rig.passes(DEADTIME - 1);
        assert_does(&rig.hears(word, |_| {}), NOTHING);
        assert_does(&rig.passes(DEADTIME - 1), NOTHING);
        assert_eq!(rig.state().partner_state(rig.now), PartnerState::Active);
    }
}

#[test]
fn heartbeats_of_another_service_do_not_count_and_are_told_once() {
    let mut rig = Rig::inactive(Backup);
    let told = "\"Incompatible heartbeat received -- other system not using identical services\"";
    for word in [Word::FosActive, Word::FosInactive, Word::TakeControl] {
        let done = rig.hears(word, |_| {});
        assert_eq!(done, if word == Word::FosActive { told } else { NOTHING });
    }
    assert!(rig.passes(DEADTIME).starts_with("\"partner dead"));
}

#[test]
fn any_valid_heartbeat_restarts_the_deadtime_clock() {
    let mut rig = Rig::inactive(Master);
    assert_does(&rig.passes(DEADTIME - 1), NOTHING);
    rig.hears(Word::Active, |_| {});
    assert_does(&rig.passes(DEADTIME - 1), NOTHING);
    assert!(rig.passes(1).contains("partner dead: activating lvs"));
}

#[test]
fn a_heartbeat_is_sent_every_keepalive() {
    let mut rig = Rig::active(Master);
    for _ in 0..5 {
        rig.now = rig.state().deadline().unwrap();
        let before = rig.now;
        assert_does(&rig.does(pulse::decision::Event::Time), "send Active");
        assert_eq!(rig.state().deadline(), Some(before + KEEPALIVE));
        rig.hears(Word::Inactive, |_| {});
    }
}

#[test]
fn copies_and_stragglers_do_not_count() {
    let mut rig = Rig::inactive(Backup);
    rig.hears(Word::Active, |e| e.seq = 10);
    for seq in [10, 9, 1] {
        assert_does(&rig.hears(Word::Inactive, |e| e.seq = seq), NOTHING);
    }
    let done = rig.hears(Word::Inactive, |e| e.seq = 11);
    assert!(done.contains("primary inactive: activating lvs"));
}

#[test]
fn sequence_numbers_may_go_round() {
    let mut rig = Rig::inactive(Backup);
    rig.hears(Word::Active, |e| (e.start, e.seq) = (9, u32::MAX));
    let done = rig.hears(Word::Inactive, |e| (e.start, e.seq) = (9, 0));
    assert!(done.contains("Activate"));
}

#[test]
fn a_straggler_of_the_partners_former_start_does_not_count() {
    let mut rig = Rig::inactive(Backup);
    rig.hears(Word::Active, |e| (e.start, e.seq) = (5, 100));
    rig.hears(Word::Active, |e| (e.start, e.seq) = (6, 1));
    assert_does(&rig.hears(Word::Inactive, |e| (e.start, e.seq) = (5, 99)), NOTHING);
    // One that goes on counting lives: the other was the straggler.
    rig.hears(Word::Active, |e| (e.start, e.seq) = (5, 101));
    rig.hears(Word::Active, |e| (e.start, e.seq) = (5, 102));
    let done = rig.hears(Word::Inactive, |e| (e.start, e.seq) = (5, 103));
    assert!(done.contains("Activate"), "{done}");
}

#[test]
fn a_start_that_has_said_goodbye_is_not_believed_any_more() {
    let mut rig = Rig::active(Backup);
    rig.hears(Word::Inactive, |e| (e.start, e.seq, e.leaving) = (5, 100, true));
    rig.hears(Word::Inactive, |e| (e.start, e.seq) = (6, 1));
    assert_does(&rig.hears(Word::Active, |e| (e.start, e.seq) = (5, 101)), NOTHING);
    assert_eq!(rig.activity(), Activity::Active);
}

#[test]
fn who_has_just_started_is_answered_at_once() {
    let mut rig = Rig::active(Backup);
    assert_does(&rig.hears(Word::Inactive, |e| e.start = 2), "send Active");
    assert_does(&rig.hears(Word::Inactive, |e| e.start = 2), NOTHING);
}

#[test]
fn arps_are_resent_once_for_the_copies_of_an_original_heartbeat() {
    let mut rig = Rig::active(Master);
    assert!(rig.hears_original(Word::Active).contains("ResendArps"));
    assert!(!rig.hears_original(Word::Active).contains("ResendArps"));
    rig.passes(KEEPALIVE);
    assert!(rig.hears_original(Word::Active).contains("ResendArps"));
}

#[test]
fn a_tie_during_the_activation_goes_to_the_master() {
    let mut rig = Rig::inactive(Master);
    rig.hears(Word::Inactive, |_| {});
    assert_eq!(rig.activity(), Activity::Activating);
    assert_does(&rig.hears(Word::Active, |_| {}), NOTHING);
    assert_does(&rig.does(pulse::decision::Event::Loaded), NOTHING);
    assert_eq!(rig.activity(), Activity::Active);

    let mut rig = Rig::inactive(Backup);
    rig.hears(Word::Inactive, |_| {});
    assert!(rig.hears(Word::Active, |_| {}).contains("partner active: deactivating LVS"));
}

#[test]
fn where_both_claim_the_same_role_the_later_number_of_the_start_leads() {
    // The node at the bench bears 77.
    for (start, stays) in [(76, true), (78, false)] {
        for role in [Master, Backup] {
            let mut rig = Rig::active(role);
            rig.partner_start = start;
            rig.hears(Word::Active, |e| e.role = role);
            assert_eq!(rig.activity() == Activity::Active, stays, "{role:?}, {start}");
        }
    }
}

#[test]
fn a_loop_that_comes_late_does_not_blame_the_partner() {
    let mut rig = Rig::inactive(Backup);
    rig.now += 3 * DEADTIME;
    assert_does(&rig.does(pulse::decision::Event::Time), "send Inactive");
    assert_does(&rig.passes(DEADTIME - 1), NOTHING);
    assert!(rig.passes(1).contains("partner dead"), "but only once");
}

#[test]
fn lateness_is_forgiven_once_in_a_silence() {
    let mut rig = Rig::inactive(Backup);
    rig.now += 3 * DEADTIME;
    rig.does(pulse::decision::Event::Time);
    rig.now += 3 * DEADTIME;
    assert!(rig.does(pulse::decision::Event::Time).contains("partner dead"));
}

#[test]
fn a_late_loop_takes_in_what_has_come_before_it_takes_over() {
    let mut rig = Rig::inactive(Master);
    rig.now += 3 * DEADTIME;
    // All this has waited in the socket.
    assert_does(&rig.hears(Word::Active, |_| {}), "send Inactive");
    assert_does(&rig.hears(Word::Inactive, |_| {}), NOTHING);
    assert!(rig.state().deadline().unwrap() <= rig.now);
    assert_does(&rig.hears(Word::Active, |_| {}), NOTHING);
    assert_does(&rig.does(pulse::decision::Event::Time), NOTHING);
    assert_eq!(rig.activity(), Activity::Inactive);
}

#[test]
fn time_that_was_lost_does_not_count_for_the_daemon() {
    let mut rig = Rig::inactive(Master);
    rig.hears(Word::Inactive, |_| {});
    rig.now += 60_000;
    rig.does(pulse::decision::Event::Time);
    assert_eq!(rig.activity(), Activity::Activating);
    assert!(rig.passes(30_000).contains("lvs is not up after 30 seconds"));
}
