//! A pull as an engine does it: manifest, config, layers; every byte hashed.

use std::cell::Cell;
use std::time::{Duration, Instant};

use ::tests::client::{Client, Pulled};
use ::tests::image::{Blob, Image};
use anyhow::{Context as _, Result};

use crate::reads::{self, Read};
use crate::screen::{Bar, Screen};
use crate::stage::{Side, Stage};
use crate::{format, image};

/// Where the image lies.
pub(crate) const REPOSITORY: &str = "admin/demo";
/// Its tag.
pub(crate) const TAG: &str = "v1";

/// How often a blob is tried, and the pause between: engines try again too.
const TRIES_MAX: usize = 3;
const TRY_PAUSE: Duration = Duration::from_millis(500);

/// A pull, whole or not.
pub(crate) struct Pull {
    /// The blobs that came whole and right, in order.
    pub(crate) blobs: Vec<Arrived>,
    /// The blob at which it ended.
    pub(crate) failed: Option<Failed>,
    pub(crate) took: Duration,
    /// Blobs of the image.
    pub(crate) wanted: usize,
    /// Whether the home zone died on the way.
    pub(crate) home_died: bool,
}

/// Where the home zone dies: in the body of this blob, after so many of its bytes.
#[derive(Clone, Copy)]
pub(crate) struct Death<'a> {
    pub(crate) blob: &'a Blob,
    pub(crate) after: u64,
}

/// A blob that came.
pub(crate) struct Arrived {
    pub(crate) name: String,
    pub(crate) pulled: Pulled,
    /// `cache`, or the zone: what `Cache-Status` says, or whose address gave it.
    pub(crate) from: String,
    /// What reached the stores for it.
    pub(crate) reads: Vec<Read>,
    pub(crate) tries: usize,
}

/// A blob that did not come.
pub(crate) struct Failed {
    pub(crate) name: String,
    /// Bytes that came before, of all blobs.
    pub(crate) after: u64,
    pub(crate) why: String,
    pub(crate) tries: usize,
}

impl Pull {
    pub(crate) fn is_whole(&self) -> bool {
        self.failed.is_none() && self.blobs.len() == self.wanted
    }

    /// How many blobs are from there.
    pub(crate) fn from(&self, place: &str) -> usize {
        self.out_of(&[place])
    }

    /// How many blobs are from one of these places.
    pub(crate) fn out_of(&self, places: &[&str]) -> usize {
        self.blobs.iter().filter(|blob| places.contains(&&*blob.from)).count()
    }

    /// How many blobs were asked for in the very store that they are said to be from.
    pub(crate) fn confirmed(&self) -> usize {
        let asked = |blob: &&Arrived| blob.reads.iter().any(|read| read.zone == blob.from);
        self.blobs.iter().filter(asked).count()
    }

    /// The whole image, each byte once, at the first try.
    pub(crate) fn is_smooth(&self) -> bool {
        self.is_whole() && self.blobs.iter().all(|blob| blob.tries == 1)
    }
}

/// Pulls the image; the home zone dies where it is to.
pub(crate) async fn pull(
    stage: &Stage,
    side: Side,
    image: &Image,
    death: Option<Death<'_>>,
    screen: &Screen,
) -> Result<Pull> {
    reads::forget(stage);
    let client = stage.client(side)?;
    let label = match side {
        Side::Gateway => "pulling through the gateway",
        Side::Alone => "pulling from Quay alone",
    };
    let bar = screen.bar(label, image::size(image));
    screen.say(&format!(
        "  {:8} {:>9} {:>11} {:>10} {:>9}  from",
        "blob", "size", "first byte", "total", "speed"
    ));
    let pulling = Pulling { stage, side, image, client: &client, screen };
    let died = Cell::new(false);
    let dying = async {
        let Some(Death { blob, after }) = death else { return std::future::pending().await };
        // Not by the clock: whatever the machine's speed, it dies at this byte.
        stage.home().proxy().hold(&blob.digest.hex(), after).await;
        stage.kill_home().await;
        died.set(true);
        let blob = image::blobs(image).iter().position(|other| other.digest == blob.digest).map(image::name);
        screen.say(&format!(
            "  ** {} is killed, {} into {} **",
            stage.home().name,
            format::bytes(after),
            blob.unwrap_or_default()
        ));
        std::future::pending().await
    };
    let mut pulled = tokio::select! {
        pulled = pulling.all(&bar) => pulled?,
        () = dying => anyhow::bail!("the home zone was to be killed, nothing else"),
    };
    pulled.home_died = died.get();
    Ok(pulled)
}

