//! The status: what pulse says of the pair, what lvsd says of the servers.

mod pair;
mod servers;

use crate::ask::{Silence, Sockets};
use crate::table::Paint;
use crate::{Failure, Outcome};
use serde_json::{Map, Value, json};

/// What both have said.
#[derive(Debug)]
struct View {
    pulse: Result<pulse::status::Status, Silence>,
    lvsd: Result<lvsd::status::Status, Silence>,
}

/// Asks both and shows what they say. A failure where nobody answers, and where one does not that
/// should.
pub(crate) fn status(sockets: &Sockets, json: bool) -> Outcome {
    let view = View { pulse: sockets.pulse_status(), lvsd: sockets.lvsd_status() };
    let output = match (&view.pulse, &view.lvsd) {
        (Err(_), Err(_)) => String::new(),
        _ if json => serde_json::to_string_pretty(&view.to_json()).unwrap_or_default() + "\n",
        _ => view.show(Paint::for_stdout()),
    };
    match view.missing() {
        None => Ok(output),
        Some(message) => Err(Failure { output, message }),
    }
}

impl View {
    /// Why the view is not whole though it should be.
    fn missing(&self) -> Option<String> {
        match (&self.pulse, &self.lvsd) {
            (Ok(_), Ok(_)) => None,
            (Ok(pulse), Err(silence)) if silence.not_running && !needs_lvsd(pulse) => None,
            // lvsd may well run by itself.
            (Err(silence), Ok(_)) if silence.not_running => None,
            (Err(pulse), Err(lvsd)) => {
                Some(format!("{}\npiranhactl: {}", lvsd.reason, pulse.reason))
            }
            (Ok(_), Err(silence)) | (Err(silence), Ok(_)) => Some(silence.reason.clone()),
        }
    }

    fn show(&self, paint: Paint) -> String {
        let pair = match &self.pulse {
            Ok(status) => pair::show(status, paint),
            Err(silence) if silence.not_running => {
                "pulse is not running: no heartbeats, no failover\n".to_owned()
            }
            Err(silence) => format!("{}: {}\n", paint.bad("pulse"), silence.reason),
        };
        let servers = match (&self.lvsd, &self.pulse) {
            (Ok(status), _) => servers::show(status, paint),
            (Err(_), Ok(pulse)) if pulse.service == "fos" => return pair,
            (Err(silence), Ok(pulse)) if silence.not_running && !needs_lvsd(pulse) => {
                "lvsd does not run here: that is the active node's part\n".to_owned()
            }
            (Err(silence), _) => format!("{}: {}\n", paint.bad("lvsd"), silence.reason),
        };
        format!("{pair}\n{servers}")
    }

    /// lvsd's status as it always was, `pulse` beside it. Where lvsd does not answer, its members are
    /// there all the same.
    fn to_json(&self) -> Value {
        let mut members = match &self.lvsd {
            Ok(status) => match serde_json::to_value(status) {
                Ok(Value::Object(members)) => members,
                _ => Map::new(),
            },
            Err(_) => self.without_lvsd(),
        };
        let error = |silence: Option<&Silence>| silence.map(|silence| silence.reason.clone());
        members.insert("lvsd_error".to_owned(), json!(error(self.lvsd.as_ref().err())));
        members.insert("pulse".to_owned(), json!(self.pulse.as_ref().ok()));
        members.insert("pulse_error".to_owned(), json!(error(self.pulse.as_ref().err())));
        Value::Object(members)
    }

