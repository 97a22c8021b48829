//! The kernel's table by generic netlink.

mod abi;
mod decode;
mod encode;
mod newer;
#[cfg(test)]
mod old_kernel;
mod socket;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use ::netlink::wire::{Attributes, Malformed, Writer};
use ::netlink::{Outcome, Trouble};
use log::{debug, warn};
use neli::consts::nl::NlmF;
use nix::errno::Errno;

use crate::change::Change;
use crate::error::{Error, ErrorKind, NO_IPVS};
use crate::process;
use crate::stats::{DestinationStats, DestinationStatus, ServiceStats, ServiceStatus};
use crate::table::{Failure, Info, Table};
use crate::types::{Destination, Service, ServiceKey, SyncDaemon, Timeouts, VirtualService};
use abi::cmd;
use newer::{Kernel, Newer, Seen};
use socket::Socket;

/// How often a read is tried that answers were lost of, or that the table changed under.
const READS: u32 = 4;
/// What the kernel charges the receive buffer for the refusal of one change, at most: the change
/// itself, which is in it, a header, and its own bookkeeping.
const REFUSAL: usize = 2048;
/// How many bytes of changes are sent at a time, about; the kernel refuses more than it grants a
/// send buffer (net.core.wmem_default).
const BATCH_BYTES: usize = 96 << 10;
/// That many there is always room for: a page or two, with the kernel's own bookkeeping.
const LEAST_BYTES: usize = 3 << 10;

/// What a [`Netlink`] takes for itself. The defaults suit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetlinkOptions {
    /// Room for the kernel's answers, in bytes; the kernel counts at least half a kilobyte for
    /// each. Beyond net.core.rmem_max it takes privileges, and is quietly reduced without.
    pub receive_buffer: usize,
    /// How many changes are sent at a time, at most; `None`: as many as there is room for answers
    /// if all are refused.
    pub batch: Option<usize>,
    /// How long the kernel may take for an answer.
    pub time_limit: Duration,
}

impl Default for NetlinkOptions {
    /// 1 MiB, as many changes as there is room for, 5 s.
    fn default() -> Self {
        NetlinkOptions { receive_buffer: 1 << 20, batch: None, time_limit: Duration::from_secs(5) }
    }
}

/// The kernel's table, by generic netlink (family "IPVS", version 1: Linux 2.6.28 and newer).
///
/// One socket for good, closed on exec, in the network namespace it was opened in; the caller must
/// stay there, because the socket is opened anew after errors. Changes are sent many at a time.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    options: NetlinkOptions,
    batch: Batch,
    newer: Newer,
}

/// How much is sent at a time.
#[derive(Clone, Copy, Debug)]
struct Batch {
    changes: usize,
    bytes: usize,
}

impl Batch {
    /// Whether fewer bytes are worth a try, which are set then. Before Linux 3.11 a request must find
    /// room in one piece, of which there may be none of a hundred kilobytes after a year.
    fn shrinks_after(&mut self, outcome: &Outcome) -> bool {
        // Lost answers are an overrun: this is said of sending only, and nothing has been done.
        let no_room = matches!(&outcome.settled,
            Err(Trouble::Io(error)) if error.raw_os_error() == Some(libc::ENOBUFS));
        let shrinks = no_room && self.bytes > LEAST_BYTES;
        if shrinks {
            self.bytes /= 2;
        }
        shrinks
    }
}

impl Netlink {
    /// Opens the kernel's table, loading the module ip_vs if need be.
    ///
    /// # Errors
    /// [`ErrorKind::NoIpvs`] if there is none; [`ErrorKind::Io`] without a socket.
    pub fn open() -> Result<Self, Error> {
        Self::open_with(NetlinkOptions::default())
    }

    /// As [`Netlink::open`], with other options.
    ///
    /// # Errors
    /// As [`Netlink::open`].
    pub fn open_with(options: NetlinkOptions) -> Result<Self, Error> {
        let (socket, batch) = connect(options).map_err(|trouble| unreadable(OPEN, &trouble))?;
        Ok(Netlink { socket, options, batch, newer: Newer::default() })
    }

