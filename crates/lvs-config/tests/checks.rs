//! The checks of readable files: what they find, where, and what they let pass.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use lvs_config::{Code, NoResolver, Severity, check, parse};

const HEAD: &str = "primary = 10.0.0.1\nbackup = 10.0.0.2\nbackup_active = 1\nkeepalive = 6\n\
                    deadtime = 18\n";

/// A file without anything to complain about, but for what `globals`, `block` and `server`
/// add to it, on lines 6, 9 and 14.
fn file(globals: &str, block: &str, server: &str) -> String {
    format!(
        "{HEAD}{globals}\nvirtual web {{\nactive = 1\n{block}\naddress = 192.0.2.1 eth0:1\n\
         server a {{\naddress = 10.0.0.11\nactive = 1\n{server}\n}}\n}}\n"
    )
}

fn found(text: &str) -> Vec<(usize, Code)> {
    let parsed = parse(text.as_bytes(), &NoResolver);
    let config = parsed.config.unwrap_or_else(|error| panic!("{error}\n{text}"));
    for diagnostic in &parsed.diagnostics {
        assert!(diagnostic.hint.as_ref().is_some_and(|hint| !hint.is_empty()), "{diagnostic:?}");
        assert_eq!(diagnostic.severity, diagnostic.code.severity());
    }
    for diagnostic in check(&config, &parsed.document) {
        assert!(parsed.diagnostics.contains(&diagnostic), "{diagnostic:?}");
    }
    parsed.diagnostics.iter().map(|diagnostic| (diagnostic.line, diagnostic.code)).collect()
}

fn errors(text: &str) -> Vec<Code> {
    let all = found(text).into_iter().map(|(_, code)| code);
    all.filter(|code| code.severity() == Severity::Error).collect()
}

#[test]
fn a_sound_file_is_left_alone() {
    assert_eq!(found(&file("", "", "")), []);
    let defaults = "primary = 10.0.0.1\nbackup = 10.0.0.2\nbackup_active = 1\n\
                    virtual a {\nactive = 1\naddress = 10.0.0.9 eth0:1\nserver b {\nactive = 1\n\
                    address = 10.0.0.3\n}\n}\n";
    assert_eq!(found(defaults), []);
}

/// NAT, a redundant gateway, http and https on one address and one label.
#[test]
fn the_site_of_the_field_is_left_alone() {
    let text = "serial_no = 42\nprimary = 10.1.0.1\nservice = lvs\nbackup_active = 1\n\
        backup = 10.1.0.2\nheartbeat = 1\nheartbeat_port = 539\nkeepalive = 6\ndeadtime = 18\n\
        network = nat\ndebug_level = NONE\nmonitor_links = 1\nsyncdaemon = 1\n\
        virtual gateway {\n     active = 1\n     address = 10.1.0.254 eth1:1\n\
             vip_nmask = 255.255.255.0\n     port = 80\n     send = \"GET / HTTP/1.0\\r\\n\\r\\n\"\n\
             expect = \"HTTP\"\n     use_regex = 0\n     load_monitor = none\n\
             scheduler = wlc\n     protocol = tcp\n     timeout = 6\n     reentry = 15\n\
             quiesce_server = 0\n     server one {\n         address = 10.1.0.1\n\
                 active = 1\n         weight = 1\n     }\n     server two {\n\
                 address = 10.1.0.2\n         active = 1\n         weight = 1\n     }\n}\n\
        virtual http {\n     active = 1\n     address = 192.0.2.10 eth0:1\n\
             vip_nmask = 255.255.255.0\n     port = 80\n     server p1 {\n\
                 address = 10.1.0.11\n         active = 1\n     }\n     server p2 {\n\
                 address = 10.1.0.12\n         active = 1\n     }\n}\n\
        virtual https {\n     active = 1\n     address = 192.0.2.10 eth0:1\n\
             vip_nmask = 255.255.255.0\n     port = 443\n     expect = \"OK\"\n\
             send_program = \"/etc/sysconfig/ha/lvs-check-https.sh %h\"\n     server p1 {\n\
                 address = 10.1.0.11\n         active = 1\n     }\n     server p2 {\n\
                 address = 10.1.0.12\n         active = 1\n     }\n}\n";
    assert_eq!(found(text), []);
}

