//! What lvs.cf means for pulse on this node.

use crate::wire::Role;
use lvs_config::{Config, Forwarding, ServiceKind, SystemResolver, Virtual};
use lvs_net::{Address, broadcast_of, classful_prefix, interface_of, mask_of, prefix_of};
use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::path::Path;

/// pulse's name in messages.
pub const NAME: &str = "pulse";

/// Everything that pulse takes from lvs.cf, for one of the two nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// The file's serial_no.
    pub serial_no: i64,
    /// Load balancing, or the nodes' own services.
    pub service: ServiceKind,
    /// Which of the two nodes this is.
    pub role: Role,
    /// Whether there is another node.
    pub partner: bool,
    /// The ways on which heartbeats go.
    pub paths: Vec<Way>,
    /// UDP port of the heartbeat, on both sides.
    pub port: u16,
    /// Milliseconds between two heartbeats.
    pub keepalive: u64,
    /// Milliseconds of silence after which the partner is dead.
    pub deadtime: u64,
    /// The addresses that move, in the file's order, each once.
    pub claims: Vec<Claim>,
    /// The connection sync daemon, if wanted.
    pub sync: Option<Sync>,
    /// The words of the command to run when this node becomes active.
    pub active_cmd: Option<Vec<Vec<u8>>>,
    /// The words of the command to run when this node becomes inactive.
    pub inactive_cmd: Option<Vec<Vec<u8>>>,
    /// Whether the carrier of the NICs that bear this node's addresses counts.
    pub monitor_links: bool,
    /// Whether lvsd checks the servers while this node is inactive.
    pub standby_checks: bool,
    /// The addresses of all active real and sorry servers, sorted, each once.
    pub servers: Vec<Ipv4Addr>,
    /// Lines for the log about what is not as it should be.
    pub findings: Vec<String>,
}

impl Setup {
    /// This node's own addresses.
    #[must_use]
    pub fn own(&self) -> Vec<Ipv4Addr> {
        self.paths.iter().map(|way| way.local).collect()
    }
}

/// A way on which heartbeats go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// `public` or `private`.
    pub name: &'static str,
    /// This node's address.
    pub local: Ipv4Addr,
    /// The partner's, if it has one.
    pub partner: Option<Ipv4Addr>,
}

/// An address that the active node bears, as the file has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The address.
    pub addr: Ipv4Addr,
    /// The interface label: `eth0:1`.
    pub label: String,
    /// Its netmask, if the file gives one.
    pub mask: Option<Ipv4Addr>,
}

/// The connection sync daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sync {
    /// The interface on which it multicasts.
    pub interface: String,
    /// Its id, 0 to 255.
    pub id: u8,
}

impl Claim {
    /// The address as it is raised: with the mask of the file, else that of the network on the
    /// interface which it belongs to, else the one it had `before`, else that of its class. `fixed` are
    /// the addresses that do not move: those that do must not lend their masks.
    #[must_use]
    pub fn resolve(&self, fixed: &[&Address], index: u32, before: Option<u8>) -> Address {
        let inherited = || {
            fixed
                .iter()
                .filter(|a| a.index == index)
                .filter(|a| self.addr & mask_of(a.prefix) == a.addr & mask_of(a.prefix))
                .map(|a| a.prefix)
                .max()
        };
        let prefix = self
            .mask
            .and_then(prefix_of)
            .or_else(inherited)
            .or(before)
            .unwrap_or_else(|| classful_prefix(self.addr));
        Address {
            index,
            addr: self.addr,
            prefix,
            broadcast: broadcast_of(self.addr, prefix),
            label: self.label.clone(),
            secondary: false,
        }
    }

    /// The interface that is to bear it.
    #[must_use]
    pub fn interface(&self) -> &str {
        interface_of(&self.label)
    }
}

/// Reads a file. Resolves the host names in it, which may take as long as the resolver does.
///
/// # Errors
/// The text to show: the original's line first, then what is wrong and where.
pub fn read(file: &Path) -> Result<Config, String> {
    let name = file.display().to_string();
    let bytes = std::fs::read(file)
        .map_err(|e| format!("{}: {e}", lvs_config::open_failure(NAME, &name)))?;
    let parsed = lvs_config::parse(&bytes, &SystemResolver);
    parsed.config.map_err(|error| {
        let mut errors = parsed.diagnostics;
        errors.retain(|d| d.severity == lvs_config::Severity::Error);
        let first = lvs_config::first_line(NAME, &name, &error);
        format!("{first}\n{}", lvs_config::render(&errors, &name, &bytes))
    })
}

