//! The lowest layer of lvs.cf: bytes to lines, lines to words. lvs.cf(5).
//!
//! Nothing here allocates, and each byte is looked at a bounded number of times, so
//! that a hostile file costs no more than an honest one of the same size.

use nom::branch::alt;
use nom::bytes::complete::{tag, take_till, take_till1, take_while};
use nom::combinator::opt;
use nom::error::{Error, ErrorKind};
use nom::{IResult, Parser};

/// One physical line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawLine<'a> {
    /// What stands on the line, without its end.
    pub(crate) body: &'a [u8],
    /// Bytes of the body and of the line's end (`\n`, `\r\n`, or nothing at the end of the file).
    pub(crate) length: usize,
}

/// One word of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Word<'a> {
    /// The word without its quotes.
    pub(crate) text: &'a [u8],
    /// Byte offset in the line's body of its first byte, the quote included.
    pub(crate) start: usize,
    /// Byte offset in the line's body just behind its last byte, the quote included.
    pub(crate) end: usize,
}

/// A word opens with a quote that nothing closes on its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenQuote {
    /// Byte offset in the line's body of the quote.
    pub(crate) start: usize,
}

pub(crate) const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// The next line of `input`, which is not empty.
pub(crate) fn line(input: &[u8]) -> IResult<&[u8], RawLine<'_>> {
    let (rest, text) = take_till(|byte| byte == b'\n').parse_complete(input)?;
    let (rest, newline) = opt(tag(&b"\n"[..])).parse_complete(rest)?;
    let length = text.len() + newline.map_or(0, <[u8]>::len);
    // A carriage return before the end of the file is half of a lost line end.
    let body = text.strip_suffix(b"\r").unwrap_or(text);
    Ok((rest, RawLine { body, length }))
}

/// A word in quotes: up to the first matching quote that a blank or the end follows.
fn quoted(input: &[u8]) -> IResult<&[u8], &[u8]> {
    let (inside, quote) = alt((tag(&b"\""[..]), tag(&b"'"[..]))).parse_complete(input)?;
    let closes = |at: usize| inside.get(at + 1).is_none_or(|&next| is_blank(next));
    let close =
        inside.iter().enumerate().position(|(at, byte)| quote == [*byte].as_slice() && closes(at));
    match close.and_then(|at| Some((inside.get(at + 1..)?, inside.get(..at)?))) {
        Some(found) => Ok(found),
        None => Err(nom::Err::Failure(Error::new(input, ErrorKind::Char))),
    }
}

fn bare(input: &[u8]) -> IResult<&[u8], &[u8]> {
    take_till1(is_blank).parse_complete(input)
}

/// The words of one line's body, in order; ends after the first open quote.
#[derive(Clone, Debug)]
pub(crate) struct Words<'a> {
    body: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    pub(crate) const fn new(body: &'a [u8]) -> Self {
        Self { body, rest: body }
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = Result<Word<'a>, OpenQuote>;

    fn next(&mut self) -> Option<Self::Item> {
        let skipped: IResult<&[u8], &[u8]> = take_while(is_blank).parse_complete(self.rest);
        let (input, _) = skipped.ok()?;
        if input.is_empty() {
            self.rest = input;
            return None;
        }
        let start = self.body.len() - input.len();
        match alt((quoted, bare)).parse_complete(input) {
            Ok((rest, text)) => {
                self.rest = rest;
                Some(Ok(Word { text, start, end: self.body.len() - rest.len() }))
            }
            Err(_) => {
                self.rest = &[];
                Some(Err(OpenQuote { start }))
            }
        }
    }
}

/// A line's words, of which no more than the language has a use for are kept.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sentence<'a> {
    first: [Word<'a>; 5],
    /// How many words the line has.
    pub(crate) count: usize,
    /// The last of them.
    pub(crate) last: Word<'a>,
}

impl<'a> Sentence<'a> {
    /// The words of `body`, and the quote left open if there is one.
    pub(crate) fn read(body: &'a [u8]) -> (Self, Option<OpenQuote>) {
        let mut sentence = Self::default();
        for word in Words::new(body) {
            match word {
                Ok(word) => sentence.push(word),
                Err(open) => return (sentence, Some(open)),
            }
        }
        (sentence, None)
    }

    fn push(&mut self, word: Word<'a>) {
        if let Some(slot) = self.first.get_mut(self.count) {
            *slot = word;
        }
        self.count += 1;
        self.last = word;
    }

    /// Word number `index` (0 to 4) where the line has that many, else an empty one.
    pub(crate) fn word(&self, index: usize) -> Word<'a> {
        self.first.get(index).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(body: &str) -> Result<Vec<String>, usize> {
        Words::new(body.as_bytes())
            .map(|word| word.map(|word| String::from_utf8_lossy(word.text).into_owned()))
            .collect::<Result<_, _>>()
            .map_err(|open| open.start)
    }

    #[test]
    fn words_as_the_format_has_them() {
        let cases: &[(&str, Result<&[&str], usize>)] = &[
            ("", Ok(&[])),
            (" \t ", Ok(&[])),
            ("a = b", Ok(&["a", "=", "b"])),
            ("a=b", Ok(&["a=b"])),
            ("\ta\t=\tb\t", Ok(&["a", "=", "b"])),
            (r#"a = """#, Ok(&["a", "=", ""])),
            (r#"a = "b c""#, Ok(&["a", "=", "b c"])),
            (r#"a = 'b "c" d' e"#, Ok(&["a", "=", r#"b "c" d"#, "e"])),
            (r#"a = "b"c d""#, Ok(&["a", "=", r#"b"c d"#])),
            (r#"a = "b \"c\" d""#, Ok(&["a", "=", r#"b \"c\"#, r#"d""#])),
            (r#"a = """"#, Ok(&["a", "=", r#"""#])),
            (r#"it's don"t"#, Ok(&["it's", r#"don"t"#])),
            (r#"a = "b"#, Err(4)),
            (r#"a = "b"c"#, Err(4)),
            (r#"""#, Err(0)),
            ("a '", Err(2)),
        ];
        for (body, expected) in cases {
            let expected = expected.map(|words| words.iter().map(ToString::to_string).collect());
            assert_eq!(texts(body), expected, "{body}");
        }
    }

    #[test]
    fn spans_include_the_quotes() {
        let words: Vec<_> = Words::new(b" a  'b c' ").flatten().collect();
        assert_eq!((words[0].start, words[0].end), (1, 2));
        assert_eq!((words[1].start, words[1].end), (4, 9));
    }

    #[test]
    fn line_ends() {
        let cases: &[(&[u8], &[u8], usize)] = &[
            (b"a\nb", b"a", 2),
            (b"a\r\nb", b"a", 3),
            (b"a\rb\n", b"a\rb", 4),
            (b"a\r", b"a", 2),
            (b"\n", b"", 1),
            (b"\r\r\n", b"\r", 3),
        ];
        for &(input, body, length) in cases {
            let (rest, found) = line(input).unwrap();
            assert_eq!(found, RawLine { body, length });
            assert_eq!(rest, &input[length..]);
        }
    }
}
