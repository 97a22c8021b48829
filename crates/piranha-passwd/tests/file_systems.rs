//! File systems that are full or read-only, and a system with a user piranha: each in a mount
//! namespace of its own, for which a test runs itself again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use piranha_passwd::{USER, load, set_password};

const INSIDE: &str = "PIRANHA_TEST_MOUNT";

/// Runs `body` with a directory on which `mount`, a shell script, has been carried out with the
/// directory as `$1`. Without the right to make a mount namespace it says so and does nothing.
fn with_mounts(test: &str, mount: &str, body: impl FnOnce(&Path)) {
    if let Some(directory) = std::env::var_os(INSIDE) {
        return body(&PathBuf::from(directory));
    }
    let directory = tempfile::tempdir().unwrap();
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
    let status = unshare()
        .args(["sh", "-ec", &format!("{mount}\nexec \"$2\" --exact {test} --nocapture"), "sh"])
        .arg(directory.path())
        .arg(std::env::current_exe().unwrap())
        .env(INSIDE, directory.path())
        .status();
    assert!(status.unwrap().success());
}

const SMALL: &str = "mount -t tmpfs -o size=64k none \"$1\"";

fn fill(directory: &Path) {
    let filler = fs::File::create(directory.join("filler")).unwrap();
    let mut written = &filler;
    while std::io::Write::write_all(&mut written, &[0; 4096]).is_ok() {}
}

fn refused(path: &Path, message: &str) {
    let old = fs::read(path).unwrap();
    let count = || fs::read_dir(path.parent().unwrap()).unwrap().count();
    let before = count();
    let error = set_password(path, USER, b"new").unwrap_err().to_string();
    assert!(error.contains(message), "{error}");
    assert_eq!(fs::read(path).unwrap(), old);
    assert_eq!(count(), before);
    assert!(load(path).unwrap().verify(b"piranha", b"old"));
}

#[test]
fn full() {
    with_mounts("full", SMALL, |directory| {
        let path = directory.join("piranha.passwd");
        set_password(&path, USER, b"old").unwrap();
        fill(directory);
        refused(&path, "No space left on device (os error 28); make room");
    });
}

#[test]
fn read_only() {
    with_mounts("read_only", SMALL, |directory| {
        let path = directory.join("piranha.passwd");
        set_password(&path, USER, b"old").unwrap();
        let remount = ["-o", "remount,bind,ro"];
        assert!(Command::new("mount").args(remount).arg(directory).status().unwrap().success());
        refused(&path, "mount the file system writable");
    });
}

#[test]
fn owned_by_user_piranha() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("owned_by_user_piranha: left out: only root may give files away");
        return;
    }
    let users = "echo 'root:x:0:0::/:/bin/sh
piranha:x:60:61::/:/sbin/nologin' >\"$1/users\"
mount --bind \"$1/users\" /etc/passwd";
    with_mounts("owned_by_user_piranha", users, |directory| {
        let path = directory.join("piranha.passwd");
        fs::write(&path, "other:x\n").unwrap();
        set_password(&path, USER, b"secret").unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (60, 61));
        assert_eq!(metadata.mode() & 0o7777, 0o600);
    });
}
