//! Cached blobs as files: names, positional reads, and what a restart finds.

use std::fs::{self, File};
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use backends::{Digest, Hasher};
use bytes::{Bytes, BytesMut};
use rustix::io::{Errno, ReadWriteFlags};

/// Bytes of one read: large enough that system calls and TLS records are cheap, small enough for
/// a thousand slow readers.
pub(crate) const CHUNK: usize = 256 * 1024;

/// Where files lie below the cache's folder.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    root: PathBuf,
}

/// A complete blob that a restart found.
pub(super) struct Found {
    pub(super) digest: Digest,
    pub(super) size: u64,
    modified: SystemTime,
}

impl Layout {
    /// Makes the folders.
    pub(super) fn create(root: &Path) -> io::Result<Self> {
        let layout = Self { root: root.to_owned() };
        fs::create_dir_all(layout.blobs())?;
        fs::create_dir_all(layout.partials())?;
        Ok(layout)
    }

    fn blobs(&self) -> PathBuf {
        self.root.join("sha256")
    }

    fn partials(&self) -> PathBuf {
        self.root.join("partial")
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Where a complete blob lies.
    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.blobs().join(&hex[..2]).join(hex)
    }

    /// Where a blob is written until its digest is proven.
    pub(super) fn partial(&self, digest: &Digest, attempt: u64) -> PathBuf {
        self.partials().join(format!("{}.{attempt}", digest.hex()))
    }

    /// Whether the machine has not been restarted since this was last asked. What a process wrote
    /// survives its death, but files that were never synced may not survive a loss of power.
    pub(super) fn same_boot(&self) -> io::Result<bool> {
        let record = self.root.join("boot_id");
        // Absent outside Linux proper: then every file is read before it is trusted.
        let now = fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let same = !now.is_empty() && fs::read(&record).is_ok_and(|then| then == now);
        fs::write(&record, now)?;
        Ok(same)
    }

    /// Puts a finished partial file in its place.
    pub(super) fn publish(&self, partial: &Path, digest: &Digest) -> io::Result<()> {
        let place = self.blob(digest);
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::rename(partial, place)
    }

    /// Removes what an earlier process left half done, and lists what is whole, least recently
    /// written first.
    pub(super) fn recover(&self) -> io::Result<Vec<Found>> {
        for entry in fs::read_dir(self.partials())? {
            fs::remove_file(entry?.path())?;
        }
        let mut found = Vec::new();
        for folder in fs::read_dir(self.blobs())? {
            let folder = folder?;
            if !folder.file_type()?.is_dir() {
                continue;
            }
            for entry in fs::read_dir(folder.path())? {
                let entry = entry?;
                let digest = entry.file_name().to_str().and_then(|hex| format!("sha256:{hex}").parse().ok());
                let metadata = entry.metadata()?;
                match digest {
                    Some(digest) if metadata.is_file() => {
                        let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                        found.push(Found { digest, size: metadata.len(), modified });
                    }
                    _ => {
                        tracing::warn!(path = %entry.path().display(), "a stranger in the cache's folder is left alone")
                    }
                }
            }
        }
        found.sort_by_key(|blob| blob.modified);
        Ok(found)
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
