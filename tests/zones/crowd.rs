//! Those who pull: fifty clients, skopeo, and readers that are in the middle of a body when the
//! fault strikes.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use backends::{Digest, Hasher};
use bytes::Bytes;
use http::{Method, StatusCode};
use tempfile::TempDir;
use tests::client::Client;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::stage::{LONG, REPOSITORY, Stage};

/// Clients at once, beside skopeo.
const CLIENTS: usize = 50;
/// Readers that have a body open when the fault strikes.
const READERS: usize = 3;
/// Pulls of each client that begin after the fault struck.
const AFTER: usize = 3;
/// Clients pull at least once before the fault strikes, within this.
const BEFORE_BOUND: Duration = Duration::from_secs(60);
/// All are done within this after it, or hang.
const AFTER_BOUND: Duration = Duration::from_secs(90);

/// What came of all pulls.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Images that came whole and right.
    pub(crate) pulls: usize,
    /// Those of them that skopeo pulled.
    pub(crate) by_skopeo: usize,
    /// Pulls that failed, in words.
    pub(crate) failed: Vec<String>,
    /// Blobs by the zone that gave their first byte, of pulls begun before the fault struck.
    pub(crate) before: BTreeMap<String, usize>,
    /// The same of pulls begun after.
    pub(crate) after: BTreeMap<String, usize>,
}

/// The course of a test, which all who pull look at.
#[derive(Clone)]
struct Course {
    struck: watch::Receiver<bool>,
    /// Raised by each as soon as it has pulled once, or holds a body open.
    ready: watch::Sender<usize>,
}

impl Course {
    fn has_struck(&self) -> bool {
        *self.struck.borrow()
    }

    fn is_ready(&self) {
        self.ready.send_modify(|ready| *ready += 1);
    }
}

/// Has everyone pull, strikes in the middle, and lets all pull on until each has begun and ended
/// pulls under the fault.
pub(crate) async fn pull_through(
    stage: &mut Stage,
    strike: impl AsyncFnOnce(&mut Stage) -> Result<()>,
) -> Result<Tally> {
    let (strikes, struck) = watch::channel(false);
    let (ready, mut is_ready) = watch::channel(0);
    let course = Course { struck, ready };
    let mut crowd = JoinSet::new();
    let tags: Vec<String> = stage.images.iter().map(|(tag, _)| tag.clone()).collect();
    for index in 0..CLIENTS {
        crowd.spawn(pull_on(stage.client()?, index, tags.clone(), course.clone()));
    }
    crowd.spawn(skopeo_pulls_on(stage, tags, course.clone()));
    for _ in 0..READERS {
        crowd.spawn(read_long(stage.client()?, stage.long.layers[0].digest, course.clone()));
    }
    let all = crowd.len();
    timeout(BEFORE_BOUND, is_ready.wait_for(|ready| *ready == all))
        .await
        .context("nobody strikes: not all have pulled")??;
    strike(stage).await.context("the fault")?;
    strikes.send_replace(true);
    let mut tally = Tally::default();
    let gather = async {
        while let Some(one) = crowd.join_next().await {
            tally.add(one?);
        }
        anyhow::Ok(())
    };
    timeout(AFTER_BOUND, gather).await.context("some pulls do not end")??;
    Ok(tally)
}

async fn pull_on(client: Client, index: usize, tags: Vec<String>, course: Course) -> Tally {
    let mut tally = Tally::default();
    let mut after = 0;
    for round in 0.. {
        let struck = course.has_struck();
        match client.pull(REPOSITORY, &tags[(index + round) % tags.len()]).await {
            Ok(blobs) => {
                tally.pulls += 1;
                let zones = if struck { &mut tally.after } else { &mut tally.before };
                for zone in blobs.iter().filter_map(|blob| zone_of(blob.cache_status.as_deref()?)) {
                    *zones.entry(zone.to_owned()).or_default() += 1;
                }
            }
            Err(error) => tally.failed.push(format!("client {index}, struck: {struck}: {error:#}")),
        }
        if round == 0 {
            course.is_ready();
        }
        after += usize::from(struck);
        if after == AFTER {
            break;
        }
    }
    tally
}

/// The zone in a `Cache-Status`.
fn zone_of(status: &str) -> Option<&str> {
    let (_, rest) = status.split_once("zone=")?;
    rest.split(['"', ',']).next()
}

fn skopeo_pulls_on(
    stage: &Stage,
    tags: Vec<String>,
    course: Course,
) -> impl Future<Output = Tally> + Send + use<> {
    let (skopeo, reference) = stage.skopeo();
    async move {
        let mut tally = Tally::default();
        let mut after = 0;
        for (round, tag) in tags.iter().cycle().enumerate() {
            let struck = course.has_struck();
            let pulled = async { skopeo.pull(&reference(tag), TempDir::new()?.path()).await };
            match pulled.await {
                Ok(()) => (tally.pulls, tally.by_skopeo) = (tally.pulls + 1, tally.by_skopeo + 1),
                Err(error) => tally.failed.push(format!("skopeo, struck: {struck}: {error:#}")),
            }
            if round == 0 {
                course.is_ready();
            }
            after += usize::from(struck);
            if after == AFTER {
                break;
            }
        }
        tally
    }
}

/// Holds a body open while the fault strikes, then reads the rest.
async fn read_long(client: Client, digest: Digest, mut course: Course) -> Tally {
    let read = async {
        let path = format!("/v2/{REPOSITORY}/blobs/{digest}");
        let mut answer = client.send(Method::GET, &path, &[], Bytes::new()).await?;
        ensure!(answer.status() == StatusCode::OK, "{}", answer.status());
        let mut hasher = Hasher::new();
        hasher.update(&answer.chunk().await?.context("no bytes")?);
        course.is_ready();
        course.struck.wait_for(|struck| *struck).await?;
        while let Some(piece) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
            hasher.update(&piece);
        }
        ensure!(hasher.finish() == digest, "wrong bytes");
        anyhow::Ok(())
    };
    let mut tally = Tally::default();
    match read.await {
        Ok(()) => tally.pulls += 1,
        Err(error) => tally.failed.push(format!("in mid-body, image {LONG}: {error:#}")),
    }
    tally
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.pulls += other.pulls;
        self.by_skopeo += other.by_skopeo;
        self.failed.extend(other.failed);
        for (mine, theirs) in [(&mut self.before, other.before), (&mut self.after, other.after)] {
            theirs.into_iter().for_each(|(zone, blobs)| *mine.entry(zone).or_default() += blobs);
        }
    }
}
