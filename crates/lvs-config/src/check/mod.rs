//! What a readable file asks for and cannot have, or probably did not mean.

mod block;
mod global;
mod together;

use crate::config::{BlockKind, Config};
use crate::diagnostic::{Code, Diagnostic, Findings, Place};
use crate::document::{Document, Path};

/// Everything worth saying about a configuration, with the places in the document that it
/// was read from. [`parse`](crate::parse) has done this already.
#[must_use]
pub fn check(config: &Config, document: &Document) -> Vec<Diagnostic> {
    let mut findings = Findings::default();
    run(config, document, &mut findings);
    findings.finish()
}

pub(crate) fn run(config: &Config, document: &Document, findings: &mut Findings) {
    let mut checker = Checker { config, document, findings };
    checker.global();
    let kind = BlockKind::from(config.service);
    for (index, block) in config.blocks(kind).iter().enumerate() {
        if block.active {
            checker.block(Path::Block { kind, index }, block);
        }
    }
    checker.together(kind);
}

struct Checker<'c> {
    config: &'c Config,
    document: &'c Document,
    findings: &'c mut Findings,
}

impl Checker<'_> {
    /// Reports at the place where `key` is set, or at the block's opening line where it is
    /// not set.
    fn at_key(&mut self, code: Code, path: Path, key: &str, message: &str, hint: &str) {
        let document = self.document;
        self.findings.add(code, || {
            let place = document.locate(path, key).or_else(|| document.heading(path));
            (place.unwrap_or_default(), message.to_owned(), Some(hint.to_owned()))
        });
    }

    /// Reports at the line that opens a block or server.
    fn at_block(&mut self, code: Code, path: Path, message: &str, hint: &str) {
        let document = self.document;
        self.findings.add(code, || {
            let place = document.heading(path).unwrap_or_default();
            (place, message.to_owned(), Some(hint.to_owned()))
        });
    }

    /// Reports about the file as a whole.
    fn at_file(&mut self, code: Code, message: &str, hint: &str) {
        self.findings.add(code, || (Place::default(), message.to_owned(), Some(hint.to_owned())));
    }

    fn is_set(&self, path: Path, key: &str) -> bool {
        self.document.locate(path, key).is_some()
    }
}

/// Whether a command line starts with a path that is relative, `ls` being none.
fn is_relative_path(command: &[u8]) -> bool {
    let program = command.split(|byte| crate::lex::is_blank(*byte)).find(|word| !word.is_empty());
    program.is_some_and(|program| program.contains(&b'/') && !program.starts_with(b"/"))
}
