//! Standby: the servers are checked, but the table is another director's, until whoever has started
//! lvsd says otherwise. SIGUSR1: take the table; SIGUSR2: leave it. Each is answered, once done, by a
//! report of the state that is reached, and so is one that changes nothing.

use super::Director;
use ipvs::ErrorKind;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long after its start a standby waits for the servers' first verdicts before it says that it
/// could take over.
const FIRST_CHECKS: Duration = Duration::from_secs(5);
/// How many entries are put into the table at a time, about: what one message to the kernel holds,
/// and little enough for signals and requests not to wait.
const AT_ONCE: usize = 512;

impl Director {
    /// SIGUSR1, SIGUSR2 or both. Of both the order is not known; since they alternate, together they
    /// end where they began.
    pub(super) fn on_hold_signals(&mut self, take: bool, leave: bool, now: Instant) {
        if !self.options.standby {
            log::warn!(
                "signals USR1 and USR2 ignored: they are for an lvsd started with --standby, or for \
                 a nanny of one server"
            );
            return;
        }
        if self.ending.is_some() {
            return;
        }
        match (take, leave, self.live.is_standby()) {
            (true, false, true) => self.take_table(now),
            (false, true, false) => self.leave_table(),
            // Taking over ends with a report.
            (_, _, false) if self.live.is_taking() => {}
            (_, _, false) => self.report_all(),
            (_, _, true) => self.await_first_checks(),
        }
    }

    /// Begins to take over the table, which is emptied.
    fn take_table(&mut self, now: Instant) {
        log::info!("standby is over: taking over the IPVS table");
        self.known_by = None;
        self.clear();
        self.live.take(now);
    }

    /// Puts the next virtual servers into the table, with the servers that are known to be up.
    pub(super) fn take_more(&mut self, now: Instant) {
        let addresses = self.live.take_more(AT_ONCE);
        self.settle(now);
        self.report_addresses(&addresses);
        if self.live.is_holding() {
            self.report_ready();
            self.start_classics(now);
        }
    }

    /// Takes our services out of the table and goes on checking.
    fn leave_table(&mut self) {
        log::info!("standby: leaving the IPVS table; the servers are checked on");
        self.remove_services();
        self.restarts.clear();
        for id in self.classics.ids() {
            self.classics.end(id, false);
        }
        self.await_first_checks();
    }

    /// Takes our services out of the table.
    pub(super) fn remove_services(&mut self) {
        let changes = self.live.release();
        for failure in self.make(&changes) {
            if failure.error.kind() != ErrorKind::NoSuchService {
                log::error!("{}", failure.error);
            }
        }
    }

    // ------------------------------------------------------------------ reports

    /// Reports all virtual addresses, then that everything is ready.
    pub(super) fn report_all(&mut self) {
        let addresses = self.live.addresses();
        self.report_addresses(&addresses);
        self.report_ready();
    }

    fn report_addresses(&mut self, addresses: &[IpAddr]) {
        for address in addresses {
            self.reports.tell(&format!("X_PIRANHA_ADDRESS={address}"));
        }
    }

    fn report_ready(&mut self) {
        self.reports.tell("READY=1");
        if let Err(error) = daemon::ready::post(daemon::ready::LVS_SEMAPHORE) {
            log::debug!("semaphore lvs: {error}");
        }
    }

    /// Has it reported that this standby could take over, as soon as it can: which it always can when
    /// the first checks have had their time.
    pub(super) fn await_first_checks(&mut self) {
        self.known_by = Some(self.began + FIRST_CHECKS);
    }

    /// Reports that this standby could take over.
    pub(super) fn report_standby(&mut self) {
        self.known_by = None;
        self.reports.tell("X_PIRANHA_STANDBY=1");
    }
}
