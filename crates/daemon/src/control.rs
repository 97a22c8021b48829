//! The control socket: a stream socket in the file system on which a daemon answers questions.
//! One line is a request, one line is its answer; both are JSON.

use crate::lines::{Lines, Reading};
use crate::poll::{self, Flags, Poller};
use nix::unistd::Group;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most clients at a time; when one more comes, the oldest is dropped.
const MOST_CLIENTS: usize = 32;
/// Longest request in bytes.
const LONGEST_REQUEST: usize = 64 * 1024;
/// Most bytes kept for a client that does not read its answers.
const MOST_UNSENT: usize = 64 * 1024 * 1024;
/// The group whose members may ask, besides root.
pub const GROUP: &str = "piranha";

/// A request and who made it.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// To be given back to [`Server::reply`].
    pub client: u64,
    /// The line as it came.
    pub text: Vec<u8>,
}

/// The listening side.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    base: u64,
    next: u64,
    clients: BTreeMap<u64, Client>,
}

/// Somebody who asks.
#[derive(Debug)]
struct Client {
    lines: Lines,
    /// Requests that are not answered yet.
    open: usize,
    /// It has said that it asks nothing more, and waits for its answers.
    silent: bool,
}

impl Server {
    /// Listens on `path` (mode 0660, group [`GROUP`] where it exists; the directory is made if it
    /// is missing) and registers with `poller`. Tokens from `base` on are the server's.
    ///
    /// # Errors
    /// When another process answers on `path`, or the socket cannot be made there.
    pub fn bind(path: &Path, poller: &Poller, base: u64) -> io::Result<Server> {
        let named = |e: io::Error| {
            io::Error::new(e.kind(), format!("control socket {}: {e}", path.display()))
        };
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(named)?;
        }
        clear_stale(path).map_err(named)?;
        let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
        let bound = UnixListener::bind(path);
        nix::sys::stat::umask(before);
        let listener = bound.map_err(named)?;
        listener.set_nonblocking(true)?;
        let group = Group::from_name(GROUP).ok().flatten().map(|g| g.gid.as_raw());
        if group.is_some() {
            // Not root: the socket stays with the caller's own group.
            let _ = std::os::unix::fs::chown(path, None, group);
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(named)?;
        poller.add(&listener, base, poll::READ)?;
        Ok(Server {
            listener,
            path: path.to_owned(),
            base,
            next: base + 1,
            clients: BTreeMap::new(),
        })
    }

    /// Whether an event's token belongs to this server.
    #[must_use]
    pub fn owns(&self, token: u64) -> bool {
        token >= self.base
    }

    /// Handles an event and gives back the requests that have come whole.
    pub fn handle(&mut self, poller: &Poller, event: poll::Event) -> Vec<Request> {
        if event.token == self.base {
            self.accept(poller);
            return Vec::new();
        }
        let Some(client) = self.clients.get_mut(&event.token) else { return Vec::new() };
        let mut requests = Vec::new();
        let mut gone = event.flags.intersects(Flags::EPOLLHUP | Flags::EPOLLERR);
        if event.flags.intersects(poll::READ) && !client.silent {
            match client.lines.fill() {
                Ok(Reading::Open) => {}
                Ok(Reading::Closed) => client.silent = true,
                Err(_) => gone = true,
            }
            while let Some(text) = client.lines.next_line() {
                requests.push(Request { client: event.token, text });
            }
            client.open += requests.len();
        }
        if gone {
            self.clients.remove(&event.token);
        } else {
            self.send(poller, event.token);
        }
        requests
    }

    /// Answers a request. The answer must not contain a line end. A client that is gone, or that
    /// has left too much unread, is forgotten.
    pub fn reply(&mut self, poller: &Poller, client: u64, answer: &[u8]) {
        let Some(asker) = self.clients.get_mut(&client) else { return };
        asker.lines.push(answer);
        asker.open = asker.open.saturating_sub(1);
        self.send(poller, client);
    }

    fn accept(&mut self, poller: &Poller) {
        while let Ok((stream, _)) = self.listener.accept() {
            let Ok(lines) = Lines::new(stream, LONGEST_REQUEST) else { continue };
            if poller.add(&lines, self.next, poll::READ).is_err() {
                continue;
            }
            if self.clients.len() >= MOST_CLIENTS {
                self.clients.pop_first();
            }
            self.clients.insert(self.next, Client { lines, open: 0, silent: false });
            self.next += 1;
        }
    }

    /// Sends what waits for a client, and forgets one that is of no use any more.
    fn send(&mut self, poller: &Poller, client: u64) {
        let Some(asker) = self.clients.get_mut(&client) else { return };
        let sent = asker.lines.flush_in(poller, client);
        let unsent = asker.lines.unsent();
        let served = asker.silent && asker.open == 0 && unsent == 0;
        if sent.is_err() || unsent > MOST_UNSENT || served {
            self.clients.remove(&client);
        } else if asker.silent {
            // Its end would be reported for ever.
            let wait = if unsent > 0 { Flags::EPOLLOUT } else { Flags::empty() };
            let _ = poller.modify(&asker.lines, client, wait);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes a socket that nobody listens on. Anything else that stands there is somebody's file.
fn clear_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file, no socket"));
        }
        _ => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process answers here")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(_) => fs::remove_file(path),
    }
}

