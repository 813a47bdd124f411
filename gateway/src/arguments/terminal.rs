//! The arguments of `completions` and `man`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// `completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArguments {
    /// The shell.
    #[arg(value_name = "SHELL")]
    pub(crate) shell: ShellArgument,
}

/// A shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShellArgument {
    /// bash, with the package bash-completion or without.
    Bash,
    /// zsh: a file `_quay-gateway` for a folder of $fpath.
    Zsh,
    /// fish.
    Fish,
}

/// `man`.
#[derive(Debug, Args)]
pub(crate) struct ManArguments {
    /// The folder for the pages, which is made if it is missing. Pages that are there are replaced.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}
