//! Host and service names: the only thing the parser asks the outside world for.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs};
use std::sync::OnceLock;

/// Answers for names that occur in a file.
pub trait Resolver {
    /// The IPv4 address of host `name`; `None` when there is none. May block.
    fn host(&self, name: &str) -> Option<Ipv4Addr>;

    /// The TCP port of service `name`, as services(5) has it.
    fn service(&self, name: &str) -> Option<u16>;
}

/// The system's resolver: hosts as nsswitch.conf(5) says, services from /etc/services
/// (read once per process), and, because minimal systems lack that file, from a table of
/// the common ones.
///
/// Looking up a host can take as long as the name servers take to time out.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn host(&self, name: &str) -> Option<Ipv4Addr> {
        (name, 0).to_socket_addrs().ok()?.find_map(|addr| match addr.ip() {
            IpAddr::V4(addr) => Some(addr),
            IpAddr::V6(_) => None,
        })
    }

    fn service(&self, name: &str) -> Option<u16> {
        static SERVICES: OnceLock<HashMap<String, u16>> = OnceLock::new();
        SERVICES
            .get_or_init(|| {
                std::fs::read("/etc/services").map(|text| tcp_services(&text)).unwrap_or_default()
            })
            .get(name)
            .copied()
            .or_else(|| common_service(name))
    }
}

/// Resolves no host, and of the services the common ones: for tests, and for looking at a
/// file without leaving the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoResolver;

impl Resolver for NoResolver {
    fn host(&self, _name: &str) -> Option<Ipv4Addr> {
        None
    }

    fn service(&self, name: &str) -> Option<u16> {
        common_service(name)
    }
}

/// The TCP ports of a services(5) file by name and alias; the first entry of a name counts.
fn tcp_services(text: &[u8]) -> HashMap<String, u16> {
    let text = String::from_utf8_lossy(text);
    let mut services = HashMap::new();
    for line in text.lines() {
        let entry = line.split('#').next().unwrap_or_default();
        let mut words = entry.split_ascii_whitespace();
        let (Some(name), Some(place)) = (words.next(), words.next()) else { continue };
        let Some(port) = place.strip_suffix("/tcp").and_then(|port| port.parse().ok()) else {
            continue;
        };
        for name in std::iter::once(name).chain(words) {
            services.entry(name.to_owned()).or_insert(port);
        }
    }
    services
}

/// Services that are put behind a director, by their IANA names and usual aliases.
fn common_service(name: &str) -> Option<u16> {
    Some(match name {
        "ftp-data" => 20,
        "ftp" => 21,
        "ssh" => 22,
        "telnet" => 23,
        "smtp" | "mail" => 25,
        "time" => 37,
        "domain" => 53,
        "gopher" => 70,
        "http" | "www" | "www-http" => 80,
        "kerberos" | "kerberos5" | "krb5" => 88,
        "pop3" | "pop-3" => 110,
        "sunrpc" | "portmapper" | "rpcbind" => 111,
        "auth" | "ident" => 113,
        "nntp" => 119,
        "ntp" => 123,
        "netbios-ssn" => 139,
        "imap" | "imap2" => 143,
        "snmp" => 161,
        "ldap" => 389,
        "https" => 443,
        "microsoft-ds" => 445,
        "submissions" | "ssmtp" | "smtps" | "urd" => 465,
        "syslog" | "shell" | "cmd" => 514,
        "printer" | "spooler" => 515,
        "rtsp" => 554,
        "nntps" => 563,
        "submission" => 587,
        "ipp" => 631,
        "ldaps" => 636,
        "rsync" => 873,
        "ftps-data" => 989,
        "ftps" => 990,
        "telnets" => 992,
        "imaps" => 993,
        "pop3s" => 995,
        "socks" => 1080,
        "ms-sql-s" => 1433,
        "ms-sql-m" => 1434,
        "ncube-lm" => 1521,
        "radius" => 1812,
        "radius-acct" => 1813,
        "nfs" => 2049,
        "squid" => 3128,
        "mysql" => 3306,
        "ms-wbt-server" => 3389,
        "sip" => 5060,
        "sips" | "sip-tls" => 5061,
        "xmpp-client" => 5222,
        "xmpp-server" => 5269,
        "postgresql" | "postgres" => 5432,
        "amqps" => 5671,
        "amqp" => 5672,
        "x11" => 6000,
        "redis" => 6379,
        "http-alt" | "webcache" | "http-alternate" => 8080,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_file_by_name_and_alias() {
        let text = b"# Network services\nhttp 80/tcp www # WorldWideWeb\nhttp 81/tcp\n\
            domain\t53/udp\nodd\nhuge 70000/tcp\n\xff 7/tcp\n";
        let services = tcp_services(text);
        assert_eq!(services.get("http"), Some(&80));
        assert_eq!(services.get("www"), Some(&80));
        assert_eq!(services.get("domain"), None);
        assert_eq!(services.get("huge"), None);
        assert_eq!(services.get("WorldWideWeb"), None);
    }

    #[test]
    fn common_services_need_no_file() {
        assert_eq!(SystemResolver.service("https"), Some(443));
        assert_eq!(NoResolver.service("http"), Some(80));
        assert_eq!(NoResolver.service("no-such-service"), None);
    }

    #[test]
    fn addresses_need_no_name_server() {
        assert_eq!(SystemResolver.host("127.0.0.1"), Some(Ipv4Addr::LOCALHOST));
        assert_eq!(SystemResolver.host("::1"), None);
        assert_eq!(SystemResolver.host("a\0b"), None);
        assert_eq!(NoResolver.host("localhost"), None);
    }
}
