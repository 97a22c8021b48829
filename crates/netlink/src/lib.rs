//! Netlink (netlink(7), RFC 3549), as far as all its families have it in common: writing messages
//! and attributes, reading them without trusting any length, and a socket whose every wait has a
//! limit. What a message means is for the crates that know its family.

mod socket;
pub mod wire;

pub use socket::{Outcome, Socket, Trouble};
