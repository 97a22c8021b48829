//! How the pages look and feel in a real browser: nothing sticks out, nothing is found by the audit,
//! everything can be reached by the keyboard alone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use gui_lab::browser::keys;
use gui_lab::{Browser, Look, Reply, Show, made};

const PROGRAM: &str = "piranha_gui";

fn shown(virtuals: usize) -> (Show, Browser) {
    let (show, browser) = (Show::new(PROGRAM, virtuals), Browser::here());
    show.prepare(&browser);
    (show, browser)
}

/// Every page and message: also a form that was refused.
fn every_page(show: &Show, browser: &Browser, look: &mut dyn FnMut(&str)) {
    for (name, url) in show.pages() {
        browser.open(&url);
        look(name);
    }
    browser.open(&show.url("/secure/virtual/1"));
    browser.run("document.querySelectorAll('details').forEach(d => d.open = true)", &[]);
    look("virtual server, advanced");
    browser.enter("Application port", "99999");
    browser.press("Accept");
    browser.wait_text("Nothing is saved yet");
    look("refused form");
    browser.open(&show.url("/secure/virtual"));
    browser.click("//input[@type='radio']");
    browser.press("DELETE");
    browser.wait_text("Delete virtual server");
    look("delete");
    browser.open(&show.url("/secure/virtual/1/servers/1"));
    browser.press("Test this check");
    browser.wait_text("Test of a check");
    look("trial");
}

