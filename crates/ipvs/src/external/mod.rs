//! The table by way of ipvsadm(8), or of a program that takes its place.

mod parse;

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;

use crate::change::Change;
use crate::error::{Error, ErrorKind};
use crate::process::{self, Output, Trouble};
use crate::stats::{Counters, DestinationStats, DestinationStatus, ServiceStats, ServiceStatus};
use crate::table::{Failure, Info, Table};
use crate::types::{Destination, SyncDaemon, Timeouts, VirtualService};
use parse::{Listed, Misread};

/// The table by way of an external program: once for each change, with
/// [`Change::ipvsadm_args`], and up to five times to read the table.
///
/// What ipvsadm cannot tell is not read: a [`LocalNode`](crate::Forwarding::LocalNode) server is
/// saved by it as directly routed. A read takes several runs and is no snapshot.
#[derive(Clone, Debug)]
pub struct Ipvsadm {
    program: PathBuf,
    time_limit: Duration,
}

impl Ipvsadm {
    /// Uses this program, without looking for it in `$PATH` or giving it to a shell. It is killed
    /// unless it ends within 10 seconds.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Ipvsadm { program: program.into(), time_limit: Duration::from_secs(10) }
    }

    /// Gives the program another time to end.
    #[must_use]
    pub fn with_time_limit(mut self, time_limit: Duration) -> Self {
        self.time_limit = time_limit;
        self
    }

    fn run(&self, args: &[String], action: &dyn ToString) -> Result<Output, Error> {
        let program = self.program.display();
        process::run(&self.program, args, self.time_limit).map_err(|trouble| {
            let kind = match trouble {
                Trouble::TimedOut(_) => ErrorKind::TimedOut,
                Trouble::Io(_) | Trouble::TooMuch => ErrorKind::Program,
            };
            Error::new(kind, &action.to_string(), format!("{program}: {trouble}"))
        })
    }

    fn change(&self, change: &Change) -> Result<(), Error> {
        change.check()?;
        let output = self.run(&change.ipvsadm_args(), change)?;
        if output.status.success() {
            return Ok(());
        }
        let said = self.complaint(&output);
        Err(match errno_of(&said) {
            Some(errno) => {
                let error = Error::refused(change, errno);
                Error::new(error.kind(), change, format!("{} ({said})", error.reason()))
            }
            None => Error::new(kind_of(&said), change, said),
        })
    }

    /// Runs the program for its output.
    fn query(&self, args: &[&str], action: &str) -> Result<String, Error> {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let output = self.run(&args, &action)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = self.complaint(&output);
        Err(match errno_of(&said) {
            Some(errno) => {
                let error = Error::unreadable(&action, errno);
                Error::new(error.kind(), &action, format!("{} ({said})", error.reason()))
            }
            None => Error::new(kind_of(&said), &action, said),
        })
    }

    /// What a failed program said, on one line.
    fn complaint(&self, output: &Output) -> String {
        let said = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
        let said = String::from_utf8_lossy(said.get(..said.len().min(1000)).unwrap_or_default());
        let said: Vec<&str> = said.split_whitespace().collect();
        let end = match (output.status.code(), output.status.signal()) {
            (Some(code), _) => format!("status {code}"),
            (None, Some(signal)) => format!("killed by signal {signal}"),
            (None, None) => "ended".to_owned(),
        };
        format!("{}: {end}: {}", self.program.display(), said.join(" "))
    }

    fn misread(&self, action: &str, misread: &Misread) -> Error {
        let reason = format!("output of {} {misread}", self.program.display());
        Error::new(ErrorKind::Malformed, &action, reason)
    }

    /// One of the lists that `ipvsadm -L` prints.
    fn list(&self, args: &[&str]) -> Result<Listed, Error> {
        let text = self.query(args, READ)?;
        parse::list(&text).map_err(|misread| self.misread(READ, &misread))
    }

    /// The table, and the list with thresholds and connections.
    fn table(&self) -> Result<(Vec<VirtualService>, Listed), Error> {
        let saved = self.query(&["-S", "-n"], READ)?;
        let mut table = parse::save(&saved).map_err(|misread| self.misread(READ, &misread))?;
        let limits = self.list(&["-L", "-n", "--thresholds"])?;
        for virtual_service in &mut table {
            let key = virtual_service.service.key;
            for server in &mut virtual_service.destinations {
                let [upper, lower, ..] = limits.server(&key, &server.key());
                server.upper_threshold = narrow(upper);
                server.lower_threshold = narrow(lower);
            }
        }
        Ok((table, limits))
    }
}

