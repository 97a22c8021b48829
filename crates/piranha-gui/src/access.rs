//! The access log, in the common log format of web servers: one line a request.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The log's name in its directory.
pub const NAME: &str = "access_log";

/// What a line tells.
#[derive(Debug)]
pub struct Entry {
    /// Who asked.
    pub from: IpAddr,
    /// As whom, where the password was right.
    pub user: Option<String>,
    /// When.
    pub at: Timestamp,
    /// `GET`.
    pub method: String,
    /// The path and what follows, as it was asked for.
    pub target: String,
    /// The answer's status.
    pub status: u16,
    /// The answer's length in bytes, without headers.
    pub bytes: u64,
}

/// The log file.
#[derive(Debug)]
pub struct AccessLog {
    path: PathBuf,
    file: Mutex<Option<File>>,
}

impl AccessLog {
    /// Opens the log in `directory`. A log that cannot be opened is not worth a page that is down: that
    /// is said once, and nothing is written.
    #[must_use]
    pub fn open(directory: &Path) -> Self {
        let log = Self { path: directory.join(NAME), file: Mutex::default() };
        log.reopen();
        log
    }

    /// Opens the file anew, after logrotate(8) has renamed it.
    pub fn reopen(&self) {
        let opened = OpenOptions::new().append(true).create(true).open(&self.path);
        if let Err(error) = &opened {
            log::warn!("open {}: {error}; requests are not logged there", self.path.display());
        }
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = opened.ok();
    }

    /// The file, for whoever has to give it to another user.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a line.
    pub fn write(&self, entry: &Entry) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = file.as_mut() else { return };
        // Whole in one call, so that lines stay lines however many write.
        if let Err(error) = open.write_all(line(entry, &TimeZone::system()).as_bytes()) {
            log::warn!("write {}: {error}; no more until it is reopened", self.path.display());
            *file = None;
        }
    }
}

fn line(entry: &Entry, zone: &TimeZone) -> String {
    let Entry { from, user, at, method, target, status, bytes } = entry;
    let user = user.as_deref().map_or_else(|| "-".to_owned(), quoted);
    let at = at.to_zoned(zone.clone()).strftime("%d/%b/%Y:%H:%M:%S %z");
    let from = from.to_canonical();
    let (method, target) = (quoted(method), quoted(target));
    format!("{from} - {user} [{at}] \"{method} {target} HTTP/1.1\" {status} {bytes}\n")
}

/// What a client wrote, so that it cannot end the field or the line.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            ' '..='~' => out.push(character),
            other => out.extend(other.escape_default()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_in_the_common_log_format() {
        let entry = Entry {
            from: "192.0.2.7".parse().unwrap(),
            user: Some("pira\"nha".to_owned()),
            at: Timestamp::from_second(1_700_000_000).unwrap(),
            method: "GET".to_owned(),
            target: "/secure/\"\n\u{1b}x".to_owned(),
            status: 200,
            bytes: 17,
        };
        assert_eq!(
            line(&entry, &TimeZone::UTC),
            "192.0.2.7 - pira\\\"nha [14/Nov/2023:22:13:20 +0000] \
             \"GET /secure/\\\"\\n\\u{1b}x HTTP/1.1\" 200 17\n"
        );
    }

    #[test]
    fn a_rotated_log_is_begun_anew() {
        let directory = tempfile::tempdir().unwrap();
        let log = AccessLog::open(directory.path());
        let entry = |target: &str| Entry {
            from: "192.0.2.7".parse().unwrap(),
            user: None,
            at: Timestamp::UNIX_EPOCH,
            method: "GET".to_owned(),
            target: target.to_owned(),
            status: 401,
            bytes: 0,
        };
        log.write(&entry("/1"));
        let rotated = directory.path().join("access_log.1");
        std::fs::rename(log.path(), &rotated).unwrap();
        log.write(&entry("/2"));
        log.reopen();
        log.write(&entry("/3"));
        let lines = |path: &Path| std::fs::read_to_string(path).unwrap().lines().count();
        assert_eq!((lines(&rotated), lines(log.path())), (2, 1));
    }

    #[test]
    fn no_log_is_no_reason_to_fail() {
        let log = AccessLog::open(Path::new("/nonexistent"));
        log.write(&Entry {
            from: "192.0.2.7".parse().unwrap(),
            user: None,
            at: Timestamp::UNIX_EPOCH,
            method: "GET".to_owned(),
            target: "/".to_owned(),
            status: 200,
            bytes: 0,
        });
    }
}
