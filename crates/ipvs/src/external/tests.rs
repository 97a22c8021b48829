//! What ipvsadm 1.31 prints on Linux 6.1 is understood; anything else is survived.

use proptest::prelude::*;

use super::parse;
use super::*;
use crate::types::{Family, Forwarding, Protocol, ServiceKey};

const SAVED: &str = "\
-A -t 10.0.0.1:0 -s sh -p 10 -b sh-fallback,sh-port
-A -t 10.0.0.1:80 -s wlc -p 60 -M 255.255.255.0
-a -t 10.0.0.1:80 -r [fd00::9]:80 -i -w 1 --tun-type ipip
-a -t 10.0.0.1:80 -r 10.0.0.2:80 -g -w 0
-a -t 10.0.0.1:80 -r 10.0.0.2:8080 -m -w 3
-a -t 10.0.0.1:80 -r 10.0.0.4:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-csum
-a -t 10.0.0.1:80 -r 10.0.0.5:80 -i -w 1 --tun-type gre
-A -u 10.0.0.1:53 -s rr -o
-A -u 10.0.0.1:5060 -s rr -p 60 --pe sip
-A --sctp-service 10.0.0.1:99 -s mh -b mh-port
-A -t [fd00::1]:80 -s wrr -p 77 -M 64
-a -t [fd00::1]:80 -r [fd00::2]:80 -m -w 1
-A -f 7 -s wrr -b flag-3
-a -f 7 -r 10.0.0.2:0 -m -w 1
-A -f 7 -6 -s lc -p 360
-a -f 7 -6 -r [fd00::2]:80 -m -w 1
";

fn web() -> ServiceKey {
    let addr = "10.0.0.1".parse().unwrap();
    ServiceKey::Address { protocol: Protocol::Tcp, addr, port: 80 }
}

/// What ipvsadm saves is what we would run: reading it and spelling it out again gives the same
/// lines, but for two words that say what is so anyway.
#[test]
fn a_saved_table_is_read_and_spelled_out_again() {
    let table = parse::save(SAVED).unwrap();
    let mut lines = String::new();
    for change in crate::plan(&[], &table) {
        lines += &change.ipvsadm_args().join(" ");
        lines.push('\n');
    }
    assert_eq!(lines, SAVED.replace(" --tun-type ipip", "").replace(" --tun-nocsum", ""));
}

#[test]
fn noise_is_passed_over_and_nonsense_is_named() {
    let noisy = format!("wrapper: asking the other host\n\n# {SAVED}");
    assert_eq!(parse::save(&noisy).unwrap().len(), 7);
    let table = [
        ("-A -t 10.0.0.1:http -s rr", "at line 1"),
        ("-A -f 1 -s rr\n-a -f 2 -r 10.0.0.1:80 -m -w 1", "at line 2"),
        ("-A -f 1 -s rr\n-a -f 1 -r 10.0.0.1:80 -m -w", "at line 2"),
        ("-A -f 1 -s rr --newer-option 3", "--newer-option"),
        ("-A -t 10.0.0.1:80", "at line 1"),
        ("-A -t 10.0.0.1:80 -s rr -p 10 -M 24", "at line 1"),
        ("-A -t 10.0.0.1:80 -s ../../rr", "at line 1"),
        ("-A --xxx-service 10.0.0.1:80 -s rr", "at line 1"),
    ];
    for (text, expected) in table {
        let misread = parse::save(text).unwrap_err().to_string();
        assert!(misread.contains(expected), "{misread}");
    }
}

#[test]
fn lists_are_read_by_column() {
    let list = parse::list(
        "IP Virtual Server version 1.2.1 (size=4096)\n\
         Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn \n  \
           -> RemoteAddress:Port\n\
         TCP  10.0.0.1:80 wlc persistent 60 mask 255.255.255.0\n  \
           -> 10.0.0.2:8080                100        50         7          8         \n\
         FWM  7 IPv6                              1    12345K     3M        4G        5T\n  \
           -> [fd00::2]:80                        6        7        8        9       10\n",
    )
    .unwrap();
    let server = "10.0.0.2:8080".parse().unwrap();
    assert_eq!(list.server(&web(), &server), [100, 50, 7, 8, 0]);
    let six = ServiceKey::Fwmark { mark: 7, family: Family::Inet6 };
    assert_eq!(list.service(&six), [1, 12_345_000, 3_000_000, 4_000_000_000, 5_000_000_000_000]);
    assert_eq!(list.server(&six, &"[fd00::2]:80".parse().unwrap()), [6, 7, 8, 9, 10]);
    assert_eq!(list.service(&ServiceKey::Fwmark { mark: 8, family: Family::Inet }), [0; 5]);
    let all = ServiceKey::Fwmark { mark: u32::MAX, family: Family::Inet };
    for mark in ["-1", "4294967295"] {
        assert_eq!(parse::list(&format!("FWM  {mark} 3 4")).unwrap().service(&all)[..2], [3, 4]);
    }
    assert!(parse::list("  -> 10.0.0.2:80 1 2 3").is_err());
    assert!(parse::list("TCP  www:http wlc").is_err());
}

