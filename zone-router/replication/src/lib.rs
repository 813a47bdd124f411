#![doc = include_str!("../README.md")]

mod authority;
mod bounds;
mod copy;
mod errors;
mod job;
mod journal;
mod lane;
mod local;
mod operators;
mod pace;
mod risk;
mod setup;
mod status;
mod timetable;

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

pub use authority::{Authority, Placed, Wanted};
pub use bounds::{Bounds, Verify};
pub use copy::{CopyError, Failure, Fault, Outcome};
pub use errors::Failures;
pub use job::{Job, MAX_REPOSITORIES, NewJob};
pub use journal::{
    AGES, Ages, Count, JOBS_SHOWN, JobView, Journal, JournalError, LEASE, Next, Outstanding, Shown, State,
    TOOK, Took, Which,
};
pub use local::Local;
pub use pace::{Limits, LimitsByZone};
pub use risk::{AtRisk, at_risk};
pub use setup::Setup;
pub use status::LaneStatus;
pub use timetable::{DAY, Timetable, Window};

use copy::{Means, Proven, Within};
use lane::Lane;
use pace::Pace;
use status::Tally;

/// How often [`FanOut::idle`] looks.
const POLL: Duration = Duration::from_millis(25);

/// A handle on the lanes. They run until the token given to [`FanOut::start`] is cancelled,
/// whether handles are left or not.
#[derive(Clone)]
pub struct FanOut {
    journal: Journal,
    lanes: Arc<HashMap<Arc<str>, Known>>,
    /// The zones in the order given.
    order: Arc<[Arc<str>]>,
    tasks: TaskTracker,
}

/// What the handle has of a lane.
struct Known {
    tally: Arc<Tally>,
    pace: Arc<Pace>,
    /// Why nobody does its jobs, where the zone is unusable.
    unusable: Option<Arc<str>>,
}

impl fmt::Debug for FanOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FanOut").field("zones", &self.order).finish_non_exhaustive()
    }
}

impl FanOut {
    /// Starts a lane for every zone. Needs a Tokio runtime.
    ///
    /// What the journal holds for zones that are not among them, or are unusable, stays there; the
    /// former with a warning.
    #[must_use]
    pub fn start(setup: Setup, shutdown: CancellationToken) -> Self {
        let Setup { zones, journal, bounds, limits, verify, router, local, authority } = setup;
        let zones: Arc<[Zone]> = zones.into();
        let tasks = TaskTracker::new();
        let mut lanes = HashMap::new();
        for target in zones.iter() {
            let pace = Arc::new(Pace::new(limits.of(&target.name).clone()));
            let known = Known { tally: Arc::default(), pace, unusable: target.unusable.clone() };
            if target.unusable.is_none() {
                let means = Means {
                    target: target.clone(),
                    zones: Arc::clone(&zones),
                    bounds,
                    verify,
                    pace: Arc::clone(&known.pace),
                    router: router.clone(),
                    local: local.clone(),
                    authority: authority.clone(),
                    within: Within::default(),
                    proven: Proven::default(),
                };
                let lane = Lane { means, journal: journal.clone(), tally: Arc::clone(&known.tally) };
                tasks.spawn(lane.run(shutdown.clone()));
            }
            lanes.insert(Arc::clone(&target.name), known);
        }
        let order = zones.iter().map(|zone| Arc::clone(&zone.name)).collect();
        let fan_out = Self { journal, lanes: Arc::new(lanes), order, tasks };
        fan_out.tasks.spawn(fan_out.clone().warn_of_unconfigured());
        fan_out.tasks.close();
        fan_out
    }

    /// Other limits from now on; copies under way see them at their next piece.
    pub fn set_limits(&self, limits: &LimitsByZone) {
        for (zone, lane) in self.lanes.iter() {
            lane.pace.set(limits.of(zone).clone());
            self.journal.bell(zone).notify_one();
        }
    }

    /// Queues copies of `blobs`, each with its size if known, into every zone of `targets`. On the
    /// disk when it returns; adding what is queued already does no harm.
    ///
    /// # Errors
    /// The journal could not be written, or not in time: then some may be queued and some not.
    pub async fn enqueue(
        &self,
        repository: &str,
        blobs: &[(Blob, Option<u64>)],
        targets: &[Arc<str>],
    ) -> Result<(), JournalError> {
        let jobs = targets.iter().flat_map(|target| {
            blobs.iter().map(|(blob, size)| NewJob::new(blob.clone(), Arc::clone(target), *size, repository))
        });
        self.journal.add(jobs.collect()).await?;
        for target in targets.iter().filter(|target| !self.lanes.contains_key(*target)) {
            warn!(zone = &**target, "copies queued for a zone that is not configured");
        }
        Ok(())
    }

    /// Every lane in the order of zones, then zones that have jobs but no lane.
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
                let mut lane_status = lane.tally.status(zone, counts.remove(zone), lane.pace.moved());
                lane_status.unusable.clone_from(&lane.unusable);
                status.push(lane_status);
            }
        }
        let mut rest: Vec<_> = counts.into_values().map(status::unconfigured).collect();
        rest.sort_by(|a, b| a.zone.cmp(&b.zone));
        status.extend(rest);
        Ok(status)
    }

    /// Waits until no usable zone has a job left: for tests and tools. Has no bound of its own.
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

    /// Waits until every lane has ended, after the token was cancelled.
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
                        "the journal has copies for a zone that is not configured; they wait"
                    );
                }
            }
            Err(error) => error!(%error, "the journal cannot be read"),
        }
    }
}
