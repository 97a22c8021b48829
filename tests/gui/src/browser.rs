//! A real browser: Debian's Chromium, driven by its chromedriver over the WebDriver protocol
//! (<https://www.w3.org/TR/webdriver2/>), which is HTTP and JSON. Of that a test needs a dozen commands,
//! one after the other; the clients there are for it bring an asynchronous runtime and some fifty
//! crates, so the commands are written here over [`Conversation`].

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use base64ct::{Base64, Encoding};
use lab::{PATIENCE, Running};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Ask, Conversation};

/// The driver's program, of Debian's package chromium-driver.
const DRIVER: &str = "chromedriver";
/// Chromium as root in a container: no sandbox of its own; and nothing that asks the internet.
const FLAGS: [&str; 14] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
];
/// The environment variable that names axe-core's `axe.min.js`.
const AXE: &str = "PIRANHA_AXE";
/// The highest picture, in pixels.
const HIGHEST: u64 = 6000;
/// How an element is named in answers (WebDriver, 12).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// How somebody looks at a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// In CSS pixels.
    pub width: u32,
    /// In CSS pixels.
    pub height: u32,
    /// Whether the system prefers dark colours.
    pub dark: bool,
}

impl Look {
    /// A laptop's screen.
    pub const WIDE: Self = Self { width: 1280, height: 800, dark: false };
    /// A telephone's.
    pub const NARROW: Self = Self { width: 390, height: 844, dark: false };

    /// The same in the dark.
    #[must_use]
    pub const fn in_the_dark(self) -> Self {
        Self { dark: true, ..self }
    }

    /// Wide and narrow, light and dark.
    #[must_use]
    pub const fn all() -> [Self; 4] {
        [Self::WIDE, Self::WIDE.in_the_dark(), Self::NARROW, Self::NARROW.in_the_dark()]
    }

    /// `wide-light` and so on.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match (self.width > 600, self.dark) {
            (true, false) => "wide-light",
            (true, true) => "wide-dark",
            (false, false) => "narrow-light",
            (false, true) => "narrow-dark",
        }
    }
}

/// A browser with one window. It ends when this is dropped.
#[derive(Debug)]
pub struct Browser {
    driver: SocketAddr,
    session: String,
    running: Running,
    _profile: TempDir,
}

/// Where chromedriver is to be started; see [`Browser::start`].
#[must_use]
pub fn driver() -> Command {
    let mut command = Command::new(DRIVER);
    command.args(["--port=0", "--allowed-ips=127.0.0.1"]);
    command
}

impl Browser {
    /// A browser on this machine.
    #[track_caller]
    #[must_use]
    pub fn here() -> Self {
        Self::start(Running::here(driver()))
    }

    /// A browser by a [`driver`] that runs, with an empty profile. To be called where its network is.
    #[track_caller]
    #[must_use]
    pub fn start(running: Running) -> Self {
        let line = running
            .wait_for("started successfully on port", PATIENCE)
            .expect("Debian's packages chromium and chromium-driver");
        let port = line.text.rsplit(' ').next().map(|port| port.trim_end_matches('.'));
        let port = port.and_then(|port| port.parse().ok()).expect("a port");
        let driver = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let profile = tempfile::tempdir().expect("a directory");
        let mut flags: Vec<_> = FLAGS.iter().map(|&flag| flag.to_owned()).collect();
        flags.push(format!("--user-data-dir={}", profile.path().display()));
        let mut browser = Self { driver, session: String::new(), running, _profile: profile };
        let options = json!({ "args": flags });
        let wanted = json!({ "browserName": "chrome", "goog:chromeOptions": options });
        let made =
            browser.command("POST", "", &json!({ "capabilities": { "alwaysMatch": wanted } }));
        let made = made.unwrap_or_else(|error| panic!("no browser: {error}"));
        browser.session = format!("/{}", made["sessionId"].as_str().expect("a session"));
        browser.look(Look::WIDE);
        browser
    }

    /// One command of the protocol, and its value; or the driver's error.
    fn command(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let target = format!("/session{}{path}", self.session);
        let mut ask = Ask::new(method, &target).header("Connection", "close");
        if method == "POST" {
            ask = ask.header("Content-Type", "application/json").body(body.to_string());
        }
        let mut conversation = Conversation::with(self.driver);
        let limit = Some(4 * PATIENCE);
        conversation.socket().set_read_timeout(limit).map_err(|error| error.to_string())?;
        conversation.send(&ask.bytes(self.driver)).map_err(|error| error.to_string())?;
        let answer = conversation.answer(method).map_err(|error| error.to_string())?;
        let answer = answer.ok_or("the driver has hung up")?;
        let value: Value = serde_json::from_slice(&answer.body).map_err(|e| e.to_string())?;
        if answer.status == 200 {
            return Ok(value["value"].clone());
        }
        let said = |name: &str| value["value"][name].as_str().unwrap_or_default().to_owned();
        Err(format!("{method} {path}: {}: {}", said("error"), said("message")))
    }

    #[track_caller]
    fn must(&self, method: &str, path: &str, body: &Value) -> Value {
        self.command(method, path, body)
            .unwrap_or_else(|error| panic!("{error}\non {}", self.seen()))
    }

