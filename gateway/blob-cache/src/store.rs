//! Looking blobs up, and letting them in and out.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backends::Digest;
use dashmap::{DashMap, Entry as Slot};
use moka::notification::RemovalCause;
use moka::policy::EvictionPolicy;
use tokio::sync::Semaphore;

use super::admission::{Books, Place, index_max};
use super::demand::Demand;
use super::entry::{self, Entry};
use super::files::{Disk, free_bytes};
use super::fill::{Failure, Fill, Origin};
use super::follower::Follower;
use super::layout::Layout;
use super::lock::DirectoryLock;
use super::outcome::{CacheStatus, CachedBlob, Filled, Lookup, NotKept};
use super::reaper::{self, Chore, Chores};
use super::room::Room;
use config::{CacheSettings, Limits, Timeouts};
use limits::pool::{Identity, Pool};

/// Files proven at once after a restart of the machine.
const PROOFS_AT_ONCE: usize = 1;

/// How often a client that met a dying fill starts over.
const FILL_TRIES_MAX: usize = 3;

/// The disk cache.
#[derive(Debug)]
pub struct Cache {
    layout: Layout,
    disk: Disk,
    index: moka::sync::Cache<Digest, Arc<Entry>>,
    open: moka::sync::Cache<Digest, Arc<File>>,
    capacity: u64,
    /// Blocks of blobs on their way in beside the index.
    beside: AtomicU64,
    demand: Demand,
    reserve: u64,
    fills: DashMap<Digest, Arc<Fill>>,
    fill_slots: Arc<Pool>,
    abandoned_permits: Arc<Semaphore>,
    /// Held while a file is put in its place or taken from it.
    placing: Mutex<()>,
    chores: Arc<Chores>,
    /// Held while evicted files are being removed.
    reaping: Mutex<()>,
    proving: Semaphore,
    proof_wait: Duration,
    _lock: DirectoryLock,
}

impl Cache {
    /// Opens the cache's folder, removes what was left half done and indexes what is whole.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// The folder cannot be made, read or written, or another process uses it.
    pub fn open(settings: &CacheSettings, limits: &Limits, timeouts: &Timeouts) -> io::Result<Arc<Self>> {
        let lock = DirectoryLock::take(&settings.dir)?;
        let layout = Layout::create(&settings.dir)?;
        layout.distrust_other_boots()?;
        let found = layout.recover()?;
        let kept: u64 = found.iter().map(|blob| entry::bytes(entry::blocks(blob.size).into())).sum();
        let capacity = fitting(settings, kept, free_bytes(layout.root())?);
        let chores = Arc::new(Chores::default());
        let index = index(capacity, Arc::clone(&chores));
        let unproven = found.iter().filter(|blob| !blob.trusted).count();
        tracing::info!(blobs = found.len(), unproven, bytes = kept, capacity, dir = %settings.dir.display(), "cache opened");
        for blob in found {
            index.insert(blob.digest, Arc::new(Entry::found(blob.size, blob.trusted)));
        }
        let cache = Arc::new(Self {
            layout,
            disk: Disk::new(timeouts.disk),
            index,
            open: moka::sync::Cache::new(limits.open_files),
            capacity,
            beside: AtomicU64::new(0),
            demand: Demand::new(),
            reserve: settings.reserve,
            fills: DashMap::new(),
            // Who gets none is streamed past the cache at once.
            fill_slots: Pool::new("limits.fills", limits.fills, 0),
            abandoned_permits: Arc::new(Semaphore::new(limits.abandoned_fills)),
            placing: Mutex::new(()),
            chores: Arc::clone(&chores),
            reaping: Mutex::new(()),
            proving: Semaphore::new(PROOFS_AT_ONCE),
            proof_wait: timeouts.cache_proof,
            _lock: lock,
        });
        let weak = Arc::downgrade(&cache);
        std::thread::Builder::new().name("cache-reaper".into()).spawn(move || reaper::run(&chores, &weak))?;
        cache.index.run_pending_tasks();
        Ok(cache)
    }

    /// Whether a blob is here, whole and trusted.
    #[must_use]
    pub fn holds(&self, digest: &Digest) -> bool {
        self.index.get(digest).is_some_and(|entry| entry.is_servable())
    }

    /// The size in bytes of a blob that is here, whole and trusted.
    pub fn size_of(&self, digest: &Digest) -> Option<u64> {
        self.index.get(digest).filter(|entry| entry.is_servable()).map(|entry| entry.size)
    }

    /// The cache at a glance.
    #[must_use]
    pub fn status(&self) -> CacheStatus {
        CacheStatus {
            blobs: self.index.entry_count(),
            bytes: entry::bytes(self.index.weighted_size() + self.beside.load(Ordering::Acquire)),
            capacity: self.capacity,
            fills: self.fills.len(),
        }
    }

