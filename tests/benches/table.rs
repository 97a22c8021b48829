//! From a configuration to the kernel's table, at 100, 1,000 and 10,000 real servers: lvsd with its
//! nanny, keepalived with the equivalent file, `ipvsadm -R`, and a bare netlink loop as the floor.
//! One run on one kernel, which must have IPVS; prints Markdown. See scripts/bench.
//!
//! Real servers are addresses of the loopback device, all served by one listener, so that what is
//! measured is the director's work and not a network's. The check is a TCP connect every
//! [`INTERVAL`] seconds, ten servers to a virtual server.

mod floor;

use health::engine::Limits;
use health::pool::{Pool, SCALE};
use health::recipe::{Action, Recipe};
use health::state::Force;
use health::wire::{Group, Server};
use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Real servers of each virtual server.
const PER_SERVICE: u32 = 10;
/// Seconds between the checks of a server.
const INTERVAL: u32 = 10;
const PORT: u16 = 8080;
/// How often the table is looked at while it fills, at the most. A look at ten thousand servers takes
/// 20 ms of the guest's one CPU, so that the pauses grow with the time that is measured, to a tenth of
/// it; what is measured is late by that much at the most.
const LOOK: Duration = Duration::from_millis(10);
/// When something is taken to hang.
const PATIENCE: Duration = Duration::from_secs(180);

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let sizes = sizes()?;
    lab::require_ipvs();
    run(&["ip", "link", "set", "lo", "up"])?;
    run(&["ip", "route", "add", "local", "10.1.0.0/16", "dev", "lo"])?;
    fs::write("/proc/sys/net/ipv4/tcp_max_syn_backlog", "65536")?;
    fs::write("/proc/sys/net/core/somaxconn", "65535")?;
    serve()?;
    let mut columns = Vec::new();
    for servers in sizes {
        eprintln!("{servers} servers");
        columns.push(measure(servers)?);
    }
    print!("{}", report(&columns));
    Ok(())
}

/// The numbers of servers given as arguments, else the usual three.
fn sizes() -> Result<Vec<u32>> {
    // cargo adds --bench.
    let given: Vec<u32> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .map(|a| a.parse())
        .collect::<std::result::Result<_, _>>()?;
    Ok(if given.is_empty() { vec![100, 1_000, 10_000] } else { given })
}

/// What was measured with one number of servers.
struct Column {
    servers: u32,
    floor: Duration,
    checks: Duration,
    ipvsadm: Duration,
    ours: Measured,
    keepalived: Measured,
    keepalived_unchecked: Duration,
}

/// What was measured of one director.
struct Measured {
    full: Duration,
    all_weights: Duration,
    nothing_cpu: Duration,
    rss_kib: u64,
    cpu_per_check: Duration,
}

fn measure(servers: u32) -> Result<Column> {
    let floor = floor::fill(servers)?;
    let ipvsadm = time_ipvsadm(servers)?;
    let checks = time_checks(servers)?;
    let ours = measure_director(&Lvsd::new()?, servers)?;
    let keepalived = measure_director(&Keepalived { alpha: true }, servers)?;
    let keepalived_unchecked = time_full(&Keepalived { alpha: false }, servers)?;
    Ok(Column { servers, floor, checks, ipvsadm, ours, keepalived, keepalived_unchecked })
}

fn vip(service: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a09_0000 + service + 1)
}

fn rip(server: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a01_0000 + server + 1)
}

/// All virtual servers with their real servers.
fn site(servers: u32) -> impl Iterator<Item = (Ipv4Addr, Vec<Ipv4Addr>)> {
    (0..servers.div_ceil(PER_SERVICE)).map(move |service| {
        let first = service * PER_SERVICE;
        (vip(service), (first..servers.min(first + PER_SERVICE)).map(rip).collect())
    })
}

fn run(words: &[&str]) -> Result<()> {
    let status = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(format!("{}: {status}", words.join(" ")).into()) }
}

fn clear() -> Result<()> {
    run(&["ipvsadm", "-C"])
}

/// Accepts and closes connections to every address, for ever.
fn serve() -> io::Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&std::net::SocketAddr::from(([0, 0, 0, 0], PORT)).into())?;
    socket.listen(65_535)?;
    std::thread::spawn(move || while socket.accept().is_ok() {});
    Ok(())
}

