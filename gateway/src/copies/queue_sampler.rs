//! Samples the state of the queue at intervals, so that a reader of metrics never causes a read of the whole
//! journal.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use replication::{Ages, AtRisk, FanOut, JournalError, LaneStatus, at_risk};
use tokio_util::sync::CancellationToken;

use operations::queue::{Rate, Sample};

/// The time between two samples. If a sample takes long, the next one waits longer, so that sampling takes at
/// most one twentieth of the time.
const INTERVAL: Duration = Duration::from_secs(5);
const INTERVAL_PER_READ: u32 = 20;

/// The timeout for each read of the journal.
const JOURNAL_TIMEOUT: Duration = Duration::from_secs(5);

/// The number of samples that a rate is computed over: one minute.
const RATE_SAMPLES: usize = 12;

/// The number of zones that are distinguished: one bit for each.
const ZONES_MAX: usize = 63;

/// What a lane has done so far: the number of copies made, and of bytes moved.
type Done = BTreeMap<Arc<str>, (u64, u64)>;

/// Takes samples and keeps the latest one.
#[derive(Debug)]
pub(crate) struct Sampler {
    sampled: ArcSwap<Sampled>,
    latest: Mutex<Option<Arc<Sample>>>,
    past: Mutex<VecDeque<(Instant, Done)>>,
    /// Whether a part of the latest sample could not be read.
    partly: AtomicBool,
    /// Callers of `fresh` wait here for one another.
    taking: tokio::sync::Mutex<()>,
}

/// What is sampled.
#[derive(Debug)]
pub(crate) struct Sampled {
    fanout: FanOut,
    /// The zones that should have every blob: the home zone, which pushes go to, and the target zones of
    /// copies.
    holders: Vec<Arc<str>>,
}

impl Sampled {
    pub(crate) fn new(fanout: FanOut, home: Option<&Arc<str>>, targets: &[Arc<str>]) -> Self {
        let others = targets.iter().filter(|target| home != Some(*target));
        let holders = home.into_iter().chain(others).take(ZONES_MAX).cloned().collect();
        Self { fanout, holders }
    }
}

impl Sampler {
    /// A sampler without a sample.
    pub(crate) fn new(sampled: Sampled) -> Self {
        Self {
            sampled: ArcSwap::from_pointee(sampled),
            latest: Mutex::default(),
            past: Mutex::default(),
            partly: AtomicBool::default(),
            taking: tokio::sync::Mutex::default(),
        }
    }

    /// Samples something else from now on: the copies of a later configuration.
    pub(crate) fn follow(&self, sampled: Sampled) {
        self.sampled.store(Arc::new(sampled));
    }

    /// The latest sample. Takes one if there is none.
    pub(crate) async fn latest(&self) -> Arc<Sample> {
        let latest = self.latest.lock().clone();
        match latest {
            Some(latest) => latest,
            None => self.fresh().await,
        }
    }

    /// The latest sample, if there is one.
    pub(crate) fn peek(&self) -> Option<Arc<Sample>> {
        self.latest.lock().clone()
    }

    /// Takes a sample now.
    pub(crate) async fn fresh(&self) -> Arc<Sample> {
        let _one = self.taking.lock().await;
        let mut sample = match self.read().await {
            Ok((lanes, parts)) => {
                let rates = self.rates(&lanes);
                Sample { lanes: Some(lanes), rates, ..readable(parts, &self.partly) }
            }
            Err(error) => {
                self.log_failure(&error);
                Sample::default()
            }
        };
        let sampled = self.sampled.load_full();
        sample.finished = sampled.fanout.journal().finished();
        sample.failures = sampled.fanout.failures();
        let sample = Arc::new(sample);
        *self.latest.lock() = Some(Arc::clone(&sample));
        sample
    }

    async fn read(&self) -> Result<(Vec<LaneStatus>, Parts), String> {
        let sampled = self.sampled.load_full();
        let Sampled { fanout, holders } = &*sampled;
        let lanes = with_timeout(fanout.status()).await?;
        let ages = with_timeout(fanout.journal().ages()).await;
        let outstanding = with_timeout(fanout.journal().outstanding(holders)).await;
        Ok((lanes, (ages, outstanding.map(|outstanding| at_risk(holders, &outstanding)))))
    }

    /// Logs the error once, not with every sample.
    fn log_failure(&self, error: &str) {
        let latest = self.latest.lock();
        if latest.as_ref().is_none_or(|latest| latest.lanes.is_some()) {
            tracing::error!(error, "the journal cannot be read");
        }
    }

