//! What the programs of a node send to syslog.
//!
//! Each node has a `/dev/log` of its own, so that tests running side by side, and two directors in
//! one test, do not read each other's lines. The form is RFC 3164's, as syslog(3) of the C library
//! writes it to that socket: `<PRI>Mmm dd hh:mm:ss IDENT[PID]: TEXT`.

use std::{
    fmt, fs, io,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    board::{Board, TimedOut},
    namespace::Mount,
};

/// A line that was sent to syslog.
#[derive(Clone, Debug)]
pub struct SyslogLine {
    /// When it arrived.
    pub at: Instant,
    /// 0 (emerg) to 7 (debug), RFC 5424 section 6.2.1; 3 is err, 4 warning, 5 notice, 6 info.
    pub severity: u8,
    /// 3 is daemon, 16 to 23 are local0 to local7.
    pub facility: u8,
    /// The name of the program.
    pub ident: String,
    /// Its process id, if it sent one.
    pub pid: Option<u32>,
    /// The message.
    pub text: String,
}

impl fmt::Display for SyslogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { severity, facility, ident, text, .. } = self;
        match self.pid {
            Some(pid) => write!(f, "{facility}.{severity} {ident}[{pid}]: {text}"),
            None => write!(f, "{facility}.{severity} {ident}: {text}"),
        }
    }
}

/// The syslog of a node.
#[derive(Debug)]
pub struct Syslog {
    lines: Arc<Board<Vec<SyslogLine>>>,
    path: PathBuf,
    ended: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Syslog {
    /// The socket, and how to show it to the node at `/dev/log`.
    pub(crate) fn new(dir: &Path) -> io::Result<(Self, Option<Mount>)> {
        let log = Path::new("/dev/log");
        // systemd makes /dev/log a link into /run, which every node has for itself.
        let in_run = fs::read_link(log).ok().filter(|target| target.starts_with("/run"));
        let (path, mount) = match in_run {
            Some(target) => {
                (dir.join("root").join(target.strip_prefix("/").unwrap_or(&target)), None)
            }
            None => {
                if !log.exists() {
                    // Something for the mount to cover. Nothing listens there.
                    fs::write(log, "")?;
                }
                let from = dir.join("dev-log");
                (from.clone(), Some(Mount { from, at: log.to_owned() }))
            }
        };
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        let socket = UnixDatagram::bind(&path)?;
        let lines = Arc::new(Board::<Vec<SyslogLine>>::default());
        let ended = Arc::new(AtomicBool::new(false));
        let (board, end) = (Arc::clone(&lines), Arc::clone(&ended));
        let reader = thread::Builder::new().name("syslog".to_owned()).spawn(move || {
            let mut buffer = vec![0; 65_536];
            while let Ok(length) = socket.recv(&mut buffer) {
                if end.load(Ordering::Acquire) {
                    break;
                }
                let line = parse(buffer.get(..length).unwrap_or_default());
                board.change(|lines| lines.push(line));
            }
        })?;
        Ok((Self { lines, path, ended, reader: Some(reader) }, mount))
    }

    /// All that came so far.
    #[must_use]
    pub fn lines(&self) -> Vec<SyslogLine> {
        self.lines.look().clone()
    }

    /// How many lines so far contain `text`.
    #[must_use]
    pub fn count(&self, text: &str) -> usize {
        self.lines.look().iter().filter(|line| line.text.contains(text)).count()
    }

    /// Waits for the first line for which `wanted` holds; one that came already counts.
    ///
    /// # Errors
    /// None came within `limit`.
    pub fn wait(
        &self,
        wanted: impl Fn(&SyslogLine) -> bool,
        limit: Duration,
    ) -> Result<SyslogLine, TimedOut> {
        self.lines
            .wait(limit, |lines| lines.iter().find(|line| wanted(line)).cloned())
            .ok_or_else(|| self.timed_out("the line awaited", limit))
    }

    /// Waits for the first line that contains `text`; one that came already counts.
    ///
    /// # Errors
    /// None came within `limit`.
    pub fn wait_for(&self, text: &str, limit: Duration) -> Result<SyslogLine, TimedOut> {
        self.wait_count(text, 1, limit)
    }

    /// Waits for the `count`th line (from 1) that contains `text`, counted from the start.
    ///
    /// # Errors
    /// There were not so many within `limit`.
    pub fn wait_count(
        &self,
        text: &str,
        count: usize,
        limit: Duration,
    ) -> Result<SyslogLine, TimedOut> {
        let nth = count.saturating_sub(1);
        self.lines
            .wait(limit, |lines| {
                lines.iter().filter(|line| line.text.contains(text)).nth(nth).cloned()
            })
            .ok_or_else(|| self.timed_out(&format!("{text:?} ({count}.)"), limit))
    }

    fn timed_out(&self, what: &str, limit: Duration) -> TimedOut {
        let seen: String = self.lines().iter().map(|line| format!("{line}\n")).collect();
        TimedOut(format!("syslog: no {what} within {limit:?}; there was:\n{seen}"))
    }
}

impl Drop for Syslog {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // Any datagram wakes the reader. If this cannot be sent, the reader is left to itself: it
        // holds nothing but its socket.
        let woken = UnixDatagram::unbound().and_then(|s| s.send_to(b"end", &self.path)).is_ok();
        if let Some(reader) = self.reader.take().filter(|_| woken) {
            // It does not panic.
            let _ = reader.join();
        }
    }
}

