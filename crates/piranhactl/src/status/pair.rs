//! What pulse says: this node, the partner, the heartbeats, the addresses.

use super::duration;
use crate::table::{Paint, Table, printable};
use pulse::status::{AddressStatus, Node, Partner, PathStatus, Status};
use std::fmt::Write as _;

pub(super) fn show(status: &Status, paint: Paint) -> String {
    let mut text = format!(
        "pulse {}, pid {}, {} (serial {}), up {}\n",
        status.version,
        status.pid,
        status.file,
        status.serial_no,
        duration(status.uptime_ms)
    );
    if let Some(error) = &status.reload_error {
        let error = printable(error);
        let _ = writeln!(text, "{}: {error}", paint.bad("The last reload changed nothing"));
    }
    text += "\n";
    text += &nodes(status, paint);
    text += &paths(status, paint);
    text += &addresses(&status.addresses, paint);
    text += &rest(status);
    text
}

fn nodes(status: &Status, paint: Paint) -> String {
    let mut table = Table::default();
    let Node { role, state, since_ms, reason, failure, links_ok, .. } = &status.node;
    let shown = match (state.as_str(), failure) {
        ("active", _) => paint.good(state),
        (_, Some(_)) => paint.bad(state),
        _ => state.clone(),
    };
    table.row([
        "this node".to_owned(),
        role.clone(),
        shown,
        duration(*since_ms),
        printable(reason),
    ]);
    if let Some(failure) = failure {
        table.line(format!("           {} {}", paint.bad("cannot serve:"), printable(failure)));
    } else if !links_ok {
        table.line(format!("           {}", paint.bad("cannot serve: a NIC has no link")));
    }
    match &status.partner {
        Some(partner) => partner_rows(&mut table, partner, paint),
        None => table.line("partner    none: nobody takes over from this node".to_owned()),
    }
    table.show()
}

fn partner_rows(table: &mut Table, partner: &Partner, paint: Paint) {
    let Partner { state, since_ms, reason, role, able, original, heard_ms } = partner;
    let shown = match state.as_str() {
        "active" => paint.good(state),
        "unreachable" | "unknown" => paint.bad(state),
        _ => state.clone(),
    };
    let heard = match heard_ms {
        Some(ms) => format!("heard {} ago", duration(*ms)),
        None => "never heard".to_owned(),
    };
    // Of one that is silent, what it said last is no news.
    let reason = reason.as_ref().filter(|reason| !reason.is_empty() && state != "unreachable");
    table.row([
        "partner".to_owned(),
        role.as_deref().map_or_else(|| "-".to_owned(), printable),
        shown,
        since_ms.map_or_else(|| "-".to_owned(), duration),
        reason.map_or(heard, |reason| printable(reason)),
    ]);
    if *able == Some(false) {
        table.line(format!(
            "           {}",
            paint.bad("cannot take over: it knows of a failure there")
        ));
    }
    if *original {
        table.line(
            "           tells its state and nothing else, as the original pulse does".to_owned(),
        );
    }
}

fn paths(status: &Status, paint: Paint) -> String {
    if status.paths.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&[3, 4, 5]);
    table.row(["path", "from", "to", "sent", "received", "late", "heard"].map(str::to_owned));
    for path in &status.paths {
        let partner = path.partner.as_deref().unwrap_or("-");
        // A path on which nothing has come for that long is dead, whatever the others do.
        let heard = match path.heard_ms {
            Some(ms) if ms < status.deadtime_ms => format!("{} ago", duration(ms)),
            Some(ms) => paint.bad(&format!("{} ago", duration(ms))),
            None => paint.bad("never"),
        };
        table.row([
            path.name.clone(),
            path.local.clone(),
            format!("{partner}:{}", path.port),
            path.sent.to_string(),
            path.received.to_string(),
            path.late.to_string(),
            heard,
        ]);
        path_problems(&mut table, path, paint);
    }
    format!("\n{}", table.show())
}

