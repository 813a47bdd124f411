//! The tables, and how they came to be.

use std::time::Instant;

use postgres_connection::{Client, Error};
use tracing::info;

/// The schema's version: as many steps have been taken.
pub(super) const VERSION: i64 = STEPS.len() as i64;

/// Held while steps are taken, so that of several replicas one takes them. A number of our own.
const LOCK: i64 = 0x7175_6179_6777;

/// Step by step. Names begin with `quay_gateway_`, so that the tables can stand beside Quay's.
const STEPS: [&str; 2] = [
    "
CREATE TABLE quay_gateway_job (
    zone         text COLLATE \"C\" NOT NULL,  -- the target
    digest       text COLLATE \"C\" NOT NULL,
    key          text NOT NULL,
    size         bigint,                       -- bytes, NULL if nobody said
    repositories text[] NOT NULL,              -- the latest first
    added        timestamptz NOT NULL,         -- when first
    due          timestamptz NOT NULL,         -- when to try next
    fresh        boolean NOT NULL,             -- not yet tried since it was last added
    stamp        bigint NOT NULL,              -- another one after every add
    attempts     integer NOT NULL,             -- failed tries
    failed       timestamptz,                  -- when last
    error        text,                         -- why last
    leased_by    bigint,                       -- a replica
    leased_until timestamptz,                  -- until when nobody else may have it
    PRIMARY KEY (zone, digest)
);
CREATE INDEX quay_gateway_job_due ON quay_gateway_job (zone, fresh, due);
CREATE INDEX quay_gateway_job_size ON quay_gateway_job (zone, size NULLS FIRST) WHERE fresh;
",
    "
ALTER TABLE quay_gateway_job ADD COLUMN parked timestamptz;  -- since when it is set aside, if it is; error says why
DROP INDEX quay_gateway_job_due;
DROP INDEX quay_gateway_job_size;
CREATE INDEX quay_gateway_job_due ON quay_gateway_job (zone, fresh, due) WHERE parked IS NULL;
CREATE INDEX quay_gateway_job_size ON quay_gateway_job (zone, size NULLS FIRST) WHERE fresh AND parked IS NULL;
CREATE INDEX quay_gateway_job_parked ON quay_gateway_job (zone, parked) WHERE parked IS NOT NULL;
",
];

const FOUND: &str = "SELECT version FROM quay_gateway_schema";

/// The version of the tables; 0 where there are none.
pub(super) async fn version(client: &Client) -> Result<i64, Error> {
    let there = client.query_one("SELECT to_regclass('quay_gateway_schema') IS NOT NULL", &[]).await?;
    if there.get(0) { Ok(client.query_one(FOUND, &[]).await?.get(0)) } else { Ok(0) }
}

/// Brings the tables up to date, and gives the version they have then. Takes minutes where they are
/// large, or somebody else does it: no statement in it has a bound.
pub(super) async fn migrate(client: &Client) -> Result<i64, Error> {
    let begun = Instant::now();
    // If anything fails, the connection is given up, and with it the transaction.
    client.batch_execute("BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0").await?;
    let alone = client.query_one(&format!("SELECT pg_try_advisory_xact_lock({LOCK})"), &[]).await?;
    if !alone.get::<_, bool>(0) {
        info!("the journal's tables are being brought up to date by somebody else: waiting");
        client.batch_execute(&format!("SELECT pg_advisory_xact_lock({LOCK})")).await?;
    }
    let table = "CREATE TABLE IF NOT EXISTS quay_gateway_schema (version bigint NOT NULL); \
         INSERT INTO quay_gateway_schema SELECT 0 WHERE NOT EXISTS (SELECT FROM quay_gateway_schema)";
    client.batch_execute(table).await?;
    let found: i64 = client.query_one(FOUND, &[]).await?.get(0);
    for (at, step) in STEPS.iter().enumerate().skip(usize::try_from(found).unwrap_or(0)) {
        info!(step = at + 1, of = VERSION, "the journal's tables are brought up to date");
        client.batch_execute(step).await?;
    }
    let end = format!("UPDATE quay_gateway_schema SET version = {VERSION} WHERE version < {VERSION}; COMMIT");
    client.batch_execute(&end).await?;
    if found < VERSION {
        info!(seconds = begun.elapsed().as_secs(), "the journal's tables are up to date");
    }
    Ok(found.max(VERSION))
}
