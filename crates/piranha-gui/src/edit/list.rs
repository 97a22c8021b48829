//! Pages with a list: the blocks of a kind, and the servers of one. One is chosen, then a button does
//! something to it.

use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use lvs_config::{BlockKind, Code, Document, EditError, Path};
use lvs_store::Identity;

use super::file::{Loaded, save};
use super::findings::{Finding, Places, count};
use super::settings::index;
use super::target::{Part, Target, noun, parts, root, servers, tab};
use super::{Asked, blocking, message, notes_of, redirect};
use crate::app::App;
use crate::frame::{Frame, Link, Note, Tab};
use crate::gate::{Fields, User};
use crate::page::render;

/// Rows of a page. More are on further pages.
const ROWS: usize = 250;
/// What a new block or server is called.
const NEW: &str = "[server_name]";

type Its = State<Arc<App>>;
type Who = Extension<User>;

/// What a page lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shelf {
    Blocks(BlockKind),
    Servers(BlockKind, usize),
}

pub(super) async fn show(
    kind: BlockKind,
    State(app): Its,
    Extension(user): Who,
    asked: Asked,
) -> Response {
    show_shelf(app, user, asked, Shelf::Blocks(kind)).await
}

pub(super) async fn act(
    kind: BlockKind,
    State(app): Its,
    Extension(user): Who,
    Extension(fields): Extension<Fields>,
) -> Response {
    blocking(app, move |app| act_now(app, &user.0, &fields, Shelf::Blocks(kind))).await
}

pub(super) async fn show_servers(
    kind: BlockKind,
    State(app): Its,
    Extension(user): Who,
    UrlPath(block): UrlPath<String>,
    asked: Asked,
) -> Response {
    show_shelf(app, user, asked, Shelf::Servers(kind, index(&block))).await
}

pub(super) async fn act_servers(
    kind: BlockKind,
    State(app): Its,
    Extension(user): Who,
    UrlPath(block): UrlPath<String>,
    Extension(fields): Extension<Fields>,
) -> Response {
    let shelf = Shelf::Servers(kind, index(&block));
    blocking(app, move |app| act_now(app, &user.0, &fields, shelf)).await
}

impl Shelf {
    const fn kind(self) -> BlockKind {
        match self {
            Self::Blocks(kind) | Self::Servers(kind, _) => kind,
        }
    }

    fn page(self) -> String {
        match self {
            Self::Blocks(kind) => root(kind).to_owned(),
            Self::Servers(kind, block) => servers(kind, block),
        }
    }

    const fn noun(self) -> &'static str {
        match self {
            Self::Blocks(kind) => noun(kind),
            Self::Servers(..) => "real server",
        }
    }

    fn count(self, document: &Document) -> usize {
        match self {
            Self::Blocks(kind) => document.block_count(kind),
            Self::Servers(kind, index) => document.server_count(Path::Block { kind, index }),
        }
    }

    const fn path(self, index: usize) -> Path {
        match self {
            Self::Blocks(kind) => Path::Block { kind, index },
            Self::Servers(kind, block) => Path::Server { kind, block, index },
        }
    }

    const fn target(self, index: usize) -> Target {
        match self {
            Self::Blocks(kind) => Target::Block(kind, index),
            Self::Servers(kind, block) => Target::Server(kind, block, index),
        }
    }

    /// Whether the block whose servers are listed is there.
    fn is_there(self, document: &Document) -> bool {
        match self {
            Self::Blocks(_) => true,
            Self::Servers(kind, index) => document.heading(Path::Block { kind, index }).is_some(),
        }
    }

    fn add(self, document: &mut Document) -> Result<(), EditError> {
        let at = self.count(document);
        let label = free_label(document);
        let (path, keys): (Path, &[(&str, &[&str])]) = match self {
            Self::Blocks(kind @ BlockKind::Virtual) => (
                document.add_block(kind, at, NEW)?,
                &[
                    ("active", &["0"]),
                    ("address", &["0.0.0.0", &label]),
                    ("port", &["80"]),
                    ("load_monitor", &["none"]),
                    ("scheduler", &["wlc"]),
                    ("protocol", &["tcp"]),
                    ("timeout", &["6"]),
                    ("reentry", &["15"]),
                    ("quiesce_server", &["0"]),
                ],
            ),
            Self::Blocks(kind @ BlockKind::Failover) => (
                document.add_block(kind, at, NEW)?,
                &[
                    ("active", &["0"]),
                    ("address", &["0.0.0.0", &label]),
                    ("port", &["80"]),
                    ("timeout", &["6"]),
                ],
            ),
            Self::Servers(kind, index) => (
                document.add_server(Path::Block { kind, index }, at, NEW)?,
                &[("address", &["0.0.0.0"]), ("active", &["0"]), ("weight", &["1"])],
            ),
        };
        keys.iter().try_for_each(|(key, words)| document.set(path, key, words))
    }
}

