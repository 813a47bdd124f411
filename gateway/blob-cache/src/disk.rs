//! The cache's disk, and reads of its files.

use std::fmt;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use backends::Hasher;
use bytes::{Bytes, BytesMut};
use limits::pool::{Identity, Pool, Slot};
use parking_lot::Mutex;
use rustix::io::{Errno, ReadWriteFlags};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Bytes of one read for a hash.
const CHUNK: usize = 256 * 1024;

/// Bytes that are hashed as one piece of work.
const HASHED_AT_ONCE: u64 = 4 << 20;

/// The number of threads that may wait for the disk at once. Some threads must stay free, for example for name
/// resolution.
const THREADS_MAX: usize = 64;

/// If abandoned work holds this many threads, the disk is not used. One connection also gets no more threads than this,
/// because its next requests would wait for the disk.
const HANGING_MAX: usize = THREADS_MAX / 2;

/// The name of the threads in the list of what clients share.
const POOL: &str = "cache_disk_threads";

/// How long work waits for a thread if its client can be served without the cache.
const THREAD_WAIT: Duration = Duration::from_secs(1);

/// The time limit of work consists of this many slices. If this process does not run for a while, that counts as one
/// slice, because the disk is not the cause.
const SLICES: u32 = 20;

/// The cache's disk. Its work runs on threads that may block. Work that takes too long is given up, and the disk is not
/// used for the same time after that. The wait for a thread is counted apart from the disk's time. If that wait is too
/// long, only this work is refused, and the disk stays in use.
///
/// Clients share the threads. The network that holds the fewest is next.
#[derive(Debug, Clone)]
pub struct Disk {
    /// The time limit for one piece of work once it has a thread, and also for the wait before that, in milliseconds.
    timeout: Arc<AtomicU64>,
    threads: Arc<Pool>,
    /// The time until which a disk that hung is not used.
    paused_until: Arc<Mutex<Option<Instant>>>,
    /// Threads of work that was given up and has not ended.
    hanging: Arc<AtomicUsize>,
}

/// No thread was free in time. The cause is the load of this process, not the disk.
#[derive(Debug)]
struct NoThread;

impl fmt::Display for NoThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no thread was free for the cache's disk")
    }
}

impl std::error::Error for NoThread {}

/// Whether the work did not start because no thread was free.
pub(super) fn is_busy(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<NoThread>())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Disk {
    /// At most `waiting_max` pieces of work wait for a thread.
    pub(super) fn new(timeout: Duration, waiting_max: usize) -> Self {
        let threads = Pool::unlogged(POOL, THREADS_MAX, waiting_max);
        let timeout = Arc::new(AtomicU64::new(millis(timeout)));
        Self { timeout, threads, paused_until: Arc::default(), hanging: Arc::default() }
    }

    /// The time limit for one piece of work.
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout.load(Ordering::Relaxed))
    }

    /// Changes the time limit, from the next piece of work on, and how many pieces may wait for a thread.
    pub(super) fn set_limits(&self, timeout: Duration, waiting_max: usize) {
        self.timeout.store(millis(timeout), Ordering::Relaxed);
        self.threads.resize(THREADS_MAX, waiting_max);
    }

    /// The threads, which clients share.
    pub(super) fn pool(&self) -> &Pool {
        &self.threads
    }

    /// Runs disk work for a client. Work that is given up still occupies its thread until the disk answers.
    ///
    /// The time of the work must not grow with the size of a blob or with the number of evicted blobs; otherwise it
    /// would count as work of a disk that hangs. A caller with more to do must split it into several pieces.
    ///
    /// # Errors
    /// Returns the error of the work itself. Also fails if the disk hangs or hung a moment ago, or if no thread was
    /// free ([`is_busy`]).
    pub(super) async fn run<T: Send + 'static>(
        &self,
        who: &Identity,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.run_within(self.timeout(), who, work).await
    }

    /// Like [`Disk::run`], for a client that can be served without the cache. It waits only briefly for a thread.
    pub(super) async fn run_soon<T: Send + 'static>(
        &self,
        who: &Identity,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.run_within(THREAD_WAIT.min(self.timeout()), who, work).await
    }

    /// Hashes a file's first `end` bytes, in pieces of work that do not grow with the file.
    ///
    /// # Errors
    /// As [`Disk::run`].
    pub(super) async fn hash(&self, who: &Identity, file: &Arc<File>, end: u64) -> io::Result<Hasher> {
        let mut hasher = Hasher::new();
        while hasher.bytes() < end {
            let (file, until) = (Arc::clone(file), end.min(hasher.bytes() + HASHED_AT_ONCE));
            let work = move || hash_on(&mut hasher, &file, until).map(|()| hasher);
            hasher = self.run(who, work).await?;
        }
        Ok(hasher)
    }

    async fn run_within<T: Send + 'static>(
        &self,
        wait: Duration,
        who: &Identity,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.asked()?;
        let deadline = Instant::now() + wait;
        let thread = self.threads.take(who, wait).await.map_err(|_| busy())?;
        // The disk may have hung meanwhile.
        self.asked()?;
        match tokio::time::timeout_at(deadline, begin(thread, work)).await {
            Ok(begun) => self.finish(begun).await,
            Err(_) => Err(busy()),
        }
    }

    /// Returns an error if the disk is not used now.
    fn asked(&self) -> io::Result<()> {
        let why = if self.paused_until.lock().is_some_and(|until| Instant::now() < until) {
            "the cache's disk hung a moment ago"
        } else if self.hanging.load(Ordering::Acquire) >= HANGING_MAX {
            "the cache's disk hangs"
        } else {
            return Ok(());
        };
        Err(io::Error::new(io::ErrorKind::TimedOut, why))
    }

    async fn finish<T: Send + 'static>(&self, mut task: JoinHandle<io::Result<T>>) -> io::Result<T> {
        for _ in 0..SLICES {
            match tokio::time::timeout(self.timeout() / SLICES, &mut task).await {
                Ok(Ok(result)) => return result,
                Ok(Err(error)) => return Err(io::Error::other(format!("a disk task died: {error}"))),
                Err(_) => {}
            }
        }
        *self.paused_until.lock() = Some(Instant::now() + self.timeout());
        self.hanging.fetch_add(1, Ordering::AcqRel);
        let hanging = Arc::clone(&self.hanging);
        tokio::spawn(async move {
            let _ = task.await;
            hanging.fetch_sub(1, Ordering::AcqRel);
        });
        let why = format!("the cache's disk did not answer within {} s", self.timeout().as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, why))
    }
}

