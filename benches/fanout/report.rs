//! What a run found out, as a table and as JSON.

use std::time::Duration;

use comfy_table::{Attribute, Cell, CellAlignment, Color, Table, presets};
use serde::Serialize;

/// A run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Cores that all share.
    pub(crate) cores: usize,
    /// Blobs, each copied into both other zones.
    pub(crate) blobs: usize,
    /// Their bytes, MiB.
    pub(crate) mib: f64,
    /// Of every store, before an answer.
    pub(crate) latency_ms: u128,
    /// rclone's version.
    pub(crate) rclone: String,
    /// What was measured.
    pub(crate) rows: Vec<Row>,
}

/// One thing measured.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    what: String,
    unit: &'static str,
    gateway: f64,
    rclone: Option<f64>,
    quay: Option<f64>,
    /// The gateway's value is at most this.
    goal: Option<f64>,
}

impl Row {
    /// A value of the gateway's.
    pub(crate) fn new(what: &str, unit: &'static str, gateway: f64) -> Self {
        Self { what: what.to_owned(), unit, gateway, rclone: None, quay: None, goal: None }
    }

    /// The same of the others.
    pub(crate) fn beside(self, rclone: Option<f64>, quay: Option<f64>) -> Self {
        Self { rclone, quay, ..self }
    }

    /// What is at most wanted.
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
    /// Whether every goal is reached.
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
