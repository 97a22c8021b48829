//! Reading, saving, restoring.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use atomic_file::{Attributes, NotExchanged, Replaced, Staged};
use lvs_config::Document;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, Group, faccessat, geteuid};

use crate::history::{Entry, History};
use crate::lock::Lock;
use crate::snapshot::{self, Opened};
use crate::{Changed, Error, Identity, PATH, Snapshot, Version, serial, unified};

/// A new lvs.cf is as the package would have installed it.
const MODE: u32 = 0o664;
const GROUP: &str = "piranha";

/// An lvs.cf and its previous versions.
#[derive(Clone, Debug)]
pub struct Store {
    path: PathBuf,
    history: History,
}

/// What a save has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The file as it is now. Its text has the new serial_no.
    pub snapshot: Snapshot,
    /// Its serial_no.
    pub serial_no: i64,
    /// Whether anything was written: a text that is the file's already is not.
    pub is_written: bool,
    /// Its number among the versions, if it could be kept.
    pub version: Option<u64>,
    /// What is to be shown to whoever saved: that no version was kept, and why. The configuration
    /// is saved all the same.
    pub warnings: Vec<String>,
}

impl Default for Store {
    /// The daemons' lvs.cf.
    fn default() -> Self {
        Self::new(PATH, History::new(crate::HISTORY))
    }
}

impl Store {
    /// The lvs.cf at `path`. A link there is followed, and the file it leads to replaced.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, history: History) -> Self {
        Self { path: path.into(), history }
    }

    /// The file as it is now.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::NotAFile`], [`Error::Read`], or [`Error::Busy`] where
    /// somebody writes to it all the time.
    pub fn read(&self) -> Result<Snapshot, Error> {
        Ok(snapshot::open(&self.path)?.snapshot)
    }

    /// Puts `bytes` in the place of the file that was read as `expected`, with a serial_no that
    /// is higher, and keeps both texts as versions. `author` and `summary` are a few words each.
    ///
    /// Waits up to 10 s while another program saves.
    ///
    /// # Errors
    /// The file is then as it was. [`Error::ChangedUnderneath`] has the text that is there now;
    /// the others say what was tried, and the command that mends it where there is one.
    pub fn save(
        &self,
        expected: &Identity,
        bytes: &[u8],
        author: &str,
        summary: &str,
    ) -> Result<Saved, Error> {
        // To tell first what no waiting changes.
        let current = self.expect(expected)?;
        let target = self.target(current.as_ref())?;
        let attributes = attributes(&target, current.as_ref())?;
        let _lock = Lock::take(&target, attributes.group)?;
        let current = self.expect(expected)?;
        let old = current.as_ref().map_or(&[][..], |current| &current.snapshot.bytes);
        if let Some(current) = current.as_ref().filter(|current| current.snapshot.bytes == bytes) {
            return Ok(unchanged(current));
        }
        let old = Document::new(old.to_vec());
        let mut new = Document::new(bytes.to_vec());
        let serial_no = serial::raise(&old, &mut new)?;
        let mut warnings = Vec::new();
        self.keep_foreign(current.as_ref(), attributes.group, &mut warnings);
        let staged = Staged::write(&target, new.as_bytes(), &attributes)?;
        let replaced = self.put(staged, current.as_ref(), expected)?;
        if let Some(error) = &replaced.unsynced {
            warnings.push(format!("saved, but a power failure now may undo it: {error}"));
        }
        let snapshot = snapshot::written(&replaced.file, new.into_bytes())
            .map_err(|source| Error::Read { path: target, source })?;
        let entry = Entry {
            bytes: &snapshot.bytes,
            time: SystemTime::now(),
            author: Some(author),
            summary,
            group: attributes.group,
        };
        let version = kept(self.history.add(&entry), &mut warnings);
        if version.is_some() {
            kept(self.history.prune(), &mut warnings);
        }
        Ok(Saved { snapshot, serial_no, is_written: true, version, warnings })
    }

    /// The versions that are kept, the latest first. The latest is the file as it is now, unless
    /// it was changed without these programs since.
    ///
    /// # Errors
    /// [`Error::History`].
    pub fn versions(&self) -> Result<Vec<Version>, Error> {
        self.history.versions()
    }

    /// One version with its text.
    ///
    /// # Errors
    /// [`Error::NoSuchVersion`], [`Error::Damaged`].
    pub fn version(&self, number: u64) -> Result<(Version, Vec<u8>), Error> {
        self.history.version(number)
    }

    /// What has changed from version `old` to version `new`, or to the file as it is now, as
    /// [`unified`] writes it.
    ///
    /// # Errors
    /// Those of [`Store::version`] and [`Store::read`].
    pub fn compare(&self, old: u64, new: Option<u64>) -> Result<String, Error> {
        let name = |number| format!("version {number}");
        let (_, before) = self.version(old)?;
        let (after, new_name) = match new {
            Some(new) => (self.version(new)?.1, name(new)),
            None => (self.read()?.bytes, self.path.display().to_string()),
        };
        Ok(unified(&before, &after, &name(old), &new_name))
    }

    /// Saves the text of a version once more: all its bytes but those of serial_no, which is
    /// raised. With [`Identity::ABSENT`] it brings a removed file back.
    ///
    /// # Errors
    /// Those of [`Store::version`] and [`Store::save`].
    pub fn restore(&self, expected: &Identity, number: u64, author: &str) -> Result<Saved, Error> {
        let (_, bytes) = self.version(number)?;
        self.save(expected, &bytes, author, &format!("version {number} restored"))
    }

    /// The file, if it is the expected one; `None` if none is expected.
    fn expect(&self, expected: &Identity) -> Result<Option<Opened>, Error> {
        let current = match snapshot::open(&self.path) {
            Ok(opened) => Some(opened),
            Err(Error::Missing(_)) => None,
            Err(error) => return Err(error),
        };
        match &current {
            Some(opened) if opened.snapshot.identity == *expected => Ok(current),
            None if *expected == Identity::ABSENT => Ok(None),
            _ => Err(changed(current.map(|opened| opened.snapshot))),
        }
    }

    /// The path of the file itself, at the end of all links.
    fn target(&self, current: Option<&Opened>) -> Result<PathBuf, Error> {
        match (current, self.path.parent(), self.path.file_name()) {
            // A link to nothing would be replaced; so there must be none.
            (None, ..) if self.path.is_symlink() => {
                Err(Error::NotAFile { path: self.path.clone(), what: "a symbolic link to no file" })
            }
            (None, Some(parent), Some(name)) if parent != Path::new("") => {
                Ok(snapshot::resolve(parent)?.join(name))
            }
            (None, ..) => Ok(self.path.clone()),
            (Some(_), ..) => snapshot::resolve(&self.path),
        }
    }

    /// Keeps a text that came without these programs, before it is replaced.
    fn keep_foreign(
        &self,
        current: Option<&Opened>,
        group: Option<u32>,
        warnings: &mut Vec<String>,
    ) {
        let Some(current) = current else { return };
        let bytes = &current.snapshot.bytes;
        // A damaged latest version is as good as none.
        if self.history.latest().is_ok_and(|latest| latest.as_ref() == Some(bytes)) {
            return;
        }
        let time = current.metadata.modified().unwrap_or_else(|_| SystemTime::now());
        let entry = Entry { bytes, time, author: None, summary: "", group };
        kept(self.history.add(&entry), warnings);
    }

    fn put(
        &self,
        staged: Staged,
        current: Option<&Opened>,
        expected: &Identity,
    ) -> Result<Replaced, Error> {
        let put = if current.is_some() {
            staged.exchange(|old| {
                snapshot::open(old).is_ok_and(|old| old.snapshot.identity == *expected)
            })
        } else {
            staged.create().map_err(|failure| match failure.source.kind() {
                std::io::ErrorKind::AlreadyExists => NotExchanged::Unexpected,
                _ => NotExchanged::Failed(failure),
            })
        };
        match put {
            Ok(replaced) => Ok(replaced),
            Err(NotExchanged::Failed(failure)) => Err(failure.into()),
            Err(NotExchanged::Unexpected) => Err(changed(self.read().ok())),
        }
    }
}