/// Completes when the work starts. If this future is dropped before that, the work does not run. If it is dropped at the
/// moment at which the work starts, the work may run, and nobody learns its result.
async fn begin<T: Send + 'static>(
    thread: Slot,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> JoinHandle<io::Result<T>> {
    let (begin, begun) = oneshot::channel();
    let task = tokio::task::spawn_blocking(move || {
        let _thread = thread;
        begin.send(()).map_err(|()| busy())?;
        work()
    });
    // An error says that the task panicked. Then this task ends with it.
    let _ = begun.await;
    task
}

fn busy() -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, NoThread)
}

/// Bytes that the file system has left for this user.
pub(super) fn free_bytes(path: &Path) -> io::Result<u64> {
    let stats = rustix::fs::statvfs(path)?;
    Ok(stats.f_bavail.saturating_mul(stats.f_frsize))
}

/// Hashes the bytes of a file from the present end of the hash up to `end`.
pub(super) fn hash_on(hasher: &mut Hasher, file: &File, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    while hasher.bytes() < end {
        let len = (end - hasher.bytes()).min(CHUNK as u64) as usize;
        file.read_exact_at(&mut buffer[..len], hasher.bytes())?;
        hasher.update(&buffer[..len]);
    }
    Ok(())
}

/// Reads up to `len` bytes at `offset` if the page cache has them; `None` means that only a
/// blocking read can tell.
pub(super) fn read_cached(file: &File, offset: u64, len: usize) -> io::Result<Option<Bytes>> {
    let mut buffer = BytesMut::zeroed(len);
    match rustix::io::preadv2(file, &mut [IoSliceMut::new(&mut buffer)], offset, ReadWriteFlags::NOWAIT) {
        Ok(0) => Ok(None),
        Ok(count) => {
            buffer.truncate(count);
            Ok(Some(buffer.freeze()))
        }
        // Not cached, or a file system without non-blocking reads.
        Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Reads up to `len` bytes at `offset`. Waits for the disk.
pub(super) fn read_blocking(file: &File, offset: u64, len: usize) -> io::Result<Bytes> {
    let mut buffer = BytesMut::zeroed(len);
    match file.read_at(&mut buffer, offset)? {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a cached file is shorter than it was")),
        count => {
            buffer.truncate(count);
            Ok(buffer.freeze())
        }
    }
}

#[cfg(test)]
mod tests;
