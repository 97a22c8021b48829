//! What a client notices when the active one of two directors dies, or gives up: pulse and lvsd against
//! keepalived, for 1, 64 and 256 virtual addresses with 10,000 real servers in all, by NAT. One run on
//! one kernel, which must have IPVS; prints Markdown. See scripts/bench.
//!
//! Both have the same time to find out: keepalived sends five advertisements a second and believes its
//! partner dead after [`DEADTIME`], as its protocol prescribes for priority 100 (RFC 5798, 6.1); pulse
//! has that as its deadtime. All real servers are addresses of one machine, behind one listener.

use lab::{Kind, Lab, NameServer, Node, Prober, TimedOut};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Real servers in all.
const SERVERS: u32 = 10_000;
const PORT: u16 = 8080;
/// Between two heartbeats or advertisements, in milliseconds.
const KEEPALIVE: u32 = 200;
/// Three intervals, and the skew of priority 100: 156/256 of one.
const DEADTIME: u32 = 3 * KEEPALIVE + KEEPALIVE * 156 / 256;
/// Seconds between the checks of a server.
const INTERVAL: u32 = 60;
/// How often each trouble is made.
const ROUNDS: usize = 3;
/// When something is taken to hang.
const PATIENCE: Duration = Duration::from_secs(120);

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    lab::require_ipvs();
    let sizes = sizes()?;
    let mut table = Vec::new();
    for director in [
        &Ours { standby_checks: true } as &dyn Director,
        &Ours { standby_checks: false },
        &Keepalived,
    ] {
        for addresses in &sizes {
            eprintln!("{}, {addresses} addresses", director.name());
            table.push((director.name(), *addresses, measure(director, *addresses)?));
        }
    }
    print!("{}", report(&sizes, &table));
    Ok(())
}

/// The numbers of addresses given as arguments, else the usual three.
fn sizes() -> Result<Vec<u32>> {
    // cargo adds --bench.
    let given: Vec<u32> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .map(|a| a.parse())
        .collect::<std::result::Result<_, _>>()?;
    Ok(if given.is_empty() { vec![1, 64, 256] } else { given })
}

/// What was measured of one director and one number of addresses, a value for each round.
#[derive(Default)]
struct Measured {
    /// Client's gap when all of a node is gone at once.
    crash: Vec<Duration>,
    /// From the end of the deadtime, counted from the last heartbeat seen, to the first answers on
    /// every address that was probed.
    work: Vec<Duration>,
    /// Client's gap when a node is told to stop.
    stop: Vec<Duration>,
    /// Client's gap at a handover.
    handover: Vec<Duration>,
}

/// The site: a client, two directors, and one machine that is all real servers.
struct World {
    client: Node,
    directors: [Node; 2],
    _names: NameServer,
    // The last, since it ends what is left on the nodes.
    _lab: Lab,
}

impl World {
    fn new() -> World {
        let lab = Lab::new("failover");
        let client = lab.node("client").nic("eth0", "wan", &["172.16.0.10/16"]).build();
        let director = |k: u32| {
            lab.node(&format!("d{k}"))
                .private("/etc/sysconfig/ha")
                .private("/dev/shm")
                .nic("eth0", "wan", &[&format!("172.16.0.1{k}/16")])
                .nic("eth1", "lan", &[&format!("10.0.0.1{k}/24")])
                .route("10.1.0.0/16 via 10.0.0.21")
                .sysctl("net.ipv4.ip_forward", 1)
                .sysctl("net.ipv4.conf.all.promote_secondaries", 1)
                .build()
        };
        let directors = [director(1), director(2)];
        let farm = lab
            .node("farm")
            .nic("eth0", "lan", &["10.0.0.21/24"])
            .route("default via 10.0.0.254")
            .route("local 10.1.0.0/16 dev lo")
            .build();
        let names = farm.name_server(&format!("0.0.0.0:{PORT}"));
        World { client, directors, _names: names, _lab: lab }
    }
}

/// Virtual address number `at`, from 0.
fn vip(at: u32) -> String {
    format!("172.16.{}.{}", 1 + at / 250, 1 + at % 250)
}

/// The real servers of virtual address number `at` of so many.
fn rips(at: u32, addresses: u32) -> impl Iterator<Item = String> {
    (at..SERVERS)
        .step_by(usize::try_from(addresses).unwrap_or(usize::MAX))
        .map(|server| format!("10.1.{}.{}", server / 250, 1 + server % 250))
}

