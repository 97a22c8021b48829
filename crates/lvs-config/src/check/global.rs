//! Checks of the global settings.

use std::net::Ipv4Addr;

use super::{Checker, is_relative_path};
use crate::config::{BlockKind, Config, Forwarding, ServiceKind};
use crate::diagnostic::Code;
use crate::document::Path;
use crate::interval::{HeartbeatTimes, Interval};
use crate::value;

/// The longest name of an interface or label: IFNAMSIZ less its final zero, linux/if.h.
pub(super) const LABEL_LIMIT: usize = 15;

/// The longest timeout that ipvsadm(8) takes and the kernel can count, in seconds.
pub(super) const LONGEST_TIMEOUT: u32 = 31 * 24 * 60 * 60;

const GLOBAL: Path = Path::Global;

impl Checker<'_> {
    pub(super) fn global(&mut self) {
        self.directors();
        self.private_addresses();
        self.heartbeat();
        self.nat_router();
        self.programs();
        self.blocks_in_use();
        self.ipvs_timeouts();
    }

    fn ipvs_timeouts(&mut self) {
        let config = self.config;
        for (key, seconds) in [
            ("tcp_timeout", config.tcp_timeout),
            ("tcpfin_timeout", config.tcpfin_timeout),
            ("udp_timeout", config.udp_timeout),
        ] {
            if u32::try_from(seconds).is_ok_and(|s| s > LONGEST_TIMEOUT) {
                self.too_long(GLOBAL, key);
            }
        }
    }

    pub(super) fn too_long(&mut self, path: Path, key: &str) {
        self.at_key(
            Code::TimeoutTooLong,
            path,
            key,
            &format!("{key} is longer than IPVS can count"),
            "2678400 seconds (31 days) are the most",
        );
    }

    fn directors(&mut self) {
        let config = self.config;
        if config.primary.is_none() {
            self.at_file(
                Code::NoPrimary,
                "primary is not set: no node can know whether it is the primary director",
                "add `primary = ADDRESS` with the primary director's own address",
            );
        }
        let backup = config.backup_addr();
        if config.backup_active && backup.is_none() {
            self.at_key(
                Code::NoBackup,
                GLOBAL,
                "backup_active",
                "backup_active is 1 but backup is not set: there is no partner to talk to",
                "add `backup = ADDRESS`, or set backup_active to 0",
            );
        }
        let primary = config.primary.as_ref().map(|host| host.addr);
        if primary.is_some() && primary == backup {
            self.at_key(
                Code::SameDirector,
                GLOBAL,
                "backup",
                "primary and backup are the same address",
                "give the backup director's own address",
            );
        }
        if config.syncdaemon && !config.backup_active {
            self.at_key(
                Code::SyncWithoutBackup,
                GLOBAL,
                "syncdaemon",
                "the connection sync daemon runs, but backup_active is 0",
                "set syncdaemon to 0, or configure the backup",
            );
        }
    }

    fn private_addresses(&mut self) {
        let config = self.config;
        let has_primary = self.is_set(GLOBAL, "primary_private");
        let has_backup = self.is_set(GLOBAL, "backup_private");
        if has_backup && !has_primary {
            self.at_key(
                Code::PrivateIgnored,
                GLOBAL,
                "backup_private",
                "backup_private has no effect without primary_private",
                "set primary_private too, or remove backup_private",
            );
        }
        if has_primary && !has_backup && config.backup_active {
            self.at_key(
                Code::PrivateIncomplete,
                GLOBAL,
                "primary_private",
                "primary_private is set but backup_private is not",
                "set backup_private too, or remove primary_private",
            );
        }
        let address = |host: &Option<crate::Host>| host.as_ref().map(|host| host.addr);
        let primary = address(&config.primary_private);
        if has_primary && has_backup && primary == address(&config.backup_private) {
            self.at_key(
                Code::SameDirector,
                GLOBAL,
                "backup_private",
                "primary_private and backup_private are the same address",
                "give the backup director's own private address",
            );
        }
    }

    fn heartbeat(&mut self) {
        let config = self.config;
        if !config.backup_active {
            return;
        }
        let (keepalive, deadtime) = (config.keepalive, config.deadtime);
        let blamed = ["deadtime", "keepalive"].into_iter().find(|key| self.is_set(GLOBAL, key));
        let used = config.heartbeat_times();
        let is_long_enough = u64::try_from(keepalive.as_millis())
            .is_ok_and(|millis| millis >= HeartbeatTimes::SHORTEST_KEEPALIVE);
        if !is_long_enough {
            let instead = shown(used.keepalive);
            self.at_key(
                Code::KeepaliveZero,
                GLOBAL,
                "keepalive",
                &format!("keepalive is {keepalive}: heartbeats need time between them"),
                &format!("set keepalive to 1 or more; meanwhile it is taken for {instead}"),
            );
        }
        if deadtime <= keepalive.max(Interval::from_secs(0)) {
            let instead = shown(used.deadtime);
            self.at_key(
                Code::DeadtimeShort,
                GLOBAL,
                blamed.unwrap_or("deadtime"),
                &format!(
                    "deadtime ({deadtime}) must be longer than keepalive ({keepalive}): a living \
                     partner would be taken for dead"
                ),
                &format!(
                    "set deadtime to three times keepalive or more; meanwhile it is taken for \
                     {instead}"
                ),
            );
        } else if blamed.is_some() && deadtime.as_millis() < 3 * keepalive.as_millis() {
            self.at_key(
                Code::DeadtimeTight,
                GLOBAL,
                blamed.unwrap_or("deadtime"),
                &format!(
                    "deadtime ({deadtime}) is less than three times keepalive ({keepalive}): one \
                     or two lost heartbeats fail over"
                ),
                "set deadtime to three times keepalive or more",
            );
        }
        if !config.heartbeat && self.is_set(GLOBAL, "heartbeat") {
            self.at_key(
                Code::HeartbeatIgnored,
                GLOBAL,
                "heartbeat",
                "heartbeat = 0 does not stop heartbeats",
                "set backup_active to 0 to run without a partner",
            );
        }
        if config.heartbeat_port == 0 {
            self.at_key(
                Code::PortRange,
                GLOBAL,
                "heartbeat_port",
                "heartbeats cannot use port 0",
                "leave heartbeat_port out: it is 539 then",
            );
        }
    }

    fn nat_router(&mut self) {
        let config = self.config;
        if let Some(mask) = config.nat_nmask {
            self.netmask(Code::NetmaskHoles, GLOBAL, "nat_nmask", mask);
        }
        if config.nat_router.is_none() {
            if config.nat_nmask.is_some() {
                self.at_key(
                    Code::NatNmaskUnused,
                    GLOBAL,
                    "nat_nmask",
                    "nat_nmask has no effect without nat_router",
                    "set nat_router, or remove nat_nmask",
                );
            }
            return;
        }
        if config.network != Forwarding::Nat {
            self.at_key(
                Code::NatRouterUnused,
                GLOBAL,
                "nat_router",
                &format!("nat_router is not raised with network = {}", config.network),
                "remove nat_router, or set network to nat",
            );
        } else if config.nat_nmask.is_none() {
            self.at_key(
                Code::NatNmaskMissing,
                GLOBAL,
                "nat_router",
                "nat_router has no netmask",
                "add `nat_nmask = NETMASK` of the real servers' network",
            );
        }
        if let Some(device) = &config.nat_router_device {
            self.label(GLOBAL, "nat_router", device);
        }
    }

    fn programs(&mut self) {
        let config = self.config;
        let commands = [
            ("ipvsadm", Some(&config.ipvsadm)),
            ("rsh_command", Some(&config.rsh_command)),
            ("active_cmd", config.active_cmd.as_ref()),
            ("inactive_cmd", config.inactive_cmd.as_ref()),
        ];
        for (key, command) in commands {
            self.program(GLOBAL, key, command.map(String::as_bytes));
        }
    }

    fn blocks_in_use(&mut self) {
        let config = self.config;
        let used = BlockKind::from(config.service);
        let ignored = used.other();
        if !config.blocks(ignored).is_empty() {
            let other_service = match config.service {
                ServiceKind::Lvs => ServiceKind::Fos,
                ServiceKind::Fos => ServiceKind::Lvs,
            };
            self.at_block(
                Code::IgnoredBlocks,
                Path::Block { kind: ignored, index: 0 },
                &format!("{ignored} blocks are not used with service = {}", config.service),
                &format!("remove them, or set service to {other_service}"),
            );
        }
        if config.active_blocks().next().is_none() {
            self.at_file(
                Code::NoActiveBlock,
                &format!("no {used} block is active: pulse does not start"),
                &format!("add a {used} block with `active = 1`"),
            );
        }
    }

    pub(super) fn netmask(&mut self, code: Code, path: Path, key: &str, mask: Ipv4Addr) {
        if !value::is_contiguous(mask) {
            self.at_key(
                code,
                path,
                key,
                &format!("{mask} is no netmask that a prefix length can say"),
                "the ones stand before the zeros, as in 255.255.255.0",
            );
        }
    }

    pub(super) fn label(&mut self, path: Path, key: &str, label: &str) {
        if label.len() > LABEL_LIMIT || label.is_empty() {
            self.at_key(
                Code::LabelTooLong,
                path,
                key,
                &format!(
                    "an interface label has 1 to {LABEL_LIMIT} bytes, this one {}",
                    label.len()
                ),
                "shorten it to the interface, a colon and a number, as eth0:1",
            );
        }
    }

    pub(super) fn program(&mut self, path: Path, key: &str, command: Option<&[u8]>) {
        if command.is_some_and(is_relative_path) {
            self.at_key(
                Code::RelativePath,
                path,
                key,
                &format!("the program of {key} is given by a relative path"),
                "write the whole path: daemons run in the root directory",
            );
        }
    }
}

/// Milliseconds as lvs.cf writes a time.
fn shown(millis: u64) -> Interval {
    Interval::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

impl Config {
    /// The directors' own addresses, public and private.
    pub(super) fn director_addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        [&self.primary, &self.primary_private, &self.backup, &self.backup_private]
            .into_iter()
            .flatten()
            .map(|host| host.addr)
            .filter(|addr| !addr.is_unspecified())
    }
}
