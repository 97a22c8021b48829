//! What is wrong: the configuration and the facts in, findings out. No I/O.

mod host;
mod kernel;
mod network;
mod packets;
mod remedy;
mod wire;

pub(super) use host::named as named_programs;
pub(super) use kernel::needed as needed_modules;

use super::facts::Facts;
use super::finding::Finding;
use lvs_config::{Config, Forwarding, ServiceKind, Virtual};
use lvs_net::interface_of;
use std::net::Ipv4Addr;

/// All findings, the graver first; those of a kind as the file has their causes.
pub(crate) fn judge(config: &Config, facts: &Facts) -> Vec<Finding> {
    let site = Site::new(config, facts);
    let mut findings = Vec::new();
    network::judge(&site, &mut findings);
    kernel::judge(&site, &mut findings);
    packets::judge(&site, &mut findings);
    wire::judge(&site, &mut findings);
    host::judge(&site, &mut findings);
    findings.sort_by_key(|finding| finding.severity);
    findings
}

/// The configuration as it concerns this machine.
pub(crate) struct Site<'a> {
    pub(crate) config: &'a Config,
    pub(crate) facts: &'a Facts,
    /// This node's addresses and the partner's, a pair for each way on which heartbeats go.
    /// Without a partner, or where this node is none of the two, there is none.
    pub(crate) paths: Vec<Path>,
}

/// A way on which heartbeats go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) own: Ipv4Addr,
    pub(crate) partner: Ipv4Addr,
}

/// An address that moves with the active node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moving<'a> {
    pub(crate) addr: Ipv4Addr,
    pub(crate) label: &'a str,
    /// What it is for: a block's name, or `nat_router`.
    pub(crate) what: &'a str,
}

impl<'a> Moving<'a> {
    pub(crate) fn interface(&self) -> &'a str {
        interface_of(self.label)
    }
}

impl<'a> Site<'a> {
    pub(crate) fn new(config: &'a Config, facts: &'a Facts) -> Site<'a> {
        Site { config, facts, paths: paths(config, facts) }
    }

    pub(crate) fn is_lvs(&self) -> bool {
        self.config.service == ServiceKind::Lvs
    }

    pub(crate) fn blocks(&self) -> impl Iterator<Item = &'a Virtual> {
        self.config.active_blocks()
    }

    /// The addresses that move with the active node, each once.
    pub(crate) fn moving(&self) -> Vec<Moving<'a>> {
        moving(self.config)
    }

    /// The active real servers that are other machines.
    pub(crate) fn servers(&self) -> impl Iterator<Item = (&'a Virtual, Ipv4Addr)> {
        let facts = self.facts;
        let directors = directors(self.config);
        self.blocks()
            .flat_map(|block| {
                block.active_servers().filter_map(move |server| Some((block, server.address?)))
            })
            .filter(move |(_, addr)| !facts.bears(*addr) && !directors.contains(addr))
    }

    /// Whether packets of other machines go through this one: the way NAT needs it, and a gateway.
    pub(crate) fn routes(&self) -> bool {
        let nat = self.config.network == Forwarding::Nat;
        self.is_lvs() && (nat || self.blocks().any(|block| self.is_gateway(block)))
    }

    /// Whether a block is there for its address alone: its servers are the directors themselves,
    /// for other machines to use as their gateway.
    pub(crate) fn is_gateway(&self, block: &Virtual) -> bool {
        let directors = directors(self.config);
        let mut servers = block.active_servers().filter_map(|server| server.address).peekable();
        servers.peek().is_some() && servers.all(|addr| directors.contains(&addr))
    }
}

/// The addresses that move with the active node, each once.
pub(crate) fn moving(config: &Config) -> Vec<Moving<'_>> {
    let mut found: Vec<Moving<'_>> = Vec::new();
    let router = match (&config.nat_router, &config.nat_router_device) {
        (Some(host), Some(label))
            if config.network == Forwarding::Nat && config.service == ServiceKind::Lvs =>
        {
            Some(Moving { addr: host.addr, label, what: "nat_router" })
        }
        _ => None,
    };
    let blocks = config.active_blocks().filter_map(|block| {
        Some(Moving { addr: block.addr()?, label: block.device.as_deref()?, what: &block.name })
    });
    for moving in router.into_iter().chain(blocks) {
        if found.iter().all(|known| known.addr != moving.addr) {
            found.push(moving);
        }
    }
    found
}

