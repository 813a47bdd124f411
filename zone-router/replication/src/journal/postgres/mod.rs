//! The journal in a PostgreSQL database, for any number of replicas, none of them a leader.
//!
//! Who claims a job holds it by a lease: until that ends nobody else gets it, and a replica that
//! dies loses it to another. Added jobs are told to all by `NOTIFY`; whoever does not hear it looks
//! again after [`POLL`].

mod look;
mod schema;
mod statements;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backends::{Digest, Key};
use postgres_connection::{Client, Database, Line, Parameter, PostgresError, Purpose, Row, Type};
use rustls::ClientConfig;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::warn;
use zone_router::Blob;

use super::super::job::{Job, MAX_REPOSITORIES, NewJob};
use super::bells::Bells;
use super::turn::{Pick, picks};
use super::{Count, JournalError, Next};

/// How long a job is a replica's own after it was claimed, or its lease renewed.
pub const LEASE: Duration = Duration::from_secs(20);

/// How long bringing large tables up to date may take, or waiting for a replica that does it.
const MIGRATION: Duration = Duration::from_secs(30 * 60);

/// How long a new connection may take for anything else.
const READY: Duration = Duration::from_secs(5);

/// Between renewals of a lease.
const RENEWAL: Duration = Duration::from_secs(5);

/// A lane without work looks again after so long, whatever it was told.
const POLL: Duration = Duration::from_secs(5);

/// Jobs made due by one statement, so that none takes long.
const HASTENED: i64 = 5_000;

/// Channel that zones with new jobs are told on.
const CHANNEL: &str = "quay_gateway_job";

/// What a connection is for: jobs. Where it has bells, it hears of new ones.
#[derive(Debug)]
struct Jobs(Option<Bells>);

#[async_trait]
impl Purpose for Jobs {
    fn whose(&self) -> &'static str {
        "the journal's database"
    }

    fn patience(&self) -> Duration {
        MIGRATION
    }

    async fn prepare(&self, database: &Database, client: &Client) -> Result<(), PostgresError> {
        let said = |error| PostgresError::said(database, &error);
        let late = |_| PostgresError::Late(READY);
        let mut found = timeout(READY, schema::version(client)).await.map_err(late)?.map_err(said)?;
        if found < schema::VERSION {
            found = schema::migrate(client).await.map_err(said)?;
        }
        if found > schema::VERSION {
            let place = database.place().to_owned();
            return Err(PostgresError::Newer { place, found, known: schema::VERSION });
        }
        if self.0.is_some() {
            let listen = format!("LISTEN {CHANNEL}");
            timeout(READY, client.batch_execute(&listen)).await.map_err(late)?.map_err(said)?;
        }
        Ok(())
    }

    fn up(&self) {
        if let Some(bells) = &self.0 {
            bells.ring_all();
        }
    }

    fn told(&self, channel: &str, payload: &str) {
        if let Some(bells) = self.0.as_ref().filter(|_| channel == CHANNEL) {
            bells.ring(payload);
        }
    }
}

/// One replica's part in the journal.
#[derive(Debug)]
pub(super) struct Postgres {
    database: Database,
    /// For pushes, which must not wait behind what lanes ask.
    pushes: Line,
    lanes: Line,
    /// For what reads many jobs, which neither waits behind.
    looks: Line,
    /// Which replica this is, since its start: what an earlier process had leased is not its own.
    replica: i64,
    _end: DropGuard,
}

impl Postgres {
    pub(super) async fn connect(
        database: Database,
        tls: &ClientConfig,
        bells: Bells,
    ) -> Result<Self, JournalError> {
        let end = CancellationToken::new();
        let pushes = Line::keep(&database, tls, Arc::new(Jobs(None)), end.clone());
        let lanes = Line::keep(&database, tls, Arc::new(Jobs(Some(bells))), end.clone());
        let looks = Line::keep(&database, tls, Arc::new(Jobs(None)), end.clone());
        let replica = fastrand::i64(..);
        let postgres = Self { database, pushes, lanes, looks, replica, _end: end.drop_guard() };
        match postgres.pushes.started().await.map_err(JournalError::from) {
            Err(error) if error.is_lasting() => Err(error),
            Err(error) => {
                warn!(%error, "the journal's database is away: copies are not queued until it is there");
                Ok(postgres)
            }
            Ok(()) => Ok(postgres),
        }
    }

