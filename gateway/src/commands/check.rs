//! `check` and `check-config`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use operations::check::{self, Progress};

use super::output::{print, runtime};
use crate::arguments::Output;

/// Prints what was understood.
pub(crate) fn check_config(path: &Path) -> anyhow::Result<ExitCode> {
    let settings = config::load(path)?;
    let mut text = config::summary(&settings);
    for unusable in gateway::rehearse(&settings)? {
        // Writing to a string does not fail.
        let _ = writeln!(text, "\nwarning: {unusable}");
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Tries the registry and every zone; fails unless everything passed.
pub(crate) fn check(path: &Path, output: Output, timeout: Option<Duration>) -> anyhow::Result<ExitCode> {
    let settings = config::load(path)?;
    let progress = match output {
        Output::Table => Progress::on_terminal(),
        Output::Json => Progress::hidden(),
    };
    let runtime = runtime()?;
    let report = runtime.block_on(check::run(&settings, timeout, progress))?;
    let text = match output {
        Output::Table => check::table(&report),
        Output::Json => format!("{:#}\n", check::json(&report)),
    };
    let written = print(&text);
    // A folder that hangs, or a name that does not resolve, must not keep the process.
    runtime.shutdown_timeout(Duration::ZERO);
    written?;
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
