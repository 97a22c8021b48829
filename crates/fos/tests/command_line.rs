//! What fos says and how it ends where it starts nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{Dir, block, finish};
use std::io::pipe;

fn fos(args: &[&str]) -> (i32, String, String) {
    finish(&mut common::fos(args))
}

#[test]
fn command_lines_that_are_refused() {
    let cases: [(&[&str], &str); 9] = [
        (&["x"], "unexpected arguments"),
        (&["--frob"], "bad argument --frob: unknown option"),
        (&["-nx"], "bad argument -x: unknown option"),
        (&["-F", "-c"], "bad argument -c: missing argument"),
        (&[], "Either --monitor (-f) or --active (-F) required!"),
        (&["-n", "-c", "/no/such"], "Either --monitor (-f) or --active (-F) required!"),
        (&["-f", "-F"], "Cannot specifiy both -f and -F!"),
        (&["-nfF"], "Cannot specifiy both -f and -F!"),
        (&["--monitor", "--active"], "Cannot specifiy both -f and -F!"),
    ];
    for (words, message) in cases {
        let (status, stdout, stderr) = fos(words);
        assert_eq!((status, stdout.as_str()), (1, ""), "{words:?}");
        assert_eq!(stderr, format!("fos: {message}\n"), "{words:?}");
    }
}

