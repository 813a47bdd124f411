//! Links on disk, in an SQLite file that one thread writes.
//!
//! Requests never wait for it. What it cannot take is left out; if that is a removal, the next start begins without links.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use backends::Digest;
use parking_lot::Mutex;
use rusqlite::{Connection, params};
use sqlite_file::{gathered, keep_newest, milliseconds, oldest};

/// The file in `state_dir`.
const FILE: &str = "links.sqlite";

/// The version of the tables. A file of another version is emptied.
const VERSION: i64 = 2;

/// Changes that wait for the thread.
const QUEUE_MAX: usize = 4096;

/// Links in these changes.
const QUEUED_LINKS_MAX: usize = 100_000;

/// Links in the file. A link takes about 150 bytes.
const LINKS_MAX: i64 = 500_000;

/// How long a link is kept that nobody confirms again.
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// Commits from one clean-up of the file to the next.
const CLEAN_EVERY: u32 = 100;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS links (
        repository TEXT NOT NULL,
        digest TEXT NOT NULL,
        confirmed INTEGER NOT NULL, -- milliseconds since 1970
        PRIMARY KEY (repository, digest)
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS links_confirmed ON links (confirmed);
    CREATE TABLE IF NOT EXISTS ended (
        registry TEXT NOT NULL,
        headers TEXT NOT NULL -- of blobs, as a list of names and values
    );
";

/// The handle of the thread that writes the file.
#[derive(Debug)]
pub(super) struct LinkStore {
    changes: SyncSender<Change>,
    queued: Arc<AtomicUsize>,
    /// Whether a removal could not be queued.
    lost: Arc<AtomicBool>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// Names and values of the headers that the registry's answers about blobs have.
pub(super) type Headers = Vec<(String, String)>;

/// What the last run left, if it ended cleanly.
#[derive(Debug, Default)]
pub(super) struct LastRun {
    pub(super) headers: Headers,
    pub(super) links: Vec<Stored>,
}

/// A link of the last run that is still fresh.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) repository: String,
    pub(super) digest: Digest,
    /// How long ago the registry was asked.
    pub(super) age: Duration,
}

#[derive(Debug)]
enum Change {
    Confirm {
        repository: Arc<str>,
        digests: Vec<Digest>,
        at: i64,
    },
    Remove {
        repository: Arc<str>,
        digest: Digest,
    },
    /// A repository, or a namespace with a slash at its end.
    Forget(Arc<str>),
    ForgetAll,
    Close(Headers),
}

impl LinkStore {
    /// Opens the file, and starts its thread. Returns the links that were confirmed less than `freshness` ago, if the
    /// last run ended cleanly and had the same registry.
    pub(super) fn open(
        state_dir: &Path,
        registry: &str,
        freshness: Duration,
    ) -> anyhow::Result<(Self, Option<LastRun>)> {
        let (db, last) = open(&state_dir.join(FILE), registry, freshness, SystemTime::now())?;
        let (changes, received) = sync_channel(QUEUE_MAX);
        let (queued, lost) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let writer = Writer {
            db,
            registry: registry.to_owned(),
            queued: Arc::clone(&queued),
            lost: Arc::clone(&lost),
        };
        let thread = std::thread::Builder::new().name("links".into()).spawn(move || writer.run(&received))?;
        Ok((Self { changes, queued, lost, writer: Mutex::new(Some(thread)) }, last))
    }

    /// Keeps links that were confirmed `age` ago.
    pub(super) fn confirm(&self, repository: Arc<str>, digests: Vec<Digest>, age: Duration) {
        let count = digests.len();
        if count == 0 || self.queued.load(Ordering::Relaxed) + count > QUEUED_LINKS_MAX {
            return;
        }
        self.queued.fetch_add(count, Ordering::Relaxed);
        let at = milliseconds(SystemTime::now().checked_sub(age).unwrap_or(UNIX_EPOCH));
        if self.changes.try_send(Change::Confirm { repository, digests, at }).is_err() {
            self.queued.fetch_sub(count, Ordering::Relaxed);
        }
    }

    pub(super) fn remove(&self, repository: Arc<str>, digest: Digest) {
        self.must(Change::Remove { repository, digest });
    }

    pub(super) fn forget(&self, name: Arc<str>) {
        self.must(Change::Forget(name));
    }

    pub(super) fn forget_all(&self) {
        self.must(Change::ForgetAll);
    }

    fn must(&self, change: Change) {
        if let Err(TrySendError::Full(_)) = self.changes.try_send(change) {
            self.lost.store(true, Ordering::SeqCst);
        }
    }

    /// Writes everything that is queued, marks the file as complete, and ends the thread. It blocks.
    pub(super) fn close(&self, headers: Headers) {
        let Some(thread) = self.writer.lock().take() else { return };
        // Without a thread, nothing is left to write.
        let _ = self.changes.send(Change::Close(headers));
        let _ = thread.join();
    }
}

/// The thread's own.
struct Writer {
    db: Connection,
    registry: String,
    queued: Arc<AtomicUsize>,
    lost: Arc<AtomicBool>,
}

impl Writer {
    fn run(mut self, changes: &Receiver<Change>) {
        let mut failed = false;
        for commits in 0.. {
            let Some(batch) = gathered(changes, |change| matches!(change, Change::Close(_))) else { return };
            let closes = matches!(batch.last(), Some(Change::Close(_)));
            let links: usize = batch.iter().map(Change::links).sum();
            self.queued.fetch_sub(links, Ordering::Relaxed);
            // A removal that was not queued may be one of a link that is written only now.
            let complete = !failed && !self.lost.load(Ordering::SeqCst);
            match self.write(&batch, complete, commits % CLEAN_EVERY == 0) {
                Ok(()) => {}
                Err(error) => {
                    // What was not written may be a removal.
                    if !std::mem::replace(&mut failed, true) {
                        tracing::warn!(%error, "links of blobs and repositories cannot be written: the next start begins without them");
                    }
                }
            }
            if closes {
                return;
            }
        }
    }

    fn write(&mut self, batch: &[Change], complete: bool, clean_up_too: bool) -> rusqlite::Result<()> {
        let write = self.db.transaction()?;
        for change in batch {
            change.write(&write)?;
        }
        if clean_up_too {
            let oldest = oldest(milliseconds(SystemTime::now()), KEPT_FOR);
            keep_newest(&write, ("links", "confirmed"), oldest, LINKS_MAX)?;
        }
        if let (Some(Change::Close(headers)), true) = (batch.last(), complete) {
            let headers = serde_json::to_string(headers).unwrap_or_default();
            write.execute("INSERT INTO ended VALUES (?1, ?2)", [&self.registry, &headers])?;
        }
        write.commit()
    }
}

impl Change {
    fn links(&self) -> usize {
        match self {
            Self::Confirm { digests, .. } => digests.len(),
            _ => 0,
        }
    }

    fn write(&self, db: &Connection) -> rusqlite::Result<()> {
        match self {
            Self::Confirm { repository, digests, at } => {
                let sql = "INSERT INTO links VALUES (?1, ?2, ?3)
                           ON CONFLICT DO UPDATE SET confirmed = max(confirmed, excluded.confirmed)";
                let mut insert = db.prepare_cached(sql)?;
                for digest in digests {
                    insert.execute(params![&**repository, digest.to_string(), at])?;
                }
            }
            Self::Remove { repository, digest } => {
                let sql = "DELETE FROM links WHERE repository = ?1 AND digest = ?2";
                db.prepare_cached(sql)?.execute(params![&**repository, digest.to_string()])?;
            }
            Self::Forget(name) => sqlite_file::forget(db, "links", name)?,
            Self::ForgetAll => drop(db.execute("DELETE FROM links", [])?),
            Self::Close(_) => {}
        }
        Ok(())
    }
}

/// Opens the file, and removes its mark of a clean end. Without the mark of this registry, all links are removed: a removal
/// may not have been written.
fn open(
    path: &Path,
    registry: &str,
    freshness: Duration,
    now: SystemTime,
) -> anyhow::Result<(Connection, Option<LastRun>)> {
    let mut db = sqlite_file::open(path)?;
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let begin = db.transaction()?;
    if version != VERSION {
        begin.execute_batch("DROP TABLE IF EXISTS links; DROP TABLE IF EXISTS ended;")?;
        begin.pragma_update(None, "user_version", VERSION)?;
    }
    begin.execute_batch(SCHEMA)?;
    let sql = "SELECT max(headers) FROM ended WHERE registry = ?1";
    let headers: Option<String> = begin.query_row(sql, [registry], |row| row.get(0))?;
    let headers = headers.and_then(|headers| serde_json::from_str(&headers).ok());
    begin.execute("DELETE FROM ended", [])?;
    if headers.is_none() {
        begin.execute("DELETE FROM links", [])?;
    }
    begin.commit()?;
    let Some(headers) = headers else { return Ok((db, None)) };
    let links = fresh(&db, freshness, milliseconds(now))?;
    Ok((db, Some(LastRun { headers, links })))
}

fn fresh(db: &Connection, freshness: Duration, now: i64) -> rusqlite::Result<Vec<Stored>> {
    let oldest = oldest(now, freshness);
    let sql =
        "SELECT repository, digest, confirmed FROM links WHERE confirmed > ?1 AND confirmed <= ?2 LIMIT ?3";
    let mut rows = db.prepare(sql)?;
    let rows = rows.query_map([oldest, now, LINKS_MAX], |row| {
        let (repository, digest, confirmed): (String, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let age = Duration::from_millis(u64::try_from(now - confirmed).unwrap_or(u64::MAX));
        Ok(digest.parse().ok().map(|digest| Stored { repository, digest, age }))
    })?;
    rows.filter_map(Result::transpose).collect()
}

#[cfg(test)]
mod tests;
