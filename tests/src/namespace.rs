//! Network namespaces held by descriptors, each with a mount namespace to go with it.
//!
//! Nothing is bound to a name below `/run/netns`: when the last descriptor, socket and process of
//! a namespace is gone, so is the namespace, however the test ended.

use std::{
    fs::File,
    io,
    os::{fd::AsFd, unix::fs::MetadataExt, unix::process::CommandExt},
    panic::resume_unwind,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::{
        resource::{Resource, setrlimit},
        signal::{Signal, kill},
    },
    unistd::{Pid, getpid},
};

use crate::world::original_descriptor_limit;

/// A network namespace and a mount namespace.
#[derive(Clone, Debug)]
pub(crate) struct Namespace {
    net: Arc<File>,
    mnt: Arc<File>,
}

/// A file or directory of the test that a node sees at another place.
pub(crate) struct Mount {
    pub(crate) from: PathBuf,
    pub(crate) at: PathBuf,
}

impl Namespace {
    /// New namespaces: a network with nothing but `lo` (down), `/sys` that shows it, and `mounts`
    /// bound over what is there.
    pub(crate) fn new(mounts: &[Mount]) -> io::Result<Self> {
        // A thread of its own, because there is no way back from a mount namespace for one that
        // shares its working directory with others.
        thread::scope(|scope| join(scope.spawn(|| Self::make_here(mounts))))
    }

    fn make_here(mounts: &[Mount]) -> io::Result<Self> {
        let tried = |what: &str, at: &Path| {
            let place = format!("{what} {}", at.display());
            move |e: nix::Error| io::Error::other(format!("{place}: {}", e.desc()))
        };
        let root = Path::new("/");
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
            .map_err(tried("new namespaces at", root))?;
        let none = None::<&Path>;
        mount(none, root, none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
            .map_err(tried("make private", root))?;
        for Mount { from, at } in mounts {
            mount(Some(from), at, none, MsFlags::MS_BIND, none).map_err(tried("bind over", at))?;
        }
        let sys = Path::new("/sys");
        mount(Some("sysfs"), sys, Some("sysfs"), MsFlags::empty(), none)
            .map_err(tried("mount sysfs on", sys))?;
        let open = |kind: &str| File::open(format!("/proc/thread-self/ns/{kind}")).map(Arc::new);
        Ok(Self { net: open("net")?, mnt: open("mnt")? })
    }

    /// What `ip … netns PATH` takes.
    pub(crate) fn path(&self) -> String {
        use std::os::fd::AsRawFd;
        format!("/proc/{}/fd/{}", getpid(), self.net.as_raw_fd())
    }

    /// Its descriptor, for netlink messages that name a network so.
    pub(crate) fn descriptor(&self) -> i32 {
        use std::os::fd::AsRawFd;
        self.net.as_raw_fd()
    }

    /// The number by which the kernel tells network namespaces apart (`/proc/PID/ns/net`).
    pub(crate) fn inode(&self) -> io::Result<u64> {
        Ok(self.net.metadata()?.ino())
    }

    /// Runs `f` in a thread that lives in these namespaces.
    pub(crate) fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            join(scope.spawn(|| {
                unshare(CloneFlags::CLONE_FS)
                    .and_then(|()| setns(self.net.as_fd(), CloneFlags::CLONE_NEWNET))
                    .and_then(|()| setns(self.mnt.as_fd(), CloneFlags::CLONE_NEWNS))
                    .unwrap_or_else(|e| panic!("cannot enter the namespaces of a node: {e}"));
                f()
            }))
        })
    }

    /// Makes `command` start in these namespaces, with the limit of open files that the test
    /// process was started with (the laboratory raises its own).
    #[allow(unsafe_code)]
    pub(crate) fn confine(&self, command: &mut Command) {
        let Self { net, mnt } = self.clone();
        let limit = original_descriptor_limit();
        let enter = move || {
            setns(net.as_fd(), CloneFlags::CLONE_NEWNET)?;
            setns(mnt.as_fd(), CloneFlags::CLONE_NEWNS)?;
            if let Some((soft, hard)) = limit {
                setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
            }
            Ok(())
        };
        // SAFETY: the closure runs between fork and exec of a threaded process, so it must not
        // allocate or take a lock: it makes three system calls on values it owns, and the
        // conversion of an errno into an io::Error does not allocate. There is no other way to
        // start a program in a namespace without starting one more before it.
        unsafe { command.pre_exec(enter) };
    }
}

/// What the thread returned; if it panicked, so do we, with its own message.
fn join<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// The processes in any of these network namespaces (by inode), but not ourselves.
pub(crate) fn processes_in(inodes: &[u64]) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().map(Pid::from_raw))
        .filter(|pid| *pid != getpid())
        .filter(|pid| {
            // Fails for the dead, and for those that ended meanwhile.
            std::fs::metadata(format!("/proc/{pid}/ns/net"))
                .is_ok_and(|ns| inodes.contains(&ns.ino()))
        })
        .collect()
}

/// Kills every process in these network namespaces, daemons that left their session included.
/// Returns those that would not die.
pub(crate) fn kill_processes_in(inodes: &[u64]) -> Vec<Pid> {
    let mut left = Vec::new();
    // Several rounds, for what is forked meanwhile and for what takes a moment to die.
    for _ in 0..500 {
        left = processes_in(inodes);
        if left.is_empty() {
            break;
        }
        for pid in &left {
            // It may be gone by now, which is what was wanted.
            let _ = kill(*pid, Signal::SIGKILL);
        }
        thread::sleep(std::time::Duration::from_millis(2));
    }
    left
}
