//! What is sent reads back as what was meant; what is read survives anything.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use neli::consts::nl::NlmF;
use proptest::prelude::*;

use super::abi::{daemon, dest, flag, svc, top};
use super::socket::{self, Head};
use super::{decode, encode};
use crate::change::Change;
use crate::stats::{Counters, DestinationStats};
use crate::types::{
    Checksum, Destination, EngineName, Family, Forwarding, Granularity, Persistence, Protocol,
    Role, SchedulerName, Service, ServiceFlags, ServiceKey, SyncDaemon, Timeouts, Tunnel,
};
use ::netlink::wire::{Attributes, Messages, Writer};

pub(super) fn request(change: &Change) -> Vec<u8> {
    let mut writer = Writer::default();
    let command = encode::command(change);
    let head = Head { family: 30, command, version: 1, flags: NlmF::empty(), sequence: 1 };
    head.write(&mut writer, |w| encode::attributes(w, change));
    writer.bytes().to_vec()
}

/// The attributes of a message.
pub(super) fn attributes(message: &[u8]) -> Attributes<'_> {
    socket::attributes(&Messages(message).next().unwrap().unwrap()).unwrap()
}

/// The attributes nested in one of a message's.
fn nested(message: &[u8], kind: u16) -> Vec<(u16, Vec<u8>)> {
    let outer = attributes(message).find(kind).unwrap().unwrap();
    Attributes(outer).map(|a| a.unwrap()).map(|(kind, payload)| (kind, payload.to_vec())).collect()
}

fn web() -> ServiceKey {
    let addr = Ipv4Addr::new(10, 0, 0, 1).into();
    ServiceKey::Address { protocol: Protocol::Tcp, addr, port: 80 }
}

fn wlc() -> SchedulerName {
    SchedulerName::new("wlc").unwrap()
}

#[test]
fn a_service_has_the_attributes_and_forms_that_the_kernel_wants() {
    let four = request(&Change::AddService(Service::new(web(), wlc())));
    let mut address = vec![10, 0, 0, 1];
    address.resize(16, 0);
    let flags = [0_u32.to_ne_bytes(), flag::MASK.to_ne_bytes()].concat();
    assert_eq!(
        nested(&four, top::SERVICE),
        [
            (svc::AF, 2_u16.to_ne_bytes().to_vec()),
            (svc::PROTOCOL, 6_u16.to_ne_bytes().to_vec()),
            (svc::ADDR, address),
            (svc::PORT, vec![0, 80]),
            (svc::SCHED_NAME, b"wlc\0".to_vec()),
            (svc::FLAGS, flags),
            (svc::TIMEOUT, vec![0; 4]),
            (svc::NETMASK, vec![255; 4]),
        ]
    );
    let mut six = Service::new(ServiceKey::Fwmark { mark: 7, family: Family::Inet6 }, wlc());
    six.persistence = Some(Persistence { timeout: 60, granularity: Granularity::Prefix(64) });
    let flags = [1_u32.to_ne_bytes(), flag::MASK.to_ne_bytes()].concat();
    assert_eq!(
        nested(&request(&Change::EditService(six)), top::SERVICE),
        [
            (svc::AF, 10_u16.to_ne_bytes().to_vec()),
            (svc::FWMARK, 7_u32.to_ne_bytes().to_vec()),
            (svc::SCHED_NAME, b"wlc\0".to_vec()),
            (svc::FLAGS, flags),
            (svc::TIMEOUT, 60_u32.to_ne_bytes().to_vec()),
            (svc::NETMASK, 64_u32.to_ne_bytes().to_vec()),
        ]
    );
}

#[test]
fn newer_attributes_are_sent_only_where_needed() {
    let mut server = Destination::new("10.0.0.3".parse().unwrap(), 80, Forwarding::Tunnel, 1);
    let kinds = |server| -> Vec<u16> {
        let message = request(&Change::AddDestination(web(), server));
        nested(&message, top::DEST).into_iter().map(|(kind, _)| kind).collect()
    };
    let classic =
        [dest::ADDR, dest::PORT, dest::FWD_METHOD, dest::WEIGHT, dest::U_THRESH, dest::L_THRESH];
    assert_eq!(kinds(server), classic);
    server.tunnel = Some(Tunnel::Gre { checksum: Checksum::Full });
    assert!(kinds(server).contains(&dest::TUN_TYPE));
    server.addr = "fd00::3".parse().unwrap();
    assert!(kinds(server).contains(&dest::ADDR_FAMILY));
    let plain = request(&Change::StartDaemon(SyncDaemon::new(Role::Backup, "eth1", 3)));
    let kinds: Vec<_> = nested(&plain, top::DAEMON).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [daemon::STATE, daemon::MCAST_IFN, daemon::SYNC_ID]);
}

