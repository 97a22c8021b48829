//! Diagnostics as text: the line, the place marked, the remedy.

use std::fmt::Write as _;

use crate::diagnostic::{Diagnostic, escape_into};
use crate::fault::SyntaxError;

/// The most bytes of a source line that are shown.
const WINDOW: usize = 160;

/// How many bytes before the place are shown of a line that is longer.
const LEAD: usize = 60;

/// All of `diagnostics` as text for a terminal. `file` is the file's name and `text` its
/// bytes, of which nothing is printed that a terminal would not simply show.
///
/// ```text
/// lvs.cf:3:1: error: unknown command: `keepalve` [unknown-command]
///     3 | keepalve = 6
///       | ^^^^^^^^
///       = did you mean `keepalive`?
/// ```
#[must_use]
pub fn render(diagnostics: &[Diagnostic], file: &str, text: &[u8]) -> String {
    let starts = line_starts(text);
    let mut out = String::new();
    for diagnostic in diagnostics {
        let body = line_body(text, &starts, diagnostic.line);
        render_one(&mut out, diagnostic, file, body);
    }
    out
}

/// The first line that a daemon prints when lvs.cf cannot be read; scripts look for it.
/// `program` is the name of the program: lvsd calls itself `lvs` here.
#[must_use]
pub fn first_line(program: &str, file: &str, error: &SyntaxError) -> String {
    let SyntaxError { line, message, .. } = error;
    match program {
        "lvsd" | "lvs" => format!("lvs: error parsing {file} on line {line}."),
        "fos" => format!("fos: error parsing {file} on line {line}."),
        _ => format!("{program}: error parsing {file} at line {line}: {message}"),
    }
}

/// The line that a daemon prints when lvs.cf cannot be opened.
#[must_use]
pub fn open_failure(program: &str, file: &str) -> String {
    let program = if program == "lvsd" { "lvs" } else { program };
    format!("{program}: failed to open {file}")
}

fn line_starts(text: &[u8]) -> Vec<usize> {
    let newlines = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    std::iter::once(0).chain(newlines.map(|(at, _)| at + 1)).collect()
}

/// Line `number`, counted from 1, without its end.
fn line_body<'t>(text: &'t [u8], starts: &[usize], number: usize) -> Option<&'t [u8]> {
    let index = number.checked_sub(1)?;
    let start = *starts.get(index)?;
    let line = match starts.get(index + 1) {
        Some(&next) => text.get(start..next - 1)?,
        None => text.get(start..)?,
    };
    Some(line.strip_suffix(b"\r").unwrap_or(line))
}

fn render_one(out: &mut String, diagnostic: &Diagnostic, file: &str, body: Option<&[u8]>) {
    let Diagnostic { severity, code, line, column, length, message, hint } = diagnostic;
    // Whole, however long: it is what people click on and paste.
    let mut name = String::with_capacity(file.len());
    escape_into(&mut name, file.as_bytes());
    let file = name;
    let _ = match body {
        Some(body) => {
            let column = characters(body.get(..column.saturating_sub(1)).unwrap_or(body)) + 1;
            writeln!(out, "{file}:{line}:{column}: {severity}: {message} [{code}]")
        }
        None => writeln!(out, "{file}: {severity}: {message} [{code}]"),
    };
    let margin = line.to_string().len().max(5);
    if let Some(body) = body {
        let start = column.saturating_sub(1);
        let excerpt = Excerpt::new(body, start, start.saturating_add(*length));
        let _ = writeln!(out, "{line:>margin$} | {}", excerpt.text);
        let indent = excerpt.start;
        let marks = "^".repeat(excerpt.end.saturating_sub(indent).max(1));
        let _ = writeln!(out, "{:margin$} | {:indent$}{marks}", "", "");
    }
    if let Some(hint) = hint {
        let _ = writeln!(out, "{:margin$} = {hint}", "");
    }
}

fn characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| !is_continuation(**byte)).count()
}

const fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

/// A line as it is shown, and the shown columns between which the mark goes.
struct Excerpt {
    text: String,
    start: usize,
    end: usize,
}

impl Excerpt {
    fn new(body: &[u8], start: usize, end: usize) -> Self {
        let from = if body.len() <= WINDOW { 0 } else { start.saturating_sub(LEAD) };
        let from = boundary(body, from.min(body.len()));
        let to = boundary(body, from.saturating_add(WINDOW).min(body.len()));
        let part = |from: usize, to: usize| body.get(from..to.max(from)).unwrap_or_default();
        let start = start.clamp(from, to);
        let end = end.clamp(start, to);

        let mut shown = Shown::default();
        if from > 0 {
            shown.push_plain("...");
        }
        shown.push(part(from, start));
        let start_column = shown.width;
        shown.push(part(start, end));
        let end_column = shown.width;
        shown.push(part(end, to));
        if to < body.len() {
            shown.push_plain("...");
        }
        Self { text: shown.text, start: start_column, end: end_column }
    }
}

