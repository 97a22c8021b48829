//! Every case that says what lvs.cf means, through the program: `config --json` prints that meaning,
//! `check` ends accordingly.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

#[allow(dead_code, reason = "shared with other tests")]
mod common;

use common::piranhactl;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lvs-config/tests/compat");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "cf"))
        .collect();
    files.sort();
    files
}

/// Whether all that is expected was found: objects may have more keys.
fn covers(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => expected
            .iter()
            .all(|(key, value)| found.get(key).is_some_and(|found| covers(found, value))),
        (Value::Array(found), Value::Array(expected)) => {
            found.len() == expected.len()
                && found.iter().zip(expected).all(|(found, expected)| covers(found, expected))
        }
        _ => found == expected,
    }
}

#[test]
fn every_case_is_printed_as_it_is_meant() {
    let cases = cases();
    assert!(cases.len() >= 124, "only {} cases", cases.len());
    for case in cases {
        let file = case.to_str().unwrap();
        let expected = std::fs::read(case.with_extension("json")).unwrap();
        let expected: Value = serde_json::from_slice(&expected).unwrap();
        let refused = expected.get("error");

        let config = piranhactl(&["config", "--json", "-c", file]);
        let found: Value = serde_json::from_str(&config.stdout)
            .unwrap_or_else(|e| panic!("{file}: {e}: {}", config.stdout));
        assert!(covers(&found, &expected), "{file}:\nfound {found:#}\nexpected {expected:#}");
        assert_eq!(found.get("error").is_some(), refused.is_some(), "{file}: {found:#}");
        assert_eq!(config.status, i32::from(refused.is_some()), "{file}");
        assert_eq!(config.stderr, "", "{file}");

        let check = piranhactl(&["check", "-c", file]);
        let last = check.stdout.lines().last().unwrap_or_default();
        let clean = last.starts_with(&format!("{file}: no errors, "));
        assert_eq!(check.status, i32::from(!clean), "{file}: {}", check.stdout);
        assert_eq!(check.stderr, "", "{file}");
        if let Some(error) = refused {
            assert!(!clean, "{file}: {}", check.stdout);
            let message = error["message"].as_str().unwrap();
            let line = error["line"].as_u64().unwrap();
            assert!(check.stdout.contains(message), "{file}: {message}: {}", check.stdout);
            let place = format!("{file}:{line}:");
            assert!(line == 0 || check.stdout.contains(&place), "{place} {}", check.stdout);
        }
    }
}
