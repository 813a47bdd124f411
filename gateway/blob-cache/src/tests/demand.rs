//! Tests of which requests evict others.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use backends::Digest;
use futures_util::StreamExt;

use super::{Hand, Pulled, Sender, fill, is_hit, open, peer, pull, start, until};
use crate::fill::Phase;
use crate::{BypassReason, Cache, Follower, Lookup, NoFill};

/// A cache with space for fifteen blobs that contains twelve, each of which was asked for again and again.
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
    // Space for three blobs is free, so the first one comes in and the second one does not.
    for blocks in [2, 10] {
        let bytes = vec![99; blocks * 4096];
        let (send, hand) = Hand::new(&bytes);
        let filled = pull(&cache, &hand).await;
        drop(filled);
        let _ = send.send(Ok(bytes.into())).await;
        drop(send);
        until("its fill has ended", || cache.status().fills == 0).await;
        all_are_here(&cache, &digests).await;
    }
    assert!(cache.status().bytes <= cache.status().capacity);
}

/// This holds for any number of requests that a client sends at once, from any address of its network.
#[tokio::test]
async fn requests_of_one_network_that_leave_evict_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cache, digests) = twelve_cached(dir.path()).await;
    let bytes = vec![99; 10 * 4096];
    let (send, hand) = Hand::new(&bytes);
    let lookup = cache.join_or_fill(&peer("2001:db8::1"), &hand.digest).await;
    let Lookup::Fill(writer, first) = lookup else { panic!("no writer") };
    let mut others = Vec::new();
    for address in ["2001:db8::1", "2001:db8:0:1::1"] {
        let lookup = cache.join_or_fill(&peer(address), &hand.digest).await;
        let Lookup::Join(join) = lookup else { panic!("no fill") };
        others.push(join);
    }
    let given_back = start(writer, async move { hand.open() });
    assert!(
        matches!(first.follow().await, Err(NoFill::Bypass(bypass)) if bypass.reason() == BypassReason::AskedOnce)
    );
    drop((others, given_back, send));
    until("its fill has ended", || cache.status().fills == 0).await;
    all_are_here(&cache, &digests).await;
}

/// Bytes of all files, whole and partial.
fn on_disk(cache: &Cache) -> u64 {
    let mut folders = vec![cache.layout.root().to_owned()];
    let mut bytes = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
            match entry.metadata().expect("is there") {
                folder if folder.is_dir() => folders.push(entry.path()),
                file if entry.file_name() != "boot_id" && entry.file_name() != "lock" => bytes += file.len(),
                _ => {}
            }
        }
    }
    bytes
}

/// A fill of ten blocks that clients of two networks asked for, in a cache with three free blocks.
async fn asked_by_two(cache: &Arc<Cache>) -> (Sender, Arc<Hand>, [Follower; 2]) {
    let (send, hand) = Hand::new(&[99; 10 * 4096]);
    let digest = hand.digest;
    let Lookup::Fill(writer, first) = cache.join_or_fill(&peer("192.0.2.1"), &digest).await else {
        panic!("no writer")
    };
    let Lookup::Join(second) = cache.join_or_fill(&peer("192.0.2.2"), &digest).await else {
        panic!("no fill")
    };
    let opened = Arc::clone(&hand);
    drop(start(writer, async move { opened.open() }));
    let followers = [first.follow().await, second.follow().await].map(|follower| follower.expect("a fill"));
    (send, hand, followers)
}

async fn receive(send: &Sender, cache: &Cache, hand: &Hand, blocks: usize) {
    for _ in 0..blocks {
        let before = written(cache, hand);
        send.send(Ok(vec![99; 4096].into())).await.expect("taken");
        until("it is written", || written(cache, hand) > before).await;
        assert!(on_disk(cache) <= cache.status().capacity, "{} bytes", on_disk(cache));
    }
}

/// The bytes that a fill has written.
fn written(cache: &Cache, hand: &Hand) -> u64 {
    match cache.fills.get(&hand.digest).map(|fill| fill.phase.borrow().clone()) {
        Some(Phase::Filling(_, written)) => written,
        _ => 0,
    }
}

/// A fill takes the free space first. After that it takes as much as arrives, while a client stays.
#[tokio::test]
async fn requests_of_several_networks_that_leave_evict_what_was_received() {
    for (received, gone) in [(3, 0), (5, 2)] {
        let dir = tempfile::tempdir().expect("a folder");
        let (cache, digests) = twelve_cached(dir.path()).await;
        let (send, hand, [first, second]) = asked_by_two(&cache).await;
        receive(&send, &cache, &hand, received).await;
        drop(second);
        drop(first);
        send.send(Ok(vec![99; 4096].into())).await.expect("taken");
        let left = 12 - gone;
        until("its space is free", || cache.status().bytes == left as u64 * 4096).await;
        all_are_here(&cache, &digests[gone..]).await;
        assert_eq!(digests.iter().filter(|digest| cache.holds(digest)).count(), left);
    }
}

/// A client that stays gets the whole blob, and the blob is kept.
#[tokio::test]
async fn one_of_several_that_stays_keeps_what_comes() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cache, digests) = twelve_cached(dir.path()).await;
    let (send, hand, [first, second]) = asked_by_two(&cache).await;
    receive(&send, &cache, &hand, 3).await;
    drop((first, second));
    // No client is there, and nothing needs to be evicted yet.
    let Pulled::Following(third, true) = pull(&cache, &hand).await else { panic!("not joined") };
    receive(&send, &cache, &hand, 6).await;
    send.send(Ok(vec![99; 4096].into())).await.expect("taken");
    drop(send);
    assert!(third.into_stream(0..10 * 4096).all(|piece| async move { piece.is_ok() }).await);
    assert!(is_hit(&cache, &hand.digest).await);
    all_are_here(&cache, &digests[8..]).await;
    assert!(!is_hit(&cache, &digests[7]).await, "an eighth is left free again");
    assert!(on_disk(&cache) <= 14 * 4096);
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
        match pull(&cache, &hand).await {
            Pulled::Bypass(body, BypassReason::AskedOnce) if time == 0 => {
                assert!(body.all(|piece| async move { piece.is_ok() }).await);
                all_are_here(&cache, &digests).await;
            }
            Pulled::Following(follower, _) if time == 1 => {
                assert!(follower.into_stream(0..10 * 4096).all(|piece| async move { piece.is_ok() }).await);
            }
            _ => panic!("time {time}"),
        }
    }
    assert!(is_hit(&cache, &Digest::of(&bytes)).await);
    assert!(cache.status().bytes <= cache.status().capacity);
    assert!(!is_hit(&cache, &digests[0]).await && is_hit(&cache, &digests[11]).await);
}

/// A rollout: many clients ask at once for a blob that was never seen, and the cache is full.
#[tokio::test]
async fn many_first_pulls_are_one_read_and_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cache, _) = twelve_cached(dir.path()).await;
    fill(&cache, vec![50; 4096].leak()).await;
    let bytes = vec![99; 4096 + 1];
    let (send, hand) = Hand::new(&bytes);
    let mut bodies = Vec::new();
    for _ in 0..20 {
        let Pulled::Following(follower, _) = pull(&cache, &hand).await else { panic!("not followed") };
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
