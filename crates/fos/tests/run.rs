//! fos at work, with services and monitors that are shell scripts.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use common::{Dir, block};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long to wait for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// What services and monitors do: they leave a line in `journal`, and then `$1` says.
const SCRIPT: &str = r#"
echo "$2 $1" >>journal
case $1 in
  start | stop) ;;
  fail) exit 3 ;;
  hang) echo $$ >$2.pid; sleep 1000 & echo $! >>$2.pid; wait ;;
esac
"#;

/// Asks over and over, since there is no event for it.
fn wait<T>(about: &str, mut what: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = what() {
            return found;
        }
        assert!(Instant::now() < end, "{about}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A node: a directory with the script.
struct Node(Dir);

impl Node {
    fn new(name: &str) -> Node {
        let node = Node(Dir::new(name));
        node.0.write("script", SCRIPT);
        node
    }

    /// A command that runs the script, in this directory: that of commands is "/".
    fn command(&self, what: &str, service: &str) -> String {
        let text = format!("cd {}\nset -- {what} {service}\n. ./script\n", self.0.0.display());
        format!("\"/bin/sh {}\"", self.0.write(&format!("{what}-{service}"), &text))
    }

    /// A service whose start does this.
    fn service(&self, name: &str, start: &str) -> String {
        let (start, stop) = (self.command(start, name), self.command("stop", name));
        block(name, &format!(" start_cmd = {start}\n stop_cmd = {stop}"))
    }

    /// What the script has been called for so far.
    fn journal(&self) -> String {
        let text = fs::read_to_string(self.0.path("journal")).unwrap_or_default();
        text.lines().collect::<Vec<_>>().join(", ")
    }

    fn start(&self, mode: &str, blocks: &[String]) -> Fos {
        let file = self.0.write("lvs.cf", &format!("service = fos\n{}", blocks.concat()));
        self.start_again(mode, &file)
    }

    fn start_again(&self, mode: &str, file: &str) -> Fos {
        let pidfile = self.0.path("fos.pid");
        let mut command = common::fos(&["-n", "-v", mode, "-c", file, "--pidfile", &pidfile]);
        Fos::start(command.stdout(Stdio::piped()))
    }
}

/// fos with `-n`, and what it says.
struct Fos {
    child: Child,
    lines: Receiver<String>,
    seen: String,
}

impl Fos {
    fn start(command: &mut Command) -> Fos {
        let mut child = command.spawn().unwrap();
        let (send, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| send.send(line)).ok()
        });
        Fos { child, lines, seen: String::new() }
    }

    /// Waits for a line with this text.
    fn wait(&mut self, text: &str) {
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                panic!("no line with {text:?}:\n{}", self.seen);
            };
            writeln!(self.seen, "{line}").unwrap();
            if line.contains(text) {
                return;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Waits for its end: status 0 and its last words.
    fn finish(mut self) -> String {
        self.wait("fos: will now exit to notify pulse...");
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{}", self.seen);
        std::mem::take(&mut self.seen)
    }
}

impl Drop for Fos {
    fn drop(&mut self) {
        // Of no effect on one that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until the processes noted by a script that hangs are gone.
fn wait_gone(pids: &str) {
    for pid in pids.lines() {
        let pid = Pid::from_raw(pid.parse().unwrap());
        wait("a process of a script is gone", || {
            (kill(pid, None) == Err(Errno::ESRCH)).then_some(())
        });
    }
}

#[test]
fn services_are_started_in_order_and_stopped_in_reverse() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let node = Node::new(&format!("order-{signal}"));
        let blocks = [node.service("db", "start"), node.service("web", "start"), block("none", "")];
        let mut fos = node.start("--active", &blocks);
        fos.wait("start_cmd of web 10.0.0.100:80 exited with status 0");
        assert_eq!(node.journal(), "db stop, db start, web stop, web start");
        let pid = fs::read_to_string(node.0.path("fos.pid")).unwrap();
        assert_eq!(pid, format!("{}\n", fos.child.id()));
        fos.signal(signal);
        let text = fos.finish();
        let line = format!("fos: shutting down due to signal {}\n", signal as i32);
        assert!(text.contains(&line), "{text}");
        assert_eq!(node.journal(), "db stop, db start, web stop, web start, web stop, db stop");
        assert!(!node.0.0.join("fos.pid").exists());
    }
}

#[test]
fn a_start_that_fails_is_the_death_of_the_service() {
    let node = Node::new("death");
    let fos = node.start("-F", &[node.service("db", "fail"), node.service("web", "start")]);
    let text = fos.finish();
    let died = "fos: Service db 10.0.0.100:80 died. This is a restart condition!\n";
    assert!(text.contains(died), "{text}");
    assert!(
        text.contains("fos: start_cmd of db 10.0.0.100:80 exited with status 3 after"),
        "{text}"
    );
    assert_eq!(node.journal(), "db stop, db fail, web stop, db stop");

    // Likewise a program that is not there; one that should stop a service is no reason to give up.
    let commands = " start_cmd = \"/no/such start\"\n stop_cmd = \"/no/such stop\"";
    let fos = node.start("-F", &[block("db", commands)]);
    let text = fos.finish();
    for line in ["stop_cmd of db", "start_cmd of db"] {
        let line = format!("fos: {line} 10.0.0.100:80: cannot start /no/such: No such file");
        assert!(text.contains(&line), "{text}");
    }
    assert!(text.contains(died), "{text}");
}

#[test]
fn what_hangs_is_ended_with_all_it_runs_when_fos_is_to_end() {
    let node = Node::new("hangs");
    let fos = node.start("--active", &[node.service("db", "hang"), node.service("web", "start")]);
    let pids = wait("the script hangs", || {
        let pids = fs::read_to_string(node.0.path("db.pid")).ok()?;
        (pids.lines().count() == 2).then_some(pids)
    });
    fos.signal(Signal::SIGTERM);
    let text = fos.finish();
    assert!(!text.contains("died"), "{text}");
    assert_eq!(node.journal(), "db stop, db hang, web stop, db stop");
    wait_gone(&pids);
}

#[test]
fn a_service_left_in_the_background_outlives_fos_but_not_its_start_command() {
    let node = Node::new("background");
    // It is started as shells start what they do not wait for, and has kept the standard output.
    let dir = node.0.0.display();
    let start = node.0.write("daemon", &format!("sleep 1000 & echo $! >{dir}/pid\n"));
    let keys = format!(" start_cmd = \"/bin/sh {start}\"\n");
    let mut fos = node.start("--active", &[block("bg", &keys)]);
    fos.wait("start_cmd of bg 10.0.0.100:80 exited with status 0");
    fos.signal(Signal::SIGTERM);
    fos.finish();
    let pid =
        Pid::from_raw(fs::read_to_string(node.0.path("pid")).unwrap().trim().parse().unwrap());
    assert_eq!(kill(pid, None), Ok(()), "only a stop_cmd ends a service");
    kill(pid, Signal::SIGKILL).unwrap();
}

#[test]
fn a_monitor_that_ends_is_a_failover_condition() {
    let node = Node::new("monitor");
    // The monitor's options follow its program: a shell would take them for its own.
    let monitor = node.0.path("monitor");
    let dir = node.0.0.display();
    let text = format!("#!/bin/sh\ncd {dir}\necho \"$*\" >>options\nset -- hang m$$\n. ./script\n");
    let source = node.0.write("monitor.txt", &text);
    // By another process: what this one has open for writing cannot be run while a test forks.
    let copied = Command::new("/bin/sh")
        .args(["-c", &format!("cp {source} {monitor} && chmod 755 {monitor}")])
        .status();
    assert!(copied.unwrap().success());
    let own = format!(" client_monitor = {monitor}\n stop_cmd = {}", node.command("stop", "x"));
    let blocks = [block("a", &own), block("b", &format!("{own}\n port = 81"))];
    let fos = node.start("--monitor", &blocks);
    let watching = || {
        let pids: Vec<String> = fs::read_dir(&node.0.0)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|ext| ext == "pid"))
            .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with('m'))
            .map(|path| fs::read_to_string(path).unwrap())
            .filter(|pids| pids.lines().count() == 2)
            .collect();
        (pids.len() == 2).then_some(pids)
    };
    let pids = wait("two monitors run", watching);
    assert!(node.journal().starts_with("x stop, x stop, m"), "{}", node.journal());
    let options = fs::read_to_string(node.0.path("options")).unwrap();
    let want = "-c -h 10.0.0.100 -p 81 -t 10 -v --nodaemon --fos";
    assert!(options.lines().any(|line| line == want), "{options}");

    let first = pids[0].lines().next().unwrap().parse().unwrap();
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    let text = fos.finish();
    let exited = |port: u16| {
        text.matches(&format!(
            "fos: Monitor for service 10.0.0.100:{port} exited. This is a failover condition!\n"
        ))
        .count()
    };
    assert_eq!(exited(80) + exited(81), 1, "{text}");
    // The one that was killed leaves a child behind; the other one leaves nothing.
    wait_gone(pids[0].lines().next().unwrap());
    wait_gone(pids[1].lines().next().unwrap());
    for pids in &pids {
        let left = Pid::from_raw(pids.lines().nth(1).unwrap().parse().unwrap());
        let _ = kill(left, Signal::SIGKILL);
    }
}

