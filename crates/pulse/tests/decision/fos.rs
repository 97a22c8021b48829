//! fos: monitors, the gateway, taking control.

use crate::rig::{DEADTIME, KEEPALIVE, Rig, assert_does, settings};
use lvs_config::ServiceKind;
use pulse::decision::{Activity, Event, Settings};
use pulse::wire::Role::{self, Backup, Master};
use pulse::wire::Word;

const NOTHING: &str = "";
const PAUSE: u64 = 1_000;

fn fos(role: Role) -> Settings {
    Settings { service: ServiceKind::Fos, ..settings(role) }
}

fn ended() -> Event {
    Event::ServiceFailed("Child process 7 exited with status 0".to_owned())
}

/// An inactive node whose partner has been active for deadtime.
fn watching(role: Role) -> Rig {
    let mut rig = Rig::inactive_by(fos(role));
    rig.hears(Word::FosActive, |e| e.since_ms = 60_000);
    rig
}

/// The same, when the monitor has found the service dead and the gateway was reached.
fn taking(role: Role) -> Rig {
    let mut rig = watching(role);
    rig.does(ended());
    rig.does(Event::Gateway(true));
    assert_eq!(rig.activity(), Activity::TakingControl);
    rig
}

#[test]
fn an_inactive_node_watches_the_partner_from_the_start() {
    let mut rig = Rig::new(fos(Backup));
    assert_does(
        &rig.does(Event::Start),
        "StartMonitor
         send FosInactive",
    );
}

#[test]
fn a_master_without_partner_serves_at_once() {
    let mut rig = Rig::new(Settings { partner: false, ..fos(Master) });
    assert_does(
        &rig.does(Event::Start),
        "\"no partner configured: activating fos\"
         Activate",
    );
}

#[test]
fn the_monitor_starts_again_when_the_service_has_stopped_here() {
    let mut rig = Rig::active_by(fos(Backup));
    rig.hears(Word::FosActive, |_| {});
    assert_does(&rig.does(Event::Stopped), "StartMonitor");
}

#[test]
fn services_that_end_are_started_again() {
    let mut rig = Rig::active_by(fos(Master));
    rig.passes_hearing(DEADTIME, Word::FosInactive);
    let told = "\"Child process 7 exited with status 0\"
         \"fos process exited -- restarting it\"";
    assert_does(&rig.does(ended()), &format!("{told}\nRestart"));
    assert_does(&rig.does(ended()), told);
    assert_does(&rig.passes(PAUSE - 1), NOTHING);
    assert_does(&rig.passes(1), "Restart");
    assert_eq!(rig.activity(), Activity::Active);
}

#[test]
fn a_monitor_that_ends_asks_the_gateway_and_takes_control() {
    let mut rig = watching(Backup);
    assert_does(
        &rig.does(ended()),
        "\"Child process 7 exited with status 0\"
         ProbeGateway",
    );
    assert_does(
        &rig.does(Event::Gateway(true)),
        "\"remote service unavailable but we can see the gateway\"
         \"seems like a remote network fault; performing service failover\"
         send TakeControl",
    );
    assert_does(&rig.hears(Word::FosActive, |_| {}), NOTHING);
    assert_does(
        &rig.hears(Word::FosInactive, |_| {}),
        "\"primary inactive: activating fos\"
         send FosActive
         Activate",
    );
}

#[test]
fn control_over_a_silent_partner_is_taken_after_deadtime() {
    let mut rig = taking(Backup);
    let done = rig.passes(DEADTIME);
    assert!(done.starts_with("\"partner dead: activating fos\""), "{done}");
}

#[test]
fn a_partner_that_does_not_yield_is_monitored_again() {
    let mut rig = taking(Master);
    let done = rig.passes_hearing(DEADTIME + 2 * KEEPALIVE, Word::FosActive);
    assert_does(
        &done,
        "\"the partner does not go inactive: back to monitoring\"
         send FosInactive",
    );
    assert_does(&rig.passes_hearing(PAUSE, Word::FosActive), "StartMonitor");
    assert_eq!(rig.activity(), Activity::Inactive);
}

