//! What operators ask the fan-out, and tell it.

use std::sync::Arc;

use super::FanOut;
use super::errors::Failures;
use super::job::NewJob;
use super::journal::{Journal, JournalError};

impl FanOut {
    /// Queues copies. On the disk when it returns; adding what is queued already does no harm.
    ///
    /// # Errors
    /// The journal could not be written, or not in time: then some may be queued and some not.
    pub async fn add(&self, jobs: Vec<NewJob>) -> Result<(), JournalError> {
        self.journal.add(jobs).await
    }

    /// The journal, to look into it and to change what waits.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The zones that are configured, usable or not, home first.
    #[must_use]
    pub fn zones(&self) -> Vec<Arc<str>> {
        self.order.to_vec()
    }

    /// Failed copies of every lane since the start, in the order of zones.
    #[must_use]
    pub fn failures(&self) -> Vec<(Arc<str>, Failures)> {
        let of = |zone: &Arc<str>| Some((Arc::clone(zone), self.lanes.get(zone)?.tally.errors.all()));
        self.order.iter().filter_map(of).collect()
    }
}
