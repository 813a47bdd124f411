//! One process a folder.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// Holds a folder for this process until dropped; the kernel lets go when the process dies.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Makes the folder if need be and takes it.
    ///
    /// # Errors
    /// The folder cannot be made or written, or another process holds it.
    pub fn take(dir: &Path) -> io::Result<Self> {
        let explain = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", dir.display()));
        fs::create_dir_all(dir).map_err(explain)?;
        let file = File::create(dir.join("lock")).map_err(explain)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(Errno::WOULDBLOCK) => {
                let why =
                    format!("{} is in use by another quay-gateway: give each its own folder", dir.display());
                Err(io::Error::new(io::ErrorKind::WouldBlock, why))
            }
            Err(error) => Err(explain(error.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = DirectoryLock::take(dir.path()).expect("free");
        assert_eq!(
            DirectoryLock::take(dir.path()).map_err(|e| e.kind()).err(),
            Some(io::ErrorKind::WouldBlock)
        );
        drop(first);
        DirectoryLock::take(dir.path()).expect("free again");
    }
}
