//! Commands that look at a configuration file.

use crate::system::{self, Finding, Pulse};
use crate::{Failure, Outcome};
use lvs_config::{Config, Diagnostic, Parsed, SystemResolver};
use std::path::Path;

fn read(file: &Path) -> Result<(Vec<u8>, Parsed), Failure> {
    let bytes = std::fs::read(file)
        .map_err(|e| Failure::message(format!("failed to open {}: {e}", file.display())))?;
    let parsed = lvs_config::parse(&bytes, &SystemResolver);
    Ok((bytes, parsed))
}

/// Prints all diagnostics; fails when one of them is an error.
pub(crate) fn check(file: &Path, json: bool) -> Outcome {
    check_with(file, json, |_| Vec::new())
}

/// As [`check`], and looks at the machine as well. `pulse` is what pulse says, if it answers.
pub(crate) fn check_system(
    file: &Path,
    json: bool,
    pulse: impl FnOnce() -> Option<Pulse>,
) -> Outcome {
    check_with(file, json, |config| system::check(config, file, pulse()))
}

fn check_with(file: &Path, json: bool, look: impl FnOnce(&Config) -> Vec<Finding>) -> Outcome {
    let (bytes, parsed) = read(file)?;
    let name = file.display().to_string();
    let found = parsed.config.as_ref().map_or_else(|_| Vec::new(), look);
    let count = |severity: &str| {
        let in_file = parsed.diagnostics.iter().map(|d| d.severity.to_string());
        let in_system = found.iter().map(|finding| finding.severity.as_str().to_owned());
        in_file.chain(in_system).filter(|found| found == severity).count()
    };
    let output = if json {
        let in_file = parsed.diagnostics.iter().map(as_json);
        pretty(&in_file.chain(found.iter().map(Finding::to_json)).collect())
    } else {
        let mut text = lvs_config::render(&parsed.diagnostics, &name, &bytes);
        found.iter().for_each(|finding| finding.show(&mut text));
        text + &format!("{name}: {}\n", summary(&count))
    };
    if count("error") > 0 || parsed.config.is_err() {
        return Err(Failure { output, message: String::new() });
    }
    Ok(output)
}

fn as_json(diagnostic: &Diagnostic) -> serde_json::Value {
    serde_json::json!({
        "severity": diagnostic.severity.to_string(),
        "code": diagnostic.code.as_str(),
        "line": diagnostic.line,
        "column": diagnostic.column,
        "length": diagnostic.length,
        "message": diagnostic.message,
        "hint": diagnostic.hint,
    })
}

/// How many there are of each severity; of notes only where there are any.
fn summary(count: &impl Fn(&str) -> usize) -> String {
    let counted = |what: &str| match count(what) {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    };
    let mut parts = vec![counted("error"), counted("warning")];
    if count("note") > 0 {
        parts.push(counted("note"));
    }
    parts.join(", ")
}

/// Prints the configuration in effect.
pub(crate) fn show(file: &Path, json: bool) -> Outcome {
    let (bytes, parsed) = read(file)?;
    match (parsed.config, json) {
        (Ok(config), true) => Ok(pretty(&config.to_json())),
        (Ok(config), false) => Ok(plain(&config.to_json())),
        (Err(error), true) => {
            Err(Failure { output: pretty(&error.to_json()), message: String::new() })
        }
        (Err(_), false) => {
            let name = file.display().to_string();
            let message = lvs_config::render(&parsed.diagnostics, &name, &bytes);
            Err(Failure::message(format!("the file cannot be used\n{message}")))
        }
    }
}

fn pretty(value: &serde_json::Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

/// `key = value` a line, blocks indented under their names; keys without a value are left out.
fn plain(config: &serde_json::Value) -> String {
    let mut text = String::new();
    write_level(config, 0, &mut text);
    text
}

fn write_level(value: &serde_json::Value, depth: usize, text: &mut String) {
    use serde_json::Value;
    let Value::Object(map) = value else { return };
    let indent = "    ".repeat(depth);
    for (key, value) in map {
        match value {
            Value::Null => {}
            // It stands at the head of its block.
            _ if key == "name" => {}
            Value::Array(words) if words.iter().any(Value::is_string) => {
                let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
                text.push_str(&format!("{indent}{key} = [ {} ]\n", words.join(" ")));
            }
            Value::Array(blocks) => {
                let kind = key.strip_suffix("ers").map_or(key.as_str(), |_| "server");
                for block in blocks {
                    let name = block.get("name").and_then(Value::as_str).unwrap_or_default();
                    text.push_str(&format!("{indent}{kind} {name}\n"));
                    write_level(block, depth + 1, text);
                }
            }
            Value::Bool(on) => text.push_str(&format!("{indent}{key} = {}\n", u8::from(*on))),
            Value::String(word) => text.push_str(&format!("{indent}{key} = {word}\n")),
            other => text.push_str(&format!("{indent}{key} = {other}\n")),
        }
    }
}
