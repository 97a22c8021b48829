//! The head of an answer: status line and fields (RFC 9112), read as leniently as wget reads them.

use crate::net::line;
use std::io::{self, BufRead};

/// Most bytes of all heads of an answer together.
pub(crate) const MOST: usize = 64 * 1024;

/// The head of an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// The first line as it came.
    pub(crate) status_line: Vec<u8>,
    /// The status in it.
    pub(crate) status: u16,
    /// Names in lower case, and values.
    fields: Vec<(String, String)>,
}

impl Head {
    /// The first value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// All values of a field.
    pub(crate) fn fields<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// Reads a head; interim ones (100 to 199) are skipped. `Ok(Err(line))` where the first line is none of
/// HTTP's.
///
/// # Errors
/// As [`line`].
pub(crate) fn read(from: &mut impl BufRead) -> io::Result<Result<Head, Vec<u8>>> {
    let mut left = MOST;
    loop {
        let status_line = line_of(from, &mut left)?;
        let Some(status) = status(&status_line) else { return Ok(Err(status_line)) };
        let mut head = Head { status_line, status, fields: Vec::new() };
        loop {
            let line = line_of(from, &mut left)?;
            if line.is_empty() {
                break;
            }
            take_in(&mut head.fields, &line);
        }
        if !(100..200).contains(&status) {
            return Ok(Ok(head));
        }
    }
}

fn line_of(from: &mut impl BufRead, left: &mut usize) -> io::Result<Vec<u8>> {
    let line = line(from, *left)?;
    *left = left.saturating_sub(line.len() + 2);
    Ok(line)
}

/// The status of a status line: `HTTP/…`, blanks, three digits.
fn status(line: &[u8]) -> Option<u16> {
    let text = line.strip_prefix(b"HTTP/")?;
    let mut words = text.split(|b| *b == b' ').filter(|word| !word.is_empty());
    let code = words.nth(1)?;
    let digits = code.len() == 3 && code.iter().all(u8::is_ascii_digit);
    digits.then(|| code.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0')))
}

/// A field, or the rest of the one before (a line that begins with a blank). Others are passed over.
fn take_in(fields: &mut Vec<(String, String)>, line: &[u8]) {
    let line = String::from_utf8_lossy(line);
    if line.starts_with([' ', '\t']) {
        if let Some((_, value)) = fields.last_mut() {
            value.push(' ');
            value.push_str(line.trim());
        }
    } else if let Some((name, value)) = line.split_once(':') {
        fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(text: &str) -> Result<Result<Head, Vec<u8>>, io::ErrorKind> {
        read(&mut text.as_bytes()).map_err(|error| error.kind())
    }

    #[test]
    fn status_lines() {
        let cases: [(&str, Option<u16>); 9] = [
            ("HTTP/1.1 200 OK", Some(200)),
            ("HTTP/1.1 200", Some(200)),
            ("HTTP/1.0  404 No", Some(404)),
            ("HTTP/2 204", Some(204)),
            ("HTTP/1.1 20 OK", None),
            ("HTTP/1.1 2000 OK", None),
            ("HTTP/1.1", None),
            ("<html>", None),
            ("", None),
        ];
        for (line, want) in cases {
            assert_eq!(status(line.as_bytes()), want, "{line}");
        }
    }

    #[test]
    fn heads() {
        let head =
            read_all("HTTP/1.1 302 F\r\nLocation : /a\r\n b\r\nno field\r\nX:1\nx:2\r\n\r\nbody")
                .unwrap()
                .unwrap();
        assert_eq!((head.status, head.status_line.as_slice()), (302, &b"HTTP/1.1 302 F"[..]));
        assert_eq!(head.field("location"), Some("/a b"));
        assert_eq!(head.fields("x").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(head.field("none"), None);
        let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
        let head = read_all(interim).unwrap().unwrap();
        assert_eq!((head.status, head.field("link")), (200, None));
    }

    #[test]
    fn what_is_no_head() {
        assert_eq!(read_all("SSH-2.0-x\r\n").unwrap().unwrap_err(), b"SSH-2.0-x");
        for cut in ["", "HTTP/1.1 200 OK", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nA: b\r\n"] {
            assert_eq!(read_all(cut).unwrap_err(), io::ErrorKind::UnexpectedEof, "{cut:?}");
        }
        let long = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(MOST));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(MOST / 6 + 1));
        let interim = "HTTP/1.1 100 C\r\n\r\n".repeat(MOST / 18 + 1);
        for endless in [long, many, interim] {
            assert_eq!(read_all(&endless).unwrap_err(), io::ErrorKind::InvalidData);
        }
    }
}
