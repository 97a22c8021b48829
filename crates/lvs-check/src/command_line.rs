//! The command line: which check by what name, and its options.

use crate::dns::message::{Question, Type};
use crate::expected::Expected;
use crate::http::Statuses;
use crate::http::url::{self, Url, port_number};
use crate::replies::Protocol;
use crate::tls::Policy;
use crate::{Check, dns, http, mysql, replies, tcp};
use daemon::args::{self, COMMON, Opt, Parsed, flag, option};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The program's name; a link to it `lvs-check-KIND` makes that check.
const NAME: &str = "lvs-check";
/// Seconds: below the 10 of nanny's `timeout` where none is configured.
const LIMIT: i32 = 9;
/// Seconds for one connection, as the check script of the field gave wget.
const CONNECT: i32 = 2;
/// As wget has it.
const REDIRECTS: i32 = 20;
/// As wget has it; the time limit comes first.
const TRIES: i32 = 20;
/// Longest time limit, in seconds.
const DAY: i32 = 86_400;

/// What a command line asks for.
#[derive(Debug)]
pub enum Start {
    /// To make a check.
    Check(Box<Order>),
    /// Text for standard output; exit status 0.
    Print(String),
    /// Text for standard error; exit status 2.
    Refuse(String),
}

/// A check to make.
#[derive(Debug)]
pub struct Order {
    /// What the program is called in messages.
    pub name: String,
    /// The check.
    pub check: Check,
    /// The time limit.
    pub limit: Duration,
    /// Say what was found also when all is well.
    pub verbose: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    Https,
    Smtp,
    Ftp,
    Dns,
    Tcp,
    Mysql,
}

const KINDS: [(&str, Kind, &str); 7] = [
    ("http", Kind::Http, "a web page"),
    ("https", Kind::Https, "a web page over TLS, like the script lvs-check-https.sh"),
    ("smtp", Kind::Smtp, "a mail server's greeting, EHLO and QUIT"),
    ("ftp", Kind::Ftp, "an FTP server's greeting and QUIT"),
    ("dns", Kind::Dns, "a name server's answer"),
    ("tcp", Kind::Tcp, "a connection, what is sent and what comes back"),
    ("mysql", Kind::Mysql, "a MySQL or MariaDB server's greeting"),
];

const EVERY: [Opt; 2] = [
    option("timeout", Some('t'), "SECONDS", "Time limit of the whole check (9)"),
    flag("verbose", Some('v'), "Say on standard error what was found"),
];
const EXPECT: [Opt; 2] = [
    option("expect", Some('e'), "TEXT", "What must be in the answer"),
    flag("regex", Some('r'), "TEXT is a POSIX extended regular expression"),
];
const HTTP: [Opt; 8] = [
    option("path", None, "PATH", "The page: /health?full (/)"),
    option("host", Some('H'), "NAME", "Name of the site, where HOST is one of its servers"),
    option("status", Some('s'), "LIST", "Statuses that are well: 200,300-399 (HTTP/1.1 200 OK)"),
    flag("get", Some('g'), "Ask with GET, not HEAD; --expect does so too"),
    option("header", None, "FIELD", "A field of the request: Name:value"),
    option("redirects", None, "N", "Redirects that are followed (20)"),
    option("tries", None, "N", "Tries where a server is silent or hangs up (20)"),
    option("connect-timeout", None, "SECONDS", "Time limit of each connection (2)"),
];
const HTTPS: [Opt; 4] = [
    option("days", Some('d'), "N", "Days for which the certificate must be valid still"),
    flag("verify", None, "Verify the certificate and its name"),
    option("ca", None, "FILE", "Verify it by the certificates in FILE"),
    option("sni", None, "NAME", "Name that TLS asks for (the site's)"),
];
const SMTP: [Opt; 1] = [option("helo", None, "NAME", "Our name for EHLO (our address)")];
const DNS: [Opt; 3] = [
    option("query", Some('q'), "NAME", "The name to ask for"),
    option("type", None, "TYPE", "A, AAAA, NS, CNAME, SOA, PTR, MX, TXT or SRV (A)"),
    option("expect", Some('e'), "TEXT", "What one of the records, or a word of it, must be"),
];
const TCP: [Opt; 3] = [
    option("send", Some('s'), "TEXT", "What to send; \\r and \\n are expanded"),
    option("expect", Some('e'), "TEXT", "What the answer must begin with; *: anything"),
    flag("regex", Some('r'), "TEXT is a POSIX extended regular expression, found anywhere"),
];
const MYSQL: [Opt; 1] =
    [option("user", Some('u'), "NAME", "Log in as this user, without a password")];

