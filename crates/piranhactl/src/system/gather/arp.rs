//! Asks by ARP who has the addresses that move (RFC 5227, section 2.1.1: a probe comes from
//! 0.0.0.0, so that nobody's cache is changed by it).

use super::neighbours;
use crate::system::facts::{Facts, Heard};
use crate::system::judge::moving;
use lvs_config::Config;
use lvs_net::{Link, arp};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How often an address is asked for: a frame may be lost.
const ROUNDS: u32 = 3;
/// How long answers are waited for after each. They take far less than a millisecond.
const WAIT: Duration = Duration::from_millis(150);
/// Most of those that are known asked for on an interface.
const MOST_NEIGHBOURS: usize = 256;

/// An interface, and the addresses that are asked for there.
struct Segment {
    link: Link,
    socket: arp::Socket,
    addresses: BTreeSet<Ipv4Addr>,
}

/// Adds who has answered to the facts.
pub(super) fn ask(config: &Config, facts: &mut Facts) {
    let mut segments = segments(config, facts);
    let own: BTreeSet<[u8; 6]> = facts.links.iter().filter_map(|link| link.mac).collect();
    let heard = probe(&mut segments, &own, facts);
    // Who is it? One of those that are known, perhaps.
    segments.retain(|segment| {
        segment.addresses.iter().any(|addr| heard.iter().any(|h| h.address == *addr))
    });
    for segment in &mut segments {
        segment.addresses = neighbours_on(&segment.link, config, facts);
    }
    facts.heard.extend(heard);
    let known = probe(&mut segments, &own, facts);
    facts.heard.extend(known);
}

/// The interfaces on which the addresses that move are to be, as far as they can be asked there.
fn segments(config: &Config, facts: &mut Facts) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    for moving in moving(config) {
        if let Some(segment) = segments.iter_mut().find(|s| s.link.name == moving.interface()) {
            segment.addresses.insert(moving.addr);
            continue;
        }
        let link =
            facts.link(moving.interface()).filter(|link| link.arp && link.up && link.carrier);
        let Some(link) = link.cloned() else { continue };
        match arp::Socket::open(&link.name) {
            Ok(socket) => {
                let addresses = BTreeSet::from([moving.addr]);
                segments.push(Segment { link, socket, addresses });
            }
            Err(error) => facts.unknown.push(unknown(&link, &error)),
        }
    }
    segments
}

fn unknown(link: &Link, error: &lvs_net::Error) -> String {
    format!("who answers for the virtual addresses on {}: {error}", link.name)
}

/// The directors and real servers on an interface's own network.
fn neighbours_on(link: &Link, config: &Config, facts: &Facts) -> BTreeSet<Ipv4Addr> {
    let near = |addr: &Ipv4Addr| {
        let route = facts.route(*addr);
        !facts.bears(*addr) && route.is_some_and(|r| r.via.is_none() && r.interface == link.name)
    };
    neighbours(config).into_iter().filter(near).take(MOST_NEIGHBOURS).collect()
}

/// Asks on all segments at once. One on which that fails is told and left out.
fn probe(
    segments: &mut Vec<Segment>,
    own: &BTreeSet<[u8; 6]>,
    facts: &mut Facts,
) -> BTreeSet<Heard> {
    let mut heard = BTreeSet::new();
    let mut failed = |segment: &Segment, result: Result<(), lvs_net::Error>| {
        if let Err(error) = &result {
            facts.unknown.push(unknown(&segment.link, error));
        }
        result.is_ok()
    };
    for _ in 0..ROUNDS {
        segments.retain(|segment| failed(segment, segment.send()));
        let end = Instant::now() + WAIT;
        while wait(segments, end) {
            segments.retain(|segment| failed(segment, segment.receive(own, &mut heard)));
        }
    }
    heard
}

impl Segment {
    fn send(&self) -> Result<(), lvs_net::Error> {
        let Some(mac) = self.link.mac else { return Ok(()) };
        let mut addresses = self.addresses.iter();
        addresses
            .try_for_each(|addr| self.socket.send(&arp::request(Ipv4Addr::UNSPECIFIED, mac, *addr)))
    }

    /// Takes in one packet, so that a storm of others does not outlast the end of the wait.
    fn receive(
        &self,
        own: &BTreeSet<[u8; 6]>,
        heard: &mut BTreeSet<Heard>,
    ) -> Result<(), lvs_net::Error> {
        let Some(packet) = self.socket.receive()? else { return Ok(()) };
        // Whoever speaks as an address bears it, in a request as in a reply.
        if self.addresses.contains(&packet.sender) && !own.contains(&packet.sender_mac) {
            heard.insert(Heard { address: packet.sender, mac: packet.sender_mac });
        }
        Ok(())
    }
}

/// Whether there is something to read before `end`.
fn wait(segments: &[Segment], end: Instant) -> bool {
    let left = end.saturating_duration_since(Instant::now());
    if segments.is_empty() || left.is_zero() {
        return false;
    }
    let mut fds: Vec<PollFd<'_>> = segments
        .iter()
        .map(|segment| PollFd::new(segment.socket.as_fd(), PollFlags::POLLIN))
        .collect();
    // Rounded up, so as not to come back too early over and over.
    let limit = u16::try_from(left.as_millis() + 1).map_or(PollTimeout::MAX, PollTimeout::from);
    poll(&mut fds, limit).is_ok_and(|ready| ready > 0)
}
