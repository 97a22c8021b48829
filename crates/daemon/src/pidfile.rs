//! Pid files, as service scripts read them: the number and a line end.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::process;

/// A pid file that goes away with the value, unless another process has taken it over meanwhile.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    content: String,
}

impl PidFile {
    /// Writes this process's pid to `path`, replacing what is there (mode 0644).
    ///
    /// # Errors
    /// When the file cannot be written; the text names it.
    pub fn create(path: &Path) -> io::Result<PidFile> {
        let content = format!("{}\n", std::process::id());
        let named =
            |e: io::Error| io::Error::new(e.kind(), format!("pid file {}: {e}", path.display()));
        // A fresh file, so that a link planted there is replaced and not followed.
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(named(e)),
            _ => {}
        }
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).open(path).map_err(named)?;
        file.write_all(content.as_bytes()).map_err(named)?;
        Ok(PidFile { path: path.to_owned(), content })
    }
}

/// The process named in a pid file, if it lives, is not this one, and is one of the same program. A
/// file that a crash left behind may name any process by now.
#[must_use]
pub fn holder(path: &Path) -> Option<i32> {
    let pid: i32 = fs::read_to_string(path).ok()?.trim().parse().ok()?;
    let other = i64::from(pid) != i64::from(std::process::id());
    (other && process::name(pid)? == process::name("self")?).then_some(pid)
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if fs::read_to_string(&self.path).is_ok_and(|now| now == self.content) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_our_pid_and_goes_away_unless_taken_over() {
        let dir = std::env::temp_dir().join(format!("pidfile-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("x.pid");
        fs::write(&path, "1\n").unwrap();
        let file = PidFile::create(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(file);
        assert!(!path.exists());

        let file = PidFile::create(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");

        assert_eq!(holder(&path), None, "process 1 is another program");
        fs::write(&path, format!("{}\n", std::process::id())).unwrap();
        assert_eq!(holder(&path), None, "this process");
        for nobody in ["", "x\n", "999999999\n"] {
            fs::write(&path, nobody).unwrap();
            assert_eq!(holder(&path), None, "{nobody}");
        }

        let error = PidFile::create(&dir.join("no/such/x.pid")).unwrap_err();
        assert!(error.to_string().contains("no/such/x.pid"), "{error}");
        fs::remove_dir_all(&dir).unwrap();
    }
}
