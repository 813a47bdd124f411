//! `run`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use gateway::{App, Traces};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::log::Log;
use super::output::runtime;
use super::signals;
use crate::arguments::LogFormat;
use crate::exit;

/// How long file operations in progress may take at the end.
const DISK_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves until the process gets SIGTERM or SIGINT.
pub(crate) fn run(path: &Path, log_format: LogFormat) -> anyhow::Result<ExitCode> {
    let (log, last_lines) = Log::open(log_format)?;
    Ok(serve(path, log).unwrap_or_else(|error| {
        // Standard error itself would wait for whoever reads it.
        last_lines.say(&format!("quay-gateway: {error:#}\n"));
        exit::of_error(&error)
    }))
}

fn serve(path: &Path, log: Log) -> anyhow::Result<ExitCode> {
    let settings = config::load(path)?;
    let mut traces = Traces::new(&settings)?;
    log.start(traces.as_ref());
    let runtime = runtime()?;
    let done = runtime.block_on(async {
        if let Some(traces) = &mut traces {
            traces.start();
        }
        let app = App::bind(settings).await?;
        let (shutdown, force) = (CancellationToken::new(), CancellationToken::new());
        tokio::spawn(signals::stop(shutdown.clone(), force.clone())?);
        let asked = Arc::new(Notify::new());
        tokio::spawn(signals::reload(Arc::clone(&asked), app.reloader())?);
        tokio::spawn(app.reloader().follow(path.to_owned(), asked));
        app.run_until(shutdown, force).await;
        if let Some(traces) = traces {
            traces.finish().await;
        }
        Ok(ExitCode::SUCCESS)
    });
    // A disk that hangs must not keep the process alive.
    runtime.shutdown_timeout(DISK_TIMEOUT);
    done
}
