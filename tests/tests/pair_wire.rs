//! What goes over the wire: heartbeats, gratuitous ARPs, and a partner that is an original pulse.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod director;
mod pair;

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use director::{logged, wait, wait_empty, wait_logged};
use lab::{Capture, Kind, Method, PATIENCE, Rank, Udp};
use nix::sys::signal::Signal;
use pair::{
    Pair, ask, assert_clean, kill_pulse, signal, start, state, status, stop, wait_state,
    wait_status,
};

/// What the payloads of two original nodes on x86 look like.
const ACTIVE: [u8; 4] = [0xda, 0xdb, 0xad, 0xbd];
const INACTIVE: [u8; 4] = [0xbd, 0xda, 0xbd, 0xad];

/// The times at which an original works; it takes nothing below a second.
const SECONDS: [&str; 2] = ["keepalive = 1", "deadtime = 3"];

fn heartbeats(capture: &Capture, from: &str) -> Vec<(Instant, Udp)> {
    let frames = capture.frames().into_iter();
    let found = frames.filter_map(|frame| Some((frame.at, frame.udp()?)));
    found.filter(|(_, udp)| udp.source.ip().to_string() == from).collect()
}

/// The word of a heartbeat, in this machine's order.
fn word(udp: &Udp) -> [u8; 4] {
    let bytes = *udp.payload.first_chunk().unwrap();
    let number = u32::from_ne_bytes(bytes).to_le_bytes();
    assert!([ACTIVE, INACTIVE].contains(&number), "{bytes:02x?}");
    number
}

#[test]
fn heartbeats_go_both_ways_on_both_paths() {
    let pair = Pair::new(Method::Direct);
    let public = pair.node(0).capture_only("eth0", Kind::Udp(539));
    let private = pair.node(0).capture_only("eth1", Kind::Udp(539));
    pair.start(&pair.config(&[]));
    for (capture, (first, second)) in [&public, &private].into_iter().zip(pair.paths()) {
        for (from, to, said) in [(first, second, ACTIVE), (second, first, INACTIVE)] {
            let wanted = |frame: &lab::Frame| {
                let udp = frame.udp().filter(|udp| udp.source.ip().to_string() == from);
                udp.is_some_and(|udp| word(&udp) == said)
            };
            let beat = capture.wait_count(wanted, 3, PATIENCE).unwrap().udp().unwrap();
            assert_eq!((beat.source.port(), beat.destination.port()), (539, 539));
            assert_eq!(beat.destination.ip().to_string(), to);
            // The first thing anybody says is that it is not active.
            let all = heartbeats(capture, from);
            assert_eq!(word(&all[0].1), INACTIVE);
            // And they do not come more often than they should: one at each change besides.
            let span = all[all.len() - 1].0 - all[0].0;
            let most = usize::try_from(span.as_millis() / 200).unwrap() + 8;
            assert!(all.len() <= most, "{} in {span:?}", all.len());
        }
    }
    // The last word of a node that ends, and it is said when the address is gone.
    let begun = Instant::now();
    signal(pair.node(0), Signal::SIGTERM);
    wait_empty(pair.node(0));
    let gone = pair.watch.wait(pair.node(0), pair.site.vip, false, PATIENCE).unwrap();
    for (capture, (first, _)) in [&public, &private].into_iter().zip(pair.paths()) {
        let all: Vec<_> = heartbeats(capture, first).into_iter().filter(|b| b.0 > begun).collect();
        let inactive = all.iter().find(|(_, udp)| word(udp) == INACTIVE).unwrap();
        println!("\"inactive\" {:?} after the address was gone", inactive.0 - gone);
        assert_eq!(word(&all.last().unwrap().1), INACTIVE);
    }
    wait_state(pair.node(1), "active");
    pair.assert_never_both();
    stop(pair.node(1));
    assert_clean(pair.node(1), pair.site.vip);
}

