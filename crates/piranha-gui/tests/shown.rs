//! What the page shows of the daemons: whatever they say, and however they fail to.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail so")]

use std::fs;

use gui_lab::made::{self, HOSTILE};
use gui_lab::{Answer, Fake, Files, Gui, Reply};
use scraper::Selector;
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_piranha_gui");
const GARBAGE: [&[u8]; 8] = [
    b"",
    b"\n",
    b"not JSON\n",
    b"{}\n",
    b"[1,2,3]\n",
    b"\xff\xfe\x00\x01\n",
    b"{\"version\":\"0.9.0\",\"pid\":-1}\n",
    b"{\"ok\":\"what?\"}\n",
];

/// A page with both daemons behind it.
fn site(lvsd: Reply, pulse: Reply) -> (Gui, Fake, Fake) {
    let files = Files::new();
    let lvsd = Fake::on(&files.path("lvsd.sock"), lvsd);
    let pulse = Fake::on(&files.path("pulse.sock"), pulse);
    let gui = Gui::with(files, PROGRAM, &[]);
    (gui, lvsd, pulse)
}

fn says(text: &str) -> impl Fn(&Answer) -> bool {
    move |answer| answer.texts("main").join(" ").contains(text)
}

/// Elements and attributes that no page of ours has, wherever they may have come from.
fn assert_tame(answer: &Answer, page: &str) {
    let html = answer.page();
    let all = Selector::parse("*").unwrap();
    for element in html.select(&all) {
        let element = element.value();
        let bad = match element.name() {
            "script" => element.attr("src").is_none_or(|src| !src.starts_with("/static/")),
            "img" | "iframe" | "object" | "embed" | "base" | "style" => true,
            _ => false,
        };
        assert!(!bad, "{page}: {element:?}");
        for (name, value) in element.attrs() {
            assert!(!name.starts_with("on") && name != "style", "{page}: {element:?}");
            assert!(!value.trim_start().starts_with("javascript:"), "{page}: {element:?}");
        }
    }
}

#[test]
fn the_state_of_everything_is_on_the_page() {
    let (gui, _lvsd, _pulse) =
        site(Reply::status(&made::table(3, 8)), Reply::status(&made::pair()));
    let page = gui.wait("/secure/control", "table", says("site2"));
    let rows = page.texts("tr.vs");
    assert_eq!(rows.len(), 3);
    assert!(rows[0].contains("TCP 192.0.0.1:80") && rows[0].contains("7 of 8"), "{}", rows[0]);
    let servers = page.texts("tr.rs");
    assert_eq!(servers.len(), 24);
    let down: Vec<_> = servers.iter().filter(|row| row.contains("connection refused")).collect();
    assert_eq!(down.len(), page.texts("tr.rs .state.down").len());
    assert!(!down.is_empty() && down.iter().all(|row| row.contains("down")), "{down:?}");
    let nodes = page.texts(".node").join("\n");
    for text in ["active", "the partner was silent", "standby", "handed over", "10.0.0.2"] {
        assert!(nodes.contains(text), "{text} in {nodes}");
    }
    let labels = page.attributes("button[name=order]", "value");
    assert!(labels.contains(&"down site0/rs0".to_owned()), "{labels:?}");
}

#[test]
fn nothing_that_the_daemons_say_is_taken_for_markup() {
    let (gui, lvsd, _pulse) =
        site(Reply::status(&made::hostile_table()), Reply::status(&made::hostile_pair()));
    let page = gui.wait("/secure/control", "table", |page| page.texts("tr.vs").len() == 2);
    assert_tame(&page, "control");
    // The text is there as it is: nothing was lost, nothing escaped twice.
    let shown = HOSTILE.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(page.texts("tr.vs th")[0].contains(&shown), "{:?}", page.texts("tr.vs th"));
    let labels = page.attributes("button[name=order]", "value");
    let wanted = format!("{HOSTILE}site0/{HOSTILE}rs0");
    let order =
        labels.iter().find(|label| label.ends_with(&wanted)).expect("a button of the server");
    // And an order for such a server is for this one.
    let _ = gui.post("/secure/server", &[("order", order)]);
    assert_eq!(lvsd.orders()[0]["server"], wanted.as_str());
    lvsd.refuse(HOSTILE);
    let _ = gui.post("/secure/server", &[("order", order)]);
    for target in ["/secure/control", "/secure/control?fragment=1", "/secure/handover"] {
        assert_tame(&gui.get(target), target);
    }
}

