//! The blobs of pinned images, in memory and in a file of `state_dir`, so that they are pinned again after a restart
//! before they are read again.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use atomic_file::PRIVATE;
use backends::Digest;
use blob_cache::Cache;
use config::Pin;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::schedule::Last;

/// The file in `state_dir`.
const FILE: &str = "pins.json";

/// The most blobs of all pinned images.
const BLOBS_MAX: usize = 100_000;

/// The pinned images of a gateway and of those that follow it.
#[derive(Debug)]
pub(crate) struct Pins {
    file: PathBuf,
    cache: Arc<Cache>,
    sets: Mutex<BTreeMap<String, PinnedImage>>,
    /// Held while the file is written.
    writing: Mutex<()>,
}

/// A pinned image.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct PinnedImage {
    /// The blobs of the last time that it was complete.
    blobs: BTreeSet<String>,
    /// When that was, in seconds since 1970.
    complete: u64,
    /// The blobs of the time that is under way.
    #[serde(skip)]
    next: BTreeSet<String>,
    #[serde(skip)]
    failed: Option<SystemTime>,
}

/// The state of all pins.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PinsStatus {
    /// Images whose last read was complete.
    pub(crate) complete: u64,
    /// Images whose last read failed.
    pub(crate) failed: u64,
    /// Images that were never read completely, and have not failed.
    pub(crate) pending: u64,
    /// When an image was last complete, in seconds since 1970; 0 if never.
    pub(crate) last_success: u64,
}

/// The name of an image of a pin.
pub(super) fn key(pin: &Pin, image: &config::ImageName) -> String {
    format!("{image} {}", pin.platforms)
}

fn keys(pins: &[Pin]) -> HashSet<String> {
    pins.iter().flat_map(|pin| pin.images.iter().map(|image| key(pin, image))).collect()
}

impl Pins {
    /// The pins of this configuration, with what the last run knew of them. What is not configured any more is released.
    /// Blocks on the disk.
    pub(crate) fn open(state_dir: &Path, pins: &[Pin], cache: Arc<Cache>) -> Self {
        let file = state_dir.join(FILE);
        let sets = match std::fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                tracing::warn!(file = %file.display(), %error, "the file of pinned blobs cannot be used: they are pinned when they are read again");
                BTreeMap::new()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "the file of pinned blobs cannot be used: they are pinned when they are read again");
                BTreeMap::new()
            }
        };
        let opened = Self { file, cache, sets: Mutex::new(sets), writing: Mutex::new(()) };
        opened.follow(pins);
        opened
    }

    /// Takes the pins of another configuration. What it does not have any more is released. Blocks on the disk.
    pub(crate) fn follow(&self, pins: &[Pin]) {
        let keys = keys(pins);
        let mut sets = self.sets.lock();
        let before = sets.len();
        sets.retain(|key, _| keys.contains(key));
        let released = before - sets.len();
        for key in keys {
            sets.entry(key).or_default();
        }
        self.apply(&sets);
        drop(sets);
        if released > 0 {
            tracing::info!(images = released, "images are not pinned any more");
            self.write();
        }
    }

    /// What became of an image the last time.
    pub(super) fn last(&self, key: &str) -> Last {
        let sets = self.sets.lock();
        let Some(image) = sets.get(key) else { return Last::default() };
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        Last { complete: Some(image.complete).filter(|at| *at > 0).map(at), failed: image.failed }
    }

    /// Pins what an image consists of now, beside what it consisted of before.
    ///
    /// # Errors
    /// There are more than 100 000 pinned blobs.
    pub(super) fn begin(&self, key: &str, blobs: &[Digest]) -> Result<(), String> {
        let mut sets = self.sets.lock();
        let Some(image) = sets.get_mut(key) else { return Ok(()) };
        image.next = blobs.iter().map(Digest::to_string).collect();
        if union(&sets).len() > BLOBS_MAX {
            if let Some(image) = sets.get_mut(key) {
                image.next.clear();
            }
            return Err(format!("all pinned images together have more than {BLOBS_MAX} blobs"));
        }
        self.apply(&sets);
        Ok(())
    }

    /// Releases what an image consisted of before: all of what it consists of now is here. Blocks on the disk.
    ///
    /// # Errors
    /// Some of it could not be pinned.
    pub(super) fn complete(&self, key: &str, now: SystemTime) -> Result<(), String> {
        let mut sets = self.sets.lock();
        let Some(image) = sets.get(key) else { return Ok(()) };
        if image.next.is_empty() {
            // Another pin of the same image has completed it.
            return Ok(());
        }
        self.apply(&sets);
        let digests = image.next.iter().filter_map(|digest| digest.parse::<Digest>().ok());
        let unpinned = digests.filter(|digest| !self.cache.is_pinned(digest)).count();
        if unpinned > 0 {
            let most = self.cache.pinned_max();
            return Err(format!(
                "{unpinned} of its blobs have no room: pinned blobs may have {most} bytes of the cache. Raise cache.size, \
                 or pin fewer images or platforms"
            ));
        }
        if let Some(image) = sets.get_mut(key) {
            image.blobs = std::mem::take(&mut image.next);
            image.complete = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            image.failed = None;
        }
        self.apply(&sets);
        drop(sets);
        self.write();
        Ok(())
    }

    /// Records that an image could not be read completely. What is here of it stays pinned.
    pub(super) fn failed(&self, key: &str, now: SystemTime) {
        if let Some(image) = self.sets.lock().get_mut(key) {
            image.failed = Some(now);
        }
    }

    /// The state of all pins now.
    pub(crate) fn status(&self) -> PinsStatus {
        let mut status = PinsStatus::default();
        for image in self.sets.lock().values() {
            status.last_success = status.last_success.max(image.complete);
            match (image.failed, image.complete) {
                (Some(_), _) => status.failed += 1,
                (None, 0) => status.pending += 1,
                (None, _) => status.complete += 1,
            }
        }
        status
    }

    /// Called with the lock held, so that a later change is applied later.
    fn apply(&self, sets: &BTreeMap<String, PinnedImage>) {
        self.cache.set_pins(union(sets));
    }

    fn write(&self) {
        let _writing = self.writing.lock();
        let sets = self.sets.lock().clone();
        let text = serde_json::to_vec(&sets).unwrap_or_default();
        if let Err(error) = atomic_file::write(&self.file, &text, PRIVATE) {
            tracing::warn!(file = %self.file.display(), %error, "the file of pinned blobs cannot be written: after a restart, they are pinned when they are read again");
        }
    }
}

