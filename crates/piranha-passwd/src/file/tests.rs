use super::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

/// A directory, and the password file's path in it.
fn site() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("piranha.passwd");
    (directory, path)
}

fn count(directory: &tempfile::TempDir) -> usize {
    fs::read_dir(directory.path()).unwrap().count()
}

#[test]
fn a_new_file_is_for_the_page_only() {
    let (directory, path) = site();
    set_password(&path, USER, b"secret").unwrap();
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(metadata.mode() & 0o7777, 0o600);
    let file = load(&path).unwrap();
    assert!(file.verify(b"piranha", b"secret"));
    assert!(!file.verify(b"piranha", b"Secret"));
    assert!(file.as_bytes().starts_with(b"piranha:$2y$11$"));
    assert_eq!(count(&directory), 1);
}

#[test]
fn an_old_file_keeps_its_lines_and_loses_its_permissions() {
    let (directory, path) = site();
    fs::write(&path, "# kept\nother:abJnggxhB/yWI\npiranha:abJnggxhB/yWI\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
    // Only root may give files away; then the owner stays where no user piranha takes it over.
    let is_given = std::os::unix::fs::chown(&path, Some(4321), Some(4321)).is_ok();
    set_password(&path, USER, b"secret").unwrap();
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(metadata.mode() & 0o7777, 0o600);
    if is_given && User::from_name(USER).unwrap().is_none() {
        assert_eq!((metadata.uid(), metadata.gid()), (4321, 4321));
    }
    let file = load(&path).unwrap();
    assert!(file.as_bytes().starts_with(b"# kept\nother:abJnggxhB/yWI\npiranha:$2y$"));
    assert!(file.verify(b"piranha", b"secret"));
    assert_eq!(count(&directory), 1);
}

#[test]
fn bad_passwords_change_nothing() {
    let (directory, path) = site();
    let long = [b'x'; 73];
    let cases: [(&[u8], &str); 4] = [
        (b"", "an empty password"),
        (b"a\0b", "NUL"),
        (b"a\x1b[A", "control character"),
        (&long, "73 bytes"),
    ];
    for (password, message) in cases {
        let error = set_password(&path, USER, password).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    assert_eq!(count(&directory), 0);
    set_password(&path, USER, &long[1..]).unwrap();
    assert!(load(&path).unwrap().verify(b"piranha", &long[1..]));
}

#[test]
fn what_is_no_file_is_refused_and_left_alone() {
    let (directory, path) = site();
    let refused = |what: &str| {
        for error in [set_password(&path, USER, b"secret").unwrap_err(), load(&path).unwrap_err()] {
            assert_eq!(
                error.to_string(),
                format!("{} is {what}, not a password file: move it away", path.display())
            );
        }
        assert!(count(&directory) <= 2);
    };
    let other = directory.path().join("other");
    fs::write(&other, "piranha:x\n").unwrap();
    symlink(&other, &path).unwrap();
    refused("a symbolic link");
    assert_eq!(fs::read(&other).unwrap(), b"piranha:x\n");
    fs::remove_file(&path).unwrap();
    symlink("nowhere", &path).unwrap();
    refused("a symbolic link");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    refused("a directory");
    fs::remove_dir(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    refused("a device or pipe");
    fs::remove_file(&path).unwrap();
    let _socket = UnixListener::bind(&path).unwrap();
    refused("a socket");
    fs::remove_file(&path).unwrap();
    File::create(&path).unwrap().set_len(LARGEST + 1).unwrap();
    refused("larger than 1 MB");
}

#[test]
fn missing_files_and_directories_are_told_apart() {
    let (directory, path) = site();
    let error = load(&path).unwrap_err().to_string();
    assert!(error.contains("run piranha-passwd as root"), "{error}");
    let path = directory.path().join("conf/piranha.passwd");
    let error = set_password(&path, USER, b"secret").unwrap_err().to_string();
    let place = directory.path().join("conf");
    assert!(error.starts_with(&format!("make a file in {}: No such file", place.display())));
    assert!(error.ends_with("; make this directory first"), "{error}");
}

#[test]
fn nobody_s_change_is_lost() {
    let (directory, path) = site();
    let users: Vec<String> = (0..4).map(|number| format!("user{number}")).collect();
    std::thread::scope(|scope| {
        for user in &users {
            scope.spawn(|| set_password(&path, user, user.as_bytes()).unwrap());
        }
    });
    let file = load(&path).unwrap();
    for user in &users {
        assert!(file.verify(user.as_bytes(), user.as_bytes()), "{user}");
    }
    assert_eq!(count(&directory), 1);
}

#[test]
fn a_file_changed_meanwhile_is_not_replaced() {
    let (_directory, path) = site();
    fs::write(&path, "a:x\n").unwrap();
    let old = open(&path).unwrap();
    let staged = Staged::write(&path, b"new", &Attributes::with_mode(MODE)).unwrap();
    fs::write(&path, "b:y\n").unwrap();
    File::options().write(true).open(&path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    assert!(finish(staged, Some(&old)).unwrap().is_none());
    assert_eq!(fs::read(&path).unwrap(), b"b:y\n");
    let staged = Staged::write(&path, b"new", &Attributes::with_mode(MODE)).unwrap();
    assert!(finish(staged, None).unwrap().is_none());
    assert_eq!(fs::read(&path).unwrap(), b"b:y\n");
}
