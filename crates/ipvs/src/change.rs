//! One change to the table, and the ipvsadm command it stands for.

use std::fmt;
use std::net::SocketAddr;

use crate::error::{Error, ErrorKind};
use crate::types::{
    Checksum, Destination, Family, Forwarding, Protocol, Role, Service, ServiceFlags, ServiceKey,
    SyncDaemon, Timeouts, Tunnel,
};

/// One change to the table.
///
/// `Display` says what it does: `add server 10.0.0.3:80 to TCP 10.0.0.1:80`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Removes every virtual service with its servers. Timeouts and sync daemons stay.
    Flush,
    /// Sets the connection timeouts that are not 0.
    SetTimeouts(Timeouts),
    /// Adds a virtual service.
    AddService(Service),
    /// Replaces everything but the key of a virtual service; its servers and connections stay.
    EditService(Service),
    /// Removes a virtual service with its servers.
    DeleteService(ServiceKey),
    /// Adds a server to a virtual service.
    AddDestination(ServiceKey, Destination),
    /// Replaces everything but address and port of a server; its connections stay.
    EditDestination(ServiceKey, Destination),
    /// Removes a server, by address and port [as stored](Destination::as_stored), from a virtual
    /// service.
    DeleteDestination(ServiceKey, SocketAddr),
    /// Starts a sync daemon.
    StartDaemon(SyncDaemon),
    /// Stops a sync daemon.
    StopDaemon(Role),
    /// Sets the statistics of one virtual service and its servers to zero, or everyone's.
    Zero(Option<ServiceKey>),
}

impl Change {
    /// The ipvsadm(8) command line for this change, without the program's name. Only options that
    /// every ipvsadm has, unless the change needs a newer one.
    #[must_use]
    pub fn ipvsadm_args(&self) -> Vec<String> {
        let mut args = Args(Vec::new());
        match self {
            Change::Flush => args.flag("-C"),
            Change::SetTimeouts(t) => {
                args.flag("--set");
                for seconds in [t.tcp, t.tcp_fin, t.udp] {
                    args.flag(&seconds.to_string());
                }
            }
            Change::AddService(service) => args.service("-A", service),
            Change::EditService(service) => args.service("-E", service),
            Change::DeleteService(key) => args.key("-D", key),
            Change::AddDestination(key, server) => args.destination("-a", key, server),
            Change::EditDestination(key, server) => args.destination("-e", key, server),
            Change::DeleteDestination(key, server) => {
                args.key("-d", key);
                args.value("-r", server);
            }
            Change::StartDaemon(daemon) => args.daemon(daemon),
            Change::StopDaemon(role) => args.value("--stop-daemon", role),
            Change::Zero(Some(key)) => args.key("-Z", key),
            Change::Zero(None) => args.flag("-Z"),
        }
        args.0
    }

    /// Refuses what no implementation can do, whatever is in the table.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`], with the reason.
    pub fn check(&self) -> Result<(), Error> {
        let fault = match self {
            Change::SetTimeouts(timeouts) => timeouts.fault(),
            Change::AddService(service) | Change::EditService(service) => service.fault(),
            Change::AddDestination(key, server) | Change::EditDestination(key, server) => {
                server.fault(key)
            }
            Change::StartDaemon(daemon) => daemon.fault(),
            Change::Flush
            | Change::DeleteService(_)
            | Change::DeleteDestination(..)
            | Change::StopDaemon(_)
            | Change::Zero(_) => None,
        };
        match fault {
            Some(reason) => Err(Error::new(ErrorKind::Invalid, self, reason)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Flush => f.write_str("clear the table"),
            Change::SetTimeouts(t) => {
                write!(f, "set the timeouts ({} {} {})", t.tcp, t.tcp_fin, t.udp)
            }
            Change::AddService(s) => write!(f, "add virtual service {}", s.key),
            Change::EditService(s) => write!(f, "edit virtual service {}", s.key),
            Change::DeleteService(key) => write!(f, "remove virtual service {key}"),
            Change::AddDestination(key, d) => write!(f, "add server {} to {key}", d.key()),
            Change::EditDestination(key, d) => write!(f, "edit server {} of {key}", d.key()),
            Change::DeleteDestination(key, d) => write!(f, "remove server {d} from {key}"),
            Change::StartDaemon(d) => {
                write!(f, "start the {} sync daemon on {}", d.role, d.interface)
            }
            Change::StopDaemon(role) => write!(f, "stop the {role} sync daemon"),
            Change::Zero(Some(key)) => write!(f, "zero the statistics of {key}"),
            Change::Zero(None) => f.write_str("zero all statistics"),
        }
    }
}

/// The names `ipvsadm -b` has for a scheduler's flags. Also those that `ipvsadm -S` prints.
pub(crate) fn sched_flag_names(scheduler: &str) -> [&'static str; 3] {
    match scheduler {
        "sh" => ["sh-fallback", "sh-port", "flag-3"],
        "mh" => ["mh-fallback", "mh-port", "flag-3"],
        _ => ["flag-1", "flag-2", "flag-3"],
    }
}

/// A command line in the making.
struct Args(Vec<String>);

impl Args {
    fn flag(&mut self, flag: &str) {
        self.0.push(flag.to_owned());
    }