fn union(sets: &BTreeMap<String, PinnedImage>) -> HashSet<Digest> {
    let all = sets.values().flat_map(|image| image.blobs.iter().chain(&image.next));
    all.filter_map(|digest| digest.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use blob_cache::Lookup;
    use bytes::Bytes;
    use config::{CacheSettings, Limits, Platforms, Timeouts};
    use futures_util::{StreamExt as _, stream};
    use limits::pool::Identity;
    use zone_router::Verified;

    use super::*;

    fn pin(images: &[&str]) -> Pin {
        Pin {
            images: images.iter().map(|image| image.parse().expect("a name")).collect(),
            platforms: Platforms::All,
            every: Duration::from_secs(3600),
            window: None,
            rate: None,
        }
    }

    fn cache(dir: &Path, size: u64) -> Arc<Cache> {
        let settings =
            CacheSettings { dir: dir.join("cache"), unremoved: dir.join("unremoved"), size, reserve: 0 };
        Cache::open(&settings, &Limits::default(), &Timeouts::default()).expect("opens")
    }

    async fn fill(cache: &Arc<Cache>, bytes: &'static [u8]) -> Digest {
        let digest = Digest::of(bytes);
        let Lookup::Fill(writer, _join) = cache.lookup(&Identity::GATEWAY, &digest).await else {
            panic!("a fill")
        };
        let body = stream::iter([Ok(Bytes::from_static(bytes))]).boxed();
        let filled = writer.fill(Verified::hashing(body, digest, Some(bytes.len() as u64)), "test".into());
        filled.await.expect("is kept");
        digest
    }

    #[tokio::test]
    async fn a_moved_tag_releases_the_old_blobs_when_the_new_ones_are_here() {
        let dir = tempfile::tempdir().expect("a folder");
        let cache = cache(dir.path(), 1 << 20);
        let (one, two) = ([pin(&["app:1"])], SystemTime::UNIX_EPOCH + Duration::from_secs(9));
        let pins = Pins::open(dir.path(), &one, Arc::clone(&cache));
        let key = key(&one[0], &one[0].images[0]);
        assert_eq!(pins.status(), PinsStatus { pending: 1, ..PinsStatus::default() });
        let old = fill(&cache, b"old").await;
        pins.begin(&key, &[old]).expect("few");
        pins.complete(&key, two).expect("is here");
        assert!(cache.is_pinned(&old) && pins.last(&key).complete == Some(two));
        // The tag has moved, and a part of its new image is not here yet.
        let new = Digest::of(b"new");
        pins.begin(&key, &[new]).expect("few");
        assert!(pins.complete(&key, two).expect_err("it is not here").contains("cache.size"));
        pins.failed(&key, two);
        assert!(cache.is_pinned(&old) && pins.status().failed == 1);
        fill(&cache, b"new").await;
        assert!(cache.is_pinned(&new) && cache.is_pinned(&old));
        pins.complete(&key, two).expect("is here");
        assert!(cache.is_pinned(&new) && !cache.is_pinned(&old));
        // After a restart, the set is pinned before anything is read. A pin that is not configured is released.
        cache.set_pins(HashSet::new());
        let pins = Pins::open(dir.path(), &one, Arc::clone(&cache));
        assert!(cache.is_pinned(&new));
        assert_eq!(pins.status(), PinsStatus { complete: 1, last_success: 9, ..PinsStatus::default() });
        pins.follow(&[pin(&["other:1"])]);
        assert!(!cache.is_pinned(&new));
        let pins = Pins::open(dir.path(), &one, cache);
        assert_eq!(pins.last(&key), Last::default());
    }

    #[tokio::test]
    async fn a_broken_file_is_no_obstacle() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join(FILE), "{").expect("writes");
        let pins = Pins::open(dir.path(), &[pin(&["app:1"])], cache(dir.path(), 1 << 20));
        assert_eq!(pins.status().pending, 1);
    }
}
