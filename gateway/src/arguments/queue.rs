//! The arguments of `queue`.

use std::path::PathBuf;

use backends::Digest;
use clap::{Args, Subcommand};

use super::{AdminArguments, Output, examples};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = false)]
pub(crate) struct QueueArguments {
    /// The configuration file of the gateway, for its admin.listen, admin.tls and admin.token_file.
    #[arg(long, value_name = "FILE", env = "QUAY_GATEWAY_CONFIG", global = true)]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) gateway: AdminArguments,
    /// The format of the result.
    #[arg(long, value_enum, default_value_t = Output::Table, global = true)]
    pub(crate) output: Output,
    #[command(subcommand)]
    pub(crate) command: Option<QueueCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// List jobs, ordered by zone and digest.
    #[command(after_help = examples::QUEUE_LS)]
    Ls {
        /// Only jobs of this zone.
        #[arg(long, value_name = "NAME")]
        zone: Option<String>,
        /// Only jobs in this state.
        #[arg(long, value_enum)]
        state: Option<State>,
        /// The most jobs to list.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// Show everything about the jobs of one blob: when they were queued, attempts, the last error, when they are
    /// due, and the repositories of the blob.
    #[command(after_help = examples::QUEUE_WHY)]
    Why {
        /// `sha256:…`
        #[arg(value_name = "DIGEST")]
        digest: Digest,
    },
    /// Make jobs due now that are parked or wait for their next attempt.
    #[command(after_help = examples::QUEUE_RETRY)]
    Retry {
        /// Only jobs of this zone.
        #[arg(long, value_name = "NAME")]
        zone: Option<String>,
        /// The jobs of these blobs.
        #[arg(value_name = "DIGEST", required_unless_present_any = ["parked", "failing"])]
        digests: Vec<Digest>,
        /// All parked jobs.
        #[arg(long, conflicts_with = "failing")]
        parked: bool,
        /// All jobs with a failed attempt.
        #[arg(long)]
        failing: bool,
    },
    /// Show the progress of the sweep, which lists every repository of the registry and queues missing copies.
    #[command(after_help = examples::QUEUE_SWEEP)]
    Sweep {
        /// Start a round now, even if none is due.
        #[arg(long)]
        start: bool,
        /// Show the progress until the round ends.
        #[arg(long)]
        wait: bool,
    },
    /// Park jobs. They are not tried until `queue retry`, a push or `heal` requests them again.
    #[command(after_help = examples::QUEUE_PARK)]
    Park {
        /// The jobs of these blobs.
        #[arg(value_name = "DIGEST", required = true)]
        digests: Vec<Digest>,
        /// Only jobs of this zone.
        #[arg(long, value_name = "NAME")]
        zone: Option<String>,
        /// The reason, which is shown with the job.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// The state of a job.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum State {
    /// No attempt has failed.
    Waiting,
    /// An attempt has failed. The job is tried again.
    Failing,
    /// The job is not tried until somebody requests it.
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
