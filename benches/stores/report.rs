//! The results of a run, as a table and as JSON.

use std::time::Duration;

use benches::measure::{Cost, median};
use comfy_table::{Attribute, Cell, CellAlignment, Color, Table, presets};
use serde::Serialize;

/// Below this ratio, our side is slower.
const GOAL: f64 = 1.0;

/// The results of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// rclone's version.
    pub(crate) rclone: String,
    /// The time of rclone's start and end without work, in seconds. It is part of its times below.
    pub(crate) rclone_start_s: f64,
    /// Turns of each side.
    pub(crate) rounds: usize,
    /// Concurrent small objects.
    pub(crate) at_once: usize,
    /// The number of cores that both sides and the servers share.
    pub(crate) cores: usize,
    /// The medians.
    pub(crate) rows: Vec<Row>,
}

/// One workload, direction and server.
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
    /// rclone's time divided by ours. Above 1, our side is faster.
    pub(crate) ratio: f64,
}

/// The direction of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Direction {
    /// Writing.
    #[serde(rename = "put")]
    Put,
    /// Reading what rclone wrote with an MD5.
    #[serde(rename = "get")]
    Get,
    /// Reading what was written in parts without an MD5. rclone does not verify it, our side does. It is
    /// shown, but has no goal.
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

/// The turns of one side.
#[derive(Debug, Serialize)]
pub(crate) struct Side {
    /// The median of the elapsed time, in seconds.
    pub(crate) seconds: f64,
    /// The speed at the median, in MiB per second.
    pub(crate) mib_per_s: f64,
    /// The median of the processor time, in seconds.
    pub(crate) cpu_s: f64,
    /// The elapsed time of every turn, in seconds.
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
    /// A row from the turns of both sides, with `bytes` bytes each.
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
    /// Whether every ratio with a goal meets it.
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
