//! Virtual servers, real servers, timeouts and sync daemons, as the kernel knows them
//! (`include/uapi/linux/ip_vs.h`).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The longest timeout ipvsadm(8) accepts, for persistence and connections: 31 days, in seconds.
pub(crate) const MAX_TIMEOUT: u32 = 31 * 24 * 60 * 60;

/// A transport protocol that IPVS can balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, protocol number 6.
    Tcp,
    /// UDP, protocol number 17.
    Udp,
    /// SCTP, protocol number 132.
    Sctp,
}

impl Protocol {
    /// The protocol's number in the IP header (IANA "Assigned Internet Protocol Numbers").
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// The protocol with this number, if IPVS can balance it.
    #[must_use]
    pub const fn from_number(number: u16) -> Option<Self> {
        match number {
            6 => Some(Protocol::Tcp),
            17 => Some(Protocol::Udp),
            132 => Some(Protocol::Sctp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    /// As `ipvsadm -L` prints it: `TCP`, `UDP`, `SCTP`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        })
    }
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    Inet,
    /// IPv6.
    Inet6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub const fn of(addr: &IpAddr) -> Self {
        match addr {
            IpAddr::V4(_) => Family::Inet,
            IpAddr::V6(_) => Family::Inet6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Family::Inet => "IPv4",
            Family::Inet6 => "IPv6",
        })
    }
}

/// What identifies a virtual server in the table: no two have the same key, and a key cannot be
/// edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceKey {
    /// Packets to an address and port.
    Address {
        /// The transport protocol.
        protocol: Protocol,
        /// The virtual address (VIP).
        addr: IpAddr,
        /// The port in host byte order. 0, every port, needs persistence.
        port: u16,
    },
    /// Packets that netfilter has marked.
    Fwmark {
        /// The mark, 1 or more.
        mark: u32,
        /// The family of the marked packets: the same mark may stand for one service of each.
        family: Family,
    },
}

impl ServiceKey {
    /// The address family of the service's clients.
    #[must_use]
    pub const fn family(&self) -> Family {
        match self {
            ServiceKey::Address { addr, .. } => Family::of(addr),
            ServiceKey::Fwmark { family, .. } => *family,
        }
    }
}

impl fmt::Display for ServiceKey {
    /// As `ipvsadm -L -n` prints it, without the padding: `TCP 10.0.0.1:80`, `UDP [fd00::1]:53`,
    /// `FWM 7`, `FWM 7 IPv6`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ServiceKey::Address { protocol, addr, port } => {
                write!(f, "{protocol} {}", SocketAddr::new(addr, port))
            }
            ServiceKey::Fwmark { mark, family: Family::Inet } => write!(f, "FWM {mark}"),
            ServiceKey::Fwmark { mark, family: Family::Inet6 } => write!(f, "FWM {mark} IPv6"),
        }
    }
}

/// A name too long for the kernel, empty, or with characters no module name has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no scheduler or persistence engine: 1 to 15 letters, digits, '_', '-' or '.', \
     beginning with a letter or digit"
)]
pub struct InvalidName(String);

/// The name of a kernel module's service to IPVS: 1 to 15 bytes (`IP_VS_SCHEDNAME_MAXLEN` less
/// the closing NUL) of ASCII letters, digits, `_`, `-` and `.`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelName {
    bytes: [u8; 15],
    len: u8,
}

/// A scheduler's name: `rr`, `wrr`, `lc`, `wlc`, … The kernel finds its module as `ip_vs_NAME`.
pub type SchedulerName = KernelName;

/// A persistence engine's name: `sip`. The kernel finds its module as `ip_vs_pe_NAME`.
pub type EngineName = KernelName;

impl KernelName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`InvalidName`] unless it is 1 to 15 of the allowed characters, the first a letter or digit.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName(name.chars().take(40).collect());
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.bytes().all(legal) {
            return Err(invalid());
        }
        let mut bytes = [0; 15];
        let room = bytes.get_mut(..name.len()).ok_or_else(invalid)?;
        room.copy_from_slice(name.as_bytes());
        Ok(KernelName { bytes, len: u8::try_from(name.len()).map_err(|_| invalid())? })
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.len)).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

impl std::str::FromStr for KernelName {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, InvalidName> {
        Self::new(name)
    }
}

