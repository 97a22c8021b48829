//! Changes to a document that leave everything else in it as it was, byte for byte.
//!
//! New lines take indentation and line end from their neighbours. A new setting goes where
//! the web interface's order puts it: behind the nearest setting that this order has before
//! it, else above the first. Comment lines directly above a block or server, with no blank
//! line between, belong to it: they move with it and go with it. Comments above settings
//! always stay. Blank lines always stay.
//!
//! A file may end without a line end, or within a block. The first is put right when
//! something is written behind it, the second when blocks or servers are added or moved.

use std::ops::Range;

use crate::config::BlockKind;
use crate::diagnostic::show;
use crate::document::{Class, Document, Extent, Path};
use crate::fault::SyntaxError;
use crate::key::{BlockKey, Key, Kind, Level};
use crate::lex::{Sentence, is_blank};
use crate::resolve::Resolver;
use crate::{parse, suggest};

/// Indentation of a block's lines where no neighbour shows another.
const BLOCK_INDENT: usize = 5;

/// How much further than its opening line a server's lines are indented.
const SERVER_STEP: usize = 4;

/// Why a change was not made. The document is then as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The path leads nowhere.
    #[error("there is no {what} number {number}: there are {count}; read the file again")]
    NoSuch {
        /// `virtual`, `failover` or `server`.
        what: &'static str,
        /// The number asked for, counted from 1.
        number: usize,
        /// How many there are.
        count: usize,
    },
    /// The global settings have no name and no place to move to.
    #[error("{action} needs the path of a block or of a server, not of the global settings")]
    NotABlock {
        /// What was asked for.
        action: &'static str,
    },
    /// The level has no such key.
    #[error("unknown command: `{key}` does not belong {place}{suggestion}")]
    UnknownKey {
        /// The key.
        key: String,
        /// The level, as [`Level::place`].
        place: &'static str,
        /// Empty, or `; did you mean …?`
        suggestion: String,
    },
    /// The key takes another number of words.
    #[error("{key} takes {takes}, not {given} words")]
    WordCount {
        /// The key.
        key: &'static str,
        /// What it takes.
        takes: &'static str,
        /// How many words were given.
        given: usize,
    },
    /// The format has no way to write the word.
    #[error("`{word}` cannot be written in lvs.cf: {reason}")]
    Unwritable {
        /// The word, made printable.
        word: String,
        /// Why, and what would do instead.
        reason: &'static str,
    },
    /// The key does not take this value.
    #[error("{}{}", .0.message, .0.hint.as_ref().map(|hint| format!(": {hint}")).unwrap_or_default())]
    Refused(SyntaxError),
}

/// Whether `key` takes `words`, by the parser's own rules: what front ends ask before they
/// write a form field.
///
/// # Errors
/// Says what is wrong with the value; [`EditError::Refused`] carries the message and the
/// hint that [`parse`] would give for it (its line number means nothing here).
pub fn check_value<W: AsRef<[u8]>>(
    level: Level,
    key: &str,
    words: &[W],
    resolver: &dyn Resolver,
) -> Result<(), EditError> {
    let block = Path::Block { kind: BlockKind::Virtual, index: 0 };
    let (frame, path): (&[u8], _) = match level {
        Level::Global => (b"", Path::Global),
        Level::Block => (b"virtual x {\n}\n", block),
        Level::Server => (b"virtual x {\nserver x {\n}\n}\n", block.server(0)),
    };
    let mut document = Document::new(frame.to_vec());
    document.set(path, key, words)?;
    match parse(document.as_bytes(), resolver).config {
        Ok(_) => Ok(()),
        Err(error) => Err(EditError::Refused(error)),
    }
}

/// A stretch of the text and what takes its place.
type Splice = (Range<usize>, Vec<u8>);

