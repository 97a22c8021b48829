use super::*;
use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};

/// A directory and a file `f` in it with content `old`.
fn site() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    fs::write(&path, "old").unwrap();
    (directory, path)
}

fn staged(path: &Path) -> Staged {
    Staged::write(path, b"new", &Attributes::with_mode(0o640)).unwrap()
}

fn entries(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn nothing_is_visible_until_the_name_is_given() {
    let (directory, path) = site();
    let new = staged(&path);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    new.replace().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
    assert_eq!(entries(directory.path()), ["f"]);
}

#[test]
fn what_is_not_used_is_removed() {
    let (directory, path) = site();
    drop(staged(&path));
    assert_eq!(entries(directory.path()), ["f"]);
    assert_eq!(fs::read(&path).unwrap(), b"old");
}

#[test]
fn create_takes_only_a_free_name() {
    let (directory, path) = site();
    let failure = staged(&path).create().unwrap_err();
    assert_eq!(failure.source.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    staged(&directory.path().join("g")).create().unwrap();
    assert_eq!(entries(directory.path()), ["f", "g"]);
}

#[test]
fn a_link_is_replaced_and_not_followed() {
    let (directory, path) = site();
    let link = directory.path().join("link");
    symlink(&path, &link).unwrap();
    staged(&link).replace().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert!(fs::symlink_metadata(&link).unwrap().is_file());
}

#[test]
fn exchange_shows_the_old_file_and_removes_it() {
    let (directory, path) = site();
    let mut seen = Vec::new();
    let replaced = staged(&path).exchange(|old| {
        seen = fs::read(old).unwrap();
        true
    });
    assert!(replaced.unwrap().unsynced.is_none());
    assert_eq!(seen, b"old");
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(entries(directory.path()), ["f"]);
}

#[test]
fn an_unexpected_file_gets_its_name_back() {
    let (directory, path) = site();
    let refused = staged(&path).exchange(|old| fs::read(old).unwrap() == b"something else");
    assert!(matches!(refused, Err(NotExchanged::Unexpected)), "{refused:?}");
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(entries(directory.path()), ["f"]);
}

#[test]
fn the_latest_of_three_files_wins() {
    let (directory, path) = site();
    let third = directory.path().join("third");
    fs::write(&third, "third").unwrap();
    let refused = staged(&path).exchange(|_| {
        fs::rename(&third, &path).unwrap();
        false
    });
    assert!(matches!(refused, Err(NotExchanged::Unexpected)), "{refused:?}");
    assert_eq!(fs::read(&path).unwrap(), b"third");
    assert_eq!(entries(directory.path()), ["f"]);
}

#[test]
fn a_file_removed_meanwhile_gives_its_name_back_all_the_same() {
    let (directory, path) = site();
    let refused = staged(&path).exchange(|_| {
        fs::remove_file(&path).unwrap();
        false
    });
    assert!(matches!(refused, Err(NotExchanged::Unexpected)), "{refused:?}");
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(entries(directory.path()), ["f"]);
}

#[test]
fn exchange_with_nothing_is_unexpected() {
    let (directory, path) = site();
    let new = staged(&path);
    fs::remove_file(&path).unwrap();
    let refused = new.exchange(|_| true);
    assert!(matches!(refused, Err(NotExchanged::Unexpected)), "{refused:?}");
    assert!(entries(directory.path()).is_empty());
}

#[test]
fn failures_name_the_step_and_the_place() {
    let (directory, path) = site();
    let nowhere = directory.path().join("no/f");
    let failure = Staged::write(&nowhere, b"", &Attributes::with_mode(0o600)).unwrap_err();
    assert_eq!(failure.step, Step::Make);
    let place = directory.path().join("no").display().to_string();
    assert!(failure.to_string().starts_with(&format!("make a file in {place}: No such file")));
    assert_eq!(failure.source.raw_os_error(), Some(Errno::NOENT.raw_os_error()));

    let folder = directory.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let failure = staged(&folder).replace().unwrap_err();
    assert_eq!((failure.step, failure.path), (Step::Rename, folder));
    assert_eq!(entries(directory.path()), ["f", "folder"]);
    drop(path);
}

#[test]
fn attributes_carry_over() {
    let (_directory, path) = site();
    fs::set_permissions(&path, Permissions::from_mode(0o664)).unwrap();
    let old = File::open(&path).unwrap();
    // Only root may give files away.
    let is_root = std::os::unix::fs::fchown(&old, Some(12345), Some(54321)).is_ok();
    let attributes = Attributes::of(&old).unwrap();
    Staged::write(&path, b"new", &attributes).unwrap().replace().unwrap();
    let new = fs::metadata(&path).unwrap();
    assert_eq!(new.mode() & 0o7777, 0o664);
    if is_root {
        assert_eq!((new.uid(), new.gid()), (12345, 54321));
    }
}

#[test]
fn access_lists_carry_over_unless_left_out() {
    use rustix::fs::{XattrFlags, setxattr};
    let (_directory, path) = site();
    // acl(5) as linux/posix_acl_xattr.h has it: user::rw, user:99:r, group::-, mask::r, other::-.
    let entry = |tag: u16, rights: u16, id: u32| {
        [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let nobody = u32::MAX;
    let list = [
        2_u32.to_le_bytes().to_vec(),
        entry(0x01, 6, nobody),
        entry(0x02, 4, 99),
        entry(0x04, 0, nobody),
        entry(0x10, 4, nobody),
        entry(0x20, 0, nobody),
    ]
    .concat();
    match setxattr(&path, c"system.posix_acl_access", &list, XattrFlags::empty()) {
        Ok(()) => {}
        Err(Errno::NOTSUP) => return,
        Err(error) => panic!("{error}"),
    }
    let attributes = Attributes::of(&File::open(&path).unwrap()).unwrap();
    let now = || Attributes::of(&File::open(&path).unwrap()).unwrap().extended;
    Staged::write(&path, b"new", &attributes).unwrap().replace().unwrap();
    assert_eq!(now(), [(ACCESS.to_owned(), list)]);
    let private = Attributes { mode: 0o600, ..attributes.without_access_list() };
    Staged::write(&path, b"new", &private).unwrap().replace().unwrap();
    assert_eq!(now(), []);
}

const ACCESS: &std::ffi::CStr = c"system.posix_acl_access";
