//! The progress of an audit on disk: a checkpoint that is replaced after each step, and the findings so far.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use backends::{Digest, Hasher};
use serde::{Deserialize, Serialize};

use super::finding::Finding;
use super::layout::STEPS;
use super::percent::Percent;
use super::tally::Tally;

/// The file of findings, one JSON object a line.
const FINDINGS: &str = "findings.jsonl";

/// The file of the checkpoint.
const CHECKPOINT: &str = "checkpoint.json";

/// The most bytes of a finding. A key has 1024 at most, an error less.
const LINE_MAX: u64 = 64 * 1024;

/// The version of the checkpoint that this release writes and reads.
const VERSION: u32 = 2;

/// What is audited, and how. An interrupted audit can be resumed only with the same plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditPlan {
    /// The zones, each with whether it is a target of copies.
    pub zones: Vec<(String, bool)>,
    /// The share of blobs that is read and hashed, if any is.
    pub deep: Option<Percent>,
    /// The seed of that sample.
    pub seed: u64,
    /// Whether the whole root of each zone is listed for strays.
    pub strays: bool,
    /// Whether the registry's records are read.
    pub registry: bool,
    /// The kind of registry, which decides the keys of blobs.
    pub kind: String,
    /// Digests of the locations of the zones' stores. They hold no secret.
    pub places: Vec<String>,
}

/// The progress of an audit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Checkpoint {
    version: u32,
    /// What is audited.
    pub plan: AuditPlan,
    /// The steps that are done.
    pub steps: u16,
    /// The zones whose whole root is listed.
    pub roots: Vec<String>,
    /// The counts so far.
    pub tally: Tally,
    /// The bytes of the file of findings that belong to the steps so far. The rest is of an interrupted step.
    pub findings: u64,
    /// When the audit began.
    pub began: SystemTime,
    /// Whether the audit is finished.
    pub done: bool,
}

impl Checkpoint {
    fn new(plan: AuditPlan) -> Self {
        let tally = Tally::new(plan.zones.iter().map(|(name, target)| (name.as_str(), *target)));
        let (version, began) = (VERSION, SystemTime::now());
        Self { version, plan, steps: 0, roots: Vec::new(), tally, findings: 0, began, done: false }
    }

    /// Whether the audit began longer ago than `oldest`. A time in the future counts as too old.
    fn is_older_than(&self, oldest: Option<Duration>) -> bool {
        oldest.is_some_and(|oldest| self.began.elapsed().map_or(true, |age| age > oldest))
    }
}

/// What to do about an interrupted audit in the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartMode {
    /// Fail if there is one.
    New,
    /// Continue it.
    Resume,
    /// Discard it.
    Fresh,
}

/// The folder of an audit. One process may use it at a time.
#[derive(Debug)]
pub(super) struct AuditFolder {
    path: PathBuf,
    findings: File,
    pub(super) checkpoint: Checkpoint,
}

impl AuditFolder {
    /// Resumes the audit in this folder, or begins one. The folder must exist.
    ///
    /// # Errors
    /// `start` does not fit what is in the folder, the audit there had another plan or is too old, or a file
    /// cannot be read or written.
    pub(super) fn open(
        path: &Path,
        plan: AuditPlan,
        begin: StartMode,
        oldest: Option<Duration>,
    ) -> anyhow::Result<Self> {
        let cut = match begin {
            StartMode::Fresh => None,
            StartMode::New | StartMode::Resume => load_checkpoint(path)?.filter(|found| !found.done),
        };
        let checkpoint = match (cut, begin) {
            (Some(found), StartMode::New) => bail!(
                "an audit in {} was interrupted after {} of {STEPS} steps: --resume continues it, --fresh starts again",
                path.display(),
                found.steps
            ),
            (Some(found), StartMode::Resume) => {
                if found.plan != plan {
                    bail!(
                        "the audit in {} had other zones or options ({}): give those again, or start again with --fresh",
                        path.display(),
                        differences(&found.plan, &plan)
                    );
                }
                if found.is_older_than(oldest) {
                    bail!(
                        "the audit in {} began too long ago to be resumed: start again with --fresh",
                        path.display()
                    );
                }
                found
            }
            (None, StartMode::Resume) => {
                bail!("there is no interrupted audit in {}: start one without --resume", path.display())
            }
            (_, StartMode::Fresh) | (None, StartMode::New) => Checkpoint::new(plan),
        };
        let file = path.join(FINDINGS);
        let mut findings = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&file)
            .with_context(|| format!("{} cannot be written", file.display()))?;
        let length = findings.metadata()?.len();
        if length < checkpoint.findings {
            bail!("{} is shorter than its checkpoint says: start again with --fresh", file.display());
        }
        findings.set_len(checkpoint.findings)?;
        findings.seek(io::SeekFrom::End(0))?;
        let folder = Self { path: path.to_owned(), findings, checkpoint };
        folder.write()?;
        Ok(folder)
    }

    /// Appends findings. They count after the next [`AuditFolder::save`].
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn add(&mut self, findings: &[Finding]) -> anyhow::Result<()> {
        let mut text = Vec::new();
        for finding in findings {
            serde_json::to_writer(&mut text, finding)?;
            text.push(b'\n');
            self.checkpoint.tally.note(finding);
        }
        self.findings.write_all(&text).with_context(|| self.write_error())?;
        self.checkpoint.findings += text.len() as u64;
        Ok(())
    }

    /// Makes the progress so far durable.
    ///
    /// # Errors
    /// A file cannot be written or synced.
    pub(super) fn save(&mut self) -> anyhow::Result<()> {
        self.findings.sync_data().with_context(|| self.write_error())?;
        self.write()
    }

    fn write(&self) -> anyhow::Result<()> {
        let checkpoint = serde_json::to_vec_pretty(&self.checkpoint)?;
        atomic_file::write(&self.path.join(CHECKPOINT), &checkpoint, atomic_file::SHARED)
            .with_context(|| self.write_error())
    }

    fn write_error(&self) -> String {
        format!("{} cannot be written; the progress so far is kept", self.path.display())
    }
}

