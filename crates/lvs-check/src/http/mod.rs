//! http and https. The client is our own because the verdict hangs on what libraries keep to
//! themselves: the status line word for word, which the check script of the field compares.

mod body;
mod cookies;
mod head;
mod status;
pub mod url;

use crate::deadline::Deadline;
use crate::expected::Expected;
use crate::failure::{Failure, Shown, Verdict};
use crate::net::{self, Stream, unreceived};
use crate::tls::{self, Policy};
use body::Body;
use cookies::Cookies;
use head::Head;
pub use status::Statuses;
use std::io::{self, BufReader, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;
use url::Url;

/// Most bytes of a body that are looked at.
pub const MOST_BODY: u64 = 1024 * 1024;
/// The status line that the check script of the field looks for.
const FINE: &[u8] = b"HTTP/1.1 200 OK";
/// Longest pause before another try.
const LONGEST_PAUSE: u32 = 10;

/// What is asked for, and what must come.
#[derive(Debug)]
pub struct Order {
    /// The page. Its host is the name in the request and in the certificate.
    pub url: Url,
    /// The server that is connected to for pages of that host.
    pub server: String,
    /// The name that TLS asks for; else the page's host.
    pub sni: Option<String>,
    /// A field of the request.
    pub header: Option<String>,
    /// Ask with GET at once, not with HEAD.
    pub get: bool,
    /// What the status must be; else the status line must begin with `HTTP/1.1 200 OK`.
    pub status: Option<Statuses>,
    /// What must be in the body.
    pub expected: Option<Expected>,
    /// Most redirects followed.
    pub redirects: u32,
    /// Most tries for a page.
    pub tries: u32,
    /// Time limit of one connection.
    pub connect: Duration,
    /// What is asked of TLS.
    pub tls: Policy,
}

/// Asks for the page, follows redirects, judges the last answer.
///
/// # Errors
/// Why the check failed.
pub fn check(order: &Order, deadline: Deadline) -> Verdict {
    let mut cookies = Cookies::default();
    let mut url = order.url.clone();
    let mut left = order.redirects;
    loop {
        match page(order, &url, &mut cookies, deadline)? {
            Outcome::Fine(found) => return Ok(found),
            Outcome::Moved { to, peer } if left == 0 => {
                let reason = format!("more than {} redirects, the next to {to}", order.redirects);
                return Err(Failure::answer(peer, reason));
            }
            Outcome::Moved { to, .. } => url = to,
        }
        left -= 1;
    }
}

/// What has come of a page.
enum Outcome {
    /// What was expected, in words.
    Fine(String),
    /// Another page.
    Moved { to: Url, peer: SocketAddr },
}

/// Asks for one page, and again where that may help, with longer and longer pauses: as wget does.
fn page(
    order: &Order,
    url: &Url,
    cookies: &mut Cookies,
    deadline: Deadline,
) -> Result<Outcome, Failure> {
    let mut get = order.get || order.expected.is_some();
    for attempt in 1.. {
        let failure = match answer(order, url, get, cookies, deadline) {
            // Servers that do not know HEAD are asked with GET.
            Ok(answer) if !get && matches!(answer.head.status, 500 | 501) => {
                get = true;
                continue;
            }
            Ok(answer) => match judge(order, url, answer) {
                Ok(outcome) => return Ok(outcome),
                Err(failure) => failure,
            },
            Err(failure) => failure,
        };
        let pause = Duration::from_secs(attempt.min(LONGEST_PAUSE).into());
        let time_left = deadline.left().is_ok_and(|left| left > pause);
        if !failure.is_passing() || attempt >= order.tries || !time_left {
            return Err(failure);
        }
        std::thread::sleep(pause);
    }
    Err(Failure::Here("more tries than there are numbers".to_owned()))
}

/// A connection, with or without TLS.
type Connection = Box<dyn ReadWrite>;

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

/// An answer of which the head has been read.
struct Answer {
    peer: SocketAddr,
    head: Head,
    /// Where the body is to be read from.
    rest: BufReader<Connection>,
    /// What is worth saying of the connection.
    found: Option<String>,
}

fn answer(
    order: &Order,
    url: &Url,
    get: bool,
    cookies: &mut Cookies,
    deadline: Deadline,
) -> Result<Answer, Failure> {
    let own = url.host.eq_ignore_ascii_case(&order.url.host);
    let server = if own { &order.server } else { &url.host };
    let addresses = net::lookup(server, url.port, deadline)?;
    let stream = net::connect(&addresses, order.connect, deadline)?;
    let peer = stream.peer;
    let (mut connection, found) = secured(order, url, own, stream)?;
    let request = request(order, url, get, cookies.field(url).as_deref());
    net::send(&mut connection, peer, &request)?;
    let mut rest = BufReader::new(connection);
    let head = head::read(&mut rest)
        .map_err(|error| failed_read(peer, error))?
        .map_err(|line| Failure::answer(peer, format!("no answer of HTTP: {}", Shown(&line))))?;
    for field in head.fields("set-cookie") {
        cookies.set(url, field);
    }
    Ok(Answer { peer, head, rest, found })
}

fn secured(
    order: &Order,
    url: &Url,
    own: bool,
    stream: Stream,
) -> Result<(Connection, Option<String>), Failure> {
    if !url.tls {
        return Ok((Box::new(stream), None));
    }
    let sni = order.sni.as_deref().filter(|_| own).unwrap_or(&url.host);
    let tls = tls::connect(stream, &url.host, sni, &order.tls)?;
    Ok((Box::new(tls.stream), Some(tls.found)))
}

/// An answer that is too long or malformed is certain; what else happens to a connection may pass.
fn failed_read(peer: SocketAddr, error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::InvalidData => Failure::answer(peer, error.to_string()),
        _ => unreceived(peer, error),
    }
}

