//! Every case of `compat/`: NAME.cf must mean what NAME.json says.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::path::Path;

use lvs_config::{NoResolver, Severity, parse, render};
use serde_json::Value;

fn names() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat");
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "cf"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

fn read(name: &str, extension: &str) -> Vec<u8> {
    let file = format!("{}/tests/compat/{name}.{extension}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&file).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Objects may have more keys than expected; everything else must be equal.
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

fn meaning(text: &[u8]) -> Value {
    match parse(text, &NoResolver).config {
        Ok(config) => config.to_json(),
        Err(error) => error.to_json(),
    }
}

#[test]
fn every_case_means_what_it_always_did() {
    let names = names();
    assert!(names.len() >= 124, "only {} cases", names.len());
    for name in names {
        let expected: Value = serde_json::from_slice(&read(&name, "json")).unwrap();
        let found = meaning(&read(&name, "cf"));
        assert!(covers(&found, &expected), "{name}:\nfound {found:#}\nexpected {expected:#}");
    }
}

#[test]
fn carriage_returns_change_nothing() {
    for name in names() {
        let text = read(&name, "cf");
        let dos: Vec<u8> = text
            .iter()
            .flat_map(|byte| if *byte == b'\n' { vec![b'\r', b'\n'] } else { vec![*byte] })
            .collect();
        assert_eq!(meaning(&dos), meaning(&text), "{name}");
    }
}

#[test]
fn a_refused_file_says_why_at_the_place() {
    for name in names() {
        let text = read(&name, "cf");
        let parsed = parse(&text, &NoResolver);
        let Err(error) = &parsed.config else { continue };
        let first = parsed
            .diagnostics
            .iter()
            .find(|diagnostic| diagnostic.severity == Severity::Error)
            .unwrap_or_else(|| panic!("{name} has no diagnostic"));
        assert_eq!(
            (first.line, first.column, first.length, first.code),
            (error.line, error.column, error.length, error.code),
            "{name}"
        );
        assert!(first.message.starts_with(error.message), "{name}: {}", first.message);
        let rendered = render(&parsed.diagnostics, "lvs.cf", &text);
        assert_eq!(rendered.contains('^'), error.line > 0, "{name}: {rendered}");
    }
}
