//! The commands, one file each. They parse arguments, call `operations` or `gateway`, and print the result.

mod admin_client;
mod audit;
mod bench;
mod certs;
mod check;
mod clients;
mod heal;
mod log;
mod output;
mod queue;
mod retire;
mod run;
mod signals;
mod zones;

use std::process::ExitCode;

pub(crate) use audit::audit;
pub(crate) use bench::bench_zones;
pub(crate) use certs::certs;
pub(crate) use check::{check, check_config};
pub(crate) use clients::clients;
pub(crate) use heal::{backfill, heal};
pub(crate) use queue::queue;
pub(crate) use run::run;
pub(crate) use zones::zones;

/// A configuration that is refused, as `sysexits.h` has it (`EX_CONFIG`).
const EXIT_CONFIG: u8 = 78;

/// The status of a command that ends with this error.
pub(crate) fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.is::<config::ConfigError>() { ExitCode::from(EXIT_CONFIG) } else { ExitCode::FAILURE }
}
