//! Which instance of the registry took the latest upload of a repository, shared by the replicas of a gateway.
//!
//! It lies in the PostgreSQL of the journal, in a table of its own. While the database is away, each replica knows its own
//! uploads alone.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use moka::sync::Cache;
use parking_lot::Mutex;
use postgres_connection::{Client, Database, Parameter, PostgresError, Purpose, SharedConnection, Type};
use rustls::ClientConfig;
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use registry::upload_affinity::UPLOADS_MEMORY;

/// How long a push waits for the database.
const WAIT: Duration = Duration::from_secs(1);

/// How long the database is not asked after it did not answer in time, so that not every push waits.
const PAUSE: Duration = Duration::from_secs(5);

/// While uploads to a repository go on at the same instance, they are written this often.
const WRITTEN_EVERY: Duration = Duration::from_secs(60);

/// The most repositories of which this replica knows that they are written.
const WRITTEN_MAX: u64 = 10_000;

/// The most repositories in the table, once old ones were removed.
const ROWS_MAX: i64 = 100_000;

/// How often a replica removes old rows.
const REMOVAL_EVERY: Duration = Duration::from_secs(300);

/// The longest name of a repository that is shared, in bytes.
const NAME_MAX: usize = 512;

/// The advisory lock under which one of several replicas makes the table. The number is arbitrary.
const LOCK: i64 = 0x7175_6179_6778;

const IS_THERE: &str = "SELECT to_regclass('quay_gateway_upload') IS NOT NULL";

const TABLE: &str = "
CREATE TABLE IF NOT EXISTS quay_gateway_upload (
    repository text COLLATE \"C\" PRIMARY KEY,
    instance   text NOT NULL,        -- its name in the configuration of the replicas
    at         timestamptz NOT NULL  -- of its latest upload, to the minute
);
CREATE INDEX IF NOT EXISTS quay_gateway_upload_at ON quay_gateway_upload (at)";

/// Parameters: repository, instance.
const WRITE: &str = "
INSERT INTO quay_gateway_upload (repository, instance, at) VALUES ($1, $2, now())
ON CONFLICT (repository) DO UPDATE SET instance = excluded.instance, at = excluded.at";

/// Parameters: repository, seconds. Returns the instance, and the seconds since its latest upload.
const READ: &str = "
SELECT instance, greatest(extract(epoch FROM now() - at), 0)::float8 FROM quay_gateway_upload
WHERE repository = $1 AND at > now() - make_interval(secs => $2)";

/// Parameters: seconds, the most rows that stay.
const REMOVE: &str = "
DELETE FROM quay_gateway_upload
WHERE at < now() - make_interval(secs => $1)
   OR at < (SELECT at FROM quay_gateway_upload ORDER BY at DESC OFFSET $2 LIMIT 1)";

/// Prepares a connection: makes the table if there is none.
#[derive(Debug)]
struct UploadTable;

#[async_trait]
impl Purpose for UploadTable {
    fn name(&self) -> &'static str {
        "the journal's table of uploads"
    }

    async fn prepare(&self, database: &Database, client: &Client) -> Result<(), PostgresError> {
        let said = |error| PostgresError::said(database, &error);
        let is_there = client.query_one(IS_THERE, &[]).await.map_err(said)?;
        if is_there.get(0) {
            return Ok(());
        }
        // If it fails, the connection is closed, which rolls the transaction back.
        let make = format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK}); {TABLE}; COMMIT");
        client.batch_execute(&make).await.map_err(said)
    }
}

/// Which instance took the latest upload of a repository, for all replicas.
#[derive(Debug)]
pub(crate) struct SharedUploads {
    connection: SharedConnection,
    /// What this replica wrote within [`WRITTEN_EVERY`].
    written: Cache<Arc<str>, Arc<str>>,
    /// Until when the database is not asked.
    paused: Mutex<Option<Instant>>,
    /// When old rows are removed next.
    removal: Mutex<Instant>,
    _end: DropGuard,
}

