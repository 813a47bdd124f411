//! The command line.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Measures what clients notice when a zone fails, with the gateway and with Quay only.
///
/// The run has three embedded stores, each behind a proxy that adds latency and limits the speed of each
/// body; a stand-in for Quay that sends every reader to the first store; and the gateway's process. One
/// client on each side requests small blobs at a constant rate, whether or not earlier requests are done,
/// while the first store, home, fails. For failures within bodies, large blobs are in flight at that time.
/// Each blob is requested once, so that no cache helps, and every byte is hashed. For each fault the gateway
/// is started anew and has known its zones for a few seconds.
///
/// Everything runs on loopback and is removed at the end.
#[derive(Debug, Parser)]
#[command(
    name = "failover",
    version,
    after_help = "Exit status: 0 if every goal is met, 2 if a goal is missed, 1 on an error."
)]
pub(crate) struct Arguments {
    /// The faults to run; all if none is named.
    #[arg(long = "fault-of", value_enum)]
    faults: Vec<Fault>,
    /// Small blobs that each side requests per second.
    #[arg(long, default_value = "50")]
    pub(crate) rate: NonZeroU32,
    /// Seconds without a fault before each fault.
    #[arg(long, default_value = "10")]
    healthy: NonZeroU64,
    /// Duration of each fault, in seconds.
    #[arg(long, default_value = "12")]
    fault: NonZeroU64,
    /// Latency of each store before an answer, in milliseconds.
    #[arg(long, default_value_t = 40)]
    latency: u64,
    /// Speed of each body from a store, in MiB per second.
    #[arg(long, default_value = "8")]
    bandwidth: NonZeroU64,
    /// How often a store fails within bodies, for each kind of failure.
    #[arg(long, default_value = "3")]
    pub(crate) rounds: NonZeroUsize,
    /// Bodies in flight at that time, on each side.
    #[arg(long, default_value = "8")]
    pub(crate) transfers: NonZeroUsize,
    /// Size of a small blob, in KiB.
    #[arg(long, default_value = "64")]
    small: NonZeroU64,
    /// Size of a large blob, in MiB.
    #[arg(long, default_value = "8")]
    large: NonZeroU64,
    /// Also write the result as JSON to this file.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Keep the gateway's logs in this folder, one file per fault. `RUST_LOG` sets the log level.
    #[arg(long)]
    pub(crate) logs: Option<PathBuf>,
}

/// The fault of the home store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// It is unreachable or silent.
    Outage,
    /// It fails while bodies are in flight.
    Bodies,
    /// It is ten times slower.
    BrownOut,
}

impl Arguments {
    /// The faults to run.
    pub(crate) fn faults(&self) -> &[Fault] {
        if self.faults.is_empty() { Fault::value_variants() } else { &self.faults }
    }

    /// The time without a fault before each fault.
    pub(crate) fn healthy(&self) -> Duration {
        Duration::from_secs(self.healthy.get())
    }

    /// The duration of each fault.
    pub(crate) fn fault(&self) -> Duration {
        Duration::from_secs(self.fault.get())
    }

    /// The latency of each store before an answer.
    pub(crate) fn latency(&self) -> Duration {
        Duration::from_millis(self.latency)
    }

    /// The speed of each body, in bytes per second.
    pub(crate) fn bandwidth(&self) -> u64 {
        self.bandwidth.get() * MIB
    }

    /// The size of a small blob, in bytes.
    pub(crate) fn small(&self) -> u64 {
        self.small.get() * KIB
    }

    /// The size of a large blob, in bytes.
    pub(crate) fn large(&self) -> u64 {
        self.large.get() * MIB
    }
}
