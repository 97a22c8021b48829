//! What lvsd says: virtual servers, real servers, health, connections.

use super::duration;
use crate::table::{Paint, Table, printable};
use health::state::Force;
use lvsd::status::{Server, Status, VirtualServer};
use std::fmt::Write as _;

pub(super) fn show(status: &Status, paint: Paint) -> String {
    let mut text = format!(
        "lvsd {}, pid {}, {} (serial {}), up {}\n",
        status.version,
        status.pid,
        status.file,
        status.serial_no,
        duration(status.uptime_s * 1000)
    );
    if status.standby {
        text += "It stands by: it checks the servers, and leaves the kernel's table alone.\n";
    }
    if let Some(error) = &status.reload_error {
        let error = printable(error);
        let _ = writeln!(text, "{}: {error}", paint.bad("The last reload changed nothing"));
    }
    if let Some(error) = &status.table_error {
        let _ = writeln!(text, "{}: {error}", paint.bad("The kernel's table cannot be read"));
    }
    let mut table = Table::new(&[3, 4, 5, 6, 7]);
    for block in &status.virtual_servers {
        head(&mut table, block, status.standby, paint);
        for server in &block.servers {
            row(&mut table, server, paint);
        }
    }
    text.push_str(&table.show());
    text
}

fn head(table: &mut Table, block: &VirtualServer, standby: bool, paint: Paint) {
    let persistent = match block.persistent {
        0 => String::new(),
        seconds => format!(" persistent {seconds}"),
    };
    let up = format!("{} of {} up", block.up, block.servers.len());
    table.line(format!(
        "\n{} {}, {} {}{persistent}: {}, {}/s",
        printable(&block.name),
        block.service,
        block.forwarding,
        block.scheduler,
        if block.up == 0 { paint.bad(&up) } else { up },
        block.counters.connections_per_s
    ));
    if !block.in_kernel && !standby {
        table.line(format!("  {}", paint.bad("NOT in the kernel's table")));
    }
    if let Some(problem) = &block.problem {
        table.line(format!("  {} {}", paint.bad("PROBLEM:"), printable(problem)));
    }
    if let Some(sorry) = &block.sorry_server {
        let state =
            if block.sorry_active { paint.bad("stands in") } else { "not needed".to_owned() };
        table.line(format!("  sorry server {sorry}: {state}"));
    }
    let titles = ["  server", "address", "state", "since", "weight", "active", "inact", "check"];
    table.row(titles.map(str::to_owned));
}

fn row(table: &mut Table, server: &Server, paint: Paint) {
    let forced = match server.forced {
        Force::Auto => "",
        Force::Up | Force::Down => " (forced)",
        Force::Drain => " (drained)",
    };
    let state = match server.up {
        None => format!("unknown{forced}"),
        Some(true) if forced.is_empty() => paint.good("up"),
        Some(true) => paint.odd(&format!("up{forced}")),
        Some(false) => paint.bad(&format!("down{forced}")),
    };
    let weight = match server.weight_kernel {
        Some(now) if now == server.weight => now.to_string(),
        Some(now) => format!("{now} of {}", server.weight),
        None => "-".to_owned(),
    };
    table.row([
        format!("  {}", printable(&server.name)),
        server.address.clone(),
        state,
        server.since_ms.map_or_else(String::new, duration),
        weight,
        server.active_connections.to_string(),
        server.inactive_connections.to_string(),
        server.check_us.map_or_else(String::new, millis),
    ]);
    if let Some(error) = &server.error {
        table.line(format!("    {}", printable(error)));
    }
}

/// Microseconds as milliseconds: `1.1 ms`.
fn millis(us: u32) -> String {
    format!("{}.{} ms", us / 1000, us % 1000 / 100)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use lvsd::status::Counters;

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
            check_us: Some(1_149),
            error: (up == Some(false)).then(|| "cannot connect: Connection refused".to_owned()),
            active_connections: 2,
            inactive_connections: 1234,
            persistent_connections: 0,
            counters: Counters::default(),
        }
    }

    pub(in crate::status) fn status() -> Status {
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
        Status {
            version: "1".to_owned(),
            pid: 7,
            file: "lvs.cf".to_owned(),
            serial_no: 48,
            uptime_s: 5,
            standby: false,
            reload_error: None,
            table_error: None,
            virtual_servers: vec![block],
        }
    }

    #[test]
    fn a_status_at_a_glance() {
        let want = "\
lvsd 1, pid 7, lvs.cf (serial 48), up 5.0 s

web TCP 10.0.0.100:80, nat wlc persistent 60: 1 of 2 up, 0/s
  sorry server 10.0.0.9:80: not needed
  server  address      state              since  weight  active  inact   check
  a       10.0.0.3:80  up             1 min 1 s  1 of 4       2   1234  1.1 ms
  longer  10.0.0.3:80  down (forced)  1 min 1 s       -       2   1234  1.1 ms
    cannot connect: Connection refused
";
        assert_eq!(show(&status(), Paint(false)), want);
    }

    #[test]
    fn one_that_stands_by_has_nothing_in_the_table() {
        let mut status = status();
        status.virtual_servers[0].in_kernel = false;
        assert!(show(&status, Paint(false)).contains("NOT in the kernel's table"));
        status.standby = true;
        let text = show(&status, Paint(false));
        assert!(text.contains("It stands by") && !text.contains("NOT in"), "{text}");
    }
}
