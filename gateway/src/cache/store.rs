//! Looking blobs up, and letting them in and out.

use std::collections::hash_map::RandomState;
use std::fs::{self, File};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use backends::Digest;
use dashmap::{DashMap, Entry as Slot};
use moka::notification::RemovalCause;
use moka::policy::EvictionPolicy;
use tokio::sync::Semaphore;
use zone_router::NotOpened;

use super::entry::{self, Entry};
use super::files::{Layout, digest_of, free_bytes};
use super::fill::{Failure, Fill, Opened, Origin};
use super::follower::Follower;
use super::lock::DirectoryLock;
use super::reaper;
use crate::config::{CacheSettings, Limits};

/// How often a client that met a dying fill starts over.
const FILL_TRIES_MAX: usize = 3;

/// The disk cache.
#[derive(Debug)]
pub struct Cache {
    layout: Layout,
    index: moka::sync::Cache<Digest, Arc<Entry>, RandomState>,
    open: moka::sync::Cache<Digest, Arc<File>>,
    capacity: u64,
    reserve: u64,
    fills: DashMap<Digest, Arc<Fill>>,
    fill_permits: Arc<Semaphore>,
    abandoned_permits: Arc<Semaphore>,
    placing: Mutex<()>,
    proving: tokio::sync::Mutex<()>,
    _lock: DirectoryLock,
}

/// A whole blob, proven and open.
#[derive(Debug, Clone)]
pub(crate) struct CachedBlob {
    pub(crate) file: Arc<File>,
    pub(crate) size: u64,
}

/// What became of a miss.
pub(crate) enum Filled {
    /// It came in meanwhile.
    Hit(CachedBlob),
    /// It is on its way in, and can be read behind the writer. `true` if another client's fill.
    Following(Follower, bool),
    /// It is not kept, for this reason; here is the stream for this client alone.
    Alone(Opened, NotKept),
    /// No zone gave it.
    NotOpened(Arc<NotOpened>),
    /// The fill broke before its first byte.
    Broken(String),
}

/// Why a blob is streamed past the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotKept {
    /// It is larger than the cache.
    TooLarge,
    /// The disk has no room above the reserve, or fails.
    Disk,
    /// As many fills as allowed are under way.
    Busy,
    /// Its size is not known beforehand.
    UnknownSize,
}

impl NotKept {
    /// A word for `Cache-Status` and metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too-large",
            Self::Disk => "disk-full",
            Self::Busy => "busy",
            Self::UnknownSize => "unknown-size",
        }
    }
}

/// The cache at a glance.
#[derive(Debug, Clone, Copy)]
pub struct CacheStatus {
    /// Blobs kept or on their way in.
    pub blobs: u64,
    /// Their bytes, in whole disk blocks.
    pub bytes: u64,
    /// Bytes it may hold.
    pub capacity: u64,
    /// Fills under way.
    pub fills: usize,
}