/// What a configuration means on the node that has these addresses.
///
/// # Errors
/// The text to show where pulse cannot work with it.
pub fn setup(config: &Config, own: &HashSet<Ipv4Addr>, file: &Path) -> Result<Setup, String> {
    let service = config.service;
    if config.active_blocks().next().is_none() {
        let file = file.display();
        return Err(format!("{NAME}: no active {service} services defined in {file}"));
    }
    fos::shared_disk::check(config).map_err(|why| format!("{NAME}: {why}"))?;
    let mut findings = Vec::new();
    let has = |addr: Ipv4Addr| own.contains(&addr);
    let primary = config.primary.as_ref().map(|host| host.addr);
    let role = if primary.is_some_and(has) { Role::Master } else { Role::Backup };
    let partner = config.backup_active && config.backup_addr().is_some();
    if config.backup_active && !partner {
        findings
            .push("backup_active is set, but there is no backup address: no backup node".into());
    }
    let times = config.heartbeat_times();
    let words = |line: &Option<String>| daemon::child::words(line.as_ref()?.as_bytes());
    Ok(Setup {
        serial_no: config.serial_no,
        service,
        role,
        partner,
        paths: ways(config, role, partner),
        port: config.heartbeat_port,
        keepalive: times.keepalive,
        deadtime: times.deadtime,
        claims: claims(config, &mut findings),
        sync: (config.syncdaemon && service == ServiceKind::Lvs)
            .then(|| Sync { interface: config.syncd_iface.clone(), id: config.syncd_id }),
        active_cmd: words(&config.active_cmd),
        inactive_cmd: words(&config.inactive_cmd),
        monitor_links: config.monitor_links,
        standby_checks: config.standby_checks && service == ServiceKind::Lvs,
        servers: servers(config),
        findings,
    })
}

/// The ways of heartbeats: between the public addresses, and where one of the private ones is
/// another, between these.
fn ways(config: &Config, role: Role, partner: bool) -> Vec<Way> {
    let addr = |host: &Option<lvs_config::Host>| {
        host.as_ref().map(|h| h.addr).filter(|addr| !addr.is_unspecified())
    };
    let primary = (addr(&config.primary), addr(&config.primary_private));
    let backup = (addr(&config.backup), addr(&config.backup_private));
    let (own, other) = match role {
        Role::Master => (primary, backup),
        Role::Backup => (backup, primary),
    };
    let other = if partner { other } else { (None, None) };
    let Some(public) = own.0 else { return Vec::new() };
    let mut ways = vec![Way { name: "public", local: public, partner: other.0 }];
    let private = Way {
        name: "private",
        local: own.1.unwrap_or(public),
        partner: other.1.filter(|private| Some(*private) != other.0),
    };
    if private.local != public || private.partner.is_some() {
        ways.push(private);
    }
    ways
}

/// The addresses that move, in the file's order, each once: the real servers' gateway first.
fn claims(config: &Config, findings: &mut Vec<String>) -> Vec<Claim> {
    let (mut claims, mut seen) = (Vec::new(), HashSet::new());
    let mut add = |addr: Ipv4Addr, label: &str, mask| {
        if seen.insert(addr) {
            claims.push(Claim { addr, label: label.to_owned(), mask });
        }
    };
    if config.service == ServiceKind::Lvs
        && config.network == Forwarding::Nat
        && let (Some(router), Some(device)) = (&config.nat_router, &config.nat_router_device)
        && !router.addr.is_unspecified()
    {
        add(router.addr, device, config.nat_nmask);
    }
    let kind = lvs_config::BlockKind::from(config.service);
    for block in config.active_blocks() {
        match (block.addr(), &block.device) {
            (Some(addr), Some(device)) => add(addr, device, block.vip_nmask),
            _ => findings.push(format!("{kind} {}: no address: nothing to raise", block.name)),
        }
    }
    claims
}

fn servers(config: &Config) -> Vec<Ipv4Addr> {
    let of_block = |block: &Virtual| {
        let servers: Vec<Ipv4Addr> = block.active_servers().filter_map(|s| s.address).collect();
        servers.into_iter().chain(block.sorry_server)
    };
    let mut servers: Vec<Ipv4Addr> = config.active_blocks().flat_map(of_block).collect();
    servers.sort_unstable();
    servers.dedup();
    servers.shrink_to_fit();
    servers
}

