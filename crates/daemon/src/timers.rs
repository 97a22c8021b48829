//! Timers of an event loop: keys with a due time, taken out in order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Due times of keys. Entries cannot be taken back: a key that is no longer wanted, or that has been
/// set again, is recognised by its owner when it comes due (see the health engine's generations).
#[derive(Debug)]
pub struct Timers<K: Ord> {
    heap: BinaryHeap<Reverse<(Instant, K)>>,
}

impl<K: Ord> Default for Timers<K> {
    fn default() -> Self {
        Timers { heap: BinaryHeap::new() }
    }
}

impl<K: Ord> Timers<K> {
    /// Adds a key that comes due at `at`.
    pub fn set(&mut self, at: Instant, key: K) {
        self.heap.push(Reverse((at, key)));
    }

    /// The earliest due time.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes out the earliest key that is due at `now`.
    pub fn pop(&mut self, now: Instant) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, key))| key)
    }

    /// Number of entries, outdated ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Drops the entries for which `keep` is false.
    pub fn retain(&mut self, mut keep: impl FnMut(&K) -> bool) {
        self.heap.retain(|Reverse((_, key))| keep(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn come_out_in_order_and_not_early() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::default();
        for ms in [30, 10, 20, 10] {
            timers.set(after(ms), ms);
        }
        assert_eq!(timers.next(), Some(after(10)));
        assert_eq!(timers.pop(after(9)), None);
        assert_eq!(timers.pop(after(25)), Some(10));
        assert_eq!(timers.pop(after(25)), Some(10));
        assert_eq!(timers.pop(after(25)), Some(20));
        assert_eq!(timers.pop(after(25)), None);
        timers.retain(|ms| *ms != 30);
        assert!(timers.is_empty());
    }
}
