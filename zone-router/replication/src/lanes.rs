//! The lanes of a fan-out: started, continued by a later configuration, and stopped.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zone_router::{PerZone, Zone};

use super::Setup;
use super::copy::Copier;
use super::failures::Failures;
use super::journal::{Count, Journal};
use super::lane::Lane;
use super::status::{LaneCounters, LaneStatus};
use super::throttle::{Limits, Throttle};

/// The handle's state of one lane.
pub(super) struct LaneHandle {
    counters: Arc<LaneCounters>,
    throttle: Arc<Throttle>,
    /// Why the zone is unusable, if it is. Nobody then does its jobs.
    unusable: Option<Arc<str>>,
    /// `None` if the zone is unusable.
    running: Option<RunningLane>,
}

/// A lane that was started.
#[derive(Clone)]
struct RunningLane {
    lane: Arc<Lane>,
    stop: CancellationToken,
    /// Cancelled when the lane has ended.
    ended: CancellationToken,
}

impl LaneHandle {
    /// Ends the lane. Its copies in progress are dropped, and their jobs stay due.
    pub(super) fn stop(&self) {
        if let Some(running) = &self.running {
            running.stop.cancel();
        }
    }

    /// Replaces the limits.
    pub(super) fn set_limits(&self, limits: &Limits, journal: &Journal) {
        self.throttle.set(limits.clone());
        if let Some(running) = &self.running {
            journal.wake(&running.lane.copier().target.name);
        }
    }

    pub(super) fn failures(&self) -> Failures {
        self.counters.failures_by_kind.all()
    }

    /// The status of the lane of this zone, whose jobs are `count`.
    pub(super) fn status(&self, zone: &Arc<str>, count: Option<Count>) -> LaneStatus {
        let mut status = self.counters.status(zone, count, self.throttle.moved());
        status.unusable.clone_from(&self.unusable);
        status
    }
}

/// Starts the lanes of one configuration.
pub(super) struct Starter<'a> {
    setup: Setup,
    zones: Arc<PerZone<Zone>>,
    tasks: &'a TaskTracker,
    shutdown: &'a CancellationToken,
}

impl<'a> Starter<'a> {
    pub(super) fn new(mut setup: Setup, tasks: &'a TaskTracker, shutdown: &'a CancellationToken) -> Self {
        let zones = Arc::new(PerZone::from(std::mem::take(&mut setup.zones)));
        Self { setup, zones, tasks, shutdown }
    }

    pub(super) fn zones(&self) -> &Arc<PerZone<Zone>> {
        &self.zones
    }

    /// The lane of a zone: the one `before`, if the zone `keeps` its store, or else a new one. What was counted stays.
    pub(super) fn lane(&self, target: &Zone, before: Option<&LaneHandle>, keeps: bool) -> LaneHandle {
        let limits = self.setup.limits.of(&target.name);
        let (counters, throttle) = match before {
            Some(before) => {
                before.set_limits(limits, &self.setup.journal);
                (Arc::clone(&before.counters), Arc::clone(&before.throttle))
            }
            None => (Arc::default(), Arc::new(Throttle::new(limits.clone()))),
        };
        let unusable = target.unusable.clone();
        let before = before.and_then(|before| before.running.as_ref());
        let running = match before.filter(|_| keeps && unusable.is_none()) {
            Some(running) => {
                let earlier = running.lane.copier();
                running.lane.set_copier(self.copier(target, &throttle, Some(&earlier)));
                Some(running.clone())
            }
            None => {
                before.inspect(|before| before.stop.cancel());
                unusable
                    .is_none()
                    .then(|| self.start(self.copier(target, &throttle, None), &counters, before))
            }
        };
        LaneHandle { counters, throttle, unusable, running }
    }

    /// Starts a lane as soon as the one before it has ended, which had the same zone.
    fn start(
        &self,
        copier: Copier,
        counters: &Arc<LaneCounters>,
        before: Option<&RunningLane>,
    ) -> RunningLane {
        let running = RunningLane {
            lane: Arc::new(Lane::new(copier, Arc::clone(counters))),
            stop: self.shutdown.child_token(),
            ended: CancellationToken::new(),
        };
        let RunningLane { lane, stop, ended } = running.clone();
        let before = before.map(|before| before.ended.clone());
        self.tasks.spawn(async move {
            // Also if the task is dropped.
            let _ended = ended.drop_guard();
            if let Some(before) = before {
                before.cancelled().await;
            }
            lane.run(stop).await;
        });
        running
    }

    /// A copier for this target. What an `earlier` one knows about the same store stays.
    fn copier(&self, target: &Zone, throttle: &Arc<Throttle>, earlier: Option<&Copier>) -> Copier {
        let Setup { zones: _, journal, bounds, limits: _, verify, router, local, authority } = &self.setup;
        Copier {
            target: target.clone(),
            journal: journal.clone(),
            zones: Arc::clone(&self.zones),
            bounds: *bounds,
            verify: *verify,
            throttle: Arc::clone(throttle),
            router: router.clone(),
            local: local.clone(),
            authority: authority.clone(),
            server_side: earlier.map(|earlier| Arc::clone(&earlier.server_side)).unwrap_or_default(),
            verified: earlier.map(|earlier| Arc::clone(&earlier.verified)).unwrap_or_default(),
        }
    }
}