#[test]
fn global_settings() {
    let cases: &[(&str, usize, Code)] = &[
        ("backup = 0.0.0.0", 3, Code::NoBackup),
        ("backup = 10.0.0.1", 6, Code::SameDirector),
        ("backup_private = 172.16.0.2", 6, Code::PrivateIgnored),
        ("primary_private = 172.16.0.1", 6, Code::PrivateIncomplete),
        ("primary_private = 172.16.0.1\nbackup_private = 172.16.0.1", 7, Code::SameDirector),
        ("keepalive = 0", 6, Code::KeepaliveZero),
        ("keepalive = -1", 6, Code::KeepaliveZero),
        ("standby_checks = 1", 6, Code::Extension),
        ("standby_checks = 0", 6, Code::Extension),
        ("deadtime = 18s", 6, Code::Extension),
        ("keepalive = 200ms", 6, Code::Extension),
        ("keepalive = 1.5s", 6, Code::Extension),
        ("deadtime = 6", 6, Code::DeadtimeShort),
        ("deadtime = 0", 6, Code::DeadtimeShort),
        ("deadtime = 17", 6, Code::DeadtimeTight),
        ("keepalive = 10", 5, Code::DeadtimeTight),
        ("heartbeat = 0", 6, Code::HeartbeatIgnored),
        ("heartbeat_port = 0", 6, Code::PortRange),
        ("backup_active = 0\nsyncdaemon = 1", 7, Code::SyncWithoutBackup),
        ("nat_nmask = 255.255.255.0", 6, Code::NatNmaskUnused),
        ("nat_router = 10.0.0.254 eth1:1", 6, Code::NatNmaskMissing),
        ("nat_nmask = 255.0.255.0\nnat_router = 10.0.0.254 eth1:1", 6, Code::NetmaskHoles),
        (
            "network = direct\nnat_nmask = 255.0.0.0\nnat_router = 10.0.0.254 eth1:1",
            8,
            Code::NatRouterUnused,
        ),
        ("nat_nmask = 255.0.0.0\nnat_router = 10.0.0.254 enp0s31f6.1000:1", 7, Code::LabelTooLong),
        ("ipvsadm = sbin/ipvsadm", 6, Code::RelativePath),
        ("active_cmd = \"./notify up\"", 6, Code::RelativePath),
        ("failover f {\n}", 6, Code::IgnoredBlocks),
        ("syncd_id = 999", 6, Code::OutOfRange),
        ("udp_timeout = -1", 6, Code::OutOfRange),
    ];
    for &(globals, line, code) in cases {
        let all = found(&file(globals, "", ""));
        assert!(all.contains(&(line, code)), "{globals}: {all:?}");
        let others = all.iter().filter(|(_, found)| *found != code && *found != Code::RepeatedKey);
        assert_eq!(others.count(), 0, "{globals}: {all:?}");
    }
    for passes in ["ipvsadm = ipvsadm-wrapper", "rsh_command = ssh", "heartbeat = 1", "sync = 1"] {
        assert_eq!(found(&file(passes, "", "")), [], "{passes}");
    }
}