#[test]
fn timeouts_that_stay_are_not_sent() {
    let message = request(&Change::SetTimeouts(Timeouts { tcp: 900, tcp_fin: 0, udp: 300 }));
    let kinds: Vec<_> = attributes(&message).map(|a| a.unwrap().0).collect();
    assert_eq!(kinds, [top::TIMEOUT_TCP, top::TIMEOUT_UDP]);
    let read = decode::timeouts(attributes(&message));
    assert_eq!(read, Ok(Timeouts { tcp: 900, tcp_fin: 0, udp: 300 }));
}

/// What a kernel answers to `GET_DEST`: what was sent, and statistics of both widths.
fn dest_answer(stats64: bool) -> Vec<u8> {
    let counters = |w: &mut Writer, kind, wide: bool, base: u32| {
        w.nested(kind, |w| {
            for field in 1..=10_u16 {
                let value = base + u32::from(field);
                // Bytes were always counted in 64 bits.
                if wide || field == 4 || field == 5 {
                    w.attribute(field, &u64::from(value).to_ne_bytes());
                } else {
                    w.u32(field, value);
                }
            }
            w.attribute(11, &[]);
        });
    };
    let mut writer = Writer::default();
    let head = Head { family: 30, command: 5, version: 1, flags: NlmF::MULTI, sequence: 1 };
    head.write(&mut writer, |w| {
        w.nested(top::DEST, |w| {
            w.attribute(dest::ADDR, &[10, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            w.attribute(dest::PORT, &[0x1f, 0x90]);
            w.u32(dest::FWD_METHOD, 3);
            w.u32(dest::WEIGHT, 5);
            w.u32(dest::ACTIVE_CONNS, 11);
            w.u32(dest::INACT_CONNS, 12);
            w.u32(dest::PERSIST_CONNS, 13);
            counters(w, dest::STATS, false, 100);
            if stats64 {
                counters(w, dest::STATS64, true, 200);
            }
            w.attribute(999, b"something newer");
        });
    });
    writer.bytes().to_vec()
}

#[test]
fn statistics_are_read_in_the_widest_form_there_is() {
    for (wide, base) in [(false, 100_u64), (true, 200)] {
        let answer = dest_answer(wide);
        let (server, stats, _) = decode::destination(attributes(&answer), Family::Inet).unwrap();
        let expected =
            Destination::new("10.0.0.3".parse().unwrap(), 8080, Forwarding::DirectRoute, 5);
        assert_eq!(server, expected);
        let counters = |base: u64| Counters {
            connections: base + 1,
            packets_in: base + 2,
            packets_out: base + 3,
            bytes_in: base + 4,
            bytes_out: base + 5,
        };
        let (totals, rates) = (counters(base), counters(base + 5));
        assert_eq!(
            stats,
            DestinationStats { totals, rates, active: 11, inactive: 12, persistent: 13 }
        );
    }
}

#[test]
fn cut_or_senseless_attributes_are_refused() {
    let mut answer = dest_answer(false);
    // The address attribute's length, behind three headers: only three bytes of address.
    let length = 16 + 4 + 4;
    answer[length..length + 2].copy_from_slice(&7_u16.to_ne_bytes());
    assert!(decode::destination(attributes(&answer), Family::Inet).is_err());
    let four = request(&Change::AddService(Service::new(web(), wlc())));
    assert!(decode::service(attributes(&four)).is_ok());
    assert!(decode::destination(attributes(&four), Family::Inet).is_err());
    assert!(decode::sync_daemon(attributes(&four)).is_err());
    assert!(decode::info(attributes(&four)).is_err());
}

fn any_key() -> impl Strategy<Value = ServiceKey> {
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)];
    let family = prop_oneof![Just(Family::Inet), Just(Family::Inet6)];
    prop_oneof![
        (protocol, any_addr(), any::<u16>())
            .prop_map(|(protocol, addr, port)| ServiceKey::Address { protocol, addr, port }),
        (1_u32.., family).prop_map(|(mark, family)| ServiceKey::Fwmark { mark, family }),
    ]
}

