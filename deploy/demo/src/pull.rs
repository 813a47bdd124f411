//! Pulls an image as a container engine does: manifest, config, layers. Every byte is hashed.

use std::cell::Cell;
use std::time::{Duration, Instant};

use ::harness::client::{Client, Pulled};
use ::harness::image::{Blob, Image};
use anyhow::{Context as _, Result};

use crate::fixture::{Fixture, Side};
use crate::reads::{self, Read};
use crate::screen::{Bar, Screen};
use crate::{format, image};

/// The repository of the image.
pub(crate) const REPOSITORY: &str = "admin/demo";
/// The tag of the image.
pub(crate) const TAG: &str = "v1";

/// How often a blob is tried, and the pause between two tries. Container engines retry too.
const TRIES_MAX: usize = 3;
const TRY_PAUSE: Duration = Duration::from_millis(500);

/// The result of a pull, complete or not.
pub(crate) struct Pull {
    /// The blobs that arrived complete and correct, in order.
    pub(crate) blobs: Vec<PulledBlob>,
    /// The blob that failed and ended the pull.
    pub(crate) failed: Option<FailedBlob>,
    pub(crate) took: Duration,
    /// The number of blobs of the image.
    pub(crate) wanted: usize,
    /// Whether the home zone failed during the pull.
    pub(crate) home_died: bool,
}

/// When the home zone fails: in the body of this blob, after this many bytes.
#[derive(Clone, Copy)]
pub(crate) struct Outage<'a> {
    pub(crate) blob: &'a Blob,
    pub(crate) after: u64,
}

/// A blob that was pulled.
pub(crate) struct PulledBlob {
    pub(crate) name: String,
    pub(crate) pulled: Pulled,
    /// `cache` or the zone, from `Cache-Status` or from the address of the store.
    pub(crate) from: String,
    /// The requests for it that reached the stores.
    pub(crate) reads: Vec<Read>,
    pub(crate) tries: usize,
}

/// A blob that could not be pulled.
pub(crate) struct FailedBlob {
    pub(crate) name: String,
    /// The bytes of all blobs that arrived before the failure.
    pub(crate) after: u64,
    pub(crate) why: String,
    pub(crate) tries: usize,
}

impl Pull {
    pub(crate) fn is_whole(&self) -> bool {
        self.failed.is_none() && self.blobs.len() == self.wanted
    }

    /// The number of blobs from this source.
    pub(crate) fn count_from(&self, place: &str) -> usize {
        self.count_from_any(&[place])
    }

    /// The number of blobs from one of these sources.
    pub(crate) fn count_from_any(&self, places: &[&str]) -> usize {
        self.blobs.iter().filter(|blob| places.contains(&&*blob.from)).count()
    }

    /// The number of blobs for which the store's own record has a request.
    pub(crate) fn confirmed(&self) -> usize {
        let asked = |blob: &&PulledBlob| blob.reads.iter().any(|read| read.zone == blob.from);
        self.blobs.iter().filter(asked).count()
    }

    /// Whether the whole image arrived, each blob at the first try.
    pub(crate) fn is_first_try(&self) -> bool {
        self.is_whole() && self.blobs.iter().all(|blob| blob.tries == 1)
    }
}

/// Pulls the image. If `outage` is given, the home zone fails at that byte.
pub(crate) async fn pull(
    fixture: &Fixture,
    side: Side,
    image: &Image,
    outage: Option<Outage<'_>>,
    screen: &Screen,
) -> Result<Pull> {
    reads::clear(fixture);
    let client = fixture.client(side)?;
    let label = match side {
        Side::Gateway => "pulling through the gateway",
        Side::QuayOnly => "pulling from Quay only",
    };
    let bar = screen.bar(label, image::size(image));
    screen.print(&format!(
        "  {:8} {:>9} {:>11} {:>10} {:>9}  from",
        "blob", "size", "first byte", "total", "speed"
    ));
    let pulling = PullRun { fixture, side, image, client: &client, screen };
    let died = Cell::new(false);
    let dying = async {
        let Some(Outage { blob, after }) = outage else { return std::future::pending().await };
        // The failure does not depend on time: it happens at this byte, at any speed.
        fixture.home().proxy().hold(&blob.digest.hex(), after).await;
        fixture.kill_home().await;
        died.set(true);
        let blob = image::blobs(image).iter().position(|other| other.digest == blob.digest).map(image::name);
        screen.print(&format!(
            "  ** {} is stopped after {} of {} **",
            fixture.home().name,
            format::bytes(after),
            blob.unwrap_or_default()
        ));
        std::future::pending().await
    };
    let mut pulled = tokio::select! {
        pulled = pulling.all(&bar) => pulled?,
        () = dying => anyhow::bail!("the task that stops the home zone ended early"),
    };
    pulled.home_died = died.get();
    Ok(pulled)
}

