//! The kernel's IPVS table, as ipvsadm(8) lists it: a way to look that shares nothing with the suite.
//!
//! Read from `ipvsadm -L -n`, not from `/proc/net/ip_vs`: there, persistence is in ticks, whose length
//! nobody tells. Thresholds are in neither; `node.run("ipvsadm -S -n")` has them.

use std::{collections::BTreeMap, fmt, net::SocketAddr};

/// An IPVS table. Displayed, it is one line for each virtual server and one, indented, for each of
/// its real servers, in order, without the connections:
///
/// ```text
/// tcp 172.16.0.100:80 wlc persistent 300
///   10.0.0.21:80 masq 1
/// ```
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// The virtual servers by name: `tcp 172.16.0.100:80`, `udp [fd00::1]:53`, `fwmark 7`.
    pub services: BTreeMap<String, Service>,
}

/// A virtual server.
#[derive(Clone, Debug)]
pub struct Service {
    /// `rr`, `wlc`, …
    pub scheduler: String,
    /// Seconds of persistence.
    pub persistent: Option<u32>,
    /// The netmask of persistence (IPv6: the prefix length), unless it is the whole address.
    pub netmask: Option<String>,
    /// Each packet is scheduled for itself.
    pub one_packet: bool,
    /// The real servers by name: `10.0.0.21:80`.
    pub servers: BTreeMap<String, Server>,
}

/// A real server in the table.
#[derive(Clone, Debug)]
pub struct Server {
    /// `masq`, `route` (direct routing), `tunnel` or `local`, as the kernel calls them.
    pub forward: String,
    /// 0: quiesced.
    pub weight: i32,
    /// Established connections.
    pub active: u32,
    /// Other connections.
    pub inactive: u32,
}

impl Table {
    /// The real server of a virtual server: `table.server("tcp 10.0.0.1:80", "10.0.0.21:80")`.
    #[must_use]
    pub fn server(&self, service: &str, server: &str) -> Option<&Server> {
        self.services.get(service)?.servers.get(server)
    }

    /// Its weight; `None` if it is not in the table.
    #[must_use]
    pub fn weight(&self, service: &str, server: &str) -> Option<i32> {
        self.server(service, server).map(|server| server.weight)
    }

    /// How many real servers a virtual server has; 0 if there is no such virtual server.
    #[must_use]
    pub fn count(&self, service: &str) -> usize {
        self.services.get(service).map_or(0, |service| service.servers.len())
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut services = BTreeMap::new();
        let mut current: Option<&mut Service> = None;
        // Three lines of headings.
        for line in text.lines().skip(3) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let complain = || format!("cannot read the line {line:?}");
            if let Some(("->", words)) = words.split_first().map(|(first, rest)| (*first, rest)) {
                let (name, server) = parse_server(words).ok_or_else(complain)?;
                current.as_mut().ok_or_else(complain)?.servers.insert(name, server);
            } else {
                let (name, service) = parse_service(&words).ok_or_else(complain)?;
                current = Some(services.entry(name).or_insert(service));
            }
        }
        Ok(Self { services })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, service) in &self.services {
            write!(f, "{name} {}", service.scheduler)?;
            if service.one_packet {
                f.write_str(" ops")?;
            }
            if let Some(seconds) = service.persistent {
                write!(f, " persistent {seconds}")?;
            }
            if let Some(mask) = &service.netmask {
                write!(f, " mask {mask}")?;
            }
            writeln!(f)?;
            for (name, Server { forward, weight, .. }) in &service.servers {
                writeln!(f, "  {name} {forward} {weight}")?;
            }
        }
        Ok(())
    }
}

fn parse_service(words: &[&str]) -> Option<(String, Service)> {
    let [kind, address, scheduler, flags @ ..] = words else { return None };
    let name = match *kind {
        "FWM" => format!("fwmark {}", address.parse::<u32>().ok()?),
        protocol => format!("{} {}", protocol.to_lowercase(), address.parse::<SocketAddr>().ok()?),
    };
    let after = |word: &str| {
        flags.iter().position(|flag| *flag == word).and_then(|at| flags.get(at + 1).copied())
    };
    let persistent = match after("persistent") {
        Some(seconds) => Some(seconds.parse().ok()?),
        None => None,
    };
    let service = Service {
        scheduler: (*scheduler).to_owned(),
        persistent,
        netmask: after("mask").map(str::to_owned),
        one_packet: flags.contains(&"ops"),
        servers: BTreeMap::new(),
    };
    Some((name, service))
}

fn parse_server(words: &[&str]) -> Option<(String, Server)> {
    let [address, forward, weight, active, inactive, ..] = words else { return None };
    let server = Server {
        forward: forward.to_lowercase(),
        weight: weight.parse().ok()?,
        active: active.parse().ok()?,
        inactive: inactive.parse().ok()?,
    };
    Some((address.parse::<SocketAddr>().ok()?.to_string(), server))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  172.16.0.100:80 wlc persistent 300 mask 255.255.255.0
  -> 10.0.0.22:8080               Masq    0      7          10
  -> 10.0.0.21:8080               Route   100    0          0
UDP  [fd00::1]:53 rr ops
  -> [fd00::21]:53                Tunnel  1      0          0
FWM  7 rr persistent 60
";

    #[test]
    fn reads_what_ipvsadm_writes() {
        let table = Table::parse(LISTED).unwrap();
        let shown = "\
fwmark 7 rr persistent 60
tcp 172.16.0.100:80 wlc persistent 300 mask 255.255.255.0
  10.0.0.21:8080 route 100
  10.0.0.22:8080 masq 0
udp [fd00::1]:53 rr ops
  [fd00::21]:53 tunnel 1
";
        assert_eq!(table.to_string(), shown);
        let server = table.server("tcp 172.16.0.100:80", "10.0.0.22:8080").unwrap();
        assert_eq!((server.weight, server.active, server.inactive), (0, 7, 10));
        assert_eq!(table.weight("tcp 172.16.0.100:80", "10.0.0.23:8080"), None);
        assert_eq!((table.count("udp [fd00::1]:53"), table.count("udp [fd00::2]:53")), (1, 0));
    }

    #[test]
    fn says_which_line_it_cannot_read() {
        for bad in ["TCP  10.0.0.1 rr", "TCP", "  -> 10.0.0.1:80 Masq 1 0 0", "", "FWM  x rr"] {
            let text = format!("a\nb\nc\n{bad}\n");
            let error = Table::parse(&text).unwrap_err();
            assert!(error.contains(bad), "{error}");
        }
    }
}
