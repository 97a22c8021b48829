//! The time limit of a whole check.

use std::io;
use std::time::{Duration, Instant};

/// When a check must have its verdict.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    at: Instant,
}

impl Deadline {
    /// So long from now.
    #[must_use]
    pub fn after(limit: Duration) -> Deadline {
        Deadline { at: Instant::now() + limit }
    }

    /// The time that is left, never zero.
    ///
    /// # Errors
    /// `TimedOut` when there is none.
    pub fn left(self) -> io::Result<Duration> {
        let left = self.at.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }

    /// This limit, or so long from now if that is earlier.
    #[must_use]
    pub fn within(self, limit: Duration) -> Deadline {
        Deadline { at: self.at.min(Instant::now() + limit) }
    }
}
