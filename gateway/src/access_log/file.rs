//! The file of the access log, which others may move away.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Owner and group may read the file, which names clients and what they pull.
const MODE: u32 = 0o640;

/// How often the gateway looks whether the file was moved away.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A file that lines are added to. It is opened again when it was moved or removed, or when somebody asks for that.
/// Blocks its thread.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    reopen: Arc<AtomicBool>,
    looked: Instant,
    /// Whether the file ends with a whole line.
    is_whole: bool,
    /// Whether the latest write failed. The log says so once.
    failed: bool,
    /// Whether the file could not be opened again. The log says so once.
    stuck: bool,
}

impl LogFile {
    /// Opens the file, and makes it if there is none.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) fn open(path: PathBuf, reopen: Arc<AtomicBool>) -> io::Result<Self> {
        let file = open(&path)?;
        Ok(Self { path, file, reopen, looked: Instant::now(), is_whole: true, failed: false, stuck: false })
    }

    /// Opens the file again, if that is due. If it cannot be opened, lines go on into the old one.
    fn follow(&mut self) {
        let asked = self.reopen.swap(false, Ordering::Relaxed);
        if !asked && self.looked.elapsed() < LOOK_EVERY {
            return;
        }
        self.looked = Instant::now();
        if !asked && !self.is_moved() {
            return;
        }
        match open(&self.path) {
            Ok(file) => (self.file, self.stuck) = (file, false),
            Err(error) => {
                if !std::mem::replace(&mut self.stuck, true) {
                    tracing::warn!(path = %self.path.display(), %error, "the access log cannot be opened again: it goes on in the old file");
                }
            }
        }
    }

    /// Whether another file, or none, has the name now.
    fn is_moved(&self) -> bool {
        let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        let ours = self.file.metadata().map(identity);
        let named = self.path.metadata().map(identity);
        !matches!((ours, named), (Ok(ours), Ok(named)) if ours == named)
    }

    fn add(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failed && !self.is_whole {
            // A line that broke off must not run into the next one.
            self.file.write_all(b"\n")?;
            self.is_whole = true;
        }
        if self.is_whole {
            self.follow();
        }
        let written = self.file.write(bytes)?;
        self.is_whole = bytes[..written].ends_with(b"\n");
        Ok(written)
    }
}

fn open(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(MODE).open(path)
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.add(bytes);
        if let (Err(error), false) = (&written, self.failed) {
            tracing::warn!(path = %self.path.display(), %error, "the access log cannot be written: its lines are lost");
        }
        self.failed = written.is_err();
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_was_moved_is_opened_again_when_asked() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, moved) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let reopen = Arc::new(AtomicBool::new(false));
        let mut file = LogFile::open(path.clone(), Arc::clone(&reopen)).expect("opens");
        file.write_all(b"one\n").expect("writes");
        fs::hard_link(&path, &moved).expect("links");
        fs::remove_file(&path).expect("removes");
        assert!(file.is_moved());
        reopen.store(true, Ordering::Relaxed);
        file.write_all(b"two\n").expect("writes");
        assert!(!file.is_moved());
        assert_eq!(fs::read_to_string(&moved).expect("reads"), "one\n");
        assert_eq!(fs::read_to_string(&path).expect("reads"), "two\n");
        assert_eq!(fs::metadata(&path).expect("a file").mode() & 0o777, MODE);
        // Where its folder is gone, lines go on into the old file.
        drop(folder);
        reopen.store(true, Ordering::Relaxed);
        file.write_all(b"three\n").expect("writes");
    }

    #[test]
    fn a_line_that_broke_off_does_not_run_into_the_next() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("access.log");
        let mut file = LogFile::open(path.clone(), Arc::default()).expect("opens");
        file.write_all(b"half of a li").expect("writes");
        // As a full disk does.
        let whole = std::mem::replace(&mut file.file, File::open(&path).expect("opens"));
        file.write(b"ne\n").expect_err("it is open for reading only");
        file.file = whole;
        file.write_all(b"two\n").expect("writes");
        assert_eq!(fs::read_to_string(&path).expect("reads"), "half of a li\ntwo\n");
    }
}
