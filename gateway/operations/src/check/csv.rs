//! The result of a check as CSV: one line for each step.

use serde_json::{Value, json};

use super::{CheckReport, json};
use crate::records;

const COLUMNS: [&str; 9] = ["kind", "name", "step", "ok", "ms", "note", "error", "cause", "fix"];

/// The steps of everything that was checked.
#[must_use]
pub fn csv(report: &CheckReport) -> String {
    let all = json(report);
    let registry = &all["registry"];
    let instances =
        registry["instances"].as_array().map_or_else(|| vec![registry], |all| all.iter().collect());
    let mut lines = Vec::new();
    for instance in instances {
        let name = if instance["name"].is_null() { &instance["url"] } else { &instance["name"] };
        add(&mut lines, "registry", name, instance);
    }
    for kind in ["account", "database", "lock"] {
        add(&mut lines, kind, &all[kind]["what"], &all[kind]);
    }
    for zone in all["zones"].as_array().into_iter().flatten() {
        add(&mut lines, "zone", &zone["name"], zone);
    }
    add(&mut lines, "journal", &all["journal"]["database"], &all["journal"]);
    records::csv(&COLUMNS, &lines)
}

/// Adds the steps of one thing, of which there are none if it was not checked.
fn add(lines: &mut Vec<Value>, kind: &str, name: &Value, checked: &Value) {
    for step in checked["steps"].as_array().into_iter().flatten() {
        let mut line = step.clone();
        line["kind"] = json!(kind);
        line["name"] = name.clone();
        lines.push(line);
    }
}
