//! Tests of the fan-out as a whole. None starts a server.

mod authority;
mod copies;
mod crash;
mod flood;
mod journal;
mod lanes;
mod server_side;
mod simulation;
mod succession;
mod throttle;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use tempfile::TempDir;

use super::Journal;
use super::conformance::Place;

/// A journal in an SQLite file.
pub(crate) struct FilePlace(TempDir);

impl FilePlace {
    pub(crate) fn create() -> Arc<dyn Place> {
        Arc::new(Self(tempfile::tempdir().unwrap()))
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("journal.db")
    }
}

#[async_trait]
impl Place for FilePlace {
    async fn open(&self) -> Journal {
        Journal::open(&self.file()).unwrap()
    }

    fn is_shared(&self) -> bool {
        false
    }

    async fn refuse_rewrites(&self) {
        let trigger =
            "CREATE TRIGGER rewritten AFTER UPDATE OF key, size, repositories, due, fresh, parked ON job
            BEGIN SELECT raise(ABORT, 'rewritten'); END;";
        rusqlite::Connection::open(self.file()).unwrap().execute_batch(trigger).unwrap();
    }
}
