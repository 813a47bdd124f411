//! Tests of the disk's threads and of its time limit.

use std::sync::mpsc;

use http::HeaderMap;

use super::*;
use crate::cached_blob::CachedBlob;

const TIMEOUT: Duration = Duration::from_secs(20);

const GATEWAY: Identity = Identity::GATEWAY;

impl Disk {
    /// Makes the disk look as if it hung: it is not used.
    pub(crate) fn hang(&self) {
        self.hanging.store(HANGING_MAX, Ordering::Release);
    }
}

fn disk() -> Disk {
    Disk::new(TIMEOUT, 1000)
}

/// A client in its own network, on one of its connections.
fn client(network: u8, connection: u8) -> Identity {
    let number = u64::from(network) * 1000 + u64::from(connection);
    Identity::of_request([192, 0, 2, network].into(), &HeaderMap::new(), Some(number))
}

/// Takes all threads, each for another client.
fn take_all(disk: &Disk) -> Vec<Slot> {
    let take = |network| disk.threads.try_take(&client(network, 0)).expect("free");
    (100..100 + THREADS_MAX as u8).map(take).collect()
}

/// Work that runs until it is told to end.
struct Lasting {
    end: mpsc::SyncSender<()>,
    begun: oneshot::Receiver<()>,
    result: JoinHandle<io::Result<()>>,
}

fn lasting(disk: &Disk, who: Identity) -> Lasting {
    let (disk, (end, ended), (begin, begun)) = (disk.clone(), mpsc::sync_channel(1), oneshot::channel());
    let work = move || {
        let _ = begin.send(());
        ended.recv().map_err(io::Error::other)
    };
    Lasting { end, begun, result: tokio::spawn(async move { disk.run(&who, work).await }) }
}

/// Waits for an event on another thread, without any time passing.
async fn until(what: &str, mut happened: impl FnMut() -> bool) {
    for _ in 0..10_000_000 {
        if happened() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("in vain, until {what}");
}

/// Whether work for this client, which can be served without the cache, is done before any time passes.
async fn is_served(disk: &Disk, who: Identity) -> bool {
    let disk = disk.clone();
    let served = tokio::spawn(async move { disk.run_soon(&who, || Ok(())).await });
    until("the work has ended", || served.is_finished()).await;
    served.await.expect("no panic").is_ok()
}

/// If a client takes nothing, nobody polls the body that reads for it.
#[tokio::test(start_paused = true)]
async fn a_read_that_nobody_polls_keeps_no_thread() {
    let (disk, mut file) = (disk(), tempfile::tempfile().expect("a file"));
    std::io::Write::write_all(&mut file, b"x").expect("writes");
    let all = take_all(&disk);
    let blob = CachedBlob { file: Arc::new(file), size: 1, disk: disk.clone(), reader: client(1, 1) };
    let mut read = std::pin::pin!(blob.read_from_disk(&(0..1)));
    assert!(futures_util::poll!(read.as_mut()).is_pending());
    until("it waits", || disk.pool().status().waiting == 1).await;
    drop(all);
    until("its thread is free", || (disk.pool().status().used, disk.pool().status().waiting) == (0, 0)).await;
    assert_eq!(read.await.expect("reads"), "x");
}

/// Lets time pass for a process that runs, so that each timer fires when it is due.
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
    let disk = disk();
    let Lasting { end, begun, result } = lasting(&disk, GATEWAY);
    begun.await.expect("it runs");
    pass(19).await;
    assert!(!result.is_finished());
    while !result.is_finished() {
        pass(1).await;
    }
    assert_eq!(kind(result).await, Some(io::ErrorKind::TimedOut));
    assert!(disk.run(&GATEWAY, || Ok(())).await.is_err(), "asked again at once");
    pass(21).await;
    assert!(disk.run(&GATEWAY, || Ok(())).await.is_ok());
    drop(end);
}

