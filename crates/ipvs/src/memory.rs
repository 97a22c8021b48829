//! A table in memory that answers as the kernel does: for tests and simulations.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::SocketAddr;

use nix::errno::Errno;

use crate::change::Change;
use crate::error::Error;
use crate::stats::{DestinationStats, DestinationStatus, ServiceStats, ServiceStatus};
use crate::table::{Failure, Info, Table};
use crate::types::{
    Destination, Family, Role, SchedulerName, Service, ServiceKey, SyncDaemon, Timeouts,
    VirtualService,
};

/// The schedulers of Linux.
const SCHEDULERS: [&str; 14] =
    ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos"];
/// The persistence engines of Linux.
const ENGINES: [&str; 1] = ["sip"];

/// A table in memory. It reads in ascending order of keys.
#[derive(Clone, Debug)]
pub struct Memory {
    services: BTreeMap<ServiceKey, Entity>,
    timeouts: Timeouts,
    master: Option<SyncDaemon>,
    backup: Option<SyncDaemon>,
    missing: Vec<SchedulerName>,
    applied: Vec<Change>,
}

/// A virtual service and what belongs to it.
#[derive(Clone, Debug)]
struct Entity {
    service: Service,
    stats: ServiceStats,
    servers: BTreeMap<SocketAddr, DestinationStatus>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    /// An empty table with the kernel's timeouts and every scheduler.
    #[must_use]
    pub fn new() -> Self {
        Memory {
            services: BTreeMap::new(),
            timeouts: Timeouts { tcp: 900, tcp_fin: 120, udp: 300 },
            master: None,
            backup: None,
            missing: Vec::new(),
            applied: Vec::new(),
        }
    }

    /// Lets a scheduler be missing, as if its module could not be loaded.
    pub fn remove_scheduler(&mut self, scheduler: SchedulerName) {
        self.missing.push(scheduler);
    }

