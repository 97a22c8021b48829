//! From lvs.cf to the kernel's table: every forwarding method, protocol and scheduler, with and
//! without persistence. What is expected is what ipvsadm(8) makes of commands written down here, in
//! a network of its own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod director;

use std::path::Path;

use director::{Lvsd, VIP, Virtual, lvs_cf, script, virtual_server, wait};
use lab::{Method, Node, PATIENCE, Site, nat_site};

const SCHEDULERS: [&str; 8] = ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh"];
const PROTOCOLS: [&str; 3] = ["tcp", "udp", "fwmark"];
const METHODS: [Method; 3] = [Method::Nat, Method::Direct, Method::Tunnel];
/// Where the real servers listen.
const SERVER_PORT: u16 = 8080;

/// A block of lvs.cf and the options of ipvsadm that say the same.
struct Case {
    block: Virtual,
    /// `-t 172.16.0.100:1000`
    key: String,
    /// `-s rr -p 300`
    options: String,
}

fn case(number: u16, protocol: &str, scheduler: &str, persistence: u16) -> Case {
    let port = 1000 + number;
    let mut block = virtual_server(&format!("v{number}"), port).with("scheduler", scheduler);
    let key = match protocol {
        "tcp" => format!("-t {VIP}:{port}"),
        "udp" => {
            block = block.with("protocol", "udp");
            format!("-u {VIP}:{port}")
        }
        _ => {
            block = block.with("fwmark", number + 1);
            format!("-f {}", number + 1)
        }
    };
    let mut options = format!("-s {scheduler}");
    if persistence > 0 {
        block = block.with("persistent", 300 + number);
        options += &format!(" -p {}", 300 + number);
    }
    if persistence > 1 {
        let mask = ["255.255.255.0", "255.255.0.0", "255.255.255.128"][usize::from(number % 3)];
        block = block.with("pmask", mask);
        options += &format!(" -M {mask}");
    }
    Case { block, key, options }
}

/// Every protocol and scheduler, each without persistence, with it, and with a mask.
fn all_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for protocol in PROTOCOLS {
        for scheduler in SCHEDULERS {
            for persistence in 0..3 {
                let number = u16::try_from(cases.len()).unwrap();
                cases.push(case(number, protocol, scheduler, persistence));
            }
        }
    }
    cases
}

/// As lvs.cf and as ipvsadm call it.
fn words(method: Method) -> (&'static str, &'static str) {
    match method {
        Method::Nat => ("nat", "-m"),
        Method::Direct => ("direct", "-g"),
        Method::Tunnel => ("tunnel", "-i"),
    }
}

/// The weights of the two servers of block `number`: all of 1 at first, as servers begin.
fn weights(number: usize, round: usize) -> [u32; 2] {
    if round == 0 {
        return [1, 1];
    }
    let weights = [0, 1, 2, 3, 10, 100, 255, 65_535];
    [weights[(number + round) % 8], weights[(number / 8 + 3 * round) % 8]]
}

/// The lvs.cf of these cases, and the commands that make the same table.
fn config(cases: &[Case], method: Method, round: usize, globals: &[&str]) -> (String, String) {
    let (network, letter) = words(method);
    let mut rules = String::new();
    let mut blocks = Vec::new();
    for (number, Case { block, key, options }) in cases.iter().enumerate() {
        let [first, second] = weights(number, round);
        rules += &format!("-A {key} {options}\n");
        rules += &format!("-a {key} -r 10.0.0.21:{SERVER_PORT} {letter} -w {first}\n");
        rules += &format!("-a {key} -r 10.0.0.22:{SERVER_PORT} {letter} -w {second}\n");
        let block = block.clone().real_servers(1..=2, SERVER_PORT);
        let block = block.change("s1", |server| server.with("weight", first));
        blocks.push(block.change("s2", |server| server.with("weight", second)));
    }
    let network = format!("network = {network}");
    let globals: Vec<&str> = globals.iter().copied().chain([network.as_str()]).collect();
    (lvs_cf(&globals, &blocks), rules)
}