#[test]
fn times_with_a_unit() {
    let pair = |keepalive: &str, deadtime: &str| {
        let text = file("", "", "").replace("keepalive = 6", &format!("keepalive = {keepalive}"));
        text.replace("deadtime = 18", &format!("deadtime = {deadtime}"))
    };
    let cases: &[(&str, &str, &[Code])] = &[
        ("1", "3", &[]),
        ("200ms", "1", &[Code::Extension]),
        ("200ms", "600ms", &[Code::Extension, Code::Extension]),
        ("2s", "6", &[Code::Extension]),
        ("200ms", "0.599s", &[Code::Extension, Code::DeadtimeTight, Code::Extension]),
        ("200ms", "200ms", &[Code::Extension, Code::DeadtimeShort, Code::Extension]),
        ("1", "999ms", &[Code::DeadtimeShort, Code::Extension]),
        ("10ms", "1", &[Code::Extension]),
        ("9ms", "1", &[Code::KeepaliveZero, Code::Extension]),
        ("0s", "1", &[Code::KeepaliveZero, Code::Extension]),
        ("0", "0", &[Code::KeepaliveZero, Code::DeadtimeShort]),
        ("2147483647", "2147483647", &[Code::DeadtimeShort]),
        ("1", "2147483648", &[Code::OutOfRange]),
        ("1", "9999999999999999s", &[Code::OutOfRange, Code::Extension]),
    ];
    for (keepalive, deadtime, expected) in cases {
        let all = found(&pair(keepalive, deadtime)).into_iter().map(|(_, code)| code);
        assert_eq!(all.collect::<Vec<_>>(), *expected, "{keepalive}, {deadtime}");
    }
    let parsed = parse(pair("200ms", "0").as_bytes(), &NoResolver);
    let said: Vec<_> = parsed.diagnostics.iter().map(|d| d.message.as_str()).collect();
    assert_eq!(
        said,
        [
            "a time with a unit (`200ms`) is understood by this suite only: the original refuses \
             the whole file",
            "deadtime (0) must be longer than keepalive (200ms): a living partner would be taken \
             for dead",
        ]
    );
    let hints: Vec<_> = parsed.diagnostics.iter().filter_map(|d| d.hint.as_deref()).collect();
    assert_eq!(
        hints,
        [
            "write whole seconds as long as a partner runs the original (0.8.6 and before)",
            "set deadtime to three times keepalive or more; meanwhile it is taken for 400ms",
        ]
    );
}

#[test]
fn a_time_that_is_not_set_is_reported_at_the_one_that_is() {
    let text = file("", "", "").replace("deadtime = 18\n", "");
    assert_eq!(found(&text), [(4, Code::DeadtimeShort)]);
}

#[test]
fn files_that_start_nothing() {
    assert_eq!(found("# nothing\n"), [(0, Code::NoPrimary), (0, Code::NoActiveBlock)]);
    assert_eq!(errors("primary = 10.0.0.1\nvirtual x {\n}\n"), [Code::NoActiveBlock]);
    let fos = "primary = 10.0.0.1\nservice = fos\nvirtual x {\nactive = 1\n}\n";
    assert_eq!(found(fos), [(0, Code::NoActiveBlock), (3, Code::IgnoredBlocks)]);
}

