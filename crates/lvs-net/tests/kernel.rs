//! The network of a real kernel. Needs what the laboratory needs, see `lab`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::{
    io,
    net::{Ipv4Addr, UdpSocket},
    os::fd::{AsFd, AsRawFd},
    time::{Duration, Instant},
};

use lab::{Frame, Lab, Node, PATIENCE};
use lvs_net::{
    Address, AddressChange, ErrorKind, Gateway, LABEL_LIMIT, Link, Netlink, Notice, Watch,
    arp::{self, Packet, REPLY, REQUEST, Socket},
    broadcast_of,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn link(name: &str) -> Link {
    let links = Netlink::open().unwrap().links().unwrap();
    links.into_iter().find(|link| link.name == name).unwrap_or_else(|| panic!("no {name}"))
}

fn address(link: &Link, addr: Ipv4Addr, prefix: u8, label: &str) -> Address {
    Address {
        index: link.index,
        addr,
        prefix,
        broadcast: broadcast_of(addr, prefix),
        label: label.to_owned(),
        secondary: false,
    }
}

fn add(addresses: &[Address]) -> Vec<AddressChange> {
    addresses.iter().cloned().map(AddressChange::Add).collect()
}

fn remove(addresses: &[Address]) -> Vec<AddressChange> {
    addresses.iter().cloned().map(AddressChange::Remove).collect()
}

/// Those of eth0.
fn numbers(kernel: &mut Netlink) -> Vec<String> {
    let all = kernel.addresses().unwrap();
    all.iter().filter(|a| a.interface() == "eth0").map(ToString::to_string).collect()
}

/// A node with eth0 at 10.0.0.1/24.
fn director(lab: &Lab) -> Node {
    lab.node("director").nic("eth0", "lan", &["10.0.0.1/24"]).build()
}

/// What an interface of that name, which may be a label, has by the system calls of ifconfig
/// (netdevice(7)): address, netmask and broadcast address.
fn ifconfig(name: &str) -> io::Result<[Ipv4Addr; 3]> {
    let mut found = [Ipv4Addr::UNSPECIFIED; 3];
    let requests = [libc::SIOCGIFADDR, libc::SIOCGIFNETMASK, libc::SIOCGIFBRDADDR];
    for (place, request) in found.iter_mut().zip(requests) {
        *place = interface_request(name, request)?;
    }
    Ok(found)
}

/// Carries out one of these requests, with flags of zero where it takes flags.
#[allow(unsafe_code)]
fn interface_request(name: &str, request: libc::Ioctl) -> io::Result<Ipv4Addr> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: all zeros are a valid ifreq.
    let mut data: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in data.ifr_name.iter_mut().zip(name.bytes().take(15)) {
        *place = byte.cast_signed();
    }
    // SAFETY: these requests read and write an ifreq, which this is; the descriptor is open. Needed
    // because no crate here has them.
    if unsafe { libc::ioctl(socket.as_raw_fd(), request, &raw mut data) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has filled in an address, or left the zeros, and any bytes are one.
    let octets = unsafe { data.ifr_ifru.ifru_addr.sa_data };
    Ok(Ipv4Addr::from([2, 3, 4, 5].map(|at: usize| octets[at].cast_unsigned())))
}

#[test]
fn addresses_are_those_of_ip_and_ifconfig() {
    let lab = Lab::new("addresses");
    let node = director(&lab);
    node.enter(|| {
        let mut kernel = Netlink::open().unwrap();
        let (eth0, lo) = (link("eth0"), link("lo"));
        let wanted = [
            address(&eth0, ip("10.0.0.100"), 24, "eth0:1"),
            address(&eth0, ip("10.0.0.101"), 32, "eth0:longestnam"),
            address(&eth0, ip("172.16.0.1"), 31, "eth0"),
            address(&lo, ip("127.0.0.2"), 8, "lo:2"),
        ];
        assert_eq!(wanted[1].label.len(), LABEL_LIMIT);
        assert_eq!(kernel.apply(&add(&wanted)), []);

        let found = kernel.addresses().unwrap();
        for address in &wanted {
            let secondary = address.prefix == 24 || address.prefix == 8;
            assert!(found.contains(&Address { secondary, ..address.clone() }), "{found:#?}");
        }
        let all = [ip("10.0.0.100"), ip("255.255.255.0"), ip("10.0.0.255")];
        assert_eq!(ifconfig("eth0:1").unwrap(), all);
        assert_eq!(ifconfig("eth0:longestnam").unwrap()[0], ip("10.0.0.101"));
        assert_eq!(kernel.apply(&remove(&wanted[3..])), []);

        // By ifconfig's way to remove: eth0:1 down.
        interface_request("eth0:1", libc::SIOCSIFFLAGS).unwrap();
        let gone = &kernel.apply(&remove(&wanted[..1]))[0];
        assert_eq!(gone.error.kind(), ErrorKind::Missing, "{}", gone.error);
        assert_eq!(kernel.apply(&add(&wanted[..1])), []);
    });
    let shown = node.run("ip -oneline -4 addr show dev eth0");
    let lines: Vec<Vec<&str>> = shown
        .lines()
        .map(|line| {
            let words = line.split_whitespace().skip(2);
            words.take_while(|word| !word.contains("valid_lft")).collect()
        })
        .collect();
    let line = |text: &'static str| text.split(' ').collect::<Vec<_>>();
    let wanted = [
        "inet 10.0.0.1/24 scope global eth0\\",
        "inet 10.0.0.101/32 scope global eth0:longestnam\\",
        "inet 172.16.0.1/31 scope global eth0\\",
        "inet 10.0.0.100/24 brd 10.0.0.255 scope global secondary eth0:1\\",
    ];
    assert_eq!(lines, wanted.map(line), "{shown}");
    assert!(!node.has_address("lo", "127.0.0.2"));

    node.ip("addr del 10.0.0.101/32 dev eth0 label eth0:longestnam");
    node.ip("addr add 10.0.0.102/24 broadcast + dev eth0 label eth0:2");
    node.enter(|| {
        let mut kernel = Netlink::open().unwrap();
        let theirs = address(&link("eth0"), ip("10.0.0.102"), 24, "eth0:2");
        assert_eq!(kernel.apply(&remove(&[theirs])), []);
        assert_eq!(numbers(&mut kernel), ["10.0.0.1/24", "172.16.0.1/31", "10.0.0.100/24"]);
    });
}

#[test]
fn one_failure_does_not_cost_the_others() {
    let lab = Lab::new("failures");
    let node = director(&lab);
    node.enter(|| {
        let mut kernel = Netlink::open().unwrap();
        let eth0 = link("eth0");
        let nowhere = Link { index: 4711, name: "eth9".to_owned(), ..eth0.clone() };
        let vip = |last, label| address(&eth0, Ipv4Addr::new(10, 0, 0, last), 24, label);
        let changes = [
            AddressChange::Add(vip(100, "eth0:1")),
            AddressChange::Add(vip(100, "eth0:2")),
            AddressChange::Remove(vip(101, "eth0:1")),
            AddressChange::Add(address(&nowhere, ip("10.0.0.102"), 24, "eth9:1")),
            AddressChange::Add(vip(103, "eth0:sixteen-byte")),
            AddressChange::Remove(vip(100, "eth0:2")),
            AddressChange::Remove(Address { prefix: 32, ..vip(100, "eth0:1") }),
            AddressChange::Add(vip(104, "eth0:4")),
        ];
        let failures = kernel.apply(&changes);
        let kinds: Vec<_> = failures.iter().map(|f| (f.index, f.error.kind())).collect();
        let wanted = [
            (1, ErrorKind::Exists),
            (2, ErrorKind::Missing),
            (3, ErrorKind::NoInterface),
            (4, ErrorKind::Invalid),
            (5, ErrorKind::Missing),
            (6, ErrorKind::Missing),
        ];
        assert_eq!(kinds, wanted, "{failures:#?}");
        assert_eq!(
            failures[2].error.to_string(),
            "add 10.0.0.102/24 to eth9 as eth9:1: there is no such interface (any more); it had \
             number 4711"
        );
        assert_eq!(numbers(&mut kernel), ["10.0.0.1/24", "10.0.0.100/24", "10.0.0.104/24"]);
        // A failure in the last place is an answer as well.
        assert_eq!(kernel.apply(&changes[..2]).len(), 2);
        assert_eq!(kernel.apply(&[]), []);
    });
}

#[test]
fn hundreds_of_addresses_at_once() {
    let lab = Lab::new("many");
    let node = director(&lab);
    node.enter(|| {
        let mut kernel = Netlink::open().unwrap();
        let eth0 = link("eth0");
        let mut many: Vec<Address> = (0..=255)
            .map(|last| {
                let addr = Ipv4Addr::new(10, 0, 1, last);
                Address { secondary: last > 0, ..address(&eth0, addr, 22, &format!("eth0:{last}")) }
            })
            .collect();
        let start = Instant::now();
        assert_eq!(kernel.apply(&add(&many)), []);
        let added = start.elapsed();
        let found = kernel.addresses().unwrap();
        let ours: Vec<Address> = found.into_iter().filter(|a| a.prefix == 22).collect();
        assert_eq!(ours, many);
        // All are there already: as many refusals as changes.
        let again = kernel.apply(&add(&many));
        assert_eq!(again.len(), 256);
        assert!(again.iter().all(|f| f.error.kind() == ErrorKind::Exists), "{again:?}");
        // From behind, so that the first does not take the others along.
        many.reverse();
        let start = Instant::now();
        assert_eq!(kernel.apply(&remove(&many)), []);
        println!("256 addresses: added in {added:?}, removed in {:?}", start.elapsed());
        assert_eq!(numbers(&mut kernel), ["10.0.0.1/24"]);
    });
}

#[test]
fn the_first_address_of_a_network_takes_the_others_along_unless_they_are_promoted() {
    let lab = Lab::new("secondaries");
    let node = director(&lab);
    let round = || {
        node.enter(|| {
            let mut kernel = Netlink::open().unwrap();
            let eth0 = link("eth0");
            let vips: Vec<Address> = (1..=3)
                .map(|last| address(&eth0, Ipv4Addr::new(192, 0, 2, last), 24, "eth0:1"))
                .collect();
            assert_eq!(kernel.apply(&add(&vips)), []);
            assert_eq!(kernel.apply(&remove(&vips[..1])), []);
            let left = numbers(&mut kernel);
            // For the next round; what is gone already fails.
            let _ = kernel.apply(&remove(&vips));
            left
        })
    };
    node.sysctl("net.ipv4.conf.all.promote_secondaries", 0);
    node.sysctl("net.ipv4.conf.eth0.promote_secondaries", 0);
    assert_eq!(round(), ["10.0.0.1/24"]);
    node.sysctl("net.ipv4.conf.eth0.promote_secondaries", 1);
    assert_eq!(round(), ["10.0.0.1/24", "192.0.2.2/24", "192.0.2.3/24"]);
}

/// Reads notices until one is as wanted, and returns all that there were.
fn notices_until(watch: &mut Watch, what: &str, wanted: impl Fn(&Notice) -> bool) -> Vec<Notice> {
    let end = Instant::now() + PATIENCE;
    let mut seen = Vec::new();
    while Instant::now() < end {
        readable(watch);
        let notices = watch.read();
        let found = notices.iter().any(&wanted);
        seen.extend(notices);
        if found {
            return seen;
        }
    }
    panic!("{what}: not among {seen:#?}");
}

/// Waits until there is something to read, for a second at most.
fn readable(socket: &impl AsFd) {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::from(1000_u16)).unwrap();
}

