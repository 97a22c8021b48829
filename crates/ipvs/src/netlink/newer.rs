//! What only newer kernels have, asked of older ones.
//!
//! These pass over attributes that they do not know without a word, and report success. So what depends
//! on such an attribute is looked at after it was made, and where the kernel has not taken it in, it is
//! undone if it was an addition, and reported as [`ErrorKind::NotSupported`].
//!
//! For one thing afterwards is too late. The address of a server of another family than the service's is
//! taken by kernels before 3.18 for one of the service's family: `2001:db8::1` for 32.1.13.184, which is
//! somebody's. So before the first such server, it is made sure that the kernel tells families apart.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use log::warn;

use crate::change::Change;
use crate::error::{Error, ErrorKind};
use crate::table::Failure;
use crate::types::{
    Destination, Family, Protocol, Service, ServiceFlags, ServiceKey, SyncDaemon, Tunnel,
};

const MIXED: &str = "this kernel's IPVS has no servers of another address family than the service's \
    (Linux 3.18 and newer): give the server an address of the service's family";
const ENGINES: &str = "this kernel's IPVS has no persistence engines (Linux 2.6.37 and newer): leave the \
    engine out, clients are then told apart by their addresses";
const TUNNELS: &str =
    "this kernel's IPVS has no GUE and GRE tunnels (Linux 5.3 and newer): use IP in IP";
const SYNC: &str = "this kernel's sync daemon has no message length, group, port and TTL of its own \
    (Linux 4.3 and newer): leave them out, it uses 224.0.0.81, port 8848, TTL 1";

/// What has been found out about this kernel.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Newer {
    /// Whether it has an address family for each server (Linux 3.18), once that is known.
    families: Option<bool>,
    /// What cannot be seen to fail has been spoken of.
    warned: bool,
}

/// A server, and whether the kernel said of which family its address is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) server: Destination,
    pub(super) tells_family: bool,
}

/// The kernel, as far as is needed here.
pub(super) trait Kernel {
    /// Makes the next changes, as many as fit: how many it were, and those that failed.
    fn send(&mut self, changes: &[(usize, &Change)]) -> (usize, Vec<Failure>);
    /// All services.
    fn services(&mut self) -> Result<Vec<Service>, Error>;
    /// The servers of a service.
    fn servers(&mut self, key: &ServiceKey) -> Result<Vec<Seen>, Error>;
    /// The sync daemons.
    fn daemons(&mut self) -> Result<Vec<SyncDaemon>, Error>;
    /// Its release, as `uname -r` says it.
    fn release(&mut self) -> String;
}

impl Newer {
    /// Takes in whether an answer about a server named its family.
    pub(super) fn learn(&mut self, tells_family: bool) {
        self.families = Some(tells_family);
    }

    #[cfg(test)]
    pub(super) fn has_warned(&self) -> bool {
        self.warned
    }

    /// Makes changes in their order; gives back those that failed, or were passed over.
    pub(super) fn apply(
        &mut self,
        kernel: &mut impl Kernel,
        changes: &[(usize, &Change)],
    ) -> Vec<Failure> {
        let mut failures = Vec::new();
        let mut rest = changes;
        while let Some(first) = rest.first() {
            let mixed = |(_, change): &(usize, &Change)| mixed(change).is_some();
            let unsure = self.families != Some(true);
            let (done, failed) = match rest.iter().position(mixed).filter(|_| unsure) {
                Some(0) => (1, self.apply_mixed(kernel, *first)),
                Some(before) => kernel.send(rest.get(..before).unwrap_or_default()),
                None => kernel.send(rest),
            };
            failures.extend(failed);
            rest = rest.get(done..).unwrap_or_default();
        }
        let failed: Vec<usize> = failures.iter().map(|failure| failure.index).collect();
        let made = changes.iter().filter(|(_, change)| needs_newer(change));
        let made: Vec<_> = made.filter(|(index, _)| !failed.contains(index)).copied().collect();
        if !made.is_empty() {
            failures.extend(self.look_at(kernel, &made));
        }
        failures
    }

