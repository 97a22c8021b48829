//! The keys of lvs.cf: where each may stand, what it takes, and in which order the
//! web interface writes them.

use crate::config::{Forwarding, Protocol, ReservationConflict, Scheduler, ServiceKind};

/// Where in the file something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// Outside all blocks.
    Global,
    /// Directly inside a `virtual` or `failover` block.
    Block,
    /// Inside a `server` block.
    Server,
}

impl Level {
    /// Every key of this level, in the order in which the web interface writes them.
    pub fn keys(self) -> impl Iterator<Item = &'static str> {
        let names: &'static [&'static str] = match self {
            Self::Global => GlobalKey::NAMES,
            Self::Block => BlockKey::NAMES,
            Self::Server => ServerKey::NAMES,
        };
        names.iter().copied()
    }

    /// Where that is, as a message says it: "among the global settings".
    #[must_use]
    pub const fn place(self) -> &'static str {
        match self {
            Self::Global => "among the global settings",
            Self::Block => "inside a virtual or failover block",
            Self::Server => "inside a server block",
        }
    }
}

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An address or a name that resolves to one.
    Host,
    /// Such a host, and the interface label that bears it.
    HostDevice,
    /// A numeric address.
    Address,
    Netmask,
    Boolean,
    Integer,
    Port,
    /// Whole seconds, or a time with a unit.
    Interval,
    /// A port by number alone.
    PortNumber,
    Word,
    /// A word that is written in quotes even where it could do without.
    Text,
    OneOf(&'static [&'static str]),
    List,
}

impl Kind {
    /// The fewest and the most words behind the `=`.
    pub(crate) const fn arity(self) -> (usize, usize) {
        match self {
            Self::HostDevice => (2, 2),
            Self::List => (1, usize::MAX),
            _ => (1, 1),
        }
    }
}

macro_rules! keys {
    ($(#[$doc:meta])* $enum:ident: $($variant:ident $name:literal $kind:expr;)+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum $enum { $($variant),+ }

        impl $enum {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant),+];
            pub(crate) const NAMES: &'static [&'static str] = &[$($name),+];

            pub(crate) fn parse(name: &[u8]) -> Option<Self> {
                let name = std::str::from_utf8(name).ok()?;
                match name {
                    $($name => Some(Self::$variant),)+
                    _ => None,
                }
            }

            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            pub(crate) const fn kind(self) -> Kind {
                match self { $(Self::$variant => $kind),+ }
            }
        }
    };
}

keys! {
    /// Keys outside all blocks.
    GlobalKey:
    SerialNo "serial_no" Kind::Integer;
    Primary "primary" Kind::Host;
    PrimaryPrivate "primary_private" Kind::Host;
    PrimaryShared "primary_shared" Kind::Word;
    Service "service" Kind::OneOf(ServiceKind::NAMES);
    RshCommand "rsh_command" Kind::Word;
    BackupActive "backup_active" Kind::Boolean;
    Backup "backup" Kind::Host;
    BackupPrivate "backup_private" Kind::Host;
    BackupShared "backup_shared" Kind::Word;
    Heartbeat "heartbeat" Kind::Boolean;
    HeartbeatPort "heartbeat_port" Kind::Port;
    Keepalive "keepalive" Kind::Interval;
    Deadtime "deadtime" Kind::Interval;
    Network "network" Kind::OneOf(Forwarding::NAMES);
    NatRouter "nat_router" Kind::HostDevice;
    NatNmask "nat_nmask" Kind::Netmask;
    ReservationConflictAction "reservation_conflict_action" Kind::OneOf(ReservationConflict::NAMES);
    DebugLevel "debug_level" Kind::Word;
    ActiveCmd "active_cmd" Kind::Text;
    InactiveCmd "inactive_cmd" Kind::Text;
    MonitorLinks "monitor_links" Kind::Integer;
    StandbyChecks "standby_checks" Kind::Boolean;
    Syncdaemon "syncdaemon" Kind::Boolean;
    SyncdIface "syncd_iface" Kind::Word;
    SyncdId "syncd_id" Kind::Integer;
    TcpTimeout "tcp_timeout" Kind::Integer;
    TcpfinTimeout "tcpfin_timeout" Kind::Integer;
    UdpTimeout "udp_timeout" Kind::Integer;
    HardShutdown "hard_shutdown" Kind::Boolean;
    Ipvsadm "ipvsadm" Kind::Word;
    Sync "sync" Kind::Boolean;
}