    /// Every change that was made since the last call, in order; those that failed are not in it.
    pub fn take_applied(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.applied)
    }

    /// Sets what is read as a virtual server's statistics. Returns whether it is in the table.
    pub fn set_service_stats(&mut self, service: &ServiceKey, stats: ServiceStats) -> bool {
        self.services.get_mut(service).map(|entity| entity.stats = stats).is_some()
    }

    /// Sets what is read as a real server's statistics and connections. Returns whether it is in
    /// the table.
    pub fn set_destination_stats(
        &mut self,
        service: &ServiceKey,
        server: SocketAddr,
        stats: DestinationStats,
    ) -> bool {
        let entity = self.services.get_mut(service);
        let server = entity.and_then(|entity| entity.servers.get_mut(&server));
        server.map(|server| server.stats = stats).is_some()
    }

    fn change(&mut self, change: &Change) -> Result<(), Errno> {
        match change {
            Change::Flush => self.services.clear(),
            Change::SetTimeouts(timeouts) => self.set_timeouts(*timeouts),
            Change::AddService(service) => self.add_service(*service)?,
            Change::EditService(service) => {
                self.require_modules(service)?;
                self.service(&service.key)?.service = *service;
            }
            Change::DeleteService(key) => {
                self.services.remove(key).ok_or(Errno::ESRCH)?;
            }
            Change::AddDestination(key, server) => self.add_destination(*key, *server)?,
            Change::EditDestination(key, server) => {
                self.require_family(key, server)?;
                let server = server.as_stored(key);
                let found = self.service(key)?.servers.get_mut(&server.key());
                found.ok_or(Errno::ENOENT)?.destination = server;
            }
            Change::DeleteDestination(key, server) => {
                self.service(key)?.servers.remove(server).ok_or(Errno::ENOENT)?;
            }
            Change::StartDaemon(daemon) => self.start_daemon(daemon)?,
            Change::StopDaemon(role) => {
                self.daemon(*role).take().ok_or(Errno::ESRCH)?;
            }
            Change::Zero(Some(key)) => zero(self.service(key)?),
            Change::Zero(None) => self.services.values_mut().for_each(zero),
        }
        Ok(())
    }

    fn service(&mut self, key: &ServiceKey) -> Result<&mut Entity, Errno> {
        self.services.get_mut(key).ok_or(Errno::ESRCH)
    }

    /// The kernel looks for the service before it looks for its modules.
    fn require_modules(&mut self, service: &Service) -> Result<(), Errno> {
        self.service(&service.key)?;
        self.modules(service)
    }

    fn modules(&self, service: &Service) -> Result<(), Errno> {
        let scheduler = SCHEDULERS.contains(&service.scheduler.as_str())
            && !self.missing.contains(&service.scheduler);
        let engine = service.engine.is_none_or(|engine| ENGINES.contains(&engine.as_str()));
        if scheduler && engine { Ok(()) } else { Err(Errno::ENOENT) }
    }

    fn add_service(&mut self, service: Service) -> Result<(), Errno> {
        if self.services.contains_key(&service.key) {
            return Err(Errno::EEXIST);
        }
        self.modules(&service)?;
        let entity = Entity { service, stats: ServiceStats::default(), servers: BTreeMap::new() };
        self.services.insert(service.key, entity);
        Ok(())
    }

    /// Sync messages have no room for servers of another family than the service's.
    fn require_family(&mut self, key: &ServiceKey, server: &Destination) -> Result<(), Errno> {
        self.service(key)?;
        let syncs = self.master.is_some() || self.backup.is_some();
        let foreign = Family::of(&server.addr) != key.family();
        if syncs && foreign { Err(Errno::EINVAL) } else { Ok(()) }
    }

    fn add_destination(&mut self, key: ServiceKey, server: Destination) -> Result<(), Errno> {
        self.require_family(&key, &server)?;
        let destination = server.as_stored(&key);
        match self.service(&key)?.servers.entry(destination.key()) {
            Entry::Occupied(_) => Err(Errno::EEXIST),
            Entry::Vacant(place) => {
                place.insert(DestinationStatus { destination, stats: DestinationStats::default() });
                Ok(())
            }
        }
    }

    fn set_timeouts(&mut self, wanted: Timeouts) {
        let set = |has: &mut u32, wanted| {
            if wanted != 0 {
                *has = wanted;
            }
        };
        set(&mut self.timeouts.tcp, wanted.tcp);
        set(&mut self.timeouts.tcp_fin, wanted.tcp_fin);
        set(&mut self.timeouts.udp, wanted.udp);
    }

    fn daemon(&mut self, role: Role) -> &mut Option<SyncDaemon> {
        match role {
            Role::Master => &mut self.master,
            Role::Backup => &mut self.backup,
        }
    }

    fn start_daemon(&mut self, daemon: &SyncDaemon) -> Result<(), Errno> {
        let mixed = self.services.iter().any(|(key, entity)| {
            entity.servers.keys().any(|server| Family::of(&server.ip()) != key.family())
        });
        let place = self.daemon(daemon.role);
        match place {
            _ if mixed => Err(Errno::EINVAL),
            Some(_) => Err(Errno::EEXIST),
            None => {
                *place = Some(daemon.clone());
                Ok(())
            }
        }
    }
}

/// Connections in use are not statistics: they stay.
fn zero(entity: &mut Entity) {
    entity.stats = ServiceStats::default();
    for server in entity.servers.values_mut() {
        let DestinationStats { active, inactive, persistent, .. } = server.stats;
        server.stats =
            DestinationStats { active, inactive, persistent, ..DestinationStats::default() };
    }
}

impl Table for Memory {
    fn info(&mut self) -> Result<Info, Error> {
        Ok(Info { version: (1, 2, 1), table_size: 4096 })
    }

    fn read(&mut self) -> Result<Vec<VirtualService>, Error> {
        let virtual_service = |entity: &Entity| VirtualService {
            service: entity.service,
            destinations: entity.servers.values().map(|server| server.destination).collect(),
        };
        Ok(self.services.values().map(virtual_service).collect())
    }

    fn read_stats(&mut self) -> Result<Vec<ServiceStatus>, Error> {
        let status = |entity: &Entity| ServiceStatus {
            service: entity.service,
            stats: entity.stats,
            destinations: entity.servers.values().copied().collect(),
        };
        Ok(self.services.values().map(status).collect())
    }

