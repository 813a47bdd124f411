//! Cached blobs as sources of copies.

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use backends::Digest;
use futures_util::StreamExt;
use replication::Local as _;
use tokio::sync::oneshot;

use super::{fill, is_hit, open, reopen, until};
use crate::unremoved::Unremoved;
use crate::{Cache, CopySource};

/// Copies read only blobs that are whole and trusted.
#[tokio::test]
async fn a_cached_blob_is_at_hand_for_copies() {
    let dir = tempfile::tempdir().expect("a folder");
    let bytes: &'static [u8] = vec![7; 700_000].leak();
    let digest = Digest::of(bytes);
    let cache = open(dir.path(), 1 << 20);
    assert!(CopySource(Arc::clone(&cache)).find(&digest).await.is_none());
    fill(&cache, bytes).await;
    let source = CopySource(Arc::clone(&cache)).find(&digest).await.expect("at hand");
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
    assert!(CopySource(Arc::clone(&cache)).find(&digest).await.is_none(), "not proven since the reboot");
    assert!(is_hit(&cache, &digest).await);
    assert!(CopySource(cache).find(&digest).await.is_some());
}

/// If a file rots after it was verified, it is served to nobody once a copy has noticed that.
#[tokio::test]
async fn a_cached_blob_that_gave_wrong_bytes_is_hashed_before_it_is_served_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let bytes: &'static [u8] = vec![7; 700_000].leak();
    let digest = Digest::of(bytes);
    let cache = open(dir.path(), 1 << 20);
    fill(&cache, bytes).await;
    let source = CopySource(Arc::clone(&cache));
    source.distrust(&digest).await;
    assert!(is_hit(&cache, &digest).await, "its bytes are right");
    let file = std::fs::File::options().write(true).open(cache.layout.blob(&digest)).expect("opens");
    std::os::unix::fs::FileExt::write_all_at(&file, b"rot", 1000).expect("writes");
    source.distrust(&digest).await;
    assert!(!is_hit(&cache, &digest).await);
    fill(&cache, bytes).await;
    assert!(is_hit(&cache, &digest).await);
}

/// Puts other bytes into a cached blob's file.
fn rot(cache: &Cache, digest: &Digest) {
    let file = std::fs::File::options().write(true).open(cache.layout.blob(digest)).expect("opens");
    std::os::unix::fs::FileExt::write_all_at(&file, b"rot", 0).expect("writes");
}

/// Withdrawing the trust does not use the disk, because a disk that returns wrong bytes may hang.
#[tokio::test]
async fn a_cached_blob_that_gave_wrong_bytes_is_out_of_use_although_the_disk_is_not_asked() {
    let dir = tempfile::tempdir().expect("a folder");
    let digest = Digest::of(b"hello");
    let cache = open(dir.path(), 1 << 20);
    fill(&cache, b"hello").await;
    cache.disk.hang();
    rot(&cache, &digest);
    assert!(cache.holds(&digest));
    CopySource(Arc::clone(&cache)).distrust(&digest).await;
    assert!(!cache.holds(&digest));
    let file = cache.layout.blob(&digest);
    until("its file is removed", || !file.exists()).await;
}

/// Caches `hello` with wrong bytes that are known to be wrong. The file can be neither moved nor removed, because of
/// the folder at the returned path.
async fn wrong_and_stuck(dir: &Path) -> PathBuf {
    let digest = Digest::of(b"hello");
    let cache = open(dir, 1 << 20);
    fill(&cache, b"hello").await;
    rot(&cache, &digest);
    let obstacle = cache.layout.unproven(&digest);
    std::fs::create_dir_all(&obstacle).expect("creates");
    CopySource(Arc::clone(&cache)).distrust(&digest).await;
    assert!(!is_hit(&cache, &digest).await);
    until("the reaper has tried", || cache.cleanups.take(0).1).await;
    // The reaper may be working on it.
    drop(cache.reaping.lock());
    assert!(cache.layout.blob(&digest).exists(), "it is there");
    obstacle
}

/// Checks that a restart trusts no blob that this work found wrong, although the removal of its file hangs. A lock
/// stands for a disk on which calls that move or remove a file do not end.
async fn assert_not_trusted_after_a_restart<T: Send + 'static>(
    dir: &Path,
    cache: &Arc<Cache>,
    finds_it: impl Future<Output = T> + Send + 'static,
) {
    let hangs = Arc::clone(cache);
    let (end, ended) = mpsc::sync_channel::<()>(0);
    let (begin, begun) = oneshot::channel();
    let hang = std::thread::spawn(move || {
        let _placing = hangs.placing.lock();
        begin.send(()).expect("is waited for");
        // Ends when `end` is dropped.
        let _ = ended.recv();
    });
    begun.await.expect("the lock is held");
    let finding = tokio::spawn(finds_it);
    let list = dir.join("unremoved");
    let restarted = || Unremoved::read(&list).and_then(|unremoved| cache.layout.recover(unremoved.digests()));
    until("a restart does not trust the file", || restarted().expect("reads").is_empty()).await;
    assert!(cache.layout.blob(&Digest::of(b"hello")).exists(), "it is in its place");
    drop(end);
    hang.join().expect("ends");
    finding.await.expect("ends");
    until("it waits to be hashed", || restarted().expect("reads").len() == 1).await;
}

#[tokio::test]
async fn a_restart_does_not_trust_a_wrong_file_whose_removal_hangs() {
    let dir = tempfile::tempdir().expect("a folder");
    let digest = Digest::of(b"hello");
    let cache = open(dir.path(), 1 << 20);
    fill(&cache, b"hello").await;
    let source = CopySource(Arc::clone(&cache));
    let finds_it = async move { source.distrust(&digest).await };
    assert_not_trusted_after_a_restart(dir.path(), &cache, finds_it).await;
    assert!(is_hit(&cache, &digest).await, "its bytes are right");
}

#[tokio::test]
async fn a_restart_does_not_trust_a_file_that_lost_bytes_and_whose_removal_hangs() {
    let dir = tempfile::tempdir().expect("a folder");
    let digest = Digest::of(b"hello");
    let cache = open(dir.path(), 1 << 20);
    fill(&cache, b"hello").await;
    cache.open_files.invalidate(&digest);
    std::fs::write(cache.layout.blob(&digest), b"hel").expect("writes");
    let pulled = Arc::clone(&cache);
    let finds_it = async move { assert!(!is_hit(&pulled, &digest).await) };
    assert_not_trusted_after_a_restart(dir.path(), &cache, finds_it).await;
    assert!(!is_hit(&cache, &digest).await);
    fill(&cache, b"hello").await;
    assert!(is_hit(&cache, &digest).await);
}

#[tokio::test]
async fn a_restart_does_not_trust_a_file_that_could_not_be_removed() {
    let dir = tempfile::tempdir().expect("a folder");
    let digest = Digest::of(b"hello");
    let obstacle = wrong_and_stuck(dir.path()).await;
    for _ in 0..2 {
        let cache = reopen(dir.path()).await;
        assert!(!is_hit(&cache, &digest).await);
        assert_eq!(cache.status().blobs, 0);
    }
    std::fs::remove_dir(&obstacle).expect("removes");
    let cache = reopen(dir.path()).await;
    let file = cache.layout.blob(&digest);
    until("its file is removed", || !file.exists()).await;
    fill(&cache, b"hello").await;
    drop(cache);
    assert!(is_hit(&reopen(dir.path()).await, &digest).await, "it is trusted again");
}
