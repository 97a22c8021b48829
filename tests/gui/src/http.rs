//! HTTP/1.1 by hand: what a browser sends, and what it never would.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use base64ct::{Base64, Encoding};
use lab::PATIENCE;
use scraper::Html;
use socket2::{Domain, Socket, Type};

/// A request that is being put together.
#[derive(Clone, Debug)]
pub struct Ask {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Ask {
    /// A request with this method and target, as they are.
    #[must_use]
    pub fn new(method: &str, target: &str) -> Self {
        let (method, target) = (method.to_owned(), target.to_owned());
        Self { method, target, headers: Vec::new(), body: None }
    }

    /// GET.
    #[must_use]
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// A form, as a browser sends it.
    #[must_use]
    pub fn post(target: &str, fields: &[(&str, &str)]) -> Self {
        let fields: Vec<_> = fields
            .iter()
            .map(|(key, value)| format!("{}={}", encoded(key), encoded(value)))
            .collect();
        Self::new("POST", target)
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(fields.join("&"))
    }

    /// With one more header. A `Host` takes the place of the usual one.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a body, and its length.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// With a name and a password.
    #[must_use]
    pub fn user(self, user: &str, password: &str) -> Self {
        self.header("Authorization", &basic(user, password))
    }

    /// What goes over the wire.
    #[must_use]
    pub fn bytes(&self, host: SocketAddr) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            let _ = write!(head, "Host: {host}\r\n");
        }
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if let Some(body) = &self.body {
            let _ = write!(head, "Content-Length: {}\r\n", body.len());
        }
        let mut bytes = (head + "\r\n").into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }

    /// Asks on a connection of its own.
    #[track_caller]
    #[must_use]
    pub fn of(&self, address: SocketAddr) -> Answer {
        self.over(Conversation::with(address), address)
    }

    /// The same from another address of the loopback network.
    #[track_caller]
    #[must_use]
    pub fn from(&self, source: Ipv4Addr, address: SocketAddr) -> Answer {
        self.over(Conversation::from(source, address), address)
    }

    #[track_caller]
    fn over(&self, mut conversation: Conversation<TcpStream>, address: SocketAddr) -> Answer {
        let bytes = self.bytes(address);
        let failed = |error: io::Error| -> ! { panic!("{} {}: {error}", self.method, self.target) };
        // An answer may come, and the connection end, before all was said.
        let sent = conversation.send(&bytes);
        match conversation.answer(&self.method) {
            Ok(Some(answer)) => answer,
            Ok(None) => failed(sent.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into())),
            Err(error) => failed(error),
        }
    }
}

/// The value of an `Authorization` header, RFC 7617.
#[must_use]
pub fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", Base64::encode_string(format!("{user}:{password}").as_bytes()))
}

/// As forms and addresses want it.
#[must_use]
pub fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// 200, 404, …
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Without its framing.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("an answer in UTF-8")
    }

    /// The body as a browser understands it.
    #[must_use]
    pub fn page(&self) -> Html {
        Html::parse_document(&self.text())
    }

    /// The text of all elements that a CSS selector finds, blanks folded.
    #[must_use]
    pub fn texts(&self, selector: &str) -> Vec<String> {
        let selector = scraper::Selector::parse(selector).expect("a CSS selector");
        let folded = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
        self.page().select(&selector).map(|found| folded(found.text().collect())).collect()
    }

    /// An attribute of all elements that a CSS selector finds.
    #[must_use]
    pub fn attributes(&self, selector: &str, name: &str) -> Vec<String> {
        let selector = scraper::Selector::parse(selector).expect("a CSS selector");
        let page = self.page();
        page.select(&selector).filter_map(|found| found.attr(name)).map(str::to_owned).collect()
    }
}

/// A connection, for more than one request or for less.
#[derive(Debug)]
pub struct Conversation<S: Read + Write> {
    stream: BufReader<S>,
}

impl Conversation<TcpStream> {
    /// Connects. Nothing is waited for longer than [`PATIENCE`].
    #[track_caller]
    #[must_use]
    pub fn with(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)
            .unwrap_or_else(|error| panic!("connect to {address}: {error}"));
        Self::patient(stream)
    }

    /// The same from another address of the loopback network, as another client.
    #[track_caller]
    #[must_use]
    pub fn from(source: Ipv4Addr, address: SocketAddr) -> Self {
        let connected = Socket::new(Domain::IPV4, Type::STREAM, None).and_then(|socket| {
            socket.bind(&SocketAddr::from((source, 0)).into())?;
            socket.connect(&address.into())?;
            Ok(socket.into())
        });
        let stream =
            connected.unwrap_or_else(|error: io::Error| panic!("{source} to {address}: {error}"));
        Self::patient(stream)
    }

    fn patient(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        stream.set_write_timeout(Some(PATIENCE)).expect("a time limit");
        stream.set_nodelay(true).expect("no delay");
        Self::over(stream)
    }

    /// The socket itself.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }
}

impl<S: Read + Write> Conversation<S> {
    /// Over a stream that is there.
    #[must_use]
    pub fn over(stream: S) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)?;
        self.stream.get_mut().flush()
    }

    /// The next answer, to a request by this method; `None`: the connection has ended without one.
    ///
    /// # Errors
    /// Those of the stream, [`PATIENCE`] over among them, and `InvalidData` for what is no HTTP.
    pub fn answer(&mut self, method: &str) -> io::Result<Option<Answer>> {
        let Some(status) = self.line()? else { return Ok(None) };
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let code = status.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
        let status: u16 = code.and_then(|c| c.parse().ok()).ok_or_else(|| wrong(&status))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?.ok_or_else(|| wrong("the head ends too early"))?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Answer { status, headers, body: Vec::new() };
        if method != "HEAD" && !matches!(status, 100..=199 | 204 | 304) {
            answer.body = self.body_of(&answer)?;
        }
        Ok(Some(answer))
    }

    fn body_of(&mut self, answer: &Answer) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        let length = answer.header("content-length").and_then(|text| text.parse().ok());
        if let Some(length) = length {
            body.resize(length, 0);
            self.stream.read_exact(&mut body)?;
        } else if answer.header("transfer-encoding").is_some_and(|how| how == "chunked") {
            loop {
                let size = self.line()?.unwrap_or_default();
                let size = usize::from_str_radix(size.trim(), 16)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                let start = body.len();
                body.resize(start + size, 0);
                self.stream.read_exact(&mut body[start..])?;
                self.line()?;
                if size == 0 {
                    break;
                }
            }
        } else {
            self.stream.read_to_end(&mut body)?;
        }
        Ok(body)
    }

    fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        // A peer that has hung up on what it did not read resets the connection.
        match self.stream.read_until(b'\n', &mut line) {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads until the other side ends the connection: what came before that.
    ///
    /// # Errors
    /// `WouldBlock` if it does not within [`PATIENCE`].
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => Ok(rest),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(rest),
            Err(error) => Err(error),
        }
    }
}