#[test]
fn files_that_are_refused() {
    let dir = Dir::new("refused");
    let web = block("web", "");
    let cases = [
        ("", "fos: Service type is not \"fos\" in FILE\n"),
        ("service = lvs\n", "fos: Service type is not \"fos\" in FILE\n"),
        ("service = fos\n", "fos: No Failover Services defined in FILE.\n"),
        ("service = fos\nfailover idle {\n}\n", "fos: No Failover Services defined in FILE.\n"),
        (
            "service = fos\nfailover bare {\n active = 1\n}\n",
            "fos: No Failover Services defined in FILE.\n\
             fos: failover service bare: it has no address; left out (add `address = VIP DEVICE`)\n",
        ),
    ];
    for mode in ["--active", "--monitor"] {
        for (text, message) in cases {
            let file = dir.write("lvs.cf", &format!("primary = 10.0.0.1\n{text}"));
            let (status, stdout, stderr) = fos(&[mode, "-n", "-c", &file]);
            assert_eq!((status, stdout.as_str()), (1, ""), "{text}");
            assert_eq!(stderr, message.replace("FILE", &file), "{text}");
        }
        let file = dir.write("bad.cf", "service = fos\nbackup_active = maybe\n");
        let (status, stdout, stderr) = fos(&[mode, "-n", "-c", &file]);
        assert_eq!((status, stdout.as_str()), (1, ""));
        let (first, rest) = stderr.split_once('\n').unwrap();
        assert_eq!(first, format!("fos: error parsing {file} on line 2."));
        assert!(rest.contains(": error: integer expected"), "{stderr}");

        let (status, _, stderr) = fos(&[mode, "-n", "-c", "/no/such.cf"]);
        assert_eq!(status, 1);
        assert!(stderr.starts_with("fos: failed to open /no/such.cf"), "{stderr}");

        let disks = "primary_shared = /dev/sda1\nbackup_shared = /dev/sda1\n";
        let file = dir.write("disks.cf", &format!("service = fos\n{disks}{web}"));
        let (status, stdout, stderr) = fos(&[mode, "-n", "-c", &file]);
        assert_eq!((status, stdout.as_str()), (1, ""));
        assert!(stderr.starts_with("fos: the configuration names a shared SCSI disk"), "{stderr}");
        assert!(stderr.contains("/usr/sbin/scsi_reserve"), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}

#[test]
fn version_and_help() {
    let (status, stdout, stderr) = fos(&["--version"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    let heads: Vec<&str> = stdout.lines().filter_map(|line| line.split('\t').next()).collect();
    assert_eq!(heads, ["Program Version:", "Built:", "A component of:"]);

    let (status, help, _) = fos(&["--help"]);
    assert_eq!(status, 0);
    let options = "-c, --configfile=FILE|-f, --monitor|-F, --active|-n, --nodaemon|--nofork|\
                   -t, --test-start|-v, --verbose|--pidfile=PATH|--version|-?, --help|--usage";
    for option in options.split('|') {
        assert!(help.contains(&format!(" {option} ")), "{option}: {help}");
    }
    assert_eq!(fos(&["-?"]).1, help);
    assert!(fos(&["--usage"]).1.starts_with("Usage: fos [-c|--configfile=FILE] [-f|--monitor]"));
}

#[test]
fn test_start_shows_every_command_and_does_nothing() {
    let dir = Dir::new("test-start");
    let file = dir.write(
        "lvs.cf",
        // 127.0.0.1 is this machine's on every one: it is the primary.
        &[
            "service = fos\nprimary = 127.0.0.1\nbackup = 10.0.0.2\nbackup_active = 1\n",
            &block(
                "db",
                "start_cmd = \"/bin/db  start\"\n stop_cmd = \"/bin/db stop\"\n port = 5432",
            ),
            &block(
                "web",
                "start_cmd = \"/bin/web start\"\n send = \"GET / HTTP/1.0\\r\\n\\r\\n\"\n\
                 expect = \"HTTP\"\n timeout = 6\n client_monitor = /opt/monitor",
            ),
            "failover idle {\n address = 10.0.0.101 eth0:2\n start_cmd = \"/bin/idle start\"\n}\n",
            "failover bare {\n active = 1\n start_cmd = \"/bin/bare start\"\n}\n",
        ]
        .concat(),
    );
    let bare =
        "fos: failover service bare: it has no address; left out (add `address = VIP DEVICE`)\n";
    let stop_db = "fos: running command \"/bin/db\" \"stop\"\n";
    let active = [
        bare,
        "fos: starting service db 10.0.0.100:5432\n",
        stop_db,
        "fos: running command \"/bin/db\" \"start\"\n",
        "fos: starting service web 10.0.0.100:80\n",
        "fos: running command \"/bin/web\" \"start\"\n",
    ]
    .concat();
    let monitor = [
        bare,
        stop_db,
        "fos: watching service db 10.0.0.100:5432\n",
        "fos: running command \"/usr/sbin/nanny\" \"-c\" \"-h\" \"10.0.0.100\" \"-p\" \"5432\" \"-t\" \
         \"10\" \"-V\" \"10.0.0.2\" \"--fos\"\n",
        "fos: watching service web 10.0.0.100:80\n",
        "fos: running command \"/opt/monitor\" \"-c\" \"-h\" \"10.0.0.100\" \"-p\" \"80\" \"-s\" \
         \"GET / HTTP/1.0\\r\\n\\r\\n\" \"-x\" \"HTTP\" \"-t\" \"6\" \"-V\" \"10.0.0.2\" \"--fos\"\n",
    ]
    .concat();
    for test in ["-t", "--test-start"] {
        for (mode, wanted) in [("-F", &active), ("-f", &monitor)] {
            let (status, stdout, stderr) = fos(&[test, mode, "-c", &file]);
            assert_eq!((status, stderr.as_str()), (0, ""), "{mode}");
            assert_eq!(&stdout, wanted, "{mode}");
        }
    }
}

#[test]
fn a_reader_that_has_gone_is_no_disaster() {
    let dir = Dir::new("pipe");
    let good = dir.write("good.cf", &format!("service = fos\n{}", block("web", "")));
    for (words, status) in
        [(&["-t", "-F", "-c", &good][..], 0), (&["-F", "-c", "/no/such"], 1), (&["--help"], 0)]
    {
        let (reader, stdout) = pipe().unwrap();
        drop(reader);
        let mut command = common::fos(words);
        command.stderr(stdout.try_clone().unwrap()).stdout(stdout);
        // Killed by no signal, and not by the 101 of a panic.
        assert_eq!(command.status().unwrap().code(), Some(status), "{words:?}");
    }
}