/// The first of `eth0:1`, `eth0:2`, … that no block bears.
fn free_label(document: &Document) -> String {
    let taken: Vec<&[u8]> = [BlockKind::Virtual, BlockKind::Failover]
        .into_iter()
        .flat_map(|kind| (0..document.block_count(kind)).map(move |index| (kind, index)))
        .filter_map(|(kind, index)| {
            document.get(Path::Block { kind, index }, "address")?.get(1).copied()
        })
        .collect();
    let label = |number: usize| format!("eth0:{number}");
    let free = (1..=taken.len()).map(label).find(|label| !taken.contains(&label.as_bytes()));
    free.unwrap_or_else(|| label(taken.len() + 1))
}

/// A cell of a row.
struct Cell {
    label: &'static str,
    text: String,
    class: &'static str,
}

/// A block or server.
struct Row {
    number: usize,
    name: String,
    page: String,
    is_active: bool,
    is_chosen: bool,
    cells: Vec<Cell>,
    findings: String,
    findings_class: &'static str,
}

#[derive(Template)]
#[template(path = "list.html")]
struct Page {
    frame: Frame,
    heading: String,
    noun: &'static str,
    action: String,
    base: String,
    columns: Vec<(&'static str, &'static str)>,
    rows: Vec<Row>,
    count: usize,
    find: String,
    is_long: bool,
    /// Which rows are shown, and the pages with the others.
    range: String,
    pages: Vec<Link>,
    findings: Vec<Finding>,
    /// The page that is shown, for the buttons to come back to.
    page: usize,
}

/// What a page shows besides the file.
#[derive(Default)]
struct Shown {
    chosen: Option<usize>,
    find: String,
    page: usize,
    notes: Vec<Note>,
    status: StatusCode,
}

async fn show_shelf(app: Arc<App>, User(user): User, asked: Asked, shelf: Shelf) -> Response {
    blocking(app, move |app| {
        let loaded = match app.edit.load() {
            Ok(loaded) => loaded,
            Err(error) => return message::unavailable(app, &user, tab(shelf.kind()), &error),
        };
        let shown = Shown {
            chosen: asked.index("chosen"),
            find: asked.get("find").unwrap_or_default().trim().to_owned(),
            page: asked.index("page").unwrap_or(0),
            notes: asked.notes(app),
            status: StatusCode::OK,
        };
        page(app, &user, &loaded, shelf, shown)
    })
    .await
}

