//! `check` and `check-config`.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use config::{Settings, Summary};
use operations::check::{self, CheckProgress};
use serde_json::{Value, json};

use super::output::{csv_of, print, rendered, runtime};
use crate::arguments::Output;
use crate::exit;

/// The columns of a setting in CSV.
const SETTING_COLUMNS: [&str; 3] = ["zone", "key", "value"];

/// Prints the settings and the warnings.
pub(crate) fn check_config(path: &Path, output: Output) -> anyhow::Result<ExitCode> {
    let summary = summary(&config::load(path)?)?;
    let csv = |_: &Value| csv_of(&SETTING_COLUMNS, None)(&records(&summary));
    print(&rendered(output, &summary, || summary.to_string(), csv)?)?;
    Ok(ExitCode::SUCCESS)
}

/// The settings and the warnings, without secrets.
pub(super) fn summary(settings: &Settings) -> anyhow::Result<Summary> {
    let mut summary = Summary::of(settings);
    summary.warnings.extend(gateway::rehearse(settings)?);
    Ok(summary)
}

/// One record for each setting and each warning. What is said of a zone has its name.
fn records(summary: &Summary) -> Value {
    let record =
        |zone: Option<&str>, key: &str, value: Value| json!({"zone": zone, "key": key, "value": value});
    let own = summary.settings.iter().map(|one| record(None, &one.key, one.value.clone().into()));
    let zones = summary.zones.iter().flat_map(|zone| {
        let name = Some(zone.name.as_str());
        let facts = [
            record(name, "driver", zone.driver.clone().into()),
            record(name, "home", zone.home.into()),
            record(name, "target", zone.target.into()),
        ];
        facts
            .into_iter()
            .chain(zone.settings.iter().map(move |one| record(name, &one.key, one.value.clone().into())))
    });
    let warnings = summary.warnings.iter().map(|warning| record(None, "warning", warning.clone().into()));
    own.chain(zones).chain(warnings).collect()
}

/// Checks the registry and every zone. The exit status is 0 only if everything passed.
pub(crate) fn check(path: &Path, output: Output, timeout: Option<Duration>) -> anyhow::Result<ExitCode> {
    let settings = config::load(path)?;
    let progress = match output {
        Output::Table => CheckProgress::on_terminal(),
        Output::Json | Output::Yaml | Output::Csv => CheckProgress::hidden(),
    };
    let runtime = runtime()?;
    let report = runtime.block_on(check::run(&settings, timeout, progress))?;
    let text = rendered(output, &check::json(&report), || check::table(&report), |_| check::csv(&report))?;
    let written = print(&text);
    // A folder that hangs or a name that does not resolve must not keep the process alive.
    runtime.shutdown_timeout(Duration::ZERO);
    written?;
    Ok(exit::of_check(report.passed()))
}