fn carrier(name: &'static str, carrier: bool) -> impl Fn(&Notice) -> bool {
    move |notice| match notice {
        Notice::Link(link) => link.name == name && link.up && link.carrier == carrier,
        _ => false,
    }
}

#[test]
fn carriers_of_nics_and_of_what_is_made_of_them() {
    let lab = Lab::new("carriers");
    let node = lab
        .node("director")
        .nic("eth0", "lan", &["10.0.0.1/24"])
        .nic("eth1", "lan", &[])
        .nic("eth2", "lan", &[])
        .ip("link add link eth0 name eth0.5 type vlan id 5")
        .ip("link set eth0.5 up")
        .ip("link set eth1 down")
        .ip("link add bond0 type bond mode active-backup miimon 20")
        .ip("link set eth1 master bond0")
        .ip("link set bond0 up")
        .ip("link add br0 type bridge")
        .ip("link set eth2 master br0")
        .ip("link set br0 up")
        .ip("link add dummy0 type dummy")
        .build();
    let mut watch = node.enter(|| Watch::open().unwrap());
    let mac = node.mac("eth0");
    node.enter(|| {
        // Their carriers come some time after they have been made.
        let end = Instant::now() + PATIENCE;
        let names = ["eth0", "eth0.5", "bond0", "br0"];
        while !names.iter().all(|name| link(name).carrier) {
            assert!(Instant::now() < end, "{:#?}", Netlink::open().unwrap().links());
            notices_until(&mut watch, "a link", |notice| matches!(notice, Notice::Link(_)));
        }
        for name in names {
            assert!(link(name).up && link(name).arp && link(name).mac.is_some(), "{name}");
        }
        assert_eq!(link("eth0").mac, Some(mac));
        let dummy = link("dummy0");
        assert!(!dummy.up && !dummy.carrier && !dummy.arp, "{dummy:?}");
        assert!(link("lo").carrier && !link("lo").arp);
    });

    for (nic, above) in [("eth0", "eth0.5"), ("eth1", "bond0"), ("eth2", "br0")] {
        node.unplug(nic);
        notices_until(&mut watch, &format!("{nic} unplugged"), carrier(above, false));
        node.enter(|| assert!(!link(nic).carrier && !link(above).carrier && link(nic).up));
        node.plug(nic);
        notices_until(&mut watch, &format!("{nic} plugged in"), carrier(above, true));
    }

    node.ip("link set eth0 down");
    let down = |notice: &Notice| match notice {
        Notice::Link(link) => link.name == "eth0" && !link.up && !link.carrier,
        _ => false,
    };
    notices_until(&mut watch, "switched off", down);
}

