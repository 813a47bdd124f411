//! Runs the journal's SQL on a disk in memory, with the clock and the faults of a simulation.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::time::sleep;

use super::{REQUEST_TIMEOUT, commit, migrate};
use crate::JournalError;

/// Replaces the disk and the clock. The disk outlives the journals that are opened on it.
#[derive(Clone)]
pub(crate) struct Simulated {
    pub(crate) disk: Arc<Mutex<Connection>>,
    pub(crate) clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    /// Whether the disk fails now.
    pub(crate) failing: Arc<dyn Fn() -> bool + Send + Sync>,
    /// The longest time before a commit, and after it, in milliseconds.
    pub(crate) commit_ms: u64,
}

impl fmt::Debug for Simulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulated").finish_non_exhaustive()
    }
}

impl Simulated {
    /// An empty disk.
    pub(crate) fn disk() -> Arc<Mutex<Connection>> {
        let mut db = Connection::open_in_memory().expect("memory");
        migrate(&mut db).expect("a schema");
        Arc::new(Mutex::new(db))
    }

    /// Runs a change. A failing disk may have written it all the same, without reporting success.
    pub(super) async fn write(
        &self,
        apply: impl FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<(), JournalError> {
        sleep(Duration::from_millis(fastrand::u64(..=self.commit_ms))).await;
        let failing = (self.failing)();
        if failing && fastrand::bool() {
            return Err(JournalError::Closed);
        }
        commit(&mut self.disk.lock(), vec![Box::new(apply)])?;
        sleep(Duration::from_millis(fastrand::u64(..=self.commit_ms))).await;
        if failing { Err(JournalError::Late(REQUEST_TIMEOUT)) } else { Ok(()) }
    }

    pub(super) async fn read<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, JournalError> {
        sleep(Duration::from_millis(1)).await;
        if (self.failing)() && fastrand::bool() {
            return Err(JournalError::Closed);
        }
        Ok(query(&self.disk.lock())?)
    }
}