impl Kind {
    fn options(self) -> Vec<Opt> {
        let own: &[&[Opt]] = match self {
            Kind::Http => &[&HTTP, &EXPECT],
            Kind::Https => &[&HTTP, &EXPECT, &HTTPS],
            Kind::Smtp => &[&EXPECT, &SMTP],
            Kind::Ftp => &[&EXPECT],
            Kind::Dns => &[&DNS],
            Kind::Tcp => &[&TCP],
            Kind::Mysql => &[&MYSQL],
        };
        own.iter().copied().chain([&EVERY[..], &COMMON]).flatten().copied().collect()
    }

    fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind, _)| *kind == self).map_or("", |(name, ..)| name)
    }

    /// Its well-known port; tcp has none.
    fn port(self) -> Option<u16> {
        match self {
            Kind::Http => Some(url::default_port(false)),
            Kind::Https => Some(url::default_port(true)),
            Kind::Smtp => Some(25),
            Kind::Ftp => Some(21),
            Kind::Dns => Some(53),
            Kind::Mysql => Some(3306),
            Kind::Tcp => None,
        }
    }

    /// The operands in the help text.
    fn operands(self) -> &'static str {
        match self {
            Kind::Http | Kind::Https => "HOST[:PORT][/PATH] [PORT]",
            Kind::Tcp => "HOST PORT",
            _ => "HOST [PORT]",
        }
    }
}

/// Reads a command line: `called` is the name the program was started by, `words` are the others.
#[must_use]
pub fn read(called: &OsStr, mut words: Vec<OsString>) -> Start {
    let kind = match kind_by_name(called) {
        Some(kind) => kind,
        None => match words.first().and_then(|word| kind_by_word(word)) {
            Some(kind) => {
                words.remove(0);
                kind
            }
            None => return without_kind(words),
        },
    };
    let name = format!("{NAME}-{}", kind.name());
    let options = kind.options();
    let usage = format!("{name} {}", kind.operands());
    let refuse = |why: &dyn std::fmt::Display| {
        Start::Refuse(format!("{name}: {why}\nUsage: {usage} [OPTION...] (see --help)\n"))
    };
    match args::parse(&options, words) {
        Err(error) => refuse(&error),
        Ok(parsed) if parsed.has("help") => Start::Print(help(&usage, &options)),
        Ok(parsed) if parsed.has("usage") => Start::Print(args::usage(&usage, &options)),
        Ok(parsed) if parsed.has("version") => Start::Print(args::version()),
        Ok(parsed) => match order(kind, &name, &parsed) {
            Ok(order) => Start::Check(Box::new(order)),
            Err(why) => refuse(&why),
        },
    }
}

/// By `lvs-check-https`, or `lvs-check-https.sh`: the script's own name may be a link to this program.
fn kind_by_name(called: &OsStr) -> Option<Kind> {
    let name = Path::new(called).file_name()?.to_str()?;
    let name = name.strip_suffix(".sh").unwrap_or(name);
    kind_by_word(OsStr::new(name.strip_prefix(NAME)?.strip_prefix('-')?))
}

fn kind_by_word(word: &OsStr) -> Option<Kind> {
    KINDS.iter().find(|(name, ..)| word == *name).map(|(_, kind, _)| *kind)
}

fn without_kind(words: Vec<OsString>) -> Start {
    let usage = format!("{NAME} KIND HOST [PORT]");
    let first = words.first().map(|word| word.to_string_lossy().into_owned());
    match args::parse(&COMMON, words) {
        Ok(parsed) if parsed.has("help") => Start::Print(help_without_kind(&usage)),
        Ok(parsed) if parsed.has("usage") => Start::Print(args::usage(&usage, &COMMON)),
        Ok(parsed) if parsed.has("version") => Start::Print(args::version()),
        _ => {
            let kinds: Vec<&str> = KINDS.iter().map(|(name, ..)| *name).collect();
            let kinds = kinds.join(", ");
            let why = first.map_or("no kind of check".to_owned(), |word| {
                format!("no kind of check: '{word}'")
            });
            Start::Refuse(format!(
                "{NAME}: {why} (one of {kinds})\nUsage: {usage} [OPTION...] (see --help)\n"
            ))
        }
    }
}

