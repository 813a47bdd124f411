//! What an operator meets on the terminal: completions, manual pages, formats of results, support bundles, `top`.

mod completions;
mod manual;
mod output;
mod support_bundle;
mod top;

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Runs a program to its end. Returns what it prints.
fn run(program: &mut Command) -> Result<String> {
    let output = program.output().with_context(|| format!("{program:?}; tests/install installs it"))?;
    let text = String::from_utf8([output.stdout, output.stderr].concat())?;
    ensure!(output.status.success(), "{program:?} ends with {}: {text}", output.status);
    Ok(text)
}

/// The gateway's binary, without the variables of the machine.
fn quay_gateway(arguments: &[&str]) -> Command {
    let mut command = Command::new(harness::gateway::binary());
    command.args(arguments);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("QUAY_")) {
        command.env_remove(name);
    }
    command
}
