//! What is saved but does not run yet: in words, as commands, and as text.

use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use lvs_config::{Document, Resolver, ServiceKind, parse};

use super::changes::{self, Change};
use super::effect::{Effect, effect};
use super::fields;
use super::file::Loaded;
use super::{Asked, blocking, message};
use crate::app::App;
use crate::frame::{Frame, Tab};
use crate::gate::User;
use crate::page::render;

/// The most that is shown of each kind.
const MOST: usize = 1000;

/// A line of a difference.
pub(super) struct Line {
    pub(super) class: &'static str,
    pub(super) text: String,
}

/// A difference as lines, of which no more are shown than anyone reads.
pub(super) fn lines(difference: &str) -> Vec<Line> {
    let mut lines: Vec<Line> = difference
        .lines()
        .take(MOST)
        .map(|text| Line {
            class: match text.as_bytes().first() {
                _ if text.starts_with("--- ") || text.starts_with("+++ ") => "name",
                Some(b'+') => "new",
                Some(b'-') => "old",
                Some(b'@') => "place",
                _ => "",
            },
            text: text.to_owned(),
        })
        .collect();
    let more = difference.lines().count().saturating_sub(lines.len());
    if more > 0 {
        lines.push(Line { class: "place", text: format!("… {more} more lines") });
    }
    lines
}

/// What runs.
enum Running {
    /// Neither pulse nor lvsd.
    Nothing,
    /// The file as it is.
    TheFile,
    /// A version with this `serial_no`, and its text if it is kept.
    Version(i64, Option<Vec<u8>>),
}

#[derive(Template)]
#[template(path = "difference.html")]
struct Page {
    frame: Frame,
    heading: &'static str,
    text: String,
    /// Whether there is something that could be applied.
    can_be_applied: bool,
    /// Why it cannot be.
    refusal: Option<String>,
    groups: Vec<Group>,
    table: Option<Effect>,
    more_steps: usize,
    lines: Vec<Line>,
}

/// Changes that have the same effect.
struct Group {
    effect: &'static str,
    changes: Vec<Change>,
}

/// GET `/secure/changes`.
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Extension(User(user)): Extension<User>,
    _: Asked,
) -> Response {
    blocking(app, move |app| match app.edit.load() {
        Ok(loaded) => shown(app, &user, &loaded),
        Err(error) => message::unavailable(app, &user, Tab::None, &error),
    })
    .await
}

fn shown(app: &App, user: &str, loaded: &Loaded) -> Response {
    let running = running(app);
    let (heading, text) = match &running {
        Running::Nothing => (
            "Nothing runs",
            "Neither pulse nor lvsd answers. This is what the file does when pulse starts."
                .to_owned(),
        ),
        Running::TheFile => {
            ("Everything is applied", "The daemons run the file as it is.".to_owned())
        }
        Running::Version(serial, Some(_)) => (
            "Not applied yet",
            format!("What runs has serial_no {serial}. Applying the file means:"),
        ),
        Running::Version(serial, None) => (
            "Not applied yet",
            format!(
                "What runs has serial_no {serial}, of which no version is kept: what applying \
                 changes cannot be told. This is what the file does from nothing."
            ),
        ),
    };
    let old = match running {
        Running::Version(_, text) => text,
        Running::Nothing => None,
        Running::TheFile => Some(loaded.document.as_bytes().to_vec()),
    };
    let mut table = table(old.as_deref(), loaded, &app.edit.names);
    let steps = table.as_mut().map_or(0, |table| {
        let count = table.steps.len();
        table.steps.truncate(MOST);
        count
    });
    let groups = old
        .as_ref()
        .map(|old| groups(changes::between(&Document::new(old.clone()), &loaded.document)));
    let difference = old.as_ref().map(|old| {
        let new = loaded.document.as_bytes();
        lvs_store::unified(old, new, "running", "saved")
    });
    render(&Page {
        frame: Frame { pending: None, ..Frame::read(app, user, Tab::None, heading) },
        heading,
        text,
        can_be_applied: heading == "Not applied yet",
        refusal: refusal(loaded),
        groups: groups.unwrap_or_default(),
        table,
        more_steps: steps.saturating_sub(MOST),
        lines: lines(&difference.unwrap_or_default()),
    })
}

/// What runs, by its `serial_no`.
fn running(app: &App) -> Running {
    let snapshot = app.live.snapshot();
    if snapshot.pulse.is_err() && snapshot.lvsd.is_err() {
        return Running::Nothing;
    }
    let saved = app.edit.glance().serial_no;
    let Some(serial) = super::pending::running(&snapshot, saved) else { return Running::TheFile };
    let versions = app.edit.store.versions().unwrap_or_default();
    let version = versions.iter().find(|version| version.serial_no == serial);
    let text = version.and_then(|version| app.edit.store.version(version.number).ok());
    Running::Version(serial, text.map(|(_, text)| text))
}

fn refusal(loaded: &Loaded) -> Option<String> {
    let error = loaded.config.as_ref().err()?;
    Some(format!(
        "This file cannot be applied: {error}. The daemons would refuse it and keep what they have."
    ))
}

/// What becomes of the table; `None` where there is none.
fn table(old: Option<&[u8]>, loaded: &Loaded, resolver: &dyn Resolver) -> Option<Effect> {
    let new = loaded.config.as_ref().ok().filter(|config| config.service == ServiceKind::Lvs)?;
    let old = old.and_then(|old| parse(old, resolver).config.ok());
    Some(effect(old.as_ref(), new))
}

fn groups(mut changes: Vec<Change>) -> Vec<Group> {
    changes.truncate(MOST);
    changes.sort_by_key(|change| change.effect);
    let chunks = changes.chunk_by(|one, other| one.effect == other.effect);
    chunks
        .map(|chunk| {
            let effect = chunk.first().map_or(fields::Effect::None, |change| change.effect);
            Group { effect: effect.sentence(), changes: chunk.to_vec() }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_difference_have_their_kinds_and_are_bounded() {
        let classes: Vec<_> = lines("--- a\n+++ b\n@@ -1 +1 @@\n x\n-y\n+z\n")
            .iter()
            .map(|line| line.class)
            .collect();
        assert_eq!(classes, ["name", "name", "place", "", "old", "new"]);
        let long = lines(&"+x\n".repeat(MOST + 5));
        assert_eq!((long.len(), long[MOST].text.as_str()), (MOST + 1, "… 5 more lines"));
    }
}
