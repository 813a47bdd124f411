//! The journal's table of jobs: its schema, and the statements that add, claim and count them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use backends::{Digest, Key};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Result, Row, ToSql, params};
use zone_router::Blob;

use super::super::super::job::{Job, NewJob, merge};
use super::super::claim_order::{Choice, choices};
use super::super::size::{column, merged_size, stated};
use super::super::{Count, Next};
use super::tries;

/// The schema's version, stored in SQLite's `user_version`: the number of migrations.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// The migrations that make the schema. All times are milliseconds since 1970.
pub(super) const MIGRATIONS: [&str; 3] = [
    "
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
",
    "
ALTER TABLE job ADD COLUMN fresh INTEGER NOT NULL DEFAULT 1;  -- 0 once tried since it was last added
UPDATE job SET fresh = 0 WHERE attempts > 0;
DROP INDEX job_due;
CREATE INDEX job_due ON job (zone, fresh, due);
CREATE INDEX job_size ON job (zone, size) WHERE fresh = 1;
",
    "
ALTER TABLE job ADD COLUMN parked INTEGER;  -- since when it is set aside, if it is; error says why
DROP INDEX job_due;
DROP INDEX job_size;
CREATE INDEX job_due ON job (zone, fresh, due) WHERE parked IS NULL;
CREATE INDEX job_size ON job (zone, size) WHERE fresh = 1 AND parked IS NULL;
CREATE INDEX job_parked ON job (zone, parked) WHERE parked IS NOT NULL;
",
];

const ADD: &str = concat!(
    "
INSERT INTO job (zone, digest, key, size, repositories, added, due, stamp, attempts, fresh)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, 0, 1)
ON CONFLICT (zone, digest) DO UPDATE SET
    key = excluded.key,
    size = ",
    merged_size!("excluded.size"),
    ",
    repositories = excluded.repositories,
    due = min(due, excluded.due),
    stamp = excluded.stamp,
    fresh = 1,
    parked = NULL"
);

const SMALLEST: &str = "
SELECT digest, key, size, repositories, attempts, stamp FROM job
WHERE zone = ?1 AND fresh = 1 AND parked IS NULL AND size > 0 ORDER BY size LIMIT ?2";

const OLDEST: &str = "
SELECT digest, key, size, repositories, attempts, stamp FROM job
WHERE zone = ?1 AND fresh = 1 AND parked IS NULL ORDER BY due LIMIT ?2";

const RETRY: &str = "
SELECT digest, key, size, repositories, attempts, stamp FROM job
WHERE zone = ?1 AND fresh = 0 AND parked IS NULL AND due <= ?3 ORDER BY due LIMIT ?2";

const SMALL: &str = "
SELECT digest, key, size, repositories, attempts, stamp FROM job
WHERE zone = ?1 AND fresh = 1 AND parked IS NULL AND size > 0 AND size <= ?3 ORDER BY size LIMIT ?2";

const SMALL_RETRY: &str = "
SELECT digest, key, size, repositories, attempts, stamp FROM job
WHERE zone = ?1 AND fresh = 0 AND parked IS NULL AND due <= ?3 AND size > 0 AND size <= ?4 ORDER BY due LIMIT ?2";

// If a job is due later than any wait allows, it was written by a clock that ran ahead.
const AHEAD: &str = "
SELECT digest, key, size, repositories, attempts, stamp FROM job
WHERE zone = ?1 AND fresh = 0 AND parked IS NULL AND due > ?3 ORDER BY due LIMIT ?2";

const NEXT: &str = "SELECT min(due) FROM job WHERE zone = ?1 AND fresh = 0 AND parked IS NULL AND due > ?2";

const MAKE_DUE: &str =
    "UPDATE job SET due = ?2 WHERE zone = ?1 AND fresh = 0 AND parked IS NULL AND due > ?2";

