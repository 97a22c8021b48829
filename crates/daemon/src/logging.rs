//! One logging facade (`log`) with two ends: syslog, and the terminal where a program runs with
//! `--nodaemon`. Which lines exist is part of the suite's interface: people search for them.

use log::{Level, LevelFilter, Log, Metadata, Record};
use std::fmt::Write as _;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Where syslogd listens (syslog(3)).
const DEV_LOG: &str = "/dev/log";
/// `LOG_DAEMON` of syslog(3), RFC 5424 facility 3, shifted into place.
const FACILITY_DAEMON: u8 = 3 << 3;
/// Longer lines are cut: old syslog daemons take 2 kB a message (RFC 3164 1 kB).
const LONGEST: usize = 2000;
/// How long one message waits for a syslogd that is behind. One that stays stuck is not waited for
/// again: messages are then dropped and counted until it takes one.
const PATIENCE: Duration = Duration::from_millis(100);
/// How often a missing syslogd is looked for.
const RECONNECT: Duration = Duration::from_secs(1);

/// The suite's crates: `--verbose` raises their level only.
const OURS: [&str; 12] = [
    "daemon",
    "fos",
    "health",
    "ipvs",
    "lvs_config",
    "lvs_net",
    "lvsd",
    "nanny",
    "netlink",
    "piranha_gui",
    "pulse",
    "send_arp",
];

/// What to log where.
#[derive(Debug, Clone)]
pub struct Options {
    /// The name in syslog.
    pub ident: &'static str,
    /// The name before each line on standard output; `None`: not there.
    pub terminal: Option<&'static str>,
    /// Also lines of level debug.
    pub verbose: bool,
}

/// Starts logging for this process, which must have forked already if it is going to be a daemon:
/// its pid stands in every line. `RUST_LOG` overrules the levels (env_logger's syntax). A second
/// call changes nothing.
pub fn init(options: &Options) {
    let mut builder = env_logger::Builder::new();
    filter(&mut builder, options.verbose, &std::env::var("RUST_LOG").unwrap_or_default());
    builder.target(env_logger::Target::Stdout);
    let prefix = options.terminal.unwrap_or(options.ident);
    builder.format(move |out, record| {
        io::Write::write_all(out, format!("{prefix}: {}\n", printable(record)).as_bytes())
    });
    let lines = builder.build();
    let most = lines.filter();
    let both = Both {
        lines,
        terminal: options.terminal.is_some(),
        syslog: Mutex::new(Syslog::new(options.ident)),
    };
    if log::set_boxed_logger(Box::new(both)).is_ok() {
        log::set_max_level(most);
    }
}

/// Which lines there are. `spec` is what `RUST_LOG` says; a level that it gives for everything
/// (`debug`) is one for the suite's crates, too.
fn filter(builder: &mut env_logger::Builder, verbose: bool, spec: &str) {
    builder.filter_level(LevelFilter::Warn);
    let levels = spec.split('/').next().unwrap_or_default();
    if !levels.split(',').any(|part| part.trim().parse::<LevelFilter>().is_ok()) {
        let level = if verbose { LevelFilter::Debug } else { LevelFilter::Info };
        for module in OURS {
            builder.filter_module(module, level);
        }
    }
    builder.parse_filters(spec);
}

struct Both {
    lines: env_logger::Logger,
    terminal: bool,
    syslog: Mutex<Syslog>,
}

impl Log for Both {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.lines.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.lines.matches(record) {
            return;
        }
        if self.terminal {
            self.lines.log(record);
        }
        if let Ok(mut syslog) = self.syslog.lock() {
            syslog.write(record.level(), &printable(record));
        }
    }

    fn flush(&self) {}
}

/// The text of a record as one line: whatever would end it or reach into a terminal is escaped.
/// Outside text (a server's answer, a block's name) comes through here.
fn printable(record: &Record<'_>) -> String {
    let text = record.args().to_string();
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push(' '),
            c if c.is_control() => {
                let _ = write!(line, "\\x{:02x}", u32::from(c));
            }
            c => line.push(c),
        }
        if line.len() >= LONGEST {
            line.push_str("...");
            break;
        }
    }
    line
}

/// A client of syslogd that never hangs on it.
#[derive(Debug)]
struct Syslog {
    ident: &'static str,
    pid: u32,
    socket: Option<UnixDatagram>,
    /// When a connection was last tried in vain.
    failed: Option<Instant>,
    stuck: bool,
    lost: u64,
}

impl Syslog {
    fn new(ident: &'static str) -> Syslog {
        Syslog { ident, pid: std::process::id(), socket: None, failed: None, stuck: false, lost: 0 }
    }

