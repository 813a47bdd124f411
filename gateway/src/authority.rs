//! What the fan-out asks and tells Quay: whether a blob is still wanted, the blob itself where no
//! zone has it, and that a zone has it now.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backends::{Meta, Source};
use futures_util::future::join_all;
use tokio::time::timeout;
use zone_router::Zone;
use zone_router::fanout::{Authority, Deed, Job, Placed, Wanted};
use zone_router::postgres::PostgresError;

use crate::account::Reader;
use crate::quay_database::{QuayDatabase, Rows};
use crate::redis::{EXPIRY, Lock, Locks, RedisError};
use crate::spool::{NotKept, Spool};

/// How long anything may begin that is done under a lock; what is under way then has as long again,
/// and more, until the lock ends by itself.
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

    async fn place(
        &self,
        database: &QuayDatabase,
        job: &Job,
        target: &Zone,
        created: Option<&[Zone]>,
    ) -> Result<Placed, NotPlaced> {
        let Some(locks) = &self.locks else {
            return self.place_within(database, job, target, created, None).await;
        };
        let lock = locks.take(&format!("BLOB_DELETE_{}", job.blob.digest)).await?;
        let placed = self.place_within(database, job, target, created, Some(&lock)).await;
        match lock.release().await {
            Ok(true) => {}
            Ok(false) => tracing::warn!(digest = %job.blob.digest, "Quay's lock ended before it was let go"),
            Err(error) => tracing::warn!(%error, "Quay's lock is not let go: it ends by itself"),
        }
        placed
    }

    /// Under the lock, if there is one: nobody removes the object then, and none is removed once the
    /// row is there. `created`: this job created the object; the other zones.
    async fn place_within(
        &self,
        database: &QuayDatabase,
        job: &Job,
        target: &Zone,
        created: Option<&[Zone]>,
        lock: Option<&Lock>,
    ) -> Result<Placed, NotPlaced> {
        let there =
            timeout(UNDER_LOCK, target.store.head(&job.blob.key)).await.map_err(|_| NotPlaced::Late)?;
        let Some(there) = there.map_err(NotPlaced::Store)? else { return Err(NotPlaced::Gone) };
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
                match created {
                    Some(others) => self.take_back(database, job, (target, &there), others, lock).await?,
                    None => tracing::info!(zone, %digest, "Quay does not have the blob: the object stays"),
                }
                Ok(Placed::Withdrawn)
            }
        }
    }

    /// Removes the copy that this job has just created, as Quay's own garbage collection would: under its
    /// lock, unless an upload is about to take the object for its own, and unless it may be the only copy
    /// that is left, such as where another database than Quay's is asked.
    async fn take_back(
        &self,
        database: &QuayDatabase,
        job: &Job,
        (target, there): (&Zone, &Meta),
        others: &[Zone],
        lock: Option<&Lock>,
    ) -> Result<(), NotPlaced> {
        let (zone, digest) = (&*target.name, &job.blob.digest);
        let stays =
            |why| tracing::warn!(zone, %digest, "Quay does not have the blob: the copy stays, as {why}");
        let Some(lock) = lock else {
            stays("Quay has no lock");
            return Ok(());
        };
        if job.repositories.is_empty() {
            stays("it was asked for by command");
            return Ok(());
        }
        if database.uploads_to(zone).await? {
            stays("uploads are under way there");
            return Ok(());
        }
        if !timeout(UNDER_LOCK, is_elsewhere(there, others)).await.unwrap_or(false) {
            stays("it may be the only one");
            return Ok(());
        }
        if lock.left() < EXPIRY - UNDER_LOCK {
            return Err(NotPlaced::Late);
        }
        let deleted = timeout(UNDER_LOCK, target.store.delete(&job.blob.key)).await;
        deleted.map_err(|_| NotPlaced::Late)?.map_err(NotPlaced::Store)?;
        tracing::info!(zone, %digest, "the blob was deleted while it was copied: the copy is taken back");
        Ok(())
    }
}

/// Whether another zone has an object like this one too.
async fn is_elsewhere(there: &Meta, others: &[Zone]) -> bool {
    let others = others.iter().filter(|zone| zone.unusable.is_none());
    let heads = join_all(others.map(|zone| zone.store.head(&there.key))).await;
    heads.iter().flatten().flatten().any(|other| other.size == there.size)
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

    async fn fetch(&self, job: &Job) -> Result<Option<Source>, String> {
        let Some(reader) = &self.reader else { return Ok(None) };
        let Some(repository) = self.holder(reader, job).await? else { return Ok(None) };
        let (digest, spool) = (&job.blob.digest, &self.spool);
        let turn = spool.turn().await.map_err(|error| error.to_string())?;
        let given = reader.blob(repository, digest).await.map_err(|error| error.to_string())?;
        tracing::info!(%digest, repository, "no zone has the blob: it is fetched through the registry");
        match spool.keep(given, digest, turn).await {
            Ok(source) => Ok(Some(source)),
            Err(NotKept::Never(why)) => {
                tracing::error!(%digest, repository, why, "a blob that no zone has is not fetched through the registry");
                Ok(None)
            }
            Err(NotKept::Now(why)) => Err(why),
        }
    }

    async fn must_prove(&self, job: &Job, target: &Zone) -> Result<bool, String> {
        match self.placing_at(target) {
            Some(database) => {
                let lacks = database.lacks(&job.blob.digest, &target.name).await;
                lacks.map_err(|error| error.to_string())
            }
            None => Ok(false),
        }
    }

    async fn placed(&self, job: &Job, target: &Zone, deed: Deed, others: &[Zone]) -> Result<Placed, String> {
        let Some(database) = self.placing_at(target) else { return Ok(Placed::Kept) };
        let created = (deed == Deed::Created).then_some(others);
        self.place(database, job, target, created).await.map_err(|error| error.to_string())
    }
}
