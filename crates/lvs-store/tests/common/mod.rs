//! A directory with an lvs.cf, and tests that run themselves again elsewhere.

#![allow(dead_code, reason = "each test target uses a part of it")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use lvs_store::{Error, History, Saved, Snapshot, Store};

pub(crate) const TEXT: &str = "serial_no = 7\nprimary = 10.0.0.1\n# kept\nservice = lvs\n";

const INSIDE: &str = "LVS_STORE_TEST";

/// `ha/lvs.cf` and `history`, in a directory.
pub(crate) fn store(directory: &Path) -> Store {
    Store::new(config(directory), History::new(directory.join("history")))
}

pub(crate) fn config(directory: &Path) -> PathBuf {
    directory.join("ha/lvs.cf")
}

/// The same with [`TEXT`] in it, in a directory of its own.
pub(crate) fn site() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("ha")).unwrap();
    fs::write(config(directory.path()), TEXT).unwrap();
    let store = store(directory.path());
    (directory, store)
}

/// What is in `ha`: nothing may be left there.
pub(crate) fn entries(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory.join("ha")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Appends a line to the file.
pub(crate) fn append(store: &Store, line: &str) -> Result<Saved, Error> {
    let Snapshot { mut bytes, identity } = store.read()?;
    bytes.extend_from_slice(line.as_bytes());
    store.save(&identity, &bytes, "root", line.trim())
}

fn again(test: &str, directory: &Path, command: &mut Command) {
    // The build directory may be closed to others.
    let program = directory.join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let directory = directory.as_os_str();
    let status = command.arg(program).args(["--exact", test, "--nocapture"]).env(INSIDE, directory);
    assert!(status.status().unwrap().success());
}

/// Runs `body` with a directory on which `mount`, a shell script, was carried out with the
/// directory as `$1`, in a mount namespace. Where there is none to be had it says so.
pub(crate) fn with_mounts(test: &str, mount: &str, body: impl FnOnce(&Path)) {
    if let Some(directory) = std::env::var_os(INSIDE) {
        return body(Path::new(&directory));
    }
    let (directory, _) = site();
    fs::create_dir(directory.path().join("history")).unwrap();
    let own =
        if nix::unistd::geteuid().is_root() { &[][..] } else { &["--user", "--map-root-user"] };
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(own).arg("--mount");
        command
    };
    if !unshare().arg("true").status().is_ok_and(|status| status.success()) {
        eprintln!("{test}: left out: no mount namespace to be had");
        return;
    }
    let script = format!("{mount}\nshift; exec \"$@\"");
    let mut command = unshare();
    command.args(["sh", "-ec", &script, "sh"]).arg(directory.path());
    again(test, directory.path(), &mut command);
}

/// Runs `body` as user and group 60, in a directory that `prepare` has made for it as root.
pub(crate) fn as_page(test: &str, prepare: impl FnOnce(&Path), body: impl FnOnce(&Path)) {
    if let Some(directory) = std::env::var_os(INSIDE) {
        return body(Path::new(&directory));
    }
    if !nix::unistd::geteuid().is_root() {
        eprintln!("{test}: left out: it takes root to become somebody else");
        return;
    }
    let (directory, _) = site();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    prepare(directory.path());
    let mut command = Command::new("env");
    command.uid(60).gid(60);
    again(test, directory.path(), &mut command);
}
