//! lvs.cf as the pages see it: read whenever it is shown, and saved only by who has seen its present
//! state.

use std::collections::VecDeque;
use std::os::unix::fs::MetadataExt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Mutex;

use lvs_config::{
    BlockKind, Config, Diagnostic, Document, NoResolver, Path, Severity, SyntaxError, parse,
};
use lvs_store::{Error, History, Identity, Saved, Snapshot, Store};

use super::changes::{self, Change};
use super::findings::is_of_a_value;
use super::names::Names;
use super::pending;
use crate::app::App;
use crate::frame::Notes;
use crate::live::lock;
use crate::options::Options;

/// Texts that were shown, kept so that it can be told what has changed since.
const SHOWN: usize = 4;
const SHOWN_BYTES: usize = 1 << 20;
/// The longest summary of a change, in characters. The store takes no more.
const SUMMARY: usize = 200;

/// What the pages that change lvs.cf know.
#[derive(Debug)]
pub struct Edit {
    file: PathBuf,
    /// The file and its versions.
    pub store: Store,
    /// What is to be said on the next page.
    pub notes: Notes,
    /// Host names.
    pub names: Names,
    pub(super) pending: pending::Known,
    glance: Mutex<Option<Glance>>,
    shown: Mutex<VecDeque<Snapshot>>,
}

/// What tells one state of the file from another, at a glance: device, inode, size, time of change.
pub type Stamp = (u64, u64, u64, i64, i64);

/// What every page wants to know of the file.
#[derive(Clone, Copy, Debug)]
pub struct Glance {
    /// Which state of the file it is; `None`: there is none.
    pub stamp: Option<Stamp>,
    /// Its `serial_no`; 0 without one.
    pub serial_no: i64,
    /// The blocks that are in use.
    pub service: BlockKind,
}

/// The file, and what it means.
#[derive(Debug)]
pub struct Loaded {
    /// Which state of the file it is.
    pub identity: Identity,
    /// The file itself; empty where there is none.
    pub document: Document,
    /// What it means.
    pub config: Result<Config, SyntaxError>,
    /// What there is to say about it.
    pub diagnostics: Vec<Diagnostic>,
}

impl Loaded {
    /// Whether the file says something else than it seems to, so that no form may touch it.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        self.config.is_err()
            && self.diagnostics.iter().any(|found| {
                found.severity == Severity::Error && is_syntax(found) && !is_of_a_value(found.code)
            })
    }
}

/// Of a file without a configuration every error is one of syntax, but those about numbers that are
/// brought into their range.
fn is_syntax(diagnostic: &Diagnostic) -> bool {
    use lvs_config::Code::{OutOfRange, PortRange, WeightRange};
    !matches!(diagnostic.code, OutOfRange | PortRange | WeightRange)
}