/// A suite that makes two nodes one director.
trait Director {
    fn name(&self) -> &'static str;
    /// Writes its configuration.
    fn configure(&self, node: &Node, addresses: u32);
    /// Starts it on a node, as a daemon.
    fn start(&self, node: &Node);
    /// Whether a node that is not active is as ready as it gets.
    fn stands_by(&self, node: &Node) -> bool;
    /// Tells it to stop.
    fn stop(&self, node: &Node) -> Result<()>;
    /// Gives the other node its task and waits for that; false where there is no such thing.
    fn hand_over(&self, node: &Node) -> Result<bool>;
    /// What its nodes tell each other that they live.
    fn heartbeat(&self) -> Kind;
}

struct Ours {
    standby_checks: bool,
}

impl Director for Ours {
    fn name(&self) -> &'static str {
        if self.standby_checks { "pulse, standby_checks = 1" } else { "pulse, standby_checks = 0" }
    }

    fn configure(&self, node: &Node, addresses: u32) {
        let mut text = format!(
            "primary = 172.16.0.11\nprimary_private = 10.0.0.11\nbackup = 172.16.0.12\n\
             backup_private = 10.0.0.12\nservice = lvs\nbackup_active = 1\nheartbeat = 1\n\
             keepalive = {KEEPALIVE}ms\ndeadtime = {DEADTIME}ms\nnetwork = nat\n\
             nat_router = 10.0.0.254 eth1:1\nnat_nmask = 255.255.255.0\nstandby_checks = {}\n",
            u8::from(self.standby_checks)
        );
        for at in 0..addresses {
            let _ = write!(
                text,
                "virtual v{at} {{\n active = 1\n address = {} eth0:{}\n vip_nmask = 255.255.0.0\n \
                 port = {PORT}\n timeout = {INTERVAL}\n scheduler = rr\n",
                vip(at),
                at + 1
            );
            for rip in rips(at, addresses) {
                let _ = write!(text, " server s{rip} {{\n  address = {rip}\n  active = 1\n }}\n");
            }
            text.push_str("}\n");
        }
        node.write("/etc/sysconfig/ha/lvs.cf", text);
    }

    fn start(&self, node: &Node) {
        node.run("pulse");
    }

    fn stands_by(&self, node: &Node) -> bool {
        let pulse = ask(node, "pulse", "status").unwrap_or_default();
        if !pulse.contains("\"state\":\"inactive\"") {
            return false;
        }
        // A server counts when its first check has passed.
        let up = || ask(node, "lvsd", "status").map(|text| text.matches("\"up\":true").count());
        !self.standby_checks || (up() == usize::try_from(SERVERS).ok() && rows(node) == SERVERS)
    }

    fn stop(&self, node: &Node) -> Result<()> {
        signal(node, "/run/pulse.pid", Signal::SIGTERM)
    }

    fn hand_over(&self, node: &Node) -> Result<bool> {
        let answer = ask(node, "pulse", "handover").ok_or("pulse does not answer")?;
        if answer.contains("\"ok\"") { Ok(true) } else { Err(answer.into()) }
    }

    fn heartbeat(&self) -> Kind {
        Kind::Udp(539)
    }
}

struct Keepalived;

impl Director for Keepalived {
    fn name(&self) -> &'static str {
        "keepalived"
    }

    fn configure(&self, node: &Node, addresses: u32) {
        let interval = f64::from(KEEPALIVE) / 1000.0;
        let mut text = format!(
            "global_defs {{\n vrrp_version 3\n checker_log_all_failures false\n}}\n\
             vrrp_instance pair {{\n state BACKUP\n nopreempt\n interface eth0\n \
             virtual_router_id 51\n priority 100\n advert_int {interval}\n virtual_ipaddress {{\n  \
             {}/16 dev eth0\n }}\n virtual_ipaddress_excluded {{\n  10.0.0.254/24 dev eth1\n",
            vip(0)
        );
        for at in 1..addresses {
            let _ = writeln!(text, "  {}/16 dev eth0", vip(at));
        }
        text.push_str(" }\n}\n");
        for at in 0..addresses {
            let _ = write!(
                text,
                "virtual_server {} {PORT} {{\n delay_loop {INTERVAL}\n lvs_sched rr\n \
                 lvs_method NAT\n protocol TCP\n",
                vip(at)
            );
            for rip in rips(at, addresses) {
                let _ = write!(
                    text,
                    " real_server {rip} {PORT} {{\n  weight 1\n  TCP_CHECK {{\n   \
                     connect_timeout 5\n   warmup 0\n  }}\n }}\n"
                );
            }
            text.push_str("}\n");
        }
        node.write("/etc/sysconfig/ha/keepalived.conf", text);
    }

    fn start(&self, node: &Node) {
        node.run("keepalived --use-file /etc/sysconfig/ha/keepalived.conf --pid /run/k.pid");
    }

    fn stands_by(&self, node: &Node) -> bool {
        // It has its table whether it is active or not, and its servers before they are checked.
        rows(node) == SERVERS
    }

    fn stop(&self, node: &Node) -> Result<()> {
        signal(node, "/run/k.pid", Signal::SIGTERM)
    }

    fn hand_over(&self, _node: &Node) -> Result<bool> {
        Ok(false)
    }

    fn heartbeat(&self) -> Kind {
        // VRRP.
        Kind::Ipv4(112)
    }
}

