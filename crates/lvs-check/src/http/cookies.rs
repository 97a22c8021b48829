//! Cookies, for the length of one check: some sites answer a first visit with a cookie and a
//! redirect to the same page, for ever where the cookie does not come back (RFC 6265, the simple part).

use crate::http::url::Url;

/// Most cookies kept.
const MOST: usize = 50;
/// Longest name and value together that are kept, in bytes.
const LONGEST: usize = 4096;

/// The cookies of a check.
#[derive(Debug, Default)]
pub(crate) struct Cookies {
    kept: Vec<Cookie>,
}

#[derive(Debug)]
struct Cookie {
    /// Where it belongs: a host, or all hosts of a domain.
    host: String,
    domain: bool,
    secure: bool,
    name: String,
    value: String,
}

impl Cookies {
    /// Takes in a Set-Cookie field of a page. Paths are not looked at.
    pub(crate) fn set(&mut self, from: &Url, field: &str) {
        let mut parts = field.split(';').map(str::trim);
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else {
            return;
        };
        let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
        let unfit = |text: &str| text.bytes().any(|b| b.is_ascii_control());
        if name.is_empty() || name.len() + value.len() > LONGEST || unfit(&name) || unfit(&value) {
            return;
        }
        let host = from.host.to_ascii_lowercase();
        let mut cookie = Cookie { host, domain: false, secure: false, name, value };
        for attribute in parts {
            let (key, value) = attribute.split_once('=').unwrap_or((attribute, ""));
            if key.trim().eq_ignore_ascii_case("secure") {
                cookie.secure = true;
            } else if key.trim().eq_ignore_ascii_case("domain") {
                let domain = value.trim().trim_start_matches('.').to_ascii_lowercase();
                if is_within(&cookie.host, &domain) && domain.contains('.') {
                    (cookie.host, cookie.domain) = (domain, true);
                }
            }
        }
        self.kept.retain(|kept| kept.name != cookie.name || kept.host != cookie.host);
        if self.kept.len() < MOST {
            self.kept.push(cookie);
        }
    }

    /// The Cookie field's value for a request.
    pub(crate) fn field(&self, to: &Url) -> Option<String> {
        let host = to.host.to_ascii_lowercase();
        let fits = |cookie: &&Cookie| {
            let here =
                if cookie.domain { is_within(&host, &cookie.host) } else { host == cookie.host };
            here && (to.tls || !cookie.secure)
        };
        let pairs: Vec<String> =
            self.kept.iter().filter(fits).map(|c| format!("{}={}", c.name, c.value)).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }
}

/// Whether a host is that domain or below it.
fn is_within(host: &str, domain: &str) -> bool {
    host == domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gets_which_cookie() {
        let url = |text: &str| {
            let (scheme, rest) = text.split_once("://").unwrap();
            Url::new(scheme == "https", rest).unwrap()
        };
        let cases = [
            ("a=1", "https://www.example.com/x", Some("a=1")),
            ("a=1", "https://WWW.example.com:8443/", Some("a=1")),
            ("a=1; Path=/; HttpOnly", "http://www.example.com/", Some("a=1")),
            ("a=1", "https://example.com/", None),
            ("a=1; Secure", "http://www.example.com/", None),
            ("a=1; Domain=.example.com", "https://login.example.com/", Some("a=1")),
            ("a=1; Domain=example.com", "https://badexample.com/", None),
            ("a=1; Domain=com", "https://other.com/", None),
            ("a=1; Domain=evil.org", "https://evil.org/", None),
            ("a=", "https://www.example.com/", Some("a=")),
            ("a", "https://www.example.com/", None),
            ("=1", "https://www.example.com/", None),
            ("a=1\r2", "https://www.example.com/", None),
        ];
        for (field, to, want) in cases {
            let mut cookies = Cookies::default();
            cookies.set(&url("https://www.example.com/"), field);
            assert_eq!(cookies.field(&url(to)).as_deref(), want, "{field} to {to}");
        }
    }

    #[test]
    fn the_last_value_counts_and_their_number_is_bounded() {
        let from = Url::new(true, "h").unwrap();
        let mut cookies = Cookies::default();
        cookies.set(&from, "a=1");
        cookies.set(&from, "a=2");
        assert_eq!(cookies.field(&from).as_deref(), Some("a=2"));
        for at in 0..1000 {
            cookies.set(&from, &format!("c{at}={}", "x".repeat(at * 10)));
        }
        assert_eq!(cookies.kept.len(), MOST);
    }
}
