//! Addresses of pages, as far as checks and redirects need them (RFC 3986).

use std::fmt;

/// A page on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// https.
    pub tls: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query; begins with a slash.
    pub path: String,
}

/// The port where none is given.
#[must_use]
pub fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

/// `HOST[:PORT][/PATH]`, in which HOST is a name, an IPv4 address, or an IPv6 address with or (without
/// a port) without brackets.
///
/// # Errors
/// What is wrong with it.
pub fn split(text: &str) -> Result<(&str, Option<u16>, &str), String> {
    let end = text.find(['/', '?', '#']).unwrap_or(text.len());
    let (authority, path) = text.split_at(end);
    let (host, port) = split_port(authority)?;
    let acceptable = |c: char| c.is_alphanumeric() || "-._~%:".contains(c);
    if host.is_empty() {
        return Err(format!("no host in '{text}'"));
    }
    if authority.contains('@') {
        return Err(format!("no user and password before the host: use --header ({authority})"));
    }
    if !host.chars().all(acceptable) {
        return Err(format!("no name or address of a host: '{authority}'"));
    }
    Ok((host, port, path))
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), String> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(|| format!("no ] in '{authority}'"))?;
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return Err(format!("no port but '{rest}' behind [{host}]")),
        }
    } else {
        match authority.split_once(':') {
            // More than one colon: an IPv6 address, and no port.
            Some((_, rest)) if rest.contains(':') => (authority, None),
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    match port {
        None | Some("") => Ok((host, None)),
        Some(port) => port_number(port).map(|number| (host, Some(number))),
    }
}

/// A port.
///
/// # Errors
/// When it is no number from 1 to 65535.
pub fn port_number(text: &str) -> Result<u16, String> {
    let number = Some(text).filter(|t| t.bytes().all(|b| b.is_ascii_digit()));
    match number.and_then(|t| t.parse().ok()) {
        Some(port) if port > 0 => Ok(port),
        _ => Err(format!("no port (1 to 65535): '{text}'")),
    }
}

impl Url {
    /// From its parts; what may not stand in a request line is escaped.
    ///
    /// # Errors
    /// As [`split`].
    pub fn new(tls: bool, rest: &str) -> Result<Url, String> {
        let (host, port, path) = split(rest)?;
        let (host, port) = (host.to_owned(), port.unwrap_or_else(|| default_port(tls)));
        Ok(Url { tls, host, port, path: clean(path) })
    }

    /// Another page of the same server.
    #[must_use]
    pub fn with_path(self, path: &str) -> Url {
        Url { path: clean(path), ..self }
    }

    /// Where a redirect from this page leads.
    ///
    /// # Errors
    /// Neither http nor https, or no host.
    pub fn join(&self, location: &str) -> Result<Url, String> {
        let location = location.trim();
        if let Some((scheme, rest)) = scheme(location) {
            return match scheme.to_ascii_lowercase().as_str() {
                "https" => Url::new(true, rest),
                "http" => Url::new(false, rest),
                other => Err(format!("neither http nor https but {other}")),
            };
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Url::new(self.tls, rest);
        }
        let before_query = self.path.split('?').next().unwrap_or("/");
        let path = match location.bytes().next() {
            Some(b'/') => clean(location),
            Some(b'?') => clean(&format!("{before_query}{location}")),
            None | Some(b'#') => self.path.clone(),
            Some(_) => {
                let directory = before_query.rfind('/').map_or("/", |at| &before_query[..=at]);
                clean(&format!("{directory}{location}"))
            }
        };
        Ok(Url { path, ..self.clone() })
    }

    /// Host and port as in the Host field: the port only where it is not the usual one.
    #[must_use]
    pub fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == default_port(self.tls) { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

fn scheme(location: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = location.split_once(':')?;
    let plausible = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    // Without the slashes it is no address of a host; "mailto:x" is refused by its scheme.
    plausible.then(|| (scheme, rest.strip_prefix("//").unwrap_or("")))
}

/// A path for a request line: begins with a slash, without fragment and dot segments, and nothing in it
/// that ends or splits the line.
fn clean(path: &str) -> String {
    let path = path.split('#').next().unwrap_or_default();
    let (path, query) = path.split_at(path.find('?').unwrap_or(path.len()));
    let mut clean = String::new();
    for byte in (without_dots(path) + query).bytes() {
        if byte.is_ascii_graphic() {
            clean.push(char::from(byte));
        } else {
            clean.push_str(&format!("%{byte:02X}"));
        }
    }
    clean
}

/// Less its `.` and `..` (RFC 3986, section 5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
    for (at, segment) in segments.iter().enumerate() {
        match *segment {
            "." | ".." => {
                if *segment == ".." {
                    kept.pop();
                }
                if at + 1 == segments.len() {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn operands() {
        let cases = [
            ("10.1.0.11", Ok("https://10.1.0.11/")),
            ("10.1.0.11:8443/a/b?c", Ok("https://10.1.0.11:8443/a/b?c")),
            ("web.example.com", Ok("https://web.example.com/")),
            ("web.example.com:443", Ok("https://web.example.com/")),
            ("web.example.com:", Ok("https://web.example.com/")),
            ("2001:db8::1", Ok("https://[2001:db8::1]/")),
            ("[2001:db8::1]", Ok("https://[2001:db8::1]/")),
            ("[2001:db8::1]:8443/x", Ok("https://[2001:db8::1]:8443/x")),
            ("h?q", Ok("https://h/?q")),
            ("h/a b\u{e4}", Ok("https://h/a%20b%C3%A4")),
            ("", Err("no host in ''")),
            ("/x", Err("no host in '/x'")),
            ("[::1", Err("no ] in '[::1'")),
            ("[::1]x", Err("no port but 'x' behind [::1]")),
            ("h:0", Err("no port (1 to 65535): '0'")),
            ("h:65536", Err("no port (1 to 65535): '65536'")),
            ("h:+1", Err("no port (1 to 65535): '+1'")),
            ("u:p@h", Err("no port (1 to 65535): 'p@h'")),
            ("u@h", Err("no user and password before the host: use --header (u@h)")),
            ("a b", Err("no name or address of a host: 'a b'")),
            ("h\r\nX", Err("no name or address of a host: 'h\r\nX'")),
        ];
        for (text, want) in cases {
            let got = Url::new(true, text).map(|url| url.to_string());
            match want {
                Ok(url) => assert_eq!(got.as_deref(), Ok(url), "{text}"),
                Err(why) => assert_eq!(got, Err(why.to_owned()), "{text}"),
            }
        }
    }

    #[test]
    fn redirects() {
        let from = Url::new(true, "h:8443/dir/page?q").unwrap();
        let cases = [
            ("https://other/x", "https://other/x"),
            ("HTTP://other", "http://other/"),
            ("//other:1/x", "https://other:1/x"),
            ("/top#part", "https://h:8443/top"),
            ("next", "https://h:8443/dir/next"),
            ("../up/./x", "https://h:8443/up/x"),
            ("../../../x", "https://h:8443/x"),
            ("..", "https://h:8443/"),
            ("?other", "https://h:8443/dir/page?other"),
            ("", "https://h:8443/dir/page?q"),
            ("#x", "https://h:8443/dir/page?q"),
            ("/a b\r\nX: y", "https://h:8443/a%20b%0D%0AX:%20y"),
            ("/a?../b", "https://h:8443/a?../b"),
        ];
        for (location, want) in cases {
            assert_eq!(from.join(location).unwrap().to_string(), want, "{location}");
        }
        for (location, want) in [
            ("ftp://h/x", "neither http nor https but ftp"),
            ("mailto:x", "neither http nor https but mailto"),
            ("https:///x", "no host in '/x'"),
            ("https:", "no host in ''"),
        ] {
            assert_eq!(from.join(location).unwrap_err(), want, "{location}");
        }
    }

    proptest! {
        /// Whatever a server sends as Location, no request is split by it.
        #[test]
        fn a_location_stays_within_its_line(location in any::<String>()) {
            let from = Url::new(false, "h/dir/page").unwrap();
            if let Ok(url) = from.join(&location) {
                prop_assert!(url.path.starts_with('/'));
                prop_assert!(url.path.bytes().all(|b| b.is_ascii_graphic()));
                prop_assert!(!url.authority().bytes().any(|b| b.is_ascii_whitespace() || b.is_ascii_control()));
            }
        }
    }
}
