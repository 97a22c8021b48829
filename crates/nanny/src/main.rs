//! nanny: is a real server up. One process for one server, which changes the table itself, or
//! (`--pool`) one for all of a director's servers, which tells lvsd.

mod classic;
mod options;
mod pooled;

use daemon::args::{self, Start};
use options::{Mode, Options};
use std::process::ExitCode;

fn main() -> ExitCode {
    let parsed =
        match args::start("nanny", "nanny", &options::TABLE, std::env::args_os().skip(1).collect())
        {
            Start::Print(text) => {
                print!("{text}");
                return ExitCode::SUCCESS;
            }
            Start::Refuse(text) => {
                eprint!("{text}");
                return ExitCode::FAILURE;
            }
            Start::Run(parsed) => parsed,
        };
    let result = if parsed.has("pool") {
        pooled::run(parsed.has("verbose"), parsed.has("nodaemon"))
    } else {
        match Options::read(&parsed) {
            Ok(options) => classic::run(&options),
            Err(text) => {
                eprintln!("nanny: {text}");
                return ExitCode::FAILURE;
            }
        }
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            // The terminal may be gone by now: both.
            eprintln!("nanny: {error}");
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

impl Options {
    /// Whether this nanny watches a failover service.
    fn is_fos(&self) -> bool {
        matches!(self.mode, Mode::Fos)
    }
}
