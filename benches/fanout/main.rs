//! Measures how pushed blobs reach the other zones: with the gateway, with rclone, and with a model of Quay's
//! worker.

#![expect(clippy::print_stdout, reason = "a command-line program")]

mod arguments;
mod fixture;
mod lag;
mod ours;
mod quay;
mod report;
mod theirs;

use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use benches::json;
use benches::measure::{Cost, Process, timed};
use benches::rclone::Rclone;
use clap::Parser as _;
use indicatif::{ProgressBar, ProgressStyle};

use crate::arguments::Arguments;
use crate::fixture::{Fixture, has};
use crate::ours::{Fanned, fan_out};
use crate::report::{Report, Row, seconds};

/// The exit status if a goal is missed.
const EXIT_MISSED: u8 = 2;

/// The goal for the gateway's time, as a fraction of the time of Quay's worker.
const QUAY_GOAL: f64 = 0.2;
/// The goal for the gateway's memory, in MiB.
const MEMORY_GOAL: f64 = 128.0;
/// The goals for the lag at rest, in seconds: the median, and the 99th percentile.
const LAG_GOALS: [(&str, f64, f64); 2] = [("p50", 0.5, 2.0), ("p99", 0.99, 10.0)];
/// The zone that dies.
const DEAD: &str = "zone-c";
/// The goal for a living zone while another zone is dead, as a multiple of its usual time. It allows for
/// noise.
const DEAD_GOAL: f64 = 1.05;

const MIB: f64 = 1024.0 * 1024.0;

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let report = run(&arguments).await?;
    println!("{}", report.table());
    println!(
        "{} blobs, {:.0} MiB, into two zones each; stores {} ms away; rclone {}; {} cores for all",
        report.blobs, report.mib, report.latency_ms, report.rclone, report.cores
    );
    json::keep(&report, arguments.json.as_deref())?;
    Ok(if report.reached() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_MISSED) })
}

async fn run(arguments: &Arguments) -> Result<Report> {
    let rclone = Rclone::find(arguments.rclone.as_deref())?;
    let bar = ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{elapsed} {wide_msg}")?);
    let turn = |what: &'static str| {
        bar.set_message(what);
        bar.tick();
    };
    turn("makes images");
    let fixture = Fixture::start(arguments).await?;
    turn("the gateway copies");
    let ours = fan_out(&fixture, arguments, "all", None).await?;
    fixture.clear();
    turn("rclone copies");
    let theirs = timed(Process::Children, theirs::copy(&fixture, &rclone, arguments.at_once.get())).await?;
    all_came(&fixture)?;
    turn("Quay's worker copies");
    fixture.clear();
    let quay = timed(Process::Own, quay::replicate(&fixture)).await?;
    all_came(&fixture)?;
    fixture.clear();
    turn("the gateway copies while a zone is dead");
    let dead = fan_out(&fixture, arguments, "dead", Some(DEAD)).await?;
    fixture.clear();
    turn("images are pushed one at a time");
    let lags = lag::lags(&fixture, arguments).await?;
    bar.finish_and_clear();
    let mut rows = race(&fixture, &ours, &theirs, &quay);
    for (name, q, goal) in LAG_GOALS {
        let rank = (lags.len() as f64 * q).ceil() as usize;
        let lag = lags.get(rank.saturating_sub(1)).copied().unwrap_or_default();
        rows.push(Row::new(&format!("lag at rest, {name}"), "s", seconds(lag)).with_goal(goal));
    }
    rows.push(living(&ours, &dead)?);
    Ok(Report {
        cores: std::thread::available_parallelism()?.get(),
        blobs: fixture.items.len(),
        mib: fixture.bytes() as f64 / MIB,
        latency_ms: arguments.latency().as_millis(),
        rclone: rclone.version().await?,
        rows,
    })
}

fn all_came(fixture: &Fixture) -> Result<()> {
    for zone in fixture.targets() {
        ensure!(has(zone, &fixture.items), "{} lacks a copy", zone.name);
    }
    Ok(())
}

fn race(fixture: &Fixture, ours: &Fanned, theirs: &Cost, quay: &Cost) -> Vec<Row> {
    let last = seconds(ours.last());
    let copied = fixture.bytes() as f64 / MIB / 1024.0 * fixture.targets().len() as f64;
    let (theirs_last, quay_last) = (seconds(theirs.wall), seconds(quay.wall));
    vec![
        Row::new("time to the last copy", "s", last)
            .beside(Some(theirs_last), Some(quay_last))
            .with_goal(theirs_last.min(quay_last * QUAY_GOAL)),
        Row::new("processor per GiB copied", "s", seconds(ours.cpu) / copied)
            .beside(Some(seconds(theirs.cpu) / copied), None)
            .with_goal(seconds(theirs.cpu) / copied),
        Row::new("memory at most", "MiB", ours.memory as f64 / MIB).with_goal(MEMORY_GOAL),
    ]
}

/// The effect of a dead zone on the living one.
fn living(ours: &Fanned, dead: &Fanned) -> Result<Row> {
    let first = |fanned: &Fanned| fanned.zones.first().copied().flatten().context("no copies");
    let ratio = seconds(first(dead)?) / seconds(first(ours)?);
    Ok(Row::new("time of a living zone while another is dead", "times", ratio).with_goal(DEAD_GOAL))
}