#[cfg(test)]
mod tests {
    use super::*;
    use lvs_config::NoResolver;

    const PAIR: &str = "primary = 10.0.0.1\nprimary_private = 10.1.0.1\nbackup = 10.0.0.2\n\
                        backup_private = 10.1.0.2\nbackup_active = 1\n";

    fn block(address: &str, more: &str) -> String {
        format!("virtual v {{\nactive = 1\naddress = {address}\n{more}\n}}\n")
    }

    fn on(own: [u8; 4], text: &str) -> Result<Setup, String> {
        let config = lvs_config::parse(text.as_bytes(), &NoResolver).config.unwrap();
        setup(&config, &HashSet::from([own.into()]), Path::new("/x/lvs.cf"))
    }

    fn ways_on(own: [u8; 4], text: &str) -> Vec<(&'static str, String, Option<String>)> {
        let text = format!("{text}{}", block("10.0.0.100 eth0:1", ""));
        let ways = on(own, &text).unwrap().paths.into_iter();
        ways.map(|w| (w.name, w.local.to_string(), w.partner.map(|p| p.to_string()))).collect()
    }

    fn way(name: &'static str, a: &str, b: &str) -> (&'static str, String, Option<String>) {
        (name, a.to_owned(), (!b.is_empty()).then(|| b.to_owned()))
    }

    #[test]
    fn who_bears_the_primary_address_is_the_master() {
        let web = block("10.0.0.100 eth0:1", "");
        let text = format!("{PAIR}{web}");
        assert_eq!(on([10, 0, 0, 1], &text).unwrap().role, Role::Master);
        assert_eq!(on([10, 0, 0, 2], &text).unwrap().role, Role::Backup);
        assert_eq!(on([10, 1, 0, 1], &text).unwrap().role, Role::Backup);
    }

    #[test]
    fn heartbeats_go_between_public_and_between_private_addresses() {
        let master = [10, 0, 0, 1];
        let cases = [
            (
                PAIR.to_owned(),
                vec![way("public", "10.0.0.1", "10.0.0.2"), way("private", "10.1.0.1", "10.1.0.2")],
            ),
            // Without primary_private there is one way, even with a backup_private.
            (
                PAIR.replace("primary_private = 10.1.0.1\n", ""),
                vec![way("public", "10.0.0.1", "10.0.0.2")],
            ),
            (
                PAIR.replace("primary_private = 10.1.0.1", "primary_private = 10.0.0.1")
                    .replace("backup_private = 10.1.0.2", "backup_private = 10.0.0.2"),
                vec![way("public", "10.0.0.1", "10.0.0.2")],
            ),
            (
                PAIR.replace("backup_private = 10.1.0.2\n", ""),
                vec![way("public", "10.0.0.1", "10.0.0.2"), way("private", "10.1.0.1", "")],
            ),
            (
                PAIR.replace("primary_private = 10.1.0.1", "primary_private = 10.0.0.1"),
                vec![way("public", "10.0.0.1", "10.0.0.2"), way("private", "10.0.0.1", "10.1.0.2")],
            ),
            (
                PAIR.replace("backup_active = 1", "backup_active = 0"),
                vec![way("public", "10.0.0.1", ""), way("private", "10.1.0.1", "")],
            ),
        ];
        for (text, want) in cases {
            assert_eq!(ways_on(master, &text), want, "{text}");
        }
        assert_eq!(
            ways_on([10, 0, 0, 2], PAIR),
            [way("public", "10.0.0.2", "10.0.0.1"), way("private", "10.1.0.2", "10.1.0.1"),]
        );
    }

    #[test]
    fn a_backup_without_an_address_is_none() {
        let text = format!(
            "primary = 10.0.0.1\nbackup = 0.0.0.0\nbackup_active = 1\n{}",
            block("10.0.0.100 eth0:1", "")
        );
        let setup = on([10, 0, 0, 1], &text).unwrap();
        assert!(!setup.partner);
        assert_eq!(setup.findings.len(), 1);
        assert_eq!(setup.paths[0].partner, None);
    }

