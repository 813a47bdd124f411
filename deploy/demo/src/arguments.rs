//! The command line.

use clap::Parser;

/// Shows what quay-gateway does, in one process and under a minute.
///
/// It starts three object stores (5, 40 and 120 ms away), a stand-in for Red Hat Quay over them,
/// and the gateway before it. Then it pushes an image of 200 MB through the gateway, watches the
/// copies arrive in the other zones, pulls the image cold and warm, kills the home zone's store in
/// mid-pull and pulls on, and does the same at Quay alone. It ends in a table of what was measured,
/// and stays up so that you can push and pull by hand with the podman and skopeo lines it prints.
///
/// Nothing is installed, no other program is started, and only loopback ports are used. All files
/// lie in one temporary folder (TMPDIR, about 1.5 GB at most) that goes when the demo ends.
#[derive(Debug, Parser)]
#[command(
    name = "demo",
    version,
    after_help = "Exit status: 0 if all of it was seen to work, 1 if not (what was expected and what was \
                  seen is printed), 130 if interrupted before the end."
)]
pub(crate) struct Arguments {
    /// End after the table instead of staying up.
    #[arg(long)]
    pub(crate) once: bool,
    /// Leave the home zone dead at the end, to pull by hand without it (pushes need it).
    #[arg(long, conflicts_with = "once")]
    pub(crate) home_down: bool,
    /// Show what the gateway logs, without progress bars. Otherwise warnings go to a file.
    #[arg(long)]
    pub(crate) verbose: bool,
}