/// Reads the findings of an audit one by one.
#[derive(Debug)]
pub struct Findings {
    lines: BufReader<io::Take<File>>,
    file: PathBuf,
    hasher: Hasher,
}

impl Findings {
    /// The digest of the part of the file that was read so far.
    #[must_use]
    pub fn digest(self) -> Digest {
        self.hasher.finish()
    }
}

impl Iterator for Findings {
    type Item = anyhow::Result<Finding>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = Vec::new();
        let read = self.lines.by_ref().take(LINE_MAX).read_until(b'\n', &mut line);
        if matches!(read, Ok(0)) {
            return None;
        }
        self.hasher.update(&line);
        let finding = read.map_err(anyhow::Error::from).and_then(|_| Ok(serde_json::from_slice(&line)?));
        Some(finding.with_context(|| format!("{} is not a file of findings", self.file.display())))
    }
}

/// The checkpoint in the folder of an audit, finished or not. `None` if there is none.
///
/// # Errors
/// The checkpoint cannot be read or is malformed, or another release wrote it.
pub fn load_checkpoint(folder: &Path) -> anyhow::Result<Option<Checkpoint>> {
    let file = folder.join(CHECKPOINT);
    let text = match std::fs::read(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.with_context(|| format!("{} cannot be read", file.display()))?,
    };
    let what = || {
        format!("{} was written by another release, or is damaged: start again with --fresh", file.display())
    };
    let found: Checkpoint = serde_json::from_slice(&text).with_context(what)?;
    if found.version != VERSION {
        bail!("{}", what());
    }
    Ok(Some(found))
}

/// The findings in a folder, as far as its checkpoint counts them.
///
/// # Errors
/// There is no audit in the folder, or a file cannot be read.
pub fn findings(folder: &Path) -> anyhow::Result<Findings> {
    let Some(checkpoint) = load_checkpoint(folder)? else {
        bail!("there is no audit in {}: run `quay-gateway audit`", folder.display());
    };
    from_file(&folder.join(FINDINGS), checkpoint.findings)
}

