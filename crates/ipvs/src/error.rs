//! What can go wrong, and what to do about it.

use nix::errno::Errno;

use crate::change::Change;

/// What kind of trouble it is, for callers that react to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// What was to be added is there already.
    Exists,
    /// There is no such virtual server.
    NoSuchService,
    /// There is no such real server in the virtual server.
    NoSuchDestination,
    /// No sync daemon of that role runs.
    NoDaemon,
    /// The scheduler or persistence engine is not in the kernel.
    NoScheduler,
    /// The caller may not do this: it takes `CAP_NET_ADMIN`.
    NotPermitted,
    /// The kernel has no IPVS, or its module is not loaded.
    NoIpvs,
    /// The kernel has IPVS, but not this part of it.
    NotSupported,
    /// The request makes no sense, here or to the kernel.
    Invalid,
    /// Answers were lost, for want of buffer space or because the table kept changing. What was
    /// asked for may have happened or not.
    Overrun,
    /// No answer in time. What was asked for may have happened or not.
    TimedOut,
    /// An answer that cannot be understood.
    Malformed,
    /// The external program could not be run, or failed in a way of its own.
    Program,
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

    /// What the kernel's refusal of a change means.
    pub(crate) fn refused(change: &Change, errno: Errno) -> Self {
        let (kind, reason) = refusal(change, errno);
        Error::new(kind, change, reason)
    }

    /// What it means that the kernel's table could not even be asked.
    pub(crate) fn unreadable(action: &impl ToString, errno: Errno) -> Self {
        let (kind, reason) = match errno {
            Errno::EPERM | Errno::EACCES => (ErrorKind::NotPermitted, NOT_PERMITTED.to_owned()),
            Errno::ENOENT => (ErrorKind::NoIpvs, NO_IPVS.to_owned()),
            other => (ErrorKind::Io, format!("the kernel says {other}")),
        };
        Error::new(kind, action, reason)
    }

    /// The kind of trouble.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What was tried, on what: `add server 10.0.0.3:80 to TCP 10.0.0.1:80`.
    #[must_use]
    pub fn action(&self) -> &str {
        &self.action
    }

    /// Why it failed, and the remedy.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Whether the change may have been made all the same: its answer was lost. The table must be
    /// read to know.
    #[must_use]
    pub fn is_uncertain(&self) -> bool {
        matches!(self.kind, ErrorKind::Overrun | ErrorKind::TimedOut | ErrorKind::Malformed)
    }
}

pub(crate) const NOT_PERMITTED: &str =
    "not permitted: run as root, or with CAP_NET_ADMIN in this network namespace";
pub(crate) const NO_IPVS: &str = "this kernel has no IPVS, or its module is not loaded: modprobe \
     ip_vs (CONFIG_IP_VS), as root, on the host if this is a container";

