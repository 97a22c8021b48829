//! The times of the heartbeat: whole seconds as ever, or with a unit, which this suite alone
//! understands.

use nom::bytes::complete::{tag, take_while_m_n};
use nom::character::complete::digit1;
use nom::combinator::{all_consuming, opt, verify};
use nom::sequence::{preceded, terminated};
use nom::{IResult, Parser};
use serde_json::{Value, json};

use crate::config::Config;
use crate::value;

/// A time as lvs.cf gives it, in milliseconds. The file may give 0 and less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interval(i64);

/// An [`Interval`] and how it was written.
pub(crate) struct Written {
    pub(crate) interval: Interval,
    /// With a unit.
    pub(crate) has_unit: bool,
    /// It fits as it was written.
    pub(crate) is_exact: bool,
}

impl Interval {
    /// The longest time there is: the seconds that a C int holds.
    pub const MAX: Self = Self::from_secs(i32::MAX);

    /// The shortest, far below nothing.
    pub const MIN: Self = Self::from_secs(i32::MIN);

    /// So many seconds.
    #[must_use]
    pub const fn from_secs(seconds: i32) -> Self {
        // From an i32, so that the product fits.
        Self(seconds as i64 * 1000)
    }

    /// So many milliseconds, brought between [`Interval::MIN`] and [`Interval::MAX`].
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        match millis {
            less if less < Self::MIN.0 => Self::MIN,
            more if more > Self::MAX.0 => Self::MAX,
            millis => Self(millis),
        }
    }

    /// Milliseconds; 0 and less can occur, see [`Config::heartbeat_times`].
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// A word of the file: whole seconds as any number of lvs.cf, `200ms`, `2s` or `1.5s`.
    /// `None` where it is none of these; beyond what fits the nearest that does.
    pub(crate) fn parse(word: &[u8]) -> Option<Written> {
        let (millis, has_unit) = match value::integer(word) {
            Some(seconds) => (seconds.saturating_mul(1000), false),
            None => (all_consuming(with_unit).parse_complete(word).ok()?.1, true),
        };
        let interval = Self::from_millis(millis);
        Some(Written { interval, has_unit, is_exact: interval.0 == millis })
    }

    /// A number of seconds: an integer where they are whole, else with a fraction (`0.2`).
    #[must_use]
    pub fn to_json(self) -> Value {
        if self.0 % 1000 == 0 {
            return json!(self.0 / 1000);
        }
        // Less than 2^53 milliseconds: exact, and so the nearest number to the quotient.
        #[allow(clippy::cast_precision_loss)]
        let millis = self.0 as f64;
        json!(millis / 1000.0)
    }
}

impl std::fmt::Display for Interval {
    /// As lvs.cf takes it: `6`, `1.5s`, `200ms`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(millis) = *self;
        match (millis / 1000, millis % 1000) {
            (seconds, 0) => write!(f, "{seconds}"),
            (seconds, left) if seconds > 0 => {
                let digits = format!("{left:03}");
                write!(f, "{seconds}.{}s", digits.trim_end_matches('0'))
            }
            _ => write!(f, "{millis}ms"),
        }
    }
}

/// Decimal digits without a zero before them: `010` is octal elsewhere in the file.
fn decimal(input: &[u8]) -> IResult<&[u8], i64> {
    let (rest, digits) =
        verify(digit1, |digits: &[u8]| digits == b"0" || !digits.starts_with(b"0"))
            .parse_complete(input)?;
    Ok((rest, number(digits)))
}

fn number(digits: &[u8]) -> i64 {
    digits
        .iter()
        .fold(0_i64, |sum, byte| sum.saturating_mul(10).saturating_add(i64::from(byte - b'0')))
}

/// `NUMBERms`, `NUMBERs`, or `NUMBER.NUMBERs` with up to three digits behind the point.
fn with_unit(input: &[u8]) -> IResult<&[u8], i64> {
    let (rest, whole) = decimal(input)?;
    let millis: IResult<&[u8], &[u8]> = tag(&b"ms"[..]).parse_complete(rest);
    if let Ok((rest, _)) = millis {
        return Ok((rest, whole));
    }
    let fraction =
        opt(preceded(tag(&b"."[..]), take_while_m_n(1, 3, |byte: u8| byte.is_ascii_digit())));
    let (rest, fraction) = terminated(fraction, tag(&b"s"[..])).parse_complete(rest)?;
    let fraction =
        fraction.map_or(0, |digits| (digits.len()..3).fold(number(digits), |part, _| part * 10));
    Ok((rest, whole.saturating_mul(1000).saturating_add(fraction)))
}

