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

/// `Content-Range: bytes first-last/size` (RFC 9110, 14.4), as a range and the size, `None` for `*`.
fn content_range(headers: &HeaderMap) -> Option<(Range<u64>, Option<u64>)> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (digits(first)?, digits(last)?);
    let size = if size == "*" { None } else { Some(digits(size)?) };
    (first <= last && last < size.unwrap_or(u64::MAX)).then_some((first..last + 1, size))
}

/// The size that a 416 names: `Content-Range: bytes */size`.
fn unsatisfied(headers: &HeaderMap) -> Option<u64> {
    digits(headers.get(header::CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes */")?)
}

/// What part of an object an answer brings.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Brought {
    /// Which bytes; the end is `u64::MAX` where all follows and nobody said how long it is.
    pub(crate) range: Range<u64>,
    /// The object's size, if the answer says it.
    pub(crate) size: Option<u64>,
    pub(crate) ends: Ends,
}

/// Where the body of an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    /// After the last byte of the range.
    There,
    /// After more than was asked for: the rest is left.
    Later,
    /// Where the store ends it: nobody said.
    Unsaid,
}

/// What part of an object an answer brings; `asked` is `None` for the whole.
///
/// # Errors
/// [`Kind::Unavailable`] if it brings less than was asked for, [`Kind::Corrupt`] if it brings other bytes
/// or more.
fn placed(asked: Option<&Range<u64>>, status: StatusCode, headers: &HeaderMap) -> Result<Brought, Wrong> {
    let length = content_length(headers);
    match (status, asked) {
        (StatusCode::OK, None) => Ok(match length {
            Some(size) => Brought { range: 0..size, size: Some(size), ends: Ends::There },
            // Chunks, or all until the connection ends (RFC 9112, 6.3).
            None => Brought { range: 0..u64::MAX, size: None, ends: Ends::Unsaid },
        }),
        (StatusCode::OK, Some(asked)) if asked.start == 0 => {
            let end = asked.end.min(length.unwrap_or(u64::MAX));
            let ends = if length == Some(end) { Ends::There } else { Ends::Later };
            Ok(Brought { range: 0..end, size: length, ends })
        }
        (StatusCode::OK, Some(_)) => Err((Kind::Unavailable, "the store ignores ranges")),
        (StatusCode::PARTIAL_CONTENT, asked) => part(asked, length, headers),
        _ => Err((Kind::Unavailable, "a part where the whole was asked for")),
    }
}

/// What a 206 brings.
fn part(asked: Option<&Range<u64>>, length: Option<u64>, headers: &HeaderMap) -> Result<Brought, Wrong> {
    let Some((range, size)) = content_range(headers) else {
        return Err((Kind::Unavailable, "a part without a Content-Range"));
    };
    let size = match asked {
        Some(_) => size,
        // The whole may come as a part of itself.
        None if range.start == 0 && size.is_none_or(|size| size == range.end) => Some(range.end),
        None => return Err((Kind::Unavailable, "a part where the whole was asked for")),
    };
    let asked = asked.cloned().unwrap_or_else(|| range.clone());
    // Where no size is named, less than was asked for may be all there is.
    let end = asked.end.min(size.unwrap_or(range.end));
    if range.start != asked.start || range.end > asked.end {
        return Err((Kind::Corrupt, "another part than was asked for"));
    }
    match length.unwrap_or(range.end - range.start).cmp(&(end - asked.start)) {
        _ if range.end < end => Err((Kind::Unavailable, "less than was asked for")),
        Ordering::Less => Err((Kind::Unavailable, "a body shorter than its Content-Range")),
        Ordering::Greater => Err((Kind::Corrupt, "a body longer than its Content-Range")),
        Ordering::Equal => Ok(Brought { range, size, ends: Ends::There }),
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

/// What the answer to a HEAD says of an object; `None` if it does not say how long it is.
pub(crate) fn described(key: &Key, headers: &HeaderMap) -> Option<Meta> {
    let size = content_length(headers)?;
    Some(Meta { key: key.clone(), size, modified: last_modified(headers) })
}

/// What the answer to a GET of the first byte says of the whole, where the answer to HEAD did not say
/// how long it is.
///
/// # Errors
/// [`Kind::Unavailable`] if this one does not say it either.
pub(crate) fn described_by_part(
    what: &str,
    key: &Key,
    status: StatusCode,
    headers: &HeaderMap,
) -> Result<Meta> {
    let size = match status {
        StatusCode::OK => content_length(headers),
        StatusCode::PARTIAL_CONTENT => content_range(headers).and_then(|(_, size)| size),
        StatusCode::RANGE_NOT_SATISFIABLE => unsatisfied(headers),
        _ => None,
    };
    match size {
        Some(size) => Ok(Meta { key: key.clone(), size, modified: last_modified(headers) }),
        None => Err(Error::new(Kind::Unavailable, format!("{what}: the store does not say how long it is"))),
    }
}

/// What the answer to a GET brings of an object; `asked` is `None` for the whole.
///
/// # Errors
/// As of what it brings, which is never less nor other than was asked for.
pub(crate) fn brought(
    what: &str,
    asked: Option<&Range<u64>>,
    status: StatusCode,
    headers: &HeaderMap,
) -> Result<Brought> {
    placed(asked, status, headers).map_err(|(kind, why)| Error::new(kind, format!("{what}: {why}")))
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
        let brings = |range, size, ends| Ok(Brought { range, size, ends });
        let all = |size: u64| brings(0..size, Some(size), Ends::There);
        for (asked, status, headers, expected) in [
            (None, ok, headers(&[("content-length", "10")]), all(10)),
            (None, ok, HeaderMap::new(), brings(0..u64::MAX, None, Ends::Unsaid)),
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
            (Some(2..5), partial, part("bytes 2-4/10", "3"), brings(2..5, Some(10), Ends::There)),
            (Some(2..5), partial, part("bytes 2-4/*", "3"), brings(2..5, None, Ends::There)),
            (Some(2..50), partial, part("bytes 2-9/10", "8"), brings(2..10, Some(10), Ends::There)),
            (Some(2..50), partial, part("bytes 2-9/*", "8"), brings(2..10, None, Ends::There)),
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
                brings(2..5, Some(10), Ends::There),
            ),
        ] {
            let found = placed(asked.as_ref(), status, &headers).map_err(|(kind, _)| kind);
            assert_eq!(found, expected, "{asked:?} {status} {headers:?}");
        }
    }

    #[test]
    fn how_long_an_object_is_without_a_length() {
        let size = |status, pairs: &[(&'static str, &str)]| {
            described_by_part("head x", &Key::new("x"), status, &headers(pairs)).map(|meta| meta.size).ok()
        };
        assert_eq!(size(StatusCode::PARTIAL_CONTENT, &[("content-range", "bytes 0-0/7")]), Some(7));
        assert_eq!(size(StatusCode::PARTIAL_CONTENT, &[("content-range", "bytes 0-0/*")]), None);
        assert_eq!(size(StatusCode::RANGE_NOT_SATISFIABLE, &[("content-range", "bytes */0")]), Some(0));
        assert_eq!(size(StatusCode::OK, &[("content-length", "7")]), Some(7));
        assert_eq!(size(StatusCode::OK, &[]), None);
    }

    proptest! {
        #[test]
        fn content_ranges_and_back(start in 0..1_u64 << 60, length in 1..1_u64 << 60, more in 0..1_u64 << 60) {
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
