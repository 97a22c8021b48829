//! The file as it is: every byte, and where in it each block and key stands.

use std::ops::Range;

use crate::config::BlockKind;
use crate::diagnostic::Place;
use crate::key::{Key, Level};
use crate::lex::{self, Sentence, Word, Words};
use crate::syntax::{Event, Line, Reader};

/// The whereabouts of a setting or a block. Blocks go by number, counted from 0 among
/// those of their kind, because their names need not be unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Path {
    /// The global settings.
    Global,
    /// A `virtual` or `failover` block.
    Block {
        /// Which kind.
        kind: BlockKind,
        /// Which of that kind.
        index: usize,
    },
    /// A `server` block.
    Server {
        /// The kind of the block it is in.
        kind: BlockKind,
        /// Which block of that kind.
        block: usize,
        /// Which server of that block.
        index: usize,
    },
}

impl Path {
    /// The level of the keys at this path.
    #[must_use]
    pub const fn level(self) -> Level {
        match self {
            Self::Global => Level::Global,
            Self::Block { .. } => Level::Block,
            Self::Server { .. } => Level::Server,
        }
    }

    /// The path of server `index` of the block at this path (or of the same block, where
    /// this is a server's).
    #[must_use]
    pub const fn server(self, index: usize) -> Self {
        match self {
            Self::Global => Self::Global,
            Self::Block { kind, index: block } | Self::Server { kind, block, .. } => {
                Self::Server { kind, block, index }
            }
        }
    }
}

/// What a line is, as far as finding things goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Blank,
    Comment,
    /// Sets this key, though perhaps not rightly.
    Setting(Key),
    Other,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// Byte offset of the line.
    pub(crate) start: usize,
    pub(crate) class: Class,
}

/// The lines of a block or server, counted from 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// The line that opens it.
    pub(crate) open: usize,
    /// The line behind the one that closes it.
    pub(crate) end: usize,
    /// Whether a line closes it, rather than the next block or the end of the file.
    pub(crate) closed: bool,
}

impl Extent {
    /// The lines between the one that opens it and the one that closes it.
    pub(crate) const fn inside(self) -> Range<usize> {
        let end = if self.closed { self.end - 1 } else { self.end };
        self.open + 1..end
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) extent: Extent,
    pub(crate) servers: Vec<Extent>,
}

/// An lvs.cf, byte for byte, with an index of its lines and blocks.
///
/// Any bytes make a document. Where the file has syntax errors, the index follows what the
/// lines were most probably meant to be.
#[derive(Clone, Debug, Default)]
pub struct Document {
    pub(crate) text: Vec<u8>,
    pub(crate) lines: Vec<Entry>,
    pub(crate) virtuals: Vec<Block>,
    pub(crate) failovers: Vec<Block>,
}

impl PartialEq for Document {
    /// Documents are the same when their bytes are.
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Document {}

impl Document {
    /// The document that `text` is.
    #[must_use]
    pub fn new(text: Vec<u8>) -> Self {
        let mut index = Indexer::default();
        for line in Reader::new(&text) {
            index.take(&line);
        }
        index.finish(text)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }

    /// A copy of its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.text.clone()
    }

    /// Its bytes, when the document is no longer needed.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.text
    }

    /// How many blocks of `kind` there are.
    #[must_use]
    pub fn block_count(&self, kind: BlockKind) -> usize {
        self.blocks(kind).len()
    }

    /// How many servers the block at `path` has; 0 where there is no such block.
    #[must_use]
    pub fn server_count(&self, path: Path) -> usize {
        match path {
            Path::Global => 0,
            Path::Block { kind, index: block } | Path::Server { kind, block, .. } => {
                self.blocks(kind).get(block).map_or(0, |block| block.servers.len())
            }
        }
    }

    /// The name of the block or server at `path`, without quotes.
    #[must_use]
    pub fn name(&self, path: Path) -> Option<&[u8]> {
        let extent = self.extent(path)?;
        Some(Sentence::read(self.body(extent.open)).0.word(1).text)
    }

    /// The words behind the `=` of `key` at `path`, without quotes; of a repeated key those
    /// of the last line, which is the one that counts.
    #[must_use]
    pub fn get(&self, path: Path, key: &str) -> Option<Vec<&[u8]>> {
        let line = self.setting_line(path, key)?;
        Some(self.words(line).skip(2).map(|word| word.text).collect())
    }

    /// Where the line stands that opens the block or server at `path`.
    #[must_use]
    pub fn heading(&self, path: Path) -> Option<Place> {
        self.extent(path).map(|extent| self.place(extent.open))
    }

    /// Where `key` is set at `path`: the whole setting, from the key to its last value.
    #[must_use]
    pub fn locate(&self, path: Path, key: &str) -> Option<Place> {
        self.setting_line(path, key).map(|line| self.place(line))
    }

    fn place(&self, line: usize) -> Place {
        let (sentence, _) = Sentence::read(self.body(line));
        Place::new(line + 1, sentence.word(0).start, sentence.last.end)
    }

    /// The last line that sets `key` at `path`.
    pub(crate) fn setting_line(&self, path: Path, key: &str) -> Option<usize> {
        let key = Key::parse(path.level(), key.as_bytes())?;
        self.scope(path)?.rev().find(|&line| self.class(line) == Class::Setting(key))
    }

    /// The lines among which the keys of `path` stand. Lines of other levels may be among
    /// them, but those set keys of other levels.
    pub(crate) fn scope(&self, path: Path) -> Option<Range<usize>> {
        match path {
            Path::Global => Some(0..self.lines.len()),
            Path::Block { .. } | Path::Server { .. } => Some(self.extent(path)?.inside()),
        }
    }

    pub(crate) fn blocks(&self, kind: BlockKind) -> &[Block] {
        match kind {
            BlockKind::Virtual => &self.virtuals,
            BlockKind::Failover => &self.failovers,
        }
    }

    pub(crate) fn extent(&self, path: Path) -> Option<Extent> {
        match path {
            Path::Global => None,
            Path::Block { kind, index } => self.blocks(kind).get(index).map(|block| block.extent),
            Path::Server { kind, block, index } => {
                self.blocks(kind).get(block)?.servers.get(index).copied()
            }
        }
    }

    pub(crate) fn class(&self, line: usize) -> Class {
        self.lines.get(line).map_or(Class::Other, |entry| entry.class)
    }

    /// Byte offset of a line; of the line behind the last one the file's length.
    pub(crate) fn offset(&self, line: usize) -> usize {
        self.lines.get(line).map_or(self.text.len(), |entry| entry.start)
    }

    /// A line with its end.
    pub(crate) fn line(&self, line: usize) -> &[u8] {
        self.text.get(self.offset(line)..self.offset(line + 1)).unwrap_or_default()
    }

    /// A line without its end.
    pub(crate) fn body(&self, line: usize) -> &[u8] {
        lex::line(self.line(line)).map_or(&[], |(_, raw)| raw.body)
    }

    /// The words of a line, up to the first open quote.
    pub(crate) fn words(&self, line: usize) -> impl Iterator<Item = Word<'_>> {
        Words::new(self.body(line)).map_while(Result::ok)
    }
}

