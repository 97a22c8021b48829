//! What single lines mean, beyond the compatibility cases.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::net::Ipv4Addr;

use lvs_config::{
    Code, Config, Forwarding, Interval, NoResolver, Parsed, Protocol, Resolver, Scheduler,
    ServiceKind, SyntaxError, Virtual, parse,
};

struct Names;

impl Resolver for Names {
    fn host(&self, name: &str) -> Option<Ipv4Addr> {
        (name == "gate.example").then_some(Ipv4Addr::new(192, 0, 2, 7))
    }

    fn service(&self, name: &str) -> Option<u16> {
        (name == "gopher-tls").then_some(7070)
    }
}

fn config(text: &str) -> Config {
    parse(text.as_bytes(), &Names).config.unwrap()
}

fn error(text: &str) -> SyntaxError {
    parse(text.as_bytes(), &Names).config.unwrap_err()
}

fn block(settings: &str) -> Virtual {
    config(&format!("virtual x {{\n{settings}\n}}\n")).virtuals.remove(0)
}

fn codes(text: &str) -> Vec<Code> {
    let Parsed { diagnostics, .. } = parse(text.as_bytes(), &Names);
    diagnostics.into_iter().map(|diagnostic| diagnostic.code).collect()
}

#[test]
fn a_whole_file() {
    let config = config(
        "serial_no = 201304240112345\nprimary = 192.0.2.1\nprimary_private = 10.0.0.1\n\
         service = lvs\nbackup_active = 1\nbackup = gate.example\nbackup_private = 10.0.0.2\n\
         heartbeat = 1\nheartbeat_port = gopher-tls\nkeepalive = 6\ndeadtime = 18\n\
         network = tunnel\nnat_router = 10.0.0.254 eth1:1\nnat_nmask = 255.255.255.0\n\
         monitor_links = 2\nsyncdaemon = 1\nsyncd_iface = eth1\nsyncd_id = 9\n\
         tcp_timeout = 900\ntcpfin_timeout = 120\nudp_timeout = 300\nhard_shutdown = 0\n\
         virtual mail {\n     active = 1\n     address = 192.0.2.9 eth0:1\n\
              sorry_server = 10.0.0.99\n     vip_nmask = 255.255.255.255\n     port = 25\n\
              persistent = 60\n     pmask = 255.255.255.0\n     scheduler = lblcr\n\
              protocol = udp\n     timeout = 6\n     reentry = 15\n     quiesce_server = 1\n\
              server a {\n         address = 10.0.0.3\n         active = 1\n\
                  weight = 7\n     }\n}\n",
    );
    assert_eq!(config.serial_no, 201_304_240_112_345);
    assert_eq!(config.backup.as_ref().unwrap().text, "gate.example");
    assert_eq!(config.backup_addr(), Some(Ipv4Addr::new(192, 0, 2, 7)));
    assert_eq!(config.backup_private.as_ref().unwrap().text, "10.0.0.2");
    assert_eq!((config.heartbeat_port, config.syncd_id), (7070, 9));
    assert_eq!((config.network, config.service), (Forwarding::Tunnel, ServiceKind::Lvs));
    assert!(config.monitor_links && config.syncdaemon && !config.hard_shutdown);
    let mail = &config.virtuals[0];
    assert_eq!((mail.scheduler, mail.protocol, mail.port), (Scheduler::Lblcr, Protocol::Udp, 25));
    assert_eq!((mail.persistent, mail.timeout, mail.reentry), (60, 6, 15));
    assert_eq!(mail.line, 23);
    let server = &mail.servers[0];
    assert_eq!((server.port, server.weight, server.active, server.line), (25, 7, true, 36));
    assert_eq!(config.active_blocks().count(), 1);
}

#[test]
fn unset_in_other_words() {
    let gui_default = block("address = 0.0.0.0 eth0:1\nvip_nmask = 0.0.0.0\nfwmark = 0");
    assert_eq!((gui_default.address, gui_default.vip_nmask, gui_default.fwmark), (None, None, 0));
    assert_eq!(gui_default.device.as_deref(), Some("eth0:1"));
    assert_eq!(block("sorry_server = 0.0.0.0").sorry_server, None);
    assert_eq!(config("backup = 0.0.0.0").backup_addr(), None);
    assert_eq!(config("nat_router = 0.0.0.0 eth1:1").nat_router, None);
}