fn page(app: &App, user: &str, loaded: &Loaded, shelf: Shelf, shown: Shown) -> Response {
    let document = &loaded.document;
    let kind = shelf.kind();
    if loaded.is_unreadable() {
        return message::unreadable(app, user, tab(kind), loaded);
    }
    if !shelf.is_there(document) {
        return message::gone(app, user, Target::Block(kind, 0), &[]);
    }
    let mut frame = Frame::read(app, user, tab(kind), heading(shelf, document));
    frame.notes = shown.notes;
    if let Shelf::Servers(kind, block) = shelf {
        frame.parts = parts(kind, block, document, Part::Servers);
    }
    let places = Places::new(document, &loaded.diagnostics);
    let count = shelf.count(document);
    let found = found(shelf, document, &shown.find);
    let pages = found.len().div_ceil(ROWS).max(1);
    // What was just chosen or made is to be seen.
    let at = shown.chosen.and_then(|chosen| found.iter().position(|index| *index == chosen));
    let current = at.map_or(shown.page, |at| at / ROWS).min(pages - 1);
    let first = current * ROWS;
    let indices = found.iter().copied().skip(first).take(ROWS);
    let rows: Vec<Row> = rows(shelf, loaded, &places, indices, shown.chosen);
    let range = if pages == 1 {
        String::new()
    } else {
        format!("{} to {} of {}", first + 1, first + rows.len(), found.len())
    };
    let link = |number: usize| {
        let path = place(shelf, &shown.find, number, None);
        Link { current: number == current, ..Link::new((number + 1).to_string(), path) }
    };
    let mut response = render(&Page {
        heading: heading(shelf, document),
        noun: shelf.noun(),
        action: shelf.page(),
        base: loaded.identity.to_string(),
        columns: columns(shelf),
        rows,
        count,
        is_long: count > 10 || !shown.find.is_empty(),
        find: shown.find.clone(),
        range,
        pages: if pages == 1 { Vec::new() } else { (0..pages).map(link).collect() },
        findings: findings(shelf, &places),
        page: current + 1,
        frame,
    });
    *response.status_mut() = shown.status;
    response
}

/// The page with these rows.
fn place(shelf: Shelf, find: &str, page: usize, chosen: Option<usize>) -> String {
    let mut path = format!("{}?page={}", shelf.page(), page + 1);
    if !find.is_empty() {
        path += "&find=";
        path.extend(find.bytes().map(encoded));
    }
    if let Some(chosen) = chosen {
        path += &format!("&chosen={}", chosen + 1);
    }
    path
}

/// A byte of a text as it stands in an address (RFC 3986, 2.1).
fn encoded(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}

fn heading(shelf: Shelf, document: &Document) -> String {
    match shelf {
        Shelf::Blocks(BlockKind::Virtual) => "Virtual servers".to_owned(),
        Shelf::Blocks(BlockKind::Failover) => "Failover services".to_owned(),
        Shelf::Servers(kind, index) => {
            let name = document.name(Path::Block { kind, index }).unwrap_or_default();
            format!("Real servers of {}", String::from_utf8_lossy(name))
        }
    }
}

/// Those that have the text in their name, address or port.
fn found(shelf: Shelf, document: &Document, find: &str) -> Vec<usize> {
    let all = 0..shelf.count(document);
    if find.is_empty() {
        return all.collect();
    }
    let find = find.to_lowercase();
    let has = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_lowercase().contains(&find);
    all.filter(|index| {
        let path = shelf.path(*index);
        let words = ["address", "port"].iter().filter_map(|key| document.get(path, key)).flatten();
        document.name(path).is_some_and(has) || words.into_iter().any(has)
    })
    .collect()
}

/// Headings of columns, and their classes.
fn columns(shelf: Shelf) -> Vec<(&'static str, &'static str)> {
    match shelf {
        Shelf::Blocks(_) => {
            vec![("VIP", ""), ("Netmask", ""), ("Port", "n"), ("Protocol", ""), ("Interface", "")]
        }
        Shelf::Servers(..) => vec![("Address", ""), ("Port", "n"), ("Weight", "n")],
    }
}

fn rows(
    shelf: Shelf,
    loaded: &Loaded,
    places: &Places<'_>,
    indices: impl Iterator<Item = usize>,
    chosen: Option<usize>,
) -> Vec<Row> {
    let document = &loaded.document;
    let value = |path, key, word| {
        let words = document.get(path, key);
        let word = words.and_then(|words| words.get(word).copied());
        word.map(|word| String::from_utf8_lossy(word).into_owned()).unwrap_or_default()
    };
    indices
        .map(|index| {
            let path = shelf.path(index);
            let name = document.name(path).unwrap_or_default();
            let or = |text: String, instead: &str| {
                if text.is_empty() { instead.to_owned() } else { text }
            };
            let cell = |label, class, text| Cell { label, text, class };
            let port = or(value(path, "port", 0), "80");
            let cells = match shelf {
                Shelf::Blocks(_) => vec![
                    cell("VIP", "addr", value(path, "address", 0)),
                    cell("Netmask", "addr", value(path, "vip_nmask", 0)),
                    cell("Port", "n", port),
                    cell("Protocol", "", or(value(path, "protocol", 0), "tcp")),
                    cell("Interface", "addr", value(path, "address", 1)),
                ],
                Shelf::Servers(kind, block) => {
                    let its = value(Path::Block { kind, index: block }, "port", 0);
                    let port = or(value(path, "port", 0), &or(its, "80"));
                    vec![
                        cell("Address", "addr", value(path, "address", 0)),
                        cell("Port", "n", port),
                        cell("Weight", "n", or(value(path, "weight", 0), "1")),
                    ]
                }
            };
            let (errors, _, findings) = count(places.within(path));
            Row {
                number: index + 1,
                name: String::from_utf8_lossy(name).into_owned(),
                page: shelf.target(index).page(),
                is_active: is_active(document, path),
                is_chosen: chosen == Some(index),
                cells,
                findings,
                findings_class: if errors > 0 { "down" } else { "warn" },
            }
        })
        .collect()
}

