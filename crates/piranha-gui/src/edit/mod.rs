//! The pages that change lvs.cf: GLOBAL SETTINGS, REDUNDANCY, VIRTUAL SERVERS or FAILOVER, HISTORY; and
//! the one that changes the password.
//!
//! Pure: [`fields`] (every field as one table), [`form`] (entries and documents), [`changes`]
//! (differences in words), [`findings`] (what is said of the file, by place), [`effect`] (what applying
//! does). With I/O: [`file`] and the pages.
//!
//! Blocks and servers have numbers in paths, from 1, because their names need not be unique. Every form
//! carries the identity of the file it was made from; where the file is another one by then, nothing is
//! saved, and the form is shown again with what was entered.

pub mod changes;
pub mod effect;
pub mod fields;
pub mod file;
pub mod findings;
pub mod form;
pub mod names;
pub mod pending;
pub mod target;

mod difference;
mod history;
mod list;
mod message;
mod password;
mod settings;
mod view;

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use lvs_config::BlockKind;

pub use file::Edit;

use crate::app::App;
use crate::frame::Note;
use crate::page::{Problem, problem};

/// The pages of this part.
pub fn router() -> Router<Arc<App>> {
    let blocks = |kind: BlockKind| {
        let root = match kind {
            BlockKind::Virtual => "/virtual",
            BlockKind::Failover => "/failover",
        };
        Router::new()
            .route(
                root,
                get(move |s, u, q| list::show(kind, s, u, q))
                    .post(move |s, u, f| list::act(kind, s, u, f)),
            )
            .route(
                &format!("{root}/{{block}}"),
                get(move |s, u, p, q| settings::show_block(kind, s, u, p, q))
                    .post(move |s, u, p, f| settings::accept_block(kind, s, u, p, f)),
            )
            .route(
                &format!("{root}/{{block}}/scripts"),
                get(move |s, u, p, q| settings::show_scripts(kind, s, u, p, q))
                    .post(move |s, u, p, f| settings::accept_scripts(kind, s, u, p, f)),
            )
            .route(
                &format!("{root}/{{block}}/servers"),
                get(move |s, u, p, q| list::show_servers(kind, s, u, p, q))
                    .post(move |s, u, p, f| list::act_servers(kind, s, u, p, f)),
            )
            .route(
                &format!("{root}/{{block}}/servers/{{server}}"),
                get(move |s, u, p, q| settings::show_server(kind, s, u, p, q))
                    .post(move |s, u, p, f| settings::accept_server(kind, s, u, p, f)),
            )
    };
    Router::new()
        .route("/global", get(settings::show_global).post(settings::accept_global))
        .route("/redundancy", get(settings::show_redundancy).post(settings::accept_redundancy))
        .merge(blocks(BlockKind::Virtual))
        .merge(blocks(BlockKind::Failover))
        .route("/changes", get(difference::page))
        .route("/findings", get(message::findings))
        .route("/history", get(history::list))
        .route("/history/{version}", get(history::show).post(history::restore))
        .route("/password", get(password::show).post(password::change))
}

/// What the address says behind its question mark. What is not understood is not there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked(Vec<(String, String)>);

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for Asked {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        _: &S,
    ) -> Result<Self, Self::Rejection> {
        let pairs = axum::extract::Query::try_from_uri(&parts.uri);
        Ok(Self(pairs.map(|axum::extract::Query(pairs)| pairs).unwrap_or_default()))
    }
}

impl Asked {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    /// A block's or server's number, which counts from 1, as an index.
    fn index(&self, name: &str) -> Option<usize> {
        usize::try_from(self.number(name)?).ok()?.checked_sub(1)
    }

    /// What is to be said first.
    fn notes(&self, app: &App) -> Vec<Note> {
        self.number("note").map(|number| app.edit.notes.find(number)).unwrap_or_default()
    }
}

/// From this size of lvs.cf on, in bytes, the memory for a page is given back to the system after it.
const LARGE: u64 = 64 * 1024;

/// Does what may wait for disks and name servers.
async fn blocking(app: Arc<App>, work: impl FnOnce(&App) -> Response + Send + 'static) -> Response {
    let done = tokio::task::spawn_blocking(move || {
        let response = work(&app);
        if app.edit.glance().stamp.is_some_and(|(_, _, size, ..)| size > LARGE) {
            daemon::memory::trim();
        }
        response
    });
    match done.await {
        Ok(response) => response,
        Err(error) => {
            log::error!("page: {error}");
            problem(&Problem {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                title: "Something went wrong",
                text: "The page could not be made. The log on the director says more.".to_owned(),
            })
        }
    }
}

/// Another page, which begins with notes.
fn redirect(app: &App, path: &str, notes: Vec<Note>) -> Response {
    let number = app.edit.notes.keep(notes);
    let sign = if path.contains('?') { '&' } else { '?' };
    Redirect::to(&format!("{path}{sign}note={number}")).into_response()
}

/// What is to be said after a save.
fn notes_of(app: &App, saved: &lvs_store::Saved, changes: &[changes::Change]) -> Vec<Note> {
    const MOST: usize = 12;
    if !saved.is_written {
        return vec![Note::good("Nothing was changed: the file says so already.")];
    }
    let mut lines: Vec<String> = changes.iter().take(MOST).map(ToString::to_string).collect();
    if changes.len() > MOST {
        lines.push(format!("and {} more", changes.len() - MOST));
    }
    let mut notes =
        vec![Note::good(format!("Saved as serial_no {}.", saved.serial_no)).with(lines)];
    notes.extend(saved.warnings.iter().map(|warning| Note::warn(warning.clone())));
    let diagnostics = lvs_config::parse(&saved.snapshot.bytes, &app.edit.names).diagnostics;
    let (errors, _, words) = findings::count(diagnostics.iter());
    if errors > 0 {
        let text = format!("The file has {words}. What it asks for cannot work as a whole yet.");
        notes.push(Note::warn(text).leading("Show them", "/secure/findings"));
    }
    notes
}
