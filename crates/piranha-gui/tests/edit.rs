//! The pages that change lvs.cf, by requests to the router: what a browser would send, and what it
//! would not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod browser;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use axum::http::StatusCode;
use browser::{Answer, Browser, Site};
use lvs_config::{Code, NoResolver, parse};

const FILE: &str = "\
# The site's own words.
serial_no = 7
primary = 10.1.0.1
service = lvs

virtual http {
     active = 1
     # why this address
     address = 192.0.2.100 eth0:1
     vip_nmask = 255.255.255.0
     port = 80
     timeout = 6
     server rp1 {
         address = 10.1.0.21
         active = 1
         weight = 1
     }
}
virtual https {
     active = 1
     address = 192.0.2.100 eth0:1
     vip_nmask = 255.255.255.0
     port = 443
     server rp1 {
         address = 10.1.0.21
         active = 1
         weight = 1
     }
}
";

/// Adds an entry to a list, fills it in, and switches it on, as the runbooks say: ADD, choose the blank
/// entry, EDIT.
async fn add(browser: &Browser, list: &str, number: usize, entries: &[(&str, &str)]) {
    let chosen = number.to_string();
    let added = browser.submit(list, &[("do", "add")]).await;
    assert!(added.text.contains("[server_name]"), "{}", added.text);
    let edit = browser.submit(list, &[("do", "edit"), ("chosen", &chosen)]).await;
    assert_eq!(edit.path, format!("{list}/{number}"));
    browser.submit(&edit.path, entries).await.expect_good("Saved as serial_no");
    let on = browser.submit(list, &[("do", "toggle"), ("chosen", &chosen)]).await;
    on.expect_good("activated");
}

#[tokio::test]
async fn a_whole_configuration_is_made_from_nothing() {
    let site = Site::without_file();
    let browser = site.browser();
    browser
        .submit(
            "/secure/global",
            &[
                ("primary", "10.1.0.1"),
                ("primary_private", "10.2.0.1"),
                ("nat_router", "10.1.0.253"),
                ("nat_router_device", "eth1:2"),
                ("nat_nmask", "255.255.255.0"),
                ("syncd_iface", "eth1"),
                ("tcp_timeout", "900"),
            ],
        )
        .await
        .expect_good("Saved as serial_no 1.");
    let redundancy = [
        ("backup", "10.1.0.2"),
        ("backup_private", "10.2.0.2"),
        ("syncdaemon", "1"),
        ("do", "enable"),
    ];
    browser.submit("/secure/redundancy", &redundancy).await.expect_good("Saved as serial_no 2.");

    let list = "/secure/virtual";
    let mask = ("vip_nmask", "255.255.255.0");
    let gateway = [("name", "gateway"), ("address", "10.1.0.254"), ("device", "eth1:1"), mask];
    add(&browser, list, 1, &gateway).await;
    add(&browser, "/secure/virtual/1/servers", 1, &[("name", "lvs1"), ("address", "10.1.0.1")])
        .await;
    add(&browser, "/secure/virtual/1/servers", 2, &[("name", "lvs2"), ("address", "10.1.0.2")])
        .await;
    let address = [("address", "192.0.2.100"), ("device", "eth0:1"), mask];
    add(&browser, list, 2, &[&[("name", "http"), ("persistent", "60")][..], &address].concat())
        .await;
    for (number, name, ip) in [(1, "rp1", "10.1.0.21"), (2, "rp2", "10.1.0.22")] {
        let entries = [("name", name), ("address", ip)];
        add(&browser, "/secure/virtual/2/servers", number, &entries).await;
    }
    let https = [("name", "https"), ("port", "443"), ("quiesce_server", "1")];
    add(&browser, list, 3, &[&https[..], &address].concat()).await;
    let scripts = [("send_program", "/etc/sysconfig/ha/lvs-check-https.sh %h"), ("expect", "OK")];
    browser.submit("/secure/virtual/3/scripts", &scripts).await.expect_good("expect set to OK");
    for (number, name, ip) in [(1, "rp1", "10.1.0.21"), (2, "rp2", "10.1.0.22")] {
        let entries = [("name", name), ("address", ip), ("weight", "2")];
        add(&browser, "/secure/virtual/3/servers", number, &entries).await;
    }

    let text = site.file();
    assert_eq!(text, include_str!("browser/site.cf"));
    let parsed = parse(text.as_bytes(), &NoResolver);
    let config = parsed.config.unwrap();
    assert_eq!(config.active_blocks().count(), 3);
    assert_eq!(parsed.diagnostics, [], "neither errors nor keys that the original does not know");
    // What was entered is shown again.
    let shown = browser.get("/secure/virtual/3").await;
    assert_eq!(shown.value("/secure/virtual/3", "port"), "443");
    assert_eq!(shown.value("/secure/virtual/3", "quiesce_server"), "1");
}

