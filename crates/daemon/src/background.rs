//! Work that may take long (a file whose host names have to be looked up), in a thread of its own, so
//! that an event loop goes on meanwhile.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread;

/// A piece of work under way.
#[derive(Debug)]
pub struct Task<T> {
    result: mpsc::Receiver<T>,
    /// Closed from the other side, and so readable, when the result is there.
    done: UnixStream,
}

impl<T: Send + 'static> Task<T> {
    /// Starts it. The descriptor of the value becomes readable when the work is done.
    ///
    /// # Errors
    /// When there is no thread or no socket pair to be had.
    pub fn start(work: impl FnOnce() -> T + Send + 'static) -> io::Result<Task<T>> {
        let (done, tell) = UnixStream::pair()?;
        let (send, result) = mpsc::channel();
        thread::Builder::new().name("background".to_owned()).spawn(move || {
            // Whoever has asked may not be interested any more.
            let _ = send.send(work());
            drop(tell);
        })?;
        Ok(Task { result, done })
    }
}

impl<T> Task<T> {
    /// The result; `None` while there is none, and for ever when the work has panicked.
    #[must_use]
    pub fn take(&self) -> Option<T> {
        self.result.try_recv().ok()
    }
}

impl<T> AsFd for Task<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.done.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll::{self, Poller};

    #[test]
    fn the_result_is_there_when_the_loop_hears_of_it() {
        let poller = Poller::new().unwrap();
        let (go, wait) = mpsc::channel();
        let task = Task::start(move || wait.recv()).unwrap();
        poller.add(&task, 3, poll::READ).unwrap();
        assert!(task.take().is_none());
        go.send(42).unwrap();
        let mut events = Vec::new();
        poller.wait(None, &mut events).unwrap();
        assert_eq!(events[0].token, 3);
        assert_eq!(task.take(), Some(Ok(42)));
    }

    #[test]
    fn work_that_panics_is_done_without_a_result() {
        let poller = Poller::new().unwrap();
        let task: Task<()> = Task::start(|| panic!("on purpose")).unwrap();
        poller.add(&task, 3, poll::READ).unwrap();
        let mut events = Vec::new();
        poller.wait(None, &mut events).unwrap();
        assert_eq!(events.len(), 1);
        assert!(task.take().is_none());
    }
}
