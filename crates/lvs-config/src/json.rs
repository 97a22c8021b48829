//! The JSON form of a configuration: every key of the file, every default filled in,
//! `null` for what is not set.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::config::{Config, Host, ReservationConflict, Server, Virtual};
use crate::fault::SyntaxError;

impl Config {
    /// The whole configuration. `NAME_addr` is the address that `NAME` stands for. Times are
    /// seconds, with a fraction where they are not whole.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "serial_no": self.serial_no,
            "primary": text(self.primary.as_ref()),
            "primary_addr": host(self.primary.as_ref()),
            "primary_private": text(self.primary_private.as_ref()),
            "primary_private_addr": host(self.primary_private.as_ref()),
            "primary_shared": self.primary_shared,
            "backup": text(self.backup.as_ref()),
            "backup_addr": host(self.backup.as_ref()),
            "backup_private": text(self.backup_private.as_ref()),
            "backup_private_addr": host(self.backup_private.as_ref()),
            "backup_shared": self.backup_shared,
            "backup_active": self.backup_active,
            "heartbeat": self.heartbeat,
            "heartbeat_port": self.heartbeat_port,
            "keepalive": self.keepalive.to_json(),
            "deadtime": self.deadtime.to_json(),
            "sync": self.sync,
            "rsh_command": self.rsh_command,
            "debug_level": self.debug_level,
            "ipvsadm": self.ipvsadm,
            "network": self.network.as_str(),
            "service": self.service.as_str(),
            "nat_router": host(self.nat_router.as_ref()),
            "nat_router_device": self.nat_router_device,
            "nat_nmask": address(self.nat_nmask),
            "reservation_conflict_action":
                self.reservation_conflict_action.map(ReservationConflict::as_str),
            "syncdaemon": self.syncdaemon,
            "syncd_id": self.syncd_id,
            "syncd_iface": self.syncd_iface,
            "active_cmd": self.active_cmd,
            "inactive_cmd": self.inactive_cmd,
            "monitor_links": self.monitor_links,
            "standby_checks": self.standby_checks,
            "hard_shutdown": self.hard_shutdown,
            "tcp_timeout": self.tcp_timeout,
            "tcpfin_timeout": self.tcpfin_timeout,
            "udp_timeout": self.udp_timeout,
            "virtual": self.virtuals.iter().map(Virtual::to_json).collect::<Vec<_>>(),
            "failover": self.failovers.iter().map(Virtual::to_json).collect::<Vec<_>>(),
        })
    }
}

impl Virtual {
    /// One block with its servers.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "active": self.active,
            "address": host(self.address.as_ref()),
            "device": self.device,
            "vip_nmask": address(self.vip_nmask),
            "sorry_server": address(self.sorry_server),
            "fwmark": (self.fwmark != 0).then_some(self.fwmark),
            "protocol": self.protocol.as_str(),
            "port": self.port,
            "scheduler": self.scheduler.as_str(),
            "persistent": self.persistent,
            "pmask": address(self.pmask),
            "client_monitor": self.client_monitor.as_deref().unwrap_or(Self::CLIENT_MONITOR),
            "send_program": bytes(self.send_program.as_deref()),
            "send": bytes(self.send.as_deref()),
            "expect": bytes(self.expect.as_deref()),
            "timeout": self.timeout,
            "reentry": self.reentry,
            "quiesce_server": self.quiesce_server,
            "use_regex": self.use_regex,
            "load_monitor": self.load_monitor,
            "start_cmd": self.start_cmd,
            "stop_cmd": self.stop_cmd,
            "servers": self.servers.iter().map(Server::to_json).collect::<Vec<_>>(),
        })
    }
}

impl Server {
    /// One real server.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "address": address(self.address),
            "active": self.active,
            "port": self.port,
            "weight": self.weight,
        })
    }
}

impl SyntaxError {
    /// `{"error": {"line": N, "message": "…"}}`
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({ "error": { "line": self.line, "message": self.message } })
    }
}

fn text(host: Option<&Host>) -> Option<&str> {
    host.map(|host| host.text.as_str())
}

fn host(host: Option<&Host>) -> Option<String> {
    address(host.map(|host| host.addr))
}

fn address(address: Option<Ipv4Addr>) -> Option<String> {
    address.filter(|address| !address.is_unspecified()).map(|address| address.to_string())
}

/// JSON knows no bytes: what is not UTF-8 shows as U+FFFD.
fn bytes(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}
