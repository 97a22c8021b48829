//! Programs found through PATH. Alone in its program: it changes the environment.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Checks, LIMITS, LONG, Scripts, program};
use health::recipe::Target;

#[test]
fn programs_are_found_as_execvp_finds_them() {
    let mut checks = Checks::with_programs(LIMITS);
    let (first, second) = (Scripts::new("path-first"), Scripts::new("path-second"));
    let before = std::env::var("PATH").unwrap();
    let path = format!("{}:{}:{before}", first.path(""), second.path(""));
    // SAFETY: the only test of this program, whose main thread waits for it; nothing else reads or
    // changes the environment meanwhile.
    #[allow(unsafe_code)]
    unsafe {
        std::env::set_var("PATH", path);
    }
    // One that may not be executed is passed over.
    first.file("check-one", b"#!/bin/sh\necho wrong\n", 0o644);
    second.sh("check-one", "[ \"$1\" == \"10.0.0.3\" ] && echo OK");
    second.file("check-two", b"echo \"$1\"\n", 0o755);
    let target = Target { addr: "10.0.0.3".parse().unwrap(), port: 80, udp: false };
    let mut cases = vec![("check-two %h", "10.0.0.3"), ("echo %p", "80")];
    if std::path::Path::new("/bin/bash").exists() {
        cases.push(("check-one %h", "OK"));
    }
    for (command, expect) in cases {
        let got = checks.one(target, &program(command, Some(expect.as_bytes()), LONG)).result;
        assert_eq!(got, Ok(()), "{command}");
    }
}
