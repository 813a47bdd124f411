//! The state of the zones as a table for people.

use std::fmt::Write as _;

use comfy_table::{Cell, Color};

use super::report::{ClassReport, ZoneReport, ZonesReport};

const HEADERS: &[&str] = &[
    "zone",
    "state",
    "since",
    "order",
    "p50/p95 ms: small",
    "medium",
    "large",
    "probe ms",
    "MB/s",
    "reads",
    "hedges",
    "lag",
];

/// One row for each zone, then the reason for each zone that is not healthy, and the last errors.
#[must_use]
pub fn table(report: &ZonesReport) -> String {
    let mut table = crate::table::with_headers(HEADERS);
    for zone in &report.zones {
        table.add_row(row(zone));
    }
    let mut text = format!("{table}\n");
    for zone in &report.zones {
        text.push_str(&zone_lines(zone));
    }
    if report.all_ejected {
        text.push_str("\nEVERY ZONE IS OUT OF USE: reads try the zone that failed least recently\n");
    }
    if report.observations_lost > 0 {
        // Writing to a string does not fail.
        let _ = writeln!(text, "\n{} zone events were lost under load", report.observations_lost);
    }
    text
}

fn row(zone: &ZoneReport) -> Vec<Cell> {
    let order = match zone.classes.iter().find(|class| class.class == "medium") {
        Some(ClassReport { place: Some(place), why: Some(why), .. }) => format!("{place}, {why}"),
        _ => "–".to_owned(),
    };
    let mut cells =
        vec![Cell::new(&zone.name), state_cell(zone), Cell::new(age(zone.since_seconds)), Cell::new(order)];
    cells.extend(zone.classes.iter().map(|class| Cell::new(quantiles(class))));
    let rate = zone.bytes_per_second.map(|rate| format!("{:.1}", rate as f64 / 1e6));
    let lag = match (zone.lag_seconds, zone.copies_waiting) {
        (Some(lag), Some(waiting)) => format!("{}, {waiting} copies", age(lag)),
        (None, Some(_)) => "none".to_owned(),
        _ => "?".to_owned(),
    };
    cells.extend([
        Cell::new(zone.probe.map_or_else(|| "–".to_owned(), milliseconds)),
        Cell::new(rate.unwrap_or_else(|| "–".to_owned())),
        Cell::new(format!("{:.0} %", zone.share_of_reads * 100.0)),
        Cell::new(format!("{} / {} won", zone.counts.hedged, zone.counts.hedges_won)),
        Cell::new(lag),
    ]);
    cells
}

/// The state of a zone, in its colour.
pub(crate) fn state_cell(zone: &ZoneReport) -> Cell {
    let colour = match zone.state.as_str() {
        "healthy" => Color::Green,
        "suspect" | "throttled" | "probation" | "drained" => Color::Yellow,
        "never read" => Color::Reset,
        _ => Color::Red,
    };
    Cell::new(&zone.state).fg(colour)
}

/// The median and the 95th percentile in milliseconds.
pub(crate) fn quantiles(class: &ClassReport) -> String {
    match (class.p50, class.p95) {
        (Some(p50), Some(p95)) => format!("{}/{}", milliseconds(p50), milliseconds(p95)),
        _ => "–".to_owned(),
    }
}

/// Milliseconds with as many digits as matter.
fn milliseconds(ms: f64) -> String {
    if ms < 10.0 { format!("{ms:.1}") } else { format!("{ms:.0}") }
}

/// The lines below the table about one zone.
fn zone_lines(zone: &ZoneReport) -> String {
    let mut text = String::new();
    let name = &zone.name;
    if let Some(reason) = &zone.reason {
        let _ = writeln!(text, "\nzone {name}: {}: {reason}", zone.state);
    } else if zone.drained_by_command {
        let _ = writeln!(text, "\nzone {name}: drained by command: quay-gateway zones undrain {name}");
    }
    if let (Some(error), Some(ago), None) = (&zone.last_error, zone.last_error_seconds, &zone.reason) {
        let _ = writeln!(text, "\nzone {name}: last error, {} ago: {error}", age(ago));
    }
    text
}

/// A time in one unit.
pub(crate) fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}
