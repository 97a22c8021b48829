//! The commands that let a packet pass the firewall, in the words of the tool that keeps it out.

use crate::system::facts::{Facts, Maker};
use crate::system::finding::Finding;
use crate::system::firewall::{Chain, Hook, Packet, Tool, UDP};

const SAVE_IPTABLES: &str = "netfilter-persistent save (Debian), or service iptables save (Fedora, \
    RHEL with iptables-services)";
const SAVE_NFT: &str = "the same in the file that the rules are loaded from: /etc/nftables.conf \
    (Debian), /etc/sysconfig/nftables.conf (Fedora, RHEL)";

/// Where a packet is dropped: `nft table inet filter, chain input`.
pub(super) fn place(chain: &Chain) -> String {
    match &chain.tool {
        Tool::Nft { family } => format!("nft table {family} {}, chain {}", chain.table, chain.name),
        Tool::Iptables { program } => {
            format!("{program} table {}, chain {}", chain.table, chain.name)
        }
    }
}

/// With the command that lets a packet pass the chain that drops it.
pub(super) fn open(finding: Finding, chain: &Chain, packet: &Packet, facts: &Facts) -> Finding {
    // It owns its table, and forgets what others put into those of iptables.
    let of_firewalld =
        chain.table.starts_with("firewalld") || matches!(chain.tool, Tool::Iptables { .. });
    match &chain.tool {
        _ if facts.firewall.maker == Maker::Firewalld && of_firewalld => {
            by_firewalld(finding, packet)
        }
        Tool::Iptables { program } => {
            let mut rule = program.clone();
            if chain.table != "filter" {
                rule += &format!(" -t {}", chain.table);
            }
            rule += &format!(" -I {}", chain.name);
            for (option, word) in iptables_words(packet, chain.hook) {
                rule += &format!(" {option} {word}");
            }
            finding.now(format!("{rule} -j ACCEPT")).keep(SAVE_IPTABLES)
        }
        Tool::Nft { family } => {
            let mut rule = format!("nft insert rule {family} {} {}", chain.table, chain.name);
            for words in nft_words(packet, chain.hook) {
                rule += &format!(" {words}");
            }
            finding.now(format!("{rule} accept")).keep(SAVE_NFT)
        }
    }
}

/// With the commands that masquerade what leaves from a network by an interface.
pub(super) fn masquerade(finding: Finding, network: &str, out: &str, maker: &Maker) -> Finding {
    match maker {
        Maker::Firewalld => {
            let words = format!("--zone={} --add-masquerade", zone(out));
            finding
                .now(format!("firewall-cmd {words}"))
                .keep(format!("firewall-cmd --permanent {words}"))
        }
        Maker::Iptables(program) => finding
            .now(format!("{program} -t nat -A POSTROUTING -s {network} -o {out} -j MASQUERADE"))
            .keep(SAVE_IPTABLES),
        Maker::Nft => finding
            .now("nft add table ip piranha")
            .now(
                "nft 'add chain ip piranha postrouting { type nat hook postrouting priority 100; }'",
            )
            .now(format!(
                "nft add rule ip piranha postrouting ip saddr {network} oifname {out} masquerade"
            ))
            .keep(SAVE_NFT),
    }
}

/// The command that tells an interface's zone, to stand in another one; without a zone of its own,
/// an interface is in the default one.
fn zone(interface: &str) -> String {
    format!(
        "$(firewall-cmd --get-zone-of-interface={interface} || firewall-cmd --get-default-zone)"
    )
}

fn by_firewalld(finding: Finding, packet: &Packet) -> Finding {
    let Some(port) = packet.destination_port else {
        return between_zones(finding, packet);
    };
    let zone = packet
        .input
        .as_ref()
        .map_or_else(String::new, |interface| format!(" --zone={}", zone(interface)));
    let protocol = protocol(packet);
    let rule = match packet.source {
        Some(source) => format!(
            "--add-rich-rule='rule family=ipv4 source address={source} port port={port} \
             protocol={protocol} accept'"
        ),
        None => format!("--add-port={port}/{protocol}"),
    };
    finding
        .now(format!("firewall-cmd{zone} {rule}"))
        .keep(format!("firewall-cmd --permanent{zone} {rule}"))
}

/// What is forwarded from zone to zone is a policy's affair (firewalld.policies(5)).
fn between_zones(finding: Finding, packet: &Packet) -> Finding {
    let zone_of = |interface: &Option<String>| {
        interface.as_ref().map_or_else(|| "ANY".to_owned(), |interface| zone(interface))
    };
    let policy = "firewall-cmd --permanent --policy=piranha";
    finding
        .now("firewall-cmd --permanent --new-policy=piranha")
        .now(format!("{policy} --add-ingress-zone={}", zone_of(&packet.input)))
        .now(format!("{policy} --add-egress-zone={}", zone_of(&packet.output)))
        .now(format!("{policy} --set-target=ACCEPT"))
        .now("firewall-cmd --reload")
        .keep("it is permanent already")
}

fn protocol(packet: &Packet) -> &'static str {
    if packet.protocol == UDP { "udp" } else { "tcp" }
}

/// Interfaces are named only where both ends of the packet are not. What is forwarded is told by them
/// alone: all of the servers' answers, and what they send of their own accord.
fn interfaces(packet: &Packet, hook: Option<Hook>) -> (Option<&str>, Option<&str>) {
    let wanted = packet.source.is_none() || packet.destination.is_none();
    let input = packet.input.as_deref().filter(|_| wanted && hook != Some(Hook::Output));
    let output = packet.output.as_deref().filter(|_| wanted && hook != Some(Hook::Input));
    (input, output.filter(|_| hook != Some(Hook::Prerouting)))
}

fn iptables_words(packet: &Packet, hook: Option<Hook>) -> Vec<(&'static str, String)> {
    let (input, output) = interfaces(packet, hook);
    let mut words = Vec::new();
    words.extend(input.map(|name| ("-i", name.to_owned())));
    words.extend(output.map(|name| ("-o", name.to_owned())));
    if hook == Some(Hook::Forward) {
        return words;
    }
    words.extend(packet.source.map(|addr| ("-s", addr.to_string())));
    words.extend(packet.destination.map(|addr| ("-d", addr.to_string())));
    words.push(("-p", protocol(packet).to_owned()));
    match (packet.destination_port, packet.source_port) {
        (Some(port), _) => words.push(("--dport", port.to_string())),
        (None, Some(port)) => words.push(("--sport", port.to_string())),
        (None, None) => {}
    }
    words
}

fn nft_words(packet: &Packet, hook: Option<Hook>) -> Vec<String> {
    let protocol = protocol(packet);
    let (input, output) = interfaces(packet, hook);
    let mut words = Vec::new();
    words.extend(input.map(|name| format!("iifname {name}")));
    words.extend(output.map(|name| format!("oifname {name}")));
    if hook == Some(Hook::Forward) {
        return words;
    }
    words.extend(packet.source.map(|addr| format!("ip saddr {addr}")));
    words.extend(packet.destination.map(|addr| format!("ip daddr {addr}")));
    match (packet.destination_port, packet.source_port) {
        (Some(port), _) => words.push(format!("{protocol} dport {port}")),
        (None, Some(port)) => words.push(format!("{protocol} sport {port}")),
        (None, None) => {}
    }
    words
}
