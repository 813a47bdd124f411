//! Copies in the zones, seen in the stores' own files.

use std::fs::File;
use std::io::Read as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use backends::{Digest, Hasher};
use futures_util::future::try_join_all;
use tests::image::Image;
use tests::zone::Zone;

use crate::screen::Screen;
use crate::stage::Stage;
use crate::{format, image};

/// How often the stores are looked at.
const LOOK: Duration = Duration::from_millis(10);

/// How long copies are waited for.
const ARRIVAL_MAX: Duration = Duration::from_secs(120);

/// Bytes of a file hashed at once.
const PIECE: usize = 1 << 20;

/// Waits until every blob of the image lies in every other zone; gives the time since `start`.
pub(crate) async fn arrive(
    stage: &Stage,
    image: &Image,
    start: Instant,
    screen: &Screen,
) -> Result<Duration> {
    let arrivals = stage.others().iter().map(|zone| arrive_in(zone, image, start, screen));
    let took = try_join_all(arrivals).await?;
    Ok(took.into_iter().max().unwrap_or_default())
}

async fn arrive_in(zone: &Zone, image: &Image, start: Instant, screen: &Screen) -> Result<Duration> {
    let bar = screen.bar(&format!("copies in {}", zone.name), image::size(image));
    let all = image::blobs(image).len();
    let wait = async {
        while count(zone, image) < all {
            tokio::time::sleep(LOOK).await;
        }
    };
    let waited = tokio::time::timeout(ARRIVAL_MAX, bar.during(|| present(zone, image), wait)).await;
    let took = start.elapsed();
    if waited.is_err() {
        bail!("{} holds {} of {all} blobs after {}", zone.name, count(zone, image), format::time(took));
    }
    drop(bar);
    screen.say(&format!("  {} holds all {all} blobs, {} after the push", zone.name, format::time(took)));
    Ok(took)
}

/// How many blobs of the image lie in the zone.
pub(crate) fn count(zone: &Zone, image: &Image) -> usize {
    image::blobs(image).iter().filter(|blob| zone.has(&blob.digest)).count()
}

fn present(zone: &Zone, image: &Image) -> u64 {
    image::blobs(image).iter().filter(|blob| zone.has(&blob.digest)).map(|blob| blob.size).sum()
}

/// How many blobs of the image lie in the zone byte for byte: reads and hashes them all.
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
