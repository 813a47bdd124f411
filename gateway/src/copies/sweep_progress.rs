//! How far the sweep is, for operators, and their word that a round is to begin now.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::sleep;

use operations::queue::SweepReport;

use super::sweep_place::Place;

/// How far the sweep is.
#[derive(Debug, Default)]
pub(crate) struct SweepProgress {
    known: Mutex<Known>,
    /// Told when a round is to begin, or go on, without a wait.
    begin: Notify,
}

#[derive(Debug, Default)]
struct Known {
    report: SweepReport,
    began: Option<u64>,
    ended: Option<u64>,
}

impl SweepProgress {
    /// How far it is now.
    pub(crate) fn report(&self) -> SweepReport {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let known = self.lock();
        let since = |then: Option<u64>| then.map(|then| now.saturating_sub(then));
        let (began_seconds, ended_seconds) = (since(known.began), since(known.ended));
        SweepReport { began_seconds, ended_seconds, ..known.report.clone() }
    }

    /// Has a round begin now, or one that waits go on; whether there is a sweep at all.
    pub(crate) fn begin(&self) -> bool {
        let enabled = self.lock().report.enabled;
        if enabled {
            self.begin.notify_one();
        }
        enabled
    }

    /// Waits so long, or until a round is to begin.
    pub(crate) async fn wait(&self, time: Duration) {
        tokio::select! {
            () = sleep(time) => {}
            () = self.begin.notified() => {}
        }
    }

    /// There is a sweep, and it stands here.
    pub(crate) fn at(&self, place: &Place) {
        let mut known = self.lock();
        (known.began, known.ended) = (place.began, place.ended);
        let report = &mut known.report;
        (report.enabled, report.under_way) = (true, place.is_under_way());
        let tally = place.tally;
        (report.repositories, report.manifests) = (tally.repositories, tally.manifests);
        (report.jobs, report.skipped) = (tally.jobs, tally.skipped);
        report.repository.clone_from(&place.repository);
    }

    /// A round ended, or cannot go on.
    pub(crate) fn ended(&self, error: Option<String>) {
        let mut known = self.lock();
        known.report.rounds += u64::from(error.is_none());
        known.report.error = error;
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock()
    }
}
