//! `heal` and `backfill`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use config::{self, RegistryKind, Settings};
use operations::audit::{self, Checkpoint, Findings, Options};
use operations::queue::{self, Fed, Feed, Outcome, Plan};
use tokio_util::sync::CancellationToken;

use super::audit::{EXIT_FOUND, options, progress, run};
use super::output::{print, runtime};
use super::running::described;
use super::signals;
use crate::arguments::{BackfillArguments, HealArguments, InventoryArguments, Output, QueueingArguments};

/// Queues what an audit found, or says what that would be.
pub(crate) fn heal(arguments: &HealArguments) -> anyhow::Result<ExitCode> {
    let settings = config::load(&arguments.inventory.config)?;
    let mut options = options(&arguments.inventory, &settings, "audit");
    options.database = !arguments.queueing.unknown;
    let work = Work {
        settings: &settings,
        options: &options,
        inventory: &arguments.inventory,
        queueing: &arguments.queueing,
        zone: None,
        go: !arguments.dry_run,
    };
    let Done { plan, fed, seen } = work.run()?;
    print(&match arguments.output {
        Output::Table => queue::healed(&plan, fed),
        Output::Json => format!("{:#}\n", queue::healed_json(&plan, fed)),
    })?;
    Ok(match seen && plan.beyond.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(EXIT_FOUND),
    })
}

/// What it takes to fill a zone; with `--go`, queues it.
pub(crate) fn backfill(arguments: &BackfillArguments) -> anyhow::Result<ExitCode> {
    let settings = config::load(&arguments.inventory.config)?;
    let zone = &arguments.zone;
    known(&settings, zone)?;
    let mut options = options(&arguments.inventory, &settings, &format!("backfill-{zone}"));
    options.targets = Some(vec![zone.clone()]);
    options.database = !arguments.queueing.unknown;
    let target = settings.targets.contains(zone);
    if arguments.go && !target {
        anyhow::bail!("{}", queue::no_target(zone));
    }
    let work = Work {
        settings: &settings,
        options: &options,
        inventory: &arguments.inventory,
        queueing: &arguments.queueing,
        zone: Some(zone),
        go: arguments.go,
    };
    let Done { plan, fed, seen } = work.run()?;
    if !seen {
        anyhow::bail!(
            "zone {zone} cannot be used, so nothing can be said of it: `quay-gateway check` says more"
        );
    }
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
    /// The one zone that is filled, if not all are healed.
    zone: Option<&'a str>,
    /// Whether to queue it.
    go: bool,
}

/// What came of it.
struct Done {
    plan: Plan,
    fed: Option<Fed>,
    /// Whether every zone was looked at where every blob should be.
    seen: bool,
}

impl Work<'_> {
    fn run(&self) -> anyhow::Result<Done> {
        let admin = self.queueing.gateway.admin;
        let running = self.go.then(|| described(admin, self.settings)).transpose()?;
        if let Some(running) = &running {
            // Better now than after an hour's inventory.
            runtime()?.block_on(running.zones())?;
        }
        let mut seen = true;
        if self.queueing.findings.is_none() {
            let report = run(self.settings, self.options, progress(self.inventory.quiet), &mut |_| Ok(()))?;
            seen = report.unseen.is_empty();
        }
        let began = self.checkpoint()?.map(|checkpoint| checkpoint.began);
        let plan = match self.zone {
            Some(zone) => Plan::of_zone(self.findings()?, zone, self.queueing.unknown)?,
            None => Plan::of(self.findings()?, self.targets(), self.queueing.unknown)?,
        };
        if plan.unasked > 0 && self.settings.replication.placements.is_some() && !self.queueing.unknown {
            anyhow::bail!(
                "these findings do not say what Quay's database has (audit --zones-alone, or an earlier release): \
                 run this without --findings, or with --unknown to copy also what it does not have"
            );
        }
        let Some(running) = running.filter(|_| seen || self.zone.is_none()) else {
            return Ok(Done { plan, fed: None, seen });
        };
        let file = self.file();
        let backlog = self.queueing.backlog.get();
        let feed = Feed { running: &running, plan: &plan, file: &file, began, backlog };
        let runtime = runtime()?;
        let fed = runtime.block_on(async {
            let stop = CancellationToken::new();
            tokio::spawn(signals::stop(stop.clone(), CancellationToken::new())?);
            feed.run(|| self.findings(), progress(self.inventory.quiet), &stop).await
        });
        runtime.shutdown_timeout(Duration::ZERO);
        let fed = Some(fed?);
        Ok(Done { plan, fed, seen })
    }

    /// The zones that the running gateway takes copies for.
    fn targets(&self) -> BTreeSet<String> {
        let settings = self.settings;
        // A distribution registry reads its own storage only, and that is home.
        let home = settings.zones.first().filter(|_| settings.registry_kind == RegistryKind::Distribution);
        settings.targets.iter().chain(home.map(|home| &home.name)).cloned().collect()
    }

    /// The inventory whose findings are meant, which has ended; none where a file of findings is named.
    fn checkpoint(&self) -> anyhow::Result<Option<Checkpoint>> {
        if matches!(self.queueing.findings, Some(Some(_))) {
            return Ok(None);
        }
        let folder = &self.options.folder;
        let checkpoint = audit::found(folder)?;
        if checkpoint.as_ref().is_some_and(|checkpoint| !checkpoint.done) {
            anyhow::bail!(
                "the inventory in {} was cut, so its findings are not all: without --findings, --resume goes on with it",
                folder.display()
            );
        }
        Ok(checkpoint)
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
