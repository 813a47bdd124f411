//! The cache's disk, and reads of its files.

use std::fmt;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use backends::Hasher;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use rustix::io::{Errno, ReadWriteFlags};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Bytes of one read for a hash.
const CHUNK: usize = 256 * 1024;

/// Threads that may wait for the disk at once. Others must be left, for example for name resolution.
const THREADS_MAX: usize = 64;

/// How long work waits for a thread if its client can be served without the cache.
const THREAD_WAIT: Duration = Duration::from_secs(1);

/// Slices of the time that work may take. If this process does not run for a while, that counts as one of them:
/// it is not the disk's time.
const SLICES: u32 = 20;

/// The cache's disk. Work on it runs on threads that may block, and is given up if it takes too long. The
/// disk is then not asked again for as long. The wait for a thread is not the disk's time: if that takes too
/// long, the work is refused, and the disk is asked as before.
#[derive(Debug, Clone)]
pub struct Disk {
    /// For one piece of work, from when it has a thread; and for the wait before that.
    timeout: Duration,
    threads: Arc<Semaphore>,
    /// Until when a disk that hung is not asked.
    paused_until: Arc<Mutex<Option<Instant>>>,
    /// Threads of work that was given up and has not ended.
    hanging: Arc<AtomicUsize>,
}

/// No thread was free in time: the load of this process, not the disk.
#[derive(Debug)]
struct NoThread;

impl fmt::Display for NoThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no thread was free for the cache's disk")
    }
}

impl std::error::Error for NoThread {}

/// Whether work was not begun because no thread was free.
pub(super) fn is_busy(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<NoThread>())
}

impl Disk {
    pub(super) fn new(timeout: Duration) -> Self {
        let threads = Arc::new(Semaphore::new(THREADS_MAX));
        Self { timeout, threads, paused_until: Arc::default(), hanging: Arc::default() }
    }

    /// Runs disk work. Work that is given up still occupies its thread until the disk answers.
    ///
    /// # Errors
    /// The work's own; the disk hangs, or hung a moment ago; no thread was free ([`is_busy`]).
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.run_after(self.timeout, work).await
    }

    /// As [`Disk::run`], for a client that can be served without the cache: it does not wait long for a thread.
    pub(super) async fn run_soon<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.run_after(THREAD_WAIT.min(self.timeout), work).await
    }

    async fn run_after<T: Send + 'static>(
        &self,
        wait: Duration,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.asked()?;
        match tokio::time::timeout(wait, self.begin(work)).await {
            Ok(begun) => self.finish(begun?).await,
            Err(_) => Err(busy()),
        }
    }

    /// An error if the disk is not asked now.
    fn asked(&self) -> io::Result<()> {
        let why = if self.paused_until.lock().is_some_and(|until| Instant::now() < until) {
            "the cache's disk hung a moment ago"
        } else if self.hanging.load(Ordering::Acquire) >= THREADS_MAX {
            "the cache's disk hangs"
        } else {
            return Ok(());
        };
        Err(io::Error::new(io::ErrorKind::TimedOut, why))
    }

    /// Ends when the work has a thread and runs. If this is dropped before, the work is never done.
    async fn begin<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<JoinHandle<io::Result<T>>> {
        let thread = Arc::clone(&self.threads).acquire_owned().await;
        // It may have hung meanwhile.
        self.asked()?;
        let (begin, begun) = oneshot::channel();
        let task = tokio::task::spawn_blocking(move || {
            let _thread = thread;
            begin.send(()).map_err(|()| busy())?;
            work()
        });
        // An error says that the task died, and so does the task.
        let _ = begun.await;
        Ok(task)
    }

    async fn finish<T: Send + 'static>(&self, mut task: JoinHandle<io::Result<T>>) -> io::Result<T> {
        for _ in 0..SLICES {
            match tokio::time::timeout(self.timeout / SLICES, &mut task).await {
                Ok(Ok(result)) => return result,
                Ok(Err(error)) => return Err(io::Error::other(format!("a disk task died: {error}"))),
                Err(_) => {}
            }
        }
        *self.paused_until.lock() = Some(Instant::now() + self.timeout);
        self.hanging.fetch_add(1, Ordering::AcqRel);
        let hanging = Arc::clone(&self.hanging);
        tokio::spawn(async move {
            let _ = task.await;
            hanging.fetch_sub(1, Ordering::AcqRel);
        });
        let why = format!("the cache's disk did not answer within {} s", self.timeout.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, why))
    }
}

fn busy() -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, NoThread)
}

/// Bytes that the file system has left for this user.
pub(super) fn free_bytes(path: &Path) -> io::Result<u64> {
    let stats = rustix::fs::statvfs(path)?;
    Ok(stats.f_bavail.saturating_mul(stats.f_frsize))
}

/// The hash of a file's first `end` bytes.
pub(super) fn hash_until(file: &File, end: u64) -> io::Result<Hasher> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; CHUNK];
    while hasher.bytes() < end {
        let len = (end - hasher.bytes()).min(CHUNK as u64) as usize;
        file.read_exact_at(&mut buffer[..len], hasher.bytes())?;
        hasher.update(&buffer[..len]);
    }
    Ok(hasher)
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

/// Reads up to `len` bytes at `offset`; waits for the disk.
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
mod tests {
    use std::sync::mpsc;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(20);