    fn without_lvsd(&self) -> Map<String, Value> {
        let pulse = self.pulse.as_ref().ok();
        let members = [
            ("version", json!(pulse.map(|pulse| &pulse.version))),
            ("pid", Value::Null),
            ("file", json!(pulse.map(|pulse| &pulse.file))),
            ("serial_no", json!(pulse.map(|pulse| pulse.serial_no))),
            ("uptime_s", Value::Null),
            ("standby", Value::Null),
            ("reload_error", Value::Null),
            ("table_error", Value::Null),
            ("virtual_servers", json!([])),
        ];
        members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// Whether a node in this state must have an lvsd that answers.
fn needs_lvsd(pulse: &pulse::status::Status) -> bool {
    pulse.service != "fos" && pulse.node.state == "active"
}

/// A duration in its two largest units; below a minute with tenths.
fn duration(ms: u64) -> String {
    if ms < 10_000 {
        return format!("{}.{} s", ms / 1000, ms % 1000 / 100);
    }
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let mut left = ms / 1000;
    let mut parts = Vec::new();
    for (size, name) in units {
        if left >= size {
            parts.push(format!("{} {name}", left / size));
            left %= size;
        }
    }
    parts.truncate(2);
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let cases = [
            (0, "0.0 s"),
            (1_290, "1.2 s"),
            (59_999, "59 s"),
            (60_000, "1 min"),
            (3_725_000, "1 h 2 min"),
            (90_061_000, "1 d 1 h"),
        ];
        for (ms, want) in cases {
            assert_eq!(duration(ms), want);
        }
    }

    fn silence(not_running: bool, who: &str) -> Silence {
        Silence { not_running, reason: format!("{who} is silent") }
    }

    #[test]
    fn who_must_answer() {
        let pair = |state: &str| Ok(pair::tests::status(state));
        let servers = || Ok(servers::tests::status());
        let gone = |who| silence(true, who);
        let mute = |who| silence(false, who);
        let cases: [(View, Option<&str>, &[&str]); 9] = [
            (View { pulse: pair("active"), lvsd: servers() }, None, &["this node", "web TCP"]),
            (
                View { pulse: pair("inactive"), lvsd: Err(gone("lvsd")) },
                None,
                &["lvsd does not run here"],
            ),
            (
                View { pulse: pair("active"), lvsd: Err(gone("lvsd")) },
                Some("lvsd is silent"),
                &["this node", "lvsd: lvsd is silent"],
            ),
            (
                View { pulse: pair("inactive"), lvsd: Err(mute("lvsd")) },
                Some("lvsd is silent"),
                &["lvsd: lvsd is silent"],
            ),
            (
                View { pulse: Err(gone("pulse")), lvsd: servers() },
                None,
                &["pulse is not running", "web TCP"],
            ),
            (
                View { pulse: Err(mute("pulse")), lvsd: servers() },
                Some("pulse is silent"),
                &["pulse: pulse is silent", "web TCP"],
            ),
            (
                View { pulse: Err(gone("pulse")), lvsd: Err(gone("lvsd")) },
                Some("lvsd is silent\npiranhactl: pulse is silent"),
                &[],
            ),
            (View { pulse: fos("active"), lvsd: Err(gone("lvsd")) }, None, &["this node"]),
            (View { pulse: fos("inactive"), lvsd: Err(gone("lvsd")) }, None, &["this node"]),
        ];
        for (view, missing, shown) in cases {
            assert_eq!(view.missing().as_deref(), missing, "{view:?}");
            let text = view.show(Paint(false));
            for words in shown {
                assert!(text.contains(words), "{words}: {text}");
            }
            assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        }
    }

    fn fos(state: &str) -> Result<pulse::status::Status, Silence> {
        let mut status = pair::tests::status(state);
        status.service = "fos".to_owned();
        Ok(status)
    }

    #[test]
    fn the_members_of_the_json_are_always_there() {
        let whole =
            View { pulse: Ok(pair::tests::status("active")), lvsd: Ok(servers::tests::status()) };
        let half =
            View { pulse: Ok(pair::tests::status("inactive")), lvsd: Err(silence(true, "lvsd")) };
        let other = View { pulse: Err(silence(true, "pulse")), lvsd: Ok(servers::tests::status()) };
        let members = |view: &View| {
            let json = view.to_json();
            json.as_object().unwrap().keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(members(&whole), members(&half));
        assert_eq!(members(&whole), members(&other));
        let json = half.to_json();
        assert_eq!(json["virtual_servers"], json!([]));
        assert_eq!(json["pulse"]["node"]["state"], "inactive");
        assert_eq!((&json["pid"], &json["lvsd_error"]), (&Value::Null, &"lvsd is silent".into()));
        assert_eq!(other.to_json()["pulse"], Value::Null);
        assert_eq!(whole.to_json()["virtual_servers"][0]["name"], "web");
    }
}
