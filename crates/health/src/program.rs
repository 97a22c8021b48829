//! Running check programs: no shell, a process group of their own, output read as it comes.

use crate::exchange::NotBegun;
use crate::failure::Failure;
use crate::recipe::{Action, Target};
use crate::script;
use daemon::process::Ended;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{AccessFlags, Pid, access};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};

/// Most output kept, in bytes. An expected text has 255 at the most, so that more than this cannot
/// be equal to one.
pub(crate) const MOST_OUTPUT: usize = 16 * 1024;
/// Where bash is looked for.
const BASH: &str = "/bin/bash";
const SH: &str = "/bin/sh";

/// Whether scripts that say `#!/bin/sh` are run by bash. In the field /bin/sh was bash, and scripts
/// came to rely on it; where it is another shell, bash is called by the name sh, which is how it ran
/// them there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShellChoice {
    bash_for_sh: bool,
    /// /bin/sh is another shell, and there is no bash to take its place.
    bash_missing: bool,
}

impl ShellChoice {
    /// Looks at this system's shells.
    pub(crate) fn of_this_system() -> ShellChoice {
        let sh_is_bash = std::fs::canonicalize(SH)
            .is_ok_and(|path| path.file_name() == Some(OsStr::new("bash")));
        let has_bash = Path::new(BASH).exists();
        ShellChoice { bash_for_sh: !sh_is_bash && has_bash, bash_missing: !sh_is_bash && !has_bash }
    }

    /// Starts a program.
    pub(crate) fn start(self, words: &[Vec<u8>], target: &Target) -> Result<Running, NotBegun> {
        let words = filled_in(words, target);
        let started = match Running::start(self.command(&words)) {
            // No program and no `#!`: execvp(3) takes it for a script of the shell.
            Err(Errno::ENOEXEC) => Running::start(self.shell_for(&words)),
            other => other,
        };
        started.map_err(|errno| match errno {
            Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EAGAIN => {
                NotBegun::Shortage(errno)
            }
            errno => NotBegun::Failed(Failure::ProgramStart(errno)),
        })
    }

    /// The command for these words.
    fn command(self, words: &[Vec<u8>]) -> Command {
        let name = first(words);
        if let Some(path) = find_program(name)
            && let Some(option) = sh_script(&path)
        {
            if self.bash_missing {
                script::warn_of_missing_bash(&path);
            }
            let mended = script::mended(&path);
            if self.bash_for_sh || mended.is_some() {
                return self.script(option.as_deref(), &path, mended.as_deref(), words);
            }
        }
        let mut command = Command::new(name);
        command.args(arguments(words));
        command
    }

    /// The command that has the shell read the program these words name.
    fn shell_for(self, words: &[Vec<u8>]) -> Command {
        let path = find_program(first(words)).unwrap_or_else(|| PathBuf::from(first(words)));
        self.script(None, &path, None, words)
    }

    /// The command that has the shell read a script: from its file, or `text` in its place.
    fn script(
        self,
        option: Option<&[u8]>,
        path: &Path,
        text: Option<&[u8]>,
        words: &[Vec<u8>],
    ) -> Command {
        let mut command = Command::new(if self.bash_for_sh { BASH } else { SH });
        command.arg0(SH).args(option.map(OsStr::from_bytes));
        if let Some(text) = text {
            command.arg("-c").arg(OsStr::from_bytes(text));
        }
        command.arg(path);
        command.args(arguments(words));
        command
    }
}

fn first(words: &[Vec<u8>]) -> &OsStr {
    OsStr::from_bytes(words.first().map_or(b"".as_slice(), Vec::as_slice))
}

fn arguments(words: &[Vec<u8>]) -> impl Iterator<Item = &OsStr> {
    words.iter().skip(1).map(|word| OsStr::from_bytes(word))
}