/// Asks a daemon one thing and waits for the answer.
///
/// # Errors
/// When nobody listens, the answer does not come within `limit`, or access is denied.
pub fn request(path: &Path, text: &str, limit: Duration) -> io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    stream.write_all(format!("{text}\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    if answer.pop() != Some('\n') {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no whole answer"));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    struct Rig {
        poller: Poller,
        server: Server,
        path: PathBuf,
    }

    fn rig(name: &str) -> Rig {
        let path = std::env::temp_dir().join(format!("control-{name}-{}", std::process::id()));
        let poller = Poller::new().unwrap();
        let server = Server::bind(&path, &poller, 100).unwrap();
        Rig { poller, server, path }
    }

    impl Rig {
        /// Handles events until a request has come.
        fn requests(&mut self) -> Vec<Request> {
            let mut events = Vec::new();
            loop {
                self.poller.wait(None, &mut events).unwrap();
                for event in &events {
                    assert!(self.server.owns(event.token));
                    let requests = self.server.handle(&self.poller, *event);
                    if !requests.is_empty() {
                        return requests;
                    }
                }
            }
        }
    }

    #[test]
    fn answers_and_goes_away() {
        let mut rig = rig("answer");
        let mode = fs::metadata(&rig.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        let path = rig.path.clone();
        let asker =
            std::thread::spawn(move || request(&path, "{\"a\":1}", Duration::from_secs(10)));
        let requests = rig.requests();
        assert_eq!(requests[0].text, b"{\"a\":1}");
        rig.server.reply(&rig.poller, requests[0].client, &[b'x'; 3_000_000]);
        while !asker.is_finished() {
            let mut events = Vec::new();
            let soon = std::time::Instant::now() + Duration::from_millis(20);
            rig.poller.wait(Some(soon), &mut events).unwrap();
            for event in events {
                rig.server.handle(&rig.poller, event);
            }
        }
        assert_eq!(asker.join().unwrap().unwrap().len(), 3_000_000);
        let busy = Server::bind(&rig.path, &rig.poller, 200).unwrap_err();
        assert_eq!(busy.kind(), io::ErrorKind::AddrInUse);
        drop(rig.server);
        assert!(!rig.path.exists());
    }

    #[test]
    fn garbage_and_crowds_do_not_hurt() {
        let mut rig = rig("garbage");
        let mut hostile = UnixStream::connect(&rig.path).unwrap();
        hostile.set_nonblocking(true).unwrap();
        let mut crowd = Vec::new();
        let mut events = Vec::new();
        let closed = loop {
            // Endless bytes without a line end: the server hangs up.
            if hostile.write(&[0xff; 8192]).is_err_and(|e| e.kind() != io::ErrorKind::WouldBlock) {
                break true;
            }
            rig.poller.wait(None, &mut events).unwrap();
            for event in events.drain(..) {
                assert!(rig.server.handle(&rig.poller, event).is_empty());
            }
        };
        assert!(closed);
        for _ in 0..2 * MOST_CLIENTS {
            crowd.push(UnixStream::connect(&rig.path).unwrap());
            rig.server.accept(&rig.poller);
        }
        assert_eq!(rig.server.clients.len(), MOST_CLIENTS);
        crowd[0].set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert_eq!(crowd[0].read(&mut [0]).unwrap(), 0, "the oldest was dropped");
        crowd.last_mut().unwrap().write_all(b"still here\n").unwrap();
        assert_eq!(rig.requests()[0].text, b"still here");
    }

    #[test]
    fn an_asker_that_says_no_more_gets_its_answer() {
        let mut rig = rig("half");
        let mut asker = UnixStream::connect(&rig.path).unwrap();
        asker.write_all(b"one\ntwo\n").unwrap();
        asker.shutdown(std::net::Shutdown::Write).unwrap();
        let requests = rig.requests();
        assert_eq!(requests.len(), 2);
        for request in &requests {
            assert_eq!(rig.server.clients.len(), 1);
            rig.server.reply(&rig.poller, request.client, &request.text);
        }
        assert!(rig.server.clients.is_empty());
        let mut answers = String::new();
        asker.read_to_string(&mut answers).unwrap();
        assert_eq!(answers, "one\ntwo\n");
    }

    #[test]
    fn a_socket_left_behind_is_replaced() {
        let path = std::env::temp_dir().join(format!("control-stale-{}", std::process::id()));
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let poller = Poller::new().unwrap();
        drop(Server::bind(&path, &poller, 1).unwrap());
    }

    #[test]
    fn a_file_in_the_way_is_left_alone() {
        let path = std::env::temp_dir().join(format!("control-file-{}", std::process::id()));
        fs::write(&path, "precious").unwrap();
        let error = Server::bind(&path, &Poller::new().unwrap(), 1).unwrap_err();
        assert!(error.to_string().contains("no socket"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_file(path).unwrap();
    }
}
