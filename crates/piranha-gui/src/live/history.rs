//! The rates of the last hour, for the small charts.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use super::Snapshot;

/// From one sample to the next.
pub const STEP: Duration = Duration::from_secs(10);
/// One hour.
const SAMPLES: usize = 360;
/// Virtual servers with a history. Beyond that there are none but the sum.
const MOST: usize = 2000;

/// A minute's tenth: what was the case in a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// Connections a second.
    pub connections: u32,
    /// Bytes a second, both ways.
    pub bytes: u32,
}

/// The last hour of one virtual server.
pub type Series = VecDeque<Sample>;

/// The last hour.
#[derive(Debug, Default)]
pub struct History {
    last: Option<Timestamp>,
    /// By name and service, since names need not be unique.
    of: HashMap<(String, String), Series>,
    all: Series,
}

impl History {
    /// Takes in what the daemons said, if a step has passed.
    pub fn take(&mut self, snapshot: &Snapshot) {
        let step = i128::try_from(STEP.as_nanos()).unwrap_or(i128::MAX);
        // A watched page asks more often; a little early is in time.
        let due = self.last.is_none_or(|last| {
            snapshot.at.as_nanosecond() - last.as_nanosecond() >= step - step / 10
                || snapshot.at < last
        });
        if !due {
            return;
        }
        self.last = Some(snapshot.at);
        let servers = snapshot.lvsd.as_ref().map_or(&[][..], |status| &status.virtual_servers);
        let mut sum = Sample::default();
        let mut seen = HashMap::with_capacity(self.of.len());
        for server in servers {
            let counters = &server.counters;
            let sample = Sample {
                connections: narrow(counters.connections_per_s),
                bytes: narrow(counters.bytes_in_per_s.saturating_add(counters.bytes_out_per_s)),
            };
            sum.connections = sum.connections.saturating_add(sample.connections);
            sum.bytes = sum.bytes.saturating_add(sample.bytes);
            let key = (server.name.clone(), server.service.clone());
            if seen.len() < MOST {
                let mut series = self.of.remove(&key).unwrap_or_default();
                push(&mut series, sample);
                seen.insert(key, series);
            }
        }
        if snapshot.lvsd.is_ok() {
            // Whoever is gone from the configuration has no history any more.
            self.of = seen;
        } else {
            for series in self.of.values_mut() {
                push(series, Sample::default());
            }
        }
        push(&mut self.all, sum);
    }

    /// The last hour of a virtual server.
    #[must_use]
    pub fn of(&self, name: &str, service: &str) -> Option<&Series> {
        self.of.get(&(name.to_owned(), service.to_owned()))
    }

    /// The last hour of all together.
    #[must_use]
    pub const fn all(&self) -> &Series {
        &self.all
    }
}

fn narrow(rate: u64) -> u32 {
    u32::try_from(rate).unwrap_or(u32::MAX)
}

fn push(series: &mut Series, sample: Sample) {
    if series.len() >= SAMPLES {
        series.pop_front();
    }
    series.push_back(sample);
}

/// The points of a line through the samples in a box of `width` by `height`, as SVG's polyline takes
/// them; empty with fewer than two samples. An hour fills the width.
#[must_use]
pub fn points(series: &Series, width: u32, height: u32) -> String {
    if series.len() < 2 {
        return String::new();
    }
    let most = series.iter().map(|sample| sample.connections).max().unwrap_or(0).max(1);
    let missing = SAMPLES - series.len().min(SAMPLES);
    let (mut text, last) = (String::new(), (SAMPLES - 1) as u64);
    for (index, sample) in series.iter().enumerate() {
        let x = (missing + index) as u64 * u64::from(width) * 10 / last;
        // A line along the edges would be cut in half.
        let inner = u64::from(height.saturating_sub(2)) * 10;
        let y = 10 + inner - u64::from(sample.connections) * inner / u64::from(most);
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&format!("{}.{},{}.{}", x / 10, x % 10, y / 10, y % 10));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::events::tests::{at, lvsd, virtual_server};

    fn snapshot(second: i64, rate: u64) -> Snapshot {
        let mut server = virtual_server("http", &[]);
        server.counters.connections_per_s = rate;
        Snapshot { at: at(second), pulse: Err(String::new()), lvsd: Ok(lvsd(vec![server])) }
    }

    #[test]
    fn an_hour_is_kept_a_sample_every_ten_seconds() {
        let mut history = History::default();
        for second in 0..2 * 3600 {
            history.take(&snapshot(second, second.cast_unsigned()));
        }
        let series = history.of("http", "TCP 192.0.2.10:80").unwrap();
        assert_eq!(series.len(), SAMPLES);
        assert_eq!(history.all().len(), SAMPLES);
        let last = series.back().unwrap().connections;
        assert_eq!(series[SAMPLES - 2].connections + 9, last, "a little early is in time");
    }

    #[test]
    fn a_stopped_lvsd_is_a_gap_and_a_removed_server_is_gone() {
        let mut history = History::default();
        history.take(&snapshot(0, 7));
        let silent = Snapshot { lvsd: Err("not running".to_owned()), ..snapshot(10, 0) };
        history.take(&silent);
        assert_eq!(history.of("http", "TCP 192.0.2.10:80").unwrap()[1], Sample::default());
        let empty = Snapshot { lvsd: Ok(lvsd(Vec::new())), ..snapshot(20, 0) };
        history.take(&empty);
        assert_eq!(history.of("http", "TCP 192.0.2.10:80"), None);
        assert_eq!(history.all().len(), 3);
    }

    #[test]
    fn lines_stay_in_their_box() {
        let series = |values: &[u32]| -> Series {
            values.iter().map(|&connections| Sample { connections, bytes: 0 }).collect()
        };
        assert_eq!(points(&series(&[5]), 120, 26), "");
        assert_eq!(points(&series(&[0, 10]), 359, 26), "358.0,25.0 359.0,1.0");
        assert_eq!(points(&series(&[0, 0]), 359, 26), "358.0,25.0 359.0,25.0");
        let full = points(&series(&vec![u32::MAX; SAMPLES]), 120, 26);
        assert!(full.starts_with("0.0,1.0 ") && full.ends_with(" 120.0,1.0"), "{full}");
    }
}
