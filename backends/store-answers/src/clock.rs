//! The time difference between a store's clock and ours, learned from the `Date` of its refusals.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};

/// The difference, in seconds, above which a store's clock is followed. Stores accept up to 900.
const CLOCK_TOLERANCE: i64 = 300;

/// The first date that is ignored, in seconds since 1970: the year 2200. Signing panics on years of more than
/// four digits.
const LATEST_DATE: i64 = 7_258_118_400;

/// The store's clock minus our clock, in seconds. It is zero until a difference is learned.
#[derive(Debug, Default)]
pub struct Clock(AtomicI64);

impl Clock {
    /// The store's clock minus our clock, in seconds.
    pub fn offset(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Learns the offset from a refusal. Returns whether the request should be signed again.
    ///
    /// `signed_with` is the offset that the request was signed with. Another request may have learned the new
    /// offset meanwhile. The answer is then still `true`, because this request was signed with the old one.
    pub fn learn(&self, status: StatusCode, headers: &HeaderMap, signed_with: i64) -> bool {
        if status != StatusCode::FORBIDDEN {
            return false;
        }
        let Some(offset) = changed_offset(headers, signed_with) else { return false };
        if self.0.swap(offset, Ordering::Relaxed) == signed_with {
            tracing::warn!(
                seconds = offset,
                "the store's clock differs from ours; requests are signed with the store's time"
            );
        }
        true
    }
}

/// The store's present time, if its clock is `offset` seconds ahead of ours.
pub fn store_time(offset: i64) -> SystemTime {
    shift(SystemTime::now(), offset)
}

/// Converts a time of the store's clock to our clock, if the store's clock is `offset` seconds ahead.
pub fn to_our_clock(store_time: SystemTime, offset: i64) -> SystemTime {
    shift(store_time, offset.saturating_neg())
}

/// How many seconds a server's clock is ahead of ours, if that differs from the offset that the request was `signed_with`.
pub fn changed_offset(headers: &HeaderMap, signed_with: i64) -> Option<i64> {
    offset_of(headers, SystemTime::now()).filter(|offset| (offset - signed_with).abs() > CLOCK_TOLERANCE)
}

fn shift(now: SystemTime, offset: i64) -> SystemTime {
    let pause = Duration::from_secs(offset.unsigned_abs());
    let there = if offset < 0 { now.checked_sub(pause) } else { now.checked_add(pause) };
    there.unwrap_or(now)
}

/// The store's clock minus our clock, in seconds, from the `Date` header of an answer.
fn offset_of(headers: &HeaderMap, now: SystemTime) -> Option<i64> {
    let date = httpdate::parse_http_date(headers.get(header::DATE)?.to_str().ok()?).ok()?;
    let seconds = |time: SystemTime| {
        i64::try_from(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()).ok()
    };
    let date = seconds(date).filter(|date| *date < LATEST_DATE)?;
    Some(date - seconds(now)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dated(offset: i64) -> HeaderMap {
        let date = httpdate::fmt_http_date(shift(SystemTime::now(), offset));
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
            let signed_with = clock.offset();
            assert_eq!(clock.learn(status, &dated(offset), signed_with), learned, "{status} {offset}");
        }
        assert!((clock.offset() + 7200).abs() <= 2);
        let ahead =
            SystemTime::now().duration_since(store_time(clock.offset())).expect("behind us").as_secs();
        assert!(ahead.abs_diff(7200) <= 2, "{ahead}");
        assert!(!clock.learn(StatusCode::FORBIDDEN, &HeaderMap::new(), 0));
        // Signatures have four digits for the year. A longer year would panic.
        for date in ["Fri, 31 Dec 9999 23:59:59 GMT", "Sat, 01 Jan 2200 00:00:00 GMT"] {
            let headers = HeaderMap::from_iter([(header::DATE, date.parse().expect("a value"))]);
            assert!(!clock.learn(StatusCode::FORBIDDEN, &headers, 0), "{date}");
        }
        // This request was signed before another request learned the offset.
        assert!(clock.learn(StatusCode::FORBIDDEN, &dated(-7200), 0));
    }
}
