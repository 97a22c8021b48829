//! Reading lvs.cf for lvsd.

use crate::site::{self, Problem, Site};
use lvs_config::{Diagnostic, Severity, SyntaxError, SystemResolver};
use std::path::Path;

/// lvsd's name on a terminal.
pub const NAME: &str = "lvs";

/// A configuration that can be acted on.
#[derive(Debug)]
pub struct Loaded {
    /// What is to be done.
    pub site: Site,
    /// Parts that cannot be acted on.
    pub problems: Vec<Problem>,
    /// The file's serial_no.
    pub serial_no: i64,
}

/// Reads a file. Resolves the host names in it, which may take as long as the resolver does.
///
/// # Errors
/// The text to show: the original's line first, then what is wrong and where.
pub fn load(file: &Path) -> Result<Loaded, String> {
    let bytes = std::fs::read(file).map_err(|e| {
        format!("{}: {e}", lvs_config::open_failure(NAME, &file.display().to_string()))
    })?;
    let parsed = lvs_config::parse(&bytes, &SystemResolver);
    match parsed.config {
        Ok(config) => {
            let (site, problems) = site::site(&config);
            Ok(Loaded { site, problems, serial_no: config.serial_no })
        }
        Err(error) => Err(explain(file, &bytes, &error, &parsed.diagnostics)),
    }
}

/// The original's line, then all that can be said about it.
fn explain(file: &Path, bytes: &[u8], error: &SyntaxError, diagnostics: &[Diagnostic]) -> String {
    let name = file.display().to_string();
    let first = lvs_config::first_line(NAME, &name, error);
    let errors: Vec<Diagnostic> =
        diagnostics.iter().filter(|d| d.severity == Severity::Error).cloned().collect();
    format!("{first}\n{}", lvs_config::render(&errors, &name, bytes))
}
