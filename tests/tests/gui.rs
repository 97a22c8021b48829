//! The whole job by the web page: somebody who has an empty lvs.cf and a browser makes a director of
//! two services, watches it, and takes things back. pulse, lvsd, nanny, the web servers and the browser
//! are real.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use gui_lab::{Browser, Files, Gui, PASSWORD, USER, browser};
use lab::{Behaviour, Method, Node, PATIENCE, Site};
use lvs_config::{Code, NoResolver, Severity, parse};

const HTTP: &str = "tcp 172.16.0.100:80";
const HTTPS: &str = "tcp 172.16.0.100:443";

/// A director with a page, and a browser at it.
struct Desk<'a> {
    director: &'a Node,
    gui: &'a Gui,
    browser: Browser,
}

impl Desk<'_> {
    fn open(&self, path: &str) {
        self.browser.open(&format!("http://{}{path}", self.gui.address));
    }

    /// The browser's own dialog for the password cannot be reached by a program; the address can
    /// bear what would be entered there.
    fn log_in(&self, password: &str) {
        let address = self.gui.address;
        self.browser.open(&format!("http://{USER}:{password}@{address}/secure/control"));
        self.browser.wait_text("Auto update");
    }

    /// Fills in fields by their labels, and saves them.
    fn accept(&self, entries: &[(&str, &str)]) {
        for (label, value) in entries {
            self.browser.enter(label, value);
        }
        self.browser.press("Accept");
        self.browser.wait_text("Saved as serial_no");
    }

    /// A new entry of the list that is shown, ready to be edited.
    fn add(&self) {
        self.browser.press("ADD");
        self.browser.wait("new entry", "return !!document.querySelector('input:checked')");
        self.browser.press("EDIT");
        self.browser.wait("form", "return !!document.getElementById('name')");
    }

    fn virtual_server(&self, number: usize, entries: &[(&str, &str)], monitoring: &[(&str, &str)]) {
        self.open("/secure/virtual");
        self.add();
        self.browser.choose("Scheduling", "Round robin (rr)");
        self.accept(entries);
        for server in ["rs1", "rs2"] {
            self.browser.press("REAL SERVER");
            self.add();
            let address = if server == "rs1" { "10.0.0.21" } else { "10.0.0.22" };
            self.accept(&[("Name", server), ("IP address", address)]);
            self.browser.press("REAL SERVER");
            let row = format!("//tr[.//a[normalize-space(.)='{server}']]//input[@type='radio']");
            self.browser.click(&row);
            self.browser.press("(DE)ACTIVATE");
            self.browser.wait_text(&format!("{server}: activated"));
        }
        if !monitoring.is_empty() {
            self.browser.press("MONITORING SCRIPTS");
            self.accept(monitoring);
        }
        self.open("/secure/virtual");
        self.browser.click(&format!("//input[@type='radio'][@value='{number}']"));
        self.browser.press("(DE)ACTIVATE");
        self.browser.wait_text(": activated");
    }

    /// Waits until the row of a server says this.
    fn wait_state(&self, block: &str, server: &str, state: &str) {
        let script = format!(
            "for (const body of document.querySelectorAll('table.servers tbody')) {{
               if (body.querySelector('.vs th')?.textContent.trim() !== '{block}') continue;
               for (const row of body.querySelectorAll('.rs'))
                 if (row.cells[0].textContent.trim() === '{server}')
                   return row.querySelector('.state').textContent.trim() === '{state}';
             }} return false;"
        );
        self.browser.wait(&format!("{block}/{server} {state}"), &script);
    }

    fn wait_weight(&self, service: &str, server: &str, weight: Option<i32>) {
        self.director
            .wait_table(|table| table.weight(service, server) == weight, PATIENCE)
            .unwrap();
    }
}

