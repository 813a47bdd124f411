//! Counts what the sweep does.

use std::time::SystemTime;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::reloads::seconds;

/// What is counted about the sweep.
#[derive(Debug)]
pub(crate) struct Sweeps {
    finished: Gauge,
    manifests: Counter,
    jobs: Counter,
    skipped: Counter,
}

impl Sweeps {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let [manifests, jobs, skipped] = [(); 3].map(|()| Counter::default());
        let finished = Gauge::default();
        let help = "When the sweep last came to its end, in seconds since 1970; 0 before the first";
        registry.register("sweep_finished_timestamp_seconds", help, finished.clone());
        registry.register("sweep_manifests", "Manifests that the sweep has looked at", manifests.clone());
        registry.register("sweep_jobs", "Copies that the sweep has queued or found queued", jobs.clone());
        let help = "Lists and manifests that the sweep could not read; the next round tries again";
        registry.register("sweep_skipped", help, skipped.clone());
        Self { finished, manifests, jobs, skipped }
    }

    /// Records that a round came to its end.
    pub(crate) fn finished(&self, at: SystemTime) {
        self.finished.set(seconds(at));
    }

    /// Counts a manifest, and the copies of its blobs that are queued now.
    pub(crate) fn manifest(&self, jobs: u64) {
        self.manifests.inc();
        self.jobs.inc_by(jobs);
    }

    /// Counts a list or manifest that could not be read.
    pub(crate) fn skipped(&self) {
        self.skipped.inc();
    }
}
