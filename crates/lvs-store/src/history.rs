//! Previous versions.
//!
//! A directory with two files for each version: `00000012.cf`, the text itself, which can be
//! copied back by hand, and `00000012.json`, who made it, when and why. The text comes first, so
//! that a power failure between the two leaves a version of which only that is not known.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use atomic_file::{Attributes, Staged};
use lvs_config::Document;
use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::snapshot::hex;
use crate::{Error, serial};

/// How many versions are kept at least, whatever is asked for.
const FEWEST: usize = 20;
const USUAL: usize = 100;

/// The longest file read back, in bytes: more than lvs.cf may have.
const LARGEST: u64 = 64 << 20;

/// The longest author and summary, in characters.
const LONGEST_WORDS: usize = 200;

/// Members of lvs.cf's group add versions and remove the oldest, whoever made them.
const DIRECTORY_MODE: u32 = 0o2770;
const FILE_MODE: u32 = 0o640;

const TEXT: &str = "cf";
const NOTE: &str = "json";

/// Where previous versions are kept, and how many.
#[derive(Clone, Debug)]
pub struct History {
    directory: PathBuf,
    keep: usize,
}

/// What is known of a version without its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its name. Numbers are never used twice, and later ones are greater.
    pub number: u64,
    /// When it was saved; where `author` is `None`, when it was written as far as is known.
    pub time: SystemTime,
    /// Who saved it; `None`: it was made without these programs, or nobody has noted who.
    pub author: Option<String>,
    /// What was done, in a few words.
    pub summary: String,
    /// Its serial_no.
    pub serial_no: i64,
    /// Its length in bytes.
    pub size: u64,
}

/// What stands in the second file.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    /// Seconds since 1970.
    time: u64,
    author: Option<String>,
    summary: String,
    serial_no: i64,
    sha256: String,
}

/// What is to be noted of a version.
pub(crate) struct Entry<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) time: SystemTime,
    pub(crate) author: Option<&'a str>,
    pub(crate) summary: &'a str,
    /// The group that versions belong to: lvs.cf's.
    pub(crate) group: Option<u32>,
}

