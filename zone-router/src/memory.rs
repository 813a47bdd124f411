//! Remembers facts about digests for some minutes. The time and the number of entries are bounded.

use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use tokio::time::Instant;

/// How long an entry is remembered. This is long enough for the client's next attempt to be served differently, and
/// short enough for a corrected object to be used again soon.
pub(crate) const MEMORY: Duration = Duration::from_secs(300);

/// The most entries. If there are more, the expired ones are dropped. If there are still too many, new ones are not
/// kept.
const ENTRIES_MAX: usize = 10_000;

/// Entries that expire.
#[derive(Debug)]
pub(crate) struct Memory<K: Eq + Hash, V> {
    entries: DashMap<K, (V, Instant)>,
    /// Whether there was ever an entry. While there was none, no lock is taken.
    any: AtomicBool,
}

impl<K: Eq + Hash, V> Default for Memory<K, V> {
    fn default() -> Self {
        Self { entries: DashMap::new(), any: AtomicBool::new(false) }
    }
}

impl<K: Eq + Hash, V: Copy> Memory<K, V> {
    pub(crate) fn note(&self, key: K, value: V) {
        let now = Instant::now();
        if self.entries.len() >= ENTRIES_MAX {
            self.entries.retain(|_, (_, until)| now < *until);
        }
        if self.entries.len() < ENTRIES_MAX {
            self.entries.insert(key, (value, now + MEMORY));
            self.any.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        self.entries.get(key).filter(|entry| Instant::now() < entry.1).map(|entry| entry.0)
    }

    pub(crate) fn forget(&self, key: &K) {
        self.entries.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use backends::Digest;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn entries_are_few_and_end() {
        let memory = Memory::default();
        assert_eq!(memory.get(&Digest::EMPTY), None);
        memory.note(Digest::EMPTY, ());
        assert_eq!(memory.get(&Digest::EMPTY), Some(()));
        (0..ENTRIES_MAX * 2).for_each(|number| memory.note(Digest::of(&number.to_le_bytes()), ()));
        assert_eq!(memory.entries.len(), ENTRIES_MAX);
        tokio::time::advance(MEMORY).await;
        assert_eq!(memory.get(&Digest::EMPTY), None);
        let new = Digest::of(b"new");
        memory.note(new, ());
        assert_eq!(memory.get(&new), Some(()), "the expired make room");
    }
}
