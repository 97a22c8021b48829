//! What the daemons could say: sites of any size, and hostile ones.

use health::state::{Force, Health};
use lvsd::status::{Counters, Server, Status, VirtualServer};
use pulse::status as pair;

/// Text that is trouble wherever it is not escaped: in HTML, in attributes, in JSON, in metrics, in
/// logs.
pub const HOSTILE: &str =
    "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&lt;\\\n\u{1b}[31m\u{202e}{}";

/// lvsd with so many virtual servers of so many real servers each. One in seven servers is down.
#[must_use]
pub fn table(virtuals: usize, servers: usize) -> Status {
    Status {
        version: "0.9.0".to_owned(),
        pid: 4242,
        file: "/etc/sysconfig/ha/lvs.cf".to_owned(),
        serial_no: 17,
        uptime_s: 86_400,
        reload_error: None,
        table_error: None,
        standby: false,
        virtual_servers: (0..virtuals).map(|index| virtual_server(index, servers)).collect(),
    }
}

fn virtual_server(index: usize, servers: usize) -> VirtualServer {
    let (high, low) = (index / 250, index % 250 + 1);
    let servers: Vec<_> = (0..servers).map(|number| server(index, number)).collect();
    VirtualServer {
        name: format!("site{index}"),
        service: format!("TCP 192.0.{high}.{low}:80"),
        scheduler: "wlc".to_owned(),
        forwarding: "nat".to_owned(),
        persistent: if index.is_multiple_of(3) { 300 } else { 0 },
        up: servers.iter().filter(|server| server.up == Some(true)).count(),
        sorry_server: index.is_multiple_of(5).then(|| "10.0.255.1:80".to_owned()),
        sorry_active: false,
        problem: None,
        in_kernel: true,
        counters: Counters {
            connections: 1_000_000,
            bytes_in: 1 << 30,
            bytes_out: 1 << 34,
            connections_per_s: 120,
            bytes_in_per_s: 100_000,
            bytes_out_per_s: 1_000_000,
            ..Counters::default()
        },
        servers,
    }
}

fn server(block: usize, number: usize) -> Server {
    let down = (block * 31 + number) % 7 == 3;
    Server {
        name: format!("rs{number}"),
        address: format!("10.{}.{}.{}:80", block % 250, number / 250, number % 250 + 1),
        up: Some(!down),
        health: Some(if down { Health::Down } else { Health::Up }),
        forced: Force::Auto,
        since_ms: Some(5_400_000),
        weight: 1,
        weight_wanted: (!down).then_some(1),
        weight_kernel: (!down).then_some(1),
        check_us: Some(1_234),
        error: down.then(|| "connection refused".to_owned()),
        active_connections: 12,
        inactive_connections: 34,
        persistent_connections: 0,
        counters: Counters { connections: 5_000, ..Counters::default() },
    }
}

/// lvsd whose every text is [`HOSTILE`].
#[must_use]
pub fn hostile_table() -> Status {
    let mut status = table(2, 4);
    status.reload_error = Some(HOSTILE.to_owned());
    status.table_error = Some(HOSTILE.to_owned());
    status.version = HOSTILE.to_owned();
    status.file = HOSTILE.to_owned();
    for block in &mut status.virtual_servers {
        for text in
            [&mut block.name, &mut block.service, &mut block.scheduler, &mut block.forwarding]
        {
            *text = format!("{HOSTILE}{text}");
        }
        block.sorry_server = Some(HOSTILE.to_owned());
        block.problem = Some(HOSTILE.to_owned());
        for server in &mut block.servers {
            server.name = format!("{HOSTILE}{}", server.name);
            server.address = format!("{HOSTILE}{}", server.address);
            server.error = Some(HOSTILE.to_owned());
        }
        let forces = [Force::Auto, Force::Up, Force::Down, Force::Drain];
        for (server, force) in block.servers.iter_mut().zip(forces) {
            server.forced = force;
        }
    }
    status
}

/// An active pulse with a partner that stands by.
#[must_use]
pub fn pair() -> pair::Status {
    let path = |name: &str, network: u8| pair::PathStatus {
        name: name.to_owned(),
        local: format!("10.0.{network}.1"),
        partner: Some(format!("10.0.{network}.2")),
        port: 539,
        sent: 43_210,
        unsent: 0,
        received: 43_205,
        late: 2,
        foreign: 0,
        bad: 0,
        heard_ms: Some(420),
        error: None,
    };
    let address = |address: &str, label: &str| pair::AddressStatus {
        address: address.to_owned(),
        label: label.to_owned(),
        up: true,
        ours: true,
        error: None,
    };
    pair::Status {
        version: "0.9.0".to_owned(),
        pid: 4241,
        file: "/etc/sysconfig/ha/lvs.cf".to_owned(),
        serial_no: 17,
        service: "lvs".to_owned(),
        node: pair::Node {
            role: "master".to_owned(),
            state: "active".to_owned(),
            since_ms: 200_000_000,
            reason: "the partner was silent".to_owned(),
            able: true,
            failure: None,
            links_ok: true,
        },
        partner: Some(pair::Partner {
            state: "inactive".to_owned(),
            since_ms: Some(100_000_000),
            reason: Some("handed over".to_owned()),
            role: Some("backup".to_owned()),
            able: Some(true),
            original: false,
            heard_ms: Some(420),
        }),
        paths: vec![path("public", 0), path("private", 1)],
        addresses: vec![address("192.0.0.1/24", "eth0:1"), address("10.0.1.254/24", "eth1:1")],
        child: Some(pair::Child {
            program: "/usr/sbin/lvsd".to_owned(),
            pid: 4242,
            state: "running".to_owned(),
        }),
        syncdaemon: Some("master on eth1".to_owned()),
        reload_error: None,
        keepalive_ms: 500,
        deadtime_ms: 2_000,
        uptime_ms: 300_000_000,
    }
}

