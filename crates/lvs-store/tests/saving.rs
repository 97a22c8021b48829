//! Saving: nobody's change is lost, and the file stays whose it was.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use common::{TEXT, append, as_page, config, entries, site, store, with_mounts};
use lvs_store::{Error, Identity, Store};
use proptest::prelude::*;

fn text(directory: &Path) -> String {
    fs::read_to_string(config(directory)).unwrap()
}

/// What a refusal says, after a look that nothing has changed.
fn refusal(directory: &Path, store: &Store, expected: &Identity) -> Error {
    let before = fs::read(config(directory)).ok();
    let error = store.save(expected, b"service = fos\n", "root", "").unwrap_err();
    assert_eq!(fs::read(config(directory)).ok(), before);
    assert_eq!(entries(directory).len(), usize::from(before.is_some()));
    error
}

#[test]
fn a_save_raises_the_serial_number_and_changes_nothing_else() {
    let (directory, store) = site();
    let read = store.read().unwrap();
    assert_eq!(read.bytes, TEXT.as_bytes());
    let new = TEXT.replace("10.0.0.1", "10.0.0.9");
    let saved = store.save(&read.identity, new.as_bytes(), "root", "primary moved").unwrap();
    assert_eq!((saved.serial_no, saved.is_written), (8, true));
    assert_eq!(saved.warnings, Vec::<String>::new());
    let path = directory.path();
    assert_eq!(text(path), TEXT.replace("10.0.0.1", "10.0.0.9").replace("= 7", "= 8"));
    // The snapshot is what is there: one can go on from it.
    assert_eq!(store.read().unwrap(), saved.snapshot);
    assert_eq!(entries(path), ["lvs.cf"]);
    let saved = store.save(&saved.snapshot.identity, b"", "root", "emptied").unwrap();
    assert_eq!((text(path).as_str(), saved.serial_no), ("serial_no = 9\n", 9));
}

#[test]
fn the_same_text_is_not_saved() {
    let (directory, store) = site();
    let read = store.read().unwrap();
    let saved = store.save(&read.identity, &read.bytes, "root", "").unwrap();
    assert_eq!((saved.is_written, saved.serial_no, saved.version), (false, 7, None));
    assert_eq!(store.read().unwrap(), read);
    assert_eq!(text(directory.path()), TEXT);
    assert_eq!(store.versions().unwrap(), []);
}

#[test]
fn a_file_changed_underneath_is_not_overwritten() {
    type Change = fn(&Path);
    let changes: [(&str, Change, Option<&str>); 6] = [
        ("written to", |path| fs::write(path, "other").unwrap(), Some("other")),
        ("cut off", |path| fs::write(path, "").unwrap(), Some("")),
        (
            "written to with the same text",
            |path| {
                File::options()
                    .write(true)
                    .open(path)
                    .unwrap()
                    .set_modified(std::time::UNIX_EPOCH)
                    .unwrap();
            },
            Some(TEXT),
        ),
        (
            "replaced",
            |path| {
                fs::write(path.with_extension("new"), "other").unwrap();
                fs::rename(path.with_extension("new"), path).unwrap();
            },
            Some("other"),
        ),
        (
            "replaced by a file with the same text",
            |path| {
                fs::copy(path, path.with_extension("new")).unwrap();
                fs::rename(path.with_extension("new"), path).unwrap();
            },
            Some(TEXT),
        ),
        ("removed", |path| fs::remove_file(path).unwrap(), None),
    ];
    for (what, change, now) in changes {
        let (directory, store) = site();
        let read = store.read().unwrap();
        change(&config(directory.path()));
        let error = refusal(directory.path(), &store, &read.identity);
        let Error::ChangedUnderneath(changed) = error else { panic!("{what}: {error}") };
        let current = changed.current.map(|current| String::from_utf8(current.bytes).unwrap());
        assert_eq!(current.as_deref(), now, "{what}");
    }
}

#[test]
fn what_is_shown_of_a_changed_file_can_be_saved_upon() {
    let (directory, store) = site();
    let read = store.read().unwrap();
    append(&store, "keepalive = 6\n").unwrap();
    let error = refusal(directory.path(), &store, &read.identity);
    let Error::ChangedUnderneath(changed) = error else { panic!("{error}") };
    let current = changed.current.unwrap();
    store.save(&current.identity, &current.bytes[1..], "root", "").unwrap();
}

