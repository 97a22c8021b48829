//! Ready-made sites: a client, one or more directors, real servers.
//!
//! | what                | address                    |
//! |---------------------|----------------------------|
//! | client              | 172.16.0.10 (NAT), 10.0.0.10 |
//! | directors d1, d2, … | eth0 172.16.0.11, … and eth1 10.0.0.11, … (NAT); eth0 10.0.0.11, … and eth1 192.168.0.11, … |
//! | real servers rs1, … | 10.0.0.21, …               |
//! | virtual address     | 172.16.0.100 (NAT), 10.0.0.100 |
//! | gateway of the real servers | 10.0.0.254 (NAT)   |

use std::{collections::BTreeMap, process::Command};

use crate::{
    node::{Node, NodeBuilder},
    tcp::{Behaviour, TcpServer},
    world::Lab,
};

/// How a director forwards to the real servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Masquerading (`ipvsadm -m`): two segments, `wan` and `lan`; the way back leads through the
    /// director, 10.0.0.254.
    Nat,
    /// Direct routing (`ipvsadm -g`): one segment, `lan`, and `private` between the directors; the
    /// servers carry the virtual address on `lo` and keep silent about it.
    Direct,
    /// IP in IP (`ipvsadm -i`): segments as for direct routing; the servers carry the virtual
    /// address on `tunl0`.
    Tunnel,
}

/// A site for a test.
#[derive(Debug)]
pub struct Site {
    /// Sends the requests.
    pub client: Node,
    /// d1, d2, …; each with `/etc/sysconfig/ha` and `/dev/shm` (named semaphores) for itself.
    pub directors: Vec<Node>,
    /// rs1, rs2, …
    pub servers: Vec<Node>,
    /// The virtual address.
    pub vip: &'static str,
    /// How it forwards.
    pub method: Method,
    /// The world it is in, for more nodes.
    pub lab: Lab,
}

/// What the real servers of a NAT site use as their default gateway.
const GATEWAY: &str = "10.0.0.254";

/// A site with one director and this many real servers, forwarding by NAT.
#[track_caller]
#[must_use]
pub fn nat_site(servers: usize) -> Site {
    Site::new(Method::Nat, 1, servers)
}

/// A site with one director and this many real servers, forwarding by direct routing.
#[track_caller]
#[must_use]
pub fn direct_site(servers: usize) -> Site {
    Site::new(Method::Direct, 1, servers)
}

/// A site with one director and this many real servers, forwarding by IP in IP tunnels.
#[track_caller]
#[must_use]
pub fn tunnel_site(servers: usize) -> Site {
    Site::new(Method::Tunnel, 1, servers)
}

impl Site {
    /// A site with at most 9 directors and 70 real servers. No director has the virtual address
    /// yet, see [`Site::activate`].
    #[track_caller]
    #[must_use]
    pub fn new(method: Method, directors: usize, servers: usize) -> Self {
        assert!(directors <= 9 && servers <= 70, "the plan of addresses has no room for so many");
        let name = match method {
            Method::Nat => "nat",
            Method::Direct => "direct",
            Method::Tunnel => "tunnel",
        };
        let lab = Lab::new(name);
        let (client, vip) = match method {
            Method::Nat => {
                let client = lab.node("client").nic("eth0", "wan", &["172.16.0.10/24"]);
                (client.build(), "172.16.0.100")
            }
            Method::Direct | Method::Tunnel => {
                let client = lab.node("client").nic("eth0", "lan", &["10.0.0.10/24"]);
                (client.build(), "10.0.0.100")
            }
        };
        if method == Method::Tunnel {
            // Brings tunl0 into every network. Where it is built in, or there already, this fails.
            let _ = Command::new("modprobe").arg("ipip").output();
        }
        let directors = (1..=directors).map(|k| director(&lab, method, k)).collect();
        let servers = (1..=servers).map(|k| server(&lab, method, k, vip)).collect();
        Self { client, directors, servers, vip, method, lab }
    }

