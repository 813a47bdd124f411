//! Errors that clients receive: the OCI error form, with three facts for the operator: whose fault it is,
//! whether to retry, and what to do.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

use super::Body;

/// The party that caused an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The client's request.
    Client,
    /// The registry behind the gateway.
    Registry,
    /// The zones' stores.
    Zone,
    /// The gateway itself.
    Gateway,
}

impl Fault {
    fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Registry => "registry",
            Self::Zone => "zone",
            Self::Gateway => "gateway",
        }
    }
}

/// An error answer of the gateway itself.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// The HTTP status.
    pub status: StatusCode,
    /// The OCI error code (distribution specification, "Error Codes", or distribution's own
    /// `UNAVAILABLE` of `registry/api/errcode`).
    pub code: &'static str,
    /// The party that caused the error.
    pub fault: Fault,
    /// Whether the same request may succeed later.
    pub retry: bool,
    /// A description. It contains no secret and no signed URL.
    pub message: String,
    /// How to fix the problem.
    pub fix: &'static str,
    /// Whether nothing of the request was sent to the registry, so that it changed nothing there.
    pub unsent: bool,
}

/// The seconds that a client is asked to wait before it retries.
const RETRY_AFTER_SECONDS: &str = "1";

impl Problem {
    /// The registry gave no answer.
    #[must_use]
    pub fn registry(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            code: "UNAVAILABLE",
            fault: Fault::Registry,
            retry: true,
            message: message.into(),
            fix: "retry; if it stays, check that the registry is up and that registry.url is right",
            unsent: false,
        }
    }

    /// The registry is away, and requests are not sent to it until it answers probes again.
    #[must_use]
    pub fn away() -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: "UNAVAILABLE",
            fault: Fault::Registry,
            retry: true,
            message: "the registry is away, and this is not known without it; nothing was changed or stored"
                .to_owned(),
            fix: "retry when the registry is back; the gateway notices that within seconds",
            unsent: true,
        }
    }

    /// The request waits for something that is out of use. If the request is part of an upload, the upload is
    /// lost.
    #[must_use]
    pub fn lost(fault: Fault, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: "UNAVAILABLE",
            fault,
            retry: true,
            message: message.into(),
            fix: "retry; begin an upload again with its POST: it goes to another instance, if there is one",
            unsent: false,
        }
    }

    /// Neither a zone nor the registry gave the blob.
    #[must_use]
    pub fn zones(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_GATEWAY,
            code: "UNAVAILABLE",
            fault: Fault::Zone,
            retry: true,
            message: message.into(),
            fix: "retry; if it stays, check the zones' stores named in the message",
            unsent: false,
        }
    }

    /// A limit of the gateway is reached.
    #[must_use]
    pub fn overload(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: "TOOMANYREQUESTS",
            fault: Fault::Gateway,
            retry: true,
            message: message.into(),
            fix: "retry; if it stays, raise the limit named in the message or run more replicas",
            unsent: true,
        }
    }

    /// Whether this is a [`Problem::overload`]. These are not logged one by one: the pool logs them once a
    /// minute, and the access log contains each request.
    #[must_use]
    pub fn is_overload(&self) -> bool {
        self.fault == Fault::Gateway && self.status == StatusCode::SERVICE_UNAVAILABLE
    }

    /// The gateway itself failed.
    #[must_use]
    pub fn gateway(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            code: "UNKNOWN",
            fault: Fault::Gateway,
            retry: true,
            message: message.into(),
            fix: "retry; if it stays, see the gateway's log",
            unsent: false,
        }
    }

    /// The client's request cannot be served in this form.
    #[must_use]
    pub fn client(
        status: StatusCode,
        code: &'static str,
        message: impl Into<String>,
        fix: &'static str,
    ) -> Self {
        let message = message.into();
        Self { status, code, fault: Fault::Client, retry: false, message, fix, unsent: false }
    }

    /// The answer to the client.
    #[must_use]
    pub fn response(&self) -> Response<Body> {
        let body = serde_json::json!({"errors": [{
            "code": self.code,
            "message": self.message,
            "detail": {"fault": self.fault.as_str(), "retry": self.retry, "fix": self.fix},
        }]})
        .to_string();
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        if self.retry {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
        }
        *response.body_mut() = Body::full(body);
        response
    }
}
