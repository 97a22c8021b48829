//! The rules of the pair, one by one: a node is brought into a state, something happens, and what it
//! does about it is compared with what it should.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod anything;
mod failures;
mod fos;
mod handover;
mod heartbeat;
mod links;
mod rig;
mod settings;
mod start;
