//! Counters for operators, in the Prometheus text form.

mod ages;
mod certificates;
mod contradicted_sizes;
mod copies;
mod exposition;
mod families;
mod instances;
mod memory;
mod pins;
mod pools;
mod reloads;
mod scrape;
mod sources;
mod sweeps;
mod text;
mod timings;
mod tokens;
mod zones;

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use zone_router::Zone;

pub(crate) use self::contradicted_sizes::ContradictedSizes;
pub(crate) use self::exposition::Exposition;
use self::reloads::Reloads;
pub(crate) use self::scrape::Scrape;
pub(crate) use self::sources::{Source, Sources};
use self::sweeps::Sweeps;
pub(crate) use self::timings::Timings;

/// The beginning of every name.
const PREFIX: &str = "quay_gateway";

/// All counters.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    /// Where answers come from.
    pub(crate) sources: Sources,
    blobs: Family<BlobLabels, Counter>,
    /// The same by source, so that a count takes no lock.
    blobs_by_source: ArcSwap<Vec<Counter>>,
    /// From the head of a request to the end of its answer, for answers that were sent whole.
    pub(crate) request_times: Timings,
    /// From the head of a request to the first byte of its answer's body, or to its head if it has no body.
    pub(crate) first_byte_times: Timings,
    answers_cut: Family<CutLabels, Counter>,
    handshakes_failed: Family<HandshakeLabels, Counter>,
    connections_shed: Counter,
    connections_renewed: Counter,
    pushes_not_queued: Counter,
    wrong_sizes: Family<WhoLabels, Counter>,
    permissions: Family<PermissionLabels, Counter>,
    stale_manifests: Counter,
    journal_refuses: AtomicBool,
    usable: Family<ZoneLabels, Gauge>,
    reloads: Reloads,
    sweeps: Sweeps,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BlobLabels {
    /// The name of a [`Source`].
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
    /// `token`, `remembered`, `yes`, `no`, `unanswered` or `offline`.
    by: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ZoneLabels {
    zone: String,
}

/// What decides who may read a blob.
const PERMISSIONS_BY: [&str; 6] = ["token", "remembered", "yes", "no", "unanswered", "offline"];

/// Why handshakes fail.
const HANDSHAKE_FAILURES: [&str; 5] = ["refused", "client_certificate", "proxy-header", "late", "broken"];

/// Counters that are there from the start: `increase` does not see the first event of a counter that begins with it.
fn counters<L: Clone + Eq + Hash>(labels: impl IntoIterator<Item = L>) -> Family<L, Counter> {
    let family = Family::default();
    labels.into_iter().for_each(|labels| drop(family.get_or_create(&labels)));
    family
}

fn request_times() -> Timings {
    let help = "From the head of a request to the end of its answer, for answers that were sent whole";
    Timings::new("request_seconds", help)
}

fn first_byte_times() -> Timings {
    let help = "From the head of a request to the first byte of the body of its answer, or its head if it has no body";
    Timings::new("first_byte_seconds", help)
}

impl Metrics {
    /// Creates the counters, and records which of these zones can be used.
    pub(crate) fn new(zones: &[Zone]) -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let requests = Family::default();
        let answers_cut = counters(["client", "gateway"].map(|by| CutLabels { by }));
        let handshakes_failed = counters(HANDSHAKE_FAILURES.map(|why| HandshakeLabels { why }));
        let [connections_shed, connections_renewed] = [(); 2].map(|()| Counter::default());
        let pushes_not_queued = Counter::default();
        registry.register("requests", "Requests answered, by route and status", requests.clone());
        let blobs = Family::default();
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
        let help = "Lines of the access log that were lost, as they could not be written";
        registry.register("access_log_lines_lost", help, crate::access_log::lost());
        crate::otlp::register(&mut registry);
        let help = "Pushes acknowledged whose copies could not be queued: push them again";
        registry.register("pushes_not_queued", help, pushes_not_queued.clone());
        let wrong_sizes = counters([WhoLabels { who: "registry" }]);
        let help = "Blobs whose bytes have the right digest and not the size that was named, by who named it";
        registry.register("wrong_sizes", help, wrong_sizes.clone());
        let permissions = counters(PERMISSIONS_BY.map(|by| PermissionLabels { by }));
        let help = "Reads of blobs, by what decided who may read: a token and a link here, a remembered answer, or the registry";
        registry.register("permissions", help, permissions.clone());
        let stale_manifests = Counter::default();
        let help = "Manifests from before the registry went away";
        registry.register("stale_manifests", help, stale_manifests.clone());
        let usable = Family::default();
        registry.register("zone_usable", "Whether a zone's configuration can be used", usable.clone());
        let reloads = Reloads::register(&mut registry);
        let sweeps = Sweeps::register(&mut registry);
        let metrics = Self {
            registry,
            requests,
            request_times: request_times(),
            first_byte_times: first_byte_times(),
            sources: Sources::default(),
            blobs,
            blobs_by_source: ArcSwap::default(),
            answers_cut,
            handshakes_failed,
            connections_shed,
            connections_renewed,
            pushes_not_queued,
            wrong_sizes,
            permissions,
            stale_manifests,
            journal_refuses: AtomicBool::new(false),
            usable,
            reloads,
            sweeps,
        };
        metrics.set_zones(zones);
        metrics
    }

    /// Records which zones there are, and which of them can be used.
    pub(crate) fn set_zones(&self, zones: &[Zone]) {
        self.usable.clear();
        for zone in zones {
            let labels = ZoneLabels { zone: zone.name.to_string() };
            self.usable.get_or_create(&labels).set(i64::from(zone.unusable.is_none()));
        }
        self.sources.add(zones);
        for times in [&self.request_times, &self.first_byte_times] {
            times.grow(&self.sources);
        }
        let blobs = self.sources.all().map(|source| match source {
            Source::GATEWAY => Counter::default(),
            source => {
                let labels = BlobLabels { source: self.sources.name(source).to_string() };
                self.blobs.get_or_create(&labels).clone()
            }
        });
        self.blobs_by_source.store(Arc::new(blobs.collect()));
    }

    /// What is counted about reloads of the configuration.
    pub(crate) fn reloads(&self) -> &Reloads {
        &self.reloads
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

    /// Counts a body of a blob from the source with this name. Returns the source.
    pub(crate) fn blob_answered(&self, from: &str) -> Source {
        let source = self.sources.named(from);
        if let Some(blobs) = self.blobs_by_source.load().get(source.index()) {
            blobs.inc();
        }
        source
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

    /// Counts a manifest that is served although the registry is away.
    pub(crate) fn stale_manifest(&self) {
        self.stale_manifests.inc();
    }

    pub(crate) fn push_not_queued(&self) {
        self.pushes_not_queued.inc();
    }

    /// The number of pushes whose copies could not be queued.
    pub(crate) fn pushes_not_queued(&self) -> u64 {
        self.pushes_not_queued.get()
    }

    /// What is counted about the sweep.
    pub(crate) fn sweeps(&self) -> &Sweeps {
        &self.sweeps
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
        for times in [&self.request_times, &self.first_byte_times] {
            let _ = times.write(&mut text, &self.sources);
        }
        let _ = encode_eof(&mut text);
        text
    }
}
