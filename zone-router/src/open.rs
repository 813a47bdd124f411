//! Opens a blob, or the rest of it: asks a few zones in the order of their rank.
//!
//! The first zone is asked. If its headers are later than usual, the next zone is asked, too: a hedge, within a budget.
//! If the headers are overdue, the next zone replaces the first. If no other zone gives the blob, the zones that were
//! given up are asked once more, up to the timeout of their driver.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::Range;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use backends::{Error, Object, Result};
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, sleep_until};

use crate::event::HeadersEvent;
use crate::lost_time::Stopwatch;
use crate::overdue::GRACE;
use crate::rank::{Candidate, Reason};
use crate::router::{Answer, Judge, Trial};
use crate::snapshot::Snapshot;
use crate::tries::Tries;
use crate::turn::TurnKind;
use crate::{Blob, Router, SizeClass, ZoneId};

type Work<'a> = Pin<Box<dyn Future<Output = Result<Option<Object>>> + Send + 'a>>;

/// The zone that won, and its object.
pub(crate) struct Won {
    pub(crate) zone: ZoneId,
    pub(crate) object: Object,
    /// Present if the breaker of the zone is half-open. It must be held while the zone is read.
    pub(crate) trial: Option<Trial>,
}

/// A zone that may be asked.
pub(crate) struct Entrant {
    pub(crate) candidate: Candidate,
    pub(crate) trial: Option<Trial>,
}

/// What must be opened.
pub(crate) struct Wanted<'a> {
    pub(crate) blob: &'a Blob,
    pub(crate) range: Option<Range<u64>>,
    pub(crate) class: SizeClass,
    /// Decides whether an object can be the wanted one.
    pub(crate) judge: Judge<'a>,
}

/// A race: several zones are asked for the same thing.
pub(crate) struct Race<'a> {
    router: &'a Router,
    view: &'a Snapshot,
    wanted: Wanted<'a>,
    /// The zones that were not asked yet, best first.
    waiting: VecDeque<Entrant>,
    running: Vec<Attempt<'a>>,
    /// The zones that were given up because they were overdue.
    overdue: VecDeque<ZoneId>,
    tries: &'a mut Tries,
    answers: Vec<(ZoneId, Answer)>,
    hedged: bool,
}

/// One request to a zone.
struct Attempt<'a> {
    zone: ZoneId,
    watch: Stopwatch,
    /// Whether the zone's breaker was open when it was asked.
    was_open: bool,
    hedge: bool,
    /// The time after which a hedge starts, without the time that this process lost.
    hedge_after: Option<Duration>,
    /// The time after which the zone is replaced, without the time that this process lost.
    overdue_after: Option<Duration>,
    trial: Option<Trial>,
    _replaces: Option<SemaphorePermit<'a>>,
    work: Work<'a>,
}

impl<'a> Race<'a> {
    pub(crate) fn new(
        router: &'a Router,
        view: &'a Snapshot,
        wanted: Wanted<'a>,
        entrants: Vec<Entrant>,
        tries: &'a mut Tries,
    ) -> Self {
        Self {
            router,
            view,
            wanted,
            waiting: entrants.into(),
            running: Vec::new(),
            overdue: VecDeque::new(),
            tries,
            answers: Vec::new(),
            hedged: false,
        }
    }

    /// Returns the first good answer, if a zone gave one, and the answers of the others.
    pub(crate) async fn run(mut self) -> (Option<Won>, Vec<(ZoneId, Answer)>) {
        let won = self.first().await;
        (won, self.answers)
    }

    async fn first(&mut self) -> Option<Won> {
        let router = self.router;
        let _waiting = router.hedges.read();
        loop {
            if self.running.is_empty() && !self.start_next(None) && !self.start_again() {
                return None;
            }
            let wake = self.wake();
            let running = &mut self.running;
            let first = poll_fn(|context| {
                let poll =
                    |(index, attempt): (usize, &mut Attempt<'_>)| match attempt.work.as_mut().poll(context) {
                        Poll::Ready(answer) => Some((index, answer)),
                        Poll::Pending => None,
                    };
                running.iter_mut().enumerate().find_map(poll).map_or(Poll::Pending, Poll::Ready)
            });
            tokio::select! {
                biased;
                (index, answer) = first => {
                    if let Some(won) = self.settle(index, answer) {
                        return Some(won);
                    }
                }
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => self.grow_impatient(),
            }
        }
    }

