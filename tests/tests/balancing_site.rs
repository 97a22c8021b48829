//! The site that most users run, with one director: a redundant gateway, http, and https checked by
//! the script of the field, from an lvs.cf as the page of the original wrote it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod director;

use std::{collections::BTreeSet, path::PathBuf};

use director::{CONFIG, Lvsd, logged, part, script, wait_logged};
use lab::{Behaviour, Node, Running, nat_site};
use serde_json::Value;

const SITE: &str = include_str!("../data/site.cf");
const SCRIPT: &str = include_str!("../data/lvs-check-https.sh");
const SCRIPT_PATH: &str = "/etc/sysconfig/ha/lvs-check-https.sh";

/// The table with these servers of https and of http. The gateway's stay out: nothing answers on
/// the directors' own addresses.
fn shown(https: &[u8], http: &[u8]) -> String {
    let servers = |port: u16, numbers: &[u8]| -> String {
        numbers.iter().map(|n| format!("  10.0.0.{}:{port} masq 1\n", 20 + n)).collect()
    };
    format!(
        "tcp 10.0.0.254:80 wlc\n\
         tcp 172.16.0.100:443 wlc\n{}\
         tcp 172.16.0.100:80 wlc\n{}",
        servers(443, https),
        servers(80, http)
    )
}

/// An HTTPS server that answers with 500 while it is sick.
struct Https {
    node: Node,
    url: String,
    dir: PathBuf,
    process: Option<Running>,
}

impl Https {
    #[track_caller]
    fn new(node: &Node, address: &str) -> Self {
        // The laboratory's has a certificate and a configuration, but no illness.
        drop(node.nginx(&format!("{address}:443"), node.name()));
        let dir = node.dir().join(format!("nginx-{}-443", address.replace('.', "-")));
        let config = dir.join("nginx.conf");
        let text = std::fs::read_to_string(&config).unwrap();
        let sick = format!("if (-f {}/sick) {{ return 500; }} return 200", dir.display());
        assert_eq!(text.matches("return 200").count(), 1, "{text}");
        std::fs::write(&config, text.replace("return 200", &sick)).unwrap();
        let url = format!("https://{address}/");
        let mut https = Self { node: node.clone(), url, dir, process: None };
        https.start();
        https
    }

    #[track_caller]
    fn start(&mut self) {
        let config = self.dir.join("nginx.conf");
        self.process = Some(self.node.spawn(format!("nginx -e stderr -c {}", config.display())));
        self.wait_status(200);
    }

    fn stop(&mut self) {
        self.process = None;
    }

    #[track_caller]
    fn set_sick(&self, sick: bool) {
        let mark = self.dir.join("sick");
        let done = if sick { std::fs::write(mark, "") } else { std::fs::remove_file(mark) };
        done.unwrap();
        self.wait_status(if sick { 500 } else { 200 });
    }

    #[track_caller]
    fn wait_status(&self, status: u16) {
        let head = format!("HTTP/1.1 {status} ");
        director::wait(&format!("{} answers {status}", self.url), || {
            let output = self.node.output(format!("curl -k -s -i -m 5 {}", self.url)).stdout;
            String::from_utf8_lossy(&output).starts_with(&head).then_some(())
        });
    }
}

/// What the client gets over HTTPS: the bodies of some answers.
fn https_answers(client: &Node) -> BTreeSet<String> {
    (0..6).map(|_| client.run("curl -k -s -S -m 10 https://172.16.0.100/")).collect()
}

#[test]
fn the_site_of_the_field() {
    let site = nat_site(2);
    let (d1, client) = (&site.directors[0], &site.client);
    d1.shell("iptables -t nat -A POSTROUTING -s 10.0.0.0/24 -o eth0 -j MASQUERADE");
    d1.write(CONFIG, SITE);
    script(d1, SCRIPT_PATH.as_ref(), SCRIPT.trim_end());
    assert_eq!(std::fs::read_to_string(d1.path(SCRIPT_PATH)).unwrap(), SCRIPT);
    assert_eq!(d1.run("piranhactl check"), format!("{CONFIG}: no errors, no warnings\n"));
    site.activate(0);
    let web = site.web(80);
    let first = Https::new(&site.servers[0], "10.0.0.21");
    let mut second = Https::new(&site.servers[1], "10.0.0.22");

    // As it stands, but for the patience of its checks.
    let text = SITE.replace("timeout = 6", "timeout = 2").replace("reentry = 15", "reentry = 4");
    assert_ne!(text, SITE);
    let lvsd = Lvsd::start(d1, &text);
    lvsd.wait_shown(&shown(&[1, 2], &[1, 2]));
    let both = BTreeSet::from(["rs1".to_owned(), "rs2".to_owned()]);
    assert_eq!(https_answers(client), both);
    let spread = site.spread(80, 6);
    assert_eq!(spread.keys().map(String::as_str).collect::<Vec<_>>(), ["rs1", "rs2"], "{spread:?}");

    // The servers reach the outside through the gateway's address, and answer for the director's.
    let outside = client.tcp_server("172.16.0.10:8000", Behaviour::http("outside\n"));
    assert_eq!(site.servers[0].run("curl -s -S -m 10 http://172.16.0.10:8000/"), "outside\n");
    drop(outside);

    // A server that answers, but not with 200, is as bad as none.
    first.set_sick(true);
    lvsd.wait_shown(&shown(&[2], &[1, 2]));
    assert_eq!(https_answers(client), BTreeSet::from(["rs2".to_owned()]));
    let inactive = "[inactive] shutting down 10.0.0.21:443 due to connection failure";
    wait_logged(d1, &[inactive], 1);
    first.set_sick(false);
    lvsd.wait_shown(&shown(&[1, 2], &[1, 2]));
    wait_logged(d1, &["[ active ] making 10.0.0.21:443 available"], 2);

    // nginx stops, and the web server of the other one.
    second.stop();
    web[0].stop();
    lvsd.wait_shown(&shown(&[1], &[2]));
    let status: Value = serde_json::from_str(&d1.run("piranhactl status --json")).unwrap();
    let up =
        |at: usize| (&status["virtual_servers"][at]["name"], &status["virtual_servers"][at]["up"]);
    assert_eq!(up(0), (&"gateway".into(), &0.into()));
    assert_eq!(up(1), (&"http".into(), &1.into()));
    assert_eq!(up(2), (&"https".into(), &1.into()));
    assert_eq!(part(&status, "http", "rp1")["error"], "cannot connect: Connection refused");
    let plain = d1.run("piranhactl status");
    for words in [
        "gateway TCP 10.0.0.254:80, nat wlc: 0 of 2 up",
        "https TCP 172.16.0.100:443, nat wlc: 1 of 2 up",
    ] {
        assert!(plain.contains(words), "{words}: {plain}");
    }
    assert_eq!(https_answers(client), BTreeSet::from(["rs1".to_owned()]));

    second.start();
    web[0].start();
    lvsd.wait_shown(&shown(&[1, 2], &[1, 2]));
    assert_eq!(https_answers(client), both);
    // One line for each change, and none of the gateway's, which never came.
    for (words, count) in [
        (inactive, 1),
        ("[inactive] shutting down 10.0.0.22:443 due to connection failure", 1),
        ("[ active ] making 10.0.0.22:443 available", 2),
        ("[ active ] making 10.0.0.1", 0),
    ] {
        assert_eq!(logged(d1, &[words]), count, "{words}");
    }
    lvsd.stop("");
}
