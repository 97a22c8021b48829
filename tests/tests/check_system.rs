//! `piranhactl check --system`: a director that is prepared has no finding; each thing that is wrong
//! gives its finding and no other; and the commands that a finding shows put it right.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod director;
mod pair;

use director::{CONFIG, VIP, lvs_cf, server, virtual_server};
use lab::{Method, Node, PATIENCE, Site};
use pair::Pair;
use serde_json::Value;

/// A check program of its own for each node: the directory is the node's.
const SCRIPT: &str = "/etc/sysconfig/ha/check.sh";

/// The findings about the machine.
#[track_caller]
fn findings(node: &Node) -> Vec<Value> {
    let output = node.output("piranhactl check --system --json");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let all: Vec<Value> = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    let errors = all.iter().any(|finding| finding["severity"] == "error");
    assert_eq!(output.status.success(), !errors, "{text}");
    // Those about the file have a line.
    all.into_iter().filter(|finding| finding["line"].is_null()).collect()
}

fn codes(findings: &[Value]) -> Vec<&str> {
    findings.iter().map(|finding| finding["code"].as_str().unwrap()).collect()
}

#[track_caller]
fn expect(node: &Node, what: &str, want: &[&str]) -> Vec<Value> {
    let found = findings(node);
    assert_eq!(codes(&found), want, "{what}: {found:#?}");
    found
}

/// Services that are switched on on the machine the tests run on are no affair of the node's.
fn without_services(node: &Node) {
    node.shell("mkdir -p /etc/systemd/system; mount -t tmpfs none /etc/systemd/system");
}

/// What a director of a NAT site is given by whoever installs it.
const PREPARED: &str = "\
sysctl -qw net.ipv4.conf.all.promote_secondaries=1
ip route add default via 172.16.0.10
iptables-legacy -t nat -A POSTROUTING -s 10.0.0.0/24 -o eth0 -j MASQUERADE
iptables-legacy -A INPUT -i lo -j ACCEPT
iptables-legacy -A INPUT -p udp --dport 539 -j ACCEPT
iptables-legacy -A INPUT -p udp --dport 8848 -j ACCEPT
iptables-legacy -A INPUT -p tcp --dport 3636 -j ACCEPT
iptables-legacy -A INPUT -p tcp --dport 80 -j ACCEPT
iptables-legacy -P INPUT DROP
iptables-legacy -A FORWARD -i eth1 -j ACCEPT
iptables-legacy -P FORWARD DROP
printf '#!/bin/sh\\necho OK\\n' >/etc/sysconfig/ha/check.sh
chmod 755 /etc/sysconfig/ha/check.sh
";

const PAIR: [&str; 6] = [
    "primary = 10.0.0.11",
    "backup = 10.0.0.12",
    "backup_active = 1",
    "syncdaemon = 1",
    "syncd_iface = eth1",
    "nat_router = 10.0.0.254 eth1:1\nnat_nmask = 255.255.255.0",
];

fn nat_config() -> String {
    let web = virtual_server("web", 80)
        .with("vip_nmask", "255.255.255.0")
        .with("scheduler", "wrr")
        .with("send_program", format!("\"{SCRIPT} %h\""))
        .with("expect", "OK")
        .real_servers([1], 80);
    lvs_cf(&PAIR, &[web])
}

fn prepare(node: &Node, config: &str) {
    node.write(CONFIG, config);
    node.shell(PREPARED);
    without_services(node);
}

/// Something that is wrong: the commands that make it so, and the finding's code.
type Fault = (&'static str, &'static str);

/// What the commands shown put right.
const MENDED_AS_SHOWN: [Fault; 15] = [
    ("sysctl -qw net.ipv4.ip_forward=0", "ip-forward"),
    ("sysctl -qw net.ipv4.conf.eth1.forwarding=0", "ip-forward"),
    (
        "for i in all eth0 eth1; do sysctl -qw net.ipv4.conf.$i.promote_secondaries=0; done",
        "promote-secondaries",
    ),
    ("sysctl -qw net.ipv4.conf.eth1.arp_ignore=8", "arp-silent"),
    ("iptables-legacy -D INPUT -p udp --dport 539 -j ACCEPT", "firewall-heartbeat"),
    ("iptables-legacy -I OUTPUT -p udp --dport 539 -j REJECT", "firewall-heartbeat"),
    ("iptables-legacy -D INPUT -p udp --dport 8848 -j ACCEPT", "firewall-sync"),
    ("iptables-legacy -D INPUT -p tcp --dport 3636 -j ACCEPT", "firewall-web-page"),
    ("iptables-legacy -D INPUT -p tcp --dport 80 -j ACCEPT", "firewall-service"),
    ("iptables-legacy -D FORWARD -i eth1 -j ACCEPT", "firewall-forward"),
    ("iptables-legacy -t nat -F POSTROUTING", "no-masquerade"),
    (
        "iptables-legacy -t nat -A POSTROUTING -o eth1 -j MASQUERADE; sysctl -qw net.ipv4.vs.conntrack=0",
        "vs-conntrack",
    ),
    ("chmod 644 /etc/sysconfig/ha/check.sh", "not-executable"),
    ("chmod 777 /etc/sysconfig/ha/check.sh", "unsafe-program"),
    ("chmod 666 /etc/sysconfig/ha/lvs.cf", "file-permissions"),
];