#[test]
fn blocks() {
    let cases: &[(&str, usize, Code)] = &[
        ("vip_nmask = 255.0.255.0", 9, Code::NetmaskHoles),
        ("persistent = 60\npmask = 255.0.255.0", 10, Code::PmaskHoles),
        ("pmask = 255.255.255.0", 9, Code::PmaskUnused),
        ("port = 0", 9, Code::PortZero),
        ("persistent = 2678401", 9, Code::TimeoutTooLong),
        ("timeout = 0", 9, Code::TimeoutZero),
        ("send_program = \"check.d/https %h\"\nexpect = OK", 9, Code::RelativePath),
        ("send_program = /bin/true", 9, Code::ProgramWithoutExpect),
        ("send_program = /bin/true\nexpect = OK\nsend = x", 11, Code::SendIgnored),
        ("use_regex = 1", 9, Code::RegexUnused),
        ("protocol = udp", 9, Code::UdpCheck),
        ("protocol = udp\nexpect = x", 10, Code::UdpCheck),
        ("protocol = udp\nport = 53", 9, Code::UdpCheck),
        ("start_cmd = /bin/true", 9, Code::UnusedInVirtual),
        ("client_monitor = sbin/nanny", 9, Code::RelativePath),
        ("sorry_server = 10.0.0.11", 13, Code::SorryIsServer),
        ("fwmark = -3", 9, Code::OutOfRange),
    ];
    for &(block, line, code) in cases {
        let all = found(&file("", block, ""));
        let line = if code == Code::SorryIsServer { 12 } else { line };
        assert!(all.contains(&(line, code)), "{block}: {all:?}");
        assert_eq!(all.len(), 1, "{block}: {all:?}");
    }
    for passes in [
        "expect = \"220\"",
        "send = \"QUIT\"",
        "use_regex = 1\nexpect = \"^HTTP\"",
        "port = 0\npersistent = 60",
        "port = 0\nfwmark = 7",
        "protocol = udp\nsend = \"ping\"",
        "protocol = udp\nsend_program = /bin/ping\nexpect = OK",
        "persistent = 60\npmask = 255.255.255.0",
        "sorry_server = 10.0.0.99",
        "load_monitor = rup",
    ] {
        assert_eq!(found(&file("", passes, "")), [], "{passes}");
    }
}

#[test]
fn addresses_of_blocks() {
    let head = "primary = 10.0.0.1\n";
    let server = "server a {\nactive = 1\naddress = 10.0.0.11\n}\n";
    let one = |settings: &str| format!("{head}virtual x {{\nactive = 1\n{settings}\n{server}}}\n");
    assert_eq!(found(&one("")), [(2, Code::NoAddress)]);
    assert_eq!(found(&one("address = 0.0.0.0 eth0:1")), [(4, Code::NoAddress)]);
    assert_eq!(found(&one("fwmark = 7")), [(2, Code::MarkWithoutAddress)]);
    assert_eq!(found(&one("address = 10.0.0.9 enp0s31f6.1000:1")), [(4, Code::LabelTooLong)]);
    assert_eq!(found(&one("address = 10.0.0.1 eth0:1")), [(4, Code::VipIsDirector)]);
    let empty = format!("{head}virtual x {{\nactive = 1\naddress = 10.0.0.9 eth0:1\n}}\n");
    assert_eq!(found(&empty), [(2, Code::NoActiveServer)]);
    let sorry = empty.replace("eth0:1\n", "eth0:1\nsorry_server = 10.0.0.11\n");
    assert_eq!(found(&sorry), []);
}

#[test]
fn servers() {
    let cases: &[(&str, &str, usize, Code)] = &[
        ("", "address = 0.0.0.0", 14, Code::ServerWithoutAddress),
        ("", "address = 192.0.2.1", 14, Code::ServerIsVip),
        ("", "weight = 65536", 14, Code::WeightRange),
        ("network = direct", "port = 8080", 14, Code::PortMapping),
        ("network = tunnel", "port = 8080", 14, Code::PortMapping),
    ];
    for &(globals, server, line, code) in cases {
        let all = found(&file(globals, "", server));
        assert!(all.contains(&(line, code)), "{server}: {all:?}");
    }
    assert_eq!(found(&file("network = nat", "", "port = 8080")), []);
    assert_eq!(found(&file("network = direct", "fwmark = 3", "port = 8080")), []);
}

#[test]
fn servers_together() {
    let block = |servers: &str| {
        format!(
            "primary = 10.0.0.1\nbackup = 10.0.0.2\nvirtual x {{\nactive = 1\n\
             address = 10.0.0.9 eth0:1\n{servers}}}\n"
        )
    };
    let server = |address: &str| format!("server s {{\nactive = 1\naddress = {address}\n}}\n");
    let twice = block(&(server("10.0.0.11") + &server("10.0.0.11")));
    assert_eq!(found(&twice), [(10, Code::DuplicateServer)]);
    let mixed = block(&(server("10.0.0.11") + &server("10.0.0.2")));
    assert_eq!(found(&mixed), [(12, Code::ServerIsDirector)]);
    let directors = block(&(server("10.0.0.1") + &server("10.0.0.2")));
    assert_eq!(found(&directors), []);
    let off = twice.replacen("active = 1\naddress = 10.0.0.11", "address = 10.0.0.11", 1);
    assert_eq!(found(&off), []);
}