fn request(order: &Order, url: &Url, get: bool, cookies: Option<&str>) -> Vec<u8> {
    let own = order.header.as_deref().map(|field| field.split(':').next().unwrap_or(field).trim());
    let agent = concat!("lvs-check/", env!("CARGO_PKG_VERSION"));
    let host = url.authority();
    let fields = [
        ("Host", Some(host.as_str())),
        ("User-Agent", Some(agent)),
        ("Accept", Some("*/*")),
        ("Accept-Encoding", Some("identity")),
        ("Connection", Some("close")),
        ("Cookie", cookies),
    ];
    let mut text = format!("{} {} HTTP/1.1\r\n", if get { "GET" } else { "HEAD" }, url.path);
    for (name, value) in fields {
        if let Some(value) = value
            && !own.is_some_and(|own| own.eq_ignore_ascii_case(name))
        {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    if let Some(field) = &order.header {
        text.push_str(&format!("{field}\r\n"));
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// What an answer means. A redirect whose status is among the expected ones is not followed.
fn judge(order: &Order, url: &Url, answer: Answer) -> Result<Outcome, Failure> {
    let wrong = |reason: String| Failure::answer(answer.peer, reason);
    let fits = fits(order, &answer.head);
    if fits.is_err()
        && let Some(location) = redirect(&answer.head)
    {
        let to = url.join(location).map_err(|reason| {
            wrong(format!("redirected to {}: {reason}", Shown(location.as_bytes())))
        })?;
        return Ok(Outcome::Moved { to, peer: answer.peer });
    }
    fits.map_err(wrong)?;
    let mut found = format!("{}: {}", answer.peer, Shown(&answer.head.status_line));
    if let Some(tls) = &answer.found {
        found = format!("{found}, {tls}");
    }
    if let Some(expected) = &order.expected {
        look_for(expected, answer)?;
        found = format!("{found}, {expected} is there");
    }
    Ok(Outcome::Fine(found))
}

fn fits(order: &Order, head: &Head) -> Result<(), String> {
    let line = Shown(&head.status_line);
    match &order.status {
        Some(statuses) if statuses.contains(head.status) => Ok(()),
        Some(statuses) => Err(format!("the answer is {line}, not {statuses}")),
        None if head.status_line.starts_with(FINE) => Ok(()),
        None if head.status == 200 => Err(format!(
            "the answer is {line}, not \"HTTP/1.1 200 OK\" (with --status 200 it would do)"
        )),
        None => Err(format!("the answer is {line}, not \"HTTP/1.1 200 OK\"")),
    }
}

fn redirect(head: &Head) -> Option<&str> {
    matches!(head.status, 300..=303 | 307 | 308).then(|| head.field("location")).flatten()
}

/// Reads the body until it is certain whether the text is there.
fn look_for(expected: &Expected, answer: Answer) -> Result<(), Failure> {
    let peer = answer.peer;
    let mut from = Body::new(answer.rest, &answer.head).take(MOST_BODY);
    let mut body = Vec::new();
    let mut chunk = vec![0; 16 * 1024];
    loop {
        let got = from.read(&mut chunk).map_err(|error| failed_read(peer, error))?;
        if got == 0 {
            break;
        }
        let seen = body.len();
        body.extend_from_slice(&chunk[..got]);
        if expected.found_already(&body, seen) {
            return Ok(());
        }
    }
    if expected.found_in(&body) {
        return Ok(());
    }
    let read = body.len();
    let all = if from.limit() > 0 { "" } else { "first " };
    let reason =
        format!("{expected} is not in the {all}{read} bytes of the page: {}", Shown(&body));
    Err(Failure::answer(peer, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> Order {
        Order {
            url: Url::new(true, "web.example.com/x").unwrap(),
            server: "10.1.0.11".to_owned(),
            sni: None,
            header: None,
            get: false,
            status: None,
            expected: None,
            redirects: 20,
            tries: 1,
            connect: Duration::from_secs(2),
            tls: Policy::default(),
        }
    }

    fn head(line: &str) -> Head {
        head::read(&mut format!("{line}\r\nLocation: /y\r\n\r\n").as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn status_lines_as_the_script_took_them() {
        let cases = [
            ("HTTP/1.1 200 OK", None, true),
            ("HTTP/1.1 200 OKAY", None, true),
            ("HTTP/1.1 200 ok", None, false),
            ("HTTP/1.1 200", None, false),
            ("HTTP/1.1  200 OK", None, false),
            ("HTTP/1.0 200 OK", None, false),
            ("HTTP/1.1 204 No Content", None, false),
            ("HTTP/1.1 503 OK", None, false),
            ("HTTP/1.0 200", Some("200"), true),
            ("HTTP/1.1 401 No", Some("200,401"), true),
            ("HTTP/1.1 302 F", Some("300-399"), true),
            ("HTTP/1.1 200 OK", Some("204"), false),
        ];
        for (line, status, want) in cases {
            let status = status.map(|text| Statuses::new(text).unwrap());
            let got = fits(&Order { status, ..order() }, &head(line));
            assert_eq!(got.is_ok(), want, "{line}: {got:?}");
        }
        let hint = fits(&order(), &head("HTTP/1.0 200 OK")).unwrap_err();
        assert!(hint.ends_with("(with --status 200 it would do)"), "{hint}");
    }

    #[test]
    fn what_is_a_redirect() {
        for status in 200..600 {
            let want = [300, 301, 302, 303, 307, 308].contains(&status);
            assert_eq!(
                redirect(&head(&format!("HTTP/1.1 {status} x"))).is_some(),
                want,
                "{status}"
            );
        }
    }

    #[test]
    fn requests() {
        let text = |order: &Order, get| {
            String::from_utf8(request(order, &order.url, get, Some("a=1"))).unwrap()
        };
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            text(&order(), false),
            format!(
                "HEAD /x HTTP/1.1\r\nHost: web.example.com\r\nUser-Agent: lvs-check/{version}\r\n\
                 Accept: */*\r\nAccept-Encoding: identity\r\nConnection: close\r\nCookie: a=1\r\n\r\n"
            )
        );
        let own = Order { header: Some("user-agent: probe".to_owned()), ..order() };
        let own = text(&own, true);
        assert!(own.starts_with("GET /x HTTP/1.1\r\n"), "{own}");
        assert!(own.ends_with("\r\nuser-agent: probe\r\n\r\n"), "{own}");
        assert!(!own.contains("lvs-check/"), "{own}");
    }
}
