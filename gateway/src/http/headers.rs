//! Headers on their way through (RFC 9110 section 7.6).

use std::net::IpAddr;

use http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, FORWARDED, HOST,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What a client may claim of itself and a proxy must not believe: Quay takes the *leftmost*
/// address of `X-Forwarded-For` for its audit log, so the header is replaced, never extended.
const CLAIMS: [HeaderName; 6] = [
    FORWARDED,
    X_FORWARDED_FOR,
    X_FORWARDED_PROTO,
    X_FORWARDED_HOST,
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-real-ip"),
];

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

/// Where a request goes and where it came from.
#[derive(Debug, Clone, Copy)]
pub struct Via<'a> {
    /// The registry's name, for `Host`.
    pub host: &'a HeaderValue,
    /// The gateway's name, for `X-Forwarded-Host`: a distribution registry builds its URLs from it.
    pub gateway: &'a HeaderValue,
    /// The client's address.
    pub client: IpAddr,
}

/// The headers of a client's request as the registry is to see them.
///
/// `identity` asks for bytes as they are: Quay's nginx would compress a streamed blob.
#[must_use]
pub fn forwarded_request(headers: &HeaderMap, via: &Via<'_>, identity: bool) -> HeaderMap {
    let mut out = end_to_end(headers);
    for claim in &CLAIMS {
        out.remove(claim);
    }
    if let Ok(address) = HeaderValue::from_str(&via.client.to_canonical().to_string()) {
        out.insert(X_FORWARDED_FOR, address);
    }
    out.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
    out.insert(X_FORWARDED_HOST, via.gateway.clone());
    if identity {
        out.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    out.insert(HOST, via.host.clone());
    out
}

/// The headers that are for the other end, without those for this hop.
#[must_use]
pub fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let mut out = headers.clone();
    for name in HOP_BY_HOP.iter().chain(&named) {
        out.remove(name);
    }
    out
}

/// Takes away what describes a body, for a request that is sent on without one.
pub fn without_body(headers: &mut HeaderMap) {
    for name in [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING, EXPECT, TRAILER] {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("value")))
            .collect()
    }

    #[test]
    fn claims_are_replaced_and_hops_removed() {
        let request = headers(&[
            ("host", "elsewhere.example.com"),
            ("x-forwarded-for", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("authorization", "Bearer t"),
            ("accept-encoding", "gzip"),
        ]);
        let via = Via {
            host: &HeaderValue::from_static("quay.example.com"),
            gateway: &HeaderValue::from_static("edge.example.com"),
            client: [192, 0, 2, 7].into(),
        };
        let out = forwarded_request(&request, &via, true);
        assert_eq!(out[X_FORWARDED_FOR], "192.0.2.7");
        assert_eq!(out[X_FORWARDED_PROTO], "https");
        assert_eq!(out[X_FORWARDED_HOST], "edge.example.com");
        assert_eq!(out[HOST], "quay.example.com");
        assert_eq!(out[ACCEPT_ENCODING], "identity");
        assert_eq!(out["authorization"], "Bearer t");
        for gone in ["connection", "x-hop", "te", "forwarded"] {
            assert!(!out.contains_key(gone), "{gone}");
        }
    }
}
