//! Running a program that lists something, and not for longer than it may take.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// How long a listing may take. Rules by the ten thousand take a second.
const LIMIT: Duration = Duration::from_secs(10);
/// Where administrators' programs are, for a PATH that does not say so.
const DIRECTORIES: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";

/// What a program came to.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) success: bool,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// The directories in which programs are looked for.
pub(super) fn search_path() -> String {
    let own = std::env::var("PATH").unwrap_or_default();
    if own.is_empty() { DIRECTORIES.to_owned() } else { format!("{own}:{DIRECTORIES}") }
}

/// Whether there is such a program.
pub(super) fn exists(program: &str) -> bool {
    std::env::split_paths(&search_path()).any(|dir| dir.join(program).is_file())
}

/// Runs a program to its end.
///
/// # Errors
/// When it cannot be started, or has not ended in time; the reason.
pub(super) fn run(program: &str, arguments: &[&str]) -> Result<Output, String> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("PATH", search_path())
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{program} cannot be run: {error}"))?;
    let outputs = [child.stdout.take().map(read), child.stderr.take().map(read)];
    let mut texts = outputs.into_iter().flatten().map(|text| text.recv_timeout(LIMIT).ok());
    let (Some(Some(stdout)), Some(Some(stderr))) = (texts.next(), texts.next()) else {
        // It may end at this moment, which is as good.
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("{program} has not ended within {} s", LIMIT.as_secs()));
    };
    let status = child.wait().map_err(|error| format!("{program}: {error}"))?;
    Ok(Output { success: status.success(), stdout, stderr })
}

/// Reads a pipe to its end, aside.
fn read(mut pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is worth something too.
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_outputs_and_the_status() {
        let output = run("sh", &["-c", "echo out; echo err >&2; exit 3"]).unwrap();
        assert_eq!((output.success, output.stdout.as_str()), (false, "out\n"));
        assert_eq!(output.stderr, "err\n");
        assert!(run("no-such-program", &[]).unwrap_err().contains("no-such-program cannot be run"));
        assert!(exists("sh") && !exists("no-such-program"));
    }
}
