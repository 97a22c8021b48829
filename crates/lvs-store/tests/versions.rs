//! Previous versions: kept, listed, compared, restored; and never in the way of a save.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use common::{TEXT, append, config, site};
use lvs_store::{Error, History, Identity, Store};

#[test]
fn each_save_is_kept_with_author_summary_and_time() {
    let (_directory, store) = site();
    assert_eq!(store.versions().unwrap(), []);
    let before = SystemTime::now() - Duration::from_secs(2);
    for (line, number) in [("# one\n", 2), ("# two\n", 3)] {
        assert_eq!(append(&store, line).unwrap().version, Some(number));
    }
    let versions = store.versions().unwrap();
    let seen: Vec<_> = versions
        .iter()
        .map(|version| {
            let author = version.author.as_deref();
            (version.number, author, version.summary.as_str(), version.serial_no)
        })
        .collect();
    // The first is the file as it was found.
    let want = [(3, Some("root"), "# two", 9), (2, Some("root"), "# one", 8), (1, None, "", 7)];
    assert_eq!(seen, want);
    assert!(versions.iter().all(|version| version.time >= before));
    let (version, bytes) = store.version(1).unwrap();
    assert_eq!((version.size, bytes), (TEXT.len() as u64, TEXT.as_bytes().to_vec()));
    assert_eq!(store.version(3).unwrap().1, store.read().unwrap().bytes);
    assert!(matches!(store.version(4), Err(Error::NoSuchVersion(4))));
}

#[test]
fn what_was_edited_by_hand_is_kept_before_it_is_replaced() {
    let (directory, store) = site();
    append(&store, "# one\n").unwrap();
    fs::write(config(directory.path()), "serial_no = 20\n# by hand\n").unwrap();
    let saved = append(&store, "# two\n").unwrap();
    assert_eq!((saved.serial_no, saved.version), (21, Some(4)));
    let (version, bytes) = store.version(3).unwrap();
    assert_eq!((version.author, version.serial_no), (None, 20));
    assert_eq!(bytes, b"serial_no = 20\n# by hand\n");
}

#[test]
fn the_oldest_go() {
    let (directory, _) = site();
    let place = directory.path().join("history");
    // Fewer than 20 are not to be had.
    let store = Store::new(config(directory.path()), History::new(&place).keep(1));
    for number in 0..30 {
        append(&store, &format!("# {number}\n")).unwrap();
    }
    let numbers: Vec<u64> = store.versions().unwrap().iter().map(|v| v.number).collect();
    assert_eq!(numbers, (12..=31).rev().collect::<Vec<u64>>());
    assert_eq!(fs::read_dir(&place).unwrap().count(), 40);
    assert!(matches!(store.version(11), Err(Error::NoSuchVersion(11))));
    let store = Store::new(config(directory.path()), History::new(&place).keep(25));
    for number in 0..10 {
        append(&store, &format!("# more {number}\n")).unwrap();
    }
    assert_eq!(store.versions().unwrap().len(), 25);
}

#[test]
fn numbers_are_not_used_again() {
    let (directory, store) = site();
    append(&store, "# one\n").unwrap();
    let place = directory.path().join("history");
    fs::remove_file(place.join("00000002.cf")).unwrap();
    // Its note is still there.
    let saved = append(&store, "# two\n").unwrap();
    // The text that was version 2 is kept again, as 3.
    assert_eq!(saved.version, Some(4));
    assert!(!place.join("00000002.json").exists(), "what is left of a version goes");
}

#[test]
fn versions_are_compared() {
    let (directory, store) = site();
    append(&store, "# one\n").unwrap();
    let want = "--- version 1\n+++ version 2\n@@ -1,4 +1,5 @@\n-serial_no = 7\n+serial_no = 8\n \
        primary = 10.0.0.1\n # kept\n service = lvs\n+# one\n";
    assert_eq!(store.compare(1, Some(2)).unwrap(), want);
    let name = config(directory.path()).display().to_string();
    assert_eq!(store.compare(1, None).unwrap(), want.replace("version 2", &name));
    assert_eq!(store.compare(2, None).unwrap(), "");
    assert!(matches!(store.compare(9, None), Err(Error::NoSuchVersion(9))));
}

#[test]
fn a_version_comes_back_with_a_higher_serial_number() {
    let (directory, store) = site();
    let saved = append(&store, "# one\n").unwrap();
    let restored = store.restore(&saved.snapshot.identity, 1, "piranha").unwrap();
    let text = fs::read_to_string(config(directory.path())).unwrap();
    assert_eq!(text, TEXT.replace("= 7", "= 9"));
    assert_eq!((restored.serial_no, restored.version), (9, Some(3)));
    let version = &store.versions().unwrap()[0];
    assert_eq!(version.author.as_deref(), Some("piranha"));
    assert_eq!(version.summary, "version 1 restored");
    let stale = store.restore(&saved.snapshot.identity, 1, "piranha");
    assert!(matches!(stale, Err(Error::ChangedUnderneath(_))));
}

