//! `heal` and `backfill`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use config::{self, RegistryKind, Settings};
use operations::audit::{self, AuditOptions, Checkpoint, Findings};
use operations::queue::{self, BackfillReport, CopyFeeder, CopyPlan, FeedResult};
use operations::records;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::admin_client::client_for;
use super::audit::{options, progress, run};
use super::output::{csv_of, print, rendered, runtime};
use super::signals;
use crate::arguments::{BackfillArguments, HealArguments, InventoryArguments, QueueingArguments};
use crate::exit;

/// The columns of `heal` in CSV, whose lines are zones.
const HEAL_COLUMNS: [&str; 3] = ["zone", "copies=objects", "bytes"];

/// The columns of `backfill` in CSV.
const BACKFILL_COLUMNS: [&str; 7] = [
    "zone",
    "target",
    "copies=copies/objects",
    "bytes=copies/bytes",
    "bytes_per_second",
    "seconds",
    "queued",
];

/// Queues copies for the findings of an audit, or with `--dry-run` prints how many there are.
pub(crate) fn heal(arguments: &HealArguments) -> anyhow::Result<ExitCode> {
    let settings = config::load(&arguments.inventory.config)?;
    let mut options = options(&arguments.inventory, &settings, "audit");
    options.database = !arguments.queueing.unknown;
    let heal_run = HealRun {
        settings: &settings,
        options: &options,
        inventory: &arguments.inventory,
        queueing: &arguments.queueing,
        zone: None,
        go: !arguments.dry_run,
    };
    let HealResult { plan, fed, seen } = heal_run.run()?;
    let table = || queue::heal_text(&plan, fed);
    print(&rendered(arguments.output, &queue::heal_json(&plan, fed), table, heal_csv)?)?;
    Ok(exit::of_search(seen && plan.unfixable.is_empty() && plan.sourceless == 0))
}

/// The copies that each zone gets or would get.
fn heal_csv(result: &Value) -> String {
    let zones = result["zones"].as_object().into_iter().flatten().map(|(zone, count)| {
        let mut line = count.clone();
        line["zone"] = zone.as_str().into();
        line
    });
    records::csv(&HEAL_COLUMNS, &zones.collect::<Vec<_>>())
}

