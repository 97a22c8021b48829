//! The crypt forms made of SHA-2, `$5$` and `$6$`. The digest is the crate's work, here is its
//! text (<https://www.akkadia.org/drepper/SHA-crypt.txt>, step 22).

use sha_crypt::{Params, sha256_crypt, sha512_crypt};

use crate::itoa64;

/// The 43 characters behind the salt of `$5$`.
pub(crate) fn sha256(password: &[u8], salt: &[u8], params: Params) -> Vec<u8> {
    let digest = sha256_crypt(password, salt, params);
    // Each group starts where the one before it has its last byte, one further on.
    let threes = (0..10).map(|at| [0, 10, 20].map(|offset| Some((offset + at * 21) % 30)));
    itoa64::little_endian(&digest, threes.chain([[Some(31), Some(30), None]]))
}

/// The 86 characters behind the salt of `$6$`.
pub(crate) fn sha512(password: &[u8], salt: &[u8], params: Params) -> Vec<u8> {
    let digest = sha512_crypt(password, salt, params);
    let threes = (0..21).map(|at| [0, 21, 42].map(|offset| Some((offset + at * 22) % 63)));
    itoa64::little_endian(&digest, threes.chain([[Some(63), None, None]]))
}