/// A check of HTTPS as people write them.
fn check_script(path: &Path) {
    let text =
        "#!/bin/sh\ncurl -skf --max-time 3 -o /dev/null \"https://$1/\" && echo OK || echo FAIL\n";
    fs::write(path, text).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn a_director_is_built_run_watched_and_taken_back_in_a_browser() {
    let site = Site::new(Method::Nat, 1, 2);
    let director = &site.directors[0];
    let mut web = site.web(80);
    let _secure: Vec<_> = site
        .servers
        .iter()
        .zip(["10.0.0.21:443", "10.0.0.22:443"])
        .map(|(node, address)| node.nginx(address, node.name()))
        .collect();
    let files = Files::new();
    let script = files.path("https-check");
    check_script(&script);
    let sockets =
        ["--lvsd-control=/run/piranha/lvsd.sock", "--pulse-control=/run/piranha/pulse.sock"];
    let command = files.command("piranha_gui", &sockets);
    let file = files.path("lvs.cf");
    let gui = Gui::running(files, director.spawn(command));
    let driver = director.spawn(browser::driver());
    director.enter(|| {
        let desk = Desk { director, gui: &gui, browser: Browser::start(driver) };
        desk.open("/");
        desk.browser.wait_text("Login");
        desk.log_in(PASSWORD);
        desk.browser.wait_text("pulse is not running");
        build(&desk, &script);
        accepted_by_the_original(&file);
        let pulse = director.spawn(format!("pulse -n -c {}", file.display()));
        pulse.wait_for("partner dead: activating lvs", PATIENCE).unwrap();
        admit_the_page(director);
        watch(&desk, &mut web);
        order(&desk);
        restore(&desk);
        change_password(&desk);
    });
}

/// A redundant gateway with http and https, from nothing.
fn build(desk: &Desk<'_>, script: &Path) {
    desk.open("/secure/global");
    desk.browser.choose("Network type", "NAT");
    desk.accept(&[
        ("Primary server public IP", "172.16.0.11"),
        ("Primary server private IP", "10.0.0.11"),
        ("NAT router IP", "10.0.0.254"),
        ("NAT router netmask", "255.255.255.0"),
        ("NAT router device", "eth1:1"),
    ]);
    desk.open("/secure/redundancy");
    desk.browser.enter("Redundant server public IP", "172.16.0.12");
    desk.browser.press("ENABLE");
    desk.browser.wait_text("DISABLE");
    desk.accept(&[
        ("Redundant server private IP", "10.0.0.12"),
        ("Heartbeat interval (seconds)", "1"),
        ("Assume dead after (seconds)", "3"),
    ]);
    let service = |name, port| {
        [
            ("Name", name),
            ("Application port", port),
            ("Virtual IP address", "172.16.0.100"),
            ("Virtual IP network mask", "255.255.255.0"),
            ("Device", "eth0:1"),
            ("Service timeout (seconds)", "1"),
            ("Re-entry time (seconds)", "1"),
        ]
    };
    desk.virtual_server(1, &service("http", "80"), &[]);
    let program = format!("{} %h", script.display());
    let monitoring = [("Sending program", program.as_str()), ("Send", ""), ("Expect", "OK")];
    desk.virtual_server(2, &service("https", "443"), &monitoring);
}

/// The original reads what the forms have written: no diagnostic, no key that it does not know.
fn accepted_by_the_original(file: &Path) {
    let text = fs::read(file).unwrap();
    let parsed = parse(&text, &NoResolver);
    let found: Vec<_> =
        parsed.diagnostics.iter().filter(|found| found.code == Code::Extension).collect();
    assert!(found.is_empty(), "{found:?}\n{}", String::from_utf8_lossy(&text));
    let wrong: Vec<_> =
        parsed.diagnostics.iter().filter(|found| found.severity == Severity::Error).collect();
    assert!(wrong.is_empty(), "{wrong:?}\n{}", String::from_utf8_lossy(&text));
}

/// The control sockets are for root and the group piranha, which need not exist here.
fn admit_the_page(director: &Node) {
    director.shell(
        "until [ -S /run/piranha/lvsd.sock ]; do sleep 0.05; done; chmod 666 /run/piranha/*.sock",
    );
}

fn watch(desk: &Desk<'_>, web: &mut [lab::TcpServer]) {
    desk.open("/secure/control");
    desk.browser.enter("Auto update, seconds", "1");
    desk.browser.press("Set");
    // From here on the page is not loaded again.
    desk.browser.wait("page", "return document.getElementById('rate').value === '1'");
    desk.browser.run("window.mark = 'here'", &[]);
    for (block, server) in [("http", "rs1"), ("http", "rs2"), ("https", "rs1"), ("https", "rs2")] {
        desk.wait_state(block, server, "up");
    }
    desk.wait_weight(HTTPS, "10.0.0.21:443", Some(1));
    web[0].set(Behaviour::Reset);
    desk.wait_state("http", "rs1", "down");
    let script = "
        const state = document.querySelector('.rs .state.down');
        const [red, green, blue] = getComputedStyle(state).color.match(/\\d+/g).map(Number);
        return red > 2 * green && red > 2 * blue";
    assert_eq!(desk.browser.run(script, &[]), true, "a server that is down is red");
    desk.wait_weight(HTTP, "10.0.0.21:80", None);
    web[0].set(Behaviour::http("rs1\n"));
    desk.wait_state("http", "rs1", "up");
    desk.browser.wait_text("http / rs1 down");
    assert_eq!(desk.browser.run("return window.mark", &[]), "here", "it was never loaded again");
}

fn order(desk: &Desk<'_>) {
    desk.browser.follow("//button[@value='down https/rs2']");
    desk.wait_state("https", "rs2", "kept down");
    desk.wait_weight(HTTPS, "10.0.0.22:443", None);
    desk.browser.follow("//button[@value='auto https/rs2']");
    desk.wait_state("https", "rs2", "up");
    desk.wait_weight(HTTPS, "10.0.0.22:443", Some(1));
}

fn restore(desk: &Desk<'_>) {
    let scheduler = |wanted: &str| {
        desk.director
            .wait_table(
                |table| table.services.get(HTTP).is_some_and(|s| s.scheduler == wanted),
                PATIENCE,
            )
            .unwrap();
    };
    scheduler("rr");
    let before = desk.gui.files.read("lvs.cf");
    desk.open("/secure/virtual/1");
    desk.browser.choose("Scheduling", "Source hash (sh)");
    desk.accept(&[]);
    desk.browser.wait_text("1 change not applied");
    scheduler("rr");
    desk.browser.press("Show difference");
    desk.browser.wait_text("ipvsadm -E -t 172.16.0.100:80 -s sh");
    desk.browser.follow("//form[@class='buttons']//button[normalize-space(.)='Apply']");
    scheduler("sh");
    desk.open("/secure/history");
    desk.browser.follow("(//table//th[@scope='row']/a)[2]");
    desk.browser.press("Restore this version");
    desk.browser.wait_text("not applied");
    let serial_apart = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.starts_with("serial_no")).map(str::to_owned).collect()
    };
    assert_eq!(serial_apart(&desk.gui.files.read("lvs.cf")), serial_apart(&before));
    desk.browser.press("Apply");
    scheduler("rr");
}

fn change_password(desk: &Desk<'_>) {
    desk.open("/secure/password");
    desk.browser.enter("Password now", PASSWORD);
    desk.browser.enter("New Password", "correct horse");
    desk.browser.enter("Verify", "correct horse");
    desk.browser.follow("//main//button[normalize-space(.)='Change password']");
    desk.browser.wait_text("The password is changed");
    let entry = desk.gui.files.read("piranha.passwd");
    assert!(entry.starts_with("piranha:$2"), "bcrypt: {entry}");
    assert_eq!(desk.gui.get("/secure/control").status, 401, "the old one is no good any more");
    desk.log_in("correct%20horse");
}
