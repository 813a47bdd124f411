//! What is remembered, in an SQLite file that one thread writes.
//!
//! Requests never wait for the thread. What its queue cannot take is left out; if that is a removal, everything is
//! removed, because nothing that the registry took back may be served.

mod changes;
mod read;
mod schema;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rusqlite::Connection;
use sqlite_file::{gathered, milliseconds};

pub(crate) use self::changes::Change;
pub use self::read::Kept;
pub(crate) use self::read::StoredCredential;
use self::schema::{clean_up, open};

/// The bytes of a manifest that is kept. The limit of 4 MiB that registries have is for the largest indexes.
pub const MANIFEST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Changes that wait for the thread.
const QUEUE_MAX: usize = 4096;

/// The bytes of manifests and links in these changes.
const QUEUED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How long a reader waits for what was learned before.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// Commits from one clean-up of the file to the next.
const CLEAN_EVERY: u32 = 100;

/// What is remembered of one registry.
#[derive(Debug)]
pub struct Store {
    changes: SyncSender<Change>,
    queued: Arc<AtomicUsize>,
    /// Changes that are not written yet.
    pending: Arc<AtomicUsize>,
    /// Whether a removal could not be queued.
    lost: Arc<AtomicBool>,
    writer: Mutex<Option<JoinHandle<()>>>,
    reader: Mutex<Connection>,
    max_age: Duration,
}

impl Store {
    /// Opens the file in `state_dir`, and starts its thread. What is older than `max_age` does not count. What was
    /// remembered of another `registry` is removed. It blocks.
    ///
    /// # Errors
    /// The file cannot be read or written, or no thread can be started.
    pub fn open(state_dir: &Path, registry: &str, max_age: Duration) -> anyhow::Result<Self> {
        let path = state_dir.join(schema::FILE);
        let (db, reader) = (open(&path, registry)?, Connection::open(&path)?);
        reader.busy_timeout(Duration::from_secs(1))?;
        let (changes, received) = sync_channel(QUEUE_MAX);
        let [queued, pending] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
        let lost = Arc::new(AtomicBool::new(false));
        let writer = Writer {
            db,
            max_age,
            queued: Arc::clone(&queued),
            pending: Arc::clone(&pending),
            lost: Arc::clone(&lost),
            failed: false,
        };
        let thread =
            std::thread::Builder::new().name("offline".into()).spawn(move || writer.run(&received))?;
        let writer = Mutex::new(Some(thread));
        Ok(Self { changes, queued, pending, lost, writer, reader: Mutex::new(reader), max_age })
    }

    /// Remembers something, unless the queue is full.
    pub(crate) fn add(&self, change: Change) {
        let bytes = change.bytes();
        self.pending.fetch_add(1, Ordering::SeqCst);
        if self.queued.fetch_add(bytes, Ordering::Relaxed) + bytes > QUEUED_BYTES_MAX
            || self.changes.try_send(change).is_err()
        {
            self.queued.fetch_sub(bytes, Ordering::Relaxed);
            self.pending.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Removes something. If the queue is full, the thread removes everything.
    pub(crate) fn remove(&self, change: Change) {
        self.pending.fetch_add(1, Ordering::SeqCst);
        if let Err(error) = self.changes.try_send(change) {
            self.pending.fetch_sub(1, Ordering::SeqCst);
            if matches!(error, TrySendError::Full(_)) {
                self.lost.store(true, Ordering::SeqCst);
            }
        }
    }

    /// Waits until everything that was queued before is written, or for a second if the disk hangs. It blocks.
    pub fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.pending.load(Ordering::SeqCst) > 0 && self.changes.try_send(Change::Flush(done)).is_ok() {
            // Without a thread, nothing is left to write.
            let _ = written.recv_timeout(FLUSH_MAX);
        }
    }

    /// Writes everything that is queued, and ends the thread. It blocks.
    pub fn close(&self) {
        let Some(thread) = self.writer.lock().take() else { return };
        let _ = self.changes.send(Change::Close);
        let _ = thread.join();
    }
}

/// The thread's own.
struct Writer {
    db: Connection,
    max_age: Duration,
    queued: Arc<AtomicUsize>,
    pending: Arc<AtomicUsize>,
    lost: Arc<AtomicBool>,
    /// Whether a change could not be written.
    failed: bool,
}

impl Writer {
    fn run(mut self, changes: &Receiver<Change>) {
        for commits in 0.. {
            let Some(batch) = gathered(changes, Change::ends) else { return };
            self.queued.fetch_sub(batch.iter().map(Change::bytes).sum(), Ordering::Relaxed);
            if let Err(error) = self.write(&batch, commits % CLEAN_EVERY == 0) {
                // What was not written may be a removal.
                self.lost.store(true, Ordering::SeqCst);
                if !std::mem::replace(&mut self.failed, true) {
                    tracing::warn!(%error, "what is remembered for offline use cannot be written, and is removed as soon as it can");
                }
            }
            let counted = batch.iter().filter(|change| !change.ends());
            self.pending.fetch_sub(counted.count(), Ordering::SeqCst);
            for change in &batch {
                if let Change::Flush(done) = change {
                    // Whoever asked may have left.
                    let _ = done.send(());
                }
            }
            if matches!(batch.last(), Some(Change::Close)) {
                return;
            }
        }
    }

    fn write(&mut self, batch: &[Change], clean_up_too: bool) -> rusqlite::Result<()> {
        let write = self.db.transaction()?;
        let lost = self.lost.swap(false, Ordering::SeqCst);
        if lost {
            Change::ForgetAll.write(&write)?;
        }
        // A removal that was not queued may be one of something in this batch.
        for change in batch.iter().filter(|change| !lost || change.removes()) {
            change.write(&write)?;
        }
        if clean_up_too {
            clean_up(&write, milliseconds(SystemTime::now()), self.max_age)?;
        }
        write.commit()?;
        self.failed = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
