//! The body of an answer, as it is framed (RFC 9112, section 6).

use crate::http::head::Head;
use crate::net::line;
use std::io::{self, BufRead, Read};

/// Longest line before a chunk, in bytes.
const CHUNK_LINE: usize = 4096;

/// Reads a body and nothing beyond it.
#[derive(Debug)]
pub(crate) struct Body<R> {
    from: R,
    framing: Framing,
}

#[derive(Debug, PartialEq, Eq)]
enum Framing {
    /// So many bytes are left.
    Length(u64),
    /// So many bytes are left of a chunk; the next chunk's line follows.
    Chunk {
        left: u64,
        first: bool,
    },
    /// Until the server closes.
    Close,
    Ended,
}

impl<R: BufRead> Body<R> {
    /// The body that follows this head of an answer to GET.
    pub(crate) fn new(from: R, head: &Head) -> Body<R> {
        let chunked = |value: &str| value.to_ascii_lowercase().ends_with("chunked");
        let length = head.field("content-length").and_then(|text| text.parse().ok());
        let framing = if matches!(head.status, 204 | 304) {
            Framing::Ended
        } else if head.field("transfer-encoding").is_some_and(chunked) {
            Framing::Chunk { left: 0, first: true }
        } else {
            length.map_or(Framing::Close, Framing::Length)
        };
        Body { from, framing }
    }

    /// Reads the line before the next chunk.
    fn next_chunk(&mut self, first: bool) -> io::Result<()> {
        if !first && !line(&mut self.from, CHUNK_LINE)?.is_empty() {
            return Err(broken());
        }
        let size = line(&mut self.from, CHUNK_LINE)?;
        let digits = size.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        let size = std::str::from_utf8(digits)
            .ok()
            .filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|text| u64::from_str_radix(text, 16).ok())
            .ok_or_else(broken)?;
        self.framing =
            if size == 0 { Framing::Ended } else { Framing::Chunk { left: size, first: false } };
        Ok(())
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the answer is not chunked as it says")
}

impl<R: BufRead> Read for Body<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Framing::Chunk { left: 0, first } = self.framing {
            self.next_chunk(first)?;
        }
        let left = match &mut self.framing {
            Framing::Ended => return Ok(0),
            Framing::Close => return self.from.read(buffer),
            Framing::Length(left) | Framing::Chunk { left, .. } => left,
        };
        if *left == 0 {
            return Ok(0);
        }
        let most = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
        let got = self.from.read(&mut buffer[..most])?;
        if got == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *left -= got as u64;
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head;
    use proptest::prelude::*;

    fn body(answer: &str) -> Result<String, io::ErrorKind> {
        let mut from = answer.as_bytes();
        let head = head::read(&mut from).unwrap().unwrap();
        let mut text = String::new();
        Body::new(from, &head).read_to_string(&mut text).map_err(|e| e.kind()).map(|_| text)
    }

    #[test]
    fn framings() {
        let cases = [
            ("\r\nall of it", Ok("all of it")),
            ("Content-Length: 3\r\n\r\nabcdef", Ok("abc")),
            ("Content-Length: 0\r\n\r\nabc", Ok("")),
            ("Content-Length: 9\r\n\r\nabc", Err(io::ErrorKind::UnexpectedEof)),
            ("Content-Length: x\r\n\r\nabc", Ok("abc")),
            (
                "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\nrest",
                Ok("abcde"),
            ),
            ("Transfer-Encoding: gzip, Chunked\r\n\r\n0\r\n\r\n", Ok("")),
            (
                "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n2\r\nab\r\n0\r\n\r\n",
                Ok("ab"),
            ),
            ("Transfer-Encoding: chunked\r\n\r\nabc\r\n", Err(io::ErrorKind::UnexpectedEof)),
            ("Transfer-Encoding: chunked\r\n\r\n-1\r\n", Err(io::ErrorKind::InvalidData)),
            ("Transfer-Encoding: chunked\r\n\r\n\r\n", Err(io::ErrorKind::InvalidData)),
            ("Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", Err(io::ErrorKind::InvalidData)),
            (
                "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n",
                Err(io::ErrorKind::InvalidData),
            ),
        ];
        for (rest, want) in cases {
            let got = body(&format!("HTTP/1.1 200 OK\r\n{rest}"));
            assert_eq!(got, want.map(str::to_owned), "{rest:?}");
        }
        assert_eq!(body("HTTP/1.1 204 No\r\n\r\nabc"), Ok(String::new()));
    }

    proptest! {
        #[test]
        fn no_chunks_panic_or_grow(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let framing = Framing::Chunk { left: 0, first: true };
            let mut all = Vec::new();
            let _ = Body { from: &bytes[..], framing }.read_to_end(&mut all);
            prop_assert!(all.len() <= bytes.len());
        }
    }
}
