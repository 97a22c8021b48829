//! Passwords to be kept: which are taken, and how they are hashed.

/// The longest password, in bytes, that is looked at at all. Hash forms based on SHA-2 take time
/// with the square of the length.
pub(crate) const LONGEST: usize = 1024;

/// bcrypt takes no more, in bytes.
const LONGEST_NEW: usize = 72;

/// bcrypt's cost: 2^11 rounds, a tenth of a second.
const COST: u32 = 11;

/// Why a password is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPassword {
    /// There is none.
    #[error("an empty password lets everybody in: choose one")]
    Empty,
    /// It is longer than what bcrypt looks at.
    #[error(
        "the password has {0} bytes, and bcrypt looks at the first {LONGEST_NEW} only: \
         choose a shorter one"
    )]
    TooLong(usize),
    /// C programs, Apache and htpasswd among them, end it there.
    #[error("the password contains a NUL character, which ends it for other programs")]
    Nul,
    /// Basic authentication does not allow it (RFC 7617, section 2).
    #[error("the password contains a control character, which a browser may not send")]
    Control,
    /// The system gave no random numbers for the salt.
    #[error("the system gives no random numbers")]
    NoRandom,
}

/// Whether the password is taken.
///
/// Longer ones than bcrypt looks at are refused, not hashed beforehand as some do: the file is
/// htpasswd's, and Apache, nginx and htpasswd -v must come to the same answer.
///
/// # Errors
/// Why not.
pub fn check(password: &[u8]) -> Result<(), BadPassword> {
    if password.is_empty() {
        Err(BadPassword::Empty)
    } else if password.contains(&0) {
        Err(BadPassword::Nul)
    } else if password.iter().any(u8::is_ascii_control) {
        Err(BadPassword::Control)
    } else if password.len() > LONGEST_NEW {
        Err(BadPassword::TooLong(password.len()))
    } else {
        Ok(())
    }
}

/// The `$2y$` hash of a password, with a random salt.
pub(crate) fn hash(password: &[u8]) -> Result<String, BadPassword> {
    hash_at(password, COST)
}

fn hash_at(password: &[u8], cost: u32) -> Result<String, BadPassword> {
    check(password)?;
    // Its other errors, about cost and length, cannot come.
    let parts = bcrypt::hash_with_result(password, cost).map_err(|_| BadPassword::NoRandom)?;
    Ok(parts.format_for_version(bcrypt::Version::TwoY))
}
