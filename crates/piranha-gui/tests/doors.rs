//! Who may come in: every path, every method, every kind of credentials.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail so")]

use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::time::Duration;
use std::{fs, thread};

use gui_lab::{Answer, Ask, Files, Gui, PASSWORD, USER, basic};

const PROGRAM: &str = env!("CARGO_BIN_EXE_piranha_gui");

/// Everything below the door, and what is not there.
const GUARDED: [&str; 27] = [
    "/secure/",
    "/secure/control",
    "/secure/control?fragment=1",
    "/secure/control/rate",
    "/secure/server",
    "/secure/handover",
    "/secure/apply",
    "/secure/changes",
    "/secure/global",
    "/secure/redundancy",
    "/secure/virtual",
    "/secure/virtual/1",
    "/secure/virtual/1/servers",
    "/secure/virtual/1/servers/1",
    "/secure/virtual/1/servers/1/test",
    "/secure/virtual/1/scripts",
    "/secure/failover",
    "/secure/failover/1",
    "/secure/history",
    "/secure/history/1",
    "/secure/password",
    "/secure/status.json",
    "/secure/metrics",
    "/secure/nothing",
    "/secure/../secure/control",
    "/secure//control",
    "/secure/%63ontrol",
];

const METHODS: [&str; 9] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"];

/// What only somebody who is in may see: the first words of every page, of the status and of the metrics.
fn shows_something(answer: &Answer) -> bool {
    let text = String::from_utf8_lossy(&answer.body);
    ["Auto update", "name=\"token\"", "\"lvsd\"", "piranha_up"]
        .iter()
        .any(|secret| text.contains(secret))
}

/// A new client for each wrong password, so that none has to wait.
struct Strangers(u32);

impl Strangers {
    fn next(&mut self) -> Ipv4Addr {
        self.0 += 1;
        let [_, _, high, low] = self.0.to_be_bytes();
        Ipv4Addr::new(127, 9, high, low)
    }
}

#[test]
fn nobody_comes_in_without_the_password_by_any_method() {
    let gui = Gui::start(PROGRAM);
    let mut strangers = Strangers(0);
    let wrong = [
        None,
        Some(basic(USER, "Secret")),
        Some(basic(USER, "")),
        Some(basic("", PASSWORD)),
        Some(basic("root", PASSWORD)),
        Some("Basic".to_owned()),
        Some("Basic ====".to_owned()),
        Some(basic(USER, PASSWORD).replace("Basic", "Digest")),
        Some(format!("Basic {}", "A".repeat(4000))),
    ];
    for path in GUARDED {
        for method in METHODS {
            for credentials in &wrong {
                let mut ask = Ask::new(method, path);
                if let Some(credentials) = credentials {
                    ask = ask.header("Authorization", credentials);
                }
                let answer = ask.from(strangers.next(), gui.address);
                let case = format!("{method} {path} with {credentials:?}");
                assert_eq!(answer.status, 401, "{case}");
                let realm = "Basic realm=\"access to the piranha web GUI\"";
                let asked = answer.header("www-authenticate").unwrap_or_default();
                assert!(asked.starts_with(realm), "{case}: {asked}");
                assert!(!shows_something(&answer), "{case}");
            }
        }
    }
}

#[test]
fn the_password_opens_every_page_but_changes_nothing_by_itself() {
    let files = Files::new();
    files.write("lvs.cf", SMALL);
    let gui = Gui::with(files, PROGRAM, &[]);
    for path in GUARDED {
        for method in METHODS {
            let answer = gui.ask(&Ask::new(method, path).user(USER, PASSWORD));
            let case = format!("{method} {path}");
            match method {
                "GET" | "HEAD" => {
                    assert!(
                        matches!(answer.status, 200 | 303 | 404 | 405),
                        "{case}: {}",
                        answer.status
                    );
                }
                // Without a token.
                "POST" => assert!(matches!(answer.status, 403 | 415), "{case}: {}", answer.status),
                _ => {
                    assert_eq!(answer.status, 405, "{case}");
                    assert_eq!(answer.header("allow"), Some("GET, HEAD, POST"), "{case}");
                }
            }
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{case}");
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{case}");
            let policy = answer.header("content-security-policy").unwrap_or_default();
            assert!(policy.contains("default-src 'none'"), "{case}: {policy}");
            assert!(!policy.contains("unsafe"), "{case}: {policy}");
        }
    }
    assert_eq!(gui.files.read("lvs.cf"), SMALL);
}

