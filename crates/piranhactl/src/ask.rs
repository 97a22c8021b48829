//! Speaking with the daemons.

use crate::{Failure, Outcome};
use daemon::control;
use health::state::Force;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::path::Path;
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a handover may take: the partner prepares, the addresses go, the partner takes them.
const HANDOVER: Duration = Duration::from_secs(60);

/// Where the daemons listen.
#[derive(Clone, Debug)]
pub(crate) struct Sockets {
    /// lvsd's.
    pub(crate) lvsd: String,
    /// pulse's.
    pub(crate) pulse: String,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Silence {
    /// Nobody listens there.
    pub(crate) not_running: bool,
    /// For people.
    pub(crate) reason: String,
}

impl From<Silence> for Failure {
    fn from(silence: Silence) -> Failure {
        Failure::message(silence.reason)
    }
}

/// A daemon that can be asked.
#[derive(Clone, Copy, Debug)]
struct Asked<'a> {
    name: &'a str,
    socket: &'a str,
    option: &'a str,
}

impl Sockets {
    fn lvsd(&self) -> Asked<'_> {
        Asked { name: "lvsd", socket: &self.lvsd, option: "--control" }
    }

    fn pulse(&self) -> Asked<'_> {
        Asked { name: "pulse", socket: &self.pulse, option: "--pulse-control" }
    }

    /// lvsd's status.
    pub(crate) fn lvsd_status(&self) -> Result<lvsd::status::Status, Silence> {
        self.lvsd().ask(&lvsd::status::Request::Status, PATIENCE)
    }

    /// pulse's status.
    pub(crate) fn pulse_status(&self) -> Result<pulse::status::Status, Silence> {
        self.pulse().ask(&pulse::status::Request::Status, PATIENCE)
    }
}

impl Asked<'_> {
    fn ask<T: DeserializeOwned>(
        self,
        request: &impl Serialize,
        limit: Duration,
    ) -> Result<T, Silence> {
        let line = String::from_utf8(health::wire::line(request)).unwrap_or_default();
        let text = control::request(Path::new(self.socket), &line, limit)
            .map_err(|error| self.silence(&error))?;
        serde_json::from_str(&text).map_err(|error| Silence {
            not_running: false,
            reason: format!("{}'s answer is not understood ({error}); another version?", self.name),
        })
    }

    fn silence(self, error: &io::Error) -> Silence {
        let Asked { name, socket, option } = self;
        let not_running =
            matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
        let why = match error.kind() {
            _ if not_running => format!("{name} is not running, or listens elsewhere ({option})"),
            io::ErrorKind::PermissionDenied => {
                format!("permission denied: run as root or as a member of group {}", control::GROUP)
            }
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                format!("{name} is there, but does not answer")
            }
            _ => format!("{name}: {error}"),
        };
        Silence { not_running, reason: format!("{socket}: {why}") }
    }
}

/// An operator's order for a real server.
pub(crate) fn force(sockets: &Sockets, server: &str, to: Force) -> Outcome {
    let request = lvsd::status::Request::Force { server: server.to_owned(), to };
    said(sockets.lvsd().ask(&request, PATIENCE)?)
}

/// Makes the daemons read the configuration again: pulse, which tells lvsd, or lvsd alone.
pub(crate) fn reload(sockets: &Sockets) -> Outcome {
    match sockets.pulse().ask(&pulse::status::Request::Reload, PATIENCE) {
        Ok(pulse::status::Answer::Ok(word)) => Ok(format!("{word}\n")),
        Ok(pulse::status::Answer::Error(why)) => Err(Failure::message(why)),
        Err(silence) if silence.not_running => {
            said(sockets.lvsd().ask(&lvsd::status::Request::Reload, PATIENCE)?)
        }
        Err(silence) => Err(silence.into()),
    }
}

/// Hands over to the partner.
pub(crate) fn handover(sockets: &Sockets) -> Outcome {
    match sockets.pulse().ask(&pulse::status::Request::Handover, HANDOVER)? {
        pulse::status::Answer::Ok(word) => Ok(format!("{word}\n")),
        pulse::status::Answer::Error(why) => Err(Failure::message(why)),
    }
}

fn said(answer: lvsd::status::Answer) -> Outcome {
    match answer {
        lvsd::status::Answer::Ok(word) => Ok(format!("{word}\n")),
        lvsd::status::Answer::Error(why) => Err(Failure::message(why)),
    }
}
