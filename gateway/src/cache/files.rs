//! Reading cached files, and the disk they lie on.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use backends::{Digest, Hasher};
use bytes::{Bytes, BytesMut};
use rustix::io::{Errno, ReadWriteFlags};

/// Bytes of one read: large enough that system calls and TLS records are cheap, small enough for
/// a thousand slow readers.
pub(crate) const CHUNK: usize = 256 * 1024;

/// The cache's disk: work on it is done where it may wait, and given up on when it waits too long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Disk {
    /// For one piece of work.
    pub(super) timeout: Duration,
}

impl Disk {
    /// Runs disk work. Work that is given up on goes on in its thread until the disk lets go.
    pub(super) async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        match tokio::time::timeout(self.timeout, tokio::task::spawn_blocking(work)).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => Err(io::Error::other(format!("a disk task died: {error}"))),
            Err(_) => {
                let why = format!("the cache's disk did not answer within {} s", self.timeout.as_secs());
                Err(io::Error::new(io::ErrorKind::TimedOut, why))
            }
        }
    }
}

/// Bytes that the file system still has for us.
pub(super) fn free_bytes(path: &Path) -> io::Result<u64> {
    let stats = rustix::fs::statvfs(path)?;
    Ok(stats.f_bavail.saturating_mul(stats.f_frsize))
}

/// The digest of a whole file.
pub(super) fn digest_of(file: &File) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read_at(&mut buffer, hasher.bytes())? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// Reads up to `len` bytes at `offset` if the page cache has them; `None` means that only a
/// blocking read will tell.
pub(crate) fn read_cached(file: &File, offset: u64, len: usize) -> io::Result<Option<Bytes>> {
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

/// Reads up to `len` bytes at `offset`, waiting for the disk.
pub(crate) fn read_blocking(file: &File, offset: u64, len: usize) -> io::Result<Bytes> {
    let mut buffer = BytesMut::zeroed(len);
    match file.read_at(&mut buffer, offset)? {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a cached file is shorter than it was")),
        count => {
            buffer.truncate(count);
            Ok(buffer.freeze())
        }
    }
}
