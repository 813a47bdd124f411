//! `zones retire`.

use std::process::ExitCode;
use std::time::Duration;

use config::Settings;
use operations::admin_client::AdminClient;
use operations::audit::{self, AuditOptions, Finding, Progress, SHOWN};
use operations::queue::{Retirement, ZoneQueue};

use super::audit::{begin, run};
use super::heal::ensure_zone_exists;
use super::output::{csv_of, print, rendered, runtime};
use crate::arguments::{Output, RetireArguments};
use crate::exit;

/// The columns of an answer in CSV.
const COLUMNS: [&str; 12] = [
    "zone",
    "allowed",
    "others",
    "compared",
    "blobs",
    "only_here_blobs=only_here/objects",
    "only_here_bytes=only_here/bytes",
    "recent",
    "waiting",
    "parked",
    "at_risk_blobs",
    "findings",
];

/// How long ago a resumed inventory may have begun. What it compared then counts as still true.
const OLDEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Checks whether a zone may be retired, and prints the answer.
pub(crate) fn retire(
    settings: &Settings,
    admin_client: &AdminClient,
    arguments: &RetireArguments,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let zone = &arguments.zone;
    ensure_zone_exists(settings, zone)?;
    let others: Vec<_> = settings.targets.iter().filter(|other| *other != zone).cloned().collect();
    if others.is_empty() {
        anyhow::bail!("there is no other target of copies than {zone}, so its blobs cannot be elsewhere");
    }
    // Fails now if the gateway does not answer, and not after an inventory of an hour.
    zone_queue(admin_client, zone)?;
    let not_asked = |name: &String| name != zone && !others.contains(name);
    let options = AuditOptions {
        folder: arguments.folder.clone().unwrap_or_else(|| settings.state_dir.join(format!("retire-{zone}"))),
        begin: begin(arguments.resume, arguments.fresh),
        without: settings.zones.iter().map(|zone| zone.name.clone()).filter(not_asked).collect(),
        targets: Some(others.clone()),
        deep: None,
        seed: 0,
        strays: false,
        // Blobs that were just written count too.
        min_age: Duration::ZERO,
        oldest: Some(OLDEST),
        database: false,
    };
    let progress = if arguments.quiet { Progress::hidden() } else { Progress::shown() };
    let mut retirement = Retirement::new(zone, &others);
    let mut found = |finding: &Finding| {
        retirement.add_finding(finding, SHOWN);
        Ok(())
    };
    let report = run(settings, &options, progress, &mut found)?;
    let audited = report.done.plan.zones.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>();
    if let Some(unlisted) = others.iter().chain([zone]).find(|name| !audited.contains(&name.as_str())) {
        anyhow::bail!(
            "zone {unlisted} cannot be used, so {zone} cannot be compared with it: `quay-gateway check` shows why"
        );
    }
    retirement.compared(&report.done.tally, arguments.empty);
    retirement.set_unique_objects(runtime()?.block_on(audit::unique_objects(settings, zone, &others))?);
    retirement.set_queue(&zone_queue(admin_client, zone)?);
    let findings = audit::findings_file(&options.folder);
    let text = || retirement.text(&findings);
    print(&rendered(output, &retirement.report(&findings), text, csv_of(&COLUMNS, None))?)?;
    Ok(exit::of_search(retirement.is_allowed()))
}

/// The queue of the zone at the running gateway.
fn zone_queue(admin_client: &AdminClient, zone: &str) -> anyhow::Result<ZoneQueue> {
    let report = runtime()?.block_on(admin_client.queue())?;
    let Some(zones) = report.zones else {
        anyhow::bail!("the gateway cannot read its journal: its log has the reason")
    };
    // The home zone has a value whenever the risk was counted.
    if zones.iter().all(|queue| queue.at_risk_blobs.is_none()) {
        anyhow::bail!("the gateway did not count the blobs at risk in time: try again")
    }
    zones.into_iter().find(|queue| queue.zone == zone).ok_or_else(|| {
        anyhow::anyhow!("the running gateway has no zone {zone}: check that it uses the same configuration")
    })
}
