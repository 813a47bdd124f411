//! The queue in the admin API.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use backends::Digest;
use http::StatusCode;
use replication::{JobQuery, JobSelection, NewJob, State};

use crate::Gateway;
use operations::queue::{Add, BACKLOG_MAX, Changed, JOBS_MAX, JobReport, Park, QueueReport, Retry};

/// The default number of jobs in one answer.
const JOBS_PAGE: u32 = 100;

/// The status and the text of a refusal.
pub(crate) type Refusal = (StatusCode, String);

/// Queues copies. Returns their number.
pub(crate) async fn add(gateway: &Gateway, body: &[u8]) -> Result<String, Refusal> {
    let add: Add = understood(body)?;
    if add.jobs.len() > JOBS_MAX {
        return Err((StatusCode::PAYLOAD_TOO_LARGE, format!("at most {JOBS_MAX} copies at once")));
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
        let waiting = gateway.fanout.journal().depth(&zone, backlog).await.map_err(unreadable)?;
        if waiting >= backlog {
            return Err((StatusCode::TOO_MANY_REQUESTS, format!("{waiting} copies wait for {zone}")));
        }
    }
    let count = jobs.len();
    gateway.fanout.add(jobs).await.map_err(unreadable)?;
    Ok(format!("{count} queued\n"))
}

/// The progress of the sweep.
pub(crate) fn sweep(gateway: &Gateway) -> String {
    json(&gateway.sweep.report())
}

/// Begins a round of the sweep now.
pub(crate) fn begin_sweep(gateway: &Gateway) -> Result<String, Refusal> {
    match gateway.sweep.begin() {
        true => Ok(sweep(gateway)),
        false => Err((
            StatusCode::CONFLICT,
            "this gateway has no sweep: it needs registry.account, targets of copies, and \
             replication.sweep.enabled"
                .to_owned(),
        )),
    }
}

/// The queue of every zone, read now.
pub(crate) async fn queues(gateway: &Gateway) -> String {
    let sample = gateway.sampler.fresh().await;
    json(&QueueReport::new(&sample, SystemTime::now()))
}

/// A page of jobs, selected by `zone`, `state`, `after_zone` and `after_digest`, and `limit`.
pub(crate) async fn jobs(gateway: &Gateway, query: &str) -> Result<String, Refusal> {
    let mut shown = JobQuery { limit: JOBS_PAGE, ..JobQuery::default() };
    let mut after = (None, None);
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "zone" => shown.zone = Some((&*value).into()),
            "state" => shown.state = Some(state(&value)?),
            "after_zone" => after.0 = Some(value.into_owned()),
            "after_digest" => after.1 = Some(value.into_owned()),
            "limit" => {
                shown.limit = value
                    .parse()
                    .map_err(|_| (StatusCode::BAD_REQUEST, "limit is not a number".to_owned()))?;
            }
            _ => {
                return Err((
                    StatusCode::BAD_REQUEST,
                    "the query cannot be parsed: is the command of another version?".to_owned(),
                ));
            }
        }
    }
    shown.after = after.0.zip(after.1);
    let jobs = gateway.fanout.journal().jobs(shown).await.map_err(unreadable)?;
    Ok(reports(jobs))
}

/// The jobs of one blob in every zone.
pub(crate) async fn jobs_of(gateway: &Gateway, text: &str) -> Result<String, Refusal> {
    let (digest, zones) = (digest(text)?, zones(gateway, None).await?);
    let jobs = gateway.fanout.journal().jobs_of(&digest, &zones).await.map_err(unreadable)?;
    Ok(reports(jobs))
}

/// Makes jobs due now.
pub(crate) async fn retry(gateway: &Gateway, body: &[u8]) -> Result<String, Refusal> {
    let retry: Retry = understood(body)?;
    let which = JobSelection {
        zones: zones(gateway, retry.zone.as_deref()).await?,
        digests: retry.digests.as_deref().map(digests).transpose()?,
        state: retry.state.as_deref().map(state).transpose()?,
    };
    let jobs = gateway.fanout.journal().retry(&which).await.map_err(unreadable)?;
    tracing::info!(jobs, zone = retry.zone, "jobs are tried again by command");
    Ok(json(&Changed { jobs }))
}

/// Parks jobs.
pub(crate) async fn park(gateway: &Gateway, body: &[u8]) -> Result<String, Refusal> {
    let park: Park = understood(body)?;
    let (zones, digests) = (zones(gateway, park.zone.as_deref()).await?, digests(&park.digests)?);
    let why = format!("by command: {}", park.reason);
    let jobs = gateway.fanout.journal().park_blobs(&digests, &zones, &why).await.map_err(unreadable)?;
    tracing::warn!(
        jobs,
        zone = park.zone,
        "jobs are parked by command: they wait until somebody asks for them"
    );
    Ok(json(&Changed { jobs }))
}

/// The named zone, or all zones: the configured ones, and those that have copies in the journal.
async fn zones(gateway: &Gateway, named: Option<&str>) -> Result<Vec<Arc<str>>, Refusal> {
    let mut all = gateway.fanout.zones();
    for count in gateway.fanout.journal().counts().await.map_err(unreadable)? {
        if !all.contains(&count.zone) {
            all.push(count.zone);
        }
    }
    match named {
        None => Ok(all),
        Some(named) => match all.into_iter().find(|zone| **zone == *named) {
            Some(zone) => Ok(vec![zone]),
            None => Err((StatusCode::NOT_FOUND, format!("there is no zone {named}"))),
        },
    }
}

fn digests(texts: &[String]) -> Result<Vec<Digest>, Refusal> {
    if texts.len() > JOBS_MAX {
        return Err((StatusCode::PAYLOAD_TOO_LARGE, format!("at most {JOBS_MAX} blobs at once")));
    }
    texts.iter().map(|text| digest(text)).collect()
}

fn state(text: &str) -> Result<State, Refusal> {
    [State::Waiting, State::Failing, State::Parked]
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or_else(|| (StatusCode::BAD_REQUEST, "a state is waiting, failing or parked".to_owned()))
}

fn reports(jobs: Vec<replication::JobView>) -> String {
    let now = SystemTime::now();
    json(&jobs.into_iter().map(|job| JobReport::new(job, now)).collect::<Vec<_>>())
}

fn json<T: serde::Serialize>(value: &T) -> String {
    // Numbers, strings and lists of them can always be written as JSON, except infinities. Rates are never
    // infinite.
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// Refuses a zone that cannot be used, because copies into it would only wait.
fn usable(gateway: &Gateway, name: &str) -> Result<(), Refusal> {
    let zone = gateway.router.zones().find(|zone| *zone.name == *name);
    match zone.and_then(config::unusable) {
        Some(unusable) => Err((StatusCode::CONFLICT, unusable)),
        None => Ok(()),
    }
}

fn not_there(gateway: &Gateway, zone: &str) -> Refusal {
    let known = gateway.router.zones().any(|known| *known.name == *zone);
    match known {
        false => (StatusCode::NOT_FOUND, format!("there is no zone {zone}")),
        true => (StatusCode::CONFLICT, operations::queue::no_target(zone)),
    }
}

fn digest(text: &str) -> Result<Digest, Refusal> {
    // The text is not repeated in the error, because it may be anything.
    text.parse().map_err(|error| (StatusCode::BAD_REQUEST, format!("a digest is wrong: {error}")))
}

fn understood<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        (StatusCode::BAD_REQUEST, format!("the command cannot be parsed: is it of another version? {error}"))
    })
}

fn unreadable(error: replication::JournalError) -> Refusal {
    (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}
