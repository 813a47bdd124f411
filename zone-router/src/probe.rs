//! Probes: real, small, authenticated reads of an object that is there.

use std::sync::Arc;
use std::time::Duration;

use backends::{Error, Kind};
use futures_util::StreamExt;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::health::{Fault, State};
use crate::inquiry::read_whole;
use crate::observation::{Seen, Trouble};
use crate::snapshot::ZoneView;
use crate::{Blob, Router, Settings, SizeClass, Zone};

/// How long a probe is waited for at least, …
const PATIENCE_MIN: Duration = Duration::from_millis(700);

/// … and how many times as long as headers that are overdue.
const PATIENCE_FACTOR: u32 = 2;

/// For the whole of a small blob, beyond that.
const DEEP_PATIENCE: Duration = Duration::from_secs(10);

/// Probes that may have been saved up for a time of trouble.
const SAVED_MAX: f64 = 120.0;

/// Probes that average to so many an hour: what they may cost.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    a_second: f64,
    saved: f64,
    at: Instant,
}

impl Allowance {
    fn new(an_hour: u32, now: Instant) -> Self {
        Self { a_second: f64::from(an_hour.max(1)) / 3600.0, saved: SAVED_MAX, at: now }
    }

    fn refill(&mut self, now: Instant) {
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * self.a_second;
        self.saved = (self.saved + earned).min(SAVED_MAX);
        self.at = now;
    }

    /// From when on one more is allowed.
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

/// When the next probe of a zone is due after one at `last`.
fn due(view: &ZoneView, settings: &Settings, last: Instant, chance: f64) -> Instant {
    // A tenth either way, so that gateways that started together do not probe together.
    let jitter = 0.9 + chance / 5.0;
    match view.state {
        State::Ejected { until, .. } => until.max(last + settings.suspect_interval),
        State::Probation { .. } => last + settings.suspect_interval.mul_f64(jitter),
        State::Healthy if view.suspect || view.unsettled => last + settings.suspect_interval.mul_f64(jitter),
        State::Healthy => last + settings.probe_interval.mul_f64(jitter),
    }
}

/// Probes one zone until `shutdown`.
pub(crate) async fn run(router: Arc<Router>, zone: usize, shutdown: CancellationToken) {
    let settings = router.settings;
    let mut allowance = Allowance::new(settings.probes_per_hour, Instant::now());
    let mut last: Option<Instant> = None;
    loop {
        let now = Instant::now();
        let view = router.snapshot();
        let view = &view.zones[zone];
        let wanted = last.map_or(now, |last| due(view, &settings, last, fastrand::f64()));
        let at = wanted.max(allowance.next(now));
        // Nobody reads it, whatever a probe says; a drained zone is known when it comes back.
        let idle = !view.policy.reads;
        let again = if idle { now + settings.probe_interval } else { at };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = router.watch.changed[zone].notified(), if at > now => continue,
            () = sleep_until(again) => {}
        }
        if idle {
            continue;
        }
        allowance.take(Instant::now());
        last = Some(Instant::now());
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = probe(&router, zone) => {}
        }
    }
}

/// One probe, its outcome noted.
async fn probe(router: &Router, zone: usize) {
    let view = router.snapshot();
    let view = &view.zones[zone];
    let overdue = view.headers[SizeClass::Small as usize].overdue_after;
    let patience = PATIENCE_MIN.max(overdue * PATIENCE_FACTOR);
    let lied = matches!(
        view.state,
        State::Ejected { fault: Fault::WrongBytes, .. } | State::Probation { fault: Fault::WrongBytes }
    );
    let began = Instant::now();
    let look = look(&router.zones[zone], view.recent.as_ref(), lied);
    tokio::pin!(look);
    // A whole blob takes its time.
    let (overdue, patience) = if lied { (patience, patience + DEEP_PATIENCE) } else { (overdue, patience) };
    let (result, late) = match timeout(overdue, &mut look).await {
        Ok(result) => (result, false),
        Err(_) => {
            router.watch.saw(zone, Seen::ProbeOverdue);
            let more = patience.saturating_sub(overdue);
            let result = timeout(more, look).await.unwrap_or_else(|_| {
                Err(Error::new(Kind::Timeout, format!("probe: no answer within {patience:.0?}")))
            });
            (result, true)
        }
    };
    router.watch.saw(
        zone,
        match result {
            Ok(()) => Seen::Probed { after: began.elapsed(), late },
            // It serves, if not us and not now.
            Err(error) if matches!(error.kind(), Kind::Invalid | Kind::Source) => {
                Seen::Probed { after: began.elapsed(), late }
            }
            Err(error) => Seen::ProbeFailed(Trouble::from(&error)),
        },
    );
}

/// Reads one byte of what the zone lately gave, or all of it and proves it; where there is nothing
/// or it has gone, the store's own marker.
async fn look(zone: &Zone, recent: Option<&Arc<Blob>>, whole: bool) -> Result<(), Error> {
    let Some(blob) = recent else { return zone.store.probe().await };
    if whole {
        return match read_whole(zone, blob).await? {
            true => Ok(()),
            false => zone.store.probe().await,
        };
    }
    let Some(mut object) = zone.store.get(&blob.key, Some(0..1)).await? else {
        return zone.store.probe().await;
    };
    while let Some(piece) = object.body.next().await {
        piece?;
    }
    Ok(())
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

    #[test]
    fn sooner_where_something_speaks_against_it() {
        let zone = Zone::new("a", Arc::new(backends::memory::MemoryStore::new()));
        let router = Router::new(vec![zone]);
        let (settings, last) = (router.settings, Instant::now());
        let mut view = router.snapshot().zones[0].clone();
        let mut wait = |change: &dyn Fn(&mut ZoneView)| {
            change(&mut view);
            due(&view, &settings, last, 0.5).saturating_duration_since(last)
        };
        assert_eq!(wait(&|_| {}), settings.probe_interval);
        assert_eq!(wait(&|view| view.suspect = true), settings.suspect_interval);
        let unsettled = |view: &mut ZoneView| (view.suspect, view.unsettled) = (false, true);
        assert_eq!(wait(&unsettled), settings.suspect_interval);
        let fault = Fault::Timeout;
        assert_eq!(wait(&|view| view.state = State::Probation { fault }), settings.suspect_interval);
        let long = Duration::from_secs(7);
        assert_eq!(wait(&|view| view.state = State::Ejected { fault, until: last + long }), long);
        // Its end has passed: still not at once.
        assert_eq!(
            wait(&|view| view.state = State::Ejected { fault, until: last }),
            settings.suspect_interval
        );
    }
}