impl fmt::Display for KernelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for KernelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// A virtual server without its real servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Service {
    /// What it answers to.
    pub key: ServiceKey,
    /// How connections are spread.
    pub scheduler: SchedulerName,
    /// Whether, and for how long, a client stays with its server.
    pub persistence: Option<Persistence>,
    /// One-packet scheduling and what is passed on to the scheduler.
    pub flags: ServiceFlags,
    /// What tells the clients of a persistent service apart, if not their address.
    pub engine: Option<EngineName>,
}

impl Service {
    /// A service that is not persistent, without flags.
    #[must_use]
    pub const fn new(key: ServiceKey, scheduler: SchedulerName) -> Self {
        let flags = ServiceFlags { one_packet: false, sched1: false, sched2: false, sched3: false };
        Service { key, scheduler, persistence: None, flags, engine: None }
    }

    /// Why no implementation would take this service, if so.
    ///
    /// The kernel lets pass what ipvsadm(8) refuses because it cannot work; both are refused here,
    /// so that every [`Table`](crate::Table) answers alike.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let one_packet_works = !matches!(
            self.key,
            ServiceKey::Address { protocol: Protocol::Tcp | Protocol::Sctp, .. }
        );
        match (self.key, self.persistence) {
            (ServiceKey::Fwmark { mark: 0, .. }, _) => {
                Some("a firewall mark is 1 or more: 0 means no mark")
            }
            (ServiceKey::Address { port: 0, .. }, None) => {
                Some("port 0, every port, needs a persistent service: give a port or a timeout")
            }
            (_, Some(p)) if p.timeout == 0 || p.timeout > MAX_TIMEOUT => {
                Some("the persistence timeout is 1 to 2678400 seconds (31 days)")
            }
            (key, Some(p)) if !p.granularity.suits(key.family()) => {
                Some("the persistence mask is a netmask for IPv4, a length of 1 to 128 for IPv6")
            }
            _ if self.flags.one_packet && !one_packet_works => {
                Some("one-packet scheduling is for UDP and firewall marks only")
            }
            _ => None,
        }
    }
}

/// A persistent service's memory of its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Persistence {
    /// How long a client stays with its server after its last connection, in seconds: 1 to
    /// 2,678,400 (31 days, ipvsadm's limit).
    pub timeout: u32,
    /// Which clients count as one.
    pub granularity: Granularity,
}

impl Persistence {
    /// Persistence by the client's whole address.
    #[must_use]
    pub const fn new(timeout: u32, family: Family) -> Self {
        Persistence { timeout, granularity: Granularity::host(family) }
    }
}

/// Which clients of a persistent service count as one: those whose addresses agree under this
/// mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Granularity {
    /// For IPv4: a netmask; any bits, they need not be contiguous.
    Netmask(Ipv4Addr),
    /// For IPv6: a prefix length, 1 to 128.
    Prefix(u8),
}

impl Granularity {
    /// Every address for itself.
    #[must_use]
    pub const fn host(family: Family) -> Self {
        match family {
            Family::Inet => Granularity::Netmask(Ipv4Addr::BROADCAST),
            Family::Inet6 => Granularity::Prefix(128),
        }
    }

    /// Whether every address counts for itself.
    #[must_use]
    pub fn is_host(self) -> bool {
        self == Granularity::host(Family::Inet) || self == Granularity::host(Family::Inet6)
    }

    /// Whether the mask is one for addresses of this family.
    fn suits(self, family: Family) -> bool {
        match self {
            Granularity::Netmask(_) => family == Family::Inet,
            Granularity::Prefix(length) => family == Family::Inet6 && (1..=128).contains(&length),
        }
    }
}

impl fmt::Display for Granularity {
    /// As `ipvsadm -M` takes it: `255.255.255.0`, `64`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Granularity::Netmask(mask) => mask.fmt(f),
            Granularity::Prefix(length) => length.fmt(f),
        }
    }
}

/// The flags of a service that user space decides (`IP_VS_SVC_F_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServiceFlags {
    /// Each UDP packet is scheduled for itself, without a connection entry.
    pub one_packet: bool,
    /// The scheduler's first flag: `sh-fallback`, `mh-fallback`.
    pub sched1: bool,
    /// The scheduler's second flag: `sh-port`, `mh-port`.
    pub sched2: bool,
    /// The scheduler's third flag.
    pub sched3: bool,
}

