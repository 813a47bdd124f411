//! Implements the replication's `Authority` with Quay: whether a blob is still wanted, the blob itself if no
//! zone has it, and the record of a new copy.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backends::Source;
use postgres_connection::PostgresError;
use replication::{Authority, AuthorityError, Job, Placed, Wanted};
use tokio::time::timeout;
use zone_router::Zone;

use crate::copies::spool::{Spool, SpoolError};
use quay_db::redis::{Locks, RedisError};
use quay_db::{QuayDatabase, Rows};
use registry::service_account::Reader;

/// The timeout for inspecting an object while Quay's lock is held.
const UNDER_LOCK: Duration = Duration::from_secs(20);

/// Quay, reached through its database and its registry, as far as they are configured.
#[derive(Debug)]
pub(crate) struct Quay {
    reader: Option<Arc<Reader>>,
    database: Option<Arc<QuayDatabase>>,
    /// Quay's own locks. `None` up to Quay 3.16.
    locks: Option<Arc<Locks>>,
    /// The locations that Quay can read from: those of its `config.yaml`. A row for any other location breaks
    /// Quay's pulls (`storage/distributedstorage.py:_location_aware`).
    locations: Vec<String>,
    spool: Arc<Spool>,
}

/// Why a placement was not written. The journal keeps this text.
#[derive(Debug, thiserror::Error)]
enum PlacementError {
    #[error("the placement is not written: {0}")]
    Database(#[from] PostgresError),
    #[error("the placement is not written: {0}")]
    Lock(#[from] RedisError),
    #[error(
        "Quay has no location {0}: Quay creates a location for each entry of DISTRIBUTED_STORAGE_CONFIG when it starts"
    )]
    NoLocation(Arc<str>),
    #[error("the copied object is gone again")]
    Gone,
    #[error("Quay's lock ended before the placement was written")]
    Late,
    #[error("{0}")]
    Store(backends::Error),
}

impl Quay {
    pub(crate) fn new(
        reader: Option<Arc<Reader>>,
        database: Option<Arc<QuayDatabase>>,
        locks: Option<Locks>,
        locations: Vec<String>,
        spool: Spool,
    ) -> Self {
        Self { reader, database, locks: locks.map(Arc::new), locations, spool: Arc::new(spool) }
    }

    /// Quay in a later configuration: with the same database and locks.
    pub(crate) fn successor(&self, reader: Option<Arc<Reader>>, locations: Vec<String>) -> Self {
        let (database, locks, spool) = (self.database.clone(), self.locks.clone(), Arc::clone(&self.spool));
        Self { reader, database, locks, locations, spool }
    }

    /// The database, if copies in this zone are recorded there. Copies in a zone of the gateway's own are not
    /// recorded, because Quay cannot read them.
    fn placing_at(&self, target: &Zone) -> Option<&QuayDatabase> {
        self.database.as_deref().filter(|_| self.locations.iter().any(|name| **name == *target.name))
    }

    /// The first repository of the job that has the blob, as the service account sees it. `None` if none has
    /// it.
    async fn repository_with<'a>(&self, reader: &Reader, job: &'a Job) -> Result<Option<&'a str>, String> {
        if job.repositories.is_empty() {
            return Err("no repository is known that has the blob".to_owned());
        }
        let mut failure = None;
        for repository in &job.repositories {
            match reader.has(repository, &job.blob.digest).await {
                Ok(true) => return Ok(Some(repository)),
                Ok(false) => {}
                Err(error) => failure = Some(format!("{repository}: {error}")),
            }
        }
        failure.map_or(Ok(None), Err)
    }

    async fn place(
        &self,
        database: &QuayDatabase,
        job: &Job,
        target: &Zone,
    ) -> Result<Placed, PlacementError> {
        let Some(locks) = &self.locks else { return place_locked(database, job, target).await };
        let lock = locks.take(&format!("BLOB_DELETE_{}", job.blob.digest)).await?;
        let placed = place_locked(database, job, target).await;
        match lock.release().await {
            Ok(true) => {}
            Ok(false) => tracing::warn!(digest = %job.blob.digest, "Quay's lock ended before it was let go"),
            Err(error) => tracing::warn!(%error, "Quay's lock is not let go: it ends by itself"),
        }
        placed
    }
}

