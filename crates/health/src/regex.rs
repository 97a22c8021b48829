//! POSIX extended regular expressions, by the C library: `use_regex` promises exactly these, and
//! they differ from other dialects in brackets, escapes and back references.

use std::ffi::CString;
use std::fmt;

/// A compiled expression.
pub struct Regex {
    raw: Box<libc::regex_t>,
    text: Vec<u8>,
}

// SAFETY: regexec(3) does not change a compiled expression (glibc locks its internal cache), and
// nothing else touches it until it is dropped.
#[allow(unsafe_code)]
unsafe impl Send for Regex {}

impl Regex {
    /// Compiles an expression.
    ///
    /// # Errors
    /// The C library's description of what is wrong with it (regerror(3)).
    #[allow(unsafe_code)]
    pub fn new(text: &[u8]) -> Result<Regex, String> {
        let pattern = CString::new(text).map_err(|_| "contains a NUL byte".to_owned())?;
        // SAFETY: regex_t is plain C data for which zeroes are a valid bit pattern; regcomp fills it.
        let mut raw = Box::new(unsafe { std::mem::zeroed::<libc::regex_t>() });
        let flags = libc::REG_EXTENDED | libc::REG_NOSUB;
        // SAFETY: both pointers are valid for the call. REG_NOSUB goes unused with REG_STARTEND's
        // pmatch input, which glibc reads all the same. No crate of ours offers POSIX expressions.
        let code = unsafe { libc::regcomp(&raw mut *raw, pattern.as_ptr(), flags) };
        if code != 0 {
            return Err(describe(code, &raw));
        }
        Ok(Regex { raw, text: text.to_vec() })
    }

    /// Whether the expression occurs anywhere in `bytes`, NUL bytes included.
    #[allow(unsafe_code)]
    #[must_use]
    pub fn found_in(&self, bytes: &[u8]) -> bool {
        let Ok(end) = libc::regoff_t::try_from(bytes.len()) else { return false };
        let mut range = [libc::regmatch_t { rm_so: 0, rm_eo: end }];
        // SAFETY: REG_STARTEND makes regexec read exactly rm_so..rm_eo of the buffer, so that it
        // needs no terminating NUL; `raw` was filled by a successful regcomp.
        let code = unsafe {
            libc::regexec(
                &raw const *self.raw,
                bytes.as_ptr().cast(),
                1,
                range.as_mut_ptr(),
                libc::REG_STARTEND,
            )
        };
        code == 0
    }
}

#[allow(unsafe_code)]
fn describe(code: libc::c_int, raw: &libc::regex_t) -> String {
    let mut buffer = [0u8; 128];
    // SAFETY: regerror writes at most the given number of bytes, with a NUL at the end.
    unsafe { libc::regerror(code, raw, buffer.as_mut_ptr().cast(), buffer.len()) };
    let end = buffer.iter().position(|b| *b == 0).unwrap_or(0);
    String::from_utf8_lossy(&buffer[..end]).into_owned()
}

impl Drop for Regex {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: `raw` was filled by a successful regcomp and is freed once.
        unsafe { libc::regfree(&raw mut *self.raw) };
    }
}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Regex({})", self.text.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn posix_extended_dialect() {
        let cases: [(&[u8], &[u8], bool); 11] = [
            (b"^HTTP/1\\.[01] 200", b"HTTP/1.1 200 OK\r\n", true),
            (b"^HTTP/1\\.[01] 200", b"HTTP/1.1 404 no\r\n", false),
            (b"ready|ok", b"all is ok here", true),
            (b"[[:digit:]]{3}", b"ab 404", true),
            (b"[[:digit:]]{3}", b"ab 44", false),
            (b"[]x]", b"]", true),
            (b"[a\\]b]", b"\\b]", true),
            (b"(a)\\1", b"aa", true),
            (b"after", b"nul\0 after", true),
            (b"", b"", true),
            (b"x", b"", false),
        ];
        for (pattern, text, want) in cases {
            let regex = Regex::new(pattern).unwrap();
            assert_eq!(regex.found_in(text), want, "{regex:?} in {:?}", text.escape_ascii());
        }
    }

    #[test]
    fn bad_expressions_are_described() {
        for bad in [&b"("[..], b"[", b"a{2,1}", b"x\0y"] {
            assert!(!Regex::new(bad).unwrap_err().is_empty());
        }
    }
}
