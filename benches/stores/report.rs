//! What a run found out, as a table and as JSON.

use std::time::Duration;

use benches::measure::{Cost, median};
use comfy_table::{Attribute, Cell, CellAlignment, Color, Table, presets};
use serde::Serialize;

/// Below this, ours is the slower side.
const GOAL: f64 = 1.0;

/// A run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// rclone's version.
    pub(crate) rclone: String,
    /// How long rclone takes to start and end without any work, seconds; part of its times below.
    pub(crate) rclone_start_s: f64,
    /// Turns of each side.
    pub(crate) rounds: usize,
    /// Small objects under way at once.
    pub(crate) at_once: usize,
    /// Cores that both sides and the servers share.
    pub(crate) cores: usize,
    /// The medians.
    pub(crate) rows: Vec<Row>,
}

/// One workload, one direction, one server.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// The server.
    pub(crate) store: &'static str,
    /// The workload, such as `1000 x 64 KiB`.
    pub(crate) work: String,
    /// Put or get.
    pub(crate) direction: Direction,
    /// Our side.
    pub(crate) ours: Side,
    /// rclone.
    pub(crate) rclone: Side,
    /// rclone's time by ours: above 1, ours is the faster.
    pub(crate) ratio: f64,
}

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Direction {
    /// Writing.
    #[serde(rename = "put")]
    Put,
    /// Reading what rclone wrote, and left its MD5 with.
    #[serde(rename = "get")]
    Get,
    /// Reading what was written in parts and has no MD5: rclone believes whatever it is given, while
    /// ours proves it as ever. Shown, and not part of the goal.
    #[serde(rename = "get, unchecked by rclone")]
    GetUnchecked,
}

impl Direction {
    fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::GetUnchecked => "get, unchecked by rclone",
        }
    }
}

/// One side's turns.
#[derive(Debug, Serialize)]
pub(crate) struct Side {
    /// The median from nothing to done, seconds.
    pub(crate) seconds: f64,
    /// Of the median, MiB per second.
    pub(crate) mib_per_s: f64,
    /// The median of processor time, seconds.
    pub(crate) cpu_s: f64,
    /// Every turn, seconds.
    pub(crate) turns: Vec<f64>,
}

impl Side {
    fn new(costs: &[Cost], bytes: u64) -> Self {
        let walls: Vec<Duration> = costs.iter().map(|cost| cost.wall).collect();
        let cpus: Vec<Duration> = costs.iter().map(|cost| cost.cpu).collect();
        let seconds = median(&walls).as_secs_f64();
        Self {
            seconds,
            mib_per_s: bytes as f64 / f64::from(1 << 20) / seconds,
            cpu_s: median(&cpus).as_secs_f64(),
            turns: walls.iter().map(Duration::as_secs_f64).collect(),
        }
    }
}

impl Row {
    /// From both sides' turns with `bytes` each.
    pub(crate) fn new(
        store: &'static str,
        work: String,
        direction: Direction,
        bytes: u64,
        (ours, rclone): (&[Cost], &[Cost]),
    ) -> Self {
        let (ours, rclone) = (Side::new(ours, bytes), Side::new(rclone, bytes));
        let ratio = rclone.seconds / ours.seconds;
        Self { store, work, direction, ours, rclone, ratio }
    }
}

impl Report {
    /// Whether no ratio of what both sides check is below the goal.
    pub(crate) fn reached(&self) -> bool {
        self.rows.iter().all(|row| row.ratio >= GOAL || row.direction == Direction::GetUnchecked)
    }

    /// The table.
    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN);
        let head = ["store", "work", "", "ours MiB/s", "rclone MiB/s", "ratio", "ours CPU s", "rclone CPU s"];
        table.set_header(head.map(|text| Cell::new(text).add_attribute(Attribute::Bold)));
        for row in &self.rows {
            let color = if row.ratio < GOAL { Color::Red } else { Color::Green };
            let number = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
            table.add_row([
                Cell::new(row.store),
                Cell::new(&row.work),
                Cell::new(row.direction.as_str()),
                number(format!("{:.0}", row.ours.mib_per_s)),
                number(format!("{:.0}", row.rclone.mib_per_s)),
                number(format!("{:.2}", row.ratio)).fg(color),
                number(format!("{:.2}", row.ours.cpu_s)),
                number(format!("{:.2}", row.rclone.cpu_s)),
            ]);
        }
        table
    }
}