    pub(super) async fn add(&self, jobs: Vec<NewJob>) -> Result<(), JournalError> {
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
        self.ask(&self.pushes, statements::ADD, &parameters).await.map(drop)
    }

    pub(super) async fn claim(
        &self,
        zone: &Arc<str>,
        turn: u32,
        under_way: Vec<Digest>,
        horizon: Duration,
    ) -> Result<Next, JournalError> {
        let zone_name = &**zone;
        let under_way: Vec<String> = under_way.iter().map(Digest::to_string).collect();
        let (lease, ahead) = (LEASE.as_secs_f64(), horizon.as_secs_f64());
        let parameters: [Parameter<'_>; 5] = [
            (&zone_name, Type::TEXT),
            (&under_way, Type::TEXT_ARRAY),
            (&self.replica, Type::INT8),
            (&lease, Type::FLOAT8),
            (&ahead, Type::FLOAT8),
        ];
        let [first, second] = picks(turn).map(|pick| match pick {
            Pick::Smallest => statements::SMALLEST,
            Pick::Oldest => statements::OLDEST,
            Pick::Retry => statements::RETRY,
        });
        for (statement, count) in [(first, 4), (second, 4), (statements::AHEAD, 5)] {
            if let Some(row) = self.ask(&self.lanes, statement, &parameters[..count]).await?.first() {
                return Ok(Next::Job(self.job(zone, row)?));
            }
        }
        let rows = self.ask(&self.lanes, statements::WAIT, &parameters[..1]).await?;
        let seconds: Option<f64> = rows.first().and_then(|row| row.get(0));
        let due = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Ok(Next::Wait(due.unwrap_or(horizon).min(horizon).min(POLL)))
    }