#[test]
fn of_two_that_take_control_the_master_does() {
    let mut rig = taking(Master);
    assert!(rig.hears(Word::TakeControl, |_| {}).contains("Activate"));

    let mut rig = taking(Backup);
    let done = rig.hears(Word::TakeControl, |_| {});
    assert_does(&done, "\"the partner takes control as well: leaving it to the partner\"");
    assert_eq!(rig.activity(), Activity::Inactive);
}

#[test]
fn a_node_without_gateway_waits_for_a_heartbeat() {
    let mut rig = watching(Backup);
    rig.does(ended());
    let done = rig.does(Event::Gateway(false));
    assert_does(&done, "\"remote service unavailable; gateway unavailable\"");
    assert_eq!(rig.activity(), Activity::Isolated);
    let silent = rig.passes(DEADTIME);
    assert_does(&silent, "\"partner not heard for deadtime\"");
    let done = rig.hears(Word::FosActive, |_| {});
    assert!(done.contains("\"Network fault seems to be fixed\""), "{done}");
    assert_does(&rig.passes(PAUSE), "StartMonitor");
}

#[test]
fn a_node_without_gateway_asks_again() {
    let mut rig = watching(Backup);
    rig.does(ended());
    rig.does(Event::Gateway(false));
    assert!(rig.passes(10_000).contains("ProbeGateway"));
    assert_does(&rig.does(Event::Gateway(false)), NOTHING);
    assert!(rig.passes(10_000).contains("ProbeGateway"));
    assert_does(&rig.does(Event::Gateway(true)), "\"Network fault seems to be fixed\"");
    let done = rig.passes(DEADTIME);
    assert!(done.contains("partner dead: activating fos"), "{done}");
}

#[test]
fn a_gateway_that_nobody_tells_of_does_not_answer() {
    let mut rig = watching(Backup);
    rig.does(ended());
    let done = rig.passes_hearing(15_000, Word::FosActive);
    assert!(done.contains("gateway unavailable"), "{done}");
}

#[test]
fn a_partner_that_has_just_become_active_gets_time() {
    let mut rig = Rig::inactive_by(fos(Backup));
    assert_does(&rig.does(ended()), "\"Child process 7 exited with status 0\"");
    assert_does(&rig.passes(PAUSE), "StartMonitor");
}

#[test]
fn a_partner_that_hands_over_is_believed_while_the_gateway_is_asked() {
    let mut rig = watching(Backup);
    rig.does(ended());
    let done = rig.hears(Word::FosInactive, |e| e.handing_over = true);
    assert!(done.ends_with("Activate"), "{done}");
}

#[test]
fn control_is_not_taken_from_a_partner_that_has_given_it_up() {
    let mut rig = watching(Backup);
    rig.does(ended());
    rig.hears(Word::FosInactive, |e| (e.start, e.seq) = (2, 1));
    assert_does(&rig.does(Event::Gateway(true)), NOTHING);
}

#[test]
fn a_handover_needs_no_preparation() {
    let mut rig = Rig::active_by(fos(Master));
    assert_does(
        &rig.does(Event::Handover(3)),
        "\"handing over to the partner\"
         \"handover: deactivating FOS\"
         Deactivate
         send FosInactive handing-over",
    );
}

#[test]
fn a_dead_link_ends_the_monitor() {
    let mut rig = Rig::inactive_by(fos(Backup));
    assert!(rig.does(Event::LinkDown).contains("StopMonitor"));
    assert!(rig.does(Event::LinksUp).contains("StartMonitor"));
}

#[test]
fn an_end_stops_the_monitor_first() {
    let mut rig = Rig::inactive_by(fos(Backup));
    assert_does(
        &rig.does(Event::Terminate(15)),
        "\"Terminating due to signal 15\"
         StopMonitor
         Deactivate
         send FosInactive unable leaving",
    );
}
