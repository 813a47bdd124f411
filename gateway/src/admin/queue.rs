//! The queue in the admin API.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use backends::Digest;
use http::StatusCode;
use replication::{JobQuery, JobSelection, NewJob, State};

use super::answer::{Answer, json};
use super::problem::Problem;
use crate::Gateway;
use operations::queue::{Add, BACKLOG_MAX, Changed, JOBS_MAX, JobReport, Park, QueueReport, Retry};

/// The default number of jobs in one answer.
const JOBS_PAGE: u32 = 100;

/// Queues copies. Returns their number.
pub(super) async fn add(gateway: &Gateway, add: Add) -> Answer {
    if add.jobs.len() > JOBS_MAX {
        return Err(Problem::too_large(format!("at most {JOBS_MAX} copies at once")));
    }
    let home = gateway.repairable_home();
    let target = |name: &str| gateway.targets.iter().chain(&home).find(|zone| ***zone == *name);
    let mut jobs = Vec::with_capacity(add.jobs.len());
    for job in &add.jobs {
        let digest: Digest = digest(&job.digest)?;
        let zone = target(&job.zone).ok_or_else(|| not_there(gateway, &job.zone))?;
        usable(gateway, zone)?;
        // The repository is not known.
        jobs.push(NewJob::new(gateway.blob(digest), Arc::clone(zone), job.size, ""));
    }
    let zones: BTreeSet<_> = jobs.iter().map(|job| Arc::clone(&job.target)).collect();
    let backlog = add.backlog.min(BACKLOG_MAX);
    for zone in zones {
        let waiting = gateway.fanout.journal().depth(&zone, backlog).await?;
        if waiting >= backlog {
            let detail = format!("{waiting} copies wait for {zone}");
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", detail));
        }
    }
    let queued = Changed { jobs: jobs.len() as u64 };
    gateway.fanout.add(jobs).await?;
    json(&queued)
}

/// The progress of the sweep.
pub(super) fn sweep(gateway: &Gateway) -> Answer {
    json(&gateway.sweep.report())
}

/// Begins a round of the sweep now.
pub(super) fn begin_sweep(gateway: &Gateway) -> Answer {
    match gateway.sweep.begin() {
        true => sweep(gateway),
        false => Err(Problem::conflict(
            "no_sweep",
            "this gateway has no sweep: it needs registry.account, targets of copies, and \
             replication.sweep.enabled",
        )),
    }
}

/// The queue of every zone, read now.
pub(super) async fn queues(gateway: &Gateway) -> Answer {
    let sample = gateway.sampler.fresh().await;
    json(&QueueReport::new(&sample, SystemTime::now()))
}

/// A page of jobs, selected by `zone`, `state`, `after_zone` and `after_digest`, and `limit`.
pub(super) async fn jobs(gateway: &Gateway, query: &str) -> Answer {
    let mut shown = JobQuery { limit: JOBS_PAGE, ..JobQuery::default() };
    let mut after = (None, None);
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "zone" => shown.zone = Some((&*value).into()),
            "state" => shown.state = Some(state(&value)?),
            "after_zone" => after.0 = Some(value.into_owned()),
            "after_digest" => after.1 = Some(value.into_owned()),
            "limit" => {
                shown.limit = limit(&value)?;
            }
            _ => {
                return Err(Problem::malformed(
                    "the query cannot be parsed: is the command of another version?",
                ));
            }
        }
    }
    shown.after = after.0.zip(after.1);
    let jobs = gateway.fanout.journal().jobs(shown).await?;
    reports(jobs)
}

/// The jobs of one blob in every zone.
pub(super) async fn jobs_of(gateway: &Gateway, text: &str) -> Answer {
    let (digest, zones) = (digest(text)?, zones(gateway, None).await?);
    let jobs = gateway.fanout.journal().jobs_of(&digest, &zones).await?;
    reports(jobs)
}

/// Makes jobs due now.
pub(super) async fn retry(gateway: &Gateway, retry: Retry) -> Answer {
    let which = JobSelection {
        zones: zones(gateway, retry.zone.as_deref()).await?,
        digests: retry.digests.as_deref().map(digests).transpose()?,
        state: retry.state.as_deref().map(state).transpose()?,
    };
    let jobs = gateway.fanout.journal().retry(&which).await?;
    tracing::info!(jobs, zone = retry.zone, "jobs are tried again by command");
    json(&Changed { jobs })
}

/// Parks jobs.
pub(super) async fn park(gateway: &Gateway, park: Park) -> Answer {
    let (zones, digests) = (zones(gateway, park.zone.as_deref()).await?, digests(&park.digests)?);
    let why = format!("by command: {}", park.reason);
    let jobs = gateway.fanout.journal().park_blobs(&digests, &zones, &why).await?;
    tracing::warn!(
        jobs,
        zone = park.zone,
        "jobs are parked by command: they wait until somebody asks for them"
    );
    json(&Changed { jobs })
}

/// The named zone, or all zones: the configured ones, and those that have copies in the journal.
async fn zones(gateway: &Gateway, named: Option<&str>) -> Result<Vec<Arc<str>>, Problem> {
    let mut all = gateway.fanout.zones();
    for count in gateway.fanout.journal().counts().await? {
        if !all.contains(&count.zone) {
            all.push(count.zone);
        }
    }
    match named {
        None => Ok(all),
        Some(named) => match all.into_iter().find(|zone| **zone == *named) {
            Some(zone) => Ok(vec![zone]),
            None => Err(Problem::unknown_zone(format!("there is no zone {named}"))),
        },
    }
}

fn digests(texts: &[String]) -> Result<Vec<Digest>, Problem> {
    if texts.len() > JOBS_MAX {
        return Err(Problem::too_large(format!("at most {JOBS_MAX} blobs at once")));
    }
    texts.iter().map(|text| digest(text)).collect()
}

fn limit(text: &str) -> Result<u32, Problem> {
    let limit = text.parse().ok().filter(|limit| (1..=JOBS_MAX).contains(limit));
    limit
        .and_then(|limit| limit.try_into().ok())
        .ok_or_else(|| Problem::malformed(format!("limit is a number from 1 to {JOBS_MAX}")))
}

fn state(text: &str) -> Result<State, Problem> {
    [State::Waiting, State::Failing, State::Parked]
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or_else(|| Problem::malformed("a state is waiting, failing or parked"))
}

fn reports(jobs: Vec<replication::JobView>) -> Answer {
    let now = SystemTime::now();
    json(&jobs.into_iter().map(|job| JobReport::new(job, now)).collect::<Vec<_>>())
}

/// Refuses a zone that cannot be used, because copies into it would only wait.
fn usable(gateway: &Gateway, name: &str) -> Result<(), Problem> {
    let zone = gateway.router.zones().find(|zone| *zone.name == *name);
    match zone.and_then(config::unusable) {
        Some(unusable) => Err(Problem::conflict("zone_unusable", unusable)),
        None => Ok(()),
    }
}

fn not_there(gateway: &Gateway, zone: &str) -> Problem {
    let known = gateway.router.zones().any(|known| *known.name == *zone);
    match known {
        false => Problem::unknown_zone(format!("there is no zone {zone}")),
        true => Problem::conflict("no_target", operations::queue::no_target(zone)),
    }
}

fn digest(text: &str) -> Result<Digest, Problem> {
    // The text is not repeated in the error, because it may be anything.
    text.parse().map_err(|error| Problem::malformed(format!("a digest is wrong: {error}")))
}
