//! The results of the long run so far: a file with one line per batch.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::cycles::Engine;

const HEAD: &str =
    "engine\tseed\tfirst\tcycles\tacknowledged\tunacknowledged\tblobs\tmissing\twrong\tseconds";

/// A number of cycles that were checked.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) engine: Engine,
    pub(crate) seed: u64,
    pub(crate) first: u64,
    pub(crate) cycles: u64,
    /// Pushes that were answered with 201.
    pub(crate) acknowledged: u64,
    /// Pushes that the kill interrupted.
    pub(crate) unacknowledged: u64,
    /// Required copies: the blobs of acknowledged pushes in each zone.
    pub(crate) blobs: u64,
    pub(crate) missing: u64,
    pub(crate) wrong: u64,
    pub(crate) seconds: u64,
}

/// The file of results.
pub(crate) struct Tally(PathBuf);

impl Tally {
    pub(crate) fn open(path: PathBuf) -> Result<Self> {
        if !path.exists() {
            std::fs::write(&path, format!("{HEAD}\n")).context("CRASH_TALLY")?;
        }
        Ok(Self(path))
    }

    /// The number of cycles of a seed that are done.
    pub(crate) fn cycles(&self, engine: Engine, seed: u64) -> Result<u64> {
        let rows = self.rows()?;
        Ok(rows.iter().filter(|row| row.0 == engine.name() && row.1[0] == seed).map(|row| row.1[2]).sum())
    }

    pub(crate) fn add(&self, batch: &Batch) -> Result<()> {
        let Batch {
            engine,
            seed,
            first,
            cycles,
            acknowledged,
            unacknowledged,
            blobs,
            missing,
            wrong,
            seconds,
        } = batch;
        let mut file = File::options().append(true).open(&self.0)?;
        writeln!(
            file,
            "{}\t{seed}\t{first}\t{cycles}\t{acknowledged}\t{unacknowledged}\t{blobs}\t{missing}\t{wrong}\t{seconds}",
            engine.name()
        )?;
        Ok(file.sync_all()?)
    }

    /// The sums for each engine.
    pub(crate) fn summary(&self) -> Result<String> {
        let mut sums: BTreeMap<String, [u64; 9]> = BTreeMap::new();
        for (engine, row) in self.rows()? {
            let sum = sums.entry(engine).or_default();
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum = sum.wrapping_add(value));
        }
        let lines = sums.iter().map(|(engine, [_, _, cycles, acknowledged, cut, blobs, missing, wrong, seconds])| {
            format!(
                "{engine}: {cycles} cycles, {acknowledged} pushes acknowledged and {cut} cut, {blobs} copies required, \
                 {missing} missing, {wrong} wrong, {seconds} s"
            )
        });
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }

    fn rows(&self) -> Result<Vec<(String, [u64; 9])>> {
        let text = std::fs::read_to_string(&self.0)?;
        let row = |line: &str| {
            let (engine, numbers) = line.split_once('\t')?;
            let numbers: Option<Vec<u64>> = numbers.split('\t').map(|number| number.parse().ok()).collect();
            Some((engine.to_owned(), numbers?.try_into().ok()?))
        };
        text.lines()
            .skip(1)
            .map(|line| row(line).with_context(|| format!("not a line of results: {line}")))
            .collect()
    }
}
