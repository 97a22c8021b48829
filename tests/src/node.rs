//! A machine of the laboratory: a network namespace with files of its own.

use std::{
    fmt::{Display, Write},
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    TimedOut,
    capture::{Capture, Kind},
    namespace::{Mount, Namespace, kill_processes_in, processes_in},
    process::{Program, Running, run_ip, run_with_input, start},
    syslog::Syslog,
    table::Table,
    world::Lab,
};

/// How often a state of the kernel that cannot be awaited is looked at.
const POLL: Duration = Duration::from_millis(30);

/// A node that is being described; [`NodeBuilder::build`] makes it.
#[derive(Debug)]
#[must_use]
pub struct NodeBuilder<'a> {
    lab: &'a Lab,
    name: String,
    nics: Vec<(String, String, Vec<String>)>,
    routes: Vec<String>,
    ip: Vec<String>,
    sysctls: Vec<(String, String)>,
    private: Vec<PathBuf>,
}

impl<'a> NodeBuilder<'a> {
    pub(crate) fn new(lab: &'a Lab, name: &str) -> Self {
        Self {
            lab,
            name: name.to_owned(),
            nics: Vec::new(),
            routes: Vec::new(),
            ip: Vec::new(),
            sysctls: Vec::new(),
            private: vec!["/run".into()],
        }
    }

    /// Gives it an interface (`eth0`), plugged into a segment, with these addresses
    /// (`10.0.0.1/24`, `fd00::1/64`).
    pub fn nic(mut self, interface: &str, segment: &str, addresses: &[&str]) -> Self {
        let addresses = addresses.iter().map(ToString::to_string).collect();
        self.nics.push((interface.to_owned(), segment.to_owned(), addresses));
        self
    }

    /// Adds a route, as for `ip route add`: `default via 10.0.0.254`, `local 10.1.0.0/16 dev lo`.
    /// (With the latter, a server on `0.0.0.0` answers on all of 65,536 addresses.)
    pub fn route(mut self, route: &str) -> Self {
        self.routes.push(route.to_owned());
        self
    }

    /// Adds a line for `ip`, carried out after the addresses and before the routes:
    /// `link set tunl0 up`, `addr add 10.0.0.100/32 dev lo`.
    pub fn ip(mut self, line: &str) -> Self {
        self.ip.push(line.to_owned());
        self
    }

    /// Sets a kernel parameter of its network, last of all and in the order given:
    /// `.sysctl("net.ipv4.ip_forward", 1)`.
    pub fn sysctl(mut self, name: &str, value: impl Display) -> Self {
        self.sysctls.push((name.to_owned(), value.to_string()));
        self
    }

    /// Gives it a directory of its own, empty, where others see the machine's: for instance
    /// `/etc/sysconfig/ha`. It is made if it does not exist. (`/run` always is such a directory.)
    pub fn private(mut self, dir: impl Into<PathBuf>) -> Self {
        self.private.push(dir.into());
        self
    }

    /// Makes the node, with `lo` and all its interfaces up.
    #[track_caller]
    #[must_use = "the node is in the lab all the same, but cannot be reached"]
    pub fn build(self) -> Node {
        let Self { lab, name, nics, routes, ip, sysctls, private } = self;
        let dir = lab.dir().join(&name);
        fs::create_dir(&dir).unwrap_or_else(|e| panic!("node {name}: {}: {e}", dir.display()));
        let (syslog, log_mount) = Syslog::new(&dir)
            .unwrap_or_else(|e| panic!("node {name}: no place for its /dev/log: {e}"));
        let mut mounts: Vec<Mount> = private
            .into_iter()
            .map(|at| make_private(&dir, at).unwrap_or_else(|e| panic!("node {name}: {e}")))
            .collect();
        let private = mounts.iter().map(|mount| mount.at.clone()).collect();
        mounts.extend(log_mount);
        let namespace =
            Namespace::new(&mounts).unwrap_or_else(|e| panic!("node {name}: no namespace: {e}"));

        // One process for the far ends of its cables, one for the rest.
        let (mut far, mut near) = (String::new(), "link set lo up\n".to_owned());
        let path = namespace.path();
        let mut ports = Vec::new();
        for (nic, segment, addresses) in nics {
            lab.segment(&segment);
            let port = lab.next_port();
            // Writing to a String does not fail.
            let _ = writeln!(far, "link add {port} type veth peer name {nic} netns {path}");
            let _ = writeln!(far, "link set {port} master {segment} up");
            let _ = writeln!(near, "link set {nic} up");
            for address in addresses {
                // Nobody else has it, and to wait for duplicates takes a second.
                let nodad = if address.contains(':') { " nodad" } else { "" };
                let _ = writeln!(near, "addr add {address} dev {nic}{nodad}");
            }
            ports.push(Port { nic, segment, port });
        }
        for line in ip {
            let _ = writeln!(near, "{line}");
        }
        for route in routes {
            let _ = writeln!(near, "route add {route}");
        }
        if !far.is_empty() {
            run_ip(lab.switch(), &far);
        }
        run_ip(&namespace, &near);
        let switch = lab.switch().clone();
        let node = Node(Arc::new(Inner { name, dir, private, namespace, switch, ports, syslog }));
        node.set_sysctls(&sysctls);
        lab.add(node.clone());
        node
    }
}

