//! `run`.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use gateway::App;
use tokio_util::sync::CancellationToken;

use super::output::runtime;
use super::{log, signals};
use crate::arguments::LogFormat;

/// For reads and writes of files under way at the end.
const DISK_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves until it is told to stop.
pub(crate) fn run(path: &Path, log_format: LogFormat) -> anyhow::Result<ExitCode> {
    log::start(log_format);
    let settings = config::load(path)?;
    let runtime = runtime()?;
    let done = runtime.block_on(async {
        let app = App::bind(settings).await?;
        let (shutdown, hurry) = (CancellationToken::new(), CancellationToken::new());
        tokio::spawn(signals::stop(shutdown.clone(), hurry.clone())?);
        tokio::spawn(signals::reload(path.to_owned(), app.reloader())?);
        app.run_until(shutdown, hurry).await;
        Ok(ExitCode::SUCCESS)
    });
    // A disk that hangs must not keep the process.
    runtime.shutdown_timeout(DISK_TIMEOUT);
    done
}
