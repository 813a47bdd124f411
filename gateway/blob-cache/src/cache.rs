//! The cache as a whole: its parts, how it starts, and its state.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use backends::Digest;
use config::{CacheSettings, Limits, Timeouts};
use dashmap::DashMap;
use limits::pool::Pool;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::admission::Space;
use crate::cleanup::{self, Cleanups};
use crate::demand::Demand;
use crate::directory_lock::DirectoryLock;
use crate::disk::{Disk, free_bytes};
use crate::entry::{self, Entry};
use crate::fill::Fill;
use crate::layout::Layout;
use crate::unremoved::Unremoved;

/// At most this many files are hashed at once after a reboot.
const RECHECKS_MAX: usize = 1;

/// The disk cache.
///
/// ```
/// use backends::Digest;
/// use blob_cache::{Cache, FileBody, Lookup};
/// use config::{CacheSettings, Limits, Timeouts};
/// use futures_util::{StreamExt, stream};
/// use http_body_util::BodyExt;
/// use limits::pool::Identity;
/// use zone_router::Verified;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let folder = tempfile::tempdir()?;
/// let (dir, unremoved) = (folder.path().join("cache"), folder.path().join("unremoved"));
/// let settings = CacheSettings { dir, unremoved, size: 1 << 20, reserve: 0 };
/// let cache = Cache::open(&settings, &Limits::default(), &Timeouts::default())?;
/// let (client, digest) = (Identity::GATEWAY, Digest::of(b"hello"));
///
/// // The first who asks fills it, in a task of its own, and reads behind its own fill.
/// let Lookup::Fill(writer, join) = cache.lookup(&client, &digest).await else { panic!("nobody fills it yet") };
/// let body = stream::once(async { Ok("hello".into()) }).boxed();
/// let filling = tokio::spawn(writer.fill(Verified::hashing(body, digest, Some(5)), "zone-a".into()));
/// let follower = join.follow().await.expect("its source is open");
/// let read = follower.into_stream(0..5).map(|piece| piece.expect("the source is whole"));
/// assert_eq!(read.collect::<Vec<_>>().await.concat(), b"hello");
/// filling.await?.expect("it is kept");
///
/// // The next one has it from its file.
/// let Lookup::Hit(blob) = cache.lookup(&client, &digest).await else { panic!("it is whole") };
/// assert_eq!(FileBody::new(blob, 1..3).collect().await?.to_bytes(), "el");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Cache {
    pub(crate) layout: Layout,
    pub(crate) disk: Disk,
    /// Held only for a moment, never while the disk is waited for. A caller that evicts hands the files to the reaper
    /// before it releases the lock. The caller that gets their space can then wait until the files are gone.
    pub(crate) space: Mutex<Space>,
    pub(crate) open_files: moka::sync::Cache<Digest, Arc<File>>,
    /// The bytes that the cache may hold.
    pub(crate) capacity: u64,
    pub(crate) demand: Demand,
    /// The bytes of the disk that stay free.
    pub(crate) reserve: u64,
    pub(crate) fills: DashMap<Digest, Arc<Fill>>,
    pub(crate) fill_slots: Arc<Pool>,
    pub(crate) abandoned_permits: ArcSwap<Semaphore>,
    /// How many of these permits there are.
    abandoned_max: AtomicUsize,
    /// Held while a file is put in its place or taken from it. It is locked before `space`.
    pub(crate) placing: Mutex<()>,
    pub(crate) cleanups: Arc<Cleanups>,
    /// Held while evicted files are being removed.
    pub(crate) reaping: Mutex<()>,
    /// Held only while the list in `state_dir` is written, never while the cache's disk is waited for.
    pub(crate) unremoved: Mutex<Unremoved>,
    /// Held by the one task that adds a blob to that list.
    pub(crate) recording: Arc<Semaphore>,
    pub(crate) rechecks: Semaphore,
    /// How long a lookup waits for a recheck.
    pub(crate) recheck_wait: ArcSwap<Duration>,
    _lock: DirectoryLock,
}

/// The state of the cache at one moment.
#[derive(Debug, Clone, Copy)]
pub struct CacheStatus {
    /// Blobs that are kept or being filled.
    pub blobs: u64,
    /// The bytes of these blobs, in whole disk blocks.
    pub bytes: u64,
    /// Bytes it may hold.
    pub capacity: u64,
    /// Fills under way.
    pub fills: usize,
    /// The bytes of pinned blobs, in whole disk blocks.
    pub pinned: u64,
    /// The most bytes that pinned blobs may have.
    pub pinned_max: u64,
}