/// When heartbeats are sent, and when a silent partner is dead: what [`Config::keepalive`] and
/// [`Config::deadtime`] come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatTimes {
    /// Milliseconds from one heartbeat to the next, at least
    /// [`HeartbeatTimes::SHORTEST_KEEPALIVE`].
    pub keepalive: u64,
    /// Milliseconds of silence after which the partner is dead, longer than `keepalive`.
    pub deadtime: u64,
}

impl HeartbeatTimes {
    /// The least milliseconds between two heartbeats.
    pub const SHORTEST_KEEPALIVE: u64 = 10;
}

impl Config {
    /// The times to work with, whatever the file says ([`check`](crate::check) calls what is
    /// corrected here an error): a keepalive of nothing or less is a second, the least that
    /// whole seconds can say; a shorter one than can be kept is the shortest; and a deadtime
    /// that is not longer than keepalive, by which a living partner would be dead most of the
    /// time, is twice keepalive.
    #[must_use]
    pub fn heartbeat_times(&self) -> HeartbeatTimes {
        let keepalive = match u64::try_from(self.keepalive.as_millis()) {
            Err(_) | Ok(0) => 1000,
            Ok(millis) => millis.max(HeartbeatTimes::SHORTEST_KEEPALIVE),
        };
        let deadtime = u64::try_from(self.deadtime.as_millis()).unwrap_or(0);
        let deadtime = if deadtime > keepalive { deadtime } else { keepalive * 2 };
        HeartbeatTimes { keepalive, deadtime }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_as_ever_and_times_with_a_unit() {
        let cases: &[(&str, Option<(i64, bool)>)] = &[
            ("6", Some((6_000, false))),
            ("0x10", Some((16_000, false))),
            ("010", Some((8_000, false))),
            ("-2", Some((-2_000, false))),
            ("", Some((0, false))),
            ("99999999999", Some((2_147_483_647_000, false))),
            ("-99999999999999999999", Some((-2_147_483_648_000, false))),
            ("200ms", Some((200, true))),
            ("0ms", Some((0, true))),
            ("2s", Some((2_000, true))),
            ("0s", Some((0, true))),
            ("1.5s", Some((1_500, true))),
            ("0.25s", Some((250, true))),
            ("10.125s", Some((10_125, true))),
            ("1.0s", Some((1_000, true))),
            ("99999999999999999999ms", Some((2_147_483_647_000, true))),
            ("99999999999999999999.999s", Some((2_147_483_647_000, true))),
            ("0.5", None),
            ("1.5ms", None),
            ("1.0005s", None),
            (".5s", None),
            ("1.s", None),
            ("010s", None),
            ("0x10s", None),
            ("-1s", None),
            ("+1s", None),
            (" 1s", None),
            ("1s ", None),
            ("1 s", None),
            ("1S", None),
            ("1sec", None),
            ("1m", None),
            ("ms", None),
            ("s", None),
        ];
        for &(word, expected) in cases {
            let found = Interval::parse(word.as_bytes());
            let found = found.map(|written| (written.interval.as_millis(), written.has_unit));
            assert_eq!(found, expected, "{word:?}");
        }
    }

    #[test]
    fn a_time_is_shown_as_it_can_be_written() {
        let cases = [
            (6_000, "6", json!(6)),
            (0, "0", json!(0)),
            (-2_000, "-2", json!(-2)),
            (200, "200ms", json!(0.2)),
            (1_500, "1.5s", json!(1.5)),
            (1_050, "1.05s", json!(1.05)),
            (61_001, "61.001s", json!(61.001)),
        ];
        for (millis, shown, value) in cases {
            let interval = Interval::from_millis(millis);
            assert_eq!(interval.to_string(), shown);
            assert_eq!(interval.to_json(), value);
            let read = Interval::parse(shown.as_bytes()).map(|written| written.interval);
            assert_eq!(read, Some(interval));
        }
        assert_eq!(Interval::from_millis(i64::MIN), Interval::MIN);
        assert_eq!(Interval::from_millis(i64::MAX), Interval::MAX);
    }

    #[test]
    fn no_file_makes_a_pair_mad() {
        let cases = [
            ((6_000, 18_000), (6_000, 18_000)),
            ((200, 600), (200, 600)),
            ((0, 5_000), (1_000, 5_000)),
            ((-2_000, -5_000), (1_000, 2_000)),
            ((1, 5), (10, 20)),
            ((6_000, 6_000), (6_000, 12_000)),
            ((6_000, 6_001), (6_000, 6_001)),
            ((i64::MAX, 0), (2_147_483_647_000, 4_294_967_294_000)),
        ];
        for ((keepalive, deadtime), expected) in cases {
            let config = Config {
                keepalive: Interval::from_millis(keepalive),
                deadtime: Interval::from_millis(deadtime),
                ..Config::default()
            };
            let times = config.heartbeat_times();
            assert_eq!((times.keepalive, times.deadtime), expected);
        }
    }
}