impl Document {
    /// Gives `key` at `path` the value `words`, given without quotes; they are quoted where
    /// they need it and where they were. Of a repeated key the last line is changed, which
    /// is the one that counts. Whether the key takes the value [`check_value`] knows.
    ///
    /// A new `port` of a block goes above its servers, and so becomes the default port of
    /// those that have none.
    ///
    /// # Errors
    /// Where the path leads nowhere, the key does not belong there or takes another number
    /// of words, or a word cannot be written.
    pub fn set<W: AsRef<[u8]>>(
        &mut self,
        path: Path,
        key: &str,
        words: &[W],
    ) -> Result<(), EditError> {
        let key = known_key(path, key)?;
        self.require(path)?;
        let words: Vec<&[u8]> = words.iter().map(AsRef::as_ref).collect();
        check_count(key, &words)?;
        match self.setting_line(path, key.name()) {
            Some(line) => self.replace_values(line, key, &words),
            None => self.insert_setting(path, key, &words),
        }
    }

    /// Removes every line that sets `key` at `path`; whether there was one.
    ///
    /// # Errors
    /// Where the path leads nowhere or the key does not belong there.
    pub fn unset(&mut self, path: Path, key: &str) -> Result<bool, EditError> {
        let key = known_key(path, key)?;
        self.require(path)?;
        let splices: Vec<Splice> = self
            .scope(path)
            .unwrap_or_default()
            .filter(|&line| self.class(line) == Class::Setting(key))
            .map(|line| (self.offset(line)..self.offset(line + 1), Vec::new()))
            .collect();
        let found = !splices.is_empty();
        self.apply(splices);
        Ok(found)
    }

    /// Gives the block or server at `path` another name.
    ///
    /// # Errors
    /// Where the path leads to no block or server, or the name cannot be written.
    pub fn rename<W: AsRef<[u8]>>(&mut self, path: Path, name: W) -> Result<(), EditError> {
        let name = name.as_ref();
        let extent = self.required_extent(path, "renaming")?;
        let start = self.offset(extent.open);
        let body = self.body(extent.open);
        let (sentence, open_quote) = Sentence::read(body);
        let word = sentence.word(1);
        let is_sound = sentence.count == 3 && open_quote.is_none() && sentence.word(2).text == b"{";
        let splice = if is_sound {
            let style = body.get(word.start).copied();
            (start + word.start..start + word.end, written_name(name, style)?)
        } else {
            let mut line = sentence.word(0).text.to_vec();
            line.push(b' ');
            line.extend(written_name(name, None)?);
            line.extend(b" {");
            (start + sentence.word(0).start..start + body.len(), line)
        };
        self.apply(vec![splice]);
        Ok(())
    }

    /// Adds an empty block as number `at`, counted from 0, of its kind. The first failover
    /// block goes above the virtual ones, as the web interface has it.
    ///
    /// # Errors
    /// Where `at` is beyond the end, or the name cannot be written.
    pub fn add_block<W: AsRef<[u8]>>(
        &mut self,
        kind: BlockKind,
        at: usize,
        name: W,
    ) -> Result<Path, EditError> {
        let name = written_name(name.as_ref(), None)?;
        require_position(kind.as_str(), at, self.block_count(kind))?;
        self.close_blocks();
        let blocks = self.blocks(kind);
        let line = match (blocks.get(at), blocks.last(), kind) {
            (Some(next), ..) => self.chunk_start(next.extent.open),
            (None, Some(last), _) => last.extent.end,
            (None, None, BlockKind::Failover) => self
                .virtuals
                .first()
                .map_or(self.lines.len(), |first| self.chunk_start(first.extent.open)),
            (None, None, BlockKind::Virtual) => self.lines.len(),
        };
        let opening = [kind.as_str().as_bytes(), b" ", &name, b" {"].concat();
        self.insert_lines(line, &[opening, b"}".to_vec()]);
        Ok(Path::Block { kind, index: at })
    }

