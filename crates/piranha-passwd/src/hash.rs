//! One stored hash: what form it has, and whether a password fits it.

use base64ct::{Base64, Encoding};
use sha_crypt::Params;
use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;

use crate::{des_crypt::des_crypt, itoa64, md5_crypt::md5_crypt, sha2_crypt};

/// The costs that are taken at all. A check beyond them would take longer than any browser waits,
/// and hold the page up: about 10 s.
const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 4..=17;
const SHA_ROUNDS_MAX: u32 = 5_000_000;

/// How a password is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// crypt(3) of old: 13 characters, of the password the first eight bytes.
    Des,
    /// `{SHA}`: SHA-1 once, no salt.
    Sha1,
    /// `$apr1$`: Apache's MD5.
    Apr1,
    /// `$1$`: MD5.
    Md5,
    /// `$5$`: SHA-256.
    Sha256,
    /// `$6$`: SHA-512.
    Sha512,
    /// `$2a$`, `$2b$`, `$2y$`: bcrypt.
    Bcrypt,
}

impl Form {
    /// Its name, for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Des => "DES crypt",
            Self::Sha1 => "SHA-1",
            Self::Apr1 | Self::Md5 => "MD5 crypt",
            Self::Sha256 => "SHA-256 crypt",
            Self::Sha512 => "SHA-512 crypt",
            Self::Bcrypt => "bcrypt",
        }
    }

    /// Whether somebody who gets hold of the file finds most passwords of this form within days:
    /// set the password again, and it is kept as bcrypt.
    #[must_use]
    pub const fn is_weak(self) -> bool {
        matches!(self, Self::Des | Self::Sha1 | Self::Apr1 | Self::Md5)
    }
}

/// Why an entry lets nobody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It is of no form that is known: a password in the clear, a locked account, yescrypt.
    #[error("not a password hash of a known form")]
    Unknown,
    /// It begins like a known form but is none.
    #[error("a damaged {} hash", .0.name())]
    Damaged(Form),
    /// Checking it would take too long.
    #[error("a {} hash that takes too long to check", .0.name())]
    TooCostly(Form),
}

/// A hash and all that is needed to check a password against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hash<'a> {
    Des {
        salt: [u8; 2],
        digest: &'a [u8],
    },
    Sha1 {
        digest: &'a [u8],
    },
    /// [`Form::Md5`] or [`Form::Apr1`].
    Md5 {
        form: Form,
        salt: &'a [u8],
        digest: &'a [u8],
    },
    /// [`Form::Sha256`] or [`Form::Sha512`].
    Sha2 {
        form: Form,
        rounds: u32,
        params: Params,
        salt: &'a [u8],
        digest: &'a [u8],
    },
    Bcrypt {
        cost: u32,
        text: &'a str,
    },
}

impl<'a> Hash<'a> {
    pub(crate) fn parse(text: &'a [u8]) -> Result<Self, Unusable> {
        if let Some(digest) = text.strip_prefix(b"{SHA}") {
            return match digest.len() {
                28 => Ok(Self::Sha1 { digest }),
                _ => Err(Unusable::Damaged(Form::Sha1)),
            };
        }
        if let Some(rest) = text.strip_prefix(b"$1$") {
            return md5(Form::Md5, rest);
        }
        if let Some(rest) = text.strip_prefix(b"$apr1$") {
            return md5(Form::Apr1, rest);
        }
        if let Some(rest) = text.strip_prefix(b"$5$") {
            return sha2(Form::Sha256, rest, 43);
        }
        if let Some(rest) = text.strip_prefix(b"$6$") {
            return sha2(Form::Sha512, rest, 86);
        }
        if [&b"$2a$"[..], b"$2b$", b"$2y$"].iter().any(|magic| text.starts_with(magic)) {
            return bcrypt(text);
        }
        des(text).ok_or(Unusable::Unknown)
    }

    pub(crate) const fn form(&self) -> Form {
        match self {
            Self::Des { .. } => Form::Des,
            Self::Sha1 { .. } => Form::Sha1,
            Self::Md5 { form, .. } | Self::Sha2 { form, .. } => *form,
            Self::Bcrypt { .. } => Form::Bcrypt,
        }
    }

