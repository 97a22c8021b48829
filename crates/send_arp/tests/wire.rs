//! The frame on the wire. Needs what the laboratory needs, see `lab`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use lab::{Lab, PATIENCE};

#[test]
fn one_arp_reply_of_60_bytes() {
    let lab = Lab::new("send_arp");
    let sender = lab.node("director").nic("eth0", "lan", &["10.0.0.1/24"]).nic("eth1", "lan", &[]);
    let sender = sender.build();
    let observer = lab.node("router").nic("eth0", "lan", &["10.0.0.254/24"]).build();
    let capture = observer.capture("eth0");
    let program = env!("CARGO_BIN_EXE_send_arp");
    let said = sender
        .run(format!("{program} -i eth1 10.0.0.100 02:0c:29:a1:b2:c3 10.0.0.255 ffffffffffff"));
    assert_eq!(said, "");
    let arp = |operation: u16| {
        move |frame: &lab::Frame| frame.arp().is_some_and(|arp| arp.operation == operation)
    };
    let frame = capture.wait(arp(2), PATIENCE).unwrap();
    let mut wanted = vec![0xff; 6];
    wanted.extend([0x02, 0x0c, 0x29, 0xa1, 0xb2, 0xc3, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    for _ in 0..2 {
        wanted.extend([0x02, 0x0c, 0x29, 0xa1, 0xb2, 0xc3, 10, 0, 0, 100]);
    }
    wanted.resize(60, 0);
    assert_eq!(frame.bytes, wanted);

    // To one host, by eth0, since none is named. That it is the second shows that one is sent a run.
    sender.run(format!("{program} 10.0.0.101 020000000001 10.0.0.254 020000000002"));
    let frame = capture.wait_count(arp(2), 2, PATIENCE).unwrap();
    assert_eq!((frame.destination(), frame.source()), ([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1]));
    assert_eq!(frame.arp().unwrap().sender.octets(), [10, 0, 0, 101]);
}

#[test]
fn interfaces_that_cannot_send() {
    let lab = Lab::new("send_arp");
    let node = lab.node("director").nic("eth1", "lan", &["10.0.0.1/24"]).build();
    let refused = |options: &str| {
        let program = env!("CARGO_BIN_EXE_send_arp");
        let output = node
            .output(format!("{program} {options} 10.0.0.100 020000000001 10.0.0.255 ffffffffffff"));
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(
        refused(""),
        "send_arp: open a socket for ARP on eth0: there is no such network interface; name another \
         with -i\n"
    );
    node.ip("link set eth1 down");
    assert_eq!(
        refused("-i eth1"),
        "send_arp: send ARP on eth1: the interface is down: switch it on (ip link set … up)\n"
    );
}
