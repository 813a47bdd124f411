//! The command line.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

const MIB: u64 = 1 << 20;

/// Measures how pushed blobs reach the other zones: by the gateway, by rclone and as Quay's worker does
/// it, from the same stores in one run.
///
/// Three embedded stores, each behind a proxy that adds latency, and a stand-in Quay over them that
/// keeps every push in the first. Images of 20 blobs of mixed sizes lie there. The gateway's process is
/// told of them by their manifests; rclone copies the same files with one process per zone; Quay's
/// worker is a model: every 10 s it looks, and then copies one blob into one zone after the other, each
/// by HEAD, a streamed GET, an upload in parts, and HEAD. After each side the copies are removed.
///
/// Then images are pushed through the gateway one at a time, for how far the zones are behind at rest;
/// and all blobs once more while one zone is dead.
#[derive(Debug, Parser)]
#[command(
    name = "fanout",
    version,
    after_help = "Exit status: 0 if every goal is reached, 2 if one is missed, 1 if anything failed."
)]
pub(crate) struct Arguments {
    /// How many blobs.
    #[arg(long, default_value = "2000")]
    pub(crate) blobs: NonZeroUsize,
    /// Of every store, milliseconds before an answer.
    #[arg(long, default_value_t = 20)]
    latency: u64,
    /// Copies under way at once into a zone, by rclone; the gateway is as it comes.
    #[arg(long, default_value = "4")]
    pub(crate) at_once: NonZeroUsize,
    /// Images pushed one at a time, for the lag at rest.
    #[arg(long, default_value = "20")]
    pub(crate) images: NonZeroUsize,
    /// Size of such an image, MiB.
    #[arg(long, default_value_t = 100)]
    image: u64,
    /// rclone, if not the one on the PATH or of benches/install.
    #[arg(long)]
    pub(crate) rclone: Option<PathBuf>,
    /// Write the result as JSON to this file too.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Keep the gateway's logs in this folder. `RUST_LOG` says how much.
    #[arg(long)]
    pub(crate) logs: Option<PathBuf>,
}

impl Arguments {
    /// Before each answer of a store.
    pub(crate) fn latency(&self) -> Duration {
        Duration::from_millis(self.latency)
    }

    /// Bytes of an image for the lag.
    pub(crate) fn image(&self) -> u64 {
        self.image * MIB
    }
}
