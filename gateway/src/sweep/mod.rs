//! The sweep: a slow walk over everything in the registry. It queues copies that no push queued: of blobs that
//! were pushed elsewhere, that the journal could not take, or that a store has lost.

mod pace;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use backends::Digest;
use bytes::Bytes;
use http::uri::PathAndQuery;
use tokio::time::{Instant, sleep};

use self::pace::Pace;
use crate::Gateway;
use crate::copies::{PositionFile, SweepPosition, Tally};
use registry::service_account::{Page, ReadError, Reader};
use registry::{children, local_blobs};

/// The first round after a start begins within this time and within `every`. The exact time is random, so
/// that replicas that start together do not sweep together.
const FIRST_WITHIN: Duration = Duration::from_secs(600);

/// A round that was interrupted continues within this time.
const CONTINUE_WITHIN: Duration = Duration::from_secs(60);

/// How often a request is tried while the registry is busy. After that, it is skipped until the next round.
const TRIES: u32 = 5;

/// How often the position is written.
const SAVE_EVERY: Duration = Duration::from_secs(10);

/// How often the number of waiting copies is read.
const CHECK_BACKLOG_EVERY: Duration = Duration::from_secs(5);

/// The limits of pages in one list, and of manifests below one tag. If a registry gives more, its answers
/// form a cycle.
const PAGES_MAX: usize = 100_000;
const BELOW_A_TAG_MAX: usize = 10_000;

/// Blobs that are remembered within a round, so that a layer that many images share is queued once.
const BLOBS_MAX: usize = 200_000;

/// The sweep of one gateway.
pub(crate) struct Sweep {
    gateway: Arc<Gateway>,
    reader: Arc<Reader>,
    settings: config::Sweep,
    pace: Pace,
    position_file: Arc<PositionFile>,
    position: SweepPosition,
    blobs: HashSet<Digest>,
    kept: Instant,
    /// When the journal was last seen to have room for more copies.
    room: Option<Instant>,
}

impl Sweep {
    /// The sweep of this gateway. `None` if there is no service account or no target, or if the sweep is
    /// switched off. Waits for the disk.
    pub(crate) fn of(gateway: &Arc<Gateway>) -> Option<Self> {
        let settings = gateway.settings.replication.sweep.clone();
        let reader = gateway.reader.clone().filter(|_| settings.enabled)?;
        if gateway.targets.is_empty() && gateway.database.is_none() {
            return None;
        }
        let position_file = Arc::new(PositionFile::new(&gateway.settings.state_dir));
        let position = position_file.read();
        gateway.sweep.set_position(&position);
        Some(Self {
            gateway: Arc::clone(gateway),
            reader,
            pace: Pace::new(settings.rate),
            settings,
            position_file,
            position,
            blobs: HashSet::new(),
            kept: Instant::now(),
            room: None,
        })
    }

    /// Runs one round after the other, and never returns.
    pub(crate) async fn run(mut self) {
        let every = self.settings.every;
        let within = if self.position.is_under_way() { CONTINUE_WITHIN } else { FIRST_WITHIN };
        let progress = Arc::clone(&self.gateway.sweep);
        let mut wait = within.min(every).mul_f64(fastrand::f64());
        wait += self.position.wait(SystemTime::now(), every);
        loop {
            progress.wait(wait).await;
            if !self.position.is_under_way() {
                self.position.begin(SystemTime::now());
            }
            progress.set_position(&self.position);
            self.blobs.clear();
            let began = Instant::now();
            match self.round().await {
                Ok(()) => {
                    self.position.end(SystemTime::now());
                    progress.ended(None);
                    wait = self.position.wait(SystemTime::now(), every);
                    self.gateway.metrics.sweeps().finished(SystemTime::now());
                    let Tally { repositories, manifests, jobs, skipped } = self.position.tally;
                    let took_s = began.elapsed().as_secs();
                    tracing::info!(repositories, manifests, jobs, skipped, took_s, "sweep finished");
                }
                Err(error) => {
                    wait = self.pace.after_failure(fastrand::f64());
                    tracing::warn!(%error, again_in_s = wait.as_secs(), "the sweep cannot go on");
                    progress.ended(Some(error.to_string()));
                }
            }
            progress.set_position(&self.position);
            self.save().await;
        }
    }

