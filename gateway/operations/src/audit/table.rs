//! The result of an audit as text for people.

use std::fmt::Write as _;

use bytesize::ByteSize;
use comfy_table::{Cell, Color};

use super::finding::{Finding, FindingKind};
use super::tally::{Count, ZoneTally};
use super::{AuditReport, findings_file, human_duration};

/// The most findings that the output shows.
pub const SHOWN: usize = 20;

const HEADERS: &[&str] =
    &["zone", "blobs", "bytes", "missing", "wrong", "read and hashed", "strays", "orphans"];

/// A row for each zone, the first findings, and the file with all findings.
#[must_use]
pub fn table(report: &AuditReport, first: &[Finding]) -> String {
    let mut table = crate::table::with_headers(HEADERS);
    let (tally, plan) = (&report.done.tally, &report.done.plan);
    for zone in &tally.zones {
        table.add_row(row(zone, plan.deep.is_some(), plan.registry));
    }
    let mut text = format!("{table}\n");
    for finding in first {
        text.push_str(&finding_line(finding));
    }
    // Writing to a string does not fail.
    let found: u64 = tally.zones.iter().map(|zone| zone.all_found(|_| true).objects).sum();
    let more = found.saturating_sub(first.len() as u64);
    let file = findings_file(&report.folder);
    if more > 0 {
        let _ = writeln!(text, "… and {more} more: all of them are in {}", file.display());
    }
    if tally.recent > 0 {
        let _ =
            writeln!(text, "\n{} blobs were written too recently (--min-age) to be compared", tally.recent);
    }
    for note in &report.notes {
        let _ = writeln!(text, "\nnote: {note}");
    }
    let blobs = &tally.blobs;
    if blobs.objects == 0 {
        text.push_str(
            "\nnote: no blob was found in any zone: check that these are the registry's stores, and that they are mounted\n",
        );
    }
    let _ = writeln!(
        text,
        "\n{}: {} blobs, {}, in {}",
        match tally.wrong() {
            0 => "nothing is missing or wrong".to_owned(),
            wrong => format!("{wrong} missing or wrong (`quay-gateway heal` queues copies)"),
        },
        blobs.objects,
        ByteSize(blobs.bytes),
        human_duration(report.took),
    );
    text
}

fn row(zone: &ZoneTally, deep: bool, registry: bool) -> Vec<Cell> {
    let missing = zone.found(FindingKind::Missing);
    let wrong = zone.all_found(|kind| kind.is_wrong() && kind != FindingKind::Missing);
    let orphans = zone.all_found(|kind| matches!(kind, FindingKind::Orphan | FindingKind::Unplaced));
    let bad = |count: Count| {
        let cell = Cell::new(with_bytes(count));
        if count.objects > 0 { cell.fg(Color::Red) } else { cell.fg(Color::Green) }
    };
    vec![
        Cell::new(&zone.name),
        Cell::new(zone.blobs.objects),
        Cell::new(ByteSize(zone.blobs.bytes)),
        if zone.target { bad(missing) } else { Cell::new("not a target") },
        bad(wrong),
        Cell::new(if deep { with_bytes(zone.hashed) } else { "–".to_owned() }),
        Cell::new(with_bytes(zone.found(FindingKind::Stray))),
        Cell::new(if registry { with_bytes(orphans) } else { "–".to_owned() }),
    ]
}

/// The number of objects and their bytes as text.
#[must_use]
pub fn with_bytes(count: Count) -> String {
    match count.objects {
        0 => "0".to_owned(),
        objects => format!("{objects}, {}", ByteSize(count.bytes)),
    }
}

fn finding_line(finding: &Finding) -> String {
    let mut text = format!("{:<13}{}  {}", finding.kind.as_str(), finding.zone, printable(&finding.name()));
    if let Some(size) = finding.size {
        let _ = write!(text, "  {size} bytes");
    }
    match finding.expected {
        Some(expected) if finding.size == Some(expected) => {
            text.push_str(", the right size, but other bytes");
        }
        Some(expected) if finding.size.is_some() => {
            let _ = write!(text, " instead of {expected}");
        }
        Some(expected) => {
            let _ = write!(text, "  {expected} bytes");
        }
        None => {}
    }
    if let Some(detail) = &finding.detail {
        let _ = write!(text, "  ({})", printable(detail));
    }
    text + "\n"
}

/// Replaces control characters, because anybody may have chosen the names in a store.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use backends::Digest;

    use super::*;

    #[test]
    fn a_line_names_the_difference() {
        let mut finding = Finding::of(FindingKind::WrongBytes, "b", Digest::EMPTY, Some(308_504));
        finding.expected = Some(308_504);
        assert!(finding_line(&finding).ends_with("  308504 bytes, the right size, but other bytes\n"));
        finding.expected = Some(9);
        assert!(finding_line(&finding).ends_with("  308504 bytes instead of 9\n"));
        finding.size = None;
        assert!(finding_line(&finding).ends_with("  9 bytes\n"));
    }
}
