//! Heartbeat, failover and virtual addresses of a pair of directors.
//!
//! [`decision`] decides, without clock and I/O; [`node`] is the loop around it, which joins it with the
//! heartbeat ([`paths`], [`wire`]), the addresses ([`addresses`], [`arps`], [`net`]), the program that
//! does the work ([`service`]), the operator's commands ([`commands`]) and questions ([`status`]), and
//! the [`guard`], which gives up what the node [holds](holdings) when pulse cannot.

pub mod addresses;
pub mod arps;
pub mod commands;
pub mod decision;
pub mod guard;
pub mod holdings;
pub mod links;
pub mod load;
pub mod net;
pub mod node;
mod output;
pub mod paths;
pub mod probe;
pub mod service;
pub mod status;
pub mod sync;
pub mod wire;
