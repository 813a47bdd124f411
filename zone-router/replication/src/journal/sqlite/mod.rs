//! The journal in an SQLite file, for one process.
//!
//! One thread writes. It takes whatever requests wait, applies them in one transaction and answers
//! after the commit, so that many pushes share one sync of the disk. Reads have connections of their
//! own, those of operators another than those of lanes, and never wait for a commit.

mod look;
#[cfg(test)]
mod simulated;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use backends::Digest;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::super::job::{Job, NewJob};
use super::{Count, JournalError, Next};
#[cfg(test)]
pub(crate) use simulated::Simulated;

/// Requests that may wait for the writer; more wait at their senders.
const QUEUE: usize = 1024;

/// Requests that share one commit.
const GROUP: usize = 256;

/// How long a request waits for its commit. A disk that hangs must not hang a push.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long SQLite waits for another process that holds the file, as during a restart.
const BUSY: Duration = Duration::from_secs(5);

/// The log is cut back to this many bytes after a checkpoint.
const LOG_LIMIT: i64 = 16 * 1024 * 1024;

/// A wall clock that is so much behind what has passed was set back.
const SET_BACK: Duration = Duration::from_secs(5);

type Apply = Box<dyn FnOnce(&Connection) -> rusqlite::Result<()> + Send>;
type Reply = oneshot::Sender<Result<(), JournalError>>;

/// The writer ends, and the file is closed, with the last handle.
#[derive(Clone)]
pub(super) struct Sqlite {
    writes: mpsc::Sender<(Apply, Reply)>,
    reader: Reader,
    looker: Reader,
    /// A moment, by both clocks.
    moment: Arc<Mutex<(Instant, SystemTime)>>,
    /// What is there instead of a disk and a clock.
    #[cfg(test)]
    simulated: Option<Simulated>,
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite").finish_non_exhaustive()
    }
}

