//! The program, at a terminal and without one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

const PROGRAM: &str = env!("CARGO_BIN_EXE_piranha-passwd");

fn site() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("piranha.passwd");
    (directory, path)
}

fn has_password(path: &Path, password: &[u8]) -> bool {
    piranha_passwd::load(path).unwrap().verify(b"piranha", password)
}

fn command(path: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("--file").arg(path).current_dir(path.parent().unwrap());
    command
}

/// Runs it with something on standard input: exit status, standard output, standard error.
fn run(command: &mut Command, input: &[u8]) -> (i32, String, String) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A program that does not read is none of the test's business.
    let _ = child.stdin.take().unwrap().write_all(input);
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// The program at a terminal of its own.
struct Terminal {
    master: File,
    slave: OwnedFd,
    child: Child,
    /// All that it has shown so far.
    shown: String,
}

impl Terminal {
    fn start(path: &Path) -> Self {
        let pair = nix::pty::openpty(None, None).unwrap();
        let end = || Stdio::from(pair.slave.try_clone().unwrap());
        let child = command(path).stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let terminal = File::from(pair.master);
        Self { master: terminal, slave: pair.slave, child, shown: String::new() }
    }

    /// Reads what is shown until it ends in `text`.
    fn await_text(&mut self, text: &str) {
        while !self.shown.ends_with(text) {
            let mut readable = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            let count = poll(&mut readable, PollTimeout::from(30_000_u16)).unwrap();
            assert_eq!(count, 1, "{text:?} has not come: {:?}", self.shown);
            let mut bytes = [0; 4096];
            let count = self.master.read(&mut bytes).unwrap();
            self.shown.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        }
    }

    fn enter(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.slave).unwrap().local_flags.contains(LocalFlags::ECHO)
    }

    fn signal(&self, signal: Signal) -> Pid {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, signal).unwrap();
        pid
    }

    fn end(&mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap()
    }
}

#[test]
fn asks_twice_without_echo() {
    let (_directory, path) = site();
    let mut terminal = Terminal::start(&path);
    terminal.await_text("New Password: ");
    assert!(!terminal.echoes());
    terminal.enter("secret word\n");
    terminal.await_text("\r\nVerify: ");
    assert!(!terminal.echoes());
    terminal.enter("secret word\n");
    assert_eq!(terminal.end(), 0);
    assert!(terminal.echoes());
    terminal.await_text("\r\n");
    assert_eq!(terminal.shown, "New Password: \r\nVerify: \r\n");
    assert!(has_password(&path, b"secret word"));
}

#[test]
fn passwords_that_differ() {
    let (_directory, path) = site();
    let mut terminal = Terminal::start(&path);
    terminal.await_text("New Password: ");
    terminal.enter("secret\n");
    terminal.await_text("Verify: ");
    terminal.enter("Secret\n");
    assert_eq!(terminal.end(), 1);
    terminal.await_text("\r\nPasswords do not match.\r\n");
    assert!(terminal.echoes());
    assert!(!path.exists());
}

#[test]
fn the_end_of_input_at_a_terminal() {
    let (_directory, path) = site();
    let mut terminal = Terminal::start(&path);
    terminal.await_text("New Password: ");
    terminal.enter("\x04");
    assert_eq!(terminal.end(), 1);
    terminal.await_text("piranha-passwd: no password given\r\n");
    assert!(terminal.echoes());
    assert!(!path.exists());
}

#[test]
fn a_signal_ends_it_and_the_echo_is_back() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        let (_directory, path) = site();
        let mut terminal = Terminal::start(&path);
        terminal.await_text("New Password: ");
        terminal.enter("secret\n");
        terminal.await_text("Verify: ");
        terminal.enter("sec");
        terminal.signal(signal);
        assert_eq!(terminal.child.wait().unwrap().signal(), Some(signal as i32));
        assert!(terminal.echoes(), "{signal}");
        assert!(!path.exists());
    }
}