fn signal(node: &Node, file: &str, signal: Signal) -> Result<()> {
    let pid = std::fs::read_to_string(node.path(file))?.trim().parse()?;
    Ok(kill(Pid::from_raw(pid), signal)?)
}

/// One request to a control socket.
fn ask(node: &Node, program: &str, command: &str) -> Option<String> {
    let socket = format!("/run/piranha/{program}.sock");
    let mut stream = UnixStream::connect(node.path(socket)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(format!("{{\"command\":\"{command}\"}}\n").as_bytes()).ok()?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).ok()?;
    Some(answer)
}

/// Real servers in a node's table. Not by /proc/net/ip_vs, which leaves entries out where more than one
/// network has a table.
fn rows(node: &Node) -> u32 {
    let text = node.run("ipvsadm -L -n");
    u32::try_from(text.lines().filter(|l| l.starts_with("  -> 10.")).count()).unwrap_or(u32::MAX)
}

fn wait(what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    let began = Instant::now();
    while !holds() {
        if began.elapsed() > PATIENCE {
            return Err(format!("{what}: not after {PATIENCE:?}").into());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// Waits until all servers are in a node's table.
fn wait_full(node: &Node, when: &str) -> Result<()> {
    wait("a full table", || rows(node) == SERVERS).map_err(|e| {
        let (name, rows) = (node.name(), rows(node));
        format!("{e}, {when}: {rows} of {SERVERS} servers on {name}").into()
    })
}

fn measure(director: &dyn Director, addresses: u32) -> Result<Measured> {
    let world = World::new();
    let [d1, d2] = &world.directors;
    for node in [d1, d2] {
        director.configure(node, addresses);
    }
    director.start(d1);
    d1.wait_address("eth0", &vip(addresses - 1), true, PATIENCE)?;
    wait_full(d1, "at the start")?;
    director.start(d2);
    let mut measured = Measured::default();
    for round in 1..=ROUNDS {
        let quiet = || -> Result<()> {
            wait("the other node stands by", || director.stands_by(d2))?;
            // The five announcements of the last change are out, and so are the first checks.
            std::thread::sleep(Duration::from_secs(6));
            Ok(())
        };
        quiet()?;
        crash(director, &world, addresses, &mut measured)?;
        // d2 is active. What was on d1 goes with its power; it comes back and stands by.
        for (nic, net) in [("eth0", "172.16.0.11/16"), ("eth1", "10.0.0.11/24")] {
            d1.ip(&format!("addr flush dev {nic}\naddr add {net} dev {nic}"));
        }
        d1.ip("route replace 10.1.0.0/16 via 10.0.0.21");
        d1.run("ipvsadm -C");
        d1.reconnect();
        director.start(d1);
        wait("the old node stands by", || director.stands_by(d1))?;
        std::thread::sleep(Duration::from_secs(6));

        // And back, by stopping the other.
        let prober = prober(&world.client, addresses)?;
        let began = Instant::now();
        director.stop(d2)?;
        served(&prober, d1, addresses, began)?;
        measured.stop.push(prober.gap(began));
        drop(prober);
        wait("it has ended", || d2.processes().is_empty())?;
        wait_full(d1, "after the stop of the other node")?;
        director.start(d2);

        quiet()?;
        let prober = crate::prober(&world.client, addresses)?;
        let began = Instant::now();
        if director.hand_over(d1)? {
            served(&prober, d2, addresses, began)?;
            measured.handover.push(prober.gap(began));
            wait("the other node stands by", || director.stands_by(d1))?;
            wait_full(d2, "after a handover")?;
            std::thread::sleep(Duration::from_secs(6));
            director.hand_over(d2)?;
            served(&prober, d1, addresses, Instant::now())?;
            wait_full(d1, "after a handover back")?;
        }
        let last = |values: &[Duration]| values.last().map_or_else(String::new, |d| millis(*d));
        eprintln!(
            "  round {round}: crash {}, stop {}, handover {} ms",
            last(&measured.crash),
            last(&measured.stop),
            last(&measured.handover)
        );
    }
    Ok(measured)
}

/// A client that probes the first, the middle and the last address.
fn prober(client: &Node, addresses: u32) -> Result<Prober> {
    let mut wanted = vec![0, addresses / 2, addresses - 1];
    wanted.dedup();
    let targets: Vec<String> = wanted.iter().map(|at| format!("{}:{PORT}", vip(*at))).collect();
    let prober = client.prober(&targets.iter().map(String::as_str).collect::<Vec<_>>());
    prober.wait_answers(Instant::now(), 100, PATIENCE)?;
    Ok(prober)
}

/// Waits until a node has the last address, and new connections are answered on every one.
fn served(
    prober: &Prober,
    node: &Node,
    addresses: u32,
    after: Instant,
) -> std::result::Result<(), TimedOut> {
    node.wait_address("eth0", &vip(addresses - 1), true, PATIENCE)?;
    prober.wait_answers(after.max(Instant::now()), 100, PATIENCE)
}

/// Everything of d1 is gone at once, as when its power fails: first from the network, then its
/// processes.
fn crash(
    director: &dyn Director,
    world: &World,
    addresses: u32,
    measured: &mut Measured,
) -> Result<()> {
    let [d1, d2] = &world.directors;
    let beats = d2.capture_only("eth0", director.heartbeat());
    let prober = prober(&world.client, addresses)?;
    let d1_mac = d1.mac("eth0");
    // Right behind a heartbeat, so that every round begins alike and the client waits longest.
    let from_d1 = |frame: &lab::Frame| frame.source() == d1_mac;
    let cut = d1.prepare_cut_off();
    // It starts in 30 ms.
    std::thread::sleep(Duration::from_millis(500));
    let ready = Instant::now();
    beats.wait(|frame| from_d1(frame) && frame.at > ready, PATIENCE)?;
    let began = Instant::now();
    cut.now();
    let last = beats.frames().into_iter().rfind(from_d1).map(|frame| frame.at);
    d1.kill_all();
    served(&prober, d2, addresses, began)?;
    let gap = prober.gap(began);
    // What was answered last, plus the gap, is when all were served again.
    let dead = last.unwrap_or(began) + Duration::from_millis(u64::from(DEADTIME));
    measured.crash.push(gap);
    measured.work.push(prober.recovered(began).saturating_duration_since(dead));
    wait_full(d2, "after the crash")?;
    Ok(())
}

fn millis(d: Duration) -> String {
    format!("{:.0}", d.as_secs_f64() * 1e3)
}

/// The median and the worst.
fn shown(values: &[Duration]) -> String {
    let mut values = values.to_vec();
    values.sort();
    match (values.get(values.len() / 2), values.last()) {
        (Some(median), Some(worst)) => format!("{} ({})", millis(*median), millis(*worst)),
        _ => "–".to_owned(),
    }
}

fn report(sizes: &[u32], table: &[(&'static str, u32, Measured)]) -> String {
    let mut text = String::from("| |");
    for size in sizes {
        let _ = write!(text, " {size} address{} |", if *size == 1 { "" } else { "es" });
    }
    text.push_str("\n|---|");
    text.push_str(&"---:|".repeat(sizes.len()));
    text.push('\n');
    type Field = fn(&Measured) -> &Vec<Duration>;
    let fields: [(&str, Field); 4] = [
        ("crash: no answers for", |m| &m.crash),
        ("… of it after the deadtime", |m| &m.work),
        ("stop: no answers for", |m| &m.stop),
        ("handover: no answers for", |m| &m.handover),
    ];
    let mut names: Vec<&str> = table.iter().map(|(name, ..)| *name).collect();
    names.dedup();
    for (what, field) in fields {
        for name in &names {
            let _ = write!(text, "| {what}: {name}, ms |");
            for (_, _, measured) in table.iter().filter(|(n, ..)| n == name) {
                let _ = write!(text, " {} |", shown(field(measured)));
            }
            text.push('\n');
        }
    }
    let _ = writeln!(text, "\nMedian of {ROUNDS}, and the worst. The deadtime is {DEADTIME} ms.");
    text
}
