//! The commands that see what zones lack, and mend it.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use operations::audit::Percent;

use super::Output;

/// What every inventory is told.
#[derive(Debug, Args)]
pub(crate) struct InventoryArguments {
    /// The configuration file of the gateway.
    #[arg(long, value_name = "FILE", env = "QUAY_GATEWAY_CONFIG")]
    pub(crate) config: PathBuf,
    /// Where the inventory keeps how far it is, and what it found (findings.jsonl): a folder of its own.
    /// In state_dir, unless it is named.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) folder: Option<PathBuf>,
    /// Go on with the inventory that was cut: by a signal, a zone that failed, or kill -9.
    #[arg(long, conflicts_with = "fresh")]
    pub(crate) resume: bool,
    /// Forget the inventory that was cut.
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Leave a zone out, such as one that is down; may be given again.
    #[arg(long = "without", value_name = "ZONE")]
    pub(crate) without: Vec<String>,
    /// Leave blobs alone that were written within so long: their copies may be under way.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = humantime::parse_duration)]
    pub(crate) min_age: Duration,
    /// No progress on standard error.
    #[arg(long)]
    pub(crate) quiet: bool,
}

/// `audit`.
#[derive(Debug, Args)]
pub(crate) struct AuditArguments {
    #[command(flatten)]
    pub(crate) inventory: InventoryArguments,
    /// Read and hash a share of all blobs in every zone, such as 1%. With any share, 0% too, those are read
    /// of which zones have different sizes, which says who is wrong.
    #[arg(long, value_name = "N%")]
    pub(crate) deep: Option<Percent>,
    /// What draws that sample: the same seed draws the same blobs, another seed others.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// List the whole root of each zone for what belongs to nobody; without it, only the folders of blobs
    /// are looked into.
    #[arg(long)]
    pub(crate) strays: bool,
    /// Do not ask Quay's database, although it is configured (replication.placements): no orphans, nothing
    /// lost.
    #[arg(long)]
    pub(crate) zones_alone: bool,
    /// How the result looks.
    #[arg(long, value_enum, default_value_t = AuditOutput::Table)]
    pub(crate) output: AuditOutput,
    /// A file for the result, instead of standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum AuditOutput {
    /// For people: counts for each zone, and the first findings.
    Table,
    /// One object for programs, all findings in it.
    Json,
    /// A finding a line, as it is found.
    Csv,
}

/// How a running gateway is found.
#[derive(Debug, Args)]
pub(crate) struct AdminArguments {
    /// Where the gateway's admin.listen is, instead of looking into its configuration.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) admin: Option<SocketAddr>,
}

/// How copies are queued.
#[derive(Debug, Args)]
pub(crate) struct QueueingArguments {
    #[command(flatten)]
    pub(crate) gateway: AdminArguments,
    /// Wait while so many copies wait for a zone, so that pushes are not behind all of them; 100,000 at most.
    #[arg(long, value_name = "N", default_value = "10000")]
    pub(crate) backlog: NonZeroU64,
    /// Queue what an earlier inventory found, instead of listing again: the one in --folder, or this file.
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    pub(crate) findings: Option<Option<PathBuf>>,
    /// Copy also blobs that Quay's database does not have (replication.placements); it is not asked then.
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
    /// Say how many copies, and how many bytes, each zone would get; queue nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How the result looks.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

/// `backfill`.
#[derive(Debug, Args)]
pub(crate) struct BackfillArguments {
    /// The zone that is to get what others have.
    #[arg(value_name = "ZONE")]
    pub(crate) zone: String,
    #[command(flatten)]
    pub(crate) inventory: InventoryArguments,
    #[command(flatten)]
    pub(crate) queueing: QueueingArguments,
    /// Bytes a second that the copies will have, such as 50MiB, to tell how long it takes; without it, what
    /// replication.limits allows.
    #[arg(long, value_name = "BYTES")]
    pub(crate) rate: Option<bytesize::ByteSize>,
    /// Queue the copies; without it, only the plan is shown.
    #[arg(long)]
    pub(crate) go: bool,
    /// How the result looks.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

/// `zones retire`.
#[derive(Debug, Args)]
pub(crate) struct RetireArguments {
    /// Its name in Quay's configuration.
    #[arg(value_name = "NAME")]
    pub(crate) zone: String,
    /// Where the inventory keeps how far it is, and what it found: a folder of its own. In state_dir,
    /// unless it is named.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) folder: Option<PathBuf>,
    /// The zone may have no blob at all; without this, a zone where none is found is not given up, since its
    /// store may not be mounted, or be another.
    #[arg(long)]
    pub(crate) empty: bool,
    /// Go on with the inventory that was cut, if it began within a day.
    #[arg(long, conflicts_with = "fresh")]
    pub(crate) resume: bool,
    /// Forget the inventory that was cut.
    #[arg(long)]
    pub(crate) fresh: bool,
    /// No progress on standard error.
    #[arg(long)]
    pub(crate) quiet: bool,
}
