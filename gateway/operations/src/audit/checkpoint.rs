//! How far an audit has come: a small file, replaced whole after each step, beside the findings so far.

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

/// The findings, a line of JSON each.
const FINDINGS: &str = "findings.jsonl";

/// How far it is.
const CHECKPOINT: &str = "checkpoint.json";

/// Bytes of a finding: keys have 1024 at most, errors less.
const LINE_MAX: u64 = 64 * 1024;

/// What this release writes and reads.
const VERSION: u32 = 2;

/// What is audited, and how: an audit goes on only with the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The zones, each with whether it is a target.
    pub zones: Vec<(String, bool)>,
    /// Which share of the blobs is read, if any.
    pub deep: Option<Percent>,
    /// What draws the sample.
    pub seed: u64,
    /// Whether what belongs to nobody is looked for in the whole root.
    pub strays: bool,
    /// Whether the registry was asked.
    pub registry: bool,
    /// What kind of registry it is: where blobs lie.
    pub kind: String,
    /// Where the zones' stores are, as digests that hold no secret.
    pub places: Vec<String>,
}

/// How far an audit is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Checkpoint {
    version: u32,
    /// What it does.
    pub plan: Plan,
    /// Steps that are done.
    pub steps: u16,
    /// Zones whose whole root is done.
    pub roots: Vec<String>,
    /// What was counted in these.
    pub tally: Tally,
    /// Bytes of findings that belong to these; what follows in the file is of a step that was cut.
    pub findings: u64,
    /// When it began.
    pub began: SystemTime,
    /// Whether nothing is left to do.
    pub done: bool,
}

impl Checkpoint {
    fn new(plan: Plan) -> Self {
        let tally = Tally::new(plan.zones.iter().map(|(name, target)| (name.as_str(), *target)));
        let (version, began) = (VERSION, SystemTime::now());
        Self { version, plan, steps: 0, roots: Vec::new(), tally, findings: 0, began, done: false }
    }

    /// A beginning in the future says nothing of its age, so it counts as old.
    fn is_older_than(&self, oldest: Option<Duration>) -> bool {
        oldest.is_some_and(|oldest| self.began.elapsed().map_or(true, |age| age > oldest))
    }
}

/// What to do about an audit that was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// Say that there is one.
    IfNone,
    /// Go on with it.
    Resume,
    /// Forget it.
    Fresh,
}

/// The folder of an audit. One process at a time.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    findings: File,
    pub(super) at: Checkpoint,
}

impl Folder {
    /// Goes on with the audit in this folder, or begins one. The folder must exist.
    pub(super) fn open(
        path: &Path,
        plan: Plan,
        begin: Begin,
        oldest: Option<Duration>,
    ) -> anyhow::Result<Self> {
        let cut = match begin {
            Begin::Fresh => None,
            Begin::IfNone | Begin::Resume => found(path)?.filter(|found| !found.done),
        };
        let at = match (cut, begin) {
            (Some(found), Begin::IfNone) => bail!(
                "an audit in {} was cut, {} of {STEPS} steps are done: --resume goes on with it, --fresh begins anew",
                path.display(),
                found.steps
            ),
            (Some(found), Begin::Resume) => {
                if found.plan != plan {
                    bail!(
                        "the audit in {} had other zones or options ({}): repeat those, or begin anew with --fresh",
                        path.display(),
                        differences(&found.plan, &plan)
                    );
                }
                if found.is_older_than(oldest) {
                    bail!(
                        "the audit in {} began too long ago to say what is there now: begin anew with --fresh",
                        path.display()
                    );
                }
                found
            }
            (None, Begin::Resume) => {
                bail!("there is no audit to go on with in {}: begin one without --resume", path.display())
            }
            (_, Begin::Fresh) | (None, Begin::IfNone) => Checkpoint::new(plan),
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
        if length < at.findings {
            bail!("{} is shorter than its checkpoint says: begin anew with --fresh", file.display());
        }
        findings.set_len(at.findings)?;
        findings.seek(io::SeekFrom::End(0))?;
        let folder = Self { path: path.to_owned(), findings, at };
        folder.write()?;
        Ok(folder)
    }

    /// Adds findings; they count from the next [`Folder::save`] on.
    pub(super) fn add(&mut self, findings: &[Finding]) -> anyhow::Result<()> {
        let mut text = Vec::new();
        for finding in findings {
            serde_json::to_writer(&mut text, finding)?;
            text.push(b'\n');
            self.at.tally.note(finding);
        }
        self.findings.write_all(&text).with_context(|| self.unwritten())?;
        self.at.findings += text.len() as u64;
        Ok(())
    }

    /// Keeps what was done so far, whole or not at all.
    pub(super) fn save(&mut self) -> anyhow::Result<()> {
        self.findings.sync_data().with_context(|| self.unwritten())?;
        self.write()
    }

    fn write(&self) -> anyhow::Result<()> {
        let keep = || {
            let partial = self.path.join("checkpoint.partial");
            let mut file = File::create(&partial)?;
            file.write_all(&serde_json::to_vec_pretty(&self.at)?)?;
            file.sync_all()?;
            std::fs::rename(&partial, self.path.join(CHECKPOINT))?;
            File::open(&self.path)?.sync_all()
        };
        keep().with_context(|| self.unwritten())
    }

    fn unwritten(&self) -> String {
        format!("{} cannot be written: what is done so far is kept", self.path.display())
    }
}

/// The findings of an audit, one after the other.
#[derive(Debug)]
pub struct Findings {
    lines: BufReader<io::Take<File>>,
    file: PathBuf,
    hasher: Hasher,
}

impl Findings {
    /// What names the findings that were read so far.
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
        Some(finding.with_context(|| format!("{} is no file of findings", self.file.display())))
    }
}

