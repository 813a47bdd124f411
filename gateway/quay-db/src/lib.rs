#![doc = include_str!("../README.md")]

pub mod redis;
mod statements;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use backends::Digest;
use config::Settings;
use moka::sync::Cache;
use postgres_connection::{Client, Database, Parameter, PostgresError, Purpose, Row, SharedConnection, Type};
use rustls::ClientConfig;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a namespace's own locations are cached. Quay offers no way to change them except in its database.
const REGIONS_MEMORY: Duration = Duration::from_secs(60);

/// The most namespaces whose locations are cached.
const REGIONS_MAX: u64 = 10_000;

/// The most namespaces that one query returns.
const NAMESPACES_MAX: i64 = 100_000;

/// Quay's database. Each query has a timeout of 10 s.
#[derive(Debug)]
pub struct QuayDatabase {
    connection: SharedConnection,
    regions: Cache<String, Arc<[String]>>,
    _end: DropGuard,
}

/// A blob as Quay's database records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownBlob {
    /// The digest.
    pub digest: Digest,
    /// The locations in which Quay records it.
    pub locations: Vec<String>,
    /// Whether a manifest references it.
    pub in_manifest: bool,
}

/// The result of adding a placement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Quay has no location of this name.
    NoLocation,
    /// Quay has no row for the blob.
    None,
    /// Quay has rows for the blob, but all of them are from an old release, which stored blobs at other keys.
    Elsewhere,
    /// Every row of the blob has a placement in the location now. The number counts those that were added.
    Placed(u64),
}

/// Prepares a connection: checks that Quay's tables and columns are there.
#[derive(Debug)]
struct PlacementAccess;

#[async_trait]
impl Purpose for PlacementAccess {
    fn name(&self) -> &'static str {
        "Quay's database"
    }

    async fn prepare(&self, database: &Database, client: &Client) -> Result<(), PostgresError> {
        let failed = |error| PostgresError::said(database, &error);
        client.batch_execute(statements::CHECK_TABLES).await.map_err(failed)
    }
}

/// Like [`PlacementAccess`], and also tries whether the user may add placements.
#[derive(Debug)]
struct PlacementTrial;

#[async_trait]
impl Purpose for PlacementTrial {
    fn name(&self) -> &'static str {
        "Quay's database"
    }

    async fn prepare(&self, database: &Database, client: &Client) -> Result<(), PostgresError> {
        let failed = |error| PostgresError::said(database, &error);
        client.batch_execute(statements::CHECK_TABLES).await.map_err(failed)?;
        client.batch_execute(statements::TRY_INSERT).await.map_err(failed)?;
        let privilege = client.query_typed(statements::SEQUENCE_PRIVILEGE, &[]).await.map_err(failed)?;
        if privilege.first().is_some_and(|row| !row.get::<_, bool>(0)) {
            let why = "permission denied for the sequence of imagestorageplacement".to_owned();
            return Err(PostgresError::Refused { place: database.place().to_owned(), why, lasting: true });
        }
        Ok(())
    }
}

impl QuayDatabase {
    /// Opens a connection and keeps it open. Needs a Tokio runtime.
    ///
    /// If the database cannot be reached, this returns at once and the connection is retried in the
    /// background.
    ///
    /// # Errors
    /// The database refuses the login, or its tables are not Quay's. Retrying does not help.
    pub async fn connect(database: &Database, tls: &ClientConfig) -> Result<Self, PostgresError> {
        let end = CancellationToken::new();
        let connection = SharedConnection::keep(database, tls, Arc::new(PlacementAccess), end.clone());
        let regions = Cache::builder().max_capacity(REGIONS_MAX).time_to_live(REGIONS_MEMORY).build();
        let quay = Self { connection, regions, _end: end.drop_guard() };
        match quay.connection.started().await {
            Err(error) if error.is_lasting() => Err(error),
            Err(error) => {
                tracing::warn!(%error, "Quay's database cannot be reached: copies wait until it answers");
                Ok(quay)
            }
            Ok(()) => Ok(quay),
        }
    }

    /// Checks that the database can be reached, has Quay's tables, and lets this user add placements. Leaves
    /// nothing behind.
    ///
    /// # Errors
    /// One of these does not hold.
    pub async fn check(database: &Database, tls: &ClientConfig) -> Result<(), PostgresError> {
        let end = CancellationToken::new();
        let _end = end.clone().drop_guard();
        SharedConnection::keep(database, tls, Arc::new(PlacementTrial), end).started().await
    }