#[tokio::test]
async fn only_what_was_changed_differs_in_the_file() {
    let site = Site::with_file(FILE);
    let browser = site.browser();
    let answer =
        browser.submit("/secure/virtual/1", &[("timeout", "10"), ("device", "eth0:2")]).await;
    answer.expect_good("virtual http: timeout 6 → 10");
    let wanted = FILE
        .replace("serial_no = 7", "serial_no = 8")
        .replace("timeout = 6", "timeout = 10")
        .replacen("eth0:1", "eth0:2", 1);
    assert_eq!(site.file(), wanted);
    let same = browser.submit("/secure/virtual/1", &[]).await;
    same.expect_good("Nothing was changed");
    assert_eq!(site.file(), wanted, "serial_no too");
}

#[tokio::test]
async fn what_the_parser_would_refuse_is_said_at_its_field_and_nothing_is_lost() {
    let site = Site::with_file(FILE);
    let browser = site.browser();
    let entries =
        [("address", "192.0.2.300"), ("port", "70000"), ("timeout", "9"), ("name", "web")];
    let answer = browser.submit("/secure/virtual/1", &entries).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    for (name, value) in entries {
        assert_eq!(answer.value("/secure/virtual/1", name), value);
    }
    for (name, part) in [("address", "invalid argument"), ("port", "beyond 0 to 65535")] {
        let message = answer.element(&format!("error-{name}"));
        assert!(message.contains(part), "{message}");
        assert!(answer.text.contains(&format!("<a href=\"#{name}\">")));
    }
    assert!(!answer.text.contains("id=\"error-timeout\""));
    assert_eq!(site.file(), FILE);
    assert!(site.versions().is_empty());
}

#[tokio::test]
async fn errors_of_the_whole_file_are_shown_where_they_are_and_block_nothing() {
    let site = Site::with_file(FILE);
    let browser = site.browser();
    let answer =
        browser.submit("/secure/virtual/2", &[("port", "80"), ("pmask", "255.255.255.0")]).await;
    answer.expect_good("Saved as serial_no 8.");
    assert!(answer.text.contains("The file has 1 error"), "{}", answer.text);
    let found = answer.element("found-address");
    assert!(found.contains("is the service of the block on line"), "{found}");
    assert!(answer.element("found-pmask").contains("no effect without persistent"));
    let list = browser.get("/secure/virtual").await;
    assert!(list.text.contains("1 error, 1 warning"), "{}", list.text);
    let all = browser.get("/secure/findings").await;
    assert!(all.text.contains("duplicate-service") && all.text.contains("pmask-unused"));
}

#[tokio::test]
async fn hostile_names_are_shown_as_they_are_and_do_nothing() {
    let site = Site::with_file(FILE);
    let browser = site.browser();
    let long = "long".repeat(100);
    let names = [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=y>",
        "a \"b\" c",
        "it's",
        "{{ x }}",
        &long,
    ];
    for name in names {
        browser.submit("/secure/virtual/1", &[("name", name)]).await.expect_good("renamed");
        browser
            .submit("/secure/virtual/1/servers/1", &[("name", name)])
            .await
            .expect_good("renamed");
        browser
            .submit("/secure/virtual/1/scripts", &[("expect", name)])
            .await
            .expect_good("expect");
        let delete = [("do", "delete"), ("chosen", "1")];
        let mut pages = vec![browser.submit("/secure/virtual", &delete).await];
        for page in [
            "/secure/virtual",
            "/secure/virtual/1",
            "/secure/virtual/1/servers",
            "/secure/virtual/1/servers/1",
            "/secure/virtual/1/scripts",
            "/secure/history",
            "/secure/history/2",
            "/secure/changes",
            "/secure/findings",
            "/secure/control",
        ] {
            pages.push(browser.get(page).await);
        }
        for page in pages {
            assert_eq!(page.status, StatusCode::OK, "{} {name}", page.path);
            assert!(!page.text.contains("<script>"), "{}", page.path);
            assert!(!page.text.contains("<img"), "{}", page.path);
        }
        let edit = browser.get("/secure/virtual/1").await;
        assert_eq!(edit.value("/secure/virtual/1", "name"), name);
        assert_eq!(site.document().name(site.block(0)), Some(name.as_bytes()));
    }
    let before = site.file();
    for (name, part) in [("a\nb", "line end"), ("a\0b", "zero byte"), ("", "needed")] {
        let answer = browser.submit("/secure/virtual/1", &[("name", name)]).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(answer.element("error-name").contains(part), "{name:?}");
    }
    let evil = format!("/secure/virtual?find={}", "%3Cscript%3E");
    assert!(!browser.get(&evil).await.text.contains("<script>"));
    assert_eq!(site.file(), before);
}

