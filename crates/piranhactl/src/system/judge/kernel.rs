//! Kernel parameters and modules. What the parameters mean: Documentation/networking/ip-sysctl.rst
//! of the kernel.

use super::Site;
use crate::system::facts::{Facts, Module};
use crate::system::finding::Finding;
use lvs_config::{Forwarding, Virtual};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

pub(super) fn judge(site: &Site<'_>, findings: &mut Vec<Finding>) {
    forwarding(site, findings);
    promote_secondaries(site, findings);
    reverse_path(site, findings);
    redirects(site, findings);
    silent(site, findings);
    if site.is_lvs() {
        site.blocks().for_each(|block| own_server(site, block, findings));
        modules(site, findings);
    }
}

/// The finding with the command that sets parameters, and where they are kept.
pub(super) fn set(finding: Finding, facts: &Facts, settings: &[(&str, i64)]) -> Finding {
    let file = if facts.sysctl_d { "/etc/sysctl.d/90-piranha.conf" } else { "/etc/sysctl.conf" };
    let mut lines = String::new();
    let mut finding = finding;
    for (name, value) in settings {
        let name = spelled(name);
        finding = finding.now(format!("sysctl -w {name}={value}"));
        lines += &format!("{}'{name} = {value}'", if lines.is_empty() { "" } else { " " });
    }
    finding.keep(format!("printf '%s\\n' {lines} >>{file}"))
}

/// A parameter's name for sysctl(8): with dots, or, where an interface has a dot in its own name,
/// with slashes.
fn spelled(name: &str) -> String {
    if name.contains('.') { name.to_owned() } else { name.replace('/', ".") }
}

fn forwarding(site: &Site<'_>, findings: &mut Vec<Finding>) {
    if !site.routes() {
        return;
    }
    let facts = site.facts;
    let why = "what the real servers send, answers to clients included, ends here";
    if facts.sysctl("net/ipv4/ip_forward") == Some(0) {
        let text =
            format!("this machine does not forward packets (net.ipv4.ip_forward is 0): {why}");
        let finding = Finding::error("ip-forward", text);
        findings.push(set(finding, facts, &[("net/ipv4/ip_forward", 1)]));
        return;
    }
    let inside = site.servers().filter_map(|(_, addr)| facts.route(addr));
    let mut interfaces: BTreeSet<&str> = inside.map(|route| route.interface.as_str()).collect();
    let moving = site.moving();
    interfaces.extend(moving.iter().map(super::Moving::interface));
    for interface in interfaces {
        let name = format!("net/ipv4/conf/{interface}/forwarding");
        if facts.sysctl(&name) == Some(0) {
            let text = format!(
                "packets that come in on {interface} are not forwarded ({} is 0): {why}",
                spelled(&name)
            );
            findings.push(set(Finding::error("ip-forward", text), facts, &[(&name, 1)]));
        }
    }
}

fn promote_secondaries(site: &Site<'_>, findings: &mut Vec<Finding>) {
    let moving = site.moving();
    let lacks = |interface: &&str| site.facts.greatest(interface, "promote_secondaries") == Some(0);
    let interfaces: BTreeSet<&str> =
        moving.iter().map(super::Moving::interface).filter(lacks).collect();
    if interfaces.is_empty() {
        return;
    }
    let list = interfaces.into_iter().collect::<Vec<_>>().join(", ");
    let text = format!(
        "promote_secondaries is 0 on {list}: the kernel removes all addresses of a network when the \
         first of them is taken down"
    );
    let finding = Finding::warning("promote-secondaries", text);
    findings.push(set(finding, site.facts, &[("net/ipv4/conf/all/promote_secondaries", 1)]));
}

/// Strict reverse path filtering drops what comes in on another interface than its answer leaves by.
fn reverse_path(site: &Site<'_>, findings: &mut Vec<Finding>) {
    let Some(out) = site.facts.way_out() else { return };
    let served = |addr| site.servers().any(|(block, _)| block.addr() == Some(addr));
    let mut told = BTreeSet::new();
    for moving in site.moving() {
        let interface = moving.interface();
        let strict = site.facts.greatest(interface, "rp_filter") == Some(1);
        if !strict || interface == out || !served(moving.addr) || !told.insert(interface) {
            continue;
        }
        let text = format!(
            "strict rp_filter on {interface} drops clients of {} that come from beyond a router: the \
             way back to them leads through {out}",
            moving.addr
        );
        // A private address may well be for the neighbours alone.
        let code = "rp-filter";
        let finding = if is_private(moving.addr) {
            Finding::note(code, text)
        } else {
            Finding::warning(code, text)
        };
        let name = format!("net/ipv4/conf/{interface}/rp_filter");
        findings.push(set(finding, site.facts, &[(&name, 2)]));
    }
}

