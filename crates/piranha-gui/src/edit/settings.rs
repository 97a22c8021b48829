//! Pages with a form: GLOBAL SETTINGS, REDUNDANCY, a block, its checks, a real server.

use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::Response;
use lvs_config::{BlockKind, Document, Path};
use lvs_store::Identity;

use super::fields::{Kind, REDUNDANCY};
use super::file::{Loaded, save};
use super::form::{Entries, Messages, Outcome, enter, merge};
use super::target::{Part, Target, parts};
use super::view::{Button, FormView};
use super::{Asked, blocking, message, notes_of, redirect};
use crate::app::App;
use crate::frame::{Frame, Link, Note};
use crate::gate::{Fields, User};
use crate::page::render;

type Its = State<Arc<App>>;
type Who = Extension<User>;
type Sent = Extension<Fields>;
type One = UrlPath<String>;
type Two = UrlPath<(String, String)>;

/// A number of a path, which counts from 1, as an index; what is none leads nowhere.
pub(super) fn index(text: &str) -> usize {
    text.parse().ok().and_then(|number: usize| number.checked_sub(1)).unwrap_or(usize::MAX)
}

pub(super) async fn show_global(State(app): Its, Extension(user): Who, asked: Asked) -> Response {
    show(app, user, asked, Target::Global).await
}

pub(super) async fn accept_global(
    State(app): Its,
    Extension(user): Who,
    Extension(fields): Sent,
) -> Response {
    accept(app, user, fields, Target::Global).await
}

pub(super) async fn show_redundancy(
    State(app): Its,
    Extension(user): Who,
    asked: Asked,
) -> Response {
    show(app, user, asked, Target::Redundancy).await
}

pub(super) async fn accept_redundancy(
    State(app): Its,
    Extension(user): Who,
    Extension(fields): Sent,
) -> Response {
    accept(app, user, fields, Target::Redundancy).await
}

pub(super) async fn show_block(
    kind: BlockKind,
    State(app): Its,
    Extension(user): Who,
    UrlPath(block): One,
    asked: Asked,
) -> Response {
    show(app, user, asked, Target::Block(kind, index(&block))).await
}

pub(super) async fn accept_block(
    kind: BlockKind,
    State(app): Its,
    Extension(user): Who,
    UrlPath(block): One,
    Extension(fields): Sent,
) -> Response {
    accept(app, user, fields, Target::Block(kind, index(&block))).await
}

pub(super) async fn show_scripts(
    kind: BlockKind,
    State(app): Its,
    Extension(user): Who,
    UrlPath(block): One,
    asked: Asked,
) -> Response {
    show(app, user, asked, Target::Scripts(kind, index(&block))).await
}

pub(super) async fn accept_scripts(
    kind: BlockKind,
    State(app): Its,
    Extension(user): Who,
    UrlPath(block): One,
    Extension(fields): Sent,
) -> Response {
    accept(app, user, fields, Target::Scripts(kind, index(&block))).await
}

pub(super) async fn show_server(
    kind: BlockKind,
    State(app): Its,
    Extension(user): Who,
    UrlPath((block, server)): Two,
    asked: Asked,
) -> Response {
    show(app, user, asked, Target::Server(kind, index(&block), index(&server))).await
}

pub(super) async fn accept_server(
    kind: BlockKind,
    State(app): Its,
    Extension(user): Who,
    UrlPath((block, server)): Two,
    Extension(fields): Sent,
) -> Response {
    accept(app, user, fields, Target::Server(kind, index(&block), index(&server))).await
}

#[derive(Template)]
#[template(path = "settings.html")]
struct Page {
    frame: Frame,
    heading: String,
    /// Whether there is a backup director, on the page about it.
    redundancy: Option<bool>,
    form: FormView,
    /// Where a check of the server can be tried.
    test: Option<String>,
}

/// What a page shows besides the file.
#[derive(Default)]
struct Shown {
    entries: Option<Entries>,
    messages: Messages,
    notes: Vec<Note>,
    status: StatusCode,
}

