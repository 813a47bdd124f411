//! The command line.

mod admin;
mod cache;
mod certs;
mod clients;
mod config;
mod examples;
mod inventory;
mod queue;
mod support_bundle;
mod terminal;
mod top;
mod warm;

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use operations::bench::{AT_ONCE_MAX, ImageName, READS_MAX};

pub(crate) use self::admin::AdminArguments;
pub(crate) use self::cache::{CacheArguments, CacheCommand, EvictArguments, ExportArguments};
pub(crate) use self::certs::{CertsArguments, CertsCommand, IssueArguments, ShowArguments, TrustArguments};
pub(crate) use self::clients::{ClientArgument, ClientsArguments, RoleArgument, clients_examples};
pub(crate) use self::config::{ConfigCommand, DiffArguments};
pub(crate) use self::inventory::{
    AuditArguments, AuditOutput, BackfillArguments, HealArguments, InventoryArguments, QueueingArguments,
    RetireArguments,
};
pub(crate) use self::queue::{QueueArguments, QueueCommand, State};
pub(crate) use self::support_bundle::SupportBundleArguments;
pub(crate) use self::terminal::{CompletionsArguments, ManArguments, ShellArgument};
pub(crate) use self::top::TopArguments;
pub(crate) use self::warm::{ReadingArguments, WarmArguments};