    /// Starts afresh, for when answers to an earlier request may still come.
    fn reconnect(&mut self) -> Result<(), Trouble> {
        (self.socket, self.batch) = connect(self.options)?;
        Ok(())
    }

    /// Runs a read until it succeeds or is not worth another try.
    fn retrying<T>(
        &mut self,
        action: &str,
        mut read: impl FnMut(&mut Self) -> Result<T, Trouble>,
    ) -> Result<T, Error> {
        let mut tries = 1;
        loop {
            let trouble = match read(self) {
                Ok(answer) => return Ok(answer),
                Err(trouble) => trouble,
            };
            debug!("{action}: {trouble:?}");
            let again = match trouble {
                // The module may have been loaded anew, and its family have another number.
                Trouble::Refused(Errno::ENOENT) => self.socket.find_family(),
                Trouble::Overrun | Trouble::Interrupted | Trouble::Refused(Errno::EBUSY) => {
                    self.reconnect().map(|()| true)
                }
                Trouble::Refused(_) => Ok(false),
                _ => {
                    // Leave nothing behind that could be taken for the next answer.
                    self.reconnect().map(|()| false)
                }
            };
            let again = again.map_err(|trouble| unreadable(action, &trouble))?;
            if !again || tries == READS {
                return Err(unreadable(action, &trouble));
            }
            tries += 1;
        }
    }

    /// The whole table, with what `pick` makes of each server.
    ///
    /// One dump for the services and one for each service's servers: the kernel has no request
    /// for all servers, and does not start a dump before the one before is done.
    fn walk<D>(
        &mut self,
        pick: impl Fn(Destination, DestinationStats) -> D,
    ) -> Result<Vec<(Service, ServiceStats, Vec<D>)>, Trouble> {
        let services = self.walk_services()?.into_iter();
        let mut services: Vec<_> =
            services.map(|(service, stats)| (service, stats, Vec::new())).collect();
        for (service, _, servers) in &mut services {
            self.walk_servers(&service.key, |server, stats, _| servers.push(pick(server, stats)))?;
        }
        Ok(services)
    }

    /// All services.
    fn walk_services(&mut self) -> Result<Vec<(Service, ServiceStats)>, Trouble> {
        let mut services = Vec::new();
        self.socket.dump(
            cmd::GET_SERVICE,
            |_| {},
            |attributes| {
                services.extend(decode::service(attributes)?);
                Ok(())
            },
        )?;
        Ok(services)
    }

    /// The servers of a service, and of each whether the kernel named its address family.
    fn walk_servers(
        &mut self,
        key: &ServiceKey,
        mut each: impl FnMut(Destination, DestinationStats, bool),
    ) -> Result<(), Trouble> {
        let newer = &mut self.newer;
        self.socket.dump(
            cmd::GET_DEST,
            |w| encode::service_key(w, key),
            |attributes| {
                let (server, stats, tells_family) = decode::destination(attributes, key.family())?;
                newer.learn(tells_family);
                each(server, stats, tells_family);
                Ok(())
            },
        )
    }

