//! Counts how long jobs took.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

/// The upper bounds of the buckets of [`Durations`], in seconds.
pub const DURATION_BUCKETS: [f64; 16] = [
    0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 21_600.0, 86_400.0,
    604_800.0,
];

/// A histogram of how long finished jobs took, from when they were first added.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Durations {
    /// For each of [`DURATION_BUCKETS`], the number of jobs that took no longer.
    pub up_to: [u64; DURATION_BUCKETS.len()],
    /// The number of all finished jobs.
    pub jobs: u64,
    /// The sum of their durations in seconds.
    pub seconds: f64,
}

impl Durations {
    fn note(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        for (count, bound) in self.up_to.iter_mut().zip(DURATION_BUCKETS) {
            *count += u64::from(seconds <= bound);
        }
        self.jobs += 1;
        self.seconds += seconds;
    }
}

/// The durations of the jobs that this process finished, by target zone.
#[derive(Debug, Default, Clone)]
pub(super) struct DurationsByZone(Arc<Mutex<BTreeMap<Arc<str>, Durations>>>);

impl DurationsByZone {
    pub(super) fn note(&self, zone: &Arc<str>, duration: Duration) {
        let mut zones = self.0.lock();
        zones.entry(Arc::clone(zone)).or_default().note(duration);
    }

    pub(super) fn all(&self) -> BTreeMap<Arc<str>, Durations> {
        self.0.lock().clone()
    }
}
