//! Lines over a stream socket that never blocks: what a daemon says to its children and to those
//! who ask it something.

use crate::poll::{self, Poller};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// Most bytes read at a time before other descriptors get their turn.
const READ_AT_ONCE: usize = 256 * 1024;

/// A non-blocking stream of lines, ended by LF, in both directions.
#[derive(Debug)]
pub struct Lines {
    stream: UnixStream,
    input: Vec<u8>,
    /// Where the next line starts in `input`.
    taken: usize,
    /// Up to where `input` is known to hold no further line end.
    scanned: usize,
    output: Vec<u8>,
    sent: usize,
    /// Whether a poller reports when more can be sent.
    waits: bool,
    longest: usize,
}

/// What a read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// The other side may send more.
    Open,
    /// The other side is gone.
    Closed,
}

impl Lines {
    /// Takes over a stream. A line longer than `longest` bytes is an error when it is read.
    ///
    /// # Errors
    /// When the stream cannot be made non-blocking.
    pub fn new(stream: UnixStream, longest: usize) -> io::Result<Lines> {
        stream.set_nonblocking(true)?;
        Ok(Lines {
            stream,
            input: Vec::new(),
            taken: 0,
            scanned: 0,
            output: Vec::new(),
            sent: 0,
            waits: false,
            longest,
        })
    }

    /// Reads what has come. Then ask [`Lines::next_line`].
    ///
    /// # Errors
    /// A broken connection, or `InvalidData` for a line that is too long.
    pub fn fill(&mut self) -> io::Result<Reading> {
        self.input.drain(..self.taken);
        self.scanned -= self.taken;
        self.taken = 0;
        let mut chunk = [0; 16 * 1024];
        let mut total = 0;
        while total < READ_AT_ONCE {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(Reading::Closed),
                Ok(n) => {
                    self.input.extend_from_slice(&chunk[..n]);
                    total += n;
                    if !chunk[..n].contains(&b'\n') && self.unfinished() > self.longest {
                        return Err(io::Error::new(io::ErrorKind::InvalidData, "line too long"));
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(Reading::Open)
    }

    /// Bytes behind the last line end.
    fn unfinished(&self) -> usize {
        let tail = self.input.len().saturating_sub(self.longest + 1);
        self.input[tail..].iter().rev().take_while(|b| **b != b'\n').count()
    }

    /// The next whole line, without its end.
    pub fn next_line(&mut self) -> Option<Vec<u8>> {
        match self.input[self.scanned..].iter().position(|b| *b == b'\n') {
            Some(at) => {
                let end = self.scanned + at;
                let line = self.input[self.taken..end].to_vec();
                self.taken = end + 1;
                self.scanned = end + 1;
                Some(line)
            }
            None => {
                self.scanned = self.input.len();
                if self.taken == self.input.len() {
                    // A burst is over: give its memory back.
                    (self.input, self.taken, self.scanned) = (Vec::new(), 0, 0);
                }
                None
            }
        }
    }

    /// Queues a line (the end is added) to be sent by [`Lines::flush`].
    pub fn push(&mut self, line: &[u8]) {
        self.output.extend_from_slice(line);
        self.output.push(b'\n');
    }

    /// Sends as much as the other side takes now.
    ///
    /// # Errors
    /// A broken connection.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        while self.sent < self.output.len() {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        (self.output, self.sent) = (Vec::new(), 0);
        Ok(())
    }

    /// Sends as much as the other side takes now, and has `poller`, where this stream is registered
    /// under `token` for reading, report when it takes more.
    ///
    /// # Errors
    /// A broken connection.
    pub fn flush_in(&mut self, poller: &Poller, token: u64) -> io::Result<()> {
        self.flush()?;
        let waits = self.unsent() > 0;
        if waits != self.waits {
            let flags = if waits { poll::READ_WRITE } else { poll::READ };
            poller.modify(&*self, token, flags)?;
            self.waits = waits;
        }
        Ok(())
    }

    /// Bytes that wait to be sent.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.output.len() - self.sent
    }
}

impl AsFd for Lines {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(longest: usize) -> (UnixStream, Lines) {
        let (a, b) = UnixStream::pair().unwrap();
        (a, Lines::new(b, longest).unwrap())
    }

    #[test]
    fn lines_come_whole_however_they_are_cut() {
        let (mut a, mut lines) = pair(100);
        for piece in [&b"on"[..], b"e\ntwo\n\nthr", b"ee\n"] {
            a.write_all(piece).unwrap();
            assert_eq!(lines.fill().unwrap(), Reading::Open);
            while let Some(line) = lines.next_line() {
                lines.push(&line);
            }
        }
        lines.flush().unwrap();
        drop(lines);
        let mut back = String::new();
        a.read_to_string(&mut back).unwrap();
        assert_eq!(back, "one\ntwo\n\nthree\n");
    }

    #[test]
    fn an_endless_line_is_an_error_not_memory() {
        let (mut a, mut lines) = pair(1000);
        a.set_nonblocking(true).unwrap();
        let error = loop {
            let _ = a.write(&[b'x'; 300]);
            if let Err(e) = lines.fill() {
                break e;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(lines.input.len() < 40_000);
    }

    #[test]
    fn the_end_is_seen_after_the_last_line() {
        let (mut a, mut lines) = pair(100);
        a.write_all(b"last\n").unwrap();
        drop(a);
        assert_eq!(lines.fill().unwrap(), Reading::Closed);
        assert_eq!(lines.next_line().as_deref(), Some(&b"last"[..]));
        assert_eq!(lines.next_line(), None);
    }

    #[test]
    fn what_the_other_side_does_not_take_waits() {
        let (a, mut lines) = pair(100);
        while lines.unsent() == 0 {
            lines.push(&[b'y'; 4096]);
            lines.flush().unwrap();
        }
        let waiting = lines.unsent();
        let mut sink = [0; 65536];
        let mut a = a;
        while lines.unsent() > 0 {
            assert!(a.read(&mut sink).unwrap() > 0);
            lines.flush().unwrap();
        }
        assert!(waiting > 0);
    }
}
