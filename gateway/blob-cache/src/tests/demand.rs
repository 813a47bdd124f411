//! Which requests evict others.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use backends::Digest;
use futures_util::StreamExt;

use super::{Hand, Pulled, fill, is_hit, open, pull, until};
use crate::{BypassReason, Cache};

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
        let filled = pull(&cache, &hand).await;
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
