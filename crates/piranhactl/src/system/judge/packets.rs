//! What the firewall does to the packets that matter.

use super::Site;
use super::kernel::{is_private, set};
use super::remedy::{self, open, place};
use crate::system::facts::Facts;
use crate::system::finding::{Finding, Severity};
use crate::system::firewall::{Chain, Hook, Packet, TCP, UDP, Verdict};
use lvs_config::{Forwarding, Protocol, Virtual};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// The web page's port.
const WEB_PAGE: u16 = 3636;
/// Where the kernel's connection sync daemon sends to (`net/netfilter/ipvs/ip_vs_sync.c`).
const SYNC_GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 81);
const SYNC_PORT: u16 = 8848;

pub(super) fn judge(site: &Site<'_>, findings: &mut Vec<Finding>) {
    if let Some(why) = &site.facts.firewall.unread {
        findings.push(Finding::note(
            "firewall-unknown",
            format!("whether the firewall is in the way could not be judged: {why}"),
        ));
    }
    heartbeats(site, findings);
    synchronisation(site, findings);
    web_page(site, findings);
    if site.is_lvs() {
        clients(site, findings);
        if site.config.network == Forwarding::Nat {
            answers(site, findings);
            masquerade(site, findings);
            conntrack(site, findings);
        }
    }
}

const INCOMING: [Hook; 2] = [Hook::Prerouting, Hook::Input];

fn heartbeats(site: &Site<'_>, findings: &mut Vec<Finding>) {
    let rules = &site.facts.firewall.rules;
    let port = site.config.heartbeat_port;
    for path in &site.paths {
        let interface = site.facts.bearers(path.own).next().map(str::to_owned);
        let packet = Packet {
            protocol: UDP,
            source: Some(path.partner),
            destination: Some(path.own),
            source_port: Some(port),
            destination_port: Some(port),
            input: interface,
            output: None,
            state: Some("new"),
        };
        let from = format!("heartbeats from {} to UDP port {port}", path.partner);
        let code = "firewall-heartbeat";
        match rules.judge(&INCOMING, &packet) {
            Verdict::Passes => {}
            Verdict::Dropped(chain) => {
                let answer = Packet { state: Some("established"), ..packet.clone() };
                let finding = if rules.judge(&INCOMING, &answer) == Verdict::Passes {
                    let text = format!(
                        "the firewall ({}) lets {from} pass only while this node sends some itself: a node \
                         that starts hears nothing at first",
                        place(chain)
                    );
                    Finding::warning(code, text)
                } else {
                    let text = format!(
                        "the firewall ({}) drops {from}: each director will take the other for dead",
                        place(chain)
                    );
                    Finding::error(code, text)
                };
                findings.push(open(finding, chain, &packet, site.facts));
            }
            Verdict::Unclear(chain) => findings.push(unclear(&from, chain, &packet, site.facts)),
        }
        let outgoing = Packet {
            source: Some(path.own),
            destination: Some(path.partner),
            input: None,
            output: site.facts.route(path.partner).map(|route| route.interface.clone()),
            ..packet
        };
        if let Verdict::Dropped(chain) = rules.judge(&[Hook::Output, Hook::Postrouting], &outgoing)
        {
            let text = format!(
                "the firewall ({}) keeps this node's heartbeats from {}",
                place(chain),
                path.partner
            );
            findings.push(open(Finding::error(code, text), chain, &outgoing, site.facts));
        }
    }
}

fn synchronisation(site: &Site<'_>, findings: &mut Vec<Finding>) {
    if !site.is_lvs() || !site.config.syncdaemon || site.paths.is_empty() {
        return;
    }
    let packet = Packet {
        protocol: UDP,
        destination: Some(SYNC_GROUP),
        destination_port: Some(SYNC_PORT),
        input: existing(site.facts, &site.config.syncd_iface),
        state: Some("new"),
        ..Packet::default()
    };
    if let Verdict::Dropped(chain) = site.facts.firewall.rules.judge(&INCOMING, &packet) {
        let text = format!(
            "the firewall ({}) drops the partner's connection synchronisation (UDP {SYNC_GROUP}:{SYNC_PORT} \
             on {}): connections break at a failover",
            place(chain),
            site.config.syncd_iface
        );
        findings.push(open(Finding::warning("firewall-sync", text), chain, &packet, site.facts));
    }
}