impl Cache {
    /// Opens the cache's folder, removes what was left half done and indexes what is whole.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// The folder cannot be made, read or written, or another process uses it.
    pub fn open(settings: &CacheSettings, limits: &Limits) -> io::Result<Arc<Self>> {
        let lock = DirectoryLock::take(&settings.dir)?;
        let layout = Layout::create(&settings.dir)?;
        let found = layout.recover()?;
        let kept: u64 = found.iter().map(|blob| entry::bytes(entry::blocks(blob.size).into())).sum();
        let capacity = fitting(settings, kept, free_bytes(layout.root())?);
        let proven = layout.same_boot()?;
        let (evict, evicted) = mpsc::channel();
        let evict = Mutex::new(evict);
        let index = moka::sync::Cache::builder()
            .max_capacity(capacity / entry::bytes(1))
            .weigher(|_: &Digest, entry: &Arc<Entry>| entry.weight())
            .eviction_policy(EvictionPolicy::lru())
            .eviction_listener(move |digest: Arc<Digest>, _, cause| {
                if cause != RemovalCause::Replaced {
                    // Nobody receives only when the cache itself is going.
                    let _ = evict.lock().unwrap_or_else(PoisonError::into_inner).send(*digest);
                }
            })
            .build();
        tracing::info!(blobs = found.len(), bytes = kept, capacity, proven, dir = %settings.dir.display(), "cache opened");
        for blob in found {
            index.insert(blob.digest, Arc::new(Entry::found(blob.size, proven)));
        }
        let cache = Arc::new(Self {
            layout,
            index,
            open: moka::sync::Cache::new(limits.open_files),
            capacity,
            reserve: settings.reserve,
            fills: DashMap::new(),
            fill_permits: Arc::new(Semaphore::new(limits.fills)),
            abandoned_permits: Arc::new(Semaphore::new(limits.abandoned_fills)),
            placing: Mutex::new(()),
            proving: tokio::sync::Mutex::new(()),
            _lock: lock,
        });
        let weak = Arc::downgrade(&cache);
        std::thread::Builder::new()
            .name("cache-reaper".into())
            .spawn(move || reaper::run(&evicted, &weak))?;
        cache.index.run_pending_tasks();
        Ok(cache)
    }

    /// Whether a blob is here, whole.
    #[must_use]
    pub fn holds(&self, digest: &Digest) -> bool {
        self.index.get(digest).is_some_and(|entry| entry.is_whole())
    }

    /// The cache at a glance.
    #[must_use]
    pub fn status(&self) -> CacheStatus {
        CacheStatus {
            blobs: self.index.entry_count(),
            bytes: entry::bytes(self.index.weighted_size()),
            capacity: self.capacity,
            fills: self.fills.len(),
        }
    }

    /// A whole blob, if it is here and right.
    pub(crate) async fn get(self: &Arc<Self>, digest: &Digest) -> Option<CachedBlob> {
        let entry = self.index.get(digest).filter(|entry| entry.is_whole())?;
        let opened = match self.open.get(digest) {
            Some(file) if entry.is_proven() => Ok(file),
            _ => self.open_proven(*digest, &entry).await,
        };
        match opened {
            Ok(file) => Some(CachedBlob { file, size: entry.size }),
            Err(error) => {
                tracing::warn!(%digest, %error, "a cached blob is not usable, and is dropped");
                self.drop_blob(digest);
                None
            }
        }
    }

    async fn open_proven(self: &Arc<Self>, digest: Digest, entry: &Arc<Entry>) -> io::Result<Arc<File>> {
        // One at a time: each is a read of a whole blob, and others may be waiting for the same.
        let proving = if entry.is_proven() { None } else { Some(self.proving.lock().await) };
        let (path, size, proven) = (self.layout.blob(&digest), entry.size, entry.is_proven());
        let file = blocking(move || {
            let file = File::open(path)?;
            let length = file.metadata()?.len();
            if length != size {
                return Err(io::Error::other(format!("{length} bytes on disk, not {size}")));
            }
            if !proven && digest_of(&file)? != digest {
                return Err(io::Error::other("its bytes changed on disk"));
            }
            Ok(Arc::new(file))
        })
        .await?;
        entry.set_proven();
        drop(proving);
        self.open.insert(digest, Arc::clone(&file));
        Ok(file)
    }

