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
use postgres_connection::{Client, Database, Line, Parameter, PostgresError, Purpose, Row, Type};
use rustls::ClientConfig;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a namespace's own locations are remembered; Quay has no way to change them but by hand.
const REGIONS_MEMORY: Duration = Duration::from_secs(60);

/// Namespaces remembered.
const REGIONS_MAX: u64 = 10_000;

/// Namespaces that are looked at.
const NAMESPACES_MAX: i64 = 100_000;

/// Quay's database. What it is asked has a bound of 10 s.
#[derive(Debug)]
pub struct QuayDatabase {
    line: Line,
    regions: Cache<String, Arc<[String]>>,
    _end: DropGuard,
}

/// A blob as Quay's database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownBlob {
    /// Its digest.
    pub digest: Digest,
    /// Where Quay believes it to be.
    pub locations: Vec<String>,
    /// Whether a manifest names it.
    pub in_manifest: bool,
}

/// What came of a placement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Quay knows no such location.
    NoLocation,
    /// It has no row of the blob.
    None,
    /// It has rows, but of blobs of old, which lie elsewhere.
    Elsewhere,
    /// Every row of the blob has its placement now; so many were missing.
    Placed(u64),
}

/// What the connection is for.
#[derive(Debug)]
struct Placements;

#[async_trait]
impl Purpose for Placements {
    fn whose(&self) -> &'static str {
        "Quay's database"
    }

    async fn prepare(&self, database: &Database, client: &Client) -> Result<(), PostgresError> {
        let said = |error| PostgresError::said(database, &error);
        client.batch_execute(statements::LOOK).await.map_err(said)
    }
}

/// The same, and tries whether placements may be added.
#[derive(Debug)]
struct Trial;

#[async_trait]
impl Purpose for Trial {
    fn whose(&self) -> &'static str {
        "Quay's database"
    }

    async fn prepare(&self, database: &Database, client: &Client) -> Result<(), PostgresError> {
        let said = |error| PostgresError::said(database, &error);
        client.batch_execute(statements::LOOK).await.map_err(said)?;
        client.batch_execute(statements::TRY).await.map_err(said)?;
        let numbers = client.query_typed(statements::NUMBERS, &[]).await.map_err(said)?;
        if numbers.first().is_some_and(|row| !row.get::<_, bool>(0)) {
            let why = "permission denied for the sequence of imagestorageplacement".to_owned();
            return Err(PostgresError::Refused { place: database.place().to_owned(), why, lasting: true });
        }
        Ok(())
    }
}

impl QuayDatabase {
    /// Keeps a connection to it. One that is away is waited for while everything else goes on.
    /// Needs a Tokio runtime.
    ///
    /// # Errors
    /// What does not mend itself: it does not let us in, or is no database of Quay's.
    pub async fn connect(database: &Database, tls: &ClientConfig) -> Result<Self, PostgresError> {
        let end = CancellationToken::new();
        let line = Line::keep(database, tls, Arc::new(Placements), end.clone());
        let regions = Cache::builder().max_capacity(REGIONS_MAX).time_to_live(REGIONS_MEMORY).build();
        let quay = Self { line, regions, _end: end.drop_guard() };
        match quay.line.started().await {
            Err(error) if error.is_lasting() => Err(error),
            Err(error) => {
                tracing::warn!(%error, "Quay's database is away: copies wait until it is there");
                Ok(quay)
            }
            Ok(()) => Ok(quay),
        }
    }

    /// Whether all that is needed of it works; leaves nothing behind.
    ///
    /// # Errors
    /// What does not.
    pub async fn check(database: &Database, tls: &ClientConfig) -> Result<(), PostgresError> {
        let end = CancellationToken::new();
        let _end = end.clone().drop_guard();
        Line::keep(database, tls, Arc::new(Trial), end).started().await
    }

