//! What operators and metrics read from the table, and what operators change.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use backends::Digest;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Result, Row, params};

use super::super::engine::{Answer, Inspect};
use super::super::size::stated;
use super::super::{AGES, Ages, Count, JobQuery, JobSelection, JobView, Outstanding, State};
use super::Sqlite;
use super::table::{self, from_millis, lines, to_millis, unsigned};

/// The jobs that one transaction reads, so that no transaction takes long.
const JOBS_PER_TRANSACTION: i64 = 5_000;

const DEPTH: &str = "SELECT count(*) FROM (SELECT 1 FROM job WHERE zone = ?1 AND parked IS NULL LIMIT ?2)";

/// The columns of a [`JobView`].
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

/// Parameters: zone or NULL, zone and digest of the previous page's last job, state or 0, limit.
const JOBS: &str = concat!(
    columns!(),
    "FROM job WHERE (?1 IS NULL OR zone = ?1) AND (zone, digest) > (?2, ?3) AND (?4 = 0 OR ",
    state!(),
    " = ?4) ORDER BY zone, digest LIMIT ?5"
);

/// Parameters: digest, zones.
const JOBS_OF: &str = concat!(
    columns!(),
    "FROM json_each(?2) AS asked JOIN job ON job.zone = asked.value AND digest = ?1 ORDER BY job.zone"
);

/// Parameters: zone, the digest after which to read, the number of digests. Returns the last of that many
/// digests, or no row if there are fewer.
const LAST: &str =
    "SELECT digest FROM job WHERE zone = ?1 AND digest > ?2 ORDER BY digest LIMIT 1 OFFSET ?3 - 1";

/// Makes jobs due that wait or are parked. Parameters: state or 0, now.
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

/// Further parameters: zone, digests.
const RETRY_THESE: &str = retry!("digest IN (SELECT value FROM json_each(?4))");

/// Further parameters: zone, the digest after which the range begins, the last digest or NULL. In SQLite a BLOB sorts
/// after every TEXT.
const RETRY_RANGE: &str = retry!("digest > ?4 AND digest <= coalesce(?5, x'')");

/// Parameters: zones, digests, now, why.
const PARK_BLOBS: &str = "
UPDATE job SET parked = ?3, error = ?4
WHERE zone IN (SELECT value FROM json_each(?1)) AND digest IN (SELECT value FROM json_each(?2)) AND parked IS NULL";

/// Parameter: zones.
const OUTSTANDING: &str = "
SELECT zones, count(*), total(max(size, 0)) FROM (
    SELECT sum(1 << asked.key) AS zones, max(size) AS size
    FROM json_each(?1) AS asked JOIN job ON job.zone = asked.value GROUP BY digest)
GROUP BY zones";

#[async_trait]
impl Inspect for Sqlite {
    async fn counts(&self) -> Answer<Vec<Count>> {
        self.inspect(table::counts).await
    }

    async fn depth(&self, zone: &Arc<str>, at_most: u64) -> Answer<u64> {
        let zone = Arc::clone(zone);
        let at_most = i64::try_from(at_most).unwrap_or(i64::MAX);
        let depth = self.inspect(move |db| {
            db.prepare_cached(DEPTH)?.query_row(params![&*zone, at_most], |row| row.get(0))
        });
        depth.await.map(unsigned)
    }

    async fn jobs(&self, query: JobQuery) -> Answer<Vec<JobView>> {
        self.inspect(move |db| {
            let (zone, digest) = query.after.unwrap_or_default();
            let (of, state) = (query.zone.as_deref(), State::number(query.state));
            let mut jobs = db.prepare_cached(JOBS)?;
            jobs.query_map(params![of, zone, digest, state, query.limit], job)?.collect()
        })
        .await
    }

    async fn jobs_of(&self, digest: &Digest, zones: &[Arc<str>]) -> Answer<Vec<JobView>> {
        let (digest, zones) = (digest.to_string(), json(zones.iter()));
        self.inspect(move |db| db.prepare_cached(JOBS_OF)?.query_map(params![digest, zones], job)?.collect())
            .await
    }

