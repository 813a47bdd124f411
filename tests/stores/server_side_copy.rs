//! Server-side copies from one store of the configuration to another.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use backends::{Digest, Key, Source, Store};
use real_servers::{PATIENT, RadosGw, SeaweedFs, Swift, SwiftOptions};
use replication::{FanOut, Journal, Setup};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use zone_router::{Blob, Zone};

use crate::checks::{holds, noise};
use crate::{build, s3};

const MIB: usize = 1 << 20;

/// Copies objects of `sizes` from one store to the other and verifies their bytes. Nothing is copied over an
/// existing object.
async fn copies(from: &dyn Store, to: &dyn Store, sizes: &[usize]) -> Result<()> {
    for (seed, size) in sizes.iter().enumerate() {
        // No part is copied from a name that needs encoding.
        let odd = if *size <= 5 * MIB { " & 100%" } else { "" };
        let key = Key::new(format!("sha256/ab/within-{size}{odd}"));
        let there = from.copy_source(&key).context("it is nowhere")?;
        let absent = to.copy(&key, &there, *size as u64).await;
        ensure!(absent.is_err(), "a missing object was copied: {absent:?}");
        ensure!(to.head(&key).await?.is_none(), "the failed copy left an object");
        let bytes = noise(seed as u64, *size);
        from.put(&key, &Source::bytes(bytes.clone())).await?;
        ensure!(to.copy(&key, &there, *size as u64).await?, "{size} bytes were not copied");
        holds(to, &key, &bytes).await?;
        from.put(&key, &Source::bytes(noise(seed as u64 + 100, *size))).await?;
        ensure!(
            !to.copy(&key, &there, *size as u64).await?,
            "{size} bytes were copied over an existing object"
        );
        holds(to, &key, &bytes).await?;
        from.delete(&key).await?;
        ensure!(to.head(&key).await?.is_some(), "the copy disappeared with its source");
        to.delete(&key).await?;
    }
    Ok(())
}

/// One store has a truncated blob, the other the complete one. If copies in both directions are requested,
/// with any size, both stores have the complete blob afterwards. The same holds if the target has no object.
async fn keep_the_complete_blob(one: &Arc<dyn Store>, other: &Arc<dyn Store>) -> Result<()> {
    for (seed, said) in [None, Some(3 * MIB), Some(2 * MIB), Some(4711)].into_iter().enumerate() {
        let bytes = noise(200 + seed as u64, 3 * MIB);
        let digest = Digest::of(&bytes);
        let key = Key::new(format!("sha256/{}/{}", &digest.hex()[..2], digest.hex()));
        one.put(&key, &Source::bytes(bytes.slice(..2 * MIB))).await?;
        other.put(&key, &Source::bytes(bytes.clone())).await?;
        let folder = tempfile::tempdir()?;
        let zones = vec![Zone::new("one", Arc::clone(one)), Zone::new("other", Arc::clone(other))];
        let stop = CancellationToken::new();
        let journal = Journal::open(&folder.path().join("journal"))?;
        let fan_out = FanOut::start(Setup::new(zones, journal), stop.clone());
        for round in ["over a truncated blob", "without an object"] {
            let blob = Blob { digest, key: key.clone() };
            let size = said.map(|size| size as u64);
            fan_out.enqueue("org/repo", &[(blob, size)], &["one".into(), "other".into()]).await?;
            timeout(Duration::from_secs(60), fan_out.idle()).await.context("copies")??;
            for store in [one, other] {
                holds(&**store, &key, &bytes).await.with_context(|| format!("{round}, {said:?}"))?;
            }
            one.delete(&key).await?;
        }
        stop.cancel();
        fan_out.stopped().await;
        other.delete(&key).await?;
    }
    Ok(())
}

/// A store with other keys or another endpoint is not used for a copy.
async fn is_refused(from: &dyn Store, to: &dyn Store) -> Result<()> {
    let key = Key::new("stranger");
    if let Some(there) = from.copy_source(&key) {
        ensure!(!to.copy(&key, &there, 1).await?, "copied with other credentials");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn within_radosgw() {
    let server = RadosGw::start("first").await.expect("RadosGW starts");
    let second = server.bucket.sibling("second").await.expect("another bucket");
    let s3 = |bucket| s3::in_copied_parts(bucket).expect("builds");
    let (from, to) = (s3(&server.bucket), s3(&second));
    copies(&from, &to, &[1, 100_000, 5 * MIB, 5 * MIB + 1, 17 * MIB]).await.expect("copies by S3");
    assert_eq!(second.open_uploads().await.expect("lists"), 0);
    let (one, other): (Arc<dyn Store>, Arc<dyn Store>) =
        (Arc::new(s3(&server.bucket)), Arc::new(s3(&second)));
    keep_the_complete_blob(&one, &other).await.expect("S3");
    let (odd, size) = (Key::new("an odd name"), 5 * MIB as u64 + 1);
    let there = from.copy_source(&odd).expect("somewhere");
    assert!(!to.copy(&odd, &there, size).await.expect("asks nobody"), "a part of an odd name");
    let stranger = build(s3::with(&second, "secret_key", "another"), PATIENT).expect("builds");
    is_refused(&from, &*stranger).await.expect("a stranger is refused");

    let mut containers = Vec::new();
    for name in ["third", "fourth"] {
        let container = server.container(name).await.expect("a container");
        containers.push(build(container.as_zone("/datastorage/registry"), PATIENT).expect("builds"));
    }
    copies(&*containers[0], &*containers[1], &[1, 100_000, 17 * MIB]).await.expect("copies by Swift");
    keep_the_complete_blob(&containers[0], &containers[1]).await.expect("Swift");
    is_refused(&*containers[0], &to).await.expect("another protocol is refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn within_swift() {
    let server = Swift::with_own_users("container", SwiftOptions::default()).await.expect("Swift starts");
    let root = |root: &str| build(server.container.as_zone(root), PATIENT).expect("builds");
    copies(&*root("/one"), &*root("/two/three"), &[1, 100_000, 17 * MIB]).await.expect("copies");
    keep_the_complete_blob(&root("/one"), &root("/two/three")).await.expect("keeps");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn within_seaweedfs() {
    let server = SeaweedFs::start("first").await.expect("SeaweedFS starts");
    let second = server.bucket.sibling("second").await.expect("another bucket");
    let s3 = |bucket| s3::in_copied_parts(bucket).expect("builds");
    let sizes = [1, 100_000, 5 * MIB + 1, 17 * MIB];
    copies(&s3(&server.bucket), &s3(&second), &sizes).await.expect("copies");
}
