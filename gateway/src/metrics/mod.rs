//! Counters for operators, in the Prometheus text form.

mod copies;
mod text;
mod zones;

use std::fmt::Write as _;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use zone_router::{Snapshot, Zone};

use crate::queue::Sample;

/// What is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    blobs: Family<BlobLabels, Counter>,
    pushes_not_queued: Counter,
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
struct ZoneLabels {
    zone: String,
}

impl Metrics {
    /// Counters, and which of these zones can be used.
    pub(crate) fn new(zones: &[Zone]) -> Self {
        let mut registry = Registry::with_prefix("quay_gateway");
        let requests = Family::default();
        let blobs = Family::default();
        let pushes_not_queued = Counter::default();
        registry.register("requests", "Requests answered, by route and status", requests.clone());
        registry.register("blobs", "Blob bodies begun, by where they come from", blobs.clone());
        let help = "Pushes acknowledged whose copies could not be queued: push them again";
        registry.register("pushes_not_queued", help, pushes_not_queued.clone());
        let usable = Family::<ZoneLabels, Gauge>::default();
        for zone in zones {
            let labels = ZoneLabels { zone: zone.name.to_string() };
            usable.get_or_create(&labels).set(i64::from(zone.unusable.is_none()));
        }
        registry.register("zone_usable", "Whether a zone's configuration can be used", usable);
        Self { registry, requests, blobs, pushes_not_queued }
    }

    pub(crate) fn answered(&self, route: &'static str, status: u16) {
        self.requests.get_or_create(&RequestLabels { route, status }).inc();
    }

    pub(crate) fn blob_answered(&self, source: &str) {
        self.blobs.get_or_create(&BlobLabels { source: source.to_owned() }).inc();
    }

    pub(crate) fn push_not_queued(&self) {
        self.pushes_not_queued.inc();
    }

    /// Everything, with `gauges` (name, help, value) read at this moment, and the copies as they were
    /// sampled.
    pub(crate) fn render(
        &self,
        snapshot: &Snapshot,
        gauges: &[(&str, &str, u64)],
        copies: &Sample,
    ) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        let end = text.rfind("# EOF").unwrap_or(text.len());
        text.truncate(end);
        for (name, help, value) in gauges {
            let _ = writeln!(
                text,
                "# HELP quay_gateway_{name} {help}.\n# TYPE quay_gateway_{name} gauge\nquay_gateway_{name} {value}"
            );
        }
        text.push_str(&zones::render(snapshot));
        text.push_str(&copies::render(copies));
        text.push_str("# EOF\n");
        text
    }
}
