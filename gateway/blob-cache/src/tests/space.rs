//! What fits into the cache and onto its disk, and what is streamed past it.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use backends::Digest;
use bytes::Bytes;
use config::{CacheSettings, Limits, Timeouts};
use futures_util::StreamExt;
use limits::pool::Identity;
use tokio::sync::oneshot;

use super::{Hand, Pulled, fill, is_hit, open, pull, until, whole};
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
    let settings = CacheSettings { dir: dir.path().to_owned(), size: 1 << 20, reserve: u64::MAX / 2 };
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

/// Work for other clients has all threads of the disk. Nobody waits long for one, and the disk is not to blame.
#[tokio::test(start_paused = true)]
async fn a_blob_that_would_wait_for_a_thread_is_streamed() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = open(dir.path(), 1 << 20);
    fill(&cache, b"hello").await;
    let digest = Digest::of(b"hello");
    let mut busy = Vec::new();
    for _ in 0..64 {
        let ((end, ended), (begin, begun)) = (mpsc::sync_channel::<()>(1), oneshot::channel());
        let disk = cache.disk.clone();
        let work = move || {
            let _ = begin.send(());
            Ok(_ = ended.recv())
        };
        let task = tokio::spawn(async move { disk.run(work).await });
        begun.await.expect("it runs");
        busy.push((end, task));
    }
    cache.open_files.invalidate(&digest);
    let looking = tokio::spawn({
        let cache = Arc::clone(&cache);
        async move { cache.lookup(&Identity::GATEWAY, &digest).await }
    });
    while !looking.is_finished() {
        tokio::time::advance(Duration::from_millis(100)).await;
        tokio::task::yield_now().await;
    }
    let Ok(Lookup::Bypass(bypass)) = looking.await else { panic!("no bypass") };
    assert_eq!(bypass.reason(), BypassReason::Busy);
    for (end, task) in busy {
        drop(end);
        assert!(task.await.expect("no panic").is_ok(), "the disk has had time");
    }
    assert!(is_hit(&cache, &digest).await, "the disk is asked as before");
}

/// The disk, not `cache.size`, is what fills up.
#[tokio::test(flavor = "multi_thread")]
async fn a_cache_bounded_by_its_disk_makes_room_and_keeps() {
    let dir = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let free = crate::disk::free_bytes(dir.path()).expect("free");
    let settings =
        CacheSettings { dir: dir.path().to_owned(), size: u64::MAX / 4, reserve: free - (50 << 20) };
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
