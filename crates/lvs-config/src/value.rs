//! What single words mean: C integers, IPv4 addresses, netmasks.

use std::net::Ipv4Addr;

use nom::branch::alt;
use nom::bytes::complete::{tag, tag_no_case, take_while};
use nom::character::complete::{digit1, hex_digit1, oct_digit0, one_of};
use nom::combinator::{all_consuming, map, opt, peek, rest, verify};
use nom::sequence::preceded;
use nom::{IResult, Parser};

const fn is_c_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// The digits in `radix`; what does not fit becomes the greatest number there is.
fn magnitude(digits: &[u8], radix: u32) -> u64 {
    digits.iter().filter_map(|&byte| char::from(byte).to_digit(radix)).fold(0_u64, |sum, digit| {
        sum.saturating_mul(u64::from(radix)).saturating_add(u64::from(digit))
    })
}

/// A number as C's base 0 has it: `0x10`, `010`, `10`.
fn unsigned(input: &[u8]) -> IResult<&[u8], u64> {
    alt((
        map(preceded(tag_no_case(&b"0x"[..]), hex_digit1), |digits| magnitude(digits, 16)),
        map(preceded(tag(&b"0"[..]), oct_digit0), |digits| magnitude(digits, 8)),
        map(digit1, |digits| magnitude(digits, 10)),
    ))
    .parse_complete(input)
}

fn signed(input: &[u8]) -> IResult<&[u8], i64> {
    let (input, _) = take_while(is_c_space).parse_complete(input)?;
    let (input, sign) = opt(one_of("+-")).parse_complete(input)?;
    let (input, magnitude) = unsigned(input)?;
    let number = if sign == Some('-') {
        0_i64.saturating_sub_unsigned(magnitude)
    } else {
        i64::try_from(magnitude).unwrap_or(i64::MAX)
    };
    Ok((input, number))
}

/// A whole word as strtol(3) reads it in base 0; beyond 64 bits the nearest number.
/// An empty word is 0. `None`: not a number, or not only one.
pub(crate) fn integer(word: &[u8]) -> Option<i64> {
    if word.is_empty() {
        return Some(0);
    }
    all_consuming(signed).parse_complete(word).ok().map(|(_, number)| number)
}

/// What inet_aton(3) takes: one to four parts, each decimal, octal or hexadecimal, the
/// last filling the bytes that remain; anything may follow behind white space.
pub(crate) fn address(word: &[u8]) -> Option<Ipv4Addr> {
    let mut parts = [0_u64; 4];
    let mut filled = 0;
    let mut input = word;
    loop {
        let (after, part) = unsigned(input).ok()?;
        *parts.get_mut(filled)? = part;
        filled += 1;
        let dot: IResult<&[u8], &[u8]> = tag(&b"."[..]).parse_complete(after);
        match dot {
            Ok((next, _)) => input = next,
            Err(_) => {
                input = after;
                break;
            }
        }
    }
    let end: IResult<&[u8], &[u8]> =
        alt((verify(rest, <[u8]>::is_empty), preceded(peek(one_of(" \t\n\x0b\x0c\r")), rest)))
            .parse_complete(input);
    end.ok()?;
    assemble(parts.get(..filled)?)
}

fn assemble(parts: &[u64]) -> Option<Ipv4Addr> {
    let (&tail, heads) = parts.split_last()?;
    let mut bits = 0_u64;
    let mut shift = 32;
    for &head in heads {
        if head > 0xff {
            return None;
        }
        shift -= 8;
        bits |= head << shift;
    }
    if tail >= 1 << shift {
        return None;
    }
    u32::try_from(bits | tail).ok().map(Ipv4Addr::from)
}

/// Whether the mask's ones all stand before its zeros, as a prefix length can say.
pub(crate) fn is_contiguous(mask: Ipv4Addr) -> bool {
    let bits = mask.to_bits();
    bits.leading_ones() + bits.trailing_zeros() >= 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_as_strtol_reads_them() {
        let cases: &[(&str, Option<i64>)] = &[
            ("", Some(0)),
            ("0", Some(0)),
            ("10", Some(10)),
            ("+3", Some(3)),
            ("-3", Some(-3)),
            (" 7", Some(7)),
            ("0x10", Some(16)),
            ("0Xff", Some(255)),
            ("-0x10", Some(-16)),
            ("010", Some(8)),
            ("00", Some(0)),
            ("201304240112", Some(201_304_240_112)),
            ("9223372036854775807", Some(i64::MAX)),
            ("99999999999999999999999", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("-99999999999999999999999", Some(i64::MIN)),
            ("08", None),
            ("0x", None),
            ("0.5", None),
            ("1 ", None),
            ("--1", None),
            ("-", None),
            (" ", None),
            ("yes", None),
        ];
        for &(word, expected) in cases {
            assert_eq!(integer(word.as_bytes()), expected, "{word:?}");
        }
    }

    #[test]
    fn addresses_as_inet_aton_reads_them() {
        let cases: &[(&str, Option<[u8; 4]>)] = &[
            ("10.0.0.1", Some([10, 0, 0, 1])),
            ("10.1", Some([10, 0, 0, 1])),
            ("10.1.258", Some([10, 1, 1, 2])),
            ("167772161", Some([10, 0, 0, 1])),
            ("0x0a000001", Some([10, 0, 0, 1])),
            ("010.0.0.1", Some([8, 0, 0, 1])),
            ("0xa.0.0.0x1", Some([10, 0, 0, 1])),
            ("4294967295", Some([255; 4])),
            ("10.0.0.1 ", Some([10, 0, 0, 1])),
            ("10.0.0.1 or so", Some([10, 0, 0, 1])),
            ("4294967296", None),
            ("10.0.0.256", None),
            ("256.0.0.1", None),
            ("1.16777216", None),
            ("1.2.3.4.5", None),
            ("1.2.3.", None),
            (".1", None),
            ("08.0.0.1", None),
            ("0x.1", None),
            (" 10.0.0.1", None),
            ("+1", None),
            ("10.0.0.1x", None),
            ("::1", None),
            ("", None),
        ];
        for &(word, expected) in cases {
            assert_eq!(address(word.as_bytes()), expected.map(Ipv4Addr::from), "{word:?}");
        }
    }

    #[test]
    fn contiguous_masks_are_the_33_prefixes() {
        for prefix in 0..=32_u32 {
            let bits = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            assert!(is_contiguous(Ipv4Addr::from(bits)), "/{prefix}");
        }
        for mask in [[255, 0, 255, 0], [0, 0, 0, 255], [255, 255, 255, 1], [127, 0, 0, 0]] {
            assert!(!is_contiguous(Ipv4Addr::from(mask)), "{mask:?}");
        }
    }
}
