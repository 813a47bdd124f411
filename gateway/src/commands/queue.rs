//! `queue`.

use std::process::ExitCode;
use std::time::Duration;

use operations::queue::SweepReport;
use operations::queue::{Changed, JOBS_MAX, JobReport, Park, Retry, jobs_table, sweep_text, table, why};
use operations::running::Running;

use super::output::{print, runtime};
use super::running::running;
use crate::arguments::{Output, QueueArguments, QueueCommand, State};

/// Between two looks at a sweep that is waited for.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Shows the queue of a running gateway, or changes it.
pub(crate) fn queue(arguments: &QueueArguments) -> anyhow::Result<ExitCode> {
    let running = running(arguments.admin, arguments.config.as_deref())?;
    let json = matches!(arguments.output, Output::Json);
    runtime()?.block_on(async {
        match &arguments.command {
            None => {
                let report = running.queue().await?;
                print(&if json { pretty(&report)? } else { table(&report) })
            }
            Some(QueueCommand::Ls { zone, state, limit }) => {
                let (jobs, more) = ls(&running, zone.as_deref(), *state, *limit).await?;
                print(&if json { pretty(&jobs)? } else { jobs_table(&jobs, more) })
            }
            Some(QueueCommand::Why { digest }) => {
                let jobs = running.jobs_of(digest).await?;
                print(&if json { pretty(&jobs)? } else { why(&digest.to_string(), &jobs) })
            }
            Some(QueueCommand::Retry { zone, digests, parked, failing }) => {
                let state = match (parked, failing) {
                    (true, _) => Some("parked".to_owned()),
                    (_, true) => Some("failing".to_owned()),
                    (false, false) => None,
                };
                let changed = retry(&running, zone.clone(), state, texts(digests)).await?;
                print(&if json {
                    pretty(&changed)?
                } else {
                    format!("{} jobs are tried again\n", changed.jobs)
                })
            }
            Some(QueueCommand::Sweep { start, wait }) => {
                let report = sweep(&running, *start, *wait, &arguments.output).await?;
                print(&if json { pretty(&report)? } else { sweep_text(&report) })
            }
            Some(QueueCommand::Park { digests, zone, reason }) => {
                let mut all = Changed { jobs: 0 };
                for digests in texts(digests).chunks(JOBS_MAX) {
                    let park = Park { zone: zone.clone(), digests: digests.into(), reason: reason.clone() };
                    all.jobs += running.park(&park).await?.jobs;
                }
                print(&if json { pretty(&all)? } else { format!("{} jobs are parked\n", all.jobs) })
            }
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// How far the sweep is; with `wait`, after the round that is under way, or begins.
async fn sweep(running: &Running, start: bool, wait: bool, output: &Output) -> anyhow::Result<SweepReport> {
    let before = running.sweep().await?;
    if start {
        running.begin_sweep().await?;
    }
    let mut shown = None;
    loop {
        let report = running.sweep().await?;
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
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Page after page; whether there may be more.
async fn ls(
    running: &Running,
    zone: Option<&str>,
    state: Option<State>,
    limit: usize,
) -> anyhow::Result<(Vec<JobReport>, bool)> {
    let mut all: Vec<JobReport> = Vec::new();
    while all.len() < limit {
        let asked = (limit - all.len()).min(JOBS_MAX);
        let page = running.jobs(zone, state.map(State::as_str), all.last(), asked).await?;
        let last = page.len() < asked;
        all.extend(page);
        if last {
            return Ok((all, false));
        }
    }
    Ok((all, true))
}

async fn retry(
    running: &Running,
    zone: Option<String>,
    state: Option<String>,
    digests: Vec<String>,
) -> anyhow::Result<Changed> {
    if digests.is_empty() {
        return running.retry(&Retry { zone, digests: None, state }).await;
    }
    let mut all = Changed { jobs: 0 };
    for digests in digests.chunks(JOBS_MAX) {
        let retry = Retry { zone: zone.clone(), digests: Some(digests.into()), state: state.clone() };
        all.jobs += running.retry(&retry).await?.jobs;
    }
    Ok(all)
}

fn texts(digests: &[backends::Digest]) -> Vec<String> {
    digests.iter().map(ToString::to_string).collect()
}

fn pretty<T: serde::Serialize>(value: &T) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}