/// The words of a program with `%h` and `%p` in place.
pub(crate) fn filled_in(words: &[Vec<u8>], target: &Target) -> Vec<Vec<u8>> {
    let fill = |word: &Vec<u8>| match word.as_slice() {
        b"%h" => target.addr.to_string().into_bytes(),
        b"%p" => target.port.to_string().into_bytes(),
        _ => word.clone(),
    };
    words.iter().map(fill).collect()
}

/// Where a program is, as execvp(3) finds it.
fn find_program(name: &OsStr) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(name));
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/bin:/usr/bin"));
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file() && access(file, AccessFlags::X_OK).is_ok())
}

/// For an executable script whose first line is `#!/bin/sh` (or the same file by its other name
/// `/usr/bin/sh`): the one optional argument on that line (execve(2)). `None` for everything else.
fn sh_script(path: &Path) -> Option<Option<Vec<u8>>> {
    if access(path, AccessFlags::X_OK).is_err() {
        return None;
    }
    // The part of the line that the kernel looks at (BINPRM_BUF_SIZE of linux/binfmts.h).
    let mut start = [0; 256];
    let length = File::open(path).ok()?.read(&mut start).ok()?;
    let line = start[..length].split(|b| *b == b'\n').next()?;
    let line = trimmed(line.strip_prefix(b"#!")?);
    let rest = line.strip_prefix(b"/usr").unwrap_or(line).strip_prefix(SH.as_bytes())?;
    match rest {
        b"" => Some(None),
        [b' ' | b'\t', option @ ..] => Some(Some(trimmed(option).to_vec())),
        _ => None,
    }
}

/// Less the blanks around it; a CR is none: the kernel takes it for part of the interpreter's name.
fn trimmed(line: &[u8]) -> &[u8] {
    let blank = |b: &u8| *b == b' ' || *b == b'\t';
    let begin = line.iter().position(|b| !blank(b)).unwrap_or(line.len());
    let end = line.iter().rposition(|b| !blank(b)).map_or(begin, |at| at + 1);
    &line[begin..end]
}

/// What a run has come to.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) result: Result<(), Failure>,
    /// What a load program printed.
    pub(crate) output: Option<Vec<u8>>,
}

impl Judged {
    pub(crate) fn of(result: Result<(), Failure>) -> Judged {
        Judged { result, output: None }
    }
}

/// A program that runs.
#[derive(Debug)]
pub(crate) struct Running {
    pid: i32,
    stdout: ChildStdout,
    /// What it has printed, up to [`MOST_OUTPUT`] and a little more.
    pub(crate) output: Vec<u8>,
}

impl Running {
    fn start(mut command: Command) -> Result<Running, Errno> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|e| errno(&e))?;
        let pid = i32::try_from(child.id()).map_err(|_| Errno::EOVERFLOW)?;
        let stdout = child.stdout.take().ok_or(Errno::EBADF)?;
        let running = Running { pid, stdout, output: Vec::new() };
        match fcntl(&running.stdout, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)) {
            Ok(_) => Ok(running),
            Err(errno) => {
                running.kill();
                Err(errno)
            }
        }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    pub(crate) fn stdout(&self) -> &ChildStdout {
        &self.stdout
    }

    /// Reads what has been printed; true when that is more than is kept. With `discard`, what is
    /// too much is read and thrown away, and no matter.
    pub(crate) fn read(&mut self, discard: bool) -> bool {
        let mut chunk = [0; 4096];
        // A program that prints without end must not hold the loop: 64 pieces, then the others' turn.
        for _ in 0..64 {
            match self.stdout.read(&mut chunk) {
                Ok(0) => break,
                Ok(n) if self.output.len() <= MOST_OUTPUT => {
                    self.output.extend_from_slice(&chunk[..n]);
                }
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
            if !discard && self.output.len() > MOST_OUTPUT {
                return true;
            }
        }
        false
    }

    /// The output less one line end at its end.
    pub(crate) fn answer(&self) -> &[u8] {
        self.output.strip_suffix(b"\n").unwrap_or(&self.output)
    }

    /// What the output and the end mean; `ended` is `None` when the program was stopped.
    pub(crate) fn judge(&mut self, action: &Action, ended: Option<Ended>) -> Judged {
        let answer = self.answer();
        let stopped_early = ended.is_none() && self.output.len() <= MOST_OUTPUT;
        let badly = |how: Option<Ended>| how.map_or(Failure::ProgramTimeout, Failure::ProgramEnded);
        let result = match action {
            Action::Program { expect: Some(expect), .. } if answer == expect.as_slice() => Ok(()),
            Action::Program { expect: Some(_), .. } if stopped_early => {
                Err(Failure::ProgramTimeout)
            }
            Action::Program { expect: Some(_), .. } if answer.is_empty() => match ended {
                Some(how) if !how.success() => Err(Failure::ProgramEnded(how)),
                _ => Err(Failure::ProgramSilent),
            },
            Action::Program { expect: Some(_), .. } => Err(Failure::program_answer(answer)),
            _ if ended.is_some_and(Ended::success) => Ok(()),
            _ => Err(badly(ended)),
        };
        let is_load = matches!(action, Action::Load { .. });
        Judged { result, output: is_load.then(|| std::mem::take(&mut self.output)) }
    }

    /// Ends the program and whatever it started that is still in its process group. Only while the
    /// program has not been collected: until then the group's number is nobody else's.
    pub(crate) fn kill(&self) {
        let _ = killpg(Pid::from_raw(self.pid), Signal::SIGKILL);
    }
}

