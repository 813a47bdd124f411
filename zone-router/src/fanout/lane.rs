//! The jobs of one target zone, one lane a zone, so that a dead zone delays only itself.
//!
//! While its target fails, a lane pauses, then tries one job, so that an outage costs one job a
//! pause and not every job an attempt.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::bounds::Bounds;
use super::copy::{CopyError, Fault, Outcome, copy};
use super::job::Job;
use super::journal::{Journal, JournalError, Next};
use super::status::Tally;
use crate::Zone;

/// After so many failed tries in a row, a success means that the zone has come back: then its
/// jobs need not sit out their backoff.
const OUTAGE: u32 = 3;

/// What a lane works with.
pub(super) struct Lane {
    pub(super) target: Zone,
    /// Every zone, in the order of sources.
    pub(super) zones: Arc<[Zone]>,
    pub(super) journal: Journal,
    pub(super) bounds: Bounds,
    pub(super) tally: Arc<Tally>,
}

/// How one job ended.
enum Ended {
    Tried {
        result: Result<Outcome, CopyError>,
        recorded: Result<(), JournalError>,
    },
    /// Somebody else may have it by now.
    Lost,
}

/// A lane at work.
struct Work {
    lane: Arc<Lane>,
    /// Told when jobs were added.
    wake: Arc<Notify>,
    running: JoinSet<Ended>,
    in_flight: HashMap<Id, Job>,
    /// Jobs claimed so far; whose turn it is follows from it.
    turn: u32,
    /// Failed tries of the target in a row.
    strikes: u32,
    /// Failures of the journal in a row.
    journal_strikes: u32,
    paused_until: Option<Instant>,
    /// The journal is why it pauses: any word from it ends that.
    waits_for_journal: bool,
}

impl Lane {
    /// Works until `shutdown`; copies under way are then dropped, and their jobs stay due.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        let mut work = Work {
            wake: self.journal.bell(&self.target.name),
            lane: Arc::new(self),
            running: JoinSet::new(),
            in_flight: HashMap::new(),
            turn: 0,
            strikes: 0,
            journal_strikes: 0,
            paused_until: None,
            waits_for_journal: false,
        };
        shutdown.run_until_cancelled(work.run()).await;
        work.running.shutdown().await;
        let Lane { target, journal, .. } = &*work.lane;
        if let Err(error) = journal.release(&target.name).await {
            warn!(zone = &*target.name, %error, "others take over what was under way only when its lease ends");
        }
    }

    /// Does a job that was asked for at `claimed`.
    async fn perform(&self, job: Job, claimed: Instant) -> Ended {
        let result = tokio::select! {
            result = copy(&job, &self.target, &self.zones, &self.bounds) => result,
            () = self.journal.hold(&job, claimed) => {
                warn!(zone = &*self.target.name, digest = %job.blob.digest, "another replica may have this copy: left to it");
                return Ended::Lost;
            }
        };
        self.tally.note(&result);
        let (zone, digest) = (&*self.target.name, &job.blob.digest);
        let recorded = match &result {
            Ok(outcome) => {
                debug!(zone, %digest, ?outcome, "blob is there");
                self.journal.done(&job).await
            }
            Err(error) => {
                let backoff = match error.fault {
                    Fault::Nowhere => &self.bounds.nowhere,
                    Fault::Target | Fault::Sources => &self.bounds.retry,
                };
                let delay = backoff.delay(job.attempts, fastrand::f64(), error.retry_after());
                warn!(zone, %digest, attempts = job.attempts + 1, ?delay, %error, "copy failed");
                self.journal.failed(&job, delay, &error.to_string()).await
            }
        };
        Ended::Tried { result, recorded }
    }
}

impl Work {
    async fn run(&mut self) {
        loop {
            let idle_until = self.start_due().await;
            self.lane.tally.set_active(self.running.len());
            let wake = Arc::clone(&self.wake);
            tokio::select! {
                Some(ended) = self.running.join_next_with_id() => self.settle(ended).await,
                () = wake.notified() => {
                    if self.waits_for_journal {
                        self.paused_until = None;
                    }
                }
                () = tokio::time::sleep_until(idle_until) => {}
            }
        }
    }