/// How packets reach a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Forwarding {
    /// Addresses are rewritten (NAT); answers come back through the director. `-m`.
    Masquerade,
    /// The director itself answers. Only read: kernels before 2.6.37 turn a server with one of the
    /// director's own addresses into this, whatever was asked for.
    LocalNode,
    /// Packets are encapsulated. `-i`.
    Tunnel,
    /// Packets go unchanged to the server's link-layer address. `-g`.
    DirectRoute,
    /// Packets to a cache are let through to where they were going. Only read.
    Bypass,
}

/// How packets are encapsulated on the way to a real server, if not as plain IP in IP.
/// Linux 5.3 and newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tunnel {
    /// Generic UDP Encapsulation.
    Gue {
        /// The UDP port to send to, 1 or more, host byte order.
        port: u16,
        /// How the outer packet is protected.
        checksum: Checksum,
    },
    /// Generic Routing Encapsulation (RFC 2784); [`Checksum::Remote`] does not apply.
    Gre {
        /// How the outer packet is protected.
        checksum: Checksum,
    },
}

/// The checksum of a tunnel's outer header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Checksum {
    /// None.
    #[default]
    None,
    /// Over the outer packet.
    Full,
    /// Remote checksum offload.
    Remote,
}

/// A real server of a virtual server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    /// The server's address (RIP).
    pub addr: IpAddr,
    /// The server's port, host byte order. See [`Destination::as_stored`].
    pub port: u16,
    /// How packets reach the server.
    pub forwarding: Forwarding,
    /// The server's share of new connections, 0 to 2,147,483,647; 0 quiesces it.
    pub weight: u32,
    /// With more connections than this the server gets no new ones; 0: no limit.
    pub upper_threshold: u32,
    /// Below this number of connections it gets new ones again; 0: three quarters of the upper
    /// threshold. Never above the upper threshold.
    pub lower_threshold: u32,
    /// How a [`Forwarding::Tunnel`] encapsulates; `None` is IP in IP.
    pub tunnel: Option<Tunnel>,
}

/// Tens of thousands are held at a time.
const _: () = assert!(size_of::<Destination>() <= 48);

impl Destination {
    /// A server without connection thresholds.
    #[must_use]
    pub const fn new(addr: IpAddr, port: u16, forwarding: Forwarding, weight: u32) -> Self {
        Destination {
            addr,
            port,
            forwarding,
            weight,
            upper_threshold: 0,
            lower_threshold: 0,
            tunnel: None,
        }
    }

    /// What identifies the server within its service: no two have the same, and it cannot be
    /// edited.
    #[must_use]
    pub const fn key(&self) -> SocketAddr {
        SocketAddr::new(self.addr, self.port)
    }

    /// The server as it stands in the table after it was added to, or edited in, a service.
    ///
    /// Only masquerading can change the port. For direct routing and tunnels ipvsadm(8) therefore
    /// replaces the port by the service's own (firewall marks have none, there it stays), and so
    /// does every [`Table`](crate::Table) here, on add and edit, and [`plan`](crate::plan()). An
    /// encapsulation means nothing to other forwarding methods and is dropped.
    #[must_use]
    pub fn as_stored(mut self, service: &ServiceKey) -> Self {
        if let ServiceKey::Address { port, .. } = *service
            && matches!(self.forwarding, Forwarding::DirectRoute | Forwarding::Tunnel)
        {
            self.port = port;
        }
        if self.forwarding != Forwarding::Tunnel {
            self.tunnel = None;
        }
        self
    }

    /// Why no implementation would take this server into that service, if so. The checks of
    /// ipvsadm(8) and of the kernel's `ip_vs_add_dest()` that need no look at the table.
    pub(crate) fn fault(&self, service: &ServiceKey) -> Option<&'static str> {
        let unusable = match self.addr {
            IpAddr::V4(a) => a.is_unspecified() || a.is_multicast() || a.is_broadcast(),
            IpAddr::V6(a) => a.is_unspecified() || a.is_multicast(),
        };
        let foreign = Family::of(&self.addr) != service.family();
        match self.forwarding {
            _ if unusable => Some("a real server's address must be a unicast address"),
            _ if i32::try_from(self.weight).is_err() => Some("the weight is 0 to 2147483647"),
            _ if self.lower_threshold > self.upper_threshold => {
                Some("the lower connection threshold is above the upper one")
            }
            Forwarding::Tunnel => self.tunnel.and_then(Tunnel::fault),
            _ if foreign => Some(
                "a server of another address family than the service's needs the forwarding \
                 method tunnel",
            ),
            _ => None,
        }
    }
}

