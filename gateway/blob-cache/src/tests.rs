//! The cache as a whole, over a real folder.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backends::{Digest, Error, Kind};
use bytes::Bytes;
use futures_util::{FutureExt, Stream, StreamExt, stream};
use http_body_util::BodyExt;
use replication::Local as _;
use tokio::sync::mpsc;
use zone_router::NotOpened;

use super::layout::Layout;
use super::{AtHand, Cache, FileBody, Filled, Follower, Lookup, NotKept, Opened, Origin};
use config::{CacheSettings, Limits, Timeouts};
use gateway_http::BodyError;

fn open(dir: &Path, size: u64) -> Arc<Cache> {
    let settings = CacheSettings { dir: dir.to_owned(), size, reserve: 0 };
    Cache::open(&settings, &Limits::default(), &Timeouts::default()).expect("opens")
}

/// An origin fed by hand: what is sent is the body.
struct Hand {
    digest: Digest,
    size: u64,
    opened: AtomicUsize,
    pieces: Mutex<Option<mpsc::Receiver<Result<Bytes, Error>>>>,
}

impl Hand {
    fn new(bytes: &[u8]) -> (Sender, Arc<Self>) {
        let (sender, pieces) = mpsc::channel(16);
        let (digest, size) = (Digest::of(bytes), bytes.len() as u64);
        (
            sender,
            Arc::new(Self { digest, size, opened: AtomicUsize::new(0), pieces: Mutex::new(Some(pieces)) }),
        )
    }

    fn origin(self: &Arc<Self>) -> impl Fn() -> Origin {
        let hand = Arc::clone(self);
        move || {
            hand.opened.fetch_add(1, Ordering::SeqCst);
            let pieces = hand.pieces.lock().unwrap_or_else(PoisonError::into_inner).take();
            let (digest, size) = (hand.digest, hand.size);
            async move {
                let pieces = pieces.ok_or(NotOpened { answers: Vec::new() })?;
                let body = stream::unfold(pieces, |mut pieces| async move {
                    pieces.recv().await.map(|piece| (piece, pieces))
                });
                let body = crate::proven::proven(body.boxed(), digest, Some(size));
                Ok(Opened { size: Some(size), from: "zone=a".into(), body, resume: None })
            }
            .boxed()
        }
    }
}

async fn fill(cache: &Arc<Cache>, bytes: &'static [u8]) {
    let (send, hand) = Hand::new(bytes);
    send.send(Ok(Bytes::from_static(bytes))).await.expect("taken");
    drop(send);
    let Filled::Following(follower, _) = cache.fill(hand.digest, hand.origin()).await else {
        panic!("not followed")
    };
    let read: Vec<_> = whole(follower).map(|piece| piece.expect("no error")).collect().await;
    assert_eq!(read.concat(), bytes);
}

fn whole(follower: Follower) -> impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static {
    let size = follower.size();
    follower.into_stream(0..size)
}

type Sender = mpsc::Sender<Result<Bytes, Error>>;

/// A fill of `hello` of which `hel` has come.
async fn half_filled(cache: &Arc<Cache>) -> (Sender, Arc<Hand>, Follower) {
    let (send, hand) = Hand::new(b"hello");
    send.send(Ok(Bytes::from_static(b"hel"))).await.expect("taken");
    let Filled::Following(follower, _) = cache.fill(hand.digest, hand.origin()).await else {
        panic!("not followed")
    };
    (send, hand, follower)
}

/// Waits for what happens on another thread.
async fn until(what: &str, mut happened: impl FnMut() -> bool) {
    for _ in 0..500 {
        if happened() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("in vain, until {what}");
}

async fn is_hit(cache: &Arc<Cache>, digest: &Digest) -> bool {
    matches!(cache.get(digest).await, Lookup::Hit(_))
}

async fn read(cache: &Arc<Cache>, digest: &Digest) -> Option<Bytes> {
    let Lookup::Hit(blob) = cache.get(digest).await else { return None };
    Some(FileBody::new(blob.clone(), 0..blob.size).collect().await.expect("reads").to_bytes())
}

#[tokio::test]
async fn filled_once_then_hit_also_after_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let digest = Digest::of(b"hello");
    let cache = open(dir.path(), 1 << 20);
    assert!(!is_hit(&cache, &digest).await);
    fill(&cache, b"hello").await;
    assert_eq!(read(&cache, &digest).await.as_deref(), Some(&b"hello"[..]));
    drop(cache);
    let partial = dir.path().join("partial").join("left-over");
    std::fs::write(&partial, "x").expect("writes");
    let cache = reopen(dir.path()).await;
    assert_eq!(read(&cache, &digest).await.as_deref(), Some(&b"hello"[..]));
    assert!(!partial.exists());
}

