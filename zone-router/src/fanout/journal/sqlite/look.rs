//! What operators ask of the table, and tell it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use backends::Digest;
use rusqlite::types::Type;
use rusqlite::{Result, Row, params};

use super::super::{AGES, Ages, JobView, JournalError, Outstanding, Shown, State, Which};
use super::Sqlite;
use super::table::{from_millis, lines, to_millis, unsigned};

/// Jobs that one transaction changes, so that none takes long.
const CHANGED: i64 = 5_000;

const DEPTH: &str = "SELECT count(*) FROM (SELECT 1 FROM job WHERE zone = ?1 AND parked IS NULL LIMIT ?2)";

/// What is shown of a job.
macro_rules! columns {
    () => {
        "SELECT job.zone, digest, size, repositories, added, due, attempts, failed, error, parked "
    };
}

/// A job's state as a number.
macro_rules! state {
    () => {
        "CASE WHEN parked IS NOT NULL THEN 3 WHEN failed IS NOT NULL THEN 2 ELSE 1 END"
    };
}

/// Zone or NULL, after which zone and digest, state or 0, how many.
const JOBS: &str = concat!(
    columns!(),
    "FROM job WHERE (?1 IS NULL OR zone = ?1) AND (zone, digest) > (?2, ?3) AND (?4 = 0 OR ",
    state!(),
    " = ?4) ORDER BY zone, digest LIMIT ?5"
);

/// Digest, zones.
const JOBS_OF: &str = concat!(
    columns!(),
    "FROM json_each(?2) AS asked JOIN job ON job.zone = asked.value AND digest = ?1 ORDER BY job.zone"
);

/// Zones, digests or NULL, state or 0, now, how many.
const RETRY: &str = concat!(
    "UPDATE job SET parked = NULL, due = ?4 WHERE (zone, digest) IN (SELECT zone, digest FROM job ",
    "WHERE zone IN (SELECT value FROM json_each(?1)) ",
    "AND (?2 IS NULL OR digest IN (SELECT value FROM json_each(?2))) AND (?3 = 0 OR ",
    state!(),
    " = ?3) AND (parked IS NOT NULL OR (fresh = 0 AND due > ?4)) LIMIT ?5)"
);

/// Zones, digests, now, why.
const SET_ASIDE: &str = "
UPDATE job SET parked = ?3, error = ?4
WHERE zone IN (SELECT value FROM json_each(?1)) AND digest IN (SELECT value FROM json_each(?2)) AND parked IS NULL";

/// Zones.
const OUTSTANDING: &str = "
SELECT zones, count(*), total(size) FROM (
    SELECT sum(1 << asked.key) AS zones, max(size) AS size
    FROM json_each(?1) AS asked JOIN job ON job.zone = asked.value GROUP BY digest)
GROUP BY zones";

impl Sqlite {
    pub(in super::super) async fn depth(&self, zone: &Arc<str>, at_most: u64) -> Answer<u64> {
        let zone = Arc::clone(zone);
        let at_most = i64::try_from(at_most).unwrap_or(i64::MAX);
        let depth = self
            .look(move |db| db.prepare_cached(DEPTH)?.query_row(params![&*zone, at_most], |row| row.get(0)));
        depth.await.map(unsigned)
    }

    pub(in super::super) async fn jobs(&self, shown: Shown) -> Answer<Vec<JobView>> {
        self.look(move |db| {
            let (zone, digest) = shown.after.unwrap_or_default();
            let (of, state) = (shown.zone.as_deref(), State::number(shown.state));
            let mut jobs = db.prepare_cached(JOBS)?;
            jobs.query_map(params![of, zone, digest, state, shown.limit], job)?.collect()
        })
        .await
    }

    pub(in super::super) async fn jobs_of(
        &self,
        digest: &Digest,
        zones: &[Arc<str>],
    ) -> Answer<Vec<JobView>> {
        let (digest, zones) = (digest.to_string(), json(zones.iter()));
        self.look(move |db| db.prepare_cached(JOBS_OF)?.query_map(params![digest, zones], job)?.collect())
            .await
    }

