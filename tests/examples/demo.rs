//! The suite's main job, shown on a real kernel: the site that most of its users run, in network
//! namespaces. A client, a pair of directors with two NICs each, two nginx servers behind them by NAT,
//! and an lvs.cf in the form in which the original's page wrote it, with http, https by a check script,
//! and the gateway of the servers. See scripts/demo, which runs it. Ends with 0 if everything was as it
//! should be.

use lab::{Counts, Kind, Method, Node, Prober, Running, Site};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const SITE: &str = include_str!("../data/site.cf");
const SCRIPT: &str = include_str!("../data/lvs-check-https.sh");
const HA: &str = "/etc/sysconfig/ha";
const VIP: &str = "172.16.0.100";
const GATEWAY: &str = "10.0.0.254";
const HTTP: &str = "tcp 172.16.0.100:80";
const HTTPS: &str = "tcp 172.16.0.100:443";
/// How long the demonstration waits for anything.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the client and the servers open a connection.
const INTERVAL: Duration = Duration::from_millis(4);

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    lab::require_ipvs();
    match demo() {
        Ok(()) => {
            println!("\nThe demonstration is over; everything was as it should be.");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("\nFAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<()> {
    let site = Site::new(Method::Nat, 2, 2);
    step(
        "The site: client 172.16.0.10; directors d1 172.16.0.11 / 10.0.0.11 and d2 172.16.0.12 / \
         10.0.0.12; servers 10.0.0.21 and .22",
    );
    let mut web: Vec<Web> = site.servers.iter().map(Web::start).collect();
    for director in &site.directors {
        director.shell("iptables -t nat -A POSTROUTING -s 10.0.0.0/24 -o eth0 -j MASQUERADE");
        director.write(format!("{HA}/lvs.cf"), SITE);
        director.write(format!("{HA}/lvs-check-https.sh"), SCRIPT);
        director.shell(&format!("chmod 755 {HA}/lvs-check-https.sh"));
    }
    show(SITE);
    shown(&site.directors[0], "piranhactl check")?;
    start(&site)?;
    servers_fail_and_return(&site, &mut web)?;
    operator_acts(&site)?;
    directors_fail_and_return(&site)?;
    stop(&site)
}

/// pulse on both, until the master serves with everything.
fn start(site: &Site) -> Result<()> {
    step("pulse starts on both directors");
    let [d1, d2] = &site.directors[..] else { return Err("two directors".into()) };
    let heartbeats = d2.capture_only("eth1", Kind::Udp(539));
    for director in &site.directors {
        shown(director, "pulse")?;
    }
    d1.wait_address("eth0", VIP, true, PATIENCE)?;
    d1.wait_address("eth1", GATEWAY, true, PATIENCE)?;
    for service in [HTTP, HTTPS] {
        wait_servers(d1, service, 2)?;
    }
    heartbeats.wait_count(|_| true, 4, PATIENCE)?;
    for director in &site.directors {
        show_log(director);
    }
    shown(d1, "ip -brief -4 addr")?;
    shown(d1, "ipvsadm -L -n")?;
    for director in &site.directors {
        shown(director, "piranhactl status")?;
    }

    step("The client: curl, wget, and who answers");
    shown(&site.client, "curl -s http://172.16.0.100/")?;
    shown(&site.client, "curl -s -k https://172.16.0.100/")?;
    shown(&site.client, "wget -q -O - http://172.16.0.100/")?;
    let spread = site.spread(80, 20);
    println!("    20 requests: {spread:?}");
    expect(spread.keys().eq(["rs1", "rs2"]), "both servers answer, and nobody else")
}

fn servers_fail_and_return(site: &Site, web: &mut [Web]) -> Result<()> {
    let director = &site.directors[0];
    let clients = Clients::new(site)?;
    step("A server dies: nginx on rs1 is killed while the client asks without pause");
    let died = Instant::now();
    web[0].kill();
    wait_servers(director, HTTP, 1)?;
    wait_servers(director, HTTPS, 1)?;
    let out = Instant::now();
    clients.report("until it was out of the table", died);
    clients.outside.wait_answers(out, 40, PATIENCE)?;
    // What was under way when it left the table may still have failed.
    let settled = Instant::now();
    clients.outside.wait_answers(settled, 40, PATIENCE)?;
    let after = clients.report("afterwards", settled);
    expect(no_trouble(&after), "once the server is out, no request fails")?;
    expect(after.answered.keys().eq(["rs2"]), "the other server answers alone")?;
    shown(director, "piranhactl status")?;

    step("It comes back: the re-entry time of 15 s, at a check every 6 s, is two checks in a row");
    let back = Instant::now();
    web[0] = Web::start(&site.servers[0]);
    wait_servers(director, HTTP, 2)?;
    wait_servers(director, HTTPS, 2)?;
    clients.outside.wait_answers(Instant::now(), 40, PATIENCE)?;
    let counts = clients.report("meanwhile", back);
    expect(no_trouble(&counts), "no request fails while it comes back")
}

fn operator_acts(site: &Site) -> Result<()> {
    let director = &site.directors[0];
    let clients = Clients::new(site)?;
    step("The operator drains rs2, and gives it back to the checks");
    shown(director, "piranhactl down http/rp2")?;
    wait_servers(director, HTTP, 1)?;
    clients.outside.wait_answers(Instant::now(), 40, PATIENCE)?;
    let drained = Instant::now();
    clients.outside.wait_answers(drained, 40, PATIENCE)?;
    let counts = clients.report("meanwhile", drained);
    expect(counts.answered.keys().eq(["rs1"]), "only rs1 answers")?;
    shown(director, "piranhactl auto http/rp2")?;
    wait_servers(director, HTTP, 2)?;

    step("A reload with another scheduler, on both directors, under load");
    let begun = Instant::now();
    let text = SITE.replacen("scheduler = wlc", "scheduler = rr", 2);
    for director in &site.directors {
        director.write(format!("{HA}/lvs.cf"), &text);
        shown(director, "piranhactl reload")?;
    }
    wait_table(director, |t| t.contains("rr"))?;
    clients.outside.wait_answers(Instant::now(), 40, PATIENCE)?;
    let counts = clients.report("meanwhile", begun);
    expect(no_trouble(&counts), "no request fails during a reload")?;
    shown(director, "ipvsadm -L -n")?;

    step("The servers reach the outside through the redundant gateway 10.0.0.254");
    shown(&site.servers[0], "curl -s http://172.16.0.10:8000/")?;
    Ok(())
}

fn directors_fail_and_return(site: &Site) -> Result<()> {
    let [d1, d2] = &site.directors[..] else { return Err("two directors".into()) };
    let clients = Clients::new(site)?;

    step("The operator hands over to d2, and back");
    for (from, to) in [(d1, d2), (d2, d1)] {
        let begun = Instant::now();
        shown(from, "piranhactl handover")?;
        serves(to, from)?;
        clients.served("during the handover", begun)?;
    }

    step("pulse on d1 is killed: SIGKILL");
    let begun = Instant::now();
    kill(Pid::from_raw(pulse_pid(d1)?), Signal::SIGKILL)?;
    serves(d2, d1)?;
    clients.served("around the crash (deadtime is 3 s)", begun)?;
    wait_nothing_runs(d1)?;
    expect(d1.table().services.is_empty(), "nothing of it is left on d1")?;
    show_log(d2);
    shown(d2, "piranhactl status")?;
    step("It is started again, and does not take back");
    shown(d1, "pulse")?;
    wait_state(d1, "inactive")?;
    expect(d2.has_address("eth0", VIP), "d2 goes on serving")?;

    step("The power of d2 fails");
    let begun = Instant::now();
    d2.unplug("eth0");
    d2.unplug("eth1");
    d2.kill_all();
    d1.wait_address("eth0", VIP, true, PATIENCE)?;
    clients.served("around the power failure (deadtime is 3 s)", begun)?;
    step("It is back: what it had is gone, and it stands by");
    d2.shell("ip addr flush dev eth0 label eth0:1; ip addr flush dev eth1 label eth1:1");
    d2.run("ipvsadm -C");
    d2.plug("eth0");
    d2.plug("eth1");
    shown(d2, "pulse")?;
    wait_state(d2, "inactive")?;
    wait_state(d1, "active")?;
    shown(d1, "piranhactl status")?;
    for (name, side) in [("client", &clients.outside), ("rs2", &clients.inside)] {
        let counts = side.counts();
        println!("    {name}, all in all: {}", in_words(&counts));
    }
    Ok(())
}

fn stop(site: &Site) -> Result<()> {
    let [d1, d2] = &site.directors[..] else { return Err("two directors".into()) };
    step("pulse ends on d1: d2 takes over at once; then on d2");
    let clients = Clients::new(site)?;
    let begun = Instant::now();
    kill(Pid::from_raw(pulse_pid(d1)?), Signal::SIGTERM)?;
    serves(d2, d1)?;
    clients.served("while d1 ended", begun)?;
    drop(clients);
    kill(Pid::from_raw(pulse_pid(d2)?), Signal::SIGTERM)?;
    for director in [d1, d2] {
        wait_nothing_runs(director)?;
        let table = shown(director, "ipvsadm -L -n")?;
        expect(table.lines().count() == 3, "the table is empty")?;
        let addresses = shown(director, "ip -brief -4 addr")?;
        expect(!addresses.contains(VIP) && !addresses.contains(GATEWAY), "the addresses are down")?;
        let daemons = director.run("ipvsadm -L --daemon");
        expect(daemons.trim().is_empty(), "no sync daemon is left")?;
        expect(!director.path("/run/pulse.pid").exists(), "no pid file is left")?;
    }
    Ok(())
}

/// A client outside that asks the virtual server, and a server inside that asks the outside through the
/// gateway, each by a new connection every few milliseconds.
struct Clients {
    outside: Prober,
    inside: Prober,
    _target: lab::TcpServer,
}

impl Clients {
    fn new(site: &Site) -> Result<Clients> {
        let answer = lab::Behaviour::http("the outside\n");
        let target = site.client.tcp_server("172.16.0.10:8000", answer);
        let outside = site.client.http_prober(INTERVAL, &["172.16.0.100:80"]);
        let inside = site.servers[1].http_prober(INTERVAL, &["172.16.0.10:8000"]);
        for side in [&outside, &inside] {
            side.wait_answers(Instant::now(), 10, PATIENCE)?;
        }
        Ok(Clients { outside, inside, _target: target })
    }

    /// Waits until both get answers again, and says what they noticed since `begun`.
    fn served(&self, when: &str, begun: Instant) -> Result<()> {
        let now = Instant::now();
        for (name, side) in [("client", &self.outside), ("rs2, to the outside", &self.inside)] {
            side.wait_answers(now, 20, PATIENCE)?;
            let (gap, counts) = (side.gap(begun).as_millis(), in_words(&side.counts_after(begun)));
            println!("    {name}, {when}: no answer for {gap} ms at the longest; {counts}");
        }
        Ok(())
    }

    /// Says what the client noticed since `from`.
    fn report(&self, when: &str, from: Instant) -> Counts {
        let counts = self.outside.counts_after(from);
        let gap = self.outside.gap(from).as_millis();
        println!("    {when}: {}; no answer for {gap} ms at the longest", in_words(&counts));
        counts
    }
}

fn in_words(counts: &Counts) -> String {
    let Counts { answered, refused, failed, lost } = counts;
    let answers: Vec<String> = answered.iter().map(|(name, n)| format!("{name} {n}")).collect();
    let answers = answers.join(", ");
    format!("answers: {answers}; refused {refused}, failed {failed}, lost {lost}")
}

fn no_trouble(counts: &Counts) -> bool {
    counts.refused + counts.failed + counts.lost == 0
}

fn step(text: &str) {
    println!("\n=== {text}");
}

fn show(text: &str) {
    for line in text.lines() {
        println!("    {line}");
    }
}

/// Shows what pulse and lvsd of a node have logged.
fn show_log(node: &Node) {
    println!("    {}# tail /var/log/messages", node.name());
    let lines = node.syslog().lines();
    for line in lines.iter().rev().take(12).rev() {
        println!("    {line}");
    }
}

/// Runs a program on a node, shows what it printed, and expects success.
fn shown(node: &Node, command: &str) -> Result<String> {
    println!("    {}# {command}", node.name());
    let output = node.output(command);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    show(&text);
    show(&String::from_utf8_lossy(&output.stderr));
    if output.status.success() {
        Ok(text)
    } else {
        Err(format!("{command}: {}", output.status).into())
    }
}

fn expect(holds: bool, what: &str) -> Result<()> {
    println!("    {} {what}", if holds { "yes:" } else { "NO:" });
    if holds { Ok(()) } else { Err(format!("it does not hold that {what}").into()) }
}

/// Waits until one director has the addresses and all servers, and the other one nothing.
fn serves(new: &Node, old: &Node) -> Result<()> {
    for (nic, address) in [("eth0", VIP), ("eth1", GATEWAY)] {
        old.wait_address(nic, address, false, PATIENCE)?;
        new.wait_address(nic, address, true, PATIENCE)?;
    }
    for service in [HTTP, HTTPS] {
        wait_servers(new, service, 2)?;
    }
    println!("    {} serves", new.name());
    Ok(())
}

fn wait_servers(node: &Node, service: &str, count: usize) -> Result<()> {
    node.wait_table(|t| t.count(service) == count, PATIENCE)?;
    Ok(())
}

fn wait_table(node: &Node, fits: impl Fn(&str) -> bool) -> Result<()> {
    wait_for("the table", || fits(&node.run("ipvsadm -S -n")))
}

fn wait_nothing_runs(node: &Node) -> Result<()> {
    wait_for("no process", || node.processes().is_empty())
}

/// Waits until pulse says that it is `active` or `inactive`.
fn wait_state(node: &Node, wanted: &str) -> Result<()> {
    let text = format!("\"state\":\"{wanted}\"");
    wait_for(wanted, || {
        let output = node.output("piranhactl status --json");
        let said = String::from_utf8_lossy(&output.stdout).replace([' ', '\n'], "");
        said.split_once("\"node\":").is_some_and(|(_, node)| {
            node.split('}').next().is_some_and(|node| node.contains(&text))
        })
    })
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() > until {
            return Err(format!("still not: {what}").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn pulse_pid(node: &Node) -> Result<i32> {
    Ok(std::fs::read_to_string(node.path("/run/pulse.pid"))?.trim().parse()?)
}

/// nginx on a real server, http and https, answering with the server's name.
struct Web {
    process: Running,
}

impl Web {
    fn start(node: &Node) -> Web {
        let dir = node.dir().join("web");
        let (dir_text, name) = (dir.display().to_string(), node.name());
        node.shell(&format!(
            "mkdir -p {dir_text} && cd {dir_text} && [ -e key.pem ] || openssl req -x509 -newkey ec \
             -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=site -keyout key.pem \
             -out cert.pem 2>/dev/null"
        ));
        let config = format!(
            "daemon off; pid {dir_text}/pid; error_log stderr; worker_processes 1;
             events {{ worker_connections 1024; }}
             http {{ access_log off; default_type text/plain;
               client_body_temp_path {dir_text}/t1; proxy_temp_path {dir_text}/t2;
               fastcgi_temp_path {dir_text}/t3; uwsgi_temp_path {dir_text}/t4; scgi_temp_path {dir_text}/t5;
               server {{ listen 80; listen 443 ssl;
                 ssl_certificate {dir_text}/cert.pem; ssl_certificate_key {dir_text}/key.pem;
                 location / {{ return 200 \"{name}\\n\"; }} }} }}"
        );
        node.write(dir.join("nginx.conf"), config);
        Web { process: node.spawn(format!("nginx -e stderr -c {dir_text}/nginx.conf")) }
    }

    fn kill(&mut self) {
        self.process.signal_group(Signal::SIGKILL);
    }
}
