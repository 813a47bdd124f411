//! A store's clock, learned from the time in its refusals.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};

/// How far off a store's clock may be before it is learned, in seconds. Stores allow 900.
const CLOCK_TOLERANCE: i64 = 300;

/// Dates from here on are not believed, in seconds since 1970 (the year 2200): not much above, signing
/// would panic, as times are written with years of four digits.
const LATEST: i64 = 7_258_118_400;

/// The store's clock less ours, in seconds, as far as it was learned.
#[derive(Debug, Default)]
pub(crate) struct Clock(AtomicI64);

impl Clock {
    /// The store's clock less ours, in seconds.
    pub(crate) fn offset(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether a refusal came with another time than the request was signed for, when the offset
    /// was `taken` to be that. Others that were under way may have learned it meanwhile: that is
    /// news to this request all the same.
    pub(crate) fn learn(&self, status: StatusCode, headers: &HeaderMap, taken: i64) -> bool {
        if status != StatusCode::FORBIDDEN {
            return false;
        }
        let Some(offset) = news(headers, taken) else { return false };
        if self.0.swap(offset, Ordering::Relaxed) == taken {
            tracing::warn!(seconds = offset, "the store's clock differs from ours; signing with its time");
        }
        true
    }
}

/// What time it is where the clock is so many seconds ahead of ours.
pub(crate) fn there(offset: i64) -> SystemTime {
    shifted(SystemTime::now(), offset)
}

/// When it is here what is that time where the clock is so many seconds ahead of ours.
pub(crate) fn here(there: SystemTime, offset: i64) -> SystemTime {
    shifted(there, offset.saturating_neg())
}

/// How far a server's clock is ahead of ours, in seconds, if that is not what it was `taken` for.
pub(crate) fn news(headers: &HeaderMap, taken: i64) -> Option<i64> {
    offset_of(headers, SystemTime::now()).filter(|offset| (offset - taken).abs() > CLOCK_TOLERANCE)
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
    let date = seconds(date).filter(|date| *date < LATEST)?;
    Some(date - seconds(now)?)
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
            let taken = clock.offset();
            assert_eq!(clock.learn(status, &dated(offset), taken), learned, "{status} {offset}");
        }
        assert!((clock.offset() + 7200).abs() <= 2);
        let ahead = SystemTime::now().duration_since(there(clock.offset())).expect("behind us").as_secs();
        assert!(ahead.abs_diff(7200) <= 2, "{ahead}");
        assert!(!clock.learn(StatusCode::FORBIDDEN, &HeaderMap::new(), 0));
        // Signatures have room for years of four digits, and panic beyond.
        for date in ["Fri, 31 Dec 9999 23:59:59 GMT", "Sat, 01 Jan 2200 00:00:00 GMT"] {
            let headers = HeaderMap::from_iter([(header::DATE, date.parse().expect("a value"))]);
            assert!(!clock.learn(StatusCode::FORBIDDEN, &headers, 0), "{date}");
        }
        // Signed before another request learned it.
        assert!(clock.learn(StatusCode::FORBIDDEN, &dated(-7200), 0));
    }
}