/// What lies in the folder of an audit that may have ended.
///
/// # Errors
/// It cannot be read, or another release wrote it.
pub fn found(folder: &Path) -> anyhow::Result<Option<Checkpoint>> {
    let file = folder.join(CHECKPOINT);
    let text = match std::fs::read(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.with_context(|| format!("{} cannot be read", file.display()))?,
    };
    let what = || format!("{} is not this release's: begin anew with --fresh", file.display());
    let found: Checkpoint = serde_json::from_slice(&text).with_context(what)?;
    if found.version != VERSION {
        bail!("{}", what());
    }
    Ok(Some(found))
}

/// The findings in a folder, as many as its checkpoint counts.
///
/// # Errors
/// There are none, or they cannot be read.
pub fn findings(folder: &Path) -> anyhow::Result<Findings> {
    let Some(checkpoint) = found(folder)? else {
        bail!("there is no audit in {}: run `quay-gateway audit`", folder.display());
    };
    from_file(&folder.join(FINDINGS), checkpoint.findings)
}

/// The findings in this file, up to this many bytes.
///
/// # Errors
/// It cannot be read.
pub fn from_file(file: &Path, bytes: u64) -> anyhow::Result<Findings> {
    let opened = File::open(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let lines = BufReader::new(opened.take(bytes));
    Ok(Findings { lines, file: file.to_owned(), hasher: Hasher::new() })
}

/// Where a folder's findings lie.
#[must_use]
pub fn findings_file(folder: &Path) -> PathBuf {
    folder.join(FINDINGS)
}

fn differences(old: &Plan, new: &Plan) -> String {
    let zones = |plan: &Plan| {
        let name = |(name, target): &(String, bool)| match target {
            true => name.clone(),
            false => format!("{name} (no target)"),
        };
        plan.zones.iter().map(name).collect::<Vec<_>>().join(", ")
    };
    let mut told = Vec::new();
    if old.zones != new.zones {
        told.push(format!("zones {}, now {}", zones(old), zones(new)));
    }
    let deep = |plan: &Plan| plan.deep.map_or("none".to_owned(), |deep| deep.to_string());
    if (old.deep, old.seed) != (new.deep, new.seed) {
        let (was, is) = (deep(old), deep(new));
        told.push(format!("--deep {was} --seed {}, now --deep {is} --seed {}", old.seed, new.seed));
    }
    if old.strays != new.strays {
        told.push(format!("{} --strays", if old.strays { "with" } else { "without" }));
    }
    if old.registry != new.registry {
        told.push(format!("{} the registry's database", if old.registry { "with" } else { "without" }));
    }
    if (&old.kind, &old.places) != (&new.kind, &new.places) && old.zones == new.zones {
        told.push("other stores, or another registry.kind, under these names".to_owned());
    }
    told.join("; ")
}

#[cfg(test)]
mod tests {
    use super::super::finding::Kind;
    use super::*;

    fn plan() -> Plan {
        let zones = vec![("a".to_owned(), true), ("b".to_owned(), false)];
        let places = vec!["1".to_owned(), "2".to_owned()];
        let kind = "quay".to_owned();
        Plan { zones, deep: None, seed: 0, strays: false, registry: false, kind, places }
    }

    fn missing(n: u8) -> Finding {
        Finding::of(Kind::Missing, "a", Digest::of(&[n]), None)
    }

    fn read(folder: &Path) -> Vec<Finding> {
        findings(folder).expect("findings").map(|finding| finding.expect("a finding")).collect()
    }

    #[test]
    fn what_was_not_saved_is_found_again_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut folder = Folder::open(dir.path(), plan(), Begin::IfNone, None).expect("begins");
        folder.add(&[missing(1)]).expect("written");
        folder.at.steps = 1;
        folder.save().expect("saved");
        // Killed in the middle of the next step.
        folder.add(&[missing(2)]).expect("written");
        drop(folder);
        assert_eq!(read(dir.path()), [missing(1)]);
        let cut = Folder::open(dir.path(), plan(), Begin::IfNone, None).expect_err("cut").to_string();
        assert!(cut.contains("1 of 256 steps") && cut.contains("--resume"), "{cut}");
        let mut folder = Folder::open(dir.path(), plan(), Begin::Resume, None).expect("goes on");
        assert_eq!((folder.at.steps, folder.at.tally.wrong()), (1, 1));
        folder.add(&[missing(2), missing(3)]).expect("written");
        folder.at.done = true;
        folder.save().expect("saved");
        assert_eq!(read(dir.path()), [missing(1), missing(2), missing(3)]);
        let folder = Folder::open(dir.path(), plan(), Begin::IfNone, None).expect("the last one ended");
        assert_eq!((folder.at.steps, folder.at.findings), (0, 0));
        assert_eq!(read(dir.path()), []);
    }

    #[test]
    fn only_the_same_audit_goes_on() {
        let dir = tempfile::tempdir().expect("a folder");
        let nothing = Folder::open(dir.path(), plan(), Begin::Resume, None).expect_err("nothing there");
        assert!(nothing.to_string().contains("no audit to go on with"), "{nothing}");
        drop(Folder::open(dir.path(), plan(), Begin::IfNone, None).expect("begins"));
        let other = Plan { deep: "5%".parse().ok(), zones: vec![("a".to_owned(), true)], ..plan() };
        let refused = Folder::open(dir.path(), other.clone(), Begin::Resume, None).expect_err("another");
        let refused = refused.to_string();
        assert!(
            refused.contains("zones a, b (no target), now a") && refused.contains("now --deep 5%"),
            "{refused}"
        );
        Folder::open(dir.path(), other, Begin::Fresh, None).expect("anew");
        std::fs::write(dir.path().join(CHECKPOINT), "{").expect("spoilt");
        let spoilt = Folder::open(dir.path(), plan(), Begin::Resume, None).expect_err("spoilt").to_string();
        assert!(spoilt.contains("begin anew with --fresh"), "{spoilt}");
        Folder::open(dir.path(), plan(), Begin::Fresh, None).expect("anew");
    }

    #[test]
    fn neither_other_stores_nor_an_old_beginning() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut folder = Folder::open(dir.path(), plan(), Begin::IfNone, None).expect("begins");
        let moved = Plan { places: vec!["1".to_owned(), "3".to_owned()], ..plan() };
        let refused = Folder::open(dir.path(), moved, Begin::Resume, None).expect_err("another store");
        assert!(refused.to_string().contains("other stores"), "{refused}");
        folder.at.began -= Duration::from_secs(100);
        folder.save().expect("saved");
        let resume =
            |oldest| Folder::open(dir.path(), plan(), Begin::Resume, Some(Duration::from_secs(oldest)));
        assert!(resume(99).expect_err("old").to_string().contains("too long ago"));
        resume(1000).expect("goes on");
    }
}
