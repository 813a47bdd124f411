//! The arguments of the commands that audit the zones: `audit`, `heal`, `backfill`, `zones retire`.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use operations::audit::Percent;

use super::{AdminArguments, Output};

/// The arguments of every inventory.
#[derive(Debug, Args)]
pub(crate) struct InventoryArguments {
    /// The configuration file of the gateway.
    #[arg(long, value_name = "FILE", env = "QUAY_GATEWAY_CONFIG")]
    pub(crate) config: PathBuf,
    /// The folder for the progress and the findings (findings.jsonl) of the inventory, which nothing else may
    /// use. By default, a folder in state_dir.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) folder: Option<PathBuf>,
    /// Continue an inventory that was interrupted by a signal, by a zone that failed, or by kill -9.
    #[arg(long, conflicts_with = "fresh")]
    pub(crate) resume: bool,
    /// Discard an inventory that was interrupted, and start again.
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Leave out a zone, for example one that is down. May be repeated.
    #[arg(long = "without", value_name = "ZONE")]
    pub(crate) without: Vec<String>,
    /// Skip blobs that were written within this time, because their copies may be in progress.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = humantime::parse_duration)]
    pub(crate) min_age: Duration,
    /// Show no progress on standard error.
    #[arg(long)]
    pub(crate) quiet: bool,
}

/// `audit`.
#[derive(Debug, Args)]
pub(crate) struct AuditArguments {
    #[command(flatten)]
    pub(crate) inventory: InventoryArguments,
    /// Read and hash this share of all blobs in every zone, such as 1%. With any share, even 0%, blobs that have
    /// different sizes in different zones are read too, which shows which zone is wrong.
    #[arg(long, value_name = "N%")]
    pub(crate) deep: Option<Percent>,
    /// The seed of that sample. The same seed selects the same blobs.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// List the whole root of each zone, to find objects that belong to nobody. Without this, only the folders of
    /// blobs are listed.
    #[arg(long)]
    pub(crate) strays: bool,
    /// Do not read Quay's database, even if it is configured (replication.placements). Orphans, unplaced copies
    /// and lost blobs are then not found.
    #[arg(long)]
    pub(crate) zones_alone: bool,
    /// The format of the result.
    #[arg(long, value_enum, default_value_t = AuditOutput::Table)]
    pub(crate) output: AuditOutput,
    /// Write the result to this file instead of standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum AuditOutput {
    /// Text for people: counts for each zone, and the first findings.
    Table,
    /// One JSON object with all findings.
    Json,
    /// YAML with the fields of the JSON.
    Yaml,
    /// CSV: one finding a line, written as it is found.
    Csv,
}

/// The arguments for queueing copies.
#[derive(Debug, Args)]
pub(crate) struct QueueingArguments {
    #[command(flatten)]
    pub(crate) gateway: AdminArguments,
    /// Wait while a zone has this many pending copies, so that copies of pushes do not wait behind all of them.
    /// At most 100,000.
    #[arg(long, value_name = "N", default_value = "10000")]
    pub(crate) backlog: NonZeroU64,
    /// Queue copies for the findings of an earlier inventory: the one in --folder, or those in this file. The zones
    /// are not listed again.
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    pub(crate) findings: Option<Option<PathBuf>>,
    /// Also copy blobs that Quay's database (replication.placements) does not have. It is then not read.
    #[arg(long)]
    pub(crate) unknown: bool,
}

/// `heal`.
#[derive(Debug, Args)]
pub(crate) struct HealArguments {
    #[command(flatten)]
    pub(crate) inventory: InventoryArguments,
    #[command(flatten)]
    pub(crate) queueing: QueueingArguments,
    /// Show how many copies and bytes each zone would get, and queue nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// The format of the result.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

/// `backfill`.
#[derive(Debug, Args)]
pub(crate) struct BackfillArguments {
    /// The zone to fill.
    #[arg(value_name = "ZONE")]
    pub(crate) zone: String,
    #[command(flatten)]
    pub(crate) inventory: InventoryArguments,
    #[command(flatten)]
    pub(crate) queueing: QueueingArguments,
    /// The rate for estimating the time, in bytes a second, such as 50MiB. By default, the limits in
    /// replication.limits.
    #[arg(long, value_name = "BYTES")]
    pub(crate) rate: Option<bytesize::ByteSize>,
    /// Queue the copies. Without this, only the plan is shown.
    #[arg(long)]
    pub(crate) go: bool,
    /// The format of the result.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

/// `zones retire`.
#[derive(Debug, Args)]
pub(crate) struct RetireArguments {
    /// The name of the zone in Quay's configuration.
    #[arg(value_name = "NAME")]
    pub(crate) zone: String,
    /// The folder for the progress and the findings of the inventory, which nothing else may use. By default, a
    /// folder in state_dir.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) folder: Option<PathBuf>,
    /// Accept a zone without any blob. Without this, the answer for such a zone is no, because its store may not
    /// be mounted or may be another.
    #[arg(long)]
    pub(crate) empty: bool,
    /// Continue an inventory that was interrupted, if it began within a day.
    #[arg(long, conflicts_with = "fresh")]
    pub(crate) resume: bool,
    /// Discard an inventory that was interrupted, and start again.
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Show no progress on standard error.
    #[arg(long)]
    pub(crate) quiet: bool,
}
