//! Metrics of the zones, read at the time of a scrape.

use std::fmt;

use tokio::time::Instant;
use zone_router::snapshot::Counts;
use zone_router::{SizeClass, Snapshot, ZoneView};

use super::families::Families;
use operations::zones::state;

pub(super) fn encode(families: &mut Families<'_>, snapshot: &Snapshot) -> fmt::Result {
    let now = Instant::now();
    let zones = &snapshot.zones;
    families.gauges(
        "zone_serves",
        "Whether reads go to a zone before those that are out of use",
        zones.iter().map(|zone| ([name(zone)], u64::from(zone.serves()))),
    )?;
    families.gauges(
        "zone_state",
        "1 for the state that a zone is in",
        zones.iter().map(|zone| ([name(zone), ("state", state(zone, now))], 1_u64)),
    )?;
    let help = "Whether every zone that may be read is out of use: alert";
    families.gauge("zones_all_ejected", help, u64::from(snapshot.all_open))?;
    let help = "Observations of reads that were lost under load";
    families.counter("zone_observations_lost", help, snapshot.lost_events)?;
    let help = "Time in which the gateway was due to run and did not: give it more CPU";
    families.counter("lost_time_seconds", help, snapshot.lost_time.as_secs_f64())?;
    times(families, snapshot)?;
    for (metric, help, count) in COUNTS {
        families.counters(metric, help, zones.iter().map(|zone| ([name(zone)], count(&zone.counts))))?;
    }
    Ok(())
}

fn name(zone: &ZoneView) -> (&'static str, &str) {
    ("zone", &zone.name)
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

fn times(families: &mut Families<'_>, snapshot: &Snapshot) -> fmt::Result {
    let zones = || snapshot.zones.iter();
    families.gauges(
        "zone_probe_seconds",
        "How long probes take, on average of the last seconds",
        zones().filter_map(|zone| Some(([name(zone)], zone.probe?.as_secs_f64()))),
    )?;
    let headers = zones().flat_map(|zone| {
        SizeClass::ALL.into_iter().flat_map(move |class| {
            let headers = zone.headers[class];
            [("0.5", headers.p50), ("0.95", headers.p95)].into_iter().filter_map(move |(quantile, value)| {
                let labels = [name(zone), ("class", class.as_str()), ("quantile", quantile)];
                Some((labels, value?.as_secs_f64()))
            })
        })
    });
    let help = "Quantiles of how long headers take, of the last 30 to 60 s";
    families.gauges("zone_header_seconds", help, headers)?;
    families.gauges(
        "zone_bytes_per_second",
        "Speed of one body, on average of the last seconds that gave any",
        zones().filter_map(|zone| Some(([name(zone)], zone.throughput? as f64))),
    )
}
