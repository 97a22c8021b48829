//! Why a check failed, in the words of the log and of the status.

use crate::recipe::Target;
use daemon::process::Ended;
use nix::errno::Errno;
use std::fmt;

/// Longest excerpt of a wrong answer that is kept, in bytes.
const EXCERPT: usize = 80;

/// Why a check failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No connection within the time limit.
    ConnectTimeout,
    /// No connection, with the system's reason.
    Connect(Errno),
    /// Not everything could be sent within the time limit.
    WriteTimeout,
    /// Sending failed.
    Write(Errno),
    /// The expected answer did not come within the time limit.
    ReadTimeout,
    /// Receiving failed.
    Read(Errno),
    /// The server closed the connection after too few bytes.
    Short {
        /// Bytes that came.
        got: u32,
        /// Bytes that were needed.
        wanted: u32,
    },
    /// The server answered something else; its first bytes.
    Mismatch(Box<[u8]>),
    /// The expected text is no valid regular expression.
    Regex(Box<str>),
    /// The program printed nothing.
    ProgramSilent,
    /// The program did not end within the time limit.
    ProgramTimeout,
    /// The program printed nothing of use and ended badly.
    ProgramEnded(Ended),
    /// The program printed something else; its first bytes.
    ProgramAnswer(Box<[u8]>),
    /// The program could not be started.
    ProgramStart(Errno),
}

impl Failure {
    /// An answer that differs from what was expected.
    #[must_use]
    pub fn mismatch(answer: &[u8]) -> Failure {
        Failure::Mismatch(excerpt(answer))
    }

    /// A program's output that differs from what was expected.
    #[must_use]
    pub fn program_answer(output: &[u8]) -> Failure {
        Failure::ProgramAnswer(excerpt(output))
    }

    /// The line for the log; `command` is the program that was run, if one was.
    #[must_use]
    pub fn log_line(&self, target: &Target, command: &str) -> String {
        match self {
            Failure::ConnectTimeout => format!("CONNECT to {target} timed out"),
            Failure::Connect(e) => format!("CONNECT to {target} failed: {}", e.desc()),
            Failure::WriteTimeout => format!("WRITE to {target} timed out"),
            Failure::Write(e) => {
                format!("WRITE operation for {target} returned error: {}", e.desc())
            }
            Failure::ReadTimeout => format!("READ to {target} timed out"),
            Failure::Read(e) => {
                format!("READ returned error {}:{} (from {target})", *e as i32, e.desc())
            }
            Failure::Short { got, wanted } => {
                format!("READ from {target} was too short[{got}>={wanted}]")
            }
            Failure::Mismatch(_) => format!(
                "Trouble. Received results are not what we expected from ({target}): {self}"
            ),
            Failure::Regex(e) => format!("Error '{e}' processing expected regular expression"),
            Failure::ProgramSilent => format!(
                "Ran the external sending program to ({target}) but didn't get anything back"
            ),
            Failure::ProgramTimeout => format!("timeout running the following: {command}"),
            Failure::ProgramEnded(how) => {
                format!("The following exited abnormally: {command} ({how})")
            }
            Failure::ProgramAnswer(_) => format!(
                "Trouble. Received results are not what we expected from ({target}): {self}"
            ),
            Failure::ProgramStart(_) => format!("{self}: {command}"),
        }
    }
}

impl fmt::Display for Failure {
    /// The reason in words, as the status shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::ConnectTimeout => f.write_str("no connection within the time limit"),
            Failure::Connect(e) => write!(f, "cannot connect: {}", e.desc()),
            Failure::WriteTimeout => f.write_str("the server did not take the request in time"),
            Failure::Write(e) => write!(f, "cannot send: {}", e.desc()),
            Failure::ReadTimeout => f.write_str("no (full) answer within the time limit"),
            Failure::Read(e) => write!(f, "cannot receive: {}", e.desc()),
            Failure::Short { got, wanted } => {
                write!(f, "the server closed after {got} of at least {wanted} bytes")
            }
            Failure::Mismatch(answer) => write!(f, "unexpected answer \"{}\"", Shown(answer)),
            Failure::Regex(e) => write!(f, "expect is no valid regular expression: {e}"),
            Failure::ProgramSilent => f.write_str("the check program printed nothing"),
            Failure::ProgramTimeout => {
                f.write_str("the check program did not end within the time limit")
            }
            Failure::ProgramEnded(how) => write!(f, "the check program {how}"),
            Failure::ProgramAnswer(output) => {
                write!(f, "the check program answered \"{}\"", Shown(output))
            }
            Failure::ProgramStart(Errno::ENOENT) => f.write_str(
                "cannot run the check program: it, or the interpreter its first line names, \
                 does not exist",
            ),
            Failure::ProgramStart(Errno::EACCES) => f.write_str(
                "cannot run the check program: Permission denied (is it executable? chmod +x)",
            ),
            Failure::ProgramStart(e) => write!(f, "cannot run the check program: {}", e.desc()),
        }
    }
}

/// Foreign bytes with everything but printable ASCII escaped.
struct Shown<'a>(&'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_ascii().fmt(f)
    }
}

fn excerpt(bytes: &[u8]) -> Box<[u8]> {
    bytes[..bytes.len().min(EXCERPT)].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_people_search_for() {
        let target = Target { addr: [10, 0, 0, 3].into(), port: 80, udp: false };
        let cases = [
            (Failure::ConnectTimeout, "CONNECT to 10.0.0.3:80 timed out"),
            (Failure::ReadTimeout, "READ to 10.0.0.3:80 timed out"),
            (
                Failure::Write(Errno::EPIPE),
                "WRITE operation for 10.0.0.3:80 returned error: Broken pipe",
            ),
            (Failure::Read(Errno::ECONNRESET), "READ returned error 104:Connection reset by peer"),
            (Failure::Short { got: 2, wanted: 4 }, "READ from 10.0.0.3:80 was too short[2>=4]"),
            (
                Failure::mismatch(b"x\x1b"),
                "Trouble. Received results are not what we expected from (10.0.0.3:80)",
            ),
            (
                Failure::ProgramSilent,
                "Ran the external sending program to (10.0.0.3:80) but didn't get anything back",
            ),
            (Failure::ProgramTimeout, "timeout running the following: /bin/c 10.0.0.3"),
            (
                Failure::ProgramEnded(Ended::Exited(1)),
                "The following exited abnormally: /bin/c 10.0.0.3",
            ),
            (Failure::Regex("bad".into()), "Error 'bad' processing expected regular expression"),
        ];
        for (failure, line) in cases {
            let got = failure.log_line(&target, "/bin/c 10.0.0.3");
            assert!(got.starts_with(line), "{got}");
            assert!(!failure.to_string().contains('\x1b'));
        }
        assert!(std::mem::size_of::<Failure>() <= 24);
    }
}