    /// Joins the fill of a blob, or starts it from `origin`.
    pub(crate) async fn fill(self: &Arc<Self>, digest: Digest, origin: impl Fn() -> Origin) -> Filled {
        let mut broken = String::new();
        for _ in 0..FILL_TRIES_MAX {
            let Some((mut follower, joined)) = self.join_or_start(digest, &origin) else {
                if let Some(hit) = self.get(&digest).await {
                    return Filled::Hit(hit);
                }
                return match origin().await {
                    Ok(opened) => Filled::Alone(opened, NotKept::Busy),
                    Err(why) => Filled::NotOpened(Arc::new(why)),
                };
            };
            match follower.opened().await {
                Ok(()) => return Filled::Following(follower, joined),
                Err(Failure::NotOpened(why)) => return Filled::NotOpened(why),
                Err(Failure::NotKept(reason)) => {
                    let opened = match follower.take_unkept() {
                        Some(opened) => Ok(opened),
                        None => origin().await,
                    };
                    return match opened {
                        Ok(opened) => Filled::Alone(opened, reason),
                        Err(why) => Filled::NotOpened(Arc::new(why)),
                    };
                }
                Err(Failure::Broken(why)) => broken = why.to_string(),
                Err(Failure::Disk { .. }) => broken = "the cache's disk fails".into(),
            }
        }
        Filled::Broken(broken)
    }

    /// `None` if the blob has come in meanwhile, or no further fill is allowed.
    fn join_or_start(
        self: &Arc<Self>,
        digest: Digest,
        origin: &impl Fn() -> Origin,
    ) -> Option<(Follower, bool)> {
        match self.fills.entry(digest) {
            Slot::Occupied(slot) => Some((Follower::new(slot.get()), true)),
            Slot::Vacant(_) if self.holds(&digest) => None,
            Slot::Vacant(slot) => {
                let permit = Arc::clone(&self.fill_permits).try_acquire_owned().ok()?;
                let fill = Arc::new(Fill::new(digest));
                let follower = Follower::new(&fill);
                slot.insert(Arc::clone(&fill));
                fill.start(Arc::clone(self), origin(), permit);
                Some((follower, false))
            }
        }
    }

    /// Makes room for a blob, or says why not. Blocks on the disk.
    pub(super) fn admit(&self, digest: Digest, size: u64) -> Result<Arc<Entry>, NotKept> {
        if size > self.capacity {
            return Err(NotKept::TooLarge);
        }
        let entry = Arc::new(Entry::room(size));
        self.index.insert(digest, Arc::clone(&entry));
        self.index.run_pending_tasks();
        match free_bytes(self.layout.root()) {
            Ok(free) if free >= size.saturating_add(self.reserve) => Ok(entry),
            refused => {
                tracing::warn!(%digest, size, free = refused.ok(), reserve = self.reserve, "no room on the cache's disk");
                self.index.invalidate(&digest);
                Err(NotKept::Disk)
            }
        }
    }

    /// Puts a proven file in its place. `false` if it was evicted while it came in.
    pub(super) fn place(
        &self,
        partial: &std::path::Path,
        digest: &Digest,
        entry: &Entry,
    ) -> io::Result<bool> {
        let _placing = self.placing();
        if !self.index.contains_key(digest) {
            return Ok(false);
        }
        self.layout.publish(partial, digest)?;
        entry.set_whole();
        Ok(true)
    }

    pub(super) fn placing(&self) -> MutexGuard<'_, ()> {
        self.placing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn indexed(&self, digest: &Digest) -> bool {
        self.index.contains_key(digest)
    }

    pub(super) fn forget_open(&self, digest: &Digest) {
        self.open.invalidate(digest);
    }

    /// The index lets go of a blob; the reaper removes its file.
    pub(super) fn drop_blob(&self, digest: &Digest) {
        self.index.invalidate(digest);
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(super) fn abandoned_permits(&self) -> &Arc<Semaphore> {
        &self.abandoned_permits
    }

    pub(super) fn filled(&self, digest: &Digest, fill: &Arc<Fill>) {
        self.fills.remove_if(digest, |_, current| Arc::ptr_eq(current, fill));
    }
}

/// What the disk can hold of the configured size, so that eviction starts before the reserve is
/// touched.
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

/// Runs disk work where it may wait.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(io::Error::other(format!("a disk task died: {error}"))),
    }
}

/// Removes a file when dropped, unless it was put in its place.
#[derive(Debug)]
pub(super) struct Partial(pub(super) std::path::PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // Gone already if it was renamed.
        let _ = fs::remove_file(&self.0);
    }
}
