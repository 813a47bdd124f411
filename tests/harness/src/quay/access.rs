//! Checks what the bearer token of a request permits (`auth/registry_jwt_auth.py`).

use http::{HeaderMap, Method, StatusCode};

use super::Instance;
use super::answer::{QuayAnswer, error, html};
use super::tokens::{self, Claims};

/// The permission that a route needs for a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Pull,
    Push,
}

/// The token of a request: none, a valid one, or the reason why it is invalid.
pub(super) fn bearer(quay: &Instance, headers: &HeaderMap) -> Result<Option<Claims>, &'static str> {
    let Some(value) = headers.get(http::header::AUTHORIZATION) else { return Ok(None) };
    let token = value.to_str().ok().and_then(|text| text.strip_prefix("Bearer "));
    let token = token.filter(|token| well_formed(token)).ok_or("Invalid bearer token format")?;
    tokens::verify(quay, token).map(Some)
}

/// `\ABearer (([a-zA-Z0-9+\-_/]+\.)+[a-zA-Z0-9+\-_/]+)\Z`
fn well_formed(token: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-_/".contains(&byte))
    };
    token.contains('.') && token.split('.').all(part)
}

/// Checks that a request has the needed permission for `repository`.
pub(super) fn check(
    quay: &Instance,
    headers: &HeaderMap,
    repository: &str,
    need: Need,
    allowed: &str,
) -> Result<(), Box<QuayAnswer>> {
    let scope = match need {
        Need::Pull => format!("repository:{repository}:pull"),
        Need::Push => format!("repository:{repository}:pull,push"),
    };
    let claims = bearer(quay, headers).map_err(|why| bad_token(quay, why, Some(&scope), allowed))?;
    let granted = claims.is_some_and(|claims| claims.grants(repository, need == Need::Push));
    let public = need == Need::Pull && quay.database.lock().may_pull(None, repository);
    if granted || public { Ok(()) } else { Err(Box::new(unauthorized(quay, &scope))) }
}

fn unauthorized(quay: &Instance, scope: &str) -> QuayAnswer {
    let answer =
        error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "access to the requested resource is not authorized");
    challenge(quay, answer, Some(scope))
}

/// `util/http.py:abort`: this error has another form than all others.
pub(super) fn bad_token(quay: &Instance, why: &str, scope: Option<&str>, allowed: &str) -> Box<QuayAnswer> {
    let answer = html(StatusCode::UNAUTHORIZED, format!(r#"{{"error": "{why}"}}"#));
    let answer = challenge(quay, answer, scope)
        .with("access-control-allow-origin", "*")
        .with("access-control-allow-methods", allowed)
        .with("access-control-max-age", "21600")
        .with("access-control-allow-headers", "Authorization")
        .with("access-control-allow-headers", "Content-Type")
        .with("vary", "Origin");
    Box::new(answer)
}

/// `auth/registry_jwt_auth.py:get_auth_headers`
pub(super) fn challenge(quay: &Instance, answer: QuayAnswer, scope: Option<&str>) -> QuayAnswer {
    let mut value = format!(r#"Bearer realm="{}/v2/auth",service="{}""#, quay.origin(), quay.hostname);
    if let Some(scope) = scope {
        value.push_str(&format!(r#",scope="{scope}""#));
    }
    answer.with("www-authenticate", &value).with("docker-distribution-api-version", "registry/2.0")
}

/// `GET /v2/`
pub(super) fn ping(quay: &Instance, method: &Method, headers: &HeaderMap) -> QuayAnswer {
    if method != Method::GET && method != Method::HEAD {
        return super::answer::method_not_allowed("GET, OPTIONS, HEAD");
    }
    let status = match bearer(quay, headers) {
        Err(why) => return *bad_token(quay, why, None, "GET, OPTIONS, HEAD"),
        Ok(Some(_)) => StatusCode::OK,
        Ok(None) => StatusCode::UNAUTHORIZED,
    };
    challenge(quay, html(status, "true"), None).with("x-sparse-manifest-support", "false")
}
