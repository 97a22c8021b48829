//! An lvsd on a director of the laboratory: its lvs.cf, its log, its status, its table.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]
#![allow(dead_code, reason = "each target uses a part of it")]

use std::{
    cell::Cell,
    fmt::Write as _,
    io::{BufRead, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use lab::{Node, PATIENCE, Running};
use nix::sys::signal::Signal;
use serde_json::Value;

/// The virtual address of a NAT site.
pub(crate) const VIP: &str = "172.16.0.100";
/// Where the programs look for it; every director has the directory for itself.
pub(crate) const CONFIG: &str = "/etc/sysconfig/ha/lvs.cf";
/// lvsd's control socket, as a node sees it.
pub(crate) const SOCKET: &str = "/run/piranha/lvsd.sock";

/// Keys and values in the order they were given; a later value takes the place of an earlier one.
#[derive(Clone, Debug, Default)]
struct Keys(Vec<(String, String)>);

impl Keys {
    fn set(&mut self, key: &str, value: String) {
        match self.0.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    fn write(&self, indent: &str, text: &mut String) {
        for (key, value) in &self.0 {
            writeln!(text, "{indent}{key} = {value}").unwrap();
        }
    }
}

/// A `server` block.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    name: String,
    keys: Keys,
}

/// An active server with this name and address.
pub(crate) fn server(name: &str, address: &str) -> Server {
    let mut keys = Keys::default();
    keys.set("address", address.to_owned());
    keys.set("active", "1".to_owned());
    Server { name: name.to_owned(), keys }
}

impl Server {
    /// The same with another value for this key.
    #[allow(clippy::needless_pass_by_value, reason = "numbers and texts alike, without a sign")]
    pub(crate) fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.keys.set(key, value.to_string());
        self
    }
}

/// A `virtual` block.
#[derive(Clone, Debug)]
pub(crate) struct Virtual {
    pub(crate) name: String,
    keys: Keys,
    pub(crate) servers: Vec<Server>,
}

/// An active virtual server on [`VIP`]: a check every second, one success to come back.
pub(crate) fn virtual_server(name: &str, port: u16) -> Virtual {
    let mut block = Virtual { name: name.to_owned(), keys: Keys::default(), servers: Vec::new() };
    let values = [
        ("active", "1".to_owned()),
        ("address", format!("{VIP} eth0:1")),
        ("port", port.to_string()),
        ("timeout", "1".to_owned()),
        ("reentry", "1".to_owned()),
    ];
    for (key, value) in values {
        block.keys.set(key, value);
    }
    block
}

impl Virtual {
    /// The same with another value for this key. Values with blanks need their quotes.
    #[allow(clippy::needless_pass_by_value, reason = "numbers and texts alike, without a sign")]
    pub(crate) fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.keys.set(key, value.to_string());
        self
    }

    /// The same with this server too.
    pub(crate) fn server(mut self, server: Server) -> Self {
        self.servers.push(server);
        self
    }

    /// The same with the servers `s1`, `s2`, … of these numbers, 10.0.0.21, …, on this port.
    pub(crate) fn real_servers(
        mut self,
        numbers: impl IntoIterator<Item = usize>,
        port: u16,
    ) -> Self {
        for number in numbers {
            let address = format!("10.0.0.{}", 20 + number);
            self.servers.push(server(&format!("s{number}"), &address).with("port", port));
        }
        self
    }

    /// The same with a change to its server of this name.
    pub(crate) fn change(mut self, name: &str, change: impl FnOnce(Server) -> Server) -> Self {
        let at = self.servers.iter().position(|server| server.name == name).unwrap();
        self.servers[at] = change(self.servers[at].clone());
        self
    }
}

/// The text of an lvs.cf: global lines, then the blocks.
pub(crate) fn lvs_cf(globals: &[&str], blocks: &[Virtual]) -> String {
    let mut text = String::new();
    for line in globals {
        writeln!(text, "{line}").unwrap();
    }
    for Virtual { name, keys, servers } in blocks {
        writeln!(text, "virtual {name} {{").unwrap();
        keys.write("     ", &mut text);
        for Server { name, keys } in servers {
            writeln!(text, "     server {name} {{").unwrap();
            keys.write("         ", &mut text);
            text += "     }\n";
        }
        text += "}\n";
    }
    text
}