    /// Adds an empty server as number `at`, counted from 0, of the block at `path`.
    ///
    /// # Errors
    /// Where the path leads to no block, `at` is beyond the end, or the name cannot be
    /// written.
    pub fn add_server<W: AsRef<[u8]>>(
        &mut self,
        path: Path,
        at: usize,
        name: W,
    ) -> Result<Path, EditError> {
        let name = written_name(name.as_ref(), None)?;
        self.required_extent(path, "adding a server")?;
        let (Path::Block { kind, index } | Path::Server { kind, block: index, .. }) = path else {
            return Err(EditError::NotABlock { action: "adding a server" });
        };
        require_position("server", at, self.server_count(path))?;
        self.close_blocks();
        let Some(block) = self.blocks(kind).get(index) else { return Ok(path.server(at)) };
        let line = match (block.servers.get(at), block.servers.last()) {
            (Some(next), _) => self.chunk_start(next.open),
            (None, Some(last)) => last.end,
            (None, None) => block.extent.inside().end,
        };
        let indent = match block.servers.first() {
            Some(first) => indent_of(self.body(first.open)).to_vec(),
            None => self.indent_in(Path::Block { kind, index }),
        };
        let opening = [&indent[..], b"server ", &name, b" {"].concat();
        self.insert_lines(line, &[opening, [&indent[..], b"}"].concat()]);
        Ok(path.server(at))
    }

    /// Removes the block or server at `path`, with the comments directly above it.
    ///
    /// # Errors
    /// Where the path leads to no block or server.
    pub fn remove(&mut self, path: Path) -> Result<(), EditError> {
        let extent = self.required_extent(path, "removing")?;
        let chunk = self.chunk(extent);
        self.apply(vec![(chunk, Vec::new())]);
        Ok(())
    }

    /// Makes the block or server at `path` number `to`, counted from 0, of its siblings.
    /// What stands between the siblings stays between them.
    ///
    /// # Errors
    /// Where the path leads to no block or server, or `to` is beyond the last sibling.
    pub fn move_to(&mut self, path: Path, to: usize) -> Result<(), EditError> {
        self.required_extent(path, "moving")?;
        let (what, from, count) = match path {
            Path::Global => return Err(EditError::NotABlock { action: "moving" }),
            Path::Block { kind, index } => (kind.as_str(), index, self.block_count(kind)),
            Path::Server { index, .. } => ("server", index, self.server_count(path)),
        };
        if to >= count {
            return Err(EditError::NoSuch { what, number: to.saturating_add(1), count });
        }
        if from == to {
            return Ok(());
        }
        self.close_blocks();
        self.end_last_line();
        let slots = self.sibling_chunks(path);
        let mut order: Vec<usize> = (0..slots.len()).collect();
        let moved = order.remove(from);
        order.insert(to, moved);
        let splices = slots
            .iter()
            .zip(&order)
            .filter_map(|(slot, &source)| {
                let bytes = self.text.get(slots.get(source)?.clone())?;
                Some((slot.clone(), bytes.to_vec()))
            })
            .filter(|(slot, bytes)| self.text.get(slot.clone()) != Some(&bytes[..]))
            .collect();
        self.apply(splices);
        Ok(())
    }

    // Where things are.

    fn require(&self, path: Path) -> Result<(), EditError> {
        match path {
            Path::Global => Ok(()),
            _ => self.required_extent(path, "this").map(|_| ()),
        }
    }

    fn required_extent(&self, path: Path, action: &'static str) -> Result<Extent, EditError> {
        let (what, index, count) = match path {
            Path::Global => return Err(EditError::NotABlock { action }),
            Path::Block { kind, index } => (kind.as_str(), index, self.block_count(kind)),
            Path::Server { kind, block, index } => {
                let count = self.block_count(kind);
                if block >= count {
                    let number = block.saturating_add(1);
                    return Err(EditError::NoSuch { what: kind.as_str(), number, count });
                }
                ("server", index, self.server_count(path))
            }
        };
        let number = index.saturating_add(1);
        self.extent(path).ok_or(EditError::NoSuch { what, number, count })
    }

