//! piranha-gui: the web page on port 3636.

use std::ffi::CString;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use daemon::args::{self, Start};
use daemon::logging;
use daemon::pidfile::PidFile;
use daemon::terminal::{complain, print};
use nix::unistd::{User, geteuid, initgroups, setgid, setuid};
use piranha_gui::app::{App, router};
use piranha_gui::options::{OPTIONS, Options};
use piranha_gui::{live, page, server, tls};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

const NAME: &str = "piranha-gui";
const PIDFILE: &str = "/var/run/piranha-gui.pid";

fn main() -> ExitCode {
    match args::start(NAME, NAME, &OPTIONS, std::env::args_os().skip(1).collect()) {
        Start::Print(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Start::Refuse(text) => {
            complain(&text);
            ExitCode::FAILURE
        }
        Start::Run(parsed) => match Options::new(&parsed).and_then(run) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                complain(&format!("{NAME}: {error}"));
                log::error!("{error}");
                ExitCode::FAILURE
            }
        },
    }
}

/// What needs root comes first, and is all that root does.
fn run(options: Options) -> Result<(), String> {
    daemon::memory::share_between_threads();
    let user = whom(&options.user)?;
    let tls = match &options.tls {
        Some(certificate) => Some(tls::acceptor(certificate, &options.state, &page::host_name())?),
        None => None,
    };
    let listener = TcpListener::bind(options.listen)
        .map_err(|error| format!("listen on {}: {error}", options.listen))?;
    listener.set_nonblocking(true).map_err(|error| format!("socket: {error}"))?;
    if !options.nodaemon {
        daemon::detach().map_err(|error| format!("cannot become a daemon: {error}"))?;
    }
    logging::init(&logging::Options {
        ident: NAME,
        terminal: options.nodaemon.then_some(NAME),
        verbose: options.verbose,
    });
    // In the foreground, whoever has started this knows its pid.
    let pidfile = (!options.nodaemon)
        .then(|| PidFile::create(Path::new(PIDFILE)).inspect_err(|e| log::error!("{e}")).ok());
    if let Some(user) = &user {
        for directory in [&options.state, &options.log] {
            prepare(directory, user);
        }
        become_user(user)?;
    }
    let app = Arc::new(App::new(options)?);
    let served = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .build()
        .map_err(|error| format!("cannot start: {error}"))?
        .block_on(serve(app, listener, tls));
    drop(pidfile);
    served
}

/// The user to become; `None` where the process is not root and stays who it is.
fn whom(name: &str) -> Result<Option<User>, String> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    match User::from_name(name) {
        Ok(Some(user)) => Ok(Some(user)),
        Ok(None) => Err(format!(
            "there is no user {name} to run as: make it with useradd -r -d /var/lib/piranha \
             -s /sbin/nologin {name}, or name another by --user"
        )),
        Err(error) => Err(format!("look up user {name}: {error}")),
    }
}

/// A directory that the page writes in, as its user.
fn prepare(directory: &Path, user: &User) {
    let made = std::fs::create_dir_all(directory).and_then(|()| {
        let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
        std::os::unix::fs::chown(directory, Some(uid), Some(gid))
    });
    if let Err(error) = made {
        log::warn!("directory {}: {error}", directory.display());
    }
}

fn become_user(user: &User) -> Result<(), String> {
    let named = |error| format!("become user {}: {error}", user.name);
    let name = CString::new(user.name.as_bytes()).map_err(|_| "a name with NUL".to_owned())?;
    initgroups(&name, user.gid).map_err(named)?;
    setgid(user.gid).map_err(named)?;
    setuid(user.uid).map_err(named)
}

/// `address` is where it listens: with port 0 any free one.
fn announce(options: &Options, address: SocketAddr) {
    let form = if options.tls.is_some() { "https" } else { "http" };
    log::info!("{NAME} serves {form}://{address}/");
    if options.tls.is_none() && !options.listen.ip().is_loopback() {
        log::warn!(
            "whoever can reach {address} can see the page's password as it is sent: --tls encrypts \
             it, --listen=127.0.0.1 keeps it on this machine"
        );
    }
}

async fn serve(
    app: Arc<App>,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
) -> Result<(), String> {
    let named = |error| format!("cannot start: {error}");
    let listener = tokio::net::TcpListener::from_std(listener).map_err(named)?;
    let address = listener.local_addr().map_err(named)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(named)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(named)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(named)?;
    let mut user = signal(SignalKind::user_defined1()).map_err(named)?;
    let (tell, end) = watch::channel(());
    let pages = router(&app);
    let limits = app.options.limits;
    let watching = tokio::spawn(live::watch(Arc::clone(&app)));
    let served = tokio::spawn(server::serve(listener, tls, pages, limits, end));
    announce(&app.options, address);
    if let Err(error) = daemon::ready::notify("READY=1") {
        log::debug!("NOTIFY_SOCKET: {error}");
    }
    loop {
        tokio::select! {
            _ = hangup.recv() => app.access.reopen(),
            _ = user.recv() => app.access.reopen(),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    log::info!("shutting down");
    drop(tell);
    watching.abort();
    served.await.map_err(|error| error.to_string())
}