#[test]
fn five_gratuitous_arps_announce_each_address() {
    let pair = Pair::new(Method::Nat);
    let outside = pair.site.client.capture_only("eth0", Kind::Arp);
    let inside = pair.site.servers[0].capture_only("eth0", Kind::Arp);
    pair.start(&pair.config(&[]));
    wait_logged(pair.node(0), &["gratuitous lvs arps finished"], 1);
    let gratuitous = |capture: &Capture, address: &str| {
        let address: Ipv4Addr = address.parse().unwrap();
        let frames = capture.frames().into_iter();
        let ours = |frame: &lab::Frame| {
            frame.arp().is_some_and(|arp| arp.sender == address && arp.target == address)
        };
        frames.filter(ours).collect::<Vec<_>>()
    };
    let watched = [(&outside, "172.16.0.100", "eth0"), (&inside, "10.0.0.254", "eth1")];
    for (capture, address, nic) in watched {
        let mac = pair.node(0).mac(nic);
        let frames = gratuitous(capture, address);
        assert_eq!(frames.len(), 5, "{address}: {frames:?}");
        for frame in &frames {
            let arp = frame.arp().unwrap();
            assert_eq!((arp.operation, arp.sender_mac, arp.target_mac), (2, mac, mac));
            assert_eq!((frame.destination(), frame.source()), ([0xff; 6], mac));
            assert_eq!(frame.bytes.len(), 60);
            assert!(frame.bytes[42..].iter().all(|byte| *byte == 0), "{:02x?}", frame.bytes);
        }
        // A second apart, of which a slow machine sees less between two and never less in all.
        let span = frames[4].at - frames[0].at;
        println!("{address}: five ARPs in {span:?}");
        assert!(span > Duration::from_millis(3500), "{span:?}");
    }
    // The other node announces them anew, at once.
    let mac = pair.node(1).mac("eth0");
    let begun = Instant::now();
    kill_pulse(pair.node(0));
    let first = outside.wait(
        |f| {
            f.arp().is_some_and(|a| a.sender_mac == mac && a.operation == 2 && a.sender == a.target)
        },
        PATIENCE,
    );
    let first = first.unwrap().at;
    let raised = pair.watch.wait(pair.node(1), pair.site.vip, true, PATIENCE).unwrap();
    println!(
        "takeover: first ARP {:?} after the crash, address up {:?} after it",
        first - begun,
        raised - begun
    );
    wait_logged(pair.node(1), &["gratuitous lvs arps finished"], 1);
    wait_empty(pair.node(0));
    stop(pair.node(1));
    // Duplicate announcements of the node that gave up must not come.
    let later = outside.frames().into_iter().filter(|f| f.at > first);
    let senders: BTreeSet<[u8; 6]> = later
        .filter_map(|f| {
            f.arp().filter(|a| a.sender == a.target && a.sender.to_string() == "172.16.0.100")
        })
        .map(|arp| arp.sender_mac)
        .collect();
    assert_eq!(senders, BTreeSet::from([mac]));
}

