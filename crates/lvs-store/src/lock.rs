//! One saver at a time.
//!
//! The lock is a file beside lvs.cf that exists only while somebody saves. Whether a saver holds
//! the lock it looks up by name again after it got it, so that a file that was removed, by the
//! saver before or by rsync --delete, is never taken for the lock. If one is removed under a
//! saver's hands two may save at once; the exchange of files then finds that out
//! (`atomic_file::Staged::exchange`), and the lock has only spared them that trouble.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use atomic_file::{Failure, Step};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};

use crate::Error;

/// How long others are waited for. A save takes milliseconds, on a slow disk a second.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);

/// Held until dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    file: Flock<File>,
}

impl Lock {
    /// Waits for its turn. `group` is that of the file to be saved: all its savers are in it.
    pub(crate) fn take(target: &Path, group: Option<u32>) -> Result<Self, Error> {
        Self::take_within(target, group, PATIENCE)
    }

    fn take_within(target: &Path, group: Option<u32>, patience: Duration) -> Result<Self, Error> {
        let directory = target.parent().unwrap_or(target);
        let mut name = std::ffi::OsString::from(".");
        name.push(target.file_name().unwrap_or_default());
        name.push(".lock");
        let path = directory.join(name);
        let deadline = Instant::now() + patience;
        loop {
            match attempt(&path, group) {
                Ok(Some(file)) => return Ok(Self { path, file }),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(PAUSE),
                Ok(None) => return Err(Error::Busy(target.to_owned())),
                Err(source) => {
                    let path = directory.to_owned();
                    return Err(Failure { step: Step::Make, path, source }.into());
                }
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is still held: whoever waits for this file finds that it is not the lock.
        if is_named(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// `None`: somebody else has it.
fn attempt(path: &Path, group: Option<u32>) -> io::Result<Option<Flock<File>>> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = match options.custom_flags(flags.bits()).open(path) {
        Ok(file) => file,
        // Another user's that is just being made, before it is the group's; or a directory
        // where nothing can be made.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && path.exists() => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    // Only savers may hold it, or anybody on this machine could keep them waiting.
    let _ = fchown(&file, None, group);
    let _ = file.set_permissions(Permissions::from_mode(0o660));
    let held = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(held) => held,
        Err((_, Errno::EWOULDBLOCK | Errno::EINTR)) => return Ok(None),
        Err((_, error)) => return Err(error.into()),
    };
    Ok(is_named(&held, path).then_some(held))
}

/// Whether the file still has this name.
fn is_named(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_nothing_left() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("lvs.cf");
        let held = Lock::take(&target, None).unwrap();
        let busy = Lock::take_within(&target, None, Duration::ZERO);
        assert!(matches!(busy, Err(Error::Busy(path)) if path == target));
        drop(held);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        Lock::take_within(&target, None, Duration::ZERO).unwrap();
    }

    #[test]
    fn removed_by_others_it_does_no_harm() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("lvs.cf");
        let first = Lock::take(&target, None).unwrap();
        fs::remove_file(directory.path().join(".lvs.cf.lock")).unwrap();
        let second = Lock::take_within(&target, None, Duration::ZERO).unwrap();
        drop(first);
        let third = Lock::take_within(&target, None, Duration::ZERO);
        assert!(matches!(third, Err(Error::Busy(_))));
        drop(second);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn left_behind_by_a_crash_it_does_no_harm() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("lvs.cf");
        fs::write(directory.path().join(".lvs.cf.lock"), "").unwrap();
        Lock::take_within(&target, None, Duration::ZERO).unwrap();
    }
}
