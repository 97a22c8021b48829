//! The programs that are started, and how.

use crate::holdings::Process;
use crate::output::{Output, Streams};
use daemon::child::{self, Asked, Child};
use daemon::poll::Poller;
use nix::sys::signal::{SigSet, Signal};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long lvsd may take to end.
pub(super) const LVSD_GRACE: Duration = Duration::from_secs(5);

/// How programs are started.
#[derive(Debug, Clone)]
pub struct Programs {
    /// lvsd's path.
    pub lvsd: String,
    /// fos's path.
    pub fos: String,
    /// lvs.cf.
    pub file: PathBuf,
    /// Pass `-v`.
    pub verbose: bool,
    /// pulse stays on the terminal, and so do they.
    pub nodaemon: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Job {
    /// Loads the table when it starts.
    Lvsd,
    /// Waits for SIGUSR1.
    LvsdStandby,
    FosActive,
    FosMonitor,
}

/// A program that was started.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) child: Child,
    /// For who has to end it when this process is gone.
    pub(super) process: Option<Process>,
    pub(super) output: Option<Output>,
}

impl Job {
    pub(super) fn name(self) -> &'static str {
        match self {
            Job::Lvsd | Job::LvsdStandby => "lvsd",
            Job::FosActive | Job::FosMonitor => "fos",
        }
    }

    /// How long it may take to end.
    pub(super) fn grace(self) -> Duration {
        match self {
            Job::Lvsd | Job::LvsdStandby => LVSD_GRACE,
            Job::FosActive | Job::FosMonitor => fos::supervisor::END_LIMIT,
        }
    }
}

impl Programs {
    pub(super) fn path(&self, job: Job) -> &str {
        match job {
            Job::Lvsd | Job::LvsdStandby => &self.lvsd,
            Job::FosActive | Job::FosMonitor => &self.fos,
        }
    }

    fn words(&self, job: Job) -> Vec<String> {
        let mut words = vec![self.path(job).to_owned()];
        words.extend(match job {
            Job::Lvsd => None,
            Job::LvsdStandby => Some("--standby".to_owned()),
            Job::FosActive => Some("--active".to_owned()),
            Job::FosMonitor => Some("--monitor".to_owned()),
        });
        words.push(if self.nodaemon { "--nodaemon" } else { "--nofork" }.to_owned());
        words.extend(["-c".to_owned(), self.file.display().to_string()]);
        words.extend(self.verbose.then(|| "-v".to_owned()));
        words
    }

    /// The command line that makes an active node of this one.
    #[must_use]
    pub fn active_words(&self, service: lvs_config::ServiceKind) -> Vec<String> {
        self.words(match service {
            lvs_config::ServiceKind::Lvs => Job::Lvsd,
            lvs_config::ServiceKind::Fos => Job::FosActive,
        })
    }

    /// Starts a program. Its standard error is read: `token` is the event's.
    pub(super) fn start(
        &self,
        job: Job,
        inbox: &Path,
        poller: &Poller,
        token: u64,
    ) -> io::Result<Started> {
        let words = self.words(job);
        log::debug!("running command \"{}\"", words.join("\" \""));
        let mut command = Command::new(self.path(job));
        command.args(&words[1..]).stdin(Stdio::null()).env("NOTIFY_SOCKET", inbox);
        let output = match self.nodaemon {
            true => None,
            // What it says before it has its log.
            false => Some(Output::of(&mut command, Streams::Errors, job.name(), poller, token)?),
        };
        if job == Job::LvsdStandby {
            hold_back_signals(&mut command);
        }
        // When pulse is gone the guard ends it, and not before it has taken the addresses down: an lvsd
        // that empties the table while they are up has clients refused and their connections reset.
        let child = child::spawn_untied(&mut command, Asked::Child)?;
        let process = Process::find(child.pid());
        Ok(Started { child, process, output })
    }
}

/// Blocks the signals that a standby is led by, until it handles them: it may have to take over
/// before it has come so far. (The suite's daemons unblock what they handle.)
#[allow(unsafe_code)]
fn hold_back_signals(command: &mut Command) {
    let led_by = SigSet::from_iter([Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGHUP]);
    // SAFETY: between fork and exec only pthread_sigmask(3) is called, which is async-signal-safe and
    // takes no memory. The standard library has no other way to set a child's mask.
    unsafe {
        command.pre_exec(move || Ok(led_by.thread_block()?));
    }
}