    /// A command of Chromium's own protocol.
    #[track_caller]
    fn chromium(&self, command: &str, parameters: &Value) -> Value {
        self.must("POST", "/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// Shows pages so from now on.
    #[track_caller]
    pub fn look(&self, look: Look) {
        let (width, height) = (look.width, look.height);
        let size = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false,
        });
        self.chromium("Emulation.setDeviceMetricsOverride", &size);
        let value = if look.dark { "dark" } else { "light" };
        let scheme = json!([{ "name": "prefers-color-scheme", "value": value }]);
        self.chromium("Emulation.setEmulatedMedia", &json!({ "features": scheme }));
    }

    /// Whether scripts run on the pages that come.
    #[track_caller]
    pub fn scripts(&self, run: bool) {
        self.chromium("Emulation.setScriptExecutionDisabled", &json!({ "value": !run }));
    }

    /// Opens an address.
    #[track_caller]
    pub fn open(&self, url: &str) {
        self.must("POST", "/url", &json!({ "url": url }));
    }

    /// The page's address.
    #[track_caller]
    #[must_use]
    pub fn url(&self) -> String {
        self.must("GET", "/url", &Value::Null).as_str().unwrap_or_default().to_owned()
    }

    /// Runs the body of a function on the page, and gives what it returns.
    #[track_caller]
    pub fn run(&self, script: &str, arguments: &[Value]) -> Value {
        self.must("POST", "/execute/sync", &json!({ "script": script, "args": arguments }))
    }

    /// The same for one that calls its last argument when it is done.
    #[track_caller]
    fn run_async(&self, script: &str, arguments: &[Value]) -> Value {
        self.must("POST", "/execute/async", &json!({ "script": script, "args": arguments }))
    }

    /// All text that is shown.
    #[track_caller]
    #[must_use]
    pub fn text(&self) -> String {
        let text = self.run("return document.body ? document.body.innerText : ''", &[]);
        text.as_str().unwrap_or_default().to_owned()
    }

    /// What stands where, for a test that fails.
    fn seen(&self) -> String {
        let ask = |script: &str| {
            let body = json!({ "script": script, "args": [] });
            self.command("POST", "/execute/sync", &body).unwrap_or_default()
        };
        let text = ask("return location.href + '\\n' + document.body.innerText");
        text.as_str().unwrap_or("nothing").to_owned()
    }

    fn find(&self, path: &str) -> Result<String, String> {
        let body = json!({ "using": "xpath", "value": path });
        let found = self.command("POST", "/element", &body)?;
        found[ELEMENT].as_str().map(str::to_owned).ok_or_else(|| "no element".to_owned())
    }

