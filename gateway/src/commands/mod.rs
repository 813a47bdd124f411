//! A thin file for each command.

mod bench;
mod check;
mod log;
mod output;
mod run;
mod signals;
mod zones;

pub(crate) use bench::bench_zones;
pub(crate) use check::{check, check_config};
pub(crate) use run::run;
pub(crate) use zones::zones;
