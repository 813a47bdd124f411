//! `zones`.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use operations::running::Running;
use operations::zones::table;

use super::output::{print, runtime};
use super::retire::retire;
use super::running::{described, running};
use crate::arguments::{Output, ZonesArguments, ZonesCommand};

/// Clears the screen and goes to its first line (ECMA-48: ED, CUP).
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Shows the zones of a running gateway, or drains one.
pub(crate) fn zones(arguments: &ZonesArguments) -> anyhow::Result<ExitCode> {
    if let Some(ZonesCommand::Retire(retirement)) = &arguments.command {
        let Some(path) = &arguments.config else {
            anyhow::bail!("name the zones: --config with the gateway's file")
        };
        let settings = config::load(path)?;
        return retire(&settings, &described(arguments.admin, &settings)?, retirement);
    }
    let running = running(arguments.admin, arguments.config.as_deref())?;
    runtime()?.block_on(async {
        match &arguments.command {
            Some(ZonesCommand::Drain { zone }) => {
                running.drain(zone, true).await?;
                print(&format!("{zone} is drained: no reads until `quay-gateway zones undrain {zone}`; copies still arrive\n"))
            }
            Some(ZonesCommand::Undrain { zone }) => {
                running.drain(zone, false).await?;
                print(&format!("{zone} is read again\n"))
            }
            // The one that is left was dealt with above.
            Some(ZonesCommand::Retire(_)) | None => match arguments.watch {
                None => show(&running, arguments.output).await,
                Some(seconds) => watch(&running, arguments.output, seconds.get()).await,
            },
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn show(running: &Running, output: Output) -> anyhow::Result<()> {
    let report = running.zones().await?;
    print(&match output {
        Output::Table => table(&report),
        Output::Json => format!("{}\n", serde_json::to_string_pretty(&report)?),
    })
}

/// Until it is interrupted, or the gateway is gone.
async fn watch(running: &Running, output: Output, seconds: u64) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(Duration::from_secs(seconds));
    loop {
        tick.tick().await;
        if std::io::stdout().is_terminal() {
            print(CLEAR)?;
        }
        show(running, output).await?;
    }
}
