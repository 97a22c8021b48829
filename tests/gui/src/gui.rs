//! A piranha_gui that runs, and its files.

use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use lab::{PATIENCE, Running};
use nix::unistd::{User, geteuid};
use tempfile::TempDir;

use crate::{Answer, Ask};

/// The user in the password file.
pub const USER: &str = "piranha";
/// Its password.
pub const PASSWORD: &str = "secret";
/// The same, hashed in the form that is quickest to verify.
const ENTRY: &str = "piranha:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n";
/// Whom the page becomes where it is started as root.
const NOBODY: &str = "nobody";

/// The files of one page, in a directory of their own: `lvs.cf`, `piranha.passwd`, `state`, `log`,
/// and the sockets `lvsd.sock` and `pulse.sock`.
#[derive(Debug)]
pub struct Files {
    directory: TempDir,
}

impl Files {
    /// With an empty lvs.cf, and [`USER`] who may come in with [`PASSWORD`].
    #[must_use]
    pub fn new() -> Self {
        let files = Self { directory: tempfile::tempdir().expect("a directory") };
        fs::create_dir(files.path("state")).expect("a directory");
        fs::create_dir(files.path("log")).expect("a directory");
        files.write("lvs.cf", "");
        files.write("piranha.passwd", ENTRY);
        files.give("");
        files.give("state");
        files.give("log");
        files
    }

    /// The path of one of them.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes one of them, for the page to read and to change.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).expect("a file");
        self.give(name);
    }

    /// What is in one of them.
    #[track_caller]
    #[must_use]
    pub fn read(&self, name: &str) -> String {
        let path = self.path(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Gives one to the user that the page runs as.
    fn give(&self, name: &str) {
        if geteuid().is_root() {
            let nobody = User::from_name(NOBODY).ok().flatten().expect("a user nobody");
            let ids = (Some(nobody.uid.as_raw()), Some(nobody.gid.as_raw()));
            chown(self.path(name), ids.0, ids.1).expect("chown");
        }
    }

    /// A command that starts a page on these files, on a free port of the loopback network.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>, more: &[&str]) -> Command {
        let mut command = Command::new(program);
        let with = |option: &str, name: &str| format!("--{option}={}", self.path(name).display());
        command.args(["--nodaemon", "--listen=127.0.0.1:0", &format!("--user={NOBODY}")]);
        command.args([
            with("configfile", "lvs.cf"),
            with("passwd", "piranha.passwd"),
            with("state", "state"),
            with("log", "log"),
            with("lvsd-control", "lvsd.sock"),
            with("pulse-control", "pulse.sock"),
        ]);
        command.args(more);
        command
    }
}

impl Default for Files {
    fn default() -> Self {
        Self::new()
    }
}

/// A page that runs. It ends when this is dropped.
#[derive(Debug)]
pub struct Gui {
    /// Its files.
    pub files: Files,
    /// The process.
    pub running: Running,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Gui {
    /// Starts the page in `program`.
    #[track_caller]
    #[must_use]
    pub fn start(program: impl AsRef<OsStr>) -> Self {
        Self::with(Files::new(), program, &[])
    }

    /// Starts it on these files, with more options.
    #[track_caller]
    #[must_use]
    pub fn with(files: Files, program: impl AsRef<OsStr>, more: &[&str]) -> Self {
        let running = Running::here(files.command(program, more));
        Self::running(files, running)
    }

    /// One that was started on these files elsewhere: waits until it serves.
    #[track_caller]
    #[must_use]
    pub fn running(files: Files, running: Running) -> Self {
        let line = running.wait_for(" serves http", PATIENCE).expect("a page that serves");
        let address = line.text.rsplit("//").next().map(|rest| rest.trim_end_matches('/'));
        let address = address.and_then(|text| text.parse().ok()).expect("an address");
        Self { files, running, address }
    }

    /// Asks as it is.
    #[track_caller]
    #[must_use]
    pub fn ask(&self, ask: &Ask) -> Answer {
        ask.of(self.address)
    }

    /// GET with the right password.
    #[track_caller]
    #[must_use]
    pub fn get(&self, target: &str) -> Answer {
        self.ask(&Ask::get(target).user(USER, PASSWORD))
    }

    /// The token of the user's forms.
    #[track_caller]
    #[must_use]
    pub fn token(&self) -> String {
        let page = self.get("/secure/control");
        let tokens = page.attributes("input[type=hidden][name=token]", "value");
        tokens.into_iter().next().expect("a form with a token")
    }

    /// A form with token and password, from a page of the same site.
    #[track_caller]
    #[must_use]
    pub fn form(&self, target: &str, fields: &[(&str, &str)]) -> Ask {
        let token = self.token();
        let fields: Vec<_> =
            [("token", token.as_str())].into_iter().chain(fields.iter().copied()).collect();
        Ask::post(target, &fields)
            .user(USER, PASSWORD)
            .header("Origin", &format!("http://{}", self.address))
    }

    /// Sends such a form.
    #[track_caller]
    #[must_use]
    pub fn post(&self, target: &str, fields: &[(&str, &str)]) -> Answer {
        self.ask(&self.form(target, fields))
    }

    /// Waits until a page says something: asks again and again.
    #[track_caller]
    pub fn wait(&self, target: &str, what: &str, found: impl Fn(&Answer) -> bool) -> Answer {
        let end = std::time::Instant::now() + PATIENCE;
        loop {
            let answer = self.get(target);
            if found(&answer) {
                return answer;
            }
            let seen = String::from_utf8_lossy(&answer.body);
            assert!(std::time::Instant::now() < end, "{target}: no {what} in {seen}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// How much memory it holds, in KiB: `VmRSS` of proc(5).
    #[must_use]
    pub fn resident_kib(&self) -> u64 {
        let status = process_status(self.running.pid());
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).expect("VmRSS")
    }
}

/// `/proc/PID/status`.
#[must_use]
fn process_status(pid: u32) -> String {
    fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).expect("proc(5)")
}

/// Opens a file to everybody.
pub(crate) fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).expect("chmod");
}
