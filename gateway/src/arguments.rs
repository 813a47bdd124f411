//! The command line.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// A TLS gateway in front of Red Hat Quay: blobs come from a local cache or the nearest healthy
/// zone, pushes are copied to the other zones.
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
    /// Serve until SIGTERM or SIGINT; requests under way then finish within timeouts.drain. SIGHUP
    /// has routing.zones read again.
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
    /// Show the zones of a running gateway: state and why, place in the order, times, speed, share
    /// of reads, hedges, copies owed. Or take one out of reading, and back.
    Zones(ZonesArguments),
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = false)]
pub(crate) struct ZonesArguments {
    /// The configuration file of the gateway: its admin.listen is asked.
    #[arg(long, value_name = "FILE", env = "QUAY_GATEWAY_CONFIG", global = true)]
    pub(crate) config: Option<PathBuf>,
    /// Where the gateway's admin.listen is, instead of looking into its configuration.
    #[arg(long, value_name = "ADDRESS", global = true)]
    pub(crate) admin: Option<SocketAddr>,
    /// How the result looks.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
    /// Show it again and again, every so many seconds.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2")]
    pub(crate) watch: Option<NonZeroU64>,
    #[command(subcommand)]
    pub(crate) command: Option<ZonesCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ZonesCommand {
    /// No reads from a zone until it is undrained, over restarts too; copies still arrive. For work
    /// on its store.
    Drain {
        /// Its name in Quay's configuration.
        #[arg(value_name = "NAME")]
        zone: String,
    },
    /// Read a drained zone again.
    Undrain {
        /// Its name in Quay's configuration.
        #[arg(value_name = "NAME")]
        zone: String,
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
