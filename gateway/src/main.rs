//! The `quay-gateway` command.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use gateway::check::{self, Progress};
use gateway::{App, config};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// A TLS gateway in front of Red Hat Quay: blobs come from a local cache or the first zone that
/// has them, pushes are copied to the other zones.
///
/// Every key of the configuration can also come from the environment, levels joined by two
/// underscores: `QUAY_GATEWAY__REGISTRY__URL=https://quay.internal:8443`.
/// `RUST_LOG` sets what is logged, such as `RUST_LOG=info,access=warn`.
#[derive(Debug, Parser)]
#[command(name = "quay-gateway", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT; requests under way then finish within timeouts.drain.
    Run {
        /// The configuration file.
        #[arg(long, value_name = "FILE", env = "QUAY_GATEWAY_CONFIG")]
        config: PathBuf,
        /// How log lines look.
        #[arg(long, value_enum, default_value_t = LogFormat::Text)]
        log_format: LogFormat,
    },
    /// Try the registry and every zone, step by step, and print what works, how fast, what does
    /// not, why, and what mends it. Writes Quay's own marker, `_verify`, into each zone. The exit
    /// status is 0 only if everything passed.
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE", env = "QUAY_GATEWAY_CONFIG")]
        config: PathBuf,
        /// How the result looks.
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
        /// How long each step may take, such as 20s, instead of what `timeouts` says.
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        timeout: Option<Duration>,
    },
    /// Read the configuration and print what was understood, zone by zone, secrets cut out. Opens
    /// no connection.
    CheckConfig {
        /// The configuration file.
        #[arg(long, value_name = "FILE", env = "QUAY_GATEWAY_CONFIG")]
        config: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Output {
    /// For people, with progress on a terminal.
    Table,
    /// For programs, and nothing else on standard output.
    Json,
}

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
fn check_config(path: &std::path::Path) -> anyhow::Result<()> {
    let settings = config::load(path)?;
    print!("{}", check::summary(&settings));
    for unusable in gateway::rehearse(&settings)? {
        println!("\nwarning: {unusable}");
    }
    Ok(())
}

/// Whether everything passed.
fn check(path: &std::path::Path, output: Output, timeout: Option<Duration>) -> anyhow::Result<bool> {
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
    // Whoever reads only the first lines has seen enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
    // A folder that hangs, or a name that does not resolve, must not keep the process.
    runtime.shutdown_timeout(Duration::ZERO);
    Ok(report.passed())
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")
}

fn run(path: &std::path::Path, log_format: LogFormat) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    match log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
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