/// The findings in this file, up to this many bytes.
///
/// # Errors
/// The file cannot be opened.
pub fn from_file(file: &Path, bytes: u64) -> anyhow::Result<Findings> {
    let opened = File::open(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let lines = BufReader::new(opened.take(bytes));
    Ok(Findings { lines, file: file.to_owned(), hasher: Hasher::new() })
}

/// The path of the findings in a folder.
#[must_use]
pub fn findings_file(folder: &Path) -> PathBuf {
    folder.join(FINDINGS)
}

fn differences(old: &AuditPlan, new: &AuditPlan) -> String {
    let zones = |plan: &AuditPlan| {
        let name = |(name, target): &(String, bool)| match target {
            true => name.clone(),
            false => format!("{name} (not a target)"),
        };
        plan.zones.iter().map(name).collect::<Vec<_>>().join(", ")
    };
    let mut changes = Vec::new();
    if old.zones != new.zones {
        changes.push(format!("zones {}, now {}", zones(old), zones(new)));
    }
    let deep = |plan: &AuditPlan| plan.deep.map_or("none".to_owned(), |deep| deep.to_string());
    if (old.deep, old.seed) != (new.deep, new.seed) {
        let (was, is) = (deep(old), deep(new));
        changes.push(format!("--deep {was} --seed {}, now --deep {is} --seed {}", old.seed, new.seed));
    }
    if old.strays != new.strays {
        changes.push(format!("{} --strays", if old.strays { "with" } else { "without" }));
    }
    if old.registry != new.registry {
        changes.push(format!("{} the registry's database", if old.registry { "with" } else { "without" }));
    }
    if (&old.kind, &old.places) != (&new.kind, &new.places) && old.zones == new.zones {
        changes.push("other stores, or another registry.kind, for the same zones".to_owned());
    }
    changes.join("; ")
}

#[cfg(test)]
mod tests {
    use super::super::finding::FindingKind;
    use super::*;

    fn plan() -> AuditPlan {
        let zones = vec![("a".to_owned(), true), ("b".to_owned(), false)];
        let places = vec!["1".to_owned(), "2".to_owned()];
        let kind = "quay".to_owned();
        AuditPlan { zones, deep: None, seed: 0, strays: false, registry: false, kind, places }
    }

    fn missing(n: u8) -> Finding {
        Finding::of(FindingKind::Missing, "a", Digest::of(&[n]), None)
    }

    fn read(folder: &Path) -> Vec<Finding> {
        findings(folder).expect("findings").map(|finding| finding.expect("a finding")).collect()
    }

    #[test]
    fn findings_that_were_not_saved_are_not_lost_or_doubled() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut folder = AuditFolder::open(dir.path(), plan(), StartMode::New, None).expect("begins");
        folder.add(&[missing(1)]).expect("written");
        folder.checkpoint.steps = 1;
        folder.save().expect("saved");
        // The process is killed during the next step.
        folder.add(&[missing(2)]).expect("written");
        drop(folder);
        assert_eq!(read(dir.path()), [missing(1)]);
        let cut = AuditFolder::open(dir.path(), plan(), StartMode::New, None).expect_err("cut").to_string();
        assert!(cut.contains("after 1 of 256 steps") && cut.contains("--resume"), "{cut}");
        let mut folder = AuditFolder::open(dir.path(), plan(), StartMode::Resume, None).expect("goes on");
        assert_eq!((folder.checkpoint.steps, folder.checkpoint.tally.wrong()), (1, 1));
        folder.add(&[missing(2), missing(3)]).expect("written");
        folder.checkpoint.done = true;
        folder.save().expect("saved");
        assert_eq!(read(dir.path()), [missing(1), missing(2), missing(3)]);
        let folder = AuditFolder::open(dir.path(), plan(), StartMode::New, None).expect("the last one ended");
        assert_eq!((folder.checkpoint.steps, folder.checkpoint.findings), (0, 0));
        assert_eq!(read(dir.path()), []);
    }

    #[test]
    fn only_the_same_audit_is_resumed() {
        let dir = tempfile::tempdir().expect("a folder");
        let nothing =
            AuditFolder::open(dir.path(), plan(), StartMode::Resume, None).expect_err("nothing there");
        assert!(nothing.to_string().contains("no interrupted audit"), "{nothing}");
        drop(AuditFolder::open(dir.path(), plan(), StartMode::New, None).expect("begins"));
        let other = AuditPlan { deep: "5%".parse().ok(), zones: vec![("a".to_owned(), true)], ..plan() };
        let refused =
            AuditFolder::open(dir.path(), other.clone(), StartMode::Resume, None).expect_err("another");
        let refused = refused.to_string();
        assert!(
            refused.contains("zones a, b (not a target), now a") && refused.contains("now --deep 5%"),
            "{refused}"
        );
        AuditFolder::open(dir.path(), other, StartMode::Fresh, None).expect("anew");
        std::fs::write(dir.path().join(CHECKPOINT), "{").expect("spoilt");
        let spoilt =
            AuditFolder::open(dir.path(), plan(), StartMode::Resume, None).expect_err("spoilt").to_string();
        assert!(spoilt.contains("start again with --fresh"), "{spoilt}");
        AuditFolder::open(dir.path(), plan(), StartMode::Fresh, None).expect("anew");
    }

    #[test]
    fn other_stores_and_an_old_audit_are_not_resumed() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut folder = AuditFolder::open(dir.path(), plan(), StartMode::New, None).expect("begins");
        let moved = AuditPlan { places: vec!["1".to_owned(), "3".to_owned()], ..plan() };
        let refused =
            AuditFolder::open(dir.path(), moved, StartMode::Resume, None).expect_err("another store");
        assert!(refused.to_string().contains("other stores"), "{refused}");
        folder.checkpoint.began -= Duration::from_secs(100);
        folder.save().expect("saved");
        let resume = |oldest| {
            AuditFolder::open(dir.path(), plan(), StartMode::Resume, Some(Duration::from_secs(oldest)))
        };
        assert!(resume(99).expect_err("old").to_string().contains("too long ago"));
        resume(1000).expect("goes on");
    }
}
