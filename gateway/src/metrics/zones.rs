//! Metrics of the zones, read at the time of a scrape.

use tokio::time::Instant;
use zone_router::snapshot::Counts;
use zone_router::{SizeClass, Snapshot};

use super::text::Text;
use operations::zones::state;

/// The metrics of every zone in the OpenMetrics text form, without its end mark.
pub(super) fn render(snapshot: &Snapshot) -> String {
    let mut text = Text::default();
    let now = Instant::now();
    text.head("zone_serves", "gauge", "Whether reads go to a zone before those that are out of use");
    for zone in &snapshot.zones {
        text.value("zone_serves", &zone.name, "", u64::from(zone.serves()) as f64);
    }
    text.head("zone_state", "gauge", "1 for the state that a zone is in");
    for zone in &snapshot.zones {
        text.value("zone_state", &zone.name, &format!(",state=\"{}\"", state(zone, now)), 1.0);
    }
    text.head("zones_all_ejected", "gauge", "Whether every zone that may be read is out of use: alert");
    text.line("zones_all_ejected", "", u64::from(snapshot.all_open) as f64);
    text.head("zone_observations_lost", "counter", "Observations of reads that were lost under load");
    text.line("zone_observations_lost_total", "", snapshot.lost_events as f64);
    text.head(
        "lost_time_seconds",
        "counter",
        "Time in which the gateway was due to run and did not: give it more CPU",
    );
    text.line("lost_time_seconds_total", "", snapshot.lost_time.as_secs_f64());
    times(&mut text, snapshot);
    for (name, help, count) in COUNTS {
        text.head(name, "counter", help);
        for zone in &snapshot.zones {
            text.value(&format!("{name}_total"), &zone.name, "", count(&zone.counts) as f64);
        }
    }
    text.end()
}

type Count = (&'static str, &'static str, fn(&Counts) -> u64);

const COUNTS: [Count; 11] = [
    ("zone_reads", "Blobs whose first byte a zone gave", |counts| counts.reads),
    ("zone_bytes", "Bytes that a zone gave", |counts| counts.bytes),
    ("zone_hedged", "Second requests that were started against a slow zone", |counts| counts.hedged),
    ("zone_hedges_won", "Second requests that were the quicker ones", |counts| counts.hedges_won),
    ("zone_overdue", "Reads that were given up because a zone's headers were overdue", |counts| {
        counts.overdue
    }),
    ("zone_failures", "Reads and probes that failed", |counts| counts.failures),
    ("zone_excused", "Reads and probes that were late or failed by no fault of the zone", |counts| {
        counts.excused
    }),
    ("zone_resumed_elsewhere", "Bodies that went on in another zone", |counts| counts.resumed_elsewhere),
    ("zone_wrong_bytes", "Blobs whose bytes a zone gave wrong: alert", |counts| counts.wrong_bytes),
    ("zone_probes", "Probes", |counts| counts.probes),
    ("zone_ejections", "Times that a zone was put out of use", |counts| counts.opened),
];

fn times(text: &mut Text, snapshot: &Snapshot) {
    text.head("zone_probe_seconds", "gauge", "How long probes take, on average of the last seconds");
    for zone in &snapshot.zones {
        if let Some(probe) = zone.probe {
            text.value("zone_probe_seconds", &zone.name, "", probe.as_secs_f64());
        }
    }
    text.head("zone_header_seconds", "gauge", "Quantiles of how long headers take, of the last 30 to 60 s");
    for zone in &snapshot.zones {
        for class in SizeClass::ALL {
            let headers = zone.headers[class];
            for (quantile, value) in [("0.5", headers.p50), ("0.95", headers.p95)] {
                let Some(value) = value else { continue };
                let labels = format!(",class=\"{}\",quantile=\"{quantile}\"", class.as_str());
                text.value("zone_header_seconds", &zone.name, &labels, value.as_secs_f64());
            }
        }
    }
    text.head(
        "zone_bytes_per_second",
        "gauge",
        "Speed of one body, on average of the last seconds that gave any",
    );
    for zone in &snapshot.zones {
        if let Some(rate) = zone.throughput {
            text.value("zone_bytes_per_second", &zone.name, "", rate as f64);
        }
    }
}
