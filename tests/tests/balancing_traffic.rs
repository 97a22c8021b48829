//! What clients see: answers through every forwarding method, each server its share, and
//! persistence.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod director;

use std::{collections::BTreeMap, net::UdpSocket};

use director::{Lvsd, VIP, Virtual, lvs_cf, virtual_server};
use lab::{
    Method, Node, PATIENCE, Site, TcpServer, UdpBehaviour, UdpServer, direct_site, nat_site,
    tunnel_site,
};

/// Ports of the virtual servers. Those from `SCHEDULERS` on: one for each scheduler.
const RR: u16 = 80;
const WRR: u16 = 81;
const PERSISTENT: u16 = 82;
const MASKED: u16 = 83;
const MARKED: [u16; 2] = [84, 85];
const DNS: u16 = 53;
const SCHEDULERS: [(u16, &str); 6] =
    [(90, "lc"), (91, "wlc"), (92, "lblc"), (93, "lblcr"), (94, "dh"), (95, "sh")];
/// Firewall marks: of the two ports of `MARKED` in TCP, and of UDP on port `MARKED_UDP`.
const MARK: u16 = 7;
const MARK_UDP: u16 = 8;
const MARKED_UDP: u16 = 54;

/// Everybody's answers.
type Counts = BTreeMap<String, usize>;

fn counts(counted: &[(&str, usize)]) -> Counts {
    counted.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

/// Who answers a client that asks the virtual server on a port so many times.
fn ask(site: &Site, client: &Node, port: u16, requests: usize) -> Counts {
    let url = format!("http://{}:{port}/", site.vip);
    let mut counts = Counts::new();
    for _ in 0..requests {
        let answer = client.get(&url).map_or_else(|e| e.to_string(), |response| response.body);
        *counts.entry(answer.trim_end().to_owned()).or_default() += 1;
    }
    counts
}

/// Sends a datagram from a new port and returns the answer.
fn datagram(site: &Site, port: u16, text: &str) -> String {
    site.client.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect((site.vip, port)).unwrap();
        socket.send(text.as_bytes()).unwrap();
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap_or_else(|e| panic!("port {port}: {e}"));
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    })
}

/// The web servers of every port, and UDP servers on both ports.
struct Servers {
    _web: Vec<TcpServer>,
    udp: Vec<UdpServer>,
}

impl Servers {
    fn start(site: &Site) -> Self {
        let ports = [RR, WRR, PERSISTENT, MASKED].into_iter().chain(MARKED);
        let ports = ports.chain(SCHEDULERS.map(|(port, _)| port));
        let web = ports.flat_map(|port| site.web(port)).collect();
        let mut udp = Vec::new();
        for (number, node) in (21..).zip(&site.servers) {
            // With NAT a packet arrives at the server's own address, else at the virtual one.
            let address = match site.method {
                Method::Nat => format!("10.0.0.{number}"),
                Method::Direct | Method::Tunnel => site.vip.to_owned(),
            };
            for port in [DNS, MARKED_UDP] {
                let name = UdpBehaviour::Answer(node.name().into());
                udp.push(node.udp_server(&format!("{address}:{port}"), name));
            }
        }
        Self { _web: web, udp }
    }
}

fn config(site: &Site, network: &str, weights: [u32; 3]) -> String {
    let block = |name: &str, port: u16, scheduler: &str| -> Virtual {
        let block = virtual_server(name, port).with("address", format!("{} eth0:1", site.vip));
        block.with("scheduler", scheduler).real_servers(1..=3, port)
    };
    let mut weighted = block("wrr", WRR, "wrr");
    for (number, weight) in (1..).zip(weights) {
        weighted = weighted.change(&format!("s{number}"), |server| server.with("weight", weight));
    }
    let masked = block("masked", MASKED, "rr").with("pmask", "255.255.255.0");
    let mut blocks = vec![
        block("rr", RR, "rr"),
        weighted,
        block("persistent", PERSISTENT, "rr").with("persistent", 60),
        masked.with("persistent", 60),
        block("marked", MARKED[0], "rr").with("fwmark", MARK).with("persistent", 60),
        block("dns", DNS, "rr").with("protocol", "udp"),
        block("marked-udp", MARKED_UDP, "rr").with("fwmark", MARK_UDP).with("protocol", "udp"),
    ];
    blocks.extend(SCHEDULERS.map(|(port, scheduler)| block(scheduler, port, scheduler)));
    lvs_cf(&[&format!("network = {network}")], &blocks)
}

/// Marks packets as users do: two ports of TCP by one mark, a port of UDP by another.
fn mark(site: &Site) {
    let vip = site.vip;
    let [first, second] = MARKED;
    site.directors[0].shell(&format!(
        "iptables -t mangle -A PREROUTING -d {vip}/32 -p tcp -m multiport --dports {first},{second} \
         -j MARK --set-mark {MARK}
         iptables -t mangle -A PREROUTING -d {vip}/32 -p udp --dport {MARKED_UDP} \
         -j MARK --set-mark {MARK_UDP}"
    ));
}

