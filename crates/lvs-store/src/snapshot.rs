//! The file as it was at one moment.

use std::fmt::{self, Write as _};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use sha2::{Digest, Sha256};

use crate::Error;

/// A larger file is no lvs.cf: 200,000 real servers fit.
const LARGEST: u64 = 32 << 20;

/// How often a file that changes while it is read is read again.
const TRIES: usize = 10;

/// What tells one state of the file from every other: which file it is, when it was written,
/// and what is in it. As text it can be handed through a form of a web page, and tells nothing
/// that is secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity(State);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Absent,
    Present { stamp: Stamp, hash: [u8; 32] },
}

/// What the file system says about a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            seconds: metadata.mtime(),
            nanoseconds: metadata.mtime_nsec(),
        }
    }
}

impl Identity {
    /// That of no file at all: for a program that is to make it.
    pub const ABSENT: Self = Self(State::Absent);

    fn of(metadata: &Metadata, bytes: &[u8]) -> Self {
        let hash = Sha256::digest(bytes).into();
        Self(State::Present { stamp: Stamp::of(metadata), hash })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            State::Absent => formatter.write_str("absent"),
            State::Present { stamp, hash } => {
                let Stamp { device, inode, size, seconds, nanoseconds } = stamp;
                write!(formatter, "{device}.{inode}.{size}.{seconds}.{nanoseconds}.{}", hex(hash))
            }
        }
    }
}

/// A text that is no [`Identity`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this does not say which state of lvs.cf is meant: load the page again")]
pub struct BadIdentity;

impl FromStr for Identity {
    type Err = BadIdentity;

    fn from_str(text: &str) -> Result<Self, BadIdentity> {
        if text == "absent" {
            return Ok(Self::ABSENT);
        }
        let parts: Vec<&str> = text.split('.').collect();
        let [device, inode, size, seconds, nanoseconds, hash] = parts[..] else {
            return Err(BadIdentity);
        };
        let stamp = Stamp {
            device: device.parse().map_err(|_| BadIdentity)?,
            inode: inode.parse().map_err(|_| BadIdentity)?,
            size: size.parse().map_err(|_| BadIdentity)?,
            seconds: seconds.parse().map_err(|_| BadIdentity)?,
            nanoseconds: nanoseconds.parse().map_err(|_| BadIdentity)?,
        };
        let hash = unhex(hash).ok_or(BadIdentity)?;
        Ok(Self(State::Present { stamp, hash }))
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// The file as it was at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// What was in it.
    pub bytes: Vec<u8>,
    /// What tells this state from others: for [`crate::Store::save`].
    pub identity: Identity,
}

/// A snapshot with the open file it was taken of.
pub(crate) struct Opened {
    pub(crate) file: File,
    pub(crate) metadata: Metadata,
    pub(crate) snapshot: Snapshot,
}

/// Reads a file that others may be writing.
pub(crate) fn open(path: &Path) -> Result<Opened, Error> {
    let unread = |source| Error::Read { path: path.to_owned(), source };
    let not_a_file = |what| Error::NotAFile { path: path.to_owned(), what };
    for _ in 0..TRIES {
        // Not to wait for the writer of a pipe.
        let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let file = match OpenOptions::new().read(true).custom_flags(flags.bits()).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::Missing(path.to_owned()));
            }
            Err(error) if error.raw_os_error() == Some(Errno::ENXIO as i32) => {
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
            return Err(not_a_file("larger than 32 MB"));
        }
        let mut bytes = Vec::new();
        (&file).take(LARGEST + 1).read_to_end(&mut bytes).map_err(unread)?;
        let after = file.metadata().map_err(unread)?;
        let is_steady = Stamp::of(&after) == Stamp::of(&metadata)
            && u64::try_from(bytes.len()).is_ok_and(|length| length == after.len());
        if is_steady {
            let identity = Identity::of(&after, &bytes);
            return Ok(Opened { file, metadata: after, snapshot: Snapshot { bytes, identity } });
        }
    }
    Err(Error::Busy(path.to_owned()))
}

/// The snapshot of a file just written.
pub(crate) fn written(file: &File, bytes: Vec<u8>) -> io::Result<Snapshot> {
    let identity = Identity::of(&file.metadata()?, &bytes);
    Ok(Snapshot { bytes, identity })
}

/// Where a path leads, links followed.
///
/// Sites have lvs.cf as a link into a directory that something else keeps, and the page of old
/// wrote through it; so do we, by replacing the file at its end. To replace the link would cut
/// such a site off its own configuration. Nobody gains rights by planting a link: whoever can
/// do that in lvs.cf's directory can as well write an lvs.cf that makes the daemons, which are
/// root's, run a program.
pub(crate) fn resolve(path: &Path) -> Result<PathBuf, Error> {
    match path.canonicalize() {
        Ok(target) => Ok(target),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Error::Missing(path.to_owned()))
        }
        Err(source) => Err(Error::Read { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_that_are_no_identity() {
        let hash = "0".repeat(64);
        for text in [
            "",
            "x",
            "1.2.3.4.5",
            &format!("1.2.3.4.5.{}", &hash[1..]),
            &format!("1.2.3.4.5.{}g", &hash[1..]),
            &format!("1.2.3.4.5.6.{hash}"),
            &format!("-1.2.3.4.5.{hash}"),
            &format!("1.2.3.4.5.+{}", &hash[1..]),
        ] {
            assert_eq!(text.parse::<Identity>(), Err(BadIdentity), "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_identity_survives_being_text(numbers: (u64, u64, u64, i64, i64), hash: [u8; 32]) {
            let (device, inode, size, seconds, nanoseconds) = numbers;
            let stamp = Stamp { device, inode, size, seconds, nanoseconds };
            for identity in [Identity(State::Present { stamp, hash }), Identity::ABSENT] {
                prop_assert_eq!(identity.to_string().parse(), Ok(identity));
            }
        }

        #[test]
        fn any_text_is_an_answer(text in ".{0,99}") {
            let _ = text.parse::<Identity>();
        }
    }
}