    /// Gives a director (counted from 0) the addresses that pulse would: the virtual address, and
    /// with NAT that of the servers' gateway.
    #[track_caller]
    pub fn activate(&self, director: usize) {
        self.addresses(director, "add");
    }

    /// Takes these addresses from it.
    #[track_caller]
    pub fn deactivate(&self, director: usize) {
        self.addresses(director, "del");
    }

    #[track_caller]
    fn addresses(&self, director: usize, action: &str) {
        let mut batch = format!("addr {action} {}/24 dev eth0\n", self.vip);
        if self.method == Method::Nat {
            batch += &format!("addr {action} {GATEWAY}/24 dev eth1\n");
        }
        self.directors[director].ip(&batch);
    }

    /// Starts an HTTP server on every real server, on this port and all addresses, whose body is
    /// the server's name and a newline.
    #[track_caller]
    #[must_use = "the servers stop when they are dropped"]
    pub fn web(&self, port: u16) -> Vec<TcpServer> {
        let start = |node: &Node| {
            node.tcp_server(&format!("0.0.0.0:{port}"), Behaviour::named(node.name()))
        };
        self.servers.iter().map(start).collect()
    }

    /// Lets the client ask `http://VIP:PORT/` this many times, and counts who answered: the first
    /// line of the body, or the error.
    #[must_use]
    pub fn spread(&self, port: u16, requests: usize) -> BTreeMap<String, usize> {
        let url = format!("http://{}:{port}/", self.vip);
        let mut counts = BTreeMap::new();
        for _ in 0..requests {
            let answer = match self.client.get(&url) {
                Ok(response) => response.body.lines().next().unwrap_or_default().to_owned(),
                Err(e) => e.to_string(),
            };
            *counts.entry(answer).or_default() += 1;
        }
        counts
    }
}

fn director(lab: &Lab, method: Method, number: usize) -> Node {
    let node = lab.node(&format!("d{number}")).private("/etc/sysconfig/ha").private("/dev/shm");
    let inside = format!("10.0.0.1{number}/24");
    let node = match method {
        Method::Nat => {
            let outside = format!("172.16.0.1{number}/24");
            node.nic("eth0", "wan", &[&outside]).nic("eth1", "lan", &[&inside])
        }
        Method::Direct | Method::Tunnel => {
            let between = format!("192.168.0.1{number}/24");
            node.nic("eth0", "lan", &[&inside]).nic("eth1", "private", &[&between])
        }
    };
    node.sysctl("net.ipv4.ip_forward", 1)
        // Where client and server share a segment, a redirect would lead around the director.
        .sysctl("net.ipv4.conf.all.send_redirects", 0)
        .sysctl("net.ipv4.conf.eth0.send_redirects", 0)
        .build()
}

fn server(lab: &Lab, method: Method, number: usize, vip: &str) -> Node {
    let address = format!("10.0.0.{}/24", 20 + number);
    let node = lab.node(&format!("rs{number}")).nic("eth0", "lan", &[&address]);
    match method {
        Method::Nat => node.route(&format!("default via {GATEWAY}")).build(),
        Method::Direct => silent(node.ip(&format!("addr add {vip}/32 dev lo"))).build(),
        Method::Tunnel => {
            let node = node
                .ip("link set tunl0 up")
                .ip(&format!("addr add {vip}/32 dev tunl0"))
                // What comes out of the tunnel has a source that is not reached through it.
                .sysctl("net.ipv4.conf.all.rp_filter", 0)
                .sysctl("net.ipv4.conf.tunl0.rp_filter", 0);
            silent(node).build()
        }
    }
}

/// It answers for addresses of the interface asked on alone, and asks with such an address.
fn silent(node: NodeBuilder<'_>) -> NodeBuilder<'_> {
    node.sysctl("net.ipv4.conf.all.arp_ignore", 1).sysctl("net.ipv4.conf.all.arp_announce", 2)
}
