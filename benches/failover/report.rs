//! What a run found out, as a table and as JSON.

use std::time::Duration;

use comfy_table::{Attribute, Cell, CellAlignment, Color, Table, presets};
use serde::{Serialize, Serializer};

use crate::sample::{Sample, failures};

/// A run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Cores that all share.
    pub(crate) cores: usize,
    /// Small blobs asked for a second, of each side.
    pub(crate) rate: u32,
    /// Of every store, milliseconds before an answer.
    pub(crate) latency_ms: u64,
    /// What was measured.
    pub(crate) rows: Vec<Row>,
}

/// One thing measured on both sides.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// What.
    what: String,
    /// What home does meanwhile.
    fault: &'static str,
    /// At the gateway.
    gateway: Value,
    /// In the unit of the values; at most this is the goal.
    goal: Option<f64>,
    /// At Quay alone.
    quay: Value,
    /// Blobs that did not come from the gateway, and from Quay, of so many.
    failed: Option<[(usize, usize); 2]>,
}

/// A number and its unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value {
    /// Milliseconds.
    Ms(f64),
    /// A multiple.
    Times(f64),
    /// Of all.
    Percent(f64),
    /// It does not come to an end.
    Never,
    /// Does not apply.
    None,
}

impl Value {
    /// A time that may never come.
    pub(crate) fn time(time: Option<Duration>) -> Self {
        time.map_or(Self::Never, |time| Self::Ms(time.as_secs_f64() * 1000.0))
    }

    /// A ratio with something that may never come.
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
    /// Shown without a goal.
    pub(crate) fn shown(what: &str, fault: &'static str, gateway: Value, quay: Value) -> Self {
        Self { what: what.to_owned(), fault, gateway, goal: None, quay, failed: None }
    }

    /// With a goal for the gateway, in the unit of its value.
    pub(crate) fn with_goal(self, goal: f64) -> Self {
        Self { goal: Some(goal), ..self }
    }

    /// With the blobs that did not come.
    pub(crate) fn with_failures(self, gateway: &[Sample], quay: &[Sample]) -> Self {
        let of = |samples: &[Sample]| (failures(samples), samples.len());
        Self { failed: Some([of(gateway), of(quay)]), ..self }
    }

    /// Whether no blob failed at the gateway, and its goal is reached.
    fn reached(&self) -> bool {
        let all_came = self.failed.is_none_or(|[(failed, _), _]| failed == 0);
        all_came && self.goal.is_none_or(|goal| self.gateway.number().is_some_and(|number| number <= goal))
    }
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
