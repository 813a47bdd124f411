//! What operators read from the fan-out and change.

use std::sync::Arc;

use super::FanOut;
use super::failures::Failures;
use super::job::NewJob;
use super::journal::{Journal, JournalError};

impl FanOut {
    /// Queues copies. When this returns, they are on disk. Copies that are already queued may be queued
    /// again.
    ///
    /// # Errors
    /// The journal could not be written in time. Some copies may then be queued, and some may not.
    pub async fn add(&self, jobs: Vec<NewJob>) -> Result<(), JournalError> {
        self.journal.add(jobs).await
    }

    /// The journal, to inspect and change the jobs that wait.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The configured zones, usable or not, home first.
    #[must_use]
    pub fn zones(&self) -> Vec<Arc<str>> {
        self.order.to_vec()
    }

    /// The failed copies of every lane since the start, in the configured order of zones.
    #[must_use]
    pub fn failures(&self) -> Vec<(Arc<str>, Failures)> {
        let of = |zone: &Arc<str>| Some((Arc::clone(zone), self.lanes.get(zone)?.failures()));
        self.order.iter().filter_map(of).collect()
    }
}
