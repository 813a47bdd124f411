//! What one request met, and what many of them did.

use std::time::{Duration, Instant};

/// One blob that was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// When.
    pub(crate) began: Instant,
    /// Until its first byte, if one came.
    pub(crate) first_byte: Option<Duration>,
    /// The longest time without a byte after that.
    pub(crate) stall: Duration,
    /// When it was over, one way or the other.
    pub(crate) ended: Instant,
    /// Why it did not come whole and right.
    pub(crate) failed: Option<String>,
}

impl Sample {
    /// Until its first byte, if the blob came.
    pub(crate) fn answered(&self) -> Option<Duration> {
        self.first_byte.filter(|_| self.failed.is_none())
    }

    /// Whether its first byte came before `moment`.
    pub(crate) fn is_before(&self, moment: Instant) -> bool {
        self.first_byte.is_some_and(|after| self.began + after < moment)
    }

    /// Whether it was in the middle of its body at `moment`.
    pub(crate) fn is_amid(&self, moment: Instant) -> bool {
        self.is_before(moment) && self.ended > moment
    }
}

/// The time that a share of `q` does not exceed; those without a time (`None`) are later than all.
/// `None` of no samples, and where that one has no time.
pub(crate) fn quantile(times: impl Iterator<Item = Option<Duration>>, q: f64) -> Option<Duration> {
    let mut sorted: Vec<Duration> = times.map(|time| time.unwrap_or(Duration::MAX)).collect();
    sorted.sort_unstable();
    let rank = (sorted.len() as f64 * q).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().filter(|time| *time != Duration::MAX)
}

/// Of first bytes.
pub(crate) fn first_byte(samples: &[Sample], q: f64) -> Option<Duration> {
    quantile(samples.iter().map(Sample::answered), q)
}

/// Those that failed.
pub(crate) fn failures(samples: &[Sample]) -> usize {
    samples.iter().filter(|sample| sample.failed.is_some()).count()
}
