//! Sizes that did not fit the bytes.

use std::time::Duration;

use backends::Digest;
use dashmap::DashMap;
use tokio::time::Instant;

/// How long a size that the caller names is not used for a digest.
const MEMORY: Duration = Duration::from_secs(300);

/// Remembered digests; beyond it, the expired are dropped, then new ones not kept.
const DIGESTS_MAX: usize = 1000;

/// Digests whose bytes, from a zone that states no size, did not fit the size that somebody else named. Next time, the
/// zones are asked for the size.
#[derive(Debug, Default)]
pub(crate) struct Doubts(DashMap<Digest, Instant>);

impl Doubts {
    pub(crate) fn note(&self, digest: Digest) {
        let now = Instant::now();
        if self.0.len() >= DIGESTS_MAX {
            self.0.retain(|_, until| now < *until);
        }
        if self.0.len() < DIGESTS_MAX {
            self.0.insert(digest, now + MEMORY);
        }
    }

    pub(crate) fn has(&self, digest: &Digest) -> bool {
        !self.0.is_empty() && self.0.get(digest).is_some_and(|until| Instant::now() < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn doubts_are_few_and_end() {
        let doubts = Doubts::default();
        assert!(!doubts.has(&Digest::EMPTY));
        doubts.note(Digest::EMPTY);
        assert!(doubts.has(&Digest::EMPTY));
        (0..DIGESTS_MAX * 2).for_each(|number| doubts.note(Digest::of(&number.to_le_bytes())));
        assert!(doubts.0.len() <= DIGESTS_MAX);
        tokio::time::advance(MEMORY).await;
        assert!(!doubts.has(&Digest::EMPTY));
    }
}
