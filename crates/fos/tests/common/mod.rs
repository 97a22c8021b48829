//! A directory of a test's own, and fos in it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail them")]
#![allow(dead_code, reason = "each target uses a part of it")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A directory of a test's own, removed at its end.
pub(crate) struct Dir(pub(crate) PathBuf);

impl Dir {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fos-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
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

/// fos, ready to be started.
pub(crate) fn fos(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fos"));
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs it to its end: exit status, standard output, standard error.
pub(crate) fn finish(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    let status = output.status.code();
    let status = status.unwrap_or_else(|| panic!("{command:?}: {}: {stderr}", output.status));
    (status, stdout, stderr)
}

/// An active failover block, 10.0.0.100 with the default port.
pub(crate) fn block(name: &str, keys: &str) -> String {
    format!("failover {name} {{\n active = 1\n address = 10.0.0.100 eth0:1\n{keys}\n}}\n")
}
