//! Tests of what fits into the cache and onto its disk, and what is streamed past the cache.

use std::io;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use backends::Digest;
use bytes::Bytes;
use config::{CacheSettings, Limits, Timeouts};
use futures_util::StreamExt;
use limits::pool::Identity;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Hand, Pulled, fill, is_hit, open, peer, pull, start, until, whole};
use crate::{BypassReason, Cache, Lookup};

#[tokio::test]
async fn what_cannot_be_kept_is_streamed() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = open(dir.path(), 4096);
    let big = vec![7; 8192];
    let (send, hand) = Hand::new(&big);
    send.send(Ok(big.clone().into())).await.expect("taken");
    drop(send);
    let Pulled::Bypass(body, reason) = pull(&cache, &hand).await else { panic!("kept") };
    assert_eq!(reason, BypassReason::TooLarge);
    let pieces: Vec<_> = body.map(|piece| piece.expect("no error")).collect().await;
    assert_eq!(pieces.concat(), big);
}

#[tokio::test]
async fn the_reserve_is_left_free() {
    let dir = tempfile::tempdir().expect("a folder");
    let settings = CacheSettings {
        dir: dir.path().to_owned(),
        unremoved: dir.path().join("unremoved"),
        size: 1 << 20,
        reserve: u64::MAX / 2,
    };
    let cache = Cache::open(&settings, &Limits::default(), &Timeouts::default()).expect("opens");
    let (send, hand) = Hand::new(b"hello");
    send.send(Ok(Bytes::from_static(b"hello"))).await.expect("taken");
    assert!(matches!(pull(&cache, &hand).await, Pulled::Bypass(_, _)));
}

#[tokio::test]
async fn bytes_stay_below_the_size() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = open(dir.path(), 3 * 4096);
    for bytes in [&b"one"[..], b"two", b"three", b"four", b"five"] {
        fill(&cache, bytes).await;
    }
    let status = cache.status();
    assert!(status.bytes <= status.capacity, "{status:?}");
    assert!(is_hit(&cache, &Digest::of(b"five")).await);
    assert!(!is_hit(&cache, &Digest::of(b"one")).await);
    let gone = cache.layout.blob(&Digest::of(b"one"));
    until("its file is gone", || !gone.exists()).await;
}

/// Starts work for a client. The work has a thread and keeps it until the sender is dropped.
async fn keep_thread(cache: &Cache, client: Identity) -> (mpsc::SyncSender<()>, JoinHandle<io::Result<()>>) {
    let ((end, ended), (begin, begun)) = (mpsc::sync_channel::<()>(1), oneshot::channel());
    let disk = cache.disk.clone();
    let work = move || {
        let _ = begin.send(());
        Ok(_ = ended.recv())
    };
    let task = tokio::spawn(async move { disk.run(&client, work).await });
    begun.await.expect("it runs");
    (end, task)
}

/// Looks a blob up, either for any time or while no time passes.
async fn lookup(cache: &Arc<Cache>, client: Identity, digest: Digest, time_passes: bool) -> Lookup {
    let cache = Arc::clone(cache);
    let looking = tokio::spawn(async move { cache.lookup(&client, &digest).await });
    while !looking.is_finished() {
        if time_passes {
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        tokio::task::yield_now().await;
    }
    looking.await.expect("no panic")
}

/// If work for other clients has all threads of the disk, nobody waits long for one, and the disk is not blamed.
#[tokio::test(start_paused = true)]
async fn a_blob_that_would_wait_for_a_thread_is_streamed() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = open(dir.path(), 1 << 20);
    fill(&cache, b"hello").await;
    let digest = Digest::of(b"hello");
    let mut busy = Vec::new();
    for network in 0..64 {
        busy.push(keep_thread(&cache, peer(&format!("192.0.2.{network}"))).await);
    }
    cache.open_files.invalidate(&digest);
    let found = lookup(&cache, Identity::GATEWAY, digest, true).await;
    let Lookup::Bypass(bypass) = found else { panic!("no bypass") };
    assert_eq!(bypass.reason(), BypassReason::Busy);
    for (end, task) in busy {
        drop(end);
        assert!(task.await.expect("no panic").is_ok(), "the disk has had time");
    }
    assert!(is_hit(&cache, &digest).await, "the disk is asked as before");
}

/// A client that has its whole share of the threads waits. Other clients do not wait, not even behind a fill of that
/// client.
#[tokio::test(start_paused = true)]
async fn a_client_with_much_disk_work_delays_only_itself() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = open(dir.path(), 1 << 20);
    fill(&cache, b"hello").await;
    let (greedy, other) = (peer("192.0.2.1"), peer("192.0.2.2"));
    let (hello, world) = (Digest::of(b"hello"), Digest::of(b"world"));
    let mut busy = Vec::new();
    for _ in 0..60 {
        busy.push(keep_thread(&cache, greedy).await);
    }
    for (client, is_hit) in [(greedy, false), (other, true), (Identity::GATEWAY, true)] {
        cache.open_files.invalidate(&hello);
        let found = lookup(&cache, client, hello, !is_hit).await;
        assert_eq!(matches!(found, Lookup::Hit(_)), is_hit, "{client:?}");
    }
    let Lookup::Fill(writer, _first) = lookup(&cache, greedy, world, false).await else { panic!("no fill") };
    let Lookup::Join(join) = lookup(&cache, other, world, false).await else { panic!("two fills") };
    let (send, hand) = Hand::new(b"world");
    send.send(Ok(Bytes::from_static(b"world"))).await.expect("taken");
    drop(send);
    start(writer, async move { hand.open() });
    let follower = join.follow().await.expect("it is kept");
    assert!(whole(follower).all(|piece| async move { piece.is_ok() }).await);
    drop(busy);
}

/// The disk fills up before `cache.size` is reached.
#[tokio::test(flavor = "multi_thread")]
async fn a_cache_bounded_by_its_disk_makes_room_and_keeps() {
    let dir = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let free = crate::disk::free_bytes(dir.path()).expect("free");
    let settings = CacheSettings {
        dir: dir.path().to_owned(),
        unremoved: dir.path().join("unremoved"),
        size: u64::MAX / 4,
        reserve: free - (50 << 20),
    };
    let cache = Cache::open(&settings, &Limits::default(), &Timeouts::default()).expect("opens");
    for n in 0..30_u8 {
        let bytes = vec![n; 9 << 20];
        let (send, hand) = Hand::new(&bytes);
        send.send(Ok(bytes.into())).await.expect("taken");
        drop(send);
        let Pulled::Following(follower, _) = pull(&cache, &hand).await else {
            panic!("blob {n} is refused for want of room; {:?}", cache.status());
        };
        assert!(whole(follower).all(|piece| async move { piece.is_ok() }).await);
    }
}