/// The nearest place at or before `at` that is not inside a character.
fn boundary(body: &[u8], at: usize) -> usize {
    let inside = (0..4.min(at + 1))
        .take_while(|back| body.get(at - back).is_some_and(|byte| is_continuation(*byte)))
        .count();
    at - inside.min(at)
}

#[derive(Default)]
struct Shown {
    text: String,
    width: usize,
}

impl Shown {
    fn push_plain(&mut self, text: &str) {
        self.text.push_str(text);
        self.width += text.chars().count();
    }

    /// Tabs become blanks up to the next multiple of 8, everything else is made printable.
    fn push(&mut self, bytes: &[u8]) {
        let mut pieces = bytes.split(|byte| *byte == b'\t').peekable();
        while let Some(piece) = pieces.next() {
            let mut escaped = String::new();
            escape_into(&mut escaped, piece);
            self.push_plain(&escaped);
            if pieces.peek().is_some() {
                let blanks = 8 - self.width % 8;
                self.push_plain(&" ".repeat(blanks));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::{Code, Severity};

    fn diagnostic(line: usize, column: usize, length: usize) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            code: Code::UnknownCommand,
            line,
            column,
            length,
            message: "no".to_owned(),
            hint: Some("yes".to_owned()),
        }
    }

    #[test]
    fn the_place_is_marked() {
        let text = render(&[diagnostic(2, 4, 3)], "x.cf", b"a\nab foo\r\nc");
        assert_eq!(
            text,
            "x.cf:2:4: error: no [unknown-command]\n    2 | ab foo\n      |    ^^^\n      = yes\n"
        );
    }

    #[test]
    fn tabs_and_hostile_bytes_keep_the_mark_in_place() {
        let text = render(&[diagnostic(1, 5, 1)], "x\x1b", b"\t\x1b\xc3\xa9Z");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "x\\u{1b}:1:4: error: no [unknown-command]");
        assert_eq!(lines[1], "    1 |         \\u{1b}\u{e9}Z");
        assert_eq!(
            lines[2].chars().position(|c| c == '^'),
            lines[1].chars().position(|c| c == 'Z')
        );
    }

    #[test]
    fn giant_lines_are_shown_in_part() {
        let mut text = vec![b'x'; 1_000_000];
        text[500_000] = b'Z';
        let shown = render(&[diagnostic(1, 500_001, 1)], "f", &text);
        let lines: Vec<_> = shown.lines().collect();
        assert!(shown.len() < 600);
        assert!(lines[1].contains("...x") && lines[1].ends_with("x..."));
        assert_eq!(lines[2].find('^'), lines[1].find('Z'));
    }

    #[test]
    fn the_name_of_the_file_is_whole() {
        let name = format!("/{}/lvs.cf", "long".repeat(50));
        let shown = render(&[diagnostic(1, 1, 1)], &name, b"x");
        assert!(shown.starts_with(&format!("{name}:1:1: error: ")), "{shown}");
    }

    #[test]
    fn places_beyond_the_file_are_harmless() {
        for (line, column, length) in
            [(0, 0, 0), (9, 1, 1), (1, 99, 9), (1, 0, usize::MAX), (usize::MAX, usize::MAX, 1)]
        {
            assert!(render(&[diagnostic(line, column, length)], "f", b"ab\n").starts_with('f'));
        }
    }

    #[test]
    fn first_lines_as_scripts_know_them() {
        let error = SyntaxError {
            line: 3,
            column: 1,
            length: 3,
            message: "unknown command",
            code: Code::UnknownCommand,
            hint: None,
        };
        let cases = [
            ("pulse", "pulse: error parsing /x at line 3: unknown command"),
            ("lvsd", "lvs: error parsing /x on line 3."),
            ("lvs", "lvs: error parsing /x on line 3."),
            ("fos", "fos: error parsing /x on line 3."),
        ];
        for (program, expected) in cases {
            assert_eq!(first_line(program, "/x", &error), expected);
        }
        assert_eq!(open_failure("pulse", "/x"), "pulse: failed to open /x");
        assert_eq!(open_failure("lvsd", "/x"), "lvs: failed to open /x");
    }
}
