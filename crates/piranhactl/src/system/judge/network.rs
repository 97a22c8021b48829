//! Interfaces, addresses, and this node's place in the pair.

use super::Site;
use crate::system::facts::Facts;
use crate::system::finding::Finding;
use lvs_config::{Config, Forwarding, Host};
use std::collections::BTreeSet;

pub(super) fn judge(site: &Site<'_>, findings: &mut Vec<Finding>) {
    role(site, findings);
    devices(site, findings);
    on_link(site, findings);
}

/// Which of the two directors this is.
fn role(site: &Site<'_>, findings: &mut Vec<Finding>) {
    let (config, facts) = (site.config, site.facts);
    // The file's own findings say that it is missing.
    let Some(primary) = &config.primary else { return };
    let backup = config.backup.as_ref().filter(|host| !host.addr.is_unspecified());
    let is_master = facts.bears(primary.addr);
    let is_backup = backup.is_some_and(|host| facts.bears(host.addr));
    match (is_master, is_backup) {
        (true, true) => findings.push(
            Finding::error(
                "both-roles",
                format!(
                    "this node bears the primary's address {} and the backup's {}: each director has one \
                     of them, and neither moves",
                    primary.addr,
                    backup.map_or_else(String::new, |host| host.addr.to_string())
                ),
            )
            .hint("take the other one's address from this node"),
        ),
        (false, false) => {
            let other = backup.map_or_else(String::new, |host| format!(" nor backup ({})", host.text));
            findings.push(
                Finding::error(
                    "no-role",
                    format!(
                        "this node bears neither primary ({}){other}: pulse would take itself for the \
                         backup, and cannot send heartbeats from an address it has not",
                        primary.text
                    ),
                )
                .hint(format!("it has {}", own_addresses(facts))),
            );
        }
        (false, true) if !config.backup_active => findings.push(
            Finding::error(
                "backup-inactive",
                "this is the backup, and backup_active is 0: pulse ends as soon as it is started",
            )
            .hint("set backup_active = 1 on both nodes"),
        ),
        _ => private(config, facts, is_master, findings),
    }
}

/// The address of the second heartbeat path.
fn private(config: &Config, facts: &Facts, is_master: bool, findings: &mut Vec<Finding>) {
    let (key, host): (_, Option<&Host>) = match is_master {
        true => ("primary_private", config.primary_private.as_ref()),
        false => ("backup_private", config.backup_private.as_ref()),
    };
    let Some(host) = host.filter(|host| config.backup_active && !host.addr.is_unspecified()) else {
        return;
    };
    if !facts.bears(host.addr) {
        findings.push(
            Finding::error(
                "no-private",
                format!(
                    "this node does not bear {key} ({}): the second heartbeat path is dead",
                    host.text
                ),
            )
            .hint(format!("it has {}", own_addresses(facts))),
        );
    }
}

fn own_addresses(facts: &Facts) -> String {
    let own = facts.addresses.iter().filter(|address| !address.addr.is_loopback());
    let list: Vec<String> =
        own.map(|address| format!("{} on {}", address.addr, address.label)).collect();
    if list.is_empty() { "no address at all".to_owned() } else { list.join(", ") }
}

/// The interfaces that the file names.
fn devices(site: &Site<'_>, findings: &mut Vec<Finding>) {
    let moving = site.moving();
    let syncd = (site.is_lvs() && site.config.syncdaemon)
        .then_some(("syncd_iface", site.config.syncd_iface.as_str()));
    let named = moving.iter().map(|moving| (moving.what, moving.interface())).chain(syncd);
    let mut told = BTreeSet::new();
    for (what, interface) in named {
        if !told.insert(interface) {
            continue;
        }
        let Some(link) = site.facts.link(interface) else {
            let names: Vec<&str> = site.facts.links.iter().map(|link| link.name.as_str()).collect();
            findings.push(
                Finding::error("no-device", format!("{what}: there is no interface {interface}"))
                    .hint(format!("there are {}; change lvs.cf", names.join(", "))),
            );
            continue;
        };
        if !link.up {
            let text = format!("{what}: interface {interface} is switched off");
            findings.push(
                Finding::error("device-down", text)
                    .now(format!("ip link set {interface} up"))
                    .keep("in the network configuration of this system"),
            );
        } else if !link.carrier {
            let text = format!("{what}: interface {interface} has no carrier");
            findings.push(
                Finding::error("device-down", text)
                    .hint("look at the cable, the switch and its port"),
            );
        }
    }
}