    /// Starts what is due and has room; until when there is nothing else to do.
    async fn start_due(&mut self) -> Instant {
        let now = Instant::now();
        let latest = now + self.lane.bounds.retry.max;
        if let Some(until) = self.paused_until {
            if until > now {
                return until;
            }
            self.paused_until = None;
        }
        self.waits_for_journal = false;
        let room = if self.strikes > 0 { 1 } else { self.lane.bounds.copies.max(1) };
        while self.running.len() < room {
            let claimed = Instant::now();
            match self.claim().await {
                Ok(Next::Job(job)) => self.start(job, claimed),
                Ok(Next::Wait(wait)) => return latest.min(claimed + wait),
                Err(error) => {
                    error!(zone = &*self.lane.target.name, %error, "the lane cannot read its jobs");
                    return self.pause_for_journal();
                }
            }
        }
        latest
    }

    /// A due job that is not under way.
    async fn claim(&mut self) -> Result<Next, JournalError> {
        let under_way = self.in_flight.values().map(|job| job.blob.digest).collect();
        let Lane { target, journal, bounds, .. } = &*self.lane;
        journal.claim(&target.name, self.turn, under_way, bounds.longest_wait()).await
    }

    fn start(&mut self, job: Job, claimed: Instant) {
        self.turn = self.turn.wrapping_add(1);
        let (lane, copied) = (Arc::clone(&self.lane), job.clone());
        // Shown at once: to look for the next one may take a while.
        lane.tally.set_active(self.running.len() + 1);
        let task = self.running.spawn(async move { lane.perform(copied, claimed).await });
        self.in_flight.insert(task.id(), job);
    }

    async fn settle(&mut self, ended: Result<(Id, Ended), JoinError>) {
        let zone = Arc::clone(&self.lane.target.name);
        let ended = match ended {
            Ok((id, ended)) => {
                self.in_flight.remove(&id);
                ended
            }
            Err(panic) => return self.settle_panic(&panic).await,
        };
        let Ended::Tried { result, recorded } = ended else { return };
        match result {
            Ok(_) => {
                if self.strikes >= OUTAGE {
                    info!(zone = &*zone, "the zone takes copies again");
                    let recorded = self.lane.journal.hasten(&zone).await;
                    self.check(recorded);
                }
                self.strikes = 0;
            }
            // What was under way when the pause began is no news.
            Err(error) if error.is_target_down() && self.paused_until.is_none() => {
                let pause = self.lane.bounds.pause.delay(self.strikes, fastrand::f64(), error.retry_after());
                self.strikes = self.strikes.saturating_add(1);
                self.pause(pause);
            }
            Err(_) => {}
        }
        self.check(recorded);
    }

    /// A bug in a driver must cost its job a retry, not the lane its life.
    async fn settle_panic(&mut self, panic: &JoinError) {
        error!(zone = &*self.lane.target.name, %panic, "a copy panicked");
        let Some(job) = self.in_flight.remove(&panic.id()) else { return };
        let delay = self.lane.bounds.retry.delay(job.attempts, fastrand::f64(), None);
        let recorded = self.lane.journal.failed(&job, delay, "the copy panicked").await;
        self.check(recorded);
    }

    /// A job whose end could not be recorded is still due: without a pause it would spin.
    fn check(&mut self, recorded: Result<(), JournalError>) {
        match recorded {
            Ok(()) => self.journal_strikes = 0,
            Err(error) => {
                error!(zone = &*self.lane.target.name, %error, "the journal cannot be written");
                self.pause_for_journal();
            }
        }
    }

    fn pause_for_journal(&mut self) -> Instant {
        let pause = self.lane.bounds.pause.ceiling(self.journal_strikes);
        self.journal_strikes = self.journal_strikes.saturating_add(1);
        self.waits_for_journal = true;
        self.pause(pause)
    }

    fn pause(&mut self, pause: Duration) -> Instant {
        let until = Instant::now() + pause;
        self.paused_until = Some(until);
        until
    }
}
