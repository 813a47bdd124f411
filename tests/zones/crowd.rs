//! The clients that pull: fifty clients, skopeo, and readers that are within a body when the fault starts.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use backends::{Digest, Hasher};
use bytes::Bytes;
use harness::client::Client;
use http::{Method, StatusCode};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::fixture::{Fixture, LONG, REPOSITORY};

/// Concurrent clients, in addition to skopeo.
const CLIENTS: usize = 50;
/// Readers that have an open body when the fault starts.
const READERS: usize = 3;
/// Pulls of each client that start after the fault.
const AFTER: usize = 3;
/// The timeout until all clients have pulled at least once before the fault.
const BEFORE_BOUND: Duration = Duration::from_secs(60);
/// The timeout until all pulls after the fault are done.
const AFTER_BOUND: Duration = Duration::from_secs(90);

/// The results of all pulls.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Images that arrived complete and correct.
    pub(crate) pulls: usize,
    /// How many of them skopeo pulled.
    pub(crate) by_skopeo: usize,
    /// The errors of failed pulls.
    pub(crate) failed: Vec<String>,
    /// The zones that sent the first byte of a blob, for pulls that started before the fault.
    pub(crate) before: BTreeMap<String, usize>,
    /// The same for pulls that started after the fault.
    pub(crate) after: BTreeMap<String, usize>,
}

/// The progress of a test, which all clients watch.
#[derive(Clone)]
struct Progress {
    struck: watch::Receiver<bool>,
    /// Incremented by each client when it has pulled once or holds a body open.
    ready: watch::Sender<usize>,
}

impl Progress {
    fn has_struck(&self) -> bool {
        *self.struck.borrow()
    }

    fn is_ready(&self) {
        self.ready.send_modify(|ready| *ready += 1);
    }
}

/// Lets all clients pull, starts the fault in the middle, and lets them continue until each has started and
/// ended pulls during the fault.
pub(crate) async fn pull_through(
    fixture: &mut Fixture,
    strike: impl AsyncFnOnce(&mut Fixture) -> Result<()>,
) -> Result<Tally> {
    let (strikes, struck) = watch::channel(false);
    let (ready, mut is_ready) = watch::channel(0);
    let progress = Progress { struck, ready };
    let mut crowd = JoinSet::new();
    let tags: Vec<String> = fixture.images.iter().map(|(tag, _)| tag.clone()).collect();
    for index in 0..CLIENTS {
        crowd.spawn(pull_on(fixture.client()?, index, tags.clone(), progress.clone()));
    }
    crowd.spawn(skopeo_pulls_on(fixture, tags, progress.clone()));
    for _ in 0..READERS {
        crowd.spawn(read_long(fixture.client()?, fixture.long.layers[0].digest, progress.clone()));
    }
    let all = crowd.len();
    timeout(BEFORE_BOUND, is_ready.wait_for(|ready| *ready == all))
        .await
        .context("the fault was not started because not all clients have pulled")??;
    strike(fixture).await.context("the fault")?;
    strikes.send_replace(true);
    let mut tally = Tally::default();
    let gather = async {
        while let Some(one) = crowd.join_next().await {
            tally.add(one?);
        }
        anyhow::Ok(())
    };
    timeout(AFTER_BOUND, gather).await.context("some pulls did not end")??;
    Ok(tally)
}

async fn pull_on(client: Client, index: usize, tags: Vec<String>, progress: Progress) -> Tally {
    let mut tally = Tally::default();
    let mut after = 0;
    for round in 0.. {
        let struck = progress.has_struck();
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
            progress.is_ready();
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
    fixture: &Fixture,
    tags: Vec<String>,
    progress: Progress,
) -> impl Future<Output = Tally> + Send + use<> {
    let (skopeo, reference) = fixture.skopeo();
    async move {
        let mut tally = Tally::default();
        let mut after = 0;
        for (round, tag) in tags.iter().cycle().enumerate() {
            let struck = progress.has_struck();
            let pulled = async { skopeo.pull(&reference(tag), TempDir::new()?.path()).await };
            match pulled.await {
                Ok(()) => (tally.pulls, tally.by_skopeo) = (tally.pulls + 1, tally.by_skopeo + 1),
                Err(error) => tally.failed.push(format!("skopeo, struck: {struck}: {error:#}")),
            }
            if round == 0 {
                progress.is_ready();
            }
            after += usize::from(struck);
            if after == AFTER {
                break;
            }
        }
        tally
    }
}

/// Holds a body open until the fault starts, then reads the rest.
async fn read_long(client: Client, digest: Digest, mut progress: Progress) -> Tally {
    let read = async {
        let path = format!("/v2/{REPOSITORY}/blobs/{digest}");
        let mut answer = client.send(Method::GET, &path, &[], Bytes::new()).await?;
        ensure!(answer.status() == StatusCode::OK, "{}", answer.status());
        let mut hasher = Hasher::new();
        hasher.update(&answer.chunk().await?.context("no bytes")?);
        progress.is_ready();
        progress.struck.wait_for(|struck| *struck).await?;
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
