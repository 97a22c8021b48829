//! What can be in the way.

use std::io;
use std::path::PathBuf;

use atomic_file::{Failure, Step};
use lvs_config::EditError;
use nix::unistd::{Group, User, getegid, geteuid};

use crate::Snapshot;

/// The file is not the one that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// What is there now; `None`: the file is gone.
    pub current: Option<Snapshot>,
}

/// Why something was not done. Where it was a save, lvs.cf is as it was.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else has changed, replaced or removed the file since it was read.
    #[error("{}", changed(.0))]
    ChangedUnderneath(Box<Changed>),
    /// There is no lvs.cf.
    #[error("there is no {}: make it, or bring a previous version back", .0.display())]
    Missing(PathBuf),
    /// There is something else.
    #[error("{} is {what}, not a configuration file: move it away", .path.display())]
    NotAFile {
        /// The file's path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// A file could not be read.
    #[error("read {}: {source}", .path.display())]
    Read {
        /// The file's path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file's permissions do not let this process change it.
    #[error(
        "{0} is not writable for user {user}; as root: chgrp {group} {0} && chmod g+w {0}",
        .path.display(), user = user(), group = group()
    )]
    NotWritable {
        /// The file's path.
        path: PathBuf,
    },
    /// It could not be written.
    #[error("{failure}{}", remedy(.failure))]
    Write {
        /// What was tried.
        failure: Failure,
    },
    /// Other programs were saving, or writing to the file, all the time.
    #[error("another program is changing {}: try again", .0.display())]
    Busy(PathBuf),
    /// No serial_no could be put into the text.
    #[error("raise serial_no: {0}")]
    Serial(#[from] EditError),
    /// There is no such previous version, or no longer.
    #[error("there is no version {0}: the oldest are removed when new ones come")]
    NoSuchVersion(u64),
    /// A previous version is not what was kept.
    #[error("version {number} is damaged: {reason}")]
    Damaged {
        /// Its number.
        number: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The directory of previous versions cannot be used.
    #[error("previous versions in {}: {source}{}", .directory.display(), history_remedy(.source))]
    History {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Write { failure }
    }
}

fn changed(changed: &Changed) -> &'static str {
    match changed.current {
        Some(_) => {
            "lvs.cf was changed by somebody else since it was read; nothing is saved. \
             Compare, and make the change again"
        }
        None => "lvs.cf was removed by somebody else since it was read; nothing is saved",
    }
}

/// The command that mends it, where there is one.
fn remedy(failure: &Failure) -> String {
    let place = failure.path.display();
    match (failure.step, failure.source.kind()) {
        (Step::Make, io::ErrorKind::PermissionDenied) if !geteuid().is_root() => {
            // lvs.cf names programs that root runs, so who may write it gains nothing more here.
            let group = group();
            format!("; as root: chgrp {group} {place} && chmod g+w {place}")
        }
        (Step::Attributes, io::ErrorKind::PermissionDenied) if !geteuid().is_root() => {
            let (user, group) = (user(), group());
            format!("; user {user} is not in the file's group; as root: chgrp {group} {place}")
        }
        (Step::Rename, io::ErrorKind::PermissionDenied) if !geteuid().is_root() => {
            let directory = failure.path.parent().unwrap_or(&failure.path).display();
            format!("; as root: chmod -t {directory}")
        }
        (_, io::ErrorKind::PermissionDenied) => {
            "; is it immutable? see lsattr -d and chattr -i".to_owned()
        }
        (_, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
            "; make room. lvs.cf is as it was".to_owned()
        }
        (_, io::ErrorKind::ReadOnlyFilesystem) => "; mount the file system writable".to_owned(),
        _ => String::new(),
    }
}

fn history_remedy(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            let group = group();
            format!("; it must belong to group {group} and be writable for it (mode 2770)")
        }
        io::ErrorKind::NotFound => "; make the directory above it".to_owned(),
        _ => String::new(),
    }
}

/// The process's user, by name where it has one.
fn user() -> String {
    let id = geteuid();
    User::from_uid(id).ok().flatten().map_or_else(|| id.to_string(), |user| user.name)
}

fn group() -> String {
    let id = getegid();
    Group::from_gid(id).ok().flatten().map_or_else(|| id.to_string(), |group| group.name)
}