#[test]
fn a_removed_file_comes_back() {
    let (directory, store) = site();
    append(&store, "# one\n").unwrap();
    fs::remove_file(config(directory.path())).unwrap();
    store.restore(&Identity::ABSENT, 2, "root").unwrap();
    // Nothing is there to be higher than.
    let text = fs::read_to_string(config(directory.path())).unwrap();
    assert_eq!(text, format!("{}# one\n", TEXT.replace("= 7", "= 8")));
}

#[test]
fn the_directory_is_closed_to_others() {
    let (directory, store) = site();
    append(&store, "# one\n").unwrap();
    let place = directory.path().join("history");
    assert_eq!(fs::metadata(&place).unwrap().mode() & 0o7777, 0o2770);
    for entry in fs::read_dir(&place).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().mode() & 0o7777, 0o640);
    }
}

#[test]
fn a_history_that_is_no_directory_is_not_in_the_way() {
    let (directory, store) = site();
    fs::write(directory.path().join("history"), "").unwrap();
    let saved = append(&store, "# one\n").unwrap();
    assert_eq!((saved.version, saved.is_written), (None, true));
    assert!(saved.warnings.iter().all(|warning| warning.contains("no version is kept")));
    assert!(!saved.warnings.is_empty());
    assert!(matches!(store.versions(), Err(Error::History { .. })));
}

#[test]
fn damage_is_found_and_not_in_the_way() {
    let (directory, store) = site();
    for line in ["# one\n", "# two\n", "# three\n"] {
        append(&store, line).unwrap();
    }
    let place = directory.path().join("history");
    fs::write(place.join("00000001.json"), "{").unwrap();
    fs::write(place.join("00000002.cf"), "other").unwrap();
    fs::remove_file(place.join("00000003.cf")).unwrap();
    symlink("/etc/passwd", place.join("00000003.cf")).unwrap();
    // None of these is a version.
    for name in ["5.cf", "00000006.txt", "000000007.cf", "-0000008.cf", "+0000009.cf", ".x"] {
        fs::write(place.join(name), "x").unwrap();
    }
    fs::create_dir(place.join("00000010.cf")).unwrap();

    let numbers: Vec<u64> = store.versions().unwrap().iter().map(|v| v.number).collect();
    assert_eq!(numbers, [4, 2, 1]);
    let (version, bytes) = store.version(1).unwrap();
    assert_eq!((version.author, version.serial_no, bytes), (None, 7, TEXT.as_bytes().to_vec()));
    for number in [2, 3, 10] {
        assert!(matches!(store.version(number), Err(Error::Damaged { .. })), "{number}");
    }
    let identity = store.read().unwrap().identity;
    assert!(matches!(store.restore(&identity, 2, ""), Err(Error::Damaged { number: 2, .. })));
    let saved = append(&store, "# four\n").unwrap();
    assert_eq!(saved.version, Some(12));
    assert_eq!(saved.warnings, Vec::<String>::new());
}

#[test]
fn a_history_that_cannot_be_pruned_says_so() {
    let (directory, _) = site();
    let place = directory.path().join("history");
    fs::create_dir_all(place.join("00000001.cf")).unwrap();
    let store = Store::new(config(directory.path()), History::new(&place).keep(20));
    let mut warnings = Vec::new();
    for number in 0..20 {
        warnings.extend(append(&store, &format!("# {number}\n")).unwrap().warnings);
    }
    assert!(!warnings.is_empty());
    assert!(warnings.iter().all(|warning| warning.contains("Is a directory")), "{warnings:?}");
}

#[test]
fn a_history_that_nobody_can_read() {
    common::as_page(
        "a_history_that_nobody_can_read",
        |directory| {
            let place = directory.join("history");
            fs::create_dir(&place).unwrap();
            fs::set_permissions(&place, Permissions::from_mode(0o700)).unwrap();
            for path in [directory.join("ha"), config(directory)] {
                std::os::unix::fs::chown(path, Some(60), Some(60)).unwrap();
            }
        },
        |directory| {
            let store = common::store(directory);
            let saved = append(&store, "# one\n").unwrap();
            assert_eq!(saved.version, None);
            assert!(saved.warnings.iter().all(|warning| warning.contains("mode 2770")));
            assert!(matches!(store.versions(), Err(Error::History { .. })));
        },
    );
}

#[test]
fn author_and_summary_are_one_short_line() {
    let (_directory, store) = site();
    let read = store.read().unwrap();
    let long = "x".repeat(1000);
    store.save(&read.identity, b"# a\n", "a\n\x1b[31mb", &long).unwrap();
    let version = &store.versions().unwrap()[0];
    assert_eq!(version.author.as_deref(), Some("a  [31mb"));
    assert_eq!(version.summary.len(), 200);
}