async fn show(app: Arc<App>, User(user): User, asked: Asked, target: Target) -> Response {
    blocking(app, move |app| {
        let loaded = match app.edit.load() {
            Ok(loaded) => loaded,
            Err(error) => return message::unavailable(app, &user, target.tab(), &error),
        };
        let shown = Shown { notes: asked.notes(app), ..Shown::default() };
        page(app, &user, &loaded, target, shown)
    })
    .await
}

fn page(app: &App, user: &str, loaded: &Loaded, target: Target, shown: Shown) -> Response {
    if loaded.is_unreadable() {
        return message::unreadable(app, user, target.tab(), loaded);
    }
    if !target.is_there(&loaded.document) {
        return message::gone(app, user, target, &[]);
    }
    let document = &loaded.document;
    let entries =
        shown.entries.unwrap_or_else(|| Entries::shown(target.form(), document, target.path()));
    let mut form = FormView::new(loaded, target, &entries, &shown.messages);
    let heading = target.title(document);
    let mut frame = Frame::read(app, user, target.tab(), heading.as_str());
    frame.notes = shown.notes;
    if let Some(message) = shown.messages.get("") {
        frame.notes.push(Note::bad(message.as_str()));
    }
    frame.parts = block_parts(target, document);
    let redundancy = (target == Target::Redundancy).then(|| is_enabled(document));
    form.buttons = buttons(redundancy);
    let test = match target {
        Target::Server(BlockKind::Virtual, ..) => Some(format!("{}/test", target.page())),
        _ => None,
    };
    let mut response = render(&Page { frame, heading, redundancy, form, test });
    *response.status_mut() = shown.status;
    response
}

fn block_parts(target: Target, document: &Document) -> Vec<Link> {
    let part = match target {
        Target::Global | Target::Redundancy => return Vec::new(),
        Target::Block(..) => Part::First,
        Target::Scripts(..) => Part::Scripts,
        Target::Server(..) => Part::Servers,
    };
    match target.path() {
        Path::Block { kind, index: block } | Path::Server { kind, block, .. } => {
            parts(kind, block, document, part)
        }
        Path::Global => Vec::new(),
    }
}

/// Whether the file says that there is a backup director.
fn is_enabled(document: &Document) -> bool {
    document.get(Path::Global, "backup_active").is_some_and(|words| words == [b"1"])
}

fn buttons(redundancy: Option<bool>) -> Vec<Button> {
    let Some(is_enabled) = redundancy else { return Vec::new() };
    let switch = if is_enabled {
        Button { action: "disable", label: "DISABLE" }
    } else {
        Button { action: "enable", label: "ENABLE" }
    };
    vec![switch, Button { action: "reset", label: "RESET" }]
}

async fn accept(app: Arc<App>, User(user): User, fields: Fields, target: Target) -> Response {
    blocking(app, move |app| accept_now(app, &user, &fields, target)).await
}

