//! Text in columns, and a little colour.

use std::io::IsTerminal;

/// Whether words are coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Paint(pub(crate) bool);

impl Paint {
    /// For standard output: only on a terminal, and not where `NO_COLOR` is set or the terminal
    /// has no colours.
    pub(crate) fn for_stdout() -> Paint {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let able = set("TERM").is_some_and(|name| name != "dumb");
        Paint(std::io::stdout().is_terminal() && able && set("NO_COLOR").is_none())
    }

    /// What is in order.
    pub(crate) fn good(self, text: &str) -> String {
        self.colour("32", text)
    }

    /// What is worth a look.
    pub(crate) fn odd(self, text: &str) -> String {
        self.colour("33", text)
    }

    /// What is wrong.
    pub(crate) fn bad(self, text: &str) -> String {
        self.colour("1;31", text)
    }

    /// By the codes of ECMA-48, "select graphic rendition".
    fn colour(self, code: &str, text: &str) -> String {
        match self.0 && !text.is_empty() {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

/// What came from elsewhere, on one line and without what a terminal would act on.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => shown.push(' '),
            control if control.is_control() => shown.extend(control.escape_default()),
            other => shown.push(other),
        }
    }
    shown
}

/// Rows whose columns line up, with lines between them that do not.
#[derive(Debug, Default)]
pub(crate) struct Table {
    items: Vec<Item>,
    /// Columns that line up at their right.
    right: &'static [usize],
}

#[derive(Debug)]
enum Item {
    Line(String),
    Row(Vec<String>),
}

impl Table {
    /// A table whose columns with these numbers, from 0, line up at their right.
    pub(crate) fn new(right: &'static [usize]) -> Table {
        Table { items: Vec::new(), right }
    }

    /// Adds a line that stands for itself.
    pub(crate) fn line(&mut self, text: String) {
        self.items.push(Item::Line(text));
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.items.push(Item::Row(cells.into()));
    }

    /// The text: columns as wide as their widest cell, two blanks between them.
    pub(crate) fn show(&self) -> String {
        let mut widths: Vec<usize> = Vec::new();
        for cells in self.items.iter().filter_map(Item::cells) {
            widths.resize(widths.len().max(cells.len()), 0);
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(columns(cell));
            }
        }
        let mut text = String::new();
        for item in &self.items {
            match item {
                Item::Line(line) => text.push_str(line),
                Item::Row(cells) => text.push_str(&self.line_up(cells, &widths)),
            }
            text.push('\n');
        }
        text
    }

    fn line_up(&self, cells: &[String], widths: &[usize]) -> String {
        let pad = |(column, (cell, width)): (usize, (&String, &usize))| {
            let blanks = " ".repeat(width.saturating_sub(columns(cell)));
            if self.right.contains(&column) { blanks + cell } else { format!("{cell}{blanks}") }
        };
        let padded: Vec<String> = cells.iter().zip(widths).enumerate().map(pad).collect();
        padded.join("  ").trim_end().to_owned()
    }
}

impl Item {
    fn cells(&self) -> Option<&[String]> {
        match self {
            Item::Line(_) => None,
            Item::Row(cells) => Some(cells),
        }
    }
}

/// How many columns a cell takes on a terminal: colours take none.
fn columns(cell: &str) -> usize {
    let mut in_colour = false;
    let seen = cell.chars().filter(|character| {
        in_colour |= *character == '\x1b';
        let visible = !in_colour;
        in_colour &= *character != 'm';
        visible
    });
    seen.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_acts_on_nothing_from_elsewhere() {
        assert_eq!(printable("a\nb\x1b[2J é"), "a b\\u{1b}[2J é");
    }

    #[test]
    fn columns_line_up_whatever_their_colour() {
        for paint in [Paint(false), Paint(true)] {
            let mut table = Table::new(&[1]);
            table.row(["name".to_owned(), "sent".to_owned(), "x".to_owned()]);
            table.line("between".to_owned());
            table.row([paint.bad("é"), "5".to_owned(), paint.good("y")]);
            table.row(["longer".to_owned(), "12345".to_owned(), String::new()]);
            let shown = table.show().replace("\x1b[1;31m", "").replace("\x1b[32m", "");
            let plain = shown.replace("\x1b[0m", "");
            assert_eq!(plain, "name     sent  x\nbetween\né           5  y\nlonger  12345\n");
            assert_eq!(plain != table.show(), paint.0);
        }
    }
}
