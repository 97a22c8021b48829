//! A plain HTTP client: one request, one connection.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::node::Node;

/// Limit for the connection and for each read.
const LIMIT: Duration = Duration::from_secs(5);

/// An HTTP response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// 200, 404, …
    pub status: u16,
    /// The head as it came: status line and header lines, each with its CR LF.
    pub head: String,
    /// The rest, up to the end of the connection.
    pub body: String,
}

impl Node {
    /// Asks `http://ADDRESS[:PORT][/PATH]` (no names) from this node, by `GET … HTTP/1.0`, and reads
    /// to the end of the connection. Limits are 5 s each to connect, to send and for every read.
    ///
    /// # Errors
    /// Those of the connection; `InvalidInput` for the URL, `InvalidData` for a reply that is no
    /// HTTP.
    pub fn get(&self, url: &str) -> io::Result<Response> {
        let (address, host, path) = parse_url(url)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("URL {url}")))?;
        let reply = self.enter(|| -> io::Result<Vec<u8>> {
            let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
            stream.set_read_timeout(Some(LIMIT))?;
            stream.set_write_timeout(Some(LIMIT))?;
            write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
            let mut reply = Vec::new();
            stream.read_to_end(&mut reply)?;
            Ok(reply)
        })?;
        parse_reply(&reply).ok_or_else(|| {
            let shown = String::from_utf8_lossy(&reply);
            io::Error::new(io::ErrorKind::InvalidData, format!("no HTTP reply: {shown:?}"))
        })
    }
}

fn parse_url(url: &str) -> Option<(SocketAddr, &str, &str)> {
    let rest = url.strip_prefix("http://")?;
    let (host, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, "/"),
    };
    let address = host.parse().or_else(|_| format!("{host}:80").parse::<SocketAddr>()).ok()?;
    Some((address, host, path))
}

fn parse_reply(reply: &[u8]) -> Option<Response> {
    let text = String::from_utf8_lossy(reply);
    let (head, body) = text.split_at_checked(text.find("\r\n\r\n")? + 4)?;
    let status = head.strip_prefix("HTTP/")?.split(' ').nth(1)?.trim().parse().ok()?;
    Some(Response { status, head: head.to_owned(), body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_urls() {
        let cases = [
            ("http://10.0.0.1", Some(("10.0.0.1:80", "/"))),
            ("http://10.0.0.1:8080/a/b?c", Some(("10.0.0.1:8080", "/a/b?c"))),
            ("http://[fd00::1]/x", Some(("[fd00::1]:80", "/x"))),
            ("http://[fd00::1]:81", Some(("[fd00::1]:81", "/"))),
            ("http://name/", None),
            ("https://10.0.0.1/", None),
        ];
        for (url, wanted) in cases {
            let found = parse_url(url).map(|(address, _, path)| (address.to_string(), path));
            let wanted = wanted.map(|(address, path)| (address.to_owned(), path));
            assert_eq!(found, wanted, "{url}");
        }
    }

    #[test]
    fn reads_replies() {
        let reply = parse_reply(b"HTTP/1.1 503 No\r\nA: b\r\n\r\nbody\r\n\r\n").unwrap();
        assert_eq!((reply.status, reply.body.as_str()), (503, "body\r\n\r\n"));
        for bad in ["", "HTTP/1.1 200 OK\r\n", "SSH-2.0\r\n\r\n", "HTTP/1.1 x\r\n\r\n"] {
            assert_eq!(parse_reply(bad.as_bytes()), None, "{bad}");
        }
    }
}
