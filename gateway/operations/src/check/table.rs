//! The result of a check as text for people.

use std::fmt::Write as _;

use comfy_table::{Cell, Color, Table};

use super::step::{Step, StepName, StepOutcome, Steps};
use super::{CheckReport, registry_name};

const REGISTRY: &[StepName] = &[
    StepName::Resolve,
    StepName::Connect,
    StepName::Tls,
    StepName::Challenge,
    StepName::Keys,
    StepName::Health,
];

const ZONES: &[StepName] = &[
    StepName::Resolve,
    StepName::Connect,
    StepName::Tls,
    StepName::Authenticate,
    StepName::Put,
    StepName::Head,
    StepName::Range,
    StepName::ReadBack,
];

/// The milliseconds of each step, then the failures with their likely cause and fix, and the warnings.
#[must_use]
pub fn table(report: &CheckReport) -> String {
    let mut text = String::new();
    let mut table = with_headers(&["registry", "kind"], REGISTRY);
    for instance in &report.registry {
        table.add_row(row(&[&instance.url, &instance.kind], &instance.steps, REGISTRY));
    }
    let mut zones = with_headers(&["zone", "driver"], ZONES);
    for zone in &report.zones {
        zones.add_row(row(&[&zone.name, &zone.driver], &zone.steps, ZONES));
    }
    // Writing to a string does not fail.
    let _ = writeln!(text, "milliseconds for each step\n{table}\n{zones}");
    if let Some(journal) = &report.journal {
        let mut table = with_headers(&["journal"], &[StepName::Journal]);
        table.add_row(row(&[&journal.database], &journal.steps, &[StepName::Journal]));
        let _ = writeln!(text, "{table}");
    }
    for one in &report.services {
        let names: Vec<_> = one.steps.all().iter().map(|step| step.name).collect();
        let mut table = with_headers(&[one.name], &names);
        table.add_row(row(&[&one.what], &one.steps, &names));
        let _ = writeln!(text, "{table}");
    }
    for instance in &report.registry {
        text.push_str(&step_lines(&registry_name(&report.registry, &instance.name), &instance.steps));
    }
    for zone in &report.zones {
        text.push_str(&step_lines(&format!("zone {}", zone.name), &zone.steps));
    }
    if let Some(journal) = &report.journal {
        text.push_str(&step_lines("journal", &journal.steps));
    }
    for one in &report.services {
        text.push_str(&step_lines(one.name, &one.steps));
    }
    for warning in &report.warnings {
        let _ = writeln!(text, "\nwarning: {warning}");
    }
    let _ = writeln!(text, "\n{}", verdict(report));
    text
}

/// The result in one line.
fn verdict(report: &CheckReport) -> String {
    let passed = report.zones.iter().filter(|zone| zone.steps.passed()).count();
    let mut parts = vec![registry(report), format!("{passed} of {} zones passed", report.zones.len())];
    let result = |steps: &Steps| if steps.passed() { "passed" } else { "failed" };
    parts.extend(report.journal.iter().map(|journal| format!("journal {}", result(&journal.steps))));
    parts.extend(report.services.iter().map(|one| format!("{} {}", one.name, result(&one.steps))));
    let failed = if report.passed() { "" } else { "FAILED: " };
    format!("{failed}{}", parts.join(", "))
}

/// The result of the registry's instances.
fn registry(report: &CheckReport) -> String {
    let passed = report.registry.iter().filter(|instance| instance.steps.passed()).count();
    match (report.registry.len(), passed) {
        (1, 0) => "registry failed".to_owned(),
        (1, _) => "registry passed".to_owned(),
        (all, passed) => format!("{passed} of {all} instances of the registry"),
    }
}

fn with_headers(first: &[&str], names: &[StepName]) -> Table {
    crate::table::with_headers(first.iter().copied().chain(names.iter().map(|name| name.as_str())))
}

fn row(first: &[&str], steps: &Steps, names: &[StepName]) -> Vec<Cell> {
    let all = steps.all();
    let unusable = all.iter().any(|step| step.name == StepName::Configuration);
    let cell = |name: &StepName| match all.iter().find(|step| step.name == *name) {
        Some(step) => self::cell(step),
        None if unusable && *name == names[0] => Cell::new("unusable").fg(Color::Red),
        None => Cell::new(""),
    };
    first.iter().map(|text| Cell::new(*text)).chain(names.iter().map(cell)).collect()
}

fn cell(step: &Step) -> Cell {
    match &step.outcome {
        StepOutcome::Passed(_) => Cell::new(format!("✓ {}", milliseconds(step))).fg(Color::Green),
        StepOutcome::Failed(..) => Cell::new(format!("✗ {}", milliseconds(step))).fg(Color::Red),
        StepOutcome::NotReached => Cell::new("–"),
    }
}

fn milliseconds(step: &Step) -> String {
    let ms = step.took.unwrap_or_default().as_secs_f64() * 1000.0;
    if ms < 10.0 { format!("{ms:.1}") } else { format!("{ms:.0}") }
}

/// The lines below the tables about the steps of one zone, instance or service.
fn step_lines(whose: &str, steps: &Steps) -> String {
    let mut text = String::new();
    for step in steps.all() {
        let name = step.name.as_str();
        let _ = match &step.outcome {
            StepOutcome::Failed(error, advice) => writeln!(
                text,
                "\n{whose}: {name} failed: {error}\n    likely  {}\n    fix     {}",
                advice.cause, advice.fix
            ),
            // Other notes, such as that a certificate is valid for long, are left out.
            StepOutcome::Passed(Some(note))
                if matches!(step.name, StepName::Challenge | StepName::Connect) =>
            {
                writeln!(text, "\n{whose}: {}", note.text())
            }
            _ => Ok(()),
        };
    }
    text
}
