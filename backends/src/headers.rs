//! Reads the headers of HTTP answers that describe objects. All drivers use it.

use std::cmp::Ordering;
use std::ops::Range;
use std::time::SystemTime;

use http::{HeaderMap, StatusCode, header};

use crate::timestamp::digits;
use crate::{Error, Key, Kind, Meta, Result};

/// What is wrong with an answer, and the kind of error that it causes.
type Mismatch = (Kind, &'static str);

/// The `Range` header for a range that is not empty.
pub(crate) fn range_header(range: &Range<u64>) -> String {
    // Servers parse positions as signed 64-bit numbers. No object reaches that length.
    if range.end > i64::MAX as u64 {
        format!("bytes={}-", range.start)
    } else {
        format!("bytes={}-{}", range.start, range.end - 1)
    }
}

/// Reads `Content-Range: bytes first-last/size` (RFC 9110, 14.4). Returns the range and the size; the size is
/// `None` for `*`.
fn content_range(headers: &HeaderMap) -> Option<(Range<u64>, Option<u64>)> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (digits(first)?, digits(last)?);
    let size = if size == "*" { None } else { Some(digits(size)?) };
    (first <= last && last < size.unwrap_or(u64::MAX)).then_some((first..last + 1, size))
}

/// The size that a 416 answer names: `Content-Range: bytes */size`.
fn unsatisfied(headers: &HeaderMap) -> Option<u64> {
    digits(headers.get(header::CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes */")?)
}

/// The part of an object that an answer contains.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ReturnedPart {
    /// The range of bytes. Its end is `u64::MAX` if the whole object follows and its length is not known.
    pub(crate) range: Range<u64>,
    /// The size of the object, if the answer names it.
    pub(crate) size: Option<u64>,
    pub(crate) ends: Ends,
}

/// Where the body of an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    /// After the last byte of the range.
    AtRangeEnd,
    /// After more bytes than were asked for. The surplus is not read.
    Later,
    /// Where the store ends it, because the answer names no length.
    Unknown,
}

/// The part of an object that an answer contains. `asked` is `None` for the whole object.
///
/// # Errors
/// [`Kind::Unavailable`] if the answer contains less than was asked for. [`Kind::Corrupt`] if it contains
/// other bytes, or a body longer than announced.
fn returned_part(
    asked: Option<&Range<u64>>,
    status: StatusCode,
    headers: &HeaderMap,
) -> Result<ReturnedPart, Mismatch> {
    let length = content_length(headers);
    match (status, asked) {
        (StatusCode::OK, None) => Ok(match length {
            Some(size) => ReturnedPart { range: 0..size, size: Some(size), ends: Ends::AtRangeEnd },
            // The body is chunked, or ends with the connection (RFC 9112, 6.3).
            None => ReturnedPart { range: 0..u64::MAX, size: None, ends: Ends::Unknown },
        }),
        (StatusCode::OK, Some(asked)) if asked.start == 0 => {
            let end = asked.end.min(length.unwrap_or(u64::MAX));
            let ends = if length == Some(end) { Ends::AtRangeEnd } else { Ends::Later };
            Ok(ReturnedPart { range: 0..end, size: length, ends })
        }
        (StatusCode::OK, Some(_)) => Err((Kind::Unavailable, "the store ignores ranges")),
        (StatusCode::PARTIAL_CONTENT, asked) => part(asked, length, headers),
        _ => Err((Kind::Unavailable, "the answer is a part, but the whole object was requested")),
    }
}

