//! The arguments of `cache`.

use std::path::PathBuf;
use std::time::Duration;

use backends::Digest;
use clap::{ArgGroup, Args, Subcommand};
use operations::images::ImageName;

use super::{AdminArguments, Output, ReadingArguments, examples};

/// `cache`.
#[derive(Debug, Args)]
pub(crate) struct CacheArguments {
    /// The configuration file of the gateway.
    #[arg(long, value_name = "FILE", env = "QUAY_GATEWAY_CONFIG", global = true)]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) gateway: AdminArguments,
    /// The format of the result.
    #[arg(long, value_enum, default_value_t = Output::Table, global = true)]
    pub(crate) output: Output,
    #[command(subcommand)]
    pub(crate) command: CacheCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// List the blobs of the cache, the least recently used first.
    #[command(after_help = examples::CACHE_LS)]
    Ls {
        /// Only pinned blobs.
        #[arg(long)]
        pinned: bool,
    },
    /// Hash the files of the cache. A blob with wrong bytes is removed, and named. The exit status is 0 only if all are
    /// right, and 3 if one was wrong or could not be read.
    #[command(after_help = examples::CACHE_VERIFY)]
    Verify {
        /// Only these blobs.
        #[arg(value_name = "DIGEST")]
        digests: Vec<Digest>,
    },
    /// Take blobs out of the cache. Pinned blobs stay, and a client that reads a blob reads on.
    #[command(after_help = examples::CACHE_EVICT)]
    Evict(EvictArguments),
    /// Write images as an OCI layout into a folder, such as that of a disk that is carried to another site. What the
    /// cache lacks is pulled through the gateway.
    ///
    /// A file that is there is never replaced, except the layout's own index.json, in which other images stay. A run
    /// that was interrupted can be repeated.
    #[command(after_help = examples::CACHE_EXPORT)]
    Export(ExportArguments),
    /// Put the blobs of an OCI layout into the cache of a running gateway.
    ///
    /// The gateway hashes what it gets, and keeps only what is right. Blobs that it has stay. An import gives nobody a
    /// right to read: the registry decides as before. The exit status is 3 if a blob is missing or wrong.
    #[command(after_help = examples::CACHE_IMPORT)]
    Import {
        /// The folder of the layout.
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["digests", "all_unpinned", "older_than"]))]
pub(crate) struct EvictArguments {
    /// These blobs.
    #[arg(value_name = "DIGEST")]
    pub(crate) digests: Vec<Digest>,
    /// All blobs that are not pinned.
    #[arg(long)]
    pub(crate) all_unpinned: bool,
    /// All blobs that are not pinned and were not used for this time, such as 30d. After a restart of the gateway, the
    /// time since a blob was written counts.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) older_than: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    // No comment for rustdoc, which takes the brackets for a link.
    #[arg(
        value_name = "IMAGE",
        required = true,
        value_parser = ImageName::as_clients_write,
        help = "An image: [HOST/]REPOSITORY[:TAG|@DIGEST]. Without a tag, it is latest"
    )]
    pub(crate) images: Vec<ImageName>,
    /// The folder of the layout. It is made if it is missing.
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    #[command(flatten)]
    pub(crate) reading: ReadingArguments,
}
