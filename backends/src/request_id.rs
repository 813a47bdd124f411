//! The id of a client's request, under which it is found in the logs of the gateway, the registry and the stores.
//!
//! The work for a request runs in the scope of its id, and every request to a store contains the id. The id is taken
//! from `X-Request-Id`, or else from the trace id of `traceparent` (<https://www.w3.org/TR/trace-context/>). If the
//! request has neither, the gateway makes one.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::ops::Range;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue};
use tracing::{Instrument as _, Span};

/// The longest id that a client may choose, in bytes.
pub const REQUEST_ID_MAX: usize = 128;

/// The longest `traceparent` that is forwarded, in bytes. Later versions may be longer than [`TRACEPARENT`].
const TRACEPARENT_MAX: usize = 128;

/// Bytes of a `traceparent` of version 00: version, trace id, parent id and flags, in hexadecimal, with dashes between.
const TRACEPARENT: usize = 55;

/// Where the trace id and the flags stand in it.
const TRACE_ID: Range<usize> = 3..35;
const FLAGS: Range<usize> = 53..55;

/// The flag of a trace that is recorded (W3C Trace Context, section 3.2.2.5.1).
const SAMPLED: u8 = 1;

/// The header under which a request is found in the logs of all servers that took part.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The header that names the trace and the span to which a request belongs.
pub const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACE_STATE: HeaderName = HeaderName::from_static("tracestate");

tokio::task_local! {
    static CURRENT: RequestId;
}

/// The id of a request, and the client's trace to which the request belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId {
    id: HeaderValue,
    traceparent: Option<HeaderValue>,
}

impl RequestId {
    /// Reads the id of a client's request, and sets it in the headers. If `traceparent` is not valid, removes it
    /// together with `tracestate`.
    pub fn of_request(headers: &mut HeaderMap) -> Self {
        let traceparent =
            one(headers, &TRACE_PARENT).filter(|value| trace_id(value.as_bytes()).is_some()).cloned();
        if traceparent.is_none() {
            headers.remove(TRACE_PARENT);
            headers.remove(TRACE_STATE);
        }
        let chosen = one(headers, &X_REQUEST_ID).filter(|value| is_plain(value.as_bytes())).cloned();
        let of_trace = || HeaderValue::from_bytes(trace_id(traceparent.as_ref()?.as_bytes())?).ok();
        let id = chosen.or_else(of_trace).unwrap_or_else(unique);
        headers.insert(X_REQUEST_ID, id.clone());
        Self { id, traceparent }
    }

    /// Makes an id for work that no client requested.
    #[must_use]
    pub fn generate() -> Self {
        Self { id: unique(), traceparent: None }
    }

    /// The id of the request for which the current task works, if there is one.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Self::clone).ok()
    }

    /// The id as text: letters, digits and `-_.:+/=@`, at most [`REQUEST_ID_MAX`] bytes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }

    /// The id as the value of a header.
    #[must_use]
    pub fn header(&self) -> &HeaderValue {
        &self.id
    }

    /// The `traceparent` of the trace to which the request belongs, if it belongs to one.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_ref()?.to_str().ok()
    }

    /// The id of that trace: 32 hexadecimal digits.
    #[must_use]
    pub fn trace(&self) -> Option<&str> {
        self.traceparent()?.get(TRACE_ID)
    }

    /// The same, if the trace is recorded somewhere.
    #[must_use]
    pub fn sampled_trace(&self) -> Option<&str> {
        let flags = self.traceparent()?.get(FLAGS)?;
        self.trace().filter(|_| u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & SAMPLED != 0))
    }

    /// The same request, whose further requests belong to the span that `traceparent` names. A value that is not valid
    /// changes nothing.
    #[must_use]
    pub fn in_span(mut self, traceparent: &HeaderValue) -> Self {
        if trace_id(traceparent.as_bytes()).is_some() {
            self.traceparent = Some(traceparent.clone());
        }
        self
    }

    /// Runs `work` in the scope of this request.
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        CURRENT.scope(self, work).await
    }

    /// Runs `work`, which does not wait, in the scope of this request.
    pub fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.clone(), work)
    }
}

/// If the current work is for a request, sets the headers that say so: `X-Request-Id`, and the client's unchanged
/// `traceparent`.
pub fn name_request(headers: &mut HeaderMap) {
    // Outside of a scope, the work is for no request.
    let _ = CURRENT.try_with(|current| {
        headers.insert(X_REQUEST_ID, current.id.clone());
        if let Some(traceparent) = &current.traceparent {
            headers.insert(TRACE_PARENT, traceparent.clone());
        }
    });
}

/// Wraps `work`, so that it runs in the scope of the current request and in its span, in whatever task it runs.
pub fn in_current_request<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let current = RequestId::current();
    let work = async move {
        match current {
            Some(id) => id.scope(work).await,
            None => work.await,
        }
    };
    work.instrument(Span::current())
}

/// The value of a header that occurs exactly once.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// Whether a client's id may be used unchanged. It is written to logs and sent to stores.
fn is_plain(id: &[u8]) -> bool {
    (1..=REQUEST_ID_MAX).contains(&id.len()) && id.iter().all(is_harmless)
}