    /// Names of the namespaces that have repositories, [`NAMESPACES_MAX`] at most.
    ///
    /// # Errors
    /// The database does not say; its user may not be allowed to read `repository`, which nothing else needs.
    pub async fn namespaces(&self) -> Result<BTreeSet<String>, PostgresError> {
        let rows = self.line.ask(statements::NAMESPACES, &[(&NAMESPACES_MAX, Type::INT8)]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Whether Quay has a row of this blob.
    ///
    /// # Errors
    /// The database does not say.
    pub async fn knows(&self, digest: &Digest) -> Result<bool, PostgresError> {
        let rows = self.line.ask(statements::KNOWN, &[(&digest.to_string(), Type::TEXT)]).await?;
        Ok(rows.first().is_some_and(|row| row.get(0)))
    }

    /// Whether [`QuayDatabase::place`] would add anything.
    ///
    /// # Errors
    /// The database does not say.
    pub async fn lacks(&self, digest: &Digest, location: &str) -> Result<bool, PostgresError> {
        let digest = digest.to_string();
        let rows =
            self.line.ask(statements::MISSING, &[(&digest, Type::TEXT), (&location, Type::TEXT)]).await?;
        Ok(rows.first().is_some_and(|row| row.get(0)))
    }

    /// Notes that the blob is in this location, for every row of it that does not say so yet.
    ///
    /// # Errors
    /// The database did not do it; or did, and could not say so, which does no harm.
    pub async fn place(&self, digest: &Digest, location: &str) -> Result<Rows, PostgresError> {
        let digest = digest.to_string();
        let rows =
            self.line.ask(statements::PLACE, &[(&digest, Type::TEXT), (&location, Type::TEXT)]).await?;
        Ok(rows.first().map_or(Rows::None, placed))
    }

    /// Every blob whose digest begins with this byte, and what Quay believes of it; so many at most. Where
    /// the database's user may not read `manifestblob`, which nothing else needs, a manifest is taken to name
    /// each of them.
    ///
    /// # Errors
    /// The database does not say.
    pub async fn beginning_with(&self, first: u8, at_most: usize) -> Result<Vec<KnownBlob>, PostgresError> {
        // `g` comes after every hex digit.
        let from = format!("sha256:{first:02x}");
        let to =
            first.checked_add(1).map_or_else(|| "sha256:g".to_owned(), |next| format!("sha256:{next:02x}"));
        let at_most = i64::try_from(at_most).unwrap_or(i64::MAX);
        let parameters: [Parameter<'_>; 3] = [(&from, Type::TEXT), (&to, Type::TEXT), (&at_most, Type::INT8)];
        let asked = self.line.ask(statements::BETWEEN_IN_MANIFESTS, &parameters).await;
        let rows = match asked {
            Err(PostgresError::Refused { .. }) => self.line.ask(statements::BETWEEN, &parameters).await?,
            rows => rows?,
        };
        // What is no digest names no blob.
        let known = |row: &Row| {
            let (digest, locations) = (row.get::<_, &str>(0).parse().ok()?, row.get(1));
            Some(KnownBlob { digest, locations, in_manifest: row.get(2) })
        };
        Ok(rows.iter().filter_map(known).collect())
    }

    /// The locations that the repository's namespace has of its own.
    ///
    /// # Errors
    /// The database does not say.
    pub async fn regions(&self, repository: &str) -> Result<Arc<[String]>, PostgresError> {
        // Without a namespace it lies in `library`.
        let namespace = repository.split_once('/').map_or("library", |(namespace, _)| namespace);
        if let Some(known) = self.regions.get(namespace) {
            return Ok(known);
        }
        let rows = self.line.ask(statements::REGIONS, &[(&namespace, Type::TEXT)]).await?;
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

/// Quay's database, where the configuration says that Quay is told of copies. A database that is away now is
/// waited for.
///
/// # Errors
/// A file of roots cannot be used, or the database refuses this gateway for a reason that does not mend itself.
pub async fn connect(settings: &Settings) -> anyhow::Result<Option<QuayDatabase>> {
    let Some(placements) = &settings.replication.placements else { return Ok(None) };
    let tls = certificates::client_with(settings, placements.root.as_ref())?;
    let database = QuayDatabase::connect(&placements.database, &tls).await;
    database.map(Some).context("Quay's database cannot be used")
}
