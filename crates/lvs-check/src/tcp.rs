//! tcp: the check that nanny makes by itself, by nanny's own engine: connect, send, look at the answer.

use crate::deadline::Deadline;
use crate::failure::{Failure, Verdict, said};
use crate::net;
use daemon::poll::{self, Poller};
use health::engine::{Engine, Limits};
use health::recipe::{Recipe, Settings, Target};
use nix::errno::Errno;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// What is asked.
#[derive(Debug)]
pub struct Order {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// What to send, as in lvs.cf.
    pub send: Option<Vec<u8>>,
    /// What the answer must begin with, as in lvs.cf.
    pub expect: Option<Vec<u8>>,
    /// `expect` is a regular expression, found anywhere.
    pub regex: bool,
}

/// Asks one address after the other until one answers as it should or at all.
///
/// # Errors
/// Why the check failed.
pub fn check(order: &Order, deadline: Deadline) -> Verdict {
    let addresses = net::lookup(&order.host, order.port, deadline)?;
    let mut last = Failure::Here(format!("{}: no address", order.host));
    for (at, peer) in addresses.iter().enumerate() {
        let limit = net::share(deadline, addresses.len() - at)
            .map_err(|error| Failure::Connect { peer: *peer, error })?;
        match ask(*peer, &recipe(order, limit), deadline) {
            Ok(()) => return Ok(format!("{peer}: as expected")),
            Err(failure) => last = failure,
        }
    }
    Err(last)
}

fn recipe(order: &Order, limit: Duration) -> Recipe {
    let settings = Settings {
        send: order.send.as_deref(),
        expect: order.expect.as_deref(),
        regex: order.regex,
        ..Settings::default()
    };
    let (recipe, _) = settings.recipe();
    Recipe { interval_ms: u32::try_from(limit.as_millis()).unwrap_or(u32::MAX).max(1), ..recipe }
}

/// Runs one check of an engine that has no other.
fn ask(peer: SocketAddr, recipe: &Recipe, deadline: Deadline) -> Result<(), Failure> {
    let here = |error: io::Error| Failure::Here(format!("check {peer}: {}", said(&error)));
    // Past the limit of the check itself; reached only where this machine does not let it begin.
    let give_up = Instant::now() + deadline.left().unwrap_or_default() + Duration::from_millis(100);
    let mut engine = Engine::new(Limits { sockets: 1, programs: 1 }).map_err(here)?;
    let poller = Poller::new().map_err(here)?;
    poller.add(&engine, 0, poll::READ).map_err(here)?;
    let target = Target { addr: peer.ip(), port: peer.port(), udp: false };
    engine.add(target, recipe, Instant::now());
    loop {
        engine.run(Instant::now());
        if let Some(outcome) = engine.outcomes().pop() {
            return outcome.result.map_err(|failure| Failure::answer(peer, failure.to_string()));
        }
        if Instant::now() > give_up {
            return Err(here(engine.shortage().unwrap_or(Errno::ETIMEDOUT).into()));
        }
        let until = engine.deadline().map_or(give_up, |at| at.min(give_up));
        poller.wait(Some(until), &mut Vec::new()).map_err(here)?;
    }
}
