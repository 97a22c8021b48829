//! The kernel's answers as services, servers and the rest. Attributes that are not known are
//! passed over; those that are known must have the right size.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ::netlink::wire::{Attributes, Malformed, counter, exactly, string, u16, u32};

use super::abi::{daemon, dest, flag, forward, info, state, stats, svc, top, tunnel};
use crate::stats::{Counters, DestinationStats, ServiceStats};
use crate::table::Info;
use crate::types::{
    Checksum, Destination, Family, Forwarding, Granularity, KernelName, Persistence, Protocol,
    Role, Service, ServiceFlags, ServiceKey, SyncDaemon, Timeouts, Tunnel,
};

const MISSING: Malformed = Malformed("not all the attributes it must have");

/// The payload of the one attribute that everything else is nested in.
fn inside(attributes: Attributes<'_>, kind: u16) -> Result<Attributes<'_>, Malformed> {
    attributes.find(kind)?.map(Attributes).ok_or(MISSING)
}

fn family(number: u16) -> Result<Family, Malformed> {
    match number {
        2 => Ok(Family::Inet),
        10 => Ok(Family::Inet6),
        _ => Err(Malformed("an unknown address family")),
    }
}

/// An address, 16 bytes of which IPv4 uses the first 4.
fn address(family: Family, payload: &[u8]) -> Result<IpAddr, Malformed> {
    let short = Malformed("a cut address");
    match family {
        Family::Inet => {
            let octets = payload.first_chunk::<4>().ok_or(short)?;
            Ok(Ipv4Addr::from(*octets).into())
        }
        Family::Inet6 => {
            let octets = payload.first_chunk::<16>().ok_or(short)?;
            Ok(Ipv6Addr::from(*octets).into())
        }
    }
}

fn port(payload: &[u8]) -> Result<u16, Malformed> {
    exactly(payload).map(u16::from_be_bytes)
}

fn name(payload: &[u8]) -> Result<KernelName, Malformed> {
    KernelName::new(string(payload)?).map_err(|_| Malformed("an impossible name"))
}

/// What a service's attributes say, as far as read.
#[derive(Default)]
struct RawService<'a> {
    family: Option<u16>,
    protocol: Option<u16>,
    addr: Option<&'a [u8]>,
    port: Option<u16>,
    mark: Option<u32>,
    scheduler: Option<KernelName>,
    engine: Option<KernelName>,
    flags: u32,
    timeout: u32,
    netmask: Option<[u8; 4]>,
    stats: Option<&'a [u8]>,
    stats64: Option<&'a [u8]>,
}

impl<'a> RawService<'a> {
    fn read(attributes: Attributes<'a>) -> Result<Self, Malformed> {
        let mut raw = RawService::default();
        for attribute in attributes {
            let (kind, payload) = attribute?;
            match kind {
                svc::AF => raw.family = Some(u16(payload)?),
                svc::PROTOCOL => raw.protocol = Some(u16(payload)?),
                svc::ADDR => raw.addr = Some(payload),
                svc::PORT => raw.port = Some(port(payload)?),
                svc::FWMARK => raw.mark = Some(u32(payload)?),
                svc::SCHED_NAME => raw.scheduler = Some(name(payload)?),
                svc::PE_NAME => raw.engine = Some(name(payload)?),
                svc::FLAGS => {
                    let [f0, f1, f2, f3, ..] = exactly::<8>(payload)?;
                    raw.flags = u32::from_ne_bytes([f0, f1, f2, f3]);
                }
                svc::TIMEOUT => raw.timeout = u32(payload)?,
                svc::NETMASK => raw.netmask = Some(exactly(payload)?),
                svc::STATS => raw.stats = Some(payload),
                svc::STATS64 => raw.stats64 = Some(payload),
                _ => {}
            }
        }
        Ok(raw)
    }

    /// `None` for a protocol that is not known here: the kernel has none to date.
    fn key(&self, family: Family) -> Result<Option<ServiceKey>, Malformed> {
        if let Some(mark) = self.mark.filter(|mark| *mark != 0) {
            return Ok(Some(ServiceKey::Fwmark { mark, family }));
        }
        let addr = address(family, self.addr.ok_or(MISSING)?)?;
        let port = self.port.ok_or(MISSING)?;
        let protocol = Protocol::from_number(self.protocol.ok_or(MISSING)?);
        Ok(protocol.map(|protocol| ServiceKey::Address { protocol, addr, port }))
    }

