//! The file on the disk.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use atomic_file::{Attributes, Failure, NotExchanged, Replaced, Staged, Step};
use nix::fcntl::OFlag;
use nix::unistd::{User, geteuid};

use crate::{BadName, BadPassword, PasswordFile, USER, new_hash};

/// Only the page may read it: hashes are there to be guessed at.
const MODE: u32 = 0o600;

/// A password file has a few lines. What is larger is something else.
const LARGEST: u64 = 1 << 20;

/// How often a change is begun again when another program has changed the file meanwhile.
const TRIES: usize = 10;

/// Why the password file was not read or not changed. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none.
    #[error("there is no {}: run piranha-passwd as root to make it", .0.display())]
    Missing(PathBuf),
    /// There is something else.
    #[error("{} is {what}, not a password file: move it away", .path.display())]
    NotAFile {
        /// The file's path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// It could not be read.
    #[error("read {}: {source}", .path.display())]
    Read {
        /// The file's path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It could not be written.
    #[error("{failure}{}", remedy(.failure))]
    Write {
        /// What was tried.
        failure: Failure,
    },
    /// The file would have been the wrong user's.
    #[error(
        "{} must belong to user {USER}, or the web page cannot read it: run this as root",
        .0.display()
    )]
    Owner(PathBuf),
    /// Other programs changed it, again and again.
    #[error("another program keeps changing {}: try again", .0.display())]
    Busy(PathBuf),
    /// The password is not taken.
    #[error(transparent)]
    Password(#[from] BadPassword),
    /// The user's name is not taken.
    #[error(transparent)]
    Name(#[from] BadName),
}

fn remedy(failure: &Failure) -> &'static str {
    match (failure.step, failure.source.kind()) {
        (Step::Make, io::ErrorKind::NotFound) => "; make this directory first",
        (_, io::ErrorKind::PermissionDenied) if !geteuid().is_root() => "; run this as root",
        (_, io::ErrorKind::PermissionDenied) => "; is it immutable? see lsattr -d and chattr -i",
        (_, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
            "; make room. The old passwords are still in force"
        }
        (_, io::ErrorKind::ReadOnlyFilesystem) => "; mount the file system writable",
        _ => "",
    }
}

/// Reads the password file.
///
/// # Errors
/// [`Error::Missing`], [`Error::NotAFile`], [`Error::Read`].
pub fn load(path: &Path) -> Result<PasswordFile, Error> {
    Ok(open(path)?.content)
}

/// Gives `user` a new password in the file at `path`, which is made if there is none. Other
/// users' lines and comments stay. The file then belongs to user piranha, if the system has one,
/// and nobody else may read it.
///
/// # Errors
/// Says what is wrong with the password, or what was tried with the file.
pub fn set_password(path: &Path, user: &str, password: &[u8]) -> Result<(), Error> {
    let hash = new_hash::hash(password)?;
    for _ in 0..TRIES {
        let old = match open(path) {
            Ok(old) => Some(old),
            Err(Error::Missing(_)) => None,
            Err(error) => return Err(error),
        };
        let mut content =
            old.as_ref().map_or_else(PasswordFile::default, |old| old.content.clone());
        content.set(user, &hash)?;
        let attributes = attributes(path, old.as_ref())?;
        let staged = Staged::write(path, content.as_bytes(), &attributes)
            .map_err(|failure| Error::Write { failure })?;
        if finish(staged, old.as_ref())?.is_some() {
            return Ok(());
        }
    }
    Err(Error::Busy(path.to_owned()))
}

/// `None`: the file is not the one that was read.
fn finish(staged: Staged, old: Option<&Opened>) -> Result<Option<Replaced>, Error> {
    let Some(old) = old else {
        return match staged.create() {
            Ok(replaced) => Ok(Some(replaced)),
            Err(failure) if failure.source.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(failure) => Err(Error::Write { failure }),
        };
    };
    let is_old = |there: &Path| {
        there.symlink_metadata().is_ok_and(|there| stamp(&there) == stamp(&old.metadata))
    };
    match staged.exchange(is_old) {
        Ok(replaced) => Ok(Some(replaced)),
        Err(NotExchanged::Unexpected) => Ok(None),
        Err(NotExchanged::Failed(failure)) => Err(Error::Write { failure }),
    }
}

fn stamp(metadata: &Metadata) -> (u64, u64, u64, i64, i64) {
    let time = (metadata.mtime(), metadata.mtime_nsec());
    (metadata.dev(), metadata.ino(), metadata.len(), time.0, time.1)
}

struct Opened {
    file: File,
    metadata: Metadata,
    content: PasswordFile,
}

/// A link is not followed: root writes here, in a directory that may be the page's, and would
/// hand the page whatever the link leads to.
fn open(path: &Path) -> Result<Opened, Error> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path);
    let not_a_file = |what| Error::NotAFile { path: path.to_owned(), what };
    let unread = |source| Error::Read { path: path.to_owned(), source };
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::Missing(path.to_owned()));
        }
        // What O_NOFOLLOW gives, but a loop among the directories does so too.
        Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ELOOP as i32) => {
            return Err(not_a_file("a symbolic link"));
        }
        // A socket.
        Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENXIO as i32) => {
            return Err(not_a_file("a socket"));
        }
        Err(error) => return Err(unread(error)),
    };
    let metadata = file.metadata().map_err(unread)?;
    if metadata.is_dir() {
        return Err(not_a_file("a directory"));
    }
    if !metadata.is_file() {
        return Err(not_a_file("a device or pipe"));
    }
    if metadata.len() > LARGEST {
        return Err(not_a_file("larger than 1 MB"));
    }
    let mut text = Vec::new();
    (&file).take(LARGEST).read_to_end(&mut text).map_err(unread)?;
    Ok(Opened { file, metadata, content: PasswordFile::new(text) })
}

fn attributes(path: &Path, old: Option<&Opened>) -> Result<Attributes, Error> {
    let mut attributes = match old {
        Some(old) => Attributes::of(&old.file)
            .map_err(|source| Error::Read { path: path.to_owned(), source })?
            .without_access_list(),
        None => Attributes::with_mode(MODE),
    };
    attributes.mode = MODE;
    // Without an answer from the user database the file would come to belong to the wrong user.
    let page = User::from_name(USER)
        .map_err(|error| Error::Read { path: "/etc/passwd".into(), source: error.into() })?;
    let own = geteuid();
    match page {
        Some(page) if own.is_root() || own == page.uid => {
            attributes.owner = Some(page.uid.as_raw());
            attributes.group = own.is_root().then_some(page.gid.as_raw());
        }
        Some(_) => return Err(Error::Owner(path.to_owned())),
        None if own.is_root() => {}
        None => {
            attributes.owner = None;
            attributes.group = None;
        }
    }
    Ok(attributes)
}

#[cfg(test)]
mod tests;
