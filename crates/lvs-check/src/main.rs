//! lvs-check: is a real server as it should be? OK or FAIL on standard output, the reason on standard
//! error; ends with 0, 1, or 2 where the command line is not understood.

use daemon::terminal::{complain, print};
use lvs_check::command_line::{self, Start};
use lvs_check::deadline::Deadline;
use std::process::ExitCode;

const WRONG_USE: u8 = 2;

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let called = words.next().unwrap_or_default();
    match command_line::read(&called, words.collect()) {
        Start::Print(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Start::Refuse(text) => {
            complain(&text);
            ExitCode::from(WRONG_USE)
        }
        Start::Check(order) => match order.check.run(Deadline::after(order.limit)) {
            Ok(found) => {
                if order.verbose {
                    complain(&format!("{}: {found}", order.name));
                }
                print("OK\n");
                ExitCode::SUCCESS
            }
            Err(failure) => {
                // The verdict first: whoever waits for it does not wait for the reason.
                print("FAIL\n");
                complain(&format!("{}: {failure}", order.name));
                ExitCode::FAILURE
            }
        },
    }
}