keys! {
    /// Keys of a virtual or failover block.
    BlockKey:
    Active "active" Kind::Boolean;
    Address "address" Kind::HostDevice;
    SorryServer "sorry_server" Kind::Address;
    VipNmask "vip_nmask" Kind::Netmask;
    Fwmark "fwmark" Kind::Integer;
    Port "port" Kind::Port;
    Persistent "persistent" Kind::Integer;
    Pmask "pmask" Kind::Netmask;
    Send "send" Kind::Text;
    Expect "expect" Kind::Text;
    UseRegex "use_regex" Kind::Boolean;
    SendProgram "send_program" Kind::Text;
    LoadMonitor "load_monitor" Kind::Word;
    Scheduler "scheduler" Kind::OneOf(Scheduler::NAMES);
    Protocol "protocol" Kind::OneOf(Protocol::NAMES);
    Timeout "timeout" Kind::Integer;
    Reentry "reentry" Kind::Integer;
    QuiesceServer "quiesce_server" Kind::Boolean;
    ClientMonitor "client_monitor" Kind::Word;
    StartCmd "start_cmd" Kind::Text;
    StopCmd "stop_cmd" Kind::Text;
    Master "master" Kind::Host;
    Dirs "dirs" Kind::List;
}

keys! {
    /// Keys of a server block.
    ServerKey:
    Address "address" Kind::Host;
    Active "active" Kind::Boolean;
    Port "port" Kind::PortNumber;
    Weight "weight" Kind::Integer;
}

/// A key together with the level it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Global(GlobalKey),
    Block(BlockKey),
    Server(ServerKey),
}

impl Key {
    pub(crate) fn parse(level: Level, name: &[u8]) -> Option<Self> {
        match level {
            Level::Global => GlobalKey::parse(name).map(Self::Global),
            Level::Block => BlockKey::parse(name).map(Self::Block),
            Level::Server => ServerKey::parse(name).map(Self::Server),
        }
    }

    pub(crate) const fn level(self) -> Level {
        match self {
            Self::Global(_) => Level::Global,
            Self::Block(_) => Level::Block,
            Self::Server(_) => Level::Server,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Global(key) => key.name(),
            Self::Block(key) => key.name(),
            Self::Server(key) => key.name(),
        }
    }

    pub(crate) const fn kind(self) -> Kind {
        match self {
            Self::Global(key) => key.kind(),
            Self::Block(key) => key.kind(),
            Self::Server(key) => key.kind(),
        }
    }

    /// Its place in the web interface's order, among the keys of its level.
    pub(crate) const fn rank(self) -> usize {
        match self {
            Self::Global(key) => key as usize,
            Self::Block(key) => key as usize,
            Self::Server(key) => key as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ranks_agree() {
        for level in [Level::Global, Level::Block, Level::Server] {
            for (rank, name) in level.keys().enumerate() {
                let key = Key::parse(level, name.as_bytes()).unwrap();
                assert_eq!((key.name(), key.rank(), key.level()), (name, rank, level));
            }
        }
    }

    #[test]
    fn keys_are_case_sensitive_and_belong_to_one_level() {
        assert_eq!(Key::parse(Level::Global, b"Primary"), None);
        assert_eq!(Key::parse(Level::Block, b"heartbeat"), None);
        assert_eq!(Key::parse(Level::Server, b"timeout"), None);
        assert_eq!(Key::parse(Level::Global, b"\xff"), None);
    }
}