const READ: &str = "read the IPVS table";

/// 32 bits of a printed number: the kernel's counters of these have no more.
fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The errno behind what ipvsadm prints (`ipvs_strerror()`).
fn errno_of(said: &str) -> Option<Errno> {
    const MESSAGES: &[(&str, Errno)] = &[
        ("Permission denied", Errno::EPERM),
        ("Service already exists", Errno::EEXIST),
        ("Destination already exists", Errno::EEXIST),
        ("Daemon has already run", Errno::EEXIST),
        ("No such service", Errno::ESRCH),
        ("Service not defined", Errno::ESRCH),
        ("No daemon is running", Errno::ESRCH),
        ("No such destination", Errno::ENOENT),
        ("Scheduler not found", Errno::ENOENT),
        ("Scheduler or persistence engine not found", Errno::ENOENT),
        ("Invalid operation", Errno::EINVAL),
        ("Numerical result out of range", Errno::ERANGE),
        ("No such device", Errno::ENODEV),
        ("Address family not supported", Errno::EAFNOSUPPORT),
        ("Operation not supported", Errno::EOPNOTSUPP),
    ];
    let found = MESSAGES.iter().find(|(text, _)| said.contains(text));
    found.map(|(_, errno)| *errno)
}

/// The kind of a complaint with no errno behind it.
fn kind_of(said: &str) -> ErrorKind {
    if said.contains("Can't initialize ipvs") { ErrorKind::NoIpvs } else { ErrorKind::Program }
}

const fn counters(
    [connections, packets_in, packets_out, bytes_in, bytes_out]: [u64; 5],
) -> Counters {
    Counters { connections, packets_in, packets_out, bytes_in, bytes_out }
}

impl Table for Ipvsadm {
    fn info(&mut self) -> Result<Info, Error> {
        let action = "read the IPVS version";
        let text = self.query(&["-L", "-n"], action)?;
        parse::info(&text).map_err(|misread| self.misread(action, &misread))
    }

    fn read(&mut self) -> Result<Vec<VirtualService>, Error> {
        Ok(self.table()?.0)
    }

    fn read_stats(&mut self) -> Result<Vec<ServiceStatus>, Error> {
        let (table, limits) = self.table()?;
        let totals = self.list(&["-L", "-n", "--stats", "--exact"])?;
        let rates = self.list(&["-L", "-n", "--rate", "--exact"])?;
        let persistent = self.list(&["-L", "-n", "--persistent-conn"])?;
        let status = |virtual_service: VirtualService| {
            let service = virtual_service.service;
            let server = |destination: Destination| {
                let place = destination.key();
                let [_, _, active, inactive, _] = limits.server(&service.key, &place);
                let [_, persistent, ..] = persistent.server(&service.key, &place);
                let stats = DestinationStats {
                    totals: counters(totals.server(&service.key, &place)),
                    rates: counters(rates.server(&service.key, &place)),
                    active: narrow(active),
                    inactive: narrow(inactive),
                    persistent: narrow(persistent),
                };
                DestinationStatus { destination, stats }
            };
            let stats = ServiceStats {
                totals: counters(totals.service(&service.key)),
                rates: counters(rates.service(&service.key)),
            };
            let destinations = virtual_service.destinations.into_iter().map(server).collect();
            ServiceStatus { service, stats, destinations }
        };
        Ok(table.into_iter().map(status).collect())
    }

    fn timeouts(&mut self) -> Result<Timeouts, Error> {
        let action = "read the IPVS timeouts";
        let text = self.query(&["-L", "--timeout"], action)?;
        parse::timeouts(&text).map_err(|misread| self.misread(action, &misread))
    }

    fn daemons(&mut self) -> Result<Vec<SyncDaemon>, Error> {
        let action = "read the sync daemons";
        let text = self.query(&["-L", "--daemon"], action)?;
        parse::daemons(&text).map_err(|misread| self.misread(action, &misread))
    }

    fn apply(&mut self, changes: &[Change]) -> Vec<Failure> {
        let failures = changes.iter().enumerate().filter_map(|(index, change)| {
            self.change(change).err().map(|error| Failure { index, error })
        });
        failures.collect()
    }
}

#[cfg(test)]
mod tests;