#[test]
fn the_rest_is_read() {
    let info = parse::info("x\nIP Virtual Server version 1.2.1 (size=4096)\n").unwrap();
    assert_eq!((info.version, info.table_size), ((1, 2, 1), 4096));
    assert_eq!(info.to_string(), "IP Virtual Server version 1.2.1 (size=4096)");
    assert!(parse::info("IP Virtual Server version 1.2 (size=4096)").is_err());
    assert_eq!(
        parse::timeouts("Timeout (tcp tcpfin udp): 900 120 300\n"),
        Ok(Timeouts { tcp: 900, tcp_fin: 120, udp: 300 })
    );
    assert!(parse::timeouts("Timeout (tcp tcpfin udp): 900 -1 300\n").is_err());
    let daemons = parse::daemons(
        "master sync daemon (mcast=eth1, syncid=5)\n\
         backup sync daemon (mcast=eth0.2, syncid=6, maxlen=1024, group=ff02::81, port=9999, ttl=3)\n",
    )
    .unwrap();
    let commands: Vec<_> =
        daemons.into_iter().map(|d| Change::StartDaemon(d).ipvsadm_args().join(" ")).collect();
    assert_eq!(
        commands,
        [
            "--start-daemon master --mcast-interface eth1 --syncid 5",
            "--start-daemon backup --mcast-interface eth0.2 --syncid 6 --sync-maxlen 1024 \
             --mcast-group ff02::81 --mcast-port 9999 --mcast-ttl 3",
        ]
    );
}

/// A stand-in for ipvsadm.
fn program(script: &str) -> (Ipvsadm, std::path::PathBuf) {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("ipvs-test-{}-{number}", std::process::id());
    let directory = std::env::temp_dir().join(name);
    std::fs::create_dir(&directory).unwrap();
    let path = directory.join("ipvsadm");
    // Written by another process: a program that this one, or a child that another thread forks,
    // has open for writing cannot be run.
    let text = format!("#!/bin/sh\n{script}\n");
    let status = std::process::Command::new("/bin/sh")
        .args(["-c", "printf %s \"$1\" >\"$2\"", "sh", &text])
        .arg(&path)
        .status()
        .unwrap();
    assert!(status.success());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    (Ipvsadm::new(&path), directory)
}

#[test]
fn each_change_is_one_run_of_the_program_and_failures_are_explained() {
    let (mut table, directory) = program(
        "echo \"$@\" >>\"${0%/*}/log\"\n\
         case $* in *-r*) echo 'No such destination' >&2; exit 255;; -C) kill -9 $$;; esac",
    );
    let mut server = Destination::new("10.0.0.2".parse().unwrap(), 80, Forwarding::Masquerade, 1);
    let edit = Change::EditDestination(web(), server);
    server.lower_threshold = 1;
    let senseless = Change::AddDestination(web(), server);
    let failures = table.apply(&[Change::Zero(None), edit, senseless, Change::Flush]);
    let log = std::fs::read_to_string(directory.join("log")).unwrap();
    assert_eq!(log, "-Z\n-e -t 10.0.0.1:80 -r 10.0.0.2:80 -m -w 1\n-C\n");
    let path = directory.join("ipvsadm");
    let path = path.display();
    let told: Vec<_> =
        failures.iter().map(|f| (f.index, f.error.kind(), f.error.to_string())).collect();
    assert_eq!(
        told,
        [
            (
                1,
                ErrorKind::NoSuchDestination,
                format!(
                    "edit server 10.0.0.2:80 of TCP 10.0.0.1:80: there is no such server in that \
                     virtual service ({path}: status 255: No such destination)"
                )
            ),
            (
                2,
                ErrorKind::Invalid,
                "add server 10.0.0.2:80 to TCP 10.0.0.1:80: the lower connection threshold is \
                 above the upper one"
                    .to_owned()
            ),
            (3, ErrorKind::Program, format!("clear the table: {path}: killed by signal 9: ")),
        ]
    );
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_program_that_is_missing_or_hangs_is_an_error() {
    let mut none = Ipvsadm::new("/nonexistent/ipvsadm");
    let error = none.read().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Program);
    assert!(error.to_string().contains("/nonexistent/ipvsadm"), "{error}");
    let (table, directory) = program("exec sleep 1000");
    let mut table = table.with_time_limit(Duration::from_millis(200));
    let failures = table.apply(&[Change::Flush]);
    assert_eq!(failures[0].error.kind(), ErrorKind::TimedOut);
    assert!(failures[0].error.is_uncertain());
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_kernel_without_ipvs_is_recognised() {
    for (said, kind) in [
        ("Can't initialize ipvs: Protocol not available", ErrorKind::NoIpvs),
        ("Can't initialize ipvs: Permission denied (you must be root)", ErrorKind::NotPermitted),
    ] {
        let (mut table, directory) = program(&format!("echo \"{said}\" >&2; exit 2"));
        assert_eq!(table.read().unwrap_err().kind(), kind);
        assert_eq!(table.apply(&[Change::Flush])[0].error.kind(), kind);
        std::fs::remove_dir_all(directory).unwrap();
    }
}

proptest! {
    #[test]
    fn any_text_is_survived(text in any::<String>()) {
        let _ = parse::save(&text);
        let _ = parse::list(&text);
        let _ = parse::info(&text);
        let _ = parse::timeouts(&text);
        let _ = parse::daemons(&text);
    }

    #[test]
    fn any_words_of_ours_are_survived(words in prop::collection::vec(prop::sample::select(vec![
        "-A", "-a", "-t", "-u", "-f", "-6", "-s", "-p", "-M", "-r", "-m", "-i", "-w", "-b", "-o",
        "10.0.0.1:80", "[fd00::1]:80", "7", "rr", "99999999999999999999", "\n", "TCP", "FWM",
        "IPv6", "->", "master sync daemon (", "mcast=", ")", "--tun-type", "gue", "255.0.0.0",
    ]), 0..40)) {
        let text = words.join(" ");
        let _ = parse::save(&text);
        let _ = parse::list(&text);
        let _ = parse::daemons(&text);
    }
}
