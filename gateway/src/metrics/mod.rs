//! Counters for operators, in the Prometheus text form.

mod ages;
mod certificates;
mod contradicted_sizes;
mod copies;
mod exposition;
mod families;
mod instances;
mod memory;
mod pools;
mod scrape;
mod tokens;
mod zones;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use zone_router::Zone;

pub(crate) use self::contradicted_sizes::ContradictedSizes;
pub(crate) use self::exposition::Exposition;
pub(crate) use self::scrape::Scrape;

/// The beginning of every name.
const PREFIX: &str = "quay_gateway";

/// All counters.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    blobs: Family<BlobLabels, Counter>,
    answers_cut: Family<CutLabels, Counter>,
    handshakes_failed: Family<HandshakeLabels, Counter>,
    connections_shed: Counter,
    connections_renewed: Counter,
    pushes_not_queued: Counter,
    wrong_sizes: Family<WhoLabels, Counter>,
    permissions: Family<PermissionLabels, Counter>,
    journal_refuses: AtomicBool,
    sweep_finished: Gauge,
    sweep_manifests: Counter,
    sweep_jobs: Counter,
    sweep_skipped: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BlobLabels {
    /// `hit`, `zone=<name>`, `registry` or `registry-redirect`.
    source: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CutLabels {
    /// `client` or `gateway`.
    by: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HandshakeLabels {
    /// `refused` by the client, `client_certificate`, `late`, or `broken`.
    why: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WhoLabels {
    /// Which party named a wrong size.
    who: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PermissionLabels {
    /// `token`, `remembered`, `yes`, `no` or `unanswered`.
    by: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ZoneLabels {
    zone: String,
}

impl Metrics {
    /// Creates the counters, and records which of these zones can be used.
    pub(crate) fn new(zones: &[Zone]) -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let requests = Family::default();
        let blobs = Family::default();
        let answers_cut = Family::default();
        let handshakes_failed = Family::default();
        let [connections_shed, connections_renewed] = [(); 2].map(|()| Counter::default());
        let pushes_not_queued = Counter::default();
        registry.register("requests", "Requests answered, by route and status", requests.clone());
        registry.register("blobs", "Blob bodies begun, by where they come from", blobs.clone());
        let help = "Answers that did not come to their end, by who broke off";
        registry.register("answers_cut", help, answers_cut.clone());
        let help = "TLS handshakes of clients that failed";
        registry.register("handshakes_failed", help, handshakes_failed.clone());
        let help = "Idle connections of clients that made room for others";
        registry.register("connections_shed", help, connections_shed.clone());
        let help = "HTTP/2 connections whose clients were asked to come with a new one, as heads take memory";
        registry.register("connections_renewed", help, connections_renewed.clone());
        let help = "Lines of the log that were lost, as nobody read it";
        registry.register("log_lines_lost", help, crate::log_queue::lost());
        let help = "Pushes acknowledged whose copies could not be queued: push them again";
        registry.register("pushes_not_queued", help, pushes_not_queued.clone());
        let wrong_sizes = Family::default();
        let help = "Blobs whose bytes have the right digest and not the size that was named, by who named it";
        registry.register("wrong_sizes", help, wrong_sizes.clone());
        let permissions = Family::default();
        let help = "Reads of blobs, by what decided who may read: a token and a link here, a remembered answer, or the registry";
        registry.register("permissions", help, permissions.clone());
        let usable = Family::<ZoneLabels, Gauge>::default();
        for zone in zones {
            let labels = ZoneLabels { zone: zone.name.to_string() };
            usable.get_or_create(&labels).set(i64::from(zone.unusable.is_none()));
        }
        registry.register("zone_usable", "Whether a zone's configuration can be used", usable);
        let [sweep_manifests, sweep_jobs, sweep_skipped] = [(); 3].map(|()| Counter::default());
        let sweep_finished = Gauge::default();
        let help = "When the sweep last came to its end, in seconds since 1970; 0 before the first";
        registry.register("sweep_finished_timestamp_seconds", help, sweep_finished.clone());
        registry.register(
            "sweep_manifests",
            "Manifests that the sweep has looked at",
            sweep_manifests.clone(),
        );
        registry.register(
            "sweep_jobs",
            "Copies that the sweep has queued or found queued",
            sweep_jobs.clone(),
        );
        let help = "Lists and manifests that the sweep could not read; the next round tries again";
        registry.register("sweep_skipped", help, sweep_skipped.clone());
        Self {
            registry,
            requests,
            blobs,
            answers_cut,
            handshakes_failed,
            connections_shed,
            connections_renewed,
            pushes_not_queued,
            wrong_sizes,
            permissions,
            journal_refuses: AtomicBool::new(false),
            sweep_finished,
            sweep_manifests,
            sweep_jobs,
            sweep_skipped,
        }
    }

    pub(crate) fn answered(&self, route: &'static str, status: u16) {
        self.requests.get_or_create(&RequestLabels { route, status }).inc();
    }

    /// Counts an answer that was not sent completely. `by` is `client` or `gateway`.
    pub(crate) fn answer_cut(&self, by: &'static str) {
        self.answers_cut.get_or_create(&CutLabels { by }).inc();
    }

    /// Counts a TLS handshake of a client that failed.
    pub(crate) fn handshake_failed(&self, why: &'static str) {
        self.handshakes_failed.get_or_create(&HandshakeLabels { why }).inc();
    }

    /// Counts an idle connection that was closed to make room for another.
    pub(crate) fn connection_shed(&self) {
        self.connections_shed.inc();
    }

    /// Counts a client that was asked to use a new connection.
    pub(crate) fn connection_renewed(&self) {
        self.connections_renewed.inc();
    }

    pub(crate) fn blob_answered(&self, source: &str) {
        self.blobs.get_or_create(&BlobLabels { source: source.to_owned() }).inc();
    }

    /// Records whether the journal took the latest jobs.
    pub(crate) fn journal_took(&self, taken: bool) {
        self.journal_refuses.store(!taken, Ordering::Relaxed);
    }

    /// Whether the journal did not take the latest jobs.
    pub(crate) fn journal_refuses(&self) -> bool {
        self.journal_refuses.load(Ordering::Relaxed)
    }

    pub(crate) fn size_contradicted(&self, who: &'static str) {
        self.wrong_sizes.get_or_create(&WhoLabels { who }).inc();
    }

    #[cfg(test)]
    pub(crate) fn sizes_contradicted(&self, who: &'static str) -> u64 {
        self.wrong_sizes.get_or_create(&WhoLabels { who }).get()
    }

    /// Counts a read, by what decided it.
    pub(crate) fn permission_decided(&self, by: &'static str) {
        self.permissions.get_or_create(&PermissionLabels { by }).inc();
    }

    pub(crate) fn push_not_queued(&self) {
        self.pushes_not_queued.inc();
    }

    pub(crate) fn swept(&self, at: SystemTime) {
        let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.sweep_finished.set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }

    pub(crate) fn swept_manifest(&self, jobs: u64) {
        self.sweep_manifests.inc();
        self.sweep_jobs.inc_by(jobs);
    }

    pub(crate) fn sweep_skipped(&self) {
        self.sweep_skipped.inc();
    }

    /// All metrics in the OpenMetrics text form.
    pub(crate) fn render(&self, scrape: Scrape) -> String {
        let copies = Arc::clone(&scrape.copies);
        let mut read_now = Registry::with_prefix(PREFIX);
        read_now.register_collector(Box::new(scrape));
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode_registry(&mut text, &self.registry);
        let _ = encode_registry(&mut text, &read_now);
        let _ = ages::write(&mut text, &copies);
        let _ = encode_eof(&mut text);
        text
    }
}
