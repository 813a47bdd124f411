//! `bench zones`.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use backends::Secret;
use config::{self, Account};
use operations::bench::{self, Folder, Options, Progress};

use super::output::{print, runtime};
use crate::arguments::{BenchZonesArguments, Output};

/// Measures zones, the registry's own way and the gateway's; fails if any read did.
pub(crate) fn bench_zones(arguments: BenchZonesArguments) -> anyhow::Result<ExitCode> {
    let settings = config::load(&arguments.config)?;
    let account = match (arguments.username, &arguments.password_file) {
        (Some(username), Some(file)) => Some(Account { username, password: password(file)? }),
        _ => None,
    };
    let folder = arguments.report.as_deref().map(Folder::make).transpose()?;
    let options = Options {
        images: arguments.images,
        reads: arguments.reads,
        at_once: arguments.at_once,
        account,
        gateway: arguments.gateway,
        at_most: arguments.at_most,
    };
    let progress = match arguments.output {
        Output::Table => Progress::on_terminal(),
        Output::Json => Progress::hidden(),
    };
    let runtime = runtime()?;
    let report = runtime.block_on(bench::run(&settings, &options, progress));
    // A folder that hangs, or a name that does not resolve, must not keep the process.
    runtime.shutdown_timeout(Duration::ZERO);
    let report = report?;
    if let Some(folder) = &folder {
        folder.write(&report)?;
    }
    print(&match (arguments.output, &arguments.report) {
        (Output::Json, _) => format!("{:#}\n", bench::json(&report)),
        (Output::Table, None) => bench::table(&report),
        (Output::Table, Some(path)) => {
            format!("{}\nthe report is {}\n", bench::table(&report), path.join("report.html").display())
        }
    })?;
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn password(file: &Path) -> anyhow::Result<Secret> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("--password-file: cannot read {}", file.display()))?;
    Ok(Secret::new(text.trim_end_matches(['\r', '\n'])))
}
