//! The state for programs: JSON, and metrics in the text format of Prometheus.

use std::io::{self, Write};
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;

use super::Snapshot;
use crate::app::App;
use crate::stream;

/// The state as JSON: each daemon's own status, or why there is none.
#[derive(Serialize)]
struct Told<'a> {
    at: Timestamp,
    pulse: Option<&'a pulse::status::Status>,
    pulse_error: Option<&'a str>,
    lvsd: Option<&'a lvsd::status::Status>,
    lvsd_error: Option<&'a str>,
}

impl<'a> Told<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        Self {
            at: snapshot.at,
            pulse: snapshot.pulse.as_ref().ok(),
            pulse_error: snapshot.pulse.as_ref().err().map(String::as_str),
            lvsd: snapshot.lvsd.as_ref().ok(),
            lvsd_error: snapshot.lvsd.as_ref().err().map(String::as_str),
        }
    }
}

/// GET `/secure/status.json`.
pub async fn json(State(app): State<Arc<App>>) -> Response {
    let snapshot = app.live.look();
    stream::answer("application/json", move |out| {
        serde_json::to_writer(out, &Told::new(&snapshot)).map_err(io::Error::from)
    })
    .await
}

/// GET `/secure/metrics`.
pub async fn metrics(State(app): State<Arc<App>>) -> Response {
    let snapshot = app.live.look();
    stream::answer("text/plain; version=0.0.4; charset=utf-8", move |out| text(&snapshot, out))
        .await
}

/// A family of metrics, and how a value of it is written.
struct Family<'a> {
    out: &'a mut dyn Write,
    name: &'static str,
}

impl<'a> Family<'a> {
    fn new(out: &'a mut dyn Write, name: &'static str, kind: &str, help: &str) -> io::Result<Self> {
        writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")?;
        Ok(Self { out, name })
    }

    fn value(&mut self, labels: &[(&str, &str)], value: impl std::fmt::Display) -> io::Result<()> {
        self.out.write_all(self.name.as_bytes())?;
        for (index, (label, text)) in labels.iter().enumerate() {
            write!(self.out, "{}{label}=\"", if index == 0 { '{' } else { ',' })?;
            escape(self.out, text)?;
            self.out.write_all(b"\"")?;
        }
        let end = if labels.is_empty() { "" } else { "}" };
        writeln!(self.out, "{end} {value}")
    }
}

/// A label's value, as the format wants it.
fn escape(out: &mut dyn Write, text: &str) -> io::Result<()> {
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '"', '\n']) {
        let (plain, special) = rest.split_at(at);
        out.write_all(plain.as_bytes())?;
        let (special, after) = special.split_at(1);
        out.write_all(if special == "\n" { b"\\n" } else { b"\\" })?;
        if special != "\n" {
            out.write_all(special.as_bytes())?;
        }
        rest = after;
    }
    out.write_all(rest.as_bytes())
}

/// All metrics.
fn text(snapshot: &Snapshot, out: &mut dyn Write) -> io::Result<()> {
    let mut up = Family::new(out, "piranha_up", "gauge", "Whether the daemon answers.")?;
    up.value(&[("daemon", "pulse")], u8::from(snapshot.pulse.is_ok()))?;
    up.value(&[("daemon", "lvsd")], u8::from(snapshot.lvsd.is_ok()))?;
    if let Ok(pulse) = &snapshot.pulse {
        pair(out, pulse)?;
    }
    if let Ok(lvsd) = &snapshot.lvsd {
        table(out, lvsd)?;
    }
    Ok(())
}

