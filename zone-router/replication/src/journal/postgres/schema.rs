//! The tables and their migrations.

use std::time::Instant;

use postgres_connection::{Client, Error};
use tracing::info;

/// The schema's version: the number of migrations.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// The advisory lock under which one of several replicas migrates. The number is arbitrary.
const LOCK: i64 = 0x7175_6179_6777;

/// The migrations. The names begin with `quay_gateway_`, so that the tables can be in the same database as
/// Quay's.
const MIGRATIONS: [&str; 2] = [
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

const READ_VERSION: &str = "SELECT version FROM quay_gateway_schema";

/// The version of the tables. 0 if there are none.
pub(super) async fn version(client: &Client) -> Result<i64, Error> {
    let there = client.query_one("SELECT to_regclass('quay_gateway_schema') IS NOT NULL", &[]).await?;
    if there.get(0) { Ok(client.query_one(READ_VERSION, &[]).await?.get(0)) } else { Ok(0) }
}

/// Migrates the tables, and returns their version. This takes minutes if they are large, or if another
/// replica migrates them: its statements have no timeout.
pub(super) async fn migrate(client: &Client) -> Result<i64, Error> {
    let begun = Instant::now();
    // If anything fails, the connection is closed, which rolls the transaction back.
    client.batch_execute("BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0").await?;
    let alone = client.query_one(&format!("SELECT pg_try_advisory_xact_lock({LOCK})"), &[]).await?;
    if !alone.get::<_, bool>(0) {
        info!("another replica migrates the journal's tables: waiting");
        client.batch_execute(&format!("SELECT pg_advisory_xact_lock({LOCK})")).await?;
    }
    let table = "CREATE TABLE IF NOT EXISTS quay_gateway_schema (version bigint NOT NULL); \
         INSERT INTO quay_gateway_schema SELECT 0 WHERE NOT EXISTS (SELECT FROM quay_gateway_schema)";
    client.batch_execute(table).await?;
    let found: i64 = client.query_one(READ_VERSION, &[]).await?.get(0);
    for (at, migration) in MIGRATIONS.iter().enumerate().skip(usize::try_from(found).unwrap_or(0)) {
        info!(migration = at + 1, of = VERSION, "migrating the journal's tables");
        client.batch_execute(migration).await?;
    }
    let end = format!("UPDATE quay_gateway_schema SET version = {VERSION} WHERE version < {VERSION}; COMMIT");
    client.batch_execute(&end).await?;
    if found < VERSION {
        info!(seconds = begun.elapsed().as_secs(), "the journal's tables were migrated");
    }
    Ok(found.max(VERSION))
}
