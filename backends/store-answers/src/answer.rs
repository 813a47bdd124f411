//! Decides what a store's answer means, or the lack of an answer. No other module decides this.

use std::io::ErrorKind;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};
use rustix::io::Errno;

use crate::{Error, Kind};

/// The longest pause that a store can ask for. A longer one is cut to this.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The errors of `socket(2)` and `connect(2)` if this machine has no descriptor or no memory for a socket.
const OUT_OF_RESOURCES: [Errno; 3] = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS];

/// The error of a request that got no answer, or whose answer broke off in its body.
pub fn broken(what: &str, error: reqwest::Error) -> Error {
    let kind = if error.is_timeout() {
        Kind::Timeout
    } else if error.is_builder() {
        Kind::Invalid
    } else if is_exhausted(&error) {
        Kind::Exhausted
    } else {
        Kind::Unavailable
    };
    // If the connection was made, the request may have been sent.
    let is_sent = kind == Kind::Exhausted && !error.is_connect();
    // Drop the URL: it may be signed.
    let error = Error::new(kind, what).with_cause(error.without_url());
    if is_sent { error.with_unknown_outcome() } else { error }
}

/// Whether a connection failed because this machine lacks a resource.
fn is_exhausted(error: &(dyn std::error::Error + 'static)) -> bool {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.filter_map(|cause| cause.downcast_ref::<std::io::Error>()).any(|error| {
        matches!(error.kind(), ErrorKind::AddrNotAvailable | ErrorKind::OutOfMemory)
            || error
                .raw_os_error()
                .is_some_and(|code| OUT_OF_RESOURCES.map(Errno::raw_os_error).contains(&code))
    })
}

/// The error of an answer that is not a success.
///
/// `code` is the server's own error code from the body, if there is one.
pub fn refused(what: &str, status: StatusCode, headers: &HeaderMap, code: Option<&str>) -> Error {
    let kind = kind_of(status, code, retry_after(headers, SystemTime::now()));
    Error::new(kind, what).with_code(code.map_or_else(|| status.as_u16().to_string(), str::to_owned))
}

fn kind_of(status: StatusCode, code: Option<&str>, retry_after: Option<Duration>) -> Kind {
    match code.unwrap_or_default() {
        "SlowDown"
        | "SlowDownRead"
        | "SlowDownWrite"
        | "Throttling"
        | "ThrottlingException"
        | "RequestThrottled"
        | "RequestLimitExceeded"
        | "TooManyRequests"
        | "ServerBusy"
        // Another request writes to the same key.
        | "OperationAborted"
        | "ConditionalRequestConflict" => return Kind::Throttled { retry_after },
        code if is_expired(code) => return Kind::Denied,
        "NoSuchBucket"
        | "AccessDenied"
        | "AllAccessDisabled"
        | "AuthorizationHeaderMalformed"
        | "InvalidAccessKeyId"
        | "InvalidClientTokenId"
        | "InvalidIdentityToken"
        | "IDPRejectedClaim"
        | "NotSignedUp"
        | "AccountProblem"
        | "IllegalLocationConstraintException"
        | "RequestExpired"
        | "RequestTimeTooSkewed"
        | "SignatureDoesNotMatch"
        | "UserSuspended"
        | "ContainerNotFound"
        | "ContainerDisabled"
        | "ContainerBeingDeleted"
        | "InvalidAuthenticationInfo"
        | "PublicAccessNotPermitted"
        | "ResourceNotFound" => return Kind::Denied,
        // The store may not use its configured encryption key.
        code if code.starts_with("KMS.") => return Kind::Denied,
        "OperationTimedOut" => return Kind::Timeout,
        "Md5Mismatch" | "Crc64Mismatch" | "BadDigest" | "XAmzContentSHA256Mismatch" | "InvalidDigest" => {
            return Kind::Corrupt;
        }
        // The server waited for our bytes or lost them. The status is 400, but a retry may succeed.
        "RequestTimeout" | "IncompleteBody" | "InternalError" | "IDPCommunicationError" => return Kind::Unavailable,
        // A copy within the store is not finished yet, for example Quay's own copy after an upload.
        "PendingCopyOperation" => return Kind::Unavailable,
        // The store works. A retry fails until somebody frees space.
        "QuotaExceeded" | "InsufficientStorage" | "StorageFull" => return Kind::Denied,
        _ => {}
    }
    match status {
        // Swift's codes for "too many requests" (498) and "the client closed the request" (499).
        _ if status.as_u16() == 498 => Kind::Throttled { retry_after },
        _ if status.as_u16() == 499 => Kind::Unavailable,
        StatusCode::TOO_MANY_REQUESTS => Kind::Throttled { retry_after },
        StatusCode::SERVICE_UNAVAILABLE if retry_after.is_some() => Kind::Throttled { retry_after },
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Kind::Denied,
        StatusCode::REQUEST_TIMEOUT => Kind::Timeout,
        StatusCode::INSUFFICIENT_STORAGE => Kind::Denied,
        _ if status.is_server_error() => Kind::Unavailable,
        _ => Kind::Invalid,
    }
}

/// Whether an error code says that temporary credentials have expired or were never valid.
pub fn is_expired(code: &str) -> bool {
    matches!(code, "ExpiredToken" | "ExpiredTokenException" | "InvalidToken" | "TokenRefreshRequired")
}

