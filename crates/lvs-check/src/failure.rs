//! Why a check failed, in words.

use nix::errno::Errno;
use std::fmt;
use std::io;
use std::net::SocketAddr;

/// What a check has found, in words, or why it failed.
pub type Verdict = Result<String, Failure>;

/// Longest excerpt of an answer that is shown, in bytes.
const EXCERPT: usize = 80;

/// Why a check failed. The texts say what was tried on what.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The name has no address.
    #[error("look up {host}: {reason}")]
    Lookup {
        /// The name.
        host: String,
        /// Why.
        reason: String,
    },
    /// No connection.
    #[error("connect to {peer}: {}", said(error))]
    Connect {
        /// Where to.
        peer: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// A connection that came to nothing.
    #[error("{what} {peer}: {}", said(error))]
    Broken {
        /// `send to`, `receive from`, `TLS handshake with`.
        what: &'static str,
        /// Who.
        peer: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// TLS was refused, by the server or by us.
    #[error("TLS handshake with {peer}: {reason}")]
    Tls {
        /// Who.
        peer: SocketAddr,
        /// Why.
        reason: String,
    },
    /// The server has answered, but not as it should.
    #[error("{peer}: {reason}")]
    Answer {
        /// Who.
        peer: SocketAddr,
        /// What is wrong.
        reason: String,
    },
    /// The server is not to blame.
    #[error("{0}")]
    Here(String),
}

impl Failure {
    /// An answer that is not as it should be.
    pub fn answer(peer: SocketAddr, reason: impl Into<String>) -> Failure {
        Failure::Answer { peer, reason: reason.into() }
    }

    /// Whether another try may fare better: no connection in time, or one that broke before the
    /// answer was complete. A refused connection and a wrong answer are certain.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Failure::Connect { error, .. } => error.kind() == io::ErrorKind::TimedOut,
            Failure::Broken { what, .. } => *what != HANDSHAKE,
            _ => false,
        }
    }
}

/// What failed, for [`Failure::Broken`].
pub const SEND: &str = "send to";
/// What failed, for [`Failure::Broken`].
pub const RECEIVE: &str = "receive from";
/// What failed, for [`Failure::Broken`].
pub const HANDSHAKE: &str = "TLS handshake with";

/// An error of the system without its number.
pub(crate) fn said(error: &io::Error) -> String {
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::TimedOut, _) => "no answer within the time limit".to_owned(),
        (io::ErrorKind::UnexpectedEof, _) => "closed before the answer was complete".to_owned(),
        (_, Some(number)) => Errno::from_raw(number).desc().to_owned(),
        _ => error.to_string(),
    }
}

/// The beginning of foreign bytes, with all but printable ASCII escaped.
pub struct Shown<'a>(pub &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = &self.0[..self.0.len().min(EXCERPT)];
        let more = if cut.len() < self.0.len() { "…" } else { "" };
        write!(f, "\"{}{more}\"", cut.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let peer = SocketAddr::from(([10, 1, 0, 11], 443));
        let refused = io::Error::from_raw_os_error(Errno::ECONNREFUSED as i32);
        let closed = io::Error::from(io::ErrorKind::UnexpectedEof);
        let cases = [
            (
                Failure::Connect { peer, error: refused },
                "connect to 10.1.0.11:443: Connection refused",
            ),
            (
                Failure::Broken { what: RECEIVE, peer, error: closed },
                "receive from 10.1.0.11:443: closed before the answer was complete",
            ),
            (
                Failure::Broken { what: SEND, peer, error: io::ErrorKind::TimedOut.into() },
                "send to 10.1.0.11:443: no answer within the time limit",
            ),
            (Failure::answer(peer, "no"), "10.1.0.11:443: no"),
        ];
        for (failure, text) in cases {
            assert_eq!(failure.to_string(), text);
        }
    }

    #[test]
    fn foreign_bytes_are_harmless_and_short() {
        assert_eq!(Shown(b"a\x1b[2J\xff\"").to_string(), "\"a\\x1b[2J\\xff\\\"\"");
        assert_eq!(Shown(&[b'a'; 5000]).to_string().chars().count(), EXCERPT + 3);
    }
}