fn time_ipvsadm(servers: u32) -> Result<Duration> {
    let mut rules = String::new();
    for (vip, rips) in site(servers) {
        writeln!(rules, "-A -t {vip}:{PORT} -s wlc")?;
        for rip in rips {
            writeln!(rules, "-a -t {vip}:{PORT} -r {rip}:{PORT} -m -w 1")?;
        }
    }
    let file = scratch("rules");
    fs::write(&file, rules)?;
    let began = Instant::now();
    let status = Command::new("ipvsadm").arg("-R").stdin(fs::File::open(&file)?).status()?;
    let took = began.elapsed();
    if !status.success() || entries()? != (servers, servers) {
        return Err("ipvsadm -R did not fill the table".into());
    }
    clear()?;
    Ok(took)
}

/// The first checks alone: no table.
fn time_checks(servers: u32) -> Result<Duration> {
    let began = Instant::now();
    let mut pool = Pool::new(Limits::of_this_process(), SCALE)?;
    pool.set_group(
        Group {
            id: 1,
            name: "bench".to_owned(),
            virtual_server: String::new(),
            recipe: Recipe {
                action: Action::Exchange { send: None, expect: None },
                interval_ms: INTERVAL * 1000,
            },
            udp: false,
            reentry: 1,
            quiesce: false,
            load: None,
        },
        began,
    );
    for id in 0..servers {
        let (group, addr, weight) = (1, rip(id).into(), 1);
        let server =
            Server { id, group, addr, port: PORT, weight, known: None, force: Force::Auto };
        pool.set_server(&server, began);
    }
    let mut up = 0;
    while up < servers {
        up += u32::try_from(pool.run(Instant::now()).iter().filter(|s| s.up).count())?;
        if began.elapsed() > PATIENCE {
            return Err("the checks do not end".into());
        }
    }
    Ok(began.elapsed())
}

/// A director that can be measured.
trait Director {
    fn config(&self, servers: u32, weight: u32) -> String;
    fn command(&self, config: &Path) -> Command;
    fn name(&self) -> &'static str;
}

struct Lvsd {
    program: PathBuf,
}

impl Lvsd {
    fn new() -> Result<Lvsd> {
        let bin = std::env::var("PIRANHA_BIN").map_err(|_| "PIRANHA_BIN: where lvsd was built")?;
        Ok(Lvsd { program: Path::new(&bin).join("lvsd") })
    }
}

impl Director for Lvsd {
    fn config(&self, servers: u32, weight: u32) -> String {
        let mut text = "primary = 10.9.255.1\nnetwork = nat\n".to_owned();
        for (at, (vip, rips)) in site(servers).enumerate() {
            let _ = write!(
                text,
                "virtual v{at} {{\n active = 1\n address = {vip} lo:{at}\n port = {PORT}\n \
                 timeout = {INTERVAL}\n"
            );
            for rip in rips {
                let _ = write!(
                    text,
                    " server s{rip} {{\n  address = {rip}\n  active = 1\n  weight = {weight}\n }}\n"
                );
            }
            text.push_str("}\n");
        }
        text
    }

    fn command(&self, config: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["--nofork", "-c"]).arg(config).arg("--control").arg(scratch("control"));
        command
    }

    fn name(&self) -> &'static str {
        "lvsd"
    }
}

struct Keepalived {
    /// Servers enter when their check has succeeded, as with lvsd.
    alpha: bool,
}

impl Director for Keepalived {
    fn config(&self, servers: u32, weight: u32) -> String {
        let mut text = "global_defs {\n checker_log_all_failures false\n}\n".to_owned();
        let alpha = if self.alpha { " alpha\n" } else { "" };
        for (vip, rips) in site(servers) {
            let _ = write!(
                text,
                "virtual_server {vip} {PORT} {{\n delay_loop {INTERVAL}\n lvs_sched wlc\n \
                 lvs_method NAT\n protocol TCP\n{alpha}"
            );
            for rip in rips {
                let _ = write!(
                    text,
                    " real_server {rip} {PORT} {{\n  weight {weight}\n  TCP_CHECK {{\n   \
                     connect_timeout {INTERVAL}\n   warmup 0\n  }}\n }}\n"
                );
            }
            text.push_str("}\n");
        }
        text
    }

