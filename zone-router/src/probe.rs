//! Probes: real, small, authenticated reads of an object that exists.

use std::sync::Arc;
use std::time::Duration;

use backends::{Error, Kind, as_probe};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::attribution::read_whole;
use crate::breaker::{Fault, STRIKES, State};
use crate::event::{ProbeEvent, What};
use crate::lost_time::Stopwatch;
use crate::recent_blobs::Turn;
use crate::snapshot::ZoneView;
use crate::{Blob, Router, Settings, SizeClass, Zone, ZoneId};

/// A probe that reads a whole small blob may take this much longer.
const DEEP_PATIENCE: Duration = Duration::from_secs(10);

/// At most this many unused probes are saved for later.
const SAVED_MAX: f64 = 120.0;

/// Limits the number of probes per hour, because each costs a request. Short bursts are possible.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowance {
    a_second: f64,
    saved: f64,
    at: Instant,
}

impl Allowance {
    pub(crate) fn new(an_hour: u32, now: Instant) -> Self {
        Self { a_second: a_second(an_hour), saved: SAVED_MAX, at: now }
    }

    /// Changes the number of probes per hour. What was saved stays.
    pub(crate) fn set_rate(&mut self, an_hour: u32, now: Instant) {
        self.refill(now);
        self.a_second = a_second(an_hour);
    }

    fn refill(&mut self, now: Instant) {
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * self.a_second;
        self.saved = (self.saved + earned).min(SAVED_MAX);
        self.at = now;
    }

    /// When the next probe is allowed.
    fn next(&mut self, now: Instant) -> Instant {
        self.refill(now);
        if self.saved >= 1.0 {
            return now;
        }
        now + Duration::from_secs_f64((1.0 - self.saved) / self.a_second)
    }

    fn take(&mut self, now: Instant) {
        self.refill(now);
        self.saved -= 1.0;
    }
}

fn a_second(an_hour: u32) -> f64 {
    f64::from(an_hour.max(1)) / 3600.0
}

/// The time of the next probe of a zone, if the last one was at `last`.
fn due(view: &ZoneView, settings: &Settings, last: Instant, chance: f64) -> Instant {
    // The jitter is up to a tenth in both directions, so that gateways that started together do not probe together.
    let jitter = 0.9 + chance / 5.0;
    let due = match view.state {
        State::Open { until, .. } => until.max(last + settings.suspect_interval),
        State::HalfOpen { .. } => last + settings.suspect_interval.mul_f64(jitter),
        State::Closed if view.suspect || view.unsettled => last + settings.suspect_interval.mul_f64(jitter),
        State::Closed => last + settings.probe_interval.mul_f64(jitter),
    };
    // The zone asked for fewer requests.
    view.throttled_until.map_or(due, |until| due.max(until))
}

/// Probes one zone until `shutdown`.
pub(crate) async fn run(router: Arc<Router>, zone: ZoneId, shutdown: CancellationToken) {
    let settings = router.settings;
    let allowance = router.allowance(zone);
    let mut last: Option<Instant> = None;
    let mut late = FuturesUnordered::new();
    let mut turn = Turn::default();
    loop {
        let now = Instant::now();
        let view = router.snapshot();
        let view = &view.zones[zone];
        let wanted = last.map_or(now, |last| due(view, &settings, last, fastrand::f64()));
        let at = wanted.max(allowance.lock().next(now));
        // A zone that is never read needs no probes. A drained zone is probed, so that its times are known afterwards.
        let idle = !view.policy.reads;
        let again = if idle { now + settings.probe_interval } else { at };
        // While there are few late probes in flight, the next probe is sent, so that a dead zone is detected sooner.
        let full = late.len() >= usize::from(STRIKES);
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            Some(()) = late.next() => continue,
            () = router.watch.probe_due(zone), if at > now || full => continue,
            () = sleep_until(again), if !full => {}
        }
        if idle {
            continue;
        }
        allowance.lock().take(Instant::now());
        last = Some(Instant::now());
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            rest = probe(&router, zone, &mut turn) => late.extend(rest),
        }
    }
}

