//! The command line.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

const MIB: u64 = 1 << 20;

/// Measures put and get of the gateway's drivers and of rclone, on the same real servers in one run.
///
/// There are two workloads: one large object, and many small ones. Both sides take turns (ours, rclone, ours,
/// ...). Each turn is timed as a whole: our side with a new client, login and connections, rclone as one
/// process. Sources are files in the page cache, and gets write files to the same file system. Our side
/// verifies the SHA-256 of every byte in both directions, rclone the MD5; therefore gets read what rclone
/// wrote. Objects that others wrote to S3 in parts have no MD5, so rclone verifies nothing; they are a
/// separate row. The results are medians, and the ratio rclone/ours of the times. Above 1, our side is
/// faster.
///
/// The servers are those of the tests (tests/run --install-only). rclone is the one on the PATH or of
/// benches/install. Everything runs on loopback and is removed at the end.
#[derive(Debug, Parser)]
#[command(
    name = "stores",
    version,
    after_help = "Exit status: 0 if every ratio of what both check is 1 or above, 2 if one is below, 1 if \
                  anything failed."
)]
pub(crate) struct Arguments {
    /// The servers to use; all if none is named.
    #[arg(long = "store", value_enum)]
    pub(crate) stores: Vec<Server>,
    /// Turns of each side.
    #[arg(long, default_value = "3")]
    pub(crate) rounds: NonZeroUsize,
    /// Size of the large object, in MiB; 0 skips this workload.
    #[arg(long, default_value_t = 1024)]
    pub(crate) large: u64,
    /// Number of small objects; 0 skips this workload.
    #[arg(long, default_value_t = 1000)]
    pub(crate) objects: usize,
    /// Size of a small object, in KiB.
    #[arg(long, default_value = "64")]
    pub(crate) object_size: NonZeroU64,
    /// Concurrent small objects, on both sides.
    #[arg(long, default_value = "8")]
    pub(crate) at_once: NonZeroUsize,
    /// The rclone program. Default: the one of benches/install, or else the one on the PATH.
    #[arg(long)]
    pub(crate) rclone: Option<PathBuf>,
    /// The folder for sources and targets. A temporary folder is created in it and removed.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    pub(crate) folder: PathBuf,
    /// Also write the result as JSON to this file.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
}

/// A server to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Server {
    /// Ceph's RADOS gateway, with S3.
    Radosgw,
    /// OpenStack Swift with Keystone.
    Swift,
    /// SeaweedFS, with S3.
    Seaweedfs,
}

impl Arguments {
    /// The servers to use.
    pub(crate) fn servers(&self) -> &[Server] {
        if self.stores.is_empty() { Server::value_variants() } else { &self.stores }
    }

    /// The size of the large object, in bytes.
    pub(crate) fn large_bytes(&self) -> u64 {
        self.large * MIB
    }

    /// The size of a small object, in bytes.
    pub(crate) fn object_bytes(&self) -> u64 {
        self.object_size.get() * 1024
    }
}
