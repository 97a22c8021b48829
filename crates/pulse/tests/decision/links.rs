//! Links without carrier (monitor_links).

use crate::rig::{DEADTIME, KEEPALIVE, Rig, assert_does, settings};
use pulse::decision::{Activity, Event, Settings};
use pulse::wire::Role::{Backup, Master};
use pulse::wire::Word;

const NOTHING: &str = "";

#[test]
fn an_active_node_without_link_leaves_the_service_to_the_partner() {
    for role in [Master, Backup] {
        let mut rig = Rig::active(role);
        assert_does(
            &rig.does(Event::LinkDown),
            "\"Local NIC link failure: Pulse disabled\"
             \"local link failure: deactivating LVS\"
             Deactivate
             send Inactive unable handing-over",
        );
        assert_does(&rig.does(Event::LinkDown), NOTHING);
        assert!(!rig.state().links_ok());
    }
}

#[test]
fn a_node_without_link_does_not_become_active() {
    for role in [Master, Backup] {
        let mut rig = Rig::inactive(role);
        assert_does(
            &rig.does(Event::LinkDown),
            "\"Local NIC link failure: Pulse disabled\"
             send Inactive unable",
        );
        assert_does(&rig.hears(Word::Inactive, |e| e.able = false), NOTHING);
        assert_does(&rig.passes(3 * DEADTIME), "\"partner not heard for deadtime\"");
        assert_eq!(rig.activity(), Activity::Inactive);
    }
}

#[test]
fn silence_is_measured_anew_when_the_links_are_back() {
    let mut rig = Rig::inactive(Backup);
    rig.does(Event::LinkDown);
    rig.passes(3 * DEADTIME);
    assert_does(
        &rig.does(Event::LinksUp),
        "\"Local NIC link(s) restored: Pulse enabled\"
         send Inactive",
    );
    assert_does(&rig.does(Event::LinksUp), NOTHING);
    assert_does(&rig.passes(DEADTIME - 1), NOTHING);
    assert!(rig.passes(1).contains("partner dead"));
}

#[test]
fn a_link_that_comes_back_at_once_does_not_take_the_service_back() {
    let mut rig = Rig::active(Master);
    rig.does(Event::LinkDown);
    rig.does(Event::Stopped);
    rig.does(Event::LinksUp);
    // The partner has not heard of it yet.
    assert_does(&rig.hears(Word::Inactive, |_| {}), NOTHING);
    assert_does(&rig.passes_hearing(DEADTIME, Word::Inactive), NOTHING);
    assert!(rig.passes_hearing(2 * KEEPALIVE, Word::Inactive).contains("Activate"));
}

#[test]
fn links_do_not_matter_where_nobody_else_could_serve() {
    let mut rig = Rig::started(Settings { partner: false, ..settings(Master) });
    rig.does(Event::Loaded);
    assert_does(&rig.does(Event::LinkDown), NOTHING);
    assert_eq!(rig.activity(), Activity::Active);
}