    fn timeouts(&mut self) -> Result<Timeouts, Error> {
        Ok(self.timeouts)
    }

    fn daemons(&mut self) -> Result<Vec<SyncDaemon>, Error> {
        Ok([&self.master, &self.backup].into_iter().flatten().cloned().collect())
    }

    fn apply(&mut self, changes: &[Change]) -> Vec<Failure> {
        let mut failures = Vec::new();
        for (index, change) in changes.iter().enumerate() {
            let made = change
                .check()
                .and_then(|()| self.change(change).map_err(|errno| Error::refused(change, errno)));
            match made {
                Ok(()) => self.applied.push(change.clone()),
                Err(error) => failures.push(Failure { index, error }),
            }
        }
        failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::stats::Counters;
    use crate::types::{Forwarding, Protocol};

    #[test]
    fn conforms() {
        crate::conformance::check(&mut Memory::new()).unwrap();
    }

    #[test]
    fn sync_daemons_run_once_a_role_and_not_with_mixed_families() {
        let mut table = Memory::new();
        let master = SyncDaemon::new(Role::Master, "eth1", 5);
        let start = Change::StartDaemon(master.clone());
        let stop = Change::StopDaemon(Role::Master);
        let kinds = |failures: Vec<Failure>| -> Vec<(usize, ErrorKind)> {
            failures.into_iter().map(|f| (f.index, f.error.kind())).collect()
        };
        assert_eq!(
            kinds(table.apply(&[stop.clone(), start.clone(), start.clone()])),
            [(0, ErrorKind::NoDaemon), (2, ErrorKind::Exists)]
        );
        assert_eq!(table.daemons().unwrap(), [master]);

        let key = ServiceKey::Fwmark { mark: 1, family: Family::Inet };
        let service = Service::new(key, "rr".parse().unwrap());
        let six = Destination::new("fd00::1".parse().unwrap(), 80, Forwarding::Tunnel, 1);
        let mixed = [Change::AddService(service), Change::AddDestination(key, six)];
        assert_eq!(kinds(table.apply(&mixed)), [(1, ErrorKind::Invalid)]);
        assert_eq!(kinds(table.apply(&[stop, mixed[1].clone(), start])), [(2, ErrorKind::Invalid)]);
    }

    #[test]
    fn statistics_are_what_was_set_until_zeroed() {
        let mut table = Memory::new();
        let key = ServiceKey::Address {
            protocol: Protocol::Tcp,
            addr: "10.0.0.1".parse().unwrap(),
            port: 80,
        };
        let server = Destination::new("10.0.0.2".parse().unwrap(), 80, Forwarding::Masquerade, 1);
        let service = Service::new(key, "rr".parse().unwrap());
        assert_eq!(
            table.apply(&[Change::AddService(service), Change::AddDestination(key, server)]),
            []
        );
        let totals = Counters { connections: 7, ..Counters::default() };
        let stats = DestinationStats { totals, active: 3, ..DestinationStats::default() };
        assert!(table.set_destination_stats(&key, server.key(), stats));
        assert!(!table.set_destination_stats(&key, "10.0.0.9:80".parse().unwrap(), stats));
        assert_eq!(table.read_stats().unwrap()[0].destinations[0].stats, stats);
        assert_eq!(table.apply(&[Change::Zero(Some(key))]), []);
        let after = table.read_stats().unwrap()[0].destinations[0].stats;
        assert_eq!((after.totals, after.active), (Counters::default(), 3));
        assert_eq!(table.take_applied().len(), 3);
        assert_eq!(table.take_applied(), []);
    }

    #[test]
    fn a_missing_scheduler_is_named() {
        let mut table = Memory::new();
        table.remove_scheduler("mh".parse().unwrap());
        let key = ServiceKey::Fwmark { mark: 1, family: Family::Inet6 };
        let failures = table.apply(&[Change::AddService(Service::new(key, "mh".parse().unwrap()))]);
        assert_eq!(
            failures[0].error.to_string(),
            "add virtual service FWM 1 IPv6: scheduler mh is not in this kernel: modprobe ip_vs_mh"
        );
    }
}
