//! Changes as the kernel's requests.

use std::net::{IpAddr, SocketAddr};

use ::netlink::wire::Writer;

use super::abi::{cmd, daemon, dest, flag, forward, state, svc, top, tunnel};
use crate::change::Change;
use crate::types::{
    Checksum, Destination, Family, Forwarding, Granularity, Persistence, Role, Service, ServiceKey,
    SyncDaemon, Timeouts, Tunnel,
};

/// The command that makes a change (`IPVS_CMD_*`).
pub(super) const fn command(change: &Change) -> u8 {
    match change {
        Change::Flush => cmd::FLUSH,
        Change::SetTimeouts(_) => cmd::SET_CONFIG,
        Change::AddService(_) => cmd::NEW_SERVICE,
        Change::EditService(_) => cmd::SET_SERVICE,
        Change::DeleteService(_) => cmd::DEL_SERVICE,
        Change::AddDestination(..) => cmd::NEW_DEST,
        Change::EditDestination(..) => cmd::SET_DEST,
        Change::DeleteDestination(..) => cmd::DEL_DEST,
        Change::StartDaemon(_) => cmd::NEW_DAEMON,
        Change::StopDaemon(_) => cmd::DEL_DAEMON,
        Change::Zero(_) => cmd::ZERO,
    }
}

/// Writes the attributes of a change.
pub(super) fn attributes(writer: &mut Writer, change: &Change) {
    match change {
        Change::Flush | Change::Zero(None) => {}
        Change::SetTimeouts(timeouts) => self::timeouts(writer, timeouts),
        Change::AddService(service) | Change::EditService(service) => {
            writer.nested(top::SERVICE, |w| self::service(w, service));
        }
        Change::DeleteService(key) | Change::Zero(Some(key)) => service_key(writer, key),
        Change::AddDestination(key, server) | Change::EditDestination(key, server) => {
            service_key(writer, key);
            let server = server.as_stored(key);
            writer.nested(top::DEST, |w| destination(w, key.family(), &server));
        }
        Change::DeleteDestination(key, server) => {
            service_key(writer, key);
            writer.nested(top::DEST, |w| destination_key(w, key.family(), server));
        }
        Change::StartDaemon(daemon) => writer.nested(top::DAEMON, |w| sync_daemon(w, daemon)),
        Change::StopDaemon(role) => {
            writer.nested(top::DAEMON, |w| w.u32(daemon::STATE, role_state(*role)));
        }
    }
}

/// Writes the attribute that identifies a service.
pub(super) fn service_key(writer: &mut Writer, key: &ServiceKey) {
    writer.nested(top::SERVICE, |w| key_attributes(w, key));
}

const fn family_number(family: Family) -> u16 {
    match family {
        Family::Inet => 2,   // AF_INET
        Family::Inet6 => 10, // AF_INET6
    }
}

const fn role_state(role: Role) -> u32 {
    match role {
        Role::Master => state::MASTER,
        Role::Backup => state::BACKUP,
    }
}

/// `union nf_inet_addr`: 16 bytes, an IPv4 address is the first 4.
fn address(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V6(addr) => addr.octets(),
        IpAddr::V4(addr) => {
            let [a, b, c, d] = addr.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
    }
}

fn key_attributes(w: &mut Writer, key: &ServiceKey) {
    w.u16(svc::AF, family_number(key.family()));
    match *key {
        ServiceKey::Address { protocol, addr, port } => {
            w.u16(svc::PROTOCOL, protocol.number());
            w.attribute(svc::ADDR, &address(addr));
            w.attribute(svc::PORT, &port.to_be_bytes());
        }
        ServiceKey::Fwmark { mark, .. } => w.u32(svc::FWMARK, mark),
    }
}

fn service(w: &mut Writer, service: &Service) {
    key_attributes(w, &service.key);
    w.string(svc::SCHED_NAME, service.scheduler.as_str());
    if let Some(engine) = service.engine {
        w.string(svc::PE_NAME, engine.as_str());
    }
    let flags = [service_flags(service), flag::MASK].map(u32::to_ne_bytes);
    w.attribute(svc::FLAGS, flags.as_flattened());
    // The kernel wants a mask from services without persistence, too.
    let persistence = service.persistence.unwrap_or(Persistence::new(0, service.key.family()));
    w.u32(svc::TIMEOUT, persistence.timeout);
    match persistence.granularity {
        Granularity::Netmask(mask) => w.attribute(svc::NETMASK, &mask.octets()),
        Granularity::Prefix(length) => w.u32(svc::NETMASK, length.into()),
    }
}

