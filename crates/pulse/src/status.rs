//! What pulse tells over its control socket, as JSON.

use serde::{Deserialize, Serialize};

/// The control socket's usual place.
pub const SOCKET: &str = "/run/piranha/pulse.sock";

/// A request: one line of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase")]
pub enum Request {
    /// The state of the pair as this node sees it: answered with [`Status`].
    Status,
    /// Hand over to the partner: answered with [`Answer`] when the partner is active, or when it is
    /// clear that it will not be.
    Handover,
    /// Read the configuration again, as SIGHUP: answered with [`Answer`] when it is begun.
    Reload,
}

/// The answer to an order, or to a request that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// Done, with a word about it.
    Ok(String),
    /// Not done, and why.
    Error(String),
}

/// The state of the pair as this node sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The suite's version.
    pub version: String,
    /// pulse's pid.
    pub pid: u32,
    /// The configuration file.
    pub file: String,
    /// Its serial_no.
    pub serial_no: i64,
    /// `lvs` or `fos`.
    pub service: String,
    /// This node.
    pub node: Node,
    /// The other one; `None` where the configuration has no backup node.
    pub partner: Option<Partner>,
    /// The ways on which heartbeats go.
    pub paths: Vec<PathStatus>,
    /// The addresses that move with the active node, in the file's order.
    pub addresses: Vec<AddressStatus>,
    /// lvsd or fos, if it runs.
    pub child: Option<Child>,
    /// The IPVS connection sync daemon: `master on eth1`, `backup on eth1`, or why it does not run;
    /// `None` where the configuration wants none.
    pub syncdaemon: Option<String>,
    /// Why the last reload changed nothing, if it failed.
    pub reload_error: Option<String>,
    /// Milliseconds between two heartbeats.
    pub keepalive_ms: u64,
    /// Milliseconds of silence after which the partner is taken for dead.
    pub deadtime_ms: u64,
    /// Milliseconds since pulse started.
    pub uptime_ms: u64,
}

/// This node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// `master` (it bears the primary address) or `backup`.
    pub role: String,
    /// `inactive`, `activating`, `active`, `deactivating`.
    pub state: String,
    /// Milliseconds since it became so.
    pub since_ms: u64,
    /// Why it became so.
    pub reason: String,
    /// Whether it could serve: no failure is known.
    pub able: bool,
    /// The failure that keeps it from serving.
    pub failure: Option<String>,
    /// Whether the watched NICs have carrier; true where none is watched.
    pub links_ok: bool,
}

/// The partner, as far as its heartbeats tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partner {
    /// `active`, `inactive`, `unreachable` (silent for deadtime), or `unknown` (not heard yet).
    pub state: String,
    /// Milliseconds since it became so, by its own account.
    pub since_ms: Option<u64>,
    /// Why it became so, by its own account.
    pub reason: Option<String>,
    /// `master` or `backup`, by its own account.
    pub role: Option<String>,
    /// Whether it could serve, by its own account.
    pub able: Option<bool>,
    /// Whether it is a pulse that tells nothing but active or inactive, as the original.
    pub original: bool,
    /// Milliseconds since its last heartbeat; `None`: none has come.
    pub heard_ms: Option<u64>,
}

/// A way on which heartbeats go, with what has happened on it since pulse started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathStatus {
    /// `public` or `private`.
    pub name: String,
    /// This node's address.
    pub local: String,
    /// The partner's address, if it has one there.
    pub partner: Option<String>,
    /// UDP port on both sides.
    pub port: u16,
    /// Heartbeats sent.
    pub sent: u64,
    /// Heartbeats that could not be sent.
    pub unsent: u64,
    /// Heartbeats received.
    pub received: u64,
    /// Of these, how many came more than half a keepalive interval later than they should.
    pub late: u64,
    /// Datagrams from somebody else.
    pub foreign: u64,
    /// Datagrams from the partner that are no heartbeats.
    pub bad: u64,
    /// Milliseconds since the last heartbeat on this path; `None`: none has come.
    pub heard_ms: Option<u64>,
    /// Why nothing can be sent or received here now, if so.
    pub error: Option<String>,
}

/// An address that moves with the active node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressStatus {
    /// With its prefix length: `10.0.0.100/24`.
    pub address: String,
    /// The interface label: `eth0:1`.
    pub label: String,
    /// Whether this node bears it.
    pub up: bool,
    /// Whether pulse has put it there, or taken it over.
    pub ours: bool,
    /// Why it is not up though it should be.
    pub error: Option<String>,
}

/// A program that pulse runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// Its path.
    pub program: String,
    /// Its pid.
    pub pid: i32,
    /// lvsd: `loading`, `running`, `standby`, `prepared`, `ending`; fos: `monitoring`, `running`, `ending`.
    pub state: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_are_plain_json() {
        let cases = [
            (r#"{"command":"status"}"#, Request::Status),
            (r#"{"command":"handover"}"#, Request::Handover),
            (r#"{"command":"reload"}"#, Request::Reload),
        ];
        for (text, request) in cases {
            assert_eq!(serde_json::from_str::<Request>(text).unwrap(), request);
            assert_eq!(serde_json::to_string(&request).unwrap(), text);
        }
        for wrong in [r#"{"command":"halt"}"#, "status", "{}"] {
            assert!(serde_json::from_str::<Request>(wrong).is_err(), "{wrong}");
        }
        let answer = Answer::Error("no partner".to_owned());
        assert_eq!(serde_json::to_string(&answer).unwrap(), r#"{"error":"no partner"}"#);
    }
}
