//! Reading what ipvsadm(8) prints. Nothing about the text is taken for granted: lines of another
//! sort, such as a wrapper may print, are passed over, and a line that should mean something but
//! does not is an error that names it.

use std::collections::HashMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::{FromStr, SplitAsciiWhitespace};

use crate::change::sched_flag_names;
use crate::table::Info;
use crate::types::{
    Checksum, Destination, EngineName, Family, Forwarding, Granularity, Persistence, Protocol,
    Role, SchedulerName, Service, ServiceFlags, ServiceKey, SyncDaemon, Timeouts, Tunnel,
    VirtualService,
};

/// A line that could not be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Misread {
    /// The line's number, from 1; 0: a line is missing.
    number: usize,
    line: String,
}

impl Misread {
    fn missing(what: &str) -> Self {
        Misread { number: 0, line: what.to_owned() }
    }
}

impl fmt::Display for Misread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Misread { number: 0, line } => write!(f, "has no line {line:?}"),
            Misread { number, line } => write!(f, "is not understood at line {number}: {line:?}"),
        }
    }
}

/// Runs over the lines; `read` returns `None` for one it should understand but does not.
fn each_line<'a>(
    text: &'a str,
    mut read: impl FnMut(&'a str) -> Option<()>,
) -> Result<(), Misread> {
    for (index, line) in text.lines().enumerate() {
        read(line)
            .ok_or_else(|| Misread { number: index + 1, line: line.chars().take(200).collect() })?;
    }
    Ok(())
}

/// Reads `ipvsadm -S -n`: lines of `-A` (a service) and `-a` (a server of the service last named
/// so).
pub(super) fn save(text: &str) -> Result<Vec<VirtualService>, Misread> {
    let mut table: Vec<VirtualService> = Vec::new();
    let mut places: HashMap<ServiceKey, usize> = HashMap::new();
    each_line(text, |line| {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("-A" | "--add-service") => {
                let service = Rule::read(words)?.service()?;
                places.insert(service.key, table.len());
                table.push(VirtualService { service, destinations: Vec::new() });
            }
            Some("-a" | "--add-server") => {
                let rule = Rule::read(words)?;
                let place = places.get(&rule.key()?)?;
                table.get_mut(*place)?.destinations.push(rule.destination()?);
            }
            _ => {}
        }
        Some(())
    })?;
    Ok(table)
}

/// The options of one saved line.
#[derive(Default)]
struct Rule<'a> {
    protocol: Option<Protocol>,
    address: Option<SocketAddr>,
    mark: Option<u32>,
    six: bool,
    scheduler: Option<SchedulerName>,
    timeout: Option<u32>,
    mask: Option<&'a str>,
    engine: Option<EngineName>,
    one_packet: bool,
    sched_flags: &'a str,
    server: Option<SocketAddr>,
    forwarding: Option<Forwarding>,
    weight: Option<u32>,
    upper: u32,
    lower: u32,
    tunnel_type: &'a str,
    tunnel_port: u16,
    checksum: Checksum,
}

impl<'a> Rule<'a> {
    fn read(mut words: SplitAsciiWhitespace<'a>) -> Option<Self> {
        fn value<T: FromStr>(words: &mut SplitAsciiWhitespace<'_>) -> Option<T> {
            words.next()?.parse().ok()
        }
        let mut rule = Rule::default();
        while let Some(option) = words.next() {
            let words = &mut words;
            match option {
                "-t" => rule.virtual_address(Protocol::Tcp, value(words)?),
                "-u" => rule.virtual_address(Protocol::Udp, value(words)?),
                "--sctp-service" => rule.virtual_address(Protocol::Sctp, value(words)?),
                "-f" => rule.mark = Some(mark(words.next()?)?),
                "-6" => rule.six = true,
                "-s" => rule.scheduler = Some(value(words)?),
                "-p" => rule.timeout = Some(value(words)?),
                "-M" => rule.mask = Some(words.next()?),
                "--pe" => rule.engine = Some(value(words)?),
                "-o" | "--ops" => rule.one_packet = true,
                "-b" => rule.sched_flags = words.next()?,
                "-r" => rule.server = Some(value(words)?),
                "-m" => rule.forwarding = Some(Forwarding::Masquerade),
                "-g" => rule.forwarding = Some(Forwarding::DirectRoute),
                "-i" => rule.forwarding = Some(Forwarding::Tunnel),
                "-w" => rule.weight = Some(value(words)?),
                "-x" => rule.upper = value(words)?,
                "-y" => rule.lower = value(words)?,
                "--tun-type" => rule.tunnel_type = words.next()?,
                "--tun-port" => rule.tunnel_port = value(words)?,
                "--tun-nocsum" => rule.checksum = Checksum::None,
                "--tun-csum" => rule.checksum = Checksum::Full,
                "--tun-remcsum" => rule.checksum = Checksum::Remote,
                _ => return None,
            }
        }
        Some(rule)
    }

