//! Puts the status together from what lvsd, its monitor and the kernel know.

use crate::live::{Live, LiveBlock, LiveServer};
use crate::status::{Counters, Server, Status, VirtualServer};
use health::wire::Detail;
use ipvs::{DestinationStatus, Forwarding, ServiceKey, ServiceStatus};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

/// What is said of lvsd itself.
pub(crate) struct Context {
    pub(crate) file: String,
    pub(crate) serial_no: i64,
    pub(crate) uptime: Duration,
    pub(crate) reload_error: Option<String>,
    pub(crate) table_error: Option<String>,
    pub(crate) standby: bool,
}

/// The whole status.
pub(crate) fn status(
    live: &Live,
    kernel: &[ServiceStatus],
    details: &HashMap<u32, Detail>,
    context: Context,
) -> Status {
    let services: HashMap<ServiceKey, &ServiceStatus> =
        kernel.iter().map(|s| (s.service.key, s)).collect();
    Status {
        version: daemon::VERSION.to_owned(),
        pid: std::process::id(),
        file: context.file,
        serial_no: context.serial_no,
        uptime_s: context.uptime.as_secs(),
        reload_error: context.reload_error,
        table_error: context.table_error,
        standby: context.standby,
        virtual_servers: live
            .blocks()
            .iter()
            .map(|block| {
                let found = services.get(&block.block.service.key).copied();
                virtual_server(live, block, found, details)
            })
            .collect(),
    }
}

fn virtual_server(
    live: &Live,
    block: &LiveBlock,
    kernel: Option<&ServiceStatus>,
    details: &HashMap<u32, Detail>,
) -> VirtualServer {
    let entries: HashMap<SocketAddr, &DestinationStatus> =
        kernel.iter().flat_map(|k| &k.destinations).map(|d| (d.destination.key(), d)).collect();
    let classic = live.is_classic(block);
    let servers: Vec<Server> = block
        .servers
        .iter()
        .map(|s| {
            let key = block.block.destination(&s.member, 0).key();
            server(s, entries.get(&key).copied(), details.get(&s.id), classic)
        })
        .collect();
    let service = &block.block.service;
    VirtualServer {
        name: block.block.name.clone(),
        service: service.key.to_string(),
        scheduler: service.scheduler.as_str().to_owned(),
        forwarding: forwarding_word(block.block.forwarding).to_owned(),
        persistent: service.persistence.map_or(0, |p| p.timeout),
        up: servers.iter().filter(|s| s.up == Some(true)).count(),
        sorry_server: block.block.sorry.map(|s| s.key().to_string()),
        sorry_active: block.sorry_active(),
        problem: block.problem.clone(),
        in_kernel: kernel.is_some(),
        counters: kernel
            .map_or_else(Counters::default, |k| Counters::new(&k.stats.totals, &k.stats.rates)),
        servers,
    }
}

fn server(
    server: &LiveServer,
    kernel: Option<&DestinationStatus>,
    detail: Option<&Detail>,
    classic: bool,
) -> Server {
    let weight_kernel = kernel.map(|k| k.destination.weight);
    // A classic monitor shows what it finds in the table only.
    let up = if classic { Some(weight_kernel.is_some_and(|w| w > 0)) } else { server.up };
    let stats = kernel.map(|k| &k.stats);
    Server {
        name: server.member.name.to_string(),
        address: server.member.addr.to_string(),
        up,
        health: detail.map(|d| d.health),
        forced: server.force,
        since_ms: detail.map(|d| d.since_ms),
        weight: server.member.weight,
        weight_wanted: if classic { weight_kernel } else { server.weight },
        weight_kernel,
        check_us: detail.and_then(|d| d.took_us),
        error: detail.and_then(|d| d.error.clone()),
        active_connections: stats.map_or(0, |s| s.active),
        inactive_connections: stats.map_or(0, |s| s.inactive),
        persistent_connections: stats.map_or(0, |s| s.persistent),
        counters: stats.map_or_else(Counters::default, |s| Counters::new(&s.totals, &s.rates)),
    }
}

/// As `network` in lvs.cf names it.
fn forwarding_word(forwarding: Forwarding) -> &'static str {
    match forwarding {
        Forwarding::DirectRoute => "direct",
        Forwarding::Tunnel => "tunnel",
        _ => "nat",
    }
}