/// The old cache goes when its last task has ended.
async fn reopen(dir: &Path) -> Arc<Cache> {
    reopen_with(dir, &Timeouts::default()).await
}

async fn reopen_with(dir: &Path, timeouts: &Timeouts) -> Arc<Cache> {
    let settings = CacheSettings { dir: dir.to_owned(), size: 1 << 20, reserve: 0 };
    let mut cache = None;
    until("its folder is free", || {
        cache = Cache::open(&settings, &Limits::default(), timeouts).ok();
        cache.is_some()
    })
    .await;
    cache.expect("opened")
}

/// Copies read what is whole and trusted, and nothing else.
#[tokio::test]
async fn a_cached_blob_is_at_hand_for_copies() {
    let dir = tempfile::tempdir().expect("a folder");
    let bytes: &'static [u8] = vec![7; 700_000].leak();
    let digest = Digest::of(bytes);
    let cache = open(dir.path(), 1 << 20);
    assert!(AtHand(Arc::clone(&cache)).find(&digest).await.is_none());
    fill(&cache, bytes).await;
    let source = AtHand(Arc::clone(&cache)).find(&digest).await.expect("at hand");
    assert_eq!((source.size(), source.digest()), (700_000, digest));
    for range in [0..700_000, 5..600_000, 699_999..700_000] {
        let pieces: Vec<_> = source.open(range.clone()).await.expect("opens").collect().await;
        let read: u64 = pieces.iter().map(|piece| piece.as_ref().expect("reads").len() as u64).sum();
        assert_eq!(read, range.end - range.start);
    }
    drop((source, cache));
    drop(reopen(dir.path()).await);
    std::fs::write(dir.path().join("boot_id"), "another").expect("writes");
    let cache = reopen(dir.path()).await;
    assert!(AtHand(Arc::clone(&cache)).find(&digest).await.is_none(), "not proven since the reboot");
    assert!(is_hit(&cache, &digest).await);
    assert!(AtHand(cache).find(&digest).await.is_some());
}

/// `hello` is cached, then the machine restarts.
async fn hello_before_a_reboot(dir: &Path) {
    let cache = open(dir, 1 << 20);
    fill(&cache, b"hello").await;
    drop(cache);
    drop(reopen(dir).await);
    std::fs::write(dir.join("boot_id"), "another").expect("writes");
}

#[tokio::test]
async fn followers_share_one_read_and_wait_for_proof_only_at_the_end() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = open(dir.path(), 1 << 20);
    let (send, hand) = Hand::new(b"hello world");
    let mut bodies = Vec::new();
    for n in 0..5 {
        let filling = cache.fill(hand.digest, hand.origin());
        if n == 0 {
            send.send(Ok(Bytes::from_static(b"hello "))).await.expect("taken");
        }
        let Filled::Following(follower, joined) = filling.await else { panic!("not followed") };
        assert_eq!(joined, n > 0);
        bodies.push(Box::pin(whole(follower)));
    }
    for body in &mut bodies {
        let piece = body.next().await.expect("a piece").expect("no error");
        assert!(b"hello ".starts_with(&piece[..]));
    }
    send.send(Ok(Bytes::from_static(b"world"))).await.expect("taken");
    for body in bodies {
        let pieces: Vec<_> = body.map(|piece| piece.expect("no error")).collect().await;
        assert!(pieces.concat().ends_with(b"world"));
    }
    assert_eq!(hand.opened.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn wrong_bytes_are_cut_and_never_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = open(dir.path(), 1 << 20);
    let (send, hand, follower) = half_filled(&cache).await;
    send.send(Ok(Bytes::from_static(b"lO"))).await.expect("taken");
    let pieces: Vec<_> = whole(follower).collect().await;
    assert!(pieces.last().is_some_and(Result::is_err));
    let passed: usize = pieces.iter().flatten().map(Bytes::len).sum();
    assert!(passed < 5);
    assert!(!cache.holds(&hand.digest));
    assert!(!is_hit(&cache, &hand.digest).await);
}