/// What is put right by hand: with the commands that do it.
const MENDED_BY_HAND: [(&str, &str, &str); 4] = [
    (
        "rm /etc/sysconfig/ha/check.sh",
        "no-program",
        "printf '#!/bin/sh\\n' >/etc/sysconfig/ha/check.sh; chmod 755 /etc/sysconfig/ha/check.sh",
    ),
    (
        "ip addr del 10.0.0.11/24 dev eth1; ip route add 10.0.0.0/24 dev eth1",
        "no-role",
        "ip route del 10.0.0.0/24 dev eth1; ip addr add 10.0.0.11/24 dev eth1",
    ),
    ("ip addr add 10.0.0.12/24 dev eth1", "both-roles", "ip addr del 10.0.0.12/24 dev eth1"),
    (
        "sed -i 's/eth0:1/eth7:1/' /etc/sysconfig/ha/lvs.cf",
        "no-device",
        "sed -i 's/eth7:1/eth0:1/' /etc/sysconfig/ha/lvs.cf",
    ),
];

#[test]
fn each_fault_has_its_finding_and_its_remedy() {
    let site = Site::new(Method::Nat, 1, 1);
    let d1 = &site.directors[0];
    prepare(d1, &nat_config());
    let text = d1.run("piranhactl check --system");
    assert_eq!(text, format!("{CONFIG}: no errors, no warnings\n"));

    for (commands, code) in MENDED_AS_SHOWN {
        d1.shell(commands);
        let found = expect(d1, commands, &[code]);
        let shown: Vec<&str> =
            found[0]["now"].as_array().unwrap().iter().map(|c| c.as_str().unwrap()).collect();
        let lasts = found[0]["keep"].is_string() || shown.iter().all(|c| c.starts_with("chmod "));
        assert!(!shown.is_empty() && lasts, "{found:?}");
        d1.shell(&shown.join("\n"));
        expect(d1, &format!("{commands}, then {shown:?}"), &[]);
    }
    for (commands, code, remedy) in MENDED_BY_HAND {
        d1.shell(commands);
        expect(d1, commands, &[code]);
        d1.shell(remedy);
        expect(d1, remedy, &[]);
    }
}

#[test]
fn modules_services_and_links() {
    let site = Site::new(Method::Nat, 1, 1);
    let d1 = &site.directors[0];
    prepare(d1, &nat_config().replace("wrr", "lblcr"));
    expect(d1, "a scheduler that is loaded when it is needed", &[]);
    // Somebody else in this kernel may have needed it.
    d1.shell("modprobe -r ip_vs_lblcr");
    // Seen by this node alone.
    d1.shell(
        "mount -t tmpfs none /etc/modprobe.d\n\
         echo install ip_vs_lblcr /bin/false >/etc/modprobe.d/hardening.conf",
    );
    let found = expect(d1, "a scheduler that is kept out", &["no-scheduler"]);
    d1.shell(found[0]["now"][0].as_str().unwrap());
    expect(d1, "loaded all the same", &[]);

    let keepalived = d1.dir().join("keepalived");
    d1.run(format!("cp /bin/sleep {}", keepalived.display()));
    let rival = d1.spawn(format!("{} 1000", keepalived.display()));
    let found = expect(d1, "keepalived", &["rival"]);
    let message = found[0]["message"].as_str().unwrap();
    assert!(message.contains(&format!("keepalived runs (pid {})", rival.pid())), "{message}");
    rival.signal(nix::sys::signal::Signal::SIGKILL);
    rival.wait_exit(PATIENCE).unwrap();
    d1.shell("mkdir -p /etc/systemd/system/x.wants; ln -s /x /etc/systemd/system/x.wants/keepalived.service");
    expect(d1, "keepalived at the next boot", &["rival"]);
    d1.shell("rm -r /etc/systemd/system/x.wants");
    // Of another machine it is no concern.
    let _theirs = site.client.spawn(format!("{} 1000", keepalived.display()));
    expect(d1, "keepalived elsewhere", &[]);

    d1.unplug("eth0");
    expect(d1, "no cable", &["device-down"]);
    d1.plug("eth0");
    director::wait("the cable is in again", || findings(d1).is_empty().then_some(()));
}

