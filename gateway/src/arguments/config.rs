//! The arguments of `config`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{AdminArguments, Output, examples};

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show what a reload would change: each key, its value now and then, and whether a reload applies the change or a
    /// restart is needed.
    ///
    /// Without --against, the running gateway itself compares what it runs with the files and the environment that it
    /// would read again. With --against, the older configuration is a file, and no gateway is asked. Defaults count
    /// like values that are written. Secrets are compared and not shown.
    ///
    /// The exit status is 0 if nothing differs, 3 if a reload applies everything, 4 if something needs a restart, and
    /// 78 if a configuration is refused.
    #[command(after_help = examples::CONFIG_DIFF)]
    Diff(DiffArguments),
}

#[derive(Debug, Args)]
pub(crate) struct DiffArguments {
    /// The configuration file of the gateway; with --against, the newer one.
    #[arg(long, value_name = "FILE", env = "QUAY_GATEWAY_CONFIG")]
    pub(crate) config: PathBuf,
    /// The older configuration file, instead of what the gateway runs.
    #[arg(long, value_name = "FILE", conflicts_with = "admin")]
    pub(crate) against: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) admin: AdminArguments,
    /// The format of the result.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}
