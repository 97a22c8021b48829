//! Running check programs: no shell, a process group of their own, output read as it comes.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::ffi::OsStr;
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
}

impl ShellChoice {
    /// Looks at this system's shells.
    pub(crate) fn of_this_system() -> ShellChoice {
        let sh_is_bash = std::fs::canonicalize(SH)
            .is_ok_and(|path| path.file_name() == Some(OsStr::new("bash")));
        ShellChoice { bash_for_sh: !sh_is_bash && Path::new(BASH).exists() }
    }

    /// The command for these words.
    fn command(self, words: &[Vec<u8>]) -> Command {
        let name = OsStr::from_bytes(words.first().map_or(b"".as_slice(), Vec::as_slice));
        let arguments = words.iter().skip(1).map(|w| OsStr::from_bytes(w));
        if self.bash_for_sh
            && let Some(path) = find_program(name)
            && let Some(option) = sh_script(&path)
        {
            let mut command = Command::new(BASH);
            command.arg0(SH).args(option.iter().map(|o| OsStr::from_bytes(o))).arg(path);
            command.args(arguments);
            return command;
        }
        let mut command = Command::new(name);
        command.args(arguments);
        command
    }
}

/// Where a program is, as execvp(3) finds it.
fn find_program(name: &OsStr) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(name));
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// For an executable script whose first line is `#!/bin/sh`: the one optional argument on that line
/// (execve(2)). `None` for everything else.
fn sh_script(path: &Path) -> Option<Option<Vec<u8>>> {
    if nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_err() {
        return None;
    }
    let mut start = [0; 128];
    let length = File::open(path).ok()?.read(&mut start).ok()?;
    let line = start[..length].split(|b| *b == b'\n').next()?;
    let line = line.strip_prefix(b"#!")?.trim_ascii();
    let rest = line.strip_prefix(SH.as_bytes())?;
    match rest {
        b"" => Some(None),
        [b' ' | b'\t', option @ ..] => Some(Some(option.trim_ascii().to_vec())),
        _ => None,
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
    /// Starts a program.
    ///
    /// # Errors
    /// Why it cannot be run.
    pub(crate) fn start(words: &[Vec<u8>], shells: ShellChoice) -> Result<Running, Errno> {
        let mut child = shells
            .command(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|e| errno(&e))?;
        let pid = i32::try_from(child.id()).map_err(|_| Errno::EOVERFLOW)?;
        let stdout = child.stdout.take().ok_or(Errno::EBADF)?;
        fcntl(&stdout, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Running { pid, stdout, output: Vec::new() })
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    pub(crate) fn stdout(&self) -> &ChildStdout {
        &self.stdout
    }

    /// Reads what has been printed; true when that is more than is kept. With `discard`, what is
    /// too much is read and thrown away.
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
                break;
            }
        }
        self.output.len() > MOST_OUTPUT
    }

    /// The output less one line end at its end.
    pub(crate) fn answer(&self) -> &[u8] {
        self.output.strip_suffix(b"\n").unwrap_or(&self.output)
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
        let command = ShellChoice { bash_for_sh: true }.command(&words);
        assert_eq!(command.get_program(), BASH);
        let arguments: Vec<_> = command.get_args().collect();
        assert_eq!(arguments, [OsStr::new("-u"), path.as_os_str(), OsStr::new("10.0.0.3")]);
        let command = ShellChoice { bash_for_sh: false }.command(&words);
        assert_eq!(command.get_program(), path.as_os_str());
        fs::remove_file(path).unwrap();
    }
}
