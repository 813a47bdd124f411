//! Pushes through the real gateway, which is killed at random moments. No acknowledged blob may be missing in
//! any zone, and no blob may be wrong. See `README.md` in this folder.

mod cycles;
mod tally;

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use cycles::{Engine, World};
use tally::{Batch, Tally};

/// Cycles per engine in the short run.
const CYCLES: u64 = 30;
/// After this many cycles everything is checked, and the result is recorded in a long run.
const BATCH: u64 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite() -> Result<()> {
    short(Engine::Sqlite).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_with_three_replicas() -> Result<()> {
    short(Engine::Postgres).await
}

async fn short(engine: Engine) -> Result<()> {
    let seed = fastrand::u64(..1_000_000);
    eprintln!("seed {seed}");
    let mut world = World::start(engine).await?;
    let mut acknowledged = 0;
    for first in (0..CYCLES).step_by(BATCH as usize) {
        acknowledged += run(&mut world, seed, first, BATCH).await?.acknowledged;
    }
    // Most kills must come after the acknowledgement, because otherwise the test proves little.
    ensure!(acknowledged >= CYCLES / 4, "only {acknowledged} of {CYCLES} pushes were acknowledged");
    Ok(())
}

/// A part of the long run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes hours; CRASH_ENGINE, CRASH_CYCLES, CRASH_SEED and CRASH_TALLY configure it"]
async fn long() -> Result<()> {
    let variable = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
    let engine: Engine = variable("CRASH_ENGINE")?.parse()?;
    let cycles: u64 = variable("CRASH_CYCLES")?.parse()?;
    let seed: u64 = variable("CRASH_SEED")?.parse()?;
    let tally = Tally::open(PathBuf::from(variable("CRASH_TALLY")?))?;
    let mut done = tally.cycles(engine, seed)?;
    let mut world = World::start(engine).await?;
    while done < cycles {
        let batch = run(&mut world, seed, done, BATCH.min(cycles - done)).await?;
        done += batch.cycles;
        tally.add(&batch)?;
        eprintln!("{}: {done} of {cycles} cycles", engine.name());
    }
    eprintln!("{}", tally.summary()?);
    Ok(())
}

async fn run(world: &mut World, seed: u64, first: u64, cycles: u64) -> Result<Batch> {
    let batch = world.batch(seed, first, cycles).await?;
    ensure!(batch.missing == 0 && batch.wrong == 0, "{batch:?}");
    Ok(batch)
}