/// Writes the placement under Quay's lock, if Quay has locks. While the lock is held, Quay does not remove
/// the object. Once the row exists, Quay does not remove it either.
///
/// If Quay has no row of the blob, the object stays all the same. An upload may find the object and use it at
/// any moment, and no lock that Quay's garbage collection takes covers that moment (`data/model/storage.py`).
async fn place_locked(database: &QuayDatabase, job: &Job, target: &Zone) -> Result<Placed, PlacementError> {
    let there =
        timeout(UNDER_LOCK, target.store.head(&job.blob.key)).await.map_err(|_| PlacementError::Late)?;
    there.map_err(PlacementError::Store)?.ok_or(PlacementError::Gone)?;
    let (zone, digest) = (&*target.name, &job.blob.digest);
    match database.place(digest, zone).await? {
        Rows::NoLocation => Err(PlacementError::NoLocation(Arc::clone(&target.name))),
        Rows::Placed(added) => {
            tracing::debug!(zone, %digest, added, "Quay knows of the copy");
            Ok(Placed::Kept)
        }
        Rows::Elsewhere => {
            tracing::debug!(zone, %digest, "an old blob: Quay does not read a copy at this key");
            Ok(Placed::Kept)
        }
        Rows::None => {
            tracing::info!(zone, %digest, "Quay does not have the blob: the copy stays");
            Ok(Placed::Withdrawn)
        }
    }
}

#[async_trait]
impl Authority for Quay {
    async fn wanted(&self, job: &Job) -> Wanted {
        let mut failure = None;
        if let Some(database) = &self.database {
            match database.knows(&job.blob.digest).await {
                Ok(true) => return Wanted::Yes,
                Ok(false) => return Wanted::No,
                Err(error) => failure = Some(error.to_string()),
            }
        }
        let Some(reader) = &self.reader else {
            let neither = || "set registry.account, or replication.placements".to_owned();
            return Wanted::Unknown(failure.unwrap_or_else(neither));
        };
        match self.repository_with(reader, job).await {
            Ok(Some(_)) => Wanted::Yes,
            Ok(None) => Wanted::No,
            Err(why) => Wanted::Unknown(why),
        }
    }

    async fn fetch(&self, job: &Job) -> Result<Option<Source>, AuthorityError> {
        let Some(reader) = &self.reader else { return Ok(None) };
        let Some(repository) = self.repository_with(reader, job).await.map_err(AuthorityError::new)? else {
            return Ok(None);
        };
        let (digest, spool) = (&job.blob.digest, &self.spool);
        let slot = spool.slot().await.map_err(AuthorityError::new)?;
        let fetched = reader.blob(repository, digest).await.map_err(AuthorityError::new)?;
        tracing::info!(%digest, repository, "no zone has the blob: it is fetched through the registry");
        match spool.store(fetched, digest, slot).await {
            Ok(source) => Ok(Some(source)),
            Err(SpoolError::Permanent(why)) => {
                tracing::error!(%digest, repository, why, "a blob that no zone has is not fetched through the registry");
                Ok(None)
            }
            Err(SpoolError::Temporary(why)) => Err(AuthorityError::new(why)),
        }
    }

    async fn must_prove(&self, job: &Job, target: &Zone) -> Result<bool, AuthorityError> {
        match self.placing_at(target) {
            Some(database) => {
                let lacks = database.lacks(&job.blob.digest, &target.name).await;
                lacks.map_err(AuthorityError::new)
            }
            None => Ok(false),
        }
    }

    async fn placed(&self, job: &Job, target: &Zone) -> Result<Placed, AuthorityError> {
        let Some(database) = self.placing_at(target) else { return Ok(Placed::Kept) };
        self.place(database, job, target).await.map_err(AuthorityError::new)
    }
}
