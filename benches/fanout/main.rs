//! How pushed blobs reach the other zones: by the gateway, by rclone, and as Quay's worker does it.

#![expect(clippy::print_stdout, reason = "a command-line program")]

mod arguments;
mod lag;
mod ours;
mod quay;
mod report;
mod stage;
mod theirs;

use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use benches::json;
use benches::measure::{Cost, Process, timed};
use benches::rclone::Rclone;
use clap::Parser as _;
use indicatif::{ProgressBar, ProgressStyle};

use crate::arguments::Arguments;
use crate::ours::{Fanned, fan_out};
use crate::report::{Report, Row, seconds};
use crate::stage::{Stage, has};

/// Exit status where a goal is missed.
const EXIT_MISSED: u8 = 2;

/// The gateway is to be done in this part of the time of Quay's worker.
const QUAY_GOAL: f64 = 0.2;
/// Its memory, MiB.
const MEMORY_GOAL: f64 = 128.0;
/// How far the zones are behind at rest, seconds: half of all images, and all but one of a hundred.
const LAG_GOALS: [(&str, f64, f64); 2] = [("p50", 0.5, 2.0), ("p99", 0.99, 10.0)];
/// The zone that dies, …
const DEAD: &str = "zone-c";
/// … and what a living one may take longer then, for the noise of the machine.
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
    let stage = Stage::start(arguments).await?;
    turn("the gateway copies");
    let ours = fan_out(&stage, arguments, "all", None).await?;
    stage.clear();
    turn("rclone copies");
    let theirs = timed(Process::Children, theirs::copy(&stage, &rclone, arguments.at_once.get())).await?;
    all_came(&stage)?;
    turn("Quay's worker copies");
    stage.clear();
    let quay = timed(Process::Own, quay::replicate(&stage)).await?;
    all_came(&stage)?;
    stage.clear();
    turn("the gateway copies while a zone is dead");
    let dead = fan_out(&stage, arguments, "dead", Some(DEAD)).await?;
    stage.clear();
    turn("images are pushed one at a time");
    let lags = lag::lags(&stage, arguments).await?;
    bar.finish_and_clear();
    let mut rows = race(&stage, &ours, &theirs, &quay);
    for (name, q, goal) in LAG_GOALS {
        let rank = (lags.len() as f64 * q).ceil() as usize;
        let lag = lags.get(rank.saturating_sub(1)).copied().unwrap_or_default();
        rows.push(Row::new(&format!("lag at rest, {name}"), "s", seconds(lag)).with_goal(goal));
    }
    rows.push(living(&ours, &dead)?);
    Ok(Report {
        cores: std::thread::available_parallelism()?.get(),
        blobs: stage.items.len(),
        mib: stage.bytes() as f64 / MIB,
        latency_ms: arguments.latency().as_millis(),
        rclone: rclone.version().await?,
        rows,
    })
}

fn all_came(stage: &Stage) -> Result<()> {
    for zone in stage.targets() {
        ensure!(has(zone, &stage.items), "{} lacks a copy", zone.name);
    }
    Ok(())
}

fn race(stage: &Stage, ours: &Fanned, theirs: &Cost, quay: &Cost) -> Vec<Row> {
    let last = seconds(ours.last());
    let copied = stage.bytes() as f64 / MIB / 1024.0 * stage.targets().len() as f64;
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

/// What a dead zone does to the living one.
fn living(ours: &Fanned, dead: &Fanned) -> Result<Row> {
    let first = |fanned: &Fanned| fanned.zones.first().copied().flatten().context("no copies");
    let ratio = seconds(first(dead)?) / seconds(first(ours)?);
    Ok(Row::new("a living zone's time, beside a dead one", "times", ratio).with_goal(DEAD_GOAL))
}