    fn value(&mut self, option: &str, value: &impl ToString) {
        self.0.push(option.to_owned());
        self.0.push(value.to_string());
    }

    fn key(&mut self, command: &str, key: &ServiceKey) {
        self.flag(command);
        match *key {
            ServiceKey::Address { protocol, addr, port } => {
                let option = match protocol {
                    Protocol::Tcp => "-t",
                    Protocol::Udp => "-u",
                    Protocol::Sctp => "--sctp-service",
                };
                self.value(option, &SocketAddr::new(addr, port));
            }
            ServiceKey::Fwmark { mark, family } => {
                self.value("-f", &mark);
                if family == Family::Inet6 {
                    self.flag("-6");
                }
            }
        }
    }

    fn service(&mut self, command: &str, service: &Service) {
        self.key(command, &service.key);
        self.value("-s", &service.scheduler);
        if let Some(persistence) = service.persistence {
            self.value("-p", &persistence.timeout);
            if !persistence.granularity.is_host() {
                self.value("-M", &persistence.granularity);
            }
        }
        if let Some(engine) = service.engine {
            self.value("--pe", &engine);
        }
        if service.flags.one_packet {
            self.flag("-o");
        }
        let ServiceFlags { sched1, sched2, sched3, .. } = service.flags;
        let names = sched_flag_names(service.scheduler.as_str());
        let set = names.into_iter().zip([sched1, sched2, sched3]).filter(|(_, set)| *set);
        let set: Vec<_> = set.map(|(name, _)| name).collect();
        if !set.is_empty() {
            self.value("-b", &set.join(","));
        }
    }

    fn destination(&mut self, command: &str, key: &ServiceKey, server: &Destination) {
        self.key(command, key);
        self.value("-r", &server.key());
        self.flag(match server.forwarding {
            Forwarding::Masquerade => "-m",
            Forwarding::Tunnel => "-i",
            // What ipvsadm itself saves for a local server; it has no option for the others.
            Forwarding::DirectRoute | Forwarding::LocalNode | Forwarding::Bypass => "-g",
        });
        self.value("-w", &server.weight);
        if server.upper_threshold > 0 {
            self.value("-x", &server.upper_threshold);
        }
        if server.lower_threshold > 0 {
            self.value("-y", &server.lower_threshold);
        }
        if let (Forwarding::Tunnel, Some(tunnel)) = (server.forwarding, server.tunnel) {
            self.tunnel(tunnel);
        }
    }

    fn tunnel(&mut self, tunnel: Tunnel) {
        let checksum = match tunnel {
            Tunnel::Gue { port, checksum } => {
                self.value("--tun-type", &"gue");
                self.value("--tun-port", &port);
                checksum
            }
            Tunnel::Gre { checksum } => {
                self.value("--tun-type", &"gre");
                checksum
            }
        };
        match checksum {
            Checksum::None => {}
            Checksum::Full => self.flag("--tun-csum"),
            Checksum::Remote => self.flag("--tun-remcsum"),
        }
    }

