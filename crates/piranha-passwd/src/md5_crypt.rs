//! The crypt forms made of MD5: `$1$` of FreeBSD and its copy with another name, `$apr1$` of
//! Apache.

use md5::{Digest, Md5};

use crate::itoa64;

const ROUNDS: usize = 1000;

/// The 22 characters behind the salt. `magic` is `$1$` or `$apr1$`; of the salt eight bytes count.
pub(crate) fn md5_crypt(password: &[u8], magic: &[u8], salt: &[u8]) -> Vec<u8> {
    let inner = Md5::new().chain_update(password).chain_update(salt).chain_update(password);
    let inner = inner.finalize();
    let mut outer = Md5::new().chain_update(password).chain_update(magic).chain_update(salt);
    outer.update(inner.iter().copied().cycle().take(password.len()).collect::<Vec<u8>>());
    // One byte for each bit of the length, lowest first: 0, or the password's first.
    let mut length = password.len();
    while length > 0 {
        outer.update(if length & 1 == 1 { &[0][..] } else { &password[..1] });
        length >>= 1;
    }
    let mut digest = outer.finalize();
    for round in 0..ROUNDS {
        let mut next = Md5::new();
        let is_odd = round & 1 == 1;
        next.update(if is_odd { password } else { &digest });
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        next.update(if is_odd { &digest } else { password });
        digest = next.finalize();
    }
    itoa64::little_endian(&digest, groups())
}

fn groups() -> impl Iterator<Item = [Option<usize>; 3]> {
    let threes = (0..5).map(|at| [Some(at), Some(at + 6), Some(if at == 4 { 5 } else { at + 12 })]);
    threes.chain([[Some(11), None, None]])
}
