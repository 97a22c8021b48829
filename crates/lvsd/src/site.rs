//! What lvs.cf asks for, in the terms of the kernel's table and of the monitors. Pure.

use health::recipe::{Recipe, Settings};
use health::state::Policy;
use health::wire::Group;
use ipvs::{
    Destination, Forwarding, Granularity, Persistence, SchedulerName, Service, ServiceKey, Timeouts,
};
use lvs_config::{Config, Protocol, Virtual};
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Everything lvsd is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The active virtual servers, in the file's order.
    pub blocks: Vec<Block>,
    /// IPVS timeouts; 0 leaves one as it is.
    pub timeouts: Timeouts,
    /// The program that applies changes, where it is not netlink.
    pub ipvsadm: Option<String>,
    /// The same as the file names it, for monitors.
    pub ipvsadm_path: String,
    /// A monitor that dies takes lvsd down.
    pub hard_shutdown: bool,
}

/// A virtual server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Its name in lvs.cf.
    pub name: String,
    /// The service it is in the table.
    pub service: Service,
    /// The virtual address. A firewall mark's block may have none: its traffic comes here by itself.
    pub vip: Option<IpAddr>,
    /// The virtual port.
    pub port: u16,
    /// How packets reach its servers.
    pub forwarding: Forwarding,
    /// Its active servers, in the file's order, no two with the same address and port.
    pub members: Vec<Member>,
    /// What stands in for them when none is up.
    pub sorry: Option<Destination>,
    /// How its servers are checked; the number is set by whoever starts the monitors.
    pub group: Group,
    /// What is worth a line in the log about the check.
    pub notes: Vec<String>,
    /// The monitor program, where the block names one: it is started once a server, and changes
    /// the table itself.
    pub client_monitor: Option<String>,
    /// The options of that program that come from the block.
    pub classic: Classic,
}

/// A real server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name in lvs.cf.
    pub name: Box<str>,
    /// Address and port.
    pub addr: SocketAddr,
    /// Configured weight, 0 to 65535.
    pub weight: u32,
}

/// What a monitor of one server is told on its command line, as lvs.cf says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classic {
    send_program: Option<Vec<u8>>,
    send: Option<Vec<u8>>,
    expect: Option<Vec<u8>>,
    use_regex: bool,
    quiesce: bool,
    udp: bool,
    fwmark: u32,
    reentry: u32,
    timeout: u32,
    load_command: Option<String>,
    ipvsadm: String,
}

/// A part of the file that lvsd cannot act on; the rest goes ahead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("virtual server {block}: {what}")]
pub struct Problem {
    /// The block's name.
    pub block: String,
    /// What is wrong and what is done about it.
    pub what: String,
}

/// Reads a configuration for its active virtual servers.
#[must_use]
pub fn site(config: &Config) -> (Site, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut keys = HashSet::new();
    let mut blocks = Vec::new();
    for block in config.virtuals.iter().filter(|b| b.active) {
        match read_block(config, block, &mut problems) {
            Ok(block) if keys.insert(block.service.key) => blocks.push(block),
            Ok(again) => problems.push(problem(
                block,
                format!("{} belongs to another block already; left out", again.service.key),
            )),
            Err(what) => problems.push(problem(block, what)),
        }
    }
    let site = Site {
        blocks,
        timeouts: Timeouts {
            tcp: unsigned(config.tcp_timeout),
            tcp_fin: unsigned(config.tcpfin_timeout),
            udp: unsigned(config.udp_timeout),
        },
        ipvsadm: (config.ipvsadm != Config::IPVSADM).then(|| config.ipvsadm.clone()),
        ipvsadm_path: config.ipvsadm.clone(),
        hard_shutdown: config.hard_shutdown,
    };
    (site, problems)
}

fn problem(block: &Virtual, what: String) -> Problem {
    Problem { block: block.name.clone(), what }
}