    /// The first of the comment lines directly above `line`, or `line` itself.
    fn chunk_start(&self, line: usize) -> usize {
        let comments =
            (0..line).rev().take_while(|&above| self.class(above) == Class::Comment).count();
        line - comments
    }

    /// The bytes of a block or server with the comments that belong to it.
    fn chunk(&self, extent: Extent) -> Range<usize> {
        self.offset(self.chunk_start(extent.open))..self.offset(extent.end)
    }

    fn sibling_chunks(&self, path: Path) -> Vec<Range<usize>> {
        match path {
            Path::Global => Vec::new(),
            Path::Block { kind, .. } => {
                self.blocks(kind).iter().map(|block| self.chunk(block.extent)).collect()
            }
            Path::Server { kind, block, .. } => {
                let servers = self.blocks(kind).get(block).map(|block| &block.servers[..]);
                servers.unwrap_or_default().iter().map(|server| self.chunk(*server)).collect()
            }
        }
    }

    /// The indentation for a line directly in the scope of `path`, from its own lines, else
    /// from those of its like.
    fn indent_in(&self, path: Path) -> Vec<u8> {
        if let Some(own) = self.indent_shown_in(path) {
            return own;
        }
        let mut likes = [BlockKind::Virtual, BlockKind::Failover].into_iter().flat_map(|kind| {
            let blocks = 0..self.block_count(kind);
            blocks.map(move |index| Path::Block { kind, index })
        });
        let shown = match path {
            Path::Global => Some(Vec::new()),
            Path::Block { .. } => likes.find_map(|like| self.indent_shown_in(like)),
            Path::Server { .. } => likes.find_map(|like| {
                (0..self.server_count(like))
                    .find_map(|index| self.indent_shown_in(like.server(index)))
            }),
        };
        shown.unwrap_or_else(|| match path {
            Path::Server { .. } => {
                let opening = self.extent(path).map_or(&[][..], |extent| self.body(extent.open));
                [indent_of(opening), &[b' '; SERVER_STEP]].concat()
            }
            _ => vec![b' '; BLOCK_INDENT],
        })
    }

    fn indent_shown_in(&self, path: Path) -> Option<Vec<u8>> {
        let setting = self.settings(path).map(|(line, _)| line).next();
        let line = match (setting, path) {
            (Some(line), _) => line,
            (None, Path::Block { kind, index }) => {
                self.blocks(kind).get(index)?.servers.first()?.open
            }
            (None, _) => return None,
        };
        Some(indent_of(self.body(line)).to_vec())
    }

    /// The lines that set keys of `path`'s level within its scope.
    fn settings(&self, path: Path) -> impl Iterator<Item = (usize, Key)> {
        self.scope(path).unwrap_or_default().filter_map(move |line| match self.class(line) {
            Class::Setting(key) if key.level() == path.level() => Some((line, key)),
            _ => None,
        })
    }

    // Changing them.

    fn replace_values(&mut self, line: usize, key: Key, words: &[&[u8]]) -> Result<(), EditError> {
        let start = self.offset(line);
        let body = self.body(line);
        let (sentence, open_quote) = Sentence::read(body);
        let is_sound = open_quote.is_none()
            && sentence.word(1).text == b"="
            && sentence.count == words.len() + 2;
        let mut splices = Vec::new();
        if is_sound {
            for (old, new) in self.words(line).skip(2).zip(words) {
                if old.text != *new {
                    let written = written(new, key.kind(), body.get(old.start).copied())?;
                    splices.push((start + old.start..start + old.end, written));
                }
            }
        } else {
            let whole = start + sentence.word(0).start..start + body.len();
            splices.push((whole, assignment(key, words)?));
        }
        self.apply(splices);
        Ok(())
    }

    fn insert_setting(&mut self, path: Path, key: Key, words: &[&[u8]]) -> Result<(), EditError> {
        let setting = assignment(key, words)?;
        let (line, neighbour) = self.setting_place(path, key);
        let indent = match neighbour {
            Some(neighbour) => indent_of(self.body(neighbour)).to_vec(),
            None => self.indent_in(path),
        };
        self.insert_lines(line, &[[&indent[..], &setting].concat()]);
        Ok(())
    }

