//! The queue of copies as a table for people.

use std::fmt::Write as _;
use std::time::Duration;

use bytesize::ByteSize;
use comfy_table::{Cell, Color};

use super::report::{QueueReport, ZoneQueue};
use crate::audit::{Count, human_duration, printable, with_bytes};
use crate::queue::SweepReport;

const HEADERS: &[&str] =
    &["zone", "waiting", "oldest", "under way", "failing", "parked", "rate", "left", "at risk"];

/// One row for each zone, then what is wrong with each.
#[must_use]
pub fn table(report: &QueueReport) -> String {
    let Some(zones) = &report.zones else {
        return "the journal cannot be read: the gateway's log says why\n".into();
    };
    let mut table = crate::table::with_headers(HEADERS);
    for zone in zones {
        table.add_row(row(zone));
    }
    let mut text = format!("{table}\n");
    for zone in zones {
        text.push_str(&zone_lines(zone));
    }
    text
}

/// The progress of the sweep in one line.
#[must_use]
pub fn sweep_text(report: &SweepReport) -> String {
    let time = |seconds: Option<u64>| human_duration(Duration::from_secs(seconds.unwrap_or(0)));
    if !report.enabled {
        return "no sweep: it needs registry.account, target zones, and replication.sweep.enabled\n".into();
    }
    let SweepReport { repositories, manifests, jobs, skipped, .. } = report;
    let done = format!(
        "{repositories} repositories, {manifests} manifests, {jobs} copies queued, {skipped} skipped"
    );
    let state = match (report.under_way, report.ended_seconds) {
        (true, _) => format!("in progress for {}", time(report.began_seconds)),
        (false, Some(_)) => format!("ended {} ago", time(report.ended_seconds)),
        (false, None) => "no round so far".to_owned(),
    };
    let error =
        report.error.as_ref().map_or_else(String::new, |error| format!("; it cannot continue: {error}"));
    let at = report.repository.as_ref().map_or_else(String::new, |name| format!(", at {name}"));
    format!("sweep {state}: {done}{}{error}\n", printable(&at))
}

fn row(zone: &ZoneQueue) -> Vec<Cell> {
    let count = |objects, bytes| with_bytes(Count { objects, bytes });
    let coloured = |value: u64, colour| match value {
        0 => Cell::new("0"),
        some => Cell::new(some).fg(colour),
    };
    let rate = match zone.copies_per_second > 0.0 || zone.bytes_per_second > 0.0 {
        true => format!("{:.1}/s, {}/s", zone.copies_per_second, ByteSize(zone.bytes_per_second as u64)),
        false => "–".to_owned(),
    };
    let time =
        |seconds: Option<u64>| seconds.map(|seconds| human_duration(std::time::Duration::from_secs(seconds)));
    let left = match zone.waiting {
        0 => "–".to_owned(),
        _ => time(zone.eta_seconds).unwrap_or_else(|| "?".to_owned()),
    };
    let risk = zone.at_risk_blobs.zip(zone.at_risk_bytes);
    vec![
        Cell::new(&zone.zone),
        Cell::new(count(zone.waiting, zone.waiting_bytes)),
        Cell::new(time(zone.oldest_seconds).unwrap_or_else(|| "–".to_owned())),
        Cell::new(zone.active),
        coloured(zone.failing, Color::Yellow),
        coloured(zone.parked, Color::Red),
        Cell::new(rate),
        Cell::new(left),
        Cell::new(risk.map_or_else(|| "–".to_owned(), |(blobs, bytes)| count(blobs, bytes))),
    ]
}

/// The lines below the table about one zone.
fn zone_lines(zone: &ZoneQueue) -> String {
    let mut text = String::new();
    let name = &zone.zone;
    // Writing to a string does not fail.
    if !zone.configured {
        let _ = writeln!(text, "\nzone {name} is not configured: add it again until its copies are done");
    }
    if let Some(unusable) = &zone.unusable {
        let _ = writeln!(text, "\nzone {name} cannot be used: {unusable}");
    }
    if let Some(error) = &zone.last_error {
        let _ = writeln!(text, "\nzone {name}: last error: {error}");
    }
    if zone.parked > 0 {
        let _ = writeln!(
            text,
            "\nzone {name}: {} are parked: `quay-gateway queue ls --zone {name} --state parked` lists them",
            zone.parked
        );
    }
    text
}