fn is_active(document: &Document, path: Path) -> bool {
    document.get(path, "active").is_some_and(|words| words == [b"1"])
}

/// What there is to say about the list as a whole.
fn findings(shelf: Shelf, places: &Places<'_>) -> Vec<Finding> {
    match shelf {
        Shelf::Blocks(_) => {
            let about = |code| matches!(code, Code::NoActiveBlock);
            places.of_file().filter(|found| about(found.code)).map(Finding::new).collect()
        }
        Shelf::Servers(kind, index) => places
            .within(Path::Block { kind, index })
            .filter(|found| found.code == Code::NoActiveServer)
            .map(Finding::new)
            .collect(),
    }
}

#[derive(Template)]
#[template(path = "delete.html")]
struct Confirm {
    frame: Frame,
    noun: &'static str,
    name: String,
    about: String,
    servers: usize,
    is_active: bool,
    action: String,
    cancel: String,
    base: String,
    chosen: usize,
}

fn act_now(app: &App, user: &str, fields: &Fields, shelf: Shelf) -> Response {
    let tab: Tab = tab(shelf.kind());
    let loaded = match app.edit.load() {
        Ok(loaded) => loaded,
        Err(error) => return message::unavailable(app, user, tab, &error),
    };
    let asked = Asked(fields.0.clone());
    let chosen = asked.index("chosen");
    let find = asked.get("find").unwrap_or_default();
    let page_number = asked.index("page").unwrap_or(0);
    let again = |note: Note, status: StatusCode| {
        let find = find.to_owned();
        // Of a list that has changed it may be another one now.
        let chosen = chosen.filter(|_| status != StatusCode::CONFLICT);
        let shown = Shown { chosen, find, page: page_number, notes: vec![note], status };
        page(app, user, &loaded, shelf, shown)
    };
    if loaded.is_unreadable() || !shelf.is_there(&loaded.document) {
        return again(Note::bad("Nothing is saved."), StatusCode::CONFLICT);
    }
    let base: Option<Identity> = asked.get("base").and_then(|text| text.parse().ok());
    if base != Some(loaded.identity) {
        let changes = app.edit.changes_since(base, &loaded.document);
        let text = "lvs.cf was changed since this list was shown, and nothing is done. This is how it \
                    is now: choose again.";
        return again(Note::bad(text).with(changes), StatusCode::CONFLICT);
    }
    let mut document = loaded.document.clone();
    let count = shelf.count(&document);
    let chosen_one = chosen.filter(|chosen| *chosen < count);
    let next = match (asked.get("do"), chosen_one) {
        (Some("add"), _) => shelf.add(&mut document).map(|()| Some(count)),
        (Some("edit" | "delete" | "toggle"), None) => {
            let text = format!("Choose a {} first.", shelf.noun());
            return again(Note::warn(text), StatusCode::UNPROCESSABLE_ENTITY);
        }
        (Some("edit"), Some(index)) => {
            return Redirect::to(&shelf.target(index).page()).into_response();
        }
        (Some("delete"), Some(index)) if asked.get("sure") != Some("yes") => {
            return confirm(app, user, &loaded, shelf, index);
        }
        (Some("delete"), Some(index)) => document.remove(shelf.path(index)).map(|()| None),
        (Some("toggle"), Some(index)) => {
            let path = shelf.path(index);
            let active = if is_active(&document, path) { "0" } else { "1" };
            document.set(path, "active", &[active]).map(|()| Some(index))
        }
        _ => {
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            return again(Note::bad("That is none of the buttons. Nothing is done."), status);
        }
    };
    let saved = match next {
        Ok(_) => save(app, user, &loaded, &document),
        Err(error) => return again(Note::bad(error.to_string()), StatusCode::CONFLICT),
    };
    match saved {
        Ok((saved, changes)) => {
            let place = place(shelf, find, page_number, next.unwrap_or_default());
            redirect(app, &place, notes_of(app, &saved, &changes))
        }
        Err(error) => again(message::not_saved(&error), message::status(&error)),
    }
}