/// The mount that shows a new directory below `dir` at `at`.
fn make_private(dir: &Path, at: PathBuf) -> Result<Mount, String> {
    let from = below(dir, &at);
    for new in [&from, &at] {
        fs::create_dir_all(new).map_err(|e| format!("cannot make {}: {e}", new.display()))?;
    }
    Ok(Mount { from, at })
}

/// Where a private file of a node really is.
fn below(dir: &Path, path: &Path) -> PathBuf {
    dir.join("root").join(path.strip_prefix("/").unwrap_or(path))
}

/// A NIC and the other end of its cable.
#[derive(Debug)]
struct Port {
    nic: String,
    segment: String,
    port: String,
}

#[derive(Debug)]
struct Inner {
    name: String,
    dir: PathBuf,
    private: Vec<PathBuf>,
    namespace: Namespace,
    switch: Namespace,
    ports: Vec<Port>,
    syslog: Syslog,
}

/// A machine of the laboratory. Clones are the same machine.
#[derive(Clone, Debug)]
pub struct Node(Arc<Inner>);

impl Node {
    /// The name given to it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub(crate) fn namespace(&self) -> &Namespace {
        &self.0.namespace
    }

    /// A directory of its own for temporary files, at the same path for every node and the test.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// The path at which the test itself finds what this node sees at `path`.
    #[must_use]
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        // /var/run is a link to /run on every system of today.
        let seen =
            path.strip_prefix("/var/run").map_or(path.to_owned(), |p| Path::new("/run").join(p));
        match self.0.private.iter().any(|dir| seen.starts_with(dir)) {
            true => below(&self.0.dir, &seen),
            false => seen,
        }
    }

    /// Writes a file that this node sees at `path`, with the directories above it.
    #[track_caller]
    pub fn write(&self, path: impl AsRef<Path>, contents: impl AsRef<[u8]>) {
        let path = self.path(path);
        let result = path
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(&path, contents));
        result.unwrap_or_else(|e| panic!("{}: cannot write {}: {e}", self.0.name, path.display()));
    }

    /// Runs a closure on this node: sockets it opens are the node's, files it opens are what the
    /// node sees. It runs in a thread of its own, whose panic becomes ours.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        self.0.namespace.enter(f)
    }

    /// Starts a program that runs on.
    #[track_caller]
    pub fn spawn(&self, program: impl Into<Program>) -> Running {
        Running::start(&self.0.name, program.into().in_namespace(&self.0.namespace))
    }

    /// Runs a program to its end and returns its standard output. Panics, with all it wrote, if it
    /// fails; see [`Node::output`] for one that may.
    #[track_caller]
    pub fn run(&self, program: impl Into<Program>) -> String {
        let command = program.into().in_namespace(&self.0.namespace);
        let shown = format!("{command:?}");
        self.succeeded(&shown, &run_with_input(command, ""))
    }

    /// Runs a program to its end, whatever that is.
    #[track_caller]
    pub fn output(&self, program: impl Into<Program>) -> Output {
        run_with_input(program.into().in_namespace(&self.0.namespace), "")
    }

    /// Runs a script by `sh -eu` and returns its standard output. Panics if it fails.
    #[track_caller]
    pub fn shell(&self, script: &str) -> String {
        let command = Program::from("sh -eu").in_namespace(&self.0.namespace);
        self.succeeded(script, &run_with_input(command, script))
    }

    /// Runs lines of `ip`, one or more, by one process: `node.ip("addr add 10.0.0.9/32 dev eth0")`.
    #[track_caller]
    pub fn ip(&self, batch: &str) {
        run_ip(&self.0.namespace, &format!("{batch}\n"));
    }

    #[track_caller]
    fn succeeded(&self, what: &str, output: &Output) -> String {
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            panic!("{}: {}: {what}\n{stdout}{stderr}", self.0.name, output.status);
        }
        stdout
    }

    /// Sets a kernel parameter of its network: `node.sysctl("net.ipv4.ip_forward", 1)`. An
    /// interface with a dot in its name needs the form with slashes, `net/ipv4/conf/eth0.5/…`.
    #[track_caller]
    pub fn sysctl(&self, name: &str, value: impl Display) {
        self.set_sysctls(&[(name.to_owned(), value.to_string())]);
    }

    #[track_caller]
    fn set_sysctls(&self, settings: &[(String, String)]) {
        // The kernel shows in /proc/sys/net the network of the thread that looks.
        let result = self.enter(|| {
            settings.iter().try_for_each(|(name, value)| {
                let name = if name.contains('/') { name.clone() } else { name.replace('.', "/") };
                fs::write(Path::new("/proc/sys").join(&name), value)
                    .map_err(|e| format!("cannot set {name} to {value}: {e}"))
            })
        });
        result.unwrap_or_else(|e| panic!("{}: {e}", self.0.name));
    }

    /// The hardware address of an interface.
    #[track_caller]
    #[must_use]
    pub fn mac(&self, nic: &str) -> [u8; 6] {
        let path = format!("/sys/class/net/{nic}/address");
        let text = self.enter(|| fs::read_to_string(&path));
        let text = text.unwrap_or_else(|e| panic!("{}: {path}: {e}", self.0.name));
        let bytes: Option<Vec<u8>> =
            text.trim().split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .unwrap_or_else(|| panic!("{}: {path}: not an Ethernet address: {text}", self.0.name))
    }

    /// Whether an interface carries this address (without prefix length), by `ip -oneline addr`.
    #[must_use]
    pub fn has_address(&self, nic: &str, address: &str) -> bool {
        let listed = self.run(format!("ip -oneline addr show dev {nic}"));
        listed.lines().any(|line| {
            let mut words = line.split_whitespace().skip_while(|word| !word.starts_with("inet"));
            words.nth(1).and_then(|found| found.split('/').next()) == Some(address)
        })
    }

    /// Waits until an interface carries an address (`present`), or carries it no more.
    ///
    /// # Errors
    /// Not so within `limit`.
    pub fn wait_address(
        &self,
        nic: &str,
        address: &str,
        present: bool,
        limit: Duration,
    ) -> Result<(), TimedOut> {
        let found = poll(limit, || (self.has_address(nic, address) == present).then_some(()));
        found.ok_or_else(|| {
            let name = self.name();
            let what = if present { "not there" } else { "still there" };
            let seen = self.run("ip -brief addr");
            TimedOut(format!("{name}: {address} {what} on {nic} after {limit:?}:\n{seen}"))
        })
    }

    #[track_caller]
    fn port(&self, nic: &str) -> &Port {
        let name = &self.0.name;
        let mut ports = self.0.ports.iter();
        ports.find(|port| port.nic == nic).unwrap_or_else(|| panic!("{name} has no NIC {nic}"))
    }

    /// Pulls the cable of a NIC: it loses its carrier.
    #[track_caller]
    pub fn unplug(&self, nic: &str) {
        run_ip(&self.0.switch, &format!("link set {} down\n", self.port(nic).port));
    }

    /// Plugs the cable in again.
    #[track_caller]
    pub fn plug(&self, nic: &str) {
        run_ip(&self.0.switch, &format!("link set {} up\n", self.port(nic).port));
    }

    /// Cuts a NIC off from its segment without its noticing: the carrier stays. A partition.
    #[track_caller]
    pub fn isolate(&self, nic: &str) {
        run_ip(&self.0.switch, &format!("link set {} nomaster\n", self.port(nic).port));
    }

    /// Ends what [`Node::isolate`] began.
    #[track_caller]
    pub fn rejoin(&self, nic: &str) {
        let Port { segment, port, .. } = self.port(nic);
        run_ip(&self.0.switch, &format!("link set {port} master {segment}\n"));
    }

    /// Cuts all NICs off at once, without their noticing: as a power failure looks from outside.
    #[track_caller]
    pub fn cut_off(&self) {
        let line = |port: &Port| format!("link set {} nomaster\n", port.port);
        run_ip(&self.0.switch, &self.0.ports.iter().map(line).collect::<String>());
    }

    /// Makes ready to do so at a moment that matters: without the time that a process takes to start.
    #[track_caller]
    #[must_use = "nothing is cut before Cut::now"]
    pub fn prepare_cut_off(&self) -> Cut {
        let mut command = Program::from("ip -batch -").in_namespace(&self.0.switch);
        let child = start(command.stdin(Stdio::piped()));
        let line = |port: &Port| format!("link set {} nomaster\n", port.port);
        Cut { child, batch: self.0.ports.iter().map(line).collect() }
    }

    /// Ends what [`Node::cut_off`] began.
    #[track_caller]
    pub fn reconnect(&self) {
        let line =
            |Port { port, segment, .. }: &Port| format!("link set {port} master {segment}\n");
        run_ip(&self.0.switch, &self.0.ports.iter().map(line).collect::<String>());
    }

    /// The processes on this node, daemons included.
    #[track_caller]
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        processes_in(&[self.inode()]).into_iter().map(|pid| pid.as_raw().cast_unsigned()).collect()
    }

    /// Kills every process on this node at once: a crash, but for the network, which stays as it
    /// is (see [`Node::unplug`]).
    #[track_caller]
    pub fn kill_all(&self) {
        let left = kill_processes_in(&[self.inode()]);
        assert!(left.is_empty(), "{}: these processes would not die: {left:?}", self.0.name);
    }

    #[track_caller]
    fn inode(&self) -> u64 {
        let inode = self.0.namespace.inode();
        inode.unwrap_or_else(|e| panic!("{}: its namespace cannot be read: {e}", self.0.name))
    }

    /// Begins to collect the frames that an interface sends and receives.
    #[track_caller]
    #[must_use = "frames are collected until it is dropped"]
    pub fn capture(&self, nic: &str) -> Capture {
        self.capture_only(nic, Kind::Any)
    }

    /// The same with frames of one kind alone.
    #[track_caller]
    #[must_use = "frames are collected until it is dropped"]
    pub fn capture_only(&self, nic: &str, kind: Kind) -> Capture {
        self.enter(|| Capture::start(nic, kind))
            .unwrap_or_else(|e| panic!("{}: cannot capture on {nic}: {e}", self.0.name))
    }

    /// What its programs sent to syslog.
    #[must_use]
    pub fn syslog(&self) -> &Syslog {
        &self.0.syslog
    }

    /// Its IPVS table.
    #[track_caller]
    #[must_use]
    pub fn table(&self) -> Table {
        let text = self.run("ipvsadm -L -n");
        Table::parse(&text).unwrap_or_else(|e| panic!("{}: IPVS table: {e}", self.0.name))
    }

    /// Waits until its IPVS table is as wanted.
    ///
    /// # Errors
    /// It was not so within `limit`.
    pub fn wait_table(
        &self,
        wanted: impl Fn(&Table) -> bool,
        limit: Duration,
    ) -> Result<Table, TimedOut> {
        poll(limit, || Some(self.table()).filter(&wanted)).ok_or_else(|| {
            let (name, table) = (self.name(), self.table());
            TimedOut(format!("{name}: not the IPVS table awaited for {limit:?}, but:\n{table}"))
        })
    }

    /// For a test that failed: what the node knows.
    pub(crate) fn report(&self) {
        let lines = self.syslog().lines();
        if !lines.is_empty() {
            eprintln!("---- {}: syslog", self.0.name);
            for line in lines {
                eprintln!("{line}");
            }
        }
        // "self" would be the network of the process's first thread.
        let raw = self.enter(|| fs::read_to_string("/proc/thread-self/net/ip_vs"));
        // More than the headings. Only then is it worth a process, which may fail at this point.
        if raw.is_ok_and(|raw| raw.lines().count() > 3) {
            let listed = self.output("ipvsadm -L -n").stdout;
            eprintln!("---- {}: IPVS table\n{}", self.0.name, String::from_utf8_lossy(&listed));
        }
    }
}

/// A node that is about to be cut off, by a process that waits for its orders.
#[derive(Debug)]
pub struct Cut {
    child: Child,
    batch: String,
}

impl Cut {
    /// Cuts it off.
    #[track_caller]
    pub fn now(mut self) {
        if let Some(mut stdin) = self.child.stdin.take() {
            // If it cannot be written, its status tells.
            let _ = stdin.write_all(self.batch.as_bytes());
        }
        let status = self.child.wait().unwrap_or_else(|e| panic!("ip -batch: {e}"));
        assert!(status.success(), "ip -batch: {status}; the batch was:\n{}", self.batch);
    }
}

/// Awaits a state of the kernel that there is no event for.
pub(crate) fn poll<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        let found = look();
        if found.is_some() || Instant::now() >= end {
            return found;
        }
        std::thread::sleep(POLL);
    }
}
