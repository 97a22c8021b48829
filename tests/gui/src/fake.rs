//! A daemon behind a control socket that says what a test wants.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use lab::PATIENCE;
use serde::Serialize;
use serde_json::{Value, json};

use crate::gui::open_to_all;

/// How it answers.
#[derive(Clone, Debug)]
pub enum Reply {
    /// To `status` with this; to orders with `{"ok": …}`.
    Status(Arc<str>),
    /// To everything with these bytes, and hangs up.
    Bytes(Arc<[u8]>),
    /// To everything with so many bytes of a JSON text that does not end.
    Flood(usize),
    /// Not at all.
    Hang,
}

impl Reply {
    /// A status.
    #[must_use]
    pub fn status(status: &impl Serialize) -> Self {
        Self::Status(serde_json::to_string(status).expect("JSON").into())
    }

    /// Bytes.
    #[must_use]
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Bytes(bytes.into().into())
    }
}

#[derive(Debug)]
struct State {
    reply: Reply,
    seen: Vec<Value>,
    refusal: Option<String>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// A scripted daemon. Its socket is there as long as this is.
#[derive(Debug)]
pub struct Fake {
    shared: Arc<Shared>,
    path: std::path::PathBuf,
}

impl Fake {
    /// Listens on a socket and answers.
    #[track_caller]
    #[must_use]
    pub fn on(path: &Path, reply: Reply) -> Self {
        let listener = UnixListener::bind(path)
            .unwrap_or_else(|error| panic!("control socket {}: {error}", path.display()));
        open_to_all(path);
        let state = State { reply, seen: Vec::new(), refusal: None };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let server = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), server) = (stream, Arc::clone(&server)) else { break };
                thread::spawn(move || serve(&stream, &server));
            }
        });
        Self { shared, path: path.to_owned() }
    }

    /// Answers otherwise from now on.
    pub fn set(&self, reply: Reply) {
        lock(&self.shared).reply = reply;
    }

    /// Refuses orders from now on, with this text.
    pub fn refuse(&self, text: &str) {
        lock(&self.shared).refusal = Some(text.to_owned());
    }

    /// The orders that came: all requests but those for the status.
    #[must_use]
    pub fn orders(&self) -> Vec<Value> {
        let state = lock(&self.shared);
        state.seen.iter().filter(|request| request["command"] != "status").cloned().collect()
    }

    /// Waits until it is asked once more: what follows
    /// shows what it says now.
    #[track_caller]
    pub fn wait_asked(&self) {
        let end = Instant::now() + PATIENCE;
        let count = |state: &State| state.seen.len();
        let mut state = lock(&self.shared);
        let before = count(&state);
        while count(&state) == before {
            let left = end.saturating_duration_since(Instant::now());
            assert!(left > Duration::ZERO, "nobody asks at {}", self.path.display());
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn lock(shared: &Shared) -> std::sync::MutexGuard<'_, State> {
    shared.state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection. That the other side has hung up is no fault here.
fn serve(stream: &UnixStream, shared: &Shared) {
    let Ok(reader) = stream.try_clone() else { return };
    for line in BufReader::new(reader).lines() {
        let Ok(line) = line else { return };
        let request: Value = serde_json::from_str(&line).unwrap_or(Value::Null);
        let reply = {
            let mut state = lock(shared);
            state.seen.push(request.clone());
            shared.changed.notify_all();
            match (&state.reply, &state.refusal) {
                (Reply::Status(_), Some(text)) if request["command"] != "status" => {
                    Reply::bytes(json!({ "error": text }).to_string() + "\n")
                }
                (reply, _) => reply.clone(),
            }
        };
        if answer(stream, &reply, &request).is_err() {
            return;
        }
        if matches!(reply, Reply::Bytes(_) | Reply::Flood(_)) {
            return;
        }
    }
}

fn answer(mut stream: &UnixStream, reply: &Reply, request: &Value) -> std::io::Result<()> {
    match reply {
        Reply::Status(status) if request["command"] == "status" => {
            stream.write_all(status.as_bytes())?;
            stream.write_all(b"\n")
        }
        Reply::Status(_) => stream.write_all(b"{\"ok\":\"done\"}\n"),
        Reply::Bytes(bytes) => stream.write_all(bytes),
        Reply::Flood(size) => {
            stream.write_all(b"{\"version\":\"")?;
            let block = [b'x'; 64 * 1024];
            let mut left = *size;
            while left > 0 {
                let part = left.min(block.len());
                stream.write_all(&block[..part])?;
                left -= part;
            }
            Ok(())
        }
        Reply::Hang => Ok(()),
    }
}