/// Negative numbers can be written in lvs.cf; they count as 0.
fn unsigned(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

fn read_block(
    config: &Config,
    block: &Virtual,
    problems: &mut Vec<Problem>,
) -> Result<Block, String> {
    let forwarding = match config.network {
        lvs_config::Forwarding::Nat => Forwarding::Masquerade,
        lvs_config::Forwarding::Direct => Forwarding::DirectRoute,
        lvs_config::Forwarding::Tunnel => Forwarding::Tunnel,
    };
    let udp = block.protocol == Protocol::Udp;
    let key = service_key(block)?;
    let scheduler = SchedulerName::new(block.scheduler.as_str()).map_err(|e| e.to_string())?;
    let mut service = Service::new(key, scheduler);
    service.persistence = persistence(block);
    let (group, classic, notes) = checks(config, block, udp);
    let sorry = block
        .sorry_server
        .map(|addr| Destination::new(addr.into(), block.port, forwarding, 1).as_stored(&key));
    Ok(Block {
        name: block.name.clone(),
        service,
        vip: block.addr().map(IpAddr::from),
        port: block.port,
        forwarding,
        members: members(block, &key, forwarding, problems),
        sorry,
        group,
        notes,
        client_monitor: block.client_monitor.clone(),
        classic,
    })
}

fn service_key(block: &Virtual) -> Result<ServiceKey, String> {
    if block.fwmark > 0 {
        return Ok(ServiceKey::Fwmark { mark: block.fwmark, family: ipvs::Family::Inet });
    }
    let vip = block.addr().ok_or("it has no address; left out (add `address = VIP DEVICE`)")?;
    let protocol = match block.protocol {
        Protocol::Tcp => ipvs::Protocol::Tcp,
        Protocol::Udp => ipvs::Protocol::Udp,
    };
    Ok(ServiceKey::Address { protocol, addr: vip.into(), port: block.port })
}

fn persistence(block: &Virtual) -> Option<Persistence> {
    let mask = block.pmask.unwrap_or(Ipv4Addr::BROADCAST);
    (block.persistent > 0).then_some(Persistence {
        timeout: block.persistent,
        granularity: Granularity::Netmask(mask),
    })
}

/// The program that reads a server's load.
fn load_command(config: &Config, block: &Virtual) -> Option<String> {
    match block.load_monitor.as_deref() {
        None | Some("none" | "") => None,
        Some("uptime") => Some(config.rsh_command.clone()),
        Some(other) => Some(other.to_owned()),
    }
}

/// How the servers of a block are checked, and what is worth a line in the log about it.
#[must_use]
pub fn recipe(block: &Virtual) -> (Recipe, Vec<String>) {
    let settings = Settings {
        program: block.send_program.as_deref(),
        send: block.send.as_deref(),
        expect: block.expect.as_deref(),
        regex: block.use_regex,
        raw: false,
        udp: block.protocol == Protocol::Udp,
        virtual_port: block.port,
        interval: block.timeout,
    };
    settings.recipe()
}

fn checks(config: &Config, block: &Virtual, udp: bool) -> (Group, Classic, Vec<String>) {
    let load_command = load_command(config, block);
    let virtual_server = match (block.fwmark, block.addr()) {
        (0, Some(vip)) => format!("{vip}:{}", block.port),
        (mark, _) => format!("FWM {mark}"),
    };
    let (recipe, notes) = recipe(block);
    let group = Group {
        id: 0,
        name: block.name.clone(),
        virtual_server,
        recipe,
        udp,
        reentry: Policy::reentry_checks(block.reentry, block.timeout),
        quiesce: block.quiesce_server,
        load: load_command.as_deref().map(health::pool::load_words),
    };
    let classic = Classic {
        send_program: block.send_program.clone(),
        send: block.send.clone(),
        expect: block.expect.clone(),
        use_regex: block.use_regex,
        quiesce: block.quiesce_server,
        udp,
        fwmark: block.fwmark,
        reentry: block.reentry,
        timeout: block.timeout,
        load_command,
        ipvsadm: config.ipvsadm.clone(),
    };
    (group, classic, notes)
}

/// Two servers that would be one entry of the table (direct routing and tunnels know no port of the
/// server's own) are one: the first.
fn members(
    block: &Virtual,
    key: &ServiceKey,
    forwarding: Forwarding,
    problems: &mut Vec<Problem>,
) -> Vec<Member> {
    let mut seen = HashSet::new();
    let mut members = Vec::with_capacity(block.servers.len());
    for server in block.active_servers() {
        let Some(addr) = server.address else {
            let what = format!("server {} has no address; left out", server.name);
            problems.push(problem(block, what));
            continue;
        };
        let addr = SocketAddr::new(addr.into(), server.port);
        let weight = unsigned(server.weight);
        let entry = Destination::new(addr.ip(), addr.port(), forwarding, weight).as_stored(key);
        if seen.insert(entry.key()) {
            members.push(Member { name: server.name.as_str().into(), addr, weight });
        } else {
            let what = format!(
                "server {}: {} is in the block already; left out",
                server.name,
                entry.key()
            );
            problems.push(problem(block, what));
        }
    }
    members
}

impl Block {
    /// A member as it stands in the table with this weight.
    #[must_use]
    pub fn destination(&self, member: &Member, weight: u32) -> Destination {
        Destination::new(member.addr.ip(), member.addr.port(), self.forwarding, weight)
            .as_stored(&self.service.key)
    }

    /// The command that monitors one member in the classic way, the program first.
    #[must_use]
    pub fn monitor_command(&self, member: &Member, run: &MonitorRun<'_>) -> Vec<Vec<u8>> {
        let c = &self.classic;
        let mut words = Words(vec![run.program.into()]);
        words.flag("-c", true);
        words.option("-h", member.addr.ip().to_string());
        words.option("-p", self.port.to_string());
        words.option("-r", member.addr.port().to_string());
        words.maybe("-f", (c.fwmark > 0).then(|| c.fwmark.to_string()));
        words.flag("-u", c.udp);
        words.maybe("-e", c.send_program.clone());
        words.maybe("-s", c.send.clone());
        words.maybe("-x", c.expect.clone());
        words.flag("-q", c.quiesce);
        words.flag("--regex", c.use_regex);
        words.flag("-v", run.verbose);
        words.option("-a", c.reentry.to_string());
        words.option("-I", c.ipvsadm.clone());
        words.option("-t", c.timeout.to_string());
        words.option("-w", member.weight.to_string());
        words.maybe("-V", self.vip.map(|vip| vip.to_string()));
        words.option("-M", method_letter(self.forwarding));
        words.maybe("-U", c.load_command.clone());
        words.flag("--nodaemon", run.nodaemon || self.sorry.is_some());
        words.flag("--lvs", true);
        words.0
    }
}

/// How a classic monitor is started.
#[derive(Debug, Clone, Copy)]
pub struct MonitorRun<'a> {
    /// The program.
    pub program: &'a str,
    /// Pass `-v`.
    pub verbose: bool,
    /// Pass `--nodaemon`. Where a block has a sorry server it is passed in any case: the monitor's
    /// standard output is read then.
    pub nodaemon: bool,
}

