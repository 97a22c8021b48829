//! One check, once, with all that was said: for somebody who wants to see why a server is down.

use std::rc::Rc;
use std::time::{Duration, Instant};

use daemon::poll::{self, Flags, Poller};
use daemon::process::Ended;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::exchange::{Exchange, NotBegun, Prepared};
use crate::failure::Failure;
use crate::program::{self, Running, ShellChoice};
use crate::recipe::{Action, Recipe, Target};

/// How often a program that has closed its output is asked whether it has ended.
const LOOK: Duration = Duration::from_millis(10);

/// What a check came to.
#[derive(Debug)]
pub struct Trial {
    /// Passed, or why not.
    pub result: Result<(), Failure>,
    /// From its begin to its end.
    pub took: Duration,
    /// The program's command line; `None` for an exchange.
    pub command: Option<String>,
    /// What was to be sent to the server.
    pub sent: Vec<u8>,
    /// What came back, or what the program printed, as far as it was looked at: at most 16 kB of an
    /// answer, and a little more than that of a program.
    pub answer: Vec<u8>,
}

/// Runs a check as nanny would, and waits for its end: at most the recipe's interval, and `limit`.
/// A program runs as the user of this process.
#[must_use]
pub fn run(target: &Target, recipe: &Recipe, limit: Duration) -> Trial {
    let begun = Instant::now();
    let until = begun + recipe.interval().min(limit);
    let prepared = Prepared::new(Rc::new(recipe.clone()));
    let (result, answer) = match &recipe.action {
        Action::Exchange { .. } => exchange(&prepared, target, until),
        Action::Program { words, .. } | Action::Load { words } => {
            program(&prepared, words, target, until)
        }
    };
    let (command, sent) = match &recipe.action {
        Action::Exchange { send, .. } => (None, send.clone().unwrap_or_default()),
        Action::Program { words, .. } | Action::Load { words } => {
            (Some(program::shown(&program::filled_in(words, target))), Vec::new())
        }
    };
    Trial { result, took: begun.elapsed(), command, sent, answer }
}

fn not_begun(why: NotBegun) -> Failure {
    match why {
        NotBegun::Shortage(errno) => Failure::Connect(errno),
        NotBegun::Failed(failure) => failure,
    }
}

fn poller(fd: impl std::os::fd::AsFd, flags: Flags) -> Result<Poller, Failure> {
    let ready = Poller::new().and_then(|poller| poller.add(fd, 0, flags).map(|()| poller));
    ready.map_err(|error| Failure::Connect(program::errno(&error)))
}

fn exchange(
    prepared: &Prepared,
    target: &Target,
    until: Instant,
) -> (Result<(), Failure>, Vec<u8>) {
    let mut exchange = match Exchange::begin(target) {
        Ok(exchange) => exchange,
        Err(why) => return (Err(not_begun(why)), Vec::new()),
    };
    let result = converse(&mut exchange, prepared, target, until).and_then(|verdict| verdict);
    (result, exchange.into_answer())
}

fn converse(
    exchange: &mut Exchange,
    prepared: &Prepared,
    target: &Target,
    until: Instant,
) -> Result<Result<(), Failure>, Failure> {
    // Edges: what is writable all the time must not keep this busy.
    let poller = poller(exchange.socket(), poll::READ_WRITE | Flags::EPOLLET)?;
    let mut events = Vec::new();
    loop {
        let waited = poller.wait(Some(until), &mut events);
        waited.map_err(|error| Failure::Connect(program::errno(&error)))?;
        for event in &events {
            if let Some(verdict) = exchange.drive(prepared, target, event.flags) {
                return Ok(verdict);
            }
        }
        if Instant::now() >= until {
            return Err(exchange.timed_out(prepared));
        }
    }
}

fn program(
    prepared: &Prepared,
    words: &[Vec<u8>],
    target: &Target,
    until: Instant,
) -> (Result<(), Failure>, Vec<u8>) {
    let mut running = match ShellChoice::of_this_system().start(words, target) {
        Ok(running) => running,
        Err(why) => return (Err(not_begun(why)), Vec::new()),
    };
    let ended = await_end(&mut running, prepared.output_is_ignored(), until);
    let answer = running.answer().to_vec();
    (running.judge(&prepared.recipe.action, ended).result, answer)
}

