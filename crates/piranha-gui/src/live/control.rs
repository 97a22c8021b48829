//! CONTROL / MONITORING: everything at a glance.

use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Redirect, Response};
use health::state::Force;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use lvsd::status::{Server, Status, VirtualServer};
use serde::Deserialize;

use super::events::Event;
use super::history::points;
use super::processes::{self, Process};
use super::{Live, Snapshot, lock, node_state};
use crate::app::App;
use crate::frame::{Frame, Tab};
use crate::gate::{Fields, User};
use crate::stream;

/// Seconds between updates, unless the user chooses otherwise, and what can be chosen.
const RATE: u32 = 10;
const RATES: std::ops::RangeInclusive<u32> = 1..=3600;
const COOKIE: &str = "rate";
/// Events shown.
const EVENTS: usize = 30;
/// The charts' box.
const CHART: (u32, u32) = (120, 26);

/// What the address may say.
#[derive(Debug, Deserialize)]
pub struct Asked {
    /// The live part alone.
    fragment: Option<u8>,
    /// What was just done.
    note: Option<u64>,
}

#[derive(Template)]
#[template(path = "control.html")]
struct Page<'a> {
    frame: Frame,
    rate: u32,
    live: LivePart<'a>,
}

#[derive(Template)]
#[template(path = "live.html")]
struct LivePart<'a> {
    at: String,
    nodes: Result<Nodes, String>,
    lvsd: Result<Table<'a>, &'a String>,
    events: Vec<EventLine>,
    processes: Vec<Process>,
    more_processes: usize,
}

struct Nodes {
    own: NodeCard,
    partner: Option<NodeCard>,
    paths: Vec<PathLine>,
    addresses: Vec<pulse::status::AddressStatus>,
    heard: Option<String>,
    can_hand_over: bool,
    failure: Option<String>,
    reload_error: Option<String>,
}

struct NodeCard {
    title: String,
    addresses: String,
    state: String,
    class: &'static str,
    about: String,
}

struct PathLine {
    name: String,
    text: String,
}

/// Blocks and rows are made as they are written: of ten thousand there is one at a time.
struct Table<'a> {
    status: &'a Status,
    live: &'a Live,
    clock: &'a Clock,
}

struct Block<'a> {
    name: &'a str,
    service: &'a str,
    state: String,
    class: &'static str,
    chart: String,
    chart_text: String,
    active: u64,
    inactive: u64,
    about: String,
    problem: Option<&'a str>,
    servers: &'a [Server],
    clock: &'a Clock,
}

struct Row<'a> {
    /// BLOCK/SERVER, as lvsd takes it.
    label: String,
    name: &'a str,
    address: &'a str,
    state: &'static str,
    class: &'static str,
    forced: bool,
    weight: String,
    active: u32,
    inactive: u32,
    check: String,
    bad: bool,
}

struct EventLine {
    time: String,
    subject: String,
    text: String,
}

/// GET `/secure/control`.
pub async fn page(
    State(app): State<Arc<App>>,
    Extension(User(user)): Extension<User>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Response {
    let snapshot = app.live.look();
    if asked.fragment.is_some() {
        return stream::answer(stream::HTML, move |out| {
            let clock = Clock::at(snapshot.at);
            live_part(&app, &snapshot, &clock).write_into(out)
        })
        .await;
    }
    let rate = chosen_rate(&headers);
    let frame = Frame::of(&app, &user, Tab::Control, "Control / Monitoring").await;
    let notes = asked.note.map(|number| app.edit.notes.find(number)).unwrap_or_default();
    let frame = Frame { notes, refresh: rate, ..frame };
    stream::answer(stream::HTML, move |out| {
        let clock = Clock::at(snapshot.at);
        let live = live_part(&app, &snapshot, &clock);
        Page { frame, rate, live }.write_into(out)
    })
    .await
}

/// POST `/secure/control/rate`: how often the page updates itself, in seconds.
pub async fn set_rate(Extension(fields): Extension<Fields>) -> Response {
    let wanted = fields.get("rate").and_then(|text| text.trim().parse().ok()).unwrap_or(RATE);
    let rate = wanted.clamp(*RATES.start(), *RATES.end());
    let cookie =
        format!("{COOKIE}={rate}; Path=/secure; Max-Age=31536000; SameSite=Strict; HttpOnly");
    let mut answer = Redirect::to("/secure/control").into_response();
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        answer.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    answer
}

fn chosen_rate(headers: &HeaderMap) -> u32 {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE)
        .and_then(|(_, value)| value.parse().ok())
        .filter(|rate| RATES.contains(rate))
        .unwrap_or(RATE)
}