    /// Asks the next zone, if there is one.
    fn start_next(&mut self, replaces: Option<SemaphorePermit<'a>>) -> bool {
        let Some(entrant) = self.waiting.pop_front() else { return false };
        let headers = self.view.zones[entrant.candidate.zone].headers[self.wanted.class];
        // If the breakers of all zones are open, the measured times may be outdated.
        let overdue_after = match self.view.all_open {
            true => headers.overdue_after.max(self.router.settings.overdue_max),
            false => headers.overdue_after,
        };
        self.start(entrant.candidate.zone, |attempt| Attempt {
            was_open: entrant.candidate.reason >= Reason::Open,
            hedge_after: Some(headers.hedge_after),
            overdue_after: Some(overdue_after),
            trial: entrant.trial,
            _replaces: replaces,
            ..attempt
        });
        true
    }

    /// Asks again a zone that was given up, up to the timeout of its driver.
    fn start_again(&mut self) -> bool {
        let Some(zone) = self.overdue.pop_front() else { return false };
        self.start(zone, |attempt| attempt);
        true
    }

    fn start(&mut self, zone: ZoneId, set: impl FnOnce(Attempt<'a>) -> Attempt<'a>) {
        self.tries.ask(zone);
        let (blob, range) = (self.wanted.blob, self.wanted.range.clone());
        self.running.push(set(Attempt {
            zone,
            watch: self.router.watch.lost_time.start(),
            was_open: false,
            hedge: false,
            hedge_after: None,
            overdue_after: None,
            trial: None,
            _replaces: None,
            work: self.router.zone(zone).store.get(&blob.key, range),
        }));
    }

    /// When the next step is due, if no answer comes before that.
    fn wake(&self) -> Option<Instant> {
        let hedge = if self.may_hedge() { self.hedge_at() } else { None };
        let overdue = self.running.iter().filter_map(|attempt| self.overdue_at(attempt)).min();
        [hedge, overdue, self.again_at()].into_iter().flatten().min()
    }

    /// When the next zone replaces this one or is asked beside it. `None` if there is no next zone.
    fn overdue_at(&self, attempt: &Attempt<'_>) -> Option<Instant> {
        attempt.overdue_after.filter(|_| !self.waiting.is_empty()).map(|after| self.at(attempt, after))
    }

    fn hedge_at(&self) -> Option<Instant> {
        let first = self.running.first()?;
        first.hedge_after.map(|after| self.at(first, after))
    }

    /// The time at which an attempt has lasted for `after`, without the time that this process lost.
    fn at(&self, attempt: &Attempt<'_>, after: Duration) -> Instant {
        attempt.watch.began() + after + attempt.watch.lost(&self.router.watch.lost_time)
    }

    fn may_hedge(&self) -> bool {
        let good = |entrant: &Entrant| entrant.candidate.reason <= Reason::Next;
        !self.hedged && self.running.len() == 1 && self.waiting.front().is_some_and(good)
    }

    /// The time at which the next zone is asked in the second round.
    fn again_at(&self) -> Option<Instant> {
        let second_round = self.waiting.is_empty() && !self.overdue.is_empty();
        let latest = self.running.iter().map(|attempt| attempt.watch.began()).max();
        latest.filter(|_| second_round).map(|began| began + self.router.settings.overdue_max)
    }

    fn grow_impatient(&mut self) {
        let now = Instant::now();
        if self.again_at().is_some_and(|at| at <= now) {
            self.start_again();
        }
        let late = |attempt: &Attempt<'_>| self.overdue_at(attempt).is_some_and(|at| at <= now);
        if let Some(late) = self.running.iter().position(late) {
            return self.replace(late);
        }
        if self.may_hedge() && self.hedge_at().is_some_and(|at| at <= now) {
            self.running[0].hedge_after = None;
            if self.router.hedges.take() {
                self.hedge();
            }
        }
    }

    /// Replaces a zone whose headers are overdue by the next one. If the breaker of the next zone is open, and that of
    /// this zone is not, asks the next zone beside it instead.
    fn replace(&mut self, late: usize) {
        let Ok(permit) = self.router.replacements.try_acquire() else {
            // Too many requests are replaced already. This one is tried again after a pause, unless it has answered by
            // then.
            let had = self.running[late].watch.elapsed(&self.router.watch.lost_time);
            self.running[late].overdue_after = Some(had + GRACE);
            return;
        };
        let next_is_out = self.waiting.front().is_some_and(|next| next.candidate.reason >= Reason::Open);
        if next_is_out && !self.running[late].was_open && self.running.len() == 1 {
            self.running[late].overdue_after = None;
            self.start_replacement(permit);
            return;
        }
        let late = self.running.remove(late);
        let after = late.watch.elapsed(&self.router.watch.lost_time);
        tracing::debug!(zone = %self.router.zone(late.zone).name, digest = %self.wanted.blob.digest, ?after, "zone is overdue, asking the next");
        let (digest, class) = (self.wanted.blob.digest, self.wanted.class);
        self.router.watch.saw(late.zone, HeadersEvent::Overdue { digest, class, after });
        self.overdue.push_back(late.zone);
        // If a hedge is in flight and not overdue yet, no further zone is asked.
        if self.running.iter().all(|other| other.overdue_after.is_none()) {
            self.start_replacement(permit);
        }
    }

    /// Asks the next zone, because one is overdue.
    fn start_replacement(&mut self, permit: SemaphorePermit<'a>) {
        if self.start_next(Some(permit))
            && let Some(attempt) = self.running.last()
        {
            self.turned(TurnKind::Replaced, attempt.zone);
        }
    }

    fn turned(&self, kind: TurnKind, zone: ZoneId) {
        self.router.turned(&self.wanted.blob.digest, kind, zone);
    }

    fn hedge(&mut self) {
        self.hedged = true;
        let slow = self.running[0].zone;
        if self.start_next(None)
            && let Some(attempt) = self.running.last_mut()
        {
            attempt.hedge = true;
            let asked = attempt.zone;
            self.router.watch.saw(slow, HeadersEvent::Hedged);
            self.turned(TurnKind::Hedged, asked);
        }
    }

    /// Handles an answer. A good one ends the race.
    fn settle(&mut self, index: usize, answer: Result<Option<Object>>) -> Option<Won> {
        let attempt = self.running.remove(index);
        let lost_time = &self.router.watch.lost_time;
        let (zone, class, after) = (attempt.zone, self.wanted.class, attempt.watch.elapsed(lost_time));
        let digest = self.wanted.blob.digest;
        let answer = match answer {
            Ok(Some(object)) => {
                self.router.watch.saw(zone, HeadersEvent::Answered { digest, class, after, absent: false });
                match (self.wanted.judge)(zone, &object) {
                    Ok(()) => return Some(self.won(attempt, object)),
                    Err(error) => Answer::Failed(error),
                }
            }
            Ok(None) => {
                self.router.watch.saw(zone, HeadersEvent::Answered { digest, class, after, absent: true });
                Answer::Absent
            }
            Err(error) => {
                let failed = |trouble| HeadersEvent::Failed { digest, trouble };
                self.router.watch.saw_failure(zone, &error, &attempt.watch, failed);
                Answer::Failed(error)
            }
        };
        self.tries.fail(zone);
        if let Answer::Failed(error) = &answer {
            self.turned(TurnKind::Failed, zone);
            self.complain(zone, error);
        }
        if !attempt.hedge && self.running.iter().any(|attempt| attempt.hedge) {
            self.router.hedges.give_back();
        }
        self.answers.push((zone, answer));
        None
    }

    fn complain(&self, zone: ZoneId, error: &Error) {
        let (name, digest) = (&self.router.zone(zone).name, &self.wanted.blob.digest);
        match &self.wanted.range {
            None => tracing::warn!(zone = %name, %digest, %error, "zone failed, trying the next"),
            Some(_) => tracing::warn!(zone = %name, %digest, %error, "zone cannot go on"),
        }
    }

    fn won(&mut self, attempt: Attempt<'a>, object: Object) -> Won {
        for other in self.running.drain(..) {
            let after = other.watch.elapsed(&self.router.watch.lost_time);
            // If a zone was already overdue, or is asked in the second round, it has been counted.
            if other.overdue_after.is_none_or(|most| most < after) {
                continue;
            }
            let (digest, class) = (self.wanted.blob.digest, self.wanted.class);
            self.router.watch.saw(other.zone, HeadersEvent::LostRace { digest, class, after });
        }
        if self.view.zones[attempt.zone].policy.drain {
            let (name, digest) = (&self.router.zone(attempt.zone).name, &self.wanted.blob.digest);
            tracing::warn!(zone = %name, %digest, "read from a drained zone: no other gives this blob");
        }
        if attempt.hedge {
            self.router.watch.saw(attempt.zone, HeadersEvent::HedgeWon);
            self.turned(TurnKind::HedgeWon, attempt.zone);
        }
        Won { zone: attempt.zone, object, trial: attempt.trial }
    }
}
