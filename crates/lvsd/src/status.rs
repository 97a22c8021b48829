//! What lvsd tells over its control socket, as JSON.

use health::state::{Force, Health};
use serde::{Deserialize, Serialize};

/// The control socket's usual place.
pub const SOCKET: &str = "/run/piranha/lvsd.sock";

/// A request: one line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// The state of everything: answered with [`Status`].
    Status,
    /// An operator's order for a server: answered with [`Answer`].
    Force {
        /// `BLOCK/SERVER`.
        server: String,
        /// What is ordered.
        to: Force,
    },
    /// Read the configuration again, as SIGHUP: answered with [`Answer`] when it is begun.
    Reload,
}

/// The answer to an order, or to a request that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// Done, with a word about it.
    Ok(String),
    /// Not done, and why.
    Error(String),
}

/// The state of everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The suite's version.
    pub version: String,
    /// lvsd's pid.
    pub pid: u32,
    /// The configuration file.
    pub file: String,
    /// Its serial_no.
    pub serial_no: i64,
    /// Seconds since lvsd started.
    pub uptime_s: u64,
    /// Why the last reload changed nothing, if it failed.
    pub reload_error: Option<String>,
    /// Why the kernel's table could not be read, if so; its numbers are missing then.
    pub table_error: Option<String>,
    /// The servers are checked, but the table is left alone: another director serves.
    #[serde(default)]
    pub standby: bool,
    /// The virtual servers, in the file's order.
    pub virtual_servers: Vec<VirtualServer>,
}

/// A virtual server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VirtualServer {
    /// The block's name.
    pub name: String,
    /// As ipvsadm shows it: `TCP 10.0.0.100:80`, `FWM 7`.
    pub service: String,
    /// Scheduler.
    pub scheduler: String,
    /// `nat`, `direct` or `tunnel`.
    pub forwarding: String,
    /// Persistence in seconds, 0: off.
    pub persistent: u32,
    /// Servers up.
    pub up: usize,
    /// The sorry server, if there is one.
    pub sorry_server: Option<String>,
    /// Whether it stands in now.
    pub sorry_active: bool,
    /// What the kernel refused last, if anything is not as it should be.
    pub problem: Option<String>,
    /// Whether the kernel has the service.
    pub in_kernel: bool,
    /// Its counters and rates.
    pub counters: Counters,
    /// Its active servers, in the file's order.
    pub servers: Vec<Server>,
}

/// A real server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Server {
    /// Its name in the block.
    pub name: String,
    /// Address and port.
    pub address: String,
    /// Whether it is to serve: `None` while nothing is known.
    pub up: Option<bool>,
    /// What the checks have found; `None` where a classic monitor keeps it to itself.
    pub health: Option<Health>,
    /// What an operator has ordered.
    pub forced: Force,
    /// Milliseconds since it went up or down.
    pub since_ms: Option<u64>,
    /// Configured weight.
    pub weight: u32,
    /// The weight that should stand in the table now; `None`: not in the table.
    pub weight_wanted: Option<u32>,
    /// The weight that stands in the table; `None`: not in the table.
    pub weight_kernel: Option<u32>,
    /// How long the last check took, in microseconds.
    pub check_us: Option<u32>,
    /// Why the last check failed, if it did.
    pub error: Option<String>,
    /// Active connections.
    pub active_connections: u32,
    /// Inactive connections.
    pub inactive_connections: u32,
    /// Persistent connections.
    pub persistent_connections: u32,
    /// Its counters and rates.
    pub counters: Counters,
}

/// Totals since the table was made, and the kernel's estimate of the present rates, which lags by
/// about two seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Connections in all.
    pub connections: u64,
    /// Packets from clients in all.
    pub packets_in: u64,
    /// Packets to clients in all.
    pub packets_out: u64,
    /// Bytes from clients in all.
    pub bytes_in: u64,
    /// Bytes to clients in all.
    pub bytes_out: u64,
    /// Connections a second.
    pub connections_per_s: u64,
    /// Packets from clients a second.
    pub packets_in_per_s: u64,
    /// Packets to clients a second.
    pub packets_out_per_s: u64,
    /// Bytes from clients a second.
    pub bytes_in_per_s: u64,
    /// Bytes to clients a second.
    pub bytes_out_per_s: u64,
}

impl Counters {
    /// Puts the kernel's two sets together.
    #[must_use]
    pub fn new(totals: &ipvs::Counters, rates: &ipvs::Counters) -> Counters {
        Counters {
            connections: totals.connections,
            packets_in: totals.packets_in,
            packets_out: totals.packets_out,
            bytes_in: totals.bytes_in,
            bytes_out: totals.bytes_out,
            connections_per_s: rates.connections,
            packets_in_per_s: rates.packets_in,
            packets_out_per_s: rates.packets_out,
            bytes_in_per_s: rates.bytes_in,
            bytes_out_per_s: rates.bytes_out,
        }
    }
}
