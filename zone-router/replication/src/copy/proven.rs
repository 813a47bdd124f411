//! Objects that were read and found right, so that a copy that waits for the registry, or a push that says a
//! wrong size again and again, does not have them read each time.

use std::collections::HashMap;
use std::time::Duration;

use backends::{Digest, Meta};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::super::job::Job;

/// Objects remembered for a lane: some 1 MiB.
const KEPT: usize = 4096;

/// How long one is: what a disk loses meanwhile does not change what a store says of it.
const AGE: Duration = Duration::from_secs(3600);

/// What a lane has proven.
#[derive(Debug, Default)]
pub(in super::super) struct Proven(Mutex<HashMap<Digest, Seen>>);

/// An object as it was when it was read.
#[derive(Debug)]
struct Seen {
    meta: Meta,
    at: Instant,
    /// Of the job that had it read.
    stamp: i64,
}

impl Proven {
    /// Keeps that the blob of a job is what lies there; of no use where its store does not say since when.
    pub(super) fn note(&self, job: &Job, meta: Meta) {
        if meta.modified.is_none() {
            return;
        }
        let mut seen = self.lock();
        if seen.len() >= KEPT {
            seen.retain(|_, seen| seen.at.elapsed() < AGE);
        }
        if seen.len() >= KEPT {
            seen.clear();
        }
        seen.insert(job.blob.digest, Seen { meta, at: Instant::now(), stamp: job.stamp });
    }

    /// Whether what lies there was proven, and not written since. Where a job asks for it to be read, only
    /// what was read for that very job counts.
    pub(super) fn holds(&self, job: &Job, there: &Meta) -> bool {
        self.lock().get(&job.blob.digest).is_some_and(|seen| {
            seen.meta == *there && seen.at.elapsed() < AGE && (!job.must_read() || seen.stamp == job.stamp)
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Seen>> {
        self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use backends::Key;
    use zone_router::Blob;

    use super::*;

    fn job(digest: Digest, size: u64, stamp: i64) -> Job {
        let blob = Blob { digest, key: Key::new("key") };
        let (target, repositories) = (Arc::from("zone-b"), Vec::new());
        Job { blob, target, size: Some(size), is_contradicted: false, repositories, attempts: 0, stamp }
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_same_object_for_a_while_and_not_for_all() {
        let (proven, digest) = (Proven::default(), Digest::of(b"x"));
        let meta = |size, modified| Meta { key: Key::new("key"), size, modified };
        let then = Some(SystemTime::UNIX_EPOCH);
        proven.note(&job(digest, 5, 1), meta(5, None));
        assert!(!proven.holds(&job(digest, 5, 1), &meta(5, None)), "it may be another by now");
        proven.note(&job(digest, 5, 1), meta(5, then));
        assert!(proven.holds(&job(digest, 7, 2), &meta(5, then)));
        assert!(!proven.holds(&job(digest, 5, 1), &meta(6, then)));
        assert!(!proven.holds(&job(digest, 5, 1), &meta(5, Some(SystemTime::now()))));
        assert!(!proven.holds(&job(digest, 0, 2), &meta(5, then)), "asked for anew");
        assert!(proven.holds(&job(digest, 0, 1), &meta(5, then)), "the same job once more");
        for number in 0..3 * KEPT {
            proven.note(&job(Digest::of(&number.to_le_bytes()), 5, 1), meta(5, then));
        }
        assert!(proven.lock().len() <= KEPT);
        proven.note(&job(digest, 5, 1), meta(5, then));
        tokio::time::advance(AGE).await;
        assert!(!proven.holds(&job(digest, 5, 1), &meta(5, then)));
    }
}
