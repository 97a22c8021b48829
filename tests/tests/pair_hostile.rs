//! Datagrams from anybody: whatever comes, the roles stay, the log stays short, and nothing is lost.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod director;
mod pair;

use std::{
    fs,
    net::UdpSocket,
    time::{Duration, Instant},
};

use director::wait;
use lab::{Method, Node, PATIENCE};
use pair::{Pair, child, pid, state, status, wait_status};

/// How long a flood lasts: several times the deadtime.
const FLOOD: Duration = Duration::from_secs(2);

/// Somebody on the segment who also sends under the address of a director, and keeps silent about it.
fn forger(pair: &Pair) -> Node {
    pair.site
        .lab
        .node("forger")
        .nic("eth0", "lan", &["10.0.0.67/24"])
        .ip("addr add 10.0.0.12/32 dev lo")
        .sysctl("net.ipv4.conf.all.arp_ignore", 1)
        .sysctl("net.ipv4.conf.all.arp_announce", 2)
        .build()
}

/// Bytes that look like chance and are the same every time (xorshift, Marsaglia 2003).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn datagram(&mut self) -> Vec<u8> {
        let length = usize::try_from(self.next() % 64).unwrap();
        (0..length).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

fn resident_kib(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// How many datagrams pulse has counted on its public path: foreign, and bad ones of the partner.
fn counted(node: &Node) -> (u64, u64) {
    let status = status(node).unwrap();
    let path = &status["paths"][0];
    (path["foreign"].as_u64().unwrap(), path["bad"].as_u64().unwrap())
}

#[test]
fn datagrams_of_strangers_change_nothing() {
    let pair = Pair::new(Method::Direct);
    let forger = forger(&pair);
    let stranger = pair.site.lab.node("stranger").nic("eth0", "lan", &["10.0.0.66/24"]).build();
    // Verbose nodes log what they refuse; these are verbose.
    pair.start(&pair.config(&[]));
    let prober = pair.prober();
    let begun = Instant::now();
    let words: [u32; 7] =
        [0xbdad_dbda, 0xadbd_dabd, 0xbeef_babe, 0xdead_beef, 0xdead_dada, 0xdeaf_babe, 0xdeaf_dada];
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    for (target, victim) in [("10.0.0.11:539", 0), ("10.0.0.12:539", 1)] {
        let node = pair.node(victim);
        let (memory, lines) = (resident_kib(pid(node)), node.syslog().lines().len());
        let before = counted(node);
        let socket = stranger.enter(|| UdpSocket::bind("10.0.0.66:539")).unwrap();
        let other = stranger.enter(|| UdpSocket::bind("10.0.0.66:5390")).unwrap();
        let until = Instant::now() + FLOOD;
        for at in (0_usize..).take_while(|_| Instant::now() < until) {
            // What cannot be sent is not missed.
            let bytes = match at % 3 {
                0 => noise.datagram(),
                1 => words[at % words.len()].to_le_bytes().to_vec(),
                _ => words[at % words.len()].to_be_bytes().to_vec(),
            };
            let _ = if at % 2 == 0 { &socket } else { &other }.send_to(&bytes, target);
        }
        wait("the flood is counted", || (counted(node).0 > before.0).then_some(()));
        wait_status(node, "the partner is heard", |s| {
            s["partner"]["heard_ms"].as_u64() < Some(600)
        });
        let (grown, more) =
            (resident_kib(pid(node)).saturating_sub(memory), node.syslog().lines().len() - lines);
        println!(
            "{target}: {:?} foreign and bad, {more} log lines, {grown} KiB more",
            counted(node)
        );
        assert!(more < 100, "{more} log lines");
        assert!(grown < 2048, "{grown} KiB");
        assert_eq!(
            (state(pair.node(0)), state(pair.node(1))),
            ("active".into(), "inactive".into())
        );
    }

    // Under the partner's address: what is no heartbeat says nothing, whatever its length.
    let node = pair.node(0);
    let (memory, lines) = (resident_kib(pid(node)), node.syslog().lines().len());
    let lvsd = child(node);
    let before = counted(node);
    for port in [539, 5390] {
        let socket = forger.enter(|| UdpSocket::bind(("10.0.0.12", port))).unwrap();
        let until = Instant::now() + FLOOD;
        while Instant::now() < until {
            let mut bytes = noise.datagram();
            if let Some(first) = bytes.first_mut() {
                // No word of the protocol begins so, in either order.
                *first = 0;
            }
            let _ = socket.send_to(&bytes, "10.0.0.11:539");
        }
    }
    wait("the flood is counted", || (counted(node).1 > before.1).then_some(()));
    let (grown, more) =
        (resident_kib(pid(node)).saturating_sub(memory), node.syslog().lines().len() - lines);
    println!(
        "as the partner: {:?} foreign and bad, {more} log lines, {grown} KiB more",
        counted(node)
    );
    assert!(more < 100, "{more} log lines");
    assert!(grown < 2048, "{grown} KiB");
    assert_eq!(child(node), lvsd, "lvsd is the same");

    prober.wait_served(Instant::now(), PATIENCE).unwrap();
    println!("gap during all of it: {} ms", prober.gap(begun).as_millis());
    pair.wait_settled(0);
    for node in &pair.site.directors {
        for line in node.syslog().lines().iter().filter(|line| line.at > begun) {
            let of_failover = ["partner", "activating", "panicked", "died"];
            let bad = of_failover.iter().any(|word| line.text.contains(word));
            assert!(!bad, "{}: {line}", node.name());
        }
    }
    pair.assert_never_both();
    pair.stop();
}
