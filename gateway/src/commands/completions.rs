//! `completions`.

use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::{Shell, generate};

use super::brief::brief;
use super::output::print;
use crate::arguments::{Arguments, ShellArgument};

/// The name of the program that is completed.
const PROGRAM: &str = "quay-gateway";

/// Prints the completions for a shell.
pub(crate) fn completions(shell: ShellArgument) -> anyhow::Result<ExitCode> {
    print(&script(shell)?)?;
    Ok(ExitCode::SUCCESS)
}

fn script(shell: ShellArgument) -> anyhow::Result<String> {
    let shell = match shell {
        ShellArgument::Bash => Shell::Bash,
        ShellArgument::Zsh => Shell::Zsh,
        ShellArgument::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    generate(shell, &mut brief(Arguments::command()), PROGRAM, &mut script);
    // clap_complete's script for bash enters a state by one name and looks for it by the other, because the program's
    // name has a hyphen: its commands would not be completed.
    Ok(String::from_utf8(script)?.replace("quay__subcmd__gateway", "quay__gateway"))
}
