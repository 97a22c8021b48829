//! The 64 characters in which crypt(3) writes salts and hashes, and its two orders of bits.

const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The six bits a character stands for.
pub(crate) fn value(character: u8) -> Option<u8> {
    ALPHABET.iter().position(|&known| known == character).and_then(|at| u8::try_from(at).ok())
}

fn character(bits: u64) -> u8 {
    usize::try_from(bits & 0x3f).ok().and_then(|at| ALPHABET.get(at)).copied().unwrap_or(b'.')
}

/// A DES block, uppermost bits first: eleven characters, the last with two bits to spare.
pub(crate) fn big_endian(block: u64) -> Vec<u8> {
    (0..10).map(|at| character(block >> (58 - 6 * at))).chain([character(block << 2)]).collect()
}

/// Bytes of a digest in groups, each read as a big-endian number and written lowest bits first,
/// as the crypt forms made of digests do: four characters for three bytes, two for one.
pub(crate) fn little_endian(
    digest: &[u8],
    groups: impl Iterator<Item = [Option<usize>; 3]>,
) -> Vec<u8> {
    let mut text = Vec::new();
    for group in groups {
        let bytes = group.iter().flatten().filter_map(|&at| digest.get(at));
        let (number, count) =
            bytes.fold((0, 0), |(number, count), &byte| (number << 8 | u64::from(byte), count + 1));
        text.extend((0..=count).map(|at| character(number >> (6 * at))));
    }
    text
}