fn service_flags(service: &Service) -> u32 {
    [
        (service.persistence.is_some(), flag::PERSISTENT),
        (service.flags.one_packet, flag::ONE_PACKET),
        (service.flags.sched1, flag::SCHED1),
        (service.flags.sched2, flag::SCHED2),
        (service.flags.sched3, flag::SCHED3),
    ]
    .into_iter()
    .fold(0, |flags, (set, bit)| if set { flags | bit } else { flags })
}

/// The family is an attribute newer than destinations: it is sent only where kernels without it
/// would fail anyway.
fn destination_key(w: &mut Writer, service: Family, server: &SocketAddr) {
    w.attribute(dest::ADDR, &address(server.ip()));
    w.attribute(dest::PORT, &server.port().to_be_bytes());
    let family = Family::of(&server.ip());
    if family != service {
        w.u16(dest::ADDR_FAMILY, family_number(family));
    }
}

fn destination(w: &mut Writer, service: Family, server: &Destination) {
    destination_key(w, service, &server.key());
    w.u32(dest::FWD_METHOD, forwarding(server.forwarding));
    w.u32(dest::WEIGHT, server.weight);
    w.u32(dest::U_THRESH, server.upper_threshold);
    w.u32(dest::L_THRESH, server.lower_threshold);
    match server.tunnel {
        None => {}
        Some(Tunnel::Gue { port, checksum }) => {
            w.attribute(dest::TUN_TYPE, &[tunnel::GUE]);
            w.attribute(dest::TUN_PORT, &port.to_be_bytes());
            w.u16(dest::TUN_FLAGS, tunnel_flags(checksum));
        }
        Some(Tunnel::Gre { checksum }) => {
            w.attribute(dest::TUN_TYPE, &[tunnel::GRE]);
            w.u16(dest::TUN_FLAGS, tunnel_flags(checksum));
        }
    }
}

const fn forwarding(method: Forwarding) -> u32 {
    match method {
        Forwarding::Masquerade => forward::MASQ,
        Forwarding::LocalNode => forward::LOCALNODE,
        Forwarding::Tunnel => forward::TUNNEL,
        Forwarding::DirectRoute => forward::DROUTE,
        Forwarding::Bypass => forward::BYPASS,
    }
}

const fn tunnel_flags(checksum: Checksum) -> u16 {
    match checksum {
        Checksum::None => 0,
        Checksum::Full => tunnel::CSUM,
        Checksum::Remote => tunnel::REMCSUM,
    }
}

fn timeouts(w: &mut Writer, timeouts: &Timeouts) {
    let all = [
        (top::TIMEOUT_TCP, timeouts.tcp),
        (top::TIMEOUT_TCP_FIN, timeouts.tcp_fin),
        (top::TIMEOUT_UDP, timeouts.udp),
    ];
    for (kind, seconds) in all.into_iter().filter(|(_, seconds)| *seconds != 0) {
        w.u32(kind, seconds);
    }
}

fn sync_daemon(w: &mut Writer, sync: &SyncDaemon) {
    w.u32(daemon::STATE, role_state(sync.role));
    w.string(daemon::MCAST_IFN, &sync.interface);
    w.u32(daemon::SYNC_ID, sync.id.into());
    if let Some(length) = sync.max_len {
        w.u16(daemon::SYNC_MAXLEN, length);
    }
    match sync.group {
        None => {}
        Some(IpAddr::V4(group)) => w.attribute(daemon::MCAST_GROUP, &group.octets()),
        Some(IpAddr::V6(group)) => w.attribute(daemon::MCAST_GROUP6, &group.octets()),
    }
    if let Some(port) = sync.port {
        w.u16(daemon::MCAST_PORT, port);
    }
    if let Some(ttl) = sync.ttl {
        w.attribute(daemon::MCAST_TTL, &[ttl]);
    }
}
