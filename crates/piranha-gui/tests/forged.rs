//! Requests that another site makes in the name of a user who is logged in. Whatever they are, no
//! order reaches the daemons; the same order from a page of this site does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail so")]

use gui_lab::{Ask, Fake, Files, Gui, PASSWORD, Reply, USER, encoded, made};

const PROGRAM: &str = env!("CARGO_BIN_EXE_piranha_gui");
const ORDER: (&str, &str) = ("order", "down site0/rs0");
const FORM: &str = "application/x-www-form-urlencoded";

/// A page whose order would reach an lvsd.
fn site() -> (Gui, Fake, Fake) {
    let files = Files::new();
    let lvsd = Fake::on(&files.path("lvsd.sock"), Reply::status(&made::table(2, 2)));
    let pulse = Fake::on(&files.path("pulse.sock"), Reply::status(&made::pair()));
    (Gui::with(files, PROGRAM, &[]), lvsd, pulse)
}

#[test]
fn an_order_from_the_page_itself_reaches_the_daemons() {
    let (gui, lvsd, pulse) = site();
    let answer = gui.post("/secure/server", &[ORDER]);
    assert_eq!((answer.status, answer.header("location").is_some()), (303, true));
    let order = serde_json::json!({"command": "force", "server": "site0/rs0", "to": "down"});
    assert_eq!(lvsd.orders(), [order]);
    assert_eq!(gui.post("/secure/handover", &[]).status, 303);
    assert_eq!(gui.post("/secure/apply", &[]).status, 303);
    let commands: Vec<_> = pulse.orders().iter().map(|order| order["command"].clone()).collect();
    assert_eq!(commands, ["handover", "reload"]);
    let events = gui.get("/secure/control").texts(".events li").join("\n");
    assert!(events.contains("piranha takes down site0/rs0"), "who did what: {events}");
}

#[test]
fn no_order_of_another_site_reaches_the_daemons() {
    let (gui, lvsd, pulse) = site();
    let own = format!("http://{}", gui.address);
    let token = gui.token();
    let with_token = Ask::post("/secure/server", &[("token", &token), ORDER]).user(USER, PASSWORD);
    let body = |text: String, kind: &str| {
        let ask = Ask::new("POST", "/secure/server").user(USER, PASSWORD);
        ask.header("Content-Type", kind).header("Origin", &own).body(text)
    };
    let right = format!("token={token}&order={}", encoded(ORDER.1));
    let boundary = "--x\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\n";
    let cases = [
        ("no token", Ask::post("/secure/server", &[ORDER]).user(USER, PASSWORD)),
        (
            "an empty token",
            Ask::post("/secure/server", &[("token", ""), ORDER]).user(USER, PASSWORD),
        ),
        (
            "a guessed token",
            Ask::post("/secure/server", &[("token", &"A".repeat(43)), ORDER]).user(USER, PASSWORD),
        ),
        ("the token in the address", {
            let target = format!("/secure/server?{right}");
            Ask::post(&target, &[ORDER]).user(USER, PASSWORD).header("Origin", &own)
        }),
        ("a false token before the right one", {
            Ask::post("/secure/server", &[("token", "x"), ("token", &token), ORDER])
                .user(USER, PASSWORD)
        }),
        ("another site", with_token.clone().header("Origin", "http://evil.example")),
        (
            "a site that begins alike",
            with_token.clone().header("Origin", &format!("{own}.evil.example")),
        ),
        ("a site of another port", with_token.clone().header("Origin", "http://127.0.0.1:1")),
        ("a sandbox", with_token.clone().header("Origin", "null")),
        ("another site's page", with_token.clone().header("Referer", "http://evil.example/x")),
        ("a page with this site in its name", {
            with_token.clone().header("Referer", &format!("http://evil.example/{own}/secure/"))
        }),
        (
            "what the browser calls cross-site",
            with_token.clone().header("Sec-Fetch-Site", "cross-site"),
        ),
        (
            "what the browser calls same-site",
            with_token.clone().header("Sec-Fetch-Site", "same-site"),
        ),
        (
            "another name of this host",
            with_token.clone().header("Host", "evil.example").header("Origin", &own),
        ),
        ("a form as plain text", body(right.clone(), "text/plain")),
        ("JSON", body(format!("{{\"token\":\"{token}\"}}"), "application/json")),
        (
            "a form in parts",
            body(format!("{boundary}{token}\r\n--x--"), "multipart/form-data; boundary=x"),
        ),
        ("no kind", Ask::new("POST", "/secure/server").user(USER, PASSWORD).body(right.clone())),
        ("bytes", body(format!("token={token}&order=%ff%00"), FORM)),
        ("GET", Ask::get(&format!("/secure/server?{right}")).user(USER, PASSWORD)),
        ("HEAD", Ask::new("HEAD", &format!("/secure/server?{right}")).user(USER, PASSWORD)),
        (
            "PUT",
            Ask::new("PUT", "/secure/server")
                .user(USER, PASSWORD)
                .header("Content-Type", FORM)
                .body(right),
        ),
    ];
    for (what, ask) in cases {
        let status = gui.ask(&ask).status;
        // The bytes are a form of this site that says nothing useful.
        let refused = matches!(status, 400 | 403 | 405 | 415 | 422) || what == "bytes";
        assert!(refused, "{what}: {status}");
        assert_eq!(lvsd.orders(), [] as [serde_json::Value; 0], "{what}");
    }
    for path in ["/secure/handover", "/secure/apply", "/secure/control/rate"] {
        let answer = gui.ask(&Ask::post(path, &[]).user(USER, PASSWORD));
        assert_eq!(answer.status, 403, "{path}");
        assert!(answer.text().contains("Nothing was"), "{path}: {}", answer.text());
    }
    assert_eq!(pulse.orders(), [] as [serde_json::Value; 0]);
}

#[test]
fn a_token_is_good_for_one_user_and_one_life_of_the_program() {
    let (gui, lvsd, _pulse) = site();
    let entry = gui.files.read("piranha.passwd");
    gui.files.write("piranha.passwd", format!("{entry}{}", entry.replace(USER, "other")));
    let token = gui.token();
    let order = |user: &str, token: &str| {
        let ask = Ask::post("/secure/server", &[("token", token), ORDER]).user(user, PASSWORD);
        gui.ask(&ask.header("Origin", &format!("http://{}", gui.address))).status
    };
    assert_eq!(order("other", &token), 403);
    let before = Gui::start(PROGRAM).token();
    assert_eq!(order(USER, &before), 403);
    assert_eq!(lvsd.orders(), [] as [serde_json::Value; 0]);
    assert_eq!(order(USER, &token), 303);
    assert_eq!(lvsd.orders().len(), 1);
}

#[test]
fn browsers_behind_a_name_or_a_tunnel_are_let_in() {
    let (gui, lvsd, _pulse) = site();
    let token = gui.token();
    let order = || Ask::post("/secure/server", &[("token", &token), ORDER]).user(USER, PASSWORD);
    for ask in [
        order()
            .header("Host", "lvs1.example.net:3636")
            .header("Origin", "http://lvs1.example.net:3636"),
        order().header("Host", "LVS1:3636").header("Referer", "http://lvs1:3636/secure/control"),
        order().header("Host", "localhost:13636").header("Origin", "https://localhost:13636"),
        order()
            .header("Host", "[::1]:3636")
            .header("Origin", "http://[::1]:3636")
            .header("Sec-Fetch-Site", "same-origin"),
        // A program.
        order(),
    ] {
        assert_eq!(gui.ask(&ask).status, 303, "{ask:?}");
    }
    assert_eq!(lvsd.orders().len(), 5);
}
