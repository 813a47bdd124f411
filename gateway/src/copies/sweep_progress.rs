//! The progress of the sweep for operators, and their command to begin a round now.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::sleep;

use operations::queue::SweepReport;

use super::sweep_position::SweepPosition;

/// The progress of the sweep.
#[derive(Debug, Default)]
pub(crate) struct SweepProgress {
    known: Mutex<Known>,
    /// Notified when a round must begin or continue without a wait.
    begin: Notify,
}

#[derive(Debug, Default)]
struct Known {
    report: SweepReport,
    began: Option<u64>,
    ended: Option<u64>,
}

impl SweepProgress {
    /// The current progress.
    pub(crate) fn report(&self) -> SweepReport {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let known = self.lock();
        let since = |then: Option<u64>| then.map(|then| now.saturating_sub(then));
        let (began_seconds, ended_seconds) = (since(known.began), since(known.ended));
        SweepReport { began_seconds, ended_seconds, ..known.report.clone() }
    }

    /// Begins a round now, or continues one that waits. Returns whether there is a sweep at all.
    pub(crate) fn begin(&self) -> bool {
        let enabled = self.lock().report.enabled;
        if enabled {
            self.begin.notify_one();
        }
        enabled
    }

    /// Waits for this time, or until a round must begin.
    pub(crate) async fn wait(&self, time: Duration) {
        tokio::select! {
            () = sleep(time) => {}
            () = self.begin.notified() => {}
        }
    }

    /// Records that there is a sweep, and its position.
    pub(crate) fn set_position(&self, position: &SweepPosition) {
        let mut known = self.lock();
        (known.began, known.ended) = (position.began, position.ended);
        let report = &mut known.report;
        (report.enabled, report.under_way) = (true, position.is_under_way());
        let tally = position.tally;
        (report.repositories, report.manifests) = (tally.repositories, tally.manifests);
        (report.jobs, report.skipped) = (tally.jobs, tally.skipped);
        report.repository.clone_from(&position.repository);
    }

    /// Records that there is no sweep any more.
    pub(crate) fn disable(&self) {
        let mut known = self.lock();
        (known.report.enabled, known.report.under_way) = (false, false);
    }

    /// Records that a round has ended, or why it cannot continue.
    pub(crate) fn ended(&self, error: Option<String>) {
        let mut known = self.lock();
        known.report.rounds += u64::from(error.is_none());
        known.report.error = error;
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock()
    }
}
