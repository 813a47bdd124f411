//! Measures what clients notice when a zone fails, with the gateway and with Quay only.

#![expect(clippy::print_stdout, reason = "a command-line program")]

mod arguments;
mod fixture;
mod load;
mod measurement;
mod midbody;
mod outage;
mod puller;
mod report;
mod sample;

use std::process::ExitCode;

use anyhow::Result;
use benches::json;
use clap::Parser as _;
use indicatif::{ProgressBar, ProgressStyle};

use crate::arguments::{Arguments, Fault};
use crate::fixture::Fixture;
use crate::report::Report;

/// The exit status if a goal is missed.
const EXIT_MISSED: u8 = 2;

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let report = run(&arguments).await?;
    println!("{}", report.table());
    println!(
        "{} blobs a second of each side, stores {} ms away, {} cores for all",
        report.rate, report.latency_ms, report.cores
    );
    json::keep(&report, arguments.json.as_deref())?;
    Ok(if report.reached() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_MISSED) })
}

async fn run(arguments: &Arguments) -> Result<Report> {
    let bar = ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{elapsed} {wide_msg}")?);
    let turn = |what: &'static str| {
        bar.set_message(what);
        bar.tick();
    };
    turn("makes blobs");
    let fixture = Fixture::start(arguments).await?;
    let mut rows = Vec::new();
    for fault in arguments.faults() {
        rows.extend(match fault {
            Fault::Outage => {
                turn("home is gone");
                outage::outages(&fixture, arguments).await?
            }
            Fault::Bodies => {
                turn("home dies in mid-body");
                midbody::bodies(&fixture, arguments).await?
            }
            Fault::BrownOut => {
                turn("home is ten times slower");
                outage::brown_out(&fixture, arguments).await?
            }
        });
    }
    bar.finish_and_clear();
    Ok(Report {
        cores: std::thread::available_parallelism()?.get(),
        rate: arguments.rate.get(),
        latency_ms: u64::try_from(arguments.latency().as_millis())?,
        rows,
    })
}
