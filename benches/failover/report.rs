//! The results of a run, as a table and as JSON.

use std::time::Duration;

use comfy_table::{Attribute, Cell, CellAlignment, Color, Table, presets};
use serde::{Serialize, Serializer};

use crate::sample::{Sample, failures};

/// The results of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The number of cores that all processes share.
    pub(crate) cores: usize,
    /// Small blobs that each side requests per second.
    pub(crate) rate: u32,
    /// Latency of each store before an answer, in milliseconds.
    pub(crate) latency_ms: u64,
    /// The measurements.
    pub(crate) rows: Vec<Row>,
}

/// One measurement on both sides.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// What was measured.
    what: String,
    /// The fault of home during the measurement.
    fault: &'static str,
    /// The value with the gateway.
    gateway: Value,
    /// The upper bound for the gateway's value, in the same unit.
    goal: Option<f64>,
    /// The value with Quay only.
    quay: Value,
    /// The number of failed blobs and of all blobs, for the gateway and for Quay.
    failed: Option<[(usize, usize); 2]>,
}

/// A number and its unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value {
    /// Milliseconds.
    Ms(f64),
    /// A ratio.
    Times(f64),
    /// A percentage.
    Percent(f64),
    /// An infinite time.
    Never,
    /// Does not apply.
    None,
}

impl Value {
    /// A time. `None` means infinite.
    pub(crate) fn time(time: Option<Duration>) -> Self {
        time.map_or(Self::Never, |time| Self::Ms(time.as_secs_f64() * 1000.0))
    }

    /// A ratio. `None` means that one of the two times is infinite.
    pub(crate) fn ratio(ratio: Option<f64>) -> Self {
        ratio.map_or(Self::Never, Self::Times)
    }

    fn number(self) -> Option<f64> {
        match self {
            Self::Ms(number) | Self::Times(number) | Self::Percent(number) => Some(number),
            Self::Never | Self::None => None,
        }
    }

    fn text(self) -> String {
        match self {
            Self::Ms(ms) => format!("{ms:.0} ms"),
            Self::Times(times) => format!("{times:.2}"),
            Self::Percent(percent) => format!("{percent:.1} %"),
            Self::Never => "never".to_owned(),
            Self::None => String::new(),
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self, self.number()) {
            (_, Some(number)) => serializer.serialize_f64(number),
            (Self::Never, None) => serializer.serialize_str("never"),
            _ => serializer.serialize_none(),
        }
    }
}

impl Row {
    /// A row without a goal.
    pub(crate) fn shown(what: &str, fault: &'static str, gateway: Value, quay: Value) -> Self {
        Self { what: what.to_owned(), fault, gateway, goal: None, quay, failed: None }
    }

    /// Adds a goal for the gateway, in the unit of its value.
    pub(crate) fn with_goal(self, goal: f64) -> Self {
        Self { goal: Some(goal), ..self }
    }

    /// Adds the numbers of failed blobs.
    pub(crate) fn with_failures(self, gateway: &[Sample], quay: &[Sample]) -> Self {
        let of = |samples: &[Sample]| (failures(samples), samples.len());
        Self { failed: Some([of(gateway), of(quay)]), ..self }
    }

    /// Whether no blob failed at the gateway and its goal is met.
    fn reached(&self) -> bool {
        let all_came = self.failed.is_none_or(|[(failed, _), _]| failed == 0);
        all_came && self.goal.is_none_or(|goal| self.gateway.number().is_some_and(|number| number <= goal))
    }
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
        let head = ["measured", "home", "gateway", "goal", "Quay alone", "failed: gateway", "failed: Quay"];
        table.set_header(head.map(|text| Cell::new(text).add_attribute(Attribute::Bold)));
        for row in &self.rows {
            let number = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
            let color = if row.reached() { Color::Green } else { Color::Red };
            let mut gateway = number(row.gateway.text());
            if row.goal.is_some() || !row.reached() {
                gateway = gateway.fg(color);
            }
            let goal = row.goal.map(|goal| match row.gateway {
                Value::Times(_) => Value::Times(goal),
                Value::Percent(_) => Value::Percent(goal),
                _ => Value::Ms(goal),
            });
            let failed = |side: usize| {
                row.failed.map_or_else(String::new, |failed| format!("{}/{}", failed[side].0, failed[side].1))
            };
            table.add_row([
                Cell::new(&row.what),
                Cell::new(row.fault),
                gateway,
                number(goal.map_or_else(String::new, |goal| format!("≤ {}", goal.text()))),
                number(row.quay.text()),
                number(failed(0)),
                number(failed(1)),
            ]);
        }
        table
    }
}
