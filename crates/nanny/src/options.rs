//! The command line of a nanny for one server.

use daemon::args::{self, Opt, Parsed, flag, option};
use health::recipe::{Recipe, Settings, Target};
use health::state::{Force, Policy};
use health::wire::{Group, Server};
use ipvs::{Destination, Family, Forwarding, Protocol, ServiceKey};
use lvs_config::Config;
use std::net::{IpAddr, Ipv4Addr};

/// Every option.
pub(crate) const TABLE: [Opt; 27] = [
    option("interval", Some('t'), "N", "Seconds from one check to the next, and its limit (10)"),
    option("ipvsadm", Some('I'), "PATH", "Program that changes the table (by netlink)"),
    option("loadcmd", Some('U'), "CMD", "Program that reads the server's load"),
    option("method", Some('M'), "m|g|i", "Forwarding: masquerade, direct or tunnel (m)"),
    flag("nodaemon", Some('n'), "Do not run as a daemon; log to the terminal as well"),
    flag("nofork", Some('c'), "Do not fork, but do disassociate from the terminal"),
    option("port", Some('p'), "N", "Port of the virtual service (80)"),
    option("rport", Some('r'), "N", "Port of the server (the virtual service's)"),
    option("reentrytime", Some('a'), "N", "Seconds a failed server must answer (180)"),
    option("scale", Some('S'), "N", "Most that load monitoring makes of a weight (10)"),
    option("server", Some('h'), "ADDR", "Address of the server"),
    option("send_program", Some('e'), "CMD", "Program that checks; %h is the server, %p its port"),
    option("send_string", Some('s'), "TEXT", "What to send"),
    option("expect_string", Some('x'), "TEXT", "What must come back (*: anything)"),
    flag("regex", None, "The expected text is a regular expression"),
    flag("suppress", Some('T'), "Take send and expect as they are, backslashes included"),
    flag("quiesce_server", Some('q'), "Weight 0 instead of removal for a failed server"),
    flag("udp", Some('u'), "The service is UDP"),
    flag("verbose", Some('v'), "Log more"),
    option("virtaddress", Some('V'), "ADDR", "Address of the virtual service"),
    option("fwmark", Some('f'), "N", "Firewall mark of the virtual service"),
    option("weight", Some('w'), "N", "Weight of the server (1)"),
    flag("test-start", None, "Check, but only show what would be changed"),
    flag("norun", None, "The same as --test-start"),
    flag("fos", None, "Watch a failover service"),
    flag("lvs", None, "Watch a real server"),
    flag("pool", None, "Watch the servers that lvsd names on standard input"),
];

/// The environment variable in which lvsd hands on an operator's order: `up` or `down`.
const FORCE_VARIABLE: &str = "NANNY_FORCE";

/// What a nanny is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A real server of a virtual service.
    Lvs {
        /// The virtual service.
        service: ServiceKey,
        /// The server's entry at full weight.
        entry: Destination,
    },
    /// A failover service on the partner.
    Fos,
}

/// The command line, understood.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) mode: Mode,
    pub(crate) target: Target,
    pub(crate) group: Group,
    pub(crate) weight: u32,
    /// What an operator had ordered before this process was started.
    pub(crate) force: Force,
    pub(crate) scale: u32,
    /// What is worth a line in the log about the check.
    pub(crate) notes: Vec<String>,
    pub(crate) ipvsadm: Option<String>,
    pub(crate) nodaemon: bool,
    pub(crate) nofork: bool,
    pub(crate) verbose: bool,
    pub(crate) dry: bool,
}

