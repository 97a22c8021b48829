//! Replaces a file as a whole: whatever happens, a power failure included, the old content or the
//! new one is there, and never a part of either.
//!
//! The new content is written to a file of its own in the same directory ([`Staged::write`]),
//! reaches the disk, and then takes the other's name: over whatever is there
//! ([`Staged::replace`]), only where nothing is ([`Staged::create`]), or only in place of one
//! certain file ([`Staged::exchange`]). Until then the old file is untouched; if it never comes
//! to that, the new one is removed.

mod attributes;
mod temporary;

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use temporary::Temporary;

pub use attributes::Attributes;

/// What was being done when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Making a file in the directory: it must be writable for the process.
    Make,
    /// Writing the content, and waiting until the disk has it.
    Write,
    /// Giving the file its owner, group, mode or label.
    Attributes,
    /// Giving the file its name.
    Rename,
}

/// Why a file was not replaced. The old one is as it was.
#[derive(Debug, thiserror::Error)]
#[error("{} {}: {source}", verb(*.step), .path.display())]
pub struct Failure {
    /// What was being done.
    pub step: Step,
    /// The directory for [`Step::Make`], else the file that was to be replaced.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

fn verb(step: Step) -> &'static str {
    match step {
        Step::Make => "make a file in",
        Step::Write => "write the new",
        Step::Attributes => "set owner, group and mode of the new",
        Step::Rename => "replace",
    }
}

/// Why [`Staged::exchange`] left the file as it was.
#[derive(Debug)]
pub enum NotExchanged {
    /// Another file than the expected one has the name, or none has it.
    Unexpected,
    /// It could not be done.
    Failed(Failure),
}

/// A file that has its new content.
#[derive(Debug)]
pub struct Replaced {
    /// The new file.
    pub file: File,
    /// Why it is not certain that the new name survives a power failure in the next seconds.
    pub unsynced: Option<io::Error>,
}

/// The new content, complete and on the disk, but without its name.
#[derive(Debug)]
pub struct Staged {
    target: PathBuf,
    directory: PathBuf,
    file: File,
    /// Removes what has this path when dropped.
    temporary: Temporary,
}

impl Staged {
    /// Writes the new content of `target` to the disk, beside it.
    ///
    /// # Errors
    /// Where the directory takes no new file, the file system is full or read-only, or the
    /// attributes cannot be given.
    pub fn write(target: &Path, bytes: &[u8], attributes: &Attributes) -> Result<Staged, Failure> {
        let directory = match target.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let failed = |step| {
            let path = if step == Step::Make { directory.clone() } else { target.to_owned() };
            move |source| Failure { step, path, source }
        };
        let name = target.file_name().unwrap_or_default();
        let (mut file, temporary) =
            Temporary::create(&directory, Path::new(name)).map_err(failed(Step::Make))?;
        attributes.give_to(&file).map_err(failed(Step::Attributes))?;
        file.write_all(bytes).map_err(failed(Step::Write))?;
        file.sync_all().map_err(failed(Step::Write))?;
        Ok(Staged { target: target.to_owned(), directory, file, temporary })
    }

    /// Gives the new file its name, whatever had it before.
    ///
    /// # Errors
    /// Where the directory does not allow it, or a directory has the name.
    pub fn replace(self) -> Result<Replaced, Failure> {
        let moved = std::fs::rename(self.temporary.path(), &self.target);
        self.conclude(moved)
    }

    /// Gives the new file its name if nothing has it.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] in the source where something has it.
    pub fn create(self) -> Result<Replaced, Failure> {
        let moved = match move_to_free(self.temporary.path(), &self.target) {
            // The file system does not know how. It then has both names for a moment.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                std::fs::hard_link(self.temporary.path(), &self.target)
                    .and_then(|()| std::fs::remove_file(self.temporary.path()))
            }
            other => other.map_err(io::Error::from),
        };
        self.conclude(moved)
    }

    fn conclude(self, moved: io::Result<()>) -> Result<Replaced, Failure> {
        let Staged { target, directory, file, temporary } = self;
        match moved {
            Ok(()) => {
                // The path is free now, and perhaps somebody else's next.
                temporary.keep();
                Ok(finished(file, &directory))
            }
            Err(source) => Err(Failure { step: Step::Rename, path: target, source }),
        }
    }

    /// Gives the new file its name in place of a file that `is_expected`, which is then removed.
    ///
    /// The two change names at once, and only then is the old one looked at, under its new
    /// path. So no other program can slip a third file in between look and change: such a file
    /// gets its name back. (A file system that cannot do this is looked at first.)
    ///
    /// # Errors
    /// [`NotExchanged`].
    pub fn exchange(
        self,
        is_expected: impl FnOnce(&Path) -> bool,
    ) -> Result<Replaced, NotExchanged> {
        match swap(self.temporary.path(), &self.target) {
            Ok(()) => {
                if is_expected(self.temporary.path()) {
                    Ok(finished(self.file, &self.directory))
                } else {
                    Err(self.give_back())
                }
            }
            Err(Errno::NOENT) => Err(NotExchanged::Unexpected),
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                if is_expected(&self.target) {
                    self.replace().map_err(NotExchanged::Failed)
                } else {
                    Err(NotExchanged::Unexpected)
                }
            }
            Err(error) => Err(NotExchanged::Failed(Failure {
                step: Step::Rename,
                path: self.target,
                source: error.into(),
            })),
        }
    }

    /// Undoes an exchange: what is at the temporary path is somebody else's file.
    fn give_back(self) -> NotExchanged {
        let Staged { target, file, temporary, .. } = self;
        let outcome = match swap(temporary.path(), &target) {
            // If it is not ours that came back, a third file had taken its name meanwhile: that
            // one is the latest and keeps it.
            Ok(()) if is_same(&file, temporary.path()) => Ok(()),
            Ok(()) => swap(temporary.path(), &target),
            // Somebody has removed ours meanwhile.
            Err(Errno::NOENT) => move_to_free(temporary.path(), &target),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => NotExchanged::Unexpected,
            Err(error) => {
                let source = io::Error::other(format!(
                    "{}; its previous content is in {}",
                    io::Error::from(error),
                    temporary.path().display()
                ));
                // Somebody else's content must not be lost with the temporary path.
                temporary.keep();
                NotExchanged::Failed(Failure { step: Step::Rename, path: target, source })
            }
        }
    }
}

fn swap(one: &Path, other: &Path) -> Result<(), Errno> {
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)
}

fn move_to_free(from: &Path, to: &Path) -> Result<(), Errno> {
    renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)
}

fn is_same(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.symlink_metadata()) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

fn finished(file: File, directory: &Path) -> Replaced {
    let unsynced = File::open(directory).and_then(|directory| directory.sync_all()).err();
    Replaced { file, unsynced }
}

#[cfg(test)]
mod tests;
