//! What a restart and a reboot find.

use std::path::Path;
use std::time::Duration;

use backends::Digest;
use config::Timeouts;

use super::{fill, is_hit, open, read, reopen, reopen_sized, reopen_with, until};
use crate::layout::Layout;

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

/// Caches `hello`. Then the machine restarts.
async fn hello_before_a_reboot(dir: &Path) {
    let cache = open(dir, 1 << 20);
    fill(&cache, b"hello").await;
    drop(cache);
    drop(reopen(dir).await);
    std::fs::write(dir.join("boot_id"), "another").expect("writes");
}

#[tokio::test]
async fn a_file_that_changed_over_a_power_loss_is_dropped() {
    let dir = tempfile::tempdir().expect("a folder");
    let digest = Digest::of(b"hello");
    hello_before_a_reboot(dir.path()).await;
    let path = Layout::create(dir.path()).expect("is there").blob(&digest);
    std::fs::write(&path, b"hellO").expect("writes");
    // The first start after the loss of power, in which nobody asks for the blob. Then an upgrade.
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
    assert!(cache.layout.blob(&digest).exists(), "proven for good");
}

/// If a proof takes too long, nobody waits for it, and all who ask share one fill.
#[tokio::test]
async fn a_fill_supersedes_a_file_that_waits_to_be_proven() {
    let dir = tempfile::tempdir().expect("a folder");
    let digest = Digest::of(b"hello");
    hello_before_a_reboot(dir.path()).await;
    let timeouts = Timeouts { cache_proof: Duration::ZERO, ..Timeouts::default() };
    let cache = reopen_with(dir.path(), &timeouts).await;
    // This looks as if other files were being proven first.
    let _busy = cache.rechecks.acquire().await.expect("open");
    assert!(!is_hit(&cache, &digest).await);
    fill(&cache, b"hello").await;
    assert!(is_hit(&cache, &digest).await);
    assert!(!cache.layout.unproven(&digest).exists());
}

/// If a blob is larger than a cache whose size was lowered, it evicts no other blob, and is evicted itself.
#[tokio::test]
async fn a_smaller_cache_keeps_what_fits() {
    let dir = tempfile::tempdir().expect("a folder");
    let cache = open(dir.path(), 1 << 20);
    let large: &'static [u8] = vec![7; 700_000].leak();
    for bytes in [&b"one"[..], b"two", large] {
        fill(&cache, bytes).await;
    }
    drop(cache);
    for (size, blobs) in [(600_000, 2), (1 << 20, 2), (4096, 1)] {
        let cache = reopen_sized(dir.path(), size).await;
        let file = cache.layout.blob(&Digest::of(large));
        until("its file is gone", || !file.exists()).await;
        let status = cache.status();
        assert!(status.bytes <= status.capacity, "{status:?}");
        assert_eq!(status.blobs, blobs);
    }
}

#[tokio::test]
async fn files_are_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("a folder");
    let cache = open(dir.path(), 1 << 20);
    fill(&cache, b"hello").await;
    let mode = |path: &Path| std::fs::metadata(path).expect("is there").permissions().mode() & 0o777;
    let blob = cache.layout.blob(&Digest::of(b"hello"));
    assert_eq!((mode(&blob), mode(blob.parent().expect("a folder"))), (0o600, 0o700));
}