    /// About how long a check takes: microseconds on a machine of 2020.
    pub(crate) const fn cost(&self) -> u64 {
        match self {
            Self::Des { .. } => 50,
            Self::Sha1 { .. } => 1,
            Self::Md5 { .. } => 250,
            Self::Sha2 { rounds, .. } => *rounds as u64 / 4,
            Self::Bcrypt { cost, .. } => 50 << *cost,
        }
    }

    /// Whether `password` is the one. How long it takes depends on the form and on the
    /// password's length, not on how much of it is right.
    pub(crate) fn fits(&self, password: &[u8]) -> bool {
        let (found, digest) = match *self {
            Self::Des { salt, digest } => (des_crypt(password, salt).unwrap_or_default(), digest),
            Self::Sha1 { digest } => {
                (Base64::encode_string(&Sha1::digest(password)).into_bytes(), digest)
            }
            Self::Md5 { form: Form::Apr1, salt, digest } => {
                (md5_crypt(password, b"$apr1$", salt), digest)
            }
            Self::Md5 { salt, digest, .. } => (md5_crypt(password, b"$1$", salt), digest),
            Self::Sha2 { form: Form::Sha256, params, salt, digest, .. } => {
                (sha2_crypt::sha256(password, salt, params), digest)
            }
            Self::Sha2 { params, salt, digest, .. } => {
                (sha2_crypt::sha512(password, salt, params), digest)
            }
            // Compares in constant time by itself.
            Self::Bcrypt { text, .. } => return bcrypt::verify(password, text).unwrap_or(false),
        };
        found.ct_eq(digest).into()
    }
}

fn des(text: &[u8]) -> Option<Hash<'_>> {
    let (&salt, digest) = text.split_first_chunk::<2>()?;
    let is_written = text.iter().all(|&character| itoa64::value(character).is_some());
    (digest.len() == 11 && is_written).then_some(Hash::Des { salt, digest })
}

/// `SALT$DIGEST`, where the salt has at most `longest` characters.
fn salted(rest: &[u8], longest: usize) -> Option<(&[u8], &[u8])> {
    let at = rest.iter().position(|&byte| byte == b'$')?;
    let (salt, digest) = (rest.get(..at)?, rest.get(at + 1..)?);
    (salt.len() <= longest).then_some((salt, digest))
}

fn md5(form: Form, rest: &[u8]) -> Result<Hash<'_>, Unusable> {
    match salted(rest, 8) {
        Some((salt, digest)) if digest.len() == 22 => Ok(Hash::Md5 { form, salt, digest }),
        _ => Err(Unusable::Damaged(form)),
    }
}

/// `SALT$DIGEST` or `rounds=N$SALT$DIGEST`, with a digest of `length` characters.
fn sha2(form: Form, rest: &[u8], length: usize) -> Result<Hash<'_>, Unusable> {
    let damaged = Unusable::Damaged(form);
    let (rounds, rest) = match rest.strip_prefix(b"rounds=") {
        None => (Params::RECOMMENDED_ROUNDS, rest),
        Some(rest) => {
            let (number, rest) = salted(rest, 9).ok_or(damaged)?;
            let number = std::str::from_utf8(number).ok().and_then(|text| text.parse().ok());
            (number.ok_or(damaged)?, rest)
        }
    };
    let params = Params::new(rounds).map_err(|_| damaged)?;
    if rounds > SHA_ROUNDS_MAX {
        return Err(Unusable::TooCostly(form));
    }
    match salted(rest, 16) {
        Some((salt, digest)) if digest.len() == length => {
            Ok(Hash::Sha2 { form, rounds, params, salt, digest })
        }
        _ => Err(damaged),
    }
}

fn bcrypt(text: &[u8]) -> Result<Hash<'_>, Unusable> {
    let damaged = Unusable::Damaged(Form::Bcrypt);
    let text = std::str::from_utf8(text).map_err(|_| damaged)?;
    let parts: bcrypt::HashParts = text.parse().map_err(|_| damaged)?;
    let cost = parts.get_cost();
    if cost > *BCRYPT_COSTS.end() {
        return Err(Unusable::TooCostly(Form::Bcrypt));
    }
    if BCRYPT_COSTS.contains(&cost) { Ok(Hash::Bcrypt { cost, text }) } else { Err(damaged) }
}