#[tokio::test]
async fn a_client_that_leaves_stops_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = open(dir.path(), 1 << 20);
    let (send, hand, follower) = half_filled(&cache).await;
    drop(follower);
    send.send(Ok(Bytes::from_static(b"lo"))).await.expect("still read");
    until("it is whole", || cache.holds(&hand.digest)).await;
}

#[tokio::test]
async fn abandoned_fills_are_bounded() {
    let dir = tempfile::tempdir().expect("a folder");
    let settings = CacheSettings { dir: dir.path().to_owned(), size: 1 << 20, reserve: 0 };
    let limits = Limits { abandoned_fills: 0, ..Limits::default() };
    let cache = Cache::open(&settings, &limits, &Timeouts::default()).expect("opens");
    let (send, hand, follower) = half_filled(&cache).await;
    drop(follower);
    send.closed().await;
    assert!(!cache.holds(&hand.digest));
}

#[tokio::test]
async fn what_cannot_be_kept_is_streamed() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = open(dir.path(), 4096);
    let big = vec![7; 8192];
    let (send, hand) = Hand::new(&big);
    send.send(Ok(big.clone().into())).await.expect("taken");
    drop(send);
    let Filled::Alone(opened, reason) = cache.fill(hand.digest, hand.origin()).await else { panic!("kept") };
    assert_eq!(reason, NotKept::TooLarge);
    let pieces: Vec<_> = opened.body.map(|piece| piece.expect("no error")).collect().await;
    assert_eq!(pieces.concat(), big);
}

#[tokio::test]
async fn the_reserve_is_left_free() {
    let dir = tempfile::tempdir().expect("a folder");
    let settings = CacheSettings { dir: dir.path().to_owned(), size: 1 << 20, reserve: u64::MAX / 2 };
    let cache = Cache::open(&settings, &Limits::default(), &Timeouts::default()).expect("opens");
    let (send, hand) = Hand::new(b"hello");
    send.send(Ok(Bytes::from_static(b"hello"))).await.expect("taken");
    assert!(matches!(cache.fill(hand.digest, hand.origin()).await, Filled::Alone(_, _)));
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
    let gone = cache.layout().blob(&Digest::of(b"one"));
    until("its file is gone", || !gone.exists()).await;
}

#[tokio::test]
async fn a_file_that_changed_over_a_power_loss_is_dropped() {
    let dir = tempfile::tempdir().expect("a folder");
    let digest = Digest::of(b"hello");
    hello_before_a_reboot(dir.path()).await;
    let path = Layout::create(dir.path()).expect("is there").blob(&digest);
    std::fs::write(&path, b"hellO").expect("writes");
    // The first start after the loss of power: nobody asks for the blob. Then an upgrade.
    drop(reopen(dir.path()).await);
    let cache = reopen(dir.path()).await;
    assert!(!is_hit(&cache, &digest).await);
    fill(&cache, b"hello").await;
    assert!(is_hit(&cache, &digest).await);
}

#[tokio::test]
async fn a_file_that_is_right_after_a_restart_of_the_machine_is_served() {
    let dir = tempfile::tempdir().expect("a folder");
    let digest = Digest::of(b"hello");
    hello_before_a_reboot(dir.path()).await;
    let cache = reopen(dir.path()).await;
    assert_eq!(read(&cache, &digest).await.as_deref(), Some(&b"hello"[..]));
    assert!(cache.layout().blob(&digest).exists(), "proven for good");
}

/// Nobody waits for a proof that takes too long, and all who ask share one fill.
#[tokio::test]
async fn a_fill_supersedes_a_file_that_waits_to_be_proven() {
    let dir = tempfile::tempdir().expect("a folder");
    let digest = Digest::of(b"hello");
    hello_before_a_reboot(dir.path()).await;
    let timeouts = Timeouts { cache_proof: Duration::ZERO, ..Timeouts::default() };
    let cache = reopen_with(dir.path(), &timeouts).await;
    // As if other files were being proven before it.
    let _busy = cache.proving().acquire().await.expect("open");
    assert!(!is_hit(&cache, &digest).await);
    fill(&cache, b"hello").await;
    assert!(is_hit(&cache, &digest).await);
    assert!(!cache.layout().unproven(&digest).exists());
}