fn web_page(site: &Site<'_>, findings: &mut Vec<Finding>) {
    let Some(path) = site.paths.first() else { return };
    let packet = Packet {
        protocol: TCP,
        source: Some(path.partner),
        destination: Some(path.own),
        destination_port: Some(WEB_PAGE),
        input: site.facts.bearers(path.own).next().map(str::to_owned),
        state: Some("new"),
        ..Packet::default()
    };
    if let Verdict::Dropped(chain) = site.facts.firewall.rules.judge(&INCOMING, &packet) {
        let text = format!(
            "the firewall ({}) keeps the partner ({}) from TCP port {WEB_PAGE}, the web page's",
            place(chain),
            path.partner
        );
        findings.push(open(
            Finding::warning("firewall-web-page", text),
            chain,
            &packet,
            site.facts,
        ));
    }
}

/// Clients' packets meet the input chains before IPVS takes them.
fn clients(site: &Site<'_>, findings: &mut Vec<Finding>) {
    let mut told = BTreeSet::new();
    for (block, _) in site.servers() {
        // What a firewall mark stands for is written in the firewall itself.
        if block.fwmark != 0 || !told.insert(block.line) {
            continue;
        }
        let Some(packet) = of_client(block, site.facts) else { continue };
        if let Verdict::Dropped(chain) = site.facts.firewall.rules.judge(&INCOMING, &packet) {
            let text = format!(
                "the firewall ({}) drops what clients send to {}, before it is balanced",
                place(chain),
                block.name
            );
            findings.push(open(
                Finding::error("firewall-service", text),
                chain,
                &packet,
                site.facts,
            ));
        }
    }
}

/// An interface by its name. What comes in on one that is not there is another finding's matter.
fn existing(facts: &Facts, name: &str) -> Option<String> {
    facts.link(name).map(|link| link.name.clone())
}

fn of_client(block: &Virtual, facts: &Facts) -> Option<Packet> {
    Some(Packet {
        protocol: number(block.protocol),
        destination: Some(block.addr()?),
        destination_port: Some(block.port),
        input: existing(facts, lvs_net::interface_of(block.device.as_deref()?)),
        state: Some("new"),
        ..Packet::default()
    })
}

fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
    }
}

/// Answers of real servers are forwarded.
fn answers(site: &Site<'_>, findings: &mut Vec<Finding>) {
    let mut told = BTreeSet::new();
    for (block, server) in site.servers() {
        let (Some(inside), Some(label)) = (site.facts.route(server), block.device.as_deref())
        else {
            continue;
        };
        if !told.insert(block.line) {
            continue;
        }
        let found = block.active_servers().find(|found| found.address == Some(server));
        let packet = Packet {
            protocol: number(block.protocol),
            source: Some(server),
            source_port: found.map(|found| found.port),
            input: Some(inside.interface.clone()),
            output: existing(site.facts, lvs_net::interface_of(label)),
            // Connections that IPVS translates are not all known to conntrack.
            state: None,
            ..Packet::default()
        };
        if let Verdict::Dropped(chain) =
            site.facts.firewall.rules.judge(&[Hook::Prerouting, Hook::Forward], &packet)
        {
            let text = format!(
                "the firewall ({}) drops the answers of {}'s real servers, such as {server}",
                place(chain),
                block.name
            );
            findings.push(open(
                Finding::error("firewall-forward", text),
                chain,
                &packet,
                site.facts,
            ));
        }
    }
}