/// A file in which the pages about block 1 and server 1 are there.
const SMALL: &str = "\
serial_no = 1
primary = 192.0.2.2
service = lvs
virtual web {
     active = 0
     address = 192.0.2.100 eth0:1
     port = 80
     server one {
         address = 10.0.0.1
         active = 1
     }
}
failover db {
     active = 0
     address = 192.0.2.101 eth0:2
     port = 5432
}
";

#[test]
fn what_is_not_there_is_said_to_be_so() {
    let files = Files::new();
    files.write("lvs.cf", SMALL);
    let gui = Gui::with(files, PROGRAM, &[]);
    for path in [
        "/secure/nothing",
        "/secure/virtual/99",
        "/secure/virtual/0",
        "/secure/virtual/-1",
        "/secure/virtual/18446744073709551616",
        "/secure/virtual/x",
        "/secure/virtual/1/servers/99",
        "/secure/history/99",
        "/secure/history/..%2f..%2fetc%2fpasswd",
        "/secure/history/%00",
        "/secure/virtual/%ff",
        "/nothing",
        "/static/nothing",
        "/static/",
        "/favicon.ico",
    ] {
        let answer = gui.get(path);
        assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.status);
        assert!(!answer.text().contains("root:"), "{path}");
    }
}

#[test]
fn the_welcome_and_the_style_are_for_everybody() {
    let gui = Gui::start(PROGRAM);
    let welcome = gui.ask(&Ask::get("/"));
    assert_eq!(welcome.status, 200);
    assert!(welcome.texts("a[href^='/secure']").contains(&"Login".to_owned()));
    assert!(!shows_something(&welcome));
    for path in welcome.attributes("link[rel=stylesheet]", "href") {
        let style = gui.ask(&Ask::get(&path));
        assert_eq!(
            (style.status, style.header("content-type")),
            (200, Some("text/css; charset=utf-8"))
        );
    }
    let head = gui.ask(&Ask::new("HEAD", "/"));
    assert_eq!((head.status, head.body.len()), (200, 0));
    let page = gui.get("/secure/control");
    for path in page.attributes("script", "src") {
        let script = gui.ask(&Ask::get(&path));
        assert_eq!(script.header("content-type"), Some("text/javascript; charset=utf-8"), "{path}");
    }
    assert_eq!(page.texts("script:not([src])"), [""; 0], "no script in the page itself");
    assert!(page.attributes("[style]", "style").is_empty(), "no style in the page itself");
}

#[test]
fn no_spelling_of_a_path_goes_around_the_door() {
    let gui = Gui::start(PROGRAM);
    let host = gui.address;
    for target in [
        "/%73ecure/control",
        "/%73%65%63%75%72%65/control",
        "//secure/control",
        "/./secure/control",
        "/x/../secure/control",
        "/static/../secure/control",
        "/static/%2e%2e/secure/control",
        "/static/..%2fsecure%2fcontrol",
        "/secure%2fcontrol",
        "/secure%2Fcontrol",
        "/secure%00/control",
        "/secure;/control",
        "/secure;x=/control",
        "/secure\\control",
        "/SECURE/control",
        "/Secure/control",
        "/secure",
        "/secure?",
        "/secure/?/control",
        "/secure/control/",
        "/secure/control%20",
        "/secure/./control",
        "*",
        &format!("http://{host}/secure/control"),
        "http://elsewhere.example/secure/control",
        "https://x@y/secure/control",
        "http:///secure/control",
    ] {
        for method in ["GET", "POST", "HEAD", "OPTIONS"] {
            let mut conversation = gui_lab::Conversation::with(host);
            let _ = conversation.send(&Ask::new(method, target).bytes(host));
            let answer = conversation.answer(method).unwrap();
            let Some(answer) = answer else { continue };
            let case = format!("{method} {target}: {}", answer.status);
            assert!(matches!(answer.status, 303 | 400 | 401 | 404 | 405), "{case}");
            assert!(!shows_something(&answer), "{case}");
            // With the password it is a page, or none; and never a fault of the program.
            let answer = gui.ask(&Ask::new(method, target).user(USER, PASSWORD));
            assert!(answer.status < 500, "{case}, with the password {}", answer.status);
        }
    }
    // The one that means the page itself.
    let answer = gui.get(&format!("http://{host}/secure/control"));
    assert!(shows_something(&answer));
}

