use super::*;
use crate::reports::{CacheReport, CertificateReport, CertificatesReport, TrafficReport};
use crate::zones::{ClassReport, CountsReport, ZonesReport};

fn zone(name: &str, reads: u64, bytes: u64) -> ZoneReport {
    let class = |class: &str| ClassReport {
        class: class.to_owned(),
        place: Some(1),
        why: None,
        p50: Some(3.25),
        p95: Some(40.0),
        hedge_after: 10.0,
        overdue_after: 30.0,
    };
    ZoneReport {
        name: name.to_owned(),
        state: "healthy".to_owned(),
        since_seconds: 61,
        reason: None,
        drained_by_command: false,
        weight: 1.0,
        latency_hint: None,
        classes: ["small", "medium", "large"].map(class).to_vec(),
        probe: None,
        bytes_per_second: None,
        share_of_reads: 0.5,
        counts: CountsReport {
            reads,
            bytes,
            hedged: reads / 10,
            hedges_won: 0,
            overdue: 0,
            excused: 0,
            failures: 0,
            resumed_elsewhere: 0,
            wrong_bytes: 0,
            probes: 0,
            ejections: 0,
        },
        last_error: None,
        last_error_seconds: None,
        copies_waiting: Some(7),
        lag_seconds: Some(125),
    }
}

/// A sample at this second, after so many bodies from each source.
fn sample(seconds: u64, bodies: u64) -> TopSample {
    let bytes = bodies * 1_000_000;
    let source = |source: &str, times: u64| SourceReport {
        source: source.to_owned(),
        bodies: bodies * times,
        bytes: bytes * times,
    };
    let traffic =
        TrafficReport { requests: bodies * 5, sources: vec![source("hit", 3), source("zone=a", 1)] };
    let certificate = |name: &str, days_left| CertificateReport {
        name: name.to_owned(),
        file: "tls.crt".to_owned(),
        not_before: String::new(),
        not_after: String::new(),
        days_left,
    };
    let status =
        blob_cache::CacheStatus { blobs: 9, bytes: 250, capacity: 1000, fills: 2, pinned: 0, pinned_max: 0 };
    TopSample {
        at: Duration::from_secs(seconds),
        zones: ZonesReport {
            zones: vec![zone("a", bodies * 3, bytes), zone("b", bodies, 0)],
            all_ejected: false,
            observations_lost: 0,
        },
        cache: CacheReport::new(status, &traffic),
        traffic,
        certificates: CertificatesReport {
            certificates: vec![certificate("one", 12), certificate("two", -1)],
            loaded: 0,
            refused: 0,
        },
    }
}

/// The cells of the row that begins so.
fn row(frame: &str, first: &str) -> Vec<String> {
    let rows = frame.lines().map(|line| line.split(['│', '┆']).map(str::trim).collect::<Vec<_>>());
    let mut found = rows.filter(|row| row.get(1) == Some(&first));
    found.next().unwrap_or_default().into_iter().filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
}

#[test]
fn rates_are_those_between_two_samples() {
    let text = frame(&sample(10, 100), &sample(12, 140));
    assert!(text.contains("requests     100.0 a second, 700 since the start\n"), "{text}");
    assert!(text.contains("cache        250 B of 1000 B (25 %), 9 blobs, 2 fills\n"), "{text}");
    assert!(text.contains("75 % of blobs, 75 % of bytes; since the start 75 %, 75 %\n"), "{text}");
    assert!(text.contains("certificates one for 12 days, two HAS EXPIRED\n"), "{text}");
    let zone = ["a", "healthy", "3.2/40", "60.0", "75 %", "20.0", "6.0", "7, 2 min"];
    assert_eq!(row(&text, "a"), zone, "{text}");
    let all = ByteSize(420_000_000).to_string();
    assert_eq!(row(&text, "cache"), ["cache", "60.0", "60.0", "420", &all], "{text}");
    assert_eq!(row(&text, "zone=a")[1..3], ["20.0", "20.0"], "{text}");
}

#[test]
fn without_time_or_after_a_restart_there_are_no_rates() {
    for (before, now) in [(sample(10, 100), sample(10, 100)), (sample(10, 100), sample(12, 3))] {
        let text = frame(&before, &now);
        assert!(text.contains("requests     – a second"), "{text}");
        assert_eq!(row(&text, "a")[3], "–", "{text}");
        assert_eq!(row(&text, "cache")[1], "–", "{text}");
    }
}

#[test]
fn a_zone_that_is_not_healthy_has_its_reason() {
    let (before, mut now) = (sample(10, 1), sample(12, 1));
    now.zones.all_ejected = true;
    let zone = &mut now.zones.zones[1];
    (zone.state, zone.reason) = ("ejected".to_owned(), Some("unavailable: \u{1b}[2J".to_owned()));
    (zone.copies_waiting, zone.lag_seconds) = (None, None);
    let text = frame(&before, &now);
    assert!(text.contains("zone b: ejected: unavailable: ?[2J\n"), "{text}");
    assert!(text.contains("EVERY ZONE IS OUT OF USE"), "{text}");
    assert_eq!(row(&text, "b")[7], "?", "{text}");
    assert_eq!(row(&text, "b")[4], "–", "nothing was read: {text}");
}
