//! From the table as it is to the table as it should be.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use crate::change::Change;
use crate::types::{Destination, Forwarding, Service, ServiceKey, VirtualService};

/// The changes that turn `current` into `wanted`; none where they agree.
///
/// The caller passes only the services that are its own in `current`: those not wanted are
/// removed. Of services or servers with the same key the first counts.
///
/// Nothing is removed and added again that can be edited, so that connections of what stays, and
/// its statistics, stay. The order is:
///
/// 1. Services that are not wanted any more go, in the order of `current`: what was withdrawn must
///    not get another connection while the rest is set up.
/// 2. Then service by service, in the order of `wanted`: the service itself, then its servers.
///    New servers first, then those whose weight stays or rises, then those whose weight falls,
///    then removals: a service that had a usable server before and has one after has one at every
///    moment in between, such as when a sorry server takes over or gives way, or weights swap.
///
/// Ports of directly routed and tunnelled servers are taken
/// [as they are stored](Destination::as_stored). A server that an old kernel turned into
/// [`Forwarding::LocalNode`] by itself counts as forwarded the wanted way.
///
/// Takes time proportional to the number of services and servers.
#[must_use]
pub fn plan(current: &[VirtualService], wanted: &[VirtualService]) -> Vec<Change> {
    let wanted_keys: HashSet<ServiceKey> = wanted.iter().map(|v| v.service.key).collect();
    let mut present: HashMap<ServiceKey, &VirtualService> = HashMap::with_capacity(current.len());
    let mut changes = Vec::new();
    for virtual_service in current {
        let key = virtual_service.service.key;
        if present.contains_key(&key) {
            continue;
        }
        present.insert(key, virtual_service);
        if !wanted_keys.contains(&key) {
            changes.push(Change::DeleteService(key));
        }
    }

    let mut planned = HashSet::with_capacity(wanted.len());
    for virtual_service in wanted {
        let service = virtual_service.service;
        if !planned.insert(service.key) {
            continue;
        }
        let before = present.get(&service.key);
        plan_service(before.map(|v| v.service), service, &mut changes);
        let before = before.map_or(&[][..], |v| &v.destinations);
        plan_destinations(service.key, before, &virtual_service.destinations, &mut changes);
    }
    changes
}

fn plan_service(current: Option<Service>, wanted: Service, changes: &mut Vec<Change>) {
    match current {
        None => changes.push(Change::AddService(wanted)),
        Some(current) if current != wanted => changes.push(Change::EditService(wanted)),
        Some(_) => {}
    }
}

fn plan_destinations(
    service: ServiceKey,
    current: &[Destination],
    wanted: &[Destination],
    changes: &mut Vec<Change>,
) {
    let mut present: HashMap<SocketAddr, &Destination> = HashMap::with_capacity(current.len());
    for server in current {
        present.entry(server.key()).or_insert(server);
    }
    let mut kept = HashSet::with_capacity(wanted.len());
    let (mut raised, mut lowered) = (Vec::new(), Vec::new());
    for server in wanted {
        let server = server.as_stored(&service);
        if !kept.insert(server.key()) {
            continue;
        }
        match present.get(&server.key()) {
            None => changes.push(Change::AddDestination(service, server)),
            Some(before) if agrees(before, &server) => {}
            Some(before) if server.weight >= before.weight => raised.push(server),
            Some(_) => lowered.push(server),
        }
    }
    let edits = raised.into_iter().chain(lowered);
    changes.extend(edits.map(|server| Change::EditDestination(service, server)));

    for server in current {
        let key = server.key();
        if present.remove(&key).is_some() && !kept.contains(&key) {
            changes.push(Change::DeleteDestination(service, key));
        }
    }
}