/// The part that a 206 answer contains.
fn part(
    asked: Option<&Range<u64>>,
    length: Option<u64>,
    headers: &HeaderMap,
) -> Result<ReturnedPart, Mismatch> {
    let Some((range, size)) = content_range(headers) else {
        return Err((Kind::Unavailable, "the answer is a part without a Content-Range"));
    };
    let size = match asked {
        Some(_) => size,
        // A server may return the whole object as a 206 answer.
        None if range.start == 0 && size.is_none_or(|size| size == range.end) => Some(range.end),
        None => return Err((Kind::Unavailable, "the answer is a part, but the whole object was requested")),
    };
    let asked = asked.cloned().unwrap_or_else(|| range.clone());
    // If the answer names no size, a short part may be all that exists.
    let end = asked.end.min(size.unwrap_or(range.end));
    if range.start != asked.start || range.end > asked.end {
        return Err((Kind::Corrupt, "the answer is another part than the requested one"));
    }
    match length.unwrap_or(range.end - range.start).cmp(&(end - asked.start)) {
        _ if range.end < end => Err((Kind::Unavailable, "the answer has fewer bytes than requested")),
        Ordering::Less => Err((Kind::Unavailable, "the body is shorter than its Content-Range")),
        Ordering::Greater => Err((Kind::Corrupt, "the body is longer than its Content-Range")),
        Ordering::Equal => Ok(ReturnedPart { range, size, ends: Ends::AtRangeEnd }),
    }
}

/// Reads `Content-Length`.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    digits(headers.get(header::CONTENT_LENGTH)?.to_str().ok()?)
}

/// Reads `Last-Modified`.
fn last_modified(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(header::LAST_MODIFIED)?.to_str().ok()?).ok()
}

/// Reads the answer to a HEAD. Returns `None` if the answer does not name the object's size.
pub(crate) fn meta_from_head(key: &Key, headers: &HeaderMap) -> Option<Meta> {
    let size = content_length(headers)?;
    Some(Meta { key: key.clone(), size, modified: last_modified(headers) })
}

/// Reads the object's size from the answer to a GET of its first byte. This is used if the answer to HEAD did
/// not name the size.
///
/// # Errors
/// [`Kind::Unavailable`] if this answer does not name the size either.
pub(crate) fn meta_from_part(what: &str, key: &Key, status: StatusCode, headers: &HeaderMap) -> Result<Meta> {
    let size = match status {
        StatusCode::OK => content_length(headers),
        StatusCode::PARTIAL_CONTENT => content_range(headers).and_then(|(_, size)| size),
        StatusCode::RANGE_NOT_SATISFIABLE => unsatisfied(headers),
        _ => None,
    };
    match size {
        Some(size) => Ok(Meta { key: key.clone(), size, modified: last_modified(headers) }),
        None => {
            Err(Error::new(Kind::Unavailable, format!("{what}: the store does not report the object's size")))
        }
    }
}

