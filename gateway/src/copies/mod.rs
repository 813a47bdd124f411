//! What copies to other zones need of the registry, and what operators see of them.

mod authority;
mod queue_sampler;
mod read_repair;
mod spool;
mod sweep_place;
mod sweep_progress;

pub(crate) use self::authority::Quay;
pub(crate) use self::queue_sampler::{Sampler, run as sample};
pub(crate) use self::read_repair::ReadRepairs;
pub(crate) use self::spool::Spool;
pub(crate) use self::sweep_place::{Keeper, Place, Tally};
pub(crate) use self::sweep_progress::SweepProgress;
