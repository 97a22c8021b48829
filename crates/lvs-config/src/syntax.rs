//! The shape of the file: which line opens, sets or closes what. lvs.cf(5).
//!
//! The reader goes on after a fault in the way that makes the lines that follow mean what
//! they were most probably meant to, so that one pass finds the faults of a whole file.

use crate::config::BlockKind;
use crate::fault::{Fault, Problem};
use crate::key::{Key, Kind, Level};
use crate::lex::{self, RawLine, Sentence, Word};
use crate::suggest;

/// What a line does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event<'a> {
    Blank,
    Comment,
    /// Sets a key of the level in force; the sentence is whole unless the line has a fault.
    Setting(Key, Sentence<'a>),
    /// Opens a block, and thereby closes those still open.
    OpenBlock(BlockKind, Word<'a>),
    /// Opens a server, and thereby closes one still open.
    OpenServer(Word<'a>),
    /// Closes the innermost block that is open. Words behind the brace, as a span.
    Close(Option<(usize, usize)>),
    /// Nothing that has a meaning.
    Ignored,
}

/// A line and its meaning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    /// Counted from 1.
    pub(crate) number: usize,
    /// Byte offset in the file of its first byte.
    pub(crate) start: usize,
    pub(crate) raw: RawLine<'a>,
    /// The level in force where the line begins.
    pub(crate) level: Level,
    /// The line that opened the innermost open block; 0 outside all blocks.
    pub(crate) opened: usize,
    pub(crate) event: Event<'a>,
    pub(crate) fault: Option<Problem>,
}

/// Reads a file line by line.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    start: usize,
    number: usize,
    /// Lines that opened the block and the server that are open.
    block: Option<usize>,
    server: Option<usize>,
    /// How many blocks that nobody knows are open.
    foreign: usize,
    /// The line before wanted to open a block but had no brace.
    brace_due: bool,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(text: &'a [u8]) -> Self {
        Self {
            rest: text,
            start: 0,
            number: 0,
            block: None,
            server: None,
            foreign: 0,
            brace_due: false,
        }
    }

    /// The level in force for the next line.
    pub(crate) const fn level(&self) -> Level {
        match (self.block, self.server) {
            (None, _) => Level::Global,
            (Some(_), None) => Level::Block,
            (Some(_), Some(_)) => Level::Server,
        }
    }

    fn classify(&mut self, body: &'a [u8]) -> (Event<'a>, Option<Problem>) {
        match body.iter().find(|byte| !lex::is_blank(**byte)) {
            None => return (Event::Blank, None),
            Some(b'#') => return (Event::Comment, None),
            Some(_) => {}
        }
        let (sentence, open_quote) = Sentence::read(body);
        let brace_due = std::mem::take(&mut self.brace_due);
        if self.foreign > 0 {
            self.skip(&sentence);
            return (Event::Ignored, None);
        }
        if brace_due && sentence.count == 1 && sentence.word(0).text == b"{" {
            return (Event::Ignored, None);
        }
        let (event, fault) = self.meaning(&sentence);
        let mismatch = open_quote.map(|quote| Problem {
            fault: Fault::QuotationMismatch,
            start: quote.start,
            end: body.len(),
        });
        (event, mismatch.or(fault))
    }

    /// Inside a block that nobody knows only the braces count.
    fn skip(&mut self, sentence: &Sentence<'a>) {
        if sentence.word(0).text == b"}" {
            self.foreign -= 1;
        } else if sentence.last.text == b"{" {
            self.foreign += 1;
        }
    }

    fn meaning(&mut self, sentence: &Sentence<'a>) -> (Event<'a>, Option<Problem>) {
        let level = self.level();
        let command = sentence.word(0);
        match (command.text, level) {
            (b"}", Level::Global) => (Event::Ignored, Some(unknown(command))),
            (b"}", _) => self.close(sentence),
            (b"virtual", _) => self.open_block(BlockKind::Virtual, sentence),
            (b"failover", _) => self.open_block(BlockKind::Failover, sentence),
            (b"server", Level::Block | Level::Server) => self.open_server(sentence),
            (name, _) => match Key::parse(level, name) {
                Some(key) => (Event::Setting(key, *sentence), setting_fault(key, sentence)),
                None => (self.recover(sentence), Some(unknown(command))),
            },
        }
    }

    fn close(&mut self, sentence: &Sentence<'a>) -> (Event<'a>, Option<Problem>) {
        if self.server.take().is_none() {
            self.block = None;
        }
        let trailing = (sentence.count > 1).then(|| (sentence.word(1).start, sentence.last.end));
        (Event::Close(trailing), None)
    }

    fn open_block(
        &mut self,
        kind: BlockKind,
        sentence: &Sentence<'a>,
    ) -> (Event<'a>, Option<Problem>) {
        let fault = match self.level() {
            Level::Global => opening_fault(sentence),
            Level::Block | Level::Server if sentence.last.text == b"{" => {
                Some(unknown(sentence.word(0)))
            }
            Level::Block | Level::Server => {
                return (Event::Ignored, Some(unknown(sentence.word(0))));
            }
        };
        if fault.is_some() && !self.opens(sentence) {
            return (Event::Ignored, fault);
        }
        self.server = None;
        self.block = Some(self.number);
        (Event::OpenBlock(kind, sentence.word(1)), fault)
    }

    fn open_server(&mut self, sentence: &Sentence<'a>) -> (Event<'a>, Option<Problem>) {
        let fault = match self.level() {
            Level::Global | Level::Block => opening_fault(sentence),
            Level::Server => Some(unknown(sentence.word(0))),
        };
        if fault.is_some() && !self.opens(sentence) {
            return (Event::Ignored, fault);
        }
        self.server = Some(self.number);
        (Event::OpenServer(sentence.word(1)), fault)
    }

    /// Whether a faulty opening line was meant to open a block that ends on a later line.
    fn opens(&mut self, sentence: &Sentence<'a>) -> bool {
        if sentence.word(1).text == b"=" || sentence.last.text == b"}" {
            return false;
        }
        self.brace_due = sentence.last.text != b"{";
        true
    }

    /// What an unknown command does to the lines below it.
    fn recover(&mut self, sentence: &Sentence<'a>) -> Event<'a> {
        if sentence.last.text != b"{" {
            return Event::Ignored;
        }
        let meant = (sentence.count == 3).then(|| suggest::opening(sentence.word(0).text));
        match (meant.flatten(), self.level()) {
            (Some(suggest::Opening::Block(kind)), Level::Global) => {
                self.block = Some(self.number);
                Event::OpenBlock(kind, sentence.word(1))
            }
            (Some(suggest::Opening::Server), Level::Block) => {
                self.server = Some(self.number);
                Event::OpenServer(sentence.word(1))
            }
            _ => {
                self.foreign = 1;
                Event::Ignored
            }
        }
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let (rest, raw) = lex::line(self.rest).ok()?;
        self.rest = rest;
        self.number += 1;
        let start = self.start;
        self.start += raw.length;
        let level = self.level();
        let opened = self.server.or(self.block).unwrap_or(0);
        let (event, fault) = self.classify(raw.body);
        Some(Line { number: self.number, start, raw, level, opened, event, fault })
    }
}

const fn unknown(command: Word<'_>) -> Problem {
    Problem { fault: Fault::UnknownCommand, start: command.start, end: command.end }
}

const fn missing(sentence: &Sentence<'_>) -> Problem {
    Problem { fault: Fault::MissingArguments, start: sentence.last.end, end: sentence.last.end }
}

fn unexpected(sentence: &Sentence<'_>, first: usize) -> Problem {
    Problem {
        fault: Fault::UnexpectedArguments,
        start: sentence.word(first).start,
        end: sentence.last.end,
    }
}

/// `KEYWORD NAME {`, and nothing else.
fn opening_fault(sentence: &Sentence<'_>) -> Option<Problem> {
    match sentence.count {
        0..=2 => Some(missing(sentence)),
        3 if sentence.word(2).text == b"{" => None,
        3 => Some(unexpected(sentence, 2)),
        _ => Some(unexpected(sentence, 3)),
    }
}

/// `KEY = VALUE`, as many values as the key takes.
fn setting_fault(key: Key, sentence: &Sentence<'_>) -> Option<Problem> {
    let equal = sentence.word(1);
    if sentence.count < 2 {
        let end = sentence.last.end;
        return Some(Problem { fault: Fault::EqualExpected, start: end, end });
    }
    if equal.text != b"=" {
        return Some(Problem { fault: Fault::EqualExpected, start: equal.start, end: equal.end });
    }
    let (fewest, most) = key.kind().arity();
    let given = sentence.count - 2;
    if given < fewest {
        return Some(missing(sentence));
    }
    if given > most {
        return Some(unexpected(sentence, 2 + most));
    }
    let is_list = given >= 2 && sentence.word(2).text == b"[" && sentence.last.text == b"]";
    (key.kind() == Kind::List && !is_list).then(|| Problem {
        fault: Fault::ListExpected,
        start: sentence.word(2).start,
        end: sentence.last.end,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outline(text: &str) -> Vec<(Level, String)> {
        Reader::new(text.as_bytes())
            .map(|line| {
                let what = match (line.event, line.fault) {
                    (_, Some(problem)) => problem.fault.message().to_owned(),
                    (Event::Setting(key, _), None) => key.name().to_owned(),
                    (Event::OpenBlock(kind, name), None) => {
                        format!("{kind} {}", String::from_utf8_lossy(name.text))
                    }
                    (Event::OpenServer(name), None) => {
                        format!("server {}", String::from_utf8_lossy(name.text))
                    }
                    (event, None) => format!("{event:?}"),
                };
                (line.level, what)
            })
            .collect()
    }

    fn levels(text: &str) -> Vec<Level> {
        outline(text).into_iter().map(|(level, _)| level).collect()
    }

    #[test]
    fn levels_follow_the_braces() {
        use Level::{Block, Global, Server};
        assert_eq!(
            levels("sync = 1\nvirtual a {\nport = 1\nserver b {\nport = 2\n}\n}\nsync = 0\n"),
            [Global, Global, Block, Block, Server, Server, Block, Global]
        );
    }

    #[test]
    fn a_misspelled_block_is_read_as_the_one_that_was_meant() {
        assert_eq!(
            levels("virtaul a {\nport = 1\n}\n"),
            [Level::Global, Level::Block, Level::Block]
        );
        assert_eq!(outline("virtaul a {\nport = 1\n}\n")[1].1, "port");
    }

    #[test]
    fn a_brace_on_the_next_line_is_one_fault_only() {
        let faults: Vec<_> = Reader::new(b"virtual a\n\n{\nport = 1\n}\nsync = 1\n")
            .filter_map(|line| Some((line.number, line.fault?.fault)))
            .collect();
        assert_eq!(faults, [(1, Fault::MissingArguments)]);
    }

    #[test]
    fn a_forgotten_closing_brace_is_one_fault_only() {
        let text = b"virtual a {\nserver b {\nvirtual c {\nserver d {\n}\n}\nsync = 1\n";
        let faults: Vec<_> =
            Reader::new(text).filter_map(|l| Some((l.number, l.fault?.fault))).collect();
        assert_eq!(faults, [(3, Fault::UnknownCommand)]);
    }

    #[test]
    fn unknown_blocks_are_skipped_whole() {
        let text = b"vrrp_instance a {\nx {\n}\n\"\n}\nsync = 1\n}\n";
        let faults: Vec<_> =
            Reader::new(text).filter_map(|l| Some((l.number, l.fault?.fault))).collect();
        assert_eq!(faults, [(1, Fault::UnknownCommand), (7, Fault::UnknownCommand)]);
    }

    #[test]
    fn faults_of_single_lines() {
        let cases = [
            ("primary", Fault::EqualExpected, (7, 7)),
            ("primary =x", Fault::EqualExpected, (8, 10)),
            ("primary =", Fault::MissingArguments, (9, 9)),
            ("primary = a b c", Fault::UnexpectedArguments, (12, 15)),
            ("nat_router = a b c d", Fault::UnexpectedArguments, (17, 20)),
            ("nat_router = a", Fault::MissingArguments, (14, 14)),
            (" primry = \"x", Fault::QuotationMismatch, (10, 12)),
            ("virtual {", Fault::MissingArguments, (9, 9)),
            ("virtual a b", Fault::UnexpectedArguments, (10, 11)),
            ("virtual a { }", Fault::UnexpectedArguments, (12, 13)),
            ("server a {", Fault::UnknownCommand, (0, 6)),
        ];
        for (text, fault, (start, end)) in cases {
            let line = Reader::new(text.as_bytes()).next().unwrap();
            assert_eq!(line.fault, Some(Problem { fault, start, end }), "{text}");
        }
    }
}