impl History {
    /// A history in `directory`, which is made when the first version comes.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), keep: USUAL }
    }

    /// Keeps this many versions instead of 100; 20 at least.
    #[must_use]
    pub fn keep(self, count: usize) -> Self {
        Self { keep: count.max(FEWEST), ..self }
    }

    /// All versions, the latest first. One without a readable text is left out.
    ///
    /// # Errors
    /// [`Error::History`] where the directory cannot be read. A missing one is empty.
    pub fn versions(&self) -> Result<Vec<Version>, Error> {
        let numbers = self.numbers(TEXT)?;
        Ok(numbers.into_iter().rev().filter_map(|number| self.describe(number).ok()).collect())
    }

    /// One version with its text.
    ///
    /// # Errors
    /// [`Error::NoSuchVersion`]; [`Error::Damaged`] where the text is not what was saved.
    pub fn version(&self, number: u64) -> Result<(Version, Vec<u8>), Error> {
        let bytes = match read(&self.path(number, TEXT)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NoSuchVersion(number));
            }
            Err(error) => return Err(Error::Damaged { number, reason: error.to_string() }),
        };
        if let Some(note) = self.note(number)
            && note.sha256 != fingerprint(&bytes)
        {
            let reason = "its text is not what was saved".to_owned();
            return Err(Error::Damaged { number, reason });
        }
        Ok((self.describe(number)?, bytes))
    }

    /// The text of the latest version, `None` without one.
    pub(crate) fn latest(&self) -> Result<Option<Vec<u8>>, Error> {
        match self.numbers(TEXT)?.last() {
            Some(&number) => self.version(number).map(|(_, bytes)| Some(bytes)),
            None => Ok(None),
        }
    }

    /// Adds a version behind the latest.
    pub(crate) fn add(&self, entry: &Entry<'_>) -> Result<u64, Error> {
        self.prepare(entry.group).map_err(|error| self.failure(error))?;
        let note = Note {
            time: entry.time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            author: entry.author.map(words),
            summary: words(entry.summary),
            serial_no: serial::of(&Document::new(entry.bytes.to_vec())).unwrap_or(0),
            sha256: fingerprint(entry.bytes),
        };
        loop {
            let number = self.last_number()?.checked_add(1).ok_or_else(|| {
                self.failure(io::Error::other("there is no number left: remove the last version"))
            })?;
            match self.write(number, TEXT, entry.bytes, entry.group) {
                Ok(()) => {
                    let text = serde_json::to_vec_pretty(&note).map_err(io::Error::from);
                    text.and_then(|text| self.write(number, NOTE, &text, entry.group))
                        .map_err(|error| self.failure(error))?;
                    return Ok(number);
                }
                // A program that saves another file has the same history.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(self.failure(error)),
            }
        }
    }

    /// Removes the oldest versions beyond those to be kept, and what is left of incomplete ones.
    pub(crate) fn prune(&self) -> Result<(), Error> {
        let texts = self.numbers(TEXT)?;
        let kept: BTreeSet<u64> = texts.iter().rev().take(self.keep).copied().collect();
        for extension in [NOTE, TEXT] {
            for number in self.numbers(extension)?.difference(&kept) {
                match fs::remove_file(self.path(*number, extension)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(self.failure(error));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn prepare(&self, group: Option<u32>) -> io::Result<()> {
        if self.directory.is_dir() {
            return Ok(());
        }
        if let Some(parent) = self.directory.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        }
        match fs::DirBuilder::new().mode(0o700).create(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            other => other?,
        }
        // Where the process is not in the group, the directory is its own.
        let _ = chown(&self.directory, None, group);
        fs::set_permissions(&self.directory, fs::Permissions::from_mode(DIRECTORY_MODE))
    }

    fn write(
        &self,
        number: u64,
        extension: &str,
        bytes: &[u8],
        group: Option<u32>,
    ) -> io::Result<()> {
        let path = self.path(number, extension);
        let mut attributes = Attributes::with_mode(FILE_MODE);
        attributes.group = group;
        let staged = Staged::write(&path, bytes, &attributes).or_else(|failure| {
            // Where the process is not in the group, the file is its own.
            attributes.group = None;
            if failure.step == atomic_file::Step::Attributes {
                Staged::write(&path, bytes, &attributes)
            } else {
                Err(failure)
            }
        });
        let created = staged.and_then(Staged::create).map_err(|failure| failure.source)?;
        created.unsynced.map_or(Ok(()), Err)
    }

    fn describe(&self, number: u64) -> Result<Version, Error> {
        let path = self.path(number, TEXT);
        let metadata = fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_file);
        let metadata = metadata.ok_or(Error::NoSuchVersion(number))?;
        let size = metadata.len();
        if let Some(note) = self.note(number) {
            let time = UNIX_EPOCH.checked_add(std::time::Duration::from_secs(note.time));
            return Ok(Version {
                number,
                time: time.unwrap_or(UNIX_EPOCH),
                author: note.author,
                summary: note.summary,
                serial_no: note.serial_no,
                size,
            });
        }
        let bytes = read(&path).unwrap_or_default();
        Ok(Version {
            number,
            time: metadata.modified().unwrap_or(UNIX_EPOCH),
            author: None,
            summary: String::new(),
            serial_no: serial::of(&Document::new(bytes)).unwrap_or(0),
            size,
        })
    }

    fn note(&self, number: u64) -> Option<Note> {
        let note: Note = serde_json::from_slice(&read(&self.path(number, NOTE)).ok()?).ok()?;
        // As it would have been written: the file may have been edited.
        Some(Note {
            author: note.author.as_deref().map(words),
            summary: words(&note.summary),
            ..note
        })
    }

    fn last_number(&self) -> Result<u64, Error> {
        let last = |extension| self.numbers(extension).map(|numbers| numbers.last().copied());
        Ok(last(TEXT)?.max(last(NOTE)?).unwrap_or(0))
    }

    /// The numbers for which there is a file; other files are none of our business.
    fn numbers(&self, extension: &str) -> Result<BTreeSet<u64>, Error> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(error) => return Err(self.failure(error)),
        };
        let mut numbers = BTreeSet::new();
        for entry in entries {
            let name = entry.map_err(|error| self.failure(error))?.file_name();
            let number = Path::new(&name).file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            numbers.extend(number.filter(|&number| self.path(number, extension).ends_with(&name)));
        }
        Ok(numbers)
    }

    fn path(&self, number: u64, extension: &str) -> PathBuf {
        self.directory.join(format!("{number:08}.{extension}"))
    }

    fn failure(&self, source: io::Error) -> Error {
        Error::History { directory: self.directory.clone(), source }
    }
}

fn fingerprint(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// A file of the history, which may be anything if somebody has been at it.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > LARGEST {
        return Err(io::Error::other("it is no file, or too large"));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A few words on one line, for terminals and pages.
fn words(text: &str) -> String {
    let clean = |character: char| if character.is_control() { ' ' } else { character };
    text.chars().map(clean).take(LONGEST_WORDS).collect::<String>().trim().to_owned()
}
