//! The journal in a PostgreSQL database, for any number of replicas, none of which is a leader.
//!
//! A replica that claims a job has a lease on it. Until the lease ends, nobody else gets the job. If a
//! replica dies, another one gets its jobs. `NOTIFY` tells all replicas about added jobs. A replica that
//! misses a notification asks again after [`POLL`].

mod inspect;
mod schema;
mod statements;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backends::{Digest, Key};
use postgres_connection::{Client, Database, Parameter, PostgresError, Purpose, Row, SharedConnection, Type};
use rustls::ClientConfig;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::warn;
use zone_router::Blob;

use super::super::job::{FoundSize, Job, MAX_REPOSITORIES, NewJob};
use super::claim_order::{Choice, choices};
use super::engine::{Answer, Engine};
use super::size::{column, found_column, merged, stated};
use super::wake_ups::WakeUps;
use super::{JournalError, Next};

/// How long a job belongs to a replica after the replica claimed it or renewed its lease.
pub const LEASE: Duration = Duration::from_secs(20);

/// The timeout for a migration of large tables, and for waiting for a replica that runs one.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// The timeout of any other step on a new connection.
const SET_UP_TIMEOUT: Duration = Duration::from_secs(5);

/// The time between two renewals of a lease.
const RENEWAL: Duration = Duration::from_secs(5);

/// The longest time that a lane without work waits before it asks again.
const POLL: Duration = Duration::from_secs(5);

/// The jobs that one statement makes due, so that no statement takes long.
const JOBS_PER_STATEMENT: i64 = 5_000;

/// The channel of notifications. The payload is a zone that has new jobs.
const CHANNEL: &str = "quay_gateway_job";

/// Prepares a connection for the journal. With wake-ups, the connection also listens for new jobs.
#[derive(Debug)]
struct JournalConnection(Option<WakeUps>);

#[async_trait]
impl Purpose for JournalConnection {
    fn name(&self) -> &'static str {
        "the journal's database"
    }

    fn prepare_timeout(&self) -> Duration {
        MIGRATION_TIMEOUT
    }

    async fn prepare(&self, database: &Database, client: &Client) -> Result<(), PostgresError> {
        let said = |error| PostgresError::said(database, &error);
        let late = |_| PostgresError::Late(SET_UP_TIMEOUT);
        let mut found =
            timeout(SET_UP_TIMEOUT, schema::version(client)).await.map_err(late)?.map_err(said)?;
        if found < schema::VERSION {
            found = schema::migrate(client).await.map_err(said)?;
        }
        if found > schema::VERSION {
            let place = database.place().to_owned();
            return Err(PostgresError::Newer { place, found, known: schema::VERSION });
        }
        if self.0.is_some() {
            let listen = format!("LISTEN {CHANNEL}");
            timeout(SET_UP_TIMEOUT, client.batch_execute(&listen)).await.map_err(late)?.map_err(said)?;
        }
        Ok(())
    }

    fn connected(&self) {
        if let Some(wake_ups) = &self.0 {
            wake_ups.wake_all();
        }
    }

    fn notified(&self, channel: &str, payload: &str) {
        if let Some(wake_ups) = self.0.as_ref().filter(|_| channel == CHANNEL) {
            wake_ups.wake(payload);
        }
    }
}

/// One replica's connections to the shared journal.
#[derive(Debug)]
pub(super) struct Postgres {
    database: Database,
    /// The connection for pushes, which must not wait for statements of lanes.
    pushes: SharedConnection,
    lanes: SharedConnection,
    /// The connection for statements that read many jobs, so that neither pushes nor lanes wait for them.
    inspections: SharedConnection,
    /// Identifies this process. It does not own the leases of an earlier process on the same machine.
    replica: i64,
    _end: DropGuard,
}

