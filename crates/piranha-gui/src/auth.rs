//! Who may come in: Basic authentication (RFC 7617) against the password file.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64ct::{Base64, Encoding};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

use crate::forgery::Secret;

/// What a browser shows when it asks for the password. Browsers keep passwords by it.
pub const REALM: &str = "access to the piranha web GUI";

/// The longest credentials that are looked at, in bytes as they are sent.
const LONGEST: usize = 2048;
/// Wrong passwords that an address may send before it has to wait.
const FREE: u32 = 3;
/// The longest it has to wait between two of them.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// An address that has been quiet for so long begins anew.
const FORGIVEN: Duration = Duration::from_secs(15 * 60);
/// Addresses remembered. With more of them the one that has been quiet longest is forgotten.
const REMEMBERED: usize = 1024;

/// What comes of a request's credentials.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The right ones, of this user.
    Welcome(String),
    /// None, or wrong ones.
    Refused,
    /// Too many wrong ones from there: not looked at before this time has passed.
    Wait(Duration),
    /// Nobody can come in, and why.
    Unusable(String),
}

/// Checks credentials.
#[derive(Debug)]
pub struct Auth {
    file: PathBuf,
    secret: Secret,
    /// The credentials that were right last, so that they are not hashed again for each request.
    known: Mutex<Option<Known>>,
    attempts: Mutex<Attempts>,
    /// One password is hashed at a time: whoever sends many cannot have all processors.
    work: Semaphore,
}

#[derive(Debug)]
struct Known {
    stamp: Stamp,
    proof: [u8; 32],
    user: String,
}

/// What the password file was when it was read: device, inode, size, and the time of its last change in
/// seconds and nanoseconds; the inode's (ctime), which nobody can set, and which rights change too.
type Stamp = (u64, u64, u64, i64, i64);

impl Auth {
    /// Checks against the password file at `file`, which is read anew whenever it has changed.
    #[must_use]
    pub fn new(file: PathBuf, secret: Secret) -> Self {
        Self {
            file,
            secret,
            known: Mutex::default(),
            attempts: Mutex::default(),
            work: Semaphore::new(1),
        }
    }

    /// What the `Authorization` header of a request from `from` is worth.
    pub async fn check(&self, header: Option<&[u8]>, from: IpAddr) -> Verdict {
        let Some((user, password)) = header.and_then(credentials) else { return Verdict::Refused };
        let proof = self.secret.mac(b"credentials", header.unwrap_or_default());
        if let Some(user) = self.recall(&proof) {
            return Verdict::Welcome(user);
        }
        if let Some(wait) = lock(&self.attempts).wait(from, Instant::now()) {
            return Verdict::Wait(wait);
        }
        let Ok(_turn) = self.work.acquire().await else { return Verdict::Refused };
        // While this request waited for its turn, others from there may have used up the patience.
        if let Some(wait) = lock(&self.attempts).wait(from, Instant::now()) {
            return Verdict::Wait(wait);
        }
        let file = self.file.clone();
        let name = user.clone();
        let checked = tokio::task::spawn_blocking(move || {
            // Before the file is read: a change after that is then seen at the next request.
            let stamp = stamp(&file);
            let right = piranha_passwd::load(&file)?.verify(&name, &password);
            Ok::<_, piranha_passwd::Error>((stamp, right))
        });
        match checked.await {
            Ok(Ok((stamp, true))) => {
                let user = String::from_utf8_lossy(&user).into_owned();
                lock(&self.attempts).forget(from);
                *lock(&self.known) = stamp.map(|stamp| Known { stamp, proof, user: user.clone() });
                Verdict::Welcome(user)
            }
            Ok(Ok((_, false))) => {
                lock(&self.attempts).failed(from, Instant::now());
                Verdict::Refused
            }
            Ok(Err(error)) => Verdict::Unusable(error.to_string()),
            Err(error) => Verdict::Unusable(error.to_string()),
        }
    }

    fn recall(&self, proof: &[u8; 32]) -> Option<String> {
        let known = lock(&self.known);
        let known = known.as_ref()?;
        let same = bool::from(known.proof.ct_eq(proof)) && stamp(&self.file) == Some(known.stamp);
        same.then(|| known.user.clone())
    }
}

fn stamp(file: &std::path::Path) -> Option<Stamp> {
    let found = std::fs::metadata(file).ok()?;
    Some((found.dev(), found.ino(), found.len(), found.ctime(), found.ctime_nsec()))
}

