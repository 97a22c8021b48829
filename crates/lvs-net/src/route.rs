//! Routes.

use std::net::Ipv4Addr;

/// Where packets go that no other route is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gateway {
    /// The router's address.
    pub via: Ipv4Addr,
    /// The number of the interface that leads there.
    pub index: u32,
}
