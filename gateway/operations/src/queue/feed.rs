//! Queues copies at a running gateway, in portions, no faster than it accepts them. All zones are fed at the
//! same time, so that a zone with a full queue does not stop the others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use futures_util::future::join_all;
use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::plan::CopyPlan;
use super::wire::{Add, AddJob, Added};
use crate::admin_client::AdminClient;
use crate::audit::{Findings, Progress};

/// Copies in one request, which is one transaction of the journal.
const PORTION: usize = 500;

/// How long to wait before a full queue is tried again.
const WAIT: Duration = Duration::from_secs(1);

/// Queues the copies of a plan.
#[derive(Debug)]
pub struct CopyFeeder<'a> {
    /// The gateway.
    pub admin_client: &'a AdminClient,
    /// The copies to queue.
    pub plan: &'a CopyPlan,
    /// The file of findings. The mark, which records how many are queued, is kept beside it.
    pub file: &'a Path,
    /// When the audit of these findings began, if that is known. If it is not, the mark is removed after
    /// everything is queued, so that the same file can be queued again.
    pub began: Option<SystemTime>,
    /// The most pending copies of a zone.
    pub backlog: u64,
}

/// How many copies were queued.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct FeedResult {
    /// Copies that this run queued.
    pub queued: u64,
    /// Copies that an earlier run queued.
    pub earlier: u64,
}

/// How many copies are queued, for which findings of which audit. Another audit may have the same findings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FeedMark {
    findings_digest: String,
    began: Option<SystemTime>,
    /// Whether blobs that the registry does not have were included.
    #[serde(default)]
    with_unknown: bool,
    zones: BTreeMap<String, u64>,
}

/// The state that the tasks of all zones share.
struct FeedState {
    mark: FeedMark,
    fed: FeedResult,
    line: crate::audit::ProgressLine,
}

impl CopyFeeder<'_> {
    /// Queues the copies for all findings, and continues where an earlier run was interrupted. `findings` opens
    /// the file of findings, once for each zone. It waits for full queues without a timeout.
    ///
    /// # Errors
    /// The gateway cannot be reached or refuses, the file of findings changed since it was planned, a file
    /// cannot be written, or `stop` was cancelled. What is queued so far stays queued, and the next run
    /// continues from there.
    pub async fn run(
        &self,
        findings: impl Fn() -> anyhow::Result<Findings>,
        progress: Progress,
        stop: &CancellationToken,
    ) -> anyhow::Result<FeedResult> {
        let digest = self.plan.digest.context("the findings were not planned")?.to_string();
        let (began, with_unknown) = (self.began, self.plan.with_unknown);
        let nothing = FeedMark { findings_digest: digest, began, with_unknown, zones: BTreeMap::new() };
        let mark = self.mark()?.filter(|mark| mark.is_of(&nothing)).unwrap_or(nothing);
        let line = progress.bar(self.plan.all().objects, "{bar:30} {pos}/{len}  {msg}");
        let state = Mutex::new(FeedState { mark, fed: FeedResult::default(), line });
        let zones = self.plan.zones.iter().map(|(zone, planned)| {
            let findings = findings();
            let state = &state;
            async move {
                let fed = self.zone(zone, planned.objects, findings?, state, stop).await;
                fed.with_context(|| format!("not all copies for {zone} are queued"))
            }
        });
        let ended = join_all(zones).await;
        let state = state.into_inner();
        state.line.clear();
        ended.into_iter().collect::<anyhow::Result<()>>()?;
        if self.began.is_none() {
            self.forget()?;
        }
        Ok(state.fed)
    }

    /// Queues the copies for one zone.
    async fn zone(
        &self,
        zone: &str,
        planned: u64,
        findings: Findings,
        state: &Mutex<FeedState>,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let earlier = {
            let mut state = lock(state);
            let earlier = state.mark.zones.get(zone).copied().unwrap_or(0);
            state.fed.earlier += earlier;
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
                self.queue_portion(zone, at, &mut portion, state, stop).await?;
            }
        }
        self.queue_portion(zone, at, &mut portion, state, stop).await?;
        if at != planned {
            bail!(
                "{} changed while it was queued: it has {at} copies instead of {planned}",
                self.file.display()
            );
        }
        Ok(())
    }

    /// Queues a portion as soon as the gateway accepts it, and updates the mark.
    async fn queue_portion(
        &self,
        zone: &str,
        at: u64,
        portion: &mut Vec<AddJob>,
        state: &Mutex<FeedState>,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        while !portion.is_empty() {
            let full = self.queue(portion, stop).await?;
            let mut state = lock(state);
            if full.is_none() {
                state.fed.queued += portion.len() as u64;
                portion.clear();
                state.mark.zones.insert(zone.to_owned(), at);
                self.keep(&state.mark)?;
            }
            let (fed, queued) = (state.fed.queued + state.fed.earlier, state.fed.queued);
            state.line.at(fed, |_| full.unwrap_or_else(|| format!("{queued} copies queued")));
        }
        Ok(())
    }

    /// Queues a portion. If the queue is full, waits a moment and returns the reason.
    async fn queue(&self, portion: &[AddJob], stop: &CancellationToken) -> anyhow::Result<Option<String>> {
        let add = Add { backlog: self.backlog, jobs: portion.to_vec() };
        let added = tokio::select! {
            biased;
            () = stop.cancelled() => bail!("interrupted: the same command with --findings continues from here"),
            added = self.admin_client.add(&add) => added?,
        };
        match added {
            Added::Queued => Ok(None),
            Added::Full(reason) => {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => bail!("interrupted: the same command with --findings continues from here"),
                    () = tokio::time::sleep(WAIT) => Ok(Some(format!("waiting: {reason}"))),
                }
            }
        }
    }

    /// The mark of an earlier run, which may be for other findings.
    fn mark(&self) -> anyhow::Result<Option<FeedMark>> {
        let file = self.mark_file();
        let text = match std::fs::read(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            text => text.with_context(|| format!("{} cannot be read", file.display()))?,
        };
        // A mark of another release is ignored.
        Ok(serde_json::from_slice(&text).ok())
    }

    /// Removes the mark after everything is queued.
    fn forget(&self) -> anyhow::Result<()> {
        let file = self.mark_file();
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("{} cannot be removed", file.display()))
            }
            _ => Ok(()),
        }
    }

    /// Writes the mark.
    fn keep(&self, mark: &FeedMark) -> anyhow::Result<()> {
        let file = self.mark_file();
        atomic_file::write(&file, &serde_json::to_vec(mark)?, atomic_file::SHARED)
            .with_context(|| format!("{} cannot be written", file.display()))
    }

    fn mark_file(&self) -> PathBuf {
        let mut name = self.file.as_os_str().to_owned();
        name.push(".queued");
        name.into()
    }
}

impl FeedMark {
    /// Whether both marks are for the same copies for the same findings of the same audit.
    fn is_of(&self, other: &Self) -> bool {
        let of = |mark: &Self| (mark.findings_digest.clone(), mark.began, mark.with_unknown);
        of(self) == of(other)
    }
}

/// Ignores poisoning: a panic ends the command, so nobody reads a state that it left behind.
fn lock(state: &Mutex<FeedState>) -> MutexGuard<'_, FeedState> {
    state.lock()
}
