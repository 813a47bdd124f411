//! What the headers of HTTP answers say of objects, whoever serves them.

use std::cmp::Ordering;
use std::ops::Range;
use std::time::SystemTime;

use http::{HeaderMap, StatusCode, header};

use crate::{Error, Key, Kind, Meta, Result};

/// What is wrong with an answer, and what that means.
type Wrong = (Kind, &'static str);

/// The `Range` header that asks for a range which is not empty.
pub(crate) fn range_header(range: &Range<u64>) -> String {
    // Servers parse into 64 bits with a sign; so far nothing is as long.
    if range.end > i64::MAX as u64 {
        format!("bytes={}-", range.start)
    } else {
        format!("bytes={}-{}", range.start, range.end - 1)
    }
}

/// `Content-Range: bytes first-last/size` (RFC 9110, 14.4), as a range and the size.
fn content_range(headers: &HeaderMap) -> Option<(Range<u64>, u64)> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, size) = (digits(first)?, digits(last)?, digits(size)?);
    (first <= last && last < size).then_some((first..last + 1, size))
}

/// What part of an object an answer brings, and the object's size; `asked` is `None` for the whole.
///
/// # Errors
/// [`Kind::Unavailable`] if it brings less than was asked for or does not say, [`Kind::Corrupt`] if
/// it brings other bytes or more.
fn placed(
    asked: Option<&Range<u64>>,
    status: StatusCode,
    headers: &HeaderMap,
) -> Result<(Range<u64>, u64), Wrong> {
    let broken = |kind, why| Err((kind, why));
    let length = content_length(headers);
    match (status, asked) {
        (StatusCode::OK, asked) => {
            let Some(size) = length else { return broken(Kind::Unavailable, "an answer without a length") };
            match asked {
                Some(asked) if asked.start > 0 || asked.end < size => {
                    broken(Kind::Unavailable, "the store ignores ranges")
                }
                _ => Ok((0..size, size)),
            }
        }
        (StatusCode::PARTIAL_CONTENT, Some(asked)) => {
            let Some((range, size)) = content_range(headers) else {
                return broken(Kind::Unavailable, "a part without a Content-Range");
            };
            let end = asked.end.min(size);
            if range.start != asked.start || range.end > end {
                return broken(Kind::Corrupt, "another part than was asked for");
            }
            let length = length.unwrap_or(range.end - range.start);
            match length.cmp(&(end - asked.start)) {
                _ if range.end < end => broken(Kind::Unavailable, "less than was asked for"),
                Ordering::Less => broken(Kind::Unavailable, "a body shorter than its Content-Range"),
                Ordering::Greater => broken(Kind::Corrupt, "a body longer than its Content-Range"),
                Ordering::Equal => Ok((range, size)),
            }
        }
        _ => broken(Kind::Unavailable, "a part where the whole was asked for"),
    }
}

/// `Content-Length`.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    digits(headers.get(header::CONTENT_LENGTH)?.to_str().ok()?)
}

/// Digits and nothing else: `parse` alone would take a `+`.
pub(crate) fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// `Last-Modified`.
fn last_modified(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(header::LAST_MODIFIED)?.to_str().ok()?).ok()
}

/// What the answer to a HEAD says of an object.
///
/// # Errors
/// [`Kind::Unavailable`] if it does not say how long it is.
pub(crate) fn described(what: &str, key: &Key, headers: &HeaderMap) -> Result<Meta> {
    let size = content_length(headers)
        .ok_or_else(|| Error::new(Kind::Unavailable, format!("{what}: an answer without a length")))?;
    Ok(Meta { key: key.clone(), size, modified: last_modified(headers) })
}

/// What the answer to a GET brings of an object, and what it says of the whole; `asked` is `None`
/// for the whole.
///
/// # Errors
/// As of what it brings, which is never less nor other than was asked for.
pub(crate) fn brought(
    what: &str,
    key: &Key,
    asked: Option<&Range<u64>>,
    status: StatusCode,
    headers: &HeaderMap,
) -> Result<(Range<u64>, Meta)> {
    let (range, size) =
        placed(asked, status, headers).map_err(|(kind, why)| Error::new(kind, format!("{what}: {why}")))?;
    Ok((range, Meta { key: key.clone(), size, modified: last_modified(headers) }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().expect("a value")))
            .collect()
    }

    #[test]
    fn answers_bring_what_was_asked_for_or_fail() {
        let part =
            |range: &str, length: &str| headers(&[("content-range", range), ("content-length", length)]);
        let (ok, partial) = (StatusCode::OK, StatusCode::PARTIAL_CONTENT);
        for (asked, status, headers, expected) in [
            (None, ok, headers(&[("content-length", "10")]), Ok((0..10, 10))),
            (None, ok, HeaderMap::new(), Err(Kind::Unavailable)),
            (None, partial, part("bytes 0-9/10", "10"), Err(Kind::Unavailable)),
            (Some(0..10), ok, headers(&[("content-length", "10")]), Ok((0..10, 10))),
            (Some(0..11), ok, headers(&[("content-length", "10")]), Ok((0..10, 10))),
            (Some(0..9), ok, headers(&[("content-length", "10")]), Err(Kind::Unavailable)),
            (Some(2..10), ok, headers(&[("content-length", "10")]), Err(Kind::Unavailable)),
            (Some(2..5), partial, part("bytes 2-4/10", "3"), Ok((2..5, 10))),
            (Some(2..50), partial, part("bytes 2-9/10", "8"), Ok((2..10, 10))),
            (Some(2..5), partial, part("bytes 2-3/10", "2"), Err(Kind::Unavailable)),
            (Some(2..5), partial, part("bytes 2-4/10", "2"), Err(Kind::Unavailable)),
            (Some(2..5), partial, part("bytes 2-4/10", "4"), Err(Kind::Corrupt)),
            (Some(2..5), partial, part("bytes 1-4/10", "4"), Err(Kind::Corrupt)),
            (Some(2..5), partial, part("bytes 2-5/10", "4"), Err(Kind::Corrupt)),
            (Some(2..5), partial, part("bytes 4-2/10", "3"), Err(Kind::Unavailable)),
            (Some(2..5), partial, headers(&[("content-length", "3")]), Err(Kind::Unavailable)),
        ] {
            let found = placed(asked.as_ref(), status, &headers).map_err(|(kind, _)| kind);
            assert_eq!(found, expected, "{asked:?} {status} {headers:?}");
        }
    }

    proptest! {
        #[test]
        fn content_ranges_and_back(start in 0..1_u64 << 60, length in 1..1_u64 << 60, more in 0..1_u64 << 60) {
            let (range, size) = (start..start + length, start + length + more);
            let text = format!("bytes {}-{}/{size}", range.start, range.end - 1);
            prop_assert_eq!(content_range(&headers(&[("content-range", &text)])), Some((range, size)));
        }

        #[test]
        fn content_ranges_are_never_beyond_the_size(text in "(bytes )?[-+*0-9/ ]{0,24}") {
            if let Some((range, size)) = content_range(&headers(&[("content-range", &text)])) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }
    }
}