/// The latest upload of a repository.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LatestUpload {
    /// The name of the instance.
    pub(crate) instance: String,
    /// How long ago it was, to the minute.
    pub(crate) age: Duration,
}

impl SharedUploads {
    /// Opens a connection and keeps it open. Does not wait for it. Needs a Tokio runtime.
    pub(crate) fn connect(database: &Database, tls: &ClientConfig) -> Arc<Self> {
        let end = CancellationToken::new();
        Arc::new(Self {
            connection: SharedConnection::keep(database, tls, Arc::new(UploadTable), end.clone()),
            written: Cache::builder().max_capacity(WRITTEN_MAX).time_to_live(WRITTEN_EVERY).build(),
            paused: Mutex::new(None),
            removal: Mutex::new(Instant::now()),
            _end: end.drop_guard(),
        })
    }

    /// The latest upload of a repository that any replica saw. `None` if there is none, or if the database does not answer.
    pub(crate) async fn last(&self, repository: &str) -> Option<LatestUpload> {
        if !may_be_shared(repository) {
            return None;
        }
        let memory = UPLOADS_MEMORY.as_secs_f64();
        let parameters: [Parameter<'_>; 2] = [(&repository, Type::TEXT), (&memory, Type::FLOAT8)];
        let rows = self.ask(READ, &parameters).await?;
        let row = rows.first()?;
        let instance: String = row.get(0);
        // Another replica wrote another one meanwhile. The next upload here is to be written again.
        if self.written.get(repository).is_some_and(|written| *written != *instance) {
            self.written.invalidate(repository);
        }
        Some(LatestUpload { instance, age: Duration::try_from_secs_f64(row.get(1)).ok()? })
    }

    /// Tells the other replicas which instance took an upload. Waits until it is written, but not long.
    pub(crate) async fn remember(self: &Arc<Self>, repository: &str, instance: &str) {
        if !may_be_shared(repository) || self.written.get(repository).as_deref() == Some(instance) {
            return;
        }
        let parameters: [Parameter<'_>; 2] = [(&repository, Type::TEXT), (&instance, Type::TEXT)];
        if self.ask(WRITE, &parameters).await.is_some() {
            self.written.insert(repository.into(), instance.into());
            self.remove_old();
        }
    }

    /// Removes old rows in the background, if it is time.
    fn remove_old(self: &Arc<Self>) {
        let now = Instant::now();
        let mut removal = self.removal.lock();
        if *removal > now {
            return;
        }
        *removal = now + REMOVAL_EVERY;
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let (memory, most) = (UPLOADS_MEMORY.as_secs_f64(), ROWS_MAX);
            let parameters: [Parameter<'_>; 2] = [(&memory, Type::FLOAT8), (&most, Type::INT8)];
            // If it fails, the next removal finds the same rows.
            let _ = shared.connection.query(REMOVE, &parameters).await;
        });
    }

    /// `None` if the database does not answer in time, or was not asked because it did not just now. The connection itself
    /// logs that it is lost.
    async fn ask(
        &self,
        statement: &str,
        parameters: &[Parameter<'_>],
    ) -> Option<Vec<postgres_connection::Row>> {
        if self.paused.lock().is_some_and(|until| until > Instant::now()) {
            return None;
        }
        match timeout(WAIT, self.connection.query(statement, parameters)).await {
            Ok(Ok(rows)) => Some(rows),
            Ok(Err(error)) => {
                tracing::debug!(%error, "an upload's instance is not shared");
                self.pause()
            }
            Err(_) => {
                tracing::debug!(wait = ?WAIT, "an upload's instance is not shared: the database is slow");
                self.connection.hang_up();
                self.pause()
            }
        }
    }

    fn pause<T>(&self) -> Option<T> {
        *self.paused.lock() = Some(Instant::now() + PAUSE);
        None
    }
}

/// Whether a repository's name can be stored. Other names are none: the registry refuses them.
fn may_be_shared(repository: &str) -> bool {
    repository.len() <= NAME_MAX && !repository.contains('\0')
}
