//! What is going on: the state of both nodes and of every server, its history, and what has happened.
//!
//! One task asks pulse and lvsd over their control sockets; every page shows what it found last.

pub mod actions;
pub mod control;
pub mod events;
pub mod export;
pub mod history;
pub mod processes;
pub mod trial;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::{get, post};
use jiff::Timestamp;
use lvs_config::BlockKind;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use crate::app::App;
use events::{Events, happened};
use history::{History, STEP};

/// How often the daemons are asked while somebody looks.
const WATCHED: Duration = Duration::from_secs(2);
/// Somebody who has not asked for so long does not look any more.
const ATTENTION: Duration = Duration::from_secs(30);
/// How long a daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer that is taken, in bytes: about a hundred thousand servers.
const LONGEST: u64 = 64 * 1024 * 1024;

/// What the daemons said.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// When they were asked.
    pub at: Timestamp,
    /// pulse's answer, or why there is none.
    pub pulse: Result<pulse::status::Status, String>,
    /// lvsd's.
    pub lvsd: Result<lvsd::status::Status, String>,
}

/// What is known, and what was.
#[derive(Debug)]
pub struct Live {
    current: Mutex<Arc<Snapshot>>,
    /// The rates of the last hour.
    pub history: Mutex<History>,
    /// What has happened.
    pub events: Events,
    looked: Mutex<Option<Instant>>,
    now: Notify,
}

/// What the head of every page shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// This machine's name.
    pub host: String,
    /// `active`, `standby`, `stopped`.
    pub state: &'static str,
    /// The class that gives it colour and shape: `up`, `off`, `warn`, `down`.
    pub class: &'static str,
}

/// A panic elsewhere cannot have left these half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Live {
    /// Nothing is known yet; events of earlier are read from `state`.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        const UNASKED: &str = "not asked yet";
        let (pulse, lvsd) = (Err(UNASKED.to_owned()), Err(UNASKED.to_owned()));
        let nothing = Snapshot { at: Timestamp::now(), pulse, lvsd };
        Self {
            current: Mutex::new(Arc::new(nothing)),
            history: Mutex::default(),
            events: Events::open(state),
            looked: Mutex::default(),
            now: Notify::new(),
        }
    }

    /// What the daemons said last.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&lock(&self.current))
    }

    /// The same for somebody who looks: the daemons are asked more often from now on.
    #[must_use]
    pub fn look(&self) -> Arc<Snapshot> {
        let before = lock(&self.looked).replace(Instant::now());
        if before.is_none_or(|before| before.elapsed() > ATTENTION) {
            self.now.notify_one();
        }
        self.snapshot()
    }

    /// Asks the daemons soon, since something was changed.
    pub fn refresh(&self) {
        self.now.notify_one();
    }

    /// What the head of every page shows.
    #[must_use]
    pub fn header(&self) -> Header {
        let snapshot = self.snapshot();
        let (state, class) = match (&snapshot.pulse, &snapshot.lvsd) {
            (Ok(pulse), _) => node_state(&pulse.node),
            (Err(_), Ok(lvsd)) if !lvsd.standby => ("active", "up"),
            _ => ("stopped", "down"),
        };
        Header { host: crate::page::host_name(), state, class }
    }

    fn pause(&self) -> Duration {
        let looked = *lock(&self.looked);
        if looked.is_some_and(|looked| looked.elapsed() < ATTENTION) { WATCHED } else { STEP }
    }

    /// Takes in what the daemons said.
    fn take(&self, new: Snapshot) {
        let new = Arc::new(new);
        let old = std::mem::replace(&mut *lock(&self.current), Arc::clone(&new));
        for event in happened(&old, &new) {
            self.events.add(event);
        }
        lock(&self.history).take(&new);
        drop((old, new));
        daemon::memory::trim();
    }
}

/// A node's state in the page's words, and the class of its sign.
#[must_use]
pub fn node_state(node: &pulse::status::Node) -> (&'static str, &'static str) {
    match (node.state.as_str(), node.failure.is_some()) {
        ("active", _) => ("active", "up"),
        ("activating", _) => ("activating", "warn"),
        ("handing-over", _) => ("handing over", "warn"),
        ("deactivating" | "leaving", _) => ("leaving", "warn"),
        ("taking-control", _) => ("taking control", "warn"),
        ("isolated", _) => ("isolated", "down"),
        (_, true) => ("failed", "down"),
        _ => ("standby", "off"),
    }
}

/// Asks the daemons for ever.
pub async fn watch(app: Arc<App>) {
    loop {
        let at = Timestamp::now();
        // At the same time, so that one that hangs does not keep the other from being seen.
        let (pulse, lvsd) = (Arc::clone(&app), Arc::clone(&app));
        let answers = tokio::join!(
            tokio::task::spawn_blocking(move || {
                ask(&pulse.options.pulse, &pulse::status::Request::Status, "pulse")
            }),
            tokio::task::spawn_blocking(move || {
                ask(&lvsd.options.lvsd, &lvsd::status::Request::Status, "lvsd")
            }),
        );
        if let (Ok(pulse), Ok(lvsd)) = answers {
            app.live.take(Snapshot { at, pulse, lvsd });
        }
        let _ = tokio::time::timeout(app.live.pause(), app.live.now.notified()).await;
    }
}

/// Asks a daemon over its control socket. The answer is read as it comes: it can be large.
///
/// # Errors
/// Says, in words for the page, who does not answer, why, and what to look at.
pub fn ask<T: DeserializeOwned>(
    socket: &Path,
    request: &impl Serialize,
    who: &str,
) -> Result<T, String> {
    let mut stream =
        UnixStream::connect(socket).map_err(|error| unreachable(who, socket, &error))?;
    let named = |error: std::io::Error| format!("{who} does not answer: {error}");
    stream.set_read_timeout(Some(PATIENCE)).map_err(named)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(named)?;
    let mut line = serde_json::to_vec(request).map_err(|error| named(error.into()))?;
    line.push(b'\n');
    stream.write_all(&line).map_err(named)?;
    let mut answer = BufReader::new(stream.take(LONGEST));
    answer.fill_buf().map_err(named)?;
    let mut values = serde_json::Deserializer::from_reader(&mut answer).into_iter();
    match values.next() {
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) if error.is_io() => Err(format!("{who} does not answer: {error}")),
        Some(Err(error)) => Err(format!("{who}'s answer is not understood: {error}")),
        None => Err(format!("{who} has hung up")),
    }
}

fn unreachable(who: &str, socket: &Path, error: &std::io::Error) -> String {
    use std::io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
    match error.kind() {
        NotFound | ConnectionRefused => format!("{who} is not running"),
        PermissionDenied => format!(
            "{} may not be opened by the page's user: it must be of group {}",
            socket.display(),
            daemon::control::GROUP
        ),
        _ => format!("{who} at {}: {error}", socket.display()),
    }
}

/// The pages of this part.
pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/control", get(control::page))
        .route("/control/rate", post(control::set_rate))
        .route("/server", post(actions::server))
        .route("/handover", get(actions::confirm_handover).post(actions::handover))
        .route("/apply", post(actions::apply))
        .route(
            "/virtual/{block}/servers/{server}/test",
            post(|state, user, path| trial::page(BlockKind::Virtual, state, user, path)),
        )
        .route(
            "/failover/{block}/servers/{server}/test",
            post(|state, user, path| trial::page(BlockKind::Failover, state, user, path)),
        )
        .route("/status.json", get(export::json))
        .route("/metrics", get(export::metrics))
}
