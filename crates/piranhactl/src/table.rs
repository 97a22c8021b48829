//! Text in columns.

/// Rows whose columns line up, with lines between them that do not.
#[derive(Debug, Default)]
pub(crate) struct Table {
    items: Vec<Item>,
}

#[derive(Debug)]
enum Item {
    Line(String),
    Row(Vec<String>),
}

impl Table {
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
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for item in &self.items {
            match item {
                Item::Line(line) => text.push_str(line),
                Item::Row(cells) => text.push_str(&line_up(cells, &widths)),
            }
            text.push('\n');
        }
        text
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

fn line_up(cells: &[String], widths: &[usize]) -> String {
    let padded: Vec<String> =
        cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
    padded.join("  ").trim_end().to_owned()
}