impl Cache {
    /// Opens the cache's folder, removes incomplete files, and indexes the complete ones. Blocks on the disk.
    ///
    /// # Errors
    /// The folder cannot be made, read or written, or another process uses it.
    pub fn open(settings: &CacheSettings, limits: &Limits, timeouts: &Timeouts) -> io::Result<Arc<Self>> {
        let lock = DirectoryLock::take(&settings.dir)?;
        let layout = Layout::create(&settings.dir)?;
        layout.distrust_other_boots()?;
        let unremoved = Unremoved::read(&settings.unremoved)?;
        let found = layout.recover(unremoved.digests())?;
        let kept: u64 = found.iter().map(|blob| entry::bytes(entry::blocks(blob.size))).sum();
        let capacity = fitting(settings, kept, free_bytes(layout.root())?);
        let cleanups = Arc::new(Cleanups::default());
        let mut space = Space::new(capacity / entry::bytes(1));
        let unproven = found.iter().filter(|blob| !blob.trusted).count();
        tracing::info!(blobs = found.len(), unproven, bytes = kept, capacity, dir = %settings.dir.display(), "cache opened");
        cleanups.evicted(unremoved.digests().iter().copied().collect());
        for blob in found {
            let entry = Arc::new(Entry::found(blob.size, blob.trusted).used_since(blob.modified));
            cleanups.evicted(space.keep(None, blob.digest, entry));
        }
        let cache = Arc::new(Self {
            layout,
            disk: Disk::new(timeouts.disk, disk_waiting_max(limits)),
            space: Mutex::new(space),
            open_files: moka::sync::Cache::new(limits.open_files),
            capacity,
            demand: Demand::new(),
            reserve: settings.reserve,
            fills: DashMap::new(),
            // Nothing waits for a slot: without a free one, the blob is a bypass at once.
            fill_slots: Pool::new("limits.fills", limits.fills, 0),
            abandoned_permits: ArcSwap::from_pointee(Semaphore::new(limits.abandoned_fills)),
            abandoned_max: AtomicUsize::new(limits.abandoned_fills),
            placing: Mutex::new(()),
            cleanups: Arc::clone(&cleanups),
            reaping: Mutex::new(()),
            unremoved: Mutex::new(unremoved),
            recording: Arc::new(Semaphore::new(1)),
            rechecks: Semaphore::new(RECHECKS_MAX),
            recheck_wait: ArcSwap::from_pointee(timeouts.cache_proof),
            _lock: lock,
        });
        let weak = Arc::downgrade(&cache);
        std::thread::Builder::new()
            .name("cache-reaper".into())
            .spawn(move || cleanup::run(&cleanups, &weak))?;
        Ok(cache)
    }

    /// Whether the blob is here, whole and trusted.
    #[must_use]
    pub fn holds(&self, digest: &Digest) -> bool {
        self.size_of(digest).is_some()
    }

    /// The size of the blob in bytes, if it is here, whole and trusted.
    #[must_use]
    pub fn size_of(&self, digest: &Digest) -> Option<u64> {
        self.entry(digest).filter(|entry| entry.is_servable()).map(|entry| entry.size)
    }

    /// The index entry of a blob. The lookup counts as a use.
    pub(crate) fn entry(&self, digest: &Digest) -> Option<Arc<Entry>> {
        let entry = self.space.lock().index().get(digest)?;
        entry.touch();
        Some(entry)
    }

    /// Takes other limits: `limits.fills`, `limits.abandoned_fills`, `timeouts.disk` and `timeouts.cache_proof`. Fills in
    /// progress end as they began.
    pub fn set_limits(&self, limits: &Limits, timeouts: &Timeouts) {
        self.disk.set_limits(timeouts.disk, disk_waiting_max(limits));
        self.fill_slots.resize(limits.fills, 0);
        self.recheck_wait.store(Arc::new(timeouts.cache_proof));
        // Fills that hold a permit of before are not counted among the new ones.
        if self.abandoned_max.swap(limits.abandoned_fills, Ordering::Relaxed) != limits.abandoned_fills {
            self.abandoned_permits.store(Arc::new(Semaphore::new(limits.abandoned_fills)));
        }
    }

    /// The state of the cache now.
    #[must_use]
    pub fn status(&self) -> CacheStatus {
        let fills = self.fills.len();
        let mut space = self.space.lock();
        CacheStatus {
            blobs: (space.index().len() + space.fills()) as u64,
            bytes: entry::bytes(space.used()),
            capacity: self.capacity,
            fills,
            pinned: entry::bytes(space.index().pinned_blocks()),
            pinned_max: entry::bytes(space.pinned_max()),
        }
    }

    /// The pools that clients share here: `limits.fills`, and the threads that wait for the disk.
    pub fn pools(&self) -> [&Pool; 2] {
        [&self.fill_slots, self.disk.pool()]
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.cleanups.close();
    }
}

/// At any time, each request and each fill waits for at most one piece of disk work.
fn disk_waiting_max(limits: &Limits) -> usize {
    limits.requests.saturating_add(limits.fills)
}

/// The part of the configured size for which the disk has room, so that eviction starts before the reserve is used.
fn fitting(settings: &CacheSettings, kept: u64, free: u64) -> u64 {
    let possible = kept.saturating_add(free).saturating_sub(settings.reserve);
    if possible < settings.size {
        tracing::warn!(
            size = settings.size,
            possible,
            reserve = settings.reserve,
            "cache.size is more than the disk can hold above cache.reserve; the cache stays below"
        );
    }
    possible.min(settings.size)
}
