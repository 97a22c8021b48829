//! What can go wrong, and what to do about it.

use netlink::Trouble;
use nix::errno::Errno;

use crate::address::{AddressChange, LABEL_LIMIT};

/// What kind of trouble it is, for callers that react to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The address to be added is on the interface already.
    Exists,
    /// The address to be removed is not on the interface.
    Missing,
    /// There is no such interface.
    NoInterface,
    /// The interface is down.
    Down,
    /// The caller may not do this: it takes `CAP_NET_ADMIN`, for frames `CAP_NET_RAW`.
    NotPermitted,
    /// The request makes no sense, here or to the kernel.
    Invalid,
    /// Answers were lost, for want of buffer space or because what is read kept changing. What was
    /// asked for may have happened or not.
    Overrun,
    /// No answer in time. What was asked for may have happened or not.
    TimedOut,
    /// An answer that cannot be understood.
    Malformed,
    /// Everything else the operating system may say.
    Io,
}

/// What was tried on what, why it failed, and the remedy, as one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{action}: {reason}")]
pub struct Error {
    kind: ErrorKind,
    action: String,
    reason: String,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, action: &impl ToString, reason: impl Into<String>) -> Self {
        Error { kind, action: action.to_string(), reason: reason.into() }
    }

    /// What the operating system says, where it means nothing in particular.
    pub(crate) fn system(action: &impl ToString, errno: Errno) -> Self {
        let (kind, reason) = system(errno);
        Error::new(kind, action, reason)
    }

    /// What the kernel's refusal of a change means.
    pub(crate) fn refused(change: &AddressChange, errno: Errno) -> Self {
        let (kind, reason) = refusal(change, errno);
        Error::new(kind, change, reason)
    }

    /// Why nothing could be read.
    pub(crate) fn unread(action: &impl ToString, trouble: &Trouble) -> Self {
        let (kind, reason) = lost(trouble);
        Error::new(kind, action, reason)
    }

    /// Why a change was not made, or it is not known whether it was.
    pub(crate) fn unknown(change: &AddressChange, trouble: &Trouble) -> Self {
        let mut error = Error::unread(change, trouble);
        if error.is_uncertain() {
            error.reason += ": read the addresses to see whether it was done";
        }
        error
    }

    /// The kind of trouble.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What was tried, on what: `add 10.0.0.100/24 to eth0 as eth0:1`.
    #[must_use]
    pub fn action(&self) -> &str {
        &self.action
    }

    /// Why it failed, and the remedy.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Whether the change may have been made all the same: its answer was lost. The addresses must
    /// be read to know.
    #[must_use]
    pub fn is_uncertain(&self) -> bool {
        matches!(self.kind, ErrorKind::Overrun | ErrorKind::TimedOut | ErrorKind::Malformed)
    }
}

const NOT_PERMITTED: &str =
    "not permitted: run as root, or with CAP_NET_ADMIN and CAP_NET_RAW in this network namespace";

fn system(errno: Errno) -> (ErrorKind, String) {
    match errno {
        Errno::EPERM | Errno::EACCES => (ErrorKind::NotPermitted, NOT_PERMITTED.to_owned()),
        other => (ErrorKind::Io, format!("the kernel says {other}")),
    }
}

fn lost(trouble: &Trouble) -> (ErrorKind, String) {
    let (kind, reason) = match trouble {
        Trouble::Refused(errno) => return system(*errno),
        Trouble::Io(error) => match error.raw_os_error() {
            Some(number) => return system(Errno::from_raw(number)),
            None => return (ErrorKind::Io, error.to_string()),
        },
        Trouble::Malformed(malformed) => return (ErrorKind::Malformed, malformed.to_string()),
        Trouble::TimedOut => (ErrorKind::TimedOut, "the kernel did not answer in time"),
        Trouble::Interrupted => {
            (ErrorKind::Overrun, "everything kept changing while it was read; try again")
        }
        Trouble::Overrun | Trouble::Truncated => {
            (ErrorKind::Overrun, "answers of the kernel were lost for want of buffer space")
        }
    };
    (kind, reason.to_owned())
}

/// The errno values of `net/ipv4/devinet.c`, by the change they answer.
fn refusal(change: &AddressChange, errno: Errno) -> (ErrorKind, String) {
    use ErrorKind::{Exists, Invalid, Io, Missing, NoInterface};
    let address = change.address();
    let interface = match address.interface() {
        "" => "the interface",
        name => name,
    };
    match (errno, change) {
        (Errno::EEXIST, AddressChange::Add(_)) => {
            (Exists, format!("{interface} has this address already, under this label or another"))
        }
        (Errno::EADDRNOTAVAIL, AddressChange::Remove(_)) => {
            (Missing, format!("{interface} has no such address under that label"))
        }
        (Errno::ENODEV, _) => (
            NoInterface,
            format!("there is no such interface (any more); it had number {}", address.index),
        ),
        (Errno::EINVAL, AddressChange::Add(_)) => (
            Invalid,
            format!(
                "the kernel refused it; if {interface} has an address of this network with \
                 another scope (ip address show), give that one the scope \"global\""
            ),
        ),
        (Errno::ENOBUFS, AddressChange::Add(_)) => {
            (Io, format!("no memory, or {interface} cannot carry IPv4: is its MTU less than 68?"))
        }
        (other, _) => system(other),
    }
}