    /// Makes one change of a server whose family is not the service's, if that is what will come of it.
    fn apply_mixed(
        &mut self,
        kernel: &mut impl Kernel,
        (index, change): (usize, &Change),
    ) -> Vec<Failure> {
        let Some((key, address)) = mixed(change) else { return kernel.send(&[(index, change)]).1 };
        if self.families.is_none()
            && let Err(error) = self.ask(kernel, &key)
        {
            return vec![Failure { index, error }];
        }
        if let (None, Change::AddDestination(key, server)) = (self.families, change) {
            // There is no server to see it by: this one, which gets no connections yet, must do.
            let trial = Destination { weight: 0, ..*server };
            let failed = kernel.send(&[(index, &Change::AddDestination(*key, trial))]).1;
            if !failed.is_empty() {
                return failed;
            }
            if let Err(error) = self.ask(kernel, key) {
                return vec![Failure { index, error }];
            }
            if self.families == Some(true) {
                return kernel.send(&[(index, &Change::EditDestination(*key, *server))]).1;
            }
            let port = server.as_stored(key).port;
            let taken = SocketAddr::new(misread(address, key.family()), port);
            undo(kernel, &Change::DeleteDestination(*key, taken));
        }
        match self.families {
            Some(false) => vec![unsupported(index, change, MIXED)],
            _ => kernel.send(&[(index, change)]).1,
        }
    }

    fn ask(&mut self, kernel: &mut impl Kernel, key: &ServiceKey) -> Result<(), Error> {
        if let Some(seen) = kernel.servers(key)?.first() {
            self.learn(seen.tells_family);
        }
        Ok(())
    }

    /// Which of these changes, that the kernel took, it did not take in.
    fn look_at(&mut self, kernel: &mut impl Kernel, made: &[(usize, &Change)]) -> Vec<Failure> {
        let mut failures = Vec::new();
        let mut services = None;
        let mut servers: HashMap<ServiceKey, Vec<Seen>> = HashMap::new();
        let mut daemons = None;
        for (index, change) in made {
            let looked = match change {
                Change::AddService(wanted) | Change::EditService(wanted) => {
                    self.warn_of_silence(kernel, change, wanted);
                    let engine = |all: &Vec<Service>| {
                        let is = all.iter().find(|service| service.key == wanted.key);
                        is.is_none_or(|service| service.engine == wanted.engine)
                    };
                    let read = || kernel.services();
                    (wanted.engine.is_some())
                        .then(|| cached(&mut services, read).map(engine))
                        .map(|agrees| (agrees, ENGINES))
                }
                Change::AddDestination(key, wanted) | Change::EditDestination(key, wanted) => {
                    let tunnel = |all: &Vec<Seen>| {
                        let is = all
                            .iter()
                            .find(|seen| seen.server.key() == wanted.as_stored(key).key());
                        is.is_none_or(|seen| seen.server.tunnel == wanted.tunnel)
                    };
                    let known = servers.remove(key);
                    let read = known.map_or_else(|| kernel.servers(key), Ok);
                    let agrees = read.map(|all| {
                        let agrees = tunnel(&all);
                        servers.insert(*key, all);
                        agrees
                    });
                    Some((agrees, TUNNELS))
                }
                Change::StartDaemon(wanted) => {
                    let runs = |all: &Vec<SyncDaemon>| {
                        let is = all.iter().find(|daemon| daemon.role == wanted.role);
                        is.is_none_or(|is| {
                            is.serves(wanted) && is.max_len.is_some() >= wanted.max_len.is_some()
                        })
                    };
                    Some((cached(&mut daemons, || kernel.daemons()).map(runs), SYNC))
                }
                _ => None,
            };
            match looked {
                Some((Ok(false), reason)) => {
                    if let Some(back) = reverse(change) {
                        undo(kernel, &back);
                    }
                    failures.push(unsupported(*index, change, reason));
                }
                Some((Err(error), _)) => warn!("whether the kernel can {change}: {error}"),
                Some((Ok(true), _)) | None => {}
            }
        }
        failures
    }

