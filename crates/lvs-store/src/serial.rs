//! serial_no, which every change raises.

use lvs_config::{Document, EditError, NoResolver, Path, parse};

const KEY: &str = "serial_no";

/// The serial_no of a text; `None` where it has none or what it has is no number.
pub(crate) fn of(document: &Document) -> Option<i64> {
    let words = document.get(Path::Global, KEY)?;
    let mut line = Document::default();
    line.set(Path::Global, KEY, &words).ok()?;
    // The parser's own reading of that line.
    parse(line.as_bytes(), &NoResolver).config.ok().map(|config| config.serial_no)
}

/// Gives `new` a serial_no above that of the file it replaces, and returns it. One that whoever
/// made the text has raised already stays. Behind the highest number there is comes 1.
pub(crate) fn raise(old: &Document, new: &mut Document) -> Result<i64, EditError> {
    let before = of(old).unwrap_or(0);
    if let Some(given) = of(new).filter(|&given| given > before) {
        return Ok(given);
    }
    let next = before.checked_add(1).unwrap_or(1);
    new.set(Path::Global, KEY, &[next.to_string()])?;
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raised_exactly_once() {
        let cases = [
            ("serial_no = 7\n", "serial_no = 7\n", "serial_no = 8\n", 8),
            ("serial_no = 7\n", "serial_no = 9\n", "serial_no = 9\n", 9),
            ("serial_no = 7\n", "serial_no = 2\n", "serial_no = 8\n", 8),
            (
                "serial_no = 7\n",
                "# x\nprimary = 10.0.0.1\n",
                "serial_no = 8\n# x\nprimary = 10.0.0.1\n",
                8,
            ),
            ("", "", "serial_no = 1\n", 1),
            ("", "serial_no = x\n", "serial_no = 1\n", 1),
            ("serial_no = 0x10\n", "serial_no = 0x10\n", "serial_no = 17\n", 17),
            (
                "serial_no = 1\nserial_no = 5\n",
                "serial_no = 1\nserial_no = 5\n# x\n",
                "serial_no = 1\nserial_no = 6\n# x\n",
                6,
            ),
            ("serial_no = 9223372036854775807\n", "serial_no = 5", "serial_no = 1", 1),
            ("serial_no = -3\n", "\"serial_no = 5", "\"serial_no = 5\nserial_no = -2\n", -2),
        ];
        for (old, text, want, serial) in cases {
            let mut new = Document::new(text.as_bytes().to_vec());
            let raised = raise(&Document::new(old.as_bytes().to_vec()), &mut new);
            assert_eq!(raised, Ok(serial), "{old:?} {text:?}");
            assert_eq!(String::from_utf8_lossy(new.as_bytes()), want, "{old:?} {text:?}");
        }
    }
}