#[test]
fn notices_of_addresses_and_of_interfaces_that_go() {
    let lab = Lab::new("notices");
    let node = lab
        .node("director")
        .nic("eth0", "lan", &["10.0.0.1/24"])
        .ip("link add br0 type bridge")
        .ip("link add dummy0 type dummy")
        .ip("link set dummy0 master br0")
        .build();
    let (mut watch, eth0, dummy0) =
        node.enter(|| (Watch::open().unwrap(), link("eth0"), link("dummy0")));
    node.ip("addr add 10.0.0.100/24 broadcast 10.0.0.255 dev eth0 label eth0:1");
    node.ip("addr add fd00::1/64 dev eth0 nodad");
    node.ip("addr del 10.0.0.100/24 dev eth0 label eth0:1");
    // The port that leaves its bridge is still there; the bridge says otherwise.
    node.ip("link set dummy0 nomaster");
    node.ip("link del dummy0");
    node.ip("addr add 10.0.0.101/24 dev eth0");
    let vip = Address { secondary: true, ..address(&eth0, ip("10.0.0.100"), 24, "eth0:1") };
    let last = Address {
        addr: ip("10.0.0.101"),
        broadcast: None,
        label: "eth0".to_owned(),
        ..vip.clone()
    };
    let wanted = [
        Notice::AddressAdded(vip.clone()),
        Notice::AddressRemoved(vip),
        Notice::LinkGone { index: dummy0.index, name: "dummy0".to_owned() },
        Notice::AddressAdded(last),
    ];
    let seen = notices_until(&mut watch, "the last address", |notice| *notice == wanted[3]);
    assert_eq!(seen.into_iter().filter(is_no_link).collect::<Vec<_>>(), wanted);
}

