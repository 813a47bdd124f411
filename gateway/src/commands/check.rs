//! `check` and `check-config`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use config::Settings;
use operations::check::{self, CheckProgress};

use super::output::{print, rendered, runtime};
use crate::arguments::Output;
use crate::exit;

/// Prints the settings and the warnings.
pub(crate) fn check_config(path: &Path) -> anyhow::Result<ExitCode> {
    print(&summary(&config::load(path)?)?)?;
    Ok(ExitCode::SUCCESS)
}

/// The settings and the warnings as text, without secrets.
pub(super) fn summary(settings: &Settings) -> anyhow::Result<String> {
    let mut text = config::summary(settings);
    for unusable in gateway::rehearse(settings)? {
        // Writing to a string does not fail.
        let _ = writeln!(text, "\nwarning: {unusable}");
    }
    Ok(text)
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
