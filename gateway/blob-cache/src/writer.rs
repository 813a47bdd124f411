//! The writer of a fill.

use std::fmt;
use std::fs::File;
use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::StreamExt;
use limits::pool::{Identity, Slot};
use zone_router::{NotOpened, Verified};

use crate::bypass::BypassReason;
use crate::cache::Cache;
use crate::cached_blob::CachedBlob;
use crate::disk::is_busy;
use crate::fill::{Failure, Fill, Head, Phase};
use crate::reservation::{Growth, Reservation, Taken};

/// At most this many pieces of a body are written at once, if they are there already. That means few disk tasks, and no
/// wait for more pieces.
const WRITE_PIECES_MAX: usize = 64;

/// The right and the duty to fill one blob: others wait for it.
///
/// If a writer is dropped without a whole blob, also by a panic, the fill has failed, and its followers learn of it.
/// Use the writer in a task of its own, so that a client that leaves does not end the fill of others.
pub struct Writer {
    cache: Arc<Cache>,
    fill: Arc<Fill>,
    /// What followers learn when the writer is dropped.
    outcome: Phase,
    /// The field is the last one, so the slot is returned last.
    _slot: Slot,
}

/// A blob that the cache does not keep.
#[derive(Debug)]
pub struct NotKept {
    /// The body, as it was given to the writer.
    pub body: Verified,
    /// Why it is not kept.
    pub reason: BypassReason,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("fill", &self.fill).finish_non_exhaustive()
    }
}

impl Writer {
    pub(super) fn new(cache: Arc<Cache>, fill: Arc<Fill>, slot: Slot) -> Self {
        let outcome = Phase::Failed(Failure::Broken("the fill ended before its blob was whole".into()));
        Self { cache, fill, outcome, _slot: slot }
    }

