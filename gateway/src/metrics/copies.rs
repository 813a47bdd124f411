//! Metrics of the copies, from the latest sample.

use std::fmt;
use std::sync::Arc;

use replication::{DURATION_BUCKETS, LaneStatus};

use super::families::{Buckets, Families};
use operations::queue::Sample;

pub(super) fn encode(families: &mut Families<'_>, sample: &Sample) -> fmt::Result {
    let help = "Whether the queue of copies can be read";
    families.gauge("journal_readable", help, u64::from(sample.lanes.is_some()))?;
    if let Some(lanes) = &sample.lanes {
        self::lanes(families, lanes)?;
        at_risk(families, sample)?;
        let help = "Bytes copied in a second, over the last minute";
        let rates = sample.rates.iter().map(|(zone, rate)| ([name(zone)], rate.bytes));
        families.gauges("zone_copy_rate_bytes", help, rates)?;
    }
    let failures = sample.failures.iter().flat_map(|(zone, failures)| {
        failures
            .iter()
            .map(move |((fault, kind), count)| ([name(zone), ("fault", *fault), ("kind", *kind)], *count))
    });
    let help = "Failed tries to copy, by whose fault and kind of error";
    families.counters("zone_copy_failures", help, failures)?;
    let finished = sample.finished.iter().map(|(zone, took)| {
        let bounds = &DURATION_BUCKETS;
        ([name(zone)], Buckets { bounds, up_to: &took.up_to, count: took.jobs, sum: took.seconds })
    });
    let help = "Jobs that ended well, by the time from their push or other cause";
    families.histograms("zone_copy_seconds", help, finished)
}

fn name(zone: &Arc<str>) -> (&'static str, &str) {
    ("zone", zone)
}

type Figure = (&'static str, &'static str, fn(&LaneStatus) -> u64);

const GAUGES: [Figure; 7] = [
    ("zone_copies_waiting", "Copies to a zone that are still to be made", |lane| lane.waiting),
    ("zone_copies_waiting_bytes", "Their bytes, as far as known", |lane| lane.bytes),
    ("zone_copies_failing", "How many of them have failed at least once", |lane| lane.failing),
    ("zone_copies_attempts", "Their failed tries", |lane| lane.attempts),
    ("zone_copies_active", "Copies under way", |lane| lane.active),
    ("zone_copies_parked", "Copies set aside until somebody asks for them: look", |lane| lane.parked),
    ("zone_copies_parked_bytes", "Their bytes, as far as known", |lane| lane.parked_bytes),
];

const COUNTS: [Figure; 5] = [
    ("zone_copied", "Copies written and verified", |lane| lane.copied),
    ("zone_copied_bytes", "Bytes of copies written and verified", |lane| lane.copied_bytes),
    ("zone_copies_already_there", "Jobs whose blob was there already", |lane| lane.already_there),
    ("zone_copies_replaced", "Copies in whose place something else lay", |lane| lane.replaced),
    ("zone_copies_withdrawn", "Jobs whose blob the registry no longer has", |lane| lane.withdrawn),
];

fn lanes(families: &mut Families<'_>, lanes: &[LaneStatus]) -> fmt::Result {
    let waiting = lanes.iter().map(|lane| lane.waiting).sum::<u64>();
    families.gauge("copies_waiting", "Copies to other zones that are still to be made", waiting)?;
    let lags = lanes.iter().map(|lane| {
        let lag = lane.oldest.and_then(|since| since.elapsed().ok()).unwrap_or_default();
        ([name(&lane.zone)], lag.as_secs_f64())
    });
    let help = "Age of the oldest copy to a zone that is still to be made, or 0";
    families.gauges("zone_lag_seconds", help, lags)?;
    for (metric, help, value) in GAUGES {
        families.gauges(metric, help, lanes.iter().map(|lane| ([name(&lane.zone)], value(lane))))?;
    }
    for (metric, help, count) in COUNTS {
        families.counters(metric, help, lanes.iter().map(|lane| ([name(&lane.zone)], count(lane))))?;
    }
    Ok(())
}

fn at_risk(families: &mut Families<'_>, sample: &Sample) -> fmt::Result {
    let risks = || sample.at_risk.iter();
    families.gauges(
        "zone_at_risk_bytes",
        "Bytes of blobs that would be lost if a zone burned now",
        risks().map(|risk| ([name(&risk.zone)], risk.bytes)),
    )?;
    families.gauges(
        "zone_at_risk_blobs",
        "Blobs that would be lost if a zone burned now",
        risks().map(|risk| ([name(&risk.zone)], risk.blobs)),
    )
}

#[cfg(test)]
mod tests {
    use prometheus_client::collector::Collector;
    use prometheus_client::encoding::DescriptorEncoder;
    use prometheus_client::encoding::text::encode_registry;
    use prometheus_client::registry::Registry;
    use replication::{Ages, AtRisk, Durations};

    use super::super::ages;
    use super::*;

    #[derive(Debug)]
    struct Copies(Sample);

    impl Collector for Copies {
        fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
            encode(&mut Families::new(encoder), &self.0)
        }
    }

    fn render(sample: Sample) -> String {
        let mut text = String::new();
        ages::write(&mut text, &sample).expect("writes");
        let mut registry = Registry::with_prefix("quay_gateway");
        registry.register_collector(Box::new(Copies(sample)));
        encode_registry(&mut text, &registry).expect("writes");
        text
    }

    #[test]
    fn every_line_is_a_head_or_a_value_and_buckets_grow() {
        let zone: Arc<str> = Arc::from("zone-\"b\"");
        let mut took = Durations { jobs: 3, seconds: 4.5, ..Durations::default() };
        took.up_to[5..].fill(3);
        let sample = Sample {
            lanes: Some(Vec::new()),
            ages: [(Arc::clone(&zone), Ages { jobs: 2, seconds: 7.0, ..Ages::default() })].into(),
            at_risk: vec![AtRisk { zone: Arc::clone(&zone), blobs: 1, bytes: 10 }],
            finished: [(Arc::clone(&zone), took)].into(),
            failures: vec![(Arc::clone(&zone), [(("target", "denied"), 2)].into())],
            rates: std::collections::BTreeMap::new(),
        };
        let text = render(sample);
        for line in [
            "quay_gateway_journal_readable 1",
            "quay_gateway_zone_at_risk_bytes{zone=\"zone-\\\"b\\\"\"} 10",
            "quay_gateway_zone_copy_failures_total{zone=\"zone-\\\"b\\\"\",fault=\"target\",kind=\"denied\"} 2",
            "quay_gateway_zone_copy_seconds_bucket{le=\"1.0\",zone=\"zone-\\\"b\\\"\"} 0",
            "quay_gateway_zone_copy_seconds_bucket{le=\"2.0\",zone=\"zone-\\\"b\\\"\"} 3",
            "quay_gateway_zone_copy_seconds_bucket{le=\"+Inf\",zone=\"zone-\\\"b\\\"\"} 3",
            "quay_gateway_zone_copies_waiting_age_seconds_gcount{zone=\"zone-\\\"b\\\"\"} 2",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
        let unread = render(Sample::default());
        assert!(unread.contains("journal_readable 0") && !unread.contains("copies_waiting"), "{unread}");
    }
}