/// A TLS gateway in front of Red Hat Quay. Blobs come from a local cache or from the nearest healthy
/// zone, and pushes are copied to the other zones.
///
/// Every key of the configuration can also be set by an environment variable. Its levels are joined by two
/// underscores: `QUAY_GATEWAY__REGISTRY__URL=https://quay.internal:8443`.
/// `RUST_LOG` sets what is logged, for example `RUST_LOG=info,access=warn`.
#[derive(Debug, Parser)]
#[command(name = "quay-gateway", version, after_long_help = examples::program())]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve until SIGTERM or SIGINT. Requests in flight then have timeouts.drain to finish. SIGHUP, or a change of the
    /// configuration's files, reloads the configuration and the certificates.
    #[command(after_help = examples::RUN)]
    Run {
        /// The configuration file.
        #[arg(long, value_name = "FILE", env = "QUAY_GATEWAY_CONFIG")]
        config: PathBuf,
        /// The format of log lines.
        #[arg(long, value_enum, default_value_t = LogFormat::Text)]
        log_format: LogFormat,
    },
    /// Check the registry and every zone, step by step. For each step, print how long it took; for each failure,
    /// print the likely cause and the fix. Writes Quay's own marker, `_verify`, into each zone. The exit status is
    /// 0 only if everything passed.
    #[command(after_help = examples::CHECK)]
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE", env = "QUAY_GATEWAY_CONFIG")]
        config: PathBuf,
        /// The format of the result.
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
        /// The timeout of each step, such as 20s, instead of the configured `timeouts`.
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        timeout: Option<Duration>,
    },
    /// Read the configuration and print the settings, zone by zone and without secrets. Opens no connection.
    #[command(after_help = examples::CHECK_CONFIG)]
    CheckConfig {
        /// The configuration file.
        #[arg(long, value_name = "FILE", env = "QUAY_GATEWAY_CONFIG")]
        config: PathBuf,
        /// The format of the result.
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Show what differs between two configurations.
    #[command(after_help = examples::CONFIG)]
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print the files and objects that make a client use this gateway, or write them below a folder.
    ///
    /// The gateway has up to two roles for a client. By name: images are named GATEWAY/NAMESPACE/REPOSITORY, and the
    /// client only needs to trust the gateway. As a mirror: images keep the registry's name; the client asks the
    /// gateway first, and the registry itself if the gateway does not answer. docker supports mirrors only for Docker
    /// Hub, so it uses the gateway only by name.
    ///
    /// Each file begins with a comment: which images it concerns, what it changes, whether nodes drain or reboot, how
    /// to undo it. The names and the CA come from the configuration, if the options do not name them. No password and
    /// no private key is printed.
    #[command(after_long_help = clients_examples())]
    Clients(ClientsArguments),
    /// Show the zones of a running gateway: state and its reason, position in the order, latency, throughput,
    /// share of reads, hedges, pending copies. Subcommands drain, undrain and retire a zone.
    #[command(after_help = examples::ZONES)]
    Zones(ZonesArguments),
    /// List every zone and compare them: which blobs are missing, which are wrong, which objects belong to nobody.
    ///
    /// The audit only reads, so credentials that may list and read are enough. It lists 256 prefixes one after the
    /// other in bounded memory, and keeps its progress: --resume continues it after an interruption. A blob is
    /// missing in a target zone of copies if another zone has it. An empty object is wrong, except for the empty
    /// blob. If zones have different sizes of a blob, --deep 0% reads them to find out which is right. Blobs that
    /// were written recently are skipped (--min-age).
    ///
    /// The exit status is 0 if nothing is missing or wrong, 3 if something is, 1 if the audit failed. Objects that
    /// belong to nobody only use space and do not change it.
    #[command(
        after_help = "Examples:\n  quay-gateway audit --config gateway.yaml\n  quay-gateway audit --config \
                            gateway.yaml --deep 1% --seed $(date +%j) --output csv > findings.csv\n  \
                            quay-gateway audit --config gateway.yaml --resume"
    )]
    Audit(AuditArguments),
    /// Queue copies at the running gateway for blobs that an audit finds missing or wrong.
    ///
    /// Without --findings, the command runs an audit first. Then it queues the copies in small portions, and waits
    /// while a zone has too many pending copies. The command itself copies and deletes nothing. A copy that is
    /// queued twice is made once. If the audit is interrupted, continue it with --resume; if the queueing is
    /// interrupted, continue it with --findings.
    ///
    /// The exit status is 0 if every copy is queued (with --dry-run: counted), 3 if a zone could not be audited or
    /// something cannot be fixed by a copy, 1 if the command failed.
    #[command(
        after_help = "Examples:\n  quay-gateway heal --config gateway.yaml --dry-run\n  quay-gateway audit \
                            --config gateway.yaml && quay-gateway heal --config gateway.yaml --findings"
    )]
    Heal(HealArguments),
    /// Show how many copies and bytes a new zone needs, and how long that takes. With --go, queue the copies.
    #[command(
        after_help = "Example:\n  quay-gateway backfill zone-c --config gateway.yaml --rate 100MiB\n  \
                            quay-gateway backfill zone-c --config gateway.yaml --resume --go"
    )]
    Backfill(BackfillArguments),
    /// Show the pending copies of a running gateway. For each zone: number, bytes, age, rate, remaining time, failing
    /// and parked copies, and the blobs that would be lost with the zone now. Subcommands list, retry and park
    /// single jobs.
    #[command(
        after_help = "Examples:\n  quay-gateway queue --config gateway.yaml\n  quay-gateway queue ls --zone zone-b \
                            --state failing\n  quay-gateway queue why sha256:…\n  quay-gateway queue retry --parked \
                            --zone zone-b"
    )]
    Queue(QueueArguments),
    /// Make a CA, issue and show certificates, and see how clients trust them.
    #[command(after_help = examples::CERTS)]
    Certs(CertsArguments),
    /// Measure the latency and throughput that clients get, for each zone and size class of blobs.
    #[command(after_help = examples::BENCH)]
    Bench {
        #[command(subcommand)]
        command: BenchCommand,
    },
    /// Collect what a ticket needs into one tar archive: versions, the configuration without secrets, the state of zones,
    /// queue and sweep, metrics, limits of the machine, and the last log lines.
    ///
    /// The archive holds no password, no key and no token. It does hold names of hosts, zones, repositories and users:
    /// read its MANIFEST.txt before you send it. A gateway that does not answer is no error; the archive says so. The
    /// gateway logs to standard error, so give what received that with --log.
    #[command(after_help = examples::SUPPORT_BUNDLE)]
    SupportBundle(SupportBundleArguments),
    /// Watch a running gateway on a terminal: requests and bytes a second by where they come from, zones, the cache, the
    /// certificates. q or Ctrl-C ends it.
    #[command(after_help = examples::TOP)]
    Top(TopArguments),
    /// Pull images through a running gateway, so that its cache has them before clients come.
    ///
    /// The command is a client of the gateway like any other: the registry decides what it may read, each blob is read
    /// once, its digest is verified, and its bytes are dropped. Blobs that the cache has already cost no read of a store,
    /// so a run that was interrupted can be repeated.
    ///
    /// The exit status is 0 only if the cache has every image whole, and 3 if it lacks a part of some.
    #[command(after_help = examples::WARM)]
    Warm(WarmArguments),
    /// List, verify and evict the blobs of a running gateway's cache, and carry images to another site.
    #[command(after_help = examples::CACHE)]
    Cache(CacheArguments),
    /// Print the completions for a shell. The packages install them.
    #[command(after_help = examples::COMPLETIONS)]
    Completions(CompletionsArguments),
    /// Write the manual pages, one for each command, into a folder. The packages install them.
    #[command(after_help = examples::MAN)]
    Man(ManArguments),
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Read blobs of images from each zone's store, by the registry's own path (as clients do without the gateway),
    /// and through the running gateway, and compare the times.
    ///
    /// Give images with small and large layers. Blobs are small (up to 256 KiB), medium (up to 16 MiB) or large; up
    /// to 8 of each size class are read in turn. Every byte is hashed, and a read with wrong bytes counts as failed.
    /// The paths take turns, so that other load affects all of them equally. A path that fails 5 times in a row is
    /// not used any more.
    ///
    /// The command writes nothing to any zone. The gateway caches what is read through it, as for any client, so in
    /// a second run even the first reads may come from its cache.
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
    /// An image at the registry, REPOSITORY:TAG or REPOSITORY@DIGEST. May be repeated, up to 16 times.
    #[arg(long = "image", value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<ImageName>,
    /// Reads of each size class by each path. 20 are enough for a median, 200 for a 95th percentile.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=i64::from(READS_MAX)))]
    pub(crate) reads: u32,
    /// How many of those reads run at the same time, each of the same blob.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(AT_ONCE_MAX)))]
    pub(crate) at_once: u32,
    /// The account that reads, such as a robot, instead of registry.account. Without either, reads are anonymous.
    #[arg(long, value_name = "NAME", requires = "password_file")]
    pub(crate) username: Option<String>,
    /// A file with the password or token of that account.
    #[arg(long, value_name = "FILE", requires = "username")]
    pub(crate) password_file: Option<PathBuf>,
    /// The gateway's address, instead of the configured listen on this machine. Its certificate must still be for
    /// the configured hostname.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) gateway: Option<SocketAddr>,
    /// Stop after this time, such as 5m, even if not all reads are done. At most 1h.
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = humantime::parse_duration)]
    pub(crate) at_most: Duration,
    /// The format of the result.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
    /// Write the report as JSON, and its figures and every read as CSV, into this folder.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) report: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = false)]