    /// Before which line a new setting goes, and the setting that it goes by.
    fn setting_place(&self, path: Path, key: Key) -> (usize, Option<usize>) {
        let before = self
            .settings(path)
            .filter(|(_, other)| other.rank() < key.rank())
            .max_by_key(|&(line, other)| (other.rank(), line))
            .map(|(line, _)| line);
        let first = self.settings(path).map(|(line, _)| line).next();
        let neighbour = before.or(first);
        let line = match (before, first) {
            (Some(before), _) => before + 1,
            (None, Some(first)) => self.chunk_start(first),
            (None, None) => self.empty_place(path),
        };
        // Above the servers where that matters: for the port, and for a block's first lines.
        let must_lead = before.is_none() || key == Key::Block(BlockKey::Port);
        let server = match path {
            Path::Block { kind, index } if must_lead => {
                self.blocks(kind).get(index).and_then(|block| block.servers.first())
            }
            _ => None,
        };
        let line = server.map_or(line, |server| line.min(self.chunk_start(server.open)));
        (line, neighbour)
    }

    /// Before which line the first setting of a scope goes.
    fn empty_place(&self, path: Path) -> usize {
        match self.extent(path) {
            Some(extent) => extent.open + 1,
            None => [self.virtuals.first(), self.failovers.first()]
                .into_iter()
                .flatten()
                .map(|block| self.chunk_start(block.extent.open))
                .min()
                .unwrap_or(self.lines.len()),
        }
    }

    /// Puts whole lines before line `at`.
    fn insert_lines(&mut self, at: usize, lines: &[Vec<u8>]) {
        if at >= self.lines.len() {
            self.end_last_line();
        }
        let end = self.line_end_near(at);
        let mut bytes = Vec::new();
        for line in lines {
            bytes.extend_from_slice(line);
            bytes.extend_from_slice(end);
        }
        let offset = self.offset(at);
        self.apply(vec![(offset..offset, bytes)]);
    }

    /// The line end of the line above `at`, else of the one at it, else LF.
    fn line_end_near(&self, at: usize) -> &'static [u8] {
        [at.checked_sub(1), Some(at)]
            .into_iter()
            .flatten()
            .map(|line| self.line(line))
            .find(|line| line.ends_with(b"\n"))
            .map_or(b"\n", |line| if line.ends_with(b"\r\n") { b"\r\n" } else { b"\n" })
    }

    /// Gives the last line an end where it has none.
    fn end_last_line(&mut self) {
        let Some(last) = self.lines.len().checked_sub(1) else { return };
        let line = self.line(last);
        if line.ends_with(b"\n") {
            return;
        }
        let end: &[u8] = if line.ends_with(b"\r") { b"\n" } else { self.line_end_near(last) };
        let offset = self.text.len();
        self.apply(vec![(offset..offset, end.to_vec())]);
    }

    /// Closes what is still open at the end of the file.
    fn close_blocks(&mut self) {
        let count = self.lines.len();
        let open = |extent: &Extent| !extent.closed && extent.end == count;
        let blocks = self.virtuals.iter().chain(&self.failovers);
        let Some(block) = blocks.into_iter().find(|block| open(&block.extent)) else { return };
        let server = block.servers.last().filter(|server| open(server));
        let braces: Vec<Vec<u8>> = server
            .into_iter()
            .chain([&block.extent])
            .map(|extent| [indent_of(self.body(extent.open)), b"}"].concat())
            .collect();
        self.insert_lines(count, &braces);
    }

    /// Makes the changes, which are in order and do not overlap, and reads the result.
    fn apply(&mut self, splices: Vec<Splice>) {
        if splices.is_empty() {
            return;
        }
        let mut text = Vec::with_capacity(self.text.len() + 64);
        let mut copied = 0;
        for (range, bytes) in splices {
            text.extend_from_slice(self.text.get(copied..range.start).unwrap_or_default());
            text.extend(bytes);
            copied = range.end;
        }
        text.extend_from_slice(self.text.get(copied..).unwrap_or_default());
        *self = Self::new(text);
    }
}

