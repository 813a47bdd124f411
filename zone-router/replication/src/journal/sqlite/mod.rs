//! The journal in an SQLite file, for one process.
//!
//! One thread writes. It takes all waiting requests, applies them in one transaction, and answers after the
//! commit, so that many pushes share one sync of the disk. Reads never wait for a commit. They have two
//! connections of their own: one for lanes and one for operators.

mod inspect;
#[cfg(test)]
mod simulated;
mod table;
#[cfg(test)]
mod tests;
mod tries;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use backends::Digest;
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::super::job::{FoundSize, Job, NewJob};
use super::engine::{Answer, Engine};
use super::{JournalError, Next};
#[cfg(test)]
pub(crate) use simulated::Simulated;

/// At most this many requests wait for the writer. Further senders wait for a place.
const QUEUE: usize = 1024;

/// At most this many requests share one commit.
const GROUP: usize = 256;

/// How long a request may take. A disk that hangs must not hang a push.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long SQLite waits for another process that has locked the file, for example during a restart.
const BUSY: Duration = Duration::from_secs(5);

/// After a checkpoint, the write-ahead log is truncated to this many bytes.
const LOG_LIMIT: i64 = 16 * 1024 * 1024;

/// If the wall clock is this far behind the monotonic clock, it was set back.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// A change of the database.
pub(crate) type Apply = Box<dyn FnOnce(&Connection) -> rusqlite::Result<()> + Send>;
type Reply = oneshot::Sender<Answer<()>>;

/// A handle. When the last one is dropped, the writer ends and the file is closed.
#[derive(Clone)]
pub(super) struct Sqlite {
    writes: mpsc::Sender<(Apply, Reply)>,
    /// The connection for lanes.
    reader: Reader,
    /// The connection for operators, whose reads may take long.
    inspector: Reader,
    /// The same point in time by both clocks.
    clocks: Arc<Mutex<(Instant, SystemTime)>>,
    /// Replaces the disk and the clock.
    #[cfg(test)]
    simulated: Option<Simulated>,
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite").finish_non_exhaustive()
    }
}

impl Sqlite {
    pub(super) fn open(path: &Path) -> Answer<Self> {
        let place = || path.display().to_string();
        let file = |error| JournalError::File { place: place(), source: Arc::new(error) };
        let sqlite = |error| JournalError::Open { place: place(), source: Arc::new(error) };
        create(path).map_err(file)?;
        let mut writer = connect(path).map_err(sqlite)?;
        let found = migrate(&mut writer).map_err(sqlite)?;
        if found > table::VERSION {
            return Err(JournalError::Newer { place: place(), found, known: table::VERSION });
        }
        let reader = || {
            let reader = connect(path).map_err(sqlite)?;
            reader.pragma_update(None, "query_only", true).map_err(sqlite)?;
            Ok::<_, JournalError>(Reader::new(Arc::new(Mutex::new(reader))))
        };
        let (reader, inspector) = (reader()?, reader()?);
        let (writes, requests) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || commit_groups(writer, requests))
            .map_err(file)?;
        Ok(Self {
            writes,
            reader,
            inspector,
            clocks: Arc::new(Mutex::new((Instant::now(), SystemTime::now()))),
            #[cfg(test)]
            simulated: None,
        })
    }

    /// Opens the journal on a simulated disk.
    #[cfg(test)]
    pub(super) fn simulated(simulated: Simulated) -> Self {
        let reader = Reader::new(Arc::clone(&simulated.disk));
        let clocks = Arc::new(Mutex::new((Instant::now(), (simulated.clock)())));
        let inspector = reader.clone();
        Self { writes: mpsc::channel(1).0, reader, inspector, clocks, simulated: Some(simulated) }
    }

    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "a simulation has its own clock"))]
    fn now(&self) -> SystemTime {
        #[cfg(test)]
        if let Some(simulated) = &self.simulated {
            return (simulated.clock)();
        }
        SystemTime::now()
    }

    /// The journal stores waits in wall-clock time. If the clock is set back, they become longer by the same time.
    /// Therefore this ends all waits now.
    async fn handle_clock_set_back(&self, now: SystemTime) -> Answer<()> {
        let (then, wall) = *self.clocks.lock();
        if wall + then.elapsed() > now + CLOCK_TOLERANCE {
            tracing::warn!(
                "the machine's clock was set back: copies that wait for another try are tried now"
            );
            self.write(move |db| table::make_all_due(db, now)).await?;
        }
        *self.clocks.lock() = (Instant::now(), now);
        Ok(())
    }

    async fn write(
        &self,
        apply: impl FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static,
    ) -> Answer<()> {
        #[cfg(test)]
        if let Some(simulated) = &self.simulated {
            return simulated.write(apply).await;
        }
        let (reply, answer) = oneshot::channel();
        let committed = async {
            self.writes.send((Box::new(apply), reply)).await.map_err(|_| JournalError::Closed)?;
            answer.await.map_err(|_| JournalError::Closed)?
        };
        tokio::time::timeout(REQUEST_TIMEOUT, committed)
            .await
            .map_err(|_| JournalError::Late(REQUEST_TIMEOUT))?
    }

    /// Runs a change and returns its result after the commit.
    async fn write_returning<T: Send + 'static>(
        &self,
        apply: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Answer<T> {
        let (returned, value) = oneshot::channel();
        self.write(move |db| {
            // The caller may have gone.
            let _ = returned.send(apply(db)?);
            Ok(())
        })
        .await?;
        value.await.map_err(|_| JournalError::Closed)
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Answer<T> {
        self.query(&self.reader, query).await
    }

    /// Runs a query that may read many jobs. Lanes do not wait for it.
    async fn inspect<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Answer<T> {
        self.query(&self.inspector, query).await
    }

    async fn query<T: Send + 'static>(
        &self,
        reader: &Reader,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Answer<T> {
        #[cfg(test)]
        if let Some(simulated) = &self.simulated {
            return simulated.read(query).await;
        }
        reader.query(query).await
    }
}

