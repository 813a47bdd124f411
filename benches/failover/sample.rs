//! The result of one request, and statistics over many results.

use std::time::{Duration, Instant};

/// The result of a request for one blob.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// When the request started.
    pub(crate) began: Instant,
    /// The time to the first byte, if one arrived.
    pub(crate) first_byte: Option<Duration>,
    /// The longest time without a byte after the first one.
    pub(crate) stall: Duration,
    /// When the request ended, with or without success.
    pub(crate) ended: Instant,
    /// Why the blob did not arrive complete and correct.
    pub(crate) failed: Option<String>,
}

impl Sample {
    /// The time to the first byte, if the blob arrived.
    pub(crate) fn answered(&self) -> Option<Duration> {
        self.first_byte.filter(|_| self.failed.is_none())
    }

    /// Whether the first byte arrived before `moment`.
    pub(crate) fn is_before(&self, moment: Instant) -> bool {
        self.first_byte.is_some_and(|after| self.began + after < moment)
    }

    /// Whether the body was in flight at `moment`.
    pub(crate) fn is_amid(&self, moment: Instant) -> bool {
        self.is_before(moment) && self.ended > moment
    }
}

/// The `q` quantile of the times. A missing time (`None`) counts as infinite. The result is `None` if there
/// are no samples or if the quantile is infinite.
pub(crate) fn quantile(times: impl Iterator<Item = Option<Duration>>, q: f64) -> Option<Duration> {
    let mut sorted: Vec<Duration> = times.map(|time| time.unwrap_or(Duration::MAX)).collect();
    sorted.sort_unstable();
    let rank = (sorted.len() as f64 * q).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().filter(|time| *time != Duration::MAX)
}

/// The `q` quantile of the times to the first byte.
pub(crate) fn first_byte(samples: &[Sample], q: f64) -> Option<Duration> {
    quantile(samples.iter().map(Sample::answered), q)
}

/// The number of failed requests.
pub(crate) fn failures(samples: &[Sample]) -> usize {
    samples.iter().filter(|sample| sample.failed.is_some()).count()
}
