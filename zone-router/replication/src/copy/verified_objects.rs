//! Remembers objects that were read and found right. Without this, an object would be read again for each try of a copy
//! that waits for the registry, and for each push that states a wrong size.

use std::collections::HashMap;
use std::time::Duration;

use backends::{Digest, Meta};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::super::job::Job;

/// The most objects that are remembered for a lane. They take about 1 MiB.
const OBJECTS_MAX: usize = 4096;

/// How long an object is remembered. A disk may lose bytes without a change of what its store reports.
const AGE: Duration = Duration::from_secs(3600);

/// The objects that a lane has verified.
#[derive(Debug, Default)]
pub(in super::super) struct VerifiedObjects(Mutex<HashMap<Digest, VerifiedObject>>);

/// An object, as it was when it was read.
#[derive(Debug)]
struct VerifiedObject {
    meta: Meta,
    at: Instant,
    /// The stamp of the job for which it was read.
    stamp: i64,
}

impl VerifiedObjects {
    /// Remembers that the object at the target is the blob of a job. Does nothing if the store does not
    /// report when the object was modified.
    pub(super) fn remember(&self, job: &Job, meta: Meta) {
        if meta.modified.is_none() {
            return;
        }
        let mut seen = self.lock();
        if seen.len() >= OBJECTS_MAX {
            seen.retain(|_, seen| seen.at.elapsed() < AGE);
        }
        if seen.len() >= OBJECTS_MAX {
            seen.clear();
        }
        seen.insert(job.blob.digest, VerifiedObject { meta, at: Instant::now(), stamp: job.stamp });
    }

    /// Whether this object at the target was verified and has not changed since. If the job has the read mark, only a
    /// read for this same job counts.
    pub(super) fn contains(&self, job: &Job, there: &Meta) -> bool {
        self.lock().get(&job.blob.digest).is_some_and(|seen| {
            seen.meta == *there && seen.at.elapsed() < AGE && (!job.must_read() || seen.stamp == job.stamp)
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, VerifiedObject>> {
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
    async fn an_unchanged_object_counts_for_some_time_unless_a_job_demands_a_read() {
        let (verified, digest) = (VerifiedObjects::default(), Digest::of(b"x"));
        let meta = |size, modified| Meta { key: Key::new("key"), size, modified };
        let then = Some(SystemTime::UNIX_EPOCH);
        verified.remember(&job(digest, 5, 1), meta(5, None));
        assert!(
            !verified.contains(&job(digest, 5, 1), &meta(5, None)),
            "the time of modification is unknown"
        );
        verified.remember(&job(digest, 5, 1), meta(5, then));
        assert!(verified.contains(&job(digest, 7, 2), &meta(5, then)));
        assert!(!verified.contains(&job(digest, 5, 1), &meta(6, then)));
        assert!(!verified.contains(&job(digest, 5, 1), &meta(5, Some(SystemTime::now()))));
        assert!(!verified.contains(&job(digest, 0, 2), &meta(5, then)), "a new job demands a read");
        assert!(verified.contains(&job(digest, 0, 1), &meta(5, then)), "the same job once more");
        for number in 0..3 * OBJECTS_MAX {
            verified.remember(&job(Digest::of(&number.to_le_bytes()), 5, 1), meta(5, then));
        }
        assert!(verified.lock().len() <= OBJECTS_MAX);
        verified.remember(&job(digest, 5, 1), meta(5, then));
        tokio::time::advance(AGE).await;
        assert!(!verified.contains(&job(digest, 5, 1), &meta(5, then)));
    }
}
