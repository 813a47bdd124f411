//! Records which tries of jobs may have written, and how they ended.

use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension, Result, params};

use super::super::super::job::{FoundSize, Job};
use super::super::size::found_column;
use super::table::{from_millis, to_millis};

/// The jobs of which a try may have written, while the end of the try is not recorded. An earlier release ignores this
/// table. Therefore the table needs no migration, and that release can still open the file. This statement also removes
/// rows that such a release left behind.
pub(super) const BEGUN: &str = "
CREATE TABLE IF NOT EXISTS begun (
    zone   TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (zone, digest)
) STRICT, WITHOUT ROWID;
DELETE FROM begun WHERE NOT EXISTS (SELECT 1 FROM job WHERE job.zone = begun.zone AND job.digest = begun.digest)";

/// Whether a try of a job that is not being copied may have written without a record of its end.
pub(super) fn is_begun(db: &Connection, job: &Job) -> Result<bool> {
    db.prepare_cached("SELECT 1 FROM begun WHERE zone = ?1 AND digest = ?2")?
        .exists(params![&*job.target, job.blob.digest.to_string()])
}

/// Records that a try of a job may write from now on. If the job has the read mark, the try takes it: from now on the
/// job's size contains only what later adds state.
pub(super) fn begin(db: &Connection, job: &Job) -> Result<()> {
    let digest = job.blob.digest.to_string();
    db.prepare_cached("INSERT OR IGNORE INTO begun (zone, digest) VALUES (?1, ?2)")?
        .execute(params![&*job.target, digest])?;
    if job.must_read() {
        db.prepare_cached(
            "UPDATE job SET size = nullif(size, 0) WHERE zone = ?1 AND digest = ?2 AND stamp = ?3",
        )?
        .execute(params![&*job.target, digest, job.stamp])?;
    }
    Ok(())
}

/// Removes the record that a try may write.
fn end(db: &Connection, job: &Job) -> Result<()> {
    db.prepare_cached("DELETE FROM begun WHERE zone = ?1 AND digest = ?2")?
        .execute(params![&*job.target, job.blob.digest.to_string()])?;
    Ok(())
}

/// Records that a try has ended and proved nothing. If the job had the read mark when it was claimed, the mark is put
/// back, also if only the record of an earlier try demanded it.
fn end_undone(db: &Connection, job: &Job, in_doubt: bool) -> Result<()> {
    end(db, job)?;
    if in_doubt || job.must_read() {
        db.prepare_cached("UPDATE job SET size = 0 WHERE zone = ?1 AND digest = ?2")?
            .execute(params![&*job.target, job.blob.digest.to_string()])?;
    }
    Ok(())
}

/// Removes the job, unless it was added again since it was claimed. In that case, the job becomes due after the jobs
/// that wait; and if the object is not proven, a read mark is put back. Returns the time when the removed job was first
/// added.
pub(super) fn done(
    db: &Connection,
    job: &Job,
    now: SystemTime,
    is_proven: bool,
) -> Result<Option<SystemTime>> {
    match is_proven {
        true => end(db, job)?,
        false => end_undone(db, job, false)?,
    }
    let mut done =
        db.prepare_cached("DELETE FROM job WHERE zone = ?1 AND digest = ?2 AND stamp = ?3 RETURNING added")?;
    let row = params![&*job.target, job.blob.digest.to_string(), job.stamp];
    let added = done.query_row(row, |row| row.get(0)).optional()?;
    if added.is_none() {
        db.prepare_cached("UPDATE job SET due = ?3 WHERE zone = ?1 AND digest = ?2")?.execute(params![
            &*job.target,
            job.blob.digest.to_string(),
            to_millis(now)
        ])?;
    }
    Ok(added.map(from_millis))
}

/// Records a failed try and when to try again. If the job was added again since it was claimed, it stays due, after the
/// jobs that wait.
pub(super) fn failed(
    db: &Connection,
    job: &Job,
    now: SystemTime,
    due: SystemTime,
    error: &str,
    in_doubt: bool,
) -> Result<()> {
    end_undone(db, job, in_doubt)?;
    db.prepare_cached(
        "UPDATE job SET attempts = attempts + 1, failed = ?3, error = iif(parked IS NULL, ?5, error),
                        fresh = stamp <> ?6, due = iif(stamp = ?6, ?4, ?3)
         WHERE zone = ?1 AND digest = ?2",
    )?
    .execute(params![
        &*job.target,
        job.blob.digest.to_string(),
        to_millis(now),
        to_millis(due),
        error,
        job.stamp
    ])?;
    Ok(())
}

/// Records that a try ended without a write, and sets the size of its job. A read mark and contradicted sizes are kept.
pub(super) fn resize(db: &Connection, job: &Job, size: FoundSize) -> Result<()> {
    end_undone(db, job, false)?;
    db.prepare_cached(
        "UPDATE job SET size = CASE WHEN size = 0 OR ?3 = 0 THEN 0 WHEN size < 0 THEN size ELSE ?3 END
         WHERE zone = ?1 AND digest = ?2",
    )?
    .execute(params![&*job.target, job.blob.digest.to_string(), found_column(size)])?;
    Ok(())
}

/// Parks a job. If the job was added again since it was claimed, it stays due instead, after the jobs that wait. If it
/// is added later, it also comes after them.
pub(super) fn park(db: &Connection, job: &Job, now: SystemTime, why: &str) -> Result<()> {
    end_undone(db, job, false)?;
    db.prepare_cached(
        "UPDATE job SET attempts = attempts + 1, failed = ?3, error = iif(parked IS NULL, ?4, error),
                        fresh = stamp <> ?5, due = ?3, parked = iif(stamp = ?5, coalesce(parked, ?3), parked)
         WHERE zone = ?1 AND digest = ?2",
    )?
    .execute(params![&*job.target, job.blob.digest.to_string(), to_millis(now), why, job.stamp])?;
    Ok(())
}
