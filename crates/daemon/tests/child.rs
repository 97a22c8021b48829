//! Children on this system: asked, killed, tied to their parent. A program of its own, since the unit
//! tests of `process` collect whatever child ends.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use daemon::child::{Asked, Child, Overdue, command, spawn, words};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::io::{self, Read};
use std::process::Command;
use std::process::Stdio;
use std::time::{Duration, Instant};

const NEVER: Duration = Duration::from_secs(3600);

/// A shell that runs `script`, and its standard output.
fn shell(script: &str, asked: Asked) -> (Child, io::PipeReader) {
    let (reader, writer) = io::pipe().unwrap();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).stdin(Stdio::null()).stdout(writer);
    (spawn(&mut command, asked).unwrap(), reader)
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.pid())
}

/// Waits until it has printed a line.
fn started(output: &mut io::PipeReader) {
    output.read_exact(&mut [0]).unwrap();
}

#[test]
fn a_command_is_asked_with_all_it_runs() {
    let (mut child, mut output) = shell("sleep 1000 & echo; wait", Asked::Group);
    started(&mut output);
    assert!(!child.is_ending());
    let now = Instant::now();
    child.stop(now, NEVER);
    child.stop(now, Duration::ZERO);
    assert_eq!(child.deadline(), Some(now + NEVER), "asked once");
    let ended = waitpid(pid(&child), None).unwrap();
    assert_eq!(ended, WaitStatus::Signaled(pid(&child), Signal::SIGTERM, false));
    // The end of the output: nobody holds it any more.
    assert_eq!(output.read_to_end(&mut Vec::new()).unwrap(), 0);
}

#[test]
fn a_daemon_is_asked_alone_and_who_does_not_listen_is_killed_with_its_children() {
    let script = "trap 'echo asked' TERM; (trap '' TERM; echo; sleep 1000) & wait; wait";
    let (mut child, mut output) = shell(script, Asked::Child);
    started(&mut output);
    let now = Instant::now();
    child.limit(now + NEVER, NEVER);
    assert_eq!((child.deadline(), child.on_time(now)), (Some(now + NEVER), None));
    child.limit(now, Duration::ZERO);
    assert_eq!(child.on_time(now), Some(Overdue::Limit));
    let mut asked = [0; 6];
    output.read_exact(&mut asked).unwrap();
    assert_eq!(&asked, b"asked\n");
    assert_eq!(child.on_time(now), Some(Overdue::Grace));
    assert_eq!((child.deadline(), child.on_time(now), child.is_ending()), (None, None, true));
    let ended = waitpid(pid(&child), None).unwrap();
    assert_eq!(ended, WaitStatus::Signaled(pid(&child), Signal::SIGKILL, false));
    assert_eq!(output.read_to_end(&mut Vec::new()).unwrap(), 0);
}

#[test]
fn a_child_does_not_outlive_its_parent_but_what_it_left_behind_does() {
    // This test cannot end its own process: a thread is the parent here, since the kernel means the
    // thread that forked.
    let (pid, mut output) = std::thread::spawn(|| {
        let script = "(trap '' TERM; sleep 1000) & echo $!; wait";
        let (child, mut output) = shell(script, Asked::Child);
        started(&mut output);
        (pid(&child), output)
    })
    .join()
    .unwrap();
    let ended = waitpid(pid, None).unwrap();
    assert_eq!(ended, WaitStatus::Signaled(pid, Signal::SIGTERM, false));
    assert_eq!(killpg(pid, None), Ok(()), "what it left behind has gone");
    killpg(pid, Signal::SIGKILL).unwrap();
    // The end of the output: it has gone now.
    output.read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn who_cannot_be_started_is_named() {
    let error = spawn(&mut command(&words(b"/no/such x").unwrap()), Asked::Group).unwrap_err();
    assert!(error.to_string().starts_with("cannot start /no/such: No such file"), "{error}");
}