/// The addresses of the two directors themselves.
pub(crate) fn directors(config: &Config) -> Vec<Ipv4Addr> {
    let hosts = [&config.primary, &config.primary_private, &config.backup, &config.backup_private];
    let addresses = hosts.into_iter().flatten().map(|host| host.addr);
    addresses.filter(|addr| !addr.is_unspecified()).collect()
}

/// The partner's addresses, as this machine's place in the pair has them.
fn paths(config: &Config, facts: &Facts) -> Vec<Path> {
    if !config.backup_active {
        return Vec::new();
    }
    let pairs =
        [(&config.primary, &config.backup), (&config.primary_private, &config.backup_private)];
    let both = pairs.into_iter().filter_map(|(primary, backup)| {
        let (primary, backup) = (primary.as_ref()?.addr, backup.as_ref()?.addr);
        (!backup.is_unspecified()).then_some((primary, backup))
    });
    let master = config.primary.as_ref().is_some_and(|host| facts.bears(host.addr));
    let backup = config.backup_addr().is_some_and(|addr| facts.bears(addr));
    let mut paths: Vec<Path> = Vec::new();
    for (primary, other) in both {
        let path = match (master, backup) {
            (true, _) => Path { own: primary, partner: other },
            (false, true) => Path { own: other, partner: primary },
            (false, false) => continue,
        };
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::facts::{Facts, Maker, Module, Route};
    use super::*;
    use lvs_config::NoResolver;
    use lvs_net::{Address, Link};

    /// A pair that forwards by NAT, as a site of the field has it.
    pub(crate) const NAT: &str = "\
primary = 10.0.0.11
backup = 10.0.0.12
backup_active = 1
network = nat
nat_router = 10.0.0.254 eth1:1
nat_nmask = 255.255.255.0
virtual web {
    active = 1
    address = 172.16.0.100 eth0:1
    vip_nmask = 255.255.255.0
    server rs1 {
        address = 10.0.0.21
        active = 1
    }
    server rs2 {
        address = 10.0.0.22
        active = 1
    }
}
";

    /// The same with direct routing on one segment.
    pub(crate) fn direct() -> String {
        NAT.replace("network = nat", "network = direct")
            .replace("nat_router = 10.0.0.254 eth1:1\nnat_nmask = 255.255.255.0\n", "")
            .replace("172.16.0.100 eth0:1", "10.0.0.100 eth1:1")
    }

    pub(crate) fn config(text: &str) -> Config {
        lvs_config::parse(text.as_bytes(), &NoResolver).config.unwrap()
    }

    pub(crate) fn link(index: u32, name: &str) -> Link {
        let last = u8::try_from(index).unwrap();
        Link {
            index,
            name: name.to_owned(),
            mac: Some([2, 0, 0, 0, 0, last]),
            up: true,
            carrier: true,
            arp: name != "lo",
        }
    }

    pub(crate) fn address(index: u32, addr: [u8; 4], prefix: u8, label: &str) -> Address {
        let (addr, label) = (addr.into(), label.to_owned());
        Address { index, addr, prefix, broadcast: None, label, secondary: false }
    }

    /// A well-prepared master of [`NAT`]: nothing is wrong with it.
    pub(crate) fn good() -> Facts {
        let mut facts = Facts { sysctl_d: true, ..Facts::default() };
        facts.links = vec![link(1, "lo"), link(2, "eth0"), link(3, "eth1")];
        facts.addresses = vec![
            address(1, [127, 0, 0, 1], 8, "lo"),
            address(2, [172, 16, 0, 11], 24, "eth0"),
            address(3, [10, 0, 0, 11], 24, "eth1"),
        ];
        let route = |network: [u8; 4], prefix, interface: &str| Route {
            network: network.into(),
            prefix,
            via: (prefix == 0).then_some([172, 16, 0, 1].into()),
            interface: interface.to_owned(),
            metric: 0,
        };
        facts.routes = vec![
            route([0, 0, 0, 0], 0, "eth0"),
            route([172, 16, 0, 0], 24, "eth0"),
            route([10, 0, 0, 0], 24, "eth1"),
        ];
        let mut set = |name: &str, value| facts.sysctls.insert(name.to_owned(), value);
        set("net/ipv4/ip_forward", 1);
        set("net/ipv4/vs/conntrack", 0);
        for interface in ["all", "lo", "eth0", "eth1"] {
            let mut set =
                |name: &str, value| set(&format!("net/ipv4/conf/{interface}/{name}"), value);
            set("promote_secondaries", 1);
            set("send_redirects", 1);
            set("forwarding", 1);
            for name in ["rp_filter", "arp_ignore", "arp_announce"] {
                set(name, 0);
            }
        }
        for module in ["ip_vs", "ip_vs_wlc"] {
            facts.modules.insert(module.to_owned(), Module::Usable);
        }
        facts.firewall.maker = Maker::Iptables("iptables".to_owned());
        facts.firewall.rules = rules("", "-A POSTROUTING -o eth0 -j MASQUERADE");
        facts
    }

    /// The filter table and the table nat with these rules.
    pub(crate) fn rules(filter: &str, nat: &str) -> super::super::firewall::Ruleset {
        let text = format!(
            "*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
             -A INPUT -i lo -j ACCEPT\n-A INPUT -p tcp -m multiport --dports 80,3636 -j ACCEPT\n\
             -A INPUT -p udp -m multiport --dports 539,8848 -j ACCEPT\n{filter}\nCOMMIT\n\
             *nat\n:POSTROUTING ACCEPT [0:0]\n{nat}\nCOMMIT\n"
        );
        let chains = super::super::firewall::parse_iptables(&text, "iptables");
        super::super::firewall::Ruleset { chains }
    }

    /// The findings' codes and commands.
    pub(crate) fn found(text: &str, facts: &Facts) -> Vec<(&'static str, Vec<String>)> {
        let findings = judge(&config(text), facts);
        findings.into_iter().map(|finding| (finding.code, finding.now)).collect()
    }

    /// The findings' codes.
    pub(crate) fn codes(text: &str, facts: &Facts) -> Vec<&'static str> {
        found(text, facts).into_iter().map(|(code, _)| code).collect()
    }

    /// What changing the facts of a well-prepared master brings about.
    pub(crate) fn with(text: &str, change: impl FnOnce(&mut Facts)) -> Vec<&'static str> {
        let mut facts = good();
        change(&mut facts);
        codes(text, &facts)
    }

    #[test]
    fn a_well_prepared_director_has_no_finding() {
        assert_eq!(judge(&config(NAT), &good()), Vec::new());
        assert_eq!(judge(&config(&direct()), &good()), Vec::new());
        // The other node, and the two without each other.
        let backup =
            |facts: &mut Facts| facts.addresses[2] = address(3, [10, 0, 0, 12], 24, "eth1");
        assert_eq!(with(NAT, backup), Vec::<&str>::new());
        assert_eq!(with(&NAT.replace("backup_active = 1", ""), |_| ()), Vec::<&str>::new());
    }

    #[test]
    fn a_machine_of_which_nothing_is_known_is_judged_without_a_panic() {
        let findings = judge(&config(NAT), &Facts::default());
        assert!(findings.iter().any(|finding| finding.code == "no-role"), "{findings:?}");
        assert_eq!(judge(&Config::default(), &Facts::default()), Vec::new());
    }

    #[test]
    fn both_paths_are_known_from_either_side() {
        let text = NAT.replace(
            "network",
            "primary_private = 192.168.0.1\nbackup_private = 192.168.0.2\nnetwork",
        );
        let path =
            |own: [u8; 4], partner: [u8; 4]| Path { own: own.into(), partner: partner.into() };
        let config = config(&text);
        let site = |facts| Site::new(&config, facts).paths;
        let master = good();
        let want = [path([10, 0, 0, 11], [10, 0, 0, 12]), path([192, 168, 0, 1], [192, 168, 0, 2])];
        assert_eq!(site(&master), want);
        let mut backup = good();
        backup.addresses[2] = address(3, [10, 0, 0, 12], 24, "eth1");
        let back = want.map(|path| Path { own: path.partner, partner: path.own });
        assert_eq!(site(&backup), back);
        assert_eq!(site(&Facts::default()), []);
    }
}
