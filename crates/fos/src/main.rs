//! fos: starts the services of this node, or watches those of its partner.

use daemon::args::{self, Parsed, Start, flag, option};
use daemon::terminal::{complain, print};
use daemon::{child, logging};
use fos::load::{NAME, load};
use fos::sequence::Mode;
use fos::site::{MonitorRun, Problem, Site, quoted};
use fos::supervisor::{Options, Supervisor};
use lvs_config::Virtual;
use std::path::PathBuf;
use std::process::ExitCode;

const CONFIG: &str = "/etc/sysconfig/ha/lvs.cf";
const PIDFILE: &str = "/var/run/fos.pid";

const OPTIONS: [args::Opt; 8] = [
    option("configfile", Some('c'), "FILE", "Configuration file (/etc/sysconfig/ha/lvs.cf)"),
    flag("monitor", Some('f'), "Watch the services on the partner"),
    flag("active", Some('F'), "Start the services on this node"),
    flag("nodaemon", Some('n'), "Do not run as a daemon; log to the terminal as well"),
    flag("nofork", None, "Do not fork, but do disassociate from the terminal"),
    flag("test-start", Some('t'), "Show what would be done and do nothing"),
    flag("verbose", Some('v'), "Log more"),
    option("pidfile", None, "PATH", "Pid file (/var/run/fos.pid)"),
];

fn main() -> ExitCode {
    match args::start(NAME, NAME, &OPTIONS, std::env::args_os().skip(1).collect()) {
        Start::Print(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Start::Refuse(text) => {
            complain(&text);
            ExitCode::FAILURE
        }
        Start::Run(parsed) => match run(&parsed) {
            Ok(()) => ExitCode::SUCCESS,
            Err(text) => {
                complain(&text);
                ExitCode::FAILURE
            }
        },
    }
}

/// Does what the command line says.
fn run(parsed: &Parsed) -> Result<(), String> {
    let options = Options {
        mode: mode(parsed)?,
        verbose: parsed.has("verbose"),
        nodaemon: parsed.has("nodaemon"),
        pidfile: PathBuf::from(parsed.text("pidfile").unwrap_or_else(|| PIDFILE.to_owned())),
    };
    let file = PathBuf::from(parsed.text("configfile").unwrap_or_else(|| CONFIG.to_owned()));
    let (site, problems) = load(&file)?;
    if parsed.has("test-start") {
        print(&test_start(&options, &site, &problems));
        return Ok(());
    }
    // A daemon's directory is `/`.
    let pidfile = std::path::absolute(&options.pidfile).unwrap_or(options.pidfile);
    let options = Options { pidfile, ..options };
    let detached = match (options.nodaemon, parsed.has("nofork")) {
        (true, _) => Ok(()),
        (false, true) => daemon::detach_in_place(),
        (false, false) => daemon::detach(),
    };
    detached.map_err(|e| format!("{NAME}: cannot become a daemon: {e}"))?;
    logging::init(&logging::Options {
        ident: NAME,
        terminal: options.nodaemon.then_some(NAME),
        verbose: options.verbose,
    });
    for problem in &problems {
        log::error!("{problem}");
    }
    let nanny = child::beside_us("nanny", Virtual::CLIENT_MONITOR);
    let ended = Supervisor::new(options, site, nanny).and_then(Supervisor::run);
    // The terminal may be gone by now: both.
    ended.inspect_err(|error| log::error!("{error}")).map_err(|error| format!("{NAME}: {error}"))
}

/// The original's words, its spelling too: people search for them.
fn mode(parsed: &Parsed) -> Result<Mode, String> {
    match (parsed.has("monitor"), parsed.has("active")) {
        (true, true) => Err(format!("{NAME}: Cannot specifiy both -f and -F!")),
        (false, false) => Err(format!("{NAME}: Either --monitor (-f) or --active (-F) required!")),
        (true, false) => Ok(Mode::Monitor),
        (false, true) => Ok(Mode::Active),
    }
}

/// What would be done: the commands, in their order.
fn test_start(options: &Options, site: &Site, problems: &[Problem]) -> String {
    let mut lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let command = |words: &[Vec<u8>]| format!("running command {}", quoted(words));
    match options.mode {
        Mode::Active => {
            for service in &site.services {
                lines.push(format!("starting service {service}"));
                lines.extend(service.stop.as_deref().map(command));
                lines.extend(service.start.as_deref().map(command));
            }
        }
        Mode::Monitor => {
            for service in site.services.iter().rev() {
                lines.extend(service.stop.as_deref().map(command));
            }
            let nanny = Virtual::CLIENT_MONITOR;
            let run = MonitorRun { nanny, verbose: options.verbose, nodaemon: options.nodaemon };
            for service in &site.services {
                lines.push(format!("watching service {service}"));
                lines.push(command(&service.monitor_command(&run)));
            }
        }
    }
    lines.iter().map(|line| format!("{NAME}: {line}\n")).collect()
}