impl Tunnel {
    /// Why the kernel would not build such a tunnel, if so.
    fn fault(self) -> Option<&'static str> {
        match self {
            Tunnel::Gue { port: 0, .. } => Some("a GUE tunnel needs a port, 1 to 65535"),
            Tunnel::Gre { checksum: Checksum::Remote } => {
                Some("remote checksum offload is for GUE tunnels only")
            }
            _ => None,
        }
    }
}

/// A virtual server with its real servers, wanted or read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualService {
    /// The virtual server.
    pub service: Service,
    /// Its real servers.
    pub destinations: Vec<Destination>,
}

/// How long idle connections are remembered, in seconds, for the whole network namespace.
///
/// In a [`Change`](crate::Change) 0 leaves a timeout as it is, and 2,678,400 (31 days, ipvsadm's
/// limit) is the most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Timeouts {
    /// Established TCP sessions.
    pub tcp: u32,
    /// TCP sessions after a FIN.
    pub tcp_fin: u32,
    /// UDP.
    pub udp: u32,
}

impl Timeouts {
    /// Why no implementation would take these, if so.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        (self.tcp.max(self.tcp_fin).max(self.udp) > MAX_TIMEOUT)
            .then_some("a timeout is at most 2678400 seconds (31 days)")
    }
}

/// Which way a sync daemon copies connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// It multicasts this director's connections.
    Master,
    /// It takes over another director's.
    Backup,
}

impl fmt::Display for Role {
    /// As `ipvsadm --start-daemon` takes it: `master`, `backup`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Role::Master => "master",
            Role::Backup => "backup",
        })
    }
}

/// A kernel thread that copies connections between directors. Each role runs once at most in a
/// network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SyncDaemon {
    /// Which way it copies.
    pub role: Role,
    /// The network interface to multicast on, 1 to 15 bytes.
    pub interface: String,
    /// A backup takes only what a master with the same id sends; 0 takes everything.
    pub id: u8,
    /// The longest message, UDP payload bytes. `None`: what the interface's MTU allows. The kernel
    /// adjusts what does not suit. This and the next three: Linux 4.3 and newer.
    pub max_len: Option<u16>,
    /// The multicast group. `None`: 224.0.0.81.
    pub group: Option<IpAddr>,
    /// The UDP port, host byte order. `None`: 8848.
    pub port: Option<u16>,
    /// The time to live, in hops. `None`: 1.
    pub ttl: Option<u8>,
}

impl SyncDaemon {
    /// A daemon with the kernel's defaults.
    #[must_use]
    pub fn new(role: Role, interface: &str, id: u8) -> Self {
        let interface = interface.to_owned();
        SyncDaemon { role, interface, id, max_len: None, group: None, port: None, ttl: None }
    }

    /// Whether this daemon, as it runs, is the wanted one: what `wanted` leaves open may be
    /// anything. The message length is not compared, because the kernel adjusts it.
    #[must_use]
    pub fn serves(&self, wanted: &SyncDaemon) -> bool {
        fn agrees<T: PartialEq>(has: &Option<T>, wanted: &Option<T>) -> bool {
            wanted.is_none() || has == wanted
        }
        (self.role, &self.interface, self.id) == (wanted.role, &wanted.interface, wanted.id)
            && agrees(&self.group, &wanted.group)
            && agrees(&self.port, &wanted.port)
            && agrees(&self.ttl, &wanted.ttl)
    }

    /// Why no implementation would start it, if so.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let name = self.interface.as_bytes();
        let legal = |b: &u8| b.is_ascii_graphic() && *b != b'/';
        if !(1..=15).contains(&name.len()) || name.starts_with(b"-") || !name.iter().all(legal) {
            return Some("an interface name is 1 to 15 characters, without blanks and '/'");
        }
        if self.group.is_some_and(|group| !group.is_multicast()) {
            return Some("the sync group must be a multicast address");
        }
        (self.port == Some(0) || self.ttl == Some(0) || self.max_len == Some(0))
            .then_some("a sync daemon's port, TTL and message length are 1 or more")
    }
}
