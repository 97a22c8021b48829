//! The world of one test: segments, nodes, files; and its end.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::panicking,
};

use nix::{
    sys::resource::{Resource, getrlimit, setrlimit},
    unistd::{Uid, getpid},
};

use crate::{
    namespace::{Namespace, kill_processes_in},
    node::{Node, NodeBuilder},
    process::run_ip,
};

/// Panics unless the test may run here: as root, on a kernel with IPVS. Tests are never skipped: a
/// test that did not run would look like one that passed.
#[track_caller]
pub fn require_ipvs() {
    let remedy = "run scripts/test, or this program by scripts/ipvs-vm";
    if !Uid::effective().is_root() {
        panic!("this test makes network namespaces and needs root: {remedy}");
    }
    if !Path::new("/proc/net/ip_vs").exists() {
        panic!("this test needs a kernel with IPVS, and there is no /proc/net/ip_vs: {remedy}");
    }
}

/// The world of one test. Dropping it ends every process in it and removes its files; its
/// namespaces go with it.
#[derive(Debug)]
pub struct Lab {
    name: String,
    dir: PathBuf,
    /// Where the bridges are, and the far ends of all NICs.
    switch: Namespace,
    segments: Mutex<BTreeSet<String>>,
    nodes: Mutex<Vec<Node>>,
    ports: AtomicUsize,
}

impl Lab {
    /// An empty world. `name` appears in messages and in the name of its directory; it need not be
    /// unique. Panics where there is no IPVS, see [`require_ipvs`].
    #[track_caller]
    #[must_use]
    pub fn new(name: &str) -> Self {
        require_ipvs();
        raise_descriptor_limit();
        let dir = make_dir(name).unwrap_or_else(|e| panic!("lab {name}: no directory: {e}"));
        let switch = Namespace::new(&[])
            .unwrap_or_else(|e| panic!("lab {name}: no namespace for its segments: {e}"));
        Self {
            name: name.to_owned(),
            dir,
            switch,
            segments: Mutex::default(),
            nodes: Mutex::default(),
            ports: AtomicUsize::new(1),
        }
    }

    /// A directory for the files of this test, removed at its end. All nodes see it at this path.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Begins a node. Its name is what messages call it, and must be unique in this lab.
    pub fn node(&self, name: &str) -> NodeBuilder<'_> {
        NodeBuilder::new(self, name)
    }

    pub(crate) fn switch(&self) -> &Namespace {
        &self.switch
    }

    /// A name for the far end of a NIC.
    pub(crate) fn next_port(&self) -> String {
        format!("port{}", self.ports.fetch_add(1, Ordering::Relaxed))
    }

    /// Makes an Ethernet segment. NICs name it; those that name one that is not there make it, so
    /// this is only needed for a segment without nodes. At most 15 bytes, as for any interface.
    pub fn segment(&self, name: &str) {
        let mut segments = self.segments.lock().unwrap_or_else(PoisonError::into_inner);
        if segments.insert(name.to_owned()) {
            // Snooping would keep multicast (the sync daemon's) from ports nobody asked on.
            run_ip(
                &self.switch,
                &format!("link add name {name} type bridge mcast_snooping 0\nlink set {name} up\n"),
            );
        }
    }

    pub(crate) fn add(&self, node: Node) {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).push(node);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let nodes = std::mem::take(self.nodes.get_mut().unwrap_or_else(PoisonError::into_inner));
        if panicking() {
            nodes.iter().for_each(Node::report);
        }
        let inodes: Vec<u64> =
            nodes.iter().filter_map(|node| node.namespace().inode().ok()).collect();
        let left = kill_processes_in(&inodes);
        drop(nodes);
        let files = fs::remove_dir_all(&self.dir);
        // A second panic would abort the whole test program.
        if panicking() {
            return;
        }
        assert!(left.is_empty(), "lab {}: these processes would not die: {left:?}", self.name);
        if let Err(e) = files {
            panic!("lab {}: cannot remove {}: {e}", self.name, self.dir.display());
        }
    }
}

fn make_dir(name: &str) -> io::Result<PathBuf> {
    static COUNT: AtomicUsize = AtomicUsize::new(1);
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("lab-{}-{count}-{name}", getpid()));
        match fs::create_dir(&dir) {
            // Left behind by an earlier process of the same number that was killed.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            result => return result.map(|()| dir),
        }
    }
}

/// The soft and hard limit of open files before the laboratory raised it; `None` if it did not.
pub(crate) fn original_descriptor_limit() -> Option<(u64, u64)> {
    *raise_descriptor_limit()
}

/// Once per process: a thousand servers with their connections take more than the usual 1024
/// descriptors. Programs under test are started with the original limit, see `Namespace::confine`.
fn raise_descriptor_limit() -> &'static Option<(u64, u64)> {
    static ORIGINAL: OnceLock<Option<(u64, u64)>> = OnceLock::new();
    ORIGINAL.get_or_init(|| {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).ok()?;
        Some((soft, hard))
    })
}
