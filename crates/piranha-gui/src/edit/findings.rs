//! What there is to say about the file, at the place of the page that it concerns.

use lvs_config::{BlockKind, Code, Diagnostic, Document, Level, Path, Severity};

/// One thing to say, as a page shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The class that gives it colour and shape: `bad` or `warn`.
    pub class: &'static str,
    /// `error` or `warning`.
    pub grade: &'static str,
    /// The line; 0: the file as a whole.
    pub line: usize,
    /// What is wrong, and what to do.
    pub text: String,
}

impl Finding {
    /// As a page shows it.
    #[must_use]
    pub fn new(diagnostic: &Diagnostic) -> Self {
        let (class, grade) = match diagnostic.severity {
            Severity::Error => ("bad", "error"),
            Severity::Warning => ("warn", "warning"),
        };
        Self { class, grade, line: diagnostic.line, text: sentence(diagnostic) }
    }
}

/// Message and hint.
#[must_use]
pub fn sentence(diagnostic: &Diagnostic) -> String {
    match &diagnostic.hint {
        Some(hint) => format!("{}: {hint}", diagnostic.message),
        None => diagnostic.message.clone(),
    }
}

/// Whether what is wrong is a single value, which its form can mend. Other errors may mean that the
/// file says something else than it seems to: it is left alone then.
#[must_use]
pub const fn is_of_a_value(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidAddress
            | Code::InvalidArgument
            | Code::IntegerExpected
            | Code::BooleanExpected
            | Code::BadNetmask
            | Code::EmptyConfiguration
    )
}

/// The findings about one file, by place.
#[derive(Clone, Debug)]
pub struct Places<'a> {
    document: &'a Document,
    diagnostics: &'a [Diagnostic],
    /// The lines that set global keys. They may stand between blocks.
    globals: Vec<usize>,
    /// The lines that open blocks, of either kind, in order.
    headings: Vec<usize>,
}

impl<'a> Places<'a> {
    /// Of a document and what is said of it, which is in the order of lines.
    #[must_use]
    pub fn new(document: &'a Document, diagnostics: &'a [Diagnostic]) -> Self {
        // How many more there are comes last, and is about the file.
        let diagnostics = match diagnostics.split_last() {
            Some((last, rest)) if last.code == Code::TooManyDiagnostics => rest,
            _ => diagnostics,
        };
        let mut headings: Vec<usize> = [BlockKind::Virtual, BlockKind::Failover]
            .into_iter()
            .flat_map(|kind| {
                let blocks = (0..document.block_count(kind)).map(move |index| (kind, index));
                blocks.filter_map(|(kind, index)| document.heading(Path::Block { kind, index }))
            })
            .map(|place| place.line)
            .collect();
        headings.sort_unstable();
        let globals = Level::Global
            .keys()
            .filter_map(|key| document.locate(Path::Global, key))
            .map(|place| place.line)
            .collect();
        Self { document, diagnostics, globals, headings }
    }

    /// Those at the line that sets a key.
    pub fn at_key(&self, path: Path, key: &str) -> impl Iterator<Item = &'a Diagnostic> {
        let line = self.document.locate(path, key).map(|place| place.line);
        self.between(line.unwrap_or(0), line.map_or(0, |line| line + 1)).iter()
    }

    /// Those about the file as a whole.
    pub fn of_file(&self) -> impl Iterator<Item = &'a Diagnostic> {
        self.between(0, 1).iter()
    }

    /// Those at the lines of a block or server.
    pub fn within(&self, path: Path) -> impl Iterator<Item = &'a Diagnostic> {
        let start = self.document.heading(path).map(|place| place.line);
        let end = start.map_or(0, |start| self.end(path, start));
        let found = self.between(start.unwrap_or(0), end).iter();
        found.filter(|found| !self.globals.contains(&found.line))
    }

    /// The first line behind a block or server that begins on `start`, by what follows it.
    fn end(&self, path: Path, start: usize) -> usize {
        let sibling = match path {
            Path::Server { index, .. } => self.document.heading(path.server(index + 1)),
            _ => None,
        };
        let next = self.headings.get(self.headings.partition_point(|line| *line <= start));
        let next = next.copied().unwrap_or(usize::MAX);
        sibling.map_or(next, |place| place.line)
    }

    fn between(&self, start: usize, end: usize) -> &'a [Diagnostic] {
        let at = |line| self.diagnostics.partition_point(|found| found.line < line);
        self.diagnostics.get(at(start)..at(end)).unwrap_or_default()
    }
}

/// `2 errors, 1 warning`; empty where there is neither.
#[must_use]
pub fn count<'a>(diagnostics: impl Iterator<Item = &'a Diagnostic>) -> (usize, usize, String) {
    let (mut errors, mut warnings) = (0, 0);
    for diagnostic in diagnostics {
        match diagnostic.severity {
            Severity::Error => errors += 1,
            Severity::Warning => warnings += 1,
        }
    }
    let some = |count: usize, word: &str| {
        let plural = if count == 1 { "" } else { "s" };
        (count > 0).then(|| format!("{count} {word}{plural}"))
    };
    let words: Vec<String> =
        [some(errors, "error"), some(warnings, "warning")].into_iter().flatten().collect();
    (errors, warnings, words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lvs_config::{NoResolver, parse};

    const TEXT: &[u8] = b"primary = 10.0.0.1
virtual a {
     active = 1
     address = 192.0.2.10 eth0:1
     server x {
         active = 1
         address = 192.0.2.10
     }
     server y {
         active = 1
     }
     timeout = 0
}
deadtime = 2
backup = 10.0.0.1
failover f {
}
virtual b {
     active = 1
}
";

    #[test]
    fn each_finding_has_its_place() {
        let parsed = parse(TEXT, &NoResolver);
        let places = Places::new(&parsed.document, &parsed.diagnostics);
        let block = |index| Path::Block { kind: BlockKind::Virtual, index };
        let codes = |found: Vec<&Diagnostic>| -> Vec<&str> {
            found.iter().map(|found| found.code.as_str()).collect()
        };
        assert_eq!(codes(places.at_key(block(0), "timeout").collect()), ["timeout-zero"]);
        assert_eq!(codes(places.at_key(block(0), "port").collect()), [""; 0]);
        assert_eq!(codes(places.at_key(Path::Global, "backup").collect()), ["same-director"]);
        assert_eq!(codes(places.within(block(0).server(0)).collect()), ["server-is-vip"]);
        assert_eq!(
            codes(places.within(block(0)).collect()),
            ["server-is-vip", "server-without-address", "timeout-zero"]
        );
        assert_eq!(codes(places.within(block(1)).collect()), ["no-address", "no-active-server"]);
        let failover = Path::Block { kind: BlockKind::Failover, index: 0 };
        assert_eq!(codes(places.within(failover).collect()), ["ignored-blocks"]);
        assert_eq!(count(places.within(block(1))).2, "1 error, 1 warning");
    }

    #[test]
    fn the_file_as_a_whole() {
        let parsed = parse(b"# nothing\n", &NoResolver);
        let places = Places::new(&parsed.document, &parsed.diagnostics);
        let found: Vec<_> = places.of_file().map(|found| found.code).collect();
        assert_eq!(found, [Code::NoPrimary, Code::NoActiveBlock]);
    }
}
