//! The parent's side of [`crate::ready`]: hearing from a child that its start-up is done. A datagram
//! socket for sd_notify(3), and the original's named semaphore.

use nix::errno::Errno;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// Longest notification that is read; sd_notify(3) has no limit, but its users send a few words.
const LONGEST: usize = 64 * 1024;
/// Most notifications that are read before other descriptors get their turn.
const AT_ONCE: usize = 256;

/// Where children send their states: what `NOTIFY_SOCKET` names for them.
#[derive(Debug)]
pub struct Inbox {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Inbox {
    /// Listens on `path`, replacing what an earlier process has left there. Only this process's user
    /// may write to it. The directory is made if it is missing.
    ///
    /// # Errors
    /// When the socket cannot be made there; the text names it.
    pub fn bind(path: &Path) -> io::Result<Inbox> {
        let named = |e: io::Error| {
            io::Error::new(e.kind(), format!("notification socket {}: {e}", path.display()))
        };
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(named)?;
        }
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(named(e)),
            _ => {}
        }
        let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
        let bound = UnixDatagram::bind(path);
        nix::sys::stat::umask(before);
        let socket = bound.map_err(named)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(named)?;
        socket.set_nonblocking(true)?;
        Ok(Inbox { socket, path: path.to_owned() })
    }

    /// Where it listens: the value of `NOTIFY_SOCKET`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The `NAME=VALUE` assignments that have come, in their order.
    pub fn read(&self) -> Vec<(String, String)> {
        let mut states = Vec::new();
        let mut buffer = vec![0; LONGEST];
        for _ in 0..AT_ONCE {
            let Ok(length) = self.socket.recv(&mut buffer) else { break };
            let text = String::from_utf8_lossy(&buffer[..length]);
            states.extend(text.lines().filter_map(|line| {
                line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
            }));
        }
        states
    }
}

impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// A named semaphore on which a child reports, as the original's lvsd does (sem_overview(7)). It
/// exists as long as the value.
#[derive(Debug)]
pub struct Semaphore {
    name: CString,
    handle: *mut libc::sem_t,
}

impl Semaphore {
    /// Makes it anew, with the value 0: one that was left behind may have been posted.
    ///
    /// # Errors
    /// As sem_open(3).
    #[allow(unsafe_code)]
    pub fn create(name: &std::ffi::CStr) -> io::Result<Semaphore> {
        let name = name.to_owned();
        // SAFETY: `name` is a C string, which both calls only read. sem_open returns a pointer to a
        // mapped semaphore or SEM_FAILED, which is checked. Neither nix nor the standard library has
        // named semaphores.
        let handle = unsafe {
            libc::sem_unlink(name.as_ptr());
            libc::sem_open(name.as_ptr(), libc::O_CREAT | libc::O_EXCL, 0o600, 0)
        };
        if handle == libc::SEM_FAILED {
            Err(Errno::last().into())
        } else {
            Ok(Semaphore { name, handle })
        }
    }

    /// Takes a post, if there is one.
    #[must_use]
    #[allow(unsafe_code)]
    pub fn take(&self) -> bool {
        // SAFETY: the handle is that of an open semaphore, which only Drop closes.
        unsafe { libc::sem_trywait(self.handle) == 0 }
    }
}

impl Drop for Semaphore {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: the handle is that of an open semaphore, and is not used afterwards; the name is a
        // C string.
        unsafe {
            libc::sem_close(self.handle);
            libc::sem_unlink(self.name.as_ptr());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_arrive_in_order_from_several_datagrams() {
        let path = std::env::temp_dir().join(format!("inbox-{}", std::process::id()));
        drop(Inbox::bind(&path).unwrap());
        assert!(!path.exists());
        fs::write(&path, "left behind").unwrap();
        let inbox = Inbox::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let child = UnixDatagram::unbound().unwrap();
        for text in ["X=1\nX=2=3\nnonsense\n", "READY=1"] {
            child.send_to(text.as_bytes(), &path).unwrap();
        }
        let read = inbox.read();
        let want = [("X", "1"), ("X", "2=3"), ("READY", "1")];
        assert_eq!(read, want.map(|(n, v)| (n.to_owned(), v.to_owned())));
        assert!(inbox.read().is_empty());
    }

    #[test]
    fn a_post_is_taken_once_and_an_old_one_never() {
        let name = CString::new(format!("/waiting-test-{}", std::process::id())).unwrap();
        let old = Semaphore::create(&name).unwrap();
        crate::ready::post(&name).unwrap();
        let semaphore = Semaphore::create(&name).unwrap();
        assert!(!semaphore.take());
        crate::ready::post(&name).unwrap();
        assert!(semaphore.take());
        assert!(!semaphore.take());
        drop(semaphore);
        crate::ready::post(&name).unwrap();
        assert!(old.take(), "posted before it was replaced");
    }
}