struct PullRun<'a> {
    fixture: &'a Fixture,
    side: Side,
    image: &'a Image,
    client: &'a Client,
    screen: &'a Screen,
}

impl PullRun<'_> {
    async fn all(&self, bar: &Bar) -> Result<Pull> {
        let start = Instant::now();
        let manifest = self.client.manifest(REPOSITORY, TAG).await.context("cannot pull the manifest")?;
        anyhow::ensure!(
            manifest.digest == self.image.manifest.digest,
            "the manifest is not the one that was pushed"
        );
        let wanted = image::blobs(self.image);
        let mut blobs = Vec::new();
        let mut failed = None;
        for (index, blob) in wanted.iter().enumerate() {
            let result = bar.during(|| self.client.moved(), self.one(image::name(index), blob)).await;
            match result {
                Ok(arrived) => {
                    self.screen.print(&line(&arrived));
                    blobs.push(arrived);
                }
                Err(why) => {
                    self.screen
                        .print(&format!("  {:8} FAILED after {} tries: {}", why.name, why.tries, why.why));
                    failed = Some(why);
                    break;
                }
            }
        }
        Ok(Pull { blobs, failed, took: start.elapsed(), wanted: wanted.len(), home_died: false })
    }

    async fn one(&self, name: String, blob: &Blob) -> Result<PulledBlob, FailedBlob> {
        let mut tries = 0;
        let mut first = None;
        loop {
            tries += 1;
            let result = self.client.pull_blob(REPOSITORY, &blob.digest).await;
            match result {
                Ok(pulled) if pulled.size == blob.size => {
                    let reads = reads::of(self.fixture, &blob.digest);
                    return Ok(PulledBlob { name, from: self.place(&pulled), pulled, reads, tries });
                }
                Ok(pulled) => {
                    let why = format!("{} bytes instead of {}", pulled.size, blob.size);
                    return Err(FailedBlob { name, after: self.client.moved(), why, tries });
                }
                Err(error) => {
                    let cause = error.root_cause().to_string();
                    let (after, broke) = first.get_or_insert((self.client.moved(), cause.clone()));
                    if tries == TRIES_MAX {
                        let why = if cause == *broke { cause } else { format!("{broke}; then {cause}") };
                        return Err(FailedBlob { name, after: *after, why, tries });
                    }
                    tokio::time::sleep(TRY_PAUSE).await;
                }
            }
        }
    }

    fn place(&self, pulled: &Pulled) -> String {
        match self.side {
            Side::Gateway => place(pulled.cache_status.as_deref().unwrap_or_default()),
            Side::QuayOnly => self.fixture.zone_at(&pulled.from).unwrap_or("an unknown source").to_owned(),
        }
    }
}

/// The source of a blob according to `Cache-Status`.
fn place(cache_status: &str) -> String {
    let mut parts = cache_status.split(';').map(str::trim).skip(1);
    let detail =
        cache_status.split_once("detail=\"zone=").and_then(|(_, rest)| rest.split(['"', ',']).next());
    match detail {
        _ if parts.any(|part| part == "hit") => "cache".to_owned(),
        Some(zone) => zone.to_owned(),
        None => "an unknown source".to_owned(),
    }
}

fn line(blob: &PulledBlob) -> String {
    let pulled = &blob.pulled;
    let from = match blob.reads.len() {
        0 | 1 => blob.from.clone(),
        _ => reads::describe(&blob.reads),
    };
    format!(
        "  {:8} {:>9} {:>11} {:>10} {:>9}  {from}",
        blob.name,
        format::bytes(pulled.size),
        format::time(pulled.first_byte),
        format::time(pulled.total),
        format::speed(pulled.size, pulled.total),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        assert_eq!(place("quay-gateway; hit"), "cache");
        assert_eq!(place("quay-gateway; fwd=miss; stored; detail=\"zone=zone-b\""), "zone-b");
        assert_eq!(place("quay-gateway; fwd=miss; detail=\"zone=zone-c, not stored: busy\""), "zone-c");
        assert_eq!(place(""), "an unknown source");
    }
}
