//! Tests of which blobs are the largest and the most used.

use backends::Digest;

use super::{fill, is_hit, open};
use crate::{CachedBlobFacts, Census};

#[tokio::test]
async fn the_largest_and_the_most_used_are_told() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = open(dir.path(), 1 << 20);
    assert_eq!(cache.census(3), Census::default());
    let mut digests = Vec::new();
    for n in 1..=5_u8 {
        let bytes: &'static [u8] = vec![n; usize::from(n) * 1000].leak();
        fill(&cache, bytes).await;
        digests.push(Digest::of(bytes));
    }
    for _ in 0..50 {
        assert!(is_hit(&cache, &digests[1]).await);
    }
    let before = cache.census(1).hottest[0].uses;
    let Census { largest, hottest } = cache.census(3);
    assert_eq!(largest.iter().map(|facts| facts.size).collect::<Vec<_>>(), [5000, 4000, 3000]);
    let most_used = CachedBlobFacts { digest: digests[1], size: 2000, uses: before };
    assert_eq!(hottest[0], most_used, "a census is no use");
    assert!(before >= 50);
}
