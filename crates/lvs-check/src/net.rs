//! Names, addresses and connections, all within the time limit.

use crate::deadline::Deadline;
use crate::failure::{Failure, RECEIVE, SEND};
use std::io::{self, BufRead, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::time::Duration;

/// All addresses of a host, in the system's order.
///
/// # Errors
/// [`Failure::Lookup`]. The C library's look-up cannot be interrupted: at the time limit it is left
/// behind in its thread, which ends with the process.
pub fn lookup(host: &str, port: u16, deadline: Deadline) -> Result<Vec<SocketAddr>, Failure> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let failed =
        |reason: &str| Failure::Lookup { host: host.to_owned(), reason: reason.to_owned() };
    let (sender, receiver) = mpsc::channel();
    let name = host.to_owned();
    std::thread::Builder::new()
        .spawn(move || {
            let found = (name.as_str(), port).to_socket_addrs().map(Vec::from_iter);
            let _ = sender.send(found.map_err(|error| error.to_string()));
        })
        .map_err(|error| Failure::Here(format!("look up {host}: no thread: {error}")))?;
    let left = deadline.left().map_err(|_| failed("no time left"))?;
    match receiver.recv_timeout(left) {
        Ok(Ok(found)) if !found.is_empty() => Ok(found),
        Ok(Ok(_)) => Err(failed("it has no address")),
        Ok(Err(reason)) => Err(failed(&reason)),
        Err(_) => Err(failed("no answer within the time limit")),
    }
}

/// What each of so many addresses gets of the time, the last one all that is left.
pub(crate) fn share(deadline: Deadline, addresses_left: usize) -> io::Result<Duration> {
    Ok(deadline.left()? / u32::try_from(addresses_left.max(1)).unwrap_or(u32::MAX))
}

/// Connects to the first address that can be connected to, each for at most `limit`.
///
/// # Errors
/// [`Failure::Connect`], of the last address.
pub fn connect(
    addresses: &[SocketAddr],
    limit: Duration,
    deadline: Deadline,
) -> Result<Stream, Failure> {
    let mut last = Failure::Here("connect: no address".to_owned());
    for (at, peer) in addresses.iter().enumerate() {
        let connected = share(deadline, addresses.len() - at)
            .and_then(|share| TcpStream::connect_timeout(peer, share.min(limit)));
        match connected {
            Ok(stream) => {
                // What is sent is sent at once: every message here waits for its answer.
                let _ = stream.set_nodelay(true);
                return Ok(Stream { stream, deadline, peer: *peer });
            }
            Err(error) => last = Failure::Connect { peer: *peer, error },
        }
    }
    Err(last)
}

/// A connection whose reads and writes end with the time limit.
#[derive(Debug)]
pub struct Stream {
    stream: TcpStream,
    deadline: Deadline,
    /// The other end.
    pub peer: SocketAddr,
}

impl Stream {
    /// Our end's address.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn local(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }
}

/// A socket's time limit shows as `WouldBlock`.
pub(crate) fn timed_out(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => error,
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.deadline.left()?))?;
        self.stream.read(buffer).map_err(timed_out)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.deadline.left()?))?;
        self.stream.write(bytes).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends everything.
///
/// # Errors
/// [`Failure::Broken`].
pub fn send(to: &mut impl Write, peer: SocketAddr, bytes: &[u8]) -> Result<(), Failure> {
    to.write_all(bytes).map_err(|error| Failure::Broken { what: SEND, peer, error })
}

/// What failed while receiving.
pub(crate) fn unreceived(peer: SocketAddr, error: io::Error) -> Failure {
    Failure::Broken { what: RECEIVE, peer, error }
}

/// The next line without its end (LF or CR LF).
///
/// # Errors
/// `UnexpectedEof` when the server closes first, `InvalidData` when the line has more than `most`
/// bytes.
pub fn line(from: &mut impl BufRead, most: usize) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX);
    from.take(limit).read_until(b'\n', &mut line)?;
    if line.pop_if(|last| *last == b'\n').is_some() {
        line.pop_if(|last| *last == b'\r');
        return Ok(line);
    }
    Err(if line.len() < most {
        io::ErrorKind::UnexpectedEof.into()
    } else {
        io::Error::new(io::ErrorKind::InvalidData, "the answer is too long")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_their_ends() {
        let kind = |bytes: &[u8], most| line(&mut &bytes[..], most).map_err(|e| e.kind());
        type Case = (&'static [u8], Result<&'static [u8], io::ErrorKind>);
        let cases: [Case; 8] = [
            (b"220 x\r\nrest", Ok(b"220 x")),
            (b"220 x\nrest", Ok(b"220 x")),
            (b"\n", Ok(b"")),
            (b"a\r\r\n", Ok(b"a\r")),
            (b"", Err(io::ErrorKind::UnexpectedEof)),
            (b"220 x", Err(io::ErrorKind::UnexpectedEof)),
            (b"123456789\n", Ok(b"123456789")),
            (b"1234567890\n", Err(io::ErrorKind::InvalidData)),
        ];
        for (bytes, want) in cases {
            assert_eq!(kind(bytes, 10), want.map(<[u8]>::to_vec), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn addresses_need_no_look_up() {
        let deadline = Deadline::after(Duration::from_secs(60));
        for host in ["192.0.2.1", "2001:db8::1"] {
            let found = lookup(host, 443, deadline).unwrap();
            assert_eq!(found, [SocketAddr::new(host.parse().unwrap(), 443)]);
        }
        // No time at all: the look-up ends, whatever the system's resolver does.
        let none = Deadline::after(Duration::ZERO);
        let failure = lookup("localhost", 443, none).unwrap_err();
        assert_eq!(failure.to_string(), "look up localhost: no time left");
    }
}
