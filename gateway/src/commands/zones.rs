//! `zones`.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use operations::admin_client::AdminClient;
use operations::zones::table;

use super::admin_client::{admin_client, client_for};
use super::output::{print, runtime};
use super::retire::retire;
use crate::arguments::{Output, ZonesArguments, ZonesCommand};

/// Clears the screen and moves to its first line (ECMA-48: ED, CUP).
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Shows the zones of a running gateway, or drains, undrains or retires one.
pub(crate) fn zones(arguments: &ZonesArguments) -> anyhow::Result<ExitCode> {
    if let Some(ZonesCommand::Retire(retirement)) = &arguments.command {
        let Some(path) = &arguments.config else {
            anyhow::bail!("give the gateway's configuration file with --config")
        };
        let settings = config::load(path)?;
        return retire(&settings, &client_for(arguments.admin, &settings)?, retirement);
    }
    let admin_client = admin_client(arguments.admin, arguments.config.as_deref())?;
    runtime()?.block_on(async {
        match &arguments.command {
            Some(ZonesCommand::Drain { zone }) => {
                admin_client.drain(zone, true).await?;
                print(&format!("{zone} is drained: it is not read until `quay-gateway zones undrain {zone}`; copies to it continue\n"))
            }
            Some(ZonesCommand::Undrain { zone }) => {
                admin_client.drain(zone, false).await?;
                print(&format!("{zone} is read again\n"))
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
    print(&match output {
        Output::Table => table(&report),
        Output::Json => format!("{}\n", serde_json::to_string_pretty(&report)?),
    })
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
