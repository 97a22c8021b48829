//! What a child writes, as lines of the log.

use daemon::lines::{Lines, Reading};
use daemon::poll::{self, Poller};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

/// Longest line; what is longer is not read any further.
const LONGEST: usize = 4096;
/// Most lines of one child that reach the log.
const MOST: usize = 200;

/// The output of a child.
#[derive(Debug)]
pub(crate) struct Output {
    lines: Lines,
    token: u64,
    label: String,
    logged: usize,
}

/// Which of its outputs are to be heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Streams {
    /// Standard output and standard error.
    Both,
    /// Standard error; standard output goes nowhere.
    Errors,
}

impl Output {
    /// Has `command` write to us. Its lines are logged behind `label`.
    ///
    /// # Errors
    /// When there are no descriptors to be had.
    pub(crate) fn of(
        command: &mut Command,
        streams: Streams,
        label: &str,
        poller: &Poller,
        token: u64,
    ) -> io::Result<Output> {
        let (ours, theirs) = UnixStream::pair()?;
        let lines = Lines::new(ours, LONGEST)?;
        command.stdout(match streams {
            Streams::Both => Stdio::from(OwnedFd::from(theirs.try_clone()?)),
            Streams::Errors => Stdio::null(),
        });
        command.stderr(Stdio::from(OwnedFd::from(theirs)));
        poller.add(&lines, token, poll::READ)?;
        Ok(Output { lines, token, label: label.to_owned(), logged: 0 })
    }

    /// Its event's token.
    #[must_use]
    pub(crate) fn token(&self) -> u64 {
        self.token
    }

    /// Logs what has come. False when nothing more will.
    pub(crate) fn read(&mut self) -> bool {
        let reading = self.lines.fill();
        while let Some(line) = self.lines.next_line() {
            let text = String::from_utf8_lossy(&line);
            if text.trim().is_empty() {
                continue;
            }
            self.logged += 1;
            match self.logged.cmp(&MOST) {
                std::cmp::Ordering::Less => log::info!("{}: {text}", self.label),
                std::cmp::Ordering::Equal => log::info!("{}: it says more", self.label),
                std::cmp::Ordering::Greater => {}
            }
        }
        matches!(reading, Ok(Reading::Open))
    }
}