fn accept_now(app: &App, user: &str, fields: &Fields, target: Target) -> Response {
    let loaded = match app.edit.load() {
        Ok(loaded) => loaded,
        Err(error) => return message::unavailable(app, user, target.tab(), &error),
    };
    if loaded.is_unreadable() {
        return message::unreadable(app, user, target.tab(), &loaded);
    }
    let base: Option<Identity> = fields.get("base").and_then(|text| text.parse().ok());
    if base != Some(loaded.identity) {
        return conflict(app, user, fields, target, &loaded, base);
    }
    if !target.is_there(&loaded.document) {
        return message::gone(app, user, target, &[]);
    }
    let shown = Entries::shown(target.form(), &loaded.document, target.path());
    let mut entries = Entries::sent(target.form(), fields, &shown);
    press(target, fields, &mut entries);
    let entered = enter(&loaded.document, target.path(), &entries, &app.edit.names);
    let mut document = match entered {
        Outcome::Changed(document) => document,
        Outcome::Same => loaded.document.clone(),
        Outcome::Refused(messages) => {
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            let shown = Shown { entries: Some(entries), messages, notes: Vec::new(), status };
            return page(app, user, &loaded, target, shown);
        }
    };
    let refused = |note: Note, status| {
        let entries = Some(entries.clone());
        let shown = Shown { entries, messages: Messages::new(), notes: vec![note], status };
        page(app, user, &loaded, target, shown)
    };
    if target == Target::Redundancy
        && let Err(error) = switch(&mut document, fields.get("do").unwrap_or_default())
    {
        return refused(Note::bad(error.to_string()), StatusCode::UNPROCESSABLE_ENTITY);
    }
    match save(app, user, &loaded, &document) {
        Ok((saved, changes)) => redirect(app, &target.page(), notes_of(app, &saved, &changes)),
        Err(lvs_store::Error::ChangedUnderneath(_)) => match app.edit.load() {
            Ok(now) => conflict(app, user, fields, target, &now, base),
            Err(error) => message::unavailable(app, user, target.tab(), &error),
        },
        Err(error) => refused(message::not_saved(&error), message::status(&error)),
    }
}

/// What buttons enter: a blank, or what is usual.
fn press(target: Target, fields: &Fields, entries: &mut Entries) {
    if let Some(name) = fields.get("blank")
        && entries.form().field(name).is_some_and(|field| field.kind == Kind::Exact)
    {
        entries.set(name, "");
    }
    let fills_all = match (target, fields.get("do")) {
        (Target::Redundancy, Some("reset")) => true,
        (Target::Redundancy, Some("enable")) => false,
        _ => return,
    };
    for field in REDUNDANCY.fields().filter(|field| !field.usual.is_empty()) {
        if fills_all || entries.get(field.name).is_empty() {
            entries.set(field.name, field.usual);
        }
    }
}

/// ENABLE and DISABLE.
fn switch(document: &mut Document, action: &str) -> Result<(), lvs_config::EditError> {
    match action {
        "enable" => {
            document.set(Path::Global, "backup_active", &["1"])?;
            // Nothing of this suite's depends on it, but a partner with another one may show it.
            document.set(Path::Global, "heartbeat", &["1"])
        }
        "disable" => document.set(Path::Global, "backup_active", &["0"]),
        _ => Ok(()),
    }
}

/// The file has changed since the form was made: the entries are shown again, upon what the file says
/// now.
fn conflict(
    app: &App,
    user: &str,
    fields: &Fields,
    target: Target,
    loaded: &Loaded,
    base: Option<Identity>,
) -> Response {
    let document = &loaded.document;
    let names: Vec<&str> =
        fields.0.iter().filter(|(name, _)| name == "at").map(|(_, value)| value.as_str()).collect();
    let Some(target) = target.follow(&names, document) else {
        return message::gone(app, user, target, &entered(target, fields));
    };
    let now = Entries::shown(target.form(), document, target.path());
    let was = Entries::was(target.form(), fields, &now);
    let mine = Entries::sent(target.form(), fields, &was);
    let merged = merge(&was, &mine, &now);
    let changes = app.edit.changes_since(base, document);
    let note = Note::bad(
        "lvs.cf was changed while this form was open. Nothing is saved yet. Your entries are still \
         here, upon what the file says now: look at them and accept again.",
    );
    let shown = Shown {
        entries: Some(merged.entries),
        messages: merged.messages,
        notes: vec![note.with(changes)],
        status: StatusCode::CONFLICT,
    };
    page(app, user, loaded, target, shown)
}

/// What was entered, for where there is no form any more to show it in.
fn entered(target: Target, fields: &Fields) -> Vec<String> {
    let form = target.form();
    let entered = form.fields().filter_map(|field| Some((field, fields.get(field.name)?)));
    entered
        .filter(|(_, value)| !value.is_empty())
        .map(|(field, value)| format!("{}: {value}", field.label))
        .collect()
}
