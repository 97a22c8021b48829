//! pulse: heartbeat, failover and virtual addresses of a pair of directors.

use daemon::args::{self, Parsed, Start, flag, option};
use daemon::pidfile::PidFile;
use daemon::poll::Poller;
use daemon::terminal::{complain, print};
use daemon::{child, logging};
use lvs_config::ServiceKind;
use lvs_net::Netlink;
use pulse::guard;
use pulse::load::{self, NAME, Setup};
use pulse::node::{Node, Options, PATHS};
use pulse::paths::Paths;
use pulse::service::Programs;
use pulse::status::SOCKET;
use pulse::wire::Role;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const CONFIG: &str = "/etc/sysconfig/ha/lvs.cf";
const PIDFILE: &str = "/var/run/pulse.pid";
const LVSD: &str = "/usr/sbin/lvsd";
const FOS: &str = "/usr/sbin/fos";

const OPTIONS: [args::Opt; 9] = [
    option("configfile", Some('c'), "FILE", "Configuration file (/etc/sysconfig/ha/lvs.cf)"),
    flag("nodaemon", Some('n'), "Do not run as a daemon; log to the terminal as well"),
    flag("test-start", Some('t'), "Show what would be done and do nothing"),
    flag("norun", None, "The same"),
    flag("verbose", Some('v'), "Log more"),
    flag("forceactive", None, "Become active at the start, whatever the partner is"),
    option("lvsd", None, "PATH", "lvsd (/usr/sbin/lvsd)"),
    option("fos", None, "PATH", "fos (/usr/sbin/fos)"),
    option("control", None, "PATH", "Control socket (/run/piranha/pulse.sock)"),
];

