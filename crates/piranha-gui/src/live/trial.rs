//! "Test this check": one server's check, once, now, with all that was said.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use health::recipe::Target;
use lvs_config::{BlockKind, Protocol, SystemResolver, parse};

use crate::app::App;
use crate::frame::{Frame, Tab};
use crate::gate::User;
use crate::page::{Problem, problem, render};

/// Nobody waits longer for a page; a check's own limit may be an hour.
const LIMIT: Duration = Duration::from_secs(45);
/// The most that is shown of an answer, in bytes.
const SHOWN: usize = 16 * 1024;

#[derive(Template)]
#[template(path = "trial.html")]
struct Page {
    frame: Frame,
    outcome: Outcome,
    back: String,
}

#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    label: String,
    target: String,
    passed: bool,
    verdict: String,
    took: String,
    command: Option<String>,
    sent: String,
    answer: String,
    notes: Vec<String>,
}

/// POST `/secure/virtual/BLOCK/servers/SERVER/test`, numbers from 1; likewise below `failover`.
pub async fn page(
    kind: BlockKind,
    State(app): State<Arc<App>>,
    Extension(User(user)): Extension<User>,
    Path((block, server)): Path<(usize, usize)>,
) -> Response {
    let its = Arc::clone(&app);
    let tried = tokio::task::spawn_blocking(move || run(&its, kind, block, server)).await;
    let outcome = match tried.map_err(|error| error.to_string()).and_then(|tried| tried) {
        Ok(outcome) => outcome,
        Err(text) => {
            return problem(&Problem {
                status: StatusCode::NOT_FOUND,
                title: "No check to be tested",
                text,
            });
        }
    };
    app.live.events.act(
        &user,
        format!(
            "tested the check of {}: {}",
            outcome.label,
            if outcome.passed { "passed" } else { "failed" }
        ),
    );
    let tab = match kind {
        BlockKind::Virtual => Tab::Virtual,
        BlockKind::Failover => Tab::Failover,
    };
    let back = format!("/secure/{kind}/{block}/servers");
    render(&Page { frame: Frame::of(&app, &user, tab, "Test of a check").await, outcome, back })
}

fn run(app: &App, kind: BlockKind, block: usize, server: usize) -> Result<Outcome, String> {
    let file = &app.options.file;
    let text = std::fs::read(file).map_err(|e| format!("read {}: {e}", file.display()))?;
    let config = parse(&text, &SystemResolver)
        .config
        .map_err(|error| format!("{} line {}: {}", file.display(), error.line, error.message))?;
    let gone = || "The configuration has changed: there is no such server any more.".to_owned();
    let at = |number: usize| number.checked_sub(1).ok_or_else(gone);
    let block = config.blocks(kind).get(at(block)?).ok_or_else(gone)?;
    let server = block.servers.get(at(server)?).ok_or_else(gone)?;
    let addr =
        server.address.ok_or_else(|| format!("The server {} has no address.", server.name))?;
    let udp = block.protocol == Protocol::Udp;
    let target = Target { addr: IpAddr::V4(addr), port: server.port, udp };
    let (recipe, notes) = lvsd::site::recipe(block);
    let trial = health::trial::run(&target, &recipe, LIMIT);
    let command = trial.command.as_deref().unwrap_or_default();
    Ok(Outcome {
        label: format!("{}/{}", block.name, server.name),
        target: target.to_string(),
        passed: trial.result.is_ok(),
        verdict: match &trial.result {
            Ok(()) => "The check passed.".to_owned(),
            Err(failure) => failure.log_line(&target, command),
        },
        took: format!("{}.{:03} ms", trial.took.as_millis(), trial.took.subsec_micros() % 1000),
        command: trial.command.clone(),
        sent: shown(&trial.sent),
        answer: shown(&trial.answer),
        notes,
    })
}

/// Bytes as text: lines stay lines, what is no text is shown as `\x1b`.
fn shown(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.get(..SHOWN).unwrap_or(bytes).utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\n' => text.push_str("\\n\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                other if other.is_control() => text.extend(other.escape_default()),
                other => text.push(other),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    if bytes.len() > SHOWN {
        text.push_str("\n… and more");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_as_what_they_are() {
        assert_eq!(shown(b"GET / HTTP/1.0\r\n\r\n"), "GET / HTTP/1.0\\r\\n\n\\r\\n\n");
        assert_eq!(shown(b"\x00\x1b[1m\xff\xc3\xa9"), "\\u{0}\\u{1b}[1m\\xffé");
        assert!(shown(&vec![b'x'; 2 * SHOWN]).ends_with("x\n… and more"));
        assert_eq!(shown(b""), "");
    }
}