#[test]
fn private_addresses_fall_back_to_the_public_ones() {
    let both = config("primary = 10.0.0.1\nbackup = 10.0.0.2\nbackup_private = 172.16.0.2\n");
    assert_eq!(both.primary_private.unwrap().text, "10.0.0.1");
    assert_eq!(both.backup_private.unwrap().text, "10.0.0.2");
    let none = config("backup_private = 172.16.0.2\n");
    assert_eq!(none.backup_private.unwrap().text, "172.16.0.2");
}

#[test]
fn a_server_takes_the_port_read_so_far() {
    let text = "virtual x {\nserver a {\n}\nport = 443\nserver b {\n}\nserver c {\nport = 1\n}\n\
                port = 443\n}\n";
    let ports: Vec<_> = config(text).virtuals[0].servers.iter().map(|s| s.port).collect();
    assert_eq!(ports, [80, 443, 1]);
    let found = parse(text.as_bytes(), &Names).diagnostics;
    let late: Vec<_> = found.iter().filter(|d| d.code == Code::PortBelowServer).collect();
    assert_eq!(late.iter().map(|d| d.line).collect::<Vec<_>>(), [4, 10]);
    assert!(late[0].message.contains("the server on line 2, which keeps port 80"));
}

#[test]
fn numbers_the_setting_cannot_hold() {
    for (text, value) in [
        ("persistent = -1", 0),
        ("persistent = 99999999999", 2_147_483_647),
        ("persistent = 0xffffffffffffffffffff", 2_147_483_647),
    ] {
        assert_eq!(block(text).persistent, value, "{text}");
        assert!(codes(&format!("virtual x {{\n{text}\n}}")).contains(&Code::OutOfRange));
    }
    assert_eq!(block("fwmark = 4294967295").fwmark, u32::MAX);
    assert!(codes("virtual x {\nfwmark = -1\n}").contains(&Code::OutOfRange));
    assert_eq!(block("port = 65616").port, 80);
    assert!(codes("virtual x {\nport = 65616\n}").contains(&Code::PortRange));
    assert_eq!(config("syncd_id = 256").syncd_id, 255);
    assert_eq!(config("keepalive = -2").keepalive, Interval::from_secs(-2));
    assert_eq!(config("serial_no = 99999999999999999999").serial_no, i64::MAX);
    let weights = "virtual x {\nserver a {\nweight = 65536\n}\nserver b {\nweight = -1\n}\n}";
    assert_eq!(codes(weights).iter().filter(|code| **code == Code::WeightRange).count(), 2);
    assert_eq!(config(weights).virtuals[0].servers[0].weight, 65536);
}

#[test]
fn odd_but_legal() {
    assert_eq!(config("\"keepalive\" '=' \"7\"").keepalive, Interval::from_secs(7));
    assert_eq!(config("  keepalive = 0x7").keepalive, Interval::from_secs(7));
    assert_eq!(block("send = \"a\"b\"").send.unwrap(), b"a\"b");
    assert_eq!(block("dirs = [ ]\nmaster = 10.0.0.1").name, "x");
    assert_eq!(block("load_monitor = none").load_monitor.as_deref(), Some("none"));
    assert_eq!(config("virtual \"\" {\n}").virtuals[0].name, "");
    assert_eq!(config("virtual { {\n}").virtuals[0].name, "{");
    assert_eq!(config("\n\n").virtuals.len(), 0);
    assert_eq!(block("expect = \"a\\r\\n\"").expect.unwrap(), b"a\\r\\n");
}

#[test]
fn bytes_that_are_no_text() {
    let parsed = parse(b"virtual x {\nsend = \"\xff\xfe\"\nload_monitor = /bin/\xff\n}\n", &Names);
    let config = parsed.config.unwrap();
    assert_eq!(config.virtuals[0].send.as_deref(), Some(&b"\xff\xfe"[..]));
    assert_eq!(config.virtuals[0].load_monitor.as_deref(), Some("/bin/\u{fffd}"));
    assert!(parsed.diagnostics.iter().any(|d| d.code == Code::NotUtf8 && d.line == 3));
}