impl AddressChange {
    /// What makes no sense, before the kernel is asked.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let invalid = |reason: String| Err(Error::new(ErrorKind::Invalid, self, reason));
        let address = self.address();
        let label = &address.label;
        if address.prefix > 32 {
            return invalid("a prefix has 32 bits at most".to_owned());
        }
        if address.index == 0 {
            let reason = "there is no interface of number 0";
            return Err(Error::new(ErrorKind::NoInterface, self, reason));
        }
        if label.len() > LABEL_LIMIT {
            return invalid(format!(
                "the label {label} has {} bytes, and the kernel takes {LABEL_LIMIT} at most: \
                 choose a shorter one",
                label.len()
            ));
        }
        if label.contains('\0') {
            return invalid("a label cannot have a NUL in it".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;

    fn address(label: &str) -> Address {
        Address {
            index: 3,
            addr: [10, 0, 0, 100].into(),
            prefix: 24,
            broadcast: None,
            label: label.to_owned(),
            secondary: false,
        }
    }

    #[test]
    fn errors_say_what_was_tried_why_it_failed_and_the_remedy() {
        let add = AddressChange::Add(address("eth0:1"));
        let plain = AddressChange::Add(address("eth0"));
        let remove = AddressChange::Remove(address("eth0:1"));
        let nameless = AddressChange::Remove(address(""));
        let table: &[(&AddressChange, Errno, ErrorKind, &str)] = &[
            (
                &add,
                Errno::EEXIST,
                ErrorKind::Exists,
                "add 10.0.0.100/24 to eth0 as eth0:1: eth0 has this address already, under this \
                 label or another",
            ),
            (
                &plain,
                Errno::ENODEV,
                ErrorKind::NoInterface,
                "add 10.0.0.100/24 to eth0: there is no such interface (any more); it had number 3",
            ),
            (
                &remove,
                Errno::EADDRNOTAVAIL,
                ErrorKind::Missing,
                "remove 10.0.0.100/24 from eth0 where it is eth0:1: eth0 has no such address under \
                 that label",
            ),
            (
                &nameless,
                Errno::EADDRNOTAVAIL,
                ErrorKind::Missing,
                "remove 10.0.0.100/24 from interface number 3: the interface has no such address \
                 under that label",
            ),
            (
                &add,
                Errno::EPERM,
                ErrorKind::NotPermitted,
                "add 10.0.0.100/24 to eth0 as eth0:1: not permitted: run as root, or with \
                 CAP_NET_ADMIN and CAP_NET_RAW in this network namespace",
            ),
        ];
        for (change, errno, kind, sentence) in table {
            let error = Error::refused(change, *errno);
            assert_eq!((error.kind(), error.to_string().as_str()), (*kind, *sentence));
            assert!(!error.is_uncertain());
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_the_kernel_is_asked() {
        let change = |edit: fn(&mut Address)| {
            let mut address = address("eth0:1");
            edit(&mut address);
            AddressChange::Add(address)
        };
        let cases: [(AddressChange, ErrorKind, &str); 4] = [
            (change(|a| a.prefix = 33), ErrorKind::Invalid, "a prefix has 32 bits at most"),
            (change(|a| a.index = 0), ErrorKind::NoInterface, "no interface of number 0"),
            (
                change(|a| a.label = "enp0s31f6:front1".into()),
                ErrorKind::Invalid,
                "the label enp0s31f6:front1 has 16 bytes, and the kernel takes 15 at most",
            ),
            (change(|a| a.label = "a\0b".into()), ErrorKind::Invalid, "NUL"),
        ];
        for (change, kind, words) in cases {
            let error = change.check().unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.reason().contains(words), "{error}");
        }
        for label in ["enp0s31f6:frontA"[..15].to_owned(), "eth0".to_owned(), String::new()] {
            assert_eq!(AddressChange::Remove(address(&label)).check(), Ok(()));
        }
    }

    #[test]
    fn a_lost_answer_says_that_it_must_be_looked() {
        let add = AddressChange::Add(address("eth0"));
        let error = Error::unknown(&add, &Trouble::TimedOut);
        assert!(error.is_uncertain());
        assert!(error.reason().ends_with("read the addresses to see whether it was done"));
        // What could not even be sent has not been done.
        let error = Error::unknown(&add, &Trouble::Io(Errno::ENOBUFS.into()));
        assert_eq!((error.kind(), error.is_uncertain()), (ErrorKind::Io, false));
    }
}
