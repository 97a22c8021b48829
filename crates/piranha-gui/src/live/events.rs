//! What has happened: told apart from what is by comparing what the daemons said then and now; and
//! what the page's users did. Kept in a file, so that it survives a restart.

use std::collections::VecDeque;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use health::state::Force;
use jiff::Timestamp;
use lvsd::status::{Server, Status, VirtualServer};
use serde::{Deserialize, Serialize};

use super::{Snapshot, lock};

/// Events kept.
const KEPT: usize = 1000;
/// The file is written anew when it has so many lines.
const FILE_LINES: usize = 2 * KEPT;
/// Changes of servers told one by one; of more of them in one step only how many.
const TOLD: usize = 20;
const NAME: &str = "events";
/// The longest text of an event, in characters.
const LONGEST: usize = 500;

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When it was seen.
    pub at: Timestamp,
    /// Who or what it happened to: `https / rp2`.
    pub subject: String,
    /// What happened.
    pub text: String,
}

impl Event {
    fn new(at: Timestamp, subject: impl Into<String>, text: impl Into<String>) -> Self {
        let bounded = |text: String| match text.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        };
        Self { at, subject: bounded(subject.into()), text: bounded(text.into()) }
    }
}

/// The event log.
#[derive(Debug)]
pub struct Events {
    file: PathBuf,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The oldest first.
    events: VecDeque<Event>,
    lines: usize,
    /// The file could not be written, and that was said.
    complained: bool,
}

impl Events {
    /// Takes up the log of earlier in the directory `state`.
    #[must_use]
    pub fn open(state: &Path) -> Self {
        let file = state.join(NAME);
        // What cannot be read, or not be understood, is not worth a page that is down.
        let text = fs::read(&file).unwrap_or_default();
        let mut kept = Kept::default();
        for line in text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            kept.lines += 1;
            if let Ok(event) = serde_json::from_slice(line) {
                kept.push(event);
            }
        }
        Self { file, kept: Mutex::new(kept) }
    }

    /// Adds what a user of the page did.
    pub fn act(&self, user: &str, text: impl Into<String>) {
        self.add(Event::new(Timestamp::now(), user, text));
    }

    /// Adds an event.
    pub fn add(&self, event: Event) {
        log::info!("{}: {}", event.subject.escape_debug(), event.text.escape_debug());
        let mut kept = lock(&self.kept);
        let written = kept.write(&self.file, &event);
        kept.push(event);
        match written {
            Ok(()) => kept.complained = false,
            Err(error) if !kept.complained => {
                kept.complained = true;
                log::warn!("write {}: {error}; events are kept in memory", self.file.display());
            }
            Err(_) => {}
        }
    }

    /// The newest events, the newest first.
    #[must_use]
    pub fn newest(&self, count: usize) -> Vec<Event> {
        lock(&self.kept).events.iter().rev().take(count).cloned().collect()
    }
}

