//! The journal's one table: its schema, and every statement on it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use backends::Key;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Result, Row, params};

use super::job::{Job, NewJob, merge};
use crate::Blob;

/// The schema's version, kept in SQLite's `user_version`.
pub(super) const VERSION: i64 = 1;

/// All times are milliseconds since 1970.
pub(super) const SCHEMA: &str = "
CREATE TABLE job (
    zone         TEXT NOT NULL,     -- the target
    digest       TEXT NOT NULL,
    key          TEXT NOT NULL,
    size         INTEGER,           -- bytes, NULL if nobody said
    repositories TEXT NOT NULL,     -- one a line, the latest first
    added        INTEGER NOT NULL,  -- when first
    due          INTEGER NOT NULL,  -- when to try next
    stamp        INTEGER NOT NULL,  -- another one after every add
    attempts     INTEGER NOT NULL,  -- failed tries
    failed       INTEGER,           -- when last
    error        TEXT,              -- why last
    PRIMARY KEY (zone, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX job_due ON job (zone, due);
";

const ADD: &str = "
INSERT INTO job (zone, digest, key, size, repositories, added, due, stamp, attempts)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, 0)
ON CONFLICT (zone, digest) DO UPDATE SET
    key = excluded.key,
    size = coalesce(excluded.size, size),
    repositories = excluded.repositories,
    due = min(due, excluded.due),
    stamp = excluded.stamp";

// What is due further ahead than any wait was written by a clock that ran ahead: due now.
const DUE: &str = "
SELECT * FROM (SELECT digest, key, size, repositories, attempts, stamp FROM job
               WHERE zone = ?1 AND due <= ?2 ORDER BY due LIMIT ?4)
UNION ALL
SELECT * FROM (SELECT digest, key, size, repositories, attempts, stamp FROM job
               WHERE zone = ?1 AND due > ?3 ORDER BY due LIMIT ?4)
LIMIT ?4";

const NEXT: &str = "SELECT min(due) FROM job WHERE zone = ?1 AND due > ?2";

const COUNTS: &str = "
SELECT zone, count(*), total(size), min(added), count(failed), total(attempts),
       (SELECT error FROM job AS j WHERE j.zone = job.zone AND failed IS NOT NULL ORDER BY failed DESC LIMIT 1)
FROM job GROUP BY zone";

/// What a lane has to do.
#[derive(Debug, Default)]
pub struct Due {
    /// The jobs that are due, the longest due first.
    pub jobs: Vec<Job>,
    /// When the next one after them is due.
    pub next: Option<SystemTime>,
}

/// The jobs of one target zone, counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// The target zone.
    pub zone: Arc<str>,
    /// Jobs waiting or under way.
    pub jobs: u64,
    /// Their bytes, as far as known.
    pub bytes: u64,
    /// When the oldest of them was added.
    pub oldest: Option<SystemTime>,
    /// How many of them have failed at least once.
    pub failing: u64,
    /// Their failed tries in all.
    pub attempts: u64,
    /// Why the latest failed try failed.
    pub last_error: Option<String>,
}

/// Adds the job, or merges it into the one that is there.
pub(super) fn add(db: &Connection, job: NewJob, now: SystemTime) -> Result<()> {
    let (zone, digest) = (&*job.target, job.blob.digest.to_string());
    let known: Option<String> = db
        .prepare_cached("SELECT repositories FROM job WHERE zone = ?1 AND digest = ?2")?
        .query_row(params![zone, digest], |row| row.get(0))
        .optional()?;
    let repositories = merge(lines(known.as_deref().unwrap_or_default()), job.repository).join("\n");
    db.prepare_cached(ADD)?.execute(params![
        zone,
        digest,
        job.blob.key.as_str(),
        job.size.map(|size| i64::try_from(size).unwrap_or(i64::MAX)),
        repositories,
        to_millis(now),
        fastrand::i64(..),
    ])?;
    Ok(())
}

/// At most `limit` due jobs of a zone; `horizon` is the longest wait there is.
pub(super) fn due(
    db: &Connection,
    zone: &Arc<str>,
    now: SystemTime,
    horizon: Duration,
    limit: usize,
) -> Result<Due> {
    let latest = to_millis(now + horizon);
    let now = to_millis(now);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let jobs = db
        .prepare_cached(DUE)?
        .query_map(params![&**zone, now, latest, limit], |row| job(zone, row))?
        .collect::<Result<_>>()?;
    let next: Option<i64> = db.prepare_cached(NEXT)?.query_row(params![&**zone, now], |row| row.get(0))?;
    Ok(Due { jobs, next: next.map(from_millis) })
}

/// Removes the job, unless it was added again since it was read.
pub(super) fn done(db: &Connection, job: &Job) -> Result<()> {
    db.prepare_cached("DELETE FROM job WHERE zone = ?1 AND digest = ?2 AND stamp = ?3")?.execute(params![
        &*job.target,
        job.blob.digest.to_string(),
        job.stamp
    ])?;
    Ok(())
}

/// Keeps a failed try and when to try again.
pub(super) fn failed(
    db: &Connection,
    job: &Job,
    now: SystemTime,
    due: SystemTime,
    error: &str,
) -> Result<()> {
    db.prepare_cached(
        "UPDATE job SET attempts = attempts + 1, failed = ?3, due = ?4, error = ?5 WHERE zone = ?1 AND digest = ?2",
    )?
    .execute(params![
        &*job.target,
        job.blob.digest.to_string(),
        to_millis(now),
        to_millis(due),
        error
    ])?;
    Ok(())
}

/// Makes every job of a zone due.
pub(super) fn hasten(db: &Connection, zone: &str, now: SystemTime) -> Result<()> {
    db.prepare_cached("UPDATE job SET due = ?2 WHERE zone = ?1 AND due > ?2")?
        .execute(params![zone, to_millis(now)])?;
    Ok(())
}

/// The jobs of every zone that has any.
pub(super) fn counts(db: &Connection) -> Result<Vec<Count>> {
    db.prepare_cached(COUNTS)?
        .query_map([], |row| {
            Ok(Count {
                zone: row.get::<_, String>(0)?.into(),
                jobs: unsigned(row.get(1)?),
                bytes: row.get::<_, f64>(2)? as u64,
                oldest: Some(from_millis(row.get(3)?)),
                failing: unsigned(row.get(4)?),
                attempts: row.get::<_, f64>(5)? as u64,
                last_error: row.get(6)?,
            })
        })?
        .collect()
}

fn job(zone: &Arc<str>, row: &Row<'_>) -> Result<Job> {
    let digest = row
        .get_ref(0)?
        .as_str()?
        .parse()
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error)))?;
    Ok(Job {
        blob: Blob { digest, key: Key::new(row.get::<_, String>(1)?) },
        target: Arc::clone(zone),
        size: row.get::<_, Option<i64>>(2)?.map(unsigned),
        repositories: lines(row.get_ref(3)?.as_str()?),
        attempts: u32::try_from(row.get::<_, i64>(4)?).unwrap_or(u32::MAX),
        stamp: row.get(5)?,
    })
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn to_millis(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn from_millis(millis: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(unsigned(millis))
}
