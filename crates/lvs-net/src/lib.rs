//! This machine's network as the suite needs it: interfaces and whether they have a carrier, IPv4
//! addresses with their labels, the default gateway, and ARP.

mod address;
pub mod arp;
mod error;
mod link;
mod message;
mod route;
mod rtnetlink;
mod watch;

pub use address::{
    Address, AddressChange, LABEL_LIMIT, broadcast_of, classful_prefix, interface_of, mask_of,
    prefix_of,
};
pub use error::{Error, ErrorKind};
pub use link::Link;
pub use route::Gateway;
pub use rtnetlink::{Failure, Netlink};
pub use watch::{Notice, Watch};
