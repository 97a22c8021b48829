//! A file under a name of its own, removed unless it is kept.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// How many names are tried before the directory is taken to be full of leftovers.
const TRIES: usize = 1000;

/// A path whose file is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Temporary {
    path: PathBuf,
    is_kept: bool,
}

impl Temporary {
    /// Makes an empty file in `directory`, which only the process's user may read, for what is
    /// to become `name` there. It is hidden, and shows what it was for should a power failure
    /// leave it behind.
    pub(crate) fn create(directory: &Path, name: &Path) -> io::Result<(File, Temporary)> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let mut prefix = OsString::from(".");
        prefix.push(name);
        for _ in 0..TRIES {
            let mut unique = prefix.clone();
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            unique.push(format!(".{}-{number}", std::process::id()));
            let path = directory.join(unique);
            let mut options = OpenOptions::new();
            match options.read(true).write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => return Ok((file, Temporary { path, is_kept: false })),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves what has the path, if anything has.
    pub(crate) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}