/// User and password of a header's value.
fn credentials(header: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    if header.len() > LONGEST {
        return None;
    }
    let text = std::str::from_utf8(header).ok()?;
    let (scheme, encoded) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    let decoded = Base64::decode_vec(encoded.trim()).ok()?;
    let colon = decoded.iter().position(|&byte| byte == b':')?;
    let (user, password) = decoded.split_at(colon);
    Some((user.to_vec(), password.get(1..)?.to_vec()))
}

/// A panic elsewhere cannot have left these tables half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wrong passwords by address.
#[derive(Debug, Default)]
struct Attempts {
    of: HashMap<IpAddr, Attempt>,
}

#[derive(Debug, Clone, Copy)]
struct Attempt {
    count: u32,
    last: Instant,
}

impl Attempt {
    fn pause(&self) -> Duration {
        match self.count.checked_sub(FREE) {
            None => Duration::ZERO,
            Some(over) => Duration::from_secs(1 << over.min(16)).min(LONGEST_WAIT),
        }
    }
}

/// IPv6 hosts have their whole network to choose from.
fn origin(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(network.into())
        }
        address @ IpAddr::V4(_) => address,
    }
}

impl Attempts {
    /// How long the address has to wait yet, if it has to.
    fn wait(&self, from: IpAddr, now: Instant) -> Option<Duration> {
        let attempt = self.of.get(&origin(from))?;
        let left = attempt.pause().saturating_sub(now.saturating_duration_since(attempt.last));
        (!left.is_zero()).then_some(left)
    }

    fn failed(&mut self, from: IpAddr, now: Instant) {
        self.of.retain(|_, attempt| now.saturating_duration_since(attempt.last) < FORGIVEN);
        if self.of.len() >= REMEMBERED && !self.of.contains_key(&origin(from)) {
            let quietest = self.of.iter().min_by_key(|(_, attempt)| attempt.last);
            if let Some(address) = quietest.map(|(address, _)| *address) {
                self.of.remove(&address);
            }
        }
        let attempt = self.of.entry(origin(from)).or_insert(Attempt { count: 0, last: now });
        attempt.count = attempt.count.saturating_add(1);
        attempt.last = now;
    }

    fn forget(&mut self, from: IpAddr) {
        self.of.remove(&origin(from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn header(text: &str) -> Vec<u8> {
        format!("Basic {}", Base64::encode_string(text.as_bytes())).into_bytes()
    }

    #[test]
    fn credentials_are_taken_apart_or_refused() {
        let both = |user: &str, password: &str| Some((user.into(), password.into()));
        assert_eq!(credentials(&header("piranha:a:b")), both("piranha", "a:b"));
        assert_eq!(credentials(b"basic cGlyYW5oYTo="), both("piranha", ""));
        for bad in
            [&b"Bearer cGlyYW5oYTo="[..], b"Basic", b"Basic ???", b"Basic cGly", b"\xff", b""]
        {
            assert_eq!(credentials(bad), None, "{bad:?}");
        }
        assert_eq!(credentials(&header(&"x:".repeat(LONGEST))), None);
    }

    #[test]
    fn wrong_passwords_cost_time_by_address() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut attempts = Attempts::default();
        for _ in 1..FREE {
            attempts.failed(HERE, start);
            assert_eq!(attempts.wait(HERE, start), None);
        }
        attempts.failed(HERE, start);
        assert_eq!(attempts.wait(HERE, start), Some(Duration::from_secs(1)));
        assert_eq!(attempts.wait(HERE, after(1)), None);
        attempts.failed(HERE, after(1));
        assert_eq!(attempts.wait(HERE, after(1)), Some(Duration::from_secs(2)));
        let other = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));
        assert_eq!(attempts.wait(other, after(1)), None);
        for _ in 0..100 {
            attempts.failed(HERE, after(2));
        }
        assert_eq!(attempts.wait(HERE, after(2)), Some(LONGEST_WAIT));
        attempts.failed(other, after(2) + FORGIVEN);
        assert_eq!(attempts.of.len(), 1, "what is long ago is forgotten");
    }

    #[test]
    fn the_table_of_addresses_is_bounded_and_takes_networks() {
        let start = Instant::now();
        let mut attempts = Attempts::default();
        for number in 0..5000u32 {
            attempts
                .failed(IpAddr::V4(number.into()), start + Duration::from_millis(number.into()));
        }
        assert_eq!(attempts.of.len(), REMEMBERED);
        let (one, other) = ("2001:db8::1".parse().unwrap(), "2001:db8::ffff:2".parse().unwrap());
        for _ in 0..=FREE {
            attempts.failed(one, start);
        }
        assert!(attempts.wait(other, start).is_some());
        assert_eq!(origin("::ffff:192.0.2.1".parse().unwrap()), HERE);
    }
}
