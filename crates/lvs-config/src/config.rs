//! The typed configuration: what a file means, every default filled in. lvs.cf(5).

use std::net::Ipv4Addr;

use crate::interval::Interval;

/// An address as the file gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The word of the file: an address in any of the forms of inet_aton(3), or a name.
    pub text: String,
    /// The address it stands for. 0.0.0.0 only where [`Config::backup`] says so.
    pub addr: Ipv4Addr,
}

macro_rules! choices {
    ($(#[$doc:meta])* $enum:ident: $($(#[$vdoc:meta])* $variant:ident $name:literal,)+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $enum { $($(#[$vdoc])* $variant),+ }

        impl $enum {
            /// Every word that lvs.cf has for it.
            pub const NAMES: &'static [&'static str] = &[$($name),+];

            /// The word for it in lvs.cf.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            pub(crate) fn parse(word: &[u8]) -> Option<Self> {
                match std::str::from_utf8(word).ok()? {
                    $($name => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $enum {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

choices! {
    /// How packets reach the real servers: `network`.
    Forwarding:
    /// Masquerading: addresses are rewritten both ways, the director is the servers' gateway.
    Nat "nat",
    /// Direct routing: only the link-layer address changes, servers hold the VIP themselves.
    Direct "direct",
    /// IP-in-IP encapsulation: servers may be on other networks.
    Tunnel "tunnel",
}

choices! {
    /// Which kind of block is used: `service`.
    ServiceKind:
    /// Load balancing: the `virtual` blocks.
    Lvs "lvs",
    /// Failover of the two nodes' own services: the `failover` blocks.
    Fos "fos",
}

choices! {
    /// Transport protocol of a virtual server.
    Protocol:
    /// TCP.
    Tcp "tcp",
    /// UDP.
    Udp "udp",
}

choices! {
    /// Scheduling method of a virtual server, by the name of the kernel's module.
    Scheduler:
    /// Round robin.
    Rr "rr",
    /// Weighted round robin.
    Wrr "wrr",
    /// Least connections.
    Lc "lc",
    /// Weighted least connections.
    Wlc "wlc",
    /// Locality-based least connections.
    Lblc "lblc",
    /// Locality-based least connections with replication.
    Lblcr "lblcr",
    /// Destination hashing.
    Dh "dh",
    /// Source hashing.
    Sh "sh",
}

choices! {
    /// What to do when the shared disk's reservation is lost.
    ReservationConflict:
    /// Leave it to the partner.
    Nothing "nothing",
    /// Take it back.
    Preempt "preempt",
}

/// A whole lvs.cf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Raised by the web interface at every change.
    pub serial_no: i64,
    /// Real address of the primary director; never 0.0.0.0.
    pub primary: Option<Host>,
    /// The primary's address on the second heartbeat path. [`Config::primary`] where the
    /// file has none.
    pub primary_private: Option<Host>,
    /// Shared disk as the primary sees it.
    pub primary_shared: Option<String>,
    /// Real address of the backup director. The file may say 0.0.0.0, which is none:
    /// [`Config::backup_addr`] knows.
    pub backup: Option<Host>,
    /// The backup's address on the second heartbeat path. [`Config::backup`] where the file
    /// has no `primary_private`, even when it has a `backup_private`.
    pub backup_private: Option<Host>,
    /// Shared disk as the backup sees it.
    pub backup_shared: Option<String>,
    /// Whether there is a backup director.
    pub backup_active: bool,
    /// Read, not acted on: heartbeats follow [`Config::backup_active`].
    pub heartbeat: bool,
    /// UDP port of the heartbeat.
    pub heartbeat_port: u16,
    /// Time between two heartbeats, as the file has it: 0 and less can occur.
    /// [`Config::heartbeat_times`] has what to work with.
    pub keepalive: Interval,
    /// Silence after which the partner is dead, as the file has it.
    pub deadtime: Interval,
    /// Accepted, unused.
    pub sync: bool,
    /// Remote shell; `load_monitor = uptime` runs it.
    pub rsh_command: String,
    /// Ignored.
    pub debug_level: String,
    /// Path of ipvsadm; other than the default: changes are made by running it.
    pub ipvsadm: String,
    /// Forwarding method of every real server.
    pub network: Forwarding,
    /// Which kind of block is used.
    pub service: ServiceKind,
    /// The real servers' default gateway, an address that moves with the active director.
    pub nat_router: Option<Host>,
    /// Interface label of [`Config::nat_router`].
    pub nat_router_device: Option<String>,
    /// Netmask of [`Config::nat_router`].
    pub nat_nmask: Option<Ipv4Addr>,
    /// What to do when the shared disk's reservation is lost.
    pub reservation_conflict_action: Option<ReservationConflict>,
    /// Whether to run the kernel's connection synchronisation.
    pub syncdaemon: bool,
    /// Identifier of the synchronisation group.
    pub syncd_id: u8,
    /// Multicast interface of the synchronisation.
    pub syncd_iface: String,
    /// Command line run when this node becomes active, to be split at blanks.
    pub active_cmd: Option<String>,
    /// Command line run when this node starts inactive or becomes so.
    pub inactive_cmd: Option<String>,
    /// Whether the carrier of the NICs with this node's addresses is watched.
    pub monitor_links: bool,
    /// Whether the real servers are checked on the inactive director too, so that it takes
    /// over with what it knows. The original does not know this key.
    pub standby_checks: bool,
    /// Whether a monitor that dies takes lvsd down with it.
    pub hard_shutdown: bool,
    /// IPVS timeout of TCP sessions, seconds; 0 leaves the kernel's.
    pub tcp_timeout: i32,
    /// IPVS timeout of TCP sessions after a FIN, seconds; 0 leaves the kernel's.
    pub tcpfin_timeout: i32,
    /// IPVS timeout of UDP, seconds; 0 leaves the kernel's.
    pub udp_timeout: i32,
    /// The `virtual` blocks, in the file's order.
    pub virtuals: Vec<Virtual>,
    /// The `failover` blocks, in the file's order.
    pub failovers: Vec<Virtual>,
}

impl Config {
    /// Where ipvsadm is unless the file says otherwise.
    pub const IPVSADM: &str = "/sbin/ipvsadm";

    /// UDP port of the heartbeat unless the file says otherwise.
    pub const HEARTBEAT_PORT: u16 = 539;

    /// The backup director's address; `None` when the file gives none or 0.0.0.0.
    #[must_use]
    pub fn backup_addr(&self) -> Option<Ipv4Addr> {
        self.backup.as_ref().map(|host| host.addr).filter(|addr| !addr.is_unspecified())
    }

    /// The blocks of one kind.
    #[must_use]
    pub fn blocks(&self, kind: BlockKind) -> &[Virtual] {
        match kind {
            BlockKind::Virtual => &self.virtuals,
            BlockKind::Failover => &self.failovers,
        }
    }

    /// The blocks of the chosen service that are switched on.
    pub fn active_blocks(&self) -> impl Iterator<Item = &Virtual> {
        self.blocks(self.service.into()).iter().filter(|block| block.active)
    }

    pub(crate) fn blocks_mut(&mut self, kind: BlockKind) -> &mut Vec<Virtual> {
        match kind {
            BlockKind::Virtual => &mut self.virtuals,
            BlockKind::Failover => &mut self.failovers,
        }
    }
}

impl Default for Config {
    /// What a file without a single key means.
    fn default() -> Self {
        Self {
            serial_no: 0,
            primary: None,
            primary_private: None,
            primary_shared: None,
            backup: None,
            backup_private: None,
            backup_shared: None,
            backup_active: false,
            heartbeat: false,
            heartbeat_port: Self::HEARTBEAT_PORT,
            keepalive: Interval::from_secs(2),
            deadtime: Interval::from_secs(5),
            sync: false,
            rsh_command: "rsh".to_owned(),
            debug_level: "NONE".to_owned(),
            ipvsadm: Self::IPVSADM.to_owned(),
            network: Forwarding::Nat,
            service: ServiceKind::Lvs,
            nat_router: None,
            nat_router_device: None,
            nat_nmask: None,
            reservation_conflict_action: None,
            syncdaemon: false,
            syncd_id: 0,
            syncd_iface: "eth0".to_owned(),
            active_cmd: None,
            inactive_cmd: None,
            monitor_links: false,
            standby_checks: false,
            hard_shutdown: true,
            tcp_timeout: 0,
            tcpfin_timeout: 0,
            udp_timeout: 0,
            virtuals: Vec::new(),
            failovers: Vec::new(),
        }
    }
}

/// The two kinds of block at the top of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockKind {
    /// `virtual NAME {`
    Virtual,
    /// `failover NAME {`
    Failover,
}

impl BlockKind {
    /// The word that opens such a block.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Virtual => "virtual",
            Self::Failover => "failover",
        }
    }

    /// The other kind.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Virtual => Self::Failover,
            Self::Failover => Self::Virtual,
        }
    }
}