/// RFC 1918 and, behind carriers, RFC 6598.
pub(super) fn is_private(addr: Ipv4Addr) -> bool {
    let [a, b, ..] = addr.octets();
    addr.is_private() || (a == 100 && (64..128).contains(&b))
}

/// With clients and servers on one segment, a redirect tells the servers the way around the
/// director, whose translation their answers need.
fn redirects(site: &Site<'_>, findings: &mut Vec<Finding>) {
    if !site.is_lvs() || site.config.network != Forwarding::Nat {
        return;
    }
    let mut told = BTreeSet::new();
    for (block, server) in site.servers() {
        let Some(label) = block.device.as_deref() else { continue };
        let interface = lvs_net::interface_of(label);
        let same = site.facts.route(server).is_some_and(|route| route.interface == interface);
        let sends = site.facts.greatest(interface, "send_redirects").is_some_and(|value| value > 0);
        if !same || !sends || !told.insert(interface) {
            continue;
        }
        let text = format!(
            "real servers of {} are on {interface}, where its clients are: redirects (send_redirects) \
             would lead their answers around this director",
            block.name
        );
        let own = format!("net/ipv4/conf/{interface}/send_redirects");
        let settings = [("net/ipv4/conf/all/send_redirects", 0), (own.as_str(), 0)];
        findings.push(set(Finding::warning("send-redirects", text), site.facts, &settings));
    }
}

/// An interface that answers no ARP request at all.
fn silent(site: &Site<'_>, findings: &mut Vec<Finding>) {
    let mut told = BTreeSet::new();
    for moving in site.moving() {
        let interface = moving.interface();
        if site.facts.greatest(interface, "arp_ignore") != Some(8) || !told.insert(interface) {
            continue;
        }
        let text = format!("arp_ignore is 8 on {interface}: nobody can find {} there", moving.addr);
        let own = format!("net/ipv4/conf/{interface}/arp_ignore");
        let settings = [("net/ipv4/conf/all/arp_ignore", 0), (own.as_str(), 0)];
        findings.push(set(Finding::error("arp-silent", text), site.facts, &settings));
    }
}

/// Where this node is one of a block's real servers, and the way of forwarding leaves the virtual
/// address in the packets: it must bear that address without being asked for it.
fn own_server(site: &Site<'_>, block: &Virtual, findings: &mut Vec<Finding>) {
    let facts = site.facts;
    let (Some(vip), Some(label)) = (block.addr(), block.device.as_deref()) else { return };
    let mut servers = block.active_servers().filter_map(|server| server.address);
    let is_server = servers.any(|addr| facts.bears(addr));
    if site.config.network == Forwarding::Nat || !is_server || site.is_gateway(block) {
        return;
    }
    let Some(bearer) = facts.bearers(vip).find(|name| *name == "lo" || name.starts_with("tunl"))
    else {
        let device = if site.config.network == Forwarding::Tunnel { "tunl0" } else { "lo" };
        if !facts.bears(vip) {
            let text = format!(
                "this node is a real server of {}, but does not bear {vip}: it drops what the active \
                 director forwards to it",
                block.name
            );
            let command = format!("ip address add {vip}/32 dev {device}");
            findings.push(
                Finding::warning("address-missing", text)
                    .now(command)
                    .keep("in the network configuration of this system"),
            );
        }
        return;
    };
    let interface = lvs_net::interface_of(label);
    for (name, least, code, what) in [
        (
            "arp_ignore",
            1,
            "arp-ignore",
            "it answers for that address though the other director serves",
        ),
        ("arp_announce", 2, "arp-announce", "its own ARP requests show that address to everybody"),
    ] {
        if facts.greatest(interface, name).is_some_and(|value| value < least) {
            let text = format!(
                "this node is a real server of {} and bears {vip} on {bearer}; with {name} below \
                 {least} {what}",
                block.name
            );
            let name = format!("net/ipv4/conf/all/{name}");
            findings.push(set(Finding::error(code, text), facts, &[(&name, least)]));
        }
    }
    if bearer.starts_with("tunl") && facts.greatest(bearer, "rp_filter") == Some(1) {
        let text = format!(
            "this node is a real server of {}: strict rp_filter on {bearer} drops all that comes \
             out of the tunnel",
            block.name
        );
        let own = format!("net/ipv4/conf/{bearer}/rp_filter");
        findings.push(set(Finding::error("rp-filter", text), facts, &[(&own, 2)]));
    }
}