fn is_harmless(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.:+/=@".contains(byte)
}

/// The trace id of a `traceparent` (W3C Trace Context, section 3.2.2), if it is valid.
fn trace_id(value: &[u8]) -> Option<&[u8]> {
    let (known, rest) = value.split_at_checked(TRACEPARENT)?;
    let hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let fields: [&[u8]; 4] = [&known[..2], &known[TRACE_ID], &known[36..52], &known[FLAGS]];
    let [version, trace, parent, _] = fields;
    let is_zero = |id: &[u8]| id.iter().all(|byte| *byte == b'0');
    let dashes = [2, 35, 52].iter().all(|at| known[*at] == b'-');
    let well_formed = dashes && fields.iter().all(|field| field.iter().all(hex)) && version != b"ff";
    // In a later version, the additional part begins with a dash (section 3.2.4). It is sent to stores, so its
    // characters must be as harmless as those of an id.
    let ends = match version {
        b"00" => rest.is_empty(),
        _ => rest.is_empty() || rest[0] == b'-' && rest.iter().all(is_harmless),
    };
    let bounded = value.len() <= TRACEPARENT_MAX;
    (well_formed && ends && bounded && !is_zero(trace) && !is_zero(parent)).then_some(trace)
}

/// A unique id: a number for this process, and another one for the id. It may be the id of a trace, of which the second
/// half decides whether the trace is recorded. So that half looks random.
fn unique() -> HeaderValue {
    static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().build_hasher().finish());
    static MADE: AtomicU64 = AtomicU64::new(0);
    let mut id = [0; 32];
    let (process, number) = id.split_at_mut(16);
    hex(*PROCESS, process);
    hex(scatter(PROCESS.wrapping_add(MADE.fetch_add(1, Ordering::Relaxed))), number);
    HeaderValue::from_bytes(&id).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

