//! Signals of the process.

use std::path::PathBuf;

use anyhow::Context as _;
use gateway::Reloader;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// SIGTERM and SIGINT end the gateway; a second one has it hurry.
pub(crate) fn stop(
    shutdown: CancellationToken,
    hurry: CancellationToken,
) -> anyhow::Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be caught")?;
    Ok(async move {
        for (token, what) in [(shutdown, "asked to stop"), (hurry, "asked to stop again")] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("{what}");
            token.cancel();
        }
    })
}

/// SIGHUP has the configuration read again; one that is refused changes nothing.
pub(crate) fn reload(path: PathBuf, reloader: Reloader) -> anyhow::Result<impl Future<Output = ()> + Send> {
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP cannot be caught")?;
    Ok(async move {
        while hangup.recv().await.is_some() {
            let path = path.clone();
            match tokio::task::spawn_blocking(move || config::load(&path)).await {
                Ok(Ok(settings)) => reloader.reload(&settings),
                Ok(Err(error)) => {
                    tracing::error!(%error, "the configuration is refused: nothing was changed")
                }
                Err(error) => tracing::error!(%error, "the configuration was not read"),
            }
        }
    })
}
