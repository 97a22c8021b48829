//! What an active node holds, and how it is given up when pulse itself cannot do it any more: the
//! guard does so when pulse is gone, a new pulse does so for one that left without cleaning up.

use ipvs::{Change, NetlinkOptions, Role, Table};
use lvs_net::{Address, AddressChange, ErrorKind, Netlink};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

/// Where a pulse writes down what it holds.
pub const STATE_FILE: &str = "/run/piranha/pulse.state";
/// How long the kernel's IPVS may take for an answer.
const IPVS_LIMIT: Duration = Duration::from_millis(500);

/// What an active node holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Holdings {
    /// Addresses that are up, or about to be.
    pub addresses: Vec<Held>,
    /// lvsd or fos.
    pub child: Option<Process>,
    /// Whether the IPVS table is lvsd's.
    pub table: bool,
    /// Whether the connection sync daemon runs as master.
    pub sync_master: bool,
}

/// An address that is up, or about to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The address.
    pub addr: Ipv4Addr,
    /// The interface label.
    pub label: String,
}

/// A process, told from a later one with the same pid by when it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its pid, and its process group's.
    pub pid: i32,
    /// Clock ticks from the start of the system to its own (proc_pid_stat(5), field 22).
    pub started: u64,
}

impl Process {
    /// The process with this pid; `None` when there is none.
    #[must_use]
    pub fn find(pid: i32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, started) = state_and_start(&stat)?;
        (state != "Z" && state != "X").then_some(Process { pid, started })
    }

    /// Whether it still runs.
    #[must_use]
    pub fn runs(&self) -> bool {
        Process::find(self.pid) == Some(*self)
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        if self.runs() {
            let _ = kill(Pid::from_raw(self.pid), Signal::SIGTERM);
        }
    }

    /// Ends it, and what is in its process group.
    pub fn kill(&self) {
        if self.runs() {
            let _ = killpg(Pid::from_raw(self.pid), Signal::SIGKILL);
        }
    }
}

/// Fields 3 and 22 of a process's stat. Field 2, its name, is in parentheses and may hold anything.
fn state_and_start(stat: &str) -> Option<(&str, u64)> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

impl Holdings {
    /// Whether there is nothing to give up.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.child.is_none() && !self.table && !self.sync_master
    }

    /// Those of these addresses that are held, as changes that remove them.
    #[must_use]
    pub fn removals(&self, present: &[Address]) -> Vec<AddressChange> {
        let held = |address: &Address| {
            self.addresses.iter().any(|h| h.addr == address.addr && h.label == address.label)
        };
        present.iter().filter(|a| held(a)).cloned().map(AddressChange::Remove).collect()
    }

    /// Takes the addresses down; gives back how many that were.
    ///
    /// # Errors
    /// When the kernel cannot be asked at all, or refuses one of them: the first reason, after all
    /// were tried.
    pub fn drop_addresses(&self) -> Result<usize, lvs_net::Error> {
        if self.addresses.is_empty() {
            return Ok(0);
        }
        let mut netlink = Netlink::open()?;
        let changes = self.removals(&netlink.addresses()?);
        let failures = netlink.apply(&changes);
        match failures.into_iter().find(|f| f.error.kind() != ErrorKind::Missing) {
            Some(failure) => Err(failure.error),
            None => Ok(changes.len()),
        }
    }

    /// Empties the table and stops the sync daemon, as far as they are held.
    pub fn drop_table(&self) {
        let flush = self.table.then_some(Change::Flush);
        let stop = self.sync_master.then_some(Change::StopDaemon(Role::Master));
        let changes: Vec<Change> = flush.into_iter().chain(stop).collect();
        if !changes.is_empty() {
            change_table(&changes);
        }
    }

    /// Reads what an earlier pulse has written down. Nothing, or what cannot be read, is nothing.
    #[must_use]
    pub fn read(path: &Path) -> Holdings {
        fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// Writes it down: the whole of it is there afterwards, or what was there before.
    ///
    /// # Errors
    /// When the file cannot be written; the text names it.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let named =
            |e: io::Error| io::Error::new(e.kind(), format!("state file {}: {e}", path.display()));
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(named)?;
        }
        let new = path.with_extension("state.new");
        let text = serde_json::to_vec(self).map_err(io::Error::from).map_err(named)?;
        fs::File::create(&new).and_then(|mut file| file.write_all(&text)).map_err(named)?;
        fs::rename(&new, path).map_err(named)
    }
}

/// The kernel's table, with an answer in time or none.
///
/// # Errors
/// When there is no IPVS, or no permission.
pub fn open_table() -> Result<ipvs::Netlink, ipvs::Error> {
    ipvs::Netlink::open_with(NetlinkOptions { time_limit: IPVS_LIMIT, ..NetlinkOptions::default() })
}

/// Makes changes to the table; what fails is logged. A daemon that is to stop and does not run is
/// no failure.
pub fn change_table(changes: &[Change]) {
    match open_table() {
        Ok(mut table) => {
            for failure in table.apply(changes) {
                if failure.error.kind() != ipvs::ErrorKind::NoDaemon {
                    log::error!("{}", failure.error);
                }
            }
        }
        Err(error) => log::error!("{error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(addr: [u8; 4], prefix: u8, label: &str) -> Address {
        Address {
            index: 2,
            addr: addr.into(),
            prefix,
            broadcast: None,
            label: label.to_owned(),
            secondary: false,
        }
    }

    #[test]
    fn only_what_is_held_is_removed() {
        let held = Holdings {
            addresses: vec![Held { addr: [10, 0, 0, 100].into(), label: "eth0:1".into() }],
            ..Holdings::default()
        };
        let present = [
            address([10, 0, 0, 1], 24, "eth0"),
            address([10, 0, 0, 100], 24, "eth0:1"),
            address([10, 0, 0, 100], 32, "eth0:1"),
            address([10, 0, 0, 100], 24, "eth1"),
            address([10, 0, 0, 101], 24, "eth0:1"),
        ];
        let removed: Vec<Address> =
            held.removals(&present).iter().map(|c| c.address().clone()).collect();
        assert_eq!(removed, present[1..3]);
    }

    #[test]
    fn what_was_written_is_read_and_nonsense_is_nothing() {
        let dir = std::env::temp_dir().join(format!("holdings-{}", std::process::id()));
        let path = dir.join("deep/pulse.state");
        assert!(Holdings::read(&path).is_empty());
        let held = Holdings {
            addresses: vec![Held { addr: [10, 0, 0, 100].into(), label: "eth0:1".into() }],
            child: Some(Process { pid: 7, started: 8 }),
            table: true,
            sync_master: true,
        };
        held.write(&path).unwrap();
        assert_eq!(Holdings::read(&path), held);
        fs::write(&path, "{\"addresses\":[{\"addr\":\"10.0.0.1").unwrap();
        assert!(Holdings::read(&path).is_empty());
        fs::write(&path, "{}").unwrap();
        assert!(Holdings::read(&path).is_empty());
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_process_is_known_by_its_start() {
        let own = Process::find(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(own.runs());
        assert!(!Process { started: own.started + 1, ..own }.runs());
        let stat = "12 (a) b) S 1 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 10";
        assert_eq!(state_and_start(stat), Some(("S", 4711)));
        assert_eq!(state_and_start("12 (a"), None);
        assert_eq!(state_and_start("12 (a) S 1"), None);
    }
}
