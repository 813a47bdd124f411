//! The objects that probes read from a zone: small blobs that it recently gave, and its store's own marker.

use std::collections::VecDeque;
use std::sync::Arc;

use backends::Digest;

use crate::Blob;
use crate::breaker::STRIKES;

/// Small blobs that a zone recently gave, the latest first. There are as many as the failures that open a breaker. If
/// all of them fail one after the other, no single object is the cause.
#[derive(Debug, Clone, Default)]
pub(crate) struct RecentBlobs(VecDeque<Arc<Blob>>);

impl RecentBlobs {
    /// Records that the zone gave a blob.
    pub(crate) fn gave(&mut self, blob: Arc<Blob>) {
        self.0.retain(|other| other.digest != blob.digest);
        self.0.push_front(blob);
        self.0.truncate(STRIKES.into());
    }

    /// The latest of them.
    pub(crate) fn latest(&self) -> Option<&Arc<Blob>> {
        self.0.front()
    }
}

/// Selects the object that the next probe reads.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    latest: Option<Digest>,
    /// The index of the blob to read. After the last one, the probe reads a blob that another zone gave, if that helps,
    /// and then the marker.
    next: usize,
}

impl Turn {
    /// The blob that the next probe reads: the latest one, unless that failed. `None` for the marker.
    pub(crate) fn of<'a>(&mut self, recent_blobs: &'a RecentBlobs) -> Option<&'a Arc<Blob>> {
        let latest = recent_blobs.latest().map(|blob| blob.digest);
        if latest != self.latest || self.next > recent_blobs.0.len() + 1 {
            (self.latest, self.next) = (latest, 0);
        }
        recent_blobs.0.get(self.next)
    }

    /// Whether the blob that another zone gave has failed here, too, or was also given here.
    pub(crate) fn is_past(&self, recent_blobs: &RecentBlobs, other: &Blob) -> bool {
        self.next > recent_blobs.0.len() || recent_blobs.0.iter().any(|blob| blob.digest == other.digest)
    }

    /// Records that a probe failed. If it read an object, the next probe reads another one, because this one may be
    /// damaged. After the marker, all of them are tried again.
    pub(crate) fn failed(&mut self, read_object: bool) {
        self.next = if read_object { self.next + 1 } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use backends::Key;

    use super::*;

    #[test]
    fn what_fails_is_not_read_again_at_once() {
        let blob = |number: u8| Arc::new(Blob { digest: Digest::of(&[number]), key: Key::new("a") });
        let (mut recent_blobs, mut turn) = (RecentBlobs::default(), Turn::default());
        assert!(turn.of(&recent_blobs).is_none());
        (0..9).chain([7]).for_each(|number| recent_blobs.gave(blob(number)));
        // The order is: the zone's own blobs, a blob that another zone gave, the marker, and then the first one again.
        for (number, read_object) in
            [(Some(7), true), (Some(8), true), (Some(6), true), (None, true), (None, false), (Some(7), true)]
        {
            assert_eq!(
                turn.of(&recent_blobs).map(|blob| blob.digest),
                number.map(|number| blob(number).digest)
            );
            turn.failed(read_object);
        }
        assert!(turn.is_past(&recent_blobs, &blob(6)) && !turn.is_past(&recent_blobs, &blob(1)));
        recent_blobs.gave(blob(8));
        assert_eq!(turn.of(&recent_blobs).map(|blob| blob.digest), Some(blob(8).digest));
    }
}
