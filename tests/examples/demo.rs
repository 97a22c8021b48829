//! The suite's main job, shown on a real kernel: the site that most of its users run, in network
//! namespaces. A client, a director with two NICs, two nginx servers behind it by NAT, and an lvs.cf
//! in the form in which the original's page wrote it, with http, https by a check script, and the
//! gateway of the servers. See scripts/demo, which runs it. Ends with 0 if everything was as it
//! should be.

use lab::{Method, Node, Running, Site};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const SITE: &str = include_str!("../data/site.cf");
const SCRIPT: &str = include_str!("../data/lvs-check-https.sh");
const HA: &str = "/etc/sysconfig/ha";
const HTTP: &str = "tcp 172.16.0.100:80";
const HTTPS: &str = "tcp 172.16.0.100:443";
/// How long the demonstration waits for anything.
const PATIENCE: Duration = Duration::from_secs(60);

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

fn step(text: &str) {
    println!("\n=== {text}");
}

fn show(text: &str) {
    for line in text.lines() {
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

fn demo() -> Result<()> {
    let site = Site::new(Method::Nat, 1, 2);
    let director = &site.directors[0];
    step(
        "The site: client 172.16.0.10, director 172.16.0.11 / 10.0.0.11, servers 10.0.0.21 and .22",
    );
    director.shell("iptables -t nat -A POSTROUTING -s 10.0.0.0/24 -o eth0 -j MASQUERADE");
    let mut web: Vec<Web> = site.servers.iter().map(Web::start).collect();
    director.write(format!("{HA}/lvs.cf"), SITE);
    director.write(format!("{HA}/lvs-check-https.sh"), SCRIPT);
    director.shell(&format!("chmod 755 {HA}/lvs-check-https.sh"));
    show(SITE);
    shown(director, "piranhactl check")?;

    step(
        "The virtual addresses come up (by hand: pulse is not part of this version yet), then lvsd",
    );
    site.activate(0);
    let lvsd = director.spawn("lvsd --nodaemon");
    for service in [HTTP, HTTPS] {
        wait_servers(director, service, 2)?;
    }
    show(&lvsd.text());
    shown(director, "ipvsadm -L -n")?;
    shown(director, "piranhactl status")?;

    step("The client: curl, wget, and who answers");
    shown(&site.client, "curl -s http://172.16.0.100/")?;
    shown(&site.client, "curl -s -k https://172.16.0.100/")?;
    shown(&site.client, "wget -q -O - http://172.16.0.100/")?;
    let spread = site.spread(80, 20);
    println!("    20 requests: {spread:?}");
    expect(spread.len() == 2, "both servers answer")?;

    step("A server dies: nginx on rs1 is killed while the client asks without pause");
    let during = watch(&site.client, |_| {
        web[0].kill();
        wait_servers(director, HTTP, 1)?;
        wait_servers(director, HTTPS, 1)
    })?;
    println!("    until it was out of the table: {during}");
    let after = watch(&site.client, |answered| wait_answers(answered, 40))?;
    println!("    afterwards: {after}");
    expect(after.errors == 0, "once the server is out, no request fails")?;
    expect(after.answers.keys().eq(["rs2"]), "the other server answers alone")?;
    shown(director, "piranhactl status")?;

    step("It comes back: the re-entry time of 15 s, at a check every 6 s, is two checks in a row");
    web[0] = Web::start(&site.servers[0]);
    let back = watch(&site.client, |_| {
        wait_servers(director, HTTP, 2)?;
        wait_servers(director, HTTPS, 2)
    })?;
    println!("    meanwhile: {back}");
    expect(back.errors == 0, "no request fails while it comes back")?;

    step("The operator drains rs2, and gives it back to the checks");
    shown(director, "piranhactl down http/rp2")?;
    wait_servers(director, HTTP, 1)?;
    let drained = watch(&site.client, |answered| wait_answers(answered, 40))?;
    println!("    meanwhile: {drained}");
    expect(drained.answers.keys().eq(["rs1"]), "only rs1 answers")?;
    shown(director, "piranhactl auto http/rp2")?;
    wait_servers(director, HTTP, 2)?;

    step("A reload with another scheduler, under load");
    let text = SITE.replacen("scheduler = wlc", "scheduler = rr", 2);
    director.write(format!("{HA}/lvs.cf"), &text);
    let reload = watch(&site.client, |_| {
        shown(director, "piranhactl reload")?;
        wait_table(director, |t| t.contains("rr"))
    })?;
    println!("    meanwhile: {reload}");
    expect(reload.errors == 0, "no request fails during a reload")?;
    shown(director, "ipvsadm -L -n")?;

    step("The servers reach the outside through the redundant gateway 10.0.0.254");
    let outside = site.client.tcp_server("172.16.0.10:8000", lab::Behaviour::http("the outside\n"));
    shown(&site.servers[0], "curl -s http://172.16.0.10:8000/")?;
    drop(outside);

    step("lvsd ends: its services leave the table");
    lvsd.signal(Signal::SIGTERM);
    let status = lvsd.wait_exit(PATIENCE)?;
    expect(status.success(), "lvsd ends with status 0")?;
    let table = shown(director, "ipvsadm -L -n")?;
    expect(table.lines().count() == 3, "the table is empty")?;
    expect(director.processes().is_empty(), "no process is left")?;
    Ok(())
}

fn expect(holds: bool, what: &str) -> Result<()> {
    println!("    {} {what}", if holds { "yes:" } else { "NO:" });
    if holds { Ok(()) } else { Err(format!("it does not hold that {what}").into()) }
}

fn wait_servers(node: &Node, service: &str, count: usize) -> Result<()> {
    node.wait_table(|t| t.count(service) == count, PATIENCE)?;
    Ok(())
}

fn wait_table(node: &Node, fits: impl Fn(&str) -> bool) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    while !fits(&node.run("ipvsadm -S -n")) {
        if Instant::now() > until {
            return Err("the table does not become what it should be".into());
        }
    }
    Ok(())
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
             events {{ worker_connections 256; }}
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

/// What a client saw that asked without pause.
#[derive(Debug, Default)]
struct Seen {
    answers: BTreeMap<String, usize>,
    errors: usize,
    longest: Duration,
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all: usize = self.answers.values().sum::<usize>() + self.errors;
        let answers: Vec<String> =
            self.answers.iter().map(|(name, count)| format!("{name} {count}")).collect();
        write!(
            f,
            "{all} requests, {} failed, answers: {}; longest time without an answer {} ms",
            self.errors,
            answers.join(", "),
            self.longest.as_millis()
        )
    }
}

/// Lets the client ask over and over, each time by a new connection, while `during` runs, which is
/// given the number of answers so far.
fn watch(client: &Node, during: impl FnOnce(&AtomicUsize) -> Result<()>) -> Result<Seen> {
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(client, &over, &answered));
        let result = during(&answered);
        over.store(true, Ordering::SeqCst);
        let seen = asking.join().map_err(|_| "the client failed")?;
        result.map(|()| seen)
    })
}

fn ask(client: &Node, over: &AtomicBool, answered: &AtomicUsize) -> Seen {
    let mut seen = Seen::default();
    let mut last = Instant::now();
    while !over.load(Ordering::SeqCst) {
        match client.get("http://172.16.0.100/") {
            Ok(response) if response.status == 200 => {
                *seen.answers.entry(response.body.trim().to_owned()).or_default() += 1;
                seen.longest = seen.longest.max(last.elapsed());
                last = Instant::now();
                answered.fetch_add(1, Ordering::SeqCst);
            }
            _ => seen.errors += 1,
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    seen.longest = seen.longest.max(last.elapsed());
    seen
}

/// Waits until so many more requests are answered.
fn wait_answers(answered: &AtomicUsize, count: usize) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    let enough = answered.load(Ordering::SeqCst) + count;
    while answered.load(Ordering::SeqCst) < enough {
        if Instant::now() > until {
            return Err("the client gets no answers".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
