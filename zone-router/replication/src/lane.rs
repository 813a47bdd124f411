//! The jobs of one target zone, one lane a zone, so that a dead zone delays only itself.
//!
//! While its target fails, a lane pauses, then tries one job, so that an outage costs one job a
//! pause and not every job an attempt. While reads have its target out of use, it looks now and
//! then, and goes on as soon as they have it back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::copy::{CopyError, End, Fault, Means, Outcome};
use super::job::Job;
use super::journal::{Journal, JournalError, Next};
use super::pace::UNCOUNTED;
use super::status::Tally;

/// After so many failed tries in a row, a success means that the zone has come back: then its
/// jobs need not sit out their backoff.
const OUTAGE: u32 = 3;

/// How soon a lane whose target was out of use sees that it is back.
const LOOK: Duration = Duration::from_millis(500);

/// What a lane works with.
pub(super) struct Lane {
    pub(super) means: Means,
    pub(super) journal: Journal,
    pub(super) tally: Arc<Tally>,
}

/// How one job ended.
enum Ended {
    Tried {
        end: End,
        recorded: Result<(), JournalError>,
    },
    /// Somebody else may have it by now.
    Lost,
}

/// What reads know of a lane's target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// It serves, or nobody says that it does not.
    Served,
    /// It is out of use, and was not tried for a while.
    Once,
    /// It is out of use.
    NotYet,
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
    /// Since when reads have the target out of use, or when a job was last begun since then.
    out_since: Option<Instant>,
}

impl Lane {
    /// Works until `shutdown`; copies under way are then dropped, and their jobs stay due.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        let mut work = Work {
            wake: self.journal.bell(&self.means.target.name),
            lane: Arc::new(self),
            running: JoinSet::new(),
            in_flight: HashMap::new(),
            turn: 0,
            strikes: 0,
            journal_strikes: 0,
            paused_until: None,
            waits_for_journal: false,
            out_since: None,
        };
        shutdown.run_until_cancelled(work.run()).await;
        work.running.shutdown().await;
        let Lane { means, journal, .. } = &*work.lane;
        if let Err(error) = journal.release(&means.target.name).await {
            warn!(zone = &*means.target.name, %error, "others take over what was under way only when its lease ends");
        }
    }

    fn zone(&self) -> &Arc<str> {
        &self.means.target.name
    }

    /// Does a job that was asked for at `claimed`.
    async fn perform(&self, job: Job, claimed: Instant) -> Ended {
        let end = tokio::select! {
            end = self.means.perform(&job) => end,
            () = self.journal.hold(&job, claimed) => {
                warn!(zone = &**self.zone(), digest = %job.blob.digest, "another replica may have this copy: left to it");
                return Ended::Lost;
            }
        };
        self.tally.note(&end);
        let recorded = self.record(&job, &end).await;
        Ended::Tried { end, recorded }
    }

    /// Keeps how a job ended.
    async fn record(&self, job: &Job, end: &End) -> Result<(), JournalError> {
        let (zone, digest) = (&**self.zone(), &job.blob.digest);
        match end {
            End::Done(Outcome::Withdrawn) => {
                let repositories = job.repositories.join(" ");
                info!(zone, %digest, repositories, "not copied: the registry has no such blob any more");
                self.journal.done(job).await
            }
            End::Done(outcome) => {
                debug!(zone, %digest, ?outcome, "blob is there");
                self.journal.done(job).await
            }
            End::Parked(why) => {
                warn!(zone, %digest, attempts = job.attempts + 1, why, "parked until it is asked for again");
                self.journal.park(job, why).await
            }
            End::Later(size) => {
                debug!(zone, %digest, size, said = job.size, "larger than was said: it waits until there is room");
                self.journal.give_back(job, *size).await
            }
            End::Failed(error) => {
                let delay = self.delay(job, error);
                warn!(zone, %digest, attempts = job.attempts + 1, ?delay, %error, "copy failed");
                if error.in_doubt {
                    self.journal.doubt(job).await?;
                }
                self.journal.failed(job, delay, &error.to_string()).await
            }
        }
    }

    fn delay(&self, job: &Job, error: &CopyError) -> Duration {
        let backoff = match error.fault {
            Fault::Nowhere => &self.means.bounds.nowhere,
            Fault::Target | Fault::Sources | Fault::Registry => &self.means.bounds.retry,
        };
        backoff.delay(job.attempts, fastrand::f64(), error.retry_after())
    }
}

impl Work {
    async fn run(&mut self) {
        loop {
            let idle_until = self.start_due().await;
            self.lane.tally.set_active(self.running.len(), self.lane.means.pace.moved());
            let wake = Arc::clone(&self.wake);
            tokio::select! {
                Some(ended) = self.running.join_next_with_id() => self.settle(ended).await,
                () = wake.notified() => {
                    if self.waits_for_journal {
                        self.paused_until = None;
                    }
                }
                () = self.lane.means.pace.roomy() => {}
                () = tokio::time::sleep_until(idle_until) => {}
            }
        }
    }

