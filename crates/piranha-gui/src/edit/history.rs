//! HISTORY: the versions of lvs.cf, what each has changed, and the way back to it.

use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use lvs_store::{Error, Identity, Snapshot, Version, unified};

use super::difference::{Line, lines};
use super::file::{Loaded, tell};
use super::{Asked, blocking, message, notes_of, redirect};
use crate::app::App;
use crate::frame::{Frame, Link, Note, Tab};
use crate::gate::{Fields, User};
use crate::page::render;

const PAGE: &str = "/secure/history";

/// A version in the list.
struct Row {
    number: u64,
    time: String,
    serial_no: i64,
    author: String,
    summary: String,
    /// `as the file is`, `running`.
    marks: Vec<(&'static str, &'static str)>,
}

#[derive(Template)]
#[template(path = "history.html")]
struct List {
    frame: Frame,
    file: String,
    rows: Vec<Row>,
    /// What is to be known before.
    text: String,
}

#[derive(Template)]
#[template(path = "version.html")]
struct One {
    frame: Frame,
    row: Row,
    /// What it has changed; empty of the first there is.
    before: Vec<Line>,
    before_name: String,
    /// What restoring it changes.
    restoring: Vec<Line>,
    base: String,
    can_be_restored: bool,
    /// Why it cannot be.
    refusal: String,
    text: String,
}

fn row(version: &Version) -> Row {
    let time = Timestamp::try_from(version.time).unwrap_or(Timestamp::UNIX_EPOCH);
    Row {
        number: version.number,
        time: time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        serial_no: version.serial_no,
        author: version.author.clone().unwrap_or_else(|| "not this page".to_owned()),
        summary: version.summary.clone(),
        marks: Vec::new(),
    }
}

/// The file as it is; a missing one is empty.
fn current(app: &App) -> Result<Snapshot, Error> {
    match app.edit.store.read() {
        Err(Error::Missing(_)) => Ok(Snapshot { bytes: Vec::new(), identity: Identity::ABSENT }),
        other => other,
    }
}

/// GET `/secure/history`.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Extension(User(user)): Extension<User>,
    asked: Asked,
) -> Response {
    blocking(app, move |app| {
        let versions = match app.edit.store.versions() {
            Ok(versions) => versions,
            Err(error) => return message::unavailable(app, &user, Tab::History, &error),
        };
        let mut frame = Frame::read(app, &user, Tab::History, "History");
        frame.notes = asked.notes(app);
        let is_latest = is_latest(app, &versions);
        let running = running(app);
        let mut rows: Vec<Row> = versions.iter().map(row).collect();
        if let Some(first) = rows.first_mut().filter(|_| is_latest) {
            first.marks.push(("as the file is", "up"));
        }
        if let Some(row) = rows.iter_mut().find(|row| Some(row.serial_no) == running) {
            row.marks.push(("running", "off"));
        }
        let text = match (rows.is_empty(), is_latest) {
            (true, _) => "No version is kept yet: the first comes with the first change made here.",
            (false, true) => "The latest first. A version shows what it has changed.",
            (false, false) => {
                "The file was changed without this page since the latest of these versions. What it \
                 is now becomes a version when something is saved here."
            }
        };
        let file = app.edit.path().display().to_string();
        render(&List { frame, file, rows, text: text.to_owned() })
    })
    .await
}

/// Whether the latest version is the file as it is.
fn is_latest(app: &App, versions: &[Version]) -> bool {
    let Some(latest) = versions.first() else { return false };
    let latest = app.edit.store.version(latest.number).map(|(_, text)| text).ok();
    latest.is_some_and(|text| current(app).is_ok_and(|current| current.bytes == text))
}

fn running(app: &App) -> Option<i64> {
    let snapshot = app.live.snapshot();
    let pulse = snapshot.pulse.as_ref().ok().map(|status| status.serial_no);
    pulse.or_else(|| snapshot.lvsd.as_ref().ok().map(|status| status.serial_no))
}

/// GET `/secure/history/{version}`.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Extension(User(user)): Extension<User>,
    UrlPath(version): UrlPath<String>,
    asked: Asked,
) -> Response {
    blocking(app, move |app| {
        let notes = asked.notes(app);
        one(app, &user, &version, notes, StatusCode::OK)
    })
    .await
}