#[test]
fn who_else_has_the_address() {
    let site = Site::new(Method::Nat, 2, 1);
    let (d1, d2) = (&site.directors[0], &site.directors[1]);
    prepare(d1, &nat_config());
    expect(d1, "nobody has it", &[]);
    // The partner's own address is not on that segment, so that its MAC is not known there.
    site.client.ip(&format!("addr add {VIP}/32 dev eth0"));
    let found = expect(d1, "the client has it", &["address-in-use"]);
    let mac = site.client.mac("eth0").map(|byte| format!("{byte:02x}")).join(":");
    assert!(found[0]["message"].as_str().unwrap().contains(&mac), "{found:?}");
    site.client.ip(&format!("addr del {VIP}/32 dev eth0"));

    d2.ip("addr add 10.0.0.254/24 dev eth1");
    expect(d1, "the partner has the gateway's address", &[]);
    d1.ip("addr add 10.0.0.254/24 dev eth1");
    expect(d1, "both have the gateway's address", &["address-twice"]);
    d2.ip("addr del 10.0.0.254/24 dev eth1");
    expect(d1, "we have it", &[]);
}

#[test]
fn a_real_server_that_answers_for_the_virtual_address() {
    let site = Site::new(Method::Direct, 2, 1);
    let (d1, rs1) = (&site.directors[0], &site.servers[0]);
    let web = virtual_server("web", 80)
        .with("address", format!("{} eth0:1", site.vip))
        .server(server("rs1", "10.0.0.21"))
        .server(server("rs2", "10.0.0.22"));
    let globals =
        ["primary = 10.0.0.11", "backup = 10.0.0.12", "backup_active = 1", "network = direct"];
    d1.write(CONFIG, lvs_cf(&globals, &[web]));
    d1.shell("sysctl -qw net.ipv4.conf.all.promote_secondaries=1");
    without_services(d1);
    expect(d1, "it keeps silent", &[]);
    rs1.sysctl("net.ipv4.conf.all.arp_ignore", 0);
    let found = expect(d1, "it answers", &["server-answers"]);
    let hint = found[0]["hint"].as_str().unwrap();
    rs1.shell(hint.strip_prefix("on rs1: ").unwrap());
    expect(d1, hint, &[]);

    // A director that is a real server as well.
    let own = d1.path(CONFIG);
    let text = std::fs::read_to_string(&own).unwrap().replace("10.0.0.22", "10.0.0.11");
    d1.write(CONFIG, text);
    let next = |want: &[&str]| {
        let found = expect(d1, "a director that is a real server", want);
        let shown: Vec<&str> = found
            .iter()
            .flat_map(|f| f["now"].as_array().unwrap())
            .map(|c| c.as_str().unwrap())
            .collect();
        d1.shell(&shown.join("\n"));
    };
    next(&["address-missing"]);
    next(&["arp-ignore", "arp-announce"]);
    next(&[]);
}

#[test]
fn a_pair_that_runs() {
    let pair = Pair::new(Method::Nat);
    let (d1, d2) = (pair.node(0), pair.node(1));
    for node in [d1, d2] {
        node.shell("sysctl -qw net.ipv4.conf.all.promote_secondaries=1");
        node.shell("ip route add default via 172.16.0.10");
        node.shell("iptables-legacy -t nat -A POSTROUTING -s 10.0.0.0/24 -o eth0 -j MASQUERADE");
        without_services(node);
    }
    let refused = d1.output("piranhactl status");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("pulse is not running"), "{said}");
    pair.start(&pair.config(&[]));
    let both_are_well = |active: &Node, other: &Node| {
        expect(active, "the active node", &[]);
        expect(other, "the other node, which sees the active one's addresses", &[]);
        let text = shown(active);
        for words in ["  active  ", "172.16.0.100/24  eth0:1  up\n", "web TCP 172.16.0.100:8080"] {
            assert!(text.contains(words), "{words}: {text}");
        }
        let text = shown(other);
        for words in ["  inactive  ", "eth0:1  not up\n", "lvsd does not run here"] {
            assert!(text.contains(words), "{words}: {text}");
        }
        let json: Value = serde_json::from_str(&other.run("piranhactl status --json")).unwrap();
        assert_eq!(json["pulse"]["partner"]["state"], "active");
        assert_eq!(json["virtual_servers"], Value::Array(Vec::new()));
    };
    both_are_well(d1, d2);

    let refused = d2.output("piranhactl handover");
    assert_eq!(refused.status.code(), Some(1), "it has nothing to hand over");
    assert!(!refused.stderr.is_empty() && refused.stdout.is_empty());
    d1.run("piranhactl handover");
    pair.wait_settled(1);
    both_are_well(d2, d1);

    // pulse passes it on to lvsd.
    let config = pair.config(&["serial_no = 77"]);
    pair.write(&config);
    d2.run("piranhactl reload");
    pair::wait_status(d2, "the new file", |status| status["serial_no"] == 77);
    let lvsd = || Some(director::status(d2)?["serial_no"] == 77).filter(|new| *new);
    director::wait("lvsd has the new file too", lvsd);
    pair.stop();
}

/// The status, which fits a terminal.
#[track_caller]
fn shown(node: &Node) -> String {
    let text = node.run("piranhactl status");
    println!("{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    text
}