    /// A whole blob, if it is here, right, and can be opened.
    pub async fn get(self: &Arc<Self>, digest: &Digest) -> Lookup {
        let Some(entry) = self.index.get(digest).filter(|entry| entry.is_whole()) else {
            return Lookup::Absent;
        };
        if !self.is_trusted(*digest, &entry).await {
            return Lookup::Absent;
        }
        let hit = |file| Lookup::Hit(CachedBlob { file, size: entry.size, disk: self.disk.clone() });
        if let Some(file) = self.open.get(digest) {
            return hit(file);
        }
        let (path, size) = (self.layout.blob(digest), entry.size);
        match self.disk.run(move || open_whole(&path, size)).await {
            Ok(file) => {
                self.open.insert(*digest, Arc::clone(&file));
                if !self.keeps(digest, &entry) {
                    // Evicted meanwhile: an open file would keep its bytes on the disk.
                    self.open.invalidate(digest);
                }
                hit(file)
            }
            Err(error) => {
                tracing::warn!(%digest, %error, "a cached blob cannot be opened");
                // Anything else, such as a want of file descriptors, says nothing of the file.
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData)
                    && self.keeps(digest, &entry)
                {
                    self.index.invalidate(digest);
                }
                Lookup::Unusable
            }
        }
    }

    /// What clients share.
    pub fn pool(&self) -> &Pool {
        &self.fill_slots
    }

    /// As [`Cache::fill_for`], for the gateway itself.
    #[cfg(test)]
    pub async fn fill(self: &Arc<Self>, digest: Digest, origin: impl Fn() -> Origin) -> Filled {
        self.fill_for(&Identity::GATEWAY, digest, origin).await
    }

    /// Joins the fill of a blob, or starts it from `origin` for this client.
    pub async fn fill_for(
        self: &Arc<Self>,
        who: &Identity,
        digest: Digest,
        origin: impl Fn() -> Origin,
    ) -> Filled {
        let asked = self.demand.ask(&digest);
        match self.join_or_fill(who, digest, origin).await {
            Filled::Following(follower, joined) => Filled::Following(follower.asking(asked), joined),
            Filled::Alone(opened, reason) => Filled::Alone(asked.until_read(opened), reason),
            ended => ended,
        }
    }

    async fn join_or_fill(
        self: &Arc<Self>,
        who: &Identity,
        digest: Digest,
        origin: impl Fn() -> Origin,
    ) -> Filled {
        let mut broken = String::new();
        for _ in 0..FILL_TRIES_MAX {
            let Some((mut follower, joined)) = self.join_or_start(who, digest, &origin) else {
                if let Lookup::Hit(blob) = self.get(&digest).await {
                    return Filled::Hit(blob);
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
        who: &Identity,
        digest: Digest,
        origin: &impl Fn() -> Origin,
    ) -> Option<(Follower, bool)> {
        match self.fills.entry(digest) {
            Slot::Occupied(slot) => Some((Follower::new(slot.get()), true)),
            Slot::Vacant(_) if self.holds(&digest) => None,
            Slot::Vacant(slot) => {
                let place = self.fill_slots.try_take(who).ok()?;
                let fill = Arc::new(Fill::new(digest));
                let follower = Follower::new(&fill);
                slot.insert(Arc::clone(&fill));
                fill.start(Arc::clone(self), origin(), place);
                Some((follower, false))
            }
        }
    }

    /// Makes room for a blob, or says why not. Blocks on the disk.
    pub(super) fn admit(self: &Arc<Self>, digest: Digest, size: u64) -> Result<Room, NotKept> {
        let entry = Arc::new(Entry::room(size));
        let blocks = u64::from(entry.weight());
        if blocks > index_max(self.books().capacity) {
            return Err(NotKept::TooLarge);
        }
        let again = self.demand.requests(&digest) > 1;
        let beside = {
            let _placing = self.placing();
            match self.index.get(&digest) {
                // One that waits to be proven is superseded: fetching it is quicker.
                Some(unproven) if unproven.is_whole() && !unproven.is_servable() => {
                    self.layout.remove(&digest).map_err(|_| NotKept::Disk)?;
                    self.index.invalidate(&digest);
                }
                Some(_) => return Err(NotKept::Busy),
                None => {}
            }
            self.index.run_pending_tasks();
            match self.books().place(blocks, again).ok_or(NotKept::AskedOnce)? {
                Place::Beside => {
                    self.beside.fetch_add(blocks, Ordering::AcqRel);
                    blocks
                }
                Place::Free | Place::Displacing => {
                    self.index.insert(digest, Arc::clone(&entry));
                    self.index.run_pending_tasks();
                    0
                }
            }
        };
        let room = Room::new(Arc::clone(self), digest, entry, beside);
        // What was evicted for it must be gone before the disk is asked.
        self.reap();
        match free_bytes(self.layout.root()) {
            Ok(free) if free >= size.saturating_add(self.reserve) => Ok(room),
            refused => {
                let free = refused.ok();
                tracing::warn!(%digest, size, free, reserve = self.reserve, "no room on the cache's disk");
                Err(NotKept::Disk)
            }
        }
    }

    /// As they stand; exact while `placing` is held, once pending tasks have run.
    fn books(&self) -> Books {
        Books {
            capacity: self.capacity / entry::bytes(1),
            indexed: self.index.weighted_size(),
            beside: self.beside.load(Ordering::Acquire),
        }
    }

    /// Puts a proven file in its place. `false` if it is not kept: it was evicted while it came in, or it
    /// would displace others and nobody stayed for it. `beside` are its blocks beside the index, which stay
    /// its own.
    pub(super) fn place(
        &self,
        partial: &Path,
        digest: &Digest,
        entry: &Arc<Entry>,
        beside: u64,
    ) -> io::Result<bool> {
        {
            let _placing = self.placing();
            self.index.run_pending_tasks();
            let wanted = self.demand.requests(digest) > 0;
            let keeps = match beside {
                0 => self.keeps(digest, entry),
                _ => !self.index.contains_key(digest) && self.books().keeps(beside, wanted),
            };
            if !keeps {
                return Ok(false);
            }
            self.layout.publish(partial, digest)?;
            entry.set_whole();
            if beside > 0 {
                self.index.insert(*digest, Arc::clone(entry));
                self.index.run_pending_tasks();
            }
        }
        if beside > 0 {
            // What went for it must be gone before others get its room beside the index.
            self.reap();
        }
        Ok(true)
    }

    /// Gives back blocks beside the index.
    pub(super) fn free_beside(&self, blocks: u64) {
        self.beside.fetch_sub(blocks, Ordering::AcqRel);
    }

    /// Takes back room that came to nothing.
    pub(super) fn give_back(&self, digest: &Digest, entry: &Arc<Entry>) {
        let _placing = self.placing();
        if self.keeps(digest, entry) {
            self.index.invalidate(digest);
        }
    }

    fn keeps(&self, digest: &Digest, entry: &Arc<Entry>) -> bool {
        self.index.get(digest).is_some_and(|kept| Arc::ptr_eq(&kept, entry))
    }

    /// Removes the files of evicted blobs and takes back room that came to nothing. A file still
    /// being read keeps its bytes until it is closed. Blocks on the disk.
    pub(super) fn reap(&self) {
        let _reaping = self.reaping.lock().unwrap_or_else(PoisonError::into_inner);
        for chore in self.chores.take() {
            match chore {
                Chore::Evicted(digest) => self.remove(&digest),
                Chore::Returned(returned) => returned.give_back(self),
            }
        }
    }

    fn remove(&self, digest: &Digest) {
        // Under the lock, as a new fill of the same digest may be putting its file in place.
        let _placing = self.placing();
        if self.index.contains_key(digest) {
            return;
        }
        self.open.invalidate(digest);
        match self.layout.remove(digest) {
            Ok(()) => tracing::debug!(%digest, "evicted"),
            Err(error) => tracing::warn!(%digest, %error, "an evicted blob cannot be removed"),
        }
    }

    pub(super) fn chores(&self) -> &Chores {
        &self.chores
    }

    pub(super) fn placing(&self) -> MutexGuard<'_, ()> {
        self.placing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(super) fn disk(&self) -> &Disk {
        &self.disk
    }

    pub(super) fn proving(&self) -> &Semaphore {
        &self.proving
    }

    pub(super) fn proof_wait(&self) -> Duration {
        self.proof_wait
    }

    pub(super) fn abandoned_permits(&self) -> &Arc<Semaphore> {
        &self.abandoned_permits
    }

    pub(super) fn filled(&self, digest: &Digest, fill: &Arc<Fill>) {
        self.fills.remove_if(digest, |_, current| Arc::ptr_eq(current, fill));
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.chores.close();
    }
}

fn index(capacity: u64, chores: Arc<Chores>) -> moka::sync::Cache<Digest, Arc<Entry>> {
    moka::sync::Cache::builder()
        .max_capacity(index_max(capacity / entry::bytes(1)))
        .weigher(|_: &Digest, entry: &Arc<Entry>| entry.weight())
        // What comes in was admitted before: TinyLFU would refuse it once more.
        .eviction_policy(EvictionPolicy::lru())
        .eviction_listener(move |digest: Arc<Digest>, _, cause| {
            if cause != RemovalCause::Replaced {
                chores.push(Chore::Evicted(*digest));
            }
        })
        .build()
}

fn open_whole(path: &Path, size: u64) -> io::Result<Arc<File>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    if length != size {
        let why = format!("{length} bytes on disk, not {size}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(Arc::new(file))
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
