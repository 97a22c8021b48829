//! Telling a parent that start-up is done: the original's named semaphore, and the datagram of
//! sd_notify(3), which systemd and the suite's own pulse understand.

use nix::errno::Errno;
use std::ffi::CStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The semaphore on which the original pulse waits for lvsd (sem_overview(7)).
pub const LVS_SEMAPHORE: &CStr = c"/lvs";

/// Says that this process is ready, in every form in which somebody may be waiting.
pub fn announce() {
    if let Err(error) = post(LVS_SEMAPHORE) {
        log::debug!("semaphore lvs: {error}");
    }
    if let Err(error) = notify("READY=1") {
        log::debug!("NOTIFY_SOCKET: {error}");
    }
}

/// Posts a named semaphore that somebody else has made. That nobody has made it means that nobody
/// waits: it is not created, since a value left in it would satisfy a later waiter at once.
///
/// # Errors
/// As sem_open(3) and sem_post(3), a missing semaphore excepted.
#[allow(unsafe_code)]
pub fn post(name: &CStr) -> io::Result<()> {
    // SAFETY: `name` is a C string; sem_open reads it and returns a pointer to a mapped semaphore
    // or SEM_FAILED, which is checked before use; the pointer is used only until sem_close. Neither
    // nix nor the standard library has named semaphores.
    unsafe {
        let semaphore = libc::sem_open(name.as_ptr(), 0);
        if semaphore == libc::SEM_FAILED {
            return match Errno::last() {
                Errno::ENOENT => Ok(()),
                errno => Err(errno.into()),
            };
        }
        let posted = libc::sem_post(semaphore);
        let errno = Errno::last();
        libc::sem_close(semaphore);
        if posted == 0 { Ok(()) } else { Err(errno.into()) }
    }
}

/// Sends a state to the socket named in `NOTIFY_SOCKET`, if there is one.
///
/// # Errors
/// When the socket is named and cannot be written.
pub fn notify(state: &str) -> io::Result<()> {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let bytes = std::os::unix::ffi::OsStrExt::as_bytes(name.as_os_str());
    let address = match bytes.strip_prefix(b"@") {
        Some(hidden) => SocketAddr::from_abstract_name(hidden)?,
        None => SocketAddr::from_pathname(&name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;

    #[test]
    #[allow(unsafe_code)]
    fn a_waiter_is_woken_and_no_semaphore_is_made() {
        let name = CString::new(format!("/ready-test-{}", std::process::id())).unwrap();
        post(&name).unwrap();
        // SAFETY: plain use of the semaphore calls on a name of our own.
        unsafe {
            assert_eq!(libc::sem_open(name.as_ptr(), 0), libc::SEM_FAILED, "made by post");
            let semaphore = libc::sem_open(name.as_ptr(), libc::O_CREAT, 0o600, 0);
            assert_ne!(semaphore, libc::SEM_FAILED);
            assert_ne!(libc::sem_trywait(semaphore), 0);
            post(&name).unwrap();
            assert_eq!(libc::sem_trywait(semaphore), 0);
            libc::sem_close(semaphore);
            libc::sem_unlink(name.as_ptr());
        }
    }
}