    fn write(&mut self, level: Level, text: &str) {
        if self.connection().is_none() {
            self.lost += 1;
            return;
        }
        if self.lost > 0 && self.send(Level::Warn, &format!("{} messages lost", self.lost)) {
            self.lost = 0;
        }
        if !self.send(level, text) {
            self.lost += 1;
        }
    }

    /// Sends one message in the form that syslog(3) writes, less the time, which syslogd adds.
    fn send(&mut self, level: Level, text: &str) -> bool {
        let priority = FACILITY_DAEMON | severity(level);
        let message = format!("<{priority}>{}[{}]: {text}", self.ident, self.pid);
        // Twice, since a syslogd that was restarted refuses the old connection.
        for _ in 0..2 {
            let Some(socket) = self.connection() else { return false };
            match socket.send(message.as_bytes()) {
                Ok(_) => {
                    self.set_stuck(false);
                    return true;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.set_stuck(true);
                    return false;
                }
                Err(_) => self.socket = None,
            }
        }
        false
    }

    fn connection(&mut self) -> Option<&UnixDatagram> {
        if self.socket.is_none() {
            if self.failed.is_some_and(|at| at.elapsed() < RECONNECT) {
                return None;
            }
            match connect() {
                Ok(socket) => (self.socket, self.failed, self.stuck) = (Some(socket), None, false),
                Err(_) => self.failed = Some(Instant::now()),
            }
        }
        self.socket.as_ref()
    }

    fn set_stuck(&mut self, stuck: bool) {
        if self.stuck != stuck {
            self.stuck = stuck;
            if let Some(socket) = &self.socket {
                let _ = socket.set_nonblocking(stuck);
            }
        }
    }
}

fn connect() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(DEV_LOG)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Severities of RFC 5424, table 2.
fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> String {
        printable(&Record::builder().args(format_args!("{text}")).build())
    }

    #[test]
    fn outside_text_stays_on_its_line() {
        assert_eq!(line("a\nlvsd[1]: b\r\x1b[31m\tc"), "a\\nlvsd[1]: b\\r\\x1b[31m c");
        assert_eq!(line(&"x".repeat(5000)).len(), LONGEST + 3);
        assert_eq!(line("grün"), "grün");
    }

    #[test]
    fn rust_log_overrules_what_is_logged() {
        let logs = |verbose, spec, level, target| {
            let mut builder = env_logger::Builder::new();
            filter(&mut builder, verbose, spec);
            builder.build().enabled(&Metadata::builder().level(level).target(target).build())
        };
        let cases = [
            (false, "", Level::Info, "lvsd::site", true),
            (false, "", Level::Debug, "lvsd::site", false),
            (true, "", Level::Debug, "lvsd::site", true),
            (true, "", Level::Info, "neli", false),
            (false, "debug", Level::Debug, "lvsd::site", true),
            (false, "debug", Level::Debug, "neli", true),
            (false, "error", Level::Info, "lvsd::site", false),
            (false, "neli=info,debug", Level::Debug, "fos", true),
            (false, "lvsd=debug", Level::Debug, "lvsd::site", true),
            (false, "lvsd=debug", Level::Debug, "nanny", false),
            (false, "lvsd=debug", Level::Info, "nanny", true),
        ];
        for (verbose, spec, level, target, want) in cases {
            assert_eq!(logs(verbose, spec, level, target), want, "{spec} {level} {target}");
        }
    }

    #[test]
    fn losses_are_counted_while_there_is_no_connection() {
        let mut syslog = Syslog::new("t");
        syslog.failed = Some(Instant::now() + Duration::from_secs(3600));
        syslog.write(Level::Info, "one");
        syslog.write(Level::Info, "two");
        assert_eq!(syslog.lost, 2);
    }

    #[test]
    fn messages_arrive_and_a_full_queue_is_waited_for_once() {
        let (reader, writer) = UnixDatagram::pair().unwrap();
        writer.set_write_timeout(Some(Duration::from_millis(1))).unwrap();
        let mut syslog = Syslog { socket: Some(writer), ..Syslog::new("t") };
        while syslog.lost == 0 {
            syslog.write(Level::Info, "x");
        }
        assert!(syslog.stuck);
        let mut buffer = [0; 256];
        let want = format!("<30>t[{}]: x", std::process::id());
        let got = reader.recv(&mut buffer).unwrap();
        assert_eq!(std::str::from_utf8(&buffer[..got]).unwrap(), want);
        reader.set_nonblocking(true).unwrap();
        while reader.recv(&mut buffer).is_ok() {}
        syslog.write(Level::Error, "y");
        assert!(!syslog.stuck);
        let got = reader.recv(&mut buffer).unwrap();
        assert!(buffer[..got].ends_with(b"1 messages lost"));
        let got = reader.recv(&mut buffer).unwrap();
        assert!(buffer[..got].starts_with(b"<27>") && buffer[..got].ends_with(b": y"));
    }
}
