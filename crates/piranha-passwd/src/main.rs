//! piranha-passwd: sets the password of the web page.

mod ask;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use daemon::args::{self, COMMON, Opt, Parsed, option};
use daemon::terminal::{complain, print};
use piranha_passwd::{PATH, USER, set_password};
use zeroize::Zeroizing;

const OWN: Opt =
    option("file", Some('f'), "FILE", "Password file (/etc/sysconfig/ha/conf/piranha.passwd)");

const EXPLANATION: &str = "
Sets the password with which user piranha logs in to the web page. Asks for it,
or reads one line where standard input is no terminal. PASSWORD given as an
argument can be seen by every user of this machine while the program runs.
";

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1).collect();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            complain(&message);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Vec<OsString>) -> Result<(), String> {
    let named = |error: &dyn std::fmt::Display| format!("piranha-passwd: {error}");
    let options: Vec<Opt> = COMMON.iter().chain([&OWN]).copied().collect();
    let is_text = arguments.iter().all(|argument| argument.to_str().is_some());
    let parsed = args::parse(&options, arguments).map_err(|error| named(&error))?;
    if let Some(text) = answer(&parsed, &options) {
        print(&text);
        return Ok(());
    }
    let password = match parsed.operands.as_slice() {
        [] => ask::password().map_err(|refusal| match refusal {
            ask::Refusal::Mismatch => refusal.to_string(),
            _ => named(&refusal),
        })?,
        // Not as it was given: a character has been put in place of what is none.
        [_] if !is_text => return Err(named(&"the argument is not UTF-8: enter the password")),
        [password] => {
            complain(
                "piranha-passwd: warning: a password given as an argument can be seen by every \
                 user of this machine (ps) and stays in the shell's history",
            );
            Zeroizing::new(password.clone().into_bytes())
        }
        _ => return Err(named(&"one password at most; quote it if it contains blanks")),
    };
    let file = parsed.text("file").map_or_else(|| PathBuf::from(PATH), PathBuf::from);
    set_password(&file, USER, &password).map_err(|error| named(&error))
}

fn answer(parsed: &Parsed, options: &[Opt]) -> Option<String> {
    let usage = "piranha-passwd [PASSWORD]";
    if parsed.has("help") {
        Some(args::help(usage, options) + EXPLANATION)
    } else if parsed.has("usage") {
        Some(args::usage(usage, options))
    } else if parsed.has("version") {
        Some(args::version())
    } else {
        None
    }
}
