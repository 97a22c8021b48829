//! piranhactl: look at a configuration and at running daemons, and give them orders.

mod ask;
mod configuration;
mod status;
mod system;
mod table;

use ask::Sockets;
use daemon::args::{self, Opt, Parsed, flag, option};
use daemon::terminal::{complain, print};
use health::state::Force;
use std::path::PathBuf;
use std::process::ExitCode;

const CONFIG: &str = "/etc/sysconfig/ha/lvs.cf";

const OPTIONS: [Opt; 8] = [
    option("configfile", Some('c'), "FILE", "Configuration file (/etc/sysconfig/ha/lvs.cf)"),
    flag("json", None, "Print JSON"),
    flag("system", None, "With check: look at this machine too"),
    option("control", None, "PATH", "lvsd's control socket (/run/piranha/lvsd.sock)"),
    option("pulse-control", None, "PATH", "pulse's control socket (/run/piranha/pulse.sock)"),
    flag("version", None, "Display version"),
    flag("help", Some('?'), "Show this help message"),
    flag("usage", None, "Display brief usage message"),
];

const COMMANDS: &str = "
Commands:
  check                 Say everything that is wrong or doubtful in the configuration;
                        exit 1 if anything keeps the daemons from working
  check --system        The same, and what this machine lacks for it: kernel settings,
                        modules, interfaces, firewall, programs; with the commands that
                        mend it
  config                Print the configuration with every default filled in
  status                Show both nodes, heartbeats, virtual servers, real servers, health
                        and connections
  handover              Make the partner the active node
  up BLOCK/SERVER       Keep a real server up whatever its checks find
  down BLOCK/SERVER     Keep a real server down: out of the table, connections and all
                        (with quiesce_server: as drain)
  drain BLOCK/SERVER    Give a real server no new connections; those it has go on
  auto BLOCK/SERVER     Let the checks decide again
  reload                Make pulse and lvsd read their configuration again
";

/// What a command comes to: text for standard output, or for standard error with exit status 1.
type Outcome = Result<String, Failure>;

/// A command that failed.
#[derive(Debug, Default)]
struct Failure {
    /// For standard output, all the same.
    output: String,
    /// For standard error.
    message: String,
}

impl Failure {
    fn message(text: impl Into<String>) -> Failure {
        Failure { output: String::new(), message: text.into() }
    }
}

fn main() -> ExitCode {
    let parsed = match args::parse(&OPTIONS, std::env::args_os().skip(1)) {
        Ok(parsed) => parsed,
        Err(error) => {
            complain(&format!("piranhactl: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match run(&parsed) {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            print(&failure.output);
            if !failure.message.is_empty() {
                complain(&format!("piranhactl: {}", failure.message));
            }
            ExitCode::FAILURE
        }
    }
}

fn run(parsed: &Parsed) -> Outcome {
    if parsed.has("help") {
        let text = args::help("piranhactl COMMAND", &OPTIONS);
        return Ok(text + COMMANDS);
    }
    if parsed.has("usage") {
        return Ok(args::usage("piranhactl COMMAND", &OPTIONS));
    }
    if parsed.has("version") {
        return Ok(args::version());
    }
    let file = PathBuf::from(parsed.text("configfile").unwrap_or_else(|| CONFIG.to_owned()));
    let sockets = Sockets {
        lvsd: parsed.text("control").unwrap_or_else(|| lvsd::status::SOCKET.to_owned()),
        pulse: parsed.text("pulse-control").unwrap_or_else(|| pulse::status::SOCKET.to_owned()),
    };
    let json = parsed.has("json");
    let words: Vec<&str> = parsed.operands.iter().map(String::as_str).collect();
    if parsed.has("system") && words != ["check"] {
        return Err(Failure::message("--system goes with check"));
    }
    match words.as_slice() {
        ["check"] if parsed.has("system") => {
            configuration::check_system(&file, json, || pulse_says(&sockets))
        }
        ["check"] => configuration::check(&file, json),
        ["config"] => configuration::show(&file, json),
        ["status"] => status::status(&sockets, json),
        ["handover"] => ask::handover(&sockets),
        ["up", server] => ask::force(&sockets, server, Force::Up),
        ["down", server] => ask::force(&sockets, server, Force::Down),
        ["drain", server] => ask::force(&sockets, server, Force::Drain),
        ["auto", server] => ask::force(&sockets, server, Force::Auto),
        ["reload"] => ask::reload(&sockets),
        [] => Err(Failure::message("no command given; try piranhactl --help")),
        [command @ ("up" | "down" | "drain" | "auto"), ..] => {
            Err(Failure::message(format!("{command} takes one server: BLOCK/SERVER")))
        }
        [command @ ("check" | "config" | "status" | "handover" | "reload"), rest @ ..] => {
            Err(Failure::message(format!("{command} takes no operand: {}", rest.join(" "))))
        }
        [command, ..] => {
            Err(Failure::message(format!("{command}: no such command; try piranhactl --help")))
        }
    }
}

/// Who is active, by pulse's word, if it answers.
fn pulse_says(sockets: &Sockets) -> Option<system::Pulse> {
    let status = sockets.pulse_status().ok()?;
    let partner = status.partner.as_ref();
    Some(system::Pulse { partner_active: partner.is_some_and(|partner| partner.state == "active") })
}
