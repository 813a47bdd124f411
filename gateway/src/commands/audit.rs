//! `audit`.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use config::{self, Settings};
use operations::audit::{self, AuditOptions, AuditReport, CSV_HEAD, Finding, Progress, SHOWN, StartMode};
use operations::records;
use tokio_util::sync::CancellationToken;

use super::output::{ResultWriter, runtime};
use super::signals;
use crate::arguments::{AuditArguments, AuditOutput, InventoryArguments};
use crate::exit;

/// Audits the zones and prints the findings.
pub(crate) fn audit(arguments: &AuditArguments) -> anyhow::Result<ExitCode> {
    let settings = config::load(&arguments.inventory.config)?;
    let mut options = options(&arguments.inventory, &settings, "audit");
    options.deep = arguments.deep;
    options.seed = arguments.seed;
    options.strays = arguments.strays;
    options.database = !arguments.zones_alone;
    let mut out = ResultWriter::open(arguments.to.as_deref())?;
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
            AuditOutput::Table | AuditOutput::Json | AuditOutput::Yaml => Ok(()),
        }
    };
    let report = run(&settings, &options, progress(arguments.inventory.quiet), &mut found)?;
    match arguments.output {
        AuditOutput::Table => out.write(&audit::table(&report, &first))?,
        AuditOutput::Json => write_json(&report, &mut out)?,
        AuditOutput::Yaml => write_yaml(&report, &mut out)?,
        AuditOutput::Csv => {}
    }
    out.end()?;
    Ok(exit::of_search(report.is_fine()))
}

/// The options of an inventory. Without `--folder`, it uses a folder of this name in `state_dir`.
pub(super) fn options(arguments: &InventoryArguments, settings: &Settings, folder: &str) -> AuditOptions {
    let default = || settings.state_dir.join(folder);
    AuditOptions {
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

pub(super) fn begin(resume: bool, fresh: bool) -> StartMode {
    match (resume, fresh) {
        (true, _) => StartMode::Resume,
        (_, true) => StartMode::Fresh,
        (false, false) => StartMode::New,
    }
}

pub(super) fn progress(quiet: bool) -> Progress {
    if quiet { Progress::hidden() } else { Progress::shown() }
}

/// Runs an inventory until it is done or the process gets a signal.
pub(super) fn run(
    settings: &Settings,
    options: &AuditOptions,
    progress: Progress,
    found: &mut (dyn FnMut(&Finding) -> anyhow::Result<()> + Send),
) -> anyhow::Result<AuditReport> {
    let runtime = runtime()?;
    let report = runtime.block_on(async {
        let stop = CancellationToken::new();
        tokio::spawn(signals::stop(stop.clone(), CancellationToken::new())?);
        audit::run(settings, options, progress, &stop, found).await
    });
    // A folder that hangs or a name that does not resolve must not keep the process alive.
    runtime.shutdown_timeout(Duration::ZERO);
    let report = report?;
    // Notes are printed with every output format, because a zone that was not audited is important.
    report.notes.iter().for_each(|note| eprintln!("note: {note}"));
    Ok(report)
}

/// Writes one JSON object. The findings are copied from their file one by one, because there may be millions.
fn write_json(report: &AuditReport, out: &mut ResultWriter) -> anyhow::Result<()> {
    let head = format!("{:#}", audit::json(report));
    // The object is not empty, so its last line is its closing brace.
    out.write(head.strip_suffix("\n}").unwrap_or(&head))?;
    out.write(",\n  \"findings\": [")?;
    write_findings(&report.folder, out)?;
    out.write("]\n}\n")
}

/// Writes the same as YAML. Each finding is a line of JSON, which YAML includes.
fn write_yaml(report: &AuditReport, out: &mut ResultWriter) -> anyhow::Result<()> {
    out.write(&records::yaml(&audit::json(report))?)?;
    out.write("findings: [")?;
    write_findings(&report.folder, out)?;
    out.write("]\n")
}

fn write_findings(folder: &Path, out: &mut ResultWriter) -> anyhow::Result<()> {
    let mut between = "\n    ";
    for finding in audit::findings(folder)? {
        out.write(between)?;
        out.write(&serde_json::to_string(&finding?)?)?;
        between = ",\n    ";
    }
    Ok(())
}
