//! `run`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use gateway::App;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::output::runtime;
use super::{log, signals};
use crate::arguments::LogFormat;
use crate::exit;

/// How long file operations in progress may take at the end.
const DISK_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves until the process gets SIGTERM or SIGINT.
pub(crate) fn run(path: &Path, log_format: LogFormat) -> anyhow::Result<ExitCode> {
    let last_lines = log::start(log_format)?;
    Ok(serve(path).unwrap_or_else(|error| {
        // Standard error itself would wait for whoever reads it.
        last_lines.say(&format!("quay-gateway: {error:#}\n"));
        exit::of_error(&error)
    }))
}

fn serve(path: &Path) -> anyhow::Result<ExitCode> {
    let settings = config::load(path)?;
    let runtime = runtime()?;
    let done = runtime.block_on(async {
        let app = App::bind(settings).await?;
        let (shutdown, force) = (CancellationToken::new(), CancellationToken::new());
        tokio::spawn(signals::stop(shutdown.clone(), force.clone())?);
        let asked = Arc::new(Notify::new());
        tokio::spawn(signals::reload(Arc::clone(&asked))?);
        tokio::spawn(app.reloader().follow(path.to_owned(), asked));
        app.run_until(shutdown, force).await;
        Ok(ExitCode::SUCCESS)
    });
    // A disk that hangs must not keep the process alive.
    runtime.shutdown_timeout(DISK_TIMEOUT);
    done
}