fn path_problems(table: &mut Table, path: &PathStatus, paint: Paint) {
    if let Some(error) = &path.error {
        table.line(format!("  {} {}", paint.bad("PROBLEM:"), printable(error)));
    }
    let odd: Vec<String> = [
        (path.unsent, "could not be sent"),
        (path.foreign, "from somebody else"),
        (path.bad, "not understood"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{count} {what}"))
    .collect();
    if !odd.is_empty() {
        table.line(format!("  {}", paint.odd(&odd.join(", "))));
    }
}

fn addresses(addresses: &[AddressStatus], paint: Paint) -> String {
    if addresses.is_empty() {
        return String::new();
    }
    let mut table = Table::default();
    table.row(["address", "device", "here"].map(str::to_owned));
    for AddressStatus { address, label, up, ours, error } in addresses {
        let here = match (up, ours) {
            (true, true) => paint.good("up"),
            (true, false) => paint.odd("up, but not by pulse"),
            (false, _) => "not up".to_owned(),
        };
        table.row([address.clone(), label.clone(), here]);
        if let Some(error) = error {
            table.line(format!("  {} {}", paint.bad("PROBLEM:"), printable(error)));
        }
    }
    format!("\n{}", table.show())
}

fn rest(status: &Status) -> String {
    let mut text = String::new();
    if let Some(child) = &status.child {
        let _ = writeln!(text, "runs {} (pid {}): {}", child.program, child.pid, child.state);
    }
    if let Some(state) = &status.syncdaemon {
        let _ = writeln!(text, "connection synchronisation: {state}");
    }
    if text.is_empty() { text } else { format!("\n{text}") }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use pulse::status::Child;

    /// A pair of which this node is in that state.
    pub(in crate::status) fn status(state: &str) -> Status {
        let active = state == "active";
        let path = |name: &str, net: &str, heard_ms| PathStatus {
            name: name.to_owned(),
            local: format!("{net}.11"),
            partner: Some(format!("{net}.12")),
            port: 539,
            sent: 1_234_567,
            unsent: 0,
            received: 1_234_560,
            late: 2,
            foreign: 0,
            bad: 0,
            heard_ms,
            error: None,
        };
        let address = |address: &str, label: &str| AddressStatus {
            address: address.to_owned(),
            label: label.to_owned(),
            up: active,
            ours: active,
            error: None,
        };
        Status {
            version: "1".to_owned(),
            pid: 7,
            file: "lvs.cf".to_owned(),
            serial_no: 48,
            service: "lvs".to_owned(),
            node: Node {
                role: "master".to_owned(),
                state: state.to_owned(),
                since_ms: 125_000,
                reason: "partner dead: activating lvs".to_owned(),
                able: true,
                failure: None,
                links_ok: true,
            },
            partner: Some(Partner {
                state: "inactive".to_owned(),
                since_ms: Some(65_000),
                reason: Some("started".to_owned()),
                role: Some("backup".to_owned()),
                able: Some(true),
                original: false,
                heard_ms: Some(400),
            }),
            paths: vec![
                path("public", "172.16.0", Some(400)),
                path("private", "10.0.0", Some(9_000)),
            ],
            addresses: vec![
                address("172.16.0.100/24", "eth0:1"),
                address("10.0.0.254/24", "eth1:1"),
            ],
            child: active.then(|| Child {
                program: "/usr/sbin/lvsd".to_owned(),
                pid: 8,
                state: "running".to_owned(),
            }),
            syncdaemon: None,
            reload_error: None,
            keepalive_ms: 2_000,
            deadtime_ms: 5_000,
            uptime_ms: 3_725_000,
        }
    }

    #[test]
    fn a_pair_at_a_glance() {
        let want = "\
pulse 1, pid 7, lvs.cf (serial 48), up 1 h 2 min

this node  master  active    2 min 5 s  partner dead: activating lvs
partner    backup  inactive  1 min 5 s  started

path     from         to                  sent  received  late  heard
public   172.16.0.11  172.16.0.12:539  1234567   1234560     2  0.4 s ago
private  10.0.0.11    10.0.0.12:539    1234567   1234560     2  9.0 s ago

address          device  here
172.16.0.100/24  eth0:1  up
10.0.0.254/24    eth1:1  up

runs /usr/sbin/lvsd (pid 8): running
";
        assert_eq!(show(&status("active"), Paint(false)), want);
        let coloured = show(&status("active"), Paint(true));
        assert!(coloured.contains("\x1b[1;31m9.0 s ago\x1b[0m"), "a dead path: {coloured}");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let mut status = status("inactive");
        status.node.failure = Some("lvsd exited with status 1".to_owned());
        let partner = status.partner.as_mut().unwrap();
        partner.state = "unreachable".to_owned();
        partner.able = Some(false);
        partner.original = true;
        status.paths[0].error = Some("sendto: Network is unreachable".to_owned());
        status.paths[1].foreign = 3;
        status.paths[1].heard_ms = None;
        status.addresses[0].up = true;
        status.addresses[1].error = Some("no interface eth1".to_owned());
        status.reload_error = Some("bad\nfile".to_owned());
        let text = show(&status, Paint(false));
        for words in [
            "The last reload changed nothing: bad file\n",
            "cannot serve: lvsd exited with status 1\n",
            "unreachable  1 min 5 s  heard 0.4 s ago\n",
            "cannot take over",
            "the original pulse",
            "PROBLEM: sendto: Network is unreachable\n",
            "3 from somebody else\n",
            "never\n",
            "up, but not by pulse\n",
            "PROBLEM: no interface eth1\n",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        status.partner = None;
        assert!(show(&status, Paint(false)).contains("partner    none"));
    }
}