    /// Sweeps from the current position to the last repository.
    async fn round(&mut self) -> Result<(), ReadError> {
        for _ in 0..PAGES_MAX {
            let at: Option<PathAndQuery> = self.position.page.as_ref().and_then(|page| page.parse().ok());
            let page = match self.repositories(at.as_ref()).await {
                // Quay's page tokens expire after two days.
                Err(ReadError::Odd(_) | ReadError::Absent(_)) if at.is_some() => {
                    (self.position.page, self.position.repository) = (None, None);
                    continue;
                }
                page => page?,
            };
            let done = self.position.repository.take();
            let done = done.and_then(|done| page.names.iter().position(|name| *name == done));
            let rest = &page.names[done.map_or(0, |done| done + 1)..];
            for (at, repository) in rest.iter().enumerate() {
                self.log_in(&rest[at..]).await;
                self.repository(repository).await;
                self.position.repository = Some(repository.clone());
                self.gateway.sweep.set_position(&self.position);
                if self.kept.elapsed() > SAVE_EVERY {
                    self.save().await;
                }
            }
            self.position.repository = None;
            match page.next {
                Some(next) => self.position.page = Some(next.to_string()),
                None => return Ok(()),
            }
        }
        Err(ReadError::Odd("the list of repositories does not end".to_owned()))
    }

    /// Logs in for these repositories at once, so that each of them needs no login of its own.
    async fn log_in(&mut self, repositories: &[String]) {
        let asked = Instant::now();
        if self.reader.prepare(repositories).await {
            sleep(self.pace.after(asked.elapsed(), fastrand::f64())).await;
        }
    }

    async fn repository(&mut self, repository: &str) {
        let targets = self.gateway.targets_of(repository).await;
        let mut next = None;
        for _ in 0..PAGES_MAX {
            let page = match self.tags(repository, next.as_ref()).await {
                Ok(page) => page,
                // The repository was deleted meanwhile.
                Err(ReadError::Absent(_)) => return,
                Err(error) => return self.skip(repository, &error),
            };
            for tag in &page.names {
                self.tag(repository, tag, &targets).await;
            }
            next = page.next;
            if next.is_none() {
                self.position.tally.repositories += 1;
                return;
            }
        }
    }

    /// Queues the blobs of a tag's manifest and of the manifests below it.
    async fn tag(&mut self, repository: &str, tag: &str, targets: &[Arc<str>]) {
        let manifest = match self.manifest(repository, tag).await {
            Ok(manifest) => manifest,
            Err(ReadError::Absent(_)) => return,
            Err(error) => return self.skip(repository, &error),
        };
        let mut below = Vec::new();
        if self.position.is_new(&self.target_key(&Digest::of(&manifest), targets)) {
            below = self.queue(repository, &manifest, targets).await;
        }
        for _ in 0..BELOW_A_TAG_MAX {
            let Some(digest) = below.pop() else { return };
            let key = self.target_key(&digest, targets);
            if !self.position.is_new(&key) {
                continue;
            }
            match self.manifest(repository, &digest.to_string()).await {
                Ok(manifest) => below.extend(self.queue(repository, &manifest, targets).await),
                Err(ReadError::Absent(_)) => {}
                Err(error) => {
                    self.position.forget(&key);
                    self.skip(repository, &error);
                }
            }
        }
    }

    /// Queues a manifest's local blobs. Returns the manifests that it names.
    async fn queue(&mut self, repository: &str, manifest: &Bytes, targets: &[Arc<str>]) -> Vec<Digest> {
        let (blobs, below) = match local_blobs(manifest).and_then(|blobs| Ok((blobs, children(manifest)?))) {
            Ok(read) => read,
            Err(error) => {
                self.skip(repository, &ReadError::Odd(format!("a manifest cannot be parsed: {error}")));
                return Vec::new();
            }
        };
        let new = |digest: &Digest| !self.blobs.contains(&self.target_key(digest, targets));
        let blobs: Vec<_> = blobs.into_iter().filter(|blob| new(&blob.digest)).collect();
        self.wait_for_room().await;
        let wanted: Vec<_> = blobs.iter().map(|blob| (self.gateway.blob(blob.digest), blob.size)).collect();
        if let Err(error) = self.gateway.fanout.enqueue(repository, &wanted, targets).await {
            self.position.forget(&self.target_key(&Digest::of(manifest), targets));
            self.skip(repository, &ReadError::Busy(error.to_string()));
            sleep(self.pace.after_failure(fastrand::f64())).await;
            return below;
        }
        let jobs = (wanted.len() * targets.len()) as u64;
        self.position.tally.manifests += 1;
        self.position.tally.jobs += jobs;
        self.gateway.metrics.sweeps().manifest(jobs);
        if self.blobs.len() >= BLOBS_MAX {
            self.blobs.clear();
        }
        let queued: Vec<_> = blobs.iter().map(|blob| self.target_key(&blob.digest, targets)).collect();
        self.blobs.extend(queued);
        below
    }

