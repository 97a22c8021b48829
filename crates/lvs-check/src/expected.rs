//! What must be in an answer.

use crate::failure::Shown;
use health::recipe::expand_escapes;
use health::regex::Regex;
use std::fmt;

/// A text that must be in an answer, anywhere.
#[derive(Debug)]
pub enum Expected {
    /// These bytes.
    Text(Vec<u8>),
    /// This POSIX extended regular expression.
    Regex {
        /// As it was given.
        text: Vec<u8>,
        /// To look for.
        regex: Regex,
    },
}

impl Expected {
    /// As on a command line; `\r`, `\n` and so on are expanded, as in lvs.cf.
    ///
    /// # Errors
    /// What is wrong with the regular expression.
    pub fn new(text: &[u8], is_regex: bool) -> Result<Expected, String> {
        let text = expand_escapes(text);
        if !is_regex {
            return Ok(Expected::Text(text));
        }
        let regex = Regex::new(&text)?;
        Ok(Expected::Regex { text, regex })
    }

    /// Whether it is there.
    #[must_use]
    pub fn found_in(&self, answer: &[u8]) -> bool {
        match self {
            Expected::Text(text) => contains(answer, text),
            Expected::Regex { regex, .. } => regex.found_in(answer),
        }
    }

    /// Whether it is there, where it was not in the first `seen` bytes. For an expression that means
    /// nothing before the end: `$` and `[^x]*` depend on what follows.
    #[must_use]
    pub fn found_already(&self, answer: &[u8], seen: usize) -> bool {
        match self {
            Expected::Text(text) => contains(&answer[seen.saturating_sub(text.len())..], text),
            Expected::Regex { .. } => false,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expected::Text(text) => write!(f, "the text {}", Shown(text)),
            Expected::Regex { text, .. } => write!(f, "the expression {}", Shown(text)),
        }
    }
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    text.is_empty() || bytes.windows(text.len()).any(|window| window == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_expressions() {
        let cases: [(&[u8], bool, &[u8], bool); 8] = [
            (b"ok", false, b"all ok here", true),
            (b"ok", false, b"o k", false),
            (b"a.c", false, b"abc", false),
            (b"a.c", true, b"abc", true),
            (b"a\\tb", false, b"a\tb", true),
            (b"", false, b"", true),
            (b"longer", false, b"long", false),
            (b"^x$", true, b"ax", false),
        ];
        for (text, is_regex, answer, want) in cases {
            let expected = Expected::new(text, is_regex).unwrap();
            assert_eq!(expected.found_in(answer), want, "{expected} in {}", answer.escape_ascii());
        }
        assert!(!Expected::new(b"(", true).unwrap_err().is_empty());
    }

    #[test]
    fn a_text_is_found_across_the_pieces_it_comes_in() {
        let expected = Expected::new(b"needle", false).unwrap();
        let answer = b"hay needle hay";
        for cut in 0..answer.len() {
            let before = expected.found_already(&answer[..cut], 0);
            assert_eq!(before, cut >= 10);
            assert!(before || expected.found_already(answer, cut), "{cut}");
        }
    }
}
