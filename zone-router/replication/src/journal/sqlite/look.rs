//! What operators ask of the table, and tell it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use backends::Digest;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Result, Row, params};

use super::super::{AGES, Ages, JobView, JournalError, Outstanding, Shown, State, Which};
use super::Sqlite;
use super::table::{from_millis, lines, to_millis, unsigned};

/// Jobs that one transaction looks at, so that none takes long.
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

/// Zone, after which digest, how many. The last of them, or NULL where there are no more.
const LAST: &str =
    "SELECT digest FROM job WHERE zone = ?1 AND digest > ?2 ORDER BY digest LIMIT 1 OFFSET ?3 - 1";

/// Of those that wait or are parked: state or 0, now.
macro_rules! retry {
    ($which:literal) => {
        concat!(
            "UPDATE job SET parked = NULL, due = ?2 WHERE zone = ?3 AND ",
            $which,
            " AND (?1 = 0 OR ",
            state!(),
            " = ?1) AND (parked IS NOT NULL OR (fresh = 0 AND due > ?2))"
        )
    };
}

/// And zone, digests.
const RETRY_THESE: &str = retry!("digest IN (SELECT value FROM json_each(?4))");

/// And zone, after which digest, up to which or NULL: a blob comes after every text.
const RETRY_RANGE: &str = retry!("digest > ?4 AND digest <= coalesce(?5, x'')");

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
        let (state, now) = (State::number(which.state), to_millis(self.now()));
        let digests = which.digests.as_ref().map(|digests| json(digests.iter()));
        let mut all = 0;
        for zone in which.zones.iter().cloned() {
            if let Some(digests) = digests.clone() {
                let changed = self.change(move |db| {
                    db.prepare_cached(RETRY_THESE)?.execute(params![state, now, &*zone, digests])
                });
                all += changed.await? as u64;
                continue;
            }
            let mut after = Some(String::new());
            while let Some(from) = after {
                let zone = Arc::clone(&zone);
                let (changed, last) =
                    self.change(move |db| retry_some(db, state, now, &zone, &from, CHANGED)).await?;
                (all, after) = (all + changed as u64, last);
            }
        }
        Ok(all)
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

/// Looks at so many jobs of a zone beyond this digest. How many were made due, and the last that was
/// looked at, where more may come.
fn retry_some(
    db: &Connection,
    state: i32,
    now: i64,
    zone: &str,
    after: &str,
    many: i64,
) -> Result<(usize, Option<String>)> {
    let mut last = db.prepare_cached(LAST)?;
    let last: Option<String> = last.query_row(params![zone, after, many], |row| row.get(0)).optional()?;
    let changed = db.prepare_cached(RETRY_RANGE)?.execute(params![state, now, zone, after, last])?;
    Ok((changed, last))
}

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

#[cfg(test)]
mod tests {
    use super::super::migrate;
    use super::*;

    #[test]
    fn each_round_goes_on_where_the_one_before_ended() {
        let mut db = Connection::open_in_memory().unwrap();
        migrate(&mut db).unwrap();
        let mut job = db
            .prepare(
                "INSERT INTO job (zone, digest, key, repositories, added, due, stamp, attempts, fresh, parked) \
                 VALUES (?1, ?2, '', '', 0, ?3, 0, 1, 0, ?4)",
            )
            .unwrap();
        for n in 0..10 {
            // Of the first, none is to be made due.
            let (due, parked) = if n < 4 { (5, None) } else { (500, (n % 2 == 0).then_some(5)) };
            for zone in ["a", "b"] {
                job.execute(params![zone, format!("sha256:{n}"), due, parked]).unwrap();
            }
        }
        drop(job);
        let mut rounds = Vec::new();
        let mut after = Some(String::new());
        while let Some(from) = after {
            let (changed, last) = retry_some(&db, 0, 50, "a", &from, 3).unwrap();
            rounds.push((changed, last.clone().unwrap_or_default()));
            after = last;
        }
        let wanted = [(0, "sha256:2"), (2, "sha256:5"), (3, "sha256:8"), (1, "")];
        assert_eq!(rounds, wanted.map(|(changed, last)| (changed, last.to_owned())));
        let waits = "SELECT count(*) FROM job WHERE zone = ?1 AND (parked IS NOT NULL OR due > 50)";
        let waits = |zone| db.query_row(waits, [zone], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!((waits("a"), waits("b")), (0, 6));
    }

    #[test]
    fn a_round_reads_no_more_than_its_part() {
        let mut db = Connection::open_in_memory().unwrap();
        migrate(&mut db).unwrap();
        for (statement, range) in
            [(LAST, "zone=? AND digest>?"), (RETRY_RANGE, "zone=? AND digest>? AND digest<?")]
        {
            let mut explained = db.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
            let mut rows = explained.raw_query();
            let plan: String = rows.next().unwrap().unwrap().get(3).unwrap();
            assert!(plan.contains(&format!("PRIMARY KEY ({range})")), "{plan}");
        }
    }
}
