//! What every page has around it: the head with this node's state, the tabs, what was just done, and
//! what is saved but not applied yet. Templates of pages extend `layout.html`, which takes a
//! [`Frame`] called `frame`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use lvs_config::BlockKind;

use crate::app::App;
use crate::edit::pending::Pending;
use crate::live::{Header, lock};

/// What the style and the script are asked for with, so that browsers keep them until they change.
pub const VERSION: u32 = fold(
    fold(0x811c_9dc5, include_bytes!("../static/style.css")),
    include_bytes!("../static/live.js"),
);

/// FNV-1a, 32 bits.
const fn fold(mut hash: u32, bytes: &[u8]) -> u32 {
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    hash
}

/// The sections of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tab {
    /// CONTROL / MONITORING.
    Control,
    /// GLOBAL SETTINGS.
    Global,
    /// REDUNDANCY.
    Redundancy,
    /// VIRTUAL SERVERS.
    Virtual,
    /// FAILOVER, which stands in the place of the former with `service = fos`.
    Failover,
    /// HISTORY.
    History,
    /// A page of none of them.
    None,
}

/// Where one can go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// What it is called.
    pub text: String,
    /// Its path.
    pub path: String,
    /// Whether that is the page shown.
    pub current: bool,
}

impl Link {
    /// A link to another page.
    #[must_use]
    pub fn new(text: impl Into<String>, path: impl Into<String>) -> Self {
        Self { text: text.into(), path: path.into(), current: false }
    }
}

/// Something to be said above a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The class that gives it colour and shape: `good`, `warn`, `bad`.
    pub class: &'static str,
    /// What happened.
    pub text: String,
    /// More about it, a line each.
    pub lines: Vec<String>,
    /// Where to go from here.
    pub link: Option<Link>,
}

impl Note {
    /// Something was done.
    #[must_use]
    pub fn good(text: impl Into<String>) -> Self {
        Self { class: "good", text: text.into(), lines: Vec::new(), link: None }
    }

    /// Something is worth a look.
    #[must_use]
    pub fn warn(text: impl Into<String>) -> Self {
        Self { class: "warn", ..Self::good(text) }
    }

    /// Something was not done.
    #[must_use]
    pub fn bad(text: impl Into<String>) -> Self {
        Self { class: "bad", ..Self::good(text) }
    }

    /// With more lines.
    #[must_use]
    pub fn with(self, lines: Vec<String>) -> Self {
        Self { lines, ..self }
    }

    /// With a way to go.
    #[must_use]
    pub fn leading(self, text: &str, path: &str) -> Self {
        Self { link: Some(Link::new(text, path)), ..self }
    }
}

/// What is to be said on the page that a redirect leads to: its address carries the number. (In one
/// place for all it could come up in another browser.)
#[derive(Debug)]
pub struct Notes {
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    next: u64,
    notes: VecDeque<(u64, Vec<Note>)>,
}

impl Notes {
    /// Notes kept; of those before, pages that are loaded again say nothing.
    const MOST: usize = 64;

    /// None yet. Numbers begin with the time, so that none comes again after a restart.
    #[must_use]
    pub fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let kept = Kept { next: since.as_secs() << 16, notes: VecDeque::new() };
        Self { kept: Mutex::new(kept) }
    }

    /// Keeps notes, and gives their number.
    pub fn keep(&self, notes: Vec<Note>) -> u64 {
        let mut kept = lock(&self.kept);
        let number = kept.next;
        kept.next += 1;
        kept.notes.push_back((number, notes));
        if kept.notes.len() > Self::MOST {
            kept.notes.pop_front();
        }
        number
    }

    /// The notes of a number.
    #[must_use]
    pub fn find(&self, number: u64) -> Vec<Note> {
        let kept = lock(&self.kept);
        let found = kept.notes.iter().find(|(kept, _)| *kept == number);
        found.map(|(_, notes)| notes.clone()).unwrap_or_default()
    }
}

impl Default for Notes {
    fn default() -> Self {
        Self::new()
    }
}