/// Scatters numbers. No two give the same (the last step of SplitMix64, Steele et al. 2014).
fn scatter(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Writes a number in hexadecimal, with as many digits as fit.
fn hex(mut number: u64, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    /// The id of a request with these headers, and the headers afterwards.
    fn of(pairs: &[(&str, &[u8])]) -> (RequestId, HeaderMap) {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name: HeaderName = name.parse().expect("a name");
            headers.append(name, HeaderValue::from_bytes(value).expect("a value"));
        }
        (RequestId::of_request(&mut headers), headers)
    }

    fn said<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
        headers[name].to_str().expect("a text")
    }

    #[test]
    fn a_client_chooses_the_id() {
        for id in
            ["7", "a-b_c.d:e+f/g=h@i", "4c5b4c0a-1d5f-4a54-9d0b-6f0a3c0b7d3e", &"a".repeat(REQUEST_ID_MAX)]
        {
            let (found, headers) = of(&[("x-request-id", id.as_bytes()), ("traceparent", TRACE.as_bytes())]);
            assert_eq!((found.as_str(), said(&headers, "x-request-id")), (id, id));
            assert_eq!(headers["traceparent"], TRACE, "it stays");
        }
    }

    #[test]
    fn a_bad_id_is_replaced_everywhere() {
        let long = "a".repeat(REQUEST_ID_MAX + 1);
        for id in [
            &b""[..],
            b"a b",
            b"a\tb",
            b"a\x80b",
            b"a\"b",
            b"a%0ab",
            b"<a>",
            b"a\\b",
            b"a,b",
            long.as_bytes(),
        ] {
            let (found, headers) = of(&[("x-request-id", id)]);
            assert_ne!(found.as_str().as_bytes(), id);
            assert_eq!(headers["x-request-id"], found.as_str());
            let (found, _) = of(&[("x-request-id", id), ("traceparent", TRACE.as_bytes())]);
            assert_eq!(found.as_str(), TRACE_ID, "{id:?}");
        }
        let (found, headers) = of(&[("x-request-id", b"a"), ("x-request-id", b"b")]);
        assert!(!["a", "b"].contains(&found.as_str()), "nobody knows which one is meant");
        assert_eq!(headers.get_all("x-request-id").iter().count(), 1);
    }

    #[test]
    fn a_trace_names_the_request() {
        let (found, headers) = of(&[("traceparent", TRACE.as_bytes()), ("tracestate", b"a=1")]);
        assert_eq!((found.as_str(), said(&headers, "x-request-id")), (TRACE_ID, TRACE_ID));
        assert_eq!((said(&headers, "traceparent"), said(&headers, "tracestate")), (TRACE, "a=1"));
        let later = format!("cc{}-what-the-future-holds", &TRACE[2..]);
        assert_eq!(of(&[("traceparent", later.as_bytes())]).0.as_str(), TRACE_ID);
    }

    #[test]
    fn what_is_no_trace_ends_here() {
        let zeros = |at: std::ops::Range<usize>| {
            let mut text = TRACE.to_owned();
            text.replace_range(at.clone(), &"0".repeat(at.len()));
            text
        };
        for trace in [
            "00-1-2-01".to_owned(),
            TRACE.to_uppercase(),
            TRACE.replace('-', "_"),
            format!("{TRACE}-more"),
            format!("ff{}", &TRACE[2..]),
            format!("cc{}x", &TRACE[2..]),
            format!("cc{}-{}", &TRACE[2..], "a".repeat(TRACEPARENT_MAX)),
            format!("cc{}-a b", &TRACE[2..]),
            format!("cc{}-\"<script>", &TRACE[2..]),
            format!("cc{}-a;b", &TRACE[2..]),
            format!("cc{}-%0d%0a", &TRACE[2..]),
            zeros(3..35),
            zeros(36..52),
            TRACE[..54].to_owned(),
            String::new(),
        ] {
            let (found, headers) = of(&[("traceparent", trace.as_bytes()), ("tracestate", b"a=1")]);
            assert_ne!(found.as_str(), TRACE_ID, "{trace}");
            assert!(!headers.contains_key("traceparent") && !headers.contains_key("tracestate"), "{trace}");
        }
        let (_, headers) = of(&[("traceparent", TRACE.as_bytes()), ("traceparent", TRACE.as_bytes())]);
        assert!(!headers.contains_key("traceparent"), "a header that may stand once");
    }

    #[tokio::test]
    async fn what_is_sent_says_for_which_request() {
        let sent = || {
            let mut headers = HeaderMap::new();
            name_request(&mut headers);
            headers
        };
        let (id, _) = of(&[("x-request-id", b"7"), ("traceparent", TRACE.as_bytes())]);
        let both = |headers: HeaderMap| {
            let both = (said(&headers, "x-request-id"), said(&headers, "traceparent"));
            assert_eq!((headers.len(), both), (2, ("7", TRACE)));
        };
        assert_eq!(sent(), HeaderMap::new(), "for none");
        both(id.enter(sent));
        let elsewhere = async { tokio::spawn(in_current_request(async move { sent() })).await };
        both(id.scope(elsewhere).await.expect("it ends"));
        assert_eq!(RequestId::generate().enter(sent).len(), 1);
    }

    proptest! {
        /// Whatever a client sends, the id is safe to log and to send, and it is the same everywhere.
        #[test]
        fn an_id_is_always_safe(id in prop::collection::vec(any::<u8>(), 0..200), trace in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut headers = HeaderMap::new();
            for (name, value) in [(X_REQUEST_ID, &id), (TRACE_PARENT, &trace)] {
                if let Ok(value) = HeaderValue::from_bytes(value) {
                    headers.insert(name, value);
                }
            }
            let found = RequestId::of_request(&mut headers);
            prop_assert!(is_plain(found.as_str().as_bytes()));
            prop_assert_eq!(found.as_str().as_bytes() == &*id, is_plain(&id));
            prop_assert_eq!(headers[X_REQUEST_ID].as_bytes(), found.as_str().as_bytes());
            prop_assert!(headers.get(TRACE_PARENT).is_none_or(|value| trace_id(value.as_bytes()).is_some()));
        }

        /// A valid trace is always used.
        #[test]
        fn a_trace_is_taken(trace in 1u128.., parent in 1u64.., flags: u8) {
            let text = format!("00-{trace:032x}-{parent:016x}-{flags:02x}");
            let (found, headers) = of(&[("traceparent", text.as_bytes())]);
            let expected = format!("{trace:032x}");
            prop_assert_eq!(found.as_str(), &expected);
            prop_assert_eq!(&headers["traceparent"], &text);
        }
    }

    #[test]
    fn the_trace_of_a_request() {
        let (found, _) = of(&[("x-request-id", b"7"), ("traceparent", TRACE.as_bytes())]);
        assert_eq!((found.trace(), found.sampled_trace()), (Some(TRACE_ID), Some(TRACE_ID)));
        let kept = |found: RequestId, last: &str| {
            found.in_span(&HeaderValue::from_str(&format!("{}{last}", &TRACE[..53])).expect("a value"))
        };
        let unsampled = kept(found.clone(), "02");
        assert_eq!((unsampled.trace(), unsampled.sampled_trace()), (Some(TRACE_ID), None));
        assert_eq!(kept(found.clone(), "zz"), found, "it is not valid");
        assert_eq!((RequestId::generate().trace(), RequestId::generate().sampled_trace()), (None, None));
    }

    /// A share of the traces that begin here is recorded, by the second half of their ids.
    #[test]
    fn ids_that_are_made_are_spread_evenly() {
        let low = |id: RequestId| u64::from_str_radix(&id.as_str()[16..], 16).expect("a number");
        let below = (0..1000).filter(|_| low(RequestId::generate()) < u64::MAX / 4).count();
        assert!((150..350).contains(&below), "{below}");
    }

    #[test]
    fn ids_that_are_made_differ() {
        let [one, other] = [RequestId::generate(), RequestId::generate()];
        assert_ne!(one, other);
        assert_eq!((one.as_str().len(), &one.as_str()[..16]), (32, &other.as_str()[..16]));
    }
}