#[test]
fn many_savers_lose_nothing() {
    const SAVERS: usize = 6;
    const SAVES: usize = 8;
    let (directory, store) = site();
    std::thread::scope(|scope| {
        for saver in 0..SAVERS {
            let store = store.clone();
            scope.spawn(move || {
                for save in 0..SAVES {
                    while let Err(error) = append(&store, &format!("# {saver}.{save}\n")) {
                        assert!(matches!(error, Error::ChangedUnderneath(_)), "{error}");
                    }
                }
            });
        }
    });
    let text = text(directory.path());
    for saver in 0..SAVERS {
        for save in 0..SAVES {
            assert_eq!(text.matches(&format!("# {saver}.{save}\n")).count(), 1);
        }
    }
    assert!(text.starts_with(&format!("serial_no = {}\n", 7 + SAVERS * SAVES)));
    assert_eq!(entries(directory.path()), ["lvs.cf"]);
    // One for each, and the one that was there before.
    assert_eq!(store.versions().unwrap().len(), SAVERS * SAVES + 1);
}

#[test]
fn what_another_program_renames_into_place_is_never_lost() {
    // Like rsync, which knows nothing of the lock: at all moments from the read to the end of
    // the save.
    const ROUNDS: u64 = 150;
    let (directory, store) = site();
    let path = config(directory.path());
    let (go, gone) = (mpsc::channel(), mpsc::channel());
    let rude = std::thread::spawn({
        let path = path.clone();
        move || {
            let new = path.with_file_name(".lvs.cf.rsync");
            for round in go.1 {
                fs::write(&new, format!("# rude {round}\n")).unwrap();
                std::thread::sleep(Duration::from_micros(round * 97 % 6_000));
                fs::rename(&new, &path).unwrap();
                gone.0.send(()).unwrap();
            }
        }
    });
    let mut refused = 0;
    for round in 0..ROUNDS {
        let before = store.read().unwrap();
        go.0.send(round).unwrap();
        let text = [&before.bytes[..], b"# ours\n"].concat();
        match store.save(&before.identity, &text, "", "") {
            Ok(_) => {}
            Err(Error::ChangedUnderneath(_)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        gone.1.recv().unwrap();
        // It came after what was read: whatever it met, it is not for this save to replace.
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("# rude {round}\n"));
    }
    drop(go.0);
    rude.join().unwrap();
    assert!(refused > 0, "the two have never met");
    assert_eq!(entries(directory.path()), ["lvs.cf"]);
}

#[test]
fn owner_group_and_mode_stay() {
    let (directory, store) = site();
    let path = config(directory.path());
    // Only root may give files away.
    let ids = match chown(&path, Some(1234), Some(60)) {
        Ok(()) => (1234, 60),
        Err(_) => (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()),
    };
    fs::set_permissions(&path, Permissions::from_mode(0o664)).unwrap();
    append(&store, "keepalive = 6\n").unwrap();
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), ids);
    assert_eq!(metadata.mode() & 0o7777, 0o664);
}

#[test]
fn a_link_is_followed_to_its_file() {
    let (directory, store) = site();
    let path = config(directory.path());
    let real = directory.path().join("real");
    fs::create_dir(&real).unwrap();
    let target = real.join("director.cf");
    fs::rename(&path, &target).unwrap();
    symlink("../real/director.cf", &path).unwrap();
    append(&store, "keepalive = 6\n").unwrap();
    assert!(path.is_symlink());
    assert!(fs::read_to_string(&target).unwrap().ends_with("keepalive = 6\n"));
    assert_eq!(fs::read_dir(&real).unwrap().count(), 1);

    let read = store.read().unwrap();
    fs::copy(&target, real.join("other.cf")).unwrap();
    fs::remove_file(&path).unwrap();
    symlink("../real/other.cf", &path).unwrap();
    let error = refusal(directory.path(), &store, &read.identity);
    assert!(matches!(error, Error::ChangedUnderneath(_)), "{error}");

    fs::remove_file(real.join("other.cf")).unwrap();
    let error = store.save(&Identity::ABSENT, b"x", "", "").unwrap_err().to_string();
    assert!(error.contains("is a symbolic link to no file"), "{error}");
    assert!(!real.join("other.cf").exists());
}

