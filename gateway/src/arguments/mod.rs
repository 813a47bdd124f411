//! The command line.

mod mend;
mod queue;

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use operations::bench::{AT_ONCE_MAX, ImageName, READS_MAX};

pub(crate) use self::mend::{
    AuditArguments, AuditOutput, BackfillArguments, HealArguments, InventoryArguments, QueueingArguments,
    RetireArguments,
};
pub(crate) use self::queue::{QueueArguments, QueueCommand, State};

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
    /// List every zone and compare: which blobs are missing where, which are wrong, what belongs to nobody.
    ///
    /// Reads only: keys that may list and read will do. It goes by prefix, 256 of them, in bounded memory,
    /// and keeps how far it is: what was cut goes on with --resume. A blob is missing in a zone that copies
    /// go to if another zone has it. An object of no bytes is wrong; where zones have different sizes,
    /// --deep 0% reads to find out which is right. Blobs written lately are left
    /// alone (--min-age).
    ///
    /// The exit status is 0 if nothing is missing or wrong, 3 if something is, 1 if the audit failed. What
    /// belongs to nobody only takes room, and does not change it.
    #[command(
        after_help = "Examples:\n  quay-gateway audit --config gateway.yaml\n  quay-gateway audit --config \
                            gateway.yaml --deep 1% --seed $(date +%j) --output csv > findings.csv\n  \
                            quay-gateway audit --config gateway.yaml --resume"
    )]
    Audit(AuditArguments),
    /// Queue copies, at the running gateway, of what an audit finds missing or wrong.
    ///
    /// It audits, unless --findings says that it has been done, and then hands the copies to the gateway in
    /// small portions, waiting while too many are queued for a zone. Nothing is copied by this command, and
    /// nothing is deleted. What is queued twice is copied once; what was cut is begun again with the same
    /// command, and goes on where it was.
    ///
    /// The exit status is 0 if all is queued (or, with --dry-run, was counted), 1 if not.
    #[command(
        after_help = "Examples:\n  quay-gateway heal --config gateway.yaml --dry-run\n  quay-gateway audit \
                            --config gateway.yaml && quay-gateway heal --config gateway.yaml --findings"
    )]
    Heal(HealArguments),
    /// Plan the filling of a new zone: how many copies, how many bytes, how long; and with --go, queue them.
    #[command(
        after_help = "Example:\n  quay-gateway backfill zone-c --config gateway.yaml --rate 100MiB\n  \
                            quay-gateway backfill zone-c --config gateway.yaml --resume --go"
    )]
    Backfill(BackfillArguments),
    /// Show the copies that a running gateway still has to make: for each zone how many, how many bytes, since
    /// when, how fast, how long still, which fail or are parked, and what would be lost if the zone burned
    /// now. Or look at jobs one by one, have them tried again, set them aside.
    #[command(
        after_help = "Examples:\n  quay-gateway queue --config gateway.yaml\n  quay-gateway queue ls --zone zone-b \
                            --state failing\n  quay-gateway queue why sha256:…\n  quay-gateway queue retry --parked \
                            --zone zone-b"
    )]
    Queue(QueueArguments),
    /// Measure what clients get here: latency and throughput, per zone and size of blob.
    Bench {
        #[command(subcommand)]
        command: BenchCommand,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Read blobs of images that the registry has, from each zone's store, by the registry's own way
    /// (as clients do without the gateway), and through the running gateway; and compare.
    ///
    /// Name images with small and large layers: blobs are told apart as small (up to 256 KiB), medium
    /// (up to 16 MiB) and large, up to 8 of each are read, in turn. Every byte is hashed; a read with
    /// other bytes is an error, never a time. The ways take turns, so that noise meets them alike. A zone
    /// that fails 5 times in a row is not asked further, the others go on.
    ///
    /// Nothing is written to any zone by this command. The gateway does as for any client: it keeps what
    /// is read through it in its cache, so run this again and the first reads come from there.
    ///
    /// The exit status is 0 only if no read failed.
    #[command(
        after_help = "Example:\n  quay-gateway bench zones --config gateway.yaml --image org/app:v1 --image \
                            org/big:v2 \\\n    --username org+reader --password-file robot.token --report bench/"
    )]
    Zones(BenchZonesArguments),
}

#[derive(Debug, Args)]
pub(crate) struct BenchZonesArguments {
    /// The configuration file of the gateway.
    #[arg(long, value_name = "FILE", env = "QUAY_GATEWAY_CONFIG")]
    pub(crate) config: PathBuf,
    /// An image at the registry, REPOSITORY:TAG or REPOSITORY@DIGEST; may be given again, up to 16 times.
    #[arg(long = "image", value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<ImageName>,
    /// Reads of each size class by each way; 20 tell a median, 200 a 95th percentile.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=i64::from(READS_MAX)))]
    pub(crate) reads: u32,
    /// How many of them at the same moment, each of the same blob.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(AT_ONCE_MAX)))]
    pub(crate) at_once: u32,
    /// Who reads, such as a robot: instead of registry.account, and of nobody, where there is none.
    #[arg(long, value_name = "NAME", requires = "password_file")]
    pub(crate) username: Option<String>,
    /// A file with the password or token of that account.
    #[arg(long, value_name = "FILE", requires = "username")]
    pub(crate) password_file: Option<PathBuf>,
    /// Where the gateway is, instead of the configuration's listen on this machine; its certificate is
    /// checked for the configuration's hostname all the same.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) gateway: Option<SocketAddr>,
    /// When to stop, done or not, such as 5m; an hour at most.
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = humantime::parse_duration)]
    pub(crate) at_most: Duration,
    /// How the result looks.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
    /// A folder for report.html, its pictures, and every read as CSV.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) report: Option<PathBuf>,
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
    /// May a zone be given up? Yes (exit status 0) only if every blob in it is in every other zone that
    /// copies go to, in the same size, and no copies from it or to it are owed. Else it says what is only
    /// there (3). Deletes nothing.
    Retire(RetireArguments),
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