#[test]
fn json_and_metrics_hold_hostile_names() {
    let (gui, _lvsd, _pulse) =
        site(Reply::status(&made::hostile_table()), Reply::status(&made::hostile_pair()));
    gui.wait("/secure/control", "table", |page| page.texts("tr.vs").len() == 2);
    let answer = gui.get("/secure/status.json");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let status: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(status["lvsd"]["virtual_servers"][1]["sorry_server"], HOSTILE);
    let answer = gui.get("/secure/metrics");
    assert!(answer.header("content-type").unwrap().starts_with("text/plain"));
    let names: Vec<_> = answer.text().lines().map(|line| metric(line).to_owned()).collect();
    assert!(names.iter().any(|name| name == "piranha_server_up"), "{names:?}");
}

/// The metric of a line in the format of Prometheus, which is taken apart strictly: labels are
/// `name="value"` with nothing but `\\`, `\"` and `\n` escaped; a number follows.
fn metric(line: &str) -> &str {
    if let Some(comment) = line.strip_prefix("# ") {
        assert!(
            comment.starts_with("HELP piranha_") || comment.starts_with("TYPE piranha_"),
            "{line}"
        );
        return "";
    }
    let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("{line}"));
    let (name, mut rest) = line.split_at(end);
    assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{line}");
    if let Some(mut labels) = rest.strip_prefix('{') {
        loop {
            let (label, value) = labels.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
            assert!(label.bytes().all(|b| b.is_ascii_lowercase()), "{line}");
            let mut characters = value.char_indices();
            let end = loop {
                match characters.next().unwrap_or_else(|| panic!("{line}")) {
                    (end, '"') => break end,
                    (_, '\\') => {
                        let (_, escaped) = characters.next().unwrap();
                        assert!(matches!(escaped, '\\' | '"' | 'n'), "{line}");
                    }
                    _ => {}
                }
            };
            match value[end + 1..].split_at(1) {
                (",", more) => labels = more,
                ("}", more) => {
                    rest = more;
                    break;
                }
                _ => panic!("{line}"),
            }
        }
    }
    rest.trim().parse::<f64>().unwrap_or_else(|error| panic!("{line}: {error}"));
    name
}

#[test]
fn daemons_that_do_not_run_are_told_from_those_that_do() {
    let gui = Gui::start(PROGRAM);
    let page = gui.wait("/secure/control", "words", says("lvsd is not running"));
    assert!(says("pulse is not running")(&page));
    assert!(says("service pulse start")(&page), "what to do about it");
    assert_eq!(page.texts("header .state"), ["stopped"]);
    let lvsd = Fake::on(&gui.files.path("lvsd.sock"), Reply::status(&made::table(1, 1)));
    let page = gui.wait("/secure/control", "table", says("site0"));
    assert!(says("pulse is not running")(&page));
    assert_eq!(page.texts("header .state"), ["active"]);
    let answer = gui.post("/secure/handover", &[]);
    assert_eq!(answer.status, 303);
    let page = gui.get(answer.header("location").unwrap());
    assert!(says("pulse is not running")(&page), "{}", page.text());
    drop(lvsd);
    gui.wait("/secure/control", "words", says("lvsd is not running"));
    let json: Value = serde_json::from_slice(&gui.get("/secure/status.json").body).unwrap();
    assert_eq!(json["pulse_error"], "pulse is not running");
    let metrics = gui.get("/secure/metrics").text();
    assert!(metrics.contains("piranha_up{daemon=\"lvsd\"} 0\n"), "{metrics}");
}

