//! How many checks may go on at the same time.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors left to the rest of the process.
const RESERVED: u64 = 64;
/// Most programs at once unless said otherwise.
const PROGRAMS: u64 = 64;
/// The limit of descriptors is not raised beyond this. Check programs inherit it, and many programs
/// close every number up to it when they start, which takes minutes where it is a billion.
const DESCRIPTORS: u64 = 65_536;

/// How much may go on at the same time.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Checks over sockets.
    pub sockets: usize,
    /// Check programs.
    pub programs: usize,
}

impl Limits {
    /// Raises this process's limit of descriptors (as far as it goes, at most to 65,536) and shares
    /// them out.
    #[must_use]
    pub fn of_this_process() -> Limits {
        Limits::sharing(raise_descriptors())
    }

    fn sharing(descriptors: u64) -> Limits {
        let programs = PROGRAMS.min(descriptors / 4).max(1);
        let sockets = descriptors.saturating_sub(RESERVED + programs).max(1);
        let number = |n| usize::try_from(n).unwrap_or(usize::MAX);
        Limits { sockets: number(sockets), programs: number(programs) }
    }
}

/// The limit of descriptors, raised (getrlimit(2)).
fn raise_descriptors() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    let wanted = raised(soft, hard);
    if wanted == soft || setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok() {
        wanted
    } else {
        soft
    }
}

fn raised(soft: u64, hard: u64) -> u64 {
    hard.min(DESCRIPTORS).max(soft)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_raised_within_reason_and_shared_out() {
        assert_eq!(raised(1024, 4096), 4096);
        assert_eq!(raised(1024, u64::MAX), DESCRIPTORS);
        assert_eq!(raised(100_000, u64::MAX), 100_000, "never lowered");
        for (descriptors, sockets, programs) in
            [(0, 1, 1), (64, 1, 16), (1024, 896, 64), (65_536, 65_408, 64)]
        {
            let limits = Limits::sharing(descriptors);
            assert_eq!((limits.sockets, limits.programs), (sockets, programs), "{descriptors}");
        }
    }
}
