//! `check --system`: whether this machine is as its lvs.cf needs it.
//!
//! [`gather`] finds out the facts, [`judge`] says what is wrong with them.

mod facts;
mod finding;
mod firewall;
mod gather;
mod judge;

pub(crate) use facts::Pulse;
pub(crate) use finding::Finding;

use lvs_config::Config;
use std::path::Path;

/// What is wrong with this machine, the graver first.
pub(crate) fn check(config: &Config, file: &Path, pulse: Option<Pulse>) -> Vec<Finding> {
    judge::judge(config, &gather::gather(config, file, pulse))
}
