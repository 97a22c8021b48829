//! Two directors with pulse on both, real servers behind them, and a client that notices everything.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]
#![allow(dead_code, reason = "each target uses a part of it")]

use std::{
    fs,
    io::{BufRead, BufReader, Write as _},
    os::unix::net::UnixStream,
    time::Instant,
};

use lab::{
    AddressWatch, Behaviour, Counts, Flow, Method, NameServer, Node, PATIENCE, Prober, Site,
    TcpServer,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::director::{CONFIG, Virtual, command_lines, lives, lvs_cf, virtual_server, wait};

/// pulse's control socket, as a node sees it.
const SOCKET: &str = "/run/piranha/pulse.sock";
/// Where real servers tell their names (80 would be checked as HTTP), and where they send back what comes.
pub(crate) const WEB: u16 = 8080;
pub(crate) const ECHO: u16 = 7;

/// A site with two directors and two real servers.
pub(crate) struct Pair {
    pub(crate) site: Site,
    /// Which director has had which address.
    pub(crate) watch: AddressWatch,
    names: Vec<NameServer>,
    echoes: Vec<TcpServer>,
}

impl Pair {
    /// Everything but pulse.
    #[track_caller]
    pub(crate) fn new(method: Method) -> Self {
        let site = Site::new(method, 2, 2);
        let watch = site.lab.watch_addresses(&site.directors);
        let names = site.servers.iter().map(|node| node.name_server("0.0.0.0:8080")).collect();
        let echo = |node: &Node| node.tcp_server("0.0.0.0:7", Behaviour::Echo);
        let echoes = site.servers.iter().map(echo).collect();
        Self { site, watch, names, echoes }
    }

    /// A director, counted from 0: the first is the master.
    pub(crate) fn node(&self, index: usize) -> &Node {
        &self.site.directors[index]
    }

    /// The public and the private addresses of both.
    pub(crate) fn paths(&self) -> [(&'static str, &'static str); 2] {
        match self.site.method {
            Method::Nat => [("172.16.0.11", "172.16.0.12"), ("10.0.0.11", "10.0.0.12")],
            Method::Direct | Method::Tunnel => {
                [("10.0.0.11", "10.0.0.12"), ("192.168.0.11", "192.168.0.12")]
            }
        }
    }

    /// The global part of lvs.cf, with short times, and more lines.
    pub(crate) fn globals(&self, more: &[&str]) -> Vec<String> {
        let [public, private] = self.paths();
        let mut lines = vec![
            format!("primary = {}", public.0),
            format!("primary_private = {}", private.0),
            format!("backup = {}", public.1),
            format!("backup_private = {}", private.1),
            "service = lvs".to_owned(),
            "backup_active = 1".to_owned(),
            "heartbeat = 1".to_owned(),
            "heartbeat_port = 539".to_owned(),
        ];
        let own = |key: &str| more.iter().any(|line| line.starts_with(key));
        if !own("keepalive") {
            lines.extend(["keepalive = 200ms".to_owned(), "deadtime = 600ms".to_owned()]);
        }
        match self.site.method {
            Method::Nat => lines.extend([
                "network = nat".to_owned(),
                "nat_router = 10.0.0.254 eth1:1".to_owned(),
                "nat_nmask = 255.255.255.0".to_owned(),
            ]),
            Method::Direct => lines.push("network = direct".to_owned()),
            Method::Tunnel => lines.push("network = tunnel".to_owned()),
        }
        lines.extend(more.iter().map(ToString::to_string));
        lines
    }

    /// An active virtual server on the virtual address.
    pub(crate) fn block(&self, name: &str, port: u16) -> Virtual {
        virtual_server(name, port)
            .with("address", format!("{} eth0:1", self.site.vip))
            .with("vip_nmask", "255.255.255.0")
            .with("scheduler", "rr")
            .real_servers(1..=2, port)
    }

    /// lvs.cf: the web and the echo service, with more global lines.
    pub(crate) fn config(&self, more: &[&str]) -> String {
        self.config_of(more, &[self.block("web", WEB), self.block("echo", ECHO)])
    }

    /// lvs.cf with these blocks.
    pub(crate) fn config_of(&self, more: &[&str], blocks: &[Virtual]) -> String {
        let globals = self.globals(more);
        lvs_cf(&globals.iter().map(String::as_str).collect::<Vec<_>>(), blocks)
    }

    /// Writes lvs.cf on both nodes, in one step each.
    #[track_caller]
    pub(crate) fn write(&self, config: &str) {
        for node in &self.site.directors {
            crate::director::replace(&node.path(CONFIG), config);
        }
    }

    /// Starts the pair: the master becomes active, the backup inactive, and each knows the other.
    #[track_caller]
    pub(crate) fn start(&self, config: &str) {
        self.write(config);
        start(self.node(0));
        wait_state(self.node(0), "active");
        start(self.node(1));
        self.wait_settled(0);
    }

    /// Waits until this node is active and serves with all servers, the other is inactive, and each
    /// knows it.
    #[track_caller]
    pub(crate) fn wait_settled(&self, active: usize) {
        let other = 1 - active;
        let is = |index: usize, own: &str, partner: &str| {
            status(self.node(index)).is_some_and(|status| {
                status["node"]["state"] == own
                    && status["node"]["able"] == true
                    && status["partner"]["state"] == partner
            })
        };
        wait("the pair is settled", || is(active, "active", "inactive").then_some(()));
        wait("the pair is settled", || is(other, "inactive", "active").then_some(()));
        let name = format!("tcp {}:{WEB}", self.site.vip);
        self.node(active).wait_table(|table| table.count(&name) == 2, PATIENCE).unwrap();
    }

    /// The index of the node that is active.
    #[track_caller]
    pub(crate) fn active(&self) -> usize {
        let is = |index: &usize| state(self.node(*index)) == "active";
        wait("a node is active", || (0..2).find(is))
    }

    /// A client that opens connections without pause, and gets answers.
    #[track_caller]
    pub(crate) fn prober(&self) -> Prober {
        let prober = self.site.client.prober(&[&format!("{}:{WEB}", self.site.vip)]);
        prober.wait_answers(Instant::now(), 20, PATIENCE).unwrap();
        prober
    }

    /// A connection that lasts, through the virtual address.
    #[track_caller]
    pub(crate) fn flow(&self) -> Flow {
        let flow = self.site.client.flow(&format!("{}:{ECHO}", self.site.vip));
        flow.wait_alive(PATIENCE).unwrap();
        flow
    }

    /// Lets something happen after which this node is to serve, waits until it does, and says what a
    /// client saw of it.
    #[track_caller]
    pub(crate) fn takeover(&self, what: &str, to: usize, event: impl FnOnce()) {
        let prober = self.prober();
        let begun = Instant::now();
        event();
        let happened = Instant::now();
        let raised = self.watch.wait(self.node(to), self.site.vip, true, PATIENCE).unwrap();
        prober.wait_answers(raised.max(happened), 20, PATIENCE).unwrap();
        let gap = prober.gap(begun).as_millis();
        let Counts { refused, failed, lost, .. } = prober.counts_after(begun);
        let method = self.site.method;
        println!(
            "{method:?}, {what}: gap {gap} ms; refused {refused}, failed {failed}, lost {lost}"
        );
    }

    /// The same, and a connection that began before survives: which takes the sync daemon.
    #[track_caller]
    pub(crate) fn takeover_with_flow(&self, what: &str, to: usize, event: impl FnOnce()) {
        let flow = self.flow();
        let name = format!(" {} ", flow.local());
        let known = || {
            let listed = self.node(to).run("ipvsadm -L -n -c");
            let mut lines = listed.lines();
            lines.any(|line| line.contains("ESTABLISHED") && line.contains(&name)).then_some(())
        };
        wait("the connection is known on the other node", known);
        let begun = Instant::now();
        self.takeover(what, to, event);
        flow.wait_alive(PATIENCE).unwrap();
        println!("    the old connection stalled for {} ms", flow.stall(begun).as_millis());
        // Nor does it break later, by what was under way.
        flow.wait_alive(PATIENCE).unwrap();
    }

    /// Never have two nodes had the virtual address at once.
    #[track_caller]
    pub(crate) fn assert_never_both(&self) {
        let overlaps = self.watch.overlaps(self.site.vip);
        assert!(overlaps.is_empty(), "{overlaps:?}:\n{}", self.watch.shown());
    }

    /// Ends pulse on both nodes, which leaves nothing behind.
    #[track_caller]
    pub(crate) fn stop(&self) {
        let order = if self.active() == 0 { [1, 0] } else { [0, 1] };
        for index in order {
            stop(self.node(index));
            assert_clean(self.node(index), self.site.vip);
        }
    }
}

/// Starts pulse as a daemon.
#[track_caller]
pub(crate) fn start(node: &Node) {
    node.run("pulse -v");
}

/// pulse's pid, by its file.
#[track_caller]
pub(crate) fn pid(node: &Node) -> i32 {
    let read = || fs::read_to_string(node.path("/run/pulse.pid")).ok()?.trim().parse().ok();
    wait("pulse.pid", read)
}

/// Sends pulse a signal.
#[track_caller]
pub(crate) fn signal(node: &Node, signal: Signal) {
    kill(Pid::from_raw(pid(node)), signal).unwrap();
}

/// Kills pulse, waits until it is gone, and takes its pid file away as a reboot would.
#[track_caller]
pub(crate) fn kill_pulse(node: &Node) {
    let pid = pid(node);
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    wait("pulse is gone", || (!lives(pid.cast_unsigned())).then_some(()));
}

/// Ends pulse, and waits until nothing runs any more.
#[track_caller]
pub(crate) fn stop(node: &Node) {
    signal(node, Signal::SIGTERM);
    crate::director::wait_empty(node);
    assert!(!node.path("/run/pulse.pid").exists(), "{}: pid file", node.name());
    assert!(!node.path(SOCKET).exists(), "{}: control socket", node.name());
}

/// The node has no virtual address and no table.
#[track_caller]
pub(crate) fn assert_clean(node: &Node, vip: &str) {
    let addresses = node.run("ip -oneline addr");
    assert!(!addresses.contains(&format!(" {vip}/")), "{}: {addresses}", node.name());
    assert!(!addresses.contains(" 10.0.0.254/"), "{}: {addresses}", node.name());
    assert_eq!(node.table().to_string(), "", "{}", node.name());
}

/// The same, as soon as it may be.
#[track_caller]
pub(crate) fn wait_clean(node: &Node, vip: &str) {
    node.wait_address("eth0", vip, false, PATIENCE).unwrap();
    node.wait_table(|table| table.services.is_empty(), PATIENCE).unwrap();
    assert_clean(node, vip);
}

/// One request to pulse's control socket; `None` when nobody answers.
pub(crate) fn ask(node: &Node, command: &str) -> Option<Value> {
    let mut stream = UnixStream::connect(node.path(SOCKET)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(format!("{{\"command\":\"{command}\"}}\n").as_bytes()).ok()?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).ok()?;
    serde_json::from_str(&answer).ok()
}

/// pulse's status.
pub(crate) fn status(node: &Node) -> Option<Value> {
    ask(node, "status")
}

/// What it says of itself: `active`, …; empty when it does not answer.
pub(crate) fn state(node: &Node) -> String {
    let status = status(node).unwrap_or_default();
    status["node"]["state"].as_str().unwrap_or_default().to_owned()
}

#[track_caller]
pub(crate) fn wait_state(node: &Node, wanted: &str) {
    wait(&format!("{} is {wanted}", node.name()), || (state(node) == wanted).then_some(()));
}

/// Waits for a status of which `wanted` holds.
#[track_caller]
pub(crate) fn wait_status(node: &Node, about: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    wait(&format!("{}: {about}", node.name()), || status(node).filter(&wanted))
}

/// The pid of the program that pulse runs.
#[track_caller]
pub(crate) fn child(node: &Node) -> i32 {
    let status = wait_status(node, "a child", |status| status["child"]["pid"].is_number());
    i32::try_from(status["child"]["pid"].as_i64().unwrap()).unwrap()
}

/// Whether a program of this name runs on a node.
pub(crate) fn runs(node: &Node, name: &str) -> bool {
    let is = |line: &String| line.split(' ').next().is_some_and(|word| word.ends_with(name));
    command_lines(node).iter().any(is)
}