/// What real servers with private addresses send of their own accord needs a routable source.
fn masquerade(site: &Site<'_>, findings: &mut Vec<Finding>) {
    let Some(out) = site.facts.way_out() else { return };
    if site.facts.firewall.unread.is_some() {
        return;
    }
    let inside = |server: Ipv4Addr| site.facts.route(server).is_some_and(|r| r.interface != out);
    let Some((_, server)) =
        site.servers().find(|(_, server)| is_private(*server) && inside(*server))
    else {
        return;
    };
    let packet = Packet {
        protocol: TCP,
        source: Some(server),
        destination_port: Some(80),
        output: Some(out.to_owned()),
        state: Some("new"),
        ..Packet::default()
    };
    if site.facts.firewall.rules.changes_source(&packet) != Some(false) {
        return;
    }
    let network = site.facts.route(server).map_or_else(
        || server.to_string(),
        |route| {
            if route.prefix == 0 {
                server.to_string()
            } else {
                format!("{}/{}", route.network, route.prefix)
            }
        },
    );
    let text = format!(
        "nothing masquerades what real servers such as {server} send through {out} of their own accord \
         (name look-ups, updates, mail): no answer finds its way back"
    );
    let finding = Finding::warning("no-masquerade", text);
    let maker = &site.facts.firewall.maker;
    findings.push(remedy::masquerade(finding, &network, out, maker));
}

/// Where a rule changes the source of balanced packets, IPVS must let conntrack see them.
fn conntrack(site: &Site<'_>, findings: &mut Vec<Finding>) {
    if site.facts.sysctl("net/ipv4/vs/conntrack") != Some(0) {
        return;
    }
    let changed = site.servers().find(|(block, server)| {
        let found = block.active_servers().find(|found| found.address == Some(*server));
        let packet = Packet {
            protocol: number(block.protocol),
            destination: Some(*server),
            destination_port: found.map(|found| found.port),
            output: site.facts.route(*server).map(|route| route.interface.clone()),
            ..Packet::default()
        };
        site.facts.firewall.rules.changes_source(&packet) == Some(true)
    });
    if let Some((block, server)) = changed {
        let text = format!(
            "the firewall masquerades what goes to real server {server} of {}, but IPVS keeps balanced \
             packets from it (net.ipv4.vs.conntrack is 0): they arrive with the clients' addresses",
            block.name
        );
        let finding = Finding::warning("vs-conntrack", text);
        findings.push(set(finding, site.facts, &[("net/ipv4/vs/conntrack", 1)]));
    }
}