#[test]
fn what_is_no_file_is_refused() {
    let (directory, store) = site();
    let path = config(directory.path());
    let identity = store.read().unwrap().identity;
    fs::remove_file(&path).unwrap();
    assert!(matches!(store.read(), Err(Error::Missing(_))));
    let refused = |what: &str| {
        for error in [
            store.read().unwrap_err(),
            store.save(&identity, b"", "", "").unwrap_err(),
            store.save(&Identity::ABSENT, b"", "", "").unwrap_err(),
        ] {
            let want =
                format!("{} is {what}, not a configuration file: move it away", path.display());
            assert_eq!(error.to_string(), want);
        }
    };
    fs::create_dir(&path).unwrap();
    refused("a directory");
    fs::remove_dir(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    refused("a device or pipe");
    fs::remove_file(&path).unwrap();
    File::create(&path).unwrap().set_len(33 << 20).unwrap();
    refused("larger than 32 MB");
}

#[test]
fn a_new_file_is_made_only_where_none_is() {
    let (directory, store) = site();
    let error = refusal(directory.path(), &store, &Identity::ABSENT);
    assert!(matches!(error, Error::ChangedUnderneath(_)), "{error}");
    fs::remove_file(config(directory.path())).unwrap();
    let saved = store.save(&Identity::ABSENT, b"service = lvs\n", "root", "made").unwrap();
    assert_eq!(text(directory.path()), "serial_no = 1\nservice = lvs\n");
    let mode = fs::metadata(config(directory.path())).unwrap().mode() & 0o7777;
    assert_eq!((saved.serial_no, mode), (1, 0o664));
}

#[test]
fn a_full_file_system() {
    let mount = "mount -t tmpfs -o size=64k none \"$1/ha\"";
    with_mounts("a_full_file_system", mount, |directory| {
        fs::write(config(directory), TEXT).unwrap();
        let store = store(directory);
        let read = store.read().unwrap();
        let filler = directory.join("ha/filler");
        let mut file = File::create(&filler).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        let error = store.save(&read.identity, b"x", "", "").unwrap_err().to_string();
        assert!(error.contains("No space left on device (os error 28); make room"), "{error}");
        assert_eq!(store.read().unwrap(), read);
        assert_eq!(entries(directory).len(), 2);
        drop(file);
        fs::remove_file(filler).unwrap();
        append(&store, "# x\n").unwrap();
    });
}

#[test]
fn a_full_history() {
    let mount = "mount -t tmpfs -o size=16k none \"$1/history\"";
    with_mounts("a_full_history", mount, |directory| {
        let mut file = File::create(directory.join("history/filler")).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        let store = store(directory);
        let saved = append(&store, "# x\n").unwrap();
        assert_eq!(saved.version, None);
        // That which came from elsewhere, and the new one.
        assert_eq!(saved.warnings.len(), 2);
        for warning in &saved.warnings {
            assert!(warning.starts_with("saved, but no version is kept: previous versions in"));
            assert!(warning.contains("No space left on device"), "{warning}");
        }
        assert!(text(directory).ends_with("# x\n"));
        assert_eq!(fs::read_dir(directory.join("history")).unwrap().count(), 1);
    });
}

#[test]
fn a_read_only_file_system() {
    let mount = "mount -t tmpfs none \"$1/ha\"
        echo 'service = lvs' >\"$1/ha/lvs.cf\"
        mount -o remount,bind,ro \"$1/ha\"";
    with_mounts("a_read_only_file_system", mount, |directory| {
        let store = store(directory);
        let read = store.read().unwrap();
        let error = refusal(directory, &store, &read.identity).to_string();
        assert!(error.ends_with("; mount the file system writable"), "{error}");
    });
}

fn give(path: &Path, group: u32, mode: u32) {
    chown(path, Some(0), Some(group)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_page_saves_in_a_directory_of_its_group() {
    let prepare = |directory: &Path| {
        give(&directory.join("ha"), 60, 0o775);
        give(&config(directory), 60, 0o664);
    };
    as_page("the_page_saves_in_a_directory_of_its_group", prepare, |directory| {
        let saved = append(&store(directory), "# x\n").unwrap();
        assert_eq!(saved.warnings, Vec::<String>::new());
        let metadata = fs::metadata(config(directory)).unwrap();
        assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (60, 60, 0o664));
        assert_eq!(entries(directory), ["lvs.cf"]);
    });
}

#[test]
fn the_page_in_a_directory_that_it_may_not_write() {
    let prepare = |directory: &Path| {
        give(&directory.join("ha"), 0, 0o755);
        give(&config(directory), 60, 0o664);
    };
    as_page("the_page_in_a_directory_that_it_may_not_write", prepare, |directory| {
        let store = store(directory);
        let identity = store.read().unwrap().identity;
        let error = refusal(directory, &store, &identity).to_string();
        let place = directory.join("ha");
        let place = place.display();
        assert!(
            error.starts_with(&format!("make a file in {place}: Permission denied")),
            "{error}"
        );
        assert!(error.ends_with(&format!("chmod g+w {place}")), "{error}");
    });
}

#[test]
fn the_page_and_a_file_that_it_may_not_write() {
    let prepare = |directory: &Path| {
        give(&directory.join("ha"), 60, 0o775);
        give(&config(directory), 60, 0o644);
    };
    as_page("the_page_and_a_file_that_it_may_not_write", prepare, |directory| {
        let store = store(directory);
        let identity = store.read().unwrap().identity;
        let error = refusal(directory, &store, &identity);
        assert!(matches!(error, Error::NotWritable { .. }), "{error}");
        let command = format!("chmod g+w {}", config(directory).display());
        assert!(error.to_string().ends_with(&command), "{error}");
    });
}

#[test]
fn the_page_in_a_sticky_directory() {
    let prepare = |directory: &Path| {
        give(&directory.join("ha"), 60, 0o1775);
        give(&config(directory), 60, 0o664);
    };
    as_page("the_page_in_a_sticky_directory", prepare, |directory| {
        let store = store(directory);
        let identity = store.read().unwrap().identity;
        let error = refusal(directory, &store, &identity).to_string();
        assert!(error.contains("as root: chmod -t "), "{error}");
    });
}

#[test]
fn the_page_and_a_file_of_a_group_it_is_not_in() {
    let prepare = |directory: &Path| {
        give(&directory.join("ha"), 60, 0o775);
        give(&config(directory), 0, 0o666);
    };
    as_page("the_page_and_a_file_of_a_group_it_is_not_in", prepare, |directory| {
        let store = store(directory);
        let identity = store.read().unwrap().identity;
        let error = refusal(directory, &store, &identity).to_string();
        assert!(error.contains("is not in the file's group; as root: chgrp "), "{error}");
    });
}

/// Some lines with and without a serial number, and any bytes.
fn any_text() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        Just("serial_no = 5".to_owned()),
        (0_i64..40).prop_map(|number| format!("serial_no = {number}")),
        "[a-z{}= \"#]{0,12}",
        Just("virtual w {\n server a {\n }\n}".to_owned()),
    ];
    let lines = prop::collection::vec((line, prop_oneof![Just("\n"), Just("\r\n")]), 0..8);
    prop_oneof![
        lines.prop_map(|lines| {
            lines
                .iter()
                .flat_map(|(line, end)| [line.as_str(), end])
                .collect::<String>()
                .into_bytes()
        }),
        prop::collection::vec(any::<u8>(), 0..60),
    ]
}