fn pair(out: &mut dyn Write, pulse: &pulse::status::Status) -> io::Result<()> {
    let active = u8::from(pulse.node.state == "active");
    Family::new(out, "piranha_node_active", "gauge", "Whether this node is active.")?
        .value(&[("role", &pulse.node.role)], active)?;
    Family::new(out, "piranha_node_able", "gauge", "Whether this node could become active.")?
        .value(&[], u8::from(pulse.node.able))?;
    let mut partner = Family::new(out, "piranha_partner_state", "gauge", "The partner's state.")?;
    if let Some(state) = &pulse.partner {
        partner.value(&[("state", &state.state)], 1)?;
    }
    type Count = fn(&pulse::status::PathStatus) -> u64;
    let counts: [(&'static str, &str, Count); 4] = [
        ("piranha_heartbeats_sent_total", "Heartbeats sent.", |path| path.sent),
        ("piranha_heartbeats_received_total", "Heartbeats of the partner.", |path| path.received),
        ("piranha_heartbeats_late_total", "Heartbeats that came late.", |path| path.late),
        ("piranha_heartbeats_foreign_total", "Datagrams of others.", |path| path.foreign),
    ];
    for (name, help, count) in counts {
        let mut family = Family::new(out, name, "counter", help)?;
        for path in &pulse.paths {
            family.value(&[("path", &path.name)], count(path))?;
        }
    }
    let mut address =
        Family::new(out, "piranha_address_up", "gauge", "Whether this node has the address.")?;
    for status in &pulse.addresses {
        let labels = [("address", status.address.as_str()), ("device", status.label.as_str())];
        address.value(&labels, u8::from(status.up))?;
    }
    Ok(())
}

fn table(out: &mut dyn Write, lvsd: &lvsd::status::Status) -> io::Result<()> {
    type Of<T> = fn(&T) -> u64;
    let virtuals: [(&'static str, &str, &str, Of<lvsd::status::VirtualServer>); 5] = [
        ("piranha_virtual_servers_up", "gauge", "Real servers that are up.", |v| v.up as u64),
        ("piranha_virtual_sorry", "gauge", "Whether the sorry server stands in.", |v| {
            u64::from(v.sorry_active)
        }),
        ("piranha_virtual_connections_total", "counter", "Connections.", |v| {
            v.counters.connections
        }),
        ("piranha_virtual_bytes_in_total", "counter", "Bytes from clients.", |v| {
            v.counters.bytes_in
        }),
        ("piranha_virtual_bytes_out_total", "counter", "Bytes to clients.", |v| {
            v.counters.bytes_out
        }),
    ];
    for (name, kind, help, value) in virtuals {
        let mut family = Family::new(out, name, kind, help)?;
        for server in &lvsd.virtual_servers {
            let labels = [("virtual", server.name.as_str()), ("service", server.service.as_str())];
            family.value(&labels, value(server))?;
        }
    }
    let servers: [(&'static str, &str, &str, Of<lvsd::status::Server>); 6] = [
        ("piranha_server_up", "gauge", "Whether the real server is to serve.", |s| {
            u64::from(s.up == Some(true))
        }),
        ("piranha_server_weight", "gauge", "Its weight in the table.", |s| {
            u64::from(s.weight_kernel.unwrap_or(0))
        }),
        ("piranha_server_active_connections", "gauge", "Active connections.", |s| {
            u64::from(s.active_connections)
        }),
        ("piranha_server_inactive_connections", "gauge", "Inactive connections.", |s| {
            u64::from(s.inactive_connections)
        }),
        ("piranha_server_connections_total", "counter", "Connections.", |s| s.counters.connections),
        ("piranha_server_check_microseconds", "gauge", "How long its last check took.", |s| {
            u64::from(s.check_us.unwrap_or(0))
        }),
    ];
    for (name, kind, help, value) in servers {
        let mut family = Family::new(out, name, kind, help)?;
        for block in &lvsd.virtual_servers {
            for server in &block.servers {
                let labels = [
                    ("virtual", block.name.as_str()),
                    ("server", server.name.as_str()),
                    ("address", server.address.as_str()),
                ];
                family.value(&labels, value(server))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::events::tests::{at, lvsd, server, virtual_server};

    fn made(snapshot: &Snapshot) -> String {
        let mut out = Vec::new();
        text(snapshot, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn hostile_names_stay_inside_their_label() {
        let block = virtual_server("a\"b\\c\nd", &[server("x", Some(true))]);
        let lvsd = Ok(lvsd(vec![block]));
        let text = made(&Snapshot { at: at(0), pulse: Err("not running".to_owned()), lvsd });
        let expected =
            "piranha_server_up{virtual=\"a\\\"b\\\\c\\nd\",server=\"x\",address=\"10.0.0.1:80\"} 1";
        assert!(text.lines().any(|line| line == expected), "{text}");
        assert!(text.contains("piranha_up{daemon=\"pulse\"} 0\npiranha_up{daemon=\"lvsd\"} 1\n"));
    }

    #[test]
    fn every_line_is_a_comment_or_a_value() {
        let lvsd = Ok(lvsd(vec![virtual_server("http", &[server("x", None)])]));
        for line in made(&Snapshot { at: at(0), pulse: Err(String::new()), lvsd }).lines() {
            let value = || line.rsplit_once(' ').map(|(_, value)| value.parse::<f64>().is_ok());
            assert!(line.starts_with("# ") || value() == Some(true), "{line}");
        }
    }
}
