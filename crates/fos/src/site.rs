//! What lvs.cf asks of fos. Pure.

use daemon::child;
use lvs_config::{Config, Protocol, Virtual};
use std::fmt;
use std::net::Ipv4Addr;

/// Everything fos is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The active failover services, in the file's order.
    pub services: Vec<Service>,
    /// The other node, where there is one.
    pub partner: Option<Ipv4Addr>,
}

/// A failover service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its block's name.
    pub name: String,
    /// Where it is reached, on whichever node it runs.
    pub at: Address,
    /// What starts it; the words of a command.
    pub start: Option<Vec<Vec<u8>>>,
    /// What stops it.
    pub stop: Option<Vec<Vec<u8>>>,
    /// The monitor program, where the block names one.
    pub client_monitor: Option<String>,
    /// The options of the monitor that come from the block.
    options: Vec<Vec<u8>>,
}

/// Virtual address and port of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The address, which moves with the service.
    pub addr: Ipv4Addr,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.addr, self.port)
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.at)
    }
}

/// A part of the file that fos cannot act on; the rest goes ahead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failover service {block}: it has no address; left out (add `address = VIP DEVICE`)")]
pub struct Problem {
    /// The block's name.
    pub block: String,
}

/// Reads a configuration for its active failover services.
#[must_use]
pub fn site(config: &Config, partner: Option<Ipv4Addr>) -> (Site, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut services = Vec::new();
    for block in config.failovers.iter().filter(|block| block.active) {
        match service(block, partner) {
            Some(service) => services.push(service),
            None => problems.push(Problem { block: block.name.clone() }),
        }
    }
    (Site { services, partner }, problems)
}

fn service(block: &Virtual, partner: Option<Ipv4Addr>) -> Option<Service> {
    let words = |line: &Option<String>| child::words(line.as_deref()?.as_bytes());
    let at = Address { addr: block.addr()?, port: block.port };
    Some(Service {
        name: block.name.clone(),
        at,
        start: words(&block.start_cmd),
        stop: words(&block.stop_cmd),
        client_monitor: block.client_monitor.clone(),
        options: monitor_options(block, at, partner),
    })
}

/// What nanny is told of the service. It watches the virtual address, which the partner bears.
fn monitor_options(block: &Virtual, at: Address, partner: Option<Ipv4Addr>) -> Vec<Vec<u8>> {
    let mut words: Vec<Vec<u8>> = vec!["-c".into()];
    let mut option = |name: &str, value: Vec<u8>| words.extend([name.into(), value]);
    option("-h", at.addr.to_string().into());
    option("-p", at.port.to_string().into());
    let texts = [("-e", &block.send_program), ("-s", &block.send), ("-x", &block.expect)];
    for (name, text) in texts {
        if let Some(text) = text {
            option(name, text.clone());
        }
    }
    option("-t", block.timeout.to_string().into());
    if let Some(partner) = partner {
        option("-V", partner.to_string().into());
    }
    words.extend((block.protocol == Protocol::Udp).then(|| "-u".into()));
    words.extend(block.use_regex.then(|| "--regex".into()));
    words
}

/// How a monitor is started.
#[derive(Debug, Clone, Copy)]
pub struct MonitorRun<'a> {
    /// The program, for blocks that name none.
    pub nanny: &'a str,
    /// Pass `-v`.
    pub verbose: bool,
    /// Pass `--nodaemon`: fos stays on the terminal, and so do its monitors.
    pub nodaemon: bool,
}

impl Service {
    /// The command that watches the service on the partner.
    #[must_use]
    pub fn monitor_command(&self, run: &MonitorRun<'_>) -> Vec<Vec<u8>> {
        let program = self.client_monitor.as_deref().unwrap_or(run.nanny);
        let mut words = vec![program.into()];
        words.extend_from_slice(&self.options);
        words.extend(run.verbose.then(|| "-v".into()));
        words.extend(run.nodaemon.then(|| "--nodaemon".into()));
        words.push("--fos".into());
        words
    }
}

/// A command for people: each word in quotes.
#[must_use]
pub fn quoted(words: &[Vec<u8>]) -> String {
    let quoted = |word: &Vec<u8>| format!("\"{}\"", String::from_utf8_lossy(word));
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Site, Vec<String>) {
        let config = lvs_config::parse(text.as_bytes(), &lvs_config::NoResolver).config.unwrap();
        let (site, problems) = site(&config, Some(Ipv4Addr::new(10, 0, 0, 2)));
        (site, problems.iter().map(ToString::to_string).collect())
    }

    fn shown(service: &Service, verbose: bool, nodaemon: bool) -> String {
        let run = MonitorRun { nanny: "/sbin/nanny", verbose, nodaemon };
        quoted(&service.monitor_command(&run)).replace('"', "")
    }

    #[test]
    fn services_their_commands_and_their_monitors() {
        let (site, problems) = read(
            "service = fos\n\
             failover web {\nactive = 1\naddress = 10.0.0.100 eth0:1\nstart_cmd = \"/bin/x  start -f\"\n\
             stop_cmd = \"/bin/x stop\"\nsend = \"GET / HTTP/1.0\\r\\n\\r\\n\"\nexpect = \"HTTP\"\ntimeout = 6\n}\n\
             failover dns {\nactive = 1\naddress = 10.0.0.101 eth0:2\nprotocol = udp\nport = 53\n\
             send_program = \"/bin/dig %h\"\nexpect = OK\nuse_regex = 1\nclient_monitor = /opt/monitor\n}\n\
             failover idle {\naddress = 10.0.0.102 eth0:3\n}\n",
        );
        assert_eq!(problems, [""; 0]);
        let [web, dns] = site.services.as_slice() else { panic!("{site:?}") };
        assert_eq!(web.to_string(), "web 10.0.0.100:80");
        assert_eq!(quoted(web.start.as_ref().unwrap()), r#""/bin/x" "start" "-f""#);
        assert_eq!(quoted(web.stop.as_ref().unwrap()), r#""/bin/x" "stop""#);
        assert_eq!(
            shown(web, false, false),
            "/sbin/nanny -c -h 10.0.0.100 -p 80 -s GET / HTTP/1.0\\r\\n\\r\\n -x HTTP -t 6 \
             -V 10.0.0.2 --fos"
        );
        assert_eq!((&dns.start, &dns.stop), (&None, &None));
        assert_eq!(
            shown(dns, true, true),
            "/opt/monitor -c -h 10.0.0.101 -p 53 -e /bin/dig %h -x OK -t 10 -V 10.0.0.2 -u --regex \
             -v --nodaemon --fos"
        );
    }

    #[test]
    fn what_cannot_be_acted_on_is_left_out_and_said() {
        let (site, problems) = read(
            "failover a {\nactive = 1\n}\n\
             failover b {\nactive = 1\naddress = 10.0.0.100 eth0:1\n}\n\
             failover c {\nactive = 1\naddress = 10.0.0.100 eth0:1\n}\n\
             virtual v {\nactive = 1\naddress = 10.0.0.101 eth0:2\n}\n",
        );
        let names: Vec<&str> = site.services.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["b", "c"], "services may share an address and a port");
        let what = "it has no address; left out (add `address = VIP DEVICE`)";
        assert_eq!(problems, [format!("failover service a: {what}")]);
    }
}