const COUNTS: &str = "
SELECT zone, count(*) FILTER (WHERE parked IS NULL), total(max(size, 0)) FILTER (WHERE parked IS NULL),
       min(added) FILTER (WHERE parked IS NULL), count(failed) FILTER (WHERE parked IS NULL),
       total(attempts) FILTER (WHERE parked IS NULL),
       (SELECT error FROM job AS j WHERE j.zone = job.zone AND failed IS NOT NULL AND parked IS NULL
        ORDER BY failed DESC LIMIT 1),
       count(parked), total(max(size, 0)) FILTER (WHERE parked IS NOT NULL)
FROM job GROUP BY zone ORDER BY zone";

/// Reads, for a job that is added again, its repositories, and whether all its other columns stay the same.
const KNOWN: &str = concat!(
    "SELECT repositories, fresh = 1 AND parked IS NULL AND key = ?3 AND size IS ",
    merged_size!("?4"),
    " FROM job WHERE zone = ?1 AND digest = ?2"
);

/// Adds the job, or merges it into the existing one. If the existing job has the same values, only its stamp changes,
/// which is in no index. A manifest that is pushed over and over therefore costs little.
pub(super) fn add(db: &Connection, job: NewJob, now: SystemTime) -> Result<()> {
    let (zone, digest, key) = (&*job.target, job.blob.digest.to_string(), job.blob.key.as_str());
    let size = column(job.size);
    let known: Option<(String, bool)> = db
        .prepare_cached(KNOWN)?
        .query_row(params![zone, digest, key, size], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let stamp = fastrand::i64(..);
    let (known, same) = known.unwrap_or_default();
    let repositories = merge(lines(&known), job.repository).join("\n");
    if same && repositories == known {
        return restamp(db, zone, &digest, stamp);
    }
    db.prepare_cached(ADD)?.execute(params![zone, digest, key, size, repositories, to_millis(now), stamp])?;
    Ok(())
}

/// Changes the stamp. It tells the code that copies the job that the job was added again.
fn restamp(db: &Connection, zone: &str, digest: &str, stamp: i64) -> Result<()> {
    db.prepare_cached("UPDATE job SET stamp = ?3 WHERE zone = ?1 AND digest = ?2")?
        .execute(params![zone, digest, stamp])?;
    Ok(())
}

/// Returns the next job, or how long to wait for one.
pub(super) fn next(
    db: &Connection,
    zone: &Arc<str>,
    claims: u32,
    under_way: &[Digest],
    now: SystemTime,
    longest_wait: Duration,
) -> Result<Next> {
    let latest = to_millis(now + longest_wait);
    let now = to_millis(now);
    for choice in choices(claims) {
        let found = match choice {
            Choice::Smallest => first(db, SMALLEST, zone, under_way, &[])?,
            Choice::Oldest => first(db, OLDEST, zone, under_way, &[])?,
            Choice::Retry => first(db, RETRY, zone, under_way, &[now])?,
        };
        if let Some(job) = found {
            return Ok(Next::Job(job));
        }
    }
    if let Some(job) = first(db, AHEAD, zone, under_way, &[latest])? {
        return Ok(Next::Job(job));
    }
    let next: Option<i64> = db.prepare_cached(NEXT)?.query_row(params![&**zone, now], |row| row.get(0))?;
    let wait = next.map_or(longest_wait, |next| Duration::from_millis(unsigned(next - now)));
    Ok(Next::Wait(wait.min(longest_wait)))
}

/// Like [`next`], for jobs that are known to have at most `at_most` bytes.
pub(super) fn next_small(
    db: &Connection,
    zone: &Arc<str>,
    at_most: u64,
    under_way: &[Digest],
    now: SystemTime,
    longest_wait: Duration,
) -> Result<Next> {
    let at_most = i64::try_from(at_most).unwrap_or(i64::MAX);
    let fresh = first(db, SMALL, zone, under_way, &[at_most])?;
    let found = match fresh {
        None => first(db, SMALL_RETRY, zone, under_way, &[to_millis(now), at_most])?,
        fresh => fresh,
    };
    Ok(found.map_or(Next::Wait(longest_wait), Next::Job))
}

/// The first job that is not being copied.
fn first(
    db: &Connection,
    statement: &str,
    zone: &Arc<str>,
    under_way: &[Digest],
    more: &[i64],
) -> Result<Option<Job>> {
    let limit = i64::try_from(under_way.len()).unwrap_or(i64::MAX).saturating_add(1);
    let mut statement = db.prepare_cached(statement)?;
    let (zone_name, limit) = (&**zone, limit);
    let given: Vec<&dyn ToSql> =
        [&zone_name as &dyn ToSql, &limit].into_iter().chain(more.iter().map(|value| value as _)).collect();
    let mut rows = statement.query(&given[..])?;
    while let Some(row) = rows.next()? {
        let mut job = job(zone, row)?;
        if !under_way.contains(&job.blob.digest) {
            if tries::is_begun(db, &job)? {
                job.size = Some(0);
            }
            return Ok(Some(job));
        }
    }
    Ok(None)
}

/// Makes every job of a zone due that is not parked.
pub(super) fn make_due(db: &Connection, zone: &str, now: SystemTime) -> Result<()> {
    db.prepare_cached(MAKE_DUE)?.execute(params![zone, to_millis(now)])?;
    Ok(())
}

/// Makes every job of every zone due.
pub(super) fn make_all_due(db: &Connection, now: SystemTime) -> Result<()> {
    db.prepare_cached("UPDATE job SET due = ?1 WHERE fresh = 0 AND parked IS NULL AND due > ?1")?
        .execute([to_millis(now)])?;
    Ok(())
}

/// Counts the jobs of every zone that has any.
pub(super) fn counts(db: &Connection) -> Result<Vec<Count>> {
    db.prepare_cached(COUNTS)?
        .query_map([], |row| {
            Ok(Count {
                zone: row.get::<_, String>(0)?.into(),
                jobs: unsigned(row.get(1)?),
                bytes: row.get::<_, f64>(2)? as u64,
                oldest: row.get::<_, Option<i64>>(3)?.map(from_millis),
                failing: unsigned(row.get(4)?),
                attempts: row.get::<_, f64>(5)? as u64,
                last_error: row.get(6)?,
                parked: unsigned(row.get(7)?),
                parked_bytes: row.get::<_, f64>(8)? as u64,
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
    let (size, is_contradicted) = stated(row.get(2)?);
    Ok(Job {
        blob: Blob { digest, key: Key::new(row.get::<_, String>(1)?) },
        target: Arc::clone(zone),
        size,
        is_contradicted,
        repositories: lines(row.get_ref(3)?.as_str()?),
        attempts: u32::try_from(row.get::<_, i64>(4)?).unwrap_or(u32::MAX),
        stamp: row.get(5)?,
    })
}

pub(super) fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

pub(super) fn to_millis(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn from_millis(millis: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(unsigned(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However many jobs are parked or wait, a claim finds its job by an index, in the order of that index.
    #[test]
    fn a_claim_reads_by_an_index() {
        let db = Connection::open_in_memory().unwrap();
        MIGRATIONS.iter().for_each(|step| db.execute_batch(step).unwrap());
        for (statement, index) in [
            (SMALLEST, "job_size"),
            (OLDEST, "job_due"),
            (RETRY, "job_due"),
            (AHEAD, "job_due"),
            (NEXT, "job_due"),
            (MAKE_DUE, "job_due"),
        ] {
            let mut explained = db.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
            let mut rows = explained.raw_query();
            let mut plan = Vec::new();
            while let Some(row) = rows.next().unwrap() {
                plan.push(row.get::<_, String>(3).unwrap());
            }
            assert!(plan.len() == 1 && plan[0].contains(&format!("INDEX {index} (zone=?")), "{plan:?}");
        }
    }
}
