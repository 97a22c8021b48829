//! The laboratory tries itself: what other tests take for granted.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

use std::{
    collections::BTreeMap,
    fs,
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    os::unix::net::UnixDatagram,
    process::Command,
    time::{Duration, Instant},
};

use lab::{
    Behaviour, Lab, Node, PATIENCE, Site, Stream, UdpBehaviour, direct_site, nat_site, tunnel_site,
};
use nix::sys::signal::Signal;

/// Long enough for what must not come.
const MOMENT: Duration = Duration::from_millis(300);

/// A client and a server on one segment.
fn pair(name: &str) -> (Node, Node, Lab) {
    let lab = Lab::new(name);
    let client = lab.node("client").nic("eth0", "lan", &["10.0.0.1/24", "fd00::1/64"]).build();
    let server = lab.node("server").nic("eth0", "lan", &["10.0.0.2/24", "fd00::2/64"]).build();
    (client, server, lab)
}

fn connect(node: &Node, address: &str, limit: Duration) -> std::io::Result<TcpStream> {
    let address: SocketAddr = address.parse().unwrap();
    node.enter(|| TcpStream::connect_timeout(&address, limit))
}

/// All that comes on a connection until it ends.
fn rest(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).map(|_| bytes)
}

fn balances(site: &Site, option: &str) {
    site.activate(0);
    let _web = site.web(80);
    let (director, vip) = (&site.directors[0], site.vip);
    director.run(format!("ipvsadm -A -t {vip}:80 -s rr"));
    let mut shown = format!("tcp {vip}:80 rr\n");
    let word = match option {
        "-m" => "masq",
        "-g" => "route",
        _ => "tunnel",
    };
    for k in 1..=site.servers.len() {
        let server = format!("10.0.0.{}:80", 20 + k);
        director.run(format!("ipvsadm -a -t {vip}:80 -r {server} {option} -w {k}"));
        shown += &format!("  {server} {word} {k}\n");
    }
    assert_eq!(director.table().to_string(), shown);
    let spread = site.spread(80, 3 * site.servers.len());
    let wanted: BTreeMap<String, usize> =
        site.servers.iter().map(|server| (server.name().to_owned(), 3)).collect();
    assert_eq!(spread, wanted);
    // And nobody else answers for the address when the director gives it up.
    director.run("ipvsadm -C");
    site.deactivate(0);
    site.client.ip("neigh flush all");
    assert!(connect(&site.client, &format!("{vip}:80"), MOMENT).is_err());
}

#[test]
fn a_nat_site_balances() {
    balances(&nat_site(3), "-m");
}

#[test]
fn a_direct_site_balances() {
    balances(&direct_site(3), "-g");
}

#[test]
fn a_tunnel_site_balances() {
    balances(&tunnel_site(3), "-i");
}

