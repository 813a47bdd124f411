#![doc = include_str!("../README.md")]

mod authority;
mod bounds;
mod copy;
mod failures;
mod job;
mod journal;
mod lane;
mod local;
mod operators;
mod risk;
mod setup;
mod status;
mod throttle;
mod timetable;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};
use zone_router::{Blob, PerZone};

pub use authority::{Authority, AuthorityError, Placed, Wanted};
pub use bounds::{Bounds, Verify};
pub use copy::{CopyError, Failure, Fault, Outcome};
pub use failures::Failures;
pub use job::{FoundSize, Job, MAX_REPOSITORIES, NewJob};
pub use journal::{
    AGES, Ages, Count, DURATION_BUCKETS, Durations, JOBS_SHOWN, JobQuery, JobSelection, JobView, Journal,
    JournalError, LEASE, Next, Outstanding, State,
};
pub use local::Local;
pub use risk::{AtRisk, at_risk};
pub use setup::Setup;
pub use status::LaneStatus;
pub use throttle::{Limits, LimitsByZone};
pub use timetable::{DAY, Timetable, Window};

use copy::{Copier, ServerSideCopy, VerifiedObjects};
use lane::Lane;
use status::LaneCounters;
use throttle::Throttle;

/// How often [`FanOut::idle`] checks.
const POLL: Duration = Duration::from_millis(25);

/// A handle on the lanes. The lanes run until the token given to [`FanOut::start`] is cancelled, even if no
/// handle is left.
///
/// ```
/// use std::sync::Arc;
///
/// use backends::memory::MemoryStore;
/// use backends::{Digest, Key, Store};
/// use replication::{FanOut, Journal, Setup};
/// use tokio_util::sync::CancellationToken;
/// use zone_router::{Blob, Zone};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // A push brought the blob into zone-a.
/// let blob = Blob { digest: Digest::of(b"hello"), key: Key::new("hello") };
/// let (source, target) = (MemoryStore::new(), Arc::new(MemoryStore::new()));
/// source.insert(blob.key.clone(), "hello");
/// let zones = vec![Zone::new("zone-a", Arc::new(source)), Zone::new("zone-b", target.clone())];
///
/// let folder = tempfile::tempdir()?;
/// let journal = Journal::open(&folder.path().join("journal.db"))?;
/// let shutdown = CancellationToken::new();
/// let fan_out = FanOut::start(Setup::new(zones, journal), shutdown.clone());
///
/// // When this returns, the job is on disk. The lane of zone-b does it.
/// fan_out.enqueue("org/app", &[(blob.clone(), Some(5))], &["zone-b".into()]).await?;
/// fan_out.idle().await?;
/// let copy = target.head(&blob.key).await?.expect("the copy was made");
/// assert_eq!(copy.size, 5);
///
/// shutdown.cancel();
/// fan_out.stopped().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct FanOut {
    journal: Journal,
    lanes: Arc<HashMap<Arc<str>, LaneHandle>>,
    /// The zones in the configured order.
    order: Arc<[Arc<str>]>,
    tasks: TaskTracker,
}

/// The handle's state of one lane.
struct LaneHandle {
    counters: Arc<LaneCounters>,
    throttle: Arc<Throttle>,
    /// Why the zone is unusable, if it is. Nobody then does its jobs.
    unusable: Option<Arc<str>>,
}

impl fmt::Debug for FanOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FanOut").field("zones", &self.order).finish_non_exhaustive()
    }
}