impl Options {
    /// Understands a command line.
    pub(crate) fn read(parsed: &Parsed) -> Result<Options, String> {
        let fos = parsed.has("fos");
        if fos == parsed.has("lvs") {
            return Err("unknown service type".to_owned());
        }
        let addr =
            address(parsed, "server")?.ok_or("No address supplied. Use '--help' for help.")?;
        let port = number(parsed, "port", 80, 65_535)?;
        let rport = number(parsed, "rport", port, 65_535)?;
        let interval = number(parsed, "interval", 10, u32::MAX)?;
        let default_reentry = if fos { interval } else { 180 };
        let reentry = number(parsed, "reentrytime", default_reentry, u32::MAX)?;
        let mark = number(parsed, "fwmark", 0, u32::MAX)?;
        let weight = number(parsed, "weight", 1, u32::MAX)?;
        let vip = address(parsed, "virtaddress")?;
        let target = Target { addr, port: port16(rport), udp: parsed.has("udp") };
        let mode = if fos {
            Mode::Fos
        } else {
            lvs_mode(parsed, &target, vip, port16(port), mark, weight)?
        };
        let (recipe, notes) = recipe(parsed, port16(port), interval);
        let group = Group {
            id: 1,
            name: "nanny".to_owned(),
            virtual_server: virtual_name(vip, port, mark),
            recipe,
            udp: target.udp,
            reentry: Policy::reentry_checks(reentry, interval),
            quiesce: parsed.has("quiesce_server"),
            load: parsed
                .text("loadcmd")
                .filter(|c| c != "none")
                .as_deref()
                .map(health::pool::load_words),
        };
        Ok(Options {
            mode,
            target,
            group,
            weight,
            force: Force::Auto,
            scale: number(parsed, "scale", health::pool::SCALE, u32::MAX)?.max(1),
            notes,
            ipvsadm: parsed.text("ipvsadm").filter(|path| path != Config::IPVSADM),
            nodaemon: parsed.has("nodaemon"),
            nofork: parsed.has("nofork"),
            verbose: parsed.has("verbose"),
            dry: parsed.has("test-start") || parsed.has("norun"),
        })
    }

    /// The same with the order in this environment: lvsd cannot send a signal to a process that may
    /// not handle it yet.
    pub(crate) fn with_environment(mut self) -> Options {
        self.force = match std::env::var(FORCE_VARIABLE).as_deref() {
            Ok("up") => Force::Up,
            Ok("down") => Force::Down,
            _ => Force::Auto,
        };
        self
    }

    /// The server as the pool knows it.
    pub(crate) fn server(&self) -> Server {
        Server {
            id: 1,
            group: self.group.id,
            addr: self.target.addr,
            port: self.target.port,
            weight: self.weight,
            known: None,
            force: self.force,
        }
    }
}

fn lvs_mode(
    parsed: &Parsed,
    target: &Target,
    vip: Option<IpAddr>,
    port: u16,
    mark: u32,
    weight: u32,
) -> Result<Mode, String> {
    let forwarding = match parsed.text("method").as_deref() {
        None | Some("m") => Forwarding::Masquerade,
        Some("g") => Forwarding::DirectRoute,
        Some("i") => Forwarding::Tunnel,
        Some(other) => {
            return Err(format!("unknown forwarding method {other}: m, g or i (-M)"));
        }
    };
    let protocol = if target.udp { Protocol::Udp } else { Protocol::Tcp };
    let service = match (mark, vip) {
        (0, Some(addr)) => ServiceKey::Address { protocol, addr, port },
        (0, None) => {
            return Err("No virtual address supplied (-V, or -f for a mark). Use '--help' for \
                        help."
                .to_owned());
        }
        (mark, _) => ServiceKey::Fwmark { mark, family: Family::of(&target.addr) },
    };
    let entry = Destination::new(target.addr, target.port, forwarding, weight).as_stored(&service);
    Ok(Mode::Lvs { service, entry })
}

fn recipe(parsed: &Parsed, virtual_port: u16, interval: u32) -> (Recipe, Vec<String>) {
    Settings {
        program: parsed.bytes("send_program"),
        send: parsed.bytes("send_string"),
        expect: parsed.bytes("expect_string"),
        regex: parsed.has("regex"),
        raw: parsed.has("suppress"),
        udp: parsed.has("udp"),
        virtual_port,
        interval,
    }
    .recipe()
}

fn virtual_name(vip: Option<IpAddr>, port: u32, mark: u32) -> String {
    match (mark, vip) {
        (0, Some(vip)) => format!("{vip}:{port}"),
        (0, None) => format!("port {port}"),
        (mark, _) => format!("FWM {mark}"),
    }
}

