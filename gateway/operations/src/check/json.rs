//! A report for programs.

use serde_json::{Value, json};

use super::RegistryReport;
use super::Report;
use super::step::{Outcome, Step, Steps};

/// The report as one JSON object, `{"registry": {…}, "zones": […], "journal": {…} or
/// null, "account", "database" and "lock" likewise, "warnings": […]}`.
#[must_use]
pub fn json(report: &Report) -> Value {
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
    let behalf = |name: &str| {
        let one = report.behalf.iter().find(|one| one.name == name);
        one.map(|one| json!({"ok": one.steps.passed(), "what": one.what, "steps": steps(&one.steps)}))
    };
    json!({
        "registry": registry(&report.registry),
        "account": behalf("account"),
        "database": behalf("database"),
        "lock": behalf("lock"),
        "zones": zones,
        "journal": report.journal.as_ref().map(|journal| json!({
            "ok": journal.steps.passed(),
            "database": journal.database,
            "steps": steps(&journal.steps),
        })),
        "warnings": report.warnings,
    })
}

/// The first instance; where there are several, all of them below it, and it is `ok` if all are.
fn registry(instances: &[RegistryReport]) -> Value {
    let one = |instance: &RegistryReport| {
        json!({
            "ok": instance.steps.passed(),
            "url": instance.url,
            "kind": instance.kind,
            "steps": steps(&instance.steps),
        })
    };
    let mut value = instances.first().map(one).unwrap_or_default();
    if instances.len() > 1 {
        value["ok"] = instances.iter().all(|instance| instance.steps.passed()).into();
        let all = instances.iter().map(|instance| {
            let mut value = one(instance);
            value["name"] = instance.name.as_str().into();
            value
        });
        value["instances"] = all.collect();
    }
    value
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
