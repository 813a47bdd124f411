//! The command line.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

const MIB: u64 = 1 << 20;

/// Measures put and get of our drivers beside rclone, on the same real servers in one run.
///
/// Two workloads: one large object, and many small ones. Both sides take turns (ours, rclone, ours,
/// ...); each turn is timed from nothing to done, ours with a client, a login and connections of its
/// own, rclone as one process. Sources are files in the page cache; gets write files to the same file
/// system. Ours proves the SHA-256 of every byte both ways, rclone the MD5: so gets read what rclone
/// wrote. Objects that others wrote to S3 in parts have no MD5 and rclone checks nothing; they are a
/// row of their own. The result are medians, and the ratio rclone/ours of their times: above 1, ours
/// is the faster.
///
/// The servers are those of the tests (tests/run --install-only), rclone is found on the PATH or
/// where benches/install puts it. Everything is on loopback and goes when the run ends.
#[derive(Debug, Parser)]
#[command(
    name = "stores",
    version,
    after_help = "Exit status: 0 if every ratio of what both check is 1 or above, 2 if one is below, 1 if \
                  anything failed."
)]
pub(crate) struct Arguments {
    /// Which servers; all of them if none is named.
    #[arg(long = "store", value_enum)]
    pub(crate) stores: Vec<Server>,
    /// Turns of each side.
    #[arg(long, default_value = "3")]
    pub(crate) rounds: NonZeroUsize,
    /// Size of the large object, MiB; 0 leaves this workload out.
    #[arg(long, default_value_t = 1024)]
    pub(crate) large: u64,
    /// How many small objects; 0 leaves this workload out.
    #[arg(long, default_value_t = 1000)]
    pub(crate) objects: usize,
    /// Size of a small object, KiB.
    #[arg(long, default_value = "64")]
    pub(crate) object_size: NonZeroU64,
    /// Small objects under way at once, on both sides.
    #[arg(long, default_value = "8")]
    pub(crate) at_once: NonZeroUsize,
    /// rclone, if not the one on the PATH or of benches/install.
    #[arg(long)]
    pub(crate) rclone: Option<PathBuf>,
    /// Where sources and targets lie; a temporary folder within it is made and removed.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    pub(crate) folder: PathBuf,
    /// Write the result as JSON to this file too.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
}

/// What is measured against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Server {
    /// Ceph's RADOS gateway, by S3.
    Radosgw,
    /// OpenStack's Swift with Keystone.
    Swift,
    /// SeaweedFS, by S3.
    Seaweedfs,
}

impl Arguments {
    /// The servers that are wanted.
    pub(crate) fn servers(&self) -> &[Server] {
        if self.stores.is_empty() { Server::value_variants() } else { &self.stores }
    }

    /// Size of the large object, bytes.
    pub(crate) fn large_bytes(&self) -> u64 {
        self.large * MIB
    }

    /// Size of a small object, bytes.
    pub(crate) fn object_bytes(&self) -> u64 {
        self.object_size.get() * 1024
    }
}
