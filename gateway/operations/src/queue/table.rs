//! The queue for people.

use std::fmt::Write as _;
use std::time::Duration;

use bytesize::ByteSize;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};

use super::report::{QueueReport, ZoneQueue};
use crate::audit::{Count, printable, spoken, with_bytes};
use crate::queue::SweepReport;

const HEADS: &[&str] =
    &["zone", "waiting", "oldest", "under way", "failing", "parked", "rate", "left", "at risk"];

/// A line for each zone, then what is wrong with them.
#[must_use]
pub fn table(report: &QueueReport) -> String {
    let Some(zones) = &report.zones else {
        return "the journal cannot be read: the gateway's log says why\n".into();
    };
    let mut table = headed(HEADS);
    for zone in zones {
        table.add_row(row(zone));
    }
    let mut text = format!("{table}\n");
    for zone in zones {
        text.push_str(&told(zone));
    }
    text
}

/// The sweep in a line.
#[must_use]
pub fn sweep_text(report: &SweepReport) -> String {
    let time = |seconds: Option<u64>| spoken(Duration::from_secs(seconds.unwrap_or(0)));
    if !report.enabled {
        return "no sweep: it takes registry.account, targets of copies, and replication.sweep.enabled\n"
            .into();
    }
    let SweepReport { repositories, manifests, jobs, skipped, .. } = report;
    let done = format!(
        "{repositories} repositories, {manifests} manifests, {jobs} copies queued, {skipped} skipped"
    );
    let state = match (report.under_way, report.ended_seconds) {
        (true, _) => format!("under way for {}", time(report.began_seconds)),
        (false, Some(_)) => format!("ended {} ago", time(report.ended_seconds)),
        (false, None) => "no round so far".to_owned(),
    };
    let error = report.error.as_ref().map_or_else(String::new, |error| format!("; it cannot go on: {error}"));
    let at = report.repository.as_ref().map_or_else(String::new, |name| format!(", at {name}"));
    format!("sweep {state}: {done}{}{error}\n", printable(&at))
}

pub(super) fn headed(heads: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    // Without a terminal there is no width to keep to.
    if table.is_tty() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table.set_header(heads.iter().map(|head| Cell::new(head).add_attribute(Attribute::Bold)));
    table
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
    let time = |seconds: Option<u64>| seconds.map(|seconds| spoken(std::time::Duration::from_secs(seconds)));
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

/// What there is to say of one zone.
fn told(zone: &ZoneQueue) -> String {
    let mut text = String::new();
    let name = &zone.zone;
    // Writing to a string does not fail.
    if !zone.configured {
        let _ = writeln!(text, "\nzone {name} is not configured: put it back until its copies are done");
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
            "\nzone {name}: {} are parked: quay-gateway queue ls --zone {name} --state parked",
            zone.parked
        );
    }
    text
}
