//! Copies into real stores of different kinds.

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use backends::{Digest, Hasher, Key, Store, StoreConfig};
use futures_util::TryStreamExt as _;
use harness::gateway::Gateway;
use harness::image::Spec;
use harness::quay::Options;
use harness::site::{LOGIN, Site};
use real_servers::{Azurite, Kind, PATIENT, RealZone, SeaweedFs, Swift, SwiftOptions, plain_transport};
use replication::{FanOut, Journal, Setup};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use zone_router::{Blob, Zone};

const ROOT: &str = "/datastorage/registry";

/// How long one zone is dead after the push.
const DEAD: Duration = Duration::from_secs(60);

/// The timeout for the zones that work, and for the dead zone after its return.
const COPY_BOUND: Duration = Duration::from_secs(50);

/// How often the stores are checked.
const CHECK_EVERY: Duration = Duration::from_millis(200);

/// A size that is larger than one object in Swift and one request in S3 can be.
const BEYOND: u64 = 5 * (1 << 30) + (1 << 20);

fn store(entry: Value) -> Result<Arc<dyn Store>> {
    let entry: StoreConfig = serde_json::from_value(entry)?;
    Ok(entry.build(&plain_transport(PATIENT))?)
}

fn key(digest: &Digest) -> Key {
    let hex = digest.hex();
    Key::new(format!("sha256/{}/{hex}", &hex[..2]))
}

/// Whether a store has the blob with the correct bytes.
async fn has(store: &dyn Store, digest: &Digest) -> Result<bool> {
    let Some(object) = store.get(&key(digest), None).await? else { return Ok(false) };
    let mut hasher = Hasher::new();
    let mut body = object.body;
    while let Some(piece) = body.try_next().await? {
        hasher.update(&piece);
    }
    ensure!(hasher.finish() == *digest, "wrong bytes of {digest}");
    Ok(true)
}

/// Waits until a store has all of these blobs.
async fn arrive(name: &str, store: &dyn Store, digests: &[Digest], within: Duration) -> Result<()> {
    let began = Instant::now();
    for digest in digests {
        while !has(store, digest).await.unwrap_or(false) {
            ensure!(
                began.elapsed() < within,
                "{name}: {digest} did not arrive within {} s",
                within.as_secs()
            );
            tokio::time::sleep(CHECK_EVERY).await;
        }
    }
    Ok(())
}

/// Quay keeps the push in RadosGW. Azure's emulator and a Swift with Keystone get copies. The Swift is dead
/// for the first minute.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_push_reaches_three_kinds_of_store() -> Result<()> {
    let radosgw = RealZone::start("radosgw", Kind::RadosGw).await?;
    let mut swift = Swift::with_keystone("blobs", SwiftOptions::default()).await?;
    let azurite = Azurite::start("blobs").await?;
    let site = Site::over(vec![radosgw], Options::default())?;
    let mut quay = site.quay.config();
    let (in_swift, in_azure) = (swift.container.as_zone(ROOT), azurite.as_zone(ROOT));
    quay["DISTRIBUTED_STORAGE_CONFIG"]["swift"] = in_swift.clone();
    quay["DISTRIBUTED_STORAGE_CONFIG"]["azure"] = in_azure.clone();
    quay["DISTRIBUTED_STORAGE_PREFERENCE"] = json!(["radosgw", "swift", "azure"]);
    quay["DISTRIBUTED_STORAGE_DEFAULT_LOCATIONS"] = json!(["radosgw", "swift", "azure"]);
    let config = site.gateway_config(&json!({}));
    let gateway = Gateway::start(&config, &[("quay.yaml", &quay.to_string())]).await?;
    let image = Spec::layers(1, &[3 << 20, 10_000, 70 << 20]).build()?;
    let digests: Vec<Digest> = image.blobs().iter().map(|blob| blob.digest).collect();

    swift.process.stop();
    let began = Instant::now();
    gateway.client(LOGIN)?.push("admin/one", "v1", &image).await?;
    arrive("Azure", &*store(in_azure)?, &digests, COPY_BOUND).await?;
    let status = gateway.status().await?;
    let lanes = status["copies"].as_array().context("lanes")?;
    let owed = lanes.iter().find(|lane| lane["zone"] == "swift").context("a lane for Swift")?;
    ensure!(owed["waiting"] == digests.len(), "{owed}");
    tokio::time::sleep(DEAD.saturating_sub(began.elapsed())).await;
    swift.process.restart().await?;
    arrive("Swift", &*store(in_swift)?, &digests, COPY_BOUND).await
}

/// Copies into Swift in segments like Quay's, and into S3 in parts. The source is a sparse file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_that_is_larger_than_one_request() -> Result<()> {
    let swift = Swift::with_own_users("blobs", SwiftOptions::default()).await?;
    let seaweed = SeaweedFs::start("blobs").await?;
    let folder = tempfile::tempdir()?;
    let digest = zeros(BEYOND);
    let file = folder.path().join("zone").join(key(&digest).as_str());
    std::fs::create_dir_all(file.parent().context("a folder")?)?;
    File::create(&file)?.set_len(BEYOND)?;
    let source = json!(["LocalStorage", {"storage_path": folder.path().join("zone")}]);
    let targets =
        [("swift", swift.container.as_zone(ROOT)), ("s3", seaweed.bucket.as_zone(seaweed.bucket.port, ROOT))];
    let mut zones = vec![Zone::new("folder", store(source)?)];
    for (name, entry) in &targets {
        zones.push(Zone::new(name, store(entry.clone())?));
    }
    let journal = Journal::open(&folder.path().join("journal.sqlite"))?;
    let fan_out = FanOut::start(Setup::new(zones.clone(), journal), CancellationToken::new());
    let blob = Blob { digest, key: key(&digest) };
    let names = targets.each_ref().map(|(name, _)| Arc::from(*name));
    fan_out.enqueue("admin/one", &[(blob.clone(), Some(BEYOND))], &names).await?;
    fan_out.idle().await?;
    for zone in &zones[1..] {
        let there = zone.store.head(&blob.key).await?.with_context(|| format!("{}: absent", zone.name))?;
        ensure!(there.size == BEYOND, "{}: {} bytes", zone.name, there.size);
        // The last bytes are in the last segment or part.
        let tail = zone.store.get(&blob.key, Some(BEYOND - 1000..BEYOND)).await?.context("absent")?;
        let tail: Vec<_> = tail.body.try_collect().await?;
        ensure!(tail.concat() == [0; 1000], "{}: wrong bytes at the end", zone.name);
    }
    let name = format!("datastorage/registry/{}", blob.key);
    let manifest = swift.container.manifest(&name).await?.context("the object has no segments")?;
    ensure!(manifest.starts_with("blobs/datastorage/registry/segments/"), "{manifest}");
    let segments = swift.container.names("datastorage/registry/segments/").await?;
    ensure!(segments.len() as u64 == BEYOND.div_ceil(200_000_000), "{} segments", segments.len());
    Ok(())
}

fn zeros(size: u64) -> Digest {
    const PIECE: u64 = 1 << 20;
    let piece = vec![0; PIECE as usize];
    let mut hasher = Hasher::new();
    for _ in 0..size / PIECE {
        hasher.update(&piece);
    }
    hasher.finish()
}
