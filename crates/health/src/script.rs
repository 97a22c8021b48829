//! Check scripts as they come: many were copied from a web page, whose indentation is made of
//! non-breaking spaces. No shell takes those for blanks: each indented line is then a command that
//! does not exist. The original nanny took a script that failed so for a server that is up, and
//! nobody noticed; here the script is read as it was meant.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// U+00A0 in UTF-8.
const NON_BREAKING: &[u8] = b"\xc2\xa0";
/// Longest script that is mended, in bytes: it becomes one argument, which Linux limits to 128 KiB
/// (MAX_ARG_STRLEN of linux/binfmts.h).
const LONGEST: u64 = 100 * 1024;

/// The text of a script whose indentation has non-breaking spaces, with spaces in their place.
/// `None` for every other script, and for one that cannot be read.
pub(crate) fn mended(path: &Path) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(LONGEST + 1).read_to_end(&mut text).ok()?;
    if text.len() as u64 > LONGEST || text.contains(&0) {
        return None;
    }
    let mended = mend(&text)?;
    static TOLD: AtomicBool = AtomicBool::new(false);
    if !TOLD.swap(true, Ordering::Relaxed) {
        let path = path.display();
        log::warn!(
            "{path} is indented with non-breaking spaces, as copied from a web page; it is run as if \
             they were spaces. To mend it: sed -i 's/\\xc2\\xa0/ /g' {path}"
        );
    }
    Some(mended)
}

/// Says once that a script for sh may not work here.
pub(crate) fn warn_of_missing_bash(path: &Path) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if !TOLD.swap(true, Ordering::Relaxed) {
        log::warn!(
            "{} is run by this system's /bin/sh, which is not bash; if the script relies on bash, as \
             many do, install /bin/bash",
            path.display()
        );
    }
}

/// Replaces the non-breaking spaces at the beginning of lines; `None` where there are none.
fn mend(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut found = false;
    for line in text.split_inclusive(|b| *b == b'\n') {
        let mut rest = line;
        loop {
            if let Some(after) = rest.strip_prefix(NON_BREAKING) {
                (rest, found) = (after, true);
                out.push(b' ');
            } else if let [blank @ (b' ' | b'\t'), after @ ..] = rest {
                out.push(*blank);
                rest = after;
            } else {
                break;
            }
        }
        out.extend_from_slice(rest);
    }
    found.then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_indentation_is_mended() {
        let cases: [(&[u8], Option<&[u8]>); 6] = [
            (b"a\n\xc2\xa0 \xc2\xa0\tb\n", Some(b"a\n  \x20\tb\n")),
            (b"\xc2\xa0a", Some(b" a")),
            (b"echo 'x\xc2\xa0y'\n", None),
            (b"\xc2\xa0echo '\xc2\xa0'\n", Some(b" echo '\xc2\xa0'\n")),
            (b"  plain\n", None),
            (b"\xc2", None),
        ];
        for (text, want) in cases {
            assert_eq!(mend(text).as_deref(), want, "{}", text.escape_ascii());
        }
    }
}
