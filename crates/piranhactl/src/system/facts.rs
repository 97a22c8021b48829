//! What is known about the machine: all that the judges look at.

use super::firewall::Ruleset;
use lvs_net::{Address, Link, interface_of};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// The machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Kernel parameters by their names with slashes, `net/ipv4/ip_forward`; those that are there.
    pub(crate) sysctls: BTreeMap<String, i64>,
    pub(crate) links: Vec<Link>,
    pub(crate) addresses: Vec<Address>,
    pub(crate) routes: Vec<Route>,
    /// Kernel modules that were asked for.
    pub(crate) modules: BTreeMap<String, Module>,
    pub(crate) firewall: Firewall,
    /// Programs that were asked for, by their names in the configuration.
    pub(crate) programs: BTreeMap<String, Program>,
    /// The configuration file.
    pub(crate) file: Option<File>,
    /// Other programs that manage IPVS or virtual addresses.
    pub(crate) rivals: Vec<Rival>,
    /// Who has answered for the addresses that were asked for by ARP.
    pub(crate) heard: Vec<Heard>,
    /// What pulse says, if it answers.
    pub(crate) pulse: Option<Pulse>,
    /// What could not be found out, and why.
    pub(crate) unknown: Vec<String>,
    /// Whether the system reads /etc/sysctl.d.
    pub(crate) sysctl_d: bool,
}

/// A route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) network: Ipv4Addr,
    pub(crate) prefix: u8,
    pub(crate) via: Option<Ipv4Addr>,
    pub(crate) interface: String,
    pub(crate) metric: u32,
}

/// Whether a kernel module can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Module {
    /// It is there, or will be as soon as it is needed.
    Usable,
    /// It is on the disk, but a setting keeps modprobe(8) from loading it; which one.
    Blocked(String),
    /// It is on the disk, but this kernel takes no more modules until it is started anew.
    Locked,
    /// This kernel has none.
    Missing,
}

/// The firewall.
#[derive(Clone, Debug, Default)]
pub(crate) struct Firewall {
    pub(crate) rules: Ruleset,
    /// Why the rules, or some of them, could not be read.
    pub(crate) unread: Option<String>,
    /// What rules are made with on this machine.
    pub(crate) maker: Maker,
}

/// A program that makes rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Maker {
    /// firewalld, by firewall-cmd(1).
    Firewalld,
    /// iptables(8) or one of its variants, by this name.
    Iptables(String),
    /// nft(8).
    #[default]
    Nft,
}

/// A program that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Usable(PathBuf),
    Missing,
    /// It is there, but not executable.
    NotExecutable(PathBuf),
    /// The interpreter that its first line names is not there.
    NoInterpreter(PathBuf, String),
    /// Others than root may change it.
    Unsafe(PathBuf),
}

/// The configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    /// Its permission bits.
    pub(crate) mode: u32,
    /// It belongs to root.
    pub(crate) of_root: bool,
    /// Its group is `piranha`; `None`: there is no such group.
    pub(crate) of_group: Option<bool>,
    /// It is in its usual place, where the web page edits it.
    pub(crate) usual: bool,
}

/// Another program that manages what is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rival {
    /// The name of its service.
    pub(crate) service: String,
    /// The process, if it runs.
    pub(crate) pid: Option<u32>,
    /// It is started at boot.
    pub(crate) at_boot: bool,
    /// This machine has systemd.
    pub(crate) systemd: bool,
}

/// An ARP reply from another machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Heard {
    pub(crate) address: Ipv4Addr,
    pub(crate) mac: [u8; 6],
}

/// What pulse says about who is active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pulse {
    pub(crate) partner_active: bool,
}

impl Facts {
    pub(crate) fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The interfaces that bear an address.
    pub(crate) fn bearers(&self, addr: Ipv4Addr) -> impl Iterator<Item = &str> {
        let found = self.addresses.iter().filter(move |address| address.addr == addr);
        found.map(|address| interface_of(&address.label))
    }

    pub(crate) fn bears(&self, addr: Ipv4Addr) -> bool {
        self.bearers(addr).next().is_some()
    }

    /// The route that packets to an address take.
    pub(crate) fn route(&self, to: Ipv4Addr) -> Option<&Route> {
        let leads = |route: &&Route| {
            let mask = lvs_net::mask_of(route.prefix);
            route.network & mask == to & mask
        };
        self.routes
            .iter()
            .filter(leads)
            .max_by_key(|route| (route.prefix, std::cmp::Reverse(route.metric)))
    }

    /// The interface that the way to the world at large leads through.
    pub(crate) fn way_out(&self) -> Option<&str> {
        let defaults = self.routes.iter().filter(|route| route.prefix == 0);
        defaults.min_by_key(|route| route.metric).map(|route| route.interface.as_str())
    }

    /// A kernel parameter.
    pub(crate) fn sysctl(&self, name: &str) -> Option<i64> {
        self.sysctls.get(name).copied()
    }

    /// A parameter of an interface for which the kernel takes the greater of the interface's and
    /// the common one (ip-sysctl: rp_filter, arp_ignore, arp_announce; of the yes-or-no kind, one
    /// yes is enough: send_redirects, promote_secondaries). `None`: not known.
    pub(crate) fn greatest(&self, interface: &str, name: &str) -> Option<i64> {
        let of = |interface: &str| self.sysctl(&format!("net/ipv4/conf/{interface}/{name}"));
        // An interface that has none of its own is not there.
        of(interface)?.max(of("all").unwrap_or_default()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_and_the_least_metric_win() {
        let route = |network: [u8; 4], prefix, interface: &str, metric| Route {
            network: network.into(),
            prefix,
            via: None,
            interface: interface.to_owned(),
            metric,
        };
        let routes = vec![
            route([0, 0, 0, 0], 0, "eth2", 200),
            route([0, 0, 0, 0], 0, "eth0", 100),
            route([10, 0, 0, 0], 24, "eth1", 0),
            route([10, 0, 0, 21], 32, "eth3", 0),
        ];
        let facts = Facts { routes, ..Facts::default() };
        for (to, want) in
            [([10, 0, 0, 9], "eth1"), ([10, 0, 0, 21], "eth3"), ([8, 8, 8, 8], "eth0")]
        {
            assert_eq!(facts.route(to.into()).map(|route| route.interface.as_str()), Some(want));
        }
        assert_eq!(facts.way_out(), Some("eth0"));
    }

    #[test]
    fn the_greater_of_two_parameters_counts() {
        let mut facts = Facts::default();
        let mut set =
            |name: &str, value| facts.sysctls.insert(format!("net/ipv4/conf/{name}"), value);
        set("all/rp_filter", 1);
        set("eth0/rp_filter", 2);
        set("eth0.5/rp_filter", 0);
        assert_eq!(facts.greatest("eth0", "rp_filter"), Some(2));
        assert_eq!(facts.greatest("eth0.5", "rp_filter"), Some(1));
        assert_eq!(facts.greatest("eth0", "arp_ignore"), None);
        assert_eq!(facts.greatest("eth9", "rp_filter"), None);
    }
}