/// Carriers come and go in the background.
fn is_no_link(notice: &Notice) -> bool {
    !matches!(notice, Notice::Link(_))
}

#[test]
fn who_reads_too_late_is_told_so_and_of_nothing_older() {
    let lab = Lab::new("overrun");
    let node = director(&lab);
    node.enter(|| {
        let mut kernel = Netlink::open().unwrap();
        let mut watch = Watch::open().unwrap();
        let eth0 = link("eth0");
        let many: Vec<Address> = (0..=255)
            .map(|last| address(&eth0, Ipv4Addr::new(10, 0, 1, last), 32, "eth0:1"))
            .collect();
        // At least half a kilobyte each, and there is room for two megabytes.
        for _ in 0..16 {
            assert_eq!(kernel.apply(&add(&many)), []);
            assert_eq!(kernel.apply(&remove(&many)), []);
        }
        assert_eq!(watch.read(), [Notice::Lost]);
        assert_eq!(kernel.apply(&add(&many[..1])), []);
        let seen: Vec<_> = watch.read().into_iter().filter(is_no_link).collect();
        assert_eq!(seen, [Notice::AddressAdded(many[0].clone())]);
    });
}

#[test]
fn the_default_gateway() {
    let lab = Lab::new("gateway");
    let node = lab
        .node("director")
        .nic("eth0", "lan", &["10.0.0.1/24"])
        .nic("eth1", "other", &["10.1.0.1/24"])
        .build();
    let gateway = || {
        node.enter(|| {
            let found = Netlink::open().unwrap().default_gateway().unwrap();
            found.map(|Gateway { via, index }| {
                let name = if index == link("eth0").index { "eth0" } else { "eth1" };
                (via.to_string(), name)
            })
        })
    };
    let is = |via: &str, nic| Some((via.to_owned(), nic));
    assert_eq!(gateway(), None);
    node.ip("route add 10.9.0.0/16 via 10.0.0.9");
    node.ip("route add default via 10.0.0.7 table 100");
    node.ip("route add unreachable default metric 4000");
    assert_eq!(gateway(), None);
    node.ip("route add default via 10.0.0.254 metric 200");
    assert_eq!(gateway(), is("10.0.0.254", "eth0"));
    node.ip("route add default via 10.1.0.254 metric 100");
    assert_eq!(gateway(), is("10.1.0.254", "eth1"));
    node.ip("route add default via 10.0.0.253");
    assert_eq!(gateway(), is("10.0.0.253", "eth0"));
    node.ip("route replace default nexthop via 10.1.0.9 dev eth1 nexthop via 10.0.0.9 dev eth0");
    assert_eq!(gateway(), is("10.1.0.9", "eth1"));
    // The kernel marks ways through an interface without carrier; the routes stay.
    node.sysctl("net.ipv4.conf.eth1.ignore_routes_with_linkdown", 1);
    node.enter(|| {
        let mut watch = Watch::open().unwrap();
        node.unplug("eth1");
        notices_until(&mut watch, "unplugged", carrier("eth1", false));
    });
    assert_eq!(gateway(), is("10.0.0.9", "eth0"));
}

