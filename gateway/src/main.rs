//! The `quay-gateway` command.

mod arguments;
mod commands;
mod exit;

use std::process::ExitCode;

use clap::Parser as _;

use crate::arguments::{Arguments, BenchCommand, Command};

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Audit(arguments) => commands::audit(&arguments),
        Command::Backfill(arguments) => commands::backfill(&arguments),
        Command::Bench { command: BenchCommand::Zones(arguments) } => commands::bench_zones(arguments),
        Command::Cache(arguments) => commands::cache(&arguments),
        Command::Certs(arguments) => commands::certs(&arguments),
        Command::Check { config, output, timeout } => commands::check(&config, output, timeout),
        Command::CheckConfig { config, output } => commands::check_config(&config, output),
        Command::Clients(arguments) => commands::clients(&arguments),
        Command::Config { command } => commands::config(&command),
        Command::Completions(arguments) => commands::completions(arguments.shell),
        Command::Heal(arguments) => commands::heal(&arguments),
        Command::Man(arguments) => commands::man(&arguments.out),
        Command::Queue(arguments) => commands::queue(&arguments),
        Command::Run { config, log_format } => commands::run(&config, log_format),
        Command::SupportBundle(arguments) => commands::support_bundle(&arguments),
        Command::Top(arguments) => commands::top(&arguments),
        Command::Warm(arguments) => commands::warm(&arguments),
        Command::Zones(arguments) => commands::zones(&arguments),
    };
    done.unwrap_or_else(|error| {
        print_error(&error);
        exit::of_error(&error)
    })
}

#[allow(clippy::print_stderr)]
fn print_error(error: &anyhow::Error) {
    eprintln!("quay-gateway: {error:#}");
}
