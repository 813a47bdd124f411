//! What holds for every `Range`.

use gateway_http::{Requested, Spec, requested};
use http::header::{IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue};

const ETAG: &str = "\"sha256:aa\"";
const SIZES: [u64; 7] = [0, 1, 2, 10, 4096, u64::MAX - 1, u64::MAX];

/// The input is the value of `Range`. A part is never empty and never beyond the blob, whatever its size. A part that is
/// written again means the same. With an `If-Range` of other bytes, the whole blob is the answer.
pub(crate) fn hold(input: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(input) else { return };
    let mut headers = HeaderMap::new();
    headers.insert(RANGE, value);
    if let Requested::Part(spec) = requested(&headers, ETAG) {
        for size in SIZES {
            if let Some(range) = spec.within(size) {
                assert!(range.start < range.end && range.end <= size, "{spec:?} of {size}: {range:?}");
            }
        }
        headers.insert(RANGE, written(spec));
        assert_eq!(requested(&headers, ETAG), Requested::Part(spec));
    }
    headers.insert(IF_RANGE, HeaderValue::from_static("\"sha256:bb\""));
    assert_eq!(requested(&headers, ETAG), Requested::Whole);
}

fn written(spec: Spec) -> HeaderValue {
    let text = match spec {
        Spec::From { first, last: None } => format!("bytes={first}-"),
        Spec::From { first, last: Some(last) } => format!("bytes={first}-{last}"),
        Spec::Last { length } => format!("bytes=-{length}"),
    };
    HeaderValue::from_str(&text).expect("digits")
}
