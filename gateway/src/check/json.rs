//! A report for programs.

use serde_json::{Value, json};

use super::Report;
use super::step::{Outcome, Step, Steps};

/// The report as one JSON object, `{"registry": {…}, "zones": […], "warnings": […]}`.
#[must_use]
pub fn json(report: &Report) -> Value {
    let registry = &report.registry;
    let zones: Vec<Value> = report
        .zones
        .iter()
        .map(|zone| {
            json!({
                "name": zone.name,
                "driver": zone.driver,
                "ok": zone.steps.passed(),
                "steps": steps(&zone.steps),
            })
        })
        .collect();
    json!({
        "registry": {
            "ok": registry.steps.passed(),
            "url": registry.url,
            "kind": registry.kind,
            "steps": steps(&registry.steps),
        },
        "zones": zones,
        "warnings": report.warnings,
    })
}

fn steps(steps: &Steps) -> Vec<Value> {
    steps.all().iter().map(step).collect()
}

fn step(step: &Step) -> Value {
    // To a tenth: a step on this machine takes less than a millisecond.
    let ms = step.took.map(|took| (took.as_secs_f64() * 10_000.0).round() / 10.0);
    let (ok, error) = match &step.outcome {
        Outcome::Passed(_) => (true, None),
        Outcome::Failed(error, _) => (false, Some(error.as_str())),
        Outcome::NotReached => (false, Some("not reached")),
    };
    let mut value = json!({"step": step.name.as_str(), "ok": ok, "ms": ms, "error": error});
    match &step.outcome {
        Outcome::Failed(_, advice) => {
            value["cause"] = advice.cause.as_str().into();
            value["fix"] = advice.fix.as_str().into();
        }
        Outcome::Passed(Some(note)) => value["note"] = note.text().into(),
        _ => {}
    }
    value
}
