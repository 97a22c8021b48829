//! What lvsd says and how it ends where it does not get as far as the table.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::{
    fs,
    io::pipe,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A directory of a test's own, removed at its end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lvsd-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.0.join(name), text).unwrap();
        self.path(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // What stays is in the directory for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lvsd"));
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs it to its end: exit status, standard output, standard error.
fn finish(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    let status = output.status.code();
    let status = status.unwrap_or_else(|| panic!("{command:?}: {}: {stderr}", output.status));
    (status, stdout, stderr)
}

fn lvsd(args: &[&str]) -> (i32, String, String) {
    finish(&mut command(args))
}

/// A block for `virtual`, with two servers of which one is active.
fn block(name: &str, keys: &str) -> String {
    format!(
        "virtual {name} {{\n active = 1\n address = 10.0.0.100 eth0:1\n{keys}\n\
         server a {{\n address = 10.0.0.21\n active = 1\n weight = 3\n}}\n\
         server b {{\n address = 10.0.0.22\n active = 0\n}}\n}}\n"
    )
}

#[test]
fn files_that_are_refused() {
    let dir = Dir::new("refused");
    let missing = dir.path("missing.cf");
    let (status, stdout, stderr) = lvsd(&["-n", "-c", &missing]);
    assert_eq!((status, stdout.as_str()), (1, ""));
    assert!(stderr.starts_with(&format!("lvs: failed to open {missing}")), "{stderr}");
    assert!(stderr.contains("No such file or directory"), "{stderr}");

    let (status, _, stderr) = lvsd(&["-n", "-c", &dir.path("")]);
    assert_eq!(status, 1);
    assert!(stderr.starts_with(&format!("lvs: failed to open {}", dir.path(""))), "{stderr}");
    assert!(stderr.contains("Is a directory"), "{stderr}");

    let cases = [
        ("", 0, "Empty configuration"),
        ("\nprimary=1.2.3.4\n", 2, "unknown command"),
        ("keepalive = 6 # x\n", 1, "unexpected arguments"),
        ("keepalive = six\n", 1, "integer expected"),
        ("virtual a {\nactive = 2\n}\n", 2, "boolean expected"),
        ("active_cmd = \"x\n", 1, "quotation mismatch"),
    ];
    for (text, line, message) in cases {
        let file = dir.write("broken.cf", text);
        for start in [&["-n"][..], &["--test-start"], &[], &["--nofork"]] {
            let (status, stdout, stderr) = finish(command(start).args(["-c", &file]));
            assert_eq!((status, stdout.as_str()), (1, ""), "{text:?}");
            let (first, rest) = stderr.split_once('\n').unwrap();
            assert_eq!(first, format!("lvs: error parsing {file} on line {line}."));
            assert!(rest.contains(&format!(": error: {message}")), "{text:?}: {stderr}");
        }
    }
}

#[test]
fn the_file_may_be_named_relative_to_where_lvsd_is_started() {
    let dir = Dir::new("relative");
    dir.write("lvs.cf", "x\n");
    let (status, _, stderr) = finish(command(&["-c", "lvs.cf"]).current_dir(&dir.0));
    assert_eq!(status, 1);
    // The name as it was given, in the line that scripts look for.
    assert!(stderr.starts_with("lvs: error parsing lvs.cf on line 1.\n"), "{stderr}");
}

#[test]
fn command_lines_that_are_refused() {
    let cases: [(&[&str], &str); 7] = [
        (&["x"], "unexpected arguments"),
        (&["-n", "--", "-n"], "unexpected arguments"),
        (&["--frob"], "bad argument --frob: unknown option"),
        (&["--frob=1"], "bad argument --frob: unknown option"),
        (&["-nx"], "bad argument -x: unknown option"),
        (&["-n", "-c"], "bad argument -c: missing argument"),
        (&["--configfile"], "bad argument --configfile: missing argument"),
    ];
    for (words, message) in cases {
        let (status, stdout, stderr) = lvsd(words);
        assert_eq!((status, stdout.as_str()), (1, ""), "{words:?}");
        assert_eq!(stderr, format!("lvs: {message}\n"), "{words:?}");
    }
}

#[test]
fn version_and_help() {
    let (status, stdout, stderr) = lvsd(&["--version"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    let heads: Vec<&str> = stdout.lines().filter_map(|line| line.split('\t').next()).collect();
    assert_eq!(heads, ["Program Version:", "Built:", "A component of:"]);

    let (status, help, _) = lvsd(&["--help"]);
    assert_eq!(status, 0);
    for option in [
        "-c, --configfile=FILE",
        "-n, --nodaemon",
        "--nofork",
        "-t, --test-start",
        "-v, --verbose",
        "--control=PATH",
        "--version",
        "-?, --help",
        "--usage",
    ] {
        assert!(help.contains(&format!(" {option} ")), "{option}: {help}");
    }
    assert_eq!(lvsd(&["-?"]).1, help);
    assert!(lvsd(&["--usage"]).1.starts_with("Usage: lvsd [-c|--configfile=FILE]"));
}

/// A file with every kind of service, forwarded by one method.
fn every_kind(network: &str) -> String {
    [
        format!("network = {network}\nrsh_command = ssh\ntcp_timeout = 900\nudp_timeout = 60\n"),
        block("web", "port = 80\nscheduler = rr"),
        block(
            "https",
            "port = 443\npersistent = 300\npmask = 255.255.255.0\nexpect = \"OK\"\n\
             send_program = \"/etc/check %h\"\nquiesce_server = 1\nload_monitor = uptime\n\
             sorry_server = 10.0.0.99\ntimeout = 6\nreentry = 15",
        ),
        block("dns", "port = 53\nprotocol = udp\nscheduler = wrr\nsend = \"x\\n\"\nexpect = \"y\""),
        block(
            "mark",
            "fwmark = 7\nport = 8080\nscheduler = sh\nclient_monitor = /opt/monitor\n\
             use_regex = 1\nexpect = \"^a b\"",
        ),
        "virtual idle {\n address = 10.0.0.101 eth0:2\n}\n".to_owned(),
        // All the defaults, masks of persistence among them that say nothing.
        block("rest", "port = 81\npersistent = 60\npmask = 255.255.255.255\n"),
    ]
    .concat()
}

#[test]
fn test_start_shows_every_command_and_does_nothing() {
    let dir = Dir::new("test-start");
    for (network, letter) in [("nat", "m"), ("direct", "g"), ("tunnel", "i")] {
        let file = dir.write("lvs.cf", &every_kind(network));
        let nanny = |program: &str, middle: &str| {
            format!("lvs: running command \"{program}\" \"-c\" \"-h\" \"10.0.0.21\" {middle}\n")
        };
        let end = |reentry: u32, timeout: u32| {
            format!(
                "\"-a\" \"{reentry}\" \"-I\" \"/sbin/ipvsadm\" \"-t\" \"{timeout}\" \"-w\" \"3\" \
                 \"-V\" \"10.0.0.100\" \"-M\" \"{letter}\""
            )
        };
        let usual = end(180, 10);
        let wanted = [
            "lvs: running command \"/sbin/ipvsadm\" \"--set\" \"900\" \"0\" \"60\"\n",
            "lvs: running command \"/sbin/ipvsadm\" \"-C\"\n",
            "lvs: starting virtual service web active: 80\n",
            "lvs: running command \"/sbin/ipvsadm\" \"-A\" \"-t\" \"10.0.0.100:80\" \"-s\" \"rr\"\n",
            &nanny("/usr/sbin/nanny", &format!("\"-p\" \"80\" \"-r\" \"80\" {usual} \"--lvs\"")),
            "lvs: starting virtual service https active: 443\n",
            "lvs: running command \"/sbin/ipvsadm\" \"-A\" \"-t\" \"10.0.0.100:443\" \"-s\" \"wlc\" \
             \"-p\" \"300\" \"-M\" \"255.255.255.0\"\n",
            &nanny(
                "/usr/sbin/nanny",
                &format!(
                    "\"-p\" \"443\" \"-r\" \"443\" \"-e\" \"/etc/check %h\" \"-x\" \"OK\" \"-q\" \
                     {} \"-U\" \"ssh\" \"--nodaemon\" \"--lvs\"",
                    end(15, 6)
                ),
            ),
            "lvs: starting virtual service dns active: 53\n",
            "lvs: running command \"/sbin/ipvsadm\" \"-A\" \"-u\" \"10.0.0.100:53\" \"-s\" \"wrr\"\n",
            &nanny(
                "/usr/sbin/nanny",
                &format!(
                    "\"-p\" \"53\" \"-r\" \"53\" \"-u\" \"-s\" \"x\\n\" \"-x\" \"y\" {usual} \"--lvs\""
                ),
            ),
            "lvs: starting virtual service mark active: 8080\n",
            "lvs: running command \"/sbin/ipvsadm\" \"-A\" \"-f\" \"7\" \"-s\" \"sh\"\n",
            &nanny(
                "/opt/monitor",
                &format!(
                    "\"-p\" \"8080\" \"-r\" \"8080\" \"-f\" \"7\" \"-x\" \"^a b\" \"--regex\" {usual} \
                     \"--lvs\""
                ),
            ),
            "lvs: starting virtual service rest active: 81\n",
            "lvs: running command \"/sbin/ipvsadm\" \"-A\" \"-t\" \"10.0.0.100:81\" \"-s\" \"wlc\" \
             \"-p\" \"60\"\n",
            &nanny("/usr/sbin/nanny", &format!("\"-p\" \"81\" \"-r\" \"81\" {usual} \"--lvs\"")),
        ]
        .concat();
        for option in ["--test-start", "-t"] {
            let (status, stdout, stderr) = lvsd(&[option, "-c", &file]);
            assert_eq!((status, stderr.as_str()), (0, ""), "{network}");
            assert_eq!(stdout, wanted, "{network}");
        }
    }
}

#[test]
fn test_start_names_a_program_of_the_operators_own_and_what_is_left_out() {
    let dir = Dir::new("own");
    let text = format!(
        "ipvsadm = /opt/wrap\n{}{}virtual bare {{\n active = 1\n}}\n",
        block("web", ""),
        block("again", "")
    );
    let (status, stdout, _) = lvsd(&["-t", "-v", "-c", &dir.write("lvs.cf", &text)]);
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(status, 0);
    assert_eq!(
        lines[..2],
        [
            "lvs: virtual server again: TCP 10.0.0.100:80 belongs to another block already; left out",
            "lvs: virtual server bare: it has no address; left out (add `address = VIP DEVICE`)",
        ]
    );
    assert_eq!(lines[2], "lvs: running command \"/opt/wrap\" \"-C\"");
    assert_eq!(
        lines[4],
        "lvs: running command \"/opt/wrap\" \"-A\" \"-t\" \"10.0.0.100:80\" \"-s\" \"wlc\""
    );
    assert!(lines[5].contains(" \"-v\" "), "{}", lines[5]);
    assert!(lines[5].contains(" \"-I\" \"/opt/wrap\" "), "{}", lines[5]);
    assert_eq!(lines.len(), 6, "{stdout}");
}

/// Somebody who may not touch the table, whatever kernel this is: lvsd empties it at its start.
fn as_nobody(dir: &Dir, args: &[&str]) -> Command {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return command(args);
    }
    // Where the program was built, others may not reach it.
    fs::set_permissions(&dir.0, fs::Permissions::from_mode(0o755)).unwrap();
    let copy = dir.0.join("lvsd");
    // By cp: a program that this process had open to write to is busy while another test forks.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_lvsd")).arg(&copy).status().unwrap();
    assert!(copied.success());
    let mut command = Command::new(copy);
    command.args(args).stdin(Stdio::null()).uid(65_534).gid(65_534);
    command
}

#[test]
fn without_ipvs_or_the_right_to_it() {
    let dir = Dir::new("nobody");
    let file = dir.write("lvs.cf", &block("web", ""));
    let socket = dir.path("lvsd.sock");
    let args = ["-c", &file, "--control", &socket];
    for start in ["-n", "--nofork", "-v"] {
        let (status, stdout, stderr) = finish(as_nobody(&dir, &args).arg(start));
        assert_eq!((status, stdout.as_str()), (1, ""), "{stderr}");
        assert!(stderr.starts_with("lvs: "), "{stderr}");
        assert!(stderr.contains("IPVS"), "{stderr}");
        let wanted = if Path::new("/proc/net/ip_vs").exists() {
            "not permitted: run as root, or with CAP_NET_ADMIN in this network namespace"
        } else {
            "modprobe ip_vs"
        };
        assert!(stderr.contains(wanted), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}

#[test]
fn a_program_for_the_table_that_is_not_there() {
    let dir = Dir::new("program");
    let program = dir.path("no-ipvsadm");
    let file = dir.write("lvs.cf", &format!("ipvsadm = {program}\n{}", block("web", "")));
    let (status, _, stderr) = lvsd(&["-n", "-c", &file, "--control", &dir.path("lvsd.sock")]);
    assert_eq!(status, 1, "{stderr}");
    assert!(stderr.starts_with("lvs: "), "{stderr}");
    assert!(stderr.contains(&program), "{stderr}");
    assert!(stderr.contains("No such file or directory"), "{stderr}");
}

#[test]
fn a_reader_that_has_gone_is_no_disaster() {
    let dir = Dir::new("pipe");
    let good = dir.write("good.cf", &block("web", ""));
    let bad = dir.write("bad.cf", "x\n");
    for (words, status) in [
        (&["-t", "-c", &good][..], 0),
        (&["-t", "-c", &bad], 1),
        (&["x"], 1),
        (&["--help"], 0),
        (&["--version"], 0),
    ] {
        let (reader, stdout) = pipe().unwrap();
        drop(reader);
        let mut command = command(words);
        command.stderr(stdout.try_clone().unwrap()).stdout(stdout);
        // Killed by no signal, and not by the 101 of a panic.
        assert_eq!(command.status().unwrap().code(), Some(status), "{words:?}");
    }
}
