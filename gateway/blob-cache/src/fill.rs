//! One blob on its way in.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use backends::{ByteStream, Digest, Hasher};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use tokio::sync::{Notify, watch};
use zone_router::NotOpened;

use super::files::{Disk, hash_until};
use super::outcome::{CachedBlob, NotKept};
use super::room::Room;
use super::store::Cache;
use limits::memory::Reservation;
use limits::pool::Slot;

/// Pieces of a body written at once if they are there: few disk tasks, and no waiting for more.
const WRITE_PIECES_MAX: usize = 64;

/// How a fill gets its bytes.
pub type Origin = BoxFuture<'static, Result<Opened, NotOpened>>;

/// How a body goes on when the disk fails: from the byte after those seen.
pub type Resume = Arc<dyn Fn(Hasher) -> ByteStream + Send + Sync>;

/// A blob opened somewhere.
pub struct Opened {
    /// Its size in bytes, `None` if it comes without.
    pub size: Option<u64>,
    /// Where it comes from, for `Cache-Status`: `zone=…` or `registry`.
    pub from: Arc<str>,
    /// Its bytes; it ends without an error only if they are proven.
    pub body: ByteStream,
    /// How to go on without the disk, if there is a way.
    pub resume: Option<Resume>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").finish_non_exhaustive()
    }
}

impl Opened {
    /// Keeps memory reserved until its bytes have been read.
    pub fn holding(self, memory: Reservation) -> Self {
        let body = self.body.inspect(move |_| {
            let _held = &memory;
        });
        Self { body: body.boxed(), ..self }
    }
}

/// Why a fill ended without a whole blob.
#[derive(Clone)]
pub(crate) enum Failure {
    /// No zone gave it.
    NotOpened(Arc<NotOpened>),
    /// It was opened, but is not kept.
    NotKept(NotKept),
    /// Its origin broke off, or gave wrong bytes.
    Broken(Arc<str>),
    /// The disk failed; what was written until then is what `seen` saw.
    Disk { seen: Hasher },
}

/// How far a fill is.
#[derive(Clone)]
pub(super) enum Phase {
    Opening,
    /// So many bytes can be read.
    Filling(u64),
    Whole,
    Failed(Failure),
}

/// What is known once it is open.
pub(super) struct Head {
    /// Of its file, as much as the phase says can be read.
    pub(super) blob: CachedBlob,
    pub(super) from: Arc<str>,
    pub(super) resume: Option<Resume>,
}

/// A blob on its way in, shared by its task and its readers.
pub(super) struct Fill {
    pub(super) digest: Digest,
    pub(super) head: OnceLock<Head>,
    pub(super) phase: watch::Sender<Phase>,
    pub(super) unkept: Mutex<Option<Opened>>,
    readers: AtomicUsize,
    readers_changed: Notify,
}

impl fmt::Debug for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fill").field("digest", &self.digest).finish_non_exhaustive()
    }
}

impl Fill {
    pub(super) fn new(digest: Digest) -> Self {
        Self {
            digest,
            head: OnceLock::new(),
            phase: watch::Sender::new(Phase::Opening),
            unkept: Mutex::new(None),
            readers: AtomicUsize::new(0),
            readers_changed: Notify::new(),
        }
    }

    /// Starts its task, which no client's leaving stops.
    pub(super) fn start(self: &Arc<Self>, cache: Arc<Cache>, origin: Origin, place: Slot) {
        let fill = Arc::clone(self);
        tokio::spawn(async move {
            let mut end =
                End { fill, cache, phase: Phase::Failed(Failure::Broken("a bug: the fill died".into())) };
            end.phase = tokio::select! {
                filled = end.fill.run(&end.cache, origin) => filled.map_or_else(Phase::Failed, |()| Phase::Whole),
                () = end.fill.abandoned(&end.cache) => Phase::Failed(Failure::Broken("every client left".into())),
            };
            drop(end);
            drop(place);
        });
    }

    pub(super) fn reader_came(&self) {
        self.readers.fetch_add(1, Ordering::AcqRel);
        self.readers_changed.notify_one();
    }

    pub(super) fn reader_left(&self) {
        self.readers.fetch_sub(1, Ordering::AcqRel);
        self.readers_changed.notify_one();
    }

    /// Ends when all readers have left and no more such fills are allowed.
    async fn abandoned(&self, cache: &Cache) {
        let mut permit = None;
        loop {
            if self.readers.load(Ordering::Acquire) > 0 {
                permit = None;
            } else if permit.is_none() {
                permit = Arc::clone(cache.abandoned_permits()).try_acquire_owned().ok();
                if permit.is_none() {
                    return;
                }
            }
            self.readers_changed.notified().await;
        }
    }

