//! As nanny runs it: words split at blanks, `%h` and `%p`, `expect = "OK"`.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Identity, Server, VALID, fine, head};
use daemon::poll::{self, Poller};
use daemon::process;
use daemon::signals::{SIGCHLD, Signals};
use health::engine::{Engine, Limits};
use health::failure::Failure;
use health::recipe::{Settings, Target};
use std::time::{Duration, Instant};

/// One check program in nanny's engine.
fn nanny_says(program: &str, target: Target) -> Result<(), Failure> {
    let settings = Settings {
        program: Some(program.as_bytes()),
        expect: Some(b"OK"),
        virtual_port: 443,
        interval: 300,
        ..Settings::default()
    };
    let mut signals = Signals::new(&[SIGCHLD]).unwrap();
    let mut engine = Engine::new(Limits { sockets: 1, programs: 1 }).unwrap();
    let poller = Poller::new().unwrap();
    poller.add(&signals, 1, poll::READ).unwrap();
    poller.add(&engine, 0, poll::READ).unwrap();
    engine.add(target, &settings.recipe().0, Instant::now());
    loop {
        engine.run(Instant::now());
        if let Some(outcome) = engine.outcomes().pop() {
            return outcome.result;
        }
        let soon = Instant::now() + Duration::from_secs(1);
        poller
            .wait(Some(engine.deadline().map_or(soon, |at| at.min(soon))), &mut Vec::new())
            .unwrap();
        if !signals.pending().is_empty() {
            while let Some((pid, how)) = process::next_ended() {
                engine.child_ended(pid, how, Instant::now());
                process::collect(pid);
            }
        }
    }
}

#[test]
fn up_and_down() {
    // By the name of the script whose place it takes.
    let directory = tempfile::tempdir().unwrap();
    let link = |name: &str| {
        let path = directory.path().join(name);
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_lvs-check"), &path).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let identity = Identity::new("x", VALID);
    let up = Server::https(&identity, |_| fine("all is well"));
    let down = Server::https(&identity, |_| head(&["HTTP/1.1 503 Gone", "Content-Length: 0"]));
    let target =
        |server: &Server| Target { addr: server.addr.ip(), port: server.addr.port(), udp: false };
    let answered_fail = Err(Failure::program_answer(b"FAIL"));
    for name in ["lvs-check-https", "lvs-check-https.sh"] {
        let program = format!("{} %h %p", link(name));
        assert_eq!(nanny_says(&program, target(&up)), Ok(()), "{name}");
        assert_eq!(nanny_says(&program, target(&down)), answered_fail, "{name}");
    }
    let program = format!("{} https --expect is.well --regex %h %p", link("lvs-check"));
    assert_eq!(nanny_says(&program, target(&up)), Ok(()));
    // A wrong command line is not taken for an answer.
    let program = format!("{} https --nope %h", link("again"));
    assert_eq!(
        nanny_says(&program, target(&up)),
        Err(Failure::ProgramEnded(process::Ended::Exited(2)))
    );
}