/// Whether it is meant.
fn confirm(app: &App, user: &str, loaded: &Loaded, shelf: Shelf, index: usize) -> Response {
    let document = &loaded.document;
    let path = shelf.path(index);
    let name = String::from_utf8_lossy(document.name(path).unwrap_or_default()).into_owned();
    let words = document.get(path, "address").unwrap_or_default();
    let title = format!("Delete {}", shelf.noun());
    let mut frame = Frame::read(app, user, tab(shelf.kind()), title);
    if let Shelf::Servers(kind, block) = shelf {
        frame.parts = parts(kind, block, document, Part::Servers);
    }
    render(&Confirm {
        frame,
        noun: shelf.noun(),
        name,
        about: String::from_utf8_lossy(&words.join(&b' ')).into_owned(),
        servers: match shelf {
            Shelf::Blocks(_) => document.server_count(path),
            Shelf::Servers(..) => 0,
        },
        is_active: is_active(document, path),
        action: shelf.page(),
        cancel: place(shelf, "", 0, Some(index)),
        base: loaded.identity.to_string(),
        chosen: index + 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_block_is_as_runbooks_know_it() {
        let mut document = Document::new(b"serial_no = 1\n".to_vec());
        Shelf::Blocks(BlockKind::Virtual).add(&mut document).unwrap();
        Shelf::Servers(BlockKind::Virtual, 0).add(&mut document).unwrap();
        Shelf::Blocks(BlockKind::Virtual).add(&mut document).unwrap();
        let text = String::from_utf8(document.into_bytes()).unwrap();
        assert_eq!(
            text,
            "serial_no = 1
virtual [server_name] {
     active = 0
     address = 0.0.0.0 eth0:1
     port = 80
     load_monitor = none
     scheduler = wlc
     protocol = tcp
     timeout = 6
     reentry = 15
     quiesce_server = 0
     server [server_name] {
         address = 0.0.0.0
         active = 0
         weight = 1
     }
}
virtual [server_name] {
     active = 0
     address = 0.0.0.0 eth0:2
     port = 80
     load_monitor = none
     scheduler = wlc
     protocol = tcp
     timeout = 6
     reentry = 15
     quiesce_server = 0
}
"
        );
        let parsed = lvs_config::parse(text.as_bytes(), &lvs_config::NoResolver);
        assert!(parsed.config.is_ok());
    }

    #[test]
    fn addresses_of_pages_are_encoded() {
        let shelf = Shelf::Blocks(BlockKind::Virtual);
        assert_eq!(place(shelf, "", 0, None), "/secure/virtual?page=1");
        assert_eq!(
            place(shelf, "a&b é", 1, Some(2)),
            "/secure/virtual?page=2&find=a%26b%20%C3%A9&chosen=3"
        );
    }

    #[test]
    fn rows_are_found_by_name_address_and_port() {
        let text = b"virtual Web {\naddress = 192.0.2.1 eth0:1\n}\nvirtual ssl {\nport = 443\n}\n";
        let document = Document::new(text.to_vec());
        let shelf = Shelf::Blocks(BlockKind::Virtual);
        for (find, expected) in [("", &[0, 1][..]), ("web", &[0]), ("192", &[0]), ("443", &[1])] {
            assert_eq!(found(shelf, &document, find), expected, "{find}");
        }
    }
}
