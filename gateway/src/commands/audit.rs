//! `audit`.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use config::{self, Settings};
use operations::audit::{self, Begin, CSV_HEAD, Finding, Options, Progress, Report, SHOWN};
use tokio_util::sync::CancellationToken;

use super::output::{Out, runtime};
use super::signals;
use crate::arguments::{AuditArguments, AuditOutput, InventoryArguments};

/// Something is missing or wrong.
pub(super) const EXIT_FOUND: u8 = 3;

/// Compares the zones, and says what it found.
pub(crate) fn audit(arguments: &AuditArguments) -> anyhow::Result<ExitCode> {
    let settings = config::load(&arguments.inventory.config)?;
    let mut options = options(&arguments.inventory, &settings, "audit");
    options.deep = arguments.deep;
    options.seed = arguments.seed;
    options.strays = arguments.strays;
    options.database = !arguments.zones_alone;
    let mut out = Out::open(arguments.to.as_deref())?;
    let mut first = Vec::new();
    if arguments.output == AuditOutput::Csv {
        out.write(CSV_HEAD)?;
    }
    let mut found = |finding: &Finding| {
        if first.len() < SHOWN {
            first.push(finding.clone());
        }
        match arguments.output {
            AuditOutput::Csv => out.write(&finding.csv()),
            AuditOutput::Table | AuditOutput::Json => Ok(()),
        }
    };
    let report = run(&settings, &options, progress(arguments.inventory.quiet), &mut found)?;
    match arguments.output {
        AuditOutput::Table => out.write(&audit::table(&report, &first))?,
        AuditOutput::Json => write_json(&report, &mut out)?,
        AuditOutput::Csv => {}
    }
    out.end()?;
    Ok(exit(&report))
}

/// How an inventory is made, in a folder of this name unless one is given.
pub(super) fn options(arguments: &InventoryArguments, settings: &Settings, folder: &str) -> Options {
    let default = || settings.state_dir.join(folder);
    Options {
        folder: arguments.folder.clone().unwrap_or_else(default),
        begin: begin(arguments.resume, arguments.fresh),
        without: arguments.without.clone(),
        targets: None,
        deep: None,
        seed: 0,
        strays: false,
        min_age: arguments.min_age,
        oldest: None,
        database: false,
    }
}

pub(super) fn begin(resume: bool, fresh: bool) -> Begin {
    match (resume, fresh) {
        (true, _) => Begin::Resume,
        (_, true) => Begin::Fresh,
        (false, false) => Begin::IfNone,
    }
}

pub(super) fn progress(quiet: bool) -> Progress {
    if quiet { Progress::hidden() } else { Progress::shown() }
}

/// An inventory until it is done, or the process is told to end.
pub(super) fn run(
    settings: &Settings,
    options: &Options,
    progress: Progress,
    found: &mut (dyn FnMut(&Finding) -> anyhow::Result<()> + Send),
) -> anyhow::Result<Report> {
    let runtime = runtime()?;
    let report = runtime.block_on(async {
        let stop = CancellationToken::new();
        tokio::spawn(signals::stop(stop.clone(), CancellationToken::new())?);
        audit::run(settings, options, progress, &stop, found).await
    });
    // A folder that hangs, or a name that does not resolve, must not keep the process.
    runtime.shutdown_timeout(Duration::ZERO);
    let report = report?;
    // Whatever the output: a zone that nobody looked at is no detail.
    report.notes.iter().for_each(|note| eprintln!("note: {note}"));
    Ok(report)
}

fn exit(report: &Report) -> ExitCode {
    match report.is_fine() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(EXIT_FOUND),
    }
}

/// One object; its findings go from file to file, as they may be millions.
fn write_json(report: &Report, out: &mut Out) -> anyhow::Result<()> {
    let head = format!("{:#}", audit::json(report));
    // The object is not empty: it ends in a line that holds its brace alone.
    out.write(head.strip_suffix("\n}").unwrap_or(&head))?;
    out.write(",\n  \"findings\": [")?;
    write_findings(&report.folder, out)?;
    out.write("]\n}\n")
}

fn write_findings(folder: &Path, out: &mut Out) -> anyhow::Result<()> {
    let mut between = "\n    ";
    for finding in audit::findings(folder)? {
        out.write(between)?;
        out.write(&serde_json::to_string(&finding?)?)?;
        between = ",\n    ";
    }
    Ok(())
}
