//! Host names in lvs.cf, looked up no more often than needed: every page reads the file, and a name
//! server that does not answer takes its time.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use lvs_config::{Resolver, SystemResolver};

use crate::live::lock;

/// How long an answer counts, and how long it counts that there was none.
const KEPT: Duration = Duration::from_secs(60);
const KEPT_NONE: Duration = Duration::from_secs(10);
/// Names remembered.
const MOST: usize = 1000;

/// The system's resolver, with a memory.
#[derive(Debug, Default)]
pub struct Names {
    known: Mutex<HashMap<String, (Option<Ipv4Addr>, Instant)>>,
}

impl Names {
    fn recall(&self, name: &str) -> Option<Option<Ipv4Addr>> {
        let known = lock(&self.known);
        let (address, since) = known.get(name)?;
        let kept = if address.is_some() { KEPT } else { KEPT_NONE };
        (since.elapsed() < kept).then_some(*address)
    }
}

impl Resolver for Names {
    fn host(&self, name: &str) -> Option<Ipv4Addr> {
        if let Some(known) = self.recall(name) {
            return known;
        }
        let address = SystemResolver.host(name);
        let mut known = lock(&self.known);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(name.to_owned(), (address, Instant::now()));
        address
    }

    fn service(&self, name: &str) -> Option<u16> {
        SystemResolver.service(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_known_for_a_while() {
        let names = Names::default();
        let address = Ipv4Addr::new(10, 0, 0, 1);
        let now = Instant::now();
        lock(&names.known).insert("known".to_owned(), (Some(address), now));
        assert_eq!(names.host("known"), Some(address));
        if let Some(before) = now.checked_sub(KEPT) {
            lock(&names.known).insert("known".to_owned(), (Some(address), before));
            assert_eq!(names.recall("known"), None);
        }
        assert_eq!(names.service("https"), Some(443));
    }
}