#[test]
fn stopped_it_gives_the_echo_back_and_takes_it_again() {
    let (_directory, path) = site();
    let mut terminal = Terminal::start(&path);
    terminal.await_text("New Password: ");
    let pid = terminal.signal(Signal::SIGTSTP);
    let stopped = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
    assert_eq!(stopped, WaitStatus::Stopped(pid, Signal::SIGSTOP));
    assert!(terminal.echoes());
    terminal.signal(Signal::SIGCONT);
    terminal.await_text("New Password: \r\nNew Password: ");
    assert!(!terminal.echoes());
    for prompt in ["New Password: ", "Verify: "] {
        terminal.await_text(prompt);
        terminal.enter("secret\n");
    }
    assert_eq!(terminal.end(), 0);
    assert!(has_password(&path, b"secret"));
}

#[test]
fn input_that_is_no_terminal() {
    let long = [b'x'; 5000];
    let cases: [(&[u8], i32, &str); 8] = [
        (b"secret\n", 0, ""),
        (b"secret", 0, ""),
        (b"secret\r\n", 0, ""),
        (b"secret\nsecret\n", 0, ""),
        (b"secret\nother\n", 1, "Passwords do not match.\n"),
        (b"", 1, "piranha-passwd: no password given\n"),
        (b"\n", 1, "piranha-passwd: an empty password lets everybody in: choose one\n"),
        (&long, 1, "piranha-passwd: the line is longer than 4096 bytes\n"),
    ];
    for (input, status, message) in cases {
        let (_directory, path) = site();
        let outcome = run(&mut command(&path), input);
        assert_eq!(outcome, (status, String::new(), message.to_owned()), "{input:?}");
        assert_eq!(path.exists(), status == 0);
        assert!(status != 0 || has_password(&path, b"secret"), "{input:?}");
    }
}

#[test]
fn an_argument_is_taken_with_a_warning() {
    let (_directory, path) = site();
    let (status, output, message) = run(command(&path).arg("secret word"), b"");
    assert_eq!((status, output.as_str()), (0, ""));
    assert!(message.starts_with("piranha-passwd: warning: a password given as an argument"));
    assert!(has_password(&path, b"secret word"));
    let (status, ..) = run(command(&path).args(["--", "-x"]), b"");
    assert_eq!(status, 0);
    assert!(has_password(&path, b"-x"));
}

#[test]
fn command_lines() {
    let (_directory, path) = site();
    let refused = [
        (&["a", "b"][..], "piranha-passwd: one password at most; quote it if it contains blanks\n"),
        (&["-x"], "piranha-passwd: bad argument -x: unknown option\n"),
        (&["-f"], "piranha-passwd: bad argument -f: missing argument\n"),
    ];
    for (words, message) in refused {
        let outcome = run(command(&path).args(words), b"");
        assert_eq!(outcome, (1, String::new(), message.to_owned()), "{words:?}");
    }
    for (word, start) in [
        ("--help", "Usage: piranha-passwd [PASSWORD] [OPTION...]\n"),
        ("--usage", "Usage: piranha-passwd [PASSWORD] ["),
        ("--version", "Program Version:\t"),
    ] {
        let (status, output, message) = run(command(&path).arg(word), b"");
        assert_eq!((status, message.as_str()), (0, ""));
        assert!(output.starts_with(start), "{output}");
    }
    let bytes = std::os::unix::ffi::OsStringExt::from_vec(vec![0xff]);
    let (status, _, message) = run(command(&path).arg::<std::ffi::OsString>(bytes), b"");
    assert_eq!(status, 1);
    assert!(message.contains("not UTF-8"), "{message}");
    assert!(!path.exists());
}

#[test]
fn without_the_right_to_write() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("without_the_right_to_write: left out: it takes root to become somebody else");
        return;
    }
    let (directory, path) = site();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // Where the build directory is closed to others.
    let program = directory.path().join("program");
    fs::copy(PROGRAM, &program).unwrap();
    fs::write(&path, "piranha:x\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let mut command = Command::new(program);
    command.arg("--file").arg(&path).uid(65534).gid(65534);
    let (status, _, message) = run(&mut command, b"secret\n");
    assert_eq!(status, 1);
    assert!(message.contains("root"), "{message}");
    assert!(message.starts_with("piranha-passwd: make a file in "), "{message}");
    assert_eq!(fs::read(&path).unwrap(), b"piranha:x\n");
}