/// Reads what it can: a line without priority, time or name is all text.
fn parse(datagram: &[u8]) -> SyslogLine {
    let whole = String::from_utf8_lossy(datagram);
    let whole = whole.trim_end_matches(['\0', '\n']);
    let (priority, rest) = whole
        .strip_prefix('<')
        .and_then(|rest| rest.split_once('>'))
        .and_then(|(number, rest)| Some((number.parse::<u8>().ok()?, rest)))
        // RFC 3164 section 4.3.3: without one, user.notice.
        .unwrap_or((13, whole));
    let rest = without_time(rest);
    let (tag, text) = rest.split_once(": ").unwrap_or(("", rest));
    let (ident, pid) = match tag.strip_suffix(']').and_then(|tag| tag.split_once('[')) {
        Some((ident, pid)) => (ident, pid.parse().ok()),
        None => (tag, None),
    };
    SyslogLine {
        at: Instant::now(),
        severity: priority % 8,
        facility: priority / 8,
        ident: ident.to_owned(),
        pid,
        text: text.to_owned(),
    }
}

/// Without the leading `Mmm dd hh:mm:ss `.
fn without_time(text: &str) -> &str {
    match text.split_at_checked(16) {
        Some((time, rest)) if time.ends_with(' ') && time.matches(':').count() == 2 => rest,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_forms_in_use() {
        type Case = (&'static [u8], u8, u8, &'static str, Option<u32>, &'static str);
        let cases: [Case; 5] = [
            (b"<30>Nov 23 05:01:02 nanny[42]: up: 1", 3, 6, "nanny", Some(42), "up: 1"),
            (b"<27>Nov  3 05:01:02 lvsd: no\n\0", 3, 3, "lvsd", None, "no"),
            (b"<134>pulse[7]: without time", 16, 6, "pulse", Some(7), "without time"),
            (b"nothing at all", 1, 5, "", None, "nothing at all"),
            (b"<999>x", 1, 5, "", None, "<999>x"),
        ];
        for (bytes, facility, severity, ident, pid, text) in cases {
            let line = parse(bytes);
            assert_eq!((line.facility, line.severity), (facility, severity), "{bytes:?}");
            assert_eq!((line.ident.as_str(), line.pid), (ident, pid), "{bytes:?}");
            assert_eq!(line.text, text, "{bytes:?}");
        }
    }
}