    /// Old kernels keep flags that mean nothing to them, and protocols that they cannot balance, and show
    /// them again. So their release is all there is to go by, and it may be wrong: distributions add to
    /// old kernels.
    fn warn_of_silence(&mut self, kernel: &mut impl Kernel, change: &Change, service: &Service) {
        if self.warned || !(has_flags(service) || is_sctp(service)) {
            return;
        }
        let release = kernel.release();
        let Some(version) = version(&release) else { return };
        let needs = |set: bool, since, what| (set && version < since).then_some(what);
        let flags = service.flags;
        let scheduler = flags.sched1 || flags.sched2 || flags.sched3;
        let missing = needs(is_sctp(service), [2, 6, 34], "SCTP (Linux 2.6.34)")
            .or(needs(flags.one_packet, [2, 6, 36], "one-packet scheduling (Linux 2.6.36)"))
            .or(needs(scheduler, [3, 11, 0], "flags of schedulers (Linux 3.11)"));
        if let Some(missing) = missing {
            self.warned = true;
            warn!(
                "{change}: this kernel, {release}, does not know {missing} unless its maker has added \
                 it, and does not say so: look whether the service works as it should, or do without"
            );
        }
    }
}

fn has_flags(service: &Service) -> bool {
    service.flags != ServiceFlags::default()
}

fn is_sctp(service: &Service) -> bool {
    matches!(service.key, ServiceKey::Address { protocol: Protocol::Sctp, .. })
}

/// The service and the server's address, where their families differ.
fn mixed(change: &Change) -> Option<(ServiceKey, IpAddr)> {
    let (key, addr) = match change {
        Change::AddDestination(key, server) | Change::EditDestination(key, server) => {
            (*key, server.addr)
        }
        Change::DeleteDestination(key, server) => (*key, server.ip()),
        _ => return None,
    };
    (Family::of(&addr) != key.family()).then_some((key, addr))
}

/// Whether it takes more than the kernels have that IPVS's netlink began with (Linux 2.6.28), and can
/// be passed over.
fn needs_newer(change: &Change) -> bool {
    match change {
        Change::AddService(service) | Change::EditService(service) => {
            service.engine.is_some() || has_flags(service) || is_sctp(service)
        }
        Change::AddDestination(key, server) | Change::EditDestination(key, server) => {
            let tunnel = server.as_stored(key).tunnel;
            matches!(tunnel, Some(Tunnel::Gue { .. } | Tunnel::Gre { .. }))
        }
        Change::StartDaemon(daemon) => {
            let SyncDaemon { max_len, group, port, ttl, .. } = daemon;
            max_len.is_some() || group.is_some() || port.is_some() || ttl.is_some()
        }
        _ => false,
    }
}

/// What an old kernel takes an address for that is of the other family than it should be: it reads the
/// bytes it wants from the front, of 16.
fn misread(addr: IpAddr, family: Family) -> IpAddr {
    match (addr, family) {
        (IpAddr::V6(addr), Family::Inet) => {
            let [a, b, c, d, ..] = addr.octets();
            Ipv4Addr::new(a, b, c, d).into()
        }
        (IpAddr::V4(addr), Family::Inet6) => {
            Ipv6Addr::from(u128::from(addr.to_bits()) << 96).into()
        }
        (addr, _) => addr,
    }
}

/// What takes an addition back.
fn reverse(change: &Change) -> Option<Change> {
    match change {
        Change::AddService(service) => Some(Change::DeleteService(service.key)),
        Change::AddDestination(key, server) => {
            Some(Change::DeleteDestination(*key, server.as_stored(key).key()))
        }
        Change::StartDaemon(daemon) => Some(Change::StopDaemon(daemon.role)),
        _ => None,
    }
}

fn undo(kernel: &mut impl Kernel, change: &Change) {
    for failure in kernel.send(&[(0, change)]).1 {
        warn!("{}", failure.error);
    }
}

fn unsupported(index: usize, change: &Change, reason: &str) -> Failure {
    Failure { index, error: Error::new(ErrorKind::NotSupported, change, reason) }
}

/// What was read before, or is read now.
fn cached<T>(known: &mut Option<T>, read: impl FnOnce() -> Result<T, Error>) -> Result<&T, Error> {
    match known {
        Some(known) => Ok(known),
        None => Ok(known.insert(read()?)),
    }
}

/// The first three numbers of a release: `2.6.32-754.el6.x86_64`, `6.1.0-9`, `4.0`.
fn version(release: &str) -> Option<[u32; 3]> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    Some([numbers.next()?, numbers.next()?, numbers.next().unwrap_or(0)])
}
