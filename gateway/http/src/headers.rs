//! Headers of forwarded requests and answers (RFC 9110 section 7.6).

use std::net::IpAddr;

use http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, HOST,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::Allowed;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The route of a forwarded request, for its headers.
#[derive(Debug, Clone, Copy)]
pub struct Via<'a> {
    /// The registry's name, for `Host`.
    pub host: &'a HeaderValue,
    /// The gateway's name, for `X-Forwarded-Host`: a distribution registry builds its URLs from it.
    pub gateway: &'a HeaderValue,
    /// The client's address. It replaces the `X-Forwarded-For` that a client sends, because Quay writes the
    /// *leftmost* address to its audit log.
    pub client: IpAddr,
    /// Which headers of the client pass.
    pub allowed: &'a Allowed,
}

/// The headers of a client's request as the registry gets them. Only those in `part` are made; the others cost nothing.
///
/// With `identity` the registry is asked not to compress: Quay's nginx would compress a blob that it streams.
#[must_use]
pub fn forwarded_request(
    headers: &HeaderMap,
    via: &Via<'_>,
    identity: bool,
    part: impl Fn(&HeaderName) -> bool,
) -> HeaderMap {
    let named = named_by_connection(headers);
    let passes = |name: &HeaderName| part(name) && via.allowed.passes(name) && !is_of_hop(name, &named);
    let mut out = HeaderMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| passes(name)) {
        out.append(name, value.clone());
    }
    if let Some(cookies) = joined_cookies(&out) {
        out.insert(COOKIE, cookies);
    }
    // HTTP/2 lets a client repeat the same length; HTTP/1.1 servers may take the two for a smuggled request.
    if let Some(length) = out.get(CONTENT_LENGTH).cloned() {
        out.insert(CONTENT_LENGTH, length);
    }
    if part(&X_FORWARDED_FOR)
        && let Ok(address) = HeaderValue::from_str(&via.client.to_canonical().to_string())
    {
        out.insert(X_FORWARDED_FOR, address);
    }
    if part(&X_FORWARDED_PROTO) {
        out.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
    }
    if part(&X_FORWARDED_HOST) {
        out.insert(X_FORWARDED_HOST, via.gateway.clone());
    }
    if identity && part(&ACCEPT_ENCODING) {
        out.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    if part(&HOST) {
        out.insert(HOST, via.host.clone());
    }
    out
}

/// One `Cookie` field from several. HTTP/2 may send each cookie in its own field, HTTP/1.1 has one field for
/// all (RFC 9113 section 8.2.3). A WSGI server would join them with commas, and sessions would be lost.
fn joined_cookies(headers: &HeaderMap) -> Option<HeaderValue> {
    let cookies: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    let joined = (cookies.len() > 1).then(|| HeaderValue::from_bytes(&cookies.join(&b"; "[..])));
    joined?.ok()
}

/// The end-to-end headers, without those of this hop.
#[must_use]
pub fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let named = named_by_connection(headers);
    let mut out = headers.clone();
    for name in HOP_BY_HOP.iter().chain(&named) {
        out.remove(name);
    }
    out
}

/// The headers that `Connection` names: they are of this hop.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok()).collect()
}

fn is_of_hop(name: &HeaderName, named: &[HeaderName]) -> bool {
    HOP_BY_HOP.contains(name) || named.contains(name)
}

/// Removes the headers that describe a body, for a request that is forwarded without one.
pub fn without_body(headers: &mut HeaderMap) {
    for name in [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING, EXPECT, TRAILER] {
        headers.remove(name);
    }
}

