//! Who asked and left without an answer.

use std::time::Duration;

use tokio::time::Instant;

use super::breaker::Evidence;
use super::instance::Instance;

/// A read that waits for an instance. Dropped after long enough without an answer, it counts as the
/// instance's failure: clients leave a registry that hangs before anything else ends their wait, and
/// the next ones must not wait there too.
pub(super) struct Waiting<'a> {
    instance: &'a Instance,
    since: Instant,
    enough: Duration,
    ended: bool,
}

impl<'a> Waiting<'a> {
    pub(super) fn new(instance: &'a Instance, enough: Duration) -> Self {
        Self { instance, since: Instant::now(), enough, ended: false }
    }

    /// The wait came to its end.
    pub(super) fn ended(mut self) {
        self.ended = true;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let waited = self.since.elapsed();
        if !self.ended && waited >= self.enough {
            let why = format!("no answer for {} s, then its client left", waited.as_secs());
            self.instance.note(Evidence::Gone, &why);
        }
    }
}