/// The part of an object that the answer to a GET contains. `asked` is `None` for the whole object.
///
/// # Errors
/// [`Kind::Unavailable`] if the answer contains less than was asked for. [`Kind::Corrupt`] if it contains
/// other bytes, or a body longer than announced.
pub(crate) fn part_of_answer(
    what: &str,
    asked: Option<&Range<u64>>,
    status: StatusCode,
    headers: &HeaderMap,
) -> Result<ReturnedPart> {
    returned_part(asked, status, headers).map_err(|(kind, why)| Error::new(kind, format!("{what}: {why}")))
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
    fn an_answer_contains_what_was_asked_for_or_fails() {
        let part =
            |range: &str, length: &str| headers(&[("content-range", range), ("content-length", length)]);
        let (ok, partial) = (StatusCode::OK, StatusCode::PARTIAL_CONTENT);
        let brings = |range, size, ends| Ok(ReturnedPart { range, size, ends });
        let all = |size: u64| brings(0..size, Some(size), Ends::AtRangeEnd);
        for (asked, status, headers, expected) in [
            (None, ok, headers(&[("content-length", "10")]), all(10)),
            (None, ok, HeaderMap::new(), brings(0..u64::MAX, None, Ends::Unknown)),
            (None, partial, part("bytes 0-9/10", "10"), all(10)),
            (None, partial, part("bytes 0-9/*", "10"), all(10)),
            (None, partial, part("bytes 0-8/10", "9"), Err(Kind::Unavailable)),
            (None, partial, part("bytes 1-9/10", "9"), Err(Kind::Unavailable)),
            (None, partial, part("bytes 1-9/*", "9"), Err(Kind::Unavailable)),
            (Some(0..10), ok, headers(&[("content-length", "10")]), all(10)),
            (Some(0..11), ok, headers(&[("content-length", "10")]), all(10)),
            (Some(0..9), ok, headers(&[("content-length", "10")]), brings(0..9, Some(10), Ends::Later)),
            (Some(0..9), ok, HeaderMap::new(), brings(0..9, None, Ends::Later)),
            (Some(2..10), ok, headers(&[("content-length", "10")]), Err(Kind::Unavailable)),
            (Some(2..10), ok, HeaderMap::new(), Err(Kind::Unavailable)),
            (Some(2..5), partial, part("bytes 2-4/10", "3"), brings(2..5, Some(10), Ends::AtRangeEnd)),
            (Some(2..5), partial, part("bytes 2-4/*", "3"), brings(2..5, None, Ends::AtRangeEnd)),
            (Some(2..50), partial, part("bytes 2-9/10", "8"), brings(2..10, Some(10), Ends::AtRangeEnd)),
            (Some(2..50), partial, part("bytes 2-9/*", "8"), brings(2..10, None, Ends::AtRangeEnd)),
            (Some(2..5), partial, part("bytes 2-3/10", "2"), Err(Kind::Unavailable)),
            (Some(2..5), partial, part("bytes 2-4/10", "2"), Err(Kind::Unavailable)),
            (Some(2..5), partial, part("bytes 2-4/10", "4"), Err(Kind::Corrupt)),
            (Some(2..5), partial, part("bytes 2-4/*", "4"), Err(Kind::Corrupt)),
            (Some(2..5), partial, part("bytes 1-4/10", "4"), Err(Kind::Corrupt)),
            (Some(2..5), partial, part("bytes 2-5/10", "4"), Err(Kind::Corrupt)),
            (Some(2..5), partial, part("bytes 2-5/*", "4"), Err(Kind::Corrupt)),
            (Some(2..5), partial, part("bytes 4-2/10", "3"), Err(Kind::Unavailable)),
            (Some(2..5), partial, headers(&[("content-length", "3")]), Err(Kind::Unavailable)),
            (
                Some(2..5),
                partial,
                headers(&[("content-range", "bytes 2-4/10")]),
                brings(2..5, Some(10), Ends::AtRangeEnd),
            ),
        ] {
            let found = returned_part(asked.as_ref(), status, &headers).map_err(|(kind, _)| kind);
            assert_eq!(found, expected, "{asked:?} {status} {headers:?}");
        }
    }

    #[test]
    fn the_size_is_found_without_a_content_length() {
        let size = |status, pairs: &[(&'static str, &str)]| {
            meta_from_part("head x", &Key::new("x"), status, &headers(pairs)).map(|meta| meta.size).ok()
        };
        assert_eq!(size(StatusCode::PARTIAL_CONTENT, &[("content-range", "bytes 0-0/7")]), Some(7));
        assert_eq!(size(StatusCode::PARTIAL_CONTENT, &[("content-range", "bytes 0-0/*")]), None);
        assert_eq!(size(StatusCode::RANGE_NOT_SATISFIABLE, &[("content-range", "bytes */0")]), Some(0));
        assert_eq!(size(StatusCode::OK, &[("content-length", "7")]), Some(7));
        assert_eq!(size(StatusCode::OK, &[]), None);
    }

    proptest! {
        #[test]
        fn content_ranges_round_trip(start in 0..1_u64 << 60, length in 1..1_u64 << 60, more in 0..1_u64 << 60) {
            let (range, size) = (start..start + length, start + length + more);
            let text = format!("bytes {}-{}/{size}", range.start, range.end - 1);
            prop_assert_eq!(content_range(&headers(&[("content-range", &text)])), Some((range, Some(size))));
        }

        #[test]
        fn content_ranges_are_never_beyond_the_size(text in "(bytes )?[-+*0-9/ ]{0,24}") {
            if let Some((range, size)) = content_range(&headers(&[("content-range", &text)])) {
                prop_assert!(range.start < range.end && range.end <= size.unwrap_or(u64::MAX));
            }
        }
    }
}