    fn granularity(&self, family: Family) -> Result<Granularity, Malformed> {
        let netmask = self.netmask.ok_or(MISSING)?;
        match family {
            Family::Inet => Ok(Granularity::Netmask(Ipv4Addr::from(netmask))),
            Family::Inet6 => u8::try_from(u32::from_ne_bytes(netmask))
                .map(Granularity::Prefix)
                .map_err(|_| Malformed("an impossible prefix length")),
        }
    }
}

/// A service, out of an answer to `GET_SERVICE`.
pub(super) fn service(
    attributes: Attributes<'_>,
) -> Result<Option<(Service, ServiceStats)>, Malformed> {
    let raw = RawService::read(inside(attributes, top::SERVICE)?)?;
    let family = family(raw.family.ok_or(MISSING)?)?;
    let Some(key) = raw.key(family)? else { return Ok(None) };
    let set = |bit| raw.flags & bit != 0;
    let persistence = if set(flag::PERSISTENT) {
        Some(Persistence { timeout: raw.timeout, granularity: raw.granularity(family)? })
    } else {
        None
    };
    let service = Service {
        key,
        scheduler: raw.scheduler.ok_or(MISSING)?,
        persistence,
        flags: ServiceFlags {
            one_packet: set(flag::ONE_PACKET),
            sched1: set(flag::SCHED1),
            sched2: set(flag::SCHED2),
            sched3: set(flag::SCHED3),
        },
        engine: raw.engine,
    };
    let (totals, rates) = counters(raw.stats64.or(raw.stats))?;
    Ok(Some((service, ServiceStats { totals, rates })))
}

/// A server of a service of that family, out of an answer to `GET_DEST`; and whether the answer names
/// the family of its address, as kernels do that know of it (Linux 3.18).
pub(super) fn destination(
    attributes: Attributes<'_>,
    service: Family,
) -> Result<(Destination, DestinationStats, bool), Malformed> {
    let (mut addr, mut server_port, mut method) = (None, None, None);
    let mut own_family = None;
    let (mut weight, mut upper, mut lower) = (0, 0, 0);
    let (mut tunnel_type, mut tunnel_port, mut tunnel_flags) = (tunnel::IPIP, 0, 0);
    let (mut stats32, mut stats64) = (None, None);
    let mut stats = DestinationStats::default();
    for attribute in inside(attributes, top::DEST)? {
        let (kind, payload) = attribute?;
        match kind {
            dest::ADDR => addr = Some(payload),
            dest::PORT => server_port = Some(port(payload)?),
            dest::FWD_METHOD => method = Some(u32(payload)?),
            dest::WEIGHT => weight = u32(payload)?,
            dest::U_THRESH => upper = u32(payload)?,
            dest::L_THRESH => lower = u32(payload)?,
            dest::ACTIVE_CONNS => stats.active = u32(payload)?,
            dest::INACT_CONNS => stats.inactive = u32(payload)?,
            dest::PERSIST_CONNS => stats.persistent = u32(payload)?,
            dest::STATS => stats32 = Some(payload),
            dest::ADDR_FAMILY => own_family = Some(family(u16(payload)?)?),
            dest::STATS64 => stats64 = Some(payload),
            dest::TUN_TYPE => [tunnel_type] = exactly(payload)?,
            dest::TUN_PORT => tunnel_port = port(payload)?,
            dest::TUN_FLAGS => tunnel_flags = u16(payload)?,
            _ => {}
        }
    }
    (stats.totals, stats.rates) = counters(stats64.or(stats32))?;
    let forwarding = forwarding(method.ok_or(MISSING)?)?;
    let tunnelled = forwarding == Forwarding::Tunnel;
    let server = Destination {
        addr: address(own_family.unwrap_or(service), addr.ok_or(MISSING)?)?,
        port: server_port.ok_or(MISSING)?,
        forwarding,
        weight,
        upper_threshold: upper,
        lower_threshold: lower,
        tunnel: if tunnelled { tunnel(tunnel_type, tunnel_port, tunnel_flags)? } else { None },
    };
    Ok((server, stats, own_family.is_some()))
}

fn forwarding(flags: u32) -> Result<Forwarding, Malformed> {
    match flags & forward::MASK {
        forward::MASQ => Ok(Forwarding::Masquerade),
        forward::LOCALNODE => Ok(Forwarding::LocalNode),
        forward::TUNNEL => Ok(Forwarding::Tunnel),
        forward::DROUTE => Ok(Forwarding::DirectRoute),
        forward::BYPASS => Ok(Forwarding::Bypass),
        _ => Err(Malformed("an unknown forwarding method")),
    }
}