    async fn retry(&self, selection: &JobSelection) -> Answer<u64> {
        let (state, now) = (State::number(selection.state), to_millis(self.now()));
        let digests = selection.digests.as_ref().map(|digests| json(digests.iter()));
        let mut all = 0;
        for zone in selection.zones.iter().cloned() {
            if let Some(digests) = digests.clone() {
                let changed = self.write_returning(move |db| {
                    db.prepare_cached(RETRY_THESE)?.execute(params![state, now, &*zone, digests])
                });
                all += changed.await? as u64;
                continue;
            }
            let mut after = Some(String::new());
            while let Some(from) = after {
                let zone = Arc::clone(&zone);
                let (changed, last) = self
                    .write_returning(move |db| retry_some(db, state, now, &zone, &from, JOBS_PER_TRANSACTION))
                    .await?;
                (all, after) = (all + changed as u64, last);
            }
        }
        Ok(all)
    }

    async fn park_blobs(&self, digests: &[Digest], zones: &[Arc<str>], why: &str) -> Answer<u64> {
        let (zones, digests) = (json(zones.iter()), json(digests.iter()));
        let (now, why) = (to_millis(self.now()), why.to_owned());
        let changed = self.write_returning(move |db| {
            db.prepare_cached(PARK_BLOBS)?.execute(params![zones, digests, now, why])
        });
        Ok(changed.await? as u64)
    }

    async fn ages(&self) -> Answer<BTreeMap<Arc<str>, Ages>> {
        let now = to_millis(self.now());
        self.inspect(move |db| {
            let mut ages = db.prepare_cached(&ages_statement())?;
            ages.query_map([now], |row| {
                let mut ages = Ages { jobs: unsigned(row.get(1)?), ..Ages::default() };
                // The unit is milliseconds. If the clock was set back, an age is zero and not negative.
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

    async fn outstanding(&self, zones: &[Arc<str>]) -> Answer<Vec<Outstanding>> {
        let zones = json(zones.iter());
        self.inspect(move |db| {
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

/// Reads `many` jobs of a zone after this digest. Returns how many were made due, and, if there may be more, the digest
/// after which to continue.
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

/// For each zone: the number of jobs, the sum of their ages, and for each of [`AGES`] the number of jobs that
/// are no older.
fn ages_statement() -> String {
    let mut statement = "SELECT zone, count(*), total(?1 - added)".to_owned();
    for seconds in AGES {
        // Writing to a string does not fail.
        let _ = write!(statement, ", count(*) FILTER (WHERE added >= ?1 - {seconds}000)");
    }
    statement + " FROM job WHERE parked IS NULL GROUP BY zone"
}

/// A list for `json_each`. The name of a zone may contain any character.
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
        size: stated(row.get(2)?).0,
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
    fn each_transaction_continues_after_the_previous_one() {
        let mut db = Connection::open_in_memory().unwrap();
        migrate(&mut db).unwrap();
        let mut job = db
            .prepare(
                "INSERT INTO job (zone, digest, key, repositories, added, due, stamp, attempts, fresh, parked) \
                 VALUES (?1, ?2, '', '', 0, ?3, 0, 1, 0, ?4)",
            )
            .unwrap();
        for n in 0..10 {
            // The first four are due already.
            let (due, parked) = if n < 4 { (5, None) } else { (500, (n % 2 == 0).then_some(5)) };
            for zone in ["a", "b"] {
                job.execute(params![zone, format!("sha256:{n}"), due, parked]).unwrap();
            }
        }
        drop(job);
        let mut transactions = Vec::new();
        let mut after = Some(String::new());
        while let Some(from) = after {
            let (changed, last) = retry_some(&db, 0, 50, "a", &from, 3).unwrap();
            transactions.push((changed, last.clone().unwrap_or_default()));
            after = last;
        }
        let wanted = [(0, "sha256:2"), (2, "sha256:5"), (3, "sha256:8"), (1, "")];
        assert_eq!(transactions, wanted.map(|(changed, last)| (changed, last.to_owned())));
        let waits = "SELECT count(*) FROM job WHERE zone = ?1 AND (parked IS NOT NULL OR due > 50)";
        let waits = |zone| db.query_row(waits, [zone], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!((waits("a"), waits("b")), (0, 6));
    }

    #[test]
    fn a_transaction_reads_no_more_than_its_part() {
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
