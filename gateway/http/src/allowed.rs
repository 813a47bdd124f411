//! Which headers of a client's request are forwarded to the registry.
//!
//! The list names what passes, not what is removed. There are too many headers with which a proxy states the
//! client's address, user or path, and the registry must not believe a client that sends one. A server that
//! turns headers into WSGI variables, as Quay's gunicorn does, reads `X_Forwarded_For` as `X-Forwarded-For`
//! (RFC 3875 section 4.1.18). So no name with an underscore passes, and of the names that start with `X-`
//! only those below.

use std::fmt;

use http::HeaderName;

/// Names that pass: HTTP's own (RFC 9110), Quay's web UI (`X-CSRF-Token`, `X-Requested-With`), tracing
/// (<https://www.w3.org/TR/trace-context/>, Zipkin's B3), and webhooks of build triggers (Bitbucket). `traceparent` and
/// `x-request-id` were judged before (`backends::RequestId`).
const NAMES: [&str; 36] = [
    "accept",
    "authorization",
    "b3",
    "baggage",
    "cache-control",
    "cookie",
    "date",
    "digest",
    "dnt",
    "expect",
    "from",
    "last-event-id",
    "origin",
    "pragma",
    "prefer",
    "priority",
    "range",
    "referer",
    "repr-digest",
    "save-data",
    "traceparent",
    "tracestate",
    "upgrade-insecure-requests",
    "user-agent",
    "want-digest",
    "want-content-digest",
    "want-repr-digest",
    "x-attempt-number",
    "x-csrf-token",
    "x-event-key",
    "x-hook-uuid",
    "x-meta-source-client",
    "x-request-id",
    "x-request-uuid",
    "x-requested-with",
    "x-xsrf-token",
];

/// Prefixes of names that pass: content negotiation, conditions, descriptions of a body, headers of docker
/// and OCI, fetch metadata and preflights of browsers, webhooks of GitHub and GitLab.
const BEGINNINGS: [&str; 14] = [
    "accept-",
    "access-control-request-",
    "content-",
    "docker-",
    "if-",
    "oci-",
    "sec-ch-",
    "sec-fetch-",
    "x-b3-",
    "x-docker-",
    "x-github-",
    "x-gitlab-",
    "x-hub-",
    "x-registry-",
];

/// Headers that the gateway sets itself, or that end at the gateway. A client's own never pass.
const NEVER: [&str; 16] = [
    "connection",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-real-ip",
];

/// Further headers that pass: `registry.forward_headers`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed(Vec<String>);

impl Allowed {
    /// Reads names of headers, and prefixes that end with `*`.
    ///
    /// # Errors
    /// An entry is not a valid name or prefix, or it names a header that no client may set.
    pub fn new(names: &[String]) -> Result<Self, &'static str> {
        let mut all = Vec::new();
        for name in names {
            let beginning = name.strip_suffix('*').unwrap_or(name);
            let lower = beginning.to_ascii_lowercase();
            if beginning.parse::<HeaderName>().is_err() || (beginning != name && !lower.ends_with('-')) {
                return Err("must be a list of header names, or beginnings of names, such as X-Example-*");
            }
            let is_never =
                |never: &&str| **never == lower || (beginning != name && never.starts_with(&lower));
            if NEVER.iter().any(is_never) {
                return Err("names a header that the gateway sets itself or does not forward");
            }
            all.push(name.to_ascii_lowercase());
        }
        Ok(Self(all))
    }

    /// Whether a header of a client's request is forwarded to the registry.
    #[must_use]
    pub fn passes(&self, name: &HeaderName) -> bool {
        let name = name.as_str();
        let known = NAMES.contains(&name) || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning));
        let added = |one: &String| match one.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => one == name,
        };
        (known && !name.contains('_')) || self.0.iter().any(added)
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(more: &[&str], name: &str) -> bool {
        let more: Vec<_> = more.iter().map(|name| (*name).to_owned()).collect();
        Allowed::new(&more).expect("names").passes(&name.parse().expect("a name"))
    }

    #[test]
    fn claims_of_a_client_do_not_pass() {
        for claim in [
            "X_Forwarded_For",
            "X-Forwarded_For",
            "X-Forwarded-For",
            "X-Forwarded-Prefix",
            "X-Forwarded-User",
            "X-Forwarded-Client-Cert",
            "X-Original-URI",
            "X-Original-URL",
            "X-Rewrite-URL",
            "X-Remote-User",
            "Remote-User",
            "Remote_User",
            "X-Real-IP",
            "True-Client-IP",
            "Client-IP",
            "CF-Connecting-IP",
            "X-Envoy-External-Address",
            "X-HTTP-Method-Override",
            "X-Accel-Redirect",
            "Forwarded",
            "Via",
            "Content_Length",
            "Content-Length_",
            "X-Docker_Token",
            "X-Anything-Else",
        ] {
            assert!(!passes(&[], claim), "{claim}");
        }
    }

    #[test]
    fn headers_that_quay_and_its_clients_need_pass() {
        for name in [
            "Authorization",
            "Cookie",
            "Accept",
            "Accept-Encoding",
            "Content-Length",
            "Content-Range",
            "Content-Type",
            "Docker-Upload-UUID",
            "Expect",
            "If-Range",
            "Origin",
            "Range",
            "Referer",
            "Sec-Fetch-Site",
            "User-Agent",
            "X-CSRF-Token",
            "X-Docker-Token",
            "X-GitHub-Event",
            "X-Hub-Signature-256",
            "X-Registry-Auth",
            "X-Requested-With",
            "traceparent",
        ] {
            assert!(passes(&[], name), "{name}");
        }
    }

    #[test]
    fn an_operator_can_add_headers() {
        let more = ["X-Api-Key", "X-Corp-*", "SM_USER"];
        for name in ["x-api-key", "x-corp-a", "sm_user"] {
            assert!(passes(&more, name), "{name}");
        }
        assert!(!passes(&more, "x-corporate") && !passes(&more, "x-api-key-2"));
        for wrong in
            ["X-Forwarded-For", "x-forwarded-*", "Host", "X-*", "*", "a b", "", "x-corp*", "Connection"]
        {
            assert!(Allowed::new(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}
