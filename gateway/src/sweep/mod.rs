//! A slow walk over all that the registry has, so that what no push told of is copied too: what was
//! pushed elsewhere, what the journal could not take, what a store has lost.

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
use crate::copies::{Keeper, Place, Tally};
use registry::service_account::{Page, ReadError, Reader};
use registry::{children, local_blobs};

/// The first round after a start begins within this, and within `every`: replicas that start together
/// should not walk together.
const FIRST_WITHIN: Duration = Duration::from_secs(600);

/// One that was under way goes on within this.
const GO_ON_WITHIN: Duration = Duration::from_secs(60);

/// How often a request is tried while the registry has no time for it; then it is passed over until
/// the next round.
const TRIES: u32 = 5;

/// Where it stands is written this often.
const KEEP_EVERY: Duration = Duration::from_secs(10);

/// How many copies wait is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Pages of one list, and manifests below one tag: more is a registry that goes in circles.
const PAGES_MAX: usize = 100_000;
const BELOW_A_TAG_MAX: usize = 10_000;

/// Blobs remembered within a round, so that a layer that many images share is queued once.
const BLOBS_MAX: usize = 200_000;

/// One gateway's walk.
pub(crate) struct Sweep {
    gateway: Arc<Gateway>,
    reader: Arc<Reader>,
    settings: config::Sweep,
    pace: Pace,
    keeper: Arc<Keeper>,
    place: Place,
    blobs: HashSet<Digest>,
    kept: Instant,
    /// When it was last seen that there is room for more copies.
    room: Option<Instant>,
}

impl Sweep {
    /// The sweep of this gateway; `None` without an account, or targets, or where it is switched off.
    /// Waits for the disk.
    pub(crate) fn of(gateway: &Arc<Gateway>) -> Option<Self> {
        let settings = gateway.settings.replication.sweep.clone();
        let reader = gateway.reader.clone().filter(|_| settings.enabled)?;
        if gateway.targets.is_empty() && gateway.database.is_none() {
            return None;
        }
        let keeper = Arc::new(Keeper::new(&gateway.settings.state_dir));
        let place = keeper.read();
        gateway.sweep.at(&place);
        Some(Self {
            gateway: Arc::clone(gateway),
            reader,
            pace: Pace::new(settings.rate),
            settings,
            keeper,
            place,
            blobs: HashSet::new(),
            kept: Instant::now(),
            room: None,
        })
    }

    /// Round after round, for ever.
    pub(crate) async fn run(mut self) {
        let every = self.settings.every;
        let within = if self.place.is_under_way() { GO_ON_WITHIN } else { FIRST_WITHIN };
        let course = Arc::clone(&self.gateway.sweep);
        let mut wait = within.min(every).mul_f64(fastrand::f64());
        wait += self.place.wait(SystemTime::now(), every);
        loop {
            course.wait(wait).await;
            if !self.place.is_under_way() {
                self.place.begin(SystemTime::now());
            }
            course.at(&self.place);
            self.blobs.clear();
            let began = Instant::now();
            match self.round().await {
                Ok(()) => {
                    self.place.end(SystemTime::now());
                    course.ended(None);
                    wait = self.place.wait(SystemTime::now(), every);
                    self.gateway.metrics.swept(SystemTime::now());
                    let Tally { repositories, manifests, jobs, skipped } = self.place.tally;
                    let took_s = began.elapsed().as_secs();
                    tracing::info!(repositories, manifests, jobs, skipped, took_s, "sweep finished");
                }
                Err(error) => {
                    wait = self.pace.after_failure(fastrand::f64());
                    tracing::warn!(%error, again_in_s = wait.as_secs(), "the sweep cannot go on");
                    course.ended(Some(error.to_string()));
                }
            }
            course.at(&self.place);
            self.keep().await;
        }
    }

    /// From where it stands to the last repository.
    async fn round(&mut self) -> Result<(), ReadError> {
        for _ in 0..PAGES_MAX {
            let at: Option<PathAndQuery> = self.place.page.as_ref().and_then(|page| page.parse().ok());
            let page = match self.repositories(at.as_ref()).await {
                // Quay's pages have names that end after two days.
                Err(ReadError::Odd(_) | ReadError::Absent(_)) if at.is_some() => {
                    (self.place.page, self.place.repository) = (None, None);
                    continue;
                }
                page => page?,
            };
            let done = self.place.repository.take();
            let done = done.and_then(|done| page.names.iter().position(|name| *name == done));
            let rest = &page.names[done.map_or(0, |done| done + 1)..];
            for (at, repository) in rest.iter().enumerate() {
                self.log_in(&rest[at..]).await;
                self.repository(repository).await;
                self.place.repository = Some(repository.clone());
                self.gateway.sweep.at(&self.place);
                if self.kept.elapsed() > KEEP_EVERY {
                    self.keep().await;
                }
            }
            self.place.repository = None;
            match page.next {
                Some(next) => self.place.page = Some(next.to_string()),
                None => return Ok(()),
            }
        }
        Err(ReadError::Odd("the list of repositories does not end".to_owned()))
    }

