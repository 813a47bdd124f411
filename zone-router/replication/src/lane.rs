//! A lane performs the jobs of one target zone. There is one lane for each zone, so that a dead zone delays
//! only its own jobs.
//!
//! While its target fails, a lane pauses, and then tries a single job. So an outage costs one try per pause,
//! and not one try per job. While the router's breaker of the target is open, the lane tries one job from
//! time to time, and continues as soon as the breaker closes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use backends::RequestId;
use tokio::sync::Notify;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, debug, error, error_span, info, warn};

use super::copy::{Copier, CopyError, Fault, JobEnd, Outcome};
use super::job::Job;
use super::journal::{JournalError, Next};
use super::status::LaneCounters;
use super::throttle::SMALL_BLOB;

/// If a copy succeeds after this many failed ones in a row, the zone has recovered: its jobs become due, and
/// do not wait for their backoff to end.
const OUTAGE: u32 = 3;

/// How often a lane checks whether the router's breaker of its target is closed again.
const ROUTER_POLL: Duration = Duration::from_millis(500);

/// What a lane needs for its work.
#[derive(Debug)]
pub(super) struct Lane {
    zone: Arc<str>,
    /// The copier of the next jobs. Jobs in progress keep the one with which they began.
    copier: ArcSwap<Copier>,
    counters: Arc<LaneCounters>,
}

/// The result of performing one job.
enum JobResult {
    /// The job was tried. `recorded` says whether the journal could record the end.
    Tried { end: JobEnd, recorded: Result<(), JournalError> },
    /// The lease was lost, and another replica may have the job now.
    LeaseLost,
}

/// The router's breaker of a lane's target, as the lane uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TargetBreaker {
    /// Reads use the target, or there is no router: copies run normally.
    Closed,
    /// Reads do not use the target, and the last try was long ago: the lane tries one job.
    HalfOpen,
    /// Reads do not use the target, and the last try was recent: the lane waits.
    Open,
}

/// A running lane.
struct Worker {
    lane: Arc<Lane>,
    /// Notified when jobs were added.
    wake: Arc<Notify>,
    /// The copies in progress.
    running: JoinSet<JobResult>,
    in_flight: HashMap<Id, Job>,
    /// The number of jobs claimed so far. It selects which kind of job comes next.
    claims: u32,
    /// The number of copies in a row that failed because of the target.
    target_failures: u32,
    /// The number of calls of the journal in a row that failed.
    journal_failures: u32,
    paused_until: Option<Instant>,
    /// Whether the lane pauses because of the journal. Any wake-up then ends the pause.
    waits_for_journal: bool,
    /// While the router's breaker of the target is open: when it opened, or when a job was last started.
    open_since: Option<Instant>,
}

impl Lane {
    /// A lane that has not begun.
    pub(super) fn new(copier: Copier, counters: Arc<LaneCounters>) -> Self {
        Self { zone: Arc::clone(&copier.target.name), copier: ArcSwap::from_pointee(copier), counters }
    }

    /// Replaces the copier, from the next job on. The target must be the same store.
    pub(super) fn set_copier(&self, copier: Copier) {
        self.copier.store(Arc::new(copier));
        self.copier().journal.wake(&self.zone);
    }

    pub(super) fn copier(&self) -> Arc<Copier> {
        self.copier.load_full()
    }

