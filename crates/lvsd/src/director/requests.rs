//! What is asked and ordered over the control socket.

use super::Director;
use crate::report::{self, Context};
use crate::status::{Answer, Request};
use daemon::control;
use daemon::poll::Event;
use health::state::Force;
use health::wire::{Detail, Order};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long a status waits for the monitor's part of it.
const DETAILS: Duration = Duration::from_secs(2);

/// A status that waits for the monitor's details.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) tag: u64,
    clients: Vec<u64>,
    pub(super) details: HashMap<u32, Detail>,
    pub(super) until: Instant,
}

impl Director {
    pub(super) fn on_control(&mut self, event: Event, now: Instant) {
        let Some(control) = &mut self.control else { return };
        for request in control.handle(&self.poller, event) {
            self.on_request(&request, now);
        }
    }

    fn on_request(&mut self, request: &control::Request, now: Instant) {
        let answer = match serde_json::from_slice(&request.text) {
            Ok(Request::Status) => return self.ask_details(request.client, now),
            Ok(Request::Force { server, to }) => self.force(&server, to),
            Ok(Request::Reload) => {
                self.reload();
                Answer::Ok("rereading the configuration".to_owned())
            }
            Err(error) => Answer::Error(format!("not understood: {error}")),
        };
        self.reply(request.client, &health::wire::line(&answer));
    }

    fn reply(&mut self, client: u64, answer: &[u8]) {
        if let Some(control) = &mut self.control {
            control.reply(&self.poller, client, answer);
        }
    }

    fn force(&mut self, label: &str, force: Force) -> Answer {
        let Some(id) = self.live.find(label) else {
            return Answer::Error(format!(
                "no active server {label} (BLOCK/SERVER, as the names stand in the configuration)"
            ));
        };
        let classic = self.live.server(id).is_some_and(|(block, _)| self.live.is_classic(block));
        if classic && force == Force::Drain {
            return Answer::Error(format!(
                "{label} has a monitor of its own, which knows up and down only; with \
                 quiesce_server = 1 down drains it"
            ));
        }
        log::info!("operator: {label} {}", force_word(force));
        self.live.set_force(id, force);
        if classic {
            self.classics.force(id, force);
        } else if let Some(pooled) = &mut self.pooled {
            pooled.order(&Order::Force(id, force));
            pooled.flush(&self.poller);
        }
        Answer::Ok(format!("{label}: {}", force_word(force)))
    }

    /// Asks the monitor for what only it knows; the status follows its answer.
    fn ask_details(&mut self, client: u64, now: Instant) {
        if let Some(query) = &mut self.query {
            query.clients.push(client);
            return;
        }
        self.last_tag += 1;
        let mut query = Query {
            tag: self.last_tag,
            clients: vec![client],
            details: HashMap::new(),
            until: now + DETAILS,
        };
        match &mut self.pooled {
            Some(pooled) => {
                pooled.order(&Order::Query(query.tag));
                pooled.flush(&self.poller);
            }
            None => query.until = now,
        }
        self.query = Some(query);
    }

    pub(super) fn answer_query(&mut self, now: Instant) {
        let Some(query) = self.query.take() else { return };
        let standby = self.live.is_standby();
        // In standby whatever is in the table is not ours.
        let kernel = if standby { Ok(Vec::new()) } else { self.table.read_stats() };
        let (kernel, table_error) = match kernel {
            Ok(kernel) => (kernel, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        let context = Context {
            file: self.options.file.display().to_string(),
            serial_no: self.serial_no,
            uptime: now.saturating_duration_since(self.began),
            reload_error: self.reload_error.clone(),
            table_error,
            standby,
        };
        let status = report::status(&self.live, &kernel, &query.details, context);
        let answer = health::wire::line(&status);
        for client in query.clients {
            self.reply(client, &answer);
        }
    }
}

fn force_word(force: Force) -> &'static str {
    match force {
        Force::Auto => "back to the checks",
        Force::Up => "kept up",
        Force::Down => "kept down",
        Force::Drain => "drained, no new connections",
    }
}
