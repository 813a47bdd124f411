//! The cache's disk, and reads of its files.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backends::Hasher;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use rustix::io::{Errno, ReadWriteFlags};
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Bytes of one read for a hash.
const CHUNK: usize = 256 * 1024;

/// Threads that may wait for the disk at once. Others must be left, for example for name resolution.
const THREADS_MAX: usize = 64;

/// The cache's disk. Work on it runs on threads that may block, and is given up if it takes too long. The
/// disk is then not asked again for as long.
#[derive(Debug, Clone)]
pub struct Disk {
    /// For one piece of work.
    timeout: Duration,
    threads: Arc<Semaphore>,
    /// Until when a disk that hung is not asked.
    paused_until: Arc<Mutex<Option<Instant>>>,
}

impl Disk {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, threads: Arc::new(Semaphore::new(THREADS_MAX)), paused_until: Arc::default() }
    }

    /// Runs disk work. Work that is given up still occupies its thread until the disk answers.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        if self.paused_until.lock().is_some_and(|until| Instant::now() < until) {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the cache's disk hung a moment ago"));
        }
        let done = async {
            let thread = Arc::clone(&self.threads).acquire_owned().await;
            tokio::task::spawn_blocking(move || {
                let _thread = thread;
                work()
            })
            .await
        };
        match tokio::time::timeout(self.timeout, done).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => Err(io::Error::other(format!("a disk task died: {error}"))),
            Err(_) => {
                *self.paused_until.lock() = Some(Instant::now() + self.timeout);
                let why = format!("the cache's disk did not answer within {} s", self.timeout.as_secs());
                Err(io::Error::new(io::ErrorKind::TimedOut, why))
            }
        }
    }
}

/// Bytes that the file system has left for this user.
pub(super) fn free_bytes(path: &Path) -> io::Result<u64> {
    let stats = rustix::fs::statvfs(path)?;
    Ok(stats.f_bavail.saturating_mul(stats.f_frsize))
}

/// The hash of a file's first `end` bytes.
pub(super) fn hash_until(file: &File, end: u64) -> io::Result<Hasher> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; CHUNK];
    while hasher.bytes() < end {
        let len = (end - hasher.bytes()).min(CHUNK as u64) as usize;
        file.read_exact_at(&mut buffer[..len], hasher.bytes())?;
        hasher.update(&buffer[..len]);
    }
    Ok(hasher)
}

/// Reads up to `len` bytes at `offset` if the page cache has them; `None` means that only a
/// blocking read can tell.
pub(super) fn read_cached(file: &File, offset: u64, len: usize) -> io::Result<Option<Bytes>> {
    let mut buffer = BytesMut::zeroed(len);
    match rustix::io::preadv2(file, &mut [IoSliceMut::new(&mut buffer)], offset, ReadWriteFlags::NOWAIT) {
        Ok(0) => Ok(None),
        Ok(count) => {
            buffer.truncate(count);
            Ok(Some(buffer.freeze()))
        }
        // Not cached, or a file system without non-blocking reads.
        Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Reads up to `len` bytes at `offset`; waits for the disk.
pub(super) fn read_blocking(file: &File, offset: u64, len: usize) -> io::Result<Bytes> {
    let mut buffer = BytesMut::zeroed(len);
    match file.read_at(&mut buffer, offset)? {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a cached file is shorter than it was")),
        count => {
            buffer.truncate(count);
            Ok(buffer.freeze())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_disk_that_hung_is_left_alone_for_a_while() {
        let disk = Disk::new(Duration::from_millis(100));
        let hung = disk.run(|| {
            std::thread::sleep(Duration::from_millis(300));
            Ok(())
        });
        assert_eq!(hung.await.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
        assert!(disk.run(|| Ok(())).await.is_err(), "asked again at once");
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert!(disk.run(|| Ok(())).await.is_ok());
    }
}
