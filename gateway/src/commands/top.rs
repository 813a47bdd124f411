//! `top`.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use operations::admin_client::AdminClient;
use operations::top::{TopSample, frame};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::admin_client::admin_client;
use super::output::{print, runtime};
use super::screen::Screen;
use super::signals;
use crate::arguments::TopArguments;

/// Shows a running gateway until it is ended, or once.
pub(crate) fn top(arguments: &TopArguments) -> anyhow::Result<ExitCode> {
    let admin_client = admin_client(&arguments.gateway, arguments.config.as_deref())?;
    let runtime = runtime()?;
    let once = arguments.once || !std::io::stdout().is_terminal();
    runtime.block_on(async {
        match once {
            true => show_once(&admin_client, arguments.interval).await,
            false => watch(&admin_client, arguments.interval).await,
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn show_once(admin_client: &AdminClient, interval: Duration) -> anyhow::Result<()> {
    let since = Instant::now();
    let before = TopSample::take(admin_client, since).await?;
    tokio::time::sleep(interval).await;
    print(&frame(&before, &TopSample::take(admin_client, since).await?))
}

/// Shows one frame after the other. While the gateway does not answer, the last one stays, with the error.
async fn watch(admin_client: &AdminClient, interval: Duration) -> anyhow::Result<()> {
    let since = Instant::now();
    let mut before = TopSample::take(admin_client, since).await?;
    let stop = CancellationToken::new();
    tokio::spawn(signals::stop(stop.clone(), CancellationToken::new())?);
    let screen = Screen::open(stop.clone())?;
    let title = format!("quay-gateway at {}, every {interval:?}; q ends", admin_client.address());
    let mut shown = frame(&before, &before);
    screen.draw(&format!("{title}\n\n{shown}"))?;
    let mut ticks = tokio::time::interval_at(since + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let sample = async {
            ticks.tick().await;
            TopSample::take(admin_client, since).await
        };
        let Some(sample) = stop.run_until_cancelled(sample).await else { return Ok(()) };
        let error = match sample {
            Ok(now) => {
                shown = frame(&before, &now);
                before = now;
                String::new()
            }
            Err(error) => format!("{error:#}"),
        };
        screen.draw(&format!("{title}\n{error}\n{shown}"))?;
    }
}
