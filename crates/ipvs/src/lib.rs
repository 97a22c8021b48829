//! The Linux kernel's IPVS table: what is in it, how to read it, how to change it.
//!
//! - [`Service`], [`Destination`], [`VirtualService`]: virtual servers and their real servers, in
//!   the kernel's own terms. [`SyncDaemon`] and [`Timeouts`]: the rest of what IPVS is told.
//! - [`Change`]: one change to the table, and the ipvsadm command it stands for.
//! - [`plan`]: the changes that lead from one table to another, in the order that keeps the
//!   services answering.
//! - [`Table`]: the table itself. [`Netlink`] speaks to the kernel, [`Ipvsadm`] runs a program
//!   that is, or behaves like, ipvsadm(8), [`Memory`] is a table for tests and simulations.
//! - [`conformance`]: the suite of checks that all three pass.
//!
//! ```
//! use ipvs::{Change, Destination, Forwarding, Memory, Service, ServiceKey, Table, VirtualService};
//! # use ipvs::{Protocol, SchedulerName};
//!
//! let key = ServiceKey::Address {
//!     protocol: Protocol::Tcp,
//!     addr: "10.0.0.100".parse()?,
//!     port: 80,
//! };
//! let wanted = [VirtualService {
//!     service: Service::new(key, SchedulerName::new("wlc")?),
//!     destinations: vec![Destination::new("10.0.0.3".parse()?, 80, Forwarding::Masquerade, 1)],
//! }];
//!
//! let mut table = Memory::new();
//! let changes = ipvs::plan(&table.read()?, &wanted);
//! assert_eq!(changes[0].ipvsadm_args().join(" "), "-A -t 10.0.0.100:80 -s wlc");
//! assert!(table.apply(&changes).is_empty());
//! assert!(ipvs::plan(&table.read()?, &wanted).is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod change;
pub mod conformance;
mod error;
mod external;
mod memory;
mod netlink;
mod plan;
mod process;
mod stats;
mod table;
mod types;

pub use change::Change;
pub use error::{Error, ErrorKind};
pub use external::Ipvsadm;
pub use memory::Memory;
pub use netlink::{Netlink, NetlinkOptions};
pub use plan::plan;
pub use stats::{Counters, DestinationStats, DestinationStatus, ServiceStats, ServiceStatus};
pub use table::{Failure, Info, Table};
pub use types::{
    Checksum, Destination, EngineName, Family, Forwarding, Granularity, InvalidName, KernelName,
    Persistence, Protocol, Role, SchedulerName, Service, ServiceFlags, ServiceKey, SyncDaemon,
    Timeouts, Tunnel, VirtualService,
};
