//! A report for people, at the terminal.

use std::fmt::Write as _;

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};

use super::Report;
use super::figures::{or_dash, times};
use super::row::Row;

const HEADS: &[&str] = &[
    "class",
    "way",
    "reads",
    "first byte ms: p50",
    "p95",
    "max",
    "× of Quay",
    "whole ms: p50",
    "p95",
    "MB/s",
    "× of Quay",
    "from cache",
    "failed",
];

/// Failures told at the end; the files of a report have all.
const FAILURES_MAX: usize = 10;

/// A line for each class and way, then what went wrong and what else there is to know. In colour and
/// within its width on a terminal.
#[must_use]
pub fn table(report: &Report) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    // Without a terminal there is no width to keep to.
    if table.is_tty() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    let heads = HEADS.iter().map(|head| head.replace("Quay", report.registry));
    table.set_header(heads.map(|head| Cell::new(head).add_attribute(Attribute::Bold)));
    let mut class = None;
    for row in &report.rows {
        let again = class.replace(row.class) == Some(row.class);
        table.add_row(cells(report, row, again));
    }
    // Writing to a string does not fail.
    let mut text = format!("{table}\n");
    for (series, said, count) in report.failures.iter().take(FAILURES_MAX) {
        let _ = writeln!(text, "\n{}: {count} reads failed: {said}", report.label(series));
    }
    if let Some(more @ 1..) = report.failures.len().checked_sub(FAILURES_MAX) {
        let _ = writeln!(text, "\nand {more} other failures");
    }
    for note in &report.notes {
        let _ = writeln!(text, "\nnote: {note}");
    }
    let right: usize = report.rows.iter().map(|row| row.right).sum();
    let _ = writeln!(
        text,
        "\n{right} reads in {} s, every byte of them hashed and right; {} at the same moment",
        report.took.as_secs(),
        report.at_once
    );
    text
}

fn cells(report: &Report, row: &Row, again: bool) -> Vec<Cell> {
    let wrong = row.failed + row.wrong;
    let failed = match (row.wrong, wrong) {
        (_, 0) => Cell::new("0"),
        (0, _) => Cell::new(wrong).fg(Color::Red),
        (wrong_bytes, _) => Cell::new(format!("{wrong}, {wrong_bytes} with wrong bytes")).fg(Color::Red),
    };
    let reads = match row.absent {
        0 => row.reads().to_string(),
        absent => format!("{}, {absent} absent", row.reads()),
    };
    let hits = if row.series.is_gateway() { format!("{} of {}", row.hits, row.right) } else { String::new() };
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    let first = |of: fn(&super::Spread) -> f64| right(or_dash(row.first_byte.as_ref().map(of)));
    let whole = |of: fn(&super::Spread) -> f64| right(or_dash(row.whole.as_ref().map(of)));
    vec![
        Cell::new(if again { "" } else { row.class.as_str() }),
        Cell::new(report.label(&row.series)),
        right(reads),
        first(|of| of.p50),
        first(|of| of.p95),
        first(|of| of.max),
        right(times(row.first_byte_ratio)),
        whole(|of| of.p50),
        whole(|of| of.p95),
        right(or_dash(row.rate)),
        right(times(row.rate_ratio)),
        right(hits),
        failed.set_alignment(CellAlignment::Right),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;

    #[test]
    fn every_way_has_its_line_and_failures_are_told() {
        let text = table(&example());
        for wanted in [
            "zone-a",
            "gateway, later",
            "12 of 12",
            "\ndead: 24 reads failed: get: unavailable",
            "note: a note",
            "120 reads in 12 s",
            "× of Quay",
        ] {
            assert!(text.contains(wanted), "{wanted}\n{text}");
        }
    }
}
