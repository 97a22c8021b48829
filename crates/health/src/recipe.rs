//! What a check does: connect, exchange some bytes, or run a program.

use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The service that is assumed where nothing says how to check port 80.
const HTTP_REQUEST: &[u8] = b"GET / HTTP/1.0\r\n\r\n";
const HTTP_ANSWER: &[u8] = b"HTTP";

/// What is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Target {
    /// The real server's address.
    pub addr: IpAddr,
    /// Its port.
    pub port: u16,
    /// UDP instead of TCP.
    pub udp: bool,
}

impl Target {
    /// Address and port together.
    #[must_use]
    pub fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.addr, self.port)
    }
}

impl std::fmt::Display for Target {
    /// `A:P`, as in the log lines.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.socket().fmt(f)
    }
}

/// How something is checked. Two checks with equal target and recipe are one check.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Recipe {
    /// What to do.
    pub action: Action,
    /// Milliseconds from one check to the next, and the time limit of each; at least 1.
    pub interval_ms: u32,
}

impl Recipe {
    /// From one check to the next, and the time limit of each.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_millis(u64::from(self.interval_ms.max(1)))
    }
}

/// What a check does.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    /// Connect, send if there is something to send, and look at the answer if one is expected.
    Exchange {
        /// Bytes to send.
        send: Option<Vec<u8>>,
        /// What must come back.
        expect: Option<Expect>,
    },
    /// Run a program.
    Program {
        /// Its words; `%h` and `%p` stand for the server's address and port.
        words: Vec<Vec<u8>>,
        /// What it must print, one newline at its end aside; `None`: it must exit with status 0.
        expect: Option<Vec<u8>>,
    },
    /// Run a program for its output.
    Load {
        /// Its words, the server's address among them as `%h`.
        words: Vec<Vec<u8>>,
    },
}

/// What an answer must look like.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Expect {
    /// Anything.
    Any,
    /// It starts with these bytes.
    Prefix(Vec<u8>),
    /// This POSIX extended regular expression occurs in it.
    Regex(Vec<u8>),
}

/// The settings of a block or of a nanny's command line that make up a recipe.
#[derive(Debug, Clone, Default)]
pub struct Settings<'a> {
    /// `send_program`.
    pub program: Option<&'a [u8]>,
    /// `send`, as written.
    pub send: Option<&'a [u8]>,
    /// `expect`, as written.
    pub expect: Option<&'a [u8]>,
    /// `use_regex`.
    pub regex: bool,
    /// Take send and expect as they are, without expanding backslashes (nanny's `-T`).
    pub raw: bool,
    /// The virtual service is UDP.
    pub udp: bool,
    /// The port of the virtual service.
    pub virtual_port: u16,
    /// `timeout` in seconds; 0 counts as 1.
    pub interval: u32,
}

impl Settings<'_> {
    /// The recipe, and what is worth a line in the log about it.
    #[must_use]
    pub fn recipe(&self) -> (Recipe, Vec<String>) {
        let mut notes = Vec::new();
        let action = match self.program.map(split_words) {
            Some(words) if !words.is_empty() => self.program_action(words, &mut notes),
            _ => self.exchange_action(&mut notes),
        };
        (Recipe { action, interval_ms: self.interval.max(1).saturating_mul(1000) }, notes)
    }

    fn program_action(&self, words: Vec<Vec<u8>>, notes: &mut Vec<String>) -> Action {
        if let Some(send) = self.send {
            notes.push(format!(
                "External program use requested: ({}), IGNORING send string option ({})",
                String::from_utf8_lossy(self.program.unwrap_or_default()),
                String::from_utf8_lossy(send)
            ));
        }
        Action::Program { words, expect: self.expect.map(|e| self.expand(e)) }
    }

    fn exchange_action(&self, notes: &mut Vec<String>) -> Action {
        if self.send.is_none() && self.expect.is_none() && self.virtual_port == 80 {
            notes.push("no monitor configured, assuming web service on port 80".to_owned());
            return Action::Exchange {
                send: Some(HTTP_REQUEST.to_vec()),
                expect: Some(Expect::Prefix(HTTP_ANSWER.to_vec())),
            };
        }
        let send = self.send.map(|s| self.expand(s)).filter(|s| !s.is_empty());
        let expect = match self.expect {
            None | Some(b"") => (self.udp && send.is_some()).then_some(Expect::Any),
            Some(b"*") => Some(Expect::Any),
            Some(text) if self.regex => Some(Expect::Regex(self.expand(text))),
            Some(text) => Some(Expect::Prefix(self.expand(text))),
        };
        Action::Exchange { send, expect }
    }

    fn expand(&self, text: &[u8]) -> Vec<u8> {
        if self.raw { text.to_vec() } else { expand_escapes(text) }
    }
}