    fn daemon(&mut self, daemon: &SyncDaemon) {
        self.value("--start-daemon", &daemon.role);
        self.value("--mcast-interface", &daemon.interface);
        self.value("--syncid", &daemon.id);
        if let Some(length) = daemon.max_len {
            self.value("--sync-maxlen", &length);
        }
        if let Some(group) = daemon.group {
            self.value("--mcast-group", &group);
        }
        if let Some(port) = daemon.port {
            self.value("--mcast-port", &port);
        }
        if let Some(ttl) = daemon.ttl {
            self.value("--mcast-ttl", &ttl);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Granularity, Persistence, SchedulerName};

    fn key(protocol: Protocol, addr: &str, port: u16) -> ServiceKey {
        ServiceKey::Address { protocol, addr: addr.parse().unwrap(), port }
    }

    fn web() -> ServiceKey {
        key(Protocol::Tcp, "10.0.0.100", 80)
    }

    fn service(key: ServiceKey, scheduler: &str) -> Service {
        Service::new(key, SchedulerName::new(scheduler).unwrap())
    }

    fn server(addr: &str, port: u16, forwarding: Forwarding, weight: u32) -> Destination {
        Destination::new(addr.parse().unwrap(), port, forwarding, weight)
    }

    /// The commands the original printed, and those ipvsadm(8) documents.
    #[test]
    fn changes_are_spelled_as_ipvsadm_commands() {
        let mut persistent = service(web(), "wlc");
        persistent.persistence = Some(Persistence::new(60, Family::Inet));
        let mut masked = persistent;
        masked.persistence = Some(Persistence {
            timeout: 60,
            granularity: Granularity::Netmask("255.255.255.0".parse().unwrap()),
        });
        let mut six = service(key(Protocol::Tcp, "fd00::1", 443), "sh");
        six.persistence = Some(Persistence { timeout: 9, granularity: Granularity::Prefix(64) });
        six.flags = ServiceFlags { sched1: true, sched2: true, ..ServiceFlags::default() };
        let mut sip = service(key(Protocol::Udp, "10.0.0.100", 5060), "rr");
        sip.persistence = Some(Persistence::new(300, Family::Inet));
        sip.engine = Some("sip".parse().unwrap());
        let mut dns = service(key(Protocol::Udp, "10.0.0.100", 53), "rr");
        dns.flags = ServiceFlags { one_packet: true, sched3: true, ..ServiceFlags::default() };
        let mark = ServiceKey::Fwmark { mark: 7, family: Family::Inet };
        let mark6 = ServiceKey::Fwmark { mark: 7, family: Family::Inet6 };
        let mut limited = server("10.0.0.3", 8080, Forwarding::Masquerade, 3);
        (limited.upper_threshold, limited.lower_threshold) = (100, 50);
        let mut gue = server("10.0.0.4", 80, Forwarding::Tunnel, 1);
        gue.tunnel = Some(Tunnel::Gue { port: 6080, checksum: Checksum::Remote });
        let mut gre = server("10.0.0.4", 80, Forwarding::Tunnel, 1);
        gre.tunnel = Some(Tunnel::Gre { checksum: Checksum::None });
        let mut daemon = SyncDaemon::new(Role::Backup, "eth1", 5);
        let plain = daemon.clone();
        (daemon.max_len, daemon.port, daemon.ttl) = (Some(1400), Some(9999), Some(3));
        daemon.group = Some("ff02::81".parse().unwrap());

        let table: Vec<(Change, &str)> = vec![
            (Change::Flush, "-C"),
            (Change::SetTimeouts(Timeouts { tcp: 900, tcp_fin: 0, udp: 300 }), "--set 900 0 300"),
            (Change::AddService(service(web(), "wlc")), "-A -t 10.0.0.100:80 -s wlc"),
            (Change::EditService(persistent), "-E -t 10.0.0.100:80 -s wlc -p 60"),
            (Change::AddService(masked), "-A -t 10.0.0.100:80 -s wlc -p 60 -M 255.255.255.0"),
            (
                Change::AddService(six),
                "-A -t [fd00::1]:443 -s sh -p 9 -M 64 -b sh-fallback,sh-port",
            ),
            (Change::AddService(sip), "-A -u 10.0.0.100:5060 -s rr -p 300 --pe sip"),
            (Change::AddService(dns), "-A -u 10.0.0.100:53 -s rr -o -b flag-3"),
            (
                Change::AddService(service(key(Protocol::Sctp, "10.0.0.1", 9), "rr")),
                "-A --sctp-service 10.0.0.1:9 -s rr",
            ),
            (Change::AddService(service(mark, "wrr")), "-A -f 7 -s wrr"),
            (Change::DeleteService(mark6), "-D -f 7 -6"),
            (
                Change::AddDestination(web(), limited),
                "-a -t 10.0.0.100:80 -r 10.0.0.3:8080 -m -w 3 -x 100 -y 50",
            ),
            (
                Change::EditDestination(web(), server("10.0.0.3", 80, Forwarding::DirectRoute, 0)),
                "-e -t 10.0.0.100:80 -r 10.0.0.3:80 -g -w 0",
            ),
            (
                Change::AddDestination(mark6, server("fd00::3", 80, Forwarding::Tunnel, 1)),
                "-a -f 7 -6 -r [fd00::3]:80 -i -w 1",
            ),
            (
                Change::AddDestination(web(), gue),
                "-a -t 10.0.0.100:80 -r 10.0.0.4:80 -i -w 1 --tun-type gue --tun-port 6080 \
                 --tun-remcsum",
            ),
            (
                Change::AddDestination(web(), gre),
                "-a -t 10.0.0.100:80 -r 10.0.0.4:80 -i -w 1 --tun-type gre",
            ),
            (
                Change::DeleteDestination(web(), "10.0.0.3:8080".parse().unwrap()),
                "-d -t 10.0.0.100:80 -r 10.0.0.3:8080",
            ),
            (Change::StartDaemon(plain), "--start-daemon backup --mcast-interface eth1 --syncid 5"),
            (
                Change::StartDaemon(daemon),
                "--start-daemon backup --mcast-interface eth1 --syncid 5 --sync-maxlen 1400 \
                 --mcast-group ff02::81 --mcast-port 9999 --mcast-ttl 3",
            ),
            (Change::StopDaemon(Role::Master), "--stop-daemon master"),
            (Change::Zero(None), "-Z"),
            (Change::Zero(Some(web())), "-Z -t 10.0.0.100:80"),
        ];
        for (change, command) in table {
            assert_eq!(change.ipvsadm_args().join(" "), command);
            assert_eq!(change.check(), Ok(()), "{change}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_reason() {
        let any_port = key(Protocol::Tcp, "10.0.0.100", 0);
        let no_mark = ServiceKey::Fwmark { mark: 0, family: Family::Inet };
        let mut one_packet = service(web(), "rr");
        one_packet.flags.one_packet = true;
        let mut wrong_mask = service(web(), "rr");
        wrong_mask.persistence =
            Some(Persistence { timeout: 1, granularity: Granularity::Prefix(24) });
        let mut forever = service(web(), "rr");
        forever.persistence = Some(Persistence::new(31 * 86_400 + 1, Family::Inet));
        let mut limits = server("10.0.0.3", 80, Forwarding::Masquerade, 1);
        limits.lower_threshold = 1;
        let mut gue = server("10.0.0.3", 80, Forwarding::Tunnel, 1);
        gue.tunnel = Some(Tunnel::Gue { port: 0, checksum: Checksum::None });
        let heavy = server("10.0.0.3", 80, Forwarding::Masquerade, 1 << 31);
        let masq = |addr| server(addr, 80, Forwarding::Masquerade, 1);
        let mut lan = SyncDaemon::new(Role::Master, "eth0", 1);
        lan.group = Some("10.0.0.1".parse().unwrap());
        let table = vec![
            (Change::AddService(service(any_port, "rr")), "port 0"),
            (Change::AddService(service(no_mark, "rr")), "firewall mark"),
            (Change::AddService(one_packet), "one-packet"),
            (Change::EditService(wrong_mask), "persistence mask"),
            (Change::AddService(forever), "31 days"),
            (Change::AddDestination(web(), limits), "threshold"),
            (Change::AddDestination(web(), gue), "GUE"),
            (Change::AddDestination(web(), heavy), "weight"),
            (Change::AddDestination(web(), masq("224.0.0.1")), "unicast"),
            (Change::AddDestination(web(), masq("0.0.0.0")), "unicast"),
            (Change::EditDestination(web(), masq("fd00::1")), "address family"),
            (Change::StartDaemon(SyncDaemon::new(Role::Master, "-x", 1)), "interface"),
            (Change::StartDaemon(SyncDaemon::new(Role::Master, "a b", 1)), "interface"),
            (
                Change::StartDaemon(SyncDaemon::new(Role::Master, "interface0123456", 1)),
                "interface",
            ),
            (Change::StartDaemon(lan), "multicast"),
            (Change::SetTimeouts(Timeouts { tcp: u32::MAX, tcp_fin: 0, udp: 0 }), "31 days"),
        ];
        for (change, reason) in table {
            let error = change.check().expect_err(reason);
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.reason().contains(reason), "{error}");
        }
    }

    #[test]
    fn names_are_checked() {
        for good in ["rr", "wlc", "a23456789012345", "x_y-z.1"] {
            assert_eq!(SchedulerName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "a234567890123456", "-x", "a b", "rr\0", "größe", "a/b"] {
            assert!(SchedulerName::new(bad).is_err(), "{bad:?}");
        }
    }
}