/// Direct routing changes the link-layer address alone, so servers must be neighbours.
fn on_link(site: &Site<'_>, findings: &mut Vec<Finding>) {
    if !site.is_lvs() || site.config.network != Forwarding::Direct {
        return;
    }
    let mut told = BTreeSet::new();
    for (block, server) in site.servers() {
        let Some(via) = site.facts.route(server).and_then(|route| route.via) else { continue };
        if told.insert(server) {
            findings.push(
                Finding::error(
                    "not-a-neighbour",
                    format!(
                        "{}: real server {server} is behind the router {via}: direct routing reaches only \
                         servers on a network of this node",
                        block.name
                    ),
                )
                .hint("use network = tunnel, or give server and director addresses on one segment"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NAT, address, direct, with};

    #[test]
    fn devices_that_are_not_there_or_not_up() {
        let none: [&str; 0] = [];
        let sync = NAT.replace("network", "syncdaemon = 1\nsyncd_iface = eth2\nnetwork");
        assert_eq!(with(&NAT.replace("eth0:1", "eth9:1"), |_| ()), ["no-device"]);
        assert_eq!(with(&NAT.replace("eth1:1", "eth8:1"), |_| ()), ["no-device"]);
        assert_eq!(with(&sync, |_| ()), ["no-device"]);
        assert_eq!(with(&sync.replace("syncdaemon = 1", "syncdaemon = 0"), |_| ()), none);
        assert_eq!(with(NAT, |facts| facts.links[1].up = false), ["device-down"]);
        assert_eq!(with(NAT, |facts| facts.links[1].carrier = false), ["device-down"]);
        assert_eq!(with(&direct(), |facts| facts.links[1].up = false), none);
    }

    #[test]
    fn this_nodes_place_in_the_pair() {
        let none: [&str; 0] = [];
        let stranger =
            |facts: &mut super::Facts| facts.addresses[2] = address(3, [10, 0, 0, 9], 24, "eth1");
        let backup =
            |facts: &mut super::Facts| facts.addresses[2] = address(3, [10, 0, 0, 12], 24, "eth1");
        assert_eq!(with(NAT, stranger), ["no-role"]);
        let both = |facts: &mut super::Facts| {
            facts.addresses.push(address(3, [10, 0, 0, 12], 24, "eth1"));
        };
        assert_eq!(with(NAT, both), ["both-roles"]);
        assert_eq!(
            with(&NAT.replace("backup_active = 1", "backup_active = 0"), backup),
            ["backup-inactive"]
        );
        let private = NAT.replace(
            "network",
            "primary_private = 192.168.0.1\nbackup_private = 192.168.0.2\nnetwork",
        );
        assert_eq!(with(&private, |_| ()), ["no-private"]);
        assert_eq!(with(&private, backup), ["no-private"]);
        let has = |facts: &mut super::Facts| {
            facts.addresses.push(address(2, [192, 168, 0, 1], 24, "eth0"));
        };
        assert_eq!(with(&private, has), none);
    }

    #[test]
    fn direct_routing_needs_neighbours() {
        let far = direct().replace("10.0.0.22", "192.0.2.22");
        assert_eq!(with(&far, |_| ()), ["not-a-neighbour"]);
        let none: [&str; 0] = [];
        assert_eq!(with(&far.replace("network = direct", "network = tunnel"), |_| ()), none);
    }
}
