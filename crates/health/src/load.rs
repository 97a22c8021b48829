//! Weights that follow a server's load: the pure arithmetic.

/// The first number behind the `:` that follows the word `load` in a load program's output, as in
/// `load average: 0.10, 0.20, 0.30`. `None` when there is none, or it is negative or not finite.
#[must_use]
pub fn parse(output: &[u8]) -> Option<f64> {
    let text = String::from_utf8_lossy(output);
    let behind = &text[text.find("load")?..];
    let number = behind[behind.find(':')? + 1..].trim_start();
    let end = number.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(number.len());
    number[..end].parse().ok().filter(|load: &f64| load.is_finite())
}

/// The weight for a load, from the configured `weight` and the one in force (`last`). Below a load
/// of 1 it grows by up to half of `weight`, at most to `scale` times `weight`; above, it shrinks, at
/// least to `weight`. A difference of less than a quarter of `weight` is not worth a change.
#[must_use]
pub fn adjust(weight: u32, last: u32, scale: u32, load: f64) -> u32 {
    let step = f64::from(weight) / 2.0 * (1.0 - load).cbrt();
    let most = f64::from(weight) * f64::from(scale.max(1));
    let wanted = (f64::from(last) + step).clamp(f64::from(weight), most);
    if (wanted - f64::from(last)).abs() < f64::from(weight) / 4.0 {
        return last;
    }
    // Rounded and clamped to what the type holds: `as` saturates.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let rounded = wanted.round() as u32;
    rounded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_are_found_in_what_uptime_and_rup_print() {
        let cases: [(&[u8], Option<f64>); 9] = [
            (b" 10:02:11 up 3 days, 1 user, load average: 0.52, 0.58, 0.59\n", Some(0.52)),
            (b"rs1 up 12 days, load average: 2.00 1.00 0.50", Some(2.0)),
            (b"load averages:1", Some(1.0)),
            (b"load: abc", None),
            (b"load average", None),
            (b"connection refused", None),
            (b"load: -1", None),
            (b"load: 1.2.3", None),
            (b"\xff\xfe", None),
        ];
        for (output, want) in cases {
            assert_eq!(parse(output), want, "{}", output.escape_ascii());
        }
    }

    #[test]
    fn weights_follow_the_load_within_their_bounds() {
        assert_eq!(adjust(100, 100, 10, 0.0), 150);
        assert_eq!(adjust(100, 150, 10, 0.875), 175);
        assert_eq!(adjust(100, 150, 10, 1.0), 150, "no change at a load of one");
        assert_eq!(adjust(100, 150, 10, 9.0), 100, "never below the configured weight");
        assert_eq!(adjust(100, 980, 10, 0.0), 980, "too small a step to the limit");
        assert_eq!(adjust(100, 960, 10, 0.0), 1000, "never above scale times weight");
        assert_eq!(adjust(100, 100, 1, 0.0), 100);
        assert_eq!(adjust(0, 0, 10, 0.0), 0);
        assert_eq!(adjust(u32::MAX, u32::MAX, u32::MAX, 0.0), u32::MAX);
    }
}