fn any_addr() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|a| Ipv4Addr::from(a).into()),
        any::<u128>().prop_map(|a| Ipv6Addr::from(a).into()),
    ]
}

fn any_service() -> impl Strategy<Value = Service> {
    let name = "[a-z][a-z0-9_-]{0,14}";
    let engine = prop::option::of("[a-z]{1,15}");
    let flags = any::<[bool; 4]>();
    let persistence = prop::option::of((any::<u32>(), any::<u32>(), 1..=128_u8));
    (any_key(), name, engine, flags, persistence).prop_map(|(key, name, engine, flags, sticky)| {
        let [one_packet, sched1, sched2, sched3] = flags;
        let mut service = Service::new(key, SchedulerName::new(&name).unwrap());
        service.engine = engine.map(|name| EngineName::new(&name).unwrap());
        service.flags = ServiceFlags { one_packet, sched1, sched2, sched3 };
        service.persistence = sticky.map(|(timeout, mask, length)| Persistence {
            timeout,
            granularity: match key.family() {
                Family::Inet => Granularity::Netmask(Ipv4Addr::from(mask)),
                Family::Inet6 => Granularity::Prefix(length),
            },
        });
        service
    })
}

fn any_destination() -> impl Strategy<Value = Destination> {
    let forwarding = prop_oneof![
        Just(Forwarding::Masquerade),
        Just(Forwarding::LocalNode),
        Just(Forwarding::Tunnel),
        Just(Forwarding::DirectRoute),
        Just(Forwarding::Bypass),
    ];
    let checksum = prop_oneof![Just(Checksum::None), Just(Checksum::Full), Just(Checksum::Remote)];
    let tunnel = prop::option::of((prop::option::of(any::<u16>()), checksum).prop_map(
        |(port, checksum)| match port {
            Some(port) => Tunnel::Gue { port, checksum },
            None => Tunnel::Gre { checksum },
        },
    ));
    (any_addr(), any::<u16>(), forwarding, any::<[u32; 3]>(), tunnel).prop_map(
        |(addr, port, forwarding, [weight, upper, lower], tunnel)| Destination {
            upper_threshold: upper,
            lower_threshold: lower,
            tunnel,
            ..Destination::new(addr, port, forwarding, weight)
        },
    )
}

proptest! {
    #[test]
    fn any_service_reads_back(service in any_service()) {
        let message = request(&Change::AddService(service));
        let (read, _) = decode::service(attributes(&message)).unwrap().unwrap();
        prop_assert_eq!(read, service);
    }

    #[test]
    fn any_server_reads_back_as_it_is_stored(key in any_key(), server in any_destination()) {
        let message = request(&Change::EditDestination(key, server));
        let (read, ..) = decode::destination(attributes(&message), key.family()).unwrap();
        prop_assert_eq!(read, server.as_stored(&key));
    }

    #[test]
    fn any_sync_daemon_reads_back(
        master in any::<bool>(),
        interface in "[a-z0-9.]{1,15}",
        id in any::<u8>(),
        max_len in prop::option::of(any::<u16>()),
        group in prop::option::of(any_addr()),
        port in prop::option::of(any::<u16>()),
        ttl in prop::option::of(any::<u8>()),
    ) {
        let role = if master { Role::Master } else { Role::Backup };
        let daemon = SyncDaemon { role, interface, id, max_len, group, port, ttl };
        let message = request(&Change::StartDaemon(daemon.clone()));
        prop_assert_eq!(decode::sync_daemon(attributes(&message)), Ok(Some(daemon)));
    }

    /// A real answer with some bytes changed, or cut, is an error or another answer, never more.
    #[test]
    fn damaged_answers_are_survived(
        service in any_service(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        for mut message in [request(&Change::AddService(service)), dest_answer(true)] {
            for (place, value) in &damage {
                let place = place.index(message.len());
                message[place] = *value;
            }
            message.truncate(message.len() - cut.index(16));
            for message in Messages(&message).flatten() {
                let Ok(attributes) = socket::attributes(&message) else { continue };
                let _ = decode::service(attributes.clone());
                let _ = decode::destination(attributes.clone(), Family::Inet6);
                let _ = decode::sync_daemon(attributes.clone());
                let _ = decode::timeouts(attributes.clone());
                let _ = decode::info(attributes);
            }
        }
    }
}