    fn ask<T>(
        &mut self,
        action: &str,
        command: u8,
        decode: impl Fn(Attributes<'_>) -> Result<T, Malformed>,
    ) -> Result<T, Error> {
        self.retrying(action, |table| {
            let head = table.socket.head(command, NlmF::empty());
            table.socket.request(head, |_| {}, &decode)
        })
    }

    /// Sends the next changes, as many as fit; returns how many it were and those that failed.
    fn apply_batch(&mut self, changes: &[(usize, &Change)]) -> (usize, Vec<Failure>) {
        let (writer, first, mut sent) = self.encode(changes);
        let mut outcome = self.socket.batch(&writer, first, sent);
        while self.batch.shrinks_after(&outcome) {
            let (writer, first, fewer) = self.encode(changes);
            outcome = self.socket.batch(&writer, first, fewer);
            sent = fewer;
        }
        let stale = |(_, errno): &(usize, Errno)| *errno == Errno::ENOENT;
        if outcome.refused.len() == sent && outcome.refused.iter().all(stale) {
            // If the module was loaded anew its family has another number, so that none of these
            // reached it; or it is gone.
            match self.socket.find_family() {
                Ok(false) => {}
                Ok(true) => {
                    let (writer, first, sent) = self.encode(changes);
                    outcome = self.socket.batch(&writer, first, sent);
                }
                Err(trouble) => outcome = Outcome { refused: vec![], settled: Err(trouble) },
            }
        }
        let mut reasons: Vec<Option<Error>> = vec![None; sent];
        if let Err(trouble) = &outcome.settled {
            warn!("{sent} changes to the IPVS table: {trouble:?}");
            for (reason, (_, change)) in reasons.iter_mut().zip(changes) {
                *reason = Some(unknown(change, trouble));
            }
        }
        for (place, errno) in outcome.refused {
            if let (Some(reason), Some((_, change))) = (reasons.get_mut(place), changes.get(place))
            {
                *reason = Some(Error::refused(change, errno));
            }
        }
        let failures = reasons.into_iter().zip(changes);
        let failures = failures
            .filter_map(|(error, (index, _))| error.map(|error| Failure { index: *index, error }));
        (sent, failures.collect())
    }

    /// Writes the requests for the next changes, as many as fit: these, the first one's sequence
    /// number, and how many it are.
    fn encode(&mut self, changes: &[(usize, &Change)]) -> (Writer, u32, usize) {
        let mut writer = Writer::default();
        let count = changes.len().min(self.batch.changes);
        let mut first = None;
        let mut written = 0;
        for (_, change) in changes.iter().take(count) {
            written += 1;
            let last = written == count || writer.bytes().len() > self.batch.bytes;
            let flags = if last { NlmF::ACK } else { NlmF::empty() };
            let head = self.socket.head(encode::command(change), flags);
            first.get_or_insert(head.sequence);
            head.write(&mut writer, |w| encode::attributes(w, change));
            if last {
                break;
            }
        }
        (writer, first.unwrap_or_default(), written)
    }
}

const OPEN: &str = "open the kernel's IPVS table";
const READ: &str = "read the IPVS table";

/// A socket, and how much it can take at a time.
fn connect(options: NetlinkOptions) -> Result<(Socket, Batch), Trouble> {
    let open = || Socket::open(options.receive_buffer, options.time_limit);
    let socket = match open() {
        Err(Trouble::Refused(Errno::ENOENT)) => {
            load_module();
            open()?
        }
        other => other?,
    };
    let room = socket.receive_buffer()? / REFUSAL;
    let changes = options.batch.unwrap_or(room).max(1);
    let bytes = BATCH_BYTES.min(socket.send_buffer()? / 2);
    Ok((socket, Batch { changes, bytes }))
}

/// Kernels load the module by themselves only since the family's name is among its aliases.
fn load_module() {
    for modprobe in ["/sbin/modprobe", "/usr/sbin/modprobe"] {
        let limit = Duration::from_secs(10);
        match process::run(Path::new(modprobe), ["-q", "--", "ip_vs"], limit) {
            Ok(output) => {
                debug!("{modprobe} ip_vs: {}", output.status);
                return;
            }
            Err(trouble) => debug!("{modprobe} ip_vs: {trouble}"),
        }
    }
}

/// Why the table could not be read.
fn unreadable(action: &str, trouble: &Trouble) -> Error {
    let (kind, reason) = match trouble {
        Trouble::Refused(errno) => return Error::unreadable(&action, *errno),
        Trouble::Io(error)
            if error.raw_os_error() == Some(libc::EPROTONOSUPPORT)
                || error.raw_os_error() == Some(libc::EAFNOSUPPORT) =>
        {
            (ErrorKind::NoIpvs, NO_IPVS.to_owned())
        }
        Trouble::Io(error) => (ErrorKind::Io, error.to_string()),
        other => lost(other),
    };
    Error::new(kind, &action, reason)
}

/// Why a change was not made, or it is not known whether it was.
fn unknown(change: &Change, trouble: &Trouble) -> Error {
    let (kind, reason) = match trouble {
        Trouble::Io(error) => (ErrorKind::Io, error.to_string()),
        Trouble::Refused(errno) => return Error::unreadable(change, *errno),
        other => {
            let (kind, reason) = lost(other);
            (kind, format!("{reason}: read the table to see whether it was done"))
        }
    };
    Error::new(kind, change, reason)
}

fn lost(trouble: &Trouble) -> (ErrorKind, String) {
    let (kind, reason) = match trouble {
        Trouble::Interrupted => {
            (ErrorKind::Overrun, "the table kept changing while it was read; try again")
        }
        Trouble::TimedOut => (ErrorKind::TimedOut, "the kernel did not answer in time"),
        Trouble::Malformed(malformed) => return (ErrorKind::Malformed, malformed.to_string()),
        _ => (ErrorKind::Overrun, "answers of the kernel were lost for want of buffer space"),
    };
    (kind, reason.to_owned())
}

impl Kernel for Netlink {
    fn send(&mut self, changes: &[(usize, &Change)]) -> (usize, Vec<Failure>) {
        self.apply_batch(changes)
    }

