//! What Linux 2.6.32 does not have, by the history of the kernel: `arch/x86/include/asm/unistd_64.h` and
//! `include/linux/*.h` of its release, and the manual pages' VERSIONS and HISTORY for when the rest came.
//!
//! The C library of this machine may count on a younger kernel than 2.6.32, and fail under the filter in
//! ways that are no fault of a program: where the kernel is old, so is the C library. Of glibc's:
//!
//! - getrlimit(3) and setrlimit(3) are `prlimit64` (2.6.36) alone today, and fail; in el6 they are the
//!   calls of their names. What survives this survives more than it must.
//! - getaddrinfo(3) asks name servers by `sendmmsg` (3.0) and has no other way today: under the filter,
//!   names are found in /etc/hosts alone.
//! - fstat(3) is `newfstatat` with `AT_EMPTY_PATH` (2.6.39) from glibc 2.33 to 2.38. To refuse this would
//!   keep every program from being loaded; so it is let through, for that call.
//! - `clone3`, `rseq`, `faccessat2`, `close_range`, `getrandom` and `TIOCGPTPEER` have other ways.

use std::ops::RangeInclusive;

use nix::errno::Errno;
use seccompiler::{
    BackendError, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition as Condition, SeccompRule,
};

/// The system calls of x86_64 in 2.6.32: `perf_event_open` (2.6.31) is the last; 299, `recvmmsg`, came
/// with 2.6.33. The filter refuses all but these, and so those of the x32 ABI (bit 30) as well.
pub(crate) const CALLS: RangeInclusive<i64> = 0..=298;

/// Something that calls of 2.6.32 have learned since.
pub(crate) struct Refusal {
    /// What it is, and since which Linux.
    pub(crate) what: &'static str,
    /// The calls.
    pub(crate) calls: &'static [i64],
    /// What an old kernel answers. Flags that it would pass over in silence are refused as well, by
    /// `EINVAL`, so that whoever counts on them is found out.
    pub(crate) errno: Errno,
    /// One of these suffices, and of each all.
    cases: &'static [&'static [Test]],
}

/// An argument, counted from 0, and what is asked of its lower 32 bits.
type Test = (u8, Is);

/// What a number is.
#[derive(Clone, Copy)]
enum Is {
    /// This one.
    Exactly(u64),
    /// This one or a larger one.
    From(u64),
    /// This one or a smaller one.
    UpTo(u64),
    /// With all of these bits.
    With(u64),
}

impl Refusal {
    pub(crate) fn rules(&self) -> Result<Vec<SeccompRule>, BackendError> {
        self.cases.iter().map(|case| rule(case)).collect()
    }
}

fn rule(case: &[Test]) -> Result<SeccompRule, BackendError> {
    let conditions = case.iter().map(|(argument, is)| {
        let (operator, value) = match *is {
            Is::Exactly(value) => (SeccompCmpOp::Eq, value),
            Is::From(value) => (SeccompCmpOp::Ge, value),
            Is::UpTo(value) => (SeccompCmpOp::Le, value),
            Is::With(bits) => (SeccompCmpOp::MaskedEq(bits), bits),
        };
        Condition::new(*argument, SeccompCmpArgLen::Dword, operator, value)
    });
    SeccompRule::new(conditions.collect::<Result<_, _>>()?)
}

/// Operations of prctl(2) that 2.6.32 has: `PR_MCE_KILL_GET` is the last. Those of later, as
/// `PR_SET_NO_NEW_PRIVS` (3.5) and `PR_SET_CHILD_SUBREAPER` (3.4), are refused with the new calls, by
/// `ENOSYS` where an old kernel says `EINVAL`: the filters themselves are installed with the former.
pub(crate) const PRCTL: Refusal = Refusal {
    what: "prctl operations since 3.3",
    calls: &[libc::SYS_prctl],
    errno: Errno::ENOSYS,
    cases: &[&[(0, UpTo(34))]],
};

use Is::{Exactly, From, UpTo, With};

const SOCKET_OPTIONS: &[i64] = &[libc::SYS_setsockopt, libc::SYS_getsockopt];
const SENDS: &[i64] = &[libc::SYS_sendto, libc::SYS_recvfrom];
const MESSAGES: &[i64] = &[libc::SYS_sendmsg, libc::SYS_recvmsg];
const CLOCKS: &[i64] = &[
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_timerfd_create,
    libc::SYS_timer_create,
];

