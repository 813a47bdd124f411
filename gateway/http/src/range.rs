//! `Range`, `If-Range` and `If-None-Match` of a blob (RFC 9110 sections 13 and 14).

use std::ops::Range;

use http::header::{IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue};

/// A range of bytes of a blob. The start is inclusive, the end exclusive.
pub type ByteRange = Range<u64>;

/// The part of a blob that a client requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requested {
    /// The whole blob: there is no range, it has a unit or form that may be ignored, or `If-Range` does not
    /// match.
    Whole,
    /// One range.
    Part(Spec),
    /// A `bytes` range that is malformed.
    Malformed,
}

/// One range as the client wrote it. It does not depend on the blob's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spec {
    /// `first-` or `first-last`, inclusive.
    From {
        /// First byte.
        first: u64,
        /// Last byte, if the client names it.
        last: Option<u64>,
    },
    /// `-length`.
    Last {
        /// How many bytes from the end.
        length: u64,
    },
}

impl Spec {
    /// The bytes in a blob of `size` bytes. `None` if the range cannot be satisfied (416).
    #[must_use]
    pub fn within(self, size: u64) -> Option<ByteRange> {
        match self {
            Self::From { first, .. } if first >= size => None,
            Self::From { first, last } => {
                Some(first..last.map_or(size, |last| last.saturating_add(1).min(size)))
            }
            Self::Last { length: 0 } => None,
            Self::Last { length } => (size > 0).then(|| size.saturating_sub(length)..size),
        }
    }
}

/// The part that a `GET` with these headers requests. `etag` is that of the blob, with its quotes.
#[must_use]
pub fn requested(headers: &HeaderMap, etag: &str) -> Requested {
    let mut ranges = headers.get_all(RANGE).iter();
    let Some(range) = ranges.next() else { return Requested::Whole };
    if ranges.next().is_some() {
        return Requested::Whole;
    }
    // Only a strong match of our own tag keeps the range. A date never does, because we send none.
    if headers.get(IF_RANGE).is_some_and(|value| value.as_bytes() != etag.as_bytes()) {
        return Requested::Whole;
    }
    let Some(specs) = range.to_str().ok().and_then(|text| strip_unit(text.trim())) else {
        return Requested::Whole;
    };
    if specs.contains(',') {
        // The whole blob is a valid answer to several ranges, and no container client asks for them.
        return Requested::Whole;
    }
    spec(specs.trim()).map_or(Requested::Malformed, Requested::Part)
}

/// The text after `bytes=`. Other units are ignored (RFC 9110 section 14.2).
fn strip_unit(text: &str) -> Option<&str> {
    let (unit, specs) = text.split_once('=')?;
    unit.trim().eq_ignore_ascii_case("bytes").then_some(specs)
}

fn spec(text: &str) -> Option<Spec> {
    let (first, last) = text.split_once('-')?;
    match (number(first), number(last)) {
        (Some(first), None) if last.is_empty() => Some(Spec::From { first, last: None }),
        (Some(first), Some(last)) if first <= last => Some(Spec::From { first, last: Some(last) }),
        (None, Some(length)) if first.is_empty() => Some(Spec::Last { length }),
        _ => None,
    }
}

fn number(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().unwrap_or(u64::MAX))
}

/// Whether `If-None-Match` names the blob, so that 304 is the answer.
#[must_use]
pub fn if_none_match_hits(headers: &HeaderMap, etag: &str) -> bool {
    headers.get_all(IF_NONE_MATCH).iter().filter_map(|value: &HeaderValue| value.to_str().ok()).any(|value| {
        value.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ETAG: &str = "\"sha256:aa\"";

    fn asked(range: &str) -> Requested {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, range.parse().expect("a header value"));
        requested(&headers, ETAG)
    }

    fn bytes(range: &str, size: u64) -> Option<ByteRange> {
        match asked(range) {
            Requested::Part(spec) => spec.within(size),
            other => panic!("{range}: {other:?}"),
        }
    }

    #[test]
    fn ranges_at_the_edges_of_a_blob() {
        assert_eq!(bytes("bytes=0-0", 10), Some(0..1));
        assert_eq!(bytes("bytes=0-", 10), Some(0..10));
        assert_eq!(bytes("bytes=9-99", 10), Some(9..10));
        assert_eq!(bytes("bytes=10-", 10), None);
        assert_eq!(bytes("bytes=-3", 10), Some(7..10));
        assert_eq!(bytes("bytes=-30", 10), Some(0..10));
        assert_eq!(bytes("bytes=-0", 10), None);
        assert_eq!(bytes("bytes=-5", 0), None);
        assert_eq!(bytes("bytes=0-18446744073709551615", 10), Some(0..10));
        assert_eq!(bytes("bytes=99999999999999999999999-", 10), None);
    }

    #[test]
    fn other_units_are_ignored_and_malformed_ranges_reported() {
        assert_eq!(asked("items=0-1"), Requested::Whole);
        assert_eq!(asked("bytes=0-1,3-4"), Requested::Whole);
        for range in
            ["bytes=", "bytes=-", "bytes=0--1", "bytes=5-4", "bytes=a-b", "bytes=0x1-2", "bytes=+1-2"]
        {
            assert_eq!(asked(range), Requested::Malformed, "{range}");
        }
    }

    #[test]
    fn if_range_needs_a_strong_match() {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, "bytes=1-2".parse().expect("value"));
        headers.insert(IF_RANGE, ETAG.parse().expect("value"));
        assert!(matches!(requested(&headers, ETAG), Requested::Part(_)));
        headers.insert(IF_RANGE, "\"other\"".parse().expect("value"));
        assert_eq!(requested(&headers, ETAG), Requested::Whole);
    }

    #[test]
    fn if_none_match_compares_the_tag() {
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, "\"x\", W/\"sha256:aa\"".parse().expect("value"));
        assert!(if_none_match_hits(&headers, ETAG));
        assert!(!if_none_match_hits(&headers, "\"y\""));
    }

    proptest! {
        #[test]
        fn a_range_is_always_within_the_blob(text in "bytes=[0-9]{0,25}-[0-9]{0,25}", size in any::<u64>()) {
            if let Requested::Part(spec) = asked(&text) && let Some(range) = spec.within(size) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[ -~]{0,40}") {
            let _ = asked(&text);
        }
    }
}
