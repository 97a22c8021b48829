//! Reading lvs.cf again: at a signal, at an operator's word, and on an inactive node whenever the file
//! has changed, since lvsd would read the new one at activation.

use super::{Node, PATHS, RELOADED, settings};
use crate::decision::{Event, State};
use crate::load::{self, NAME, Setup};
use daemon::background::Task;
use daemon::poll;
use lvs_config::Config;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

/// What tells a file from what it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    /// The file as it is now; `None` while there is none.
    pub(super) fn of(file: &Path) -> Option<Stamp> {
        let found = fs::metadata(file).ok()?;
        Some(Stamp {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
        })
    }
}

/// A configuration that is being read by a thread of its own, since names in it may have to be
/// looked up.
pub(super) type Reloading = Task<(Option<Stamp>, Result<Config, String>)>;

impl Node {
    /// Begins to read the configuration, and has lvsd do the same.
    pub(super) fn reload(&mut self) {
        if self.reloading.is_some() {
            self.reload_again = true;
            return;
        }
        log::info!("rereading configuration file");
        self.service.reload();
        let file = self.options.programs.file.clone();
        let begun = Task::start(move || (Stamp::of(&file), load::read(&file)));
        match begun.and_then(|task| self.poller.add(&task, RELOADED, poll::READ).map(|()| task)) {
            Ok(task) => self.reloading = Some(task),
            Err(error) => self.refuse(&format!("cannot read the configuration: {error}")),
        }
    }

    /// Reads the file again if it has changed and this node is not active. (On an active node it is
    /// the operator who says when.)
    pub(super) fn look_at_file(&mut self) {
        if self.mode == super::Mode::Idle && self.reloading.is_none() && self.has_new_file() {
            self.reload();
        }
    }

    /// Whether the file is another one than was read last. (One that is missing for the moment is
    /// not.)
    pub(super) fn has_new_file(&mut self) -> bool {
        let stamp = Stamp::of(&self.options.programs.file);
        let new = stamp.is_some() && stamp != self.stamp;
        self.stamp = stamp.or(self.stamp);
        new
    }

    pub(super) fn on_reloaded(&mut self, now: Instant) {
        let Some(task) = self.reloading.take() else { return };
        self.poller.remove(&task);
        match task.take() {
            Some((stamp, result)) => {
                self.stamp = stamp.or(self.stamp);
                self.net.update();
                let own = self.net.mirror().addresses().map(|a| a.addr).collect();
                let file = self.options.programs.file.clone();
                match result.and_then(|config| load::setup(&config, &own, &file)) {
                    Ok(setup) => self.take_over(setup, now),
                    Err(error) => self.refuse(&error),
                }
            }
            None => self.refuse("reading the configuration failed"),
        }
        if std::mem::take(&mut self.reload_again) {
            self.reload();
        }
        daemon::memory::trim();
    }

    fn refuse(&mut self, error: &str) {
        let prefix = format!("{NAME}: ");
        for line in error.lines() {
            log::error!("{}", line.strip_prefix(&prefix).unwrap_or(line));
        }
        log::error!("the configuration stays as it was");
        self.reload_error = Some(error.to_owned());
    }

    fn take_over(&mut self, setup: Setup, now: Instant) {
        if setup.service != self.setup.service {
            let (old, new) = (self.setup.service, setup.service);
            return self.refuse(&format!(
                "service = {new}: it was {old} when pulse was started, which must be stopped and \
                 started again for that"
            ));
        }
        self.reload_error = None;
        if setup == self.setup {
            return;
        }
        for finding in &setup.findings {
            log::warn!("{finding}");
        }
        log::info!("configuration {} is in force", setup.serial_no);
        self.setup = setup;
        self.paths.follow(&self.setup, &self.poller, PATHS);
        self.addresses.follow(&self.setup.claims, &self.setup.own());
        self.unsettled = true;
        // What is new among the addresses, the guard must know before they are raised.
        self.tell_holdings(now);
        self.sync_due = true;
        let forced = self.state.as_ref().is_some_and(|state| state.settings().forced);
        self.feed(Event::Reconfigured(settings(&self.setup, forced)));
        self.follow_links();
        if self.state.as_ref().is_some_and(is_at_rest) {
            self.service.wish(self.wish_at_rest());
        }
    }
}

/// Whether nothing but what an inactive node has is to run: no preparation, no monitor.
fn is_at_rest(state: &State) -> bool {
    use crate::decision::Activity::Inactive;
    use lvs_config::ServiceKind::Lvs;
    state.activity() == Inactive && state.settings().service == Lvs
}
