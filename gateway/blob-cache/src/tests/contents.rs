//! What operators do with the contents: list, evict, verify, pin.

use std::collections::HashSet;
use std::time::SystemTime;

use backends::Digest;
use limits::pool::Identity;

use super::{fill, is_hit, open, read, reopen, until};
use crate::layout::Layout;
use crate::{Evicted, FileBody, Verdict};

#[tokio::test]
async fn blobs_are_listed_by_their_last_use_and_page_by_page() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = open(dir.path(), 1 << 20);
    for bytes in [&b"one"[..], b"two", b"three"] {
        fill(&cache, bytes).await;
    }
    assert!(is_hit(&cache, &Digest::of(b"one")).await);
    let (mut after, mut digests) = (None, Vec::new());
    while let [(place, blob)] = &*cache.list(after, 1) {
        (after, digests) = (Some(*place), [digests, vec![blob.digest]].concat());
        assert!(blob.proven && !blob.pinned && blob.used_at <= SystemTime::now());
    }
    assert_eq!(digests, [b"two", &b"three"[..], b"one"].map(Digest::of));
}

#[tokio::test]
async fn a_blob_that_is_read_can_be_evicted() {
    use http_body_util::BodyExt as _;

    let dir = tempfile::tempdir().expect("a folder");
    let (cache, digest) = (open(dir.path(), 1 << 20), Digest::of(b"hello"));
    fill(&cache, b"hello").await;
    let blob = cache.get(&Identity::GATEWAY, &digest).await.expect("opens").expect("is there");
    assert_eq!([cache.evict(&digest), cache.evict(&digest)], [Evicted::Gone(5), Evicted::Absent]);
    let path = Layout::create(dir.path()).expect("is there").blob(&digest);
    until("its file is removed", || !path.exists()).await;
    assert_eq!(FileBody::new(blob, 0..5).collect().await.expect("reads on").to_bytes(), "hello");
    assert!(!is_hit(&cache, &digest).await);
    fill(&cache, b"hello").await;
    assert!(is_hit(&cache, &digest).await);
}

#[tokio::test]
async fn a_wrong_file_is_found_and_removed_for_good() {
    let dir = tempfile::tempdir().expect("a folder");
    let layout = Layout::create(dir.path()).expect("is there");
    let cache = open(dir.path(), 1 << 20);
    for bytes in [&b"right"[..], b"wrong", b"short", b"gone!"] {
        fill(&cache, bytes).await;
    }
    let [right, wrong, short, gone] = [&b"right"[..], b"wrong", b"short", b"gone!"].map(Digest::of);
    std::fs::write(layout.blob(&wrong), b"WRONG").expect("writes");
    std::fs::write(layout.blob(&short), b"sho").expect("writes");
    std::fs::remove_file(layout.blob(&gone)).expect("removes");
    for (digest, verdict) in [
        (right, Verdict::Right),
        (wrong, Verdict::Wrong),
        (short, Verdict::Wrong),
        (gone, Verdict::Wrong),
        (Digest::of(b"never"), Verdict::Absent),
        (wrong, Verdict::Absent),
    ] {
        assert_eq!(cache.verify(&digest).await, verdict, "{digest}");
    }
    until("the wrong files are removed", || !layout.blob(&wrong).exists() && !layout.blob(&short).exists())
        .await;
    assert_eq!(read(&cache, &right).await.as_deref(), Some(&b"right"[..]));
    drop(cache);
    let cache = reopen(dir.path()).await;
    assert_eq!(cache.list(None, 9).iter().map(|(_, blob)| blob.digest).collect::<Vec<_>>(), [right]);
    fill(&cache, b"wrong").await;
    assert_eq!(cache.verify(&wrong).await, Verdict::Right);
}

#[tokio::test]
async fn pinned_blobs_are_not_evicted_and_come_in_when_the_cache_is_full() {
    let dir = tempfile::tempdir().expect("a folder");
    // Sixteen blocks, of which whole blobs may have fourteen, and pinned ones eleven.
    let cache = open(dir.path(), 16 * 4096);
    let pinned = Digest::of(b"pinned");
    let all = |digests: &[Digest]| digests.iter().copied().collect::<HashSet<_>>();
    const OTHERS: [&[u8]; 14] =
        [b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"9", b"10", b"11", b"12", b"13"];
    for bytes in OTHERS {
        fill(&cache, bytes).await;
    }
    assert_eq!(cache.set_pins(all(&[pinned])), []);
    fill(&cache, b"pinned").await;
    assert!(cache.is_pinned(&pinned) && cache.status().pinned == 4096);
    assert_eq!(cache.evict(&pinned), Evicted::Pinned);
    for bytes in OTHERS {
        if !cache.holds(&Digest::of(bytes)) {
            fill(&cache, bytes).await;
        }
    }
    assert!(cache.holds(&pinned));
    let kept: Vec<_> = cache.list(None, 99).iter().map(|(_, blob)| blob.digest).collect();
    let refused = cache.set_pins(all(&kept));
    assert_eq!((kept.len() - refused.len(), cache.status().pinned_max), (11, 11 * 4096));
    cache.set_pins(HashSet::new());
    assert_eq!((cache.status().pinned, cache.evict(&pinned)), (0, Evicted::Gone(6)));
}
