//! Another lvs.cf while lvsd runs.

use super::{Director, RELOADED, open_table};
use crate::load::{Loaded, load};
use daemon::poll;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::Instant;

/// A configuration that is being read by a thread of its own, since names in it may have to be
/// looked up.
pub(super) struct Reloading {
    result: mpsc::Receiver<Result<Loaded, String>>,
    /// Readable, then closed, when the result is there.
    done: UnixStream,
}

impl Director {
    /// Begins to read the configuration again.
    pub(super) fn reload(&mut self) {
        if self.reloading.is_some() {
            self.reload_again = true;
            return;
        }
        log::info!("rereading configuration file");
        match self.begin_reload() {
            Ok(reloading) => self.reloading = Some(reloading),
            Err(error) => log::error!("cannot read the configuration now: {error}"),
        }
    }

    fn begin_reload(&self) -> io::Result<Reloading> {
        let (done, tell) = UnixStream::pair()?;
        let (send, result) = mpsc::channel();
        let file = self.options.file.clone();
        self.poller.add(&done, RELOADED, poll::READ)?;
        std::thread::Builder::new().name("reload".to_owned()).spawn(move || {
            let _ = send.send(load(&file));
            drop(tell);
        })?;
        Ok(Reloading { result, done })
    }

    pub(super) fn on_reloaded(&mut self, now: Instant) {
        let Some(reloading) = self.reloading.take() else { return };
        self.poller.remove(&reloading.done);
        match reloading.result.try_recv() {
            Ok(Ok(loaded)) => self.take_over(loaded, now),
            Ok(Err(error)) => {
                for line in error.lines() {
                    log::error!("{}", line.strip_prefix("lvs: ").unwrap_or(line));
                }
                log::error!("the configuration stays as it was");
                self.reload_error = Some(error);
            }
            Err(_) => log::error!("reading the configuration failed; it stays as it was"),
        }
        if std::mem::take(&mut self.reload_again) {
            self.reload();
        }
        daemon::memory::trim();
    }

    fn take_over(&mut self, loaded: Loaded, now: Instant) {
        if self.ending.is_some() {
            return;
        }
        for problem in &loaded.problems {
            log::error!("{problem}");
        }
        if loaded.site.ipvsadm != self.site.ipvsadm {
            match open_table(loaded.site.ipvsadm.as_deref()) {
                Ok(table) => self.table = table,
                Err(error) => {
                    log::error!("{error}; the configuration stays as it was");
                    self.reload_error = Some(error.to_string());
                    return;
                }
            }
        }
        self.reload_error = None;
        self.serial_no = loaded.serial_no;
        log::info!("configuration {} is in force", loaded.serial_no);
        let before = self.site.timeouts;
        let mut site = loaded.site;
        let blocks = std::mem::take(&mut site.blocks);
        self.site = site;
        if !self.live.is_standby() {
            self.set_timeouts(before);
        }
        let turnover = self.live.replace(blocks, now);
        self.settle(now);
        self.carry_out(turnover);
    }
}