    /// Waits for an element that an XPath finds.
    #[track_caller]
    fn wait_element(&self, path: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.find(path) {
                Ok(element) => return element,
                Err(error) => {
                    assert!(Instant::now() < end, "{path}: {error}\non {}", self.seen());
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until a script gives true.
    #[track_caller]
    pub fn wait(&self, what: &str, script: &str) {
        let end = Instant::now() + PATIENCE;
        let body = json!({ "script": script, "args": [] });
        // A page that is just being left has no answer.
        while self.command("POST", "/execute/sync", &body) != Ok(Value::Bool(true)) {
            assert!(Instant::now() < end, "no {what} on {}", self.seen());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the page shows a text.
    #[track_caller]
    pub fn wait_text(&self, text: &str) {
        let script = format!("return document.body.innerText.includes({})", json!(text));
        self.wait(text, &script);
    }

    /// Clicks what an XPath finds, as a user does with the mouse.
    #[track_caller]
    pub fn click(&self, path: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            let element = self.wait_element(path);
            match self.command("POST", &format!("/element/{element}/click"), &json!({})) {
                Ok(_) => return,
                // The page has brought itself up to date since it was found, and there is another in its
                // place. Nothing was clicked.
                Err(error) if error.contains(": stale element") && Instant::now() < end => {}
                Err(error) => panic!("{error}\non {}", self.seen()),
            }
        }
    }

    /// Clicks a button or a link by its text, and waits for the page it leads to.
    #[track_caller]
    pub fn press(&self, text: &str) {
        self.follow(&format!(
            "//*[self::button or self::a][normalize-space(.)={text:?}][not(@tabindex='-1')]"
        ));
    }

    /// Clicks what an XPath finds, and waits for the page it leads to.
    #[track_caller]
    pub fn follow(&self, path: &str) {
        self.wait_element(path);
        self.run("window.left = false", &[]);
        self.click(path);
        self.wait(
            &format!("page behind {path}"),
            "return window.left === undefined && document.readyState === 'complete'",
        );
    }

    /// The field with this label.
    fn labelled(label: &str) -> String {
        format!("//*[@id=//label[normalize-space(.)={label:?}]/@for]")
    }

    /// Enters a text in the field with this label, in the place of what stands there.
    #[track_caller]
    pub fn enter(&self, label: &str, text: &str) {
        let element = self.wait_element(&Self::labelled(label));
        self.unfold(&element);
        self.must("POST", &format!("/element/{element}/clear"), &json!({}));
        self.must("POST", &format!("/element/{element}/value"), &json!({ "text": text }));
    }

    /// Chooses an option of the field with this label by its text.
    #[track_caller]
    pub fn choose(&self, label: &str, option: &str) {
        let element = self.wait_element(&Self::labelled(label));
        self.unfold(&element);
        self.click(&format!("{}/option[normalize-space(.)={option:?}]", Self::labelled(label)));
    }

    /// What stands in the field with this label.
    #[track_caller]
    #[must_use]
    pub fn entered(&self, label: &str) -> String {
        let element = self.wait_element(&Self::labelled(label));
        let value = self.run("return arguments[0].value", &[json!({ ELEMENT: element })]);
        value.as_str().unwrap_or_default().to_owned()
    }

    /// Opens the details that an element stands in, as whoever looks for it would.
    fn unfold(&self, element: &str) {
        let script = "const d = arguments[0].closest('details'); if (d) d.open = true";
        self.run(script, &[json!({ ELEMENT: element })]);
    }

    /// Presses keys one after the other, as they are named in [`keys`].
    #[track_caller]
    pub fn keys(&self, keys: &str) {
        let strokes: Vec<_> = keys
            .chars()
            .flat_map(|key| {
                [
                    json!({ "type": "keyDown", "value": key }),
                    json!({ "type": "keyUp", "value": key }),
                ]
            })
            .collect();
        let actions = json!([{ "type": "key", "id": "keyboard", "actions": strokes }]);
        self.must("POST", "/actions", &json!({ "actions": actions }));
    }

    /// The page as a picture, as high as it is.
    #[track_caller]
    pub fn picture(&self, path: &Path) {
        // A window of that height: what sticks to its lower edge then does so where the page ends.
        let size = self.run("return [innerWidth, document.documentElement.scrollHeight]", &[]);
        let height = size[1].as_u64().unwrap_or(0).min(HIGHEST);
        let clip = json!({ "x": 0, "y": 0, "width": size[0], "height": height, "scale": 1 });
        let metrics = json!({
            "width": size[0], "height": height, "deviceScaleFactor": 1, "mobile": false,
        });
        let before = self.run("return innerHeight", &[]);
        self.chromium("Emulation.setDeviceMetricsOverride", &metrics);
        let taken =
            self.chromium("Page.captureScreenshot", &json!({ "format": "png", "clip": clip }));
        let metrics = json!({
            "width": size[0], "height": before, "deviceScaleFactor": 1, "mobile": false,
        });
        self.chromium("Emulation.setDeviceMetricsOverride", &metrics);
        let bytes = Base64::decode_vec(taken["data"].as_str().expect("a picture")).expect("base64");
        fs::write(path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// What axe-core finds against the page, a line each; none when all is well.
    #[track_caller]
    #[must_use]
    pub fn audit(&self) -> Vec<String> {
        self.run(&axe(), &[]);
        let script = "
            const done = arguments[arguments.length - 1];
            axe.run(document, { resultTypes: ['violations'] }).then(
              r => done(r.violations.flatMap(v => v.nodes.map(n =>
                v.id + ' (' + v.impact + '): ' + n.target.join(' ') + ': ' + n.failureSummary))),
              e => done(['axe: ' + e]))";
        let found = self.run_async(script, &[]);
        let lines = found.as_array().expect("a list");
        lines.iter().map(|line| line.as_str().unwrap_or_default().to_owned()).collect()
    }

    /// What sticks out of the page at the right, so that it would have to be scrolled sideways.
    #[track_caller]
    #[must_use]
    pub fn overflow(&self) -> Vec<String> {
        let script = "
            const width = document.documentElement.clientWidth;
            if (document.documentElement.scrollWidth <= width) return [];
            return [...document.querySelectorAll('body *')]
              .filter(e => e.getBoundingClientRect().right > width + 1)
              .map(e => e.tagName + '.' + e.className + ' ' + e.textContent.trim().slice(0, 40));";
        let found = self.run(script, &[]);
        let lines = found.as_array().expect("a list");
        lines.iter().map(|line| line.as_str().unwrap_or_default().to_owned()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends its browser with the session; without an answer it is killed with its group.
        let _ = self.command("DELETE", "", &Value::Null);
        let _ = self.running.is_running();
    }
}

/// axe-core, which is fetched for the tests and is no part of the suite.
fn axe() -> String {
    let path = std::env::var_os(AXE).map(PathBuf::from).unwrap_or_else(|| {
        panic!("{AXE} is not set: it names the axe.min.js of axe-core; scripts/test fetches it")
    });
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Keys that have no character (WebDriver, 17.4.2).
pub mod keys {
    /// To the next field, link or button.
    pub const TAB: char = '\u{e004}';
    /// Presses what has the focus, or sends its form.
    pub const ENTER: char = '\u{e007}';
    /// Presses a button, or marks a box.
    pub const SPACE: char = ' ';
    /// Down in a list.
    pub const DOWN: char = '\u{e015}';
    /// Held: backwards with [`TAB`].
    pub const SHIFT: char = '\u{e008}';
}
