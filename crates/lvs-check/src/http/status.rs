//! Sets of statuses: `200`, `200,204`, `200-299,401`.

use std::fmt;
use std::ops::RangeInclusive;

/// Statuses that are taken for an answer as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statuses(Vec<RangeInclusive<u16>>);

impl Statuses {
    /// From a list of statuses and ranges.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Statuses, String> {
        text.split(',').map(range).collect::<Result<_, _>>().map(Statuses)
    }

    /// Whether this one is among them.
    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

fn range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse().ok().filter(|status| (100..=999).contains(status));
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err(format!("no status (100 to 999) or range of them: '{text}'")),
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, range) in self.0.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{comma}{first}")?,
                (first, last) => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges() {
        let set = Statuses::new("200-299,401").unwrap();
        assert_eq!(set.to_string(), "200-299,401");
        for (status, want) in [(199, false), (200, true), (299, true), (300, false), (401, true)] {
            assert_eq!(set.contains(status), want, "{status}");
        }
        for bad in ["", "20", "1000", "200-", "-200", "300-200", "200,", "2xx", "200 "] {
            assert!(Statuses::new(bad).is_err(), "{bad}");
        }
    }
}