    /// The key by which a digest is remembered.
    fn target_key(&self, digest: &Digest, targets: &[Arc<str>]) -> Digest {
        target_key(digest, targets, &self.gateway.targets)
    }

    /// Waits while a zone has more waiting copies than the backlog allows, and while the journal cannot be
    /// read.
    async fn wait_for_room(&mut self) {
        while self.room.is_none_or(|seen| seen.elapsed() > CHECK_BACKLOG_EVERY) {
            let backlog = match self.gateway.fanout.status().await {
                Ok(lanes) => lanes.iter().filter(|lane| lane.configured).map(|lane| lane.waiting).max(),
                Err(_) => None,
            };
            if backlog.is_some_and(|backlog| backlog <= self.settings.backlog) {
                self.room = Some(Instant::now());
                return;
            }
            sleep(CHECK_BACKLOG_EVERY).await;
        }
    }

    fn skip(&mut self, repository: &str, error: &ReadError) {
        tracing::debug!(repository, %error, "skipped by the sweep");
        self.position.tally.skipped += 1;
        self.gateway.metrics.sweeps().skipped();
    }

    async fn repositories(&mut self, at: Option<&PathAndQuery>) -> Result<Page, ReadError> {
        let mut tries = 0;
        loop {
            let asked = Instant::now();
            let answer = self.reader.repositories(at).await;
            if let Some(answer) = self.paced(asked, &mut tries, answer).await {
                return answer;
            }
        }
    }

    async fn tags(&mut self, repository: &str, at: Option<&PathAndQuery>) -> Result<Page, ReadError> {
        let mut tries = 0;
        loop {
            let asked = Instant::now();
            let answer = self.reader.tags(repository, at).await;
            if let Some(answer) = self.paced(asked, &mut tries, answer).await {
                return answer;
            }
        }
    }

    async fn manifest(&mut self, repository: &str, reference: &str) -> Result<Bytes, ReadError> {
        let mut tries = 0;
        loop {
            let asked = Instant::now();
            let answer = self.reader.manifest(repository, reference).await;
            if let Some(answer) = self.paced(asked, &mut tries, answer).await {
                return answer;
            }
        }
    }

    /// Waits as the answer demands. Returns `None` if the request must be tried again.
    async fn paced<T>(
        &mut self,
        asked: Instant,
        tries: &mut u32,
        answer: Result<T, ReadError>,
    ) -> Option<Result<T, ReadError>> {
        *tries += 1;
        let busy = matches!(answer, Err(ReadError::Busy(_)));
        let wait = match busy {
            true => self.pace.after_failure(fastrand::f64()),
            false => self.pace.after(asked.elapsed(), fastrand::f64()),
        };
        sleep(wait).await;
        (!busy || *tries >= TRIES).then_some(answer)
    }

    async fn save(&mut self) {
        self.kept = Instant::now();
        let (position_file, bytes) = (Arc::clone(&self.position_file), self.position.bytes());
        let kept = tokio::task::spawn_blocking(move || position_file.write(&bytes)).await;
        if let Ok(Err(error)) = kept {
            tracing::warn!(%error, "where the sweep stands is not written: after a restart it begins anew");
        }
    }
}

/// The key by which a digest that was queued for these targets is remembered. It includes the targets,
/// because a blob that was queued for one namespace may be missing in the own locations of another. For the
/// `common` targets the key is the digest itself.
fn target_key(digest: &Digest, targets: &[Arc<str>], common: &[Arc<str>]) -> Digest {
    if targets == common {
        return *digest;
    }
    Digest::of(format!("{digest} {}", targets.join(" ")).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_queued_again_for_a_namespace_with_other_locations() {
        let [ours, theirs, others] =
            [["a", "b"], ["a", "c"], ["ab", "c"]].map(|names| names.map(Arc::<str>::from));
        let digest = Digest::of(b"shared");
        let mut position = SweepPosition::default();
        for targets in [&ours, &theirs, &others] {
            assert!(position.is_new(&target_key(&digest, targets, &ours)));
            assert!(!position.is_new(&target_key(&digest, targets, &ours)));
        }
        assert!(!position.is_new(&digest), "for the common targets the key is the digest");
    }
}
