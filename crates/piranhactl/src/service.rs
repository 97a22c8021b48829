//! Commands that speak with lvsd.

use crate::table::Table;
use crate::{Failure, Outcome};
use daemon::control;
use health::state::Force;
use lvsd::status::{Answer, Request, Server, Status, VirtualServer};
use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

fn ask(socket: &str, request: &Request) -> Result<String, Failure> {
    let line = String::from_utf8(health::wire::line(request)).unwrap_or_default();
    control::request(Path::new(socket), &line, PATIENCE).map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                "lvsd is not running, or listens elsewhere (--control)".to_owned()
            }
            io::ErrorKind::PermissionDenied => {
                format!("permission denied: run as root or as a member of group {}", control::GROUP)
            }
            _ => error.to_string(),
        };
        Failure::message(format!("{socket}: {why}"))
    })
}

fn answer(text: &str) -> Outcome {
    match serde_json::from_str(text) {
        Ok(Answer::Ok(word)) => Ok(format!("{word}\n")),
        Ok(Answer::Error(why)) => Err(Failure::message(why)),
        Err(error) => Err(not_understood(&error)),
    }
}

fn not_understood(error: &serde_json::Error) -> Failure {
    Failure::message(format!("lvsd's answer is not understood ({error}); another version?"))
}

pub(crate) fn force(socket: &str, server: &str, to: Force) -> Outcome {
    answer(&ask(socket, &Request::Force { server: server.to_owned(), to })?)
}

pub(crate) fn reload(socket: &str) -> Outcome {
    answer(&ask(socket, &Request::Reload)?)
}

pub(crate) fn status(socket: &str, json: bool) -> Outcome {
    let text = ask(socket, &Request::Status)?;
    let status: Status = serde_json::from_str(&text).map_err(|e| not_understood(&e))?;
    if json {
        return Ok(serde_json::to_string_pretty(&status).unwrap_or(text) + "\n");
    }
    Ok(show(&status))
}

fn show(status: &Status) -> String {
    let mut text = format!(
        "lvsd {}, pid {}, {} (serial {}), up {}\n",
        status.version,
        status.pid,
        status.file,
        status.serial_no,
        duration(status.uptime_s)
    );
    if let Some(error) = &status.reload_error {
        let _ = writeln!(text, "The last reload changed nothing: {}", error.replace('\n', " "));
    }
    if let Some(error) = &status.table_error {
        let _ = writeln!(text, "The kernel's table cannot be read: {error}");
    }
    let mut table = Table::default();
    for block in &status.virtual_servers {
        head(&mut table, block);
        for server in &block.servers {
            row(&mut table, server);
        }
    }
    text.push_str(&table.show());
    text
}

fn head(table: &mut Table, block: &VirtualServer) {
    let persistent = match block.persistent {
        0 => String::new(),
        seconds => format!(" persistent {seconds}"),
    };
    let active: u64 = block.servers.iter().map(|s| u64::from(s.active_connections)).sum();
    let inactive: u64 = block.servers.iter().map(|s| u64::from(s.inactive_connections)).sum();
    table.line(format!(
        "\n{} {}, {} {}{persistent}: {} of {} up, {active} active and {inactive} inactive \
         connections, {} a second",
        block.name,
        block.service,
        block.forwarding,
        block.scheduler,
        block.up,
        block.servers.len(),
        block.counters.connections_per_s
    ));
    if !block.in_kernel {
        table.line("  NOT in the kernel's table".to_owned());
    }
    if let Some(problem) = &block.problem {
        table.line(format!("  PROBLEM: {problem}"));
    }
    if let Some(sorry) = &block.sorry_server {
        let state = if block.sorry_active { "stands in" } else { "not needed" };
        table.line(format!("  sorry server {sorry}: {state}"));
    }
}

fn row(table: &mut Table, server: &Server) {
    let state = match server.up {
        None => "unknown",
        Some(true) => "up",
        Some(false) => "down",
    };
    let forced = match server.forced {
        Force::Auto => "",
        Force::Up | Force::Down => " (forced)",
        Force::Drain => " (drained)",
    };
    let since = server.since_ms.map_or_else(String::new, |ms| duration(ms / 1000));
    let weight = match server.weight_kernel {
        Some(now) if now == server.weight => format!("weight {now}"),
        Some(now) => format!("weight {now} of {}", server.weight),
        None => "not in table".to_owned(),
    };
    let took = server.check_us.map_or_else(String::new, millis);
    table.row([
        format!("  {}", server.name),
        server.address.clone(),
        format!("{state}{forced}"),
        since,
        weight,
        format!("{} active", server.active_connections),
        format!("{} inactive", server.inactive_connections),
        took,
        server.error.clone().unwrap_or_default(),
    ]);
}

/// Microseconds as milliseconds: `1.1 ms`.
fn millis(us: u32) -> String {
    format!("{}.{} ms", us / 1000, us % 1000 / 100)
}

/// A duration in its two largest units.
fn duration(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let mut left = seconds;
    let mut parts = Vec::new();
    for (size, name) in units {
        if left >= size || (parts.is_empty() && size == 1) {
            parts.push(format!("{} {name}", left / size));
            left %= size;
        }
    }
    parts.truncate(2);
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use lvsd::status::Counters;

    #[test]
    fn durations() {
        let cases =
            [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3_725, "1 h 2 min"), (90_061, "1 d 1 h")];
        for (seconds, want) in cases {
            assert_eq!(duration(seconds), want);
        }
        assert_eq!(millis(1_149), "1.1 ms");
    }

    fn server(name: &str, up: Option<bool>, kernel: Option<u32>) -> Server {
        Server {
            name: name.to_owned(),
            address: "10.0.0.3:80".to_owned(),
            up,
            health: None,
            forced: if up == Some(false) { Force::Down } else { Force::Auto },
            since_ms: Some(61_000),
            weight: 4,
            weight_wanted: kernel,
            weight_kernel: kernel,
            check_us: Some(900),
            error: (up == Some(false)).then(|| "cannot connect: Connection refused".to_owned()),
            active_connections: 2,
            inactive_connections: 3,
            persistent_connections: 0,
            counters: Counters::default(),
        }
    }

    #[test]
    fn a_status_at_a_glance() {
        let block = VirtualServer {
            name: "web".to_owned(),
            service: "TCP 10.0.0.100:80".to_owned(),
            scheduler: "wlc".to_owned(),
            forwarding: "nat".to_owned(),
            persistent: 60,
            up: 1,
            sorry_server: Some("10.0.0.9:80".to_owned()),
            sorry_active: false,
            problem: None,
            in_kernel: true,
            counters: Counters::default(),
            servers: vec![server("a", Some(true), Some(1)), server("longer", Some(false), None)],
        };
        let status = Status {
            version: "1".to_owned(),
            pid: 7,
            file: "lvs.cf".to_owned(),
            serial_no: 48,
            uptime_s: 5,
            reload_error: None,
            table_error: None,
            virtual_servers: vec![block],
        };
        let want = "lvsd 1, pid 7, lvs.cf (serial 48), up 5 s\n\
            \nweb TCP 10.0.0.100:80, nat wlc persistent 60: 1 of 2 up, 4 active and 6 inactive connections, 0 a second\n  \
              sorry server 10.0.0.9:80: not needed\n  \
              a       10.0.0.3:80  up             1 min 1 s  weight 1 of 4  2 active  3 inactive  0.9 ms\n  \
              longer  10.0.0.3:80  down (forced)  1 min 1 s  not in table   2 active  3 inactive  0.9 ms  cannot connect: Connection refused\n";
        assert_eq!(show(&status), want);
    }
}