impl Sqlite {
    pub(super) fn open(path: &Path) -> Result<Self, JournalError> {
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
        let (reader, looker) = (reader()?, reader()?);
        let (writes, requests) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || commit_groups(writer, requests))
            .map_err(file)?;
        Ok(Self {
            writes,
            reader,
            looker,
            moment: Arc::new(Mutex::new((Instant::now(), SystemTime::now()))),
            #[cfg(test)]
            simulated: None,
        })
    }

    /// On a disk that is none.
    #[cfg(test)]
    pub(super) fn simulated(simulated: Simulated) -> Self {
        let reader = Reader::new(Arc::clone(&simulated.disk));
        let moment = Arc::new(Mutex::new((Instant::now(), (simulated.clock)())));
        let looker = reader.clone();
        Self { writes: mpsc::channel(1).0, reader, looker, moment, simulated: Some(simulated) }
    }

    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "a simulation has a clock of its own"))]
    fn now(&self) -> SystemTime {
        #[cfg(test)]
        if let Some(simulated) = &self.simulated {
            return (simulated.clock)();
        }
        SystemTime::now()
    }

    pub(super) async fn add(&self, jobs: Vec<NewJob>) -> Result<(), JournalError> {
        let now = self.now();
        self.write(move |db| jobs.into_iter().try_for_each(|job| table::add(db, job, now))).await
    }

    pub(super) async fn next(
        &self,
        zone: &Arc<str>,
        turn: u32,
        under_way: Vec<Digest>,
        horizon: Duration,
    ) -> Result<Next, JournalError> {
        let (zone, now) = (Arc::clone(zone), self.now());
        self.mend_waits(now).await?;
        self.read(move |db| table::next(db, &zone, turn, &under_way, now, horizon)).await
    }

    pub(super) async fn next_small(
        &self,
        zone: &Arc<str>,
        at_most: u64,
        under_way: Vec<Digest>,
        horizon: Duration,
    ) -> Result<Next, JournalError> {
        let (zone, now) = (Arc::clone(zone), self.now());
        self.read(move |db| table::next_small(db, &zone, at_most, &under_way, now, horizon)).await
    }

    /// How long it took from when it was added, if it is gone now.
    pub(super) async fn done(&self, job: &Job) -> Result<Option<Duration>, JournalError> {
        let job = job.clone();
        let added = self.change(move |db| table::done(db, &job)).await?;
        // A clock that was set back makes no negative time.
        Ok(added.map(|added| self.now().duration_since(added).unwrap_or_default()))
    }

    pub(super) async fn failed(&self, job: &Job, delay: Duration, error: String) -> Result<(), JournalError> {
        let (job, now) = (job.clone(), self.now());
        self.write(move |db| table::failed(db, &job, now, now + delay, &error)).await
    }

    pub(super) async fn resize(&self, job: &Job, size: u64) -> Result<(), JournalError> {
        let job = job.clone();
        self.write(move |db| table::resize(db, &job, size)).await
    }

    pub(super) async fn park(&self, job: &Job, why: String) -> Result<(), JournalError> {
        let (job, now) = (job.clone(), self.now());
        self.write(move |db| table::park(db, &job, now, &why)).await
    }

    pub(super) async fn hasten(&self, zone: &Arc<str>) -> Result<(), JournalError> {
        let (zone, now) = (Arc::clone(zone), self.now());
        self.write(move |db| table::hasten(db, &zone, now)).await
    }

    /// Waits are kept by the wall clock: where it was set back they would be longer by as much, so all
    /// end now.
    async fn mend_waits(&self, now: SystemTime) -> Result<(), JournalError> {
        let (then, wall) = *self.moment.lock().unwrap_or_else(PoisonError::into_inner);
        if wall + then.elapsed() > now + SET_BACK {
            tracing::warn!(
                "the machine's clock was set back: copies that wait for another try are tried now"
            );
            self.write(move |db| table::hasten_all(db, now)).await?;
        }
        *self.moment.lock().unwrap_or_else(PoisonError::into_inner) = (Instant::now(), now);
        Ok(())
    }

    pub(super) async fn counts(&self) -> Result<Vec<Count>, JournalError> {
        self.look(table::counts).await
    }

    pub(super) async fn write(
        &self,
        apply: impl FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<(), JournalError> {
        #[cfg(test)]
        if let Some(simulated) = &self.simulated {
            return simulated.write(apply).await;
        }
        let (reply, answer) = oneshot::channel();
        let committed = async {
            self.writes.send((Box::new(apply), reply)).await.map_err(|_| JournalError::Closed)?;
            answer.await.map_err(|_| JournalError::Closed)?
        };
        tokio::time::timeout(PATIENCE, committed).await.map_err(|_| JournalError::Late(PATIENCE))?
    }

    /// A change that says something: known once it is committed.
    async fn change<T: Send + 'static>(
        &self,
        apply: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, JournalError> {
        let (said, heard) = oneshot::channel();
        self.write(move |db| {
            // Who has gone does not want to know.
            let _ = said.send(apply(db)?);
            Ok(())
        })
        .await?;
        heard.await.map_err(|_| JournalError::Closed)
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, JournalError> {
        self.ask(&self.reader, query).await
    }

    /// What reads many jobs: lanes do not wait for it.
    async fn look<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, JournalError> {
        self.ask(&self.looker, query).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        reader: &Reader,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, JournalError> {
        #[cfg(test)]
        if let Some(simulated) = &self.simulated {
            return simulated.read(query).await;
        }
        reader.query(query).await
    }
}

/// A connection that reads, for one query at a time.
#[derive(Clone)]
struct Reader {
    connection: Arc<Mutex<Connection>>,
    /// Waited for before a thread is taken: who gives up waiting leaves none behind.
    turn: Arc<Semaphore>,
}

impl Reader {
    fn new(connection: Arc<Mutex<Connection>>) -> Self {
        Self { connection, turn: Arc::new(Semaphore::new(1)) }
    }

    async fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, JournalError> {
        let turn = Arc::clone(&self.turn).acquire_owned();
        let turn = tokio::time::timeout(PATIENCE, turn).await.map_err(|_| JournalError::Late(PATIENCE))?;
        let connection = Arc::clone(&self.connection);
        let answer = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            query(&connection.lock().unwrap_or_else(PoisonError::into_inner))
        });
        Ok(answer.await.map_err(|_| JournalError::Closed)??)
    }
}

/// Makes the file before SQLite does, for its mode; the log beside it gets the same mode.
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

/// Brings the schema up to date, and gives the version it has then.
fn migrate(db: &mut Connection) -> rusqlite::Result<i64> {
    let change = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i64 = change.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found >= table::VERSION {
        return Ok(found);
    }
    for step in table::STEPS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        change.execute_batch(step)?;
    }
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
            // Who has gone does not want to know.
            let _ = reply.send(result.clone());
        }
    }
}

/// All or none: a disk that fails one of them fails them all, and dropping rolls back.
fn commit(db: &mut Connection, work: Vec<Apply>) -> rusqlite::Result<()> {
    let group = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for apply in work {
        apply(&group)?;
    }
    group.commit()
}
