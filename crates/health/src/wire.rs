//! How lvsd and its pooled nanny talk: JSON, one message a line, over a socket pair.

use crate::recipe::Recipe;
use crate::state::{Force, Health};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Longest line in bytes. A group's is the longest: its texts, each as long as lvs.cf has it, stand in
/// it as numbers.
pub const LONGEST: usize = 64 * 1024 * 1024;

/// What the servers of a virtual server have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its number; a group of the same number is replaced and its servers keep their states.
    pub id: u32,
    /// The block's name, for messages.
    pub name: String,
    /// Address and port, or mark, of the virtual service, for messages.
    pub virtual_server: String,
    /// The check.
    pub recipe: Recipe,
    /// Servers speak UDP.
    pub udp: bool,
    /// Checks in a row that bring a failed server back.
    pub reentry: u32,
    /// A failed server stays in the table with weight 0.
    pub quiesce: bool,
    /// The words of the load program, `%h` among them, if one is used.
    pub load: Option<Vec<Vec<u8>>>,
}

/// A real server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its number; a server of the same number is changed and keeps its state.
    pub id: u32,
    /// Its group's number.
    pub group: u32,
    /// Its address.
    pub addr: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its configured weight.
    pub weight: u32,
    /// Its state as it was known to a nanny before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<Known>,
    /// What an operator has ordered.
    #[serde(default, skip_serializing_if = "is_auto")]
    pub force: Force,
}

/// A server's state as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Whether it was to serve.
    pub up: bool,
    /// Its weight in the table; `None`: not in the table.
    pub weight: Option<u32>,
}

fn is_auto(force: &Force) -> bool {
    *force == Force::Auto
}

/// From lvsd to nanny.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Add or change a group.
    Group(Group),
    /// Add or change a server.
    Server(Server),
    /// Forget a server.
    Forget(u32),
    /// Forget a group without servers.
    Ungroup(u32),
    /// An operator's order for a server.
    Force(u32, Force),
    /// Give a [`Detail`] of every server, then [`News::End`] with this number.
    Query(u64),
}

/// From nanny to lvsd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum News {
    /// The first message: this nanny understands orders.
    Hello,
    /// A server's state has changed or is known for the first time.
    State(State),
    /// An answer to [`Order::Query`].
    Detail(Detail),
    /// The end of an answer.
    End(u64),
}

/// What lvsd needs to know of a server to keep the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The server's number.
    pub id: u32,
    /// Whether it is to serve.
    pub up: bool,
    /// The weight to stand in the table; `None`: not in the table.
    pub weight: Option<u32>,
}

/// What an operator wants to know of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detail {
    /// The server's number.
    pub id: u32,
    /// What the checks have found.
    pub health: Health,
    /// What an operator has ordered.
    pub force: Force,
    /// Milliseconds since it went up or down.
    pub since_ms: u64,
    /// How long the last check took, in microseconds.
    pub took_us: Option<u32>,
    /// Why the last check failed, if it did.
    pub error: Option<String>,
}

/// A message as a line, without its end.
#[must_use]
pub fn line(message: &impl Serialize) -> Vec<u8> {
    // These types have no maps with odd keys and no fallible parts, so that this cannot fail.
    serde_json::to_vec(message).unwrap_or_default()
}

/// A line as a message.
///
/// # Errors
/// When it is none of this type.
pub fn message<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(line)
}
