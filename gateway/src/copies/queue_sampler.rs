//! What is known of the queue, read now and then: nobody who looks has the journal read whole.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use replication::{Ages, AtRisk, FanOut, JournalError, LaneStatus, at_risk};
use tokio_util::sync::CancellationToken;

use operations::queue::{Rate, Sample};

/// Between two samples; longer where one takes long, so that reading takes a twentieth of the time at most.
const INTERVAL: Duration = Duration::from_secs(5);
const SHARE: u32 = 20;

/// For each look into the journal.
const PATIENCE: Duration = Duration::from_secs(5);

/// Samples that a rate is reckoned over: a minute.
const RATED: usize = 12;

/// Zones that are told apart: a bit each.
const ZONES_MAX: usize = 63;

/// What a lane had done at a moment: copies that were made, bytes that were moved.
type Done = BTreeMap<Arc<str>, (u64, u64)>;

/// The latest sample.
#[derive(Debug)]
pub(crate) struct Sampler {
    fanout: FanOut,
    /// The zones that should have every blob: home, where pushes go, and where copies go.
    holders: Vec<Arc<str>>,
    latest: Mutex<Option<Arc<Sample>>>,
    past: Mutex<VecDeque<(Instant, Done)>>,
    /// Whether a part of the latest could not be read.
    partly: AtomicBool,
    /// Who asks for a sample of their own waits for the one before.
    asking: tokio::sync::Mutex<()>,
}

impl Sampler {
    /// A sampler of these copies; nothing is sampled yet.
    pub(crate) fn new(fanout: FanOut, home: Option<&Arc<str>>, targets: &[Arc<str>]) -> Self {
        let others = targets.iter().filter(|target| home != Some(*target));
        let holders = home.into_iter().chain(others).take(ZONES_MAX).cloned().collect();
        Self {
            fanout,
            holders,
            latest: Mutex::default(),
            past: Mutex::default(),
            partly: AtomicBool::default(),
            asking: tokio::sync::Mutex::default(),
        }
    }

    /// The latest, or one taken now where there is none.
    pub(crate) async fn latest(&self) -> Arc<Sample> {
        let latest = self.latest.lock().clone();
        match latest {
            Some(latest) => latest,
            None => self.fresh().await,
        }
    }

    /// One taken now.
    pub(crate) async fn fresh(&self) -> Arc<Sample> {
        let _one = self.asking.lock().await;
        let mut sample = match self.read().await {
            Ok((lanes, parts)) => {
                let rates = self.rates(&lanes);
                Sample { lanes: Some(lanes), rates, ..readable(parts, &self.partly) }
            }
            Err(error) => {
                self.complain(&error);
                Sample::default()
            }
        };
        sample.finished = self.fanout.journal().finished();
        sample.failures = self.fanout.failures();
        let sample = Arc::new(sample);
        *self.latest.lock() = Some(Arc::clone(&sample));
        sample
    }

    async fn read(&self) -> Result<(Vec<LaneStatus>, Parts), String> {
        let journal = self.fanout.journal();
        let lanes = within(self.fanout.status()).await?;
        let ages = within(journal.ages()).await;
        let outstanding = within(journal.outstanding(&self.holders)).await;
        Ok((lanes, (ages, outstanding.map(|outstanding| at_risk(&self.holders, &outstanding)))))
    }

    /// Once, not with every sample.
    fn complain(&self, error: &str) {
        let latest = self.latest.lock();
        if latest.as_ref().is_none_or(|latest| latest.lanes.is_some()) {
            tracing::error!(error, "the journal cannot be read");
        }
    }

    fn rates(&self, lanes: &[LaneStatus]) -> BTreeMap<Arc<str>, Rate> {
        // A large blob that is under way moves too, though none is done for long.
        let done = |lane: &LaneStatus| (Arc::clone(&lane.zone), (lane.copied, lane.moved_bytes));
        let (now, done) = (Instant::now(), lanes.iter().map(done).collect::<Done>());
        let mut past = self.past.lock();
        let rates = past.front().map(|(then, before)| rates(before, &done, now - *then)).unwrap_or_default();
        // Samples that are asked for between others do not shorten the minute.
        if past.back().is_none_or(|(then, _)| now - *then >= INTERVAL) {
            past.push_back((now, done));
        }
        while past.len() > RATED {
            past.pop_front();
        }
        rates
    }
}

/// What could be read besides the lanes; what could not is absent. `partly` remembers between samples that a part is
/// absent, so that this is logged once.
fn readable((ages, at_risk): Parts, partly: &AtomicBool) -> Sample {
    let error = ages.as_ref().err().or(at_risk.as_ref().err()).cloned();
    let before = partly.swap(error.is_some(), Ordering::Relaxed);
    if let Some(error) = error.filter(|_| !before) {
        tracing::warn!(error, "how old copies are, or what is at risk, cannot be read");
    }
    Sample { ages: ages.unwrap_or_default(), at_risk: at_risk.unwrap_or_default(), ..Sample::default() }
}

/// What was done a second. Pure.
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

async fn within<T>(asked: impl Future<Output = Result<T, JournalError>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

/// Samples until `shutdown`.
pub(crate) async fn run(sampler: Arc<Sampler>, shutdown: CancellationToken) {
    shutdown
        .run_until_cancelled(async {
            loop {
                let began = Instant::now();
                sampler.fresh().await;
                tokio::time::sleep(INTERVAL.max(began.elapsed() * SHARE)).await;
            }
        })
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_is_late_is_absent_and_no_other() {
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
    fn rates_of_what_was_done_since() {
        let zone = |name: &str| Arc::<str>::from(name);
        let before = Done::from([(zone("a"), (10, 1000)), (zone("b"), (5, 500))]);
        // A lane that is new, and one that was started again.
        let now = Done::from([(zone("a"), (30, 6000)), (zone("b"), (1, 100)), (zone("c"), (20, 40))]);
        let rates = rates(&before, &now, Duration::from_secs(10));
        let of = |name: &str| rates[name];
        assert_eq!(of("a"), Rate { copies: 2.0, bytes: 500.0 });
        assert_eq!(of("b"), Rate::default());
        assert_eq!(of("c"), Rate { copies: 2.0, bytes: 4.0 });
    }
}
