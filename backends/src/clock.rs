//! A store's clock, learned from the time in its refusals.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};

/// How far off a store's clock may be before it is learned, in seconds. Stores allow 900.
const CLOCK_TOLERANCE: i64 = 300;

/// The store's clock less ours, in seconds, as far as it was learned.
#[derive(Debug, Default)]
pub(crate) struct Clock(AtomicI64);

impl Clock {
    /// The store's clock less ours, in seconds.
    pub(crate) fn offset(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// What time it is at the store.
    pub(crate) fn now(&self) -> SystemTime {
        shifted(SystemTime::now(), self.offset())
    }

    /// Whether a refusal came with a time that we had not known.
    pub(crate) fn learn(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        if status != StatusCode::FORBIDDEN {
            return false;
        }
        let Some(offset) = offset_of(headers, SystemTime::now()) else { return false };
        if (offset - self.offset()).abs() <= CLOCK_TOLERANCE {
            return false;
        }
        tracing::warn!(seconds = offset, "the store's clock differs from ours; signing with its time");
        self.0.store(offset, Ordering::Relaxed);
        true
    }
}

fn shifted(now: SystemTime, offset: i64) -> SystemTime {
    let pause = Duration::from_secs(offset.unsigned_abs());
    let there = if offset < 0 { now.checked_sub(pause) } else { now.checked_add(pause) };
    there.unwrap_or(now)
}

/// The store's clock less ours, in seconds, by the `Date` of an answer.
fn offset_of(headers: &HeaderMap, now: SystemTime) -> Option<i64> {
    let date = httpdate::parse_http_date(headers.get(header::DATE)?.to_str().ok()?).ok()?;
    let seconds = |time: SystemTime| {
        i64::try_from(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()).ok()
    };
    Some(seconds(date)? - seconds(now)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dated(offset: i64) -> HeaderMap {
        let date = httpdate::fmt_http_date(shifted(SystemTime::now(), offset));
        HeaderMap::from_iter([(header::DATE, date.parse().expect("a value"))])
    }

    #[test]
    fn learns_from_refusals_that_are_far_off() {
        let clock = Clock::default();
        for (status, offset, learned) in [
            (StatusCode::OK, 7200, false),
            (StatusCode::FORBIDDEN, 200, false),
            (StatusCode::FORBIDDEN, 7200, true),
            (StatusCode::FORBIDDEN, 7200, false),
            (StatusCode::FORBIDDEN, -7200, true),
        ] {
            assert_eq!(clock.learn(status, &dated(offset)), learned, "{status} {offset}");
        }
        assert!((clock.offset() + 7200).abs() <= 2);
        let ahead = SystemTime::now().duration_since(clock.now()).expect("behind us").as_secs();
        assert!(ahead.abs_diff(7200) <= 2, "{ahead}");
        assert!(!clock.learn(StatusCode::FORBIDDEN, &HeaderMap::new()));
    }
}