#[test]
fn frames_go_out_and_packets_come_in_on_one_interface() {
    let lab = Lab::new("arp");
    let node = lab
        .node("director")
        .nic("eth0", "lan", &["10.0.0.1/24"])
        .nic("eth1", "other", &["10.1.0.1/24"])
        .build();
    let router = lab.node("router").nic("eth0", "lan", &["10.0.0.254/24"]).build();
    let capture = node.capture("eth0");
    let (mine, theirs) = (node.mac("eth0"), router.mac("eth0"));
    let (here, elsewhere) = node.enter(|| (open("eth0"), open("eth1")));
    assert_eq!((here.interface(), here.receive().unwrap()), ("eth0", None));

    let frame = arp::gratuitous(ip("10.0.0.254"), theirs, arp::BROADCAST);
    router.enter(|| open("eth0").send(&frame).unwrap());
    let seen = capture.wait(|f| f.source() == theirs && f.arp().is_some(), PATIENCE).unwrap();
    assert_eq!(seen.bytes, frame);
    readable(&here);
    let packet = here.receive().unwrap().expect("what the capture has seen");
    assert_eq!((packet.operation, packet.sender), (REPLY, ip("10.0.0.254")));
    assert_eq!((packet.sender_mac, packet.target), (theirs, packet.sender));
    assert_eq!(elsewhere.receive().unwrap(), None);

    // What it sends itself it does not receive.
    here.send(&arp::gratuitous(ip("10.0.0.100"), mine, arp::BROADCAST)).unwrap();
    capture.wait(|f| f.source() == mine && f.arp().is_some(), PATIENCE).unwrap();
    assert_eq!(here.receive().unwrap(), None);

    node.ip("link set eth0 down");
    let error = here.send(&frame).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Down, "{error}");
    let error = node.enter(|| Socket::open("eth7").unwrap_err());
    assert_eq!(error.kind(), ErrorKind::NoInterface, "{error}");
}

fn open(interface: &str) -> Socket {
    Socket::open(interface).unwrap()
}

#[test]
fn a_probe_is_answered_by_who_has_the_address() {
    let lab = Lab::new("probe");
    let node = director(&lab);
    let peer = lab.node("peer").nic("eth0", "lan", &["10.0.0.2/24", "10.0.0.100/24"]).build();
    let capture = peer.capture("eth0");
    let ask = |address: &str, limit| {
        node.enter(|| arp::conflict(&link("eth0"), ip(address), limit).unwrap())
    };
    assert_eq!(ask("10.0.0.100", PATIENCE), Some(peer.mac("eth0")));
    // Nobody has it; our own is not seen as somebody's.
    for address in ["10.0.0.101", "10.0.0.1"] {
        assert_eq!(ask(address, Duration::from_millis(90)), None, "{address}");
    }
    let probe = |frame: &Frame| frame.arp().filter(|arp| arp.target == ip("10.0.0.101"));
    let last = capture.wait_count(|frame| probe(frame).is_some(), 3, PATIENCE).unwrap();
    let wanted = Packet {
        operation: REQUEST,
        sender_mac: node.mac("eth0"),
        sender: Ipv4Addr::UNSPECIFIED,
        target_mac: [0; 6],
        target: ip("10.0.0.101"),
    };
    assert_eq!(arp::parse(&last.bytes), Some(wanted));

    node.ip("link set eth0 down");
    let error =
        node.enter(|| arp::conflict(&link("eth0"), ip("10.0.0.100"), PATIENCE).unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Down, "{error}");
}
