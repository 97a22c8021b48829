use super::*;
use std::collections::BTreeSet;

/// Keys that no form has, and why.
const WITHOUT_FIELD: [(Level, &str, &str); 8] = [
    (Level::Global, "serial_no", "raised by every save"),
    (Level::Global, "backup_active", "ENABLE and DISABLE"),
    (Level::Global, "heartbeat", "set by ENABLE; nothing acts on it"),
    (Level::Global, "debug_level", "nothing acts on it"),
    (Level::Global, "sync", "nothing acts on it"),
    (Level::Block, "active", "(DE)ACTIVATE"),
    (Level::Block, "master", "nothing acts on it"),
    (Level::Block, "dirs", "nothing acts on it"),
];

#[test]
fn every_key_of_the_file_can_be_reached() {
    for level in [Level::Global, Level::Block, Level::Server] {
        let mut keys: BTreeSet<&str> = ALL
            .iter()
            .filter(|form| form.level == level)
            .flat_map(|form| form.fields())
            .map(|field| field.key)
            .filter(|key| !key.is_empty())
            .collect();
        for (_, key, _) in WITHOUT_FIELD.iter().filter(|(its, ..)| *its == level) {
            assert!(keys.insert(key), "{key} has a field, and is said to have none");
        }
        if level == Level::Server {
            assert!(keys.insert("active"), "(DE)ACTIVATE");
        }
        assert_eq!(keys, level.keys().collect(), "{level:?}");
    }
}

#[test]
fn names_are_unique_in_their_form_and_labels_are_there() {
    for form in ALL {
        let mut names = BTreeSet::new();
        let mut labels = BTreeSet::new();
        for field in form.fields() {
            assert!(names.insert(field.name), "{}", field.name);
            assert!(labels.insert(field.label), "{}", field.label);
            // The other fields that a form carries.
            assert!(!["token", "base", "do", "at", "chosen"].contains(&field.name));
            assert!(!field.name.starts_with("was."));
        }
    }
}

#[test]
fn choices_are_those_of_the_parser_and_defaults_are_among_them() {
    for form in ALL {
        for field in form.fields() {
            let Kind::Choice(choices) = field.kind else { continue };
            assert!(choices.iter().any(|(value, _)| *value == field.default), "{}", field.name);
            for (value, _) in choices.iter().filter(|(value, _)| !value.is_empty()) {
                let checked = lvs_config::check_value(
                    form.level,
                    field.key,
                    &[value],
                    &lvs_config::NoResolver,
                );
                assert_eq!(checked, Ok(()), "{} {value}", field.name);
            }
        }
    }
    let values = |kind| match kind {
        Kind::Choice(choices) => choices.iter().map(|(value, _)| *value).collect::<Vec<_>>(),
        _ => Vec::new(),
    };
    assert_eq!(values(SCHEDULERS), lvs_config::Scheduler::NAMES);
    assert_eq!(values(NETWORKS), lvs_config::Forwarding::NAMES);
}

#[test]
fn defaults_are_what_the_parser_fills_in() {
    let default = serde_json::to_value(lvs_config::Config::default().to_json()).unwrap();
    let block = lvs_config::Virtual::new(String::new(), 0).to_json();
    let shown = |value: &serde_json::Value| match value {
        serde_json::Value::Null => String::new(),
        serde_json::Value::Bool(yes) => u8::from(*yes).to_string(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    for form in ALL.iter().filter(|form| form.level != Level::Server) {
        let object = if form.level == Level::Global { &default } else { &block };
        for field in form.fields().filter(|field| field.word == 0 && !field.key.is_empty()) {
            let parsed = shown(&object[field.key]);
            let as_meant = match field.key {
                // Not set means none; what is not set runs nanny, but otherwise than when set.
                "load_monitor" | "fwmark" => parsed.is_empty(),
                "client_monitor" => field.default.is_empty(),
                _ => parsed == field.default,
            };
            assert!(as_meant, "{}: {parsed:?}, not {:?}", field.key, field.default);
        }
    }
}

#[test]
fn every_key_with_a_field_does_something() {
    for form in ALL {
        for field in form.fields().filter(|field| !field.key.is_empty()) {
            assert_ne!(effect(form.level, field.key), Effect::None, "{}", field.key);
        }
    }
    assert_eq!(effect(Level::Global, "serial_no"), Effect::None);
    assert_eq!(effect(Level::Block, "active"), Effect::Table);
}