/// The program's end; `None` where it was stopped, for it took too long or printed too much.
fn await_end(running: &mut Running, discard: bool, until: Instant) -> Option<Ended> {
    let poller = poller(running.stdout(), poll::READ).ok();
    let mut events = Vec::new();
    loop {
        let now = Instant::now();
        let too_much = running.read(discard);
        if let Some(ended) = collected(running.pid()) {
            // What it printed last.
            running.read(discard);
            return Some(ended);
        }
        if too_much || now >= until {
            running.kill();
            let _ = waitpid(Pid::from_raw(running.pid()), None);
            return None;
        }
        match &poller {
            Some(poller) => {
                let closed = events.iter().any(|e: &poll::Event| e.flags.contains(Flags::EPOLLHUP));
                if closed {
                    std::thread::sleep(LOOK);
                }
                let _ = poller.wait(Some(until.min(now + LOOK)), &mut events);
            }
            None => std::thread::sleep(LOOK),
        }
    }
}

fn collected(pid: i32) -> Option<Ended> {
    match waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(_, status)) => Some(Ended::Exited(status)),
        Ok(WaitStatus::Signaled(_, signal, _)) => Some(Ended::Signaled(signal as i32)),
        // Somebody else has collected it: how it ended is not known.
        Err(nix::errno::Errno::ECHILD) => Some(Ended::Signaled(Signal::SIGKILL as i32)),
        Ok(_) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Settings;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    const LIMIT: Duration = Duration::from_secs(20);

    fn target(port: u16) -> Target {
        Target { addr: "127.0.0.1".parse().unwrap(), port, udp: false }
    }

    fn recipe(settings: &Settings<'_>) -> Recipe {
        Settings { interval: 20, ..settings.clone() }.recipe().0
    }

    /// A server that reads once, answers with `answer`, and gives its port and what it read.
    fn server(answer: &'static [u8]) -> (u16, std::thread::JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut read = vec![0; 100];
            let count = stream.read(&mut read).unwrap();
            stream.write_all(answer).unwrap();
            read.truncate(count);
            read
        });
        (port, served)
    }

    #[test]
    fn an_exchange_is_shown_with_both_sides() {
        let recipe = recipe(&Settings { virtual_port: 80, ..Settings::default() });
        for (answer, passes) in [(&b"HTTP/1.0 200 OK\r\n"[..], true), (b"SSH-2.0-x\r\n", false)] {
            let (port, served) = server(answer);
            let trial = run(&target(port), &recipe, LIMIT);
            assert_eq!(served.join().unwrap(), b"GET / HTTP/1.0\r\n\r\n");
            assert_eq!(trial.sent, b"GET / HTTP/1.0\r\n\r\n");
            assert_eq!(trial.answer, answer);
            assert_eq!(trial.result.is_ok(), passes, "{trial:?}");
            assert_eq!(trial.command, None);
        }
    }

    #[test]
    fn a_closed_port_and_a_silent_server_fail_in_words() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let recipe = recipe(&Settings { expect: Some(b"hello"), ..Settings::default() });
        let silent = run(&target(port), &recipe, Duration::from_millis(100));
        assert_eq!(silent.result, Err(Failure::ReadTimeout));
        drop(listener);
        let closed = run(&target(port), &recipe, LIMIT);
        assert_eq!(closed.result, Err(Failure::Connect(nix::errno::Errno::ECONNREFUSED)));
    }

    #[test]
    fn programs_are_shown_with_their_output() {
        let run_program = |program: &'static [u8], limit| {
            let settings =
                Settings { program: Some(program), expect: Some(b"OK"), ..Settings::default() };
            run(&target(80), &recipe(&settings), limit)
        };
        let good = run_program(b"/bin/echo OK", LIMIT);
        assert_eq!((good.result, good.answer), (Ok(()), b"OK".to_vec()));
        let bad = run_program(b"/bin/echo FAIL %h", LIMIT);
        assert!(bad.result.is_err());
        assert_eq!(bad.answer, b"FAIL 127.0.0.1");
        assert_eq!(bad.command.as_deref(), Some("/bin/echo FAIL 127.0.0.1"));
        let slow = run_program(b"/bin/sleep 1000", Duration::from_millis(100));
        assert_eq!(slow.result, Err(Failure::ProgramTimeout));
        let missing = run_program(b"/nonexistent/check", LIMIT);
        assert_eq!(missing.result, Err(Failure::ProgramStart(nix::errno::Errno::ENOENT)));
        let endless = run_program(b"/bin/cat /dev/zero", LIMIT);
        assert!(endless.result.is_err() && endless.answer.len() < 1 << 20);
    }
}