#[test]
fn each_behaviour_is_what_it_says() {
    let (client, server, _lab) = pair("behaviours");
    let web = server.tcp_server("10.0.0.2:80", Behaviour::http("hello"));
    let url = "http://10.0.0.2/x";
    let response = client.get(url).unwrap();
    assert_eq!((response.status, response.body.as_str()), (200, "hello"));
    assert_eq!(web.last_request(), b"GET /x HTTP/1.0\r\nHost: 10.0.0.2\r\n\r\n");

    web.set(Behaviour::http_status("503 Service Unavailable", "no"));
    assert_eq!(client.get(url).unwrap().status, 503);

    web.set(Behaviour::Trickle(b"HTTP/1.0 200 OK\r\n\r\nslow".to_vec(), Duration::from_millis(2)));
    let begun = Instant::now();
    assert_eq!(client.get(url).unwrap().body, "slow");
    assert!(begun.elapsed() >= Duration::from_millis(2 * 23), "{:?}", begun.elapsed());

    web.set(Behaviour::Banner(b"220 ready\r\n".to_vec()));
    let mut stream = connect(&client, "10.0.0.2:80", PATIENCE).unwrap();
    assert_eq!(rest(&mut stream).unwrap(), b"220 ready\r\n");

    web.set(Behaviour::Echo);
    let mut stream = connect(&client, "10.0.0.2:80", PATIENCE).unwrap();
    stream.write_all(b"one two").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(rest(&mut stream).unwrap(), b"one two");

    web.set(Behaviour::CloseEarly);
    let mut stream = connect(&client, "10.0.0.2:80", PATIENCE).unwrap();
    assert_eq!(rest(&mut stream).unwrap(), b"");

    web.set(Behaviour::Reset);
    let broken_off = connect(&client, "10.0.0.2:80", PATIENCE).and_then(|mut s| rest(&mut s));
    assert_eq!(broken_off.unwrap_err().kind(), ErrorKind::ConnectionReset);

    web.set(Behaviour::Hang);
    let seen = web.requests();
    let mut stream = connect(&client, "10.0.0.2:80", PATIENCE).unwrap();
    stream.write_all(b"anybody?").unwrap();
    web.wait_requests(seen + 1, PATIENCE).unwrap();
    stream.set_read_timeout(Some(MOMENT)).unwrap();
    assert_eq!(stream.read(&mut [0; 9]).unwrap_err().kind(), ErrorKind::WouldBlock);

    web.set(Behaviour::Deaf);
    let seen = web.connections();
    let error = connect(&client, "10.0.0.2:80", MOMENT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert_eq!(web.connections(), seen);

    web.stop();
    let error = connect(&client, "10.0.0.2:80", PATIENCE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);

    web.set(Behaviour::http("again"));
    web.start();
    assert_eq!(client.get(url).unwrap().body, "again");
    web.wait_connections(seen + 1, PATIENCE).unwrap();
    let complaint = web.wait_connections(seen + 2, MOMENT).unwrap_err();
    assert!(complaint.to_string().contains("connections instead of"), "{complaint}");
}

#[test]
fn a_thousand_servers_have_one_thread() {
    let lab = Lab::new("thousand");
    let client = lab
        .node("client")
        .nic("eth0", "lan", &["10.0.0.1/24"])
        .route("10.1.0.0/16 via 10.0.0.2")
        .build();
    let farm = lab
        .node("farm")
        .nic("eth0", "lan", &["10.0.0.2/24"])
        .route("local 10.1.0.0/16 dev lo")
        .build();
    let ip = |k: u16| IpAddr::V4(Ipv4Addr::from(0x0a01_0000 + u32::from(k)));
    let addresses: Vec<SocketAddr> = (1..=1000).map(|k| SocketAddr::new(ip(k), 80)).collect();
    let servers = farm.tcp_servers(&addresses, Behaviour::Banner(b"hi".to_vec()));

    let limit = PATIENCE;
    let streams: Vec<TcpStream> = client.enter(|| {
        addresses.iter().map(|a| TcpStream::connect_timeout(a, limit).unwrap()).collect()
    });
    servers.wait_connections(1000, PATIENCE).unwrap();
    assert!((1..=1000).all(|k| servers.connections_at(ip(k)) == 1));
    drop(streams);

    servers.stop_at(ip(7));
    servers.set_at(ip(8), Behaviour::Deaf);
    servers.set_at(ip(9), Behaviour::CloseEarly);
    let kind = |address, limit| connect(&client, address, limit).unwrap_err().kind();
    assert_eq!(kind("10.1.0.7:80", PATIENCE), ErrorKind::ConnectionRefused);
    assert_eq!(kind("10.1.0.8:80", MOMENT), ErrorKind::TimedOut);
    let mut other = connect(&client, "10.1.0.9:80", PATIENCE).unwrap();
    assert_eq!(rest(&mut other).unwrap(), b"");
    servers.start_at(ip(7));
    let mut back = connect(&client, "10.1.0.7:80", PATIENCE).unwrap();
    assert_eq!(rest(&mut back).unwrap(), b"hi");
}

#[test]
fn udp_servers_answer_or_not() {
    let (client, server, _lab) = pair("udp");
    let mut dns = server.udp_server("10.0.0.2:53", UdpBehaviour::Answer(b"yes".to_vec()));
    let socket = client.enter(|| UdpSocket::bind("10.0.0.1:0")).unwrap();
    socket.connect("10.0.0.2:53").unwrap();
    let ask = |limit| -> std::io::Result<Vec<u8>> {
        let mut buffer = [0; 16];
        socket.set_read_timeout(Some(limit))?;
        socket.send(b"q?")?;
        socket.recv(&mut buffer).map(|length| buffer[..length].to_vec())
    };
    assert_eq!(ask(PATIENCE).unwrap(), b"yes");
    assert_eq!(dns.last_request(), b"q?");
    dns.set(UdpBehaviour::Echo);
    assert_eq!(ask(PATIENCE).unwrap(), b"q?");
    dns.set(UdpBehaviour::Silent);
    assert_eq!(ask(MOMENT).unwrap_err().kind(), ErrorKind::WouldBlock);
    dns.wait_requests(3, PATIENCE).unwrap();
    dns.stop();
    assert_eq!(ask(PATIENCE).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    dns.set(UdpBehaviour::Echo);
    dns.start();
    assert_eq!(ask(PATIENCE).unwrap(), b"q?");
}

#[test]
fn nginx_speaks_https_to_curl_and_wget() {
    let (client, server, _lab) = pair("https");
    let _nginx = server.nginx("10.0.0.2:443", "this is server");
    assert_eq!(client.run("curl -sk https://10.0.0.2/"), "this is server");
    let answer = client.run("wget -q -O - --no-check-certificate https://10.0.0.2/");
    assert_eq!(answer, "this is server");
    let head = client.run("curl -skI --http1.1 https://10.0.0.2/");
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
}

#[test]
fn programs_are_watched_line_by_line() {
    let (client, _server, _lab) = pair("programs");
    client.shell("mkfifo /run/fifo");
    let mut script = Command::new("sh");
    script.arg("-c").arg(
        // Reading and writing a fifo, it never comes to its end.
        "exec 9<>/run/fifo; echo one; echo two >&2; echo two; trap 'echo bye; exit 3' TERM;
         cat <&9 & echo ready; wait",
    );
    let running = client.spawn(script);
    assert_eq!(running.wait_for("one", PATIENCE).unwrap().text, "one");
    running.wait_count("two", 2, PATIENCE).unwrap();
    running.wait_for("ready", PATIENCE).unwrap();
    assert!(running.is_running());
    assert_eq!(client.processes().len(), 2, "the shell and cat");
    let complaint = running.wait_for("three", MOMENT).unwrap_err().to_string();
    assert!(complaint.contains("it still runs") && complaint.contains("ready"), "{complaint}");
    assert!(running.wait_exit(MOMENT).is_err());
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait_exit(PATIENCE).unwrap().code(), Some(3));
    // The two streams are read side by side: only within one is there an order.
    let stdout = running.lines().into_iter().filter(|line| line.stream == Stream::Stdout);
    let stdout: Vec<String> = stdout.map(|line| line.text).collect();
    assert_eq!(stdout, ["one", "two", "ready", "bye"]);
    // What it left behind ends with the node.
    client.kill_all();
    assert!(client.processes().is_empty());
    let complaint = running.wait_for("three", PATIENCE).unwrap_err().to_string();
    assert!(complaint.contains("exit status: 3"), "{complaint}");
}

#[test]
fn a_node_has_files_and_limits_of_its_own() {
    let lab = Lab::new("files");
    let make = |name| lab.node(name).private("/etc/sysconfig/ha").build();
    let (one, two) = (make("one"), make("two"));
    one.write("/etc/sysconfig/ha/lvs.cf", "serial_no = 1\n");
    one.run("touch /var/run/pulse.pid");
    assert_eq!(one.run("cat /etc/sysconfig/ha/lvs.cf"), "serial_no = 1\n");
    assert!(!two.output("cat /etc/sysconfig/ha/lvs.cf").status.success());
    assert!(one.path("/run/pulse.pid").exists() && !two.path("/run/pulse.pid").exists());
    assert!(one.enter(|| fs::exists("/run/pulse.pid").unwrap()));
    // (What some drivers have there besides is no interface.)
    let interfaces = one.run("ls /sys/class/net");
    let mut interfaces = interfaces.split_whitespace().filter(|name| *name != "bonding_masters");
    assert_eq!(interfaces.next(), Some("lo"));
    // The laboratory needs many descriptors; what it starts gets the usual limit.
    let own = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    assert_eq!(own.0, own.1);
    let limit: u64 = one.shell("ulimit -n").trim().parse().unwrap();
    assert!(limit <= own.0);
}

#[test]
fn syslog_belongs_to_the_node() {
    let (client, server, _lab) = pair("syslog");
    let log = |node: &Node, line: &str| {
        node.enter(|| {
            let socket = UnixDatagram::unbound().unwrap();
            socket.send_to(line.as_bytes(), "/dev/log").unwrap();
        });
    };
    log(&client, "<30>Nov 23 05:01:02 nanny[42]: making 10.0.0.21:80 available");
    log(&server, "<27>Nov 23 05:01:02 lvsd: something else");
    let line = client.syslog().wait_for("10.0.0.21:80 available", PATIENCE).unwrap();
    assert_eq!((line.ident.as_str(), line.pid, line.severity), ("nanny", Some(42), 6));
    let line = server.syslog().wait(|line| line.ident == "lvsd", PATIENCE).unwrap();
    assert_eq!(line.text, "something else");
    assert_eq!((client.syslog().lines().len(), server.syslog().lines().len()), (1, 1));
    let complaint = client.syslog().wait_count("available", 2, MOMENT).unwrap_err().to_string();
    assert!(complaint.contains("nanny[42]: making"), "{complaint}");
    // And syslog(3) of the C library finds it.
    client.run("logger -p daemon.err -t pulse partner dead");
    let line = client.syslog().wait_for("partner dead", PATIENCE).unwrap();
    assert_eq!((line.ident.as_str(), line.facility, line.severity), ("pulse", 3, 3));
}

#[test]
fn a_capture_sees_arp_and_udp() {
    let (client, server, _lab) = pair("capture");
    let capture = server.capture("eth0");
    let socket = client.enter(|| UdpSocket::bind("10.0.0.1:539")).unwrap();
    socket.send_to(b"beat", "10.0.0.2:539").unwrap();
    let who_has =
        capture.wait(|frame| frame.arp().is_some_and(|arp| arp.operation == 1), PATIENCE).unwrap();
    let arp = who_has.arp().unwrap();
    assert_eq!(arp.sender_mac, client.mac("eth0"));
    assert_eq!((arp.sender, arp.target), (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)));
    assert_eq!(who_has.destination(), [0xff; 6]);
    let answer = |frame: &lab::Frame| frame.arp().is_some_and(|arp| arp.operation == 2);
    assert_eq!(capture.wait(answer, PATIENCE).unwrap().source(), server.mac("eth0"));
    let beat = capture.wait(|frame| frame.udp().is_some(), PATIENCE).unwrap().udp().unwrap();
    assert_eq!((beat.payload.as_slice(), beat.destination.port()), (&b"beat"[..], 539));
    let complaint = capture.wait(|frame| frame.bytes.is_empty(), MOMENT).unwrap_err();
    assert!(complaint.to_string().contains("Arp"), "{complaint}");
}