struct Pulling<'a> {
    stage: &'a Stage,
    side: Side,
    image: &'a Image,
    client: &'a Client,
    screen: &'a Screen,
}

impl Pulling<'_> {
    async fn all(&self, bar: &Bar) -> Result<Pull> {
        let start = Instant::now();
        let manifest = self.client.manifest(REPOSITORY, TAG).await.context("the manifest")?;
        anyhow::ensure!(manifest.digest == self.image.manifest.digest, "another manifest than was pushed");
        let wanted = image::blobs(self.image);
        let mut blobs = Vec::new();
        let mut failed = None;
        for (index, blob) in wanted.iter().enumerate() {
            let came = bar.during(|| self.client.moved(), self.one(image::name(index), blob)).await;
            match came {
                Ok(arrived) => {
                    self.screen.say(&line(&arrived));
                    blobs.push(arrived);
                }
                Err(why) => {
                    self.screen.say(&format!("  {:8} FAILS, {} tries: {}", why.name, why.tries, why.why));
                    failed = Some(why);
                    break;
                }
            }
        }
        Ok(Pull { blobs, failed, took: start.elapsed(), wanted: wanted.len(), home_died: false })
    }

    async fn one(&self, name: String, blob: &Blob) -> Result<Arrived, Failed> {
        let mut tries = 0;
        let mut first = None;
        loop {
            tries += 1;
            let came = self.client.pull_blob(REPOSITORY, &blob.digest).await;
            match came {
                Ok(pulled) if pulled.size == blob.size => {
                    let reads = reads::of(self.stage, &blob.digest);
                    return Ok(Arrived { name, from: self.place(&pulled), pulled, reads, tries });
                }
                Ok(pulled) => {
                    let why = format!("{} bytes, not {}", pulled.size, blob.size);
                    return Err(Failed { name, after: self.client.moved(), why, tries });
                }
                Err(error) => {
                    let cause = error.root_cause().to_string();
                    let (after, broke) = first.get_or_insert((self.client.moved(), cause.clone()));
                    if tries == TRIES_MAX {
                        let why = if cause == *broke { cause } else { format!("{broke}; then {cause}") };
                        return Err(Failed { name, after: *after, why, tries });
                    }
                    tokio::time::sleep(TRY_PAUSE).await;
                }
            }
        }
    }

    fn place(&self, pulled: &Pulled) -> String {
        match self.side {
            Side::Gateway => place(pulled.cache_status.as_deref().unwrap_or_default()),
            Side::Alone => self.stage.zone_at(&pulled.from).unwrap_or("an unknown place").to_owned(),
        }
    }
}

/// Where `Cache-Status` says that a blob is from.
fn place(cache_status: &str) -> String {
    let mut parts = cache_status.split(';').map(str::trim).skip(1);
    let detail =
        cache_status.split_once("detail=\"zone=").and_then(|(_, rest)| rest.split(['"', ',']).next());
    match detail {
        _ if parts.any(|part| part == "hit") => "cache".to_owned(),
        Some(zone) => zone.to_owned(),
        None => "an unknown place".to_owned(),
    }
}

fn line(blob: &Arrived) -> String {
    let pulled = &blob.pulled;
    let from = match blob.reads.len() {
        0 | 1 => blob.from.clone(),
        _ => reads::words(&blob.reads),
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
        assert_eq!(place(""), "an unknown place");
    }
}
