//! The result of a check as JSON.

use serde_json::{Value, json};

use super::CheckReport;
use super::RegistryCheck;
use super::step::{Step, StepOutcome, Steps};

/// The report as one JSON object, `{"registry": {…}, "zones": […], "journal": {…} or
/// null, "account", "database", "lock", "certificate" and "admin" likewise, "warnings": […]}`.
#[must_use]
pub fn json(report: &CheckReport) -> Value {
    let zones: Vec<Value> = report
        .zones
        .iter()
        .map(|zone| {
            json!({
                "name": zone.name,
                "driver": zone.driver,
                "proxy": zone.proxy,
                "ok": zone.steps.passed(),
                "steps": steps(&zone.steps),
            })
        })
        .collect();
    let services = |name: &str| {
        let one = report.services.iter().find(|one| one.name == name);
        one.map(|one| json!({"ok": one.steps.passed(), "what": one.what, "steps": steps(&one.steps)}))
    };
    json!({
        "registry": registry(&report.registry),
        "account": services("account"),
        "database": services("database"),
        "lock": services("lock"),
        "certificate": services("certificate"),
        "admin": services("admin"),
        "zones": zones,
        "journal": report.journal.as_ref().map(|journal| json!({
            "ok": journal.steps.passed(),
            "database": journal.database,
            "steps": steps(&journal.steps),
        })),
        "warnings": report.warnings,
    })
}

/// The first instance. If there are several, `instances` lists all of them, and `ok` is true if all are.
fn registry(instances: &[RegistryCheck]) -> Value {
    let one = |instance: &RegistryCheck| {
        json!({
            "ok": instance.steps.passed(),
            "url": instance.url,
            "kind": instance.kind,
            "proxy": instance.proxy,
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
    // Rounded to a tenth, because a step on the same machine takes less than a millisecond.
    let ms = step.took.map(|took| (took.as_secs_f64() * 10_000.0).round() / 10.0);
    let (ok, error) = match &step.outcome {
        StepOutcome::Passed(_) => (true, None),
        StepOutcome::Failed(error, _) => (false, Some(error.as_str())),
        StepOutcome::NotReached => (false, Some("not reached")),
    };
    let mut value = json!({"step": step.name.as_str(), "ok": ok, "ms": ms, "error": error});
    match &step.outcome {
        StepOutcome::Failed(_, advice) => {
            value["cause"] = advice.cause.as_str().into();
            value["fix"] = advice.fix.as_str().into();
        }
        StepOutcome::Passed(Some(note)) => value["note"] = note.text().into(),
        _ => {}
    }
    value
}
