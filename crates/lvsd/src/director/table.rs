//! The table: the one way for a change to reach it, and the look whether it is as it should be.

use super::Director;
use ipvs::{Change, ErrorKind, Failure, Ipvsadm, Netlink, Table, Timeouts};
use std::time::{Duration, Instant};

/// How often the table is read to see whether somebody else has changed it.
const AUDIT: Duration = Duration::from_secs(3);
/// A table whose reading takes long is read less often: this many times what a reading takes.
const AUDIT_COST: u32 = 50;
/// How soon the table is read after a change whose effect is not known.
const AUDIT_SOON: Duration = Duration::from_millis(200);
/// Opens the table in the way the configuration asks for, and makes sure that there is one.
///
/// # Errors
/// No IPVS in the kernel, no permission, no such program.
pub fn open_table(ipvsadm: Option<&str>) -> Result<Box<dyn Table>, ipvs::Error> {
    let mut table: Box<dyn Table> = match ipvsadm {
        Some(program) => Box::new(Ipvsadm::new(program)),
        None => Box::new(Netlink::open()?),
    };
    table.info()?;
    Ok(table)
}

impl Director {
    /// Brings the table to what it should be: the one way for a change to reach it.
    pub(super) fn settle(&mut self, now: Instant) {
        let changes = self.live.changes(now);
        if !changes.is_empty() {
            self.apply(&changes, now);
        }
    }

    /// Makes changes, each with a line in a verbose log; gives back those that failed.
    pub(super) fn make(&mut self, changes: &[Change]) -> Vec<Failure> {
        for change in changes {
            log::debug!("running command {}", command_line(&self.site.ipvsadm_path, change));
        }
        self.table.apply(changes)
    }

    pub(super) fn apply(&mut self, changes: &[Change], now: Instant) {
        let failures = self.make(changes);
        if !failures.is_empty() && failures.iter().any(|f| is_surprise(f.error.kind())) {
            // The table is not what it was taken for.
            self.audit_at = self.audit_at.min(now + AUDIT_SOON);
        }
        self.live.settle(failures.iter().filter_map(|f| failed(changes, f)));
    }

    /// Reads the table and mends what somebody else has changed.
    pub(super) fn audit(&mut self, now: Instant) {
        match self.table.read() {
            Ok(table) => {
                self.table_error = None;
                let lost = self.live.observe(&table);
                let repairs = self.live.changes(now);
                if !repairs.is_empty() {
                    let ours = repairs.iter().filter(|c| !self.live.is_known_problem(c)).count();
                    if let (true, Some(first)) = (ours > 0, repairs.first()) {
                        log::warn!(
                            "somebody else has changed the IPVS table; {ours} repairs, the first: {}",
                            command_line(&self.site.ipvsadm_path, first)
                        );
                    }
                    self.apply(&repairs, now);
                }
                self.restart_classics(lost, now);
            }
            Err(error) => {
                let text = error.to_string();
                if self.table_error.as_ref() != Some(&text) {
                    log::error!("{text}");
                }
                self.table_error = Some(text);
            }
        }
        let cost = now.elapsed() * AUDIT_COST;
        self.audit_at = Instant::now() + AUDIT.max(cost);
    }

    /// Empties the table, other people's services included, and sets the IPVS timeouts. From now on
    /// the table is read again and again.
    pub(super) fn clear(&mut self) {
        self.set_timeouts(Timeouts::default());
        for failure in self.make(&[Change::Flush]) {
            log::error!("{}", failure.error);
        }
        self.audit_at = Instant::now() + AUDIT;
    }

    /// Sets the IPVS timeouts where they differ from what was set `before`.
    pub(super) fn set_timeouts(&mut self, before: Timeouts) {
        let t = self.site.timeouts;
        if t == before || t == Timeouts::default() {
            return;
        }
        for failure in self.make(&[Change::SetTimeouts(t)]) {
            log::error!(
                "ipvsadm failed to set timeouts ({} {} {}): {}",
                t.tcp,
                t.tcp_fin,
                t.udp,
                failure.error
            );
        }
    }
}

/// A failure with the change it is about and its words.
fn failed<'a>(changes: &'a [Change], failure: &Failure) -> Option<(&'a Change, String)> {
    Some((changes.get(failure.index)?, failure.error.to_string()))
}

/// Whether an error says that the table is not what it was taken for.
fn is_surprise(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Exists
            | ErrorKind::NoSuchService
            | ErrorKind::NoSuchDestination
            | ErrorKind::Overrun
            | ErrorKind::TimedOut
            | ErrorKind::Malformed
    )
}

/// A change as the command it stands for, each word in quotes.
#[must_use]
pub fn command_line(ipvsadm: &str, change: &Change) -> String {
    quoted(std::iter::once(ipvsadm.to_owned()).chain(change.ipvsadm_args()))
}

/// Words in quotes, with blanks between them.
pub fn quoted(words: impl Iterator<Item = String>) -> String {
    words.map(|w| format!("\"{w}\"")).collect::<Vec<_>>().join(" ")
}