/// Sends one probe and records its outcome. If the probe is late, returns the rest of the wait for it.
async fn probe<'a>(
    router: &'a Router,
    zone: ZoneId,
    turn: &mut Turn,
) -> Option<impl Future<Output = ()> + use<'a>> {
    let snapshot = router.snapshot();
    let view = &snapshot.zones[zone];
    let overdue = view.headers[SizeClass::Small].overdue_after;
    // A late answer still shows that the zone is not dead.
    let patience = overdue + router.settings.overdue_max;
    let lied = view.state.fault() == Some(Fault::WrongBytes);
    // If a zone gave wrong bytes, only a whole blob with the right digest shows that it works; the marker proves
    // nothing. Also, a store without the marker may deny access to it (S3 without `s3:ListBucket`). In both cases, if
    // the zone itself has given nothing yet, the probe reads a blob that another zone gave.
    let needs_blob = lied || view.state.fault() == Some(Fault::Misconfigured);
    let others = || snapshot.zones.iter().find_map(|other| other.recent_blobs.latest());
    let own = if lied { view.recent_blobs.latest() } else { turn.of(&view.recent_blobs) };
    let may_read =
        |blob: &&Arc<Blob>| needs_blob || (view.suspect && !turn.is_past(&view.recent_blobs, blob));
    let recent = own.or_else(|| others().filter(may_read));
    let reads_object = recent.is_some();
    let lost_time = &router.watch.lost_time;
    let watch = lost_time.start();
    let mut look = Box::pin(as_probe(look(router.zone(zone), recent.cloned(), lied)));
    // A probe that reads a whole blob is late only after its full timeout.
    let (overdue, patience) =
        if lied { (patience + DEEP_PATIENCE, patience + DEEP_PATIENCE) } else { (overdue, patience) };
    if let Some(result) = lost_time.within(overdue, &mut look).await {
        if result.is_err() {
            turn.failed(reads_object);
        }
        note(router, zone, result, &watch, false);
        return None;
    }
    turn.failed(reads_object);
    // If the zone gives bytes to reads meanwhile, it is not dead. The probe may have to wait behind these reads.
    let lives = router.watch.gave_since(zone, watch.began());
    router.watch.saw(zone, if lives { What::Excused } else { ProbeEvent::Overdue.into() });
    Some(async move {
        let left = patience.saturating_sub(watch.elapsed(lost_time));
        let result = lost_time.within(left, look).await.unwrap_or_else(|| {
            Err(Error::new(Kind::Timeout, format!("probe: no answer within {patience:.0?}")))
        });
        note(router, zone, result, &watch, true);
    })
}

fn note(router: &Router, zone: ZoneId, result: Result<Looked, Error>, watch: &Stopwatch, late: bool) {
    let after = watch.elapsed(&router.watch.lost_time);
    let seen = match result {
        Ok(Looked::Answered) => What::Probe(ProbeEvent::Answered { after, late }),
        Ok(Looked::Proven) => What::Probe(ProbeEvent::ProvenWhole),
        // The zone answered, and refused only this request.
        Err(error) if matches!(error.kind(), Kind::Invalid | Kind::Source) => {
            What::Probe(ProbeEvent::Answered { after, late })
        }
        Err(error) if error.kind() == Kind::Timeout && router.watch.gave_since(zone, watch.began()) => {
            What::Excused
        }
        Err(error) => {
            let failed = |trouble| ProbeEvent::Failed { trouble, late };
            return router.watch.saw_failure(zone, &error, watch, failed);
        }
    };
    router.watch.saw(zone, seen);
}

/// The finding of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looked {
    Answered,
    /// The zone gave a whole blob, and its digest was right.
    Proven,
}

/// Reads one byte of a blob that the zone gave recently. If `whole`, reads all of it and proves it. If there is no such
/// blob, or it was deleted, reads the store's own marker. Some stores deny access to what does not exist (S3 without
/// `s3:ListBucket`).
async fn look(zone: &Zone, recent: Option<Arc<Blob>>, whole: bool) -> Result<Looked, Error> {
    let looked = match &recent {
        None => Ok(None),
        Some(blob) if whole => read_whole(zone, blob).await.map(|right| right.then_some(Looked::Proven)),
        Some(blob) => read_byte(zone, blob).await.map(|there| there.then_some(Looked::Answered)),
    };
    match looked {
        Ok(Some(looked)) => return Ok(looked),
        Err(error) if error.kind() != Kind::Denied => return Err(error),
        Ok(None) | Err(_) => {}
    }
    zone.store.probe().await.map(|()| Looked::Answered)
}