    /// Works until `shutdown` is cancelled. Copies in progress are then dropped, and their jobs stay due.
    pub(super) async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut worker = Worker {
            wake: self.copier().journal.wake_up(&self.zone),
            lane: self,
            running: JoinSet::new(),
            in_flight: HashMap::new(),
            claims: 0,
            target_failures: 0,
            journal_failures: 0,
            paused_until: None,
            waits_for_journal: false,
            open_since: None,
        };
        shutdown.run_until_cancelled(worker.run()).await;
        worker.running.shutdown().await;
        let copier = worker.lane.copier();
        if let Err(error) = copier.journal.release(&copier.target.name).await {
            warn!(zone = &*copier.target.name, %error, "the leases of this zone could not be released: other replicas take over its jobs when the leases end");
        }
    }

    fn zone(&self) -> &Arc<str> {
        &self.zone
    }

    /// Performs a job that was claimed at `claimed`.
    async fn perform(&self, job: Job, claimed: Instant) -> JobResult {
        let copier = self.copier();
        let end = tokio::select! {
            end = copier.perform(&job) => end,
            () = copier.journal.renew_until_lost(&job, claimed) => {
                warn!(zone = &**self.zone(), digest = %job.blob.digest, "the lease was lost, another replica may have this job: left to it");
                return JobResult::LeaseLost;
            }
        };
        self.counters.note(&end);
        let recorded = self.record(&job, &end).await;
        JobResult::Tried { end, recorded }
    }

    /// Records in the journal how a job ended.
    async fn record(&self, job: &Job, end: &JobEnd) -> Result<(), JournalError> {
        let (zone, digest) = (&**self.zone(), &job.blob.digest);
        match end {
            JobEnd::Done(Outcome::Withdrawn) => {
                let repositories = job.repositories.join(" ");
                info!(zone, %digest, repositories, "not copied: the registry no longer has this blob");
                self.copier().journal.withdrawn(job).await
            }
            JobEnd::Done(outcome) => {
                debug!(zone, %digest, ?outcome, "the target has the blob");
                self.copier().journal.done(job).await
            }
            JobEnd::Parked(why) => {
                warn!(zone, %digest, attempts = job.attempts + 1, why, "parked until it is added or retried");
                self.copier().journal.park(job, why).await
            }
            JobEnd::Deferred(size) => {
                debug!(zone, %digest, ?size, stated = job.size, "larger than its job stated: it waits until there is capacity");
                self.copier().journal.defer(job, *size).await
            }
            JobEnd::Failed(error) => {
                let delay = self.delay(job, error);
                warn!(zone, %digest, attempts = job.attempts + 1, ?delay, %error, "copy failed");
                self.copier().journal.failed(job, delay, &error.to_string(), error.in_doubt).await
            }
        }
    }

    fn delay(&self, job: &Job, error: &CopyError) -> Duration {
        let bounds = self.copier().bounds;
        let backoff = match error.fault {
            Fault::Nowhere if error.is_absent_everywhere() => bounds.nowhere,
            Fault::Nowhere | Fault::Target | Fault::Sources | Fault::Registry | Fault::Journal => {
                bounds.retry
            }
        };
        backoff.delay(job.attempts, fastrand::f64(), error.retry_after())
    }
}

/// The span of one copy. It has the level `error`, so that every line that is logged names its copy.
fn span(id: &RequestId, job: &Job) -> Span {
    let (request_id, repository) = (id.as_str(), job.repositories.first().map(String::as_str));
    let (digest, zone) = (&job.blob.digest, &*job.target);
    error_span!(target: "copy", parent: None, "copy", request_id, repository, %digest, zone)
}

impl Worker {
    async fn run(&mut self) {
        loop {
            let idle_until = self.start_due().await;
            self.lane.counters.set_active(self.running.len(), self.lane.copier().throttle.moved());
            let (wake, copier) = (Arc::clone(&self.wake), self.lane.copier());
            tokio::select! {
                Some(ended) = self.running.join_next_with_id() => self.settle(ended).await,
                () = wake.notified() => {
                    if self.waits_for_journal {
                        self.paused_until = None;
                    }
                }
                () = copier.throttle.capacity_freed() => {}
                () = tokio::time::sleep_until(idle_until) => {}
            }
        }
    }

    /// Starts due jobs up to the limits. Returns until when there is nothing else to do.
    async fn start_due(&mut self) -> Instant {
        let now = Instant::now();
        let max = self.lane.copier().bounds.pause.max;
        let target = self.target_breaker(now);
        let soon = if self.lane.copier().router.is_some() { now + ROUTER_POLL } else { now + max };
        if let Some(until) = self.paused_until {
            if until > now {
                return until.min(soon);
            }
            self.paused_until = None;
        }
        self.waits_for_journal = false;
        let copies_max = match target {
            TargetBreaker::Open => return soon,
            TargetBreaker::HalfOpen => 1,
            TargetBreaker::Closed if self.target_failures > 0 => 1,
            TargetBreaker::Closed => self.lane.copier().throttle.copies(),
        };
        let check_again =
            if target == TargetBreaker::Closed { now + self.lane.copier().bounds.retry.max } else { soon };
        while self.running.len() < copies_max {
            let claimed = Instant::now();
            match self.claim().await {
                Ok(Next::Job(job)) => self.start(job, claimed),
                Ok(Next::Wait(wait)) => return check_again.min(claimed + wait),
                Err(error) => {
                    error!(zone = &**self.lane.zone(), %error, "the lane cannot read its jobs");
                    return self.pause_for_journal();
                }
            }
        }
        check_again
    }