    fn command(&self, config: &Path) -> Command {
        let mut command = Command::new("keepalived");
        command.args(["--dont-fork", "--check", "--pid"]).arg(scratch("kp.pid"));
        command.arg("--checkers_pid").arg(scratch("kc.pid")).arg("--use-file").arg(config);
        command
    }

    fn name(&self) -> &'static str {
        "keepalived"
    }
}

fn scratch(name: &str) -> PathBuf {
    Path::new("/run").join(format!("bench-{name}"))
}

/// A director that runs, in a process group of its own.
struct Running {
    child: Child,
    config: PathBuf,
    began: Instant,
}

impl Running {
    fn start(director: &dyn Director, servers: u32) -> Result<Running> {
        let config = scratch("config");
        fs::write(&config, director.config(servers, 1))?;
        let mut command = director.command(&config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let began = Instant::now();
        Ok(Running { child: command.spawn()?, config, began })
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or(i32::MAX)
    }

    /// The pids of the group.
    fn pids(&self) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            let behind = stat.rsplit(')').next().unwrap_or_default();
            let group = behind.split_whitespace().nth(2).and_then(|w| w.parse::<i32>().ok());
            // lvsd's nanny stays in its group; a session of its own would not be seen.
            if group == Some(self.pid()) || parent(behind) == Some(self.pid()) {
                pids.push(pid);
            }
        }
        Ok(pids)
    }

    fn cpu(&self) -> Result<Duration> {
        let mut sum = Duration::ZERO;
        for pid in self.pids()? {
            let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid))?;
            sum += Duration::from(clock_gettime(clock)?);
        }
        Ok(sum)
    }

    fn rss_kib(&self) -> Result<u64> {
        let mut sum = 0;
        for pid in self.pids()? {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap_or_default();
            sum += line.split_whitespace().next().unwrap_or("0").parse::<u64>()?;
        }
        Ok(sum)
    }

    /// Waits until so many servers are in the table and so many of them have this weight.
    fn wait(&self, what: &str, servers: u32, weight: u32, began: Instant) -> Result<Duration> {
        loop {
            if entries_with(weight)? == (servers, servers) {
                return Ok(began.elapsed());
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("{what}: not done after {PATIENCE:?}").into());
            }
            sleep(LOOK.max(began.elapsed() / 10));
        }
    }

    fn reload(&self, director: &dyn Director, servers: u32, weight: u32) -> Result<Instant> {
        fs::write(&self.config, director.config(servers, weight))?;
        let began = Instant::now();
        kill(Pid::from_raw(self.pid()), Signal::SIGHUP)?;
        Ok(began)
    }

    fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(self.pid()), Signal::SIGTERM)?;
        self.child.wait()?;
        clear()
    }
}

fn parent(behind: &str) -> Option<i32> {
    behind.split_whitespace().nth(1)?.parse().ok()
}

/// Servers in the table, and those of them with weight 1.
fn entries() -> Result<(u32, u32)> {
    entries_with(1)
}

/// Servers in the table, and those of them with this weight, from /proc/net/ip_vs: one read, and no
/// parsing beyond what is asked.
fn entries_with(weight: u32) -> Result<(u32, u32)> {
    let text = fs::read_to_string("/proc/net/ip_vs")?;
    let rows = text.lines().filter(|l| l.starts_with("  -> ") && !l.contains("RemoteAddress"));
    let (mut all, mut fitting) = (0, 0);
    for row in rows {
        all += 1;
        let found = row.split_whitespace().nth(3).and_then(|w| w.parse::<u32>().ok());
        fitting += u32::from(found == Some(weight));
    }
    Ok((all, fitting))
}

fn time_full(director: &dyn Director, servers: u32) -> Result<Duration> {
    let running = Running::start(director, servers)?;
    let full = running.wait(director.name(), servers, 1, running.began)?;
    running.stop()?;
    Ok(full)
}