#[test]
fn cables_and_partitions() {
    let (client, server, _lab) = pair("cables");
    let _web = server.tcp_server("[fd00::2]:80", Behaviour::http("hello"));
    let url = "http://[fd00::2]/";
    let carrier = || client.run("cat /sys/class/net/eth0/carrier");
    assert_eq!(client.get(url).unwrap().body, "hello");
    server.isolate("eth0");
    assert!(connect(&client, "[fd00::2]:80", MOMENT).is_err());
    assert_eq!(carrier(), "1\n");
    server.rejoin("eth0");
    assert_eq!(client.get(url).unwrap().body, "hello");
    client.unplug("eth0");
    assert_eq!(carrier(), "0\n");
    client.plug("eth0");
    assert_eq!(carrier(), "1\n");
    client.wait_address("eth0", "10.0.0.1", true, PATIENCE).unwrap();
    assert!(client.wait_address("eth0", "10.0.0.1", false, MOMENT).is_err());
}

#[test]
fn the_table_is_what_ipvsadm_says() {
    let lab = Lab::new("table");
    let director = lab.node("d1").build();
    director.shell(
        "ipvsadm -A -t 10.0.0.1:80 -s wlc -p 300 -M 255.255.255.0
         ipvsadm -a -t 10.0.0.1:80 -r 10.0.0.21:8080 -m -w 0
         ipvsadm -A -u '[fd00::1]:53' -s rr -o
         ipvsadm -a -u '[fd00::1]:53' -r '[fd00::21]:53' -g -w 70000
         ipvsadm -A -f 7 -s sh
         ipvsadm -a -f 7 -r 10.0.0.21 -i",
    );
    let wanted = "\
fwmark 7 sh
  10.0.0.21:0 tunnel 1
tcp 10.0.0.1:80 wlc persistent 300 mask 255.255.255.0
  10.0.0.21:8080 masq 0
udp [fd00::1]:53 rr ops
  [fd00::21]:53 route 70000
";
    assert_eq!(director.table().to_string(), wanted);
    director.run("ipvsadm -D -f 7");
    director.wait_table(|table| table.services.len() == 2, PATIENCE).unwrap();
    let complaint = director.wait_table(|table| table.services.is_empty(), MOMENT).unwrap_err();
    assert!(complaint.to_string().contains("tcp 10.0.0.1:80 wlc"), "{complaint}");
}