#[tokio::test]
async fn two_browsers_that_edit_at_once_lose_nothing() {
    let site = Site::with_file(FILE);
    let (one, other) = (site.browser(), site.browser());
    let page = "/secure/virtual/1";
    let mine = one.get(page).await.form(page);
    let theirs = other.get(page).await.form(page);
    let entries = [("timeout", "10"), ("reentry", "15")];
    other.send(page, &theirs, &entries).await.expect_good("Saved as serial_no 8.");

    let answer = one.send(page, &mine, &[("timeout", "20"), ("port", "8080")]).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert!(answer.text.contains("changed while this form was open"), "{}", answer.text);
    assert!(answer.text.contains("virtual http: timeout 6 → 10"), "what has changed");
    assert!(site.file().contains("timeout = 10") && !site.file().contains("8080"));
    // Mine are still there; what only they have changed is theirs.
    assert_eq!(answer.value(page, "timeout"), "20");
    assert_eq!(answer.value(page, "port"), "8080");
    assert_eq!(answer.value(page, "reentry"), "15");
    assert!(answer.element("error-timeout").contains("from “6” to “10”"));
    assert!(answer.element("error-reentry").contains("from blank to “15”"));

    let again = one.send(page, &answer.form(page), &[]).await;
    again.expect_good("Saved as serial_no 9.");
    for line in ["timeout = 20", "reentry = 15", "port = 8080"] {
        assert!(site.file().contains(line), "{line}");
    }
}

#[tokio::test]
async fn a_file_changed_by_hand_is_never_overwritten() {
    let site = Site::with_file(FILE);
    let browser = site.browser();
    // The block has another number by now.
    let page = "/secure/virtual/2";
    let form = browser.get(page).await.form(page);
    let by_hand = format!(
        "# by hand\n{}",
        FILE.replace("virtual http {", "virtual first {\n}\nvirtual http {")
    );
    site.write(&by_hand);
    let answer = browser.send(page, &form, &[("timeout", "20")]).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert_eq!(site.file(), by_hand);
    let moved = "/secure/virtual/3";
    assert_eq!(answer.value(moved, "name"), "https");
    browser.send(moved, &answer.form(moved), &[]).await.expect_good("Saved as serial_no 8.");
    assert!(site.file().contains("# by hand\nserial_no") || site.file().starts_with("# by hand"));
    let versions = site.versions();
    assert_eq!(versions.len(), 2, "what was made by hand is kept too");
    assert_eq!(versions[1].author, None);

    // The block is gone: what was entered is still shown.
    let form = browser.get(moved).await.form(moved);
    let gone = site.file().replace("virtual https {", "virtual other {");
    site.write(&gone);
    let answer = browser.send(moved, &form, &[("sorry_server", "10.1.0.9")]).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert!(answer.text.contains("Sorry server: 10.1.0.9"), "{}", answer.text);
    assert_eq!(site.file(), gone);

    // Lists do nothing to what may be another entry by now.
    let list = "/secure/virtual";
    let form = browser.get(list).await.form(list);
    site.write(FILE);
    for action in ["add", "delete", "toggle", "edit"] {
        let fields = [("do", action), ("chosen", "1"), ("sure", "yes")];
        let answer = browser.send(list, &form, &fields).await;
        assert_eq!(answer.status, StatusCode::CONFLICT, "{action}");
        assert!(!answer.text.contains(" checked"), "nothing is chosen");
    }
    assert_eq!(site.file(), FILE);
}