/// The table.
pub(crate) const REFUSALS: &[Refusal] = &[
    Refusal {
        what: "SOL_SOCKET: SO_RXQ_OVFL (2.6.33), SO_PEEK_OFF (3.4), SO_BUSY_POLL (3.11), SO_INCOMING_CPU \
               (3.19) and all after SO_DOMAIN (2.6.32); SO_REUSEPORT (3.9), whose number is older",
        calls: SOCKET_OPTIONS,
        errno: Errno::ENOPROTOOPT,
        cases: &[&[(1, Exactly(1)), (2, From(40))], &[(1, Exactly(1)), (2, Exactly(15))]],
    },
    Refusal {
        what: "IPPROTO_TCP: TCP_COOKIE_TRANSACTIONS (2.6.33), TCP_USER_TIMEOUT (2.6.37), TCP_FASTOPEN \
               (3.7) and all after TCP_MD5SIG",
        calls: SOCKET_OPTIONS,
        errno: Errno::ENOPROTOOPT,
        cases: &[&[(1, Exactly(6)), (2, From(15))]],
    },
    Refusal {
        what: "IPPROTO_UDP: UDP_NO_CHECK6_TX (3.16), UDP_SEGMENT (4.18), UDP_GRO (5.0)",
        calls: SOCKET_OPTIONS,
        errno: Errno::ENOPROTOOPT,
        cases: &[&[(1, Exactly(17)), (2, From(101))]],
    },
    Refusal {
        what: "IPPROTO_IP: IP_MINTTL (2.6.34), IP_NODEFRAG (2.6.36), IP_CHECKSUM (4.0), \
               IP_BIND_ADDRESS_NO_PORT (4.2), IP_RECVFRAGSIZE (4.14); IP_UNICAST_IF (3.4)",
        calls: SOCKET_OPTIONS,
        errno: Errno::ENOPROTOOPT,
        cases: &[
            &[(1, Exactly(0)), (2, From(21)), (2, UpTo(31))],
            &[(1, Exactly(0)), (2, From(50)), (2, UpTo(63))],
        ],
    },
    Refusal {
        what: "IPPROTO_IPV6: IPV6_MULTICAST_ALL (4.20), IPV6_HDRINCL (4.13), IPV6_RECVPATHMTU, IPV6_PATHMTU, \
               IPV6_DONTFRAG (2.6.35), IPV6_AUTOFLOWLABEL (3.17), and all after IPV6_ADDR_PREFERENCES: \
               IPV6_MINHOPCOUNT (2.6.35), IPV6_TRANSPARENT (2.6.37), IPV6_UNICAST_IF (3.4), IPV6_FREEBIND (4.15)",
        calls: SOCKET_OPTIONS,
        errno: Errno::ENOPROTOOPT,
        cases: &[
            &[(1, Exactly(41)), (2, Exactly(29))],
            &[(1, Exactly(41)), (2, Exactly(36))],
            &[(1, Exactly(41)), (2, From(60)), (2, UpTo(62))],
            &[(1, Exactly(41)), (2, Exactly(70))],
            &[(1, Exactly(41)), (2, From(73)), (2, UpTo(79))],
        ],
    },
    Refusal {
        what: "SOL_PACKET: PACKET_VNET_HDR (2.6.34), PACKET_FANOUT (3.1) and all after PACKET_LOSS",
        calls: SOCKET_OPTIONS,
        errno: Errno::ENOPROTOOPT,
        cases: &[&[(1, Exactly(263)), (2, From(15))]],
    },
    Refusal {
        what: "SOL_NETLINK: NETLINK_RX_RING (3.10), NETLINK_LISTEN_ALL_NSID (4.2), NETLINK_CAP_ACK (4.3), \
               NETLINK_EXT_ACK (4.12), NETLINK_GET_STRICT_CHK (4.20) and all after NETLINK_NO_ENOBUFS",
        calls: SOCKET_OPTIONS,
        errno: Errno::ENOPROTOOPT,
        cases: &[&[(1, Exactly(270)), (2, From(6))]],
    },
    Refusal {
        what: "address families: AF_CAIF (2.6.35), AF_ALG (2.6.38), AF_VSOCK (3.9), AF_XDP (4.18)",
        calls: &[libc::SYS_socket, libc::SYS_socketpair],
        errno: Errno::EAFNOSUPPORT,
        cases: &[&[(0, From(37))]],
    },
    Refusal {
        what: "netlink's NETLINK_RDMA (3.0), NETLINK_CRYPTO (3.2); IPPROTO_MPTCP (5.6)",
        calls: &[libc::SYS_socket],
        errno: Errno::EPROTONOSUPPORT,
        cases: &[
            &[(0, Exactly(16)), (2, From(20))],
            &[(0, Exactly(2)), (2, From(256))],
            &[(0, Exactly(10)), (2, From(256))],
        ],
    },
    Refusal {
        what: "MSG_WAITFORONE (2.6.33), MSG_BATCH (4.6), MSG_ZEROCOPY (4.14), MSG_FASTOPEN (3.7)",
        calls: SENDS,
        errno: Errno::EINVAL,
        cases: &[
            &[(3, With(0x1_0000))],
            &[(3, With(0x4_0000))],
            &[(3, With(0x400_0000))],
            &[(3, With(0x2000_0000))],
        ],
    },
    Refusal {
        what: "the same of sendmsg and recvmsg",
        calls: MESSAGES,
        errno: Errno::EINVAL,
        cases: &[
            &[(2, With(0x1_0000))],
            &[(2, With(0x4_0000))],
            &[(2, With(0x400_0000))],
            &[(2, With(0x2000_0000))],
        ],
    },
    Refusal {
        what: "open: O_PATH (2.6.39)",
        calls: &[libc::SYS_open],
        errno: Errno::EINVAL,
        cases: &[&[(1, With(0o10_000_000))]],
    },
    Refusal {
        what: "openat: O_PATH (2.6.39)",
        calls: &[libc::SYS_openat],
        errno: Errno::EINVAL,
        cases: &[&[(2, With(0o10_000_000))]],
    },
    Refusal {
        what: "open: O_TMPFILE (3.11), made so that old kernels refuse it",
        calls: &[libc::SYS_open],
        errno: Errno::EISDIR,
        cases: &[&[(1, With(0o20_200_000))]],
    },
    Refusal {
        what: "openat: O_TMPFILE (3.11)",
        calls: &[libc::SYS_openat],
        errno: Errno::EISDIR,
        cases: &[&[(2, With(0o20_200_000))]],
    },
    Refusal {
        what: "fcntl: F_SETPIPE_SZ (2.6.35), F_ADD_SEALS (3.17) and all after F_DUPFD_CLOEXEC; F_GETOWNER_UIDS \
               (3.7); F_OFD_SETLK and the like (3.15)",
        calls: &[libc::SYS_fcntl],
        errno: Errno::EINVAL,
        cases: &[&[(1, From(1031))], &[(1, Exactly(17))], &[(1, From(36)), (1, UpTo(38))]],
    },
    Refusal {
        what: "pipe2: O_DIRECT (3.4)",
        calls: &[libc::SYS_pipe2],
        errno: Errno::EINVAL,
        cases: &[&[(1, With(0o40_000))]],
    },
    Refusal {
        what: "clocks: CLOCK_BOOTTIME (2.6.39), CLOCK_REALTIME_ALARM, CLOCK_BOOTTIME_ALARM (3.0), CLOCK_TAI \
               (3.10). (Where the vDSO answers, no filter is asked.)",
        calls: CLOCKS,
        errno: Errno::EINVAL,
        cases: &[&[(0, From(7)), (0, UpTo(11))]],
    },
    Refusal {
        what: "timerfd_settime: TFD_TIMER_CANCEL_ON_SET (3.0)",
        calls: &[libc::SYS_timerfd_settime],
        errno: Errno::EINVAL,
        cases: &[&[(1, With(2))]],
    },
    Refusal {
        what: "clone: CLONE_PIDFD (5.2), CLONE_NEWCGROUP (4.6)",
        calls: &[libc::SYS_clone],
        errno: Errno::EINVAL,
        cases: &[&[(0, With(0x1000))], &[(0, With(0x0200_0000))]],
    },
    Refusal {
        what: "unshare: CLONE_NEWPID, CLONE_NEWUSER (3.8), CLONE_NEWCGROUP (4.6), CLONE_NEWTIME (5.6)",
        calls: &[libc::SYS_unshare],
        errno: Errno::EINVAL,
        cases: &[
            &[(0, With(0x2000_0000))],
            &[(0, With(0x1000_0000))],
            &[(0, With(0x0200_0000))],
            &[(0, With(0x80))],
        ],
    },
    Refusal {
        what: "waitid: P_PIDFD (5.4)",
        calls: &[libc::SYS_waitid],
        errno: Errno::EINVAL,
        cases: &[&[(0, From(3))]],
    },
    Refusal {
        what: "madvise: MADV_FREE (4.5), MADV_HUGEPAGE (2.6.38), MADV_DONTDUMP (3.4) and all up to 99",
        calls: &[libc::SYS_madvise],
        errno: Errno::EINVAL,
        cases: &[&[(2, Exactly(8))], &[(2, From(14)), (2, UpTo(99))]],
    },
    Refusal {
        what: "fallocate: FALLOC_FL_PUNCH_HOLE (2.6.38) and all after FALLOC_FL_KEEP_SIZE",
        calls: &[libc::SYS_fallocate],
        errno: Errno::EOPNOTSUPP,
        cases: &[&[(1, From(2))]],
    },
    Refusal {
        what: "linkat and fchownat: AT_EMPTY_PATH (2.6.39)",
        calls: &[libc::SYS_linkat, libc::SYS_fchownat],
        errno: Errno::EINVAL,
        cases: &[&[(4, With(0x1000))]],
    },
    Refusal {
        what: "newfstatat: AT_NO_AUTOMOUNT (2.6.38)",
        calls: &[libc::SYS_newfstatat],
        errno: Errno::EINVAL,
        cases: &[&[(3, With(0x800))]],
    },
    Refusal {
        what: "ioctl: FICLONE (4.5), TIOCGPTPEER (4.13)",
        calls: &[libc::SYS_ioctl],
        errno: Errno::ENOTTY,
        cases: &[&[(1, Exactly(0x4004_9409))], &[(1, Exactly(0x5441))]],
    },
];
