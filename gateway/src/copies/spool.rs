//! Blobs that the registry alone gives, kept in a file for as long as a copy is made of them: what is
//! written to a store must bear being read again.

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

/// Blobs kept at once; a further one waits for its turn.
const AT_ONCE: usize = 2;

/// How long it waits.
const TURN: Duration = Duration::from_secs(60);

/// For a blob's last byte.
const WHOLE: Duration = Duration::from_secs(3600);

/// Bytes of the file system that are left free: the journal lies there too.
const RESERVE: u64 = 1 << 30;

/// The free room is looked at again after so many bytes.
const LOOK_AFTER: u64 = 64 << 20;

/// One read of the file.
const CHUNK: usize = 256 * 1024;

/// A folder for such files. They have no name there: whatever becomes of the process, none is left.
#[derive(Debug)]
pub(crate) struct Spool {
    dir: PathBuf,
    /// Bytes of one blob at most.
    max: u64,
    turns: Arc<Semaphore>,
}

/// Why a blob is not kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotKept {
    /// It never will be: it is too large, or not what its digest says.
    #[error("{0}")]
    Never(String),
    /// Another time it may be.
    #[error("{0}")]
    Now(String),
}

/// A file without a name, and its turn.
struct Kept {
    file: Arc<File>,
    _turn: OwnedSemaphorePermit,
}

impl Spool {
    pub(crate) fn new(dir: &Path, max: u64) -> Self {
        Self { dir: dir.to_owned(), max, turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Leave to keep one blob.
    ///
    /// # Errors
    /// Others take too long.
    pub(crate) async fn turn(&self) -> Result<OwnedSemaphorePermit, NotKept> {
        match tokio::time::timeout(TURN, Arc::clone(&self.turns).acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(NotKept::Now(format!(
                "other blobs are fetched through the registry, for more than {} s",
                TURN.as_secs()
            ))),
        }
    }

    /// Reads a blob to its end, and hashes it. The file goes with the last of the sources.
    ///
    /// # Errors
    /// It is too large, breaks off, or is another blob; or the disk has no room.
    pub(crate) async fn keep(
        &self,
        fetched: FetchedBlob,
        digest: &Digest,
        turn: OwnedSemaphorePermit,
    ) -> Result<Source, NotKept> {
        if let Some(size) = fetched.size {
            self.admit(size)?;
            self.room(size)?;
        }
        let kept = tokio::time::timeout(WHOLE, self.read(fetched, digest, turn)).await;
        kept.unwrap_or_else(|_| Err(NotKept::Now(format!("not read whole within {} s", WHOLE.as_secs()))))
    }

    async fn read(
        &self,
        fetched: FetchedBlob,
        digest: &Digest,
        turn: OwnedSemaphorePermit,
    ) -> Result<Source, NotKept> {
        let disk = |error: std::io::Error| NotKept::Now(format!("state_dir: {error}"));
        let file = Arc::new(nameless(&self.dir).map_err(disk)?);
        let mut body = fetched.body;
        let (mut hasher, mut size, mut look_at) = (Hasher::new(), 0, 0);
        while let Some(chunk) = body.try_next().await.map_err(|error| NotKept::Now(error.to_string()))? {
            let end = size + chunk.len() as u64;
            self.admit(end)?;
            if end > look_at {
                self.room(chunk.len() as u64)?;
                look_at = end + LOOK_AFTER;
            }
            hasher.update(&chunk);
            let writer = Arc::clone(&file);
            let written = tokio::task::spawn_blocking(move || writer.write_all_at(&chunk, size)).await;
            written.map_err(|error| NotKept::Now(error.to_string()))?.map_err(disk)?;
            size = end;
        }
        if hasher.finish() != *digest {
            return Err(NotKept::Never(format!("the registry gives {size} bytes that are another blob")));
        }
        Ok(Source::new(size, *digest, Arc::new(Kept { file, _turn: turn })))
    }

    fn admit(&self, size: u64) -> Result<(), NotKept> {
        if size <= self.max {
            return Ok(());
        }
        let max = bytesize::ByteSize(self.max);
        Err(NotKept::Never(format!("it is larger than replication.fetch_max ({max})")))
    }

    fn room(&self, size: u64) -> Result<(), NotKept> {
        let free =
            rustix::fs::statvfs(&self.dir).map_err(|error| NotKept::Now(format!("state_dir: {error}")))?;
        match free.f_bavail * free.f_frsize > size + RESERVE {
            true => Ok(()),
            false => {
                Err(NotKept::Now("state_dir has no room for a blob that only the registry gives".to_owned()))
            }
        }
    }
}

/// A file that is gone when nobody has it open any more.
fn nameless(dir: &Path) -> std::io::Result<File> {
    let path = dir.join(format!("fetched-{:032x}.partial", fastrand::u128(..)));
    let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

#[async_trait]
impl Open for Kept {
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

    fn given(bytes: &[u8], size: Option<u64>) -> FetchedBlob {
        let chunks: Vec<_> = bytes.chunks(100_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        FetchedBlob { body: stream::iter(chunks).boxed(), size, from: registry::Origin::Registry(None) }
    }

    async fn kept(spool: &Spool, bytes: &[u8], size: Option<u64>, digest: Digest) -> Result<Source, NotKept> {
        let turn = spool.turn().await.expect("a turn");
        spool.keep(given(bytes, size), &digest, turn).await
    }

    #[tokio::test]
    async fn any_part_is_read_again_and_no_file_is_left() {
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
        assert_eq!(spool.turns.available_permits(), AT_ONCE - 1);
        drop(source);
        assert_eq!(spool.turns.available_permits(), AT_ONCE);
    }

    #[tokio::test]
    async fn other_bytes_and_too_many_are_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let spool = Spool::new(dir.path(), 1000);
        for (bytes, size, why) in [
            (vec![0; 1000], None, "are another blob"),
            (vec![0; 1001], None, "fetch_max"),
            (vec![0; 10], Some(1001), "fetch_max"),
        ] {
            let said = kept(&spool, &bytes, size, Digest::EMPTY).await.expect_err("refused");
            assert!(matches!(&said, NotKept::Never(said) if said.contains(why)), "{said}");
        }
        assert_eq!(spool.turns.available_permits(), AT_ONCE);
    }
}