    #[test]
    fn addresses_move_in_the_files_order_and_each_once() {
        let blocks = [
            block("10.0.0.100 eth0:1", "port = 80"),
            block("10.0.0.100 eth0:7", "port = 443"),
            block("10.0.0.101 eth0:2", "").replace("active = 1", "active = 0"),
            block("10.2.0.102 eth1:1", "vip_nmask = 255.255.0.0"),
            "virtual mark {\nactive = 1\nfwmark = 7\n}\n".to_owned(),
        ]
        .concat();
        let claims = |network: &str| {
            let text =
                format!("{PAIR}network = {network}\nnat_router = 10.3.0.254 eth1:9\n{blocks}");
            let setup = on([10, 0, 0, 1], &text).unwrap();
            assert!(setup.findings[0].contains("virtual mark"), "{:?}", setup.findings);
            let claims = setup.claims.into_iter();
            claims.map(|c| (c.addr.to_string(), c.label, c.mask.is_some())).collect::<Vec<_>>()
        };
        let claim = |addr: &str, label: &str, mask| (addr.to_owned(), label.to_owned(), mask);
        let moving = [claim("10.0.0.100", "eth0:1", false), claim("10.2.0.102", "eth1:1", true)];
        assert_eq!(claims("direct"), moving);
        assert_eq!(claims("nat")[0], claim("10.3.0.254", "eth1:9", false));
        assert_eq!(claims("nat")[1..], moving);
    }

    #[test]
    fn a_prefix_is_given_inherited_or_classful() {
        let own = |index, addr: [u8; 4], prefix| Address {
            index,
            addr: addr.into(),
            prefix,
            broadcast: None,
            label: String::new(),
            secondary: false,
        };
        let here = [
            own(2, [10, 0, 0, 1], 23),
            own(2, [10, 0, 0, 9], 16),
            own(2, [10, 0, 0, 8], 32),
            own(3, [172, 16, 0, 1], 28),
        ];
        let here: Vec<&Address> = here.iter().collect();
        let cases = [
            ([10, 0, 0, 100], 2, Some([255, 255, 255, 0]), 24, Some([10, 0, 0, 255])),
            ([10, 0, 0, 100], 2, Some([255, 255, 255, 255]), 32, None),
            ([10, 0, 1, 100], 2, None, 23, Some([10, 0, 1, 255])),
            ([10, 0, 2, 100], 2, None, 16, Some([10, 0, 255, 255])),
            ([10, 0, 1, 100], 3, None, 8, Some([10, 255, 255, 255])),
            ([172, 16, 0, 2], 3, None, 28, Some([172, 16, 0, 15])),
            ([192, 168, 0, 2], 3, None, 24, Some([192, 168, 0, 255])),
        ];
        for (addr, index, mask, prefix, broadcast) in cases {
            let claim =
                Claim { addr: addr.into(), label: "eth0:1".into(), mask: mask.map(Into::into) };
            let resolved = claim.resolve(&here, index, None);
            assert_eq!((resolved.prefix, resolved.index), (prefix, index), "{addr:?}");
            assert_eq!(resolved.broadcast, broadcast.map(Into::into), "{addr:?}");
            assert_eq!(resolved.label, "eth0:1");
        }
    }

    #[test]
    fn servers_commands_and_times() {
        let text = format!(
            "{PAIR}keepalive = 200ms\ndeadtime = 1\nsyncdaemon = 1\nsyncd_id = 3\n\
             active_cmd = \" /bin/a  b\tc \"\ninactive_cmd = \"\"\n{}",
            block(
                "10.0.0.100 eth0:1",
                "sorry_server = 10.9.0.9\nserver a {\naddress = 10.9.0.2\nactive = 1\n}\n\
                 server b {\naddress = 10.9.0.1\nactive = 0\n}\n\
                 server c {\naddress = 10.9.0.2\nactive = 1\nport = 81\n}"
            )
        );
        let setup = on([10, 0, 0, 1], &text).unwrap();
        assert_eq!((setup.keepalive, setup.deadtime), (200, 1000));
        assert_eq!(setup.servers, [[10, 9, 0, 2], [10, 9, 0, 9]].map(Ipv4Addr::from));
        assert_eq!(setup.sync, Some(Sync { interface: "eth0".into(), id: 3 }));
        let words = setup.active_cmd.unwrap();
        assert_eq!(words, [&b"/bin/a"[..], b"b", b"c"]);
        assert_eq!(setup.inactive_cmd, None);
    }
}