#[tokio::test]
async fn a_fill_that_panics_hangs_nobody() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = open(dir.path(), 1 << 20);
    let origin = || -> Origin { async { panic!("a bug in a driver") }.boxed() };
    let filled =
        tokio::time::timeout(Duration::from_secs(10), cache.fill(Digest::of(b"hello"), origin)).await;
    assert!(matches!(filled, Ok(Filled::Broken(_))));
    fill(&cache, b"hello").await;
}

#[tokio::test]
async fn files_are_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("a folder");
    let cache = open(dir.path(), 1 << 20);
    fill(&cache, b"hello").await;
    let mode = |path: &Path| std::fs::metadata(path).expect("is there").permissions().mode() & 0o777;
    let blob = cache.layout().blob(&Digest::of(b"hello"));
    assert_eq!((mode(&blob), mode(blob.parent().expect("a folder"))), (0o600, 0o700));
}

/// The disk, not `cache.size`, is what fills up.
#[tokio::test(flavor = "multi_thread")]
async fn a_cache_bounded_by_its_disk_makes_room_and_keeps() {
    let dir = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let free = super::files::free_bytes(dir.path()).expect("free");
    let settings =
        CacheSettings { dir: dir.path().to_owned(), size: u64::MAX / 4, reserve: free - (50 << 20) };
    let cache = Cache::open(&settings, &Limits::default(), &Timeouts::default()).expect("opens");
    for n in 0..30_u8 {
        let bytes = vec![n; 9 << 20];
        let (send, hand) = Hand::new(&bytes);
        send.send(Ok(bytes.into())).await.expect("taken");
        drop(send);
        let Filled::Following(follower, _) = cache.fill(hand.digest, hand.origin()).await else {
            panic!("blob {n} is refused for want of room; {:?}", cache.status());
        };
        assert!(whole(follower).all(|piece| async move { piece.is_ok() }).await);
    }
}

#[tokio::test]
async fn a_broken_origin_breaks_its_followers_only() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = open(dir.path(), 1 << 20);
    let (send, _hand, follower) = half_filled(&cache).await;
    send.send(Err(Error::new(Kind::Unavailable, "gone"))).await.expect("taken");
    assert!(whole(follower).collect::<Vec<_>>().await.last().is_some_and(Result::is_err));
    fill(&cache, b"hello").await;
}

/// A part of `hello`, of which `hel` has come: what can be read of it now, and the rest of it.
async fn part(
    cache: &Arc<Cache>,
    hand: &Arc<Hand>,
    range: std::ops::Range<u64>,
    now: usize,
) -> (Vec<u8>, impl Stream<Item = Result<Bytes, BodyError>> + Unpin + use<>) {
    let Filled::Following(follower, _) = cache.fill(hand.digest, hand.origin()).await else {
        panic!("not followed")
    };
    let mut body = Box::pin(follower.into_stream(range));
    let mut bytes = Vec::new();
    while bytes.len() < now {
        bytes.extend_from_slice(&body.next().await.expect("more").expect("no error"));
    }
    assert!(body.next().now_or_never().is_none(), "more than is proven");
    (bytes, body)
}

#[tokio::test]
async fn a_part_is_read_up_to_the_watermark_and_completed_when_the_whole_is_proven() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = open(dir.path(), 1 << 20);
    let (send, hand, _follower) = half_filled(&cache).await;
    let mut parts = Vec::new();
    for (range, now) in [(0..2, "h"), (1..3, "e"), (2..3, ""), (1..5, "el"), (3..5, ""), (4..5, "")] {
        let (bytes, rest) = part(&cache, &hand, range.clone(), now.len()).await;
        assert_eq!(bytes, now.as_bytes(), "{range:?}");
        parts.push((range, bytes, rest));
    }
    send.send(Ok(Bytes::from_static(b"lo"))).await.expect("taken");
    drop(send);
    for (range, mut bytes, rest) in parts {
        bytes.extend(rest.map(|piece| piece.expect("no error")).collect::<Vec<_>>().await.concat());
        assert_eq!(bytes, &b"hello"[range.start as usize..range.end as usize], "{range:?}");
    }
    assert_eq!(hand.opened.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn no_part_of_wrong_bytes_is_completed() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = open(dir.path(), 1 << 20);
    let (send, hand, _follower) = half_filled(&cache).await;
    let (bytes, rest) = part(&cache, &hand, 0..2, 1).await;
    assert_eq!(bytes, b"h");
    // Behind the part, and all the same.
    send.send(Ok(Bytes::from_static(b"lO"))).await.expect("taken");
    drop(send);
    let rest: Vec<_> = rest.collect().await;
    assert!(matches!(rest[..], [Err(BodyError::Blob(_))]), "completed");
}