impl Postgres {
    pub(super) async fn connect(database: Database, tls: &ClientConfig, wake_ups: WakeUps) -> Answer<Self> {
        let end = CancellationToken::new();
        let pushes = SharedConnection::keep(&database, tls, Arc::new(JournalConnection(None)), end.clone());
        let lanes =
            SharedConnection::keep(&database, tls, Arc::new(JournalConnection(Some(wake_ups))), end.clone());
        let inspections =
            SharedConnection::keep(&database, tls, Arc::new(JournalConnection(None)), end.clone());
        let replica = fastrand::i64(..);
        let postgres = Self { database, pushes, lanes, inspections, replica, _end: end.drop_guard() };
        match postgres.pushes.started().await.map_err(JournalError::from) {
            Err(error) if error.is_lasting() => Err(error),
            Err(error) => {
                warn!(%error, "the journal's database cannot be reached: copies are not queued until it can be");
                Ok(postgres)
            }
            Ok(()) => Ok(postgres),
        }
    }

    async fn renew(&self, job: &Job) -> Answer<bool> {
        let (zone, digest, lease) = (&*job.target, job.blob.digest.to_string(), LEASE.as_secs_f64());
        let parameters: [Parameter<'_>; 4] =
            [(&zone, Type::TEXT), (&digest, Type::TEXT), (&self.replica, Type::INT8), (&lease, Type::FLOAT8)];
        Ok(!self.query(&self.lanes, statements::RENEW, &parameters).await?.is_empty())
    }

    async fn query(
        &self,
        connection: &SharedConnection,
        statement: &str,
        parameters: &[Parameter<'_>],
    ) -> Answer<Vec<Row>> {
        connection.query(statement, parameters).await.map_err(JournalError::from)
    }

    async fn inspect(&self, statement: &str, parameters: &[Parameter<'_>]) -> Answer<Vec<Row>> {
        self.inspections.query_slow(statement, parameters).await.map_err(JournalError::from)
    }

    /// Ends the lease of a job that stays. `to_read` sets the read mark. `behind` puts the job after the jobs that
    /// wait.
    async fn end(&self, job: &Job, to_read: bool, behind: bool) -> Answer<()> {
        let (zone, digest) = (&*job.target, job.blob.digest.to_string());
        let parameters: [Parameter<'_>; 5] = [
            (&zone, Type::TEXT),
            (&self.replica, Type::INT8),
            (&digest, Type::TEXT),
            (&to_read, Type::BOOL),
            (&behind, Type::BOOL),
        ];
        self.query(&self.lanes, statements::END_LEASE, &parameters).await.map(drop)
    }

    fn job(&self, zone: &Arc<str>, row: &Row) -> Answer<Job> {
        let digest = self.digest(row.get(0))?;
        let (size, is_contradicted) = stated(row.get(2));
        Ok(Job {
            blob: Blob { digest, key: Key::new(row.get::<_, String>(1)) },
            target: Arc::clone(zone),
            size,
            is_contradicted,
            repositories: row.get(3),
            attempts: u32::try_from(row.get::<_, i32>(4)).unwrap_or(0),
            stamp: row.get(5),
        })
    }

    fn digest(&self, text: &str) -> Answer<Digest> {
        text.parse().map_err(|_| JournalError::Refused {
            place: self.database.place().to_owned(),
            why: "quay_gateway_job has a row with an invalid digest".to_owned(),
            lasting: false,
        })
    }
}

#[async_trait]
impl Engine for Postgres {
    async fn add(&self, jobs: Vec<NewJob>) -> Answer<()> {
        let added = Added::of(jobs);
        let stamp = fastrand::i64(..);
        let repositories = i32::try_from(MAX_REPOSITORIES).unwrap_or(i32::MAX);
        let parameters: [Parameter<'_>; 7] = [
            (&added.zones, Type::TEXT_ARRAY),
            (&added.digests, Type::TEXT_ARRAY),
            (&added.keys, Type::TEXT_ARRAY),
            (&added.sizes, Type::INT8_ARRAY),
            (&added.repositories, Type::TEXT_ARRAY),
            (&stamp, Type::INT8),
            (&repositories, Type::INT4),
        ];
        self.query(&self.pushes, statements::ADD, &parameters).await.map(drop)
    }

    async fn claim(
        &self,
        zone: &Arc<str>,
        claims: u32,
        under_way: Vec<Digest>,
        longest_wait: Duration,
    ) -> Answer<Next> {
        let zone_name = &**zone;
        let under_way: Vec<String> = under_way.iter().map(Digest::to_string).collect();
        let (lease, ahead) = (LEASE.as_secs_f64(), longest_wait.as_secs_f64());
        let parameters: [Parameter<'_>; 5] = [
            (&zone_name, Type::TEXT),
            (&under_way, Type::TEXT_ARRAY),
            (&self.replica, Type::INT8),
            (&lease, Type::FLOAT8),
            (&ahead, Type::FLOAT8),
        ];
        let choices = choices(claims).iter().map(|choice| match choice {
            Choice::Smallest => (statements::SMALLEST, 4),
            Choice::Oldest => (statements::OLDEST, 4),
            Choice::Retry => (statements::RETRY, 4),
        });
        for (statement, count) in choices.chain([(statements::AHEAD, 5)]) {
            if let Some(row) = self.query(&self.lanes, statement, &parameters[..count]).await?.first() {
                return Ok(Next::Job(self.job(zone, row)?));
            }
        }
        let rows = self.query(&self.lanes, statements::WAIT, &parameters[..1]).await?;
        let seconds: Option<f64> = rows.first().and_then(|row| row.get(0));
        let due = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Ok(Next::Wait(due.unwrap_or(longest_wait).min(longest_wait).min(POLL)))
    }

    async fn claim_small(
        &self,
        zone: &Arc<str>,
        at_most: u64,
        under_way: Vec<Digest>,
        longest_wait: Duration,
    ) -> Answer<Next> {
        let (zone_name, lease) = (&**zone, LEASE.as_secs_f64());
        let under_way: Vec<String> = under_way.iter().map(Digest::to_string).collect();
        let at_most = i64::try_from(at_most).unwrap_or(i64::MAX);
        let parameters: [Parameter<'_>; 5] = [
            (&zone_name, Type::TEXT),
            (&under_way, Type::TEXT_ARRAY),
            (&self.replica, Type::INT8),
            (&lease, Type::FLOAT8),
            (&at_most, Type::INT8),
        ];
        for statement in [statements::SMALL, statements::SMALL_RETRY] {
            if let Some(row) = self.query(&self.lanes, statement, &parameters).await?.first() {
                return Ok(Next::Job(self.job(zone, row)?));
            }
        }
        Ok(Next::Wait(longest_wait.min(POLL)))
    }

    async fn renew_until_lost(&self, job: &Job, claimed: Instant) {
        let mut until = claimed + LEASE;
        loop {
            sleep_until(until.min(Instant::now() + RENEWAL)).await;
            let asked = Instant::now();
            match timeout_at(until, self.renew(job)).await {
                Ok(Ok(true)) => until = asked + LEASE,
                Ok(Ok(false)) | Err(_) => return,
                Ok(Err(error)) => warn!(%error, "a lease is not renewed"),
            }
        }
    }

    async fn release(&self, zone: &Arc<str>) -> Answer<()> {
        let parameters: [Parameter<'_>; 2] = [(&&**zone, Type::TEXT), (&self.replica, Type::INT8)];
        self.query(&self.lanes, statements::RELEASE, &parameters).await.map(drop)
    }

    async fn done(&self, job: &Job, is_proven: bool) -> Answer<Option<Duration>> {
        let (zone, digest) = (&*job.target, job.blob.digest.to_string());
        let parameters: [Parameter<'_>; 4] = [
            (&zone, Type::TEXT),
            (&digest, Type::TEXT),
            (&self.replica, Type::INT8),
            (&job.stamp, Type::INT8),
        ];
        match self.query(&self.lanes, statements::DONE, &parameters).await?.first() {
            // The job was added again, or belongs to another replica by now.
            None => self.end(job, !is_proven && had_zero(job), true).await.map(|()| None),
            Some(row) => Ok(Duration::try_from_secs_f64(row.get(0)).ok()),
        }
    }

    async fn failed(&self, job: &Job, delay: Duration, error: &str, in_doubt: bool) -> Answer<()> {
        let (zone, digest, delay) = (&*job.target, job.blob.digest.to_string(), delay.as_secs_f64());
        let to_read = in_doubt || had_zero(job);
        // PostgreSQL allows no NUL in text, and a reason contains no control characters.
        let parameters: [Parameter<'_>; 7] = [
            (&zone, Type::TEXT),
            (&digest, Type::TEXT),
            (&self.replica, Type::INT8),
            (&job.stamp, Type::INT8),
            (&delay, Type::FLOAT8),
            (&error, Type::TEXT),
            (&to_read, Type::BOOL),
        ];
        self.query(&self.lanes, statements::FAILED, &parameters).await.map(drop)
    }

    async fn resize(&self, job: &Job, size: FoundSize) -> Answer<()> {
        let (zone, digest) = (&*job.target, job.blob.digest.to_string());
        let size = found_column(size);
        let parameters: [Parameter<'_>; 4] =
            [(&zone, Type::TEXT), (&digest, Type::TEXT), (&self.replica, Type::INT8), (&size, Type::INT8)];
        self.query(&self.lanes, statements::RESIZE, &parameters).await.map(drop)
    }

    async fn end_lease(&self, job: &Job) -> Answer<()> {
        self.end(job, had_zero(job), false).await
    }

    async fn park(&self, job: &Job, why: &str) -> Answer<()> {
        let (zone, digest, to_read) = (&*job.target, job.blob.digest.to_string(), had_zero(job));
        let parameters: [Parameter<'_>; 6] = [
            (&zone, Type::TEXT),
            (&digest, Type::TEXT),
            (&self.replica, Type::INT8),
            (&job.stamp, Type::INT8),
            (&why, Type::TEXT),
            (&to_read, Type::BOOL),
        ];
        self.query(&self.lanes, statements::PARK, &parameters).await.map(drop)
    }

    async fn make_due(&self, zone: &Arc<str>) -> Answer<()> {
        let parameters: [Parameter<'_>; 2] = [(&&**zone, Type::TEXT), (&JOBS_PER_STATEMENT, Type::INT8)];
        while !self.query(&self.lanes, statements::MAKE_DUE, &parameters).await?.is_empty() {}
        Ok(())
    }
}

/// Jobs as columns, sorted by zone and digest, each job once.
#[derive(Default)]
struct Added {
    zones: Vec<String>,
    digests: Vec<String>,
    keys: Vec<String>,
    sizes: Vec<Option<i64>>,
    repositories: Vec<Option<String>>,
}

impl Added {
    fn of(jobs: Vec<NewJob>) -> Self {
        let mut once = BTreeMap::new();
        for job in jobs {
            let name = (Arc::clone(&job.target), job.blob.digest.to_string());
            let size = column(job.size);
            let before = once.get(&name).and_then(|(_, size): &(NewJob, _)| *size);
            once.insert(name, (job, merged(before, size)));
        }
        let mut added = Self::default();
        for ((zone, digest), (job, size)) in once {
            added.zones.push(zone.to_string());
            added.digests.push(digest);
            added.keys.push(job.blob.key.as_str().to_owned());
            added.sizes.push(size);
            added.repositories.push(job.repository);
        }
        added
    }
}

/// Whether the claim took a read mark from the job. A try that proves nothing puts it back.
fn had_zero(job: &Job) -> bool {
    job.size == Some(0)
}

pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