/// What ipvsadm saves of a table, in order.
fn saved(node: &Node) -> Vec<String> {
    let mut lines: Vec<String> = node.run("ipvsadm -S -n").lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// A node on which ipvsadm alone makes tables.
struct Reference(Node);

impl Reference {
    fn new(site: &Site) -> Self {
        Self(site.lab.node("reference").build())
    }

    /// Waits until a node's table is what these commands make, as ipvsadm saves it and lists it.
    #[track_caller]
    fn wait_same(&self, node: &Node, rules: &str) {
        self.0.shell(&format!("ipvsadm -C\nipvsadm -R 2>/dev/null <<END\n{rules}END\n"));
        let end = std::time::Instant::now() + PATIENCE;
        loop {
            // The kernel lists a table by counting through those of all networks: what another test
            // changes meanwhile can have an entry listed twice or not at all. So both are read anew.
            let (wanted, found) = (saved(&self.0), saved(node));
            let complete = wanted.len() == rules.lines().count();
            if complete && found == wanted && node.table().to_string() == self.0.table().to_string()
            {
                return;
            }
            if std::time::Instant::now() > end {
                assert!(complete, "ipvsadm did not take every command: {wanted:#?}");
                let extra: Vec<_> = found.iter().filter(|line| !wanted.contains(line)).collect();
                let missing: Vec<_> = wanted.iter().filter(|line| !found.contains(line)).collect();
                panic!(
                    "{} after {PATIENCE:?}: too much {extra:#?}, missing {missing:#?}",
                    node.name()
                );
            }
        }
    }
}

#[test]
fn every_combination_stands_in_the_table_as_ipvsadm_would_put_it_there() {
    let site = nat_site(2);
    let d1 = &site.directors[0];
    let _web = site.web(SERVER_PORT);
    let reference = Reference::new(&site);
    let cases = all_cases();
    assert_eq!(cases.len(), 72);

    let (text, rules) = config(&cases, Method::Nat, 0, &[]);
    let lvsd = Lvsd::start(d1, &text);
    reference.wait_same(d1, &rules);
    // From one method to the next, with other weights, by reloads.
    for (round, method) in (1..).zip(METHODS.into_iter().cycle().take(4)) {
        let (text, rules) = config(&cases, method, round, &[]);
        lvsd.reload(&text);
        reference.wait_same(d1, &rules);
    }
    let status = lvsd.status();
    for (number, block) in status["virtual_servers"].as_array().unwrap().iter().enumerate() {
        assert_eq!(block["name"], format!("v{number}"));
        assert_eq!((&block["up"], &block["in_kernel"]), (&2.into(), &true.into()), "{block:#}");
        assert_eq!((&block["forwarding"], &block["problem"]), (&"nat".into(), &().into()));
        for server in block["servers"].as_array().unwrap() {
            assert_eq!(server["weight_kernel"], server["weight"], "{block:#}");
        }
    }
    lvsd.stop("");
}

#[test]
fn servers_that_fail_and_what_stands_in_for_them() {
    let site = nat_site(2);
    let d1 = &site.directors[0];
    let reference = Reference::new(&site);
    let flag = d1.dir().join("well");
    std::fs::write(&flag, "").unwrap();
    // In each protocol a block whose servers are quiesced while the flag is away, and one whose
    // servers never come.
    let program = format!("\"/usr/bin/test -e {}\"", flag.display());
    let cases: Vec<Case> = (0..).zip(PROTOCOLS).map(|(n, p)| case(n, p, "wlc", 0)).collect();
    let sorry: Vec<Case> = (3..).zip(PROTOCOLS).map(|(n, p)| case(n, p, "rr", 0)).collect();
    let config = |method: Method, weight: u32, timeouts: &[&str]| {
        let (network, letter) = words(method);
        let (mut blocks, mut rules) = (Vec::new(), String::new());
        for Case { block, key, options } in &cases {
            let block = block.clone().with("quiesce_server", 1).with("send_program", &program);
            blocks.push(block.real_servers(1..=1, SERVER_PORT));
            rules += &format!(
                "-A {key} {options}\n-a {key} -r 10.0.0.21:{SERVER_PORT} {letter} -w {weight}\n"
            );
        }
        for (port, Case { block, key, options }) in (1003..).zip(&sorry) {
            let block = block.clone().with("sorry_server", "10.0.0.22");
            let block = block.with("send_program", "/bin/false");
            blocks.push(block.real_servers(1..=1, SERVER_PORT));
            // It listens where the virtual server does.
            rules += &format!("-A {key} {options}\n-a {key} -r 10.0.0.22:{port} {letter} -w 1\n");
        }
        let network = format!("network = {network}");
        let globals: Vec<&str> = timeouts.iter().copied().chain([network.as_str()]).collect();
        (lvs_cf(&globals, &blocks), rules)
    };
    let shown = || d1.run("ipvsadm -L --timeout");
    let before = shown();
    assert!(before.starts_with("Timeout (tcp tcpfin udp): 900 120 300"), "{before}");

    let (text, rules) = config(Method::Nat, 1, &["tcp_timeout = 600", "udp_timeout = 60"]);
    let lvsd = Lvsd::start(d1, &text);
    reference.wait_same(d1, &rules);
    assert_eq!(shown(), before.replace("900 120 300", "600 120 60"));
    for method in [Method::Direct, Method::Tunnel, Method::Nat] {
        std::fs::remove_file(&flag).unwrap();
        let (text, rules) = config(method, 0, &["tcpfin_timeout = 30"]);
        lvsd.reload(&text);
        reference.wait_same(d1, &rules);
        // 0 leaves a timeout as it is.
        assert_eq!(shown(), before.replace("900 120 300", "600 30 60"));
        std::fs::write(&flag, "").unwrap();
        reference.wait_same(d1, &config(method, 1, &[]).1);
    }
    let status = lvsd.status();
    for number in 3..6 {
        let block = &status["virtual_servers"][number];
        assert_eq!((&block["up"], &block["sorry_active"]), (&0.into(), &true.into()), "{block:#}");
    }
    lvsd.stop("");
    assert_eq!(d1.syslog().count("No real servers; activate sorry_server 10.0.0.22"), 3);
}

#[test]
fn a_program_of_the_operators_own_gets_every_change_and_makes_the_same_table() {
    let site = nat_site(2);
    let d1 = &site.directors[0];
    let _web = site.web(SERVER_PORT);
    let reference = Reference::new(&site);
    let log = d1.path("/run/wrap/log");
    script(
        d1,
        Path::new("/run/wrapper"),
        "#!/bin/sh\nmkdir -p /run/wrap\necho \"$*\" >>/run/wrap/log\nexec /sbin/ipvsadm \"$@\"",
    );
    let changes = || -> Vec<String> {
        let text = std::fs::read_to_string(&log).unwrap();
        let reads = ["-L ", "-S "];
        let changes = text.lines().filter(|line| !reads.iter().any(|read| line.starts_with(read)));
        changes.map(str::to_owned).collect()
    };
    // Each protocol with each scheduler, with persistence here and there.
    let cases: Vec<Case> = all_cases().into_iter().step_by(4).collect();
    let program = "ipvsadm = /run/wrapper";
    let (text, rules) = config(&cases, Method::Nat, 0, &[program, "tcp_timeout = 600"]);
    let lvsd = Lvsd::start(d1, &text);
    reference.wait_same(d1, &rules);
    let mut wanted: Vec<String> = rules.lines().map(str::to_owned).collect();
    let made = changes();
    // Timeouts and a clear table come first, the rest in the order of the file and of the checks.
    assert_eq!(made[..2], ["--set 600 0 0", "-C"]);
    let services = rules.lines().filter(|line| line.starts_with("-A")).count();
    let in_order: Vec<&str> = rules.lines().filter(|line| line.starts_with("-A")).collect();
    assert_eq!(made[2..2 + services], in_order);
    let mut rest = made[2..].to_vec();
    rest.sort();
    wanted.sort();
    assert_eq!(rest, wanted);

    // One weight: one command.
    let heavier = text.replacen("weight = 1\n", "weight = 7\n", 1);
    lvsd.reload(&heavier);
    let command = format!("-e {} -r 10.0.0.21:{SERVER_PORT} -m -w 7", cases[0].key);
    wait(&command, || (changes().len() > made.len()).then_some(()));
    assert_eq!(changes()[made.len()..], [command]);

    // Back to netlink, which leaves the program alone and the table as it is.
    lvsd.reload(&heavier.replace(program, ""));
    let lines = changes().len();
    let (_, rules) = config(&cases, Method::Nat, 0, &[]);
    reference.wait_same(d1, &rules.replacen("-w 1\n", "-w 7\n", 1));
    lvsd.stop("");
    assert_eq!(changes().len(), lines);
}