/// The length that an answer promises, in bytes.
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("value")))
            .collect()
    }

    #[test]
    fn claims_and_hop_by_hop_headers_do_not_pass() {
        let request = headers(&[
            ("host", "elsewhere.example.com"),
            ("x-forwarded-for", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("authorization", "Bearer t"),
            ("accept-encoding", "gzip"),
            ("cookie", "session=a"),
            ("cookie", "_csrf_token=b"),
            ("x_forwarded_for", "10.0.0.1"),
            ("x-remote-user", "admin"),
            ("x-corp-trace", "1"),
            ("content-length", "5"),
            ("content-length", "5"),
        ]);
        let allowed = Allowed::new(&["X-Corp-*".to_owned()]).expect("names");
        let via = Via {
            host: &HeaderValue::from_static("quay.example.com"),
            gateway: &HeaderValue::from_static("edge.example.com"),
            client: [192, 0, 2, 7].into(),
            allowed: &allowed,
        };
        let out = forwarded_request(&request, &via, true, |_| true);
        assert_eq!(out[X_FORWARDED_FOR], "192.0.2.7");
        assert_eq!(out[X_FORWARDED_PROTO], "https");
        assert_eq!(out[X_FORWARDED_HOST], "edge.example.com");
        assert_eq!(out[HOST], "quay.example.com");
        assert_eq!(out[ACCEPT_ENCODING], "identity");
        assert_eq!(out["authorization"], "Bearer t");
        assert_eq!(out.get_all(COOKIE).iter().collect::<Vec<_>>(), ["session=a; _csrf_token=b"]);
        assert_eq!(out["x-corp-trace"], "1");
        assert_eq!(
            out.get_all(CONTENT_LENGTH).iter().collect::<Vec<_>>(),
            ["5"],
            "HTTP/2 may repeat the length"
        );
        for gone in ["connection", "x-hop", "te", "forwarded", "x_forwarded_for", "x-remote-user"] {
            assert!(!out.contains_key(gone), "{gone}");
        }
    }

    /// The way that copies all headers first, as it is for answers.
    fn copied(request: &HeaderMap, via: &Via<'_>, identity: bool) -> HeaderMap {
        let request = end_to_end(request);
        let mut out: HeaderMap = request
            .iter()
            .filter(|(name, _)| via.allowed.passes(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if let Some(cookies) = joined_cookies(&out) {
            out.insert(COOKIE, cookies);
        }
        if let Some(length) = out.get(CONTENT_LENGTH).cloned() {
            out.insert(CONTENT_LENGTH, length);
        }
        let address = via.client.to_canonical().to_string();
        out.insert(X_FORWARDED_FOR, address.parse().expect("a value"));
        out.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
        out.insert(X_FORWARDED_HOST, via.gateway.clone());
        if identity {
            out.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        out.insert(HOST, via.host.clone());
        out
    }

    const SOME: [&str; 18] = [
        "host",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "forwarded",
        "connection",
        "te",
        "authorization",
        "accept",
        "accept-encoding",
        "cookie",
        "content-length",
        "range",
        "user-agent",
        "x_forwarded_for",
        "x-corp-trace",
        "x-remote-user",
        "traceparent",
    ];

    proptest! {
        #[test]
        fn a_part_is_what_the_whole_has_of_it(
            pairs in prop::collection::vec((prop::sample::select(&SOME[..]), "[a-z]{0,3}"), 0..12),
            hop in prop::collection::vec(prop::sample::select(&SOME[..]), 0..4),
            part in prop::sample::subsequence(&SOME[..], 0..SOME.len()),
            identity in any::<bool>(),
        ) {
            let mut request = HeaderMap::new();
            for (name, value) in &pairs {
                request.append(*name, value.parse().expect("a value"));
            }
            request.append(CONNECTION, hop.join(", ").parse().expect("a value"));
            let allowed = Allowed::new(&["X-Corp-*".to_owned()]).expect("names");
            let (host, gateway) = (HeaderValue::from_static("quay"), HeaderValue::from_static("edge"));
            let via = Via { host: &host, gateway: &gateway, client: [192, 0, 2, 7].into(), allowed: &allowed };
            let whole = forwarded_request(&request, &via, identity, |_| true);
            prop_assert_eq!(&whole, &copied(&request, &via, identity));
            let is_part = |name: &HeaderName| part.contains(&name.as_str());
            let of_whole: HeaderMap = whole
                .iter()
                .filter(|(name, _)| is_part(name))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            prop_assert_eq!(forwarded_request(&request, &via, identity, is_part), of_whole);
        }
    }
}