/// nanny's letter for a forwarding method.
fn method_letter(forwarding: Forwarding) -> &'static str {
    match forwarding {
        Forwarding::DirectRoute => "g",
        Forwarding::Tunnel => "i",
        _ => "m",
    }
}

struct Words(Vec<Vec<u8>>);

impl Words {
    fn flag(&mut self, name: &str, on: bool) {
        if on {
            self.0.push(name.into());
        }
    }

    fn option(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        self.0.push(name.into());
        self.0.push(value.into());
    }

    fn maybe(&mut self, name: &str, value: Option<impl Into<Vec<u8>>>) {
        if let Some(value) = value {
            self.option(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Site, Vec<String>) {
        let config = lvs_config::parse(text.as_bytes(), &lvs_config::NoResolver).config.unwrap();
        let (site, problems) = site(&config);
        (site, problems.iter().map(ToString::to_string).collect())
    }

    const HTTPS: &str = "
        network = nat
        rsh_command = ssh
        virtual https {
            active = 1
            address = 10.0.0.100 eth0:1
            port = 443
            persistent = 60
            pmask = 255.255.255.0
            send_program = \"/bin/check.sh %h\"
            expect = \"OK\"
            load_monitor = uptime
            quiesce_server = 1
            reentry = 15
            timeout = 6
            sorry_server = 10.0.0.9
            server a {
                address = 10.0.0.3
                active = 1
                weight = 5
                port = 8443
            }
            server off {
                address = 10.0.0.4
            }
        }
        virtual idle {
            address = 10.0.0.101 eth0:2
        }
";

    #[test]
    fn a_block_becomes_a_service_servers_and_a_check() {
        let (site, problems) = read(HTTPS);
        assert_eq!(problems, [""; 0]);
        assert_eq!(site.blocks.len(), 1);
        let block = &site.blocks[0];
        assert_eq!(block.service.key.to_string(), "TCP 10.0.0.100:443");
        assert_eq!(block.service.persistence.unwrap().granularity.to_string(), "255.255.255.0");
        assert_eq!(block.members.len(), 1);
        let destination = block.destination(&block.members[0], 3);
        assert_eq!(destination.key().to_string(), "10.0.0.3:8443");
        assert_eq!(block.sorry.unwrap().key().to_string(), "10.0.0.9:443");
        assert_eq!((block.group.reentry, block.group.quiesce), (2, true));
        assert_eq!(
            block.group.load.as_ref().unwrap().join(&b' '),
            b"ssh %h uptime",
            "uptime is asked for by rsh_command"
        );
        assert_eq!(site.ipvsadm, None);
    }

    #[test]
    fn a_classic_monitor_is_started_as_the_original_was() {
        let (site, _) = read(HTTPS);
        let block = &site.blocks[0];
        let run = MonitorRun { program: "/usr/sbin/nanny", verbose: true, nodaemon: false };
        let words = block.monitor_command(&block.members[0], &run);
        let shown = words.iter().map(|w| String::from_utf8_lossy(w)).collect::<Vec<_>>().join("|");
        assert_eq!(
            shown,
            "/usr/sbin/nanny|-c|-h|10.0.0.3|-p|443|-r|8443|-e|/bin/check.sh %h|-x|OK|-q|-v|-a|15|\
             -I|/sbin/ipvsadm|-t|6|-w|5|-V|10.0.0.100|-M|m|-U|ssh|--nodaemon|--lvs"
        );
    }

    #[test]
    fn marks_methods_and_programs() {
        let (site, _) = read(
            "network = direct\nipvsadm = /opt/wrap\nvirtual m {\nactive = 1\naddress = 1.2.3.4 eth0:1\n\
             fwmark = 7\nprotocol = udp\nport = 53\nserver s {\nactive = 1\naddress = 10.0.0.3\nport = 5353\n}\n}\n",
        );
        let block = &site.blocks[0];
        assert_eq!(block.service.key.to_string(), "FWM 7");
        assert_eq!(site.ipvsadm.as_deref(), Some("/opt/wrap"));
        assert_eq!(block.forwarding, Forwarding::DirectRoute);
        let run = MonitorRun { program: "n", verbose: false, nodaemon: false };
        let words = block.monitor_command(&block.members[0], &run);
        for pair in [["-f", "7"], ["-p", "53"], ["-r", "5353"], ["-M", "g"], ["-I", "/opt/wrap"]] {
            assert!(words.windows(2).any(|w| w == pair.map(|p| p.as_bytes().to_vec())), "{pair:?}");
        }
        assert!(words.contains(&b"-u".to_vec()));
    }

    #[test]
    fn a_mark_needs_no_address() {
        let (site, problems) = read(
            "virtual m {\nactive = 1\nfwmark = 7\nserver s {\nactive = 1\naddress = 10.0.0.3\n}\n}\n",
        );
        assert_eq!(problems, [""; 0]);
        let block = &site.blocks[0];
        assert_eq!(block.service.key.to_string(), "FWM 7");
        let run = MonitorRun { program: "n", verbose: false, nodaemon: false };
        assert!(!block.monitor_command(&block.members[0], &run).contains(&b"-V".to_vec()));
    }

    #[test]
    fn what_cannot_be_acted_on_is_left_out_and_said() {
        let (site, problems) = read(
            "virtual a {\nactive = 1\nserver s {\nactive = 1\n}\n}\n\
             virtual b {\nactive = 1\naddress = 1.2.3.4 eth0:1\nserver s {\nactive = 1\n}\n\
             server t {\nactive = 1\naddress = 10.0.0.3\n}\nserver u {\nactive = 1\naddress = 10.0.0.3\n}\n}\n\
             virtual c {\nactive = 1\naddress = 1.2.3.4 eth0:1\n}\n",
        );
        assert_eq!(site.blocks.len(), 1);
        assert_eq!(site.blocks[0].members.len(), 1);
        let starts = [
            "virtual server a: it has no address",
            "virtual server b: server s has no",
            "virtual server b: server u: 10.0.0.3:80 is in",
            "virtual server c: TCP 1.2.3.4:80 belongs",
        ];
        assert_eq!(problems.len(), starts.len(), "{problems:?}");
        for (problem, start) in problems.iter().zip(starts) {
            assert!(problem.starts_with(start), "{problem}");
        }
    }
}