    fn virtual_address(&mut self, protocol: Protocol, address: SocketAddr) {
        self.protocol = Some(protocol);
        self.address = Some(address);
    }

    fn key(&self) -> Option<ServiceKey> {
        if let Some(mark) = self.mark {
            let family = if self.six { Family::Inet6 } else { Family::Inet };
            return Some(ServiceKey::Fwmark { mark, family });
        }
        let address = self.address?;
        let protocol = self.protocol?;
        Some(ServiceKey::Address { protocol, addr: address.ip(), port: address.port() })
    }

    fn service(&self) -> Option<Service> {
        let key = self.key()?;
        let mut service = Service::new(key, self.scheduler?);
        if let Some(timeout) = self.timeout {
            let granularity = match (self.mask, key.family()) {
                (None, family) => Granularity::host(family),
                (Some(mask), Family::Inet) => Granularity::Netmask(mask.parse::<Ipv4Addr>().ok()?),
                (Some(mask), Family::Inet6) => Granularity::Prefix(mask.parse().ok()?),
            };
            service.persistence = Some(Persistence { timeout, granularity });
        }
        service.engine = self.engine;
        let names = sched_flag_names(service.scheduler.as_str());
        let [sched1, sched2, sched3] =
            names.map(|name| self.sched_flags.split(',').any(|flag| flag == name));
        service.flags = ServiceFlags { one_packet: self.one_packet, sched1, sched2, sched3 };
        Some(service)
    }

    fn destination(&self) -> Option<Destination> {
        let server = self.server?;
        let checksum = self.checksum;
        let tunnel = match self.tunnel_type {
            "" | "ipip" => None,
            "gue" => Some(Tunnel::Gue { port: self.tunnel_port, checksum }),
            "gre" => Some(Tunnel::Gre { checksum }),
            _ => return None,
        };
        Some(Destination {
            upper_threshold: self.upper,
            lower_threshold: self.lower,
            tunnel,
            ..Destination::new(server.ip(), server.port(), self.forwarding?, self.weight?)
        })
    }
}

/// A list of `ipvsadm -L -n` with one of the options `--stats`, `--rate`, `--thresholds` and
/// `--persistent-conn`: up to five numbers for each service and server.
#[derive(Debug, Default)]
pub(super) struct Listed {
    services: HashMap<ServiceKey, [u64; 5]>,
    servers: HashMap<(ServiceKey, SocketAddr), [u64; 5]>,
}

impl Listed {
    /// The numbers of a service; zero where there are none.
    pub(super) fn service(&self, key: &ServiceKey) -> [u64; 5] {
        self.services.get(key).copied().unwrap_or_default()
    }

    /// The numbers of a server; zero where there are none.
    pub(super) fn server(&self, key: &ServiceKey, server: &SocketAddr) -> [u64; 5] {
        self.servers.get(&(*key, *server)).copied().unwrap_or_default()
    }
}

/// Reads such a list.
pub(super) fn list(text: &str) -> Result<Listed, Misread> {
    let mut listed = Listed::default();
    let mut current = None;
    each_line(text, |line| {
        let mut words = line.split_ascii_whitespace();
        let key = match words.next() {
            Some("->") => {
                // The title has a line like this as well.
                let Some(server) = words.next().filter(|word| *word != "RemoteAddress:Port") else {
                    return Some(());
                };
                let numbers = numbers(words);
                listed.servers.insert((current?, server.parse().ok()?), numbers);
                return Some(());
            }
            Some("TCP") => address_key(Protocol::Tcp, &mut words)?,
            Some("UDP") => address_key(Protocol::Udp, &mut words)?,
            Some("SCTP") => address_key(Protocol::Sctp, &mut words)?,
            Some("FWM") => {
                let mark = mark(words.next()?)?;
                let mut peek = words.clone();
                let six = peek.next() == Some("IPv6");
                if six {
                    words = peek;
                }
                let family = if six { Family::Inet6 } else { Family::Inet };
                ServiceKey::Fwmark { mark, family }
            }
            _ => return Some(()),
        };
        current = Some(key);
        listed.services.insert(key, numbers(words));
        Some(())
    })?;
    Ok(listed)
}

