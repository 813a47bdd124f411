//! Handing copies to a running gateway, in portions, no faster than it takes them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use backends::Digest;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::plan::{Plan, Wanted};
use super::wire::{Add, AddJob, Added};
use crate::Running;
use crate::audit::{Findings, Progress};

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
    /// Copies that may wait for a zone.
    pub backlog: u64,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fed {
    /// Copies queued now.
    pub queued: u64,
    /// Findings that an earlier run had queued.
    pub earlier: u64,
}

/// How many findings were dealt with, of which file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    findings_digest: String,
    findings: u64,
}

impl Feed<'_> {
    /// Queues the copies for all findings, from where an earlier run was cut. Has no bound of its own: it
    /// waits for the queue.
    ///
    /// # Errors
    /// The gateway does not run or refuses, or it was stopped: what is queued so far stays queued, and the
    /// next run goes on from there.
    pub async fn run(
        &self,
        findings: Findings,
        progress: Progress,
        stop: &CancellationToken,
    ) -> anyhow::Result<Fed> {
        let digest = self.plan.digest.context("findings that were not counted")?;
        let earlier = self.mark(&digest)?;
        let mut fed = Fed { queued: 0, earlier };
        let mut line = progress.bar(self.plan.findings, "{bar:30} {pos}/{len}  {msg}");
        let mut portion = Vec::new();
        let mut at = 0;
        for finding in findings {
            let finding = finding?;
            at += 1;
            if at <= earlier {
                continue;
            }
            portion.extend(finding.job());
            if portion.len() < PORTION && at < self.plan.findings {
                continue;
            }
            while !portion.is_empty() {
                let told = self.queue(&portion, stop).await?;
                line.at(at, |_| told.clone().unwrap_or_else(|| format!("{} copies queued", fed.queued)));
                if told.is_none() {
                    fed.queued += portion.len() as u64;
                    portion.clear();
                }
            }
            self.keep(&Mark { findings_digest: digest.to_string(), findings: at })?;
        }
        line.clear();
        Ok(fed)
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

    /// Findings of this file that were dealt with before.
    fn mark(&self, digest: &Digest) -> anyhow::Result<u64> {
        let file = self.mark_file();
        let text = match std::fs::read(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            text => text.with_context(|| format!("{} cannot be read", file.display()))?,
        };
        // Another release's, or of other findings: begin at the first.
        let mark: Option<Mark> = serde_json::from_slice(&text).ok();
        Ok(mark.filter(|mark| mark.findings_digest == digest.to_string()).map_or(0, |mark| mark.findings))
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
