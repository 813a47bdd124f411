//! Metrics of the copies, from the latest sample.

use replication::{AGES, DURATION_BUCKETS, LaneStatus};

use super::text::Text;
use operations::queue::Sample;

/// The metrics of every zone's copies in the OpenMetrics text form, without its end mark.
pub(super) fn render(sample: &Sample) -> String {
    let mut text = Text::default();
    text.head("journal_readable", "gauge", "Whether the queue of copies can be read");
    text.line("journal_readable", "", u64::from(sample.lanes.is_some()) as f64);
    if let Some(lanes) = &sample.lanes {
        waiting(&mut text, lanes);
        for (name, help, value) in GAUGES {
            text.head(name, "gauge", help);
            lanes.iter().for_each(|lane| text.value(name, &lane.zone, "", value(lane) as f64));
        }
        at_risk(&mut text, sample);
        ages(&mut text, sample);
        for (name, help, count) in COUNTS {
            text.head(name, "counter", help);
            let total = format!("{name}_total");
            lanes.iter().for_each(|lane| text.value(&total, &lane.zone, "", count(lane) as f64));
        }
        text.head("zone_copy_rate_bytes", "gauge", "Bytes copied in a second, over the last minute");
        for (zone, rate) in &sample.rates {
            text.value("zone_copy_rate_bytes", zone, "", rate.bytes);
        }
    }
    failures(&mut text, sample);
    finished(&mut text, sample);
    text.end()
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

fn waiting(text: &mut Text, lanes: &[LaneStatus]) {
    text.head("copies_waiting", "gauge", "Copies to other zones that are still to be made");
    text.line("copies_waiting", "", lanes.iter().map(|lane| lane.waiting).sum::<u64>() as f64);
    text.head("zone_lag_seconds", "gauge", "Age of the oldest copy to a zone that is still to be made, or 0");
    for lane in lanes {
        let lag = lane.oldest.and_then(|since| since.elapsed().ok()).unwrap_or_default();
        text.value("zone_lag_seconds", &lane.zone, "", lag.as_secs_f64());
    }
}

fn at_risk(text: &mut Text, sample: &Sample) {
    text.head("zone_at_risk_bytes", "gauge", "Bytes of blobs that would be lost if a zone burned now");
    for risk in &sample.at_risk {
        text.value("zone_at_risk_bytes", &risk.zone, "", risk.bytes as f64);
    }
    text.head("zone_at_risk_blobs", "gauge", "Blobs that would be lost if a zone burned now");
    for risk in &sample.at_risk {
        text.value("zone_at_risk_blobs", &risk.zone, "", risk.blobs as f64);
    }
}

fn ages(text: &mut Text, sample: &Sample) {
    const NAME: &str = "zone_copies_waiting_age_seconds";
    text.head(NAME, "gaugehistogram", "Copies that are still to be made, by their age");
    for (zone, ages) in &sample.ages {
        let bounds = AGES.iter().map(|bound| f64::from(*bound));
        buckets(text, NAME, zone, bounds.zip(ages.up_to), ages.jobs);
        text.value(&format!("{NAME}_gcount"), zone, "", ages.jobs as f64);
        text.value(&format!("{NAME}_gsum"), zone, "", ages.seconds);
    }
}

fn finished(text: &mut Text, sample: &Sample) {
    const NAME: &str = "zone_copy_seconds";
    text.head(NAME, "histogram", "Jobs that ended well, by the time from their push or other cause");
    for (zone, took) in &sample.finished {
        buckets(text, NAME, zone, DURATION_BUCKETS.into_iter().zip(took.up_to), took.jobs);
        text.value(&format!("{NAME}_count"), zone, "", took.jobs as f64);
        text.value(&format!("{NAME}_sum"), zone, "", took.seconds);
    }
}

fn buckets(text: &mut Text, name: &str, zone: &str, counts: impl Iterator<Item = (f64, u64)>, all: u64) {
    let name = format!("{name}_bucket");
    for (bound, count) in counts {
        // OpenMetrics requires a decimal point in the value of `le`.
        text.value(&name, zone, &format!(",le=\"{bound:?}\""), count as f64);
    }
    text.value(&name, zone, ",le=\"+Inf\"", all as f64);
}

fn failures(text: &mut Text, sample: &Sample) {
    text.head("zone_copy_failures", "counter", "Failed tries to copy, by whose fault and kind of error");
    for (zone, failures) in &sample.failures {
        for ((fault, kind), count) in failures {
            let labels = format!(",fault=\"{fault}\",kind=\"{kind}\"");
            text.value("zone_copy_failures_total", zone, &labels, *count as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use replication::{Ages, AtRisk, Durations};

    use super::*;

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
        let text = render(&sample);
        for line in [
            "quay_gateway_journal_readable 1",
            "quay_gateway_zone_at_risk_bytes{zone=\"zone-\\\"b\\\"\"} 10",
            "quay_gateway_zone_copy_failures_total{zone=\"zone-\\\"b\\\"\",fault=\"target\",kind=\"denied\"} 2",
            "quay_gateway_zone_copy_seconds_bucket{zone=\"zone-\\\"b\\\"\",le=\"1.0\"} 0",
            "quay_gateway_zone_copy_seconds_bucket{zone=\"zone-\\\"b\\\"\",le=\"2.0\"} 3",
            "quay_gateway_zone_copy_seconds_bucket{zone=\"zone-\\\"b\\\"\",le=\"+Inf\"} 3",
            "quay_gateway_zone_copies_waiting_age_seconds_gcount{zone=\"zone-\\\"b\\\"\"} 2",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
        let unread = render(&Sample::default());
        assert!(unread.contains("journal_readable 0") && !unread.contains("copies_waiting"), "{unread}");
    }
}