#[test]
fn no_page_has_anything_that_the_audit_finds() {
    let (show, browser) = shown(2);
    let mut found = Vec::new();
    for look in Look::all() {
        browser.look(look);
        every_page(&show, &browser, &mut |name| {
            found.extend(
                browser.audit().into_iter().map(|line| format!("{name}, {}: {line}", look.name())),
            );
            found.extend(
                browser
                    .overflow()
                    .into_iter()
                    .map(|line| format!("{name}, {}: sticks out: {line}", look.name())),
            );
        });
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn many_servers_and_hostile_names_stick_out_nowhere() {
    let (show, browser) = shown(200);
    show.lvsd.set(Reply::status(&made::hostile_table()));
    show.pulse.set(Reply::status(&made::hostile_pair()));
    let hostile = |page: &gui_lab::Answer| page.text().contains("onerror");
    show.gui.wait("/secure/control", "names", hostile);
    for look in Look::all() {
        browser.look(look);
        for (name, url) in show.pages() {
            browser.open(&url);
            assert_eq!(browser.overflow(), [""; 0], "{name}, {}", look.name());
        }
    }
    // Had any of it been markup, it would have run by now.
    browser.open(&show.url("/secure/control"));
    assert_eq!(browser.run("return document.querySelectorAll('main script, img').length", &[]), 0);
}

/// What can be pressed or filled in on a page, and what has the focus now.
const REACHABLE: &str = "
    const shown = e => e.checkVisibility() && !e.disabled && e.tabIndex >= 0;
    const all = [...document.querySelectorAll('a[href], button, input, select, summary, textarea, [tabindex]')]
      .filter(e => e.type !== 'hidden').filter(shown);
    // Of radio buttons the group takes one stop.
    return all.filter(e => e.type !== 'radio' || e === all.find(o => o.name === e.name && o.type === 'radio'))
      .map(e => all.indexOf(e));";
const FOCUSED: &str = "
    const shown = e => e.checkVisibility() && !e.disabled && e.tabIndex >= 0;
    const all = [...document.querySelectorAll('a[href], button, input, select, summary, textarea, [tabindex]')]
      .filter(e => e.type !== 'hidden').filter(shown);
    const e = document.activeElement;
    if (!e || e === document.body) return null;
    const box = e.getBoundingClientRect(), style = getComputedStyle(e);
    const inside = box.width > 0 && box.height > 0 && box.bottom > 0 && box.right > 0
      && box.top < innerHeight && box.left < innerWidth;
    const ring = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
    return [all.indexOf(e), inside, ring, e.tagName + ' ' + (e.id || e.textContent.trim()).slice(0, 40)];";

#[test]
fn everything_is_reached_by_the_tab_key_and_seen_to_be() {
    let (show, browser) = shown(2);
    for look in [Look::WIDE, Look::NARROW] {
        browser.look(look);
        for (name, url) in show.pages() {
            browser.open(&url);
            let wanted: BTreeSet<_> = browser
                .run(REACHABLE, &[])
                .as_array()
                .unwrap()
                .iter()
                .map(|index| index.as_i64().unwrap())
                .collect();
            let mut reached = BTreeSet::new();
            let mut last = -1;
            for _ in 0..=wanted.len() {
                browser.keys(&keys::TAB.to_string());
                let focused = browser.run(FOCUSED, &[]);
                let Some(index) = focused[0].as_i64() else { break };
                let case = format!("{name}, {}: {}", look.name(), focused[3]);
                assert_eq!(focused[1], true, "it has the focus and is not to be seen: {case}");
                assert_eq!(focused[2], true, "nothing shows that it has the focus: {case}");
                if !reached.insert(index) {
                    break;
                }
                assert!(index > last, "the focus goes back: {case}");
                last = index;
            }
            assert_eq!(reached, wanted, "{name}, {}", look.name());
        }
    }
}

#[test]
fn a_server_is_taken_down_and_a_form_sent_by_keys_alone() {
    let (show, browser) = shown(2);
    let tab_to = |what: &str| {
        for _ in 0..200 {
            browser.keys(&keys::TAB.to_string());
            let script = "const e = document.activeElement;
                return e.value + '|' + e.textContent.trim() + '|' + e.id";
            if browser.run(script, &[]).as_str().unwrap().split('|').any(|part| part == what) {
                return;
            }
        }
        panic!("no {what} is reached");
    };
    browser.open(&show.url("/"));
    tab_to("Login");
    browser.keys(&keys::ENTER.to_string());
    browser.wait_text("Auto update");
    tab_to("down site1/rs1");
    browser.keys(&keys::SPACE.to_string());
    browser.wait("order", "return document.body.innerText.includes('done')");
    let order = serde_json::json!({"command": "force", "server": "site1/rs1", "to": "down"});
    assert_eq!(show.lvsd.orders(), [order]);
    // Beyond the tabs in one step.
    browser.keys(&keys::TAB.to_string());
    browser.keys(&keys::ENTER.to_string());
    let main = browser.run("return location.hash", &[]);
    assert_eq!(main, "#main");
    browser.open(&show.url("/secure/virtual"));
    tab_to("row-1");
    browser.keys(&format!("{}{}", keys::DOWN, keys::ENTER));
    browser.wait_text("Virtual server: site1");
    tab_to("port");
    browser.keys("8080");
    browser.keys(&keys::ENTER.to_string());
    browser.wait_text("Saved as serial_no");
    assert!(show.gui.files.read("lvs.cf").contains("port = 8080"));
}

#[test]
fn the_page_works_without_scripts() {
    let (show, browser) = shown(2);
    browser.scripts(false);
    browser.open(&show.url("/secure/control"));
    browser.press("Set");
    browser.wait_text("Virtual servers");
    let mut table = show.table.clone();
    table.virtual_servers[0].servers[2].up = Some(false);
    table.virtual_servers[0].servers[2].error = Some("found without a script".to_owned());
    show.lvsd.set(Reply::status(&table));
    browser.enter("Auto update, seconds", "1");
    browser.press("Set");
    // The page loads itself again.
    browser.wait_text("found without a script");
}

#[test]
fn what_is_wrong_is_found() {
    let (show, browser) = shown(2);
    browser.open(&show.url("/secure/control"));
    assert_eq!((browser.audit(), browser.overflow()), (vec![], vec![]));
    browser.run(
        "const field = document.createElement('input');
         field.style.marginLeft = '2000px';
         document.querySelector('main').append(field)",
        &[],
    );
    let audit = browser.audit();
    assert!(audit.iter().any(|line| line.starts_with("label (critical)")), "{audit:?}");
    assert!(!browser.overflow().is_empty());
    browser.look(Look::WIDE.in_the_dark());
    browser.run("document.querySelector('h2').style.color = '#333'", &[]);
    let audit = browser.audit();
    assert!(audit.iter().any(|line| line.starts_with("color-contrast")), "{audit:?}");
}
