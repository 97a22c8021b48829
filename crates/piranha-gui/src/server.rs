//! Connections: how many, how long, and in what form.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::gate::Peer;

/// The most that the headers of a request may take, in bytes.
const HEADERS: usize = 32 * 1024;
/// How long accepting pauses when the process is out of descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// What a client may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all.
    pub connections: usize,
    /// Connections from one address.
    pub of_one: usize,
    /// How long a client may take to say hello by TLS, and to send the headers of a request.
    pub greeting: Duration,
    /// How long a request may take, from its headers to the answer's beginning.
    pub request: Duration,
    /// A connection ends after this time.
    pub life: Duration,
    /// How long the answer under way is waited for when a connection is to end.
    pub farewell: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            of_one: 48,
            greeting: Duration::from_secs(10),
            request: Duration::from_secs(60),
            life: Duration::from_secs(10 * 60),
            farewell: Duration::from_secs(5),
        }
    }
}

/// Serves until `end` changes, and lets the answers under way finish.
///
/// # Errors
/// None that a restart would mend: what goes wrong with a connection ends that connection.
pub async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    pages: Router,
    limits: Limits,
    mut end: watch::Receiver<()>,
) {
    let crowd = Arc::new(Crowd::new(limits));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = end.changed() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if !is_passing(&error) {
                    log::warn!("accept: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
                continue;
            }
        };
        // Whoever is one too many is hung up on: waiting in line would help those who take all places.
        let Some(place) = Crowd::enter(&crowd, peer.ip()) else { continue };
        let pages = pages.clone().layer(Extension(Peer(peer)));
        let connection = Connection { stream, peer, pages, limits, end: end.clone() };
        let tls = tls.clone();
        tokio::spawn(async move {
            connection.run(tls).await;
            drop(place);
        });
    }
    drop(listener);
    // Whoever is in the middle of an answer is waited for, not for ever.
    let all_gone = async {
        while !crowd.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let _ = tokio::time::timeout(limits.farewell, all_gone).await;
}

/// What goes wrong with one client before it is accepted, accept(2).
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    pages: Router,
    limits: Limits,
    end: watch::Receiver<()>,
}

impl Connection {
    async fn run(self, tls: Option<TlsAcceptor>) {
        let Connection { stream, peer, pages, limits, end } = self;
        let _ = stream.set_nodelay(true);
        match tls {
            None => converse(stream, peer, pages, limits, end).await,
            Some(tls) => match tokio::time::timeout(limits.greeting, tls.accept(stream)).await {
                Ok(Ok(stream)) => converse(stream, peer, pages, limits, end).await,
                Ok(Err(error)) => log::debug!("TLS with {peer}: {error}"),
                Err(_) => log::debug!("TLS with {peer}: no greeting in time"),
            },
        }
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    peer: SocketAddr,
    pages: Router,
    limits: Limits,
    mut end: watch::Receiver<()>,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.greeting)
        .max_buf_size(HEADERS)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(pages));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = tokio::time::sleep(limits.life) => None,
        _ = end.changed() => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(limits.farewell, connection).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        log::debug!("{peer}: {error}");
    }
}

/// Who is connected.
#[derive(Debug)]
struct Crowd {
    limits: Limits,
    of: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection that is counted, until it is dropped.
struct Place {
    crowd: Arc<Crowd>,
    address: IpAddr,
}

impl Crowd {
    fn new(limits: Limits) -> Self {
        Self { limits, of: Mutex::default() }
    }

    fn enter(crowd: &Arc<Crowd>, address: IpAddr) -> Option<Place> {
        let mut of = crowd.of.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = of.values().sum();
        let own = of.get(&address).copied().unwrap_or(0);
        if all >= crowd.limits.connections || own >= crowd.limits.of_one {
            return None;
        }
        of.insert(address, own + 1);
        Some(Place { crowd: Arc::clone(crowd), address })
    }

    fn is_empty(&self) -> bool {
        self.of.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut of = self.crowd.of.lock().unwrap_or_else(PoisonError::into_inner);
        match of.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                of.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_given_back() {
        let limits = Limits::default();
        let crowd = Arc::new(Crowd::new(limits));
        let address = |number: u32| IpAddr::V4(number.into());
        let own: Vec<_> = (0..limits.of_one).map(|_| Crowd::enter(&crowd, address(1))).collect();
        assert!(own.iter().all(Option::is_some));
        assert!(Crowd::enter(&crowd, address(1)).is_none());
        let others: Vec<_> =
            (2..9999).map_while(|number| Crowd::enter(&crowd, address(number))).collect();
        assert_eq!(others.len(), limits.connections - limits.of_one);
        assert!(Crowd::enter(&crowd, address(9999)).is_none());
        drop(own);
        assert!(Crowd::enter(&crowd, address(1)).is_some());
        drop(others);
        assert!(crowd.is_empty());
    }
}
