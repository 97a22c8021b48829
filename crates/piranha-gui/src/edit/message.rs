//! Pages for when there is no form to show: the file cannot be read, is no configuration, or what was
//! asked for is not there; and everything that is to be said about the file.

use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use lvs_store::Error;

use super::file::Loaded;
use super::findings::{Finding, count};
use super::target::{Target, noun, root};
use super::{Asked, blocking};
use crate::app::App;
use crate::frame::{Frame, Link, Note, Tab};
use crate::gate::User;
use crate::page::render;

/// Findings shown.
const MOST: usize = 200;

#[derive(Template)]
#[template(path = "message.html")]
struct Page {
    frame: Frame,
    heading: &'static str,
    text: String,
    lines: Vec<String>,
    link: Link,
}

/// A text where there is no form to show.
pub(super) struct Said<'a> {
    pub(super) status: StatusCode,
    pub(super) heading: &'static str,
    pub(super) text: String,
    /// What was entered, so that it is not lost.
    pub(super) lines: &'a [String],
    pub(super) link: Link,
}

/// A page with a text.
pub(super) fn say(app: &App, user: &str, tab: Tab, said: Said<'_>) -> Response {
    let Said { status, heading, text, lines, link } = said;
    let frame = Frame::read(app, user, tab, heading);
    let mut response = render(&Page { frame, heading, text, lines: lines.to_vec(), link });
    *response.status_mut() = status;
    response
}

/// The file cannot be read at all.
pub(super) fn unavailable(app: &App, user: &str, tab: Tab, error: &Error) -> Response {
    let said = Said {
        status: StatusCode::SERVICE_UNAVAILABLE,
        heading: "lvs.cf cannot be read",
        text: format!("{error}."),
        lines: &[],
        link: Link::new("Control / Monitoring", "/secure/control"),
    };
    say(app, user, tab, said)
}

/// What a page was about is not there.
pub(super) fn gone(app: &App, user: &str, target: Target, entered: &[String]) -> Response {
    let (what, back) = match target {
        Target::Server(..) => ("real server", target.back()),
        Target::Block(kind, _) | Target::Scripts(kind, _) => (noun(kind), root(kind).to_owned()),
        Target::Global | Target::Redundancy => ("page", target.page()),
    };
    let mut text = format!("There is no such {what}, or not any more.");
    if !entered.is_empty() {
        text += " Nothing is saved. What you have entered:";
    }
    let said = Said {
        status: StatusCode::NOT_FOUND,
        heading: "Not here",
        text,
        lines: entered,
        link: Link::new("Go to the list", back),
    };
    say(app, user, target.tab(), said)
}

/// The status of an answer that says why a change was not saved.
pub(super) fn status(error: &Error) -> StatusCode {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    match error {
        Error::ChangedUnderneath(_) => StatusCode::CONFLICT,
        Error::Write { failure }
            if matches!(failure.source.kind(), StorageFull | QuotaExceeded) =>
        {
            StatusCode::INSUFFICIENT_STORAGE
        }
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Why a change was not saved.
pub(super) fn not_saved(error: &Error) -> Note {
    Note::bad(format!("Nothing is saved: {error}."))
}

/// A line of the file with what is said about it.
struct Line {
    finding: Finding,
    code: &'static str,
    /// The line itself; empty for the file as a whole.
    text: String,
}

#[derive(Template)]
#[template(path = "findings.html")]
struct Findings {
    frame: Frame,
    heading: String,
    file: String,
    text: &'static str,
    lines: Vec<Line>,
    more: usize,
    is_unreadable: bool,
}

/// The file is no configuration: it is shown with what is wrong, and left alone.
pub(super) fn unreadable(app: &App, user: &str, tab: Tab, loaded: &Loaded) -> Response {
    let mut response = findings_page(app, user, tab, loaded);
    *response.status_mut() = StatusCode::CONFLICT;
    response
}

/// GET `/secure/findings`: everything there is to say about the file.
pub(super) async fn findings(
    State(app): State<Arc<App>>,
    Extension(User(user)): Extension<User>,
    _: Asked,
) -> Response {
    blocking(app, move |app| match app.edit.load() {
        Ok(loaded) => findings_page(app, &user, Tab::None, &loaded),
        Err(error) => unavailable(app, &user, Tab::None, &error),
    })
    .await
}

fn findings_page(app: &App, user: &str, tab: Tab, loaded: &Loaded) -> Response {
    let is_unreadable = loaded.is_unreadable();
    let (_, _, words) = count(loaded.diagnostics.iter());
    let (heading, text) = match (is_unreadable, words.is_empty()) {
        (true, _) => (
            "lvs.cf cannot be understood".to_owned(),
            "The daemons keep the configuration they have, and would not start with this file. \
             Because it may say something else than it seems to, the forms leave it alone. Bring a \
             previous version back, or put these lines right on the director.",
        ),
        (false, true) => ("No findings".to_owned(), "There is nothing to say against this file."),
        (false, false) => (
            words,
            "Errors keep the suite, or a part of what the file asks for, from working. Warnings \
             are worth a look.",
        ),
    };
    let bytes = loaded.document.as_bytes();
    let text_lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let lines: Vec<Line> = loaded
        .diagnostics
        .iter()
        .take(MOST)
        .map(|found| Line {
            finding: Finding::new(found),
            code: found.code.as_str(),
            text: found
                .line
                .checked_sub(1)
                .and_then(|index| text_lines.get(index))
                .map(|line| String::from_utf8_lossy(line).trim_end().to_owned())
                .unwrap_or_default(),
        })
        .collect();
    render(&Findings {
        frame: Frame::read(app, user, tab, heading.as_str()),
        heading,
        file: app.edit.path().display().to_string(),
        text,
        more: loaded.diagnostics.len().saturating_sub(lines.len()),
        lines,
        is_unreadable,
    })
}
