//! Who asked and left without an answer.

use std::time::Duration;

use tokio::time::Instant;

use super::instance::Instance;

/// A read that waits for an instance. Dropped after long enough without an answer, it counts as the
/// instance's failure: clients leave a registry that hangs before anything else ends their wait, and
/// the next ones must not wait there too.
pub(super) struct Patience<'a> {
    instance: &'a Instance,
    since: Instant,
    enough: Duration,
    rewarded: bool,
}

impl<'a> Patience<'a> {
    pub(super) fn new(instance: &'a Instance, enough: Duration) -> Self {
        Self { instance, since: Instant::now(), enough, rewarded: false }
    }

    /// The wait came to its end.
    pub(super) fn rewarded(mut self) {
        self.rewarded = true;
    }
}

impl Drop for Patience<'_> {
    fn drop(&mut self) {
        let waited = self.since.elapsed();
        if !self.rewarded && waited >= self.enough {
            self.instance.failed(&format!("no answer for {} s, then its client left", waited.as_secs()));
        }
    }
}
