//! The command line.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

const MIB: u64 = 1 << 20;

/// Measures how pushed blobs reach the other zones: with the gateway, with rclone, and with a model of Quay's
/// worker, from the same stores in one run.
///
/// The run has three embedded stores, each behind a proxy that adds latency, and a stand-in for Quay that
/// keeps every push in the first store. Images of 20 blobs of mixed sizes are there. The gateway's process
/// learns of them from their manifests. rclone copies the same files with one process per zone. The model of
/// Quay's worker polls every 10 s, and then copies one blob after the other into one zone after the other,
/// each with HEAD, a streamed GET, a multipart upload, and HEAD. After each side the copies are removed.
///
/// After that, images are pushed through the gateway one at a time, to measure the lag of the zones at rest.
/// At last all blobs are copied again while one zone is dead.
#[derive(Debug, Parser)]
#[command(
    name = "fanout",
    version,
    after_help = "Exit status: 0 if every goal is met, 2 if a goal is missed, 1 on an error."
)]
pub(crate) struct Arguments {
    /// The number of blobs.
    #[arg(long, default_value = "2000")]
    pub(crate) blobs: NonZeroUsize,
    /// Latency of each store before an answer, in milliseconds.
    #[arg(long, default_value_t = 20)]
    latency: u64,
    /// rclone's concurrent copies per zone. The gateway uses its defaults.
    #[arg(long, default_value = "4")]
    pub(crate) at_once: NonZeroUsize,
    /// Images that are pushed one at a time, to measure the lag at rest.
    #[arg(long, default_value = "20")]
    pub(crate) images: NonZeroUsize,
    /// Size of such an image, in MiB.
    #[arg(long, default_value_t = 100)]
    image: u64,
    /// The rclone program. Default: the one of benches/install, or else the one on the PATH.
    #[arg(long)]
    pub(crate) rclone: Option<PathBuf>,
    /// Also write the result as JSON to this file.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Keep the gateway's logs in this folder. `RUST_LOG` sets the log level.
    #[arg(long)]
    pub(crate) logs: Option<PathBuf>,
}

impl Arguments {
    /// The latency of each store before an answer.
    pub(crate) fn latency(&self) -> Duration {
        Duration::from_millis(self.latency)
    }

    /// The size of an image for the lag, in bytes.
    pub(crate) fn image(&self) -> u64 {
        self.image * MIB
    }
}