/// Splits at blanks, as programs are given in lvs.cf: there is no quoting inside.
#[must_use]
pub fn split_words(text: &[u8]) -> Vec<Vec<u8>> {
    text.split(|b| b" \t".contains(b)).filter(|w| !w.is_empty()).map(<[u8]>::to_vec).collect()
}

/// Expands `\\ \r \n \t \' \"`; any other backslash stays.
#[must_use]
pub fn expand_escapes(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        let expanded = match (byte, rest.peek()) {
            (b'\\', Some(b'r')) => Some(b'\r'),
            (b'\\', Some(b'n')) => Some(b'\n'),
            (b'\\', Some(b't')) => Some(b'\t'),
            (b'\\', Some(next @ (b'\\' | b'\'' | b'"'))) => Some(*next),
            _ => None,
        };
        if expanded.is_some() {
            rest.next();
        }
        out.push(expanded.unwrap_or(byte));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(settings: &Settings<'_>) -> (Option<Vec<u8>>, Option<Expect>) {
        match settings.recipe().0.action {
            Action::Exchange { send, expect } => (send, expect),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn escapes() {
        let cases: [(&[u8], &[u8]); 7] = [
            (b"GET / HTTP/1.0\\r\\n\\r\\n", b"GET / HTTP/1.0\r\n\r\n"),
            (b"a\\\\n", b"a\\n"),
            (b"\\t\\'\\\"", b"\t'\""),
            (b"\\x41", b"\\x41"),
            (b"end\\", b"end\\"),
            (b"", b""),
            (b"\\\\\\", b"\\\\"),
        ];
        for (written, meant) in cases {
            assert_eq!(expand_escapes(written), meant, "{}", written.escape_ascii());
        }
    }

    #[test]
    fn what_is_checked_where_nothing_is_said() {
        let port = |virtual_port| Settings { virtual_port, ..Settings::default() };
        let (send, expect) = exchange(&port(80));
        assert_eq!(send.as_deref(), Some(&b"GET / HTTP/1.0\r\n\r\n"[..]));
        assert_eq!(expect, Some(Expect::Prefix(b"HTTP".to_vec())));
        assert_eq!(port(80).recipe().1.len(), 1);
        assert_eq!(exchange(&port(81)), (None, None));
        assert_eq!(port(81).recipe().1, [""; 0]);
    }

    #[test]
    fn the_forms_of_expect() {
        let base = Settings { send: Some(b"x"), virtual_port: 25, ..Settings::default() };
        let with = |s: Settings<'_>| exchange(&s).1;
        let prefix = |b: &[u8]| Some(Expect::Prefix(b.to_vec()));
        assert_eq!(with(base.clone()), None);
        assert_eq!(with(Settings { udp: true, ..base.clone() }), Some(Expect::Any));
        assert_eq!(with(Settings { expect: Some(b"*"), ..base.clone() }), Some(Expect::Any));
        assert_eq!(with(Settings { expect: Some(b"2\\n"), ..base.clone() }), prefix(b"2\n"));
        assert_eq!(
            with(Settings { expect: Some(b"2\\n"), raw: true, ..base.clone() }),
            prefix(b"2\\n")
        );
        assert_eq!(
            with(Settings { expect: Some(b"^2"), regex: true, ..base }),
            Some(Expect::Regex(b"^2".to_vec()))
        );
    }

    #[test]
    fn a_program_wins_over_send() {
        let settings = Settings {
            program: Some(b" /bin/check  %h\t%p "),
            send: Some(b"x"),
            expect: Some(b"OK"),
            interval: 6,
            ..Settings::default()
        };
        let (recipe, notes) = settings.recipe();
        assert_eq!(
            recipe.action,
            Action::Program {
                words: vec![b"/bin/check".to_vec(), b"%h".to_vec(), b"%p".to_vec()],
                expect: Some(b"OK".to_vec())
            }
        );
        assert_eq!(recipe.interval(), Duration::from_secs(6));
        assert!(notes[0].contains("IGNORING send string option (x)"));
        assert_eq!(Settings::default().recipe().0.interval_ms, 1000);
    }
}
