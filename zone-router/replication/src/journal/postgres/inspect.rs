//! What operators and metrics read from the table, and what operators change.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use backends::Digest;

use super::super::engine::{Answer, Inspect};
use super::super::size::stated;
use super::super::{AGES, Ages, Count, JobQuery, JobSelection, JobView, Outstanding, State};
use super::{JOBS_PER_STATEMENT, Parameter, Postgres, Row, Type, statements, unsigned};

/// Parameters: zone, the highest count.
const DEPTH: &str = "
SELECT count(*) FROM (SELECT FROM quay_gateway_job WHERE zone = $1 AND parked IS NULL LIMIT $2) AS counted";

/// The columns of a [`JobView`].
macro_rules! columns {
    () => {
        "SELECT zone, digest, size, repositories, added, due, attempts, failed, error, parked FROM quay_gateway_job "
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
    "WHERE ($1 IS NULL OR zone = $1) AND (zone, digest) > ($2, $3) AND ($4 = 0 OR ",
    state!(),
    " = $4) ORDER BY zone, digest LIMIT $5"
);

/// Parameters: digest, zones.
const JOBS_OF: &str = concat!(columns!(), "WHERE digest = $1 AND zone = ANY ($2) ORDER BY zone");

/// Parameters: zone, digests or NULL, state or 0, the digest after which to read, the number of jobs to read. Returns
/// the last digest that was read, or NULL if there is none, and the number of jobs that were made due.
const RETRY: &str = concat!(
    "WITH these AS (SELECT digest FROM quay_gateway_job WHERE zone = $1 AND digest > $4 ",
    "AND ($2 IS NULL OR digest = ANY ($2)) ORDER BY digest LIMIT $5), ",
    "retried AS (UPDATE quay_gateway_job SET parked = NULL, due = now() WHERE zone = $1 AND digest IN (",
    "SELECT digest FROM quay_gateway_job WHERE zone = $1 AND digest > $4 ",
    "AND digest <= (SELECT max(digest) FROM these) AND ($2 IS NULL OR digest = ANY ($2)) AND ($3 = 0 OR ",
    state!(),
    " = $3) AND (parked IS NOT NULL OR (NOT fresh AND due > now())) ORDER BY digest FOR UPDATE SKIP LOCKED) ",
    "RETURNING zone), told AS (SELECT pg_notify('quay_gateway_job', zone) FROM (SELECT DISTINCT zone FROM retried) AS zones) ",
    "SELECT (SELECT max(digest) FROM these), (SELECT count(*) FROM retried), (SELECT count(*) FROM told)"
);

/// Parameters: zones, digests, why. Locks rows in the same order as adds, so that there is no deadlock.
const PARK_BLOBS: &str = "
WITH parked AS (
    UPDATE quay_gateway_job SET parked = now(), error = $3
    WHERE (zone, digest) IN (SELECT zone, digest FROM quay_gateway_job
                             WHERE zone = ANY ($1) AND digest = ANY ($2) AND parked IS NULL
                             ORDER BY zone, digest FOR UPDATE)
    RETURNING 1)
SELECT count(*) FROM parked";

/// Parameter: zones.
const OUTSTANDING: &str = "
SELECT zones, count(*), coalesce(sum(greatest(size, 0)), 0)::float8 FROM (
    SELECT sum(1::bigint << (asked.at - 1)::integer)::bigint AS zones, max(size) AS size
    FROM unnest($1) WITH ORDINALITY AS asked (zone, at) JOIN quay_gateway_job AS job USING (zone)
    GROUP BY digest) AS blobs
GROUP BY zones";

#[async_trait]
impl Inspect for Postgres {
    async fn counts(&self) -> Answer<Vec<Count>> {
        let rows = self.inspect(statements::COUNTS, &[]).await?;
        Ok(rows.iter().map(count).collect())
    }

    async fn depth(&self, zone: &Arc<str>, at_most: u64) -> Answer<u64> {
        let at_most = i64::try_from(at_most).unwrap_or(i64::MAX);
        let parameters: [Parameter<'_>; 2] = [(&&**zone, Type::TEXT), (&at_most, Type::INT8)];
        self.number(DEPTH, &parameters).await
    }

    async fn jobs(&self, query: JobQuery) -> Answer<Vec<JobView>> {
        let (zone, digest) = query.after.unwrap_or_default();
        let (of, state, limit) = (query.zone.as_deref(), State::number(query.state), i64::from(query.limit));
        let parameters: [Parameter<'_>; 5] = [
            (&of, Type::TEXT),
            (&zone, Type::TEXT),
            (&digest, Type::TEXT),
            (&state, Type::INT4),
            (&limit, Type::INT8),
        ];
        let rows = self.inspect(JOBS, &parameters).await?;
        rows.iter().map(|row| self.view(row)).collect()
    }

    async fn jobs_of(&self, digest: &Digest, zones: &[Arc<str>]) -> Answer<Vec<JobView>> {
        let (digest, zones) = (digest.to_string(), texts(zones.iter()));
        let parameters: [Parameter<'_>; 2] = [(&digest, Type::TEXT), (&zones, Type::TEXT_ARRAY)];
        let rows = self.inspect(JOBS_OF, &parameters).await?;
        rows.iter().map(|row| self.view(row)).collect()
    }

    async fn retry(&self, selection: &JobSelection) -> Answer<u64> {
        let digests = selection.digests.as_ref().map(|digests| texts(digests.iter()));
        let state = State::number(selection.state);
        let mut all = 0;
        for zone in &selection.zones {
            let mut after = String::new();
            loop {
                let parameters: [Parameter<'_>; 5] = [
                    (&&**zone, Type::TEXT),
                    (&digests, Type::TEXT_ARRAY),
                    (&state, Type::INT4),
                    (&after, Type::TEXT),
                    (&JOBS_PER_STATEMENT, Type::INT8),
                ];
                let rows = self.inspect(RETRY, &parameters).await?;
                let Some(row) = rows.first() else { break };
                all += unsigned(row.get(1));
                let Some(last) = row.get(0) else { break };
                after = last;
            }
        }
        Ok(all)
    }

    async fn park_blobs(&self, digests: &[Digest], zones: &[Arc<str>], why: &str) -> Answer<u64> {
        let (zones, digests) = (texts(zones.iter()), texts(digests.iter()));
        let parameters: [Parameter<'_>; 3] =
            [(&zones, Type::TEXT_ARRAY), (&digests, Type::TEXT_ARRAY), (&why, Type::TEXT)];
        self.number(PARK_BLOBS, &parameters).await
    }

    async fn ages(&self) -> Answer<BTreeMap<Arc<str>, Ages>> {
        let rows = self.inspect(&ages_statement(), &[]).await?;
        let ages = rows.iter().map(|row| {
            let mut ages = Ages { jobs: unsigned(row.get(1)), ..Ages::default() };
            ages.seconds = row.get::<_, f64>(2).max(0.0);
            for (at, count) in ages.up_to.iter_mut().enumerate() {
                *count = unsigned(row.get(3 + at));
            }
            (Arc::from(row.get::<_, &str>(0)), ages)
        });
        Ok(ages.collect())
    }

    async fn outstanding(&self, zones: &[Arc<str>]) -> Answer<Vec<Outstanding>> {
        let zones = texts(zones.iter());
        let rows = self.inspect(OUTSTANDING, &[(&zones, Type::TEXT_ARRAY)]).await?;
        let outstanding = rows.iter().map(|row| Outstanding {
            zones: unsigned(row.get(0)),
            blobs: unsigned(row.get(1)),
            bytes: row.get::<_, f64>(2) as u64,
        });
        Ok(outstanding.collect())
    }
}

impl Postgres {
    async fn number(&self, statement: &str, parameters: &[Parameter<'_>]) -> Answer<u64> {
        let rows = self.inspect(statement, parameters).await?;
        Ok(rows.first().map_or(0, |row| unsigned(row.get(0))))
    }

    fn view(&self, row: &Row) -> Answer<JobView> {
        let digest: &str = row.get(1);
        Ok(JobView {
            zone: row.get::<_, &str>(0).into(),
            digest: self.digest(digest)?,
            size: stated(row.get(2)).0,
            repositories: row.get(3),
            since: row.get(4),
            due: row.get(5),
            attempts: u32::try_from(row.get::<_, i32>(6)).unwrap_or(0),
            failed: row.get(7),
            error: row.get(8),
            parked: row.get(9),
        })
    }
}

fn texts<T: ToString>(texts: impl Iterator<Item = T>) -> Vec<String> {
    texts.map(|text| text.to_string()).collect()
}

/// For each zone: the number of jobs, the sum of their ages, and for each of [`AGES`] the number of jobs that
/// are no older.
fn ages_statement() -> String {
    let mut statement = "SELECT zone, count(*), sum(extract(epoch FROM now() - added))::float8".to_owned();
    for seconds in AGES {
        // Writing to a string does not fail.
        let _ =
            write!(statement, ", count(*) FILTER (WHERE added >= now() - make_interval(secs => {seconds}))");
    }
    statement + " FROM quay_gateway_job WHERE parked IS NULL GROUP BY zone"
}

fn count(row: &Row) -> Count {
    Count {
        zone: row.get::<_, String>(0).into(),
        jobs: unsigned(row.get(1)),
        bytes: row.get::<_, f64>(2) as u64,
        oldest: row.get(3),
        failing: unsigned(row.get(4)),
        attempts: unsigned(row.get(5)),
        last_error: row.get(6),
        parked: unsigned(row.get(7)),
        parked_bytes: row.get::<_, f64>(8) as u64,
    }
}
