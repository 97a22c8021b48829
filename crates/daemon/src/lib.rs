//! What every daemon of the suite needs once: command lines in popt's manner, becoming a daemon,
//! pid files, logging, signals as file descriptors, children, timers, readiness, lines over sockets,
//! and the control socket. Nothing in here blocks an event loop.

pub mod args;
pub mod background;
pub mod child;
pub mod control;
pub mod lines;
pub mod logging;
pub mod memory;
pub mod pidfile;
pub mod poll;
pub mod process;
pub mod ready;
pub mod signals;
pub mod terminal;
pub mod timers;
pub mod waiting;

/// The suite's version, as `--version` prints it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Becomes a background process: forks, starts a session, changes to `/`, and puts `/dev/null` on
/// the standard descriptors (daemon(3)). Call before any thread is started.
///
/// # Errors
/// Whatever fork(2) or setsid(2) report.
pub fn detach() -> std::io::Result<()> {
    nix::unistd::daemon(false, false).map_err(std::io::Error::from)
}

/// Detaches from the terminal without forking, for a child whose parent keeps its pid: a session of
/// its own where that is possible, `/` as directory, `/dev/null` on the standard descriptors.
///
/// # Errors
/// When `/dev/null` cannot be opened or put in place.
pub fn detach_in_place() -> std::io::Result<()> {
    // A process group leader may not start a session; its group is its own already.
    let _ = nix::unistd::setsid();
    nix::unistd::chdir("/")?;
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    Ok(())
}