fn live_part<'a>(app: &'a App, snapshot: &'a Snapshot, clock: &'a Clock) -> LivePart<'a> {
    let (processes, more_processes) = processes::running();
    let table = |status| Table { status, live: &app.live, clock };
    LivePart {
        at: clock.time(snapshot.at),
        nodes: snapshot.pulse.as_ref().map(|status| nodes(status, clock)).map_err(Clone::clone),
        lvsd: snapshot.lvsd.as_ref().map(table),
        events: app.live.events.newest(EVENTS).iter().map(|event| clock.event(event)).collect(),
        processes,
        more_processes,
    }
}

/// Times as people read them.
struct Clock {
    now: Timestamp,
    zone: TimeZone,
}

impl Clock {
    /// By this machine's zone.
    fn at(now: Timestamp) -> Self {
        Self { now, zone: TimeZone::system() }
    }

    /// The clock's time today, the weekday within a week, else the date.
    fn time(&self, at: Timestamp) -> String {
        let (now, then) = (self.now.to_zoned(self.zone.clone()), at.to_zoned(self.zone.clone()));
        let format = if now.date() == then.date() {
            "%H:%M:%S"
        } else if self.now.duration_since(at).abs() < SignedDuration::from_hours(6 * 24) {
            "%a %H:%M"
        } else {
            "%Y-%m-%d %H:%M"
        };
        then.strftime(format).to_string()
    }

    fn ago(&self, ms: u64) -> Timestamp {
        let ms = i64::try_from(ms).unwrap_or(i64::MAX);
        self.now.checked_sub(SignedDuration::from_millis(ms)).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// `since Tue 03:12 (2 days)`.
    fn since(&self, ms: u64) -> String {
        format!("since {} ({})", self.time(self.ago(ms)), span(ms))
    }

    fn event(&self, event: &Event) -> EventLine {
        EventLine {
            time: self.time(event.at),
            subject: event.subject.clone(),
            text: event.text.clone(),
        }
    }
}

/// A time in its largest unit.
fn span(ms: u64) -> String {
    let many =
        |count: u64, unit: &str| format!("{count} {unit}{}", if count == 1 { "" } else { "s" });
    match ms / 1000 {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7199 => format!("{} min", seconds / 60),
        seconds @ 7200..=172_799 => many(seconds / 3600, "hour"),
        seconds => many(seconds / 86_400, "day"),
    }
}

/// A short time, in seconds with a decimal or in milliseconds.
fn short(ms: u64) -> String {
    if ms < 1000 { format!("{ms} ms") } else { format!("{}.{} s", ms / 1000, ms % 1000 / 100) }
}

fn nodes(status: &pulse::status::Status, clock: &Clock) -> Nodes {
    let local = |name: &str| {
        let path = status.paths.iter().find(|path| path.name == name);
        path.map(|path| path.local.clone()).unwrap_or_default()
    };
    let node = &status.node;
    let (state, class) = node_state(node);
    let about = format!("{} · {} · {}", node.role, clock.since(node.since_ms), node.reason);
    let own = NodeCard {
        title: crate::page::host_name(),
        addresses: local("public"),
        state: state.to_owned(),
        class,
        about,
    };
    let heard = status.paths.iter().filter_map(|path| path.heard_ms).min();
    Nodes {
        own,
        partner: status.partner.as_ref().map(|partner| partner_card(status, partner, clock)),
        paths: status.paths.iter().map(path_line).collect(),
        addresses: status.addresses.clone(),
        heard: heard.map(short),
        can_hand_over: node.state == "active"
            && status
                .partner
                .as_ref()
                .is_some_and(|p| p.state == "inactive" && p.able != Some(false)),
        failure: node.failure.clone(),
        reload_error: status.reload_error.clone(),
    }
}

fn partner_card(
    status: &pulse::status::Status,
    partner: &pulse::status::Partner,
    clock: &Clock,
) -> NodeCard {
    let (state, class) = match partner.state.as_str() {
        "active" => ("active", "up"),
        "inactive" if partner.able == Some(false) => ("failed", "down"),
        "inactive" => ("standby", "off"),
        "unreachable" => ("unreachable", "down"),
        _ => ("not heard yet", "warn"),
    };
    let other = if status.node.role == "master" { "backup" } else { "master" };
    let mut about = partner.role.clone().unwrap_or_else(|| other.to_owned());
    if let Some(since) = partner.since_ms {
        about += &format!(" · {}", clock.since(since));
    }
    if let Some(reason) = partner.reason.as_deref().filter(|reason| !reason.is_empty()) {
        about += &format!(" · {reason}");
    }
    if partner.original {
        about += " · an original Piranha";
    }
    let address = status.paths.first().and_then(|path| path.partner.clone()).unwrap_or_default();
    NodeCard {
        title: "partner".to_owned(),
        addresses: address,
        state: state.to_owned(),
        class,
        about,
    }
}

fn path_line(path: &pulse::status::PathStatus) -> PathLine {
    let mut text = format!("sent {}, received {}, late {}", path.sent, path.received, path.late);
    if let Some(error) = &path.error {
        text += &format!(": {error}");
    }
    PathLine { name: path.name.clone(), text }
}

impl<'a> Table<'a> {
    fn blocks(&self) -> impl Iterator<Item = Block<'a>> {
        let (live, clock) = (self.live, self.clock);
        self.status.virtual_servers.iter().map(move |block| self::block(block, live, clock))
    }
}