/// What a page has around it.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The page's title.
    pub title: String,
    /// This node.
    pub header: Header,
    /// Who has logged in.
    pub user: String,
    /// What its forms carry in the field `token`.
    pub token: String,
    /// The tabs.
    pub tabs: Vec<Link>,
    /// The parts of what the page is about; empty where it has none.
    pub parts: Vec<Link>,
    /// What was just done.
    pub notes: Vec<Note>,
    /// What is saved but not applied.
    pub pending: Option<Pending>,
    /// Seconds after which a browser without script loads the page again; 0: never.
    pub refresh: u32,
}

impl Frame {
    /// The frame of a page. Looks at lvs.cf, and reads it if it has changed: to be called where that
    /// may take a while.
    #[must_use]
    pub fn read(app: &App, user: &str, tab: Tab, title: impl Into<String>) -> Self {
        let file = app.edit.glance();
        let pending = Pending::find(app, &file);
        Self {
            title: title.into(),
            header: app.live.header(),
            user: user.to_owned(),
            token: app.secret.token(user),
            tabs: tabs(tab, file.service),
            parts: Vec::new(),
            notes: Vec::new(),
            pending,
            refresh: 0,
        }
    }

    /// The same for those who must not wait. Should the work be cut off, the frame is without what is
    /// read from files.
    pub async fn of(app: &Arc<App>, user: &str, tab: Tab, title: &str) -> Self {
        let (its, name, text) = (Arc::clone(app), user.to_owned(), title.to_owned());
        let read = tokio::task::spawn_blocking(move || Self::read(&its, &name, tab, text));
        match read.await {
            Ok(frame) => frame,
            Err(_) => Self {
                title: title.to_owned(),
                header: app.live.header(),
                user: user.to_owned(),
                token: app.secret.token(user),
                tabs: tabs(tab, BlockKind::Virtual),
                parts: Vec::new(),
                notes: Vec::new(),
                pending: None,
                refresh: 0,
            },
        }
    }
}

fn tabs(current: Tab, service: BlockKind) -> Vec<Link> {
    let blocks = match (service, current) {
        // Whoever edits blocks that are not in use stands there all the same.
        (_, Tab::Failover) | (BlockKind::Failover, _) if current != Tab::Virtual => {
            ("FAILOVER", "/secure/failover", Tab::Failover)
        }
        _ => ("VIRTUAL SERVERS", "/secure/virtual", Tab::Virtual),
    };
    let all = [
        ("CONTROL / MONITORING", "/secure/control", Tab::Control),
        ("GLOBAL SETTINGS", "/secure/global", Tab::Global),
        ("REDUNDANCY", "/secure/redundancy", Tab::Redundancy),
        blocks,
        ("HISTORY", "/secure/history", Tab::History),
    ];
    all.into_iter()
        .map(|(text, path, tab)| Link { current: tab == current, ..Link::new(text, path) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_found_by_number_and_bounded() {
        let notes = Notes::new();
        let first = notes.keep(vec![Note::good("saved")]);
        assert_eq!(notes.find(first), [Note::good("saved")]);
        let last = (0..Notes::MOST).map(|_| notes.keep(vec![Note::bad("x")])).last().unwrap();
        assert_eq!(notes.find(first), []);
        assert_eq!(notes.find(last), [Note::bad("x")]);
    }

    #[test]
    fn the_tab_of_the_blocks_follows_the_service_and_the_page() {
        let name = |current, service| tabs(current, service)[3].text.clone();
        assert_eq!(name(Tab::Global, BlockKind::Virtual), "VIRTUAL SERVERS");
        assert_eq!(name(Tab::Global, BlockKind::Failover), "FAILOVER");
        assert_eq!(name(Tab::Virtual, BlockKind::Failover), "VIRTUAL SERVERS");
        assert_eq!(name(Tab::Failover, BlockKind::Virtual), "FAILOVER");
        let current: Vec<_> = tabs(Tab::Failover, BlockKind::Virtual);
        assert_eq!(current.iter().filter(|tab| tab.current).count(), 1);
    }
}
