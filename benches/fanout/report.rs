//! The results of a run, as a table and as JSON.

use std::time::Duration;

use comfy_table::{Attribute, Cell, CellAlignment, Color, Table, presets};
use serde::Serialize;

/// The results of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The number of cores that all processes share.
    pub(crate) cores: usize,
    /// The number of blobs. Each is copied into both other zones.
    pub(crate) blobs: usize,
    /// The size of the blobs together, in MiB.
    pub(crate) mib: f64,
    /// Latency of each store before an answer, in milliseconds.
    pub(crate) latency_ms: u128,
    /// rclone's version.
    pub(crate) rclone: String,
    /// The measurements.
    pub(crate) rows: Vec<Row>,
}

/// One measurement.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    what: String,
    unit: &'static str,
    gateway: f64,
    rclone: Option<f64>,
    quay: Option<f64>,
    /// The upper bound for the gateway's value.
    goal: Option<f64>,
}

impl Row {
    /// A row with the gateway's value.
    pub(crate) fn new(what: &str, unit: &'static str, gateway: f64) -> Self {
        Self { what: what.to_owned(), unit, gateway, rclone: None, quay: None, goal: None }
    }

    /// Adds the values of the others.
    pub(crate) fn beside(self, rclone: Option<f64>, quay: Option<f64>) -> Self {
        Self { rclone, quay, ..self }
    }

    /// Adds a goal for the gateway.
    pub(crate) fn with_goal(self, goal: f64) -> Self {
        Self { goal: Some(goal), ..self }
    }

    fn reached(&self) -> bool {
        self.goal.is_none_or(|goal| self.gateway <= goal)
    }
}

/// A time in seconds.
pub(crate) fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

impl Report {
    /// Whether every goal is met.
    pub(crate) fn reached(&self) -> bool {
        self.rows.iter().all(Row::reached)
    }

    /// The table.
    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN);
        let head = ["measured", "", "gateway", "goal", "rclone", "Quay's worker"];
        table.set_header(head.map(|text| Cell::new(text).add_attribute(Attribute::Bold)));
        for row in &self.rows {
            let number = |value: Option<f64>| {
                let text = value.map_or_else(String::new, |value| format!("{value:.2}"));
                Cell::new(text).set_alignment(CellAlignment::Right)
            };
            let color = if row.reached() { Color::Green } else { Color::Red };
            let mut gateway = number(Some(row.gateway));
            if row.goal.is_some() {
                gateway = gateway.fg(color);
            }
            let goal = row.goal.map_or_else(String::new, |goal| format!("≤ {goal:.2}"));
            table.add_row([
                Cell::new(&row.what),
                Cell::new(row.unit),
                gateway,
                Cell::new(goal).set_alignment(CellAlignment::Right),
                number(row.rclone),
                number(row.quay),
            ]);
        }
        table
    }
}