    async fn run(self: &Arc<Self>, cache: &Arc<Cache>, origin: Origin) -> Result<(), Failure> {
        let opened = origin.await.map_err(|why| Failure::NotOpened(Arc::new(why)))?;
        let (room, file) = match self.make_room(cache, opened.size).await {
            Ok(room) => room,
            Err(reason) => {
                *self.unkept.lock().unwrap_or_else(PoisonError::into_inner) = Some(opened);
                return Err(Failure::NotKept(reason));
            }
        };
        let (file, disk) = (Arc::new(file), cache.disk().clone());
        let size = opened.size.unwrap_or_default();
        let blob = CachedBlob { file: Arc::clone(&file), size, disk: disk.clone() };
        // Set once: there is one task.
        let _ = self.head.set(Head { blob, from: opened.from, resume: opened.resume });
        self.phase.send_replace(Phase::Filling(0));
        if let Err(failure) = self.write(&file, opened.body, &disk).await {
            // Before anyone hears of it, so that the next try finds the room free.
            let released = disk.run(move || {
                room.release();
                Ok(())
            });
            if let Err(error) = released.await {
                tracing::warn!(digest = %self.digest, %error, "a partial file is not removed yet");
            }
            return Err(failure);
        }
        match disk.run(move || room.place()).await {
            Ok(true) => {}
            Ok(false) => tracing::debug!(digest = %self.digest, "whole, but not kept"),
            Err(error) => {
                tracing::warn!(digest = %self.digest, %error, "a whole blob cannot be put in its place")
            }
        }
        Ok(())
    }

    async fn make_room(&self, cache: &Arc<Cache>, size: Option<u64>) -> Result<(Room, File), NotKept> {
        static ATTEMPT: AtomicU64 = AtomicU64::new(0);
        let size = size.ok_or(NotKept::UnknownSize)?;
        let (disk, cache, digest) = (cache.disk(), Arc::clone(cache), self.digest);
        let room = disk.run(move || {
            let mut room = match cache.admit(digest, size) {
                Ok(room) => room,
                Err(reason) => return Ok(Err(reason)),
            };
            let file = room.create_file(ATTEMPT.fetch_add(1, Ordering::Relaxed))?;
            reserve(&file, size)?;
            Ok(Ok((room, file)))
        });
        room.await.unwrap_or_else(|error| {
            tracing::warn!(%digest, %error, "no file for a blob on its way in");
            Err(NotKept::Disk)
        })
    }

    async fn write(&self, file: &Arc<File>, body: ByteStream, disk: &Disk) -> Result<(), Failure> {
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
            let (target, at) = (Arc::clone(file), written);
            match disk.run(move || write_at(&target, &pieces, at)).await {
                Ok(count) => written += count,
                Err(error) => return Err(self.disk_failed(file, written, &error, disk).await),
            }
            self.phase.send_replace(Phase::Filling(written));
            if let Some(broken) = broken {
                return Err(broken);
            }
        }
        Ok(())
    }

    /// What readers need to go on without the disk: a hash of what they could still read.
    async fn disk_failed(&self, file: &Arc<File>, written: u64, error: &io::Error, disk: &Disk) -> Failure {
        tracing::warn!(digest = %self.digest, written, %error, "the cache's disk fails, streaming past it");
        let file = Arc::clone(file);
        match disk.run(move || hash_until(&file, written)).await {
            Ok(seen) => Failure::Disk { seen },
            Err(error) => Failure::Broken(format!("the cache's disk: {error}").into()),
        }
    }
}

/// Ends a fill when dropped, also by a panic: nobody may wait for a task that is gone.
struct End {
    fill: Arc<Fill>,
    cache: Arc<Cache>,
    phase: Phase,
}

impl Drop for End {
    fn drop(&mut self) {
        if let Phase::Failed(failure) = &self.phase {
            tracing::debug!(digest = %self.fill.digest, %failure, "fill ended without a whole blob");
        }
        // Out of the table first, so that nobody joins a fill that has ended badly.
        self.cache.filled(&self.fill.digest, &self.fill);
        self.fill.phase.send_replace(self.phase.clone());
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOpened(why) => why.fmt(f),
            Self::NotKept(reason) => f.write_str(reason.as_str()),
            Self::Broken(why) => f.write_str(why),
            Self::Disk { seen } => write!(f, "the disk failed after {} bytes", seen.bytes()),
        }
    }
}

/// Takes the file's whole length from the disk at once, so that a full disk shows before any
/// client reads.
fn reserve(file: &File, size: u64) -> io::Result<()> {
    if size == 0 {
        return Ok(());
    }
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn write_at(file: &File, pieces: &[Bytes], mut offset: u64) -> io::Result<u64> {
    let start = offset;
    for piece in pieces {
        file.write_all_at(piece, offset)?;
        offset += piece.len() as u64;
    }
    Ok(offset - start)
}