fn main() -> ExitCode {
    if guard::is_guard() {
        return guard::main();
    }
    match args::start(NAME, NAME, &OPTIONS, std::env::args_os().skip(1).collect()) {
        Start::Print(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Start::Refuse(text) => {
            complain(&text);
            ExitCode::FAILURE
        }
        Start::Run(parsed) => run(&parsed).unwrap_or_else(|text| {
            complain(&text);
            ExitCode::FAILURE
        }),
    }
}

fn options(parsed: &Parsed) -> Options {
    let file = PathBuf::from(parsed.text("configfile").unwrap_or_else(|| CONFIG.to_owned()));
    let program = |name: &str, installed| {
        parsed.text(name).unwrap_or_else(|| child::beside_us(name, installed))
    };
    Options {
        programs: Programs {
            lvsd: program("lvsd", LVSD),
            fos: program("fos", FOS),
            // A daemon's directory is `/`.
            file: std::path::absolute(&file).unwrap_or(file),
            verbose: parsed.has("verbose"),
            nodaemon: parsed.has("nodaemon"),
        },
        socket: PathBuf::from(parsed.text("control").unwrap_or_else(|| SOCKET.to_owned())),
        forced: parsed.has("forceactive"),
    }
}

/// From the command line to the end. An error is for the terminal: there is no log yet.
fn run(parsed: &Parsed) -> Result<ExitCode, String> {
    let mut options = options(parsed);
    // Messages name the file as it was given.
    let given = PathBuf::from(parsed.text("configfile").unwrap_or_else(|| CONFIG.to_owned()));
    let config = load::read(&given)?;
    let own = own_addresses()?;
    let setup = load::setup(&config, &own, &given)?;
    drop(config);
    if parsed.has("test-start") || parsed.has("norun") {
        print(&test_start(&setup, &options));
        return Ok(ExitCode::SUCCESS);
    }
    if setup.role == Role::Backup && !setup.partner {
        start_log(&options);
        return Ok(refuse_marked_inactive(&setup));
    }
    let poller = Poller::new().map_err(|e| format!("{NAME}: {e}"))?;
    let no_socket = |error: &dyn std::fmt::Display| {
        format!("{NAME}: cannot create heartbeat socket. running as root?\n{NAME}: {error}")
    };
    // The kernel may be set to bind what is not here (net.ipv4.ip_nonlocal_bind).
    if let Some(missing) = setup.own().into_iter().find(|addr| !own.contains(addr)) {
        return Err(no_socket(&format_args!(
            "no interface of this machine has {missing}: is this node the primary or the backup \
             of {}?",
            given.display()
        )));
    }
    let paths = Paths::open(&setup, &poller, PATHS).map_err(|error| no_socket(&error))?;
    for program in [&mut options.programs.lvsd, &mut options.programs.fos] {
        *program = absolute(program);
    }
    if !options.programs.nodaemon {
        daemon::detach().map_err(|e| format!("{NAME}: cannot become a daemon: {e}"))?;
    }
    start_log(&options);
    let status = Node::new(options, setup, poller, paths).and_then(|node| {
        // Not before it is sure that there is no other pulse, whose pid file this would be.
        let _pidfile =
            PidFile::create(Path::new(PIDFILE)).inspect_err(|error| log::error!("{error}")).ok();
        node.run()
    });
    match status {
        Ok(0) => Ok(ExitCode::SUCCESS),
        Ok(_) => Ok(ExitCode::FAILURE),
        Err(error) => {
            log::error!("{error}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// A program's path, for a daemon, whose directory is `/`. A name alone is looked for in PATH.
fn absolute(program: &str) -> String {
    match std::path::absolute(program) {
        Ok(path) if program.contains('/') => path.display().to_string(),
        _ => program.to_owned(),
    }
}

fn start_log(options: &Options) {
    logging::init(&logging::Options {
        ident: NAME,
        terminal: options.programs.nodaemon.then_some(NAME),
        verbose: options.programs.verbose,
    });
}

fn own_addresses() -> Result<HashSet<std::net::Ipv4Addr>, String> {
    let addresses = Netlink::open().and_then(|mut netlink| netlink.addresses());
    let addresses = addresses.map_err(|error| format!("{NAME}: {error}"))?;
    Ok(addresses.into_iter().map(|address| address.addr).collect())
}

/// Before it becomes a daemon, so that whoever starts it sees the status.
fn refuse_marked_inactive(setup: &Setup) -> ExitCode {
    log::info!("STARTING PULSE AS BACKUP");
    for finding in &setup.findings {
        log::warn!("{finding}");
    }
    log::error!("We are backup node and backup is marked inactive -- exiting pulse");
    ExitCode::FAILURE
}

/// What would be done, a line each.
fn test_start(setup: &Setup, options: &Options) -> String {
    let mut text = String::new();
    let mut say = |line: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{NAME}: {line}");
    };
    for finding in &setup.findings {
        say(format_args!("{finding}"));
    }
    say(format_args!("STARTING PULSE AS {}", setup.role.as_str().to_uppercase()));
    if setup.role == Role::Backup && !setup.partner {
        say(format_args!("We are backup node and backup is marked inactive -- exiting pulse"));
    }
    for way in &setup.paths {
        match way.partner {
            Some(partner) => say(format_args!(
                "heartbeat {}: from {} to {partner}, port {}, every {} ms, dead after {} ms",
                way.name, way.local, setup.port, setup.keepalive, setup.deadtime
            )),
            None => say(format_args!("heartbeat {}: from {}, to nobody", way.name, way.local)),
        }
    }
    for (when, words) in [("active", &setup.active_cmd), ("inactive", &setup.inactive_cmd)] {
        if let Some(words) = words.as_ref().filter(|_| setup.service == ServiceKind::Lvs) {
            let words = words.iter().map(|w| String::from_utf8_lossy(w).into_owned());
            say(format_args!("when {when}: running command {}", quoted(words)));
        }
    }
    let words = options.programs.active_words(setup.service).into_iter();
    say(format_args!("when active: running command {}", quoted(words)));
    if let Some(sync) = &setup.sync {
        say(format_args!(
            "when active: sync daemon as master on {}, else as backup; id {}",
            sync.interface, sync.id
        ));
    }
    let mut netlink = Netlink::open();
    let mut read = || {
        let netlink = netlink.as_mut().ok()?;
        Some((netlink.links().ok()?, netlink.addresses().ok()?))
    };
    let (links, addresses) = read().unwrap_or_default();
    let moves: HashSet<_> = setup.claims.iter().map(|claim| claim.addr).collect();
    let fixed: Vec<_> = addresses.iter().filter(|a| !moves.contains(&a.addr)).collect();
    for claim in &setup.claims {
        let link = links.iter().find(|link| link.name == claim.interface());
        let address = claim.resolve(&fixed, link.map_or(0, |link| link.index), None);
        match link {
            Some(_) => say(format_args!("when active: {address} on {}", claim.label)),
            None => say(format_args!(
                "when active: {address} on {}, but there is no interface {}",
                claim.label,
                claim.interface()
            )),
        }
    }
    text
}

/// Words in quotes, with blanks between them.
fn quoted(words: impl Iterator<Item = String>) -> String {
    words.map(|w| format!("\"{w}\"")).collect::<Vec<_>>().join(" ")
}
