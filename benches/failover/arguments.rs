//! The command line.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Measures what clients notice of a zone's failure, at the gateway and at Quay alone, in one run.
///
/// Three embedded stores, each behind a proxy that adds latency and limits the speed of each body; a
/// stand-in Quay over them, which sends every reader to the first of them; the gateway's process in
/// front. One client asks each side for small blobs at an even rate, whatever becomes of those
/// before, while the first store, home, fails. For bodies that break, large blobs are on their way
/// then. Every blob is asked for once, so that no cache helps, and every byte is hashed. Each fault
/// meets a gateway that has just started and knows its zones for a few seconds.
///
/// Everything is on loopback and goes when the run ends.
#[derive(Debug, Parser)]
#[command(
    name = "failover",
    version,
    after_help = "Exit status: 0 if every goal is reached, 2 if one is missed, 1 if anything failed."
)]
pub(crate) struct Arguments {
    /// Which faults; all of them if none is named.
    #[arg(long = "fault-of", value_enum)]
    faults: Vec<Fault>,
    /// Small blobs asked for a second, of each side.
    #[arg(long, default_value = "50")]
    pub(crate) rate: NonZeroU32,
    /// Before each fault, seconds in which all is well.
    #[arg(long, default_value = "10")]
    healthy: NonZeroU64,
    /// How long each fault lasts, seconds.
    #[arg(long, default_value = "12")]
    fault: NonZeroU64,
    /// Of every store, milliseconds before an answer.
    #[arg(long, default_value_t = 40)]
    latency: u64,
    /// Of every store, MiB a second of each body.
    #[arg(long, default_value = "8")]
    bandwidth: NonZeroU64,
    /// Times that a store dies in mid-body, for each way to die.
    #[arg(long, default_value = "3")]
    pub(crate) rounds: NonZeroUsize,
    /// Bodies on their way then, on each side.
    #[arg(long, default_value = "8")]
    pub(crate) transfers: NonZeroUsize,
    /// Size of a small blob, KiB.
    #[arg(long, default_value = "64")]
    small: NonZeroU64,
    /// Size of a large one, MiB.
    #[arg(long, default_value = "8")]
    large: NonZeroU64,
    /// Write the result as JSON to this file too.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Keep the gateway's logs in this folder, a file for each fault. `RUST_LOG` says how much.
    #[arg(long)]
    pub(crate) logs: Option<PathBuf>,
}

/// What home does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// It is gone.
    Outage,
    /// It dies in mid-body.
    Bodies,
    /// It is ten times slower.
    BrownOut,
}

impl Arguments {
    /// The faults that are wanted.
    pub(crate) fn faults(&self) -> &[Fault] {
        if self.faults.is_empty() { Fault::value_variants() } else { &self.faults }
    }

    /// How long all is well before a fault.
    pub(crate) fn healthy(&self) -> Duration {
        Duration::from_secs(self.healthy.get())
    }

    /// How long a fault lasts.
    pub(crate) fn fault(&self) -> Duration {
        Duration::from_secs(self.fault.get())
    }

    /// Before each answer of a store.
    pub(crate) fn latency(&self) -> Duration {
        Duration::from_millis(self.latency)
    }

    /// Bytes a second of each body.
    pub(crate) fn bandwidth(&self) -> u64 {
        self.bandwidth.get() * MIB
    }

    /// Bytes of a small blob.
    pub(crate) fn small(&self) -> u64 {
        self.small.get() * KIB
    }

    /// Bytes of a large blob.
    pub(crate) fn large(&self) -> u64 {
        self.large.get() * MIB
    }
}