#[test]
fn blocks_together() {
    let pair = |first: &str, second: &str| {
        let block = |settings: &str| {
            format!(
                "virtual x {{\nactive = 1\n{settings}\nserver a {{\nactive = 1\n\
                 address = 10.0.0.11\n}}\n}}\n"
            )
        };
        format!("primary = 10.0.0.1\n{}{}", block(first), block(second))
    };
    type Case<'c> = (&'c str, &'c str, &'c [(usize, Code)]);
    let cases: &[Case<'_>] = &[
        ("address = 10.0.0.9 eth0:1", "address = 10.0.0.9 eth0:1\nport = 443", &[]),
        ("address = 10.0.0.9 eth0:1", "address = 10.0.0.9 eth0:1\nfwmark = 4", &[]),
        ("address = 10.0.0.9 eth0:1", "address = 10.0.0.9 eth0:1\nprotocol = udp\nsend = x", &[]),
        ("address = 10.0.0.9 eth0:1", "address = 10.0.0.9 eth0:1", &[(12, Code::DuplicateService)]),
        (
            "address = 10.0.0.9 eth0:1\nfwmark = 4",
            "address = 10.0.0.8 eth0:2\nfwmark = 4",
            &[(14, Code::DuplicateService)],
        ),
        ("address = 10.0.0.9 eth0:1", "address = 10.0.0.8 eth0:1", &[(12, Code::LabelConflict)]),
        (
            "address = 10.0.0.9 eth0:1",
            "address = 10.0.0.9 eth0:2\nport = 443",
            &[(12, Code::TwoLabels)],
        ),
        (
            "address = 10.0.0.9 eth0:1\nvip_nmask = 255.255.255.0",
            "address = 10.0.0.9 eth0:1\nvip_nmask = 255.255.255.255\nport = 443",
            &[(14, Code::TwoNetmasks)],
        ),
        (
            "address = 10.0.0.9 eth0:1",
            "address = 10.0.0.11 eth0:2",
            &[(7, Code::ServerIsVip), (15, Code::ServerIsVip)],
        ),
    ];
    for &(first, second, expected) in cases {
        assert_eq!(found(&pair(first, second)), expected, "{first} / {second}");
    }
    let router = "nat_router = 10.0.0.254 eth1:1\nnat_nmask = 255.0.0.0\n";
    let shared = router.to_owned()
        + &pair("address = 10.0.0.9 eth1:1", "address = 10.0.0.9 eth1:1\nport = 443");
    assert_eq!(found(&shared), [(6, Code::LabelConflict), (14, Code::LabelConflict)]);
}

#[test]
fn failover_services() {
    let text = "primary = 10.0.0.1\nservice = fos\nfailover ftp {\nactive = 1\n\
                address = 10.0.0.77 eth0:3\nport = 21\nstart_cmd = \"/etc/init.d/ftp start\"\n\
                stop_cmd = \"init.d/ftp stop\"\n}\nfailover off {\n}\nfailover x {\nactive = 1\n\
                address = 10.0.0.78 eth0:4\n}\n";
    assert_eq!(found(text), [(8, Code::RelativePath), (12, Code::NoStartCommand)]);
}

#[test]
fn no_more_is_said_than_anyone_reads() {
    let text = "bogus = 1\n".repeat(5000);
    let parsed = parse(text.as_bytes(), &NoResolver);
    assert_eq!(parsed.diagnostics.len(), 1001);
    assert_eq!(parsed.diagnostics[1000].code, Code::TooManyDiagnostics);
    assert!(parsed.diagnostics[1000].message.starts_with("4000 more"));
}