    /// Work under way that lasts until it is told to end.
    struct Lasting {
        end: mpsc::SyncSender<()>,
        begun: oneshot::Receiver<()>,
        result: JoinHandle<io::Result<()>>,
    }

    fn lasting(disk: &Disk) -> Lasting {
        let (disk, (end, ended), (begin, begun)) = (disk.clone(), mpsc::sync_channel(1), oneshot::channel());
        let work = move || {
            let _ = begin.send(());
            ended.recv().map_err(io::Error::other)
        };
        Lasting { end, begun, result: tokio::spawn(async move { disk.run(work).await }) }
    }

    /// Lets time pass for a process that runs, which goes on as soon as something is due.
    async fn pass(seconds: u32) {
        for _ in 0..seconds {
            tokio::time::advance(Duration::from_secs(1)).await;
            tokio::task::yield_now().await;
        }
    }

    async fn kind(result: JoinHandle<io::Result<()>>) -> Option<io::ErrorKind> {
        result.await.expect("no panic").err().map(|error| error.kind())
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hung_is_left_alone_for_a_while() {
        let disk = Disk::new(TIMEOUT);
        let Lasting { end, begun, result } = lasting(&disk);
        begun.await.expect("it runs");
        pass(19).await;
        assert!(!result.is_finished());
        while !result.is_finished() {
            pass(1).await;
        }
        assert_eq!(kind(result).await, Some(io::ErrorKind::TimedOut));
        assert!(disk.run(|| Ok(())).await.is_err(), "asked again at once");
        pass(21).await;
        assert!(disk.run(|| Ok(())).await.is_ok());
        drop(end);
    }

    /// What waits and what runs have each the whole time.
    #[tokio::test(start_paused = true)]
    async fn the_wait_for_a_thread_is_not_the_disks_time() {
        let disk = Disk::new(TIMEOUT);
        let threads = disk.threads.acquire_many(THREADS_MAX as u32).await.expect("free");
        let Lasting { end, begun, result } = lasting(&disk);
        pass(15).await;
        drop(threads);
        begun.await.expect("it runs");
        pass(15).await;
        end.send(()).expect("it runs");
        assert_eq!(kind(result).await, None);
        assert!(disk.run(|| Ok(())).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_in_vain_is_load_and_says_nothing_of_the_disk() {
        let disk = Disk::new(TIMEOUT);
        let threads = disk.threads.acquire_many(THREADS_MAX as u32).await.expect("free");
        let start = Instant::now();
        assert!(disk.run_soon(|| Ok(())).await.is_err_and(|error| is_busy(&error)));
        assert_eq!(start.elapsed(), THREAD_WAIT);
        assert!(disk.run(|| Ok(())).await.is_err_and(|error| is_busy(&error)));
        assert_eq!(start.elapsed(), THREAD_WAIT + TIMEOUT);
        drop(threads);
        assert!(disk.run(|| Ok(())).await.is_ok(), "it is asked as before");
    }

    /// The threads of the runtime are others' too. Work that was refused is never done.
    #[test]
    fn other_work_on_the_runtimes_threads_says_nothing_of_the_disk() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime =
            runtime.enable_time().start_paused(true).max_blocking_threads(1).build().expect("a runtime");
        runtime.block_on(async {
            let disk = Disk::new(TIMEOUT);
            let (end, ended) = mpsc::sync_channel::<()>(1);
            let other = tokio::task::spawn_blocking(move || ended.recv());
            let (done, refused) = (Arc::new(AtomicUsize::new(0)), disk.clone());
            let counted = Arc::clone(&done);
            let refused = tokio::spawn(async move {
                let work = move || Ok(_ = counted.fetch_add(1, Ordering::AcqRel));
                refused.run(work).await
            });
            pass(25).await;
            assert!(refused.await.expect("no panic").is_err_and(|error| is_busy(&error)));
            drop(end);
            assert!(other.await.expect("no panic").is_err());
            assert!(disk.run(|| Ok(())).await.is_ok(), "it is asked as before");
            assert_eq!(done.load(Ordering::Acquire), 0);
        });
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_this_process_did_not_run_is_not_the_disks() {
        let disk = Disk::new(TIMEOUT);
        let Lasting { end, begun, result } = lasting(&disk);
        begun.await.expect("it runs");
        pass(1).await;
        tokio::time::advance(Duration::from_secs(3600)).await;
        pass(10).await;
        end.send(()).expect("it runs");
        assert_eq!(kind(result).await, None);
    }

    /// Nobody waits for threads that the disk holds.
    #[tokio::test(start_paused = true)]
    async fn a_disk_that_holds_all_threads_is_not_asked() {
        let disk = Disk::new(TIMEOUT);
        let mut hanging = Vec::new();
        for _ in 0..THREADS_MAX {
            let Lasting { end, begun, result } = lasting(&disk);
            begun.await.expect("it runs");
            hanging.push((end, result));
        }
        while hanging.iter().any(|(_, result)| !result.is_finished()) {
            pass(1).await;
        }
        pass(25).await;
        let start = Instant::now();
        let refused = disk.run(|| Ok(())).await.map_err(|error| error.kind());
        assert_eq!((refused, start.elapsed()), (Err(io::ErrorKind::TimedOut), Duration::ZERO));
        drop(hanging);
        while disk.hanging.load(Ordering::Acquire) > 0 {
            tokio::task::yield_now().await;
        }
        assert!(disk.run(|| Ok(())).await.is_ok());
    }
}