pub(crate) struct ZonesArguments {
    /// The configuration file of the gateway, for its admin.listen, admin.tls and admin.token_file.
    #[arg(long, value_name = "FILE", env = "QUAY_GATEWAY_CONFIG", global = true)]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) gateway: AdminArguments,
    /// The format of the result.
    #[arg(long, value_enum, default_value_t = Output::Table, global = true)]
    pub(crate) output: Output,
    /// Repeat the output every SECONDS seconds, by default every 2.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2")]
    pub(crate) watch: Option<NonZeroU64>,
    #[command(subcommand)]
    pub(crate) command: Option<ZonesCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ZonesCommand {
    /// Stop reads from a zone, for maintenance of its store. It stays drained until `zones undrain`, even after a
    /// restart. Copies to it continue.
    #[command(after_help = examples::DRAIN)]
    Drain {
        /// The name of the zone in Quay's configuration.
        #[arg(value_name = "NAME")]
        zone: String,
    },
    /// Allow reads from a drained zone again.
    #[command(after_help = examples::UNDRAIN)]
    Undrain {
        /// The name of the zone in Quay's configuration.
        #[arg(value_name = "NAME")]
        zone: String,
    },
    /// Check whether a zone may be retired. The answer is yes (exit status 0) only if every other target zone has
    /// every blob of the zone in the same size, and no copies from it or to it are pending. Otherwise the answer is no
    /// (exit status 3), and lists what only this zone has. Deletes nothing.
    #[command(after_help = examples::RETIRE)]
    Retire(RetireArguments),
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum Output {
    /// Text for people, with progress on a terminal.
    Table,
    /// JSON for programs.
    Json,
    /// YAML with the fields of the JSON.
    Yaml,
    /// CSV (RFC 4180): one record a line, after the names of the columns.
    Csv,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// Checks a command and those below it.
    fn has_examples(command: &clap::Command) {
        let help = command.get_after_long_help().or_else(|| command.get_after_help());
        let help = help.map(ToString::to_string).unwrap_or_default();
        assert!(help.starts_with("Example"), "{}: {help}", command.get_name());
        let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
        assert!(help.contains(&format!(" {name}")), "{name}: {help}");
        command.get_subcommands().for_each(has_examples);
    }

    /// What has no `--output`, and why.
    const WITHOUT_OUTPUT: [(&str, &str); 10] = [
        ("run", "it serves; --log-format is for its log"),
        ("clients", "it prints files in the formats of clients"),
        ("certs ca", "it writes files whose names are fixed"),
        ("certs issue", "it writes files whose names are fixed"),
        ("certs secret", "it prints an object of Kubernetes"),
        ("certs trust", "it prints commands for people"),
        ("support-bundle", "it writes an archive"),
        ("top", "it is a screen; zones and queue have the same data"),
        ("completions", "it prints a script of a shell"),
        ("man", "it writes files"),
    ];

    /// The commands that are no mere parents and lack a format.
    fn lacking(command: &clap::Command, path: &str, found: &mut Vec<String>) {
        let formats = command.get_arguments().find(|argument| argument.get_id() == "output").map(|output| {
            output.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect::<Vec<_>>()
        });
        let is_parent = command.is_subcommand_required_set();
        if !is_parent && formats.is_none_or(|formats| formats != ["table", "json", "yaml", "csv"]) {
            found.push(path.to_owned());
        }
        for below in command.get_subcommands() {
            lacking(below, format!("{path} {}", below.get_name()).trim_start(), found);
        }
    }

    #[test]
    fn every_command_has_all_formats_or_a_reason() {
        let mut program = Arguments::command().disable_help_subcommand(true);
        program.build();
        let mut found = Vec::new();
        lacking(&program, "", &mut found);
        let mut expected = WITHOUT_OUTPUT.map(|(command, _)| command.to_owned()).to_vec();
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn every_command_has_an_example_of_itself() {
        let mut program = Arguments::command().disable_help_subcommand(true);
        program.build();
        program.clone().debug_assert();
        has_examples(&program);
    }
}
