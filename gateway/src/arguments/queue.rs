//! `queue`.

use std::net::SocketAddr;
use std::path::PathBuf;

use backends::Digest;
use clap::{Args, Subcommand};

use super::Output;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = false)]
pub(crate) struct QueueArguments {
    /// The configuration file of the gateway: its admin.listen is asked.
    #[arg(long, value_name = "FILE", env = "QUAY_GATEWAY_CONFIG", global = true)]
    pub(crate) config: Option<PathBuf>,
    /// Where the gateway's admin.listen is, instead of looking into its configuration.
    #[arg(long, value_name = "ADDRESS", global = true)]
    pub(crate) admin: Option<SocketAddr>,
    /// How the result looks.
    #[arg(long, value_enum, default_value_t = Output::Table, global = true)]
    pub(crate) output: Output,
    #[command(subcommand)]
    pub(crate) command: Option<QueueCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// Show jobs one by one, by zone and digest.
    Ls {
        /// Of this zone alone.
        #[arg(long, value_name = "NAME")]
        zone: Option<String>,
        /// Only those that stand so.
        #[arg(long, value_enum)]
        state: Option<State>,
        /// How many at most.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// Show all that is known of one blob's jobs: since when, tries, the last error, when it is due, where it
    /// was seen.
    Why {
        /// `sha256:…`
        #[arg(value_name = "DIGEST")]
        digest: Digest,
    },
    /// Have jobs tried now that are parked, or sit out a wait.
    Retry {
        /// Of this zone alone.
        #[arg(long, value_name = "NAME")]
        zone: Option<String>,
        /// Of these blobs.
        #[arg(value_name = "DIGEST", required_unless_present_any = ["parked", "failing"])]
        digests: Vec<Digest>,
        /// All that are parked.
        #[arg(long, conflicts_with = "failing")]
        parked: bool,
        /// All that have failed.
        #[arg(long)]
        failing: bool,
    },
    /// Show how far the sweep is, which walks through all that the registry has and queues it.
    Sweep {
        /// Have a round begin now, instead of when it is due.
        #[arg(long)]
        start: bool,
        /// Show how far it is until the round has ended.
        #[arg(long)]
        wait: bool,
    },
    /// Set jobs aside until somebody asks for them again: by `queue retry`, by a push, by `heal`.
    Park {
        /// Of these blobs.
        #[arg(value_name = "DIGEST", required = true)]
        digests: Vec<Digest>,
        /// Of this zone alone.
        #[arg(long, value_name = "NAME")]
        zone: Option<String>,
        /// Why: it is shown with the job.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// How a job stands.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum State {
    /// No try has failed.
    Waiting,
    /// A try has failed; it is tried again.
    Failing,
    /// Set aside.
    Parked,
}

impl State {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Failing => "failing",
            Self::Parked => "parked",
        }
    }
}