impl<'a> Block<'a> {
    fn rows(&self) -> impl Iterator<Item = Row<'a>> {
        let (name, clock) = (self.name, self.clock);
        self.servers.iter().map(move |server| row(name, server, clock))
    }
}

fn block<'a>(block: &'a VirtualServer, live: &Live, clock: &'a Clock) -> Block<'a> {
    let total = block.servers.len();
    let (state, class) = match block.up {
        _ if block.sorry_active => ("sorry server".to_owned(), "warn"),
        0 if total == 0 => ("no servers".to_owned(), "off"),
        0 => (format!("0 of {total}"), "down"),
        up if up < total => (format!("{up} of {total}"), "warn"),
        up => (format!("{up} of {total}"), "up"),
    };
    let history = lock(&live.history);
    let series = history.of(&block.name, &block.service);
    let rate = block.counters.connections_per_s;
    let mut about = format!("{} · {}", block.scheduler, block.forwarding);
    if block.persistent > 0 {
        about += &format!(" · persistent {} s", block.persistent);
    }
    if let Some(sorry) = &block.sorry_server {
        about += &format!(" · sorry server {sorry}");
    }
    Block {
        name: &block.name,
        service: &block.service,
        state,
        class,
        chart: series.map(|series| points(series, CHART.0, CHART.1)).unwrap_or_default(),
        chart_text: format!("{rate} a second now"),
        active: block.servers.iter().map(|server| u64::from(server.active_connections)).sum(),
        inactive: block.servers.iter().map(|server| u64::from(server.inactive_connections)).sum(),
        about,
        problem: block.problem.as_deref(),
        servers: &block.servers,
        clock,
    }
}

fn row<'a>(block: &str, server: &'a Server, clock: &Clock) -> Row<'a> {
    let (state, class) = match (server.forced, server.up) {
        (Force::Drain, _) => ("drained", "warn"),
        (Force::Down, _) => ("kept down", "off"),
        (Force::Up, _) => ("kept up", "up"),
        (Force::Auto, Some(true)) => ("up", "up"),
        (Force::Auto, Some(false)) => ("down", "down"),
        (Force::Auto, None) => ("not known yet", "off"),
    };
    let took = server.check_us.map(|us| format!("{}.{} ms", us / 1000, us % 1000 / 100));
    let check = match (&server.error, took) {
        (Some(error), _) => match server.since_ms {
            Some(since) => format!("{error} · {}", clock.since(since)),
            None => error.clone(),
        },
        (None, Some(took)) => took,
        (None, None) => String::new(),
    };
    Row {
        label: format!("{block}/{}", server.name),
        name: &server.name,
        address: &server.address,
        state,
        class,
        forced: server.forced != Force::Auto,
        weight: server.weight_kernel.map_or_else(|| "-".to_owned(), |weight| weight.to_string()),
        active: server.active_connections,
        inactive: server.inactive_connections,
        check,
        bad: server.error.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::events::tests::at;

    #[test]
    fn times_are_as_people_read_them() {
        let clock = Clock { now: at(0), zone: TimeZone::UTC };
        // 2023-11-14 22:13:20, a Tuesday.
        assert_eq!(clock.time(at(-60)), "22:12:20");
        assert_eq!(clock.time(at(-86_400)), "Mon 22:13");
        assert_eq!(clock.time(at(-40 * 86_400)), "2023-10-05 22:13");
        assert_eq!(clock.since(3 * 86_400_000), "since Sat 22:13 (3 days)");
        assert_eq!(clock.since(u64::MAX).split_once(" (").unwrap().0, "since 1970-01-01 00:00");
        for (ms, text) in
            [(0, "0 s"), (119_000, "119 s"), (120_000, "2 min"), (7_200_000, "2 hours")]
        {
            assert_eq!(span(ms), text);
        }
        assert_eq!((short(20), short(1_850)), ("20 ms".to_owned(), "1.8 s".to_owned()));
    }

    #[test]
    fn the_rate_is_remembered_and_bounded() {
        let rate = |cookie: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, HeaderValue::from_static(cookie));
            chosen_rate(&headers)
        };
        assert_eq!(rate("a=b; rate=3"), 3);
        for bad in ["rate=0", "rate=99999", "rate=x", "crate=3", ""] {
            assert_eq!(rate(bad), RATE, "{bad}");
        }
    }
}
