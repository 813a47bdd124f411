//! What the fan-out asks and tells Quay: whether a blob is still wanted, the blob itself where no
//! zone has it, and that a zone has it now.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backends::Source;
use postgres_connection::PostgresError;
use replication::{Authority, AuthorityError, Job, Placed, Wanted};
use tokio::time::timeout;
use zone_router::Zone;

use crate::copies::spool::{NotKept, Spool};
use quay_db::redis::{Locks, RedisError};
use quay_db::{QuayDatabase, Rows};
use registry::service_account::Reader;

/// How long the look at an object may take that is done under a lock.
const UNDER_LOCK: Duration = Duration::from_secs(20);

/// Quay behind the zones, as far as it is known here.
#[derive(Debug)]
pub(crate) struct Quay {
    reader: Option<Arc<Reader>>,
    database: Option<Arc<QuayDatabase>>,
    /// Quay's own locks; none up to 3.16.
    locks: Option<Locks>,
    /// Locations that Quay can read from: those of its `config.yaml`. A row of any other breaks its
    /// pulls (`storage/distributedstorage.py:_location_aware`).
    locations: Vec<String>,
    spool: Spool,
}

/// Why a placement was not kept. In words, for the journal.
#[derive(Debug, thiserror::Error)]
enum NotPlaced {
    #[error("the placement is not written: {0}")]
    Database(#[from] PostgresError),
    #[error("the placement is not written: {0}")]
    Lock(#[from] RedisError),
    #[error("Quay has no location {0}: it makes one at its start, of each in DISTRIBUTED_STORAGE_CONFIG")]
    NoLocation(Arc<str>),
    #[error("what was copied is gone again")]
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
        Self { reader, database, locks, locations, spool }
    }

    /// The database, where Quay is told of copies in this zone: not of those in one of the gateway's
    /// own, which Quay could not read.
    fn placing_at(&self, target: &Zone) -> Option<&QuayDatabase> {
        self.database.as_deref().filter(|_| self.locations.iter().any(|name| **name == *target.name))
    }

    /// What the account says of a blob in each repository of the job: the first that has it, `None`
    /// if none has.
    async fn holder<'a>(&self, reader: &Reader, job: &'a Job) -> Result<Option<&'a str>, String> {
        if job.repositories.is_empty() {
            return Err("no repository is known that has it".to_owned());
        }
        let mut unsaid = None;
        for repository in &job.repositories {
            match reader.has(repository, &job.blob.digest).await {
                Ok(true) => return Ok(Some(repository)),
                Ok(false) => {}
                Err(error) => unsaid = Some(format!("{repository}: {error}")),
            }
        }
        unsaid.map_or(Ok(None), Err)
    }

    async fn place(&self, database: &QuayDatabase, job: &Job, target: &Zone) -> Result<Placed, NotPlaced> {
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

/// Under the lock, if there is one: nobody removes the object then, and none is removed once the
/// row is there.
///
/// Where Quay has no row, the object stays all the same. An upload may find it and make it its own at any moment,
/// and that moment is under no lock that Quay's garbage collection takes (`data/model/storage.py`).
async fn place_locked(database: &QuayDatabase, job: &Job, target: &Zone) -> Result<Placed, NotPlaced> {
    let there = timeout(UNDER_LOCK, target.store.head(&job.blob.key)).await.map_err(|_| NotPlaced::Late)?;
    there.map_err(NotPlaced::Store)?.ok_or(NotPlaced::Gone)?;
    let (zone, digest) = (&*target.name, &job.blob.digest);
    match database.place(digest, zone).await? {
        Rows::NoLocation => Err(NotPlaced::NoLocation(Arc::clone(&target.name))),
        Rows::Placed(added) => {
            tracing::debug!(zone, %digest, added, "Quay knows of the copy");
            Ok(Placed::Kept)
        }
        Rows::Elsewhere => {
            tracing::debug!(zone, %digest, "a blob of old, of which Quay reads no copy at this key");
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
        let mut unsaid = None;
        if let Some(database) = &self.database {
            match database.knows(&job.blob.digest).await {
                Ok(true) => return Wanted::Yes,
                Ok(false) => return Wanted::No,
                Err(error) => unsaid = Some(error.to_string()),
            }
        }
        let Some(reader) = &self.reader else {
            let neither = || "set registry.account, or replication.placements".to_owned();
            return Wanted::Unknown(unsaid.unwrap_or_else(neither));
        };
        match self.holder(reader, job).await {
            Ok(Some(_)) => Wanted::Yes,
            Ok(None) => Wanted::No,
            Err(why) => Wanted::Unknown(why),
        }
    }

    async fn fetch(&self, job: &Job) -> Result<Option<Source>, AuthorityError> {
        let Some(reader) = &self.reader else { return Ok(None) };
        let Some(repository) = self.holder(reader, job).await.map_err(AuthorityError::new)? else {
            return Ok(None);
        };
        let (digest, spool) = (&job.blob.digest, &self.spool);
        let turn = spool.turn().await.map_err(AuthorityError::new)?;
        let given = reader.blob(repository, digest).await.map_err(AuthorityError::new)?;
        tracing::info!(%digest, repository, "no zone has the blob: it is fetched through the registry");
        match spool.keep(given, digest, turn).await {
            Ok(source) => Ok(Some(source)),
            Err(NotKept::Never(why)) => {
                tracing::error!(%digest, repository, why, "a blob that no zone has is not fetched through the registry");
                Ok(None)
            }
            Err(NotKept::Now(why)) => Err(AuthorityError::new(why)),
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