fn address(parsed: &Parsed, long: &str) -> Result<Option<IpAddr>, String> {
    let Some(text) = parsed.text(long) else { return Ok(None) };
    text.parse()
        .ok()
        .filter(|addr| *addr != IpAddr::V4(Ipv4Addr::UNSPECIFIED))
        .map(Some)
        .ok_or_else(|| format!("bad IP address -- {text}"))
}

/// A number from 0 to `most`.
fn number(parsed: &Parsed, long: &str, default: u32, most: u32) -> Result<u32, String> {
    let Some(given) = parsed.number(long).map_err(|e: args::Error| e.to_string())? else {
        return Ok(default);
    };
    u32::try_from(given)
        .ok()
        .filter(|n| *n <= most)
        .ok_or_else(|| format!("bad argument --{long}: {given} is not between 0 and {most}"))
}

fn port16(number: u32) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::args::Start;
    use health::recipe::{Action, Expect};

    fn read(line: &str) -> Result<Options, String> {
        let words = line.split_whitespace().map(std::ffi::OsString::from).collect();
        match args::start("nanny", "nanny", &TABLE, words) {
            Start::Run(parsed) => Options::read(&parsed),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_classic_command_line() {
        let line =
            "-c -h 10.0.0.3 -p 443 -r 8443 -x OK -q -a 15 -t 6 -w 5 -V 10.0.0.100 -M g --lvs";
        let options = read(line).unwrap();
        let Mode::Lvs { service, entry } = &options.mode else { panic!() };
        assert_eq!(service.to_string(), "TCP 10.0.0.100:443");
        assert_eq!((entry.key().to_string().as_str(), entry.weight), ("10.0.0.3:443", 5));
        assert_eq!(options.target.to_string(), "10.0.0.3:8443");
        assert_eq!((options.group.reentry, options.group.quiesce, options.nofork), (2, true, true));
        assert_eq!(options.group.virtual_server, "10.0.0.100:443");
        let want = Action::Exchange { send: None, expect: Some(Expect::Prefix(b"OK".to_vec())) };
        assert_eq!(options.group.recipe.action, want);
    }

    #[test]
    fn the_kinds_of_service() {
        let mark = read("-h 10.0.0.3 -f 7 --lvs").unwrap();
        assert!(matches!(mark.mode, Mode::Lvs { service: ServiceKey::Fwmark { mark: 7, .. }, .. }));
        let udp = read("-h 10.0.0.3 -V 10.0.0.1 -p 53 -u --lvs").unwrap();
        assert_eq!(udp.group.virtual_server, "10.0.0.1:53");
        assert!(udp.target.udp);
        let fos = read("--fos -h 10.0.0.3 -V 10.0.0.2 -p 21 -t 7").unwrap();
        assert_eq!((fos.mode, fos.group.reentry), (Mode::Fos, 1));
    }

    #[test]
    fn what_is_refused() {
        let cases = [
            ("--lvs", "No address supplied. Use '--help' for help."),
            ("--lvs -h nowhere", "bad IP address -- nowhere"),
            ("--lvs -h 1.2.3.4 -V x", "bad IP address -- x"),
            ("-h 1.2.3.4", "unknown service type"),
            ("-h 1.2.3.4 --fos --lvs", "unknown service type"),
            ("--lvs -h 1.2.3.4 -t ten", "bad argument -t: invalid numeric value"),
            ("--lvs -h 1.2.3.4 -p 70000", "bad argument --port: 70000 is not between 0 and 65535"),
            ("--lvs -h 1.2.3.4 -w -1", "bad argument --weight: -1 is not between"),
            ("--lvs -h 1.2.3.4 -V 1.2.3.5 -M x", "unknown forwarding method x"),
            ("--lvs -h 1.2.3.4", "No virtual address supplied"),
        ];
        for (line, message) in cases {
            let got = read(line).unwrap_err();
            assert!(got.starts_with(message), "{line}: {got}");
        }
    }
}
