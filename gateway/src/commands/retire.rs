//! `zones retire`.

use std::process::ExitCode;
use std::time::Duration;

use config::Settings;
use operations::audit::{self, Finding, Options, Progress, SHOWN};
use operations::queue::{Retirement, ZoneQueue};
use operations::running::Running;

use super::audit::{EXIT_FOUND, begin, run};
use super::heal::known;
use super::output::{print, runtime};
use crate::arguments::RetireArguments;

/// How long ago an inventory may have begun that is gone on with: what was compared then is taken for what
/// is there now.
const OLDEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Whether a zone may be given up.
pub(crate) fn retire(
    settings: &Settings,
    running: &Running,
    arguments: &RetireArguments,
) -> anyhow::Result<ExitCode> {
    let zone = &arguments.zone;
    known(settings, zone)?;
    let others: Vec<_> = settings.targets.iter().filter(|other| *other != zone).cloned().collect();
    if others.is_empty() {
        anyhow::bail!("copies go to no other zone than {zone}: nothing can be everywhere else");
    }
    // Better now than after an hour's inventory.
    owed(running, zone)?;
    let not_asked = |name: &String| name != zone && !others.contains(name);
    let options = Options {
        folder: arguments.folder.clone().unwrap_or_else(|| settings.state_dir.join(format!("retire-{zone}"))),
        begin: begin(arguments.resume, arguments.fresh),
        without: settings.zones.iter().map(|zone| zone.name.clone()).filter(not_asked).collect(),
        targets: Some(others.clone()),
        deep: None,
        seed: 0,
        strays: false,
        // What was just written counts too.
        min_age: Duration::ZERO,
        oldest: Some(OLDEST),
        database: false,
    };
    let progress = if arguments.quiet { Progress::hidden() } else { Progress::shown() };
    let mut retirement = Retirement::new(zone, &others);
    let mut found = |finding: &Finding| {
        retirement.take(finding, SHOWN);
        Ok(())
    };
    let report = run(settings, &options, progress, &mut found)?;
    let missed = report.done.plan.zones.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>();
    if let Some(unlisted) = others.iter().chain([zone]).find(|name| !missed.contains(&name.as_str())) {
        anyhow::bail!(
            "zone {unlisted} cannot be used, so nothing can be said of {zone}: `quay-gateway check` says more"
        );
    }
    retirement.compared(&report.done.tally, arguments.empty);
    retirement.beside(runtime()?.block_on(audit::alone(settings, zone, &others))?);
    retirement.owes(&owed(running, zone)?);
    print(&retirement.text(&audit::findings_file(&options.folder)))?;
    Ok(if retirement.may() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FOUND) })
}

/// The zone's queue at the running gateway.
fn owed(running: &Running, zone: &str) -> anyhow::Result<ZoneQueue> {
    let report = runtime()?.block_on(running.queue())?;
    let Some(zones) = report.zones else {
        anyhow::bail!("the gateway cannot read its journal: its log says why")
    };
    // Home has one whenever it was read.
    if zones.iter().all(|queue| queue.at_risk_blobs.is_none()) {
        anyhow::bail!("the gateway could not count in time what is at risk: try again")
    }
    zones.into_iter().find(|queue| queue.zone == zone).ok_or_else(|| {
        anyhow::anyhow!("the running gateway knows no zone {zone}: is its configuration another?")
    })
}