#[test]
fn garbage_from_the_daemons_is_a_message() {
    let (gui, lvsd, pulse) = site(Reply::bytes(GARBAGE[0]), Reply::bytes(GARBAGE[0]));
    for garbage in GARBAGE {
        lvsd.set(Reply::bytes(garbage));
        pulse.set(Reply::bytes(garbage));
        // What follows an order shows how things are then.
        assert_eq!(gui.post("/secure/server", &[("order", "down site0/rs0")]).status, 303);
        let page = gui.get("/secure/control");
        assert_eq!(page.status, 200);
        let text = page.texts("main").join(" ");
        for who in ["lvsd", "pulse"] {
            let told = [format!("{who}'s answer is not understood"), format!("{who} has hung up")];
            assert!(told.iter().any(|told| text.contains(told)), "{garbage:?}: {text}");
        }
        assert_tame(&page, "control");
    }
    lvsd.set(Reply::status(&made::table(1, 1)));
    gui.wait("/secure/control", "table", says("site0"));
}

#[test]
fn an_answer_without_end_does_not_eat_the_memory() {
    let (gui, lvsd, _pulse) = site(Reply::Flood(100 << 20), Reply::status(&made::pair()));
    gui.wait("/secure/control", "message", says("lvsd's answer is not understood"));
    lvsd.set(Reply::status(&made::table(1, 1)));
    gui.wait("/secure/control", "table", says("site0"));
    let highest = fs::read_to_string(format!("/proc/{}/status", gui.running.pid())).unwrap();
    let highest = highest.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().to_owned();
    let kib: u64 = highest.split_whitespace().next().unwrap().parse().unwrap();
    assert!(kib < 160 * 1024, "{highest}: more than twice what is taken of an answer");
}

#[test]
fn daemons_that_hang_do_not_stop_the_page() {
    let (gui, lvsd, pulse) = site(Reply::Hang, Reply::Hang);
    // The first question is still open; pages do not wait for it.
    let page = gui.get("/secure/control");
    assert!(says("not asked yet")(&page), "{}", page.text());
    let page = gui.wait("/secure/control", "message", says("lvsd does not answer"));
    assert!(says("pulse does not answer")(&page));
    for path in ["/secure/status.json", "/secure/metrics", "/secure/handover"] {
        assert_eq!(gui.get(path).status, 200, "{path}");
    }
    lvsd.set(Reply::status(&made::table(1, 1)));
    pulse.set(Reply::status(&made::pair()));
    gui.wait("/secure/control", "table", |page| says("site0")(page) && says("standby")(page));
}

#[test]
fn changes_are_told_as_events_and_survive_a_restart() {
    let mut table = made::table(1, 2);
    let (gui, lvsd, pulse) = site(Reply::status(&table), Reply::status(&made::pair()));
    gui.wait("/secure/control", "table", says("site0"));
    let server = &mut table.virtual_servers[0].servers[1];
    server.up = Some(false);
    server.error = Some(HOSTILE.to_owned());
    lvsd.set(Reply::status(&table));
    let events = |gui: &Gui, what: &str| {
        let told =
            |page: &Answer| page.texts(".events li").iter().any(|event| event.contains(what));
        gui.wait("/secure/control", what, told)
    };
    let page = events(&gui, "site0 / rs1 down: <script>alert(1)</script>");
    assert_tame(&page, "control");
    let mut pair = made::pair();
    pair.node.state = "inactive".to_owned();
    pair.node.reason = "handed over".to_owned();
    pulse.set(Reply::status(&pair));
    events(&gui, "this node became inactive: handed over");
    let Gui { files, running, .. } = gui;
    drop(running);
    drop((lvsd, pulse));
    let again = Gui::with(files, PROGRAM, &[]);
    events(&again, "this node became inactive: handed over");
    // Lines stay lines.
    let log = again.running.text();
    assert!(!log.contains('\u{1b}'), "{log:?}");
}
