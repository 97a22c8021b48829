//! The control socket: questions and orders of operators.

use super::Node;
use crate::decision::{Event, PartnerState};
use crate::status::{self, Answer, Request, Status};
use crate::wire::Role;
use daemon::{control, poll};
use serde::Serialize;
use std::time::Instant;

impl Node {
    pub(super) fn on_control(&mut self, event: poll::Event, now: Instant) {
        let Some(control) = &mut self.control else { return };
        for request in control.handle(&self.poller, event) {
            self.on_request(&request, now);
        }
    }

    fn on_request(&mut self, request: &control::Request, now: Instant) {
        match serde_json::from_slice(&request.text) {
            Ok(Request::Status) => match self.status(now) {
                Some(status) => self.reply(request.client, &status),
                None => self.reply(request.client, &Answer::Error("pulse is ending".to_owned())),
            },
            // The decision answers, when it is clear what comes of it.
            Ok(Request::Handover) => self.feed(Event::Handover(request.client)),
            Ok(Request::Reload) => {
                self.reload();
                let words = Answer::Ok("rereading the configuration".to_owned());
                self.reply(request.client, &words);
            }
            Err(error) => {
                self.reply(request.client, &Answer::Error(format!("not understood: {error}")));
            }
        }
    }

    pub(super) fn reply(&mut self, client: u64, answer: &impl Serialize) {
        let Some(control) = &mut self.control else { return };
        match serde_json::to_vec(answer) {
            Ok(line) => control.reply(&self.poller, client, &line),
            Err(error) => log::error!("an answer cannot be written: {error}"),
        }
    }

    fn status(&self, now: Instant) -> Option<Status> {
        let state = self.state.as_ref()?;
        let millis = self.millis(now);
        Some(Status {
            version: daemon::VERSION.to_owned(),
            pid: std::process::id(),
            file: self.options.programs.file.display().to_string(),
            serial_no: self.setup.serial_no,
            service: self.setup.service.to_string(),
            node: status::Node {
                role: state.settings().role.as_str().to_owned(),
                state: state.activity().as_str().to_owned(),
                since_ms: millis.saturating_sub(state.since()),
                reason: state.reason().to_owned(),
                able: state.able(),
                failure: state.failure().map(str::to_owned),
                links_ok: state.links_ok(),
            },
            partner: self.partner_status(now),
            paths: self.paths.status(now),
            addresses: self.addresses.status(self.net.mirror()),
            child: self.service.status(),
            syncdaemon: self.sync.describe(),
            reload_error: self.reload_error.clone(),
            keepalive_ms: self.setup.keepalive,
            deadtime_ms: self.setup.deadtime,
            uptime_ms: millis,
        })
    }

    fn partner_status(&self, now: Instant) -> Option<status::Partner> {
        let state = self.state.as_ref()?;
        let now = self.millis(now);
        let what = match state.partner_state(now) {
            PartnerState::None => return None,
            PartnerState::Unknown => "unknown",
            PartnerState::Active => "active",
            PartnerState::Inactive => "inactive",
            PartnerState::Dead => "unreachable",
        };
        let partner = state.partner();
        let extra = partner.extra.as_ref();
        let heard_ms = partner.heard.map(|at| now.saturating_sub(at));
        let own_account = extra.map(|e| e.since_ms.saturating_add(heard_ms.unwrap_or(0)));
        Some(status::Partner {
            state: what.to_owned(),
            since_ms: own_account.or_else(|| partner.since.map(|at| now.saturating_sub(at))),
            reason: extra.map(|e| e.reason.to_string()),
            role: extra.map(|e| Role::as_str(e.role).to_owned()),
            able: extra.map(|e| e.able),
            original: partner.heard.is_some() && extra.is_none(),
            heard_ms,
        })
    }
}