    pub(in super::super) async fn retry(&self, which: &Which) -> Answer<u64> {
        let zones = json(which.zones.iter());
        let digests = which.digests.as_ref().map(|digests| json(digests.iter()));
        let (state, now) = (State::number(which.state), to_millis(self.now()));
        let mut all = 0;
        loop {
            let (zones, digests) = (zones.clone(), digests.clone());
            let changed = self.change(move |db| {
                db.prepare_cached(RETRY)?.execute(params![zones, digests, state, now, CHANGED])
            });
            match changed.await? {
                0 => return Ok(all),
                some => all += some as u64,
            }
        }
    }

    pub(in super::super) async fn set_aside(
        &self,
        digests: &[Digest],
        zones: &[Arc<str>],
        why: String,
    ) -> Answer<u64> {
        let (zones, digests) = (json(zones.iter()), json(digests.iter()));
        let now = to_millis(self.now());
        let changed =
            self.change(move |db| db.prepare_cached(SET_ASIDE)?.execute(params![zones, digests, now, why]));
        Ok(changed.await? as u64)
    }

    pub(in super::super) async fn ages(&self) -> Answer<BTreeMap<Arc<str>, Ages>> {
        let now = to_millis(self.now());
        self.look(move |db| {
            let mut ages = db.prepare_cached(&ages_statement())?;
            ages.query_map([now], |row| {
                let mut ages = Ages { jobs: unsigned(row.get(1)?), ..Ages::default() };
                // Milliseconds; a clock that was set back makes no negative age.
                ages.seconds = row.get::<_, f64>(2)?.max(0.0) / 1000.0;
                for (at, count) in ages.up_to.iter_mut().enumerate() {
                    *count = unsigned(row.get(3 + at)?);
                }
                Ok((Arc::from(row.get::<_, String>(0)?), ages))
            })?
            .collect()
        })
        .await
    }

    pub(in super::super) async fn outstanding(&self, zones: &[Arc<str>]) -> Answer<Vec<Outstanding>> {
        let zones = json(zones.iter());
        self.look(move |db| {
            let mut outstanding = db.prepare_cached(OUTSTANDING)?;
            let rows = outstanding.query_map([zones], |row| {
                Ok(Outstanding {
                    zones: unsigned(row.get(0)?),
                    blobs: unsigned(row.get(1)?),
                    bytes: row.get::<_, f64>(2)? as u64,
                })
            })?;
            rows.collect()
        })
        .await
    }
}

type Answer<T> = std::result::Result<T, JournalError>;

/// By zone: how many, their ages together, and how many are no older than each of [`AGES`].
fn ages_statement() -> String {
    let mut statement = "SELECT zone, count(*), total(?1 - added)".to_owned();
    for seconds in AGES {
        // Writing to a string does not fail.
        let _ = write!(statement, ", count(*) FILTER (WHERE added >= ?1 - {seconds}000)");
    }
    statement + " FROM job WHERE parked IS NULL GROUP BY zone"
}

/// A list for `json_each`. Names of zones may hold anything.
fn json<T: ToString>(texts: impl Iterator<Item = T>) -> String {
    let quoted = texts.map(|text| {
        let mut quoted = String::from("\"");
        for c in text.to_string().chars() {
            match c {
                '"' | '\\' => quoted.extend(['\\', c]),
                // Writing to a string does not fail.
                c if c.is_control() => _ = write!(quoted, "\\u{:04x}", u32::from(c)),
                c => quoted.push(c),
            }
        }
        quoted + "\""
    });
    format!("[{}]", quoted.collect::<Vec<_>>().join(","))
}

fn job(row: &Row<'_>) -> Result<JobView> {
    let wrong = |error| rusqlite::Error::FromSqlConversionFailure(1, Type::Text, Box::new(error));
    let time = |at: usize| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(at)?.map(from_millis));
    Ok(JobView {
        zone: row.get::<_, String>(0)?.into(),
        digest: row.get_ref(1)?.as_str()?.parse().map_err(wrong)?,
        size: row.get::<_, Option<i64>>(2)?.map(unsigned),
        repositories: lines(row.get_ref(3)?.as_str()?),
        since: from_millis(row.get(4)?),
        due: from_millis(row.get(5)?),
        attempts: u32::try_from(row.get::<_, i64>(6)?).unwrap_or(u32::MAX),
        failed: time(7)?,
        error: row.get(8)?,
        parked: time(9)?,
    })
}