/// Our node is the master, the other one an original.
#[test]
fn our_master_with_an_original_backup() {
    let pair = Pair::new(Method::Direct);
    let [public, private] = pair.paths();
    let vip = pair.site.vip;
    let original = || {
        let paths = [(public.1, public.0), (private.1, private.0)];
        pair.node(1).original(Rank::Backup, &paths, &format!("{vip}/24"), "eth0")
    };
    pair.write(&pair.config(&SECONDS));
    // Both start: which one serves is a matter of who speaks first, and one of them does.
    let partner = original();
    start(pair.node(0));
    wait("one serves, and our node knows", || {
        let status = status(pair.node(0)).unwrap_or_default();
        let (ours, theirs) = (&status["node"]["state"], &status["partner"]["state"]);
        match partner.active() {
            true => (ours == "inactive" && theirs == "active").then_some(()),
            false => (ours == "active" && theirs == "inactive").then_some(()),
        }
    });
    println!("with an original backup, both started: it serves: {}", partner.active());
    stop(pair.node(0));
    partner.stop();

    // We serve when it starts.
    start(pair.node(0));
    wait_state(pair.node(0), "active");
    let partner = original();
    partner.wait_heard(|heard| heard.active() == Some(true), PATIENCE).unwrap();
    partner.wait(false, PATIENCE).unwrap();
    let heard = partner.heard();
    assert!(heard.iter().all(|h| h.from.port() == 539 && h.active().is_some()), "{heard:?}");
    let known = wait_status(pair.node(0), "knows it", |s| s["partner"]["state"] == "inactive");
    assert_eq!(known["partner"]["original"], true);

    // It is ended, and takes over at once: our last word makes it.
    let begun = Instant::now();
    signal(pair.node(0), Signal::SIGTERM);
    partner.wait(true, PATIENCE).unwrap();
    println!("an original backup has taken over {:?} after SIGTERM", begun.elapsed());
    wait_empty(pair.node(0));
    let last = partner.heard().last().cloned().unwrap();
    assert_eq!(last.active(), Some(false));
    assert!(begun.elapsed() < Duration::from_secs(3) || last.at < begun + Duration::from_secs(2));

    // It comes back, and does not take back.
    start(pair.node(0));
    wait_status(pair.node(0), "knows it", |s| s["partner"]["state"] == "active");
    assert_eq!(state(pair.node(0)), "inactive");
    // It crashes.
    partner.silence(true);
    wait_logged(pair.node(0), &["partner dead: activating lvs"], 1);
    wait_state(pair.node(0), "active");
    // It was only cut off, and both are active: the backup gives way.
    assert!(partner.active());
    partner.silence(false);
    partner.wait(false, PATIENCE).unwrap();
    wait_logged(pair.node(0), &["partner active: resending arps"], 1);
    assert_eq!(state(pair.node(0)), "active");
    // Handover needs a partner that takes it: an original does by its table.
    wait_status(pair.node(0), "knows it", |s| s["partner"]["state"] == "inactive");
    println!("handover to an original: {:?}", ask(pair.node(0), "handover"));
    wait("the original serves", || partner.active().then_some(()));
    wait_state(pair.node(0), "inactive");
    partner.stop();
    wait_state(pair.node(0), "active");
    stop(pair.node(0));
    assert_clean(pair.node(0), vip);
}

/// Our node is the backup, the other one an original.
#[test]
fn our_backup_with_an_original_master() {
    let pair = Pair::new(Method::Direct);
    let [public, private] = pair.paths();
    let vip = pair.site.vip;
    pair.write(&pair.config(&SECONDS));
    // Both start: the original activates on our first "inactive", and we wait for it.
    let paths = [(public.0, public.1), (private.0, private.1)];
    start(pair.node(1));
    let partner = pair.node(0).original(Rank::Master, &paths, &format!("{vip}/24"), "eth0");
    partner.wait(true, PATIENCE).unwrap();
    wait_status(pair.node(1), "knows it", |s| s["partner"]["state"] == "active");
    assert_eq!(logged(pair.node(1), &["activating lvs"]), 0);
    pair.assert_never_both();

    // It is cut off: we take over. It is back: we give way, and say so with one more "active" before.
    partner.silence(true);
    wait_logged(pair.node(1), &["partner dead: activating lvs"], 1);
    wait_state(pair.node(1), "active");
    partner.silence(false);
    wait_logged(pair.node(1), &["partner active: deactivating LVS"], 1);
    wait_state(pair.node(1), "inactive");
    assert!(partner.active());
    partner.wait_heard(|heard| heard.active() == Some(true), PATIENCE).unwrap();

    // It stops without a word, as it does.
    partner.stop();
    wait_logged(pair.node(1), &["partner dead: activating lvs"], 2);
    wait_state(pair.node(1), "active");

    // It comes back: inactive, and it hears that we serve.
    let partner = pair.node(0).original(Rank::Master, &paths, &format!("{vip}/24"), "eth0");
    partner.wait_heard(|heard| heard.active() == Some(true), PATIENCE).unwrap();
    wait_status(pair.node(1), "knows it", |s| s["partner"]["state"] == "inactive");
    assert!(!partner.active());
    assert_eq!(state(pair.node(1)), "active");
    // We end: it takes over at once.
    signal(pair.node(1), Signal::SIGTERM);
    partner.wait(true, PATIENCE).unwrap();
    wait_empty(pair.node(1));
    assert_clean(pair.node(1), vip);
    let said = partner.heard();
    assert_eq!(said.last().unwrap().active(), Some(false));
}