fn tunnel(kind: u8, port: u16, flags: u16) -> Result<Option<Tunnel>, Malformed> {
    let checksum = if flags & tunnel::REMCSUM != 0 {
        Checksum::Remote
    } else if flags & tunnel::CSUM != 0 {
        Checksum::Full
    } else {
        Checksum::None
    };
    match kind {
        tunnel::IPIP => Ok(None),
        tunnel::GUE => Ok(Some(Tunnel::Gue { port, checksum })),
        tunnel::GRE => Ok(Some(Tunnel::Gre { checksum })),
        _ => Err(Malformed("an unknown tunnel type")),
    }
}

/// Totals and rates; both zero if there are none.
fn counters(payload: Option<&[u8]>) -> Result<(Counters, Counters), Malformed> {
    let (mut totals, mut rates) = (Counters::default(), Counters::default());
    for attribute in Attributes(payload.unwrap_or_default()) {
        let (kind, payload) = attribute?;
        // Fields 1 to 5, first of the totals, then of the rates; then padding.
        let Some(field) = kind.checked_sub(1).filter(|field| *field < 2 * stats::FIELDS) else {
            continue;
        };
        let counters = if field < stats::FIELDS { &mut totals } else { &mut rates };
        *match field % stats::FIELDS {
            0 => &mut counters.connections,
            1 => &mut counters.packets_in,
            2 => &mut counters.packets_out,
            3 => &mut counters.bytes_in,
            _ => &mut counters.bytes_out,
        } = counter(payload)?;
    }
    Ok((totals, rates))
}

/// The answer to `GET_CONFIG`.
pub(super) fn timeouts(attributes: Attributes<'_>) -> Result<Timeouts, Malformed> {
    let mut timeouts = Timeouts::default();
    for attribute in attributes {
        let (kind, payload) = attribute?;
        match kind {
            top::TIMEOUT_TCP => timeouts.tcp = u32(payload)?,
            top::TIMEOUT_TCP_FIN => timeouts.tcp_fin = u32(payload)?,
            top::TIMEOUT_UDP => timeouts.udp = u32(payload)?,
            _ => {}
        }
    }
    Ok(timeouts)
}

/// The answer to `GET_INFO`.
pub(super) fn info(attributes: Attributes<'_>) -> Result<Info, Malformed> {
    let version = attributes.clone().find(info::VERSION)?.ok_or(MISSING)?;
    let table_size = attributes.find(info::CONN_TAB_SIZE)?.ok_or(MISSING)?;
    let [_, major, minor, patch] = u32(version)?.to_be_bytes();
    Ok(Info { version: (major, minor, patch), table_size: u32(table_size)? })
}

/// A sync daemon, out of an answer to `GET_DAEMON`; `None` if it is neither master nor backup.
pub(super) fn sync_daemon(attributes: Attributes<'_>) -> Result<Option<SyncDaemon>, Malformed> {
    let (mut role, mut interface, mut id) = (None, None, None);
    let mut sync = SyncDaemon::new(Role::Master, "", 0);
    for attribute in inside(attributes, top::DAEMON)? {
        let (kind, payload) = attribute?;
        match kind {
            daemon::STATE => {
                role = match u32(payload)? {
                    state::MASTER => Some(Role::Master),
                    state::BACKUP => Some(Role::Backup),
                    _ => return Ok(None),
                }
            }
            daemon::MCAST_IFN => interface = Some(string(payload)?),
            daemon::SYNC_ID => id = Some(u32(payload)?),
            daemon::SYNC_MAXLEN => sync.max_len = Some(u16(payload)?),
            daemon::MCAST_GROUP => sync.group = Some(address(Family::Inet, payload)?),
            daemon::MCAST_GROUP6 => sync.group = Some(address(Family::Inet6, payload)?),
            daemon::MCAST_PORT => sync.port = Some(u16(payload)?),
            daemon::MCAST_TTL => sync.ttl = exactly::<1>(payload)?.first().copied(),
            _ => {}
        }
    }
    sync.role = role.ok_or(MISSING)?;
    interface.ok_or(MISSING)?.clone_into(&mut sync.interface);
    sync.id = u8::try_from(id.ok_or(MISSING)?).map_err(|_| Malformed("an impossible sync id"))?;
    Ok(Some(sync))
}

/// The number of a family, out of the controller's answer to `CTRL_CMD_GETFAMILY`.
pub(super) fn family_id(attributes: Attributes<'_>) -> Result<u16, Malformed> {
    let kind = neli::consts::genl::CtrlAttr::FamilyId.into();
    u16(attributes.find(kind)?.ok_or(MISSING)?)
}
