//! What pulse says and how it ends where it does not become a node of a pair.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A directory of a test's own, removed at its end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pulse-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, text: &str) -> String {
        let path = self.0.join("lvs.cf");
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // What stays is in the directory for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs it to its end: exit status, standard output, standard error.
fn pulse(args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pulse"));
    let output = command.args(args).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    let status = output.status.code();
    let status = status.unwrap_or_else(|| panic!("{args:?}: {}: {stderr}", output.status));
    (status, stdout, stderr)
}

/// Every machine bears 127.0.0.1, and none an address of TEST-NET-3 (RFC 5737).
const MASTER: &str = "primary = 127.0.0.1\nbackup = 203.0.113.2\nbackup_active = 1\n";
const BACKUP: &str = "primary = 203.0.113.1\nbackup = 127.0.0.1\n";
const WEB: &str = "virtual web {\n active = 1\n address = 203.0.113.100 lo:1\n vip_nmask = \
                   255.255.255.0\n port = 80\n}\n";

#[test]
fn the_command_line_as_popt_reads_it() {
    let cases: [(&[&str], &str); 4] = [
        (&["--x"], "pulse: bad argument --x: unknown option\n"),
        (&["-nx"], "pulse: bad argument -x: unknown option\n"),
        (&["-c"], "pulse: bad argument -c: missing argument\n"),
        (&["-n", "start"], "pulse: unexpected arguments\n"),
    ];
    for (args, said) in cases {
        assert_eq!(pulse(args), (1, String::new(), said.to_owned()), "{args:?}");
    }
    let (status, help, _) = pulse(&["--help"]);
    assert_eq!(status, 0);
    for option in [
        "-c, --configfile=FILE",
        "-n, --nodaemon",
        "-t, --test-start",
        "--norun",
        "-v, --verbose",
        "--forceactive",
        "--lvsd=PATH",
        "--fos=PATH",
        "--version",
    ] {
        assert!(help.contains(option), "{option} in {help}");
    }
    let (status, version, _) = pulse(&["--version"]);
    assert_eq!((status, version.lines().count()), (0, 3));
    assert!(pulse(&["--usage"]).1.starts_with("Usage: pulse"));
}

#[test]
fn files_that_are_refused() {
    let dir = Dir::new("refused");
    let missing = dir.0.join("missing.cf").to_str().unwrap().to_owned();
    let (status, stdout, stderr) = pulse(&["-n", "-c", &missing]);
    assert_eq!((status, stdout.as_str()), (1, ""));
    assert!(stderr.starts_with(&format!("pulse: failed to open {missing}")), "{stderr}");

    let file = dir.write("primary = 127.0.0.1\nbackup_activ = 1\n");
    let (status, _, stderr) = pulse(&["-n", "-c", &file]);
    let first = format!("pulse: error parsing {file} at line 2: unknown command\n");
    assert_eq!(status, 1);
    assert!(stderr.starts_with(&first), "{stderr}");
    assert!(stderr.contains("backup_active"), "a hint: {stderr}");

    for (service, blocks) in [
        ("lvs", ""),
        ("lvs", "virtual web {\n active = 0\n address = 203.0.113.100 lo:1\n}\n"),
        ("fos", WEB),
    ] {
        let file = dir.write(&format!("{MASTER}service = {service}\n{blocks}"));
        let (status, _, stderr) = pulse(&["-n", "-c", &file]);
        assert_eq!(status, 1);
        assert_eq!(stderr, format!("pulse: no active {service} services defined in {file}\n"));
    }
}

#[test]
fn a_node_that_is_neither_primary_nor_backup() {
    let dir = Dir::new("stranger");
    let file = dir.write(&format!(
        "primary = 203.0.113.1\nbackup = 203.0.113.2\nbackup_active = 1\nheartbeat_port = 50539\n{WEB}"
    ));
    let (status, stdout, stderr) = pulse(&["-n", "-c", &file]);
    assert_eq!((status, stdout.as_str()), (1, ""));
    let mut lines = stderr.lines();
    assert_eq!(lines.next(), Some("pulse: cannot create heartbeat socket. running as root?"));
    let why = lines.next().unwrap();
    assert!(why.contains("203.0.113.2") && why.contains("primary or the backup"), "{why}");
}

#[test]
fn a_backup_that_is_marked_inactive() {
    let dir = Dir::new("inactive");
    for marked in ["backup_active = 0\n", ""] {
        let file = dir.write(&format!("{BACKUP}{marked}{WEB}"));
        let (status, stdout, _) = pulse(&["-n", "-c", &file]);
        assert_eq!(status, 1);
        assert_eq!(
            stdout,
            "pulse: STARTING PULSE AS BACKUP\npulse: We are backup node and backup is marked \
             inactive -- exiting pulse\n"
        );
    }
    // Marked active, but without an address, it is the same with a word more.
    let file = dir.write(&format!("primary = 203.0.113.1\nbackup_active = 1\n{WEB}"));
    let (status, stdout, _) = pulse(&["-n", "-c", &file]);
    assert_eq!(status, 1);
    assert!(stdout.contains("there is no backup address"), "{stdout}");
}

#[test]
fn what_would_be_done() {
    let dir = Dir::new("test");
    let file = dir.write(&format!(
        "{MASTER}keepalive = 6\ndeadtime = 18\nsyncdaemon = 1\nsyncd_iface = eth7\n\
         active_cmd = \"/bin/echo  up\"\n\
         nat_router = 203.0.113.254 nosuch0:1\nnat_nmask = 255.255.255.128\n{WEB}"
    ));
    for option in ["-t", "--norun"] {
        let (status, stdout, stderr) = pulse(&[option, "-c", &file, "--lvsd", "/opt/lvsd", "-v"]);
        assert_eq!((status, stderr.as_str()), (0, ""));
        let lines: Vec<&str> = stdout.lines().collect();
        let want = [
            "pulse: STARTING PULSE AS MASTER".to_owned(),
            "pulse: heartbeat public: from 127.0.0.1 to 203.0.113.2, port 539, every 6000 ms, dead \
             after 18000 ms"
                .to_owned(),
            "pulse: when active: running command \"/bin/echo\" \"up\"".to_owned(),
            format!(
                "pulse: when active: running command \"/opt/lvsd\" \"--nofork\" \"-c\" \"{file}\" \
                 \"-v\""
            ),
            "pulse: when active: sync daemon as master on eth7, else as backup; id 0".to_owned(),
            "pulse: when active: 203.0.113.254/25 on nosuch0:1, but there is no interface nosuch0"
                .to_owned(),
            "pulse: when active: 203.0.113.100/24 on lo:1".to_owned(),
        ];
        assert_eq!(lines, want);
    }
}

#[test]
fn a_shared_disk_that_nobody_reserves() {
    if std::path::Path::new("/usr/sbin/scsi_reserve").exists() {
        return;
    }
    let dir = Dir::new("shared");
    let block = WEB.replace("virtual", "failover");
    let file = dir.write(&format!(
        "{MASTER}service = fos\nprimary_shared = /dev/sda\nbackup_shared = /dev/sda\n{block}"
    ));
    let (status, _, stderr) = pulse(&["-n", "-c", &file]);
    assert_eq!(status, 1);
    assert!(stderr.contains("/usr/sbin/scsi_reserve"), "{stderr}");
}
