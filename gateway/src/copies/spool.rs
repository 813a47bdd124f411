//! Keeps blobs that only the registry can give in a file while they are copied, because a store must be able
//! to read its source again.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backends::{ByteStream, Digest, Error, Hasher, Kind, Open, Source};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use registry::FetchedBlob;

/// Blobs that are spooled at once. Others wait for a slot.
const AT_ONCE: usize = 2;

/// How long a blob waits for a slot.
const SLOT_TIMEOUT: Duration = Duration::from_secs(60);

/// The timeout for reading a whole blob from the registry.
const READ_TIMEOUT: Duration = Duration::from_secs(3600);

/// Bytes of the file system that are left free, because the journal uses it too.
const FREE_SPACE_MIN: u64 = 1 << 30;

/// The free space is checked again after this many bytes.
const CHECK_SPACE_AFTER: u64 = 64 << 20;

/// The size of one read of the file, in bytes.
const CHUNK: usize = 256 * 1024;

/// A folder for spooled blobs. The files have no names there, so that none is left behind however the process
/// ends.
#[derive(Debug)]
pub(crate) struct Spool {
    dir: PathBuf,
    /// The maximum size of a blob in bytes.
    max: u64,
    slots: Arc<Semaphore>,
}

/// Why a blob was not spooled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    /// It will fail every time: the blob is too large, or its bytes do not match its digest.
    #[error("{0}")]
    Permanent(String),
    /// It may succeed later.
    #[error("{0}")]
    Temporary(String),
}

/// A file without a name, and the slot that it holds.
struct SpooledFile {
    file: Arc<File>,
    _slot: OwnedSemaphorePermit,
}

