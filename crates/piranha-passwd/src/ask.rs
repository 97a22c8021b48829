//! Asking for a password: at the terminal, twice and without echo, or from a pipe.

use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};

use daemon::signals::Signals;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, Signal, raise, signal};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

/// Longer lines are not read to their end. The kernel's own limit for a line is 4095.
const LONGEST_LINE: usize = 4096;

/// Why there is no password.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The second is not the first.
    #[error("Passwords do not match.")]
    Mismatch,
    /// The input ended first.
    #[error("no password given")]
    End,
    /// The line is too long.
    #[error("the line is longer than {LONGEST_LINE} bytes")]
    TooLong,
    /// Neither terminal nor pipe, or worse.
    #[error("read the password: {0}")]
    Read(#[from] io::Error),
}

impl From<Errno> for Refusal {
    fn from(error: Errno) -> Self {
        Self::Read(error.into())
    }
}

type Line = Zeroizing<Vec<u8>>;

/// The new password, from the terminal if standard input is one.
pub(crate) fn password() -> Result<Line, Refusal> {
    let input = io::stdin();
    if input.is_terminal() { at_terminal(input.as_fd()) } else { from_pipe(input.as_fd()) }
}

/// One line; a second one, of a script that answers both questions, must be the same.
fn from_pipe(input: BorrowedFd<'_>) -> Result<Line, Refusal> {
    let password = read_line(input, || Ok(()))?.ok_or(Refusal::End)?;
    match read_line(input, || Ok(()))? {
        Some(again) if again != password => Err(Refusal::Mismatch),
        _ => Ok(password),
    }
}

fn at_terminal(terminal: BorrowedFd<'_>) -> Result<Line, Refusal> {
    let mut silence = Silence::new(terminal)?;
    let password = silence.ask("New Password: ")?;
    let again = silence.ask("Verify: ")?;
    if password == again { Ok(password) } else { Err(Refusal::Mismatch) }
}

/// A terminal without echo, which it gets back when this is dropped.
struct Silence<'a> {
    terminal: BorrowedFd<'a>,
    loud: Termios,
    signals: Signals,
}

impl<'a> Silence<'a> {
    fn new(terminal: BorrowedFd<'a>) -> Result<Self, Refusal> {
        // Before the echo goes, so that no signal finds it gone. (SIGQUIT and SIGTSTP are below.)
        let signals = Signals::new(&CAUGHT.map(|signal| signal as i32))?;
        let loud = tcgetattr(terminal)?;
        let silence = Self { terminal, loud, signals };
        silence.hush()?;
        Ok(silence)
    }

    fn hush(&self) -> Result<(), Errno> {
        let mut silent = self.loud.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        // The line end is to be seen, or the next prompt follows on the same line.
        silent.local_flags.insert(LocalFlags::ECHONL | LocalFlags::ICANON | LocalFlags::ISIG);
        // What was typed before was shown, and not meant for this.
        tcsetattr(self.terminal, SetArg::TCSAFLUSH, &silent)
    }

    fn ask(&mut self, prompt: &str) -> Result<Line, Refusal> {
        say(prompt);
        let terminal = self.terminal;
        read_line(terminal, || self.await_input(prompt))?.ok_or(Refusal::End)
    }

    /// Waits until there is something to read. A signal does what it would have done, with the
    /// echo back on.
    fn await_input(&mut self, prompt: &str) -> Result<(), Refusal> {
        loop {
            let mut awaited = [
                PollFd::new(self.terminal, PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut awaited, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            let is_ready = awaited[0].any().unwrap_or(false);
            for number in self.signals.pending() {
                self.obey(Signal::try_from(number)?)?;
                say(prompt);
            }
            if is_ready {
                return Ok(());
            }
        }
    }

    /// Lets the signal end or stop the process. Comes back when a stopped process goes on.
    fn obey(&mut self, number: Signal) -> Result<(), Refusal> {
        self.restore();
        say("\n");
        if number == Signal::SIGTSTP {
            raise(Signal::SIGSTOP)?;
        } else {
            default_action(number)?;
            raise(number)?;
        }
        self.hush()?;
        Ok(())
    }

    fn restore(&self) {
        let _ = tcsetattr(self.terminal, SetArg::TCSAFLUSH, &self.loud);
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        self.restore();
    }
}

const CAUGHT: [Signal; 5] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGTSTP];

#[allow(unsafe_code)]
fn default_action(number: Signal) -> Result<SigHandler, Errno> {
    // SAFETY: the default action is no handler, so nothing runs in a signal's context. Needed
    // because only this call sets it, and whoever waits for us is to see what ended us.
    unsafe { signal(number, SigHandler::SigDfl) }
}

/// A prompt. Not on standard output, which may be somebody's file.
fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// A line without its end; `None` at the end of the input. Byte by byte, so that what follows
/// stays for the next reader, and no buffer keeps a copy.
fn read_line(
    input: BorrowedFd<'_>,
    mut await_input: impl FnMut() -> Result<(), Refusal>,
) -> Result<Option<Line>, Refusal> {
    let mut line = Zeroizing::new(Vec::with_capacity(LONGEST_LINE));
    loop {
        await_input()?;
        let mut byte = [0];
        match nix::unistd::read(input, &mut byte) {
            Ok(0) if line.is_empty() => return Ok(None),
            Ok(0) => return Ok(Some(line)),
            Ok(_) if byte == *b"\n" => {
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(Some(line));
            }
            Ok(_) if line.len() == LONGEST_LINE => return Err(Refusal::TooLong),
            Ok(_) => line.push(byte[0]),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
