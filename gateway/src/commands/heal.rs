//! `heal` and `backfill`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use gateway::audit::{self, Findings, Options};
use gateway::config::{self, Settings};
use gateway::queue::{Fed, Feed, Outcome, Plan};
use gateway::{Running, queue};
use tokio_util::sync::CancellationToken;

use super::audit::{options, progress, run};
use super::output::{print, runtime};
use super::signals;
use crate::arguments::{BackfillArguments, HealArguments, InventoryArguments, Output, QueueingArguments};

/// Queues what an audit found, or says what that would be.
pub(crate) fn heal(arguments: &HealArguments) -> anyhow::Result<ExitCode> {
    let settings = config::load(&arguments.inventory.config)?;
    let options = options(&arguments.inventory, &settings, "audit");
    let work = Work {
        settings: &settings,
        options: &options,
        inventory: &arguments.inventory,
        queueing: &arguments.queueing,
        go: !arguments.dry_run,
    };
    let (plan, fed) = work.run()?;
    print(&match arguments.output {
        Output::Table => queue::healed(&plan, fed),
        Output::Json => format!("{:#}\n", queue::healed_json(&plan, fed)),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What it takes to fill a zone; with `--go`, queues it.
pub(crate) fn backfill(arguments: &BackfillArguments) -> anyhow::Result<ExitCode> {
    let settings = config::load(&arguments.inventory.config)?;
    let zone = &arguments.zone;
    known(&settings, zone)?;
    let mut options = options(&arguments.inventory, &settings, &format!("backfill-{zone}"));
    options.targets = Some(vec![zone.clone()]);
    let target = settings.targets.contains(zone);
    if arguments.go && !target {
        anyhow::bail!("{}", queue::no_target(zone));
    }
    let work = Work {
        settings: &settings,
        options: &options,
        inventory: &arguments.inventory,
        queueing: &arguments.queueing,
        go: arguments.go,
    };
    let (plan, fed) = work.run()?;
    let rate = arguments.rate.map(|rate| rate.as_u64());
    let table = &settings.copy_limits.of(zone).bandwidth;
    let outcome = Outcome { zone, target, plan: &plan, rate, table, fed };
    print(&match arguments.output {
        Output::Table => outcome.text(),
        Output::Json => format!("{:#}\n", outcome.json()),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Whether there is a zone of this name.
pub(super) fn known(settings: &Settings, name: &str) -> anyhow::Result<()> {
    let names: Vec<_> = settings.zones.iter().map(|zone| zone.name.as_str()).collect();
    match names.contains(&name) {
        true => Ok(()),
        false => anyhow::bail!("there is no zone {name}; zones are {}", names.join(", ")),
    }
}

/// An inventory, or an earlier one, and what is queued of it.
struct Work<'a> {
    settings: &'a Settings,
    options: &'a Options,
    inventory: &'a InventoryArguments,
    queueing: &'a QueueingArguments,
    /// Whether to queue it.
    go: bool,
}

impl Work<'_> {
    fn run(&self) -> anyhow::Result<(Plan, Option<Fed>)> {
        let address = self.queueing.gateway.admin.unwrap_or(self.settings.admin_listen);
        let running = self.go.then(|| Running::at(address)).transpose()?;
        if let Some(running) = &running {
            // Better now than after an hour's inventory.
            runtime()?.block_on(running.zones())?;
        }
        if self.queueing.findings.is_none() {
            run(self.settings, self.options, progress(self.inventory.quiet), &mut |_| Ok(()))?;
        }
        let plan = Plan::of(self.findings()?)?;
        let Some(running) = running else { return Ok((plan, None)) };
        let file = self.file();
        let feed = Feed { running: &running, plan: &plan, file: &file, backlog: self.queueing.backlog.get() };
        let findings = self.findings()?;
        let runtime = runtime()?;
        let fed = runtime.block_on(async {
            let stop = CancellationToken::new();
            tokio::spawn(signals::stop(stop.clone())?);
            feed.run(findings, progress(self.inventory.quiet), &stop).await
        });
        runtime.shutdown_timeout(Duration::ZERO);
        let fed = fed?;
        Ok((plan, Some(fed)))
    }

    /// The file of findings that is meant.
    fn file(&self) -> PathBuf {
        match &self.queueing.findings {
            Some(Some(file)) => file.clone(),
            _ => audit::findings_file(&self.options.folder),
        }
    }

    fn findings(&self) -> anyhow::Result<Findings> {
        match &self.queueing.findings {
            Some(Some(file)) => audit::from_file(file, u64::MAX),
            _ => audit::findings(&self.options.folder),
        }
    }
}
