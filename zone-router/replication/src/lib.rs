#![doc = include_str!("../README.md")]

mod authority;
mod bounds;
mod copy;
mod failures;
mod job;
mod journal;
mod lane;
mod lanes;
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
use zone_router::{Blob, Zone};

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

use lanes::{LaneHandle, Starter};

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
    shutdown: CancellationToken,
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
        let tasks = TaskTracker::new();
        let fan_out = Self::with(setup, &HashMap::new(), |_| false, tasks, shutdown);
        fan_out.tasks.spawn(fan_out.clone().warn_of_unconfigured());
        fan_out.tasks.close();
        fan_out
    }

    /// The fan-out for a later configuration, which takes the place of this one. `setup` has the same journal. The lane
    /// of a zone continues if `keeps` says that the zone's store is the same: copies in progress end as they began, and
    /// the next ones know the new zones. Other lanes end. Their copies in progress are dropped, and their jobs stay in
    /// the journal.
    #[must_use]
    pub fn successor(&self, setup: Setup, keeps: impl Fn(&str) -> bool) -> Self {
        let fan_out = Self::with(setup, &self.lanes, keeps, self.tasks.clone(), self.shutdown.clone());
        if fan_out.order != self.order {
            fan_out.tasks.spawn(fan_out.clone().warn_of_unconfigured());
        }
        fan_out
    }

    /// Starts the lanes of a configuration. Those before it are `lanes`.
    fn with(
        setup: Setup,
        lanes: &HashMap<Arc<str>, LaneHandle>,
        keeps: impl Fn(&str) -> bool,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) -> Self {
        let journal = setup.journal.clone();
        let order: Arc<[Arc<str>]> = setup.zones.iter().map(|zone| Arc::clone(&zone.name)).collect();
        let starter = Starter::new(setup, &tasks, &shutdown);
        let zones = Arc::clone(starter.zones());
        let handle = |zone: &Zone| {
            let before = lanes.get(&zone.name);
            (Arc::clone(&zone.name), starter.lane(zone, before, keeps(&zone.name)))
        };
        let started: HashMap<_, _> = zones.iter().map(handle).collect();
        for (zone, lane) in lanes {
            if !started.contains_key(zone) {
                lane.stop();
            }
        }
        Self { journal, lanes: Arc::new(started), order, tasks, shutdown }
    }

    /// Replaces the limits. Copies in progress use the new ones from their next piece on.
    pub fn set_limits(&self, limits: &LimitsByZone) {
        for (zone, lane) in self.lanes.iter() {
            lane.set_limits(limits.of(zone), &self.journal);
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
                status.push(lane.status(zone, counts.remove(zone)));
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