/// The modules that a configuration needs, each with the block it is for, if for one.
pub(in crate::system) fn needed(config: &lvs_config::Config) -> Vec<(String, Option<&str>)> {
    let mut modules: Vec<(String, Option<&str>)> = Vec::new();
    for block in config.active_blocks().filter(|_| config.service == lvs_config::ServiceKind::Lvs) {
        if modules.is_empty() {
            modules.push(("ip_vs".to_owned(), None));
        }
        let scheduler = format!("ip_vs_{}", block.scheduler);
        if modules.iter().all(|(name, _)| *name != scheduler) {
            modules.push((scheduler, Some(&block.name)));
        }
    }
    modules
}

fn modules(site: &Site<'_>, findings: &mut Vec<Finding>) {
    for (name, block) in needed(site.config) {
        let Some(module) = site.facts.modules.get(&name).filter(|m| **m != Module::Usable) else {
            continue;
        };
        let (code, what) = match block {
            None => ("no-ipvs", "no virtual server can be made".to_owned()),
            Some(block) => ("no-scheduler", format!("virtual server {block} cannot be made")),
        };
        let load = format!("echo {name} >>/etc/modules-load.d/piranha.conf");
        findings.push(match module {
            Module::Usable => continue,
            Module::Missing => Finding::error(code, format!("this kernel has no module {name}: {what}"))
                .hint(
                    "install all of the kernel's modules (Fedora, RHEL: package kernel-modules; Debian: a \
                     kernel that is not one of the -cloud packages), or load balance with a kernel built \
                     with CONFIG_IP_VS",
                ),
            Module::Blocked(by) => Finding::error(
                code,
                format!("module {name} is kept from being loaded ({by}): {what}"),
            )
            .now(format!("modprobe --ignore-install {name}"))
            .keep("take that line out of /etc/modprobe.d"),
            Module::Locked => Finding::error(
                code,
                format!("module {name} is not loaded, and this kernel takes no more modules: {what}"),
            )
            .now(load)
            .now("reboot")
            .hint("kernel.modules_disabled is 1; what is loaded before it is set stays"),
        });
        // Without the first, the others are no news.
        if block.is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NAT, address, codes, direct, found, good, link, with};
    use super::*;

    #[test]
    fn parameters_that_are_wrong() {
        let one_armed = NAT.replace("172.16.0.100 eth0:1", "10.0.0.100 eth1:1");
        let gateway = "primary = 10.0.0.11\nnetwork = direct\nvirtual gw {\nactive = 1\n\
            address = 10.0.0.254 eth1:1\nserver a {\naddress = 10.0.0.11\nactive = 1\n}\n}\n";
        let inside = direct();
        let none: &[&str] = &[];
        let cases: [(&str, &str, i64, &[&str]); 14] = [
            (NAT, "ip_forward", 0, &["ip-forward"]),
            (NAT, "conf/eth1/forwarding", 0, &["ip-forward"]),
            (NAT, "conf/lo/forwarding", 0, none),
            (gateway, "ip_forward", 0, &["ip-forward"]),
            (&inside, "ip_forward", 0, none),
            (NAT, "conf/all/promote_secondaries", 0, none),
            (NAT, "conf/eth0/promote_secondaries", 0, none),
            // Strict where the way out is: right.
            (NAT, "conf/eth0/rp_filter", 1, none),
            // The servers' gateway is not for clients.
            (NAT, "conf/all/rp_filter", 1, none),
            (&inside, "conf/all/rp_filter", 1, &["rp-filter"]),
            (&inside, "conf/all/rp_filter", 2, none),
            (&one_armed, "conf/lo/send_redirects", 1, &["send-redirects"]),
            (NAT, "conf/all/arp_ignore", 8, &["arp-silent"]),
            (NAT, "conf/all/arp_ignore", 1, none),
        ];
        for (text, name, value, want) in cases {
            let got = with(text, |facts| {
                facts.sysctls.insert(format!("net/ipv4/{name}"), value);
            });
            let got: BTreeSet<&str> = got.into_iter().collect();
            assert_eq!(got, want.iter().copied().collect(), "{name} = {value}: {text}");
        }
    }

    #[test]
    fn what_one_setting_outdoes_is_mended_by_all_that_count() {
        let mut facts = good();
        for (name, value) in &mut facts.sysctls {
            if name.ends_with("promote_secondaries") {
                *value = 0;
            }
        }
        let findings = found(NAT, &facts);
        let command = "sysctl -w net.ipv4.conf.all.promote_secondaries=1".to_owned();
        assert_eq!(findings, [("promote-secondaries", vec![command])]);

        let one_armed = NAT.replace("172.16.0.100 eth0:1", "10.0.0.100 eth1:1");
        let (code, commands) = &found(&one_armed, &good())[0];
        assert_eq!(*code, "send-redirects");
        assert_eq!(
            *commands,
            [
                "sysctl -w net.ipv4.conf.all.send_redirects=0",
                "sysctl -w net.ipv4.conf.eth1.send_redirects=0"
            ]
        );
    }

    #[test]
    fn a_director_that_is_a_real_server() {
        let text = direct().replace("10.0.0.22", "10.0.0.11");
        let none: [&str; 0] = [];
        assert_eq!(codes(&text, &good()), ["address-missing"]);
        let on_lo = |facts: &mut Facts| {
            facts.addresses.push(address(1, [10, 0, 0, 100], 32, "lo"));
        };
        assert_eq!(with(&text, on_lo), ["arp-ignore", "arp-announce"]);
        let silent = |facts: &mut Facts| {
            on_lo(facts);
            facts.sysctls.insert("net/ipv4/conf/all/arp_ignore".to_owned(), 1);
            facts.sysctls.insert("net/ipv4/conf/eth1/arp_announce".to_owned(), 2);
        };
        assert_eq!(with(&text, silent), none);
        let active = |facts: &mut Facts| {
            facts.addresses.push(address(3, [10, 0, 0, 100], 24, "eth1:1"));
        };
        assert_eq!(with(&text, active), none, "it is the active one, and reaches itself");
        // NAT changes the address: nothing is needed.
        assert_eq!(codes(&NAT.replace("10.0.0.22", "10.0.0.11"), &good()), none);

        let tunnel = text.replace("network = direct", "network = tunnel");
        let strict = |facts: &mut Facts| {
            silent(facts);
            facts.addresses.retain(|address| address.label != "lo");
            facts.links.push(link(4, "tunl0"));
            facts.addresses.push(address(4, [10, 0, 0, 100], 32, "tunl0"));
            facts.sysctls.insert("net/ipv4/conf/tunl0/rp_filter".to_owned(), 1);
        };
        assert_eq!(with(&tunnel, strict), ["rp-filter"]);
    }

    #[test]
    fn modules_that_are_not_to_be_had() {
        let set = |name: &str, module: Module| {
            with(NAT, |facts| {
                facts.modules.insert(name.to_owned(), module);
            })
        };
        let none: [&str; 0] = [];
        assert_eq!(set("ip_vs", Module::Usable), none);
        assert_eq!(set("ip_vs", Module::Missing), ["no-ipvs"]);
        assert_eq!(set("ip_vs_wlc", Module::Missing), ["no-scheduler"]);
        assert_eq!(set("ip_vs_wlc", Module::Locked), ["no-scheduler"]);
        assert_eq!(set("ip_vs_rr", Module::Missing), none);
        let blocked = Module::Blocked("install ip_vs /bin/false".to_owned());
        assert_eq!(set("ip_vs", blocked), ["no-ipvs"]);
    }

    #[test]
    fn names_of_parameters() {
        assert_eq!(spelled("net/ipv4/conf/eth0/rp_filter"), "net.ipv4.conf.eth0.rp_filter");
        assert_eq!(spelled("net/ipv4/conf/eth0.5/rp_filter"), "net/ipv4/conf/eth0.5/rp_filter");
        let finding =
            set(Finding::error("x", ""), &Facts::default(), &[("net/ipv4/ip_forward", 1)]);
        assert_eq!(finding.now, ["sysctl -w net.ipv4.ip_forward=1"]);
        let keep = "printf '%s\\n' 'net.ipv4.ip_forward = 1' >>/etc/sysctl.conf";
        assert_eq!(finding.keep.as_deref(), Some(keep));
    }
}