fn unclear(what: &str, chain: &Chain, packet: &Packet, facts: &Facts) -> Finding {
    let text = format!(
        "whether the firewall ({}) lets {what} pass depends on rules that cannot be judged from here",
        place(chain)
    );
    let finding = Finding::new(Severity::Note, "firewall-unknown", text);
    open(finding, chain, packet, facts).hint("where it is in order as it is, nothing need be done")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NAT, codes, config, direct, found, good, rules, with};
    use super::*;
    use crate::system::facts::Maker;
    use crate::system::firewall::{Ruleset, parse_iptables, parse_nft};
    use crate::system::judge::judge as all;

    const MASQUERADE: &str = "-A POSTROUTING -o eth0 -j MASQUERADE";

    fn iptables(text: &str) -> Ruleset {
        Ruleset { chains: parse_iptables(text, "iptables") }
    }

    /// A filter table that drops by policy, with these rules, and a masquerading one.
    fn filter(rules: &str) -> Ruleset {
        iptables(&format!(
            "*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
             -A INPUT -i lo -j ACCEPT\n{rules}\nCOMMIT\n*nat\n:POSTROUTING ACCEPT [0:0]\n{MASQUERADE}\nCOMMIT\n"
        ))
    }

    #[test]
    fn each_kind_of_packet_has_its_finding_and_its_remedy() {
        let sync = NAT.replace("network", "syncdaemon = 1\nsyncd_iface = eth1\nnetwork");
        let open = "-A INPUT -p udp -m multiport --dports 539,8848 -j ACCEPT\n\
            -A INPUT -p tcp -m multiport --dports 80,3636 -j ACCEPT";
        let cases = [
            (NAT, open.to_owned(), None),
            (&sync, open.to_owned(), None),
            (
                NAT,
                open.replace("539", "540"),
                Some((
                    "firewall-heartbeat",
                    "iptables -I INPUT -s 10.0.0.12 -d 10.0.0.11 -p udp --dport 539 -j ACCEPT",
                )),
            ),
            (
                &sync,
                open.replace("8848", "8849"),
                Some((
                    "firewall-sync",
                    "iptables -I INPUT -i eth1 -d 224.0.0.81 -p udp --dport 8848 -j ACCEPT",
                )),
            ),
            (
                NAT,
                open.replace("3636", "3637"),
                Some((
                    "firewall-web-page",
                    "iptables -I INPUT -s 10.0.0.12 -d 10.0.0.11 -p tcp --dport 3636 -j ACCEPT",
                )),
            ),
            (
                NAT,
                open.replace("80,", "81,"),
                Some((
                    "firewall-service",
                    "iptables -I INPUT -i eth0 -d 172.16.0.100 -p tcp --dport 80 -j ACCEPT",
                )),
            ),
        ];
        for (text, lines, want) in cases {
            let mut facts = good();
            facts.firewall.rules = filter(&lines);
            let want: Vec<_> =
                want.map(|(code, command)| (code, vec![command.to_owned()])).into_iter().collect();
            assert_eq!(found(text, &facts), want, "{lines}");
            // What the commands say, done, leaves nothing to be found.
            for (_, commands) in want {
                for command in commands {
                    let rule = command.replace("iptables -I", "-A");
                    facts.firewall.rules = filter(&format!("{rule}\n{lines}"));
                    assert_eq!(codes(text, &facts), Vec::<&str>::new(), "{rule}");
                }
            }
        }
    }

    #[test]
    fn heartbeats_that_pass_as_answers_alone() {
        let lines = "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
            -A INPUT -p tcp -m multiport --dports 80,3636 -j ACCEPT";
        let mut facts = good();
        facts.firewall.rules = filter(lines);
        let findings = all(&config(NAT), &facts);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(
            (findings[0].code, findings[0].severity),
            ("firewall-heartbeat", Severity::Warning)
        );
    }

    #[test]
    fn what_cannot_be_judged_is_said() {
        let lines = "-A INPUT -m set --match-set friends src -j ACCEPT";
        let mut facts = good();
        facts.firewall.rules = filter(lines);
        let findings = all(&config(NAT), &facts);
        let notes: Vec<_> =
            findings.iter().map(|finding| (finding.severity, finding.code)).collect();
        assert_eq!(notes, [(Severity::Note, "firewall-unknown")]);
        assert_eq!(
            with(NAT, |facts| facts.firewall.unread = Some("no".to_owned())),
            ["firewall-unknown"]
        );
    }

    #[test]
    fn nothing_is_asked_of_a_firewall_without_need() {
        let none: [&str; 0] = [];
        let closed = |facts: &mut Facts| {
            facts.firewall.rules = filter("-A INPUT -p tcp --dport 80 -j ACCEPT");
        };
        assert_eq!(with(NAT, closed), ["firewall-heartbeat", "firewall-web-page"]);
        assert_eq!(with(&NAT.replace("backup_active = 1", ""), closed), none);
        let shut = |facts: &mut Facts| {
            facts.firewall.rules = filter(
                "-A INPUT -p udp --dport 539 -j ACCEPT\n-A INPUT -p tcp --dport 3636 -j ACCEPT",
            );
        };
        assert_eq!(with(NAT, shut), ["firewall-service"]);
        // A mark's ports are the firewall's own affair; the redundant gateway has no port.
        assert_eq!(
            with(&NAT.replace("    vip_nmask", "    fwmark = 7\n    vip_nmask"), shut),
            none
        );
        let gateway = NAT.replace("10.0.0.21", "10.0.0.11").replace("10.0.0.22", "10.0.0.12");
        assert_eq!(with(&gateway, shut), none);
    }

    #[test]
    fn forwarding_and_masquerading() {
        let none: [&str; 0] = [];
        let table = |forward: &str, nat: &str| {
            let lines = format!(
                "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n{forward}\nCOMMIT\n\
                 *nat\n:POSTROUTING ACCEPT [0:0]\n{nat}\nCOMMIT\n"
            );
            move |facts: &mut Facts| facts.firewall.rules = iptables(&lines)
        };
        let pass = "-A FORWARD -i eth1 -j ACCEPT";
        assert_eq!(with(NAT, table(pass, MASQUERADE)), none);
        assert_eq!(with(NAT, table("", MASQUERADE)), ["firewall-forward"]);
        assert_eq!(with(NAT, table(pass, "")), ["no-masquerade"]);
        let mut facts = good();
        table("", MASQUERADE)(&mut facts);
        assert_eq!(found(NAT, &facts)[0].1, ["iptables -I FORWARD -i eth1 -o eth0 -j ACCEPT"]);
        let related = "-A FORWARD -m state --state RELATED,ESTABLISHED -j ACCEPT";
        assert_eq!(with(NAT, table(related, MASQUERADE)), none, "it may pass");
        assert_eq!(with(&direct(), table("", "")), none);
        // Routable servers need no other address.
        let public = |facts: &mut Facts| {
            table("-A FORWARD -j ACCEPT", "")(facts);
            let mut route = facts.routes[2].clone();
            route.network = Ipv4Addr::new(192, 0, 2, 0);
            facts.routes.push(route);
        };
        assert_eq!(with(&NAT.replace("10.0.0.2", "192.0.2.2"), public), none);

        let mut facts = good();
        table(pass, "")(&mut facts);
        let command = "iptables -t nat -A POSTROUTING -s 10.0.0.0/24 -o eth0 -j MASQUERADE";
        assert_eq!(found(NAT, &facts)[0].1, [command]);
        facts.firewall.maker = Maker::Nft;
        assert_eq!(found(NAT, &facts)[0].1.len(), 3);
        facts.firewall.maker = Maker::Firewalld;
        assert!(found(NAT, &facts)[0].1[0].ends_with("--add-masquerade"));
        table("", MASQUERADE)(&mut facts);
        assert_eq!(found(NAT, &facts)[0].1[4], "firewall-cmd --reload");
    }

    #[test]
    fn masquerading_towards_the_servers_needs_conntrack() {
        let both = format!("{MASQUERADE}\n-A POSTROUTING -o eth1 -j MASQUERADE");
        let none: [&str; 0] = [];
        let set = |value| {
            with(NAT, |facts| {
                facts.firewall.rules = rules("", &both);
                facts.sysctls.insert("net/ipv4/vs/conntrack".to_owned(), value);
            })
        };
        assert_eq!(set(0), ["vs-conntrack"]);
        assert_eq!(set(1), none);
    }

    #[test]
    fn remedies_in_the_words_of_each_tool() {
        let text = r#"{"nftables": [{"chain": {"family": "inet", "table": "filter", "name": "input",
            "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}}]}"#;
        let mut facts = good();
        facts.firewall.rules = Ruleset { chains: parse_nft(text).unwrap() };
        let commands: Vec<String> =
            found(&direct(), &facts).into_iter().flat_map(|(_, commands)| commands).collect();
        assert_eq!(
            commands,
            [
                "nft insert rule inet filter input ip saddr 10.0.0.12 ip daddr 10.0.0.11 udp dport 539 accept",
                "nft insert rule inet filter input iifname eth1 ip daddr 10.0.0.100 tcp dport 80 accept",
                "nft insert rule inet filter input ip saddr 10.0.0.12 ip daddr 10.0.0.11 tcp dport 3636 accept",
            ]
        );
        let text = text.replace("filter\", \"name", "firewalld\", \"name");
        facts.firewall.rules = Ruleset { chains: parse_nft(&text).unwrap() };
        facts.firewall.maker = Maker::Firewalld;
        let commands: Vec<String> =
            found(&direct(), &facts).into_iter().flat_map(|(_, commands)| commands).collect();
        let zone = "--zone=$(firewall-cmd --get-zone-of-interface=eth1 || \
            firewall-cmd --get-default-zone)";
        assert_eq!(commands[1], format!("firewall-cmd {zone} --add-port=80/tcp"));
        assert!(
            commands[0].contains("--add-rich-rule='rule family=ipv4 source address=10.0.0.12 port")
        );
    }
}
