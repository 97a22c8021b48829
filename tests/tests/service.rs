//! The init scripts, called as `service` does it: by dash and by bash, with a function library like
//! Red Hat's and without one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]

mod director;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use director::{CONFIG, lives, lvs_cf, programs, virtual_server, wait, wait_empty, wait_logged};
use lab::{Node, PATIENCE, Site, nat_site};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const PIDFILE: &str = "/run/pulse.pid";
const LOCKFILE: &str = "/run/lock/subsys/pulse";
const SHARED: &str = "/usr/share/piranha/init-functions";
const LIBRARY: &str = "/etc/rc.d/init.d/functions";

/// The repository.
fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// A director with the services installed.
struct Installed {
    node: Node,
    shell: &'static str,
    /// The one that is called.
    script: &'static str,
    /// Holds the node, and the rest of its world.
    _site: Site,
}

/// What the script printed and how it ended.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    status: i32,
    stdout: String,
    stderr: String,
}

fn said(status: i32, stdout: &str) -> Said {
    Said { status, stdout: stdout.to_owned(), stderr: String::new() }
}

impl Installed {
    #[track_caller]
    fn new(script: &'static str, shell: &'static str, library: bool) -> Self {
        let site = nat_site(1);
        let address = ["172.16.0.19/24"];
        let node = site.lab.node("director").nic("eth0", "wan", &address);
        let node = node.private("/etc/sysconfig").private("/etc/init.d").private("/etc/rc.d");
        let node = node.private("/usr/share/piranha").private("/var/lib/piranha");
        let node = node.private("/var/log/piranha").private("/dev/shm").build();
        // As on every system; what is below it is the init script's business.
        fs::create_dir_all(node.path("/run/lock")).unwrap();
        let programs = programs();
        let programs = programs.display();
        let settings = format!("PULSE={programs}/pulse\nOPTIONS=\"-v --lvsd {programs}/lvsd\"\n");
        node.write("/etc/sysconfig/pulse", settings);
        // A user that is everywhere.
        let settings = format!("PIRANHA_GUI={programs}/piranha_gui\nOPTIONS=\"--user nobody\"\n");
        node.write("/etc/sysconfig/piranha-gui", settings);
        node.write(SHARED, fs::read(top().join("etc/share/init-functions")).unwrap());
        node.write(CONFIG, configuration(1));
        if library {
            node.write(LIBRARY, fs::read(top().join("tests/data/functions")).unwrap());
        }
        Self { node, shell, script, _site: site }
    }

    fn command(&self, what: &str) -> Command {
        let mut command = Command::new(self.shell);
        command.arg(top().join("etc/init.d").join(self.script));
        command.args((!what.is_empty()).then_some(what));
        command
    }

    /// Calls the script.
    #[track_caller]
    fn service(&self, what: &str) -> Said {
        self.finish(self.command(what))
    }