#[async_trait]
impl Engine for Sqlite {
    async fn add(&self, jobs: Vec<NewJob>) -> Answer<()> {
        let now = self.now();
        self.write(move |db| jobs.into_iter().try_for_each(|job| table::add(db, job, now))).await
    }

    async fn claim(
        &self,
        zone: &Arc<str>,
        claims: u32,
        under_way: Vec<Digest>,
        longest_wait: Duration,
    ) -> Answer<Next> {
        let (zone, now) = (Arc::clone(zone), self.now());
        self.handle_clock_set_back(now).await?;
        self.read(move |db| table::next(db, &zone, claims, &under_way, now, longest_wait)).await
    }

    async fn claim_small(
        &self,
        zone: &Arc<str>,
        at_most: u64,
        under_way: Vec<Digest>,
        longest_wait: Duration,
    ) -> Answer<Next> {
        let (zone, now) = (Arc::clone(zone), self.now());
        self.read(move |db| table::next_small(db, &zone, at_most, &under_way, now, longest_wait)).await
    }

    async fn begin(&self, job: &Job) -> Answer<()> {
        let job = job.clone();
        self.write(move |db| tries::begin(db, &job)).await
    }

    async fn done(&self, job: &Job, is_proven: bool) -> Answer<Option<Duration>> {
        let (job, now) = (job.clone(), self.now());
        let added = self.write_returning(move |db| tries::done(db, &job, now, is_proven)).await?;
        // If the clock was set back, the duration is zero, not negative.
        Ok(added.map(|added| self.now().duration_since(added).unwrap_or_default()))
    }

    async fn failed(&self, job: &Job, delay: Duration, error: &str, in_doubt: bool) -> Answer<()> {
        let (job, now, error) = (job.clone(), self.now(), error.to_owned());
        self.write(move |db| tries::failed(db, &job, now, now + delay, &error, in_doubt)).await
    }

    async fn resize(&self, job: &Job, size: FoundSize) -> Answer<()> {
        let job = job.clone();
        self.write(move |db| tries::resize(db, &job, size)).await
    }

    async fn park(&self, job: &Job, why: &str) -> Answer<()> {
        let (job, now, why) = (job.clone(), self.now(), why.to_owned());
        self.write(move |db| tries::park(db, &job, now, &why)).await
    }

    async fn make_due(&self, zone: &Arc<str>) -> Answer<()> {
        let (zone, now) = (Arc::clone(zone), self.now());
        self.write(move |db| table::make_due(db, &zone, now)).await
    }

    #[cfg(test)]
    async fn write_any(&self, apply: Apply) -> Answer<()> {
        self.write(apply).await
    }
}

/// A connection that runs one query at a time.
#[derive(Clone)]
struct Reader {
    connection: Arc<Mutex<Connection>>,
    /// This is acquired before a thread is used, so that a caller that gives up leaves no busy thread behind.
    free: Arc<Semaphore>,
}

impl Reader {
    fn new(connection: Arc<Mutex<Connection>>) -> Self {
        Self { connection, free: Arc::new(Semaphore::new(1)) }
    }

    async fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Answer<T> {
        let permit = Arc::clone(&self.free).acquire_owned();
        let late = |_| JournalError::Late(REQUEST_TIMEOUT);
        let permit = tokio::time::timeout(REQUEST_TIMEOUT, permit).await.map_err(late)?;
        let connection = Arc::clone(&self.connection);
        let answer = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            query(&connection.lock())
        });
        Ok(answer.await.map_err(|_| JournalError::Closed)??)
    }
}

/// Creates the file before SQLite does, to set its mode. SQLite gives its log the same mode.
fn create(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        created => created?.sync_all()?,
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    db.busy_timeout(BUSY)?;
    db.pragma_update(None, "journal_mode", "wal")?;
    db.pragma_update(None, "synchronous", "full")?;
    db.pragma_update(None, "journal_size_limit", LOG_LIMIT)?;
    Ok(db)
}

/// Migrates the schema, and returns its version.
fn migrate(db: &mut Connection) -> rusqlite::Result<i64> {
    let change = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i64 = change.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > table::VERSION {
        return Ok(found);
    }
    for migration in table::MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        change.execute_batch(migration)?;
    }
    change.execute_batch(tries::BEGUN)?;
    change.pragma_update(None, "user_version", table::VERSION)?;
    change.commit()?;
    Ok(table::VERSION)
}

fn commit_groups(mut db: Connection, mut requests: mpsc::Receiver<(Apply, Reply)>) {
    while let Some(first) = requests.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP
            && let Ok(next) = requests.try_recv()
        {
            group.push(next);
        }
        let (work, replies): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        let result = commit(&mut db, work).map_err(JournalError::from);
        for reply in replies {
            // The caller may have gone.
            let _ = reply.send(result.clone());
        }
    }
}

/// Commits all changes or none. If one fails, the transaction is dropped, which rolls it back.
fn commit(db: &mut Connection, work: Vec<Apply>) -> rusqlite::Result<()> {
    let group = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for apply in work {
        apply(&group)?;
    }
    group.commit()
}