impl From<ServiceKind> for BlockKind {
    fn from(service: ServiceKind) -> Self {
        match service {
            ServiceKind::Lvs => Self::Virtual,
            ServiceKind::Fos => Self::Failover,
        }
    }
}

impl std::fmt::Display for BlockKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A `virtual` or `failover` block.
///
/// Numbers the file may give but the setting cannot hold are brought to the nearest it can;
/// a diagnostic (`out-of-range`) has then been given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Virtual {
    /// The block's name; names need not be unique.
    pub name: String,
    /// Whether the block is used.
    pub active: bool,
    /// The virtual IP address; 0.0.0.0 in the file is none.
    pub address: Option<Host>,
    /// The interface label that bears it, as `eth0:1`.
    pub device: Option<String>,
    /// Its netmask; 0.0.0.0 in the file is none.
    pub vip_nmask: Option<Ipv4Addr>,
    /// The server that takes over when no other is up.
    pub sorry_server: Option<Ipv4Addr>,
    /// Firewall mark; 0: the service is address and port.
    pub fwmark: u32,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Port of the virtual server.
    pub port: u16,
    /// Scheduling method.
    pub scheduler: Scheduler,
    /// Seconds for which a client stays with its server; 0 is off.
    pub persistent: u32,
    /// Clients are taken together by this mask; 255.255.255.255 in the file is none.
    pub pmask: Option<Ipv4Addr>,
    /// Path of the monitor, where the block sets one.
    pub client_monitor: Option<String>,
    /// Command line of an external check, to be split at blanks, `%h` and `%p` for the
    /// server's address and port.
    pub send_program: Option<Vec<u8>>,
    /// What a check sends, backslash escapes as written.
    pub send: Option<Vec<u8>>,
    /// What a check expects to read, backslash escapes as written.
    pub expect: Option<Vec<u8>>,
    /// Whether `expect` is a POSIX extended regular expression.
    pub use_regex: bool,
    /// Seconds between checks, and the time limit of one.
    pub timeout: u32,
    /// Seconds for which a failed server must pass its checks before it returns.
    pub reentry: u32,
    /// `rup`, `ruptime`, `uptime`, `none`, or a command that tells a server's load.
    pub load_monitor: Option<String>,
    /// Whether a failed server gets weight 0 instead of being removed.
    pub quiesce_server: bool,
    /// Command line that starts a failover service.
    pub start_cmd: Option<String>,
    /// Command line that stops a failover service.
    pub stop_cmd: Option<String>,
    /// The real servers, in the file's order.
    pub servers: Vec<Server>,
    /// The line that opens the block, counted from 1.
    pub line: u32,
}

