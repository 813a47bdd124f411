//! What is copied where, what Quay is told of it, and how gaps are found.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use postgres_connection::Database;
use serde::Deserialize;

use super::ConfigError;
use super::bounds::settable;
use super::copy_limits::{CopyLimits, VerifyBy};
use super::database::{found, quays_own};
use super::file::{File, RegistryKind};
use super::journal::{JournalEntry, url};
use super::located::Located;
use super::quay::QuayFile;
use super::redis::{RedisSettings, redis};
use super::settings::relative_to;

/// Bytes of one blob that is fetched through the registry: Quay's own default for a layer
/// (`config.py:MAXIMUM_LAYER_SIZE`).
const FETCH_MAX: ByteSize = ByteSize::gb(20);

/// `replication` as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Replication {
    pub accept_orphans: bool,
    pub verify: VerifyBy,
    pub limits: CopyLimits,
    pub placements: Option<Located<bool>>,
    pub database: Option<Located<JournalEntry>>,
    pub quay_lock: Option<Located<bool>>,
    pub fetch_max: Option<ByteSize>,
    pub sweep: Sweep,
}

/// The walk over all that the registry has. Keys of `replication.sweep`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sweep {
    /// Whether there is one, where there are an account and targets.
    pub enabled: bool,
    /// From one round's start to the next one's.
    #[serde(with = "humantime_serde")]
    pub every: Duration,
    /// Requests to the registry a second, at most.
    pub rate: f64,
    /// It waits while a zone has more copies than this to be made.
    pub backlog: u64,
}

impl Default for Sweep {
    fn default() -> Self {
        Self { enabled: true, every: Duration::from_secs(6 * 3600), rate: 5.0, backlog: 10_000 }
    }
}

settable!(Sweep { enabled, every, rate, backlog });

/// Requests a second: more is no slow walk, less would never end.
const RATES: std::ops::RangeInclusive<f64> = 0.01..=1000.0;

/// Shorter than this no round makes sense.
const EVERY_MIN: Duration = Duration::from_secs(1);

/// Quay's database and its locks.
#[derive(Debug, Clone)]
pub struct Placements {
    /// The database.
    pub database: Box<Database>,
    /// Roots that its certificate is verified with, beside the others.
    pub root: Option<PathBuf>,
    /// Quay's own file names the database, and does not say how the line to it is protected.
    pub sslmode_missing: bool,
    /// Where Quay's locks are; `None` where it has none (up to 3.16).
    pub lock: Option<RedisSettings>,
    /// The zones that Quay can read from; it would fail at a placement in any other.
    pub locations: Vec<String>,
}

/// What is copied where, what Quay is told of it, and how gaps are found.
#[derive(Debug, Clone)]
pub struct ReplicationSettings {
    /// Copies may lie where Quay's garbage collection never comes.
    pub accept_orphans: bool,
    /// Where Quay is told of copies.
    pub placements: Option<Placements>,
    /// Bytes of one blob that may be fetched through the registry.
    pub fetch_max: u64,
    /// How gaps are found.
    pub sweep: Sweep,
}

/// Checks what is written, and completes it from Quay's own file.
pub(super) fn replication(
    path: &Path,
    file: &File,
    quay: &QuayFile,
) -> Result<ReplicationSettings, ConfigError> {
    let written = &file.replication;
    let sweep = written.sweep.clone();
    if !RATES.contains(&sweep.rate) {
        let (least, most) = (RATES.start(), RATES.end());
        let why = format!("replication.sweep.rate: not between {least} and {most} requests a second");
        return Err(ConfigError::new(path, None, why));
    }
    if sweep.every < EVERY_MIN {
        return Err(ConfigError::new(path, None, "replication.sweep.every: at least 1s, such as 6h"));
    }
    Ok(ReplicationSettings {
        accept_orphans: written.accept_orphans,
        placements: placements(path, file, quay)?,
        fetch_max: written.fetch_max.unwrap_or(FETCH_MAX).as_u64(),
        sweep,
    })
}

fn placements(path: &Path, file: &File, quay: &QuayFile) -> Result<Option<Placements>, ConfigError> {
    let written = &file.replication;
    let Some(line) = written.placements.as_ref().filter(|wanted| wanted.value).map(|wanted| wanted.line)
    else {
        return match &written.database {
            Some(database) => Err(ConfigError::new(
                path,
                database.line,
                "replication.database without replication.placements: true: set it, or remove the database",
            )),
            None => Ok(None),
        };
    };
    let fail = |line: Option<u64>, why: String| ConfigError::new(path, line, why);
    if file.registry.kind != RegistryKind::Quay {
        return Err(fail(
            line,
            "replication.placements are Quay's, but registry.kind is not quay".to_owned(),
        ));
    }
    let config = file.registry.config.as_ref().map(|config| relative_to(path, &config.value));
    let (database, root, sslmode_missing) = match (&written.database, &quay.database_uri, &config) {
        (Some(entry), _, _) => {
            let key = "replication.database";
            let url = url(path, key, entry)?.ok_or_else(|| {
                fail(
                    entry.line,
                    format!("{key}: Quay's database is a PostgreSQL: postgres://…, or {{url_file: FILE}}"),
                )
            })?;
            let database = Database::parse(&url).map_err(|why| fail(entry.line, format!("{key}: {why}")))?;
            (database, None, false)
        }
        (None, Some(uri), Some(config)) => {
            let named = quays_own(uri, quay.database_arguments.as_ref()).map_err(|why| {
                fail(
                    line,
                    format!("replication.placements: Quay's {why}; or name it in replication.database"),
                )
            })?;
            let root = named.root.map(|root| {
                found(config, &root).ok_or_else(|| {
                    let root = root.display();
                    fail(line, format!("replication.placements: sslrootcert {root} is not here, nor beside Quay's config.yaml"))
                })
            });
            (named.database, root.transpose()?, named.sslmode_missing)
        }
        _ => {
            let why = "replication.placements: Quay's database is not known: set registry.config to Quay's \
                       config.yaml (its DB_URI names it), or replication.database";
            return Err(fail(line, why.to_owned()));
        }
    };
    let lock = lock(path, file, quay, line, config.as_deref())?;
    let locations = quay.storage.0.iter().map(|(name, _)| name.clone()).collect();
    Ok(Some(Placements { database: Box::new(database), root, sslmode_missing, lock, locations }))
}

fn lock(
    path: &Path,
    file: &File,
    quay: &QuayFile,
    placements: Option<u64>,
    config: Option<&Path>,
) -> Result<Option<RedisSettings>, ConfigError> {
    let written = file.replication.quay_lock.as_ref();
    if written.is_some_and(|lock| !lock.value) {
        return Ok(None);
    }
    let line = written.map_or(placements, |lock| lock.line);
    let without = "or, for a Quay up to 3.16, which has no such lock, set replication.quay_lock: false";
    match (&quay.redis, config) {
        (Some(entry), Some(config)) => redis(config, entry)
            .map(Some)
            .map_err(|why| ConfigError::new(path, line, format!("replication.quay_lock: {why}; {without}"))),
        _ => Err(ConfigError::new(
            path,
            line,
            format!(
                "replication.placements: Quay's locks are in its Redis, and Quay's config.yaml has no \
                 USER_EVENTS_REDIS: name that file in registry.config; {without}"
            ),
        )),
    }
}