/// The errno values of `net/netfilter/ipvs/ip_vs_ctl.c`, by the change they answer.
fn refusal(change: &Change, errno: Errno) -> (ErrorKind, String) {
    use ErrorKind::{
        Exists, Invalid, Io, NoDaemon, NoScheduler, NoSuchDestination, NoSuchService, NotPermitted,
        NotSupported,
    };
    let text = |kind, reason: &str| (kind, reason.to_owned());
    match (errno, change) {
        (Errno::EPERM | Errno::EACCES, _) => text(NotPermitted, NOT_PERMITTED),
        (Errno::ESRCH, Change::StopDaemon(role)) => {
            (NoDaemon, format!("no {role} sync daemon runs"))
        }
        (Errno::ESRCH, _) => text(NoSuchService, "there is no such virtual service in the table"),
        (Errno::EEXIST, Change::AddDestination(..)) => {
            text(Exists, "the server is already in that virtual service")
        }
        (Errno::EEXIST, Change::StartDaemon(daemon)) => {
            (Exists, format!("a {} sync daemon already runs: stop it first", daemon.role))
        }
        (Errno::EEXIST, _) => text(Exists, "the virtual service is already in the table"),
        (Errno::ENOENT, Change::AddService(s) | Change::EditService(s)) => {
            let mut reason =
                format!("scheduler {0} is not in this kernel: modprobe ip_vs_{0}", s.scheduler);
            if let Some(engine) = s.engine {
                reason += &format!("; or persistence engine {engine}: modprobe ip_vs_pe_{engine}");
            }
            (NoScheduler, reason)
        }
        (Errno::ENOENT, Change::EditDestination(..) | Change::DeleteDestination(..)) => {
            text(NoSuchDestination, "there is no such server in that virtual service")
        }
        (Errno::ENOENT, _) => text(ErrorKind::NoIpvs, NO_IPVS),
        (Errno::ENODEV, Change::StartDaemon(daemon)) => {
            (Invalid, format!("there is no network interface {}", daemon.interface))
        }
        (Errno::EINVAL, Change::StartDaemon(_)) => text(
            Invalid,
            "the kernel refused it: the interface needs an address and must be able to \
             multicast, and no service may have servers of another address family",
        ),
        (Errno::EINVAL, Change::AddDestination(..) | Change::EditDestination(..)) => text(
            Invalid,
            "the kernel refused it: the address must be unicast and routable from here, and a \
             server of another address family needs a tunnel and no running sync daemon",
        ),
        (Errno::ERANGE, Change::AddDestination(..) | Change::EditDestination(..)) => {
            text(Invalid, "weight or connection thresholds are out of range")
        }
        (Errno::EINVAL | Errno::ERANGE, _) => {
            (Invalid, format!("the kernel refused it: {}", errno.desc()))
        }
        (Errno::EAFNOSUPPORT, _) => text(
            NotSupported,
            "this kernel's IPVS has no IPv6 (CONFIG_IP_VS_IPV6), or IPv6 is switched off",
        ),
        (Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT, _) => {
            (NotSupported, format!("this kernel's IPVS cannot do that: {}", errno.desc()))
        }
        (other, _) => (Io, format!("the kernel says {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Protocol, SchedulerName, Service, ServiceKey};

    #[test]
    fn errors_say_what_was_tried_why_it_failed_and_the_remedy() {
        let key = ServiceKey::Address {
            protocol: Protocol::Tcp,
            addr: "10.0.0.1".parse().unwrap(),
            port: 80,
        };
        let add = Change::AddService(Service::new(key, SchedulerName::new("wlc").unwrap()));
        let remove = Change::DeleteDestination(key, "10.0.0.3:81".parse().unwrap());
        let table: &[(&Change, Errno, ErrorKind, &str)] = &[
            (
                &add,
                Errno::ENOENT,
                ErrorKind::NoScheduler,
                "add virtual service TCP 10.0.0.1:80: scheduler wlc is not in this kernel: \
                 modprobe ip_vs_wlc",
            ),
            (
                &add,
                Errno::EEXIST,
                ErrorKind::Exists,
                "add virtual service TCP 10.0.0.1:80: the virtual service is already in the table",
            ),
            (
                &remove,
                Errno::ENOENT,
                ErrorKind::NoSuchDestination,
                "remove server 10.0.0.3:81 from TCP 10.0.0.1:80: there is no such server in that \
                 virtual service",
            ),
            (
                &remove,
                Errno::ESRCH,
                ErrorKind::NoSuchService,
                "remove server 10.0.0.3:81 from TCP 10.0.0.1:80: there is no such virtual \
                 service in the table",
            ),
            (
                &Change::Flush,
                Errno::EPERM,
                ErrorKind::NotPermitted,
                "clear the table: not permitted: run as root, or with CAP_NET_ADMIN in this \
                 network namespace",
            ),
        ];
        for (change, errno, kind, sentence) in table {
            let error = Error::refused(change, *errno);
            assert_eq!((error.kind(), error.to_string().as_str()), (*kind, *sentence));
            assert!(!error.is_uncertain());
        }
    }
}
