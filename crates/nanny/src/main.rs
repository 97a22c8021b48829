//! nanny: is a real server up. One process for one server, which changes the table itself, or
//! (`--pool`) one for all of a director's servers, which tells lvsd.

mod classic;
mod options;
mod pooled;

use daemon::args::{self, Start};
use options::{Mode, Options};
use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let parsed =
        match args::start("nanny", "nanny", &options::TABLE, std::env::args_os().skip(1).collect())
        {
            Start::Print(text) => {
                print(&text);
                return ExitCode::SUCCESS;
            }
            Start::Refuse(text) => {
                complain(&text);
                return ExitCode::FAILURE;
            }
            Start::Run(parsed) => parsed,
        };
    let result = if parsed.has("pool") {
        pooled::run(parsed.has("verbose"), parsed.has("nodaemon"))
    } else {
        match Options::read(&parsed) {
            Ok(options) => classic::run(&options.with_environment()),
            Err(text) => {
                complain(&format!("nanny: {text}"));
                return ExitCode::FAILURE;
            }
        }
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            // The terminal may be gone by now: both.
            complain(&format!("nanny: {error}"));
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints, and does not mind a reader that has seen enough (`nanny --help | head`).
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Says why nothing comes of it, to whoever still listens.
fn complain(text: &str) {
    let _ = std::io::stderr().write_all(format!("{}\n", text.trim_end()).as_bytes());
}

impl Options {
    /// Whether this nanny watches a failover service.
    fn is_fos(&self) -> bool {
        matches!(self.mode, Mode::Fos)
    }
}
