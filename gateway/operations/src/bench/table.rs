//! The results as text for people.

use std::fmt::Write as _;

use comfy_table::{Cell, CellAlignment, Color};

use super::BenchReport;
use super::figures::{or_dash, times};
use super::row::Row;

const HEADERS: &[&str] = &[
    "class",
    "path",
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

/// The most failures in the output. The files of a report have all.
const FAILURES_MAX: usize = 10;

/// A row for each size class and path, then the failures and the notes.
#[must_use]
pub fn table(report: &BenchReport) -> String {
    let headers = HEADERS.iter().map(|header| header.replace("Quay", report.registry));
    let mut table = crate::table::with_headers(headers);
    let mut class = None;
    for row in &report.rows {
        let again = class.replace(row.class) == Some(row.class);
        table.add_row(cells(report, row, again));
    }
    // Writing to a string does not fail.
    let mut text = format!("{table}\n");
    for (series, error, count) in report.failures.iter().take(FAILURES_MAX) {
        let _ = writeln!(text, "\n{}: {count} reads failed: {error}", report.label(series));
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
        "\n{right} reads in {} s, each with the right digest; {} at the same time",
        report.took.as_secs(),
        report.at_once
    );
    text
}

fn cells(report: &BenchReport, row: &Row, again: bool) -> Vec<Cell> {
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
    fn every_path_has_its_row_and_failures_are_shown() {
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
