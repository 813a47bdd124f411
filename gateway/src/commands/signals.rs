//! The handling of signals.

use std::sync::Arc;

use anyhow::Context as _;
use gateway::Reloader;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// On the first SIGTERM or SIGINT, cancels `shutdown`; on the second, cancels `force`.
pub(crate) fn stop(
    shutdown: CancellationToken,
    force: CancellationToken,
) -> anyhow::Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be caught")?;
    Ok(async move {
        for (token, message) in
            [(shutdown, "received a signal to stop"), (force, "received a second signal to stop")]
        {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("{message}");
            token.cancel();
        }
    })
}

/// On SIGHUP, opens the file of the access log again, and notifies `asked`.
pub(crate) fn reload(
    asked: Arc<Notify>,
    reloader: Reloader,
) -> anyhow::Result<impl Future<Output = ()> + Send> {
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP cannot be caught")?;
    Ok(async move {
        while hangup.recv().await.is_some() {
            reloader.reopen_logs();
            asked.notify_one();
        }
    })
}