/// pulse whose every text is [`HOSTILE`].
#[must_use]
pub fn hostile_pair() -> pair::Status {
    let mut status = pair();
    let text = || HOSTILE.to_owned();
    status.version = text();
    status.file = text();
    status.service = text();
    status.node.role = text();
    status.node.reason = text();
    status.node.failure = Some(text());
    status.reload_error = Some(text());
    status.syncdaemon = Some(text());
    if let Some(partner) = &mut status.partner {
        partner.reason = Some(text());
        partner.role = Some(text());
    }
    for path in &mut status.paths {
        path.name = format!("{HOSTILE}{}", path.name);
        path.local = text();
        path.partner = Some(text());
        path.error = Some(text());
    }
    for address in &mut status.addresses {
        address.address = format!("{HOSTILE}{}", address.address);
        address.label = text();
        address.error = Some(text());
    }
    if let Some(child) = &mut status.child {
        child.program = text();
        child.state = text();
    }
    status
}

/// An lvs.cf of a NAT director with a backup, with so many virtual servers of so many real servers each,
/// named as in [`table`]; and a failover service that is not in use.
#[must_use]
pub fn file(virtuals: usize, servers: usize) -> String {
    let mut text = String::from(
        "serial_no = 17\nprimary = 192.0.2.2\nprimary_private = 10.0.1.1\nservice = lvs\n\
         backup_active = 1\nbackup = 192.0.2.3\nbackup_private = 10.0.1.2\nheartbeat = 1\n\
         heartbeat_port = 539\nkeepalive = 6\ndeadtime = 18\nnetwork = nat\n\
         nat_router = 10.0.1.254 eth1:1\nnat_nmask = 255.255.255.0\ndebug_level = NONE\n",
    );
    for index in 0..virtuals {
        let (high, low) = (index / 250, index % 250 + 1);
        text += &format!(
            "virtual site{index} {{\n     active = 1\n     address = 192.0.{high}.{low} eth0:{index}\n     \
             vip_nmask = 255.255.255.0\n     port = 80\n     send = \"GET / HTTP/1.0\\r\\n\\r\\n\"\n     \
             expect = \"HTTP\"\n     use_regex = 0\n     load_monitor = none\n     scheduler = wlc\n     \
             protocol = tcp\n     timeout = 6\n     reentry = 15\n     quiesce_server = 0\n"
        );
        for number in 0..servers {
            text += &format!(
                "     server rs{number} {{\n         address = 10.{}.{}.{}\n         \
                 active = 1\n         weight = 1\n     }}\n",
                index % 250,
                number / 250,
                number % 250 + 1
            );
        }
        text += "}\n";
    }
    text + "failover db {\n     active = 0\n     address = 192.0.2.200 eth0:900\n     port = 5432\n     \
            send = \"\"\n     expect = \"\"\n     timeout = 10\n     \
            start_cmd = \"/etc/init.d/postgresql start\"\n     \
            stop_cmd = \"/etc/init.d/postgresql stop\"\n}\n"
}

/// Every page, by a name for files; of a site with at least one virtual server of one real server, and
/// a version in its history.
pub const PAGES: [(&str, &str); 19] = [
    ("welcome", "/"),
    ("control", "/secure/control"),
    ("handover", "/secure/handover"),
    ("global", "/secure/global"),
    ("redundancy", "/secure/redundancy"),
    ("virtual", "/secure/virtual"),
    ("virtual-server", "/secure/virtual/1"),
    ("real-servers", "/secure/virtual/1/servers"),
    ("real-server", "/secure/virtual/1/servers/1"),
    ("scripts", "/secure/virtual/1/scripts"),
    ("failover", "/secure/failover"),
    ("failover-service", "/secure/failover/1"),
    ("failover-scripts", "/secure/failover/1/scripts"),
    ("findings", "/secure/findings"),
    ("changes", "/secure/changes"),
    ("history", "/secure/history"),
    ("version", "/secure/history/1"),
    ("password", "/secure/password"),
    ("nothing", "/secure/nothing"),
];
