//! What IPVS counts.

use crate::types::{Destination, Service};

/// Connections, packets and bytes: either counted since the start (or the last
/// [`Change::Zero`](crate::Change::Zero)), or the present rate, each per second.
///
/// The kernel sums up every two seconds: what happened since is not in it yet. 64 bits wide since
/// Linux 4.1; older kernels count connections and packets modulo 2^32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counters {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub packets_in: u64,
    /// Packets to clients that pass the director (none with direct routing and tunnels).
    pub packets_out: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients that pass the director.
    pub bytes_out: u64,
}

/// The statistics of a virtual server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServiceStats {
    /// Counted so far.
    pub totals: Counters,
    /// Per second, a moving average of some seconds.
    pub rates: Counters,
}

/// The statistics of a real server within a virtual server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DestinationStats {
    /// Counted so far.
    pub totals: Counters,
    /// Per second, a moving average of some seconds.
    pub rates: Counters,
    /// Connections in use now (for TCP: established).
    pub active: u32,
    /// Connections remembered but not in use now (for TCP: opening or closing; for UDP: all).
    pub inactive: u32,
    /// Persistence entries: clients that would come back to this server.
    pub persistent: u32,
}

/// A real server with its statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DestinationStatus {
    /// The server.
    pub destination: Destination,
    /// What was counted.
    pub stats: DestinationStats,
}

/// A virtual server and its real servers with their statistics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceStatus {
    /// The virtual server.
    pub service: Service,
    /// What was counted.
    pub stats: ServiceStats,
    /// Its real servers.
    pub destinations: Vec<DestinationStatus>,
}