#[test]
fn whoever_guesses_waits_and_who_knows_does_not() {
    let gui = Gui::start(PROGRAM);
    let (guesser, user, other) =
        (Ipv4Addr::new(127, 1, 0, 1), Ipv4Addr::new(127, 1, 0, 2), Ipv4Addr::new(127, 1, 0, 3));
    let right = Ask::get("/secure/control").user(USER, PASSWORD);
    let wrong = |number: usize| Ask::get("/secure/control").user(USER, &format!("guess{number}"));
    let mut number = 0;
    let refused = loop {
        let answer = wrong(number).from(guesser, gui.address);
        if answer.status != 401 {
            break answer;
        }
        number += 1;
        assert!(number < 20, "guesses are not slowed down");
    };
    assert!(number >= 3, "a few slips are free");
    assert_eq!(refused.status, 429);
    let wait = |answer: &Answer| -> u64 { answer.header("retry-after").unwrap().parse().unwrap() };
    assert!((1..=31).contains(&wait(&refused)));
    // Not even the right one is looked at now, or guesses could go on.
    let answer = right.from(guesser, gui.address);
    let answer = if answer.status == 429 {
        thread::sleep(Duration::from_secs(wait(&answer)));
        right.from(guesser, gui.address)
    } else {
        answer
    };
    assert_eq!(answer.status, 200, "after the wait the right one is");
    // Others have not waited, and neither has who was in already.
    assert_eq!(right.from(user, gui.address).status, 200);
    let many: Vec<_> = (0..12).map(|number| wrong(number).from(user, gui.address).status).collect();
    assert!(many.contains(&429), "{many:?}");
    assert_eq!(right.from(user, gui.address).status, 200, "this browser is in");
    assert_eq!(right.from(other, gui.address).status, 200);
    let log = gui.running.text();
    assert!(log.contains("wrong password for the web page from 127.1.0.1"), "{log}");
    assert!(!log.contains("guess"), "no password is logged: {log}");
}

#[test]
fn a_changed_password_is_in_force_at_once() {
    let gui = Gui::start(PROGRAM);
    let with = |password: &str, source| {
        Ask::get("/secure/control")
            .user(USER, password)
            .from(Ipv4Addr::new(127, 2, 0, source), gui.address)
            .status
    };
    assert_eq!((with(PASSWORD, 1), with(PASSWORD, 1)), (200, 200));
    piranha_passwd::set_password(&gui.files.path("piranha.passwd"), USER, b"another one").unwrap();
    own(&gui.files);
    assert_eq!((with(PASSWORD, 1), with("another one", 2)), (401, 200));
    assert_eq!((with(PASSWORD, 3), with("another one", 2)), (401, 200));
}

/// Where the test is root, and the page nobody: the page's user may read it.
fn own(files: &Files) {
    let text = files.read("piranha.passwd");
    files.write("piranha.passwd", text);
}

#[test]
fn without_a_password_file_nobody_comes_in_and_the_page_says_why() {
    let gui = Gui::start(PROGRAM);
    let path = gui.files.path("piranha.passwd");
    let status = |expected: u16, said: &str| {
        let answer = gui.get("/secure/control");
        assert_eq!(answer.status, expected, "{}", answer.text());
        assert!(answer.text().contains(said), "{}", answer.text());
    };
    status(200, "Auto update");
    let text = gui.files.read("piranha.passwd");
    fs::remove_file(&path).unwrap();
    status(403, "piranha-passwd");
    assert_eq!(gui.ask(&Ask::get("/secure/control")).status, 401, "the browser is to ask");
    fs::create_dir(&path).unwrap();
    status(403, "a directory");
    fs::remove_dir(&path).unwrap();
    gui.files.write("piranha.passwd", &text);
    status(200, "Auto update");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if nix::unistd::geteuid().is_root() {
        chown(&path, Some(0), Some(0)).unwrap();
    }
    status(403, "Permission denied");
    fs::remove_file(&path).unwrap();
    gui.files.write("piranha.passwd", "");
    assert_eq!(gui.get("/secure/control").status, 401, "nobody is in an empty file");
    gui.files.write("piranha.passwd", &text);
    status(200, "Auto update");
}