fn changed(current: Option<Snapshot>) -> Error {
    Error::ChangedUnderneath(Box::new(Changed { current }))
}

fn unchanged(current: &Opened) -> Saved {
    Saved {
        serial_no: serial::of(&Document::new(current.snapshot.bytes.clone())).unwrap_or(0),
        snapshot: current.snapshot.clone(),
        is_written: false,
        version: None,
        warnings: Vec::new(),
    }
}

/// Those of the old file. Only root can give files to others: the page's user, who is in the
/// file's group, becomes the owner of what it saves, and group and mode stay.
fn attributes(target: &Path, current: Option<&Opened>) -> Result<Attributes, Error> {
    let path = || target.to_owned();
    let Some(current) = current else {
        let mut attributes = Attributes::with_mode(MODE);
        attributes.group = Group::from_name(GROUP).ok().flatten().map(|group| group.gid.as_raw());
        return Ok(attributes);
    };
    // To be replaced a file need not be writable. But whoever has made it so wants it to stay.
    // What else may be in the way shows when it is written.
    let access = faccessat(AT_FDCWD, target, AccessFlags::W_OK, AtFlags::AT_EACCESS);
    if access == Err(Errno::EACCES) {
        return Err(Error::NotWritable { path: path() });
    }
    let mut attributes =
        Attributes::of(&current.file).map_err(|source| Error::Read { path: path(), source })?;
    if !geteuid().is_root() {
        attributes.owner = None;
    }
    Ok(attributes)
}

fn kept<T>(outcome: Result<T, Error>, warnings: &mut Vec<String>) -> Option<T> {
    outcome.map_err(|error| warnings.push(format!("saved, but no version is kept: {error}"))).ok()
}