/// Whether a server needs no edit.
fn agrees(current: &Destination, wanted: &Destination) -> bool {
    if current.forwarding == Forwarding::LocalNode {
        let Destination { forwarding, tunnel, .. } = *wanted;
        return Destination { forwarding, tunnel, ..*current } == *wanted;
    }
    current == wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;
    use crate::table::Table;
    use crate::types::{Family, Persistence, Protocol, SchedulerName};
    use proptest::prelude::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn key(port: u16) -> ServiceKey {
        ServiceKey::Address {
            protocol: Protocol::Tcp,
            addr: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
            port,
        }
    }

    fn service(port: u16) -> Service {
        Service::new(key(port), SchedulerName::new("wlc").unwrap())
    }

    fn server(host: u8, weight: u32) -> Destination {
        let addr = IpAddr::V4(Ipv4Addr::new(10, 0, 1, host));
        Destination::new(addr, 80, Forwarding::Masquerade, weight)
    }

    fn with(port: u16, servers: &[Destination]) -> VirtualService {
        VirtualService { service: service(port), destinations: servers.to_vec() }
    }

    fn commands(current: &[VirtualService], wanted: &[VirtualService]) -> Vec<String> {
        plan(current, wanted).iter().map(|c| c.ipvsadm_args().join(" ")).collect()
    }

    #[test]
    fn from_nothing_services_come_before_their_servers_in_the_order_of_the_file() {
        let wanted = [with(443, &[server(3, 1), server(2, 1)]), with(80, &[])];
        assert_eq!(
            commands(&[], &wanted),
            [
                "-A -t 10.0.0.1:443 -s wlc",
                "-a -t 10.0.0.1:443 -r 10.0.1.3:80 -m -w 1",
                "-a -t 10.0.0.1:443 -r 10.0.1.2:80 -m -w 1",
                "-A -t 10.0.0.1:80 -s wlc",
            ]
        );
    }

    #[test]
    fn nothing_changes_where_nothing_changed() {
        let table = [with(80, &[server(2, 1), server(3, 0)]), with(81, &[])];
        assert_eq!(plan(&table, &table), []);
        let reversed = [with(81, &[]), with(80, &[server(3, 0), server(2, 1)])];
        assert_eq!(plan(&table, &reversed), []);
    }

    #[test]
    fn withdrawn_services_go_first() {
        let current = [with(80, &[server(2, 1)]), with(81, &[]), with(82, &[])];
        assert_eq!(
            commands(&current, &[with(83, &[]), with(81, &[])]),
            ["-D -t 10.0.0.1:80", "-D -t 10.0.0.1:82", "-A -t 10.0.0.1:83 -s wlc"]
        );
    }

    #[test]
    fn what_can_be_edited_is_edited() {
        let mut wanted = with(80, &[server(2, 5)]);
        wanted.service.scheduler = SchedulerName::new("rr").unwrap();
        wanted.service.persistence = Some(Persistence::new(60, Family::Inet));
        assert_eq!(
            commands(&[with(80, &[server(2, 1)])], &[wanted]),
            ["-E -t 10.0.0.1:80 -s rr -p 60", "-e -t 10.0.0.1:80 -r 10.0.1.2:80 -m -w 5"]
        );
        let mut routed = server(2, 1);
        routed.forwarding = Forwarding::DirectRoute;
        assert_eq!(
            commands(&[with(80, &[server(2, 1)])], &[with(80, &[routed])]),
            ["-e -t 10.0.0.1:80 -r 10.0.1.2:80 -g -w 1"]
        );
    }

    #[test]
    fn a_service_keeps_answering_while_its_servers_change() {
        let current = [with(80, &[server(2, 1), server(3, 1), server(4, 0)])];
        let wanted = [with(80, &[server(3, 0), server(4, 1), server(5, 1)])];
        assert_eq!(
            commands(&current, &wanted),
            [
                "-a -t 10.0.0.1:80 -r 10.0.1.5:80 -m -w 1",
                "-e -t 10.0.0.1:80 -r 10.0.1.4:80 -m -w 1",
                "-e -t 10.0.0.1:80 -r 10.0.1.3:80 -m -w 0",
                "-d -t 10.0.0.1:80 -r 10.0.1.2:80",
            ]
        );
    }

    #[test]
    fn of_duplicates_the_first_counts() {
        let wanted = [with(80, &[server(2, 1), server(2, 9)]), with(80, &[server(3, 1)])];
        assert_eq!(
            commands(&[], &wanted),
            ["-A -t 10.0.0.1:80 -s wlc", "-a -t 10.0.0.1:80 -r 10.0.1.2:80 -m -w 1"]
        );
        let current = [with(80, &[server(2, 1), server(3, 1), server(3, 1)])];
        assert_eq!(commands(&current, &wanted), ["-d -t 10.0.0.1:80 -r 10.0.1.3:80"]);
    }

    #[test]
    fn ports_of_routed_servers_are_the_services_own() {
        let mut routed = server(2, 1);
        (routed.forwarding, routed.port) = (Forwarding::DirectRoute, 8080);
        let mut stored = routed;
        stored.port = 80;
        assert_eq!(plan(&[with(80, &[stored])], &[with(80, &[routed])]), []);
        assert_eq!(
            commands(&[with(80, &[])], &[with(80, &[routed, stored])]),
            ["-a -t 10.0.0.1:80 -r 10.0.1.2:80 -g -w 1"]
        );
    }

    #[test]
    fn what_the_kernel_made_a_local_server_stays_one() {
        let mut local = server(2, 1);
        local.forwarding = Forwarding::LocalNode;
        assert_eq!(plan(&[with(80, &[local])], &[with(80, &[server(2, 1)])]), []);
        assert_eq!(plan(&[with(80, &[local])], &[with(80, &[server(2, 2)])]).len(), 1);
    }

    #[test]
    fn ten_thousand_servers_are_a_matter_of_milliseconds() {
        let servers: Vec<_> = (0..10_000_u32)
            .map(|n| {
                let addr = IpAddr::V4(Ipv4Addr::from(0x0a01_0000 + n));
                Destination::new(addr, 80, Forwarding::Masquerade, 1)
            })
            .collect();
        let mut fewer = servers.clone();
        fewer.truncate(9_000);
        let before = std::time::Instant::now();
        let changes = plan(&[with(80, &servers)], &[with(80, &fewer)]);
        println!("planned 10,000 servers in {:?}", before.elapsed());
        assert_eq!(changes.len(), 1_000);
    }

    fn any_table() -> impl Strategy<Value = Vec<VirtualService>> {
        let forwarding = prop_oneof![
            Just(Forwarding::Masquerade),
            Just(Forwarding::Tunnel),
            Just(Forwarding::DirectRoute)
        ];
        let servers = prop::collection::vec(
            (1..6_u8, 80..82_u16, forwarding, 0..3_u32, 0..3_u32).prop_map(
                |(host, port, forwarding, weight, limit)| Destination {
                    port,
                    forwarding,
                    upper_threshold: limit,
                    ..server(host, weight)
                },
            ),
            0..8,
        );
        let services = (80..84_u16, any::<bool>(), prop_oneof![Just("rr"), Just("wlc")], servers)
            .prop_map(|(port, sticky, scheduler, destinations)| {
                let mut service = Service::new(key(port), SchedulerName::new(scheduler).unwrap());
                service.persistence = sticky.then(|| Persistence::new(60, Family::Inet));
                VirtualService { service, destinations }
            });
        prop::collection::vec(services, 0..6)
    }

    /// Whether any server of the service gets new connections.
    fn answers(table: &mut Memory, key: ServiceKey) -> bool {
        let table = table.read().unwrap();
        let found = table.iter().find(|v| v.service.key == key);
        found.is_some_and(|v| v.destinations.iter().any(|d| d.weight > 0))
    }

    proptest! {
        #[test]
        fn any_table_is_reached_from_any_other_and_then_left_alone(
            first in any_table(),
            second in any_table(),
        ) {
            let mut table = Memory::new();
            prop_assert_eq!(table.apply(&plan(&[], &first)), vec![]);
            let changes = plan(&table.read().unwrap(), &second);

            let keys: Vec<_> = (80..84).map(key).collect();
            let steady = |table: &mut Memory| -> Vec<bool> {
                keys.iter().map(|k| answers(table, *k)).collect()
            };
            let before = steady(&mut table);
            let mut always = before.clone();
            for change in &changes {
                prop_assert_eq!(table.apply(std::slice::from_ref(change)), vec![]);
                let now = steady(&mut table);
                always.iter_mut().zip(now).for_each(|(always, now)| *always &= now);
            }
            let after = steady(&mut table);
            for ((before, after), always) in before.into_iter().zip(after).zip(always) {
                prop_assert_eq!(before && after, always, "a service stopped answering");
            }
            prop_assert_eq!(plan(&table.read().unwrap(), &second), vec![]);
        }
    }
}