fn help(usage: &str, options: &[Opt]) -> String {
    args::help(usage, options)
        + "\nPrints OK or FAIL, and on standard error why it failed. Exit status: 0 OK, 1 FAIL,\n\
           2 the command line is wrong.\n"
}

fn help_without_kind(usage: &str) -> String {
    let mut text = help(usage, &COMMON);
    text.push_str("\nKinds of checks (lvs-check KIND --help shows the options of each):\n");
    for (name, _, what) in KINDS {
        text.push_str(&format!("  {name:<6} {what}\n"));
    }
    text.push_str("\nUnder the name lvs-check-KIND it makes that check.\n");
    text
}

fn order(kind: Kind, name: &str, parsed: &Parsed) -> Result<Order, String> {
    let limit = Duration::from_secs(number(parsed, "timeout", LIMIT, 1..=DAY)?.into());
    let check = match kind {
        Kind::Http => Check::Http(Box::new(http_order(parsed, false)?)),
        Kind::Https => Check::Http(Box::new(http_order(parsed, true)?)),
        Kind::Smtp => Check::Replies(replies_order(parsed, kind, Protocol::Smtp)?),
        Kind::Ftp => Check::Replies(replies_order(parsed, kind, Protocol::Ftp)?),
        Kind::Dns => Check::Dns(dns_order(parsed, kind)?),
        Kind::Tcp => Check::Tcp(tcp_order(parsed, kind)?),
        Kind::Mysql => {
            let (host, port) = place(parsed, kind)?;
            let user = text(parsed, "user").map(|user| printable("user", user)).transpose()?;
            Check::Mysql(mysql::Order { host, port, user })
        }
    };
    Ok(Order { name: name.to_owned(), check, limit, verbose: parsed.has("verbose") })
}

/// A number within bounds.
fn number(
    parsed: &Parsed,
    option: &str,
    default: i32,
    bounds: std::ops::RangeInclusive<i32>,
) -> Result<u32, String> {
    let number = parsed.number(option).map_err(|error| error.to_string())?.unwrap_or(default);
    match u32::try_from(number) {
        Ok(fitting) if bounds.contains(&number) => Ok(fitting),
        _ => Err(format!("--{option} {number}: it may be {} to {}", bounds.start(), bounds.end())),
    }
}

/// An option's text; an empty one is none.
fn text(parsed: &Parsed, option: &str) -> Option<String> {
    parsed.text(option).filter(|text| !text.is_empty())
}

/// What is sent within a line must not end it.
fn printable(option: &str, text: String) -> Result<String, String> {
    if text.chars().any(char::is_control) {
        return Err(format!("--{option}: control characters cannot be sent"));
    }
    Ok(text)
}

/// The operands `HOST [PORT]`.
fn place(parsed: &Parsed, kind: Kind) -> Result<(String, u16), String> {
    let (operand, second) = operands(parsed)?;
    let (host, port, path) = url::split(operand)?;
    if !path.is_empty() {
        return Err(format!("no name or address of a host: '{operand}'"));
    }
    let port = one_port(port, second)?.or(kind.port()).ok_or("no port")?;
    Ok((host.to_owned(), port))
}

fn operands(parsed: &Parsed) -> Result<(&str, Option<&str>), String> {
    match parsed.operands.as_slice() {
        [] => Err("no host".to_owned()),
        [host] => Ok((host, None)),
        [host, port] => Ok((host, Some(port))),
        [_, _, more, ..] => Err(format!("one word too many: '{more}'")),
    }
}

fn one_port(first: Option<u16>, second: Option<&str>) -> Result<Option<u16>, String> {
    match (first, second) {
        (None, Some(text)) => port_number(text).map(Some),
        (Some(_), Some(text)) => Err(format!("a second port: '{text}'")),
        (first, None) => Ok(first),
    }
}

