//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// A TLS gateway in front of Red Hat Quay: blobs come from a local cache or the first zone that
/// has them, pushes are copied to the other zones.
///
/// Every key of the configuration can also come from the environment, levels joined by two
/// underscores: `QUAY_GATEWAY__REGISTRY__URL=https://quay.internal:8443`.
/// `RUST_LOG` sets what is logged, such as `RUST_LOG=info,access=warn`.
#[derive(Debug, Parser)]
#[command(name = "quay-gateway", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
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
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people, with progress on a terminal.
    Table,
    /// For programs, and nothing else on standard output.
    Json,
}