    pub(super) async fn claim_small(
        &self,
        zone: &Arc<str>,
        at_most: u64,
        under_way: Vec<Digest>,
        horizon: Duration,
    ) -> Result<Next, JournalError> {
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
            if let Some(row) = self.ask(&self.lanes, statement, &parameters).await?.first() {
                return Ok(Next::Job(self.job(zone, row)?));
            }
        }
        Ok(Next::Wait(horizon.min(POLL)))
    }

    /// Renews the lease while it is waited for; returns when it is lost, or may be.
    pub(super) async fn hold(&self, job: &Job, claimed: Instant) {
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

    async fn renew(&self, job: &Job) -> Result<bool, JournalError> {
        let (zone, digest, lease) = (&*job.target, job.blob.digest.to_string(), LEASE.as_secs_f64());
        let parameters: [Parameter<'_>; 4] =
            [(&zone, Type::TEXT), (&digest, Type::TEXT), (&self.replica, Type::INT8), (&lease, Type::FLOAT8)];
        Ok(!self.ask(&self.lanes, statements::RENEW, &parameters).await?.is_empty())
    }

    pub(super) async fn release(&self, zone: &Arc<str>) -> Result<(), JournalError> {
        self.give_back(zone, None).await
    }

    /// Ends our lease of one job, or of all of a zone.
    pub(super) async fn give_back(&self, zone: &str, digest: Option<String>) -> Result<(), JournalError> {
        let parameters: [Parameter<'_>; 3] =
            [(&zone, Type::TEXT), (&self.replica, Type::INT8), (&digest, Type::TEXT)];
        self.ask(&self.lanes, statements::RELEASE, &parameters).await.map(drop)
    }

    /// How long it took from when it was added, if it is gone now.
    pub(super) async fn done(&self, job: &Job) -> Result<Option<Duration>, JournalError> {
        let (zone, digest) = (&*job.target, job.blob.digest.to_string());
        let parameters: [Parameter<'_>; 4] = [
            (&zone, Type::TEXT),
            (&digest, Type::TEXT),
            (&self.replica, Type::INT8),
            (&job.stamp, Type::INT8),
        ];
        match self.ask(&self.lanes, statements::DONE, &parameters).await?.first() {
            // Added again, or another's by now.
            None => self.give_back(zone, Some(digest)).await.map(|()| None),
            Some(row) => Ok(Duration::try_from_secs_f64(row.get(0)).ok()),
        }
    }

    pub(super) async fn failed(&self, job: &Job, delay: Duration, error: &str) -> Result<(), JournalError> {
        let (zone, digest, delay) = (&*job.target, job.blob.digest.to_string(), delay.as_secs_f64());
        // PostgreSQL has no NUL in text; a reason has no control characters.
        let parameters: [Parameter<'_>; 6] = [
            (&zone, Type::TEXT),
            (&digest, Type::TEXT),
            (&self.replica, Type::INT8),
            (&job.stamp, Type::INT8),
            (&delay, Type::FLOAT8),
            (&error, Type::TEXT),
        ];
        self.ask(&self.lanes, statements::FAILED, &parameters).await.map(drop)
    }

    /// Sets the size of a job that is ours.
    pub(super) async fn resize(&self, job: &Job, size: u64) -> Result<(), JournalError> {
        let (zone, digest) = (&*job.target, job.blob.digest.to_string());
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        let parameters: [Parameter<'_>; 4] =
            [(&zone, Type::TEXT), (&digest, Type::TEXT), (&self.replica, Type::INT8), (&size, Type::INT8)];
        self.ask(&self.lanes, statements::RESIZE, &parameters).await.map(drop)
    }

    pub(super) async fn park(&self, job: &Job, why: &str) -> Result<(), JournalError> {
        let (zone, digest) = (&*job.target, job.blob.digest.to_string());
        let parameters: [Parameter<'_>; 5] = [
            (&zone, Type::TEXT),
            (&digest, Type::TEXT),
            (&self.replica, Type::INT8),
            (&job.stamp, Type::INT8),
            (&why, Type::TEXT),
        ];
        self.ask(&self.lanes, statements::PARK, &parameters).await.map(drop)
    }

    pub(super) async fn hasten(&self, zone: &Arc<str>) -> Result<(), JournalError> {
        let parameters: [Parameter<'_>; 2] = [(&&**zone, Type::TEXT), (&HASTENED, Type::INT8)];
        while !self.ask(&self.lanes, statements::HASTEN, &parameters).await?.is_empty() {}
        Ok(())
    }

    pub(super) async fn counts(&self) -> Result<Vec<Count>, JournalError> {
        let rows = self.look(statements::COUNTS, &[]).await?;
        Ok(rows.iter().map(count).collect())
    }

    async fn ask(
        &self,
        line: &Line,
        statement: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, JournalError> {
        line.ask(statement, parameters).await.map_err(JournalError::from)
    }

    async fn look(&self, statement: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, JournalError> {
        self.looks.look(statement, parameters).await.map_err(JournalError::from)
    }

    fn job(&self, zone: &Arc<str>, row: &Row) -> Result<Job, JournalError> {
        let digest = self.digest(row.get(0))?;
        Ok(Job {
            blob: Blob { digest, key: Key::new(row.get::<_, String>(1)) },
            target: Arc::clone(zone),
            size: row.get::<_, Option<i64>>(2).map(unsigned),
            repositories: row.get(3),
            attempts: u32::try_from(row.get::<_, i32>(4)).unwrap_or(0),
            stamp: row.get(5),
        })
    }

    fn digest(&self, text: &str) -> Result<Digest, JournalError> {
        text.parse().map_err(|_| JournalError::Refused {
            place: self.database.place().to_owned(),
            why: "a digest in quay_gateway_job is none".to_owned(),
            lasting: false,
        })
    }
}

/// Jobs in columns, by zone and digest, each once.
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
        for mut job in jobs {
            let name = (Arc::clone(&job.target), job.blob.digest.to_string());
            if let Some(NewJob { size: Some(size), .. }) = once.get(&name) {
                // As the statement does with what is there already.
                let differ = job.size.is_some_and(|other| other != *size);
                job.size = Some(if differ { 0 } else { *size });
            }
            once.insert(name, job);
        }
        let mut added = Self::default();
        for ((zone, digest), job) in once {
            added.zones.push(zone.to_string());
            added.digests.push(digest);
            added.keys.push(job.blob.key.as_str().to_owned());
            added.sizes.push(job.size.map(|size| i64::try_from(size).unwrap_or(i64::MAX)));
            added.repositories.push(job.repository);
        }
        added
    }
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

pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