#[test]
fn a_monitor_that_cannot_be_started_is_no_failover_condition() {
    let node = Node::new("no-monitor");
    let mut fos = node.start("-f", &[block("a", " client_monitor = /no/such")]);
    fos.wait("not watched, next try in 10s");
    assert!(fos.seen.contains("fos: monitor of a 10.0.0.100:80: cannot start /no/such: "));
    assert!(fos.child.try_wait().unwrap().is_none());
    fos.signal(Signal::SIGTERM);
    let text = fos.finish();
    assert!(!text.contains("failover condition"), "{text}");
}

#[test]
fn a_second_one_waits_for_the_end_of_the_first() {
    let node = Node::new("second");
    let mut first = node.start("--active", &[node.service("web", "start")]);
    first.wait("start_cmd of web 10.0.0.100:80 exited with status 0");
    let mut second = node.start_again("--active", &node.0.path("lvs.cf"));
    let waits = format!("fos, pid {} ({})", first.child.id(), node.0.path("fos.pid"));
    second.wait(&waits);
    assert_eq!(node.journal(), "web stop, web start");
    first.signal(Signal::SIGTERM);
    first.finish();
    second.wait("start_cmd of web 10.0.0.100:80 exited with status 0");
    assert_eq!(node.journal(), "web stop, web start, web stop, web stop, web start");
    second.signal(Signal::SIGTERM);
    second.finish();
}

#[test]
fn as_a_daemon() {
    let node = Node::new("daemon");
    let file = node.0.write("lvs.cf", &format!("service = fos\n{}", node.service("web", "start")));
    let pidfile = node.0.path("fos.pid");
    let words = ["--active", "-c", &file, "--pidfile", &pidfile];
    let (status, stdout, stderr) = common::finish(&mut common::fos(&words));
    assert_eq!((status, stdout.as_str(), stderr.as_str()), (0, "", ""));
    let pid = wait("the pid file", || {
        let text = fs::read_to_string(&pidfile).ok()?;
        text.strip_suffix('\n')?.parse::<i32>().ok()
    });
    wait("the service runs", || (node.journal() == "web stop, web start").then_some(()));
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    wait("the pid file is gone", || (!fs::exists(&pidfile).unwrap()).then_some(()));
    assert_eq!(node.journal(), "web stop, web start, web stop");
}
