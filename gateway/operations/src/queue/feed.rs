//! Handing copies to a running gateway, in portions, no faster than it takes them: zone by zone at once, so
//! that one which takes none stops no other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::plan::Plan;
use super::wire::{Add, AddJob, Added};
use crate::audit::{Findings, Progress};
use crate::running::Running;

/// Copies queued at once: one transaction of the journal.
const PORTION: usize = 500;

/// Before the gateway is asked again that has too many.
const WAIT: Duration = Duration::from_secs(1);

/// Where copies come from, and go to.
#[derive(Debug)]
pub struct Feed<'a> {
    /// The gateway.
    pub running: &'a Running,
    /// What is to be queued.
    pub plan: &'a Plan,
    /// The file of findings: how far they are queued is kept beside it.
    pub file: &'a Path,
    /// When the audit began that found them, if one is known. Without, the mark goes when all is queued, so
    /// that the same file can be queued again.
    pub began: Option<SystemTime>,
    /// Copies that may wait for a zone.
    pub backlog: u64,
}

/// What became of it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Fed {
    /// Copies queued now.
    pub queued: u64,
    /// Copies that an earlier run had queued.
    pub earlier: u64,
}

/// How many copies are queued, of which findings of which audit: the next audit may find the same again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    findings_digest: String,
    began: Option<SystemTime>,
    /// Whether what the registry does not have was counted among them.
    #[serde(default)]
    with_unknown: bool,
    zones: BTreeMap<String, u64>,
}

/// What the zones' feeds share.
struct Course {
    mark: Mark,
    fed: Fed,
    line: crate::audit::Line,
}

impl Feed<'_> {
    /// Queues the copies for all findings, from where an earlier run was cut. `findings` opens them, once for
    /// each zone. Has no bound of its own: it waits for the queue.
    ///
    /// # Errors
    /// The gateway does not run or refuses, the findings are not those of the plan any more, or it was stopped:
    /// what is queued so far, and for other zones, stays queued, and the next run goes on from there.
    pub async fn run(
        &self,
        findings: impl Fn() -> anyhow::Result<Findings>,
        progress: Progress,
        stop: &CancellationToken,
    ) -> anyhow::Result<Fed> {
        let digest = self.plan.digest.context("findings that were not counted")?.to_string();
        let (began, with_unknown) = (self.began, self.plan.with_unknown);
        let nothing = Mark { findings_digest: digest, began, with_unknown, zones: BTreeMap::new() };
        let mark = self.mark()?.filter(|mark| mark.is_of(&nothing)).unwrap_or(nothing);
        let line = progress.bar(self.plan.all().objects, "{bar:30} {pos}/{len}  {msg}");
        let course = Mutex::new(Course { mark, fed: Fed::default(), line });
        let zones = self.plan.zones.iter().map(|(zone, planned)| {
            let findings = findings();
            let course = &course;
            async move {
                let fed = self.zone(zone, planned.objects, findings?, course, stop).await;
                fed.with_context(|| format!("not all copies for {zone} are queued"))
            }
        });
        let ended = join_all(zones).await;
        let course = course.into_inner().unwrap_or_else(PoisonError::into_inner);
        course.line.clear();
        ended.into_iter().collect::<anyhow::Result<()>>()?;
        if self.began.is_none() {
            self.forget()?;
        }
        Ok(course.fed)
    }

    /// Queues the copies for one zone.
    async fn zone(
        &self,
        zone: &str,
        planned: u64,
        findings: Findings,
        course: &Mutex<Course>,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let earlier = {
            let mut course = lock(course);
            let earlier = course.mark.zones.get(zone).copied().unwrap_or(0);
            course.fed.earlier += earlier;
            earlier
        };
        let mut at = 0;
        let mut portion = Vec::new();
        for finding in findings {
            let Some(job) = self.plan.job(&finding?).filter(|job| job.zone == zone) else { continue };
            at += 1;
            if at <= earlier {
                continue;
            }
            portion.push(job);
            if portion.len() == PORTION {
                self.hand_over(zone, at, &mut portion, course, stop).await?;
            }
        }
        self.hand_over(zone, at, &mut portion, course, stop).await?;
        if at != planned {
            bail!("{} became another meanwhile: {at} copies instead of {planned}", self.file.display());
        }
        Ok(())
    }

    /// Queues a portion, as soon as the gateway takes it, and marks that it is.
    async fn hand_over(
        &self,
        zone: &str,
        at: u64,
        portion: &mut Vec<AddJob>,
        course: &Mutex<Course>,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        while !portion.is_empty() {
            let told = self.queue(portion, stop).await?;
            let mut course = lock(course);
            if told.is_none() {
                course.fed.queued += portion.len() as u64;
                portion.clear();
                course.mark.zones.insert(zone.to_owned(), at);
                self.keep(&course.mark)?;
            }
            let (fed, queued) = (course.fed.queued + course.fed.earlier, course.fed.queued);
            course.line.at(fed, |_| told.unwrap_or_else(|| format!("{queued} copies queued")));
        }
        Ok(())
    }

    /// Queues a portion; why not yet, if not.
    async fn queue(&self, portion: &[AddJob], stop: &CancellationToken) -> anyhow::Result<Option<String>> {
        let add = Add { backlog: self.backlog, jobs: portion.to_vec() };
        let added = tokio::select! {
            biased;
            () = stop.cancelled() => bail!("asked to stop: with --findings, the same command goes on from there"),
            added = self.running.add(&add) => added?,
        };
        match added {
            Added::Queued => Ok(None),
            Added::Full(said) => {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => bail!("asked to stop: with --findings, the same command goes on from there"),
                    () = tokio::time::sleep(WAIT) => Ok(Some(format!("waiting: {said}"))),
                }
            }
        }
    }

    /// How far an earlier run came, with whatever findings.
    fn mark(&self) -> anyhow::Result<Option<Mark>> {
        let file = self.mark_file();
        let text = match std::fs::read(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            text => text.with_context(|| format!("{} cannot be read", file.display()))?,
        };
        // Another release's: begin at the first.
        Ok(serde_json::from_slice(&text).ok())
    }

    /// All is queued.
    fn forget(&self) -> anyhow::Result<()> {
        let file = self.mark_file();
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("{} cannot be removed", file.display()))
            }
            _ => Ok(()),
        }
    }

    /// A mark that is lost, or older than the power that failed, costs a repetition, which does no harm.
    fn keep(&self, mark: &Mark) -> anyhow::Result<()> {
        let file = self.mark_file();
        let partial = file.with_extension("partial");
        std::fs::write(&partial, serde_json::to_vec(mark)?)
            .and_then(|()| std::fs::rename(&partial, &file))
            .with_context(|| format!("{} cannot be written", file.display()))
    }

    fn mark_file(&self) -> PathBuf {
        let mut name = self.file.as_os_str().to_owned();
        name.push(".queued");
        name.into()
    }
}

impl Mark {
    /// Whether it tells of the same copies for the same findings of the same audit.
    fn is_of(&self, other: &Self) -> bool {
        let of = |mark: &Self| (mark.findings_digest.clone(), mark.began, mark.with_unknown);
        of(self) == of(other)
    }
}

/// A panic with the lock held ends the command; nobody sees what it left.
fn lock(course: &Mutex<Course>) -> std::sync::MutexGuard<'_, Course> {
    course.lock().unwrap_or_else(PoisonError::into_inner)
}
