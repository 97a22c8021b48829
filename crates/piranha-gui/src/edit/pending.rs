//! What is saved but not applied.

use crate::app::App;
use crate::live::{Snapshot, lock};

use super::file::{Glance, Stamp};

/// Summaries that are named.
const NAMED: usize = 3;

/// What is saved but not applied, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// `2 changes not applied.`
    pub title: String,
    /// The last of them, the newest first.
    pub what: Vec<String>,
}

/// What was found last, and for what.
#[derive(Debug, Default)]
pub struct Known(std::sync::Mutex<Option<(Key, Option<Pending>)>>);

type Key = (Option<Stamp>, Option<i64>);

impl Pending {
    /// Compares the file's `serial_no` with the running one; `None` where they agree or nothing runs.
    #[must_use]
    pub fn find(app: &App, file: &Glance) -> Option<Self> {
        let running = running(&app.live.snapshot(), file.serial_no)?;
        let key = (file.stamp, Some(running));
        let known = &app.edit.pending.0;
        if let Some((_, found)) = lock(known).as_ref().filter(|(its, _)| *its == key) {
            return found.clone();
        }
        let versions = app.edit.store.versions().unwrap_or_default();
        let newer = versions.into_iter().filter(|version| version.serial_no > running);
        let summaries: Vec<String> = newer
            .take_while(|version| version.serial_no <= file.serial_no)
            .map(|version| version.summary)
            .collect();
        let found = Self::new(running, file.serial_no, &summaries);
        *lock(known) = Some((key, Some(found.clone())));
        Some(found)
    }

    fn new(running: i64, saved: i64, summaries: &[String]) -> Self {
        let by_number = usize::try_from(saved.saturating_sub(running)).unwrap_or(0);
        let title = match (summaries.len(), by_number) {
            (1, _) | (0, 1) => "1 change not applied.".to_owned(),
            (0, 0) => format!("The file is not what runs (serial_no {saved}, running {running})."),
            (0, count) | (count, _) => format!("{count} changes not applied."),
        };
        let what = summaries.iter().filter(|text| !text.is_empty()).take(NAMED).cloned().collect();
        Self { title, what }
    }
}

/// The running `serial_no` that is not the file's; `None` where there is none such.
pub(crate) fn running(snapshot: &Snapshot, saved: i64) -> Option<i64> {
    let pulse = snapshot.pulse.as_ref().ok().map(|status| status.serial_no);
    let lvsd = snapshot.lvsd.as_ref().ok().map(|status| status.serial_no);
    [pulse, lvsd].into_iter().flatten().find(|serial| *serial != saved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_counted_by_version_else_by_number() {
        let title = |running, saved, summaries: &[&str]| {
            let summaries: Vec<String> = summaries.iter().map(|text| (*text).to_owned()).collect();
            Pending::new(running, saved, &summaries).title
        };
        assert_eq!(title(4, 5, &["a"]), "1 change not applied.");
        assert_eq!(title(4, 5, &[]), "1 change not applied.");
        assert_eq!(title(4, 9, &["a", "b"]), "2 changes not applied.");
        assert_eq!(title(4, 9, &[]), "5 changes not applied.");
        assert_eq!(title(9, 4, &[]), "The file is not what runs (serial_no 4, running 9).");
        let summaries: Vec<String> = ["d", "", "c", "b", "a"].map(str::to_owned).into();
        assert_eq!(Pending::new(0, 5, &summaries).what, ["d", "c", "b"]);
    }
}