/// Prints what it takes to fill a zone, and with `--go` queues the copies.
pub(crate) fn backfill(arguments: &BackfillArguments) -> anyhow::Result<ExitCode> {
    let settings = config::load(&arguments.inventory.config)?;
    let zone = &arguments.zone;
    ensure_zone_exists(&settings, zone)?;
    let mut options = options(&arguments.inventory, &settings, &format!("backfill-{zone}"));
    options.targets = Some(vec![zone.clone()]);
    options.database = !arguments.queueing.unknown;
    let target = settings.targets.contains(zone);
    if arguments.go && !target {
        anyhow::bail!("{}", queue::no_target(zone));
    }
    let heal_run = HealRun {
        settings: &settings,
        options: &options,
        inventory: &arguments.inventory,
        queueing: &arguments.queueing,
        zone: Some(zone),
        go: arguments.go,
    };
    let HealResult { plan, fed, seen } = heal_run.run()?;
    if !seen {
        anyhow::bail!("zone {zone} cannot be used, so it cannot be audited: `quay-gateway check` shows why");
    }
    let rate = arguments.rate.map(|rate| rate.as_u64());
    let table = &settings.copy_limits.of(zone).bandwidth;
    let outcome = BackfillReport { zone, target, plan: &plan, rate, table, fed };
    let csv = csv_of(&BACKFILL_COLUMNS, None);
    print(&rendered(arguments.output, &outcome.json(), || outcome.text(), csv)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Fails unless there is a zone of this name.
pub(super) fn ensure_zone_exists(settings: &Settings, name: &str) -> anyhow::Result<()> {
    let names: Vec<_> = settings.zones.iter().map(|zone| zone.name.as_str()).collect();
    match names.contains(&name) {
        true => Ok(()),
        false => anyhow::bail!("there is no zone {name}; zones are {}", names.join(", ")),
    }
}

/// One run of `heal` or `backfill`: an inventory, which may be an earlier one, and the copies for its findings.
struct HealRun<'a> {
    settings: &'a Settings,
    options: &'a AuditOptions,
    inventory: &'a InventoryArguments,
    queueing: &'a QueueingArguments,
    /// The zone to fill. `None` to heal all zones.
    zone: Option<&'a str>,
    /// Whether to queue the copies.
    go: bool,
}

/// The result of a run.
struct HealResult {
    plan: CopyPlan,
    fed: Option<FeedResult>,
    /// Whether every target zone was audited.
    seen: bool,
}

impl HealRun<'_> {
    fn run(&self) -> anyhow::Result<HealResult> {
        let admin_client = self.go.then(|| client_for(&self.queueing.gateway, self.settings)).transpose()?;
        if let Some(admin_client) = &admin_client {
            // Fails now if the gateway does not answer, and not after an inventory of an hour.
            runtime()?.block_on(admin_client.zones())?;
        }
        let mut seen = true;
        if self.queueing.findings.is_none() {
            let report = run(self.settings, self.options, progress(self.inventory.quiet), &mut |_| Ok(()))?;
            seen = report.unseen.is_empty();
        }
        let began = self.checkpoint()?.map(|checkpoint| checkpoint.began);
        let plan = match self.zone {
            Some(zone) => CopyPlan::of_zone(self.findings()?, zone, self.queueing.unknown)?,
            None => CopyPlan::of(self.findings()?, self.targets(), self.queueing.unknown)?,
        };
        if plan.unchecked > 0 && self.settings.replication.placements.is_some() && !self.queueing.unknown {
            anyhow::bail!(
                "the audit of these findings did not read Quay's database (because of --zones-alone, or an earlier \
                 release): run this without --findings, or with --unknown to also copy blobs that the database \
                 does not have"
            );
        }
        let Some(admin_client) = admin_client.filter(|_| seen || self.zone.is_none()) else {
            return Ok(HealResult { plan, fed: None, seen });
        };
        let file = self.file();
        let backlog = self.queueing.backlog.get();
        let feed = CopyFeeder { admin_client: &admin_client, plan: &plan, file: &file, began, backlog };
        let runtime = runtime()?;
        let fed = runtime.block_on(async {
            let stop = CancellationToken::new();
            tokio::spawn(signals::stop(stop.clone(), CancellationToken::new())?);
            feed.run(|| self.findings(), progress(self.inventory.quiet), &stop).await
        });
        runtime.shutdown_timeout(Duration::ZERO);
        let fed = Some(fed?);
        Ok(HealResult { plan, fed, seen })
    }

    /// The zones for which the running gateway accepts copies.
    fn targets(&self) -> BTreeSet<String> {
        let settings = self.settings;
        // A distribution registry reads only its own storage, which is the home zone.
        let home = settings.zones.first().filter(|_| settings.registry_kind == RegistryKind::Distribution);
        settings.targets.iter().chain(home.map(|home| &home.name)).cloned().collect()
    }

    /// The checkpoint of the inventory, which must be finished. `None` if `--findings` names a file.
    fn checkpoint(&self) -> anyhow::Result<Option<Checkpoint>> {
        if matches!(self.queueing.findings, Some(Some(_))) {
            return Ok(None);
        }
        let folder = &self.options.folder;
        let checkpoint = audit::load_checkpoint(folder)?;
        if checkpoint.as_ref().is_some_and(|checkpoint| !checkpoint.done) {
            anyhow::bail!(
                "the inventory in {} was interrupted, so its findings are incomplete: give --resume instead of \
                 --findings to continue it",
                folder.display()
            );
        }
        Ok(checkpoint)
    }

    /// The path of the file of findings.
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
