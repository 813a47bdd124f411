//! Tests of fills and their followers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use backends::{Digest, Error, Hasher, Kind};
use bytes::Bytes;
use config::{CacheSettings, Limits, Timeouts};
use futures_util::{StreamExt, stream};
use limits::pool::Identity;
use zone_router::Verified;

use super::{Hand, Pulled, fill, half_filled, is_hit, open, pull, start, until, whole};
use crate::demand::Demand;
use crate::disk::Disk;
use crate::fill::{Failure, Fill, Head, Phase};
use crate::{Cache, CachedBlob, Interrupted, Join, Lookup, NoFill};

#[tokio::test]
async fn followers_share_one_read_and_wait_for_proof_only_at_the_end() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = open(dir.path(), 1 << 20);
    let (send, hand) = Hand::new(b"hello world");
    let mut bodies = Vec::new();
    for n in 0..5 {
        let filling = pull(&cache, &hand);
        if n == 0 {
            send.send(Ok(Bytes::from_static(b"hello "))).await.expect("taken");
        }
        let Pulled::Following(follower, joined) = filling.await else { panic!("not followed") };
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
    let settings = CacheSettings {
        dir: dir.path().to_owned(),
        unremoved: dir.path().join("unremoved"),
        size: 1 << 20,
        reserve: 0,
    };
    let limits = Limits { abandoned_fills: 0, ..Limits::default() };
    let cache = Cache::open(&settings, &limits, &Timeouts::default()).expect("opens");
    let (send, hand, follower) = half_filled(&cache).await;
    drop(follower);
    send.closed().await;
    assert!(!cache.holds(&hand.digest));
}

#[tokio::test]
async fn a_fill_that_panics_hangs_nobody() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = open(dir.path(), 1 << 20);
    let lookup = cache.join_or_fill(&Identity::GATEWAY, &Digest::of(b"hello")).await;
    let Lookup::Fill(writer, join) = lookup else { panic!("not to be filled") };
    start(writer, async { panic!("a bug in a driver") });
    let followed = tokio::time::timeout(Duration::from_secs(10), join.follow()).await;
    assert!(matches!(followed, Ok(Err(NoFill::Broken(_)))));
    fill(&cache, b"hello").await;
}

#[tokio::test]
async fn a_writer_that_is_dropped_is_a_fill_that_failed() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = open(dir.path(), 1 << 20);
    let (digest, who) = (Digest::of(b"hello"), Identity::GATEWAY);
    let Lookup::Fill(writer, first) = cache.join_or_fill(&who, &digest).await else { panic!("no writer") };
    let Lookup::Join(second) = cache.join_or_fill(&who, &digest).await else { panic!("two writers") };
    drop(writer);
    for join in [first, second] {
        assert!(matches!(join.follow().await, Err(NoFill::Broken(_))));
    }
    assert_eq!(cache.fill_slots.status().used, 0);
    fill(&cache, b"hello").await;
}

#[tokio::test]
async fn a_body_of_another_blob_is_not_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = open(dir.path(), 1 << 20);
    let digest = Digest::of(b"hello");
    let lookup = cache.join_or_fill(&Identity::GATEWAY, &digest).await;
    let Lookup::Fill(writer, join) = lookup else { panic!("no writer") };
    let body = stream::iter([Ok(Bytes::from_static(b"world"))]).boxed();
    start(writer, async { Ok(Verified::hashing(body, Digest::of(b"world"), Some(5))) });
    assert!(matches!(join.follow().await, Err(NoFill::Broken(_))));
    assert!(!cache.holds(&digest) && !cache.holds(&Digest::of(b"world")));
}

/// The disk fails after three or all of five bytes. The rest comes from elsewhere, right or wrong.
#[tokio::test]
async fn followers_go_on_without_the_disk_and_are_completed_only_by_proof() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("file");
    std::fs::write(&path, b"hello").expect("writes");
    for (written, range, rest, complete) in [
        (3_u64, 0..5_u64, &b"lo"[..], true),
        (3, 0..5, b"lO", false),
        (3, 1..4, b"lo", true),
        (3, 0..2, b"lo", true),
        (3, 0..2, b"lO", false),
        (5, 0..5, b"", true),
        (5, 2..4, b"", true),
    ] {
        let file = Arc::new(std::fs::File::open(&path).expect("opens"));
        let (disk, reader) = (Disk::new(Duration::from_secs(10), 1), Identity::GATEWAY);
        let head = Arc::new(Head { blob: CachedBlob { file, size: 5, disk, reader }, from: "zone=a".into() });
        let fill = Arc::new(Fill::new(Digest::of(b"hello"), reader));
        let join = Join::new(&fill, &reader, Demand::new().begin(&fill.digest, reader.network()));
        fill.phase.send_replace(Phase::Filling(head, written));
        let follower = join.follow().await.expect("open");
        let mut seen = Hasher::new();
        seen.update(&b"hello"[..written as usize]);
        fill.phase.send_replace(Phase::Failed(Failure::Disk { seen: Arc::new(seen) }));
        let mut bytes = Vec::new();
        let mut body = Box::pin(follower.into_stream(range.clone()));
        let remainder = loop {
            match body.next().await.expect("more") {
                Ok(piece) => bytes.extend_from_slice(&piece),
                Err(Interrupted::Disk(remainder)) => break remainder,
                Err(Interrupted::Broken(why)) => panic!("{why}"),
            }
        };
        assert_eq!((remainder.seen().bytes(), remainder.size()), (written, 5));
        // The body is proven as a router does it, with the hash of the earlier bytes.
        let all = [&b"hello"[..written as usize], rest].concat();
        let whole = stream::iter(all.into_iter().map(|byte| Ok(Bytes::from(vec![byte])))).boxed();
        let mut rest = Verified::hashing(whole, Digest::of(b"hello"), Some(5));
        for _ in 0..written {
            rest.next().await;
        }
        let pieces: Vec<_> = remainder.continue_with(rest).collect().await;
        assert_eq!(pieces.iter().all(Result::is_ok), complete, "{written} {range:?}");
        bytes.extend(pieces.into_iter().flatten().flatten());
        let wanted = &b"hello"[range.start as usize..range.end as usize];
        assert_eq!(&bytes[..], if complete { wanted } else { &wanted[..wanted.len() - 1] });
    }
}

#[tokio::test]
async fn a_broken_source_breaks_its_followers_only() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = open(dir.path(), 1 << 20);
    let (send, _hand, follower) = half_filled(&cache).await;
    send.send(Err(Error::new(Kind::Unavailable, "gone"))).await.expect("taken");
    assert!(whole(follower).collect::<Vec<_>>().await.last().is_some_and(Result::is_err));
    fill(&cache, b"hello").await;
}
