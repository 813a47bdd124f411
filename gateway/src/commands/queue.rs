//! `queue`.

use std::process::ExitCode;
use std::time::Duration;

use operations::admin_client::AdminClient;
use operations::queue::SweepReport;
use operations::queue::{Changed, JOBS_MAX, JobReport, Park, Retry, jobs_table, sweep_text, table, why};

use super::admin_client::admin_client;
use super::output::{csv_of, print, rendered, runtime};
use crate::arguments::{Output, QueueArguments, QueueCommand, State};

/// How often `--wait` reads the progress of the sweep.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// The columns of a zone in CSV.
const ZONE_COLUMNS: [&str; 17] = [
    "zone",
    "configured",
    "unusable",
    "waiting",
    "waiting_bytes",
    "oldest_seconds",
    "failing",
    "attempts",
    "active",
    "parked",
    "parked_bytes",
    "last_error",
    "copies_per_second",
    "bytes_per_second",
    "eta_seconds",
    "at_risk_blobs",
    "at_risk_bytes",
];

/// The columns of a job in CSV.
const JOB_COLUMNS: [&str; 11] = [
    "zone",
    "digest",
    "state",
    "size",
    "since_seconds",
    "due_seconds",
    "attempts",
    "failed_seconds",
    "error",
    "parked_seconds",
    "repositories",
];

/// The columns of the sweep in CSV.
const SWEEP_COLUMNS: [&str; 11] = [
    "enabled",
    "under_way",
    "rounds",
    "began_seconds",
    "ended_seconds",
    "repositories",
    "repository",
    "manifests",
    "jobs",
    "skipped",
    "error",
];

/// Shows the queue of a running gateway, or changes it.
pub(crate) fn queue(arguments: &QueueArguments) -> anyhow::Result<ExitCode> {
    let admin_client = admin_client(&arguments.gateway, arguments.config.as_deref())?;
    let output = arguments.output;
    runtime()?.block_on(async {
        match &arguments.command {
            None => {
                let report = admin_client.queue().await?;
                print(&rendered(output, &report, || table(&report), csv_of(&ZONE_COLUMNS, Some("zones")))?)
            }
            Some(QueueCommand::Ls { zone, state, limit }) => {
                let (jobs, more) = ls(&admin_client, zone.as_deref(), *state, *limit).await?;
                print(&rendered(output, &jobs, || jobs_table(&jobs, more), csv_of(&JOB_COLUMNS, None))?)
            }
            Some(QueueCommand::Why { digest }) => {
                let jobs = admin_client.jobs_of(digest).await?;
                let text = || why(&digest.to_string(), &jobs);
                print(&rendered(output, &jobs, text, csv_of(&JOB_COLUMNS, None))?)
            }
            Some(QueueCommand::Retry { zone, digests, parked, failing }) => {
                let state = match (parked, failing) {
                    (true, _) => Some("parked".to_owned()),
                    (_, true) => Some("failing".to_owned()),
                    (false, false) => None,
                };
                let changed = retry(&admin_client, zone.clone(), state, texts(digests)).await?;
                let text = || format!("{} jobs are due now\n", changed.jobs);
                print(&rendered(output, &changed, text, csv_of(&["jobs"], None))?)
            }
            Some(QueueCommand::Sweep { start, wait }) => {
                let report = sweep(&admin_client, *start, *wait, &arguments.output).await?;
                print(&rendered(output, &report, || sweep_text(&report), csv_of(&SWEEP_COLUMNS, None))?)
            }
            Some(QueueCommand::Park { digests, zone, reason }) => {
                let mut all = Changed { jobs: 0 };
                for digests in texts(digests).chunks(JOBS_MAX) {
                    let park = Park { zone: zone.clone(), digests: digests.into(), reason: reason.clone() };
                    all.jobs += admin_client.park(&park).await?.jobs;
                }
                let text = || format!("{} jobs are parked\n", all.jobs);
                print(&rendered(output, &all, text, csv_of(&["jobs"], None))?)
            }
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The progress of the sweep. With `wait`, returns after the end of the round that is in progress or starts now.
async fn sweep(
    admin_client: &AdminClient,
    start: bool,
    wait: bool,
    output: &Output,
) -> anyhow::Result<SweepReport> {
    let before = admin_client.sweep().await?;
    if start {
        admin_client.begin_sweep().await?;
    }
    let mut shown = None;
    loop {
        let report = admin_client.sweep().await?;
        let ends = before.under_way || start;
        if !wait || !ends || report.rounds > before.rounds {
            return Ok(report);
        }
        if report.error.is_some() && shown.as_ref() != Some(&report.error) {
            eprintln!("{}", report.error.as_deref().unwrap_or_default());
        }
        shown = Some(report.error.clone());
        if matches!(output, Output::Table) {
            eprint!("{}", sweep_text(&report));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Lists jobs page by page. The second value says whether there may be more.
async fn ls(
    admin_client: &AdminClient,
    zone: Option<&str>,
    state: Option<State>,
    limit: usize,
) -> anyhow::Result<(Vec<JobReport>, bool)> {
    let mut all: Vec<JobReport> = Vec::new();
    while all.len() < limit {
        let asked = (limit - all.len()).min(JOBS_MAX);
        let page = admin_client.jobs(zone, state.map(State::as_str), all.last(), asked).await?;
        let last = page.len() < asked;
        all.extend(page);
        if last {
            return Ok((all, false));
        }
    }
    Ok((all, true))
}

async fn retry(
    admin_client: &AdminClient,
    zone: Option<String>,
    state: Option<String>,
    digests: Vec<String>,
) -> anyhow::Result<Changed> {
    if digests.is_empty() {
        return admin_client.retry(&Retry { zone, digests: None, state }).await;
    }
    let mut all = Changed { jobs: 0 };
    for digests in digests.chunks(JOBS_MAX) {
        let retry = Retry { zone: zone.clone(), digests: Some(digests.into()), state: state.clone() };
        all.jobs += admin_client.retry(&retry).await?.jobs;
    }
    Ok(all)
}

fn texts(digests: &[backends::Digest]) -> Vec<String> {
    digests.iter().map(ToString::to_string).collect()
}
