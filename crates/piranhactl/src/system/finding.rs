//! What there is to say about the machine, and what mends it.

use crate::table::printable;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// A path as a word of a shell's command.
pub(crate) fn quoted(path: &std::path::Path) -> String {
    let path = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%".contains(c);
    if path.chars().all(plain) { path } else { format!("'{}'", path.replace('\'', "'\\''")) }
}

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// Something that the configuration asks for cannot work.
    Error,
    /// It works until something happens, or not for everybody.
    Warning,
    /// It could not be judged.
    Note,
}

impl Severity {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    /// A stable name for the kind of finding.
    pub(crate) code: &'static str,
    /// What is wrong and what comes of it.
    pub(crate) message: String,
    /// The commands that mend it now, to be run as root in this order.
    pub(crate) now: Vec<String>,
    /// What makes that last beyond a restart.
    pub(crate) keep: Option<String>,
    /// Whatever else helps.
    pub(crate) hint: Option<String>,
}

impl Finding {
    pub(crate) fn new(
        severity: Severity,
        code: &'static str,
        message: impl Into<String>,
    ) -> Finding {
        let message = message.into();
        Finding { severity, code, message, now: Vec::new(), keep: None, hint: None }
    }

    pub(crate) fn error(code: &'static str, message: impl Into<String>) -> Finding {
        Finding::new(Severity::Error, code, message)
    }

    pub(crate) fn warning(code: &'static str, message: impl Into<String>) -> Finding {
        Finding::new(Severity::Warning, code, message)
    }

    pub(crate) fn note(code: &'static str, message: impl Into<String>) -> Finding {
        Finding::new(Severity::Note, code, message)
    }

    /// With a command that mends it.
    pub(crate) fn now(mut self, command: impl Into<String>) -> Finding {
        self.now.push(command.into());
        self
    }

    /// With what makes it last.
    pub(crate) fn keep(mut self, words: impl Into<String>) -> Finding {
        self.keep = Some(words.into());
        self
    }

    /// With another word.
    pub(crate) fn hint(mut self, words: impl Into<String>) -> Finding {
        self.hint = Some(words.into());
        self
    }

    /// As the findings about the file are shown, but for the place.
    pub(crate) fn show(&self, text: &mut String) {
        let Finding { severity, code, message, now, keep, hint } = self;
        let message = printable(message);
        let _ = writeln!(text, "system: {}: {message} [{code}]", severity.as_str());
        for command in now {
            let _ = writeln!(text, "      = now:  {}", printable(command));
        }
        if let Some(keep) = keep {
            let _ = writeln!(text, "      = keep: {}", printable(keep));
        }
        if let Some(hint) = hint {
            let _ = writeln!(text, "      = {}", printable(hint));
        }
    }

    /// As the findings about the file, without a place, and with the remedies.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "severity": self.severity.as_str(),
            "code": self.code,
            "line": null,
            "column": null,
            "length": null,
            "message": self.message,
            "hint": self.hint,
            "now": self.now,
            "keep": self.keep,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_words_of_a_command() {
        let quoted = |path: &str| quoted(std::path::Path::new(path));
        assert_eq!(quoted("/etc/ha/lvs-check.sh"), "/etc/ha/lvs-check.sh");
        assert_eq!(quoted("/a b/it's;"), "'/a b/it'\\''s;'");
    }

    #[test]
    fn shown_with_what_mends_it() {
        let finding = Finding::error("ip-forward", "packets are not forwarded")
            .now("sysctl -w net.ipv4.ip_forward=1")
            .keep("write it down")
            .hint("think");
        let mut text = String::new();
        finding.show(&mut text);
        assert_eq!(
            text,
            "system: error: packets are not forwarded [ip-forward]\n      \
                = now:  sysctl -w net.ipv4.ip_forward=1\n      = keep: write it down\n      = think\n"
        );
        let json = finding.to_json();
        assert_eq!(json["now"][0], "sysctl -w net.ipv4.ip_forward=1");
        assert_eq!((&json["line"], &json["severity"]), (&Value::Null, &"error".into()));
    }
}
