//! `zones`.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use operations::admin_client::AdminClient;
use operations::zones::table;

use super::admin_client::{admin_client, client_for};
use super::output::{csv_of, print, rendered, runtime};
use super::retire::retire;
use crate::arguments::{Output, ZonesArguments, ZonesCommand};

/// Clears the screen and moves to its first line (ECMA-48: ED, CUP).
const CLEAR: &str = "\x1b[2J\x1b[H";

/// The columns of a zone in CSV.
const COLUMNS: [&str; 34] = [
    "name",
    "state",
    "since_seconds",
    "reason",
    "drained_by_command",
    "weight",
    "latency_hint",
    "small_place=classes/0/place",
    "small_p50=classes/0/p50",
    "small_p95=classes/0/p95",
    "medium_place=classes/1/place",
    "medium_p50=classes/1/p50",
    "medium_p95=classes/1/p95",
    "large_place=classes/2/place",
    "large_p50=classes/2/p50",
    "large_p95=classes/2/p95",
    "probe",
    "bytes_per_second",
    "share_of_reads",
    "reads=counts/reads",
    "bytes=counts/bytes",
    "hedged=counts/hedged",
    "hedges_won=counts/hedges_won",
    "overdue=counts/overdue",
    "excused=counts/excused",
    "failures=counts/failures",
    "resumed_elsewhere=counts/resumed_elsewhere",
    "wrong_bytes=counts/wrong_bytes",
    "probes=counts/probes",
    "ejections=counts/ejections",
    "last_error",
    "last_error_seconds",
    "copies_waiting",
    "lag_seconds",
];

/// The columns of a drain in CSV.
const DRAIN_COLUMNS: [&str; 2] = ["zone", "drained"];

/// Shows the zones of a running gateway, or drains, undrains or retires one.
pub(crate) fn zones(arguments: &ZonesArguments) -> anyhow::Result<ExitCode> {
    if let Some(ZonesCommand::Retire(retirement)) = &arguments.command {
        let Some(path) = &arguments.config else {
            anyhow::bail!("give the gateway's configuration file with --config")
        };
        let settings = config::load(path)?;
        return retire(&settings, &client_for(&arguments.gateway, &settings)?, retirement, arguments.output);
    }
    let admin_client = admin_client(&arguments.gateway, arguments.config.as_deref())?;
    runtime()?.block_on(async {
        match &arguments.command {
            Some(ZonesCommand::Drain { zone }) => {
                let report = admin_client.drain(zone, true).await?;
                let text = || format!("{zone} is drained: it is not read until `quay-gateway zones undrain {zone}`; copies to it continue\n");
                print(&rendered(arguments.output, &report, text, csv_of(&DRAIN_COLUMNS, None))?)
            }
            Some(ZonesCommand::Undrain { zone }) => {
                let report = admin_client.drain(zone, false).await?;
                let text = || format!("{zone} is read again\n");
                print(&rendered(arguments.output, &report, text, csv_of(&DRAIN_COLUMNS, None))?)
            }
            // `retire` returned above.
            Some(ZonesCommand::Retire(_)) | None => match arguments.watch {
                None => show(&admin_client, arguments.output).await,
                Some(seconds) => watch(&admin_client, arguments.output, seconds.get()).await,
            },
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn show(admin_client: &AdminClient, output: Output) -> anyhow::Result<()> {
    let report = admin_client.zones().await?;
    print(&rendered(output, &report, || table(&report), csv_of(&COLUMNS, Some("zones")))?)
}

/// Repeats the output until a signal, or until the gateway does not answer.
async fn watch(admin_client: &AdminClient, output: Output, seconds: u64) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(Duration::from_secs(seconds));
    loop {
        tick.tick().await;
        if std::io::stdout().is_terminal() {
            print(CLEAR)?;
        }
        show(admin_client, output).await?;
    }
}