    /// The names of the namespaces that have repositories, `NAMESPACES_MAX` at most.
    ///
    /// # Errors
    /// The query fails. One reason is that the user may not read `repository`, which nothing else needs.
    pub async fn namespaces(&self) -> Result<BTreeSet<String>, PostgresError> {
        let rows = self.connection.query(statements::NAMESPACES, &[(&NAMESPACES_MAX, Type::INT8)]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Whether Quay has a row for this blob.
    ///
    /// # Errors
    /// The query fails.
    pub async fn knows(&self, digest: &Digest) -> Result<bool, PostgresError> {
        let rows =
            self.connection.query(statements::BLOB_EXISTS, &[(&digest.to_string(), Type::TEXT)]).await?;
        Ok(rows.first().is_some_and(|row| row.get(0)))
    }

    /// Whether [`QuayDatabase::place`] would add anything.
    ///
    /// # Errors
    /// The query fails.
    pub async fn lacks(&self, digest: &Digest, location: &str) -> Result<bool, PostgresError> {
        let digest = digest.to_string();
        let rows = self
            .connection
            .query(statements::PLACEMENT_MISSING, &[(&digest, Type::TEXT), (&location, Type::TEXT)])
            .await?;
        Ok(rows.first().is_some_and(|row| row.get(0)))
    }

    /// Records that the blob is in this location: adds a placement for every row of the blob that has none.
    ///
    /// # Errors
    /// The query fails, or its answer is lost. Repeating it does no harm.
    pub async fn place(&self, digest: &Digest, location: &str) -> Result<Rows, PostgresError> {
        let digest = digest.to_string();
        let rows = self
            .connection
            .query(statements::ADD_PLACEMENT, &[(&digest, Type::TEXT), (&location, Type::TEXT)])
            .await?;
        Ok(rows.first().map_or(Rows::None, placed))
    }

    /// Every blob whose digest begins with the byte `first`, `at_most` of them.
    ///
    /// If the database's user may not read `manifestblob`, which nothing else needs, every blob counts as
    /// referenced by a manifest.
    ///
    /// # Errors
    /// The query fails.
    pub async fn beginning_with(&self, first: u8, at_most: usize) -> Result<Vec<KnownBlob>, PostgresError> {
        // `g` comes after every hex digit.
        let from = format!("sha256:{first:02x}");
        let to =
            first.checked_add(1).map_or_else(|| "sha256:g".to_owned(), |next| format!("sha256:{next:02x}"));
        let at_most = i64::try_from(at_most).unwrap_or(i64::MAX);
        let parameters: [Parameter<'_>; 3] = [(&from, Type::TEXT), (&to, Type::TEXT), (&at_most, Type::INT8)];
        let asked = self.connection.query(statements::BLOBS_WITH_MANIFESTS, &parameters).await;
        let rows = match asked {
            Err(PostgresError::Refused { .. }) => {
                self.connection.query(statements::BLOBS, &parameters).await?
            }
            rows => rows?,
        };
        // A checksum that is not a SHA-256 digest belongs to no blob that the gateway knows.
        let known = |row: &Row| {
            let (digest, locations) = (row.get::<_, &str>(0).parse().ok()?, row.get(1));
            Some(KnownBlob { digest, locations, in_manifest: row.get(2) })
        };
        Ok(rows.iter().filter_map(known).collect())
    }

    /// The locations of its own that the repository's namespace has.
    ///
    /// # Errors
    /// The query fails.
    pub async fn regions(&self, repository: &str) -> Result<Arc<[String]>, PostgresError> {
        // A repository without a namespace is in `library`.
        let namespace = repository.split_once('/').map_or("library", |(namespace, _)| namespace);
        if let Some(known) = self.regions.get(namespace) {
            return Ok(known);
        }
        let rows =
            self.connection.query(statements::NAMESPACE_LOCATIONS, &[(&namespace, Type::TEXT)]).await?;
        let regions: Arc<[String]> = rows.iter().map(|row| row.get(0)).collect();
        self.regions.insert(namespace.to_owned(), Arc::clone(&regions));
        Ok(regions)
    }
}

fn placed(row: &Row) -> Rows {
    let (locations, storages, added): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    match (locations, storages, row.get(3)) {
        (0, ..) => Rows::NoLocation,
        (_, 0, false) => Rows::None,
        (_, 0, true) => Rows::Elsewhere,
        _ => Rows::Placed(u64::try_from(added).unwrap_or(0)),
    }
}

/// Connects to Quay's database if the configuration has `replication.placements`.
///
/// If the database cannot be reached, the connection is retried in the background.
///
/// # Errors
/// A file of roots cannot be used, or the database refuses the login, or its tables are not Quay's.
pub async fn connect(settings: &Settings) -> anyhow::Result<Option<QuayDatabase>> {
    let Some(placements) = &settings.replication.placements else { return Ok(None) };
    let tls = certificates::client_with(settings, placements.root.as_ref())?;
    let database = QuayDatabase::connect(&placements.database, &tls).await;
    database.map(Some).context("Quay's database cannot be used")
}