impl Virtual {
    /// The monitor that runs unless the block sets one.
    pub const CLIENT_MONITOR: &str = "/usr/sbin/nanny";

    /// The port unless the block sets one.
    pub const PORT: u16 = 80;

    /// The longest `send` and `expect` the format has room for, in bytes.
    pub const TEXT_LIMIT: usize = 255;

    /// A block without a single key, opened on `line`.
    #[must_use]
    pub fn new(name: String, line: u32) -> Self {
        Self {
            name,
            active: false,
            address: None,
            device: None,
            vip_nmask: None,
            sorry_server: None,
            fwmark: 0,
            protocol: Protocol::Tcp,
            port: Self::PORT,
            scheduler: Scheduler::Wlc,
            persistent: 0,
            pmask: None,
            client_monitor: None,
            send_program: None,
            send: None,
            expect: None,
            use_regex: false,
            timeout: 10,
            reentry: 180,
            load_monitor: None,
            quiesce_server: false,
            start_cmd: None,
            stop_cmd: None,
            servers: Vec::new(),
            line,
        }
    }

    /// The virtual IP address.
    #[must_use]
    pub fn addr(&self) -> Option<Ipv4Addr> {
        self.address.as_ref().map(|host| host.addr)
    }

    /// The servers that are switched on.
    pub fn active_servers(&self) -> impl Iterator<Item = &Server> {
        self.servers.iter().filter(|server| server.active)
    }
}

/// A `server` block: a real server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The block's name; names need not be unique.
    pub name: String,
    /// The real server's address; 0.0.0.0 in the file is none.
    pub address: Option<Ipv4Addr>,
    /// Whether the server is used.
    pub active: bool,
    /// The real server's port.
    pub port: u16,
    /// Scheduling weight as the file has it; the kernel takes 0 to 65535.
    pub weight: i32,
    /// The line that opens the block, counted from 1.
    pub line: u32,
}

impl Server {
    /// A server without a single key: inactive, weight 1.
    #[must_use]
    pub const fn new(name: String, port: u16, line: u32) -> Self {
        Self { name, address: None, active: false, port, weight: 1, line }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_stays_small() {
        // Ten thousand are held for a daemon's life.
        assert!(size_of::<Server>() <= 48, "{}", size_of::<Server>());
    }

    #[test]
    fn choices_read_what_they_write() {
        for name in Scheduler::NAMES {
            assert_eq!(Scheduler::parse(name.as_bytes()).map(Scheduler::as_str), Some(*name));
        }
        assert_eq!(Scheduler::parse(b"WLC"), None);
        assert_eq!(Protocol::parse(b"6"), None);
        assert_eq!(ServiceKind::parse(b""), None);
    }
}
