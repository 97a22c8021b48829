//! The text of a password file (htpasswd(1)): lines of `USER:HASH`, comments behind `#`.
//!
//! Read as Apache reads it: white space around a line does not count, the first line of a user
//! does, and whatever stands behind a second colon is none of our business.

use std::ops::Range;

use crate::hash::{Form, Hash, Unusable};
use crate::new_hash::LONGEST;

/// Where the file has no entry that could be checked against: a bcrypt hash of a random
/// password that nobody has kept, as costly as a new entry.
const DECOY: &str = "$2y$11$lLGWb5YKmkbKbPAYTPNv4umw4oNW63dYkDMDgwyMEijkGGQ8QaOhu";

/// A password file, byte for byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PasswordFile {
    text: Vec<u8>,
}

/// A name that no line of a password file can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{}` cannot be a user's name: a name is printable, has no colon, no white space at its ends \
     and no # at its beginning", .0.escape_debug()
)]
pub struct BadName(String);

/// One line of the file that counts, by its places in the text.
struct Entry {
    /// With the line's end.
    line: Range<usize>,
    user: Range<usize>,
    hash: Range<usize>,
}

impl PasswordFile {
    /// The file that `text` is. Any bytes make one.
    #[must_use]
    pub const fn new(text: Vec<u8>) -> Self {
        Self { text }
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }

    /// How the password of `user` is kept, or why the entry lets nobody in; `None` without one.
    #[must_use]
    pub fn form(&self, user: &str) -> Option<Result<Form, Unusable>> {
        let hash = self.hash(user.as_bytes())?;
        Some(Hash::parse(hash).map(|hash| hash.form()))
    }

    /// Whether `user` has this password.
    ///
    /// Never true for an empty password, one that contains a NUL or is longer than 1024 bytes,
    /// nor for an entry without a known hash: a password in the clear lets nobody in.
    ///
    /// The answer for a user who has no usable entry takes as long as for the one of the file
    /// whose hash is the costliest; in a file with one user, or hashes of one form, that is as
    /// long as for those who have one.
    #[must_use]
    pub fn verify(&self, user: &[u8], password: &[u8]) -> bool {
        let known = self.hash(user).and_then(|hash| Hash::parse(hash).ok());
        let acceptable =
            !password.is_empty() && password.len() <= LONGEST && !password.contains(&0);
        // Looked for in any case, which takes its time too.
        let stand_in = self.costliest().or_else(|| Hash::parse(DECOY.as_bytes()).ok());
        let hash = known.or(stand_in);
        // What is not acceptable is not checked, but something is.
        let checked = if acceptable { password } else { &b"-"[..] };
        let fits = hash.is_some_and(|hash| hash.fits(checked));
        fits & known.is_some() & acceptable
    }

    /// Gives `user` the hash: in the first line that is the user's, or in a new one at the end.
    /// More lines of the user go, so that no old password comes back with them. All others
    /// stay as they are.
    ///
    /// # Errors
    /// Where no line can have this name.
    pub(crate) fn set(&mut self, user: &str, hash: &str) -> Result<(), BadName> {
        let is_fit = !user.is_empty()
            && !user.starts_with('#')
            && user.trim() == user
            && !user.contains(|character: char| character == ':' || character.is_control());
        if !is_fit {
            return Err(BadName(user.to_owned()));
        }
        let mut own: Vec<Entry> =
            self.entries().filter(|entry| self.is_of(entry, user.as_bytes())).collect();
        if own.is_empty() {
            self.append(user, hash);
            return Ok(());
        }
        let first = own.remove(0);
        for entry in own.into_iter().rev() {
            self.text.drain(entry.line);
        }
        self.text.splice(first.hash, hash.bytes());
        Ok(())
    }

    fn append(&mut self, user: &str, hash: &str) {
        if self.text.last().is_some_and(|&last| last != b'\n') {
            self.text.push(b'\n');
        }
        self.text.extend_from_slice(format!("{user}:{hash}\n").as_bytes());
    }

    fn hash(&self, user: &[u8]) -> Option<&[u8]> {
        // All lines are looked at, wherever the user's stands.
        let first = self
            .entries()
            .filter(|entry| self.is_of(entry, user))
            .fold(None, |first: Option<Entry>, entry| first.or(Some(entry)))?;
        self.text.get(first.hash)
    }

    fn costliest(&self) -> Option<Hash<'_>> {
        let hashes = self.entries().filter_map(|entry| self.text.get(entry.hash));
        hashes.filter_map(|hash| Hash::parse(hash).ok()).max_by_key(Hash::cost)
    }

    fn is_of(&self, entry: &Entry, user: &[u8]) -> bool {
        self.text.get(entry.user.clone()) == Some(user)
    }

    fn entries(&self) -> impl Iterator<Item = Entry> {
        let mut end = 0;
        self.text.split_inclusive(|&byte| byte == b'\n').filter_map(move |line| {
            let start = end;
            end += line.len();
            let inner = line.trim_ascii();
            if inner.starts_with(b"#") {
                return None;
            }
            let user = start + (line.len() - line.trim_ascii_start().len());
            let colon = user + inner.iter().position(|&byte| byte == b':')?;
            let behind = &inner[colon + 1 - user..];
            let length = behind.iter().position(|&byte| byte == b':').unwrap_or(behind.len());
            Some(Entry { line: start..end, user: user..colon, hash: colon + 1..colon + 1 + length })
        })
    }
}

#[cfg(test)]
mod tests;