fn measure_director(director: &dyn Director, servers: u32) -> Result<Measured> {
    let running = Running::start(director, servers)?;
    let full = running.wait(director.name(), servers, 1, running.began)?;
    eprintln!("  {}: full after {full:?}", director.name());
    // Past the first round of checks and what start-up leaves to do.
    let round = Duration::from_secs(u64::from(INTERVAL));
    sleep(round);
    let before = running.cpu()?;
    sleep(round);
    let first = running.cpu()? - before;
    let rss_kib = running.rss_kib()?;
    // A reload of the same file: what a round costs more with it than the rounds around it.
    let before = running.cpu()?;
    running.reload(director, servers, 1)?;
    sleep(round);
    let with_reload = running.cpu()? - before;
    let before = running.cpu()?;
    sleep(round);
    let steady = (first + running.cpu()? - before) / 2;
    let nothing_cpu = with_reload.saturating_sub(steady);
    let began = running.reload(director, servers, 2)?;
    let all_weights = running.wait(director.name(), servers, 2, began)?;
    running.stop()?;
    Ok(Measured { full, all_weights, nothing_cpu, rss_kib, cpu_per_check: steady / servers })
}

fn report(columns: &[Column]) -> String {
    let mut text = String::from("| |");
    for column in columns {
        let _ = write!(text, " {} servers |", column.servers);
    }
    text.push_str("\n|---|");
    text.push_str(&"---:|".repeat(columns.len()));
    text.push('\n');
    let mut row = |name: &str, value: &dyn Fn(&Column) -> String| {
        let cells: Vec<String> = columns.iter().map(value).collect();
        let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
    };
    row("bare netlink loop (the floor), ms", &|c| millis(c.floor));
    row("the first checks alone, ms", &|c| millis(c.checks));
    row("`ipvsadm -R`, ms", &|c| millis(c.ipvsadm));
    row("full table after start: lvsd, ms", &|c| millis(c.ours.full));
    row("… over floor and first checks", &|c| ratio(c.ours.full, c.floor + c.checks));
    row("full table after start: keepalived (alpha), ms", &|c| millis(c.keepalived.full));
    row("… over lvsd", &|c| ratio(c.keepalived.full, c.ours.full));
    row("full table, unchecked: keepalived, ms", &|c| millis(c.keepalived_unchecked));
    row("reload, all weights changed: lvsd, ms", &|c| millis(c.ours.all_weights));
    row("reload, all weights changed: keepalived, ms", &|c| millis(c.keepalived.all_weights));
    row("… over lvsd", &|c| ratio(c.keepalived.all_weights, c.ours.all_weights));
    row("reload, nothing changed: lvsd, CPU ms", &|c| millis(c.ours.nothing_cpu));
    row("reload, nothing changed: keepalived, CPU ms", &|c| millis(c.keepalived.nothing_cpu));
    row("CPU per check: lvsd and nanny, µs", &|c| micros(c.ours.cpu_per_check));
    row("CPU per check: keepalived, µs", &|c| micros(c.keepalived.cpu_per_check));
    row("… over lvsd", &|c| ratio(c.keepalived.cpu_per_check, c.ours.cpu_per_check));
    row("resident: lvsd and nanny, KiB", &|c| c.ours.rss_kib.to_string());
    row("resident: keepalived, KiB", &|c| c.keepalived.rss_kib.to_string());
    if let (Some(small), Some(large)) = (columns.first(), columns.last())
        && large.servers > small.servers
    {
        let per = |of: &dyn Fn(&Column) -> u64| {
            let more = of(large).saturating_sub(of(small)) * 1024;
            more / u64::from(large.servers - small.servers)
        };
        let _ = writeln!(
            text,
            "\nResident memory per server, from {} to {} servers: lvsd and nanny {} bytes, \
             keepalived {} bytes.",
            small.servers,
            large.servers,
            per(&|c| c.ours.rss_kib),
            per(&|c| c.keepalived.rss_kib)
        );
    }
    text
}

fn millis(d: Duration) -> String {
    format!("{:.1}", d.as_secs_f64() * 1e3)
}

fn micros(d: Duration) -> String {
    format!("{:.1}", d.as_secs_f64() * 1e6)
}

fn ratio(a: Duration, b: Duration) -> String {
    format!("{:.2}×", a.as_secs_f64() / b.as_secs_f64())
}
