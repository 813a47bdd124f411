//! `bench zones`.

use std::process::ExitCode;
use std::time::Duration;

use config::{self, Account};
use operations::bench::{self, BenchOptions, BenchProgress, ReportFolder};

use super::output::{print, rendered, runtime};
use super::reading::password;
use crate::arguments::{BenchZonesArguments, Output};
use crate::exit;

/// Runs the benchmark and prints the results. The exit status is 1 if a read failed.
pub(crate) fn bench_zones(arguments: BenchZonesArguments) -> anyhow::Result<ExitCode> {
    let settings = config::load(&arguments.config)?;
    let account = match (arguments.username, &arguments.password_file) {
        (Some(username), Some(file)) => Some(Account { username, password: password(file)? }),
        _ => None,
    };
    let folder = arguments.report.as_deref().map(ReportFolder::make).transpose()?;
    let options = BenchOptions {
        images: arguments.images,
        reads: arguments.reads,
        at_once: arguments.at_once,
        account,
        gateway: arguments.gateway,
        at_most: arguments.at_most,
    };
    let progress = match arguments.output {
        Output::Table => BenchProgress::on_terminal(),
        Output::Json | Output::Yaml | Output::Csv => BenchProgress::hidden(),
    };
    let runtime = runtime()?;
    let report = runtime.block_on(bench::run(&settings, &options, progress));
    // A folder that hangs or a name that does not resolve must not keep the process alive.
    runtime.shutdown_timeout(Duration::ZERO);
    let report = report?;
    if let Some(folder) = &folder {
        folder.write(&report)?;
    }
    let table = || match &arguments.report {
        None => bench::table(&report),
        Some(path) => format!("{}\nthe report is in {}\n", bench::table(&report), path.display()),
    };
    print(&rendered(arguments.output, &bench::json(&report), table, |_| bench::csv(&report))?)?;
    Ok(exit::of_check(report.passed()))
}