/// Reads the first byte of a blob. Returns `false` if the blob does not exist.
async fn read_byte(zone: &Zone, blob: &Blob) -> Result<bool, Error> {
    let Some(mut object) = zone.store.get(&blob.key, Some(0..1)).await? else { return Ok(false) };
    while let Some(piece) = object.body.next().await {
        piece?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_an_hour_allows() {
        let mut allowance = Allowance::new(360, Instant::now());
        let start = Instant::now();
        let mut probes = 0;
        while start.elapsed() < Duration::from_secs(3600) {
            sleep_until(allowance.next(Instant::now())).await;
            allowance.take(Instant::now());
            probes += 1;
        }
        let saved = SAVED_MAX as u32;
        assert!((360 + saved - 2..=360 + saved + 2).contains(&probes), "{probes}");
    }

    #[tokio::test(start_paused = true)]
    async fn another_rate_keeps_what_was_saved() {
        let mut allowance = Allowance::new(3600, Instant::now());
        (0..SAVED_MAX as u32).for_each(|_| allowance.take(Instant::now()));
        allowance.set_rate(7200, Instant::now());
        assert_eq!(allowance.next(Instant::now()) - Instant::now(), Duration::from_millis(500));
    }

    #[test]
    fn sooner_where_something_speaks_against_it() {
        let zone = Zone::new("a", Arc::new(backends::memory::MemoryStore::new()));
        let router = Router::new(vec![zone]);
        let (settings, last) = (router.settings, Instant::now());
        let mut view = router.snapshot().zones[ZoneId::HOME].clone();
        let mut wait = |change: &dyn Fn(&mut ZoneView)| {
            change(&mut view);
            due(&view, &settings, last, 0.5).saturating_duration_since(last)
        };
        assert_eq!(wait(&|_| {}), settings.probe_interval);
        assert_eq!(wait(&|view| view.suspect = true), settings.suspect_interval);
        let unsettled = |view: &mut ZoneView| (view.suspect, view.unsettled) = (false, true);
        assert_eq!(wait(&unsettled), settings.suspect_interval);
        let spared = Duration::from_secs(5);
        assert_eq!(wait(&|view| view.throttled_until = Some(last + spared)), spared);
        view.throttled_until = None;
        let mut wait = |change: &dyn Fn(&mut ZoneView)| {
            change(&mut view);
            due(&view, &settings, last, 0.5).saturating_duration_since(last)
        };
        let fault = Fault::Timeout;
        assert_eq!(wait(&|view| view.state = State::HalfOpen { fault }), settings.suspect_interval);
        let long = Duration::from_secs(7);
        assert_eq!(wait(&|view| view.state = State::Open { fault, until: last + long }), long);
        // The end of the pause has passed, but the probe is still not sent at once.
        assert_eq!(wait(&|view| view.state = State::Open { fault, until: last }), settings.suspect_interval);
    }

    /// Without `s3:ListBucket`, S3 denies access to an object that does not exist.
    #[tokio::test]
    async fn a_blob_that_was_deleted_does_not_deny_us() {
        use backends::faulty::{Faulty, On};
        let store = Arc::new(Faulty::new(Arc::new(backends::memory::MemoryStore::new())));
        store.always(On::Get, backends::faulty::Fault::Fail(Kind::Denied));
        let zone = Zone::new("a", Arc::clone(&store) as _);
        let blob = Arc::new(Blob { digest: backends::Digest::EMPTY, key: backends::Key::new("a") });
        for whole in [false, true] {
            assert_eq!(look(&zone, Some(Arc::clone(&blob)), whole).await.ok(), Some(Looked::Answered));
        }
        store.always(On::Probe, backends::faulty::Fault::Fail(Kind::Denied));
        assert!(look(&zone, Some(Arc::clone(&blob)), false).await.is_err());
    }
}
