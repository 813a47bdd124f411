//! A report for people.

use std::fmt::Write as _;

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};

use super::step::{Name, Outcome, Step, Steps};
use super::{Report, registry_name};

const REGISTRY: &[Name] =
    &[Name::Resolve, Name::Connect, Name::Tls, Name::Challenge, Name::Keys, Name::Health];

const ZONES: &[Name] = &[
    Name::Resolve,
    Name::Connect,
    Name::Tls,
    Name::Authenticate,
    Name::Put,
    Name::Head,
    Name::Range,
    Name::ReadBack,
];

/// Milliseconds for each step, then what failed, why and what mends it, and warnings. In colour
/// and within its width on a terminal.
#[must_use]
pub fn table(report: &Report) -> String {
    let mut text = String::new();
    let mut table = headed(&["registry", "kind"], REGISTRY);
    for instance in &report.registry {
        table.add_row(row(&[&instance.url, &instance.kind], &instance.steps, REGISTRY));
    }
    let mut zones = headed(&["zone", "driver"], ZONES);
    for zone in &report.zones {
        zones.add_row(row(&[&zone.name, &zone.driver], &zone.steps, ZONES));
    }
    // Writing to a string does not fail.
    let _ = writeln!(text, "milliseconds for each step\n{table}\n{zones}");
    if let Some(journal) = &report.journal {
        let mut table = headed(&["journal"], &[Name::Journal]);
        table.add_row(row(&[&journal.database], &journal.steps, &[Name::Journal]));
        let _ = writeln!(text, "{table}");
    }
    for one in &report.behalf {
        let names: Vec<_> = one.steps.all().iter().map(|step| step.name).collect();
        let mut table = headed(&[one.name], &names);
        table.add_row(row(&[&one.what], &one.steps, &names));
        let _ = writeln!(text, "{table}");
    }
    for instance in &report.registry {
        text.push_str(&told(&registry_name(&report.registry, &instance.name), &instance.steps));
    }
    for zone in &report.zones {
        text.push_str(&told(&format!("zone {}", zone.name), &zone.steps));
    }
    if let Some(journal) = &report.journal {
        text.push_str(&told("journal", &journal.steps));
    }
    for one in &report.behalf {
        text.push_str(&told(one.name, &one.steps));
    }
    for warning in &report.warnings {
        let _ = writeln!(text, "\nwarning: {warning}");
    }
    let _ = writeln!(text, "\n{}", verdict(report));
    text
}

/// All that was checked, in a line.
fn verdict(report: &Report) -> String {
    let passed = report.zones.iter().filter(|zone| zone.steps.passed()).count();
    let mut parts = vec![registry(report), format!("{passed} of {} zones passed", report.zones.len())];
    let word = |steps: &Steps| if steps.passed() { "passed" } else { "failed" };
    parts.extend(report.journal.iter().map(|journal| format!("journal {}", word(&journal.steps))));
    parts.extend(report.behalf.iter().map(|one| format!("{} {}", one.name, word(&one.steps))));
    let failed = if report.passed() { "" } else { "FAILED: " };
    format!("{failed}{}", parts.join(", "))
}

/// How the registry fared.
fn registry(report: &Report) -> String {
    let passed = report.registry.iter().filter(|instance| instance.steps.passed()).count();
    match (report.registry.len(), passed) {
        (1, 0) => "registry failed".to_owned(),
        (1, _) => "registry passed".to_owned(),
        (all, passed) => format!("{passed} of {all} instances of the registry"),
    }
}

fn headed(first: &[&str], names: &[Name]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    // Without a terminal there is no width to keep to.
    if table.is_tty() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    let heads = first.iter().copied().chain(names.iter().map(|name| name.as_str()));
    table.set_header(heads.map(|head| Cell::new(head).add_attribute(Attribute::Bold)));
    table
}

fn row(first: &[&str], steps: &Steps, names: &[Name]) -> Vec<Cell> {
    let all = steps.all();
    let unusable = all.iter().any(|step| step.name == Name::Configuration);
    let cell = |name: &Name| match all.iter().find(|step| step.name == *name) {
        Some(step) => self::cell(step),
        None if unusable && *name == names[0] => Cell::new("unusable").fg(Color::Red),
        None => Cell::new(""),
    };
    first.iter().map(|text| Cell::new(*text)).chain(names.iter().map(cell)).collect()
}

fn cell(step: &Step) -> Cell {
    match &step.outcome {
        Outcome::Passed(_) => Cell::new(format!("✓ {}", milliseconds(step))).fg(Color::Green),
        Outcome::Failed(..) => Cell::new(format!("✗ {}", milliseconds(step))).fg(Color::Red),
        Outcome::NotReached => Cell::new("–"),
    }
}

fn milliseconds(step: &Step) -> String {
    let ms = step.took.unwrap_or_default().as_secs_f64() * 1000.0;
    if ms < 10.0 { format!("{ms:.1}") } else { format!("{ms:.0}") }
}

/// What there is to say of the steps of one.
fn told(whose: &str, steps: &Steps) -> String {
    let mut text = String::new();
    for step in steps.all() {
        let name = step.name.as_str();
        let _ = match &step.outcome {
            Outcome::Failed(error, advice) => writeln!(
                text,
                "\n{whose}: {name} failed: {error}\n    likely  {}\n    fix     {}",
                advice.cause, advice.fix
            ),
            // Certificates that are good for long are no news.
            Outcome::Passed(Some(note)) if step.name == Name::Challenge => {
                writeln!(text, "\n{whose}: {}", note.text())
            }
            _ => Ok(()),
        };
    }
    text
}
