//! Programmable UDP servers.

use std::{
    net::{SocketAddr, UdpSocket},
    os::fd::AsFd,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::{EfdFlags, EventFd},
};

use crate::{
    board::{Board, TimedOut},
    node::Node,
    process::closing,
};

/// What a UDP server does with each datagram. (One whose port is closed is a server stopped.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UdpBehaviour {
    /// Answers with these bytes.
    Answer(Vec<u8>),
    /// Answers with what came.
    Echo,
    /// Takes it and says nothing.
    Silent,
}

#[derive(Debug)]
struct State {
    behaviour: UdpBehaviour,
    requests: usize,
    last_request: Vec<u8>,
}

/// The socket and the thread that reads it, while the server is not stopped.
#[derive(Debug)]
struct Worker {
    end: Arc<EventFd>,
    thread: JoinHandle<()>,
}

/// A UDP server of a node, in the test's own process. Dropping it stops it.
///
/// On a node with several addresses it must be bound to the one that clients use: bound to
/// `0.0.0.0` its answers come from the address that the route to the client prefers.
#[derive(Debug)]
pub struct UdpServer {
    node: Node,
    address: SocketAddr,
    state: Arc<Board<State>>,
    worker: Option<Worker>,
}

impl Node {
    /// Starts a UDP server on this node.
    #[track_caller]
    #[must_use = "the server stops when it is dropped"]
    pub fn udp_server(&self, address: &str, behaviour: UdpBehaviour) -> UdpServer {
        let parsed = address.parse();
        let address = parsed.unwrap_or_else(|e| panic!("{}: {address}: {e}", self.name()));
        let state = State { behaviour, requests: 0, last_request: Vec::new() };
        let state = Arc::new(Board::new(state));
        let mut server = UdpServer { node: self.clone(), address, state, worker: None };
        server.start();
        server
    }
}

impl UdpServer {
    /// Changes what it does from now on.
    pub fn set(&self, behaviour: UdpBehaviour) {
        self.state.change(|state| state.behaviour = behaviour);
    }

    /// How many datagrams have come since it was made.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.state.look().requests
    }

    /// The last datagram that came.
    #[must_use]
    pub fn last_request(&self) -> Vec<u8> {
        self.state.look().last_request.clone()
    }

    /// Waits until `count` datagrams have come since it was made.
    ///
    /// # Errors
    /// There were fewer after `limit`.
    pub fn wait_requests(&self, count: usize, limit: Duration) -> Result<(), TimedOut> {
        self.state.wait(limit, |state| (state.requests >= count).then_some(())).ok_or_else(|| {
            let (name, seen) = (self.node.name(), self.requests());
            TimedOut(format!("{name}: {seen} datagrams instead of {count} after {limit:?}"))
        })
    }

    /// Closes its port: datagrams are answered by ICMP "port unreachable" from now on.
    pub fn stop(&mut self) {
        if let Some(Worker { end, thread }) = self.worker.take() {
            // A counter that is read once cannot be full; a panic has been shown already.
            let _ = end.write(1);
            let _ = thread.join();
        }
    }

    /// Starts it again.
    #[track_caller]
    pub fn start(&mut self) {
        if self.worker.is_some() {
            return;
        }
        let started = self.node.enter(|| UdpSocket::bind(self.address)).and_then(|socket| {
            socket.set_nonblocking(true)?;
            let end = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?);
            let (state, ended) = (Arc::clone(&self.state), Arc::clone(&end));
            let thread = thread::Builder::new().name("udp".to_owned()).spawn(move || {
                serve(&socket, &ended, &state);
                closing(|| drop(socket));
            })?;
            Ok(Worker { end, thread })
        });
        let failed = |e| panic!("{}: no UDP server on {}: {e}", self.node.name(), self.address);
        self.worker = Some(started.unwrap_or_else(failed));
    }
}

impl Drop for UdpServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve(socket: &UdpSocket, end: &EventFd, state: &Board<State>) {
    let mut buffer = vec![0; 65_536];
    loop {
        let mut fds = [
            PollFd::new(socket.as_fd(), PollFlags::POLLIN),
            PollFd::new(end.as_fd(), PollFlags::POLLIN),
        ];
        // Interrupted: then nothing is ready, and we come back here.
        let _ = poll(&mut fds, PollTimeout::NONE);
        if fds[1].any() == Some(true) {
            return;
        }
        // Would block, or an ICMP error about an earlier answer: neither is ours to deal with.
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            let request = buffer.get(..length).unwrap_or_default();
            // First: who has the answer finds the request counted.
            let behaviour = state.change(|state| {
                state.requests += 1;
                request.clone_into(&mut state.last_request);
                state.behaviour.clone()
            });
            let answer = match &behaviour {
                UdpBehaviour::Answer(bytes) => Some(bytes.as_slice()),
                UdpBehaviour::Echo => Some(request),
                UdpBehaviour::Silent => None,
            };
            if let Some(answer) = answer {
                // A client that has gone away is its own affair.
                let _ = socket.send_to(answer, client);
            }
        }
    }
}