    /// Has a token for the first of these repositories and, by the same login, for those after it.
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
                // Deleted meanwhile.
                Err(ReadError::Absent(_)) => return,
                Err(error) => return self.skip(repository, &error),
            };
            for tag in &page.names {
                self.tag(repository, tag, &targets).await;
            }
            next = page.next;
            if next.is_none() {
                self.place.tally.repositories += 1;
                return;
            }
        }
    }

    /// A tag's manifest, and those below it.
    async fn tag(&mut self, repository: &str, tag: &str, targets: &[Arc<str>]) {
        let manifest = match self.manifest(repository, tag).await {
            Ok(manifest) => manifest,
            Err(ReadError::Absent(_)) => return,
            Err(error) => return self.skip(repository, &error),
        };
        let mut below = Vec::new();
        if self.place.is_new(&self.towards(&Digest::of(&manifest), targets)) {
            below = self.queue(repository, &manifest, targets).await;
        }
        for _ in 0..BELOW_A_TAG_MAX {
            let Some(digest) = below.pop() else { return };
            let towards = self.towards(&digest, targets);
            if !self.place.is_new(&towards) {
                continue;
            }
            match self.manifest(repository, &digest.to_string()).await {
                Ok(manifest) => below.extend(self.queue(repository, &manifest, targets).await),
                Err(ReadError::Absent(_)) => {}
                Err(error) => {
                    self.place.forget(&towards);
                    self.skip(repository, &error);
                }
            }
        }
    }

    /// Queues a manifest's local blobs, and gives its children.
    async fn queue(&mut self, repository: &str, manifest: &Bytes, targets: &[Arc<str>]) -> Vec<Digest> {
        let (blobs, below) = match local_blobs(manifest).and_then(|blobs| Ok((blobs, children(manifest)?))) {
            Ok(read) => read,
            Err(error) => {
                self.skip(repository, &ReadError::Odd(format!("a manifest that is not understood: {error}")));
                return Vec::new();
            }
        };
        let new = |digest: &Digest| !self.blobs.contains(&self.towards(digest, targets));
        let blobs: Vec<_> = blobs.into_iter().filter(|blob| new(&blob.digest)).collect();
        self.wait_for_room().await;
        let wanted: Vec<_> = blobs.iter().map(|blob| (self.gateway.blob(blob.digest), blob.size)).collect();
        if let Err(error) = self.gateway.fanout.enqueue(repository, &wanted, targets).await {
            self.place.forget(&self.towards(&Digest::of(manifest), targets));
            self.skip(repository, &ReadError::Busy(error.to_string()));
            sleep(self.pace.after_failure(fastrand::f64())).await;
            return below;
        }
        let jobs = (wanted.len() * targets.len()) as u64;
        self.place.tally.manifests += 1;
        self.place.tally.jobs += jobs;
        self.gateway.metrics.swept_manifest(jobs);
        if self.blobs.len() >= BLOBS_MAX {
            self.blobs.clear();
        }
        let queued: Vec<_> = blobs.iter().map(|blob| self.towards(&blob.digest, targets)).collect();
        self.blobs.extend(queued);
        below
    }

    /// What a digest is remembered by.
    fn towards(&self, digest: &Digest, targets: &[Arc<str>]) -> Digest {
        towards(digest, targets, &self.gateway.targets)
    }

    /// Waits while a zone has more copies to be made than it should; a journal that cannot be read is
    /// not to be given more either.
    async fn wait_for_room(&mut self) {
        while self.room.is_none_or(|seen| seen.elapsed() > LOOK_EVERY) {
            let backlog = match self.gateway.fanout.status().await {
                Ok(lanes) => lanes.iter().filter(|lane| lane.configured).map(|lane| lane.waiting).max(),
                Err(_) => None,
            };
            if backlog.is_some_and(|backlog| backlog <= self.settings.backlog) {
                self.room = Some(Instant::now());
                return;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn skip(&mut self, repository: &str, error: &ReadError) {
        tracing::debug!(repository, %error, "passed over by the sweep");
        self.place.tally.skipped += 1;
        self.gateway.metrics.sweep_skipped();
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

    /// Waits as the answer says; `None` if it is to be asked again.
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

    async fn keep(&mut self) {
        self.kept = Instant::now();
        let (keeper, bytes) = (Arc::clone(&self.keeper), self.place.bytes());
        let kept = tokio::task::spawn_blocking(move || keeper.write(&bytes)).await;
        if let Ok(Err(error)) = kept {
            tracing::warn!(%error, "where the sweep stands is not written: after a restart it begins anew");
        }
    }
}

/// What a digest is remembered by, which was queued for these targets: a namespace's own locations are not where
/// the same blob went in another. For the `common` ones it is the digest itself.
fn towards(digest: &Digest, targets: &[Arc<str>], common: &[Arc<str>]) -> Digest {
    if targets == common {
        return *digest;
    }
    Digest::of(format!("{digest} {}", targets.join(" ")).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_namespace_has_is_new_in_another_with_locations_of_its_own() {
        let [ours, theirs, others] =
            [["a", "b"], ["a", "c"], ["ab", "c"]].map(|names| names.map(Arc::<str>::from));
        let digest = Digest::of(b"shared");
        let mut place = Place::default();
        for targets in [&ours, &theirs, &others] {
            assert!(place.is_new(&towards(&digest, targets, &ours)));
            assert!(!place.is_new(&towards(&digest, targets, &ours)));
        }
        assert!(!place.is_new(&digest), "the common ones go by the digest alone");
    }
}