/// Reads `Retry-After` in either of its forms (RFC 9110, 10.2.3).
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(pause.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A resource that this machine lacks is never the store's fault, however deep the error is nested.
    #[test]
    fn a_missing_local_resource_is_not_the_stores_fault() {
        #[derive(Debug, thiserror::Error)]
        #[error("connect")]
        struct Connect(#[source] std::io::Error);

        for errno in OUT_OF_RESOURCES {
            let inner = std::io::Error::from_raw_os_error(errno.raw_os_error());
            assert!(is_exhausted(&Connect(inner)), "{errno}");
        }
        for (kind, ours) in [
            (ErrorKind::AddrNotAvailable, true),
            (ErrorKind::OutOfMemory, true),
            (ErrorKind::ConnectionRefused, false),
            (ErrorKind::TimedOut, false),
        ] {
            assert_eq!(is_exhausted(&Connect(kind.into())), ours, "{kind:?}");
        }
    }

    /// Covers two cases: a body that fails over an open connection because the machine has no buffers, and a name that
    /// cannot be looked up because there is no descriptor.
    #[tokio::test]
    async fn what_was_not_sent_is_told_from_what_may_have_been() {
        struct NoDescriptor;
        impl reqwest::dns::Resolve for NoDescriptor {
            fn resolve(&self, _: reqwest::dns::Name) -> reqwest::dns::Resolving {
                let error = std::io::Error::from_raw_os_error(Errno::MFILE.raw_os_error());
                Box::pin(async move { Err(error.into()) })
            }
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let client = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy();
        let client = client.dns_resolver(NoDescriptor).build().expect("a client");
        let piece = Err::<Vec<u8>, _>(std::io::Error::from_raw_os_error(Errno::NOBUFS.raw_os_error()));
        let body = reqwest::Body::wrap_stream(futures_util::stream::iter([piece]));
        let sent = client.post(url).body(body).send().await.expect_err("no buffers");
        let sent = broken("post", sent);
        assert_eq!((sent.kind(), sent.has_unknown_outcome()), (Kind::Exhausted, true), "{sent}");
        let unsent = client.post("http://name/").send().await.expect_err("no descriptor");
        let unsent = broken("post", unsent);
        assert_eq!((unsent.kind(), unsent.has_unknown_outcome()), (Kind::Exhausted, false), "{unsent}");
    }

    #[test]
    fn each_answer_has_its_kind() {
        let second = Some(Duration::from_secs(1));
        for (status, code, pause, expected) in [
            (403, Some("AccessDenied"), None, Kind::Denied),
            (403, Some("RequestTimeTooSkewed"), None, Kind::Denied),
            (401, None, None, Kind::Denied),
            (404, Some("NoSuchBucket"), None, Kind::Denied),
            (400, Some("AuthorizationHeaderMalformed"), None, Kind::Denied),
            (503, Some("SlowDown"), None, Kind::Throttled { retry_after: None }),
            (503, None, second, Kind::Throttled { retry_after: second }),
            (503, None, None, Kind::Unavailable),
            (429, None, None, Kind::Throttled { retry_after: None }),
            (498, None, second, Kind::Throttled { retry_after: second }),
            (499, None, None, Kind::Unavailable),
            (500, Some("InternalError"), None, Kind::Unavailable),
            (200, Some("InternalError"), None, Kind::Unavailable),
            (502, None, None, Kind::Unavailable),
            (400, Some("XAmzContentSHA256Mismatch"), None, Kind::Corrupt),
            (400, Some("RequestTimeout"), None, Kind::Unavailable),
            (400, Some("ExpiredToken"), None, Kind::Denied),
            (400, Some("ExpiredTokenException"), None, Kind::Denied),
            (400, Some("KMS.DisabledException"), None, Kind::Denied),
            (409, Some("OperationAborted"), None, Kind::Throttled { retry_after: None }),
            (403, Some("QuotaExceeded"), None, Kind::Denied),
            (507, None, None, Kind::Denied),
            (503, Some("SlowDownWrite"), second, Kind::Throttled { retry_after: second }),
            (408, None, None, Kind::Timeout),
            (503, Some("ServerBusy"), second, Kind::Throttled { retry_after: second }),
            (500, Some("OperationTimedOut"), None, Kind::Timeout),
            (403, Some("AuthenticationFailed"), None, Kind::Denied),
            (403, Some("AuthorizationFailure"), None, Kind::Denied),
            (404, Some("ContainerNotFound"), None, Kind::Denied),
            (409, Some("BlobArchived"), None, Kind::Invalid),
            (409, Some("PendingCopyOperation"), None, Kind::Unavailable),
            (400, Some("InvalidBlockList"), None, Kind::Invalid),
            (301, Some("PermanentRedirect"), None, Kind::Invalid),
            (416, Some("InvalidRange"), None, Kind::Invalid),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(kind_of(status, code, pause), expected, "{status} {code:?}");
        }
    }

    #[test]
    fn retry_after_in_both_forms_and_bounded() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").expect("a date");
        for (text, seconds) in [
            ("7", Some(7)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sun, 06 Nov 1994 08:49:07 GMT", Some(0)),
            ("999999999", Some(3600)),
            ("soon", None),
            ("-1", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, text.parse().expect("a value"));
            assert_eq!(retry_after(&headers, now), seconds.map(Duration::from_secs), "{text}");
        }
    }
}
