//! Decides when headers are late, from the times that earlier ones took. Pure: the time is passed in.

use std::time::Duration;

use tokio::time::Instant;

use crate::Settings;
use crate::latency::{Quantiles, STEP};
use crate::snapshot::Headers;

/// Headers are overdue after this many times their 95th percentile, plus [`GRACE`].
const FACTOR: f64 = 3.0;

/// The constant part of the time after which headers are overdue. If a replacement was not allowed, it is tried again
/// after this.
pub(crate) const GRACE: Duration = Duration::from_millis(50);

/// If a zone is always slow, its bound may be up to this many times [`Settings::overdue_max`].
const SLOW_BY_NATURE: u32 = 4;

/// How long the headers of reads of one class take, and when they are overdue. If there are too few reads, the times of
/// probes are used.
pub(crate) fn headers(reads: &Quantiles, probes: &Quantiles, settings: &Settings, now: Instant) -> Headers {
    let quantile = |q| reads.quantile(q, now).or_else(|| probes.quantile(q, now));
    let (p50, p95) = (quantile(0.5), quantile(0.95));
    let least = match reads.quantile(0.95, now) {
        Some(_) => settings.overdue_min,
        // Only probes were measured. A large blob that no cache holds takes longer than a probe, and a read that is
        // given up gives no sample.
        None => settings.overdue_min.max(settings.overdue_min.mul_f64(FACTOR).min(settings.overdue_max)),
    };
    let overdue_after = match p95 {
        None => settings.overdue_max,
        Some(p95) => {
            let learned = p95.mul_f64(FACTOR) + GRACE;
            // A zone that is always slow must not be overdue all the time.
            let slow = p95.mul_f64(STEP).min(settings.overdue_max * SLOW_BY_NATURE);
            learned.min(settings.overdue_max).max(least).max(slow)
        }
    };
    let hedge_after = p95.unwrap_or(overdue_after / 2).min(overdue_after);
    Headers { p50, p95, hedge_after, overdue_after }
}