#[tokio::test]
async fn deleting_is_asked_for_twice() {
    let site = Site::with_file(FILE);
    let browser = site.browser();
    let list = "/secure/virtual";
    let none = browser.submit(list, &[("do", "delete")]).await;
    assert_eq!(none.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(none.text.contains("Choose a virtual server first."));
    let ask = browser.submit(list, &[("do", "delete"), ("chosen", "2")]).await;
    assert!(ask.text.contains("https") && ask.text.contains("with 1 real server?"), "{}", ask.text);
    assert_eq!(site.file(), FILE);
    let done = browser.send(list, &ask.form(list), &[("do", "delete")]).await;
    done.expect_good("virtual https: removed");
    assert!(!site.file().contains("https") && site.file().contains("# why this address"));
    let servers = "/secure/virtual/1/servers";
    let ask = browser.submit(servers, &[("do", "delete"), ("chosen", "1")]).await;
    browser
        .send(servers, &ask.form(servers), &[("do", "delete")])
        .await
        .expect_good("server rp1 removed");
    assert!(!site.file().contains("rp1"));
    let odd = browser.submit(list, &[("do", "explode"), ("chosen", "1")]).await;
    assert_eq!(odd.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn redundancy_is_switched_and_reset() {
    let site = Site::with_file(FILE);
    let browser = site.browser();
    let page = "/secure/redundancy";
    let entries = [("backup", "10.1.0.2"), ("keepalive", "3"), ("do", "enable")];
    browser.submit(page, &entries).await.expect_good("backup_active set to 1");
    for line in ["backup_active = 1", "keepalive = 3", "deadtime = 18", "heartbeat_port = 539"] {
        assert!(site.file().contains(line), "{line}");
    }
    browser.submit(page, &[("do", "reset")]).await.expect_good("keepalive 3 → 6");
    assert!(site.file().contains("backup = 10.1.0.2"));
    browser.submit(page, &[("do", "disable")]).await.expect_good("backup_active 1 → 0");
    assert!(browser.get(page).await.text.contains("this director works alone"));
    let wrong = browser.submit(page, &[("backup", "nowhere.invalid"), ("do", "enable")]).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(site.file().contains("backup_active = 0"), "a button saves nothing that is wrong");
}

#[tokio::test]
async fn send_and_expect_are_blanked_by_their_buttons() {
    let site = Site::with_file(FILE);
    let browser = site.browser();
    let page = "/secure/virtual/1/scripts";
    let entries = [("send", r"GET / HTTP/1.0\r\n\r\n"), ("expect", "HTTP")];
    browser.submit(page, &entries).await.expect_good("Saved");
    assert!(site.file().contains(r#"send = "GET / HTTP/1.0\r\n\r\n""#), "{}", site.file());
    assert_eq!(browser.get(page).await.value(page, "send"), r"GET / HTTP/1.0\r\n\r\n");
    browser.submit(page, &[("blank", "send")]).await.expect_good("send removed");
    assert!(!site.file().contains("send =") && site.file().contains("expect"));
}

#[tokio::test]
async fn a_file_that_cannot_be_understood_is_shown_and_left_alone() {
    let site = Site::with_file(FILE);
    let browser = site.browser();
    browser.submit("/secure/virtual/1", &[("timeout", "10")]).await.expect_good("Saved");
    let form = browser.get("/secure/global").await.form("/secure/global");
    let list = browser.get("/secure/virtual").await.form("/secure/virtual");
    let broken = site.file().replace("port = 443", "port = 443 # secure");
    site.write(&broken);
    for page in ["/secure/global", "/secure/redundancy", "/secure/virtual", "/secure/virtual/1"] {
        let shown = browser.get(page).await;
        assert_eq!(shown.status, StatusCode::CONFLICT);
        assert!(shown.text.contains("port = 443 # secure"), "the line");
        assert!(shown.text.contains("a comment needs a line of its own"), "the remedy");
        assert!(shown.text.contains("href=\"/secure/history\""), "the way out");
    }
    let answer = browser.send("/secure/global", &form, &[("primary", "10.1.0.9")]).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    let answer = browser.send("/secure/virtual", &list, &[("do", "add")]).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert_eq!(site.file(), broken);

    let version = "/secure/history/2";
    let shown = browser.get(version).await;
    assert!(shown.text.contains("+     port = 443\n"), "{}", shown.text);
    browser.send(version, &shown.form(version), &[]).await.expect_good("Saved as serial_no 9.");
    assert!(!site.file().contains("# secure"));
    assert_eq!(browser.get("/secure/global").await.status, StatusCode::OK);
    // And the broken one does not come back.
    let versions = site.versions();
    let broken_one = versions.iter().find(|version| version.author.is_none() && version.number > 2);
    let path = format!("/secure/history/{}", broken_one.unwrap().number);
    let shown = browser.get(&path).await;
    assert!(shown.text.contains("its syntax is wrong"), "{}", shown.text);
    let forced = browser.send(&path, &browser.get(version).await.form(version), &[]).await;
    assert_ne!(forced.status, StatusCode::OK);
}

#[tokio::test]
async fn a_wrong_value_is_mended_at_its_field() {
    let site = Site::with_file(&FILE.replace("timeout = 6", "timeout = often"));
    let browser = site.browser();
    let page = "/secure/virtual/1";
    let shown = browser.get(page).await;
    assert_eq!((shown.status, shown.value(page, "timeout")), (StatusCode::OK, "often".to_owned()));
    assert!(shown.element("found-timeout").contains("integer expected"));
    browser.submit("/secure/global", &[("primary", "10.1.0.9")]).await.expect_good("Saved");
    browser.submit(page, &[("timeout", "6")]).await.expect_good("timeout often → 6");
    assert!(parse(site.file().as_bytes(), &NoResolver).config.is_ok());
}

#[tokio::test]
async fn versions_are_shown_as_differences_and_restored() {
    let site = Site::with_file(FILE);
    let browser = site.browser();
    browser.submit("/secure/virtual/1", &[("timeout", "10")]).await.expect_good("Saved");
    let later = browser.submit("/secure/global", &[("network", "direct")]).await;
    later.expect_good("network set to direct");
    let list = browser.get("/secure/history").await;
    for part in
        ["virtual http: timeout 6 → 10", "network set to direct", "as the file is", "piranha"]
    {
        assert!(list.text.contains(part), "{part}");
    }
    let page = "/secure/history/1";
    let shown = browser.get(page).await;
    assert!(shown.text.contains("<span class=\"new\">+     timeout = 6\n"), "{}", shown.text);
    // Somebody else saves meanwhile.
    let form = shown.form(page);
    browser.submit("/secure/global", &[("udp_timeout", "9")]).await.expect_good("Saved");
    let late = browser.send(page, &form, &[]).await;
    assert_eq!(late.status, StatusCode::CONFLICT);
    assert!(site.file().contains("udp_timeout = 9"));
    let restored = browser.send(page, &late.form(page), &[]).await;
    restored.expect_good("Saved as serial_no 11.");
    assert_eq!(site.file(), FILE.replace("serial_no = 7", "serial_no = 11"));
    let same = browser.get(&format!("/secure/history/{}", site.versions()[0].number)).await;
    assert!(same.text.contains("The file is this version."));
    for path in ["/secure/history/999", "/secure/history/..%2Flvs", "/secure/history/-1"] {
        assert_eq!(browser.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn failover_services_stand_where_virtual_servers_stood() {
    let site = Site::with_file("primary = 10.1.0.1\nservice = fos\n");
    let browser = site.browser();
    let list = "/secure/failover";
    let home = browser.get("/secure/global").await;
    assert!(home.text.contains(">FAILOVER</a>") && !home.text.contains(">VIRTUAL SERVERS</a>"));
    let entries = [
        ("name", "web"),
        ("address", "192.0.2.9"),
        ("device", "eth0:9"),
        ("start_cmd", "/etc/init.d/httpd start"),
        ("stop_cmd", "/etc/init.d/httpd stop"),
    ];
    add(&browser, list, 1, &entries).await;
    browser.submit("/secure/failover/1/scripts", &[("expect", "OK")]).await.expect_good("Saved");
    let file = site.file();
    assert!(
        file.contains("failover web {") && file.contains("start_cmd = \"/etc/init.d/httpd start\"")
    );
    browser.submit("/secure/global", &[("service", "lvs")]).await.expect_good("service fos → lvs");
    assert!(browser.get("/secure/global").await.text.contains(">VIRTUAL SERVERS</a>"));
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let site = Site::with_file(FILE);
    let browser = site.browser();
    for path in [
        "/secure/virtual/0",
        "/secure/virtual/3",
        "/secure/virtual/x",
        "/secure/virtual/18446744073709551616",
        "/secure/virtual/3/servers",
        "/secure/virtual/1/servers/2",
        "/secure/virtual/1/servers/0",
        "/secure/virtual/..%2f..%2fetc%2fpasswd",
        "/secure/virtual/x/servers/y",
        "/secure/virtual/18446744073709551615/servers/18446744073709551615",
        "/secure/failover/1",
        "/secure/nothing",
    ] {
        let answer = browser.get(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path} {}", answer.text);
    }
    for odd in ["/secure/virtual?chosen=x&page=-1&note=none&find=%ff", "/secure/virtual?page=99999"]
    {
        assert_eq!(browser.get(odd).await.status, StatusCode::OK, "{odd}");
    }
}

#[tokio::test]
async fn forms_without_their_token_change_nothing() {
    let site = Site::with_file(FILE);
    let browser = site.browser();
    for page in ["/secure/global", "/secure/virtual/1", "/secure/virtual", "/secure/password"] {
        let mut form = browser.get(page).await.form(page);
        form.retain(|(name, _)| name != "token");
        let answer = browser.send(page, &form, &[("primary", "10.9.9.9"), ("do", "add")]).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{page}");
    }
    // The token without anything else is no reason to do something either.
    let token = ("token", browser.token());
    for page in ["/secure/global", "/secure/virtual/1", "/secure/virtual", "/secure/history/1"] {
        let form = [(token.0.to_owned(), token.1.clone())];
        let answer = browser.send(page, &form, &[]).await;
        assert!(!answer.status.is_success(), "{page} {}", answer.status);
    }
    assert_eq!(site.file(), FILE);
}

#[tokio::test]
async fn what_applying_would_do_is_shown() {
    let site = Site::with_file(FILE);
    let browser = site.browser();
    let nothing = browser.get("/secure/changes").await;
    assert!(
        nothing.text.contains("Nothing runs")
            && nothing.text.contains("-A -t 192.0.2.100:80 -s wlc")
    );
    site.lvsd_runs(7).await;
    let page = browser.get("/secure/changes").await;
    assert!(page.text.contains("Everything is applied"), "{}", page.text);
    assert!(!page.text.contains("not applied"));
    browser.submit("/secure/virtual/1/servers/1", &[("weight", "5")]).await.expect_good("Saved");
    let next = browser.submit("/secure/virtual/1", &[("timeout", "10")]).await;
    next.expect_good("Saved");
    assert!(next.text.contains("2 changes not applied."), "{}", next.text);
    let page = browser.get("/secure/changes").await;
    for part in [
        "What runs has serial_no 7.",
        "virtual http: timeout 6 → 10",
        "each keeps its state until the first verdict",
        "-e -t 192.0.2.100:80 -r 10.1.0.21:80 -m -w 5",
        "<span class=\"new\">+         weight = 5\n",
        "action=\"/secure/apply\"",
    ] {
        assert!(page.text.contains(part), "{part} in {}", page.text);
    }
}

#[tokio::test]
async fn the_password_is_changed_by_who_knows_it() {
    let site = Site::with_file(FILE);
    let browser = site.browser();
    let page = "/secure/password";
    let entries = |current, new, again| [("current", current), ("new", new), ("again", again)];
    for (entries, at) in [
        (entries("wrong", "another", "another"), "error-current"),
        (entries("secret", "another", "anoter"), "error-again"),
        (entries("secret", "", ""), "error-new"),
    ] {
        let answer = browser.submit(page, &entries).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{at}");
        assert!(!answer.element(at).is_empty());
        assert!(!answer.text.contains("another"), "no password is sent back");
    }
    let answer = browser.submit(page, &entries("secret", "another", "another")).await;
    assert!(answer.text.contains("The password is changed."), "{}", answer.text);
    assert_eq!(browser.get(page).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(site.browser_as("another").get(page).await.status, StatusCode::OK);
}

#[tokio::test]
async fn ten_thousand_servers_are_shown_in_pages() {
    let servers: String = (0..10_000_u32)
        .map(|number| {
            let [.., high, low] = number.to_be_bytes();
            format!("server s{number} {{\naddress = 10.7.{high}.{low}\nactive = 1\n}}\n")
        })
        .collect();
    let site =
        Site::with_file(&FILE.replacen("server rp1 {", &format!("{servers}server rp1 {{"), 1));
    let browser = site.browser();
    let started = std::time::Instant::now();
    let page = browser.get("/secure/virtual/1/servers").await;
    println!("{} bytes in {:?}", page.text.len(), started.elapsed());
    assert!(page.text.contains("1 to 250 of 10001") && page.text.len() < 300_000);
    let found = browser.get("/secure/virtual/1/servers?find=s9999").await;
    assert_eq!(found.text.matches("type=\"radio\"").count(), 1);
    let chosen = browser.get("/secure/virtual/1/servers?chosen=9000").await;
    assert!(
        chosen.text.contains("value=\"9000\" id=\"row-9000\"") && chosen.text.contains(" checked")
    );
    browser
        .submit("/secure/virtual/1/servers/10000", &[("weight", "3")])
        .await
        .expect_good("Saved");
}

#[tokio::test]
async fn a_full_disk_and_a_file_that_is_not_writable_are_said_and_nothing_is_lost() {
    let cases = [
        (
            "full",
            "mount -t tmpfs -o size=16k tmpfs $1/ha; cp $1/lvs.cf $1/ha; cat /dev/zero >$1/ha/fill || true",
        ),
        ("ro", "mount --bind $1/ha $1/ha; cp $1/lvs.cf $1/ha; mount -o remount,ro,bind $1/ha"),
    ];
    let name = "a_full_disk_and_a_file_that_is_not_writable_are_said_and_nothing_is_lost";
    if let Some(directory) = std::env::var_os("PIRANHA_GUI_TEST") {
        let site = Site::at(Path::new(&directory));
        let browser = site.browser();
        let page = "/secure/virtual/1";
        let answer = browser.submit(page, &[("timeout", "99")]).await;
        let list = browser.submit("/secure/virtual", &[("do", "add")]).await;
        assert_eq!(list.status, answer.status);
        assert!(answer.text.contains("Nothing is saved:"), "{}", answer.text);
        let remedy = match answer.status {
            StatusCode::INSUFFICIENT_STORAGE => "make room",
            StatusCode::SERVICE_UNAVAILABLE => "mount the file system writable",
            other => panic!("{other}"),
        };
        assert!(answer.text.contains(remedy), "{}", answer.text);
        assert_eq!(answer.value(page, "timeout"), "99", "the entry is still there");
        assert_eq!(site.file(), FILE);
        return;
    }
    if !Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|s| s.success()) {
        eprintln!("{name}: left out: no mount namespace to be had");
        return;
    }
    for (case, mount) in cases {
        let site = Site::with_file(FILE);
        fs::write(site.directory().join("lvs.cf"), FILE).unwrap();
        let script = format!("{mount}; shift; exec \"$@\"");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-ec", &script, "sh"]).arg(site.directory());
        command.arg(std::env::current_exe().unwrap()).args(["--exact", name, "--nocapture"]);
        command.env("PIRANHA_GUI_TEST", site.directory()).process_group(0);
        assert!(command.status().unwrap().success(), "{case}");
    }
}

#[tokio::test]
async fn keys_of_this_suite_alone_are_marked() {
    let site = Site::with_file(FILE);
    let browser = site.browser();
    let page = "/secure/redundancy";
    browser
        .submit(page, &[("keepalive", "200ms"), ("standby_checks", "1")])
        .await
        .expect_good("Saved");
    let answer: Answer = browser.get(page).await;
    assert!(answer.element("found-keepalive").contains("understood by this suite only"));
    let codes = parse(site.file().as_bytes(), &NoResolver).diagnostics;
    assert_eq!(codes.iter().filter(|found| found.code == Code::Extension).count(), 2);
}
