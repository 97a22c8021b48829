//! The one interface to an IPVS table.

use std::fmt;

use crate::change::Change;
use crate::error::Error;
use crate::stats::ServiceStatus;
use crate::types::{SyncDaemon, Timeouts, VirtualService};

/// The kernel's IPVS, in general.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Info {
    /// The version of the IPVS code: major, minor, patch; 1.2.1 since 2004.
    pub version: (u8, u8, u8),
    /// The size of the connection table, in hash buckets.
    pub table_size: u32,
}

impl fmt::Display for Info {
    /// As the first line of `ipvsadm -L`: `IP Virtual Server version 1.2.1 (size=4096)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor, patch) = self.version;
        write!(f, "IP Virtual Server version {major}.{minor}.{patch} (size={})", self.table_size)
    }
}

/// A change that could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which: an index into the changes that were to be applied.
    pub index: usize,
    /// Why not.
    pub error: Error,
}

/// An IPVS table.
///
/// Every method returns within a bounded time.
pub trait Table {
    /// Version and size.
    ///
    /// # Errors
    /// When the table cannot be asked, see [`ErrorKind`](crate::ErrorKind).
    fn info(&mut self) -> Result<Info, Error>;

    /// The whole table, in no particular order.
    ///
    /// # Errors
    /// When the table cannot be asked, see [`ErrorKind`](crate::ErrorKind).
    fn read(&mut self) -> Result<Vec<VirtualService>, Error>;

    /// The whole table with statistics and connection counts, in no particular order.
    ///
    /// # Errors
    /// When the table cannot be asked, see [`ErrorKind`](crate::ErrorKind).
    fn read_stats(&mut self) -> Result<Vec<ServiceStatus>, Error>;

    /// The connection timeouts.
    ///
    /// # Errors
    /// When the table cannot be asked, see [`ErrorKind`](crate::ErrorKind).
    fn timeouts(&mut self) -> Result<Timeouts, Error>;

    /// The sync daemons that run: at most one of each [`Role`](crate::Role).
    ///
    /// # Errors
    /// When the table cannot be asked, see [`ErrorKind`](crate::ErrorKind).
    fn daemons(&mut self) -> Result<Vec<SyncDaemon>, Error>;

    /// Makes all the changes, in this order; a change that fails does not keep the following ones
    /// from being tried. Returns those that failed, by ascending index.
    ///
    /// Where [`Error::is_uncertain`] says so, a change may have been made all the same: read the
    /// table and [`plan`](crate::plan()) again.
    fn apply(&mut self, changes: &[Change]) -> Vec<Failure>;
}
