//! The parts of the gateway that copies need: the registry behind them, and what operators see of them.

mod authority;
mod queue_sampler;
mod read_repair;
mod spool;
mod sweep_position;
mod sweep_progress;

pub(crate) use self::authority::Quay;
pub(crate) use self::queue_sampler::{Sampled, Sampler, run as sample};
pub(crate) use self::read_repair::ReadRepairs;
pub(crate) use self::spool::Spool;
pub(crate) use self::sweep_position::{PositionFile, SweepPosition, Tally};
pub(crate) use self::sweep_progress::SweepProgress;