impl FanOut {
    /// Starts a lane for every usable zone. Needs a Tokio runtime.
    ///
    /// Jobs for zones that are unusable or not configured stay in the journal. For zones that are not
    /// configured, a warning is logged.
    #[must_use]
    pub fn start(setup: Setup, shutdown: CancellationToken) -> Self {
        let Setup { zones, journal, bounds, limits, verify, router, local, authority } = setup;
        let zones = Arc::new(PerZone::from(zones));
        let tasks = TaskTracker::new();
        let mut lanes = HashMap::new();
        for target in zones.iter() {
            let throttle = Arc::new(Throttle::new(limits.of(&target.name).clone()));
            let handle = LaneHandle { counters: Arc::default(), throttle, unusable: target.unusable.clone() };
            if target.unusable.is_none() {
                let copier = Copier {
                    target: target.clone(),
                    journal: journal.clone(),
                    zones: Arc::clone(&zones),
                    bounds,
                    verify,
                    throttle: Arc::clone(&handle.throttle),
                    router: router.clone(),
                    local: local.clone(),
                    authority: authority.clone(),
                    server_side: ServerSideCopy::default(),
                    verified: VerifiedObjects::default(),
                };
                let lane = Lane { copier, counters: Arc::clone(&handle.counters) };
                tasks.spawn(lane.run(shutdown.clone()));
            }
            lanes.insert(Arc::clone(&target.name), handle);
        }
        let order = zones.iter().map(|zone| Arc::clone(&zone.name)).collect();
        let fan_out = Self { journal, lanes: Arc::new(lanes), order, tasks };
        fan_out.tasks.spawn(fan_out.clone().warn_of_unconfigured());
        fan_out.tasks.close();
        fan_out
    }

    /// Replaces the limits. Copies in progress use the new ones from their next piece on.
    pub fn set_limits(&self, limits: &LimitsByZone) {
        for (zone, lane) in self.lanes.iter() {
            lane.throttle.set(limits.of(zone).clone());
            self.journal.wake(zone);
        }
    }

    /// Queues copies of `blobs`, each with its size if it is known, into every zone of `targets`. When this returns,
    /// they are on disk. Copies that are already queued may be queued again. A size that the digest excludes is
    /// ignored: only an audit can set the read mark ([`Job::must_read`]), and a client cannot.
    ///
    /// # Errors
    /// The journal could not be written in time. Some copies may then be queued, and some may not.
    pub async fn enqueue(
        &self,
        repository: &str,
        blobs: &[(Blob, Option<u64>)],
        targets: &[Arc<str>],
    ) -> Result<(), JournalError> {
        let jobs = targets.iter().flat_map(|target| {
            blobs.iter().map(|(blob, size)| {
                let size = size.filter(|size| blob.digest.may_have(*size));
                NewJob::new(blob.clone(), Arc::clone(target), size, repository)
            })
        });
        self.journal.add(jobs.collect()).await?;
        for target in targets.iter().filter(|target| !self.lanes.contains_key(*target)) {
            warn!(zone = &**target, "copies queued for a zone that is not configured");
        }
        Ok(())
    }

    /// The status of every lane in the configured order, and then of zones that have jobs but are not
    /// configured.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn status(&self) -> Result<Vec<LaneStatus>, JournalError> {
        let counts = self.journal.counts().await?;
        let mut counts: HashMap<_, _> =
            counts.into_iter().map(|count| (Arc::clone(&count.zone), count)).collect();
        let mut status = Vec::new();
        for zone in self.order.iter() {
            if let Some(lane) = self.lanes.get(zone) {
                let mut lane_status = lane.counters.status(zone, counts.remove(zone), lane.throttle.moved());
                lane_status.unusable.clone_from(&lane.unusable);
                status.push(lane_status);
            }
        }
        let mut rest: Vec<_> = counts.into_values().map(status::unconfigured).collect();
        rest.sort_by(|a, b| a.zone.cmp(&b.zone));
        status.extend(rest);
        Ok(status)
    }

    /// Waits until no usable zone has a job left, for tests and tools. Has no timeout.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn idle(&self) -> Result<(), JournalError> {
        let busy = |lane: &LaneStatus| lane.configured && lane.unusable.is_none() && lane.waiting > 0;
        while self.status().await?.iter().any(busy) {
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// After the token was cancelled, waits until every lane has ended.
    pub async fn stopped(&self) {
        self.tasks.wait().await;
    }

    async fn warn_of_unconfigured(self) {
        match self.status().await {
            Ok(status) => {
                for lane in status.into_iter().filter(|lane| !lane.configured) {
                    warn!(
                        zone = &*lane.zone,
                        jobs = lane.waiting,
                        "the journal has copies for a zone that is not configured: they wait"
                    );
                }
            }
            Err(error) => error!(%error, "the journal cannot be read"),
        }
    }
}