    /// Completes when every client has left and `limits.abandoned_fills` allows no further abandoned fill. The caller
    /// must then drop the writer.
    pub fn abandoned(&self) -> impl Future<Output = ()> + Send + 'static {
        let (fill, permits) = (Arc::clone(&self.fill), self.cache.abandoned_permits.load_full());
        async move { fill.abandoned(&permits).await }
    }

    /// Tells the followers that no zone gave the blob, and why.
    pub fn not_opened(mut self, why: NotOpened) {
        self.outcome = Phase::Failed(Failure::NotOpened(Arc::new(why)));
    }

    /// Writes the body to a file, which followers read meanwhile. When the body has ended, its digest is proven, and
    /// the file is kept. Followers learn of every failure except the error below. `from` is their
    /// [`Follower::source`](crate::Follower::source).
    ///
    /// # Errors
    /// The cache does not keep a blob of this size, or of unknown size, now. No bytes of the body were read.
    pub async fn fill(mut self, body: Verified, from: Arc<str>) -> Result<(), NotKept> {
        if *body.digest() != self.fill.digest {
            self.outcome = Phase::Failed(Failure::Broken("a bug: the body is another blob's".into()));
            return Ok(());
        }
        let (reservation, head) = match self.reserve(body.size(), from).await {
            Ok(reserved) => reserved,
            Err(reason) => {
                self.outcome = Phase::Failed(Failure::Bypassed(reason));
                return Err(NotKept { body, reason });
            }
        };
        let disk = self.cache.disk.clone();
        self.fill.phase.send_replace(Phase::Filling(Arc::clone(&head), 0));
        let growth = reservation.growth();
        if let Err(failure) = self.write(&head, body, growth).await {
            // The space is returned before anyone learns of the failure, so that the next fill finds it free.
            let work = move || {
                reservation.release();
                Ok(())
            };
            if let Err(error) = disk.run(&self.fill.worker(), work).await {
                tracing::warn!(digest = %self.fill.digest, %error, "a partial file is not removed yet");
            }
            self.outcome = Phase::Failed(failure);
            return Ok(());
        }
        match disk.run(&self.fill.worker(), move || reservation.publish()).await {
            Ok(true) => {}
            Ok(false) => tracing::debug!(digest = %self.fill.digest, "whole, but not kept"),
            Err(error) => {
                tracing::warn!(digest = %self.fill.digest, %error, "a whole blob cannot be kept")
            }
        }
        self.outcome = Phase::Whole(head);
        Ok(())
    }

    /// Reserves space in the cache, and creates a file.
    async fn reserve(
        &self,
        size: Option<u64>,
        from: Arc<str>,
    ) -> Result<(Reservation, Arc<Head>), BypassReason> {
        static ATTEMPT: AtomicU64 = AtomicU64::new(0);
        let size = size.ok_or(BypassReason::UnknownSize)?;
        let (cache, digest) = (Arc::clone(&self.cache), self.fill.digest);
        let (disk, attempt) = (&self.cache.disk, ATTEMPT.fetch_add(1, Ordering::Relaxed));
        let reserved = disk.run_soon(&self.fill.worker(), move || Ok(cache.reserve(digest, size))).await;
        let mut reservation = reserved.map_err(|error| self.no_file(size, &error))??;
        loop {
            let work = move || Ok((reservation.create_file(attempt)?, reservation));
            let made = disk.run_soon(&self.fill.worker(), work).await;
            let (file, reserved) = made.map_err(|error| self.no_file(size, &error))?;
            if let Some(file) = file {
                let (disk, reader) = (disk.clone(), Identity::GATEWAY);
                let blob = CachedBlob { file: Arc::new(file), size, disk, reader };
                return Ok((reserved, Arc::new(Head { blob, from })));
            }
            reservation = reserved;
        }
    }

    fn no_file(&self, size: u64, error: &io::Error) -> BypassReason {
        let (digest, reserve) = (self.fill.digest, self.cache.reserve);
        if error.kind() == io::ErrorKind::StorageFull {
            tracing::warn!(%digest, size, reserve, %error, "no room on the cache's disk");
        } else if !is_busy(error) {
            tracing::warn!(%digest, %error, "no file can be made for a fill");
        }
        BypassReason::of_disk(error)
    }

    async fn write(&self, head: &Arc<Head>, body: Verified, growth: Option<Growth>) -> Result<(), Failure> {
        let mut written = 0;
        let mut batches = body.ready_chunks(WRITE_PIECES_MAX);
        while let Some(batch) = batches.next().await {
            let mut pieces = Vec::with_capacity(batch.len());
            let mut broken = None;
            for piece in batch {
                match piece {
                    Ok(piece) => pieces.push(piece),
                    Err(error) => broken = Some(Failure::Broken(error.to_string().into())),
                }
            }
            written = self.write_batch(head, &pieces, written, growth.as_ref()).await?;
            self.fill.phase.send_replace(Phase::Filling(Arc::clone(head), written));
            if let Some(broken) = broken {
                return Err(broken);
            }
        }
        Ok(())
    }

    /// Appends pieces to the file, and publishes how much is written.
    async fn write_batch(
        &self,
        head: &Arc<Head>,
        pieces: &[Bytes],
        written: u64,
        growth: Option<&Growth>,
    ) -> Result<u64, Failure> {
        let end = written + pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        loop {
            let (file, pieces, growth) = (Arc::clone(&head.blob.file), pieces.to_vec(), growth.cloned());
            let fill = Arc::clone(&self.fill);
            let work = move || {
                let take = |growth: Growth| growth.take(written..end, fill.is_followed());
                let taken = growth.map_or(Ok(Taken::All), take)?;
                if taken == Taken::All {
                    write_at(&file, &pieces, written)?;
                }
                Ok(taken)
            };
            match head.blob.disk.run(&self.fill.worker(), work).await {
                Ok(Taken::All) => return Ok(end),
                Ok(Taken::Later) => {}
                // The fill leaves the table first, so that clients who joined before that are still served.
                Ok(Taken::Nothing) if self.leave_table().is_followed() => {}
                Ok(Taken::Nothing) => {
                    return Err(Failure::Broken("every client left, and the rest evicts others".into()));
                }
                Err(error) => return Err(self.disk_failed(head, written, &error).await),
            }
        }
    }

    /// Takes the fill off the table, so that nobody joins it any more.
    fn leave_table(&self) -> &Fill {
        self.cache.fills.remove_if(&self.fill.digest, |_, current| Arc::ptr_eq(current, &self.fill));
        &self.fill
    }

    /// Hashes the bytes that followers can still read, so that they can go on without the disk.
    async fn disk_failed(&self, head: &Head, written: u64, error: &io::Error) -> Failure {
        let digest = self.fill.digest;
        match is_busy(error) {
            true => {
                tracing::warn!(%digest, written, "no thread is free for the cache's disk, streaming past it")
            }
            false => tracing::warn!(%digest, written, %error, "the cache's disk fails, streaming past it"),
        }
        match head.blob.disk.hash(&self.fill.worker(), &head.blob.file, written).await {
            Ok(seen) => Failure::Disk { seen: Arc::new(seen) },
            Err(error) => Failure::Broken(format!("the cache's disk: {error}").into()),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Phase::Failed(failure) = &self.outcome {
            tracing::debug!(digest = %self.fill.digest, %failure, "fill ended without a whole blob");
        }
        // The fill leaves the table first, so that nobody joins a fill that has failed.
        self.leave_table();
        self.fill.phase.send_replace(self.outcome.clone());
    }
}

fn write_at(file: &File, pieces: &[Bytes], mut offset: u64) -> io::Result<()> {
    for piece in pieces {
        file.write_all_at(piece, offset)?;
        offset += piece.len() as u64;
    }
    Ok(())
}