    fn services(&mut self) -> Result<Vec<Service>, Error> {
        let all = self.retrying(READ, Self::walk_services)?;
        Ok(all.into_iter().map(|(service, _)| service).collect())
    }

    fn servers(&mut self, key: &ServiceKey) -> Result<Vec<Seen>, Error> {
        self.retrying(READ, |table| {
            let mut all = Vec::new();
            table.walk_servers(key, |server, _, tells_family| {
                all.push(Seen { server, tells_family });
            })?;
            Ok(all)
        })
    }

    fn daemons(&mut self) -> Result<Vec<SyncDaemon>, Error> {
        Table::daemons(self)
    }

    fn release(&mut self) -> String {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        release.trim().to_owned()
    }
}

impl Table for Netlink {
    fn info(&mut self) -> Result<Info, Error> {
        self.ask("read the IPVS version", cmd::GET_INFO, decode::info)
    }

    fn read(&mut self) -> Result<Vec<VirtualService>, Error> {
        let services = self.retrying(READ, |table| table.walk(|server, _| server))?;
        let virtual_service = |(service, _, destinations)| VirtualService { service, destinations };
        Ok(services.into_iter().map(virtual_service).collect())
    }

    fn read_stats(&mut self) -> Result<Vec<ServiceStatus>, Error> {
        let status = |destination, stats| DestinationStatus { destination, stats };
        let services = self.retrying(READ, |table| table.walk(status))?;
        let status =
            |(service, stats, destinations)| ServiceStatus { service, stats, destinations };
        Ok(services.into_iter().map(status).collect())
    }

    fn timeouts(&mut self) -> Result<Timeouts, Error> {
        self.ask("read the IPVS timeouts", cmd::GET_CONFIG, decode::timeouts)
    }

    fn daemons(&mut self) -> Result<Vec<SyncDaemon>, Error> {
        self.retrying("read the sync daemons", |table| {
            let mut daemons = Vec::new();
            table.socket.dump(
                cmd::GET_DAEMON,
                |_| {},
                |attributes| {
                    daemons.extend(decode::sync_daemon(attributes)?);
                    Ok(())
                },
            )?;
            Ok(daemons)
        })
    }

    fn apply(&mut self, changes: &[Change]) -> Vec<Failure> {
        let mut failures = Vec::new();
        let mut sound = Vec::with_capacity(changes.len());
        for (index, change) in changes.iter().enumerate() {
            match change.check() {
                Ok(()) => sound.push((index, change)),
                Err(error) => failures.push(Failure { index, error }),
            }
        }
        let mut newer = self.newer;
        failures.extend(newer.apply(self, &sound));
        self.newer = newer;
        failures.sort_by_key(|failure| failure.index);
        failures
    }
}
