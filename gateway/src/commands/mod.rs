//! The commands, one file each. They parse arguments, call `operations` or `gateway`, and print the result.

mod admin_client;
mod audit;
mod bench;
mod brief;
mod certs;
mod check;
mod clients;
mod completions;
mod config;
mod heal;
mod log;
mod man;
mod output;
mod queue;
mod retire;
mod run;
mod screen;
mod signals;
mod support_bundle;
mod top;
mod zones;

pub(crate) use self::config::config;
pub(crate) use audit::audit;
pub(crate) use bench::bench_zones;
pub(crate) use certs::certs;
pub(crate) use check::{check, check_config};
pub(crate) use clients::clients;
pub(crate) use completions::completions;
pub(crate) use heal::{backfill, heal};
pub(crate) use man::man;
pub(crate) use queue::queue;
pub(crate) use run::run;
pub(crate) use support_bundle::support_bundle;
pub(crate) use top::top;
pub(crate) use zones::zones;
