//! Who answers for the addresses that move.

use super::{Moving, Site};
use crate::system::facts::Heard;
use crate::system::finding::Finding;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

pub(super) fn judge(site: &Site<'_>, findings: &mut Vec<Finding>) {
    for moving in site.moving() {
        let answers: BTreeSet<[u8; 6]> = macs(site, moving.addr);
        for mac in &answers {
            findings.extend(stranger(site, &moving, *mac, answers.len()));
        }
    }
}

fn macs(site: &Site<'_>, addr: Ipv4Addr) -> BTreeSet<[u8; 6]> {
    let heard = site.facts.heard.iter().filter(|heard| heard.address == addr);
    heard.map(|heard| heard.mac).collect()
}

/// What it means that another machine has answered for an address that moves.
fn stranger(site: &Site<'_>, moving: &Moving<'_>, mac: [u8; 6], answers: usize) -> Option<Finding> {
    let (addr, what) = (moving.addr, moving.what);
    let shown = shown(mac);
    if let Some((name, server)) = real_server(site, mac) {
        return Some(
            Finding::error(
                "server-answers",
                format!("{what}: real server {name} ({server}, {shown}) answers ARP requests for {addr}: it takes clients away from the director"),
            )
            .hint(format!("on {name}: sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2")),
        );
    }
    let partner =
        site.paths.iter().flat_map(|path| macs(site, path.partner)).collect::<BTreeSet<_>>();
    let is_partner = partner.contains(&mac);
    // Whoever bears it among the two is right only if it is the one that serves.
    if site.facts.bears(addr) && !borne_quietly(site, addr) {
        let who = if is_partner { "the partner" } else { "another machine" };
        return Some(
            Finding::error(
                "address-twice",
                format!("{what}: this node bears {addr}, and {who} ({shown}) answers for it too"),
            )
            .hint(format!(
                "piranhactl status on both nodes; arping -D -I {} {addr}",
                moving.interface()
            )),
        );
    }
    let pulse = site.facts.pulse;
    let partner_serves = pulse.is_some_and(|pulse| pulse.partner_active);
    if site.paths.is_empty() {
        return Some(Finding::error(
            "address-in-use",
            format!("{what}: {addr} is used by another machine ({shown})"),
        ));
    }
    match (is_partner, pulse) {
        (true, Some(_)) if !partner_serves => Some(
            Finding::error(
                "address-in-use",
                format!("{what}: the partner ({shown}) answers for {addr} although it is not active"),
            )
            .hint(format!("on the partner: ip address show to {addr}; piranhactl status")),
        ),
        (true, _) => None,
        // It may have more than one NIC there; two answers are one too many.
        (false, _) if partner_serves && answers == 1 && partner.is_empty() => None,
        (false, Some(_)) if !partner.is_empty() && !partner_serves => Some(Finding::error(
            "address-in-use",
            format!("{what}: {addr} is used by another machine ({shown}), which is not the partner"),
        )),
        (false, _) => Some(
            Finding::warning(
                "address-in-use",
                format!("{what}: somebody ({shown}) answers for {addr}"),
            )
            .hint("all is well if that is the partner, being active: look there with piranhactl status"),
        ),
    }
}

/// Real servers with direct routing or tunnels bear the address where nobody sees it.
fn borne_quietly(site: &Site<'_>, addr: Ipv4Addr) -> bool {
    site.facts.bearers(addr).all(|name| name == "lo" || name.starts_with("tunl"))
}

fn real_server<'a>(site: &Site<'a>, mac: [u8; 6]) -> Option<(&'a str, Ipv4Addr)> {
    site.servers().find_map(|(block, server)| {
        let heard = |heard: &&Heard| heard.address == server && heard.mac == mac;
        site.facts.heard.iter().find(heard)?;
        let found = block.active_servers().find(|found| found.address == Some(server))?;
        Some((found.name.as_str(), server))
    })
}

fn shown(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NAT, address, direct, with};
    use super::*;
    use crate::system::facts::{Facts, Pulse};

    const PARTNER: [u8; 6] = [2, 0, 0, 0, 9, 1];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 9, 2];

    fn heard(addr: [u8; 4], mac: [u8; 6]) -> Heard {
        Heard { address: addr.into(), mac }
    }

    #[test]
    fn who_answers_and_whether_that_is_right() {
        let vip = |mac| vec![heard([10, 0, 0, 100], mac)];
        let known = |mac| vec![heard([10, 0, 0, 100], mac), heard([10, 0, 0, 12], PARTNER)];
        let active = Some(Pulse { partner_active: false });
        let waiting = Some(Pulse { partner_active: true });
        let nobody = Some(Pulse { partner_active: false });
        let both = vec![
            heard([10, 0, 0, 100], PARTNER),
            heard([10, 0, 0, 100], OTHER),
            heard([10, 0, 0, 12], PARTNER),
        ];
        let server = vec![heard([10, 0, 0, 100], OTHER), heard([10, 0, 0, 22], OTHER)];
        type Case<'a> = (&'a str, Vec<Heard>, bool, Option<Pulse>, &'a [&'a str]);
        let cases: [Case<'_>; 14] = [
            ("nobody", vec![], false, None, &[]),
            ("nobody, and we bear it", vec![], true, active, &[]),
            ("the partner, which is active", known(PARTNER), false, waiting, &[]),
            ("the partner, pulse silent", known(PARTNER), false, None, &[]),
            (
                "the partner, which is not active",
                known(PARTNER),
                false,
                nobody,
                &["address-in-use"],
            ),
            ("the partner, and we bear it", known(PARTNER), true, active, &["address-twice"]),
            ("another, and we bear it", vip(OTHER), true, active, &["address-twice"]),
            ("another, the partner known", known(OTHER), false, nobody, &["address-in-use"]),
            ("somebody, the partner active", vip(OTHER), false, waiting, &[]),
            (
                "another, the partner known and active",
                known(OTHER),
                false,
                waiting,
                &["address-in-use"],
            ),
            ("somebody, pulse silent", vip(OTHER), false, None, &["address-in-use"]),
            ("two", both, false, waiting, &["address-in-use"]),
            ("a real server", server.clone(), false, waiting, &["server-answers"]),
            ("a real server, and we bear it", server, true, active, &["server-answers"]),
        ];
        for (what, answers, ours, pulse, want) in cases {
            let got = with(&direct(), |facts: &mut Facts| {
                facts.heard = answers;
                facts.pulse = pulse;
                if ours {
                    facts.addresses.push(address(3, [10, 0, 0, 100], 24, "eth1:1"));
                }
            });
            assert_eq!(got, want, "{what}");
        }
    }

    #[test]
    fn without_a_partner_anybody_is_too_many() {
        let alone = NAT.replace("backup_active = 1", "");
        let answer = |facts: &mut Facts| facts.heard = vec![heard([10, 0, 0, 254], OTHER)];
        assert_eq!(with(&alone, answer), ["address-in-use"]);
        let others = |facts: &mut Facts| facts.heard = vec![heard([10, 0, 0, 253], OTHER)];
        assert_eq!(with(&alone, others), Vec::<&str>::new());
    }
}
