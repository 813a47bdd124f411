//! Waits for copies and verifies them in the stores' own files.

use std::fs::File;
use std::io::Read as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use backends::{Digest, Hasher};
use futures_util::future::try_join_all;
use harness::image::Image;
use harness::zone::Zone;

use crate::fixture::Fixture;
use crate::screen::Screen;
use crate::{format, image};

/// How often the stores are checked.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The longest time to wait for the copies.
const ARRIVAL_MAX: Duration = Duration::from_secs(120);

/// The size of the buffer for hashing, in bytes.
const PIECE: usize = 1 << 20;

/// Waits until every blob of the image is in every other zone. Returns the time since `start`.
pub(crate) async fn wait_for_copies(
    fixture: &Fixture,
    image: &Image,
    start: Instant,
    screen: &Screen,
) -> Result<Duration> {
    let arrivals = fixture.others().iter().map(|zone| wait_for_copies_in(zone, image, start, screen));
    let took = try_join_all(arrivals).await?;
    Ok(took.into_iter().max().unwrap_or_default())
}

async fn wait_for_copies_in(zone: &Zone, image: &Image, start: Instant, screen: &Screen) -> Result<Duration> {
    let bar = screen.bar(&format!("copies in {}", zone.name), image::size(image));
    let all = image::blobs(image).len();
    let wait = async {
        while count(zone, image) < all {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    let waited = tokio::time::timeout(ARRIVAL_MAX, bar.during(|| present(zone, image), wait)).await;
    let took = start.elapsed();
    if waited.is_err() {
        bail!("{} has only {} of {all} blobs after {}", zone.name, count(zone, image), format::time(took));
    }
    drop(bar);
    screen.print(&format!("  {} has all {all} blobs, {} after the push", zone.name, format::time(took)));
    Ok(took)
}

/// The number of blobs of the image in the zone.
pub(crate) fn count(zone: &Zone, image: &Image) -> usize {
    image::blobs(image).iter().filter(|blob| zone.has(&blob.digest)).count()
}

fn present(zone: &Zone, image: &Image) -> u64 {
    image::blobs(image).iter().filter(|blob| zone.has(&blob.digest)).map(|blob| blob.size).sum()
}

/// The number of blobs of the image in the zone whose bytes are correct. Reads and hashes all of them.
pub(crate) async fn verified(zone: &Zone, image: &Image) -> Result<usize> {
    let blobs: Vec<_> =
        image::blobs(image).iter().map(|blob| (zone.path(&blob.digest), blob.digest)).collect();
    let hashing = tokio::task::spawn_blocking(move || -> Result<usize> {
        let mut right = 0;
        for (path, digest) in blobs {
            let file = File::open(&path).with_context(|| path.display().to_string())?;
            right += usize::from(hash(file)? == digest);
        }
        Ok(right)
    });
    hashing.await.context("hashing")?
}

fn hash(mut file: File) -> Result<Digest> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; PIECE];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            length => hasher.update(&buffer[..length]),
        }
    }
}