/// Where the suite's programs are.
pub(crate) fn programs() -> PathBuf {
    let dir = std::env::var_os("PIRANHA_BIN").unwrap_or_else(|| panic!("PIRANHA_BIN is not set"));
    std::path::absolute(dir).unwrap()
}

/// Asks `what` over and over until it gives something. Panics, with what it was about, when it has
/// not within [`PATIENCE`].
#[track_caller]
pub(crate) fn wait<T>(about: &str, mut what: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = what() {
            return found;
        }
        assert!(Instant::now() < end, "{about}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Writes an executable script. By a process of its own: a descriptor of this one that is open for
/// writing may be inherited for a moment by a child being started, and what is open for writing
/// cannot be run.
#[track_caller]
pub(crate) fn script(node: &Node, path: &Path, text: &str) {
    let path = path.display();
    node.shell(&format!("cat >{path} <<'END_OF_SCRIPT'\n{text}\nEND_OF_SCRIPT\nchmod 755 {path}"));
}

/// Replaces a file in one step, so that who reads it finds the old text or the new one.
#[track_caller]
pub(crate) fn replace(path: &Path, text: &str) {
    let aside = path.with_extension("new");
    std::fs::write(&aside, text).unwrap();
    std::fs::rename(&aside, path).unwrap();
}

/// One request to lvsd's control socket; `None` when nobody answers.
pub(crate) fn ask(node: &Node, request: &str) -> Option<Value> {
    let mut stream = UnixStream::connect(node.path(SOCKET)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(format!("{request}\n").as_bytes()).ok()?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).ok()?;
    serde_json::from_str(&answer).ok()
}

/// lvsd's status.
pub(crate) fn status(node: &Node) -> Option<Value> {
    ask(node, r#"{"command":"status"}"#)
}

/// A virtual server's or real server's part of a status, by its place in it.
pub(crate) fn part<'a>(status: &'a Value, block: &str, server: &str) -> &'a Value {
    let named = |list: &'a Value, name: &str| -> &'a Value {
        let mut items = list.as_array().into_iter().flatten();
        items.find(|item| item["name"] == name).unwrap_or(&Value::Null)
    };
    named(&named(&status["virtual_servers"], block)["servers"], server)
}

/// Waits until a node's table, displayed, is this.
#[track_caller]
pub(crate) fn wait_shown(node: &Node, shown: &str) {
    let found = node.wait_table(|table| table.to_string() == shown, PATIENCE);
    found.unwrap_or_else(|e| panic!("{e}\ninstead of\n{shown}"));
}

/// How many lines a node's programs have sent to syslog that contain all of these words.
pub(crate) fn logged(node: &Node, words: &[&str]) -> usize {
    let lines = node.syslog().lines();
    lines.iter().filter(|line| words.iter().all(|word| line.text.contains(word))).count()
}

/// Waits until there are so many lines in syslog that contain all of these words.
#[track_caller]
pub(crate) fn wait_logged(node: &Node, words: &[&str], count: usize) {
    wait(&format!("{count} lines with {words:?}"), || (logged(node, words) >= count).then_some(()));
}

/// A process that is no zombie.
pub(crate) fn lives(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().starts_with(" Z"))
}

/// The command lines of the processes of a node, arguments separated by blanks.
pub(crate) fn command_lines(node: &Node) -> Vec<String> {
    let read = |pid: u32| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let shown = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).replace('\0', " ");
    node.processes().into_iter().map(read).map(shown).collect()
}