impl Edit {
    /// Of the file and the versions that the options name.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        Self {
            file: options.file.clone(),
            store: Store::new(&options.file, History::new(options.state.join("history"))),
            notes: Notes::new(),
            names: Names::default(),
            pending: pending::Known::default(),
            glance: Mutex::default(),
            shown: Mutex::default(),
        }
    }

    /// The file as it is now. A missing one is an empty one.
    ///
    /// # Errors
    /// Those of [`Store::read`].
    pub fn load(&self) -> Result<Loaded, Error> {
        let snapshot = match self.store.read() {
            Ok(snapshot) => snapshot,
            Err(Error::Missing(_)) => Snapshot { bytes: Vec::new(), identity: Identity::ABSENT },
            Err(error) => return Err(error),
        };
        let parsed = parse(&snapshot.bytes, &self.names);
        let identity = snapshot.identity;
        self.remember(snapshot);
        let lvs_config::Parsed { document, config, diagnostics } = parsed;
        Ok(Loaded { identity, document, config, diagnostics })
    }

    fn remember(&self, snapshot: Snapshot) {
        let mut shown = lock(&self.shown);
        if snapshot.bytes.len() > SHOWN_BYTES / SHOWN
            || shown.iter().any(|known| known.identity == snapshot.identity)
        {
            return;
        }
        if shown.len() == SHOWN {
            shown.pop_front();
        }
        shown.push_back(snapshot);
    }

    /// What has changed since a state that was shown not long ago.
    #[must_use]
    pub fn changes_since(&self, base: Option<Identity>, now: &Document) -> Vec<String> {
        let shown = lock(&self.shown);
        let Some(base) = base else { return Vec::new() };
        let Some(then) = shown.iter().find(|known| known.identity == base) else {
            return Vec::new();
        };
        let changes = changes::between(&Document::new(then.bytes.clone()), now);
        changes.iter().map(ToString::to_string).collect()
    }

    /// What every page wants to know of the file. Reads it only if it has changed.
    #[must_use]
    pub fn glance(&self) -> Glance {
        let stamp = self.stamp();
        if let Some(known) = lock(&self.glance).filter(|known| known.stamp == stamp) {
            return known;
        }
        let document = self.store.read().map(|read| Document::new(read.bytes)).unwrap_or_default();
        let glance = Glance {
            stamp,
            serial_no: one_setting(&document, "serial_no").serial_no,
            service: one_setting(&document, "service").service.into(),
        };
        *lock(&self.glance) = Some(glance);
        glance
    }

    fn stamp(&self) -> Option<Stamp> {
        let found = std::fs::metadata(&self.file).ok()?;
        Some((found.dev(), found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
    }

    /// The file's path.
    #[must_use]
    pub fn path(&self) -> &FilePath {
        &self.file
    }
}

/// One key as the parser reads it; its default where that is not possible.
fn one_setting(document: &Document, key: &str) -> Config {
    let Some(words) = document.get(Path::Global, key) else { return Config::default() };
    let mut line = Document::default();
    match line.set(Path::Global, key, &words) {
        Ok(()) => parse(line.as_bytes(), &NoResolver).config.unwrap_or_default(),
        Err(_) => Config::default(),
    }
}

/// Saves `new` in place of what was loaded, and tells who did what.
///
/// # Errors
/// Those of [`Store::save`].
pub fn save(
    app: &App,
    user: &str,
    loaded: &Loaded,
    new: &Document,
) -> Result<(Saved, Vec<Change>), Error> {
    let changes = changes::between(&loaded.document, new);
    let saved = app.edit.store.save(&loaded.identity, new.as_bytes(), user, &summary(&changes))?;
    if saved.is_written {
        tell(app, user, &saved, &summary(&changes));
    }
    Ok((saved, changes))
}

/// Notes a save among the events.
pub fn tell(app: &App, user: &str, saved: &Saved, summary: &str) {
    app.live.events.act(user, format!("saved configuration {}: {summary}", saved.serial_no));
}

/// Changes in a few words: `virtual web: timeout 1 → 2, port 80 → 81; virtual ssl: added`.
#[must_use]
pub fn summary(changes: &[Change]) -> String {
    let mut text = String::new();
    let mut place = None;
    for (index, change) in changes.iter().enumerate() {
        let next = if place == Some(&change.place) {
            format!(", {}", change.text)
        } else if index > 0 {
            format!("; {change}")
        } else {
            change.to_string()
        };
        if text.chars().count() + next.chars().count() + 16 > SUMMARY && index > 0 {
            text += &format!("; {} more", changes.len() - index);
            break;
        }
        text += &next;
        place = Some(&change.place);
    }
    if text.is_empty() { "nothing that has a meaning".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::super::fields::Effect;
    use super::*;

    fn loaded(text: &[u8]) -> Loaded {
        let parsed = parse(text, &NoResolver);
        Loaded {
            identity: Identity::ABSENT,
            document: parsed.document,
            config: parsed.config,
            diagnostics: parsed.diagnostics,
        }
    }

    #[test]
    fn a_wrong_value_can_be_mended_and_a_broken_file_cannot() {
        for (text, expected) in [
            (&b""[..], false),
            (b"keepalive = often\n", false),
            (b"syncd_id = 300\nprimary = nowhere.invalid\n", false),
            (b"keepalive = 6 # six\n", true),
            (b"keepalve = 6\n", true),
            (b"virtual x\n", true),
            (b"primary=10.0.0.1\n", true),
            (b"active_cmd = \"x\n", true),
            (b"primary = 10.0.0.1\n", false),
            (b"virtual x {\n", false),
        ] {
            let text_shown = String::from_utf8_lossy(text);
            assert_eq!(loaded(text).is_unreadable(), expected, "{text_shown}");
        }
    }

    #[test]
    fn one_key_is_read_as_the_parser_reads_it() {
        let document = |text: &str| Document::new(text.as_bytes().to_vec());
        let serial = |text: &str| one_setting(&document(text), "serial_no").serial_no;
        assert_eq!(serial("serial_no = 0x10\nnonsense\n"), 16);
        assert_eq!((serial("serial_no = x\n"), serial("")), (0, 0));
    }

    #[test]
    fn summaries_are_short() {
        let change = |text: &str| Change {
            place: "virtual web".to_owned(),
            text: text.to_owned(),
            effect: Effect::Check,
        };
        assert_eq!(summary(&[]), "nothing that has a meaning");
        assert_eq!(
            summary(&[change("timeout 1 → 2"), change("port 1 → 2")]),
            "virtual web: timeout 1 → 2, port 1 → 2"
        );
        let many: Vec<_> = (0..50).map(|number| change(&format!("port 1 → {number}"))).collect();
        let text = summary(&many);
        assert!(text.chars().count() <= SUMMARY && text.ends_with(" more"), "{text}");
    }
}
