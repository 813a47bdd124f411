//! The `quay-gateway` command.

mod arguments;
mod log;

use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use gateway::check::{self, Progress};
use gateway::{App, config};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::arguments::{Arguments, Command, LogFormat, Output};

/// For reads and writes of files under way at the end.
const DISK_TIMEOUT: Duration = Duration::from_secs(2);

/// A configuration that is refused, as `sysexits.h` has it (EX_CONFIG).
const EXIT_CONFIG: u8 = 78;

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Check { config, output, timeout } => match check(&config, output, timeout) {
            Ok(true) => return ExitCode::SUCCESS,
            Ok(false) => return ExitCode::FAILURE,
            Err(error) => Err(error),
        },
        Command::CheckConfig { config } => check_config(&config),
        Command::Run { config, log_format } => run(&config, log_format),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            if error.is::<config::ConfigError>() { ExitCode::from(EXIT_CONFIG) } else { ExitCode::FAILURE }
        }
    }
}

#[allow(clippy::print_stderr)]
fn complain(error: &anyhow::Error) {
    eprintln!("quay-gateway: {error:#}");
}

#[allow(clippy::print_stdout)]
fn check_config(path: &Path) -> anyhow::Result<()> {
    let settings = config::load(path)?;
    print!("{}", check::summary(&settings));
    for unusable in gateway::rehearse(&settings)? {
        println!("\nwarning: {unusable}");
    }
    Ok(())
}

/// Whether everything passed.
fn check(path: &Path, output: Output, timeout: Option<Duration>) -> anyhow::Result<bool> {
    let settings = config::load(path)?;
    let progress = match output {
        Output::Table => Progress::on_terminal(),
        Output::Json => Progress::hidden(),
    };
    let runtime = runtime()?;
    let report = runtime.block_on(check::run(&settings, timeout, progress))?;
    let text = match output {
        Output::Table => check::table(&report),
        Output::Json => format!("{:#}\n", check::json(&report)),
    };
    let written = std::io::stdout().write_all(text.as_bytes());
    // A folder that hangs, or a name that does not resolve, must not keep the process.
    runtime.shutdown_timeout(Duration::ZERO);
    match written {
        // Whoever reads only the first lines has seen enough.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("the result cannot be written")
        }
        _ => Ok(report.passed()),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")
}

fn run(path: &Path, log_format: LogFormat) -> anyhow::Result<()> {
    log::start(log_format);
    let settings = config::load(path)?;
    let runtime = runtime()?;
    let done = runtime.block_on(async {
        let app = App::bind(settings).await?;
        let shutdown = CancellationToken::new();
        tokio::spawn(stop_on_signal(shutdown.clone())?);
        app.run(shutdown).await;
        Ok(())
    });
    // A disk that hangs must not keep the process.
    runtime.shutdown_timeout(DISK_TIMEOUT);
    done
}

fn stop_on_signal(shutdown: CancellationToken) -> anyhow::Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be caught")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("asked to stop");
        shutdown.cancel();
    })
}