fn address_key(protocol: Protocol, words: &mut SplitAsciiWhitespace<'_>) -> Option<ServiceKey> {
    let address: SocketAddr = words.next()?.parse().ok()?;
    Some(ServiceKey::Address { protocol, addr: address.ip(), port: address.port() })
}

/// The first numbers of a line; other words count as zero.
fn numbers(words: SplitAsciiWhitespace<'_>) -> [u64; 5] {
    let mut numbers = [0; 5];
    for (place, word) in numbers.iter_mut().zip(words) {
        *place = number(word).unwrap_or_default();
    }
    numbers
}

/// A firewall mark. Some versions of ipvsadm print those beyond 2^31 as negative numbers.
fn mark(word: &str) -> Option<u32> {
    let signed = word.parse().ok().map(i32::cast_unsigned);
    word.parse().ok().or(signed)
}

/// A number as ipvsadm prints it: without `--exact`, which old wrappers may drop, large ones are
/// shortened to thousands (K), millions (M), billions (G) or trillions (T).
fn number(word: &str) -> Option<u64> {
    let (digits, unit) = match word.strip_suffix(['K', 'M', 'G', 'T']) {
        Some(digits) => (digits, word.as_bytes().last()?),
        None => (word, &b' '),
    };
    let unit: u64 = match unit {
        b'K' => 1_000,
        b'M' => 1_000_000,
        b'G' => 1_000_000_000,
        b'T' => 1_000_000_000_000,
        _ => 1,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// Reads the first line of `ipvsadm -L`: `IP Virtual Server version 1.2.1 (size=4096)`.
pub(super) fn info(text: &str) -> Result<Info, Misread> {
    let title = "IP Virtual Server version ";
    let read = |line: &str| {
        let (version, size) = line.trim().strip_prefix(title)?.split_once(" (size=")?;
        let mut parts = version.split('.').map(|part| part.parse().ok());
        let version = (parts.next()??, parts.next()??, parts.next()??);
        Some(Info { version, table_size: size.strip_suffix(')')?.parse().ok()? })
    };
    text.lines().find_map(read).ok_or_else(|| Misread::missing(title))
}

/// Reads `ipvsadm -L --timeout`: `Timeout (tcp tcpfin udp): 900 120 300`.
pub(super) fn timeouts(text: &str) -> Result<Timeouts, Misread> {
    let title = "Timeout (tcp tcpfin udp):";
    let read = |line: &str| {
        let mut words = line.trim().strip_prefix(title)?.split_ascii_whitespace();
        let mut next = || words.next()?.parse().ok();
        Some(Timeouts { tcp: next()?, tcp_fin: next()?, udp: next()? })
    };
    text.lines().find_map(read).ok_or_else(|| Misread::missing(title))
}

/// Reads `ipvsadm -L --daemon`: `master sync daemon (mcast=eth0, syncid=5, maxlen=1472,
/// group=224.0.0.81, port=8848, ttl=1)`, of old programs without what follows the syncid.
pub(super) fn daemons(text: &str) -> Result<Vec<SyncDaemon>, Misread> {
    let mut daemons = Vec::new();
    each_line(text, |line| {
        let (role, rest) = match line.trim().split_once(" sync daemon (") {
            Some(("master", rest)) => (Role::Master, rest),
            Some(("backup", rest)) => (Role::Backup, rest),
            _ => return Some(()),
        };
        let mut daemon = SyncDaemon::new(role, "", 0);
        for field in rest.strip_suffix(')')?.split(", ") {
            match field.split_once('=')? {
                ("mcast", name) => name.clone_into(&mut daemon.interface),
                ("syncid", id) => daemon.id = id.parse().ok()?,
                ("maxlen", length) => daemon.max_len = Some(length.parse().ok()?),
                ("group", group) => daemon.group = Some(group.parse().ok()?),
                ("port", port) => daemon.port = Some(port.parse().ok()?),
                ("ttl", ttl) => daemon.ttl = Some(ttl.parse().ok()?),
                _ => {}
            }
        }
        daemons.push(daemon);
        Some(())
    })?;
    Ok(daemons)
}