fn balances(site: &Site, network: &str, second_client: &str, nic: (&str, &str)) {
    site.activate(0);
    mark(site);
    let d1 = &site.directors[0];
    let mut servers = Servers::start(site);
    let lvsd = Lvsd::start(d1, &config(site, network, [1, 1, 1]));
    // Weights other than 1 grow over minutes when a server enters, and at once when the file says.
    lvsd.wait_status("every server is up", |status| {
        let blocks = status["virtual_servers"].as_array().unwrap();
        blocks.len() == 13 && blocks.iter().all(|block| block["up"] == 3)
    });
    lvsd.reload(&config(site, network, [1, 2, 3]));

    // Round robin deals out exactly.
    assert_eq!(ask(site, &site.client, RR, 12), counts(&[("rs1", 4), ("rs2", 4), ("rs3", 4)]));
    assert_eq!(ask(site, &site.client, WRR, 24), counts(&[("rs1", 4), ("rs2", 8), ("rs3", 12)]));
    tools_get_answers(site);

    persists(site, second_client, nic);
    for (port, scheduler) in SCHEDULERS {
        let answers = ask(site, &site.client, port, 6);
        assert_eq!(answers.values().sum::<usize>(), 6);
        assert!(answers.keys().all(|name| name.starts_with("rs")), "{scheduler}: {answers:?}");
        // One client and one address: hashes and locality lead to one server.
        let one = matches!(scheduler, "lblc" | "dh" | "sh");
        assert!(!one || answers.len() == 1, "{scheduler}: {answers:?}");
    }

    for port in [DNS, MARKED_UDP] {
        let mut answers = Counts::new();
        for _ in 0..9 {
            *answers.entry(datagram(site, port, "who?")).or_default() += 1;
        }
        assert_eq!(answers, counts(&[("rs1", 3), ("rs2", 3), ("rs3", 3)]), "port {port}");
    }
    for server in &mut servers.udp {
        server.set(UdpBehaviour::Echo);
    }
    for text in ["one", "two", "three"] {
        assert_eq!(datagram(site, DNS, text), text);
    }
    lvsd.stop("");
    // Nothing is left that would forward.
    assert_eq!(site.spread(RR, 1).keys().filter(|name| name.starts_with("rs")).count(), 0);
}

/// Other people's clients, which reuse nothing of ours.
fn tools_get_answers(site: &Site) {
    for tool in ["curl -s -S -m 10", "wget -q -t 1 -T 10 -O -"] {
        let answers: Vec<String> =
            (0..3).map(|_| site.client.run(format!("{tool} http://{}/", site.vip))).collect();
        let mut sorted = answers.clone();
        sorted.sort();
        assert_eq!(sorted, ["rs1\n", "rs2\n", "rs3\n"], "{tool}");
    }
}

/// A client stays on its server; another one of its network too where a mask says so; and a mark
/// makes one service of two ports.
fn persists(site: &Site, second_client: &str, (nic, segment): (&str, &str)) {
    let second = site.lab.node("second").nic(nic, segment, &[second_client]).build();
    let only = |answers: &Counts, requests: usize| -> String {
        assert_eq!(answers.len(), 1, "{answers:?}");
        let (name, count) = answers.iter().next().unwrap();
        assert!(name.starts_with("rs") && *count == requests, "{answers:?}");
        name.clone()
    };
    let first_server = only(&ask(site, &site.client, PERSISTENT, 6), 6);
    let second_server = only(&ask(site, &second, PERSISTENT, 6), 6);
    assert_ne!(first_server, second_server, "round robin goes on with the next client");

    let server = only(&ask(site, &site.client, MASKED, 4), 4);
    assert_eq!(only(&ask(site, &second, MASKED, 4), 4), server);

    let server = only(&ask(site, &site.client, MARKED[0], 4), 4);
    assert_eq!(only(&ask(site, &site.client, MARKED[1], 4), 4), server);
    assert_ne!(only(&ask(site, &second, MARKED[1], 4), 4), server);
}

#[test]
fn nat() {
    balances(&nat_site(3), "nat", "172.16.0.20/24", ("eth0", "wan"));
}

#[test]
fn direct_routing() {
    balances(&direct_site(3), "direct", "10.0.0.30/24", ("eth0", "lan"));
}

#[test]
fn tunnel() {
    balances(&tunnel_site(3), "tunnel", "10.0.0.30/24", ("eth0", "lan"));
}

#[test]
fn nat_leads_to_the_servers_own_port() {
    let site = nat_site(2);
    site.activate(0);
    let _web = site.web(8080);
    let block = virtual_server("web", 80).with("scheduler", "rr").real_servers(1..=2, 8080);
    let lvsd = Lvsd::start(&site.directors[0], &lvs_cf(&[], &[block]));
    lvsd.wait_shown(&format!(
        "tcp {VIP}:80 rr\n  10.0.0.21:8080 masq 1\n  10.0.0.22:8080 masq 1\n"
    ));
    assert_eq!(ask(&site, &site.client, 80, 6), counts(&[("rs1", 3), ("rs2", 3)]));
    lvsd.stop("");
}
