//! lvsd: keeps the kernel's IPVS table as lvs.cf says.

use daemon::args::{self, Parsed, Start, flag, option};
use daemon::logging;
use daemon::pidfile::PidFile;
use daemon::signals::{SIGHUP, SIGUSR1, SIGUSR2, Signals};
use daemon::terminal::{complain, print};
use ipvs::{Change, Timeouts};
use lvsd::director::{Director, Options, command_line, open_table, quoted};
use lvsd::load::{Loaded, NAME, load};
use lvsd::site::MonitorRun;
use lvsd::status::SOCKET;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const CONFIG: &str = "/etc/sysconfig/ha/lvs.cf";
const PIDFILE: &str = "/var/run/lvs.pid";

const OPTIONS: [args::Opt; 7] = [
    option("configfile", Some('c'), "FILE", "Configuration file (/etc/sysconfig/ha/lvs.cf)"),
    flag("nodaemon", Some('n'), "Do not run as a daemon; log to the terminal as well"),
    flag("nofork", None, "Do not fork, but do disassociate from the terminal"),
    flag("test-start", Some('t'), "Show what would be done and do nothing"),
    flag("standby", None, "Check servers but leave the table alone until SIGUSR1"),
    flag("verbose", Some('v'), "Log more"),
    option("control", None, "PATH", "Control socket (/run/piranha/lvsd.sock)"),
];

fn main() -> ExitCode {
    match args::start(NAME, "lvsd", &OPTIONS, std::env::args_os().skip(1).collect()) {
        Start::Print(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Start::Refuse(text) => {
            complain(&text);
            ExitCode::FAILURE
        }
        Start::Run(parsed) => run(&parsed),
    }
}

fn run(parsed: &Parsed) -> ExitCode {
    // Before anything that takes time: an order that comes now must not be lost, nor end this process.
    let signals = match Signals::new(&[SIGHUP, SIGUSR1, SIGUSR2]) {
        Ok(signals) => signals,
        Err(error) => return refuse(&error),
    };
    let file = PathBuf::from(parsed.text("configfile").unwrap_or_else(|| CONFIG.to_owned()));
    let loaded = match load(&file) {
        Ok(loaded) => loaded,
        Err(text) => {
            complain(&text);
            return ExitCode::FAILURE;
        }
    };
    let options = Options {
        // A daemon's directory is `/`.
        file: std::path::absolute(&file).unwrap_or(file),
        verbose: parsed.has("verbose"),
        nodaemon: parsed.has("nodaemon"),
        standby: parsed.has("standby"),
        socket: PathBuf::from(parsed.text("control").unwrap_or_else(|| SOCKET.to_owned())),
    };
    if parsed.has("test-start") {
        print(&test_start(&loaded, options.verbose));
        return ExitCode::SUCCESS;
    }
    let table = match open_table(loaded.site.ipvsadm.as_deref()) {
        Ok(table) => table,
        Err(error) => return refuse(&error),
    };
    let detached = match (options.nodaemon, parsed.has("nofork")) {
        (true, _) => Ok(()),
        (false, true) => daemon::detach_in_place(),
        (false, false) => daemon::detach(),
    };
    if let Err(error) = detached {
        return refuse(&format_args!("cannot become a daemon: {error}"));
    }
    logging::init(&logging::Options {
        ident: "lvsd",
        terminal: options.nodaemon.then_some(NAME),
        verbose: options.verbose,
    });
    let status = Director::new(options, table, loaded, signals).and_then(|director| {
        // Not before it is sure that there is no other lvsd, whose pid file this would be.
        let _pidfile =
            PidFile::create(Path::new(PIDFILE)).inspect_err(|error| log::error!("{error}")).ok();
        director.run()
    });
    match status {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn refuse(why: &dyn std::fmt::Display) -> ExitCode {
    complain(&format!("{NAME}: {why}"));
    ExitCode::FAILURE
}

/// What would be done: each change as the command it stands for, monitors likewise.
fn test_start(loaded: &Loaded, verbose: bool) -> String {
    let site = &loaded.site;
    let mut text = String::new();
    let mut say = |line: String| {
        text.push_str(NAME);
        text.push_str(": ");
        text.push_str(&line);
        text.push('\n');
    };
    for problem in &loaded.problems {
        say(problem.to_string());
    }
    let command =
        |change: &Change| format!("running command {}", command_line(&site.ipvsadm_path, change));
    if site.timeouts != Timeouts::default() {
        say(command(&Change::SetTimeouts(site.timeouts)));
    }
    say(command(&Change::Flush));
    for block in &site.blocks {
        say(format!("starting virtual service {} active: {}", block.name, block.port));
        say(command(&Change::AddService(block.service)));
        let program =
            block.client_monitor.as_deref().unwrap_or(lvs_config::Virtual::CLIENT_MONITOR);
        let run = MonitorRun { program, verbose, nodaemon: false };
        for member in &block.members {
            let words = block.monitor_command(member, &run);
            let words = words.iter().map(|w| String::from_utf8_lossy(w).into_owned());
            say(format!("running command {}", quoted(words)));
        }
    }
    text
}
