//! `replication`: placements in Quay's database, Quay's locks, and the sweep.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use postgres_connection::Database;
use serde::Deserialize;

use super::ConfigError;
use super::copy_limits::{CopyLimitsEntry, VerifyBy};
use super::database::{from_quay_config, locate};
use super::env::keys;
use super::file::{ConfigFile, RegistryKind};
use super::files::relative_to;
use super::journal::{JournalEntry, url};
use super::located::Located;
use super::quay::QuayFile;
use super::redis::{RedisSettings, redis};

/// The default for the largest blob that is fetched through the registry: Quay's own limit for a layer
/// (`config.py:MAXIMUM_LAYER_SIZE`).
const FETCH_MAX: ByteSize = ByteSize::gb(20);

/// Keys of `replication`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ReplicationEntry {
    pub accept_orphans: bool,
    pub verify: VerifyBy,
    pub limits: CopyLimitsEntry,
    pub placements: Option<Located<bool>>,
    pub database: Option<Located<JournalEntry>>,
    pub quay_lock: Option<Located<bool>>,
    pub fetch_max: Option<ByteSize>,
    pub sweep: Sweep,
}

/// The sweep, which lists every repository of the registry and queues what is missing. Keys of
/// `replication.sweep`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sweep {
    /// Whether the sweep runs. It also needs a service account and target zones.
    pub enabled: bool,
    /// From the start of one round to the start of the next.
    #[serde(with = "humantime_serde")]
    pub every: Duration,
    /// The most requests a second to the registry.
    pub rate: f64,
    /// The sweep waits while a zone has more pending copies than this.
    pub backlog: u64,
}

impl Default for Sweep {
    fn default() -> Self {
        Self { enabled: true, every: Duration::from_secs(6 * 3600), rate: 5.0, backlog: 10_000 }
    }
}

keys!(ReplicationEntry {
    accept_orphans,
    verify,
    limits,
    placements,
    database,
    quay_lock,
    fetch_max,
    sweep,
} sweep);
keys!(Sweep { enabled, every, rate, backlog });

/// Allowed rates, in requests a second. More would be a load on the registry; with less, a round would never end.
const RATES: std::ops::RangeInclusive<f64> = 0.01..=1000.0;

/// The shortest interval between rounds.
const EVERY_MIN: Duration = Duration::from_secs(1);

/// Quay's database and its locks.
#[derive(Debug, Clone)]
pub struct Placements {
    /// The database.
    pub database: Box<Database>,
    /// A file with further roots for its certificate.
    pub root: Option<PathBuf>,
    /// Whether the database comes from Quay's own file, which has no `sslmode`.
    pub sslmode_missing: bool,
    /// The Redis that holds Quay's locks. `None` if Quay has none (up to 3.16).
    pub lock: Option<RedisSettings>,
    /// The zones that Quay can read from. Quay fails if a placement is in any other.
    pub locations: Vec<String>,
}

/// The settings of replication, except the limits of copies.
#[derive(Debug, Clone)]
pub struct ReplicationSettings {
    /// Whether copies may be in zones that Quay's garbage collection never cleans.
    pub accept_orphans: bool,
    /// The database in which copies are recorded, if they are.
    pub placements: Option<Placements>,
    /// The largest blob, in bytes, that may be fetched through the registry.
    pub fetch_max: u64,
    /// The sweep.
    pub sweep: Sweep,
}

/// Checks `replication` and completes it from Quay's own file.
///
/// # Errors
/// A value of the sweep is out of its range, or Quay's database or locks are not known or cannot be used.
pub(super) fn replication(
    path: &Path,
    file: &ConfigFile,
    quay: &QuayFile,
) -> Result<ReplicationSettings, ConfigError> {
    let written = &file.replication;
    let sweep = written.sweep.clone();
    if !RATES.contains(&sweep.rate) {
        let (least, most) = (RATES.start(), RATES.end());
        let why = format!("replication.sweep.rate: must be between {least} and {most} requests a second");
        return Err(ConfigError::new(path, None, why));
    }
    if sweep.every < EVERY_MIN {
        return Err(ConfigError::new(path, None, "replication.sweep.every: must be at least 1s, such as 6h"));
    }
    Ok(ReplicationSettings {
        accept_orphans: written.accept_orphans,
        placements: placements(path, file, quay)?,
        fetch_max: written.fetch_max.unwrap_or(FETCH_MAX).as_u64(),
        sweep,
    })
}

fn placements(path: &Path, file: &ConfigFile, quay: &QuayFile) -> Result<Option<Placements>, ConfigError> {
    let written = &file.replication;
    let Some(line) = written.placements.as_ref().filter(|wanted| wanted.value).map(|wanted| wanted.line)
    else {
        return match &written.database {
            Some(database) => Err(ConfigError::new(
                path,
                database.line,
                "replication.database is set without replication.placements: true: set both, or remove the database",
            )),
            None => Ok(None),
        };
    };
    let fail = |line: Option<u64>, why: String| ConfigError::new(path, line, why);
    if file.registry.kind != RegistryKind::Quay {
        return Err(fail(
            line,
            "replication.placements are rows of Quay's database, but registry.kind is not quay".to_owned(),
        ));
    }
    let config = file.registry.config.as_ref().map(|config| relative_to(path, &config.value));
    let (database, root, sslmode_missing) = match (&written.database, &quay.database_uri, &config) {
        (Some(entry), _, _) => {
            let key = "replication.database";
            let url = url(path, key, entry)?.ok_or_else(|| {
                fail(
                    entry.line,
                    format!(
                        "{key}: Quay's database must be PostgreSQL: write postgres://…, or {{url_file: FILE}}"
                    ),
                )
            })?;
            let database = Database::parse(&url).map_err(|why| fail(entry.line, format!("{key}: {why}")))?;
            (database, None, false)
        }
        (None, Some(uri), Some(config)) => {
            let named = from_quay_config(uri, quay.database_arguments.as_ref()).map_err(|why| {
                fail(
                    line,
                    format!("replication.placements: Quay's {why}; you can also set replication.database"),
                )
            })?;
            let root = named.root.map(|root| {
                locate(config, &root).ok_or_else(|| {
                    let root = root.display();
                    fail(
                        line,
                        format!(
                            "replication.placements: sslrootcert: there is no file {root}, nor one of its name \
                             beside Quay's config.yaml"
                        ),
                    )
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
    file: &ConfigFile,
    quay: &QuayFile,
    placements: Option<u64>,
    config: Option<&Path>,
) -> Result<Option<RedisSettings>, ConfigError> {
    let written = file.replication.quay_lock.as_ref();
    if written.is_some_and(|lock| !lock.value) {
        return Ok(None);
    }
    let line = written.map_or(placements, |lock| lock.line);
    let without = "for Quay up to 3.16, which has no such lock, set replication.quay_lock: false";
    match (&quay.redis, config) {
        (Some(entry), Some(config)) => redis(config, entry)
            .map(Some)
            .map_err(|why| ConfigError::new(path, line, format!("replication.quay_lock: {why}; {without}"))),
        _ => Err(ConfigError::new(
            path,
            line,
            format!(
                "replication.placements: Quay's locks are in its Redis, but Quay's config.yaml is not set in \
                 registry.config, or has no USER_EVENTS_REDIS; {without}"
            ),
        )),
    }
}