    /// Starts what is due and has room; until when there is nothing else to do.
    async fn start_due(&mut self) -> Instant {
        let now = Instant::now();
        let max = self.lane.means.bounds.pause.max;
        let looks = self.look(now);
        let soon = if self.lane.means.router.is_some() { now + LOOK } else { now + max };
        if let Some(until) = self.paused_until {
            if until > now {
                return until.min(soon);
            }
            self.paused_until = None;
        }
        self.waits_for_journal = false;
        let room = match looks {
            Look::NotYet => return soon,
            Look::Once => 1,
            Look::Served if self.strikes > 0 => 1,
            Look::Served => self.lane.means.pace.copies(),
        };
        let latest = if looks == Look::Served { now + self.lane.means.bounds.retry.max } else { soon };
        while self.running.len() < room {
            let claimed = Instant::now();
            match self.claim().await {
                Ok(Next::Job(job)) => self.start(job, claimed),
                Ok(Next::Wait(wait)) => return latest.min(claimed + wait),
                Err(error) => {
                    error!(zone = &**self.lane.zone(), %error, "the lane cannot read its jobs");
                    return self.pause_for_journal();
                }
            }
        }
        latest
    }

    /// What reads know of the target.
    fn look(&mut self, now: Instant) -> Look {
        let Means { router, target, bounds, .. } = &self.lane.means;
        if !router.as_ref().is_some_and(|router| router.is_out_of_use(&target.name)) {
            if self.out_since.take().is_some() && !self.waits_for_journal {
                self.paused_until = None;
            }
            return Look::Served;
        }
        match *self.out_since.get_or_insert(now) + bounds.pause.max <= now {
            true => Look::Once,
            false => Look::NotYet,
        }
    }

    /// A due job that is not under way.
    async fn claim(&mut self) -> Result<Next, JournalError> {
        let under_way = self.in_flight.values().map(|job| job.blob.digest).collect();
        let Lane { means, journal, .. } = &*self.lane;
        let (zone, longest) = (&means.target.name, means.bounds.longest_wait());
        let sizes = self.in_flight.values().filter_map(|job| job.size).filter(|size| *size >= UNCOUNTED);
        match means.pace.is_full(sizes.fold(0, u64::saturating_add)) {
            true => journal.claim_small(zone, UNCOUNTED - 1, under_way, longest).await,
            false => journal.claim(zone, self.turn, under_way, longest).await,
        }
    }

    fn start(&mut self, job: Job, claimed: Instant) {
        self.turn = self.turn.wrapping_add(1);
        if let Some(since) = &mut self.out_since {
            *since = claimed;
        }
        let (lane, copied) = (Arc::clone(&self.lane), job.clone());
        // Shown at once: to look for the next one may take a while.
        lane.tally.set_active(self.running.len() + 1, lane.means.pace.moved());
        let task = self.running.spawn(async move { lane.perform(copied, claimed).await });
        self.in_flight.insert(task.id(), job);
    }

    async fn settle(&mut self, ended: Result<(Id, Ended), JoinError>) {
        let zone = Arc::clone(self.lane.zone());
        let ended = match ended {
            Ok((id, ended)) => {
                self.in_flight.remove(&id);
                ended
            }
            Err(panic) => return self.settle_panic(&panic).await,
        };
        let Ended::Tried { end, recorded } = ended else { return };
        match end {
            End::Done(_) => {
                if self.strikes >= OUTAGE {
                    info!(zone = &*zone, "the zone takes copies again");
                    let recorded = self.lane.journal.hasten(&zone).await;
                    self.check(recorded);
                }
                self.strikes = 0;
            }
            // What was under way when the pause began is no news.
            End::Failed(error) if error.is_target_down() && self.paused_until.is_none() => {
                let pause =
                    self.lane.means.bounds.pause.delay(self.strikes, fastrand::f64(), error.retry_after());
                self.strikes = self.strikes.saturating_add(1);
                self.pause(pause);
            }
            End::Failed(_) | End::Parked(_) | End::Later(_) => {}
        }
        self.check(recorded);
    }

    /// A bug in a driver must cost its job a retry, not the lane its life.
    async fn settle_panic(&mut self, panic: &JoinError) {
        error!(zone = &**self.lane.zone(), %panic, "a copy panicked");
        let Some(job) = self.in_flight.remove(&panic.id()) else { return };
        let delay = self.lane.means.bounds.retry.delay(job.attempts, fastrand::f64(), None);
        let recorded = self.lane.journal.failed(&job, delay, "the copy panicked").await;
        self.check(recorded);
    }

    /// A job whose end could not be recorded is still due: without a pause it would spin.
    fn check(&mut self, recorded: Result<(), JournalError>) {
        match recorded {
            Ok(()) => self.journal_strikes = 0,
            Err(error) => {
                error!(zone = &**self.lane.zone(), %error, "the journal cannot be written");
                self.pause_for_journal();
            }
        }
    }

    fn pause_for_journal(&mut self) -> Instant {
        let pause = self.lane.means.bounds.pause.ceiling(self.journal_strikes);
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