fn one(app: &App, user: &str, version: &str, notes: Vec<Note>, status: StatusCode) -> Response {
    let store = &app.edit.store;
    // What is no number is no version.
    let number = version.parse().unwrap_or(0);
    let found = store.version(number).and_then(|found| Ok((found, store.versions()?)));
    let ((version, text), versions) = match found {
        Ok(found) => found,
        Err(error) => return absent(app, user, &error),
    };
    let before = versions.iter().find(|other| other.number < number);
    let before = before.and_then(|before| store.version(before.number).ok());
    let (difference, before_name) = match &before {
        Some((before, old)) => {
            let names = [before.number, number].map(|number| format!("version {number}"));
            (unified(old, &text, &names[0], &names[1]), names[0].clone())
        }
        None => (String::new(), String::new()),
    };
    let now = current(app);
    let (base, restoring) = match &now {
        Ok(now) => {
            let restoring = unified(&now.bytes, &text, "the file", &format!("version {number}"));
            (now.identity.to_string(), restoring)
        }
        Err(_) => (String::new(), String::new()),
    };
    let parsed = parsed(app, &text);
    let is_same = now.as_ref().is_ok_and(|now| now.bytes == text);
    let refusal = match (&now, is_same, parsed.is_unreadable()) {
        (Err(error), ..) => format!("It cannot be restored: {error}."),
        (_, true, _) => "The file is this version.".to_owned(),
        (_, _, true) => "It cannot be restored: its syntax is wrong.".to_owned(),
        _ => String::new(),
    };
    let mut frame = Frame::read(app, user, Tab::History, format!("Version {number}"));
    frame.notes = notes;
    let mut response = render(&One {
        frame,
        row: row(&version),
        before: lines(&difference),
        before_name,
        restoring: lines(&restoring),
        base,
        can_be_restored: refusal.is_empty(),
        refusal,
        text: String::from_utf8_lossy(&text).into_owned(),
    });
    *response.status_mut() = status;
    response
}

fn absent(app: &App, user: &str, error: &Error) -> Response {
    let status = match error {
        Error::NoSuchVersion(_) => StatusCode::NOT_FOUND,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let said = message::Said {
        status,
        heading: "Not here",
        text: format!("{error}."),
        lines: &[],
        link: Link::new("All versions", PAGE),
    };
    message::say(app, user, Tab::History, said)
}

fn parsed(app: &App, text: &[u8]) -> Loaded {
    let lvs_config::Parsed { document, config, diagnostics } =
        lvs_config::parse(text, &app.edit.names);
    Loaded { identity: Identity::ABSENT, document, config, diagnostics }
}

/// POST `/secure/history/{version}`: brings it back.
pub(super) async fn restore(
    State(app): State<Arc<App>>,
    Extension(User(user)): Extension<User>,
    UrlPath(version): UrlPath<String>,
    Extension(fields): Extension<Fields>,
) -> Response {
    blocking(app, move |app| restore_now(app, &user, &version, &fields)).await
}

fn restore_now(app: &App, user: &str, version: &str, fields: &Fields) -> Response {
    let store = &app.edit.store;
    let number = version.parse().unwrap_or(0);
    let text = match store.version(number) {
        Ok((_, text)) => text,
        Err(error) => return absent(app, user, &error),
    };
    let again = |note, status| one(app, user, version, vec![note], status);
    if parsed(app, &text).is_unreadable() {
        return again(Note::bad("Nothing is saved."), StatusCode::UNPROCESSABLE_ENTITY);
    }
    let base: Option<Identity> = fields.get("base").and_then(|base| base.parse().ok());
    let now = current(app);
    let Some(base) = base.filter(|base| now.as_ref().is_ok_and(|now| now.identity == *base)) else {
        let text = "lvs.cf was changed since this page was shown, and nothing is restored. Below is \
                    what differs now.";
        return again(Note::bad(text), StatusCode::CONFLICT);
    };
    let before = lvs_config::Document::new(now.map(|now| now.bytes).unwrap_or_default());
    match store.restore(&base, number, user) {
        Ok(saved) => {
            let after = lvs_config::Document::new(saved.snapshot.bytes.clone());
            let changes = super::changes::between(&before, &after);
            if saved.is_written {
                tell(app, user, &saved, &format!("version {number} restored"));
            }
            redirect(app, PAGE, notes_of(app, &saved, &changes))
        }
        Err(error) => again(message::not_saved(&error), message::status(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_without_an_author_are_not_of_this_page() {
        let version = Version {
            number: 3,
            time: std::time::SystemTime::UNIX_EPOCH,
            author: None,
            summary: String::new(),
            serial_no: 7,
            size: 0,
        };
        let row = row(&version);
        assert_eq!((row.author.as_str(), row.serial_no), ("not this page", 7));
        assert!(row.time.starts_with("19"), "{}", row.time);
    }
}