/// The wait for a thread and the work each have the whole time limit.
#[tokio::test(start_paused = true)]
async fn the_wait_for_a_thread_is_not_the_disks_time() {
    let disk = disk();
    let threads = take_all(&disk);
    let Lasting { end, begun, result } = lasting(&disk, GATEWAY);
    pass(15).await;
    drop(threads);
    begun.await.expect("it runs");
    pass(15).await;
    end.send(()).expect("it runs");
    assert_eq!(kind(result).await, None);
    assert!(disk.run(&GATEWAY, || Ok(())).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_wait_in_vain_is_load_and_says_nothing_of_the_disk() {
    let disk = disk();
    let threads = take_all(&disk);
    let start = Instant::now();
    assert!(disk.run_soon(&GATEWAY, || Ok(())).await.is_err_and(|error| is_busy(&error)));
    assert_eq!(start.elapsed(), THREAD_WAIT);
    assert!(disk.run(&GATEWAY, || Ok(())).await.is_err_and(|error| is_busy(&error)));
    assert_eq!(start.elapsed(), THREAD_WAIT + TIMEOUT);
    drop(threads);
    assert!(disk.run(&GATEWAY, || Ok(())).await.is_ok(), "it is asked as before");
}

/// Other code shares the threads of the runtime. Work that was refused never runs.
#[test]
fn other_work_on_the_runtimes_threads_says_nothing_of_the_disk() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime =
        runtime.enable_time().start_paused(true).max_blocking_threads(1).build().expect("a runtime");
    runtime.block_on(async {
        let disk = disk();
        let (end, ended) = mpsc::sync_channel::<()>(1);
        let other = tokio::task::spawn_blocking(move || ended.recv());
        let (done, refused) = (Arc::new(AtomicUsize::new(0)), disk.clone());
        let counted = Arc::clone(&done);
        let refused = tokio::spawn(async move {
            let work = move || Ok(_ = counted.fetch_add(1, Ordering::AcqRel));
            refused.run(&GATEWAY, work).await
        });
        pass(25).await;
        assert!(refused.await.expect("no panic").is_err_and(|error| is_busy(&error)));
        drop(end);
        assert!(other.await.expect("no panic").is_err());
        assert!(disk.run(&GATEWAY, || Ok(())).await.is_ok(), "it is asked as before");
        assert_eq!(done.load(Ordering::Acquire), 0);
    });
}

#[tokio::test(start_paused = true)]
async fn time_in_which_this_process_did_not_run_is_not_the_disks() {
    let disk = disk();
    let Lasting { end, begun, result } = lasting(&disk, GATEWAY);
    begun.await.expect("it runs");
    pass(1).await;
    tokio::time::advance(Duration::from_secs(3600)).await;
    pass(10).await;
    end.send(()).expect("it runs");
    assert_eq!(kind(result).await, None);
}

/// Nobody waits for threads that a hanging disk holds, not even a client that holds its whole share.
#[tokio::test(start_paused = true)]
async fn a_disk_that_holds_half_of_the_threads_is_not_asked() {
    let disk = disk();
    let mut hanging = Vec::new();
    for _ in 0..THREADS_MAX / 2 {
        let Lasting { end, begun, result } = lasting(&disk, client(1, 1));
        begun.await.expect("it runs");
        hanging.push((end, result));
    }
    assert!(disk.threads.try_take(&client(1, 1)).is_err(), "its whole share");
    while hanging.iter().any(|(_, result)| !result.is_finished()) {
        pass(1).await;
    }
    pass(25).await;
    let start = Instant::now();
    let refused = disk.run(&client(1, 1), || Ok(())).await.map_err(|error| error.kind());
    assert_eq!((refused, start.elapsed()), (Err(io::ErrorKind::TimedOut), Duration::ZERO));
    drop(hanging);
    while disk.hanging.load(Ordering::Acquire) > 0 {
        tokio::task::yield_now().await;
    }
    assert!(disk.run(&GATEWAY, || Ok(())).await.is_ok());
}

/// Starts many pieces of work for one network. Each runs until it is told to end. `begun` of them run.
async fn greedy(disk: &Disk, network: u8, count: usize, begun: usize) -> Vec<Lasting> {
    let all = (0..count).map(|number| lasting(disk, client(network, (number % 60) as u8))).collect();
    let pool = || disk.pool().status();
    until("all run or wait", || pool().used + pool().waiting == count).await;
    assert_eq!(pool().used, begun);
    all
}

/// Ends one piece of work that runs.
async fn end_one(all: &mut Vec<Lasting>) {
    let mut running = None;
    let begun = |one: &mut Lasting| one.begun.try_recv().is_ok();
    until("one runs", || {
        running = all.iter_mut().position(begun);
        running.is_some()
    })
    .await;
    let Lasting { end, result, .. } = all.remove(running.expect("one runs"));
    end.send(()).expect("it runs");
    assert_eq!(kind(result).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_network_with_many_reads_leaves_threads_to_others() {
    let disk = disk();
    let mut all = greedy(&disk, 1, 500, 60).await;
    assert!(is_served(&disk, client(2, 0)).await && is_served(&disk, GATEWAY).await);
    // Other clients hold the rest.
    let others = [3, 4, 5, 6].map(|network| lasting(&disk, client(network, 0)));
    until("all threads are taken", || disk.pool().status().used == THREADS_MAX).await;
    let late = tokio::spawn({
        let disk = disk.clone();
        async move { is_served(&disk, client(2, 0)).await }
    });
    until("it waits, too", || disk.pool().status().waiting == 441).await;
    end_one(&mut all).await;
    assert!(late.await.expect("no panic"), "the first to be served");
    drop((all, others));
}

/// All clients come from one address.
#[tokio::test(start_paused = true)]
async fn a_network_that_is_alone_has_nearly_all_threads() {
    let disk = disk();
    let mut all = greedy(&disk, 1, 200, 60).await;
    for left in (0..200).rev() {
        end_one(&mut all).await;
        until("the next runs", || disk.pool().status().used == left.min(60)).await;
    }
}

/// However long a file is, other work has its turn between the pieces of its hash.
#[tokio::test(start_paused = true)]
async fn a_long_file_is_hashed_in_pieces() {
    let (disk, dir) = (disk(), tempfile::tempdir().expect("a folder"));
    let path = dir.path().join("file");
    let file = File::create_new(&path).expect("creates");
    let length = (12 << 20) - 1;
    file.set_len(length).expect("a file of zeros");
    let file = Arc::new(File::open(path).expect("opens"));
    let mut threads = take_all(&disk);
    let hash = tokio::spawn({
        let disk = disk.clone();
        async move { disk.hash(&client(1, 0), &file, length).await }
    });
    let waiting = || disk.pool().status().waiting;
    until("the hash waits", || waiting() == 1).await;
    let Lasting { end, begun, result } = lasting(&disk, client(2, 0));
    until("the other work waits", || waiting() == 2).await;
    threads.pop();
    begun.await.expect("it runs after the first piece");
    until("the second piece waits, or there is none", || waiting() == 1 || hash.is_finished()).await;
    assert!(!hash.is_finished(), "hashed as one piece");
    end.send(()).expect("it runs");
    assert_eq!(kind(result).await, None);
    let hasher = hash.await.expect("no panic").expect("hashes");
    assert_eq!(hasher.bytes(), length);
    drop(threads);
}