pub(crate) fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// A command line for messages.
pub(crate) fn shown(words: &[Vec<u8>]) -> String {
    words.iter().map(|w| String::from_utf8_lossy(w)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn script(name: &str, text: &str, mode: u32) -> PathBuf {
        let path = std::env::temp_dir().join(format!("program-{name}-{}", std::process::id()));
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn scripts_for_sh_are_recognised() {
        let cases = [
            ("#!/bin/sh\necho\n", 0o755, Some(None)),
            ("#! /bin/sh -e\n", 0o755, Some(Some(b"-e".to_vec()))),
            ("#!/bin/sh", 0o755, Some(None)),
            ("#!/bin/shx\n", 0o755, None),
            ("#!/bin/bash\n", 0o755, None),
            ("#!/usr/bin/env sh\n", 0o755, None),
            ("\x7fELF", 0o755, None),
            ("", 0o755, None),
            ("#!/bin/sh\n", 0o644, None),
            ("#!/bin/sh\r\n", 0o755, None),
            ("#!/bin/sh \t -e -u \t\n", 0o755, Some(Some(b"-e -u".to_vec()))),
            ("#!/usr/bin/sh\n", 0o755, Some(None)),
            ("#!/usr/bin/bash\n", 0o755, None),
        ];
        for (at, (text, mode, want)) in cases.into_iter().enumerate() {
            let path = script(&format!("kind{at}"), text, mode);
            // Root passes every access check but that of a file nobody may execute.
            assert_eq!(sh_script(&path), want, "{text:?}");
            fs::remove_file(path).unwrap();
        }
        assert_eq!(sh_script(Path::new("/nonexistent")), None);
    }

    #[test]
    fn bash_runs_them_under_the_name_of_sh() {
        let path = script("argv", "#!/bin/sh -u\n", 0o755);
        let words = vec![path.as_os_str().as_bytes().to_vec(), b"10.0.0.3".to_vec()];
        let command = ShellChoice { bash_for_sh: true, bash_missing: false }.command(&words);
        assert_eq!(command.get_program(), BASH);
        let arguments: Vec<_> = command.get_args().collect();
        assert_eq!(arguments, [OsStr::new("-u"), path.as_os_str(), OsStr::new("10.0.0.3")]);
        let command = ShellChoice { bash_for_sh: false, bash_missing: false }.command(&words);
        assert_eq!(command.get_program(), path.as_os_str());
        fs::remove_file(path).unwrap();
    }
}
