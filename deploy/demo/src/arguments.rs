//! The command line.

use clap::{Parser, ValueEnum};

/// Shows what quay-gateway does, in one process and in less than a minute.
///
/// The demo starts three object stores (5, 40 and 120 ms away), a stand-in for Red Hat Quay that uses them, and the
/// gateway in front of it. It pushes an image of 200 MB through the gateway and waits for the copies in the other
/// zones. It pulls the image with an empty and with a full cache. Then it stops the home zone's store in the middle
/// of a pull, and at last Quay itself. For comparison, it does the same with Quay only. At the end it prints a table of the measurements, and
/// keeps running so that you can push and pull with the podman and skopeo commands that it prints.
///
/// Nothing is installed, no other program is started, and only loopback ports are used. All files are in one
/// temporary folder (in TMPDIR, at most about 1.5 GB), which is removed at the end.
#[derive(Debug, Parser)]
#[command(
    name = "demo",
    version,
    after_help = "Exit status: 0 if every check passed, 1 if not (the expected and the observed values are \
                  printed), 130 if interrupted before the end."
)]
pub(crate) struct Arguments {
    /// What is shown.
    #[arg(long, value_enum, default_value_t = Scenario::All)]
    pub(crate) scenario: Scenario,
    /// Exit after the table instead of staying up.
    #[arg(long)]
    pub(crate) once: bool,
    /// Leave the home zone down at the end, so that you can pull without it. Pushes need it.
    #[arg(long, conflicts_with = "once")]
    pub(crate) home_down: bool,
    /// Show the gateway's log instead of progress bars. Without this, warnings go to a file.
    #[arg(long)]
    pub(crate) verbose: bool,
}

/// What the demo shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Everything.
    All,
    /// Only that Quay stops: pulls go on, and pushes are refused.
    QuayDown,
}