impl Spool {
    pub(crate) fn new(dir: &Path, max: u64) -> Self {
        Self { dir: dir.to_owned(), max, slots: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Waits for a slot to spool one blob.
    ///
    /// # Errors
    /// No slot became free in time.
    pub(crate) async fn slot(&self) -> Result<OwnedSemaphorePermit, SpoolError> {
        match tokio::time::timeout(SLOT_TIMEOUT, Arc::clone(&self.slots).acquire_owned()).await {
            Ok(Ok(slot)) => Ok(slot),
            _ => Err(SpoolError::Temporary(format!(
                "no slot to fetch a blob through the registry became free within {} s",
                SLOT_TIMEOUT.as_secs()
            ))),
        }
    }

    /// Reads a blob to its end and hashes it. The file is removed with the last source that uses it.
    ///
    /// # Errors
    /// - [`SpoolError::Permanent`] if the blob is too large or its bytes do not match its digest.
    /// - [`SpoolError::Temporary`] if the body breaks off or takes too long, or the disk has no space or
    ///   fails.
    pub(crate) async fn store(
        &self,
        fetched: FetchedBlob,
        digest: &Digest,
        slot: OwnedSemaphorePermit,
    ) -> Result<Source, SpoolError> {
        if let Some(size) = fetched.size {
            self.check_size(size)?;
            self.check_space(size)?;
        }
        let kept = tokio::time::timeout(READ_TIMEOUT, self.read(fetched, digest, slot)).await;
        kept.unwrap_or_else(|_| {
            Err(SpoolError::Temporary(format!(
                "the blob was not read completely within {} s",
                READ_TIMEOUT.as_secs()
            )))
        })
    }

    async fn read(
        &self,
        fetched: FetchedBlob,
        digest: &Digest,
        slot: OwnedSemaphorePermit,
    ) -> Result<Source, SpoolError> {
        let disk = |error: std::io::Error| SpoolError::Temporary(format!("state_dir: {error}"));
        let file = Arc::new(unnamed_file(&self.dir).map_err(disk)?);
        let mut body = fetched.body;
        let (mut hasher, mut size, mut check_at) = (Hasher::new(), 0, 0);
        while let Some(chunk) =
            body.try_next().await.map_err(|error| SpoolError::Temporary(error.to_string()))?
        {
            let end = size + chunk.len() as u64;
            self.check_size(end)?;
            if end > check_at {
                self.check_space(chunk.len() as u64)?;
                check_at = end + CHECK_SPACE_AFTER;
            }
            hasher.update(&chunk);
            let writer = Arc::clone(&file);
            let written = tokio::task::spawn_blocking(move || writer.write_all_at(&chunk, size)).await;
            written.map_err(|error| SpoolError::Temporary(error.to_string()))?.map_err(disk)?;
            size = end;
        }
        if hasher.finish() != *digest {
            return Err(SpoolError::Permanent(format!(
                "the registry gave {size} bytes that do not match the digest"
            )));
        }
        Ok(Source::new(size, *digest, Arc::new(SpooledFile { file, _slot: slot })))
    }

    fn check_size(&self, size: u64) -> Result<(), SpoolError> {
        if size <= self.max {
            return Ok(());
        }
        let max = bytesize::ByteSize(self.max);
        Err(SpoolError::Permanent(format!("the blob is larger than replication.fetch_max ({max})")))
    }

    fn check_space(&self, size: u64) -> Result<(), SpoolError> {
        let free = rustix::fs::statvfs(&self.dir)
            .map_err(|error| SpoolError::Temporary(format!("state_dir: {error}")))?;
        match free.f_bavail * free.f_frsize > size + FREE_SPACE_MIN {
            true => Ok(()),
            false => Err(SpoolError::Temporary(
                "state_dir has no room for a blob that only the registry gives".to_owned(),
            )),
        }
    }
}

/// Creates a file that disappears when it is closed.
fn unnamed_file(dir: &Path) -> std::io::Result<File> {
    let path = dir.join(format!("fetched-{:032x}.partial", fastrand::u128(..)));
    let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

#[async_trait]
impl Open for SpooledFile {
    async fn open(&self, range: Range<u64>) -> backends::Result<ByteStream> {
        let file = Arc::clone(&self.file);
        let chunks = stream::try_unfold((file, range), |(file, range)| async move {
            let length = (range.end.saturating_sub(range.start)).min(CHUNK as u64);
            if length == 0 {
                return Ok(None);
            }
            let reader = Arc::clone(&file);
            let read = tokio::task::spawn_blocking(move || {
                let mut chunk = vec![0; usize::try_from(length).unwrap_or(CHUNK)];
                reader.read_exact_at(&mut chunk, range.start).map(|()| Bytes::from(chunk))
            });
            let failed = |error| Error::new(Kind::Unavailable, "read a fetched blob").with_cause(error);
            let chunk = match read.await {
                Ok(read) => read.map_err(failed)?,
                Err(error) => {
                    return Err(Error::new(Kind::Unavailable, "read a fetched blob").with_cause(error));
                }
            };
            Ok(Some((chunk, (file, range.start + length..range.end))))
        });
        Ok(chunks.boxed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetched(bytes: &[u8], size: Option<u64>) -> FetchedBlob {
        let chunks: Vec<_> = bytes.chunks(100_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        FetchedBlob { body: stream::iter(chunks).boxed(), size, from: registry::Origin::Registry(None) }
    }

    async fn kept(
        spool: &Spool,
        bytes: &[u8],
        size: Option<u64>,
        digest: Digest,
    ) -> Result<Source, SpoolError> {
        let slot = spool.slot().await.expect("a slot");
        spool.store(fetched(bytes, size), &digest, slot).await
    }

    #[tokio::test]
    async fn any_part_can_be_read_again_and_no_file_is_left() {
        let dir = tempfile::tempdir().expect("a folder");
        let spool = Spool::new(dir.path(), 1_000_000);
        let bytes: Vec<u8> = (0..700_001_u32).map(|at| at.to_le_bytes()[1]).collect();
        let source = kept(&spool, &bytes, None, Digest::of(&bytes)).await.expect("kept");
        assert_eq!(source.size(), 700_001);
        for range in [0..700_001_u64, 5..5, 262_143..524_289, 700_000..700_001] {
            for _ in 0..2 {
                let parts: Vec<Bytes> =
                    source.open(range.clone()).await.expect("opens").try_collect().await.expect("reads");
                let within =
                    usize::try_from(range.start).expect("fits")..usize::try_from(range.end).expect("fits");
                assert_eq!(parts.concat(), bytes[within]);
            }
        }
        assert!(source.open(0..700_002).await.expect("opens").try_collect::<Vec<_>>().await.is_err());
        assert_eq!(std::fs::read_dir(dir.path()).expect("reads").count(), 0);
        assert_eq!(spool.slots.available_permits(), AT_ONCE - 1);
        drop(source);
        assert_eq!(spool.slots.available_permits(), AT_ONCE);
    }

    #[tokio::test]
    async fn wrong_bytes_and_too_many_are_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let spool = Spool::new(dir.path(), 1000);
        for (bytes, size, why) in [
            (vec![0; 1000], None, "do not match the digest"),
            (vec![0; 1001], None, "fetch_max"),
            (vec![0; 10], Some(1001), "fetch_max"),
        ] {
            let said = kept(&spool, &bytes, size, Digest::EMPTY).await.expect_err("refused");
            assert!(matches!(&said, SpoolError::Permanent(said) if said.contains(why)), "{said}");
        }
        assert_eq!(spool.slots.available_permits(), AT_ONCE);
    }
}