fn known_key(path: Path, name: &str) -> Result<Key, EditError> {
    let level = path.level();
    Key::parse(level, name.as_bytes()).ok_or_else(|| EditError::UnknownKey {
        key: show(name.as_bytes()),
        place: level.place(),
        suggestion: suggest::closest(name.as_bytes(), level.keys())
            .map(|key| format!("; did you mean `{key}`?"))
            .unwrap_or_default(),
    })
}

fn check_count(key: Key, words: &[&[u8]]) -> Result<(), EditError> {
    let given = words.len();
    let (fewest, most) = key.kind().arity();
    let is_list =
        || words.first() == Some(&&b"["[..]) && given > 1 && words.last() == Some(&&b"]"[..]);
    let (takes, fits) = match key.kind() {
        Kind::List => ("a list in brackets, each a word of its own", is_list()),
        Kind::HostDevice => ("an address and a device", given == fewest),
        _ => ("one word", (fewest..=most).contains(&given)),
    };
    if fits { Ok(()) } else { Err(EditError::WordCount { key: key.name(), takes, given }) }
}

fn require_position(what: &'static str, at: usize, count: usize) -> Result<(), EditError> {
    if at > count {
        return Err(EditError::NoSuch { what, number: at.saturating_add(1), count });
    }
    Ok(())
}

fn indent_of(body: &[u8]) -> &[u8] {
    let length = body.iter().take_while(|byte| is_blank(**byte)).count();
    body.get(..length).unwrap_or_default()
}

/// `KEY = VALUE…`
fn assignment(key: Key, words: &[&[u8]]) -> Result<Vec<u8>, EditError> {
    let mut line = key.name().as_bytes().to_vec();
    line.extend(b" =");
    for word in words {
        line.push(b' ');
        line.extend(written(word, key.kind(), None)?);
    }
    Ok(line)
}

fn written_name(name: &[u8], style: Option<u8>) -> Result<Vec<u8>, EditError> {
    written(name, Kind::Word, style)
}

/// `word` as it stands in the file. `style` is the first byte of the word it replaces: a
/// word that was in quotes stays in quotes, of the same kind if that is possible.
fn written(word: &[u8], kind: Kind, style: Option<u8>) -> Result<Vec<u8>, EditError> {
    let unwritable = |reason| EditError::Unwritable { word: show(word), reason };
    if word.contains(&b'\n') {
        return Err(unwritable(
            "a line end cannot be part of a value; in send and expect write \\n",
        ));
    }
    if word.contains(&0) {
        return Err(unwritable("a zero byte cannot be part of a value"));
    }
    let needs_quotes = word.is_empty()
        || word.iter().any(|byte| is_blank(*byte))
        || matches!(word.first(), Some(b'"' | b'\''))
        || word.ends_with(b"\r");
    let (preferred, had_quotes) = match style {
        Some(quote @ (b'"' | b'\'')) => (quote, true),
        _ => (b'"', style.is_none() && kind == Kind::Text),
    };
    if !needs_quotes && !had_quotes {
        return Ok(word.to_vec());
    }
    let other = if preferred == b'"' { b'\'' } else { b'"' };
    match [preferred, other].into_iter().find(|quote| !closes_early(word, *quote)) {
        Some(quote) => Ok([&[quote], word, &[quote]].concat()),
        None if !needs_quotes => Ok(word.to_vec()),
        None => Err(unwritable(
            "it has both \" and ' before a blank, and the format knows no escape; in send and \
             expect write \\\" or \\'",
        )),
    }
}

/// Whether a quote inside the word would be taken for its end.
fn closes_early(word: &[u8], quote: u8) -> bool {
    word.windows(2).any(|pair| matches!(pair, [first, next] if *first == quote && is_blank(*next)))
}