impl Kept {
    fn push(&mut self, event: Event) {
        if self.events.len() >= KEPT {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn write(&mut self, file: &Path, event: &Event) -> std::io::Result<()> {
        if self.lines >= FILE_LINES {
            let mut text = Vec::new();
            for event in &self.events {
                serde_json::to_writer(&mut text, event)?;
                text.push(b'\n');
            }
            let new = file.with_extension("new");
            fs::write(&new, &text)?;
            fs::rename(&new, file)?;
            self.lines = self.events.len();
        }
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        OpenOptions::new().append(true).create(true).open(file)?.write_all(&line)?;
        self.lines += 1;
        Ok(())
    }
}

/// What has happened between two snapshots.
#[must_use]
pub fn happened(old: &Snapshot, new: &Snapshot) -> Vec<Event> {
    let mut events = Vec::new();
    let mut tell = |subject: &str, text: String| events.push(Event::new(new.at, subject, text));
    nodes(old, new, &mut tell);
    if let (Ok(old), Ok(new)) = (&old.lvsd, &new.lvsd) {
        if old.serial_no != new.serial_no {
            tell("configuration", format!("{} is in force", new.serial_no));
        }
        if let (None, Some(error)) = (&old.reload_error, &new.reload_error) {
            tell("configuration", format!("could not be read: {error}"));
        }
        servers(old, new, &mut tell);
    }
    events
}

fn nodes(old: &Snapshot, new: &Snapshot, tell: &mut impl FnMut(&str, String)) {
    match (&old.pulse, &new.pulse) {
        (Ok(old), Ok(new)) => {
            if old.node.state != new.node.state {
                let (state, reason) = (&new.node.state, &new.node.reason);
                tell("this node", format!("became {state}: {reason}"));
            }
            let states = (old.partner.as_ref(), new.partner.as_ref());
            if let (Some(old), Some(new)) = states
                && old.state != new.state
            {
                let why = new.reason.as_deref().map(|reason| format!(": {reason}"));
                tell("the partner", format!("is {}{}", new.state, why.unwrap_or_default()));
            }
        }
        (Ok(_), Err(error)) => tell("pulse", error.clone()),
        (Err(_), Ok(new)) => tell("pulse", format!("runs, {}", new.node.state)),
        (Err(_), Err(_)) => {}
    }
}

fn servers(old: &Status, new: &Status, tell: &mut impl FnMut(&str, String)) {
    let mut untold = 0usize;
    let mut count = 0usize;
    for (old, new) in pairs(&old.virtual_servers, &new.virtual_servers, same_block) {
        if old.sorry_active != new.sorry_active {
            let sorry = new.sorry_server.as_deref().unwrap_or("the sorry server");
            let text = if new.sorry_active {
                format!("no real server is up; {sorry} stands in")
            } else {
                format!("{sorry} does not stand in any more")
            };
            tell(&new.name, text);
        }
        for (before, after) in pairs(&old.servers, &new.servers, same_server) {
            let Some(text) = change(before, after) else { continue };
            count += 1;
            if count <= TOLD {
                tell(&format!("{} / {}", new.name, after.name), text);
            } else {
                untold += 1;
            }
        }
    }
    if untold > 0 {
        tell("servers", format!("{untold} more have changed their state"));
    }
}

fn change(before: &Server, after: &Server) -> Option<String> {
    if before.forced != after.forced {
        return Some(
            match after.forced {
                Force::Auto => "given back to its checks",
                Force::Up => "kept up by an operator",
                Force::Down => "kept down by an operator",
                Force::Drain => "drained by an operator",
            }
            .to_owned(),
        );
    }
    match (before.up, after.up) {
        (Some(true), Some(false)) => {
            let why = after.error.as_deref().map(|error| format!(": {error}"));
            Some(format!("down{}", why.unwrap_or_default()))
        }
        (Some(false), Some(true)) => Some("up".to_owned()),
        _ => None,
    }
}

fn same_block(one: &VirtualServer, other: &VirtualServer) -> bool {
    one.name == other.name && one.service == other.service
}

fn same_server(one: &Server, other: &Server) -> bool {
    one.name == other.name && one.address == other.address
}

/// What stands in both lists. Lists that differ by a few entries, as those of two moments do, are
/// walked in one pass: what is not at the next place is looked for once from the list's beginning.
fn pairs<'a, T>(
    old: &'a [T],
    new: &'a [T],
    same: fn(&T, &T) -> bool,
) -> impl Iterator<Item = (&'a T, &'a T)> {
    let mut next = 0;
    new.iter().filter_map(move |new| {
        let found = match old.get(next) {
            Some(old) if same(old, new) => Some(next),
            _ => old.iter().position(|old| same(old, new)),
        }?;
        next = found + 1;
        old.get(found).map(|old| (old, new))
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use lvsd::status::Counters;

    pub(in crate::live) fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    pub(in crate::live) fn server(name: &str, up: Option<bool>) -> Server {
        Server {
            name: name.to_owned(),
            address: format!("10.0.0.{}:80", name.len()),
            up,
            health: None,
            forced: Force::Auto,
            since_ms: None,
            weight: 1,
            weight_wanted: None,
            weight_kernel: None,
            check_us: None,
            error: None,
            active_connections: 0,
            inactive_connections: 0,
            persistent_connections: 0,
            counters: Counters::default(),
        }
    }

    pub(in crate::live) fn virtual_server(name: &str, servers: &[Server]) -> VirtualServer {
        VirtualServer {
            name: name.to_owned(),
            service: "TCP 192.0.2.10:80".to_owned(),
            scheduler: "wlc".to_owned(),
            forwarding: "nat".to_owned(),
            persistent: 0,
            up: 0,
            sorry_server: None,
            sorry_active: false,
            problem: None,
            in_kernel: true,
            counters: Counters::default(),
            servers: servers.to_vec(),
        }
    }

    pub(in crate::live) fn lvsd(virtual_servers: Vec<VirtualServer>) -> Status {
        Status {
            version: String::new(),
            pid: 1,
            file: String::new(),
            serial_no: 1,
            uptime_s: 1,
            standby: false,
            reload_error: None,
            table_error: None,
            virtual_servers,
        }
    }

    fn snapshot(servers: &[Server]) -> Snapshot {
        let status = lvsd(vec![virtual_server("https", servers)]);
        Snapshot { at: at(0), pulse: Err(String::new()), lvsd: Ok(status) }
    }

    fn told(old: &Snapshot, new: &Snapshot) -> Vec<String> {
        happened(old, new)
            .iter()
            .map(|event| format!("{}: {}", event.subject, event.text))
            .collect()
    }

    #[test]
    fn changes_of_servers_are_told_with_their_reason() {
        let mut failed = server("rp2", Some(false));
        failed.error = Some("answered “FAIL”".to_owned());
        let mut drained = server("a", Some(true));
        drained.forced = Force::Drain;
        let old =
            snapshot(&[server("rp2", Some(true)), server("a", Some(true)), server("x", None)]);
        let new = snapshot(&[failed.clone(), drained, server("x", Some(true))]);
        assert_eq!(
            told(&old, &new),
            ["https / rp2: down: answered “FAIL”", "https / a: drained by an operator"]
        );
        assert_eq!(told(&new, &new), [""; 0]);
        let back = snapshot(&[server("rp2", Some(true))]);
        assert_eq!(told(&snapshot(&[failed]), &back), ["https / rp2: up"]);
    }

    #[test]
    fn servers_are_found_wherever_they_stand() {
        let (a, b) = (server("a", Some(true)), server("bb", Some(true)));
        let down = server("bb", Some(false));
        let cases = [
            (vec![a.clone(), b.clone()], vec![down.clone(), a.clone()]),
            (vec![a.clone(), b.clone()], vec![down.clone()]),
            (vec![b.clone()], vec![a.clone(), down.clone()]),
        ];
        for (old, new) in cases {
            assert_eq!(told(&snapshot(&old), &snapshot(&new)), ["https / bb: down"]);
        }
    }

    #[test]
    fn a_landslide_is_told_in_one_line() {
        let all = |up| (0..100).map(|n| server(&"x".repeat(n + 1), Some(up))).collect::<Vec<_>>();
        let events = told(&snapshot(&all(true)), &snapshot(&all(false)));
        assert_eq!(events.len(), TOLD + 1);
        assert_eq!(events[TOLD], "servers: 80 more have changed their state");
    }

    #[test]
    fn events_survive_a_restart_within_bounds() {
        let state = tempfile::tempdir().unwrap();
        let events = Events::open(state.path());
        for number in 0..3 * KEPT {
            events.add(Event::new(at(0), "x", format!("{number} \n\"<b>")));
        }
        let again = Events::open(state.path());
        assert_eq!(again.newest(KEPT), events.newest(KEPT));
        assert_eq!(again.newest(1)[0].text, format!("{} \n\"<b>", 3 * KEPT - 1));
        assert!(lock(&again.kept).lines <= FILE_LINES);
        fs::write(state.path().join(NAME), b"\xff{}\n\n{\"at\":1}\n").unwrap();
        assert!(Events::open(state.path()).newest(9).is_empty());
        assert_eq!(
            Event::new(at(0), "x", "é".repeat(2 * LONGEST)).text.chars().count(),
            LONGEST + 1
        );
    }

    #[test]
    fn a_place_that_cannot_be_written_loses_nothing_in_memory() {
        let events = Events::open(Path::new("/nonexistent"));
        events.act("piranha", "did it");
        assert_eq!(events.newest(9).len(), 1);
    }
}
