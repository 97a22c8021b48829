//! Tries what 2.6.32 does not have.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

/// Prints a line for each.
pub(crate) fn run() {
    let tcp = || Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP));
    let limit = std::time::Duration::from_secs(1);
    let flags = |flags| OpenOptions::new().read(true).write(true).custom_flags(flags).open("/tmp");
    show("recvmmsg", call(libc::SYS_recvmmsg));
    show("sendmmsg", call(libc::SYS_sendmmsg));
    show("prlimit64", call(libc::SYS_prlimit64));
    show("renameat2", call(libc::SYS_renameat2));
    show("statx", call(libc::SYS_statx));
    show("clone3", call(libc::SYS_clone3));
    // The x32 ABI's getpid.
    show("x32", call(0x4000_0000 + libc::SYS_getpid));
    // The newest that 2.6.32 has but for perf_event_open, which not every kernel is built with.
    show("rt_tgsigqueueinfo", call(libc::SYS_rt_tgsigqueueinfo));
    show("SO_REUSEPORT", tcp().and_then(|socket| socket.set_reuse_port(true)));
    show("TCP_USER_TIMEOUT", tcp().and_then(|socket| socket.set_tcp_user_timeout(Some(limit))));
    show("SO_KEEPALIVE", tcp().and_then(|socket| socket.set_keepalive(true)));
    show(
        "IP_FREEBIND",
        tcp().and_then(|socket| Ok(setsockopt(&socket, sockopt::IpFreebind, &true)?)),
    );
    show("AF_VSOCK", Socket::new(Domain::VSOCK, Type::STREAM, None));
    show("O_TMPFILE", flags(libc::O_TMPFILE));
    show("PR_SET_CHILD_SUBREAPER", nix::sys::prctl::set_child_subreaper(true).map_err(Into::into));
    show("PR_SET_NAME", nix::sys::prctl::set_name(c"probe").map_err(Into::into));
}

/// Whether the first system call after those of 2.6.32 is not there.
pub(crate) fn is_old() -> bool {
    call(libc::SYS_recvmmsg).is_err_and(|error| error.raw_os_error() == Some(libc::ENOSYS))
}

fn show<T>(what: &str, result: io::Result<T>) {
    match result.map_err(|error| error.raw_os_error().map(Errno::from_raw)) {
        Ok(_) => println!("{what} works"),
        Err(Some(errno)) => println!("{what} {errno:?}"),
        Err(None) => println!("{what} fails"),
    }
}

/// A system call without anything to do.
#[allow(unsafe_code)]
fn call(number: i64) -> io::Result<()> {
    // SAFETY: all arguments are numbers that no call made here takes for the address of anything it
    // may write to: a null pointer, and descriptors that cannot be. There is no wrapper for calls that
    // may not exist.
    match unsafe { libc::syscall(number, -1_i64, 0_i64, 0_i64, 0_i64, 0_i64, 0_i64) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