fn expected(parsed: &Parsed) -> Result<Option<Expected>, String> {
    let Some(text) = parsed.bytes("expect").filter(|text| !text.is_empty()) else {
        return if parsed.has("regex") {
            Err("--regex without --expect".to_owned())
        } else {
            Ok(None)
        };
    };
    Expected::new(text, parsed.has("regex")).map(Some).map_err(|why| format!("--expect: {why}"))
}

fn http_order(parsed: &Parsed, tls: bool) -> Result<http::Order, String> {
    let (operand, second) = operands(parsed)?;
    let (_, port, path) = url::split(operand)?;
    let mut url = Url::new(tls, operand)?;
    if let Some(port) = one_port(port, second)? {
        url.port = port;
    }
    if let Some(own) = text(parsed, "path") {
        if !path.is_empty() {
            return Err(format!("--path: there is one in '{operand}'"));
        }
        url = url.with_path(&own);
    }
    let server = url.host.clone();
    if let Some(name) = text(parsed, "host") {
        url.host = site("host", &name)?;
    }
    let header = text(parsed, "header").map(|field| printable("header", field)).transpose()?;
    if header.as_ref().is_some_and(|field| !is_field(field)) {
        return Err("--header: not of the form Name:value".to_owned());
    }
    let seconds = number(parsed, "connect-timeout", CONNECT, 1..=DAY)?;
    Ok(http::Order {
        server,
        sni: text(parsed, "sni").map(|name| site("sni", &name)).transpose()?,
        header,
        get: parsed.has("get"),
        status: text(parsed, "status").map(|list| Statuses::new(&list)).transpose()?,
        expected: expected(parsed)?,
        redirects: number(parsed, "redirects", REDIRECTS, 0..=1000)?,
        tries: number(parsed, "tries", TRIES, 1..=1000)?,
        connect: Duration::from_secs(seconds.into()),
        tls: if tls { policy(parsed)? } else { Policy::default() },
        url,
    })
}

fn is_field(field: &str) -> bool {
    field.split_once(':').is_some_and(|(name, _)| {
        let token = |b: u8| b.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(&b);
        !name.is_empty() && name.bytes().all(token)
    })
}

fn site(option: &str, name: &str) -> Result<String, String> {
    match url::split(name) {
        Ok((host, None, "")) => Ok(host.to_owned()),
        Ok(_) => Err(format!("--{option}: a name only, no port and no path: '{name}'")),
        Err(why) => Err(format!("--{option}: {why}")),
    }
}

fn policy(parsed: &Parsed) -> Result<Policy, String> {
    let ca = text(parsed, "ca").map(PathBuf::from);
    let days = match parsed.has("days") {
        true => Some(parsed.number("days").map_err(|error| error.to_string())?.unwrap_or(0).max(0)),
        false => None,
    };
    Ok(Policy { verify: parsed.has("verify") || ca.is_some(), ca, days })
}

fn replies_order(
    parsed: &Parsed,
    kind: Kind,
    protocol: Protocol,
) -> Result<replies::Order, String> {
    let (host, port) = place(parsed, kind)?;
    let helo = text(parsed, "helo").map(|name| printable("helo", name)).transpose()?;
    Ok(replies::Order { protocol, host, port, helo, expected: expected(parsed)? })
}

fn dns_order(parsed: &Parsed, kind: Kind) -> Result<dns::Order, String> {
    let (host, port) = place(parsed, kind)?;
    let name = text(parsed, "query").ok_or("no name to ask for: --query NAME")?;
    let kind = Type::new(&text(parsed, "type").unwrap_or_else(|| "A".to_owned()))?;
    let question = Question::new(&name, kind)?;
    Ok(dns::Order { host, port, question, expected: text(parsed, "expect") })
}

fn tcp_order(parsed: &Parsed, kind: Kind) -> Result<tcp::Order, String> {
    let (host, port) = place(parsed, kind)?;
    // An invalid expression is the caller's fault, not the server's.
    if parsed.bytes("expect") != Some(b"*") {
        expected(parsed)?;
    }
    let bytes = |option| parsed.bytes(option).map(<[u8]>::to_vec);
    let (send, expect) = (bytes("send"), bytes("expect"));
    Ok(tcp::Order { host, port, send, expect, regex: parsed.has("regex") })
}
