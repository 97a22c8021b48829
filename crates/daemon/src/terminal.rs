//! Words for whoever started a program. A reader that has gone (`piranhactl status | head -1`) is no
//! error: the standard macros would end the program for it.

use std::io::Write;

/// Writes text to standard output.
pub fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Writes text to standard error, as a line.
pub fn complain(text: &str) {
    let _ = std::io::stderr().write_all(format!("{}\n", text.trim_end()).as_bytes());
}