    #[track_caller]
    fn finish(&self, command: Command) -> Said {
        let output = self.node.output(command);
        // Red Hat's marks end with a CR.
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\r', "");
        let status = output.status.code().unwrap_or_else(|| panic!("{}", output.status));
        Said { status, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// The pid of the running program, which the pid file names.
    #[track_caller]
    fn pid(&self) -> u32 {
        wait("a running program", || {
            let file = format!("/run/{}.pid", self.script);
            let text = fs::read_to_string(self.node.path(file)).ok()?;
            text.trim().parse().ok().filter(|pid| lives(*pid))
        })
    }

    fn exists(&self, path: &str) -> bool {
        self.node.path(path).exists()
    }
}

fn configuration(serial: u32) -> String {
    let (serial, block) = (format!("serial_no = {serial}"), virtual_server("web", 80));
    lvs_cf(&[&serial, "primary = 172.16.0.19"], &[block.real_servers([1], 80)])
}

/// A day in the life of the service.
#[track_caller]
fn story(shell: &'static str, library: bool) {
    let service = Installed::new("pulse", shell, library);
    let node = &service.node;
    assert_eq!(service.service("status"), said(3, "pulse is stopped\n"));
    assert_eq!(service.service("condrestart"), said(0, ""));
    assert_eq!(service.service("try-restart"), said(0, ""));
    assert_eq!(service.service("reload"), said(7, ""));
    assert_eq!(service.service("stop"), said(0, ""));
    assert_eq!(node.processes(), [0; 0], "something was started");

    assert_eq!(service.service("start"), said(0, "Starting pulse: [  OK  ]\n"));
    let first = service.pid();
    assert!(service.exists(LOCKFILE));
    node.wait_address("eth0", "172.16.0.100", true, PATIENCE).unwrap();
    assert_eq!(
        service.service("status"),
        said(0, &format!("pulse (pid  {first}) is running...\n"))
    );
    assert_eq!(service.service("start"), said(0, ""));
    assert_eq!(service.pid(), first);

    node.write(CONFIG, configuration(2));
    for what in ["reload", "force-reload"] {
        assert_eq!(service.service(what), said(0, "Reloading pulse: [  OK  ]\n"));
        assert_eq!(service.pid(), first);
    }
    wait_logged(node, &["configuration 2 is in force"], 1);

    let restarted = "Stopping pulse: [  OK  ]\nStarting pulse: [  OK  ]\n";
    let mut last = first;
    for what in ["restart", "condrestart", "try-restart"] {
        assert_eq!(service.service(what), said(0, restarted), "{what}");
        assert!(!lives(last), "{what}");
        last = service.pid();
        assert!(service.exists(LOCKFILE), "{what}");
    }
    node.wait_address("eth0", "172.16.0.100", true, PATIENCE).unwrap();

    assert_eq!(service.service("stop"), said(0, "Stopping pulse: [  OK  ]\n"));
    assert!(!node.has_address("eth0", "172.16.0.100"));
    wait_empty(node);
    assert!(!service.exists(PIDFILE) && !service.exists(LOCKFILE));
    assert_eq!(service.service("status"), said(3, "pulse is stopped\n"));
    assert_eq!(service.service("restart"), said(0, "Starting pulse: [  OK  ]\n"));

    // Killed: the files tell so, the guard has cleaned up, and a start finds nothing in its way.
    let pid = service.pid();
    node.wait_address("eth0", "172.16.0.100", true, PATIENCE).unwrap();
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
    wait_empty(node);
    assert_eq!(service.service("status"), said(1, "pulse dead but pid file exists\n"));
    fs::remove_file(node.path(PIDFILE)).unwrap();
    assert_eq!(service.service("status"), said(2, "pulse dead but subsys locked\n"));
    // The file of a process that has nothing to do with it.
    node.write(PIDFILE, "1\n");
    assert_eq!(service.service("condrestart"), said(0, ""));
    assert_eq!(service.service("reload"), said(7, ""));
    assert_eq!(service.service("start"), said(0, "Starting pulse: [  OK  ]\n"));
    assert_ne!(service.pid(), 1);
    assert_eq!(service.service("stop"), said(0, "Stopping pulse: [  OK  ]\n"));
}

#[test]
fn without_a_library_by_dash() {
    story("dash", false);
}

#[test]
fn without_a_library_by_bash() {
    story("bash", false);
}

#[test]
fn with_a_library_by_dash() {
    story("dash", true);
}

#[test]
fn with_a_library_by_bash() {
    story("bash", true);
}

#[test]
fn what_keeps_it_from_starting() {
    for library in [false, true] {
        let service = Installed::new("pulse", "dash", library);
        let node = &service.node;
        let refused = |status, stderr: &str| Said {
            status,
            stdout: String::new(),
            stderr: format!("pulse: {stderr}\n"),
        };
        node.write("/etc/sysconfig/network", "NETWORKING=no\n");
        let off = refused(1, "networking is off (/etc/sysconfig/network)");
        assert_eq!(service.service("start"), off);
        assert_eq!(service.service("status").status, 3, "only a start needs the network");
        node.write("/etc/sysconfig/network", "NETWORKING=yes\nHOSTNAME=director\n");

        fs::remove_file(node.path(CONFIG)).unwrap();
        let missing = refused(6, "there is no /etc/sysconfig/ha/lvs.cf");
        assert_eq!(service.service("start"), missing);
        let settings = fs::read_to_string(node.path("/etc/sysconfig/pulse")).unwrap();
        for option in
            ["-c /no/x.cf", "-c/no/x.cf", "--configfile=/no/x.cf", "--configfile /no/x.cf"]
        {
            let options = format!("{settings}OPTIONS=\"-v {option}\"\n");
            node.write("/etc/sysconfig/pulse", options);
            assert_eq!(service.service("start"), refused(6, "there is no /no/x.cf"), "{option}");
        }
        node.write("/etc/sysconfig/pulse", &settings);

        // What pulse itself refuses: its own words.
        node.write(CONFIG, "primary = 172.16.0.19\nfrob = 1\n");
        let found = service.service("start");
        assert_eq!((found.status, found.stdout.as_str()), (1, "Starting pulse: [FAILED]\n"));
        let first = "pulse: error parsing /etc/sysconfig/ha/lvs.cf at line 2: unknown command\n";
        assert!(found.stderr.starts_with(first), "{found:?}");
        assert!(!service.exists(LOCKFILE));

        // One that goes into the background and ends there.
        node.write(CONFIG, configuration(1));
        node.write("/etc/sysconfig/pulse", "PULSE=/bin/true\n");
        let found = service.service("start");
        let words = "pulse: it has ended at once, the system log says why\n";
        assert_eq!((found.status, found.stderr.as_str()), (1, words));
        assert!(!service.exists(LOCKFILE));

        node.write("/etc/sysconfig/pulse", "PULSE=/no/pulse\n");
        assert_eq!(service.service("start"), refused(5, "/no/pulse is not installed"));

        for what in ["", "frob"] {
            let found = service.service(what);
            assert_eq!((found.status, found.stdout.as_str()), (2, ""));
            assert!(found.stderr.starts_with("Usage: pulse {start|stop|status|"), "{found:?}");
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--clear-groups", "dash"]);
        command.arg(top().join("etc/init.d/pulse")).arg("start");
        assert_eq!(service.finish(command), refused(4, "only root can do this"));
        assert_eq!(node.processes(), [0; 0], "something was started");
    }
}

/// The status of the web page's answer, `None` while nobody answers.
fn page(node: &Node, path: &str) -> Option<u16> {
    node.get(&format!("http://127.0.0.1:3636{path}")).ok().map(|response| response.status)
}

/// A day in the life of the web page.
#[track_caller]
fn page_story(shell: &'static str, library: bool) {
    const PIDFILE: &str = "/run/piranha-gui.pid";
    const LOCKFILE: &str = "/run/lock/subsys/piranha-gui";
    const LOG: &str = "/var/log/piranha/access_log";
    let service = Installed::new("piranha-gui", shell, library);
    let node = &service.node;
    assert_eq!(service.service("status"), said(3, "piranha-gui is stopped\n"));
    assert_eq!(service.service("condrestart"), said(0, ""));
    assert_eq!(service.service("reload"), said(7, ""));
    assert_eq!(service.service("stop"), said(0, ""));
    assert_eq!(node.processes(), [0; 0], "something was started");

    assert_eq!(service.service("start"), said(0, "Starting piranha-gui: [  OK  ]\n"));
    let first = service.pid();
    assert!(service.exists(LOCKFILE));
    wait("the page", || page(node, "/"));
    assert_eq!(page(node, "/secure/"), Some(401));
    let status = fs::read_to_string(format!("/proc/{first}/status")).unwrap();
    assert!(status.contains("\nUid:\t65534\t65534\t65534\t65534\n"), "{status}");
    let running = format!("piranha-gui (pid  {first}) is running...\n");
    assert_eq!(service.service("status"), said(0, &running));
    assert_eq!(service.service("start"), said(0, ""));
    assert_eq!(service.pid(), first);

    // As logrotate does it.
    let (log, rotated) = (node.path(LOG), node.path("/var/log/piranha/access_log.1"));
    fs::rename(&log, &rotated).unwrap();
    assert_eq!(service.service("reload"), said(0, "Reloading piranha-gui: [  OK  ]\n"));
    wait("a new log", || log.exists().then_some(()));
    assert_eq!(page(node, "/rotated"), Some(404));
    wait("its line", || fs::read_to_string(&log).unwrap().contains("/rotated").then_some(()));
    assert_eq!(service.pid(), first);

    let restarted = "Stopping piranha-gui: [  OK  ]\nStarting piranha-gui: [  OK  ]\n";
    for what in ["restart", "condrestart"] {
        let last = service.pid();
        assert_eq!(service.service(what), said(0, restarted), "{what}");
        assert!(!lives(last), "{what}");
        wait("the page", || page(node, "/"));
    }
    assert_eq!(service.service("stop"), said(0, "Stopping piranha-gui: [  OK  ]\n"));
    wait_empty(node);
    assert!(!service.exists(PIDFILE) && !service.exists(LOCKFILE));
    assert_eq!(service.service("status"), said(3, "piranha-gui is stopped\n"));

    // Killed.
    assert_eq!(service.service("start"), said(0, "Starting piranha-gui: [  OK  ]\n"));
    kill(Pid::from_raw(service.pid().cast_signed()), Signal::SIGKILL).unwrap();
    wait_empty(node);
    assert_eq!(service.service("status"), said(1, "piranha-gui dead but pid file exists\n"));
    fs::remove_file(node.path(PIDFILE)).unwrap();
    assert_eq!(service.service("status"), said(2, "piranha-gui dead but subsys locked\n"));
    assert_eq!(service.service("stop"), said(0, ""));
    assert_eq!(service.service("status").status, 3);
}

#[test]
fn the_page_by_dash() {
    page_story("dash", false);
}

#[test]
fn the_page_by_bash_with_a_library() {
    page_story("bash", true);
}

#[test]
fn what_keeps_the_page_from_starting() {
    let service = Installed::new("piranha-gui", "dash", false);
    let node = &service.node;
    let settings = fs::read_to_string(node.path("/etc/sysconfig/piranha-gui")).unwrap();
    // What it refuses itself: its own words.
    node.write("/etc/sysconfig/piranha-gui", settings + "OPTIONS=\"--user no_such_user\"\n");
    let found = service.service("start");
    assert_eq!((found.status, found.stdout.as_str()), (1, "Starting piranha-gui: [FAILED]\n"));
    let words = "piranha-gui: there is no user no_such_user to run as";
    assert!(found.stderr.starts_with(words), "{found:?}");
    assert!(!service.exists("/run/lock/subsys/piranha-gui"));

    let refused = |status, stderr: &str| Said {
        status,
        stdout: String::new(),
        stderr: format!("piranha-gui: {stderr}\n"),
    };
    node.write("/etc/sysconfig/piranha-gui", "PIRANHA_GUI=/no/piranha_gui\n");
    assert_eq!(service.service("start"), refused(5, "/no/piranha_gui is not installed"));
    let found = service.service("frob");
    assert_eq!(found.status, 2);
    assert!(found.stderr.starts_with("Usage: piranha-gui {start|stop|status|"), "{found:?}");

    fs::remove_file(node.path(SHARED)).unwrap();
    let missing = refused(5, &format!("{SHARED} is missing: install the package anew"));
    assert_eq!(service.service("start"), missing);
    assert_eq!(node.processes(), [0; 0], "something was started");
}