    /// The state of the router's breaker of the target.
    fn target_breaker(&mut self, now: Instant) -> TargetBreaker {
        let copier = self.lane.copier();
        let Copier { router, target, bounds, .. } = &*copier;
        if !router.as_ref().is_some_and(|router| router.is_open(&target.name)) {
            if self.open_since.take().is_some() && !self.waits_for_journal {
                self.paused_until = None;
            }
            return TargetBreaker::Closed;
        }
        match *self.open_since.get_or_insert(now) + bounds.pause.max <= now {
            true => TargetBreaker::HalfOpen,
            false => TargetBreaker::Open,
        }
    }

    /// Claims a due job that is not being copied.
    async fn claim(&mut self) -> Result<Next, JournalError> {
        let under_way = self.in_flight.values().map(|job| job.blob.digest).collect();
        let copier = self.lane.copier();
        let Copier { target, journal, bounds, throttle, .. } = &*copier;
        let (zone, longest) = (&target.name, bounds.longest_wait());
        let sizes = self.in_flight.values().filter_map(|job| job.size);
        let sizes = sizes.filter(|size| *size >= SMALL_BLOB);
        match throttle.is_full(sizes.fold(0, u64::saturating_add)) {
            true => journal.claim_small(zone, SMALL_BLOB - 1, under_way, longest).await,
            false => journal.claim(zone, self.claims, under_way, longest).await,
        }
    }

    /// Starts a copy. It has an id of its own in logs and at stores, and a span.
    fn start(&mut self, job: Job, claimed: Instant) {
        self.claims = self.claims.wrapping_add(1);
        if let Some(since) = &mut self.open_since {
            *since = claimed;
        }
        let (lane, copied) = (Arc::clone(&self.lane), job.clone());
        // Updated at once, because the next claim may take some time.
        lane.counters.set_active(self.running.len() + 1, lane.copier().throttle.moved());
        let id = RequestId::generate();
        let span = span(&id, &job);
        let copy = async move { lane.perform(copied, claimed).await };
        let task = self.running.spawn(id.scope(copy.instrument(span)));
        self.in_flight.insert(task.id(), job);
    }

    async fn settle(&mut self, ended: Result<(Id, JobResult), JoinError>) {
        let zone = Arc::clone(self.lane.zone());
        let ended = match ended {
            Ok((id, ended)) => {
                self.in_flight.remove(&id);
                ended
            }
            Err(panic) => return self.settle_panic(&panic).await,
        };
        let JobResult::Tried { end, recorded } = ended else { return };
        match end {
            JobEnd::Done(_) => {
                if self.target_failures >= OUTAGE {
                    info!(zone = &*zone, "the zone takes copies again");
                    let recorded = self.lane.copier().journal.make_due(&zone).await;
                    self.check(recorded);
                }
                self.target_failures = 0;
            }
            // If a copy was in progress when the pause began, its failure is not new information.
            JobEnd::Failed(error) if error.is_target_down() && self.paused_until.is_none() => {
                let pause = self.lane.copier().bounds.pause.delay(
                    self.target_failures,
                    fastrand::f64(),
                    error.retry_after(),
                );
                self.target_failures = self.target_failures.saturating_add(1);
                self.pause(pause);
            }
            JobEnd::Failed(_) | JobEnd::Parked(_) | JobEnd::Deferred(_) => {}
        }
        self.check(recorded);
    }

    /// Handles a panic. A bug in a driver must cost its job only a retry, and must not end the lane.
    async fn settle_panic(&mut self, panic: &JoinError) {
        error!(zone = &**self.lane.zone(), %panic, "a copy panicked");
        let Some(job) = self.in_flight.remove(&panic.id()) else { return };
        let delay = self.lane.copier().bounds.retry.delay(job.attempts, fastrand::f64(), None);
        let recorded = self.lane.copier().journal.failed(&job, delay, "the copy panicked", true).await;
        self.check(recorded);
    }

    /// Pauses if the end of a job could not be recorded. The job is still due, and without a pause the lane
    /// would retry it at once, over and over.
    fn check(&mut self, recorded: Result<(), JournalError>) {
        match recorded {
            Ok(()) => self.journal_failures = 0,
            Err(error) => {
                error!(zone = &**self.lane.zone(), %error, "the journal cannot be written");
                self.pause_for_journal();
            }
        }
    }

    fn pause_for_journal(&mut self) -> Instant {
        let pause = self.lane.copier().bounds.pause.ceiling(self.journal_failures);
        self.journal_failures = self.journal_failures.saturating_add(1);
        self.waits_for_journal = true;
        self.pause(pause)
    }

    fn pause(&mut self, pause: Duration) -> Instant {
        let until = Instant::now() + pause;
        self.paused_until = Some(until);
        until
    }
}
