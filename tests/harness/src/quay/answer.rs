//! Answers in the form of Quay's applications and its nginx.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version};
use http_body::Body as _;

use crate::body::{Body, empty, full};

const HTML: &str = "text/html; charset=utf-8";

/// An answer under construction. A value that is not valid in a header is skipped.
#[derive(Debug)]
pub(super) struct QuayAnswer(Response<Body>);

impl QuayAnswer {
    /// An answer with a status and a body of some type.
    pub(super) fn new(status: StatusCode, content_type: &str, body: Body) -> Self {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        Self(response).with("content-type", content_type)
    }

    /// Adds a header.
    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.0.headers_mut().append(HeaderName::from_static(name), value);
        }
        self
    }

    pub(super) fn headers_mut(&mut self) -> &mut HeaderMap {
        self.0.headers_mut()
    }

    /// Adds the headers of Quay's nginx (`conf/nginx/server-base.conf.jnj`).
    pub(super) fn finish(self, method: &Method, path: &str, version: Version, tls: bool) -> Response<Body> {
        let mut response = self.0;
        let status = response.status();
        let length = response.body().size_hint().exact();
        let headers = response.headers_mut();
        headers.insert("server", HeaderValue::from_static("nginx"));
        if framed(status) && path != "/v1/_ping" {
            headers.insert("x-frame-options", HeaderValue::from_static("DENY"));
        }
        if tls {
            headers
                .insert("strict-transport-security", HeaderValue::from_static("max-age=63072000; preload"));
        }
        if version < Version::HTTP_2 {
            let value = if keeps_alive(path) { "keep-alive" } else { "close" };
            headers.insert(CONNECTION, HeaderValue::from_static(value));
        }
        if method == Method::HEAD {
            if let (Some(length), false) = (length, headers.contains_key(CONTENT_LENGTH)) {
                headers.insert(CONTENT_LENGTH, length.into());
            }
            *response.body_mut() = empty();
        }
        response
    }
}

/// The statuses to which nginx's `add_header` without `always` applies.
fn framed(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 201 | 204 | 206 | 301 | 302 | 303 | 304 | 307 | 308)
}

/// Every location of the registry has `keepalive_timeout 0`, except the one for manifests.
fn keeps_alive(path: &str) -> bool {
    !path.starts_with("/v2") || path.contains("/manifests/")
}

/// `jsonify`: compact JSON followed by a line feed.
pub(super) fn json(status: StatusCode, text: &str) -> QuayAnswer {
    QuayAnswer::new(status, "application/json", full(format!("{text}\n")))
}

/// An empty answer, which Flask labels as HTML.
pub(super) fn nothing(status: StatusCode) -> QuayAnswer {
    QuayAnswer::new(status, HTML, empty())
}

/// Text that Flask labels as HTML.
pub(super) fn html(status: StatusCode, text: impl Into<Bytes>) -> QuayAnswer {
    QuayAnswer::new(status, HTML, full(text))
}

/// An error in the OCI form (`endpoints/v2/errors.py`) with an empty detail.
pub(super) fn error(status: StatusCode, code: &str, message: &str) -> QuayAnswer {
    detailed(status, code, "{}", message)
}

/// An error in the OCI form. `detail` is JSON.
pub(super) fn detailed(status: StatusCode, code: &str, detail: &str, message: &str) -> QuayAnswer {
    let message = serde_json::Value::from(message);
    json(status, &format!(r#"{{"errors":[{{"code":"{code}","detail":{detail},"message":{message}}}]}}"#))
}

/// The error for an invalid manifest, with its reason.
pub(super) fn manifest_invalid(status: StatusCode, reason: &str) -> QuayAnswer {
    let reason = serde_json::Value::from(reason);
    detailed(status, "MANIFEST_INVALID", &format!(r#"{{"message":{reason}}}"#), "manifest invalid")
}

/// Flask's own answer for an unknown route or object.
pub(super) fn not_found() -> QuayAnswer {
    html(
        StatusCode::NOT_FOUND,
        "<!doctype html>\n<html lang=en>\n<title>404 Not Found</title>\n<h1>Not Found</h1>\n<p>The requested URL was \
         not found on the server. If you entered the URL manually please check your spelling and try again.</p>\n",
    )
}

/// Flask's own answer for a method that the route does not support.
pub(super) fn method_not_allowed(allow: &str) -> QuayAnswer {
    html(
        StatusCode::METHOD_NOT_ALLOWED,
        "<!doctype html>\n<html lang=en>\n<title>405 Method Not Allowed</title>\n<h1>Method Not Allowed</h1>\n<p>The \
         method is not allowed for the requested URL.</p>\n",
    )
    .with("allow", allow)
}

/// The answer to an uncaught exception.
pub(super) fn internal() -> QuayAnswer {
    html(
        StatusCode::INTERNAL_SERVER_ERROR,
        "<!doctype html>\n<html lang=en>\n<title>500 Internal Server Error</title>\n<h1>Internal Server Error</h1>\n<p>The \
         server encountered an internal error and was unable to complete your request. Either the server is overloaded or \
         there is an error in the application.</p>\n",
    )
}

/// nginx's own error page.
pub(super) fn nginx(status: StatusCode) -> QuayAnswer {
    QuayAnswer::new(
        status,
        "text/html",
        full(format!(
            "<html>\r\n<head><title>{status}</title></head>\r\n<body>\r\n<center><h1>{status}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
        )),
    )
}

/// Werkzeug's redirect.
pub(super) fn redirect(status: StatusCode, location: &str) -> QuayAnswer {
    let shown = location.replace('&', "&amp;");
    html(
        status,
        format!(
            "<!doctype html>\n<html lang=en>\n<title>Redirecting...</title>\n<h1>Redirecting...</h1>\n<p>You should be \
             redirected automatically to the target URL: <a href=\"{shown}\">{shown}</a>. If not, click the link.\n"
        ),
    )
    .with("location", location)
}
