//! `config`.

use std::process::ExitCode;

use operations::config_diff::{ConfigDiff, table};

use super::admin_client::client_for;
use super::output::{csv_of, print, rendered, runtime};
use crate::arguments::{ConfigCommand, DiffArguments};
use crate::exit;

/// The columns of a change in CSV.
const COLUMNS: [&str; 5] = ["key", "applied", "from", "to", "secret"];

/// Shows what differs between two configurations.
pub(crate) fn config(command: &ConfigCommand) -> anyhow::Result<ExitCode> {
    let ConfigCommand::Diff(arguments) = command;
    let diff = diff(arguments)?;
    print(&rendered(arguments.output, &diff, || table(&diff), csv_of(&COLUMNS, Some("changes")))?)?;
    Ok(exit::of_diff(&diff))
}

fn diff(arguments: &DiffArguments) -> anyhow::Result<ConfigDiff> {
    let settings = config::load(&arguments.config)?;
    match &arguments.against {
        Some(older) => Ok(ConfigDiff::between(&config::load(older)?, &settings)),
        None => runtime()?.block_on(client_for(&arguments.admin, &settings)?.config_diff()),
    }
}