#[test]
fn accepted_with_a_warning() {
    let cases = [
        ("virtual x {\nserver a {\n", Code::UnclosedBlock, 1),
        ("virtual x {\n} # the end\n", Code::TrailingWords, 2),
        ("keepalive = 1\nkeepalive = 2\n", Code::RepeatedKey, 2),
        ("virtual x {\npmask = /24\n}\n", Code::UnreadablePmask, 2),
        ("primary = gate.example\n", Code::NameLookup, 1),
    ];
    for (text, code, line) in cases {
        let parsed = parse(text.as_bytes(), &Names);
        assert!(parsed.config.is_ok(), "{text}");
        assert!(parsed.diagnostics.iter().any(|d| d.code == code && d.line == line), "{text}");
    }
    let open = parse(b"virtual x {\nserver a {\n", &NoResolver).diagnostics;
    assert_eq!(open.iter().filter(|d| d.code == Code::UnclosedBlock).count(), 2);
    let long = format!("virtual x {{\nsend = {}\n}}\n", "a".repeat(256));
    assert!(codes(&long).contains(&Code::TextTooLong));
}

#[test]
fn the_first_fault_is_the_error_and_all_are_diagnostics() {
    let text = "primary = 0.0.0.0\nbogus = 1\nvirtaul x {\nport = smtp-or-so\nserver a {\n\
                active = yes\nport = http\n}\n}\nvirtual y\n{\nactive = 2\n}\n}\n";
    let parsed = parse(text.as_bytes(), &NoResolver);
    let error = parsed.config.unwrap_err();
    assert_eq!((error.line, error.message), (1, "invalid host name or ip address"));
    assert_eq!(error.to_string(), "line 1: invalid host name or ip address");
    let found: Vec<_> = parsed.diagnostics.iter().map(|d| (d.line, d.code)).collect();
    assert_eq!(
        found,
        [
            (1, Code::InvalidAddress),
            (2, Code::UnknownCommand),
            (3, Code::UnknownCommand),
            (4, Code::InvalidArgument),
            (6, Code::IntegerExpected),
            (7, Code::IntegerExpected),
            (10, Code::MissingArguments),
            (12, Code::BooleanExpected),
            (14, Code::UnknownCommand),
        ]
    );
}

#[test]
fn value_faults_come_with_a_remedy() {
    let cases = [
        ("primary = ::1", "only IPv4"),
        ("primary = 10.0.0.1/24", "without a prefix length"),
        ("primary = no-such-host", "no host of that name"),
        ("primary = 0.0.0.0", "leave primary out"),
        ("backup_active = yes", "write 1 for yes"),
        ("backup_active = 2", "write 1 for yes"),
        ("keepalive = 0.5", "200ms, 1.5s"),
        ("keepalive = 08", "octal"),
        ("keepalive = 5sec", "with its unit"),
        ("tcp_timeout = 0.5", "whole numbers only"),
        ("tcp_timeout = 5s", "without a unit"),
        ("virtual x {\ntimeout = 5s", "without a unit"),
        ("network = nta", "did you mean `nat`? network takes nat, direct or tunnel"),
        ("network = foo", "network takes nat, direct or tunnel"),
        ("nat_nmask = 24", ""),
        ("nat_nmask = /24", "255.255.255.0"),
        ("heartbeat_port = foo", "neither a port number nor a service"),
        ("virtual x {\nsorry_server = localhost", "in numbers"),
        ("virtual x {\nprotocol = TCP", "did you mean `tcp`?"),
        ("virtual x {\nserver a {\nport = http", "must be a number"),
    ];
    for (text, expected) in cases {
        if expected.is_empty() {
            assert!(parse(text.as_bytes(), &Names).config.is_ok(), "{text}");
            continue;
        }
        let hint = error(text).hint.unwrap_or_default();
        assert!(hint.contains(expected), "{text}: {hint}");
    }
}
