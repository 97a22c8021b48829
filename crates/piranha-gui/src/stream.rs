//! Answers that are made while they are sent. With ten thousand servers a page has megabytes, of which
//! only a little should be in memory at a time.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// Bytes that are sent at once.
const PIECE: usize = 64 * 1024;
/// A client that takes nothing for so long is given up: it keeps a thread waiting.
const STALLED: Duration = Duration::from_secs(30);

/// What an answer is written to.
#[derive(Debug)]
pub struct Pieces {
    text: Vec<u8>,
    to: mpsc::Sender<Piece>,
    runtime: Handle,
}

/// A part of an answer; or that the rest will not come.
type Piece = Result<Bytes, io::Error>;

impl Pieces {
    fn send(&mut self) -> io::Result<()> {
        if self.text.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.text));
        let sent = self.runtime.block_on(tokio::time::timeout(STALLED, self.to.send(Ok(piece))));
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.text.capacity() == 0 {
            self.text.reserve(PIECE);
        }
        self.text.extend_from_slice(bytes);
        if self.text.len() >= PIECE {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

/// An answer of this media type, which `write` makes on a thread that may wait.
pub async fn answer(
    kind: &'static str,
    write: impl FnOnce(&mut Pieces) -> io::Result<()> + Send + 'static,
) -> Response {
    let (to, mut pieces) = mpsc::channel(1);
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || {
        let mut out = Pieces { text: Vec::new(), to, runtime };
        if let Err(error) = write(&mut out).and_then(|()| out.send()) {
            // A client that is gone does not hear of it.
            log::debug!("an answer was not made to its end: {error}");
            let _ = out.runtime.block_on(out.to.send(Err(error)));
        }
    });
    // What is in one piece has a length, and can still fail properly.
    let body = match (pieces.recv().await, pieces.recv().await) {
        (None, _) => Body::empty(),
        (Some(Err(_)), _) | (_, Some(Err(_))) => {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
        (Some(Ok(whole)), None) => Body::from(whole),
        (Some(Ok(first)), Some(Ok(second))) => {
            Body::new(Coming { begun: [Some(first), Some(second)], pieces })
        }
    };
    ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], body).into_response()
}

/// The media type of pages.
pub const HTML: &str = "text/html; charset=utf-8";

struct Coming {
    begun: [Option<Bytes>; 2],
    pieces: mpsc::Receiver<Piece>,
}

impl hyper::body::Body for Coming {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(piece) = self.begun.iter_mut().find_map(Option::take) {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        self.pieces.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::body::Body as _;
    use std::io::Write as _;

    fn made(
        write: impl FnOnce(&mut Pieces) -> io::Result<()> + Send + 'static,
    ) -> (Response, usize, bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let response = answer(HTML, write).await;
            let (head, mut body) = response.into_parts();
            let (mut bytes, mut whole) = (0, true);
            while let Some(frame) =
                std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await
            {
                match frame {
                    Ok(frame) => bytes += frame.into_data().unwrap().len(),
                    Err(_) => whole = false,
                }
            }
            (Response::from_parts(head, Body::empty()), bytes, whole)
        })
    }

    #[test]
    fn answers_of_any_size_are_whole() {
        for size in [0, 1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE, 5 * PIECE + 7] {
            let (response, bytes, whole) =
                made(move |out| (0..size).try_for_each(|_| out.write_all(b"x")));
            assert_eq!((response.status(), bytes, whole), (StatusCode::OK, size, true));
        }
        let (_, bytes, whole) = made(|out| out.write_all(&[b'x'; 9 * PIECE]));
        assert_eq!((bytes, whole), (9 * PIECE, true));
    }

    #[test]
    fn what_breaks_off_is_never_taken_for_whole() {
        let broken = || Err(io::Error::other("broken"));
        assert_eq!(made(move |_| broken()).0.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let (response, bytes, whole) = made(move |out| {
            out.write_all(&[b'x'; PIECE])?;
            out.write_all(&[b'x'; PIECE])?;
            out.write_all(&[b'x'; PIECE])?;
            broken()
        });
        assert_eq!((response.status(), whole), (StatusCode::OK, false));
        assert!(bytes >= 2 * PIECE);
    }
}
