//! A report for people.

use std::fmt::Write as _;

use bytesize::ByteSize;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};

use super::finding::{Finding, Kind};
use super::tally::{Count, ZoneTally};
use super::{Report, findings_file, spoken};

/// Findings that are shown one by one.
pub const SHOWN: usize = 20;

const HEADS: &[&str] =
    &["zone", "blobs", "bytes", "missing", "wrong", "read and hashed", "strays", "orphans"];

/// A line for each zone, the first findings, and where the others are.
#[must_use]
pub fn table(report: &Report, first: &[Finding]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    // Without a terminal there is no width to keep to.
    if table.is_tty() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table.set_header(HEADS.iter().map(|head| Cell::new(head).add_attribute(Attribute::Bold)));
    let (tally, plan) = (&report.done.tally, &report.done.plan);
    for zone in &tally.zones {
        table.add_row(row(zone, plan.deep.is_some(), plan.registry));
    }
    let mut text = format!("{table}\n");
    for finding in first {
        text.push_str(&told(finding));
    }
    // Writing to a string does not fail.
    let found: u64 = tally.zones.iter().map(|zone| zone.all_found(|_| true).objects).sum();
    let more = found.saturating_sub(first.len() as u64);
    let file = findings_file(&report.folder);
    if more > 0 {
        let _ = writeln!(text, "… and {more} more: all of them are in {}", file.display());
    }
    if tally.recent > 0 {
        let _ = writeln!(
            text,
            "\n{} blobs were written too lately (--min-age) to say anything of them",
            tally.recent
        );
    }
    for note in &report.notes {
        let _ = writeln!(text, "\nnote: {note}");
    }
    let blobs = &tally.blobs;
    let _ = writeln!(
        text,
        "\n{}: {} blobs, {}, in {}",
        match tally.wrong() {
            0 => "nothing is missing or wrong".to_owned(),
            wrong => format!("{wrong} missing or wrong (`quay-gateway heal` queues copies)"),
        },
        blobs.objects,
        ByteSize(blobs.bytes),
        spoken(report.took),
    );
    text
}

fn row(zone: &ZoneTally, deep: bool, registry: bool) -> Vec<Cell> {
    let missing = zone.found(Kind::Missing);
    let wrong = zone.all_found(|kind| kind.is_wrong() && kind != Kind::Missing);
    let orphans = zone.all_found(|kind| matches!(kind, Kind::Orphan | Kind::Unplaced));
    let bad = |count: Count| {
        let cell = Cell::new(with_bytes(count));
        if count.objects > 0 { cell.fg(Color::Red) } else { cell.fg(Color::Green) }
    };
    vec![
        Cell::new(&zone.name),
        Cell::new(zone.blobs.objects),
        Cell::new(ByteSize(zone.blobs.bytes)),
        if zone.target { bad(missing) } else { Cell::new("no target") },
        bad(wrong),
        Cell::new(if deep { with_bytes(zone.hashed) } else { "–".to_owned() }),
        Cell::new(with_bytes(zone.found(Kind::Stray))),
        Cell::new(if registry { with_bytes(orphans) } else { "–".to_owned() }),
    ]
}

/// Objects and their bytes, for people.
#[must_use]
pub fn with_bytes(count: Count) -> String {
    match count.objects {
        0 => "0".to_owned(),
        objects => format!("{objects}, {}", ByteSize(count.bytes)),
    }
}

fn told(finding: &Finding) -> String {
    let mut text = format!("{:<13}{}  {}", finding.kind.as_str(), finding.zone, printable(&finding.name()));
    if let Some(size) = finding.size {
        let _ = write!(text, "  {size} bytes");
    }
    match finding.expected {
        Some(expected) if finding.size == Some(expected) => {
            text.push_str(", as many as it should have, and others");
        }
        Some(expected) if finding.size.is_some() => {
            let _ = write!(text, " instead of {expected}");
        }
        Some(expected) => {
            let _ = write!(text, "  {expected} bytes");
        }
        None => {}
    }
    if let Some(told) = &finding.told {
        let _ = write!(text, "  ({})", printable(told));
    }
    text + "\n"
}

/// Without what would steer a terminal: names at a store may be anybody's.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use backends::Digest;

    use super::*;

    #[test]
    fn what_differs_is_said() {
        let mut finding = Finding::of(Kind::WrongBytes, "b", Digest::EMPTY, Some(308_504));
        finding.expected = Some(308_504);
        assert!(told(&finding).ends_with("  308504 bytes, as many as it should have, and others\n"));
        finding.expected = Some(9);
        assert!(told(&finding).ends_with("  308504 bytes instead of 9\n"));
        finding.size = None;
        assert!(told(&finding).ends_with("  9 bytes\n"));
    }
}
