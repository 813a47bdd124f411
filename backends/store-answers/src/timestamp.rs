//! Parses times in the answers of stores and services.

use std::time::{Duration, SystemTime};

/// Parses a number that consists of digits only. `parse` alone would accept a leading `+`.
#[must_use]
pub fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Parses `2009-10-12T17:50:30.000Z` (RFC 3339 in UTC), with a precision of one second.
pub fn timestamp(text: &str) -> Option<SystemTime> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(digits);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.split('.').next()?.splitn(3, ':').map(digits);
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let fits = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !fits {
        return None;
    }
    // Counts days since 1970 in years that start in March, so that the leap day is the last day of a year.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = (365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day).checked_sub(719_469)?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(((days * 24 + hour) * 60 + minute) * 60 + second))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn timestamps_agree_with_http_dates(seconds in 0..250_000_000_000_u64) {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            // `Sun, 06 Nov 1994 08:49:37 GMT`
            let date = httpdate::fmt_http_date(time);
            let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
            let month = months.iter().position(|month| *month == &date[8..11]).expect("a month") + 1;
            let text = format!("{}-{month:02}-{}T{}.000Z", &date[12..16], &date[5..7], &date[17..25]);
            prop_assert_eq!(timestamp(&text), Some(time));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[-0-9T:.Z]{0,30}") {
            let _ = timestamp(&text);
        }
    }
}
