//! Against requests that another site makes in the name of a user who is logged in: the browser
//! would add the password to them.

use axum::http::{HeaderMap, header};
use base64ct::{Base64UrlUnpadded, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// The hidden field of every form that changes something.
pub const FIELD: &str = "token";

/// A key that only this process knows.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// A random one.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn random() -> Result<Self, String> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| format!("random numbers: {error}"))?;
        Ok(Self(key))
    }

    /// HMAC-SHA-256 (RFC 2104) of `text`, for one purpose.
    #[must_use]
    pub fn mac(&self, purpose: &[u8], text: &[u8]) -> [u8; 32] {
        // HMAC takes keys of any length, so this cannot fail; if it did, nothing would be recognised.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return [0; 32] };
        mac.update(purpose);
        mac.update(&[0]);
        mac.update(text);
        mac.finalize().into_bytes().into()
    }

    /// The token that forms of this user carry.
    #[must_use]
    pub fn token(&self, user: &str) -> String {
        Base64UrlUnpadded::encode_string(&self.mac(b"form", user.as_bytes()))
    }

    /// Whether a form of this user carries the right token.
    #[must_use]
    pub fn accepts(&self, user: &str, token: &str) -> bool {
        self.token(user).as_bytes().ct_eq(token.as_bytes()).into()
    }
}

/// Whether a request comes from a page of this site, as far as the browser tells. One that tells
/// nothing (old ones, and programs) is let through to the token.
#[must_use]
pub fn is_same_site(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value: &axum::http::HeaderValue| value.to_str());
    let site = headers.get("sec-fetch-site").map(axum::http::HeaderValue::as_bytes);
    if site.is_some_and(|site| !matches!(site, b"same-origin" | b"none")) {
        return false;
    }
    let Some(Ok(host)) = text(header::HOST) else { return false };
    let stated = text(header::ORIGIN).or_else(|| text(header::REFERER));
    match stated {
        None => true,
        Some(Ok(url)) => authority(url).is_some_and(|theirs| theirs.eq_ignore_ascii_case(host)),
        Some(Err(_)) => false,
    }
}

/// `lvs1:3636` of `http://lvs1:3636/secure/`.
fn authority(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    matches!(scheme, "http" | "https").then(|| rest.split('/').next().unwrap_or(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_of_one_user_and_one_process() {
        let (one, other) = (Secret::random().unwrap(), Secret::random().unwrap());
        let token = one.token("piranha");
        assert!(one.accepts("piranha", &token));
        assert!(!one.accepts("other", &token));
        assert!(!other.accepts("piranha", &token));
        assert!(!one.accepts("piranha", ""));
        assert_ne!(one.mac(b"form", b"x"), one.mac(b"credentials", b"x"));
    }

    #[test]
    fn other_sites_are_recognised() {
        let site = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            is_same_site(&headers)
        };
        let host = ("host", "lvs1:3636");
        for (case, expected) in [
            (&[host][..], true),
            (&[host, ("origin", "http://lvs1:3636")], true),
            (&[host, ("origin", "https://LVS1:3636")], true),
            (&[host, ("referer", "http://lvs1:3636/secure/global?x=1")], true),
            (&[host, ("sec-fetch-site", "same-origin")], true),
            (&[host, ("sec-fetch-site", "cross-site")], false),
            (&[host, ("sec-fetch-site", "same-site")], false),
            (&[host, ("origin", "http://evil.example")], false),
            (&[host, ("origin", "http://lvs1:3636.evil.example")], false),
            (&[host, ("origin", "null")], false),
            (&[host, ("origin", "http://lvs1:80")], false),
            (&[host, ("referer", "http://evil.example/http://lvs1:3636/")], false),
            (&[("origin", "http://lvs1:3636")], false),
            (&[], false),
        ] {
            assert_eq!(site(case), expected, "{case:?}");
        }
    }
}