    fn rates(&self, lanes: &[LaneStatus]) -> BTreeMap<Arc<str>, Rate> {
        // Counts moved bytes and not only finished copies, because a large blob may be in progress for long.
        let done = |lane: &LaneStatus| (Arc::clone(&lane.zone), (lane.copied, lane.moved_bytes));
        let (now, done) = (Instant::now(), lanes.iter().map(done).collect::<Done>());
        let mut past = self.past.lock();
        let rates = past.front().map(|(then, before)| rates(before, &done, now - *then)).unwrap_or_default();
        // Extra samples between two regular ones must not shorten the minute.
        if past.back().is_none_or(|(then, _)| now - *then >= INTERVAL) {
            past.push_back((now, done));
        }
        while past.len() > RATE_SAMPLES {
            past.pop_front();
        }
        rates
    }
}

/// The parts of a sample besides the lanes. A part that could not be read is empty. `partly` remembers that a
/// part could not be read, so that this is logged once.
fn readable((ages, at_risk): Parts, partly: &AtomicBool) -> Sample {
    let error = ages.as_ref().err().or(at_risk.as_ref().err()).cloned();
    let before = partly.swap(error.is_some(), Ordering::Relaxed);
    if let Some(error) = error.filter(|_| !before) {
        tracing::warn!(error, "how old copies are, or what is at risk, cannot be read");
    }
    Sample { ages: ages.unwrap_or_default(), at_risk: at_risk.unwrap_or_default(), ..Sample::default() }
}

/// The rates between two samples. Pure.
fn rates(before: &Done, now: &Done, time: Duration) -> BTreeMap<Arc<str>, Rate> {
    let seconds = time.as_secs_f64().max(0.001);
    let rate = |(zone, (copies, bytes)): (&Arc<str>, &(u64, u64))| {
        let (copies_before, bytes_before) = before.get(zone).copied().unwrap_or_default();
        let per_second = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        let rate =
            Rate { copies: per_second(*copies, copies_before), bytes: per_second(*bytes, bytes_before) };
        (Arc::clone(zone), rate)
    };
    now.iter().map(rate).collect()
}

type Parts = (Result<BTreeMap<Arc<str>, Ages>, String>, Result<Vec<AtRisk>, String>);

async fn with_timeout<T>(asked: impl Future<Output = Result<T, JournalError>>) -> Result<T, String> {
    match tokio::time::timeout(JOURNAL_TIMEOUT, asked).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", JOURNAL_TIMEOUT.as_secs())),
    }
}

/// Takes samples until `shutdown`.
pub(crate) async fn run(sampler: Arc<Sampler>, shutdown: CancellationToken) {
    shutdown
        .run_until_cancelled(async {
            loop {
                let began = Instant::now();
                sampler.fresh().await;
                tokio::time::sleep(INTERVAL.max(began.elapsed() * INTERVAL_PER_READ)).await;
            }
        })
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_late_part_is_absent() {
        let (zone, late) = (Arc::<str>::from("a"), || "no answer within 5 s".to_owned());
        let ages = BTreeMap::from([(Arc::clone(&zone), Ages { jobs: 1, ..Ages::default() })]);
        let risk = vec![AtRisk { zone, blobs: 1, bytes: 10 }];
        let partly = AtomicBool::default();
        let is_partly = || partly.load(Ordering::Relaxed);
        let sample = readable((Ok(ages.clone()), Err(late())), &partly);
        assert!(sample.ages == ages && sample.at_risk.is_empty() && is_partly());
        let sample = readable((Err(late()), Ok(risk.clone())), &partly);
        assert!(sample.ages.is_empty() && sample.at_risk == risk && is_partly());
        let sample = readable((Ok(ages.clone()), Ok(risk.clone())), &partly);
        assert!(sample.ages == ages && sample.at_risk == risk && !is_partly());
    }

    #[test]
    fn rates_count_what_was_done_between_samples() {
        let zone = |name: &str| Arc::<str>::from(name);
        let before = Done::from([(zone("a"), (10, 1000)), (zone("b"), (5, 500))]);
        // One lane is new, and one was restarted.
        let now = Done::from([(zone("a"), (30, 6000)), (zone("b"), (1, 100)), (zone("c"), (20, 40))]);
        let rates = rates(&before, &now, Duration::from_secs(10));
        let of = |name: &str| rates[name];
        assert_eq!(of("a"), Rate { copies: 2.0, bytes: 500.0 });
        assert_eq!(of("b"), Rate::default());
        assert_eq!(of("c"), Rate { copies: 2.0, bytes: 4.0 });
    }
}
