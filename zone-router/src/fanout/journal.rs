//! The durable list of copies still to be made: an SQLite file.
//!
//! One thread writes. It takes whatever requests wait, applies them in one transaction and answers
//! after the commit, so that many pushes share one sync of the disk. Reads have a connection of
//! their own and never wait for a commit.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::job::{Job, NewJob};
use super::reason::reason;
use super::table::{self, Count, Due};

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

/// Why the journal could not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be made or reached.
    #[error("journal {}: {source}", path.display())]
    File {
        /// The journal's file.
        path: PathBuf,
        /// What the system says.
        source: Arc<io::Error>,
    },
    /// SQLite cannot open the file, or it is not a database.
    #[error("journal {}: {source}", path.display())]
    Open {
        /// The journal's file.
        path: PathBuf,
        /// What SQLite says.
        source: Arc<rusqlite::Error>,
    },
    /// A later release wrote it.
    #[error(
        "journal {}: its schema is version {found}, this release knows {known}: \
         run the release that wrote it, or let that one finish its copies and then remove the file",
        path.display()
    )]
    Newer {
        /// The journal's file.
        path: PathBuf,
        /// The file's version.
        found: i64,
        /// The latest version understood here.
        known: i64,
    },
    /// A statement or a commit failed, as on a full disk; nothing of the request was kept.
    #[error("journal: {0}")]
    Sqlite(Arc<rusqlite::Error>),
    /// No commit within the bound; the request may yet be kept.
    #[error("journal: no commit within {} s", .0.as_secs())]
    Late(Duration),
    /// The writer has ended.
    #[error("journal: closed")]
    Closed,
}

impl From<rusqlite::Error> for JournalError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(Arc::new(error))
    }
}

type Apply = Box<dyn FnOnce(&Connection) -> rusqlite::Result<()> + Send>;
type Reply = oneshot::Sender<Result<(), JournalError>>;

/// A handle on the journal. The writer ends, and the file is closed, with the last handle.
#[derive(Clone)]
pub struct Journal {
    writes: mpsc::Sender<(Apply, Reply)>,
    reader: Arc<Mutex<Connection>>,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").finish_non_exhaustive()
    }
}

impl Journal {
    /// Opens the journal, or creates it (mode 0600, its folder must exist).
    ///
    /// # Errors
    /// The file cannot be made, is no database, or a later release wrote it.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        create(path).map_err(|error| JournalError::File { path: path.into(), source: Arc::new(error) })?;
        let sqlite = |error| JournalError::Open { path: path.into(), source: Arc::new(error) };
        let mut writer = connect(path).map_err(sqlite)?;
        let found = migrate(&mut writer).map_err(sqlite)?;
        if found > table::VERSION {
            return Err(JournalError::Newer { path: path.into(), found, known: table::VERSION });
        }
        let reader = connect(path).map_err(sqlite)?;
        reader.pragma_update(None, "query_only", true).map_err(sqlite)?;
        let (writes, requests) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || commit_groups(writer, requests))
            .map_err(|error| JournalError::File { path: path.into(), source: Arc::new(error) })?;
        Ok(Self { writes, reader: Arc::new(Mutex::new(reader)) })
    }

    /// Adds jobs, all or none. When it returns, they are on the disk.
    ///
    /// A job that is there already is made due, and merged: the latest key and known size hold.
    ///
    /// # Errors
    /// The commit failed or was late.
    pub async fn add(&self, jobs: Vec<NewJob>) -> Result<(), JournalError> {
        if jobs.is_empty() {
            return Ok(());
        }
        let now = SystemTime::now();
        self.write(move |db| jobs.into_iter().try_for_each(|job| table::add(db, job, now))).await
    }

    /// At most `limit` due jobs of a zone. A job due later than `horizon` from now, the longest
    /// wait there is, was written by a clock that ran ahead, and counts as due.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn due(&self, zone: &Arc<str>, horizon: Duration, limit: usize) -> Result<Due, JournalError> {
        let zone = Arc::clone(zone);
        self.read(move |db| table::due(db, &zone, SystemTime::now(), horizon, limit)).await
    }

    /// Removes a job, unless it was added again since it was read: then it stays due, and a look
    /// at the target settles it.
    ///
    /// # Errors
    /// The commit failed or was late; the job may still be there, which does no harm.
    pub async fn done(&self, job: &Job) -> Result<(), JournalError> {
        let job = job.clone();
        self.write(move |db| table::done(db, &job)).await
    }

    /// Keeps that a job failed, and why, and makes it due again after `delay`.
    ///
    /// # Errors
    /// The commit failed or was late; the job then stays due.
    pub async fn failed(&self, job: &Job, delay: Duration, error: &str) -> Result<(), JournalError> {
        let (job, error, now) = (job.clone(), reason(error), SystemTime::now());
        self.write(move |db| table::failed(db, &job, now, now + delay, &error)).await
    }

    /// Makes every job of a zone due, as when the zone has come back.
    ///
    /// # Errors
    /// The commit failed or was late.
    pub async fn hasten(&self, zone: &Arc<str>) -> Result<(), JournalError> {
        let zone = Arc::clone(zone);
        self.write(move |db| table::hasten(db, &zone, SystemTime::now())).await
    }

    /// The jobs of every zone that has any.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn counts(&self) -> Result<Vec<Count>, JournalError> {
        self.read(table::counts).await
    }

    pub(super) async fn write(
        &self,
        apply: impl FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<(), JournalError> {
        let (reply, answer) = oneshot::channel();
        let committed = async {
            self.writes.send((Box::new(apply), reply)).await.map_err(|_| JournalError::Closed)?;
            answer.await.map_err(|_| JournalError::Closed)?
        };
        tokio::time::timeout(PATIENCE, committed).await.map_err(|_| JournalError::Late(PATIENCE))?
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, JournalError> {
        let reader = Arc::clone(&self.reader);
        let answer = tokio::task::spawn_blocking(move || {
            query(&reader.lock().unwrap_or_else(PoisonError::into_inner))
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
    if found != 0 {
        return Ok(found);
    }
    change.execute_batch(table::SCHEMA)?;
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
