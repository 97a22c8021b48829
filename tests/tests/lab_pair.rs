//! The laboratory tries itself: what the tests of a pair take for granted.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

use std::{
    net::UdpSocket,
    time::{Duration, Instant},
};

use lab::{Behaviour, Kind, Lab, Method, Node, PATIENCE, Rank, Site};

/// Long enough for what must not come.
const MOMENT: Duration = Duration::from_millis(300);

fn pair(name: &str) -> (Node, Node, Lab) {
    let lab = Lab::new(name);
    let one = lab.node("one").nic("eth0", "lan", &["10.0.0.1/24"]).build();
    let two = lab.node("two").nic("eth0", "lan", &["10.0.0.2/24"]).build();
    (one, two, lab)
}

#[test]
fn a_prober_knows_how_long_nobody_answered() {
    let (client, server, _lab) = pair("prober");
    let name = server.name_server("10.0.0.2:80");
    let prober = client.prober(&["10.0.0.2:80"]);
    prober.wait_answers(Instant::now(), 100, PATIENCE).unwrap();
    let begun = Instant::now();
    prober.wait_answers(begun, 100, PATIENCE).unwrap();
    eprintln!("100 answers in {:?}, gap {:?}", begun.elapsed(), prober.gap(begun));
    let counts = prober.counts();
    assert_eq!(counts.answered.keys().collect::<Vec<_>>(), ["two"]);
    assert_eq!((counts.refused, counts.failed, counts.lost), (0, 0, 0));

    // A partition: nothing is refused, and the gap is as long as it lasted.
    let cut = Instant::now();
    server.isolate("eth0");
    let isolated = Instant::now();
    assert!(prober.wait_served(isolated, MOMENT).is_err());
    let healing = Instant::now();
    server.rejoin("eth0");
    let healed = Instant::now();
    prober.wait_served(healed, PATIENCE).unwrap();
    let gap = prober.gap(cut);
    assert!(gap >= healing - isolated && gap <= cut.elapsed() + MOMENT, "{gap:?}");
    assert_eq!(prober.counts_after(cut).refused, 0);

    // Nobody listens: all are refused.
    drop(name);
    let stopped = Instant::now();
    assert!(prober.wait_served(stopped, MOMENT).is_err());
    assert!(prober.counts_after(stopped).refused > 0);
    assert!(prober.gap(stopped) >= MOMENT);
}

#[test]
fn a_flow_stalls_and_breaks() {
    let (client, server, _lab) = pair("flow");
    let echo = server.tcp_server("10.0.0.2:80", Behaviour::Echo);
    let flow = client.flow("10.0.0.2:80");
    flow.wait_alive(PATIENCE).unwrap();
    let cut = Instant::now();
    client.unplug("eth0");
    let unplugged = Instant::now();
    assert!(flow.wait_alive(MOMENT).is_err());
    let plugging = Instant::now();
    client.plug("eth0");
    flow.wait_alive(PATIENCE).unwrap();
    assert!(flow.stall(cut) >= plugging - unplugged);
    assert_eq!(flow.broken(), None);
    echo.stop();
    assert!(flow.wait_alive(PATIENCE).unwrap_err().to_string().contains("broken"));
    assert!(flow.broken().is_some());
}

#[test]
fn addresses_are_seen_in_the_order_of_the_kernel() {
    let (one, two, lab) = pair("addresses");
    let watch = lab.watch_addresses(&[one.clone(), two.clone()]);
    one.ip("addr add 10.0.0.9/24 dev eth0 label eth0:1");
    watch.wait(&one, "10.0.0.9", true, PATIENCE).unwrap();
    one.ip("addr del 10.0.0.9/24 dev eth0");
    two.ip("addr add 10.0.0.9/24 dev eth0");
    watch.wait(&two, "10.0.0.9", true, PATIENCE).unwrap();
    watch.wait(&one, "10.0.0.9", false, PATIENCE).unwrap();
    let seen: Vec<(String, bool, String)> =
        watch.events().into_iter().map(|event| (event.node, event.added, event.label)).collect();
    let event = |node: &str, added, label: &str| (node.to_owned(), added, label.to_owned());
    let wanted =
        [event("one", true, "eth0:1"), event("one", false, "eth0:1"), event("two", true, "eth0")];
    assert_eq!(seen, wanted);
    assert_eq!(watch.overlaps("10.0.0.9"), []);
    one.ip("addr add 10.0.0.9/24 dev eth0");
    two.ip("addr del 10.0.0.9/24 dev eth0");
    watch.wait(&two, "10.0.0.9", false, PATIENCE).unwrap();
    assert_eq!(watch.overlaps("10.0.0.9").len(), 1);
}

#[test]
fn a_capture_of_one_kind_sees_nothing_else() {
    let (client, server, _lab) = pair("kinds");
    let beats = server.capture_only("eth0", Kind::Udp(539));
    let arps = server.capture_only("eth0", Kind::Arp);
    let pings = server.capture_only("eth0", Kind::Ipv4(1));
    let socket = client.enter(|| UdpSocket::bind("10.0.0.1:5")).unwrap();
    for port in [538, 539, 540, 539] {
        socket.send_to(b"beat", ("10.0.0.2", port)).unwrap();
    }
    // The closed ports are answered by ICMP.
    pings.wait_count(|_| true, 1, PATIENCE).unwrap();
    beats.wait_count(|_| true, 2, PATIENCE).unwrap();
    arps.wait_count(|_| true, 2, PATIENCE).unwrap();
    let ports = beats.frames().iter().map(|f| f.udp().unwrap().destination.port()).collect();
    let ports: Vec<u16> = ports;
    assert_eq!(ports, [539, 539]);
    assert!(arps.frames().iter().all(|frame| frame.arp().is_some()));
    assert!(pings.frames().iter().all(|frame| frame.ipv4().unwrap().2 == 1));
}

#[test]
fn two_originals_behave_as_two_originals() {
    let site = Site::new(Method::Direct, 2, 0);
    let [d1, d2] = &site.directors[..] else { panic!("two directors") };
    let watch = site.lab.watch_addresses(&site.directors);
    let master = d1.original(
        Rank::Master,
        &[("10.0.0.11", "10.0.0.12"), ("192.168.0.11", "192.168.0.12")],
        "10.0.0.100/24",
        "eth0",
    );
    let backup = d2.original(
        Rank::Backup,
        &[("10.0.0.12", "10.0.0.11"), ("192.168.0.12", "192.168.0.11")],
        "10.0.0.100/24",
        "eth0",
    );
    // Both hear "inactive" and become active; the backup gives way.
    master.wait(true, PATIENCE).unwrap();
    backup.wait_heard(|heard| heard.active() == Some(true), PATIENCE).unwrap();
    backup.wait(false, PATIENCE).unwrap();
    let beat = backup.heard().first().cloned().unwrap();
    assert_eq!((beat.from.port(), beat.bytes.len()), (539, 4));
    assert!(master.active());
    // Stopped, it says nothing: its partner waits for the end of the deadtime.
    master.stop();
    watch.wait(d1, "10.0.0.100", false, PATIENCE).unwrap();
    backup.wait(true, PATIENCE).unwrap();
    watch.wait(d2, "10.0.0.100", true, PATIENCE).unwrap();
}
