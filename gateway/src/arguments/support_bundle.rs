//! The arguments of `support-bundle`.

use std::path::PathBuf;

use clap::Args;

use super::AdminArguments;

/// `support-bundle`.
#[derive(Debug, Args)]
pub(crate) struct SupportBundleArguments {
    /// The configuration file of the gateway. If it is refused, the bundle says why.
    #[arg(long, value_name = "FILE", env = "QUAY_GATEWAY_CONFIG")]
    pub(crate) config: PathBuf,
    #[command(flatten)]
    pub(crate) gateway: AdminArguments,
    /// A file with the gateway's log, or - for standard input. Its last 8 MiB are taken.
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// The archive to write, or - for standard output. By default, a file with the time in its name in this folder. An
    /// existing file is not replaced.
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,
    /// Show no progress on standard error.
    #[arg(long)]
    pub(crate) quiet: bool,
}