/// Builds the index while the lines go by.
#[derive(Debug, Default)]
pub(crate) struct Indexer {
    lines: Vec<Entry>,
    virtuals: Vec<Block>,
    failovers: Vec<Block>,
    block: Option<BlockKind>,
    server: bool,
}

impl Indexer {
    pub(crate) fn take(&mut self, line: &Line<'_>) {
        let number = self.lines.len();
        let class = match line.event {
            Event::Blank => Class::Blank,
            Event::Comment => Class::Comment,
            Event::Setting(key, _) => Class::Setting(key),
            Event::OpenBlock(kind, _) => {
                self.end_server(number, false);
                self.end_block(number, false);
                let extent = Extent { open: number, end: number + 1, closed: false };
                self.blocks_mut(kind).push(Block { extent, servers: Vec::new() });
                self.block = Some(kind);
                Class::Other
            }
            Event::OpenServer(_) => {
                self.end_server(number, false);
                let extent = Extent { open: number, end: number + 1, closed: false };
                if let Some(block) = self.open_block() {
                    block.servers.push(extent);
                    self.server = true;
                }
                Class::Other
            }
            Event::Close(_) => {
                if self.server {
                    self.end_server(number + 1, true);
                } else {
                    self.end_block(number + 1, true);
                }
                Class::Other
            }
            Event::Ignored => Class::Other,
        };
        self.lines.push(Entry { start: line.start, class });
    }

    fn blocks_mut(&mut self, kind: BlockKind) -> &mut Vec<Block> {
        match kind {
            BlockKind::Virtual => &mut self.virtuals,
            BlockKind::Failover => &mut self.failovers,
        }
    }

    fn open_block(&mut self) -> Option<&mut Block> {
        let kind = self.block?;
        self.blocks_mut(kind).last_mut()
    }

    fn end_server(&mut self, end: usize, closed: bool) {
        if !std::mem::take(&mut self.server) {
            return;
        }
        if let Some(server) = self.open_block().and_then(|block| block.servers.last_mut()) {
            server.end = end;
            server.closed = closed;
        }
    }

    fn end_block(&mut self, end: usize, closed: bool) {
        if let Some(block) = self.open_block() {
            block.extent.end = end;
            block.extent.closed = closed;
        }
        self.block = None;
    }

    pub(crate) fn finish(mut self, text: Vec<u8>) -> Document {
        let end = self.lines.len();
        self.end_server(end, false);
        self.end_block(end, false);
        let Self { lines, virtuals, failovers, .. } = self;
        Document { text, lines, virtuals, failovers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"# head\nkeepalive = 6\r\nkeepalive = 7\nvirtual \"my web\" {\n\
        port = 80\nserver a {\nport = 81\n}\nactive = 1\n}\nfailover f {\n}\nvirtual z {\nserver b {\n";

    fn block(index: usize) -> Path {
        Path::Block { kind: BlockKind::Virtual, index }
    }

    #[test]
    fn settings_are_found_at_their_level() {
        let document = Document::new(TEXT.to_vec());
        assert_eq!(document.get(Path::Global, "keepalive"), Some(vec![&b"7"[..]]));
        assert_eq!(document.get(block(0), "port"), Some(vec![&b"80"[..]]));
        assert_eq!(document.get(block(0).server(0), "port"), Some(vec![&b"81"[..]]));
        assert_eq!(document.get(block(0), "active"), Some(vec![&b"1"[..]]));
        assert_eq!(document.get(block(1), "port"), None);
        assert_eq!(document.get(Path::Global, "port"), None);
        assert_eq!(document.get(block(9), "port"), None);
    }

    #[test]
    fn blocks_are_counted_by_kind() {
        let document = Document::new(TEXT.to_vec());
        assert_eq!(document.block_count(BlockKind::Virtual), 2);
        assert_eq!(document.block_count(BlockKind::Failover), 1);
        assert_eq!(document.name(block(0)), Some(&b"my web"[..]));
        assert_eq!(document.name(block(1).server(0)), Some(&b"b"[..]));
        assert_eq!(document.server_count(block(0)), 1);
        let heading = document.heading(block(1)).unwrap();
        assert_eq!((heading.line, heading.column, heading.length), (13, 1, 11));
    }
}