/// A cache of fifteen blobs' room in which twelve lie, each asked for again and again.
async fn twelve_cached(dir: &Path) -> (Arc<Cache>, Vec<Digest>) {
    let cache = open(dir, 15 * 4096);
    let mut digests = Vec::new();
    for n in 0..12_u8 {
        let bytes: &'static [u8] = vec![n; 4096].leak();
        fill(&cache, bytes).await;
        digests.push(Digest::of(bytes));
    }
    for digest in &digests {
        assert!(is_hit(&cache, digest).await);
    }
    (cache, digests)
}

async fn all_are_here(cache: &Arc<Cache>, digests: &[Digest]) {
    cache.reap();
    for digest in digests {
        assert!(is_hit(cache, digest).await);
    }
}

#[tokio::test]
async fn one_request_whose_client_leaves_evicts_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cache, digests) = twelve_cached(dir.path()).await;
    // Two blobs' room beside the index is free, so the first comes in and the second does not.
    for blocks in [2, 10] {
        let bytes = vec![99; blocks * 4096];
        let (send, hand) = Hand::new(&bytes);
        let filled = cache.fill(hand.digest, hand.origin()).await;
        drop(filled);
        let _ = send.send(Ok(bytes.into())).await;
        drop(send);
        until("its fill has ended", || cache.status().fills == 0).await;
        all_are_here(&cache, &digests).await;
    }
    assert!(cache.status().bytes <= cache.status().capacity);
}

#[tokio::test]
async fn what_is_asked_for_twice_makes_others_go() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cache, digests) = twelve_cached(dir.path()).await;
    let bytes = vec![99; 10 * 4096];
    for time in 0..2 {
        let (send, hand) = Hand::new(&bytes);
        send.send(Ok(bytes.clone().into())).await.expect("taken");
        drop(send);
        match cache.fill(hand.digest, hand.origin()).await {
            Filled::Alone(opened, NotKept::AskedOnce) if time == 0 => {
                assert!(opened.body.all(|piece| async move { piece.is_ok() }).await);
                all_are_here(&cache, &digests).await;
            }
            Filled::Following(follower, _) if time == 1 => {
                assert!(follower.into_stream(0..10 * 4096).all(|piece| async move { piece.is_ok() }).await);
            }
            _ => panic!("time {time}"),
        }
    }
    assert!(is_hit(&cache, &Digest::of(&bytes)).await);
    assert!(cache.status().bytes <= cache.status().capacity);
    assert!(!is_hit(&cache, &digests[0]).await && is_hit(&cache, &digests[11]).await);
}

/// A rollout: many ask at once for what was never seen, and the cache is full.
#[tokio::test]
async fn many_first_pulls_are_one_read_and_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cache, _) = twelve_cached(dir.path()).await;
    fill(&cache, vec![50; 4096].leak()).await;
    let bytes = vec![99; 4096 + 1];
    let (send, hand) = Hand::new(&bytes);
    let mut bodies = Vec::new();
    for _ in 0..20 {
        let Filled::Following(follower, _) = cache.fill(hand.digest, hand.origin()).await else {
            panic!("not followed")
        };
        bodies.push(follower.into_stream(0..4097));
    }
    send.send(Ok(bytes.into())).await.expect("taken");
    drop(send);
    for body in bodies {
        assert!(body.all(|piece| async move { piece.is_ok() }).await);
    }
    assert_eq!(hand.opened.load(Ordering::SeqCst), 1);
    assert!(is_hit(&cache, &hand.digest).await);
    assert!(cache.status().bytes <= cache.status().capacity);
}