/// The text with another serial_no; where it has none, with one.
fn with_serial(text: &[u8], serial_no: i64) -> Vec<u8> {
    let mut document = lvs_config::Document::new(text.to_vec());
    document.set(lvs_config::Path::Global, "serial_no", &[serial_no.to_string()]).unwrap();
    document.into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_was_saved_can_be_restored(first in any_text(), second in any_text()) {
        let (directory, store) = site();
        let read = store.read().unwrap();
        prop_assume!(first != read.bytes && first != second);
        let one = store.save(&read.identity, &first, "a", "first").unwrap();
        prop_assert!(one.serial_no > 7);
        prop_assert_eq!(&one.snapshot.bytes, &with_serial(&first, one.serial_no));
        let two = store.save(&one.snapshot.identity, &second, "b", "second").unwrap();
        let number = one.version.unwrap();
        let three = store.restore(&two.snapshot.identity, number, "c").unwrap();
        if two.is_written {
            prop_assert!(two.serial_no > one.serial_no);
            prop_assert_eq!(three.serial_no, two.serial_no + 1);
        }
        prop_assert_eq!(&three.snapshot.bytes, &with_serial(&first, three.serial_no));
        prop_assert_eq!(fs::read(config(directory.path())).unwrap(), three.snapshot.bytes);
    }
}
