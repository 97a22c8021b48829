//! nanny: is a real server up. One process for one server, which changes the table itself, or
//! (`--pool`) one for all of a director's servers, which tells lvsd.

mod classic;
mod options;
mod pooled;

use daemon::args::{self, Start};
use daemon::process;
use daemon::terminal::{complain, print};
use health::pool::Pool;
use options::{Mode, Options};
use std::process::ExitCode;
use std::time::Instant;

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

impl Options {
    /// Whether this nanny watches a failover service.
    fn is_fos(&self) -> bool {
        matches!(self.mode, Mode::Fos)
    }
}

/// Hands the children that have ended to the pool that started them.
fn reap(pool: &mut Pool, now: Instant) {
    while let Some((pid, how)) = process::next_ended() {
        pool.child_ended(pid, how, now);
        process::collect(pid);
    }
}