/// Waits until nothing runs on a node.
#[track_caller]
pub(crate) fn wait_empty(node: &Node) {
    let end = Instant::now() + PATIENCE;
    while !node.processes().is_empty() {
        assert!(Instant::now() < end, "{}: left over: {:?}", node.name(), command_lines(node));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// An lvsd that stays on the terminal.
#[derive(Debug)]
pub(crate) struct Lvsd {
    pub(crate) node: Node,
    pub(crate) process: Running,
    serial: Cell<u64>,
    markers: Cell<usize>,
}

impl Lvsd {
    /// Writes the configuration, starts `lvsd -n`, and waits until it answers.
    #[track_caller]
    pub(crate) fn start(node: &Node, config: &str) -> Self {
        Self::start_as(node, config, "lvsd -n")
    }

    /// The same with another command line.
    #[track_caller]
    pub(crate) fn start_as(node: &Node, config: &str, command: &str) -> Self {
        node.write(CONFIG, config);
        let process = node.spawn(command);
        let lvsd = Self { node: node.clone(), process, serial: 0.into(), markers: 0.into() };
        lvsd.wait_status("lvsd answers", |_| true);
        lvsd
    }

    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        status(&self.node).unwrap_or_else(|| panic!("no status; lvsd: {}", self.process.text()))
    }

    /// Waits for a status of which `wanted` holds.
    #[track_caller]
    pub(crate) fn wait_status(&self, about: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        wait(about, || status(&self.node).filter(&wanted))
    }

    /// Waits until the table, displayed, is this.
    #[track_caller]
    pub(crate) fn wait_shown(&self, shown: &str) {
        wait_shown(&self.node, shown);
    }

    /// Writes the configuration, with a serial number of its own, without a signal.
    #[track_caller]
    pub(crate) fn write(&self, config: &str) -> u64 {
        let serial = self.serial.get() + 1;
        self.serial.set(serial);
        self.node.write(CONFIG, format!("serial_no = {serial}\n{config}"));
        serial
    }

    /// Writes the configuration, sends SIGHUP, and waits until it is in force.
    #[track_caller]
    pub(crate) fn reload(&self, config: &str) {
        let serial = self.write(config);
        self.process.signal(Signal::SIGHUP);
        self.wait_status("the configuration is in force", |status| status["serial_no"] == serial);
    }

    /// The changes of the table that lvsd has logged so far (`-v`), less the program's name and the
    /// quotes. All that it and its monitor had to do before this call is done, and in it.
    #[track_caller]
    pub(crate) fn commands(&self) -> Vec<String> {
        // The status comes by way of the monitor, behind all that it had to say; the order that
        // changes nothing leaves a line in the log behind all that came before.
        let status = self.status();
        let block = &status["virtual_servers"][0];
        let (block, server) = (&block["name"], &block["servers"][0]["name"]);
        let label = format!("{}/{}", block.as_str().unwrap(), server.as_str().unwrap());
        let order = format!(r#"{{"command":"force","server":"{label}","to":"auto"}}"#);
        ask(&self.node, &order).unwrap();
        self.markers.set(self.markers.get() + 1);
        let marker = format!("operator: {label} back to the checks");
        self.process.wait_count(&marker, self.markers.get(), PATIENCE).unwrap();
        let text = self.process.text();
        let lines = text.lines().filter_map(|line| line.split_once("running command "));
        lines
            .map(|(_, command)| {
                let words = command.split(' ').skip(1).map(|word| word.trim_matches('"'));
                words.collect::<Vec<_>>().join(" ")
            })
            .collect()
    }

    /// The pid in the first line `create_monitor for LABEL running as pid N` after the first
    /// `skip` ones.
    #[track_caller]
    pub(crate) fn monitor(&self, label: &str, skip: usize) -> u32 {
        let text = format!("create_monitor for {label} running as pid ");
        let line = self.process.wait_count(&text, skip + 1, PATIENCE).unwrap();
        line.text.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// Tells it to end: status 0, our services gone from the table, files and processes gone.
    #[track_caller]
    pub(crate) fn stop(self, left: &str) {
        self.process.signal(Signal::SIGTERM);
        let status = self.process.wait_exit(PATIENCE).unwrap();
        assert!(status.success(), "{status}");
        assert_eq!(self.node.table().to_string(), left);
        for path in [SOCKET, "/run/lvs.pid"] {
            assert!(!self.node.path(path).exists(), "{path} is still there");
        }
        wait_empty(&self.node);
    }
}
