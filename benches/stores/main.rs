//! Measures the throughput of the gateway's drivers and of rclone on real servers.

#![expect(clippy::print_stdout, reason = "a command-line program")]

mod arguments;
mod files;
mod ours;
mod rclone;
mod report;
mod server;

use std::process::ExitCode;

use anyhow::Result;
use benches::json;
use benches::measure::{Cost, Process, timed};
use benches::rclone::Rclone;
use clap::Parser as _;
use indicatif::{ProgressBar, ProgressStyle};

use crate::arguments::Arguments;
use crate::files::{Folder, Set};
use crate::report::{Direction, Report, Row};
use crate::server::Running;

/// The exit status if our side is slower.
const EXIT_SLOWER: u8 = 2;

/// The S3 driver writes larger objects in parts, in bytes.
const PARTS_ABOVE: u64 = 64 << 20;

/// The prefix of the objects that are written before gets are measured.
const READ: &str = "read";

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let report = run(&arguments).await?;
    println!("{}", report.table());
    println!(
        "rclone {}, of its times {:.3} s for its start; {} rounds, {} small objects at once, {} cores",
        report.rclone, report.rclone_start_s, report.rounds, report.at_once, report.cores
    );
    json::keep(&report, arguments.json.as_deref())?;
    Ok(if report.reached() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_SLOWER) })
}

async fn run(arguments: &Arguments) -> Result<Report> {
    let rclone = Rclone::find(arguments.rclone.as_deref())?;
    let mut report = Report {
        rclone: rclone.version().await?,
        rclone_start_s: rclone.start().await?.as_secs_f64(),
        rounds: arguments.rounds.get(),
        at_once: arguments.at_once.get(),
        cores: std::thread::available_parallelism()?.get(),
        rows: Vec::new(),
    };
    let folder = Folder::make(&arguments.folder)?;
    let works = works(arguments, &folder)?;
    let bar = ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{elapsed} {wide_msg}")?);
    for server in arguments.servers() {
        bar.set_message("starts a server");
        let server = Running::start(*server).await?;
        for (name, set) in &works {
            let bench =
                Bench { arguments, rclone: &rclone, folder: &folder, server: &server, set, bar: &bar };
            for direction in bench.directions() {
                let (ours, theirs) = match direction {
                    Direction::Put => bench.puts().await?,
                    Direction::Get | Direction::GetUnchecked => bench.gets(direction).await?,
                };
                let row = Row::new(server.name, name.clone(), direction, set.bytes(), (&ours, &theirs));
                report.rows.push(row);
            }
        }
    }
    bar.finish_and_clear();
    Ok(report)
}

/// The requested workloads, by name.
fn works(arguments: &Arguments, folder: &Folder) -> Result<Vec<(String, Set)>> {
    let mut works = Vec::new();
    if arguments.large > 0 {
        let set = Set::make(folder.sources("large"), 1, arguments.large_bytes())?;
        works.push((format!("1 x {} MiB", arguments.large), set));
    }
    if arguments.objects > 0 {
        let set = Set::make(folder.sources("small"), arguments.objects, arguments.object_bytes())?;
        works.push((format!("{} x {} KiB", arguments.objects, arguments.object_size), set));
    }
    Ok(works)
}

/// One workload at one server.
struct Bench<'a> {
    arguments: &'a Arguments,
    rclone: &'a Rclone,
    folder: &'a Folder,
    server: &'a Running,
    set: &'a Set,
    bar: &'a ProgressBar,
}

impl Bench<'_> {
    /// The directions to measure. With S3, an object that another client wrote in parts has no MD5 for
    /// rclone.
    fn directions(&self) -> Vec<Direction> {
        let mut directions = vec![Direction::Put, Direction::Get];
        if self.server.hides_md5_of_parts && self.set.items.iter().any(|item| item.size > PARTS_ABOVE) {
            directions.push(Direction::GetUnchecked);
        }
        directions
    }

    /// Writes in turns. The objects are removed between turns.
    async fn puts(&self) -> Result<(Vec<Cost>, Vec<Cost>)> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        self.set.check().await?;
        for round in 0..self.arguments.rounds.get() {
            let prefix = format!("ours-{round}");
            self.turn("put, ours");
            let turn = async { ours::put(&*self.server.store()?, &prefix, self.set, self.at_once()).await };
            ours.push(timed(Process::Own, turn).await?);
            self.remove(&prefix).await?;

            let prefix = format!("rclone-{round}");
            self.turn("put, rclone");
            let turn = self.server.remote.put(self.rclone, &prefix, self.set, self.at_once());
            theirs.push(timed(Process::Children, turn).await?);
            self.remove(&prefix).await?;
        }
        Ok((ours, theirs))
    }

    /// Reads the same objects in turns.
    async fn gets(&self, direction: Direction) -> Result<(Vec<Cost>, Vec<Cost>)> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        match direction {
            Direction::GetUnchecked => {
                ours::put(&*self.server.store()?, READ, self.set, self.at_once()).await?;
            }
            _ => self.server.remote.put(self.rclone, READ, self.set, self.at_once()).await?,
        }
        for _ in 0..self.arguments.rounds.get() {
            self.turn("get, ours");
            let folder = self.folder.target()?;
            let turn =
                async { ours::get(&*self.server.store()?, READ, self.set, &folder, self.at_once()).await };
            ours.push(timed(Process::Own, turn).await?);

            self.turn("get, rclone");
            let folder = self.folder.target()?;
            let turn = self.server.remote.get(self.rclone, READ, self.set, &folder, self.at_once());
            theirs.push(timed(Process::Children, turn).await?);
        }
        self.remove(READ).await?;
        Ok((ours, theirs))
    }

    fn at_once(&self) -> usize {
        self.arguments.at_once.get()
    }

    fn turn(&self, what: &str) {
        self.bar.set_message(format!("{}: {what}", self.server.name));
        self.bar.tick();
    }

    async fn remove(&self, prefix: &str) -> Result<()> {
        ours::remove(&*self.server.store()?, prefix, self.set, self.at_once()).await?;
        self.server.collect_garbage().await
    }
}
